// The page around the explorer: header, answer, evidence, how to reproduce it; and the start of everything.

function goTo(id) {
  const target = byId(id), calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  target.scrollIntoView({behavior: calm ? "auto" : "smooth"});
  target.focus({preventScroll: true});
}

// ---- header and answer -----------------------------------------------------------------------------------

function drawHeader(data) {
  const {counts} = data, n_shown = data.rows.id.length;
  byId("title").textContent = data.title;
  byId("question").textContent = data.question;
  byId("meta").replaceChildren(...[
    data.method && `${data.method} search`, data.exact ? "exact front" : "sampled front, not proven complete",
    isNumber(data.seed) && `seed ${data.seed}`, data.version && `codesign ${data.version}`, data.created,
  ].filter(Boolean).map(text => el("span", {text})));
  const facts = [
    ["designs tried", counts.n_designs], ["layouts timed", counts.n_layouts], ["feasible designs", counts.n_feasible],
    ["points on the front", counts.n_front], ["layouts per second", counts.layouts_per_s], ["wall time", counts.wall_s, "s"],
    ["hypervolume", counts.hypervolume], ["candidate layouts", counts.space_rows],
  ].filter(([, value]) => isNumber(value));
  byId("counts").replaceChildren(...facts.map(([name, value, unit]) =>
    el("div", {}, el("dt", {text: name}), el("dd", {text: show(value, unit)}))));
  const killed = Object.entries(data.killed).filter(([, share]) => share > 0).sort((a, b) => b[1] - a[1]);
  const kill = ([name, share]) => ({name: words(name), value: share, text: percent(share)});
  if (killed.length) byId("killed").replaceChildren(el("h3", {text: "What ruled candidates out"}), bars(killed.map(kill), 1));
  const {n_points: points, n_designs_of_points: designs} = counts;
  byId("shown").textContent = (data.total_rows > n_shown
    ? `This page holds ${grouped.format(n_shown)} of ${grouped.format(data.total_rows)} designs, the front first. `
      + "The full table is results.parquet in the run's folder. " : "")
    + (points > designs ? `Every mark is a point: a design in one of its layouts. Designs on the front have one for each layout that pays, so these `
      + `${grouped.format(designs)} feasible designs make ${grouped.format(points)} points.` : "");
}

function pickCard(store, pick) {
  const i = store.indexOf(pick.id), detail = store.data.details[pick.id];
  const open = el("button", {type: "button", class: "link", text: `#${pick.id}`, title: "Show this design in full",
    on: {click: () => { store.choose(pick.id); goTo("design"); }}});
  const bounds = ((detail && detail.bounds) || []).map(one => el("p", {class: "fine", text:
    `${phaseName(one)} ${show(one.estimate_s, "s")}, roofline bounds ${show(one.lower_s, "s")} to ${show(one.upper_s, "s")}.`}));
  return el("article", {class: "pick", "data-id": pick.id, "aria-label": `${pick.name}, design ${pick.id}`},
    el("h3", {}, capital(pick.name), " ", open),
    headline(store, i),
    pick.reason && el("p", {text: pick.reason}),
    pick.gives_up && el("p", {}, el("b", {text: "Gives up: "}), pick.gives_up),
    sureLine(store, pick) && el("p", {class: "fine", text: sureLine(store, pick)}),
    layoutLines(store, i, detail),
    configuration(store, i, ["architecture", "precision", "hardware", "lifecycle"]),
    el("details", {}, el("summary", {text: "Deployment and metrics"}), configuration(store, i, ["deployment", "metric"]), bounds),
    command(exportCommand(store, pick.id)));
}

const NO_PICKS = "Nothing met every constraint. Switch on infeasible designs below to see how close the search came, and what "
  + "ruled each one out.";

function drawAnswer(store) {
  const {data} = store, {sentence} = data.codesign || {};
  const cards = data.picks.map(pick => pickCard(store, pick));
  const none = el("p", {text: sum([...store.feasible]) ? "No design was singled out." : NO_PICKS});
  byId("picks").replaceChildren(...(cards.length ? cards : [none]));
  byId("picks").style.setProperty("--least", cards.length > 4 ? "310px" : "250px");  // four in a row, but five as three and two
  drawReferences(store);
  if (sentence) byId("codesign").replaceChildren(el("b", {text: "Value of co-design. "}), `${capital(sentence)}.`);
}

/** Designs that exist, with their values and where they sit beside the front. */
function drawReferences(store) {
  const {references} = store.data;
  byId("references").hidden = !references.length;
  if (!references.length) return;
  const list = items => el("ul", {}, items.filter(Boolean).map(text => el("li", {text: capital(text)})));
  const row = ({name, values, kind, feasible, place, gains, reasons, notes}) => el("tr", {},
    el("th", {scope: "row", text: `${kind === "measured" ? "□" : "◇"} ${name}`}),
    store.objectives.map(column => el("td", {text: isNumber(values[column.name]) ? column.tell(values[column.name]) : "–"})),
    el("td", {class: "word wide"}, list([place, gains])),
    el("td", {class: "word wide"}, list([...reasons.map(text => (feasible ? text : `breaks: ${text}`)), ...notes])));
  const head = ["Design that exists", ...store.objectives.map(column => column.label), "<Where it sits", "<Remarks"];
  byId("references-body").replaceChildren(
    el("p", {class: "fine", text: "Models as released, with their own tokens where they are known, on this study's hardware and requests with every "
      + "layout tried: the cheapest of their points is shown. Measured deployments keep their own requests."}),
    scroller("Designs that exist", table(head, references.map(row))));
}

// ---- evidence --------------------------------------------------------------------------------------------

function drawConvergence(data) {
  const points = data.history.filter(([n, , volume]) => isNumber(n) && isNumber(volume)), root = byId("convergence-body");
  if (points.length < 2) {
    const text = data.exact ? "Every candidate was evaluated, so there is nothing to converge." : "Too few checkpoints to draw.";
    return root.replaceChildren(el("p", {text}));
  }
  const [n, seconds, volume] = points.at(-1), gain = (volume - points[points.length >> 1][2]) / volume;
  const end = `${sig(volume)} after ${show(n)} evaluations${isNumber(seconds) ? ` and ${show(seconds, "s")}` : ""}`;
  const rising = gain < 0.005 ? "flat, more trials would change little" : "still rising, more trials may help";
  const verdict = data.exact ? "complete, every candidate was evaluated" : rising;
  root.replaceChildren(
    lineChart(points.map(([x, , y]) => [x, y]), {
      xLabel: "evaluations", yLabel: "hypervolume", label: `Hypervolume against evaluations, ending at ${end}`,
      width: Math.max(300, Math.min(820, onPaper() ? PAPER : root.clientWidth)),
    }),
    el("p", {class: "fine", text: `Ends at ${end}. The second half of the checkpoints added ${percent(gain)}: ${verdict}.`}));
}

function sourceCell(text) {
  if (!/^https?:\/\/\S+$/.test(text || "")) return text || "–";
  return el("a", {href: text, rel: "noopener noreferrer", text: text.replace(/^https?:\/\//, "")});
}

function drawAssumptions(data) {
  const tally = new Map(), count = el("output");
  for (const {confidence: kind = "unstated"} of data.assumptions) tally.set(kind, (tally.get(kind) || 0) + 1);
  const rows = data.assumptions.map(({name, value, unit, source, date, confidence}) => el("tr", {},
    el("th", {scope: "row", text: name}), el("td", {text: show(value, unit || "")}),
    el("td", {class: "word source"}, sourceCell(source)),
    el("td", {class: "word", text: date || "–"}), el("td", {class: "word", text: confidence || "–"})));
  const search = el("input", {type: "search", id: "assumption-search", on: {input: () => {
    const wanted = search.value.toLowerCase();
    for (const row of rows) row.hidden = !row.textContent.toLowerCase().includes(wanted);
    count.textContent = wanted ? `${rows.filter(row => !row.hidden).length} shown` : "";
  }}});
  const box = scroller("Assumptions", table(["Figure", "Value", "<Source", "<Date", "<Confidence"], rows));
  box.classList.add("tall");
  byId("warnings").replaceChildren(...data.warnings.map(text => el("li", {text})));
  if (!rows.length) return byId("assumptions-body").replaceChildren(el("p", {text: "No catalog figures were recorded."}));
  byId("assumptions-body").replaceChildren(
    el("p", {text: `${plural(rows.length, "figure")}: ${[...tally].map(([name, n]) => `${n} ${name}`).join(", ")}.`}),
    el("p", {class: "control screen"}, el("label", {for: "assumption-search", text: "Find"}), search, count), box);
}

function drawReproduce(data) {
  const file = data.title.replace(/[^\w.-]+/g, "-").slice(0, 60) || "study";
  const button = (text, run) => el("button", {type: "button", text, on: {click: run}});
  const saveRows = () => download(`${file}.json`, JSON.stringify({columns: data.columns, rows: data.rows}), "application/json");
  byId("reproduce-body").replaceChildren(...[
    data.command && el("p", {}, "This result came from ", el("code", {text: data.command}), "."),
    ...data.reproduce.map(command),
    data.study_yaml && el("details", {}, el("summary", {text: "The resolved study"}),
      el("pre", {tabindex: "0"}, el("code", {text: data.study_yaml}))),
    el("p", {class: "screen buttons"},
      data.study_yaml && [copyButton(data.study_yaml, "Copy study"),
        button("Download study.yaml", () => download(`${file}.yaml`, data.study_yaml, "text/yaml"))],
      button("Download all rows as JSON", saveRows)),
  ].filter(Boolean));
}

// ---- explorer --------------------------------------------------------------------------------------------

/** The row under the pointer, shared by both plots, with its tooltip. */
function makeHover(store) {
  const tip = byId("tip"), hover = {row: -1, views: []};
  const line = (column, i) => el("div", {}, el("dt", {text: column.label}), el("dd", {text: column.value(i)}));
  function fill(i) {
    const shape = store.plottable.filter(column => ["architecture", "hardware"].includes(column.group)).slice(0, 8);
    const columns = new Set([...store.objectives, ...["x", "y", "c"].map(store.column).filter(Boolean), ...shape]);
    const rank = !store.feasible[i] ? ` infeasible, ${store.why(i)}` : store.front[i] ? " on the front" : "";
    tip.replaceChildren(el("b", {text: `#${store.ids[i]}`}), rank,
      el("dl", {}, [...columns].filter(column => column.raw[i] !== null).map(column => line(column, i))));
  }
  hover.set = (i, x = 0, y = 0) => {
    const moved = i !== hover.row;
    hover.row = i;
    tip.hidden = i < 0;
    if (moved) hover.views.forEach(view => view());
    if (i < 0) return;
    if (moved) fill(i);
    const wide = tip.offsetWidth, tall = tip.offsetHeight;
    tip.style.left = `${Math.max(4, x + 18 + wide > innerWidth ? x - wide - 18 : x + 18)}px`;
    tip.style.top = `${Math.max(4, Math.min(y + 12, innerHeight - tall - 8))}px`;
  };
  return hover;
}

/** What marks and colours mean. */
function drawKey(store) {
  const {items, column, scale} = makePaint(store), parts = [];
  const glyph = (text, name, colour) => el("li", {}, el("span", {class: "glyph", style: {color: colour}, text}), name);
  const end = value => el("span", {text: sig(tidy(value / column.div, 3))});
  if (column) parts.push(el("h3", {text: column.label + (column.shown ? `, ${column.shown}` : "")}));
  if (items) parts.push(el("ul", {}, items.map(({shape, text, colour}) => glyph(GLYPHS[shape], text, colour))));
  const ends = scale ? [scale.lo, scale.inv(0.5), scale.hi] : [];
  if (scale) parts.push(el("div", {class: "ramp"}), el("div", {class: "ramp-ends"}, ends.map(end)));
  parts.push(
    el("ul", {}, glyph("◉", "large, outlined: on the front"), glyph("·", "small: feasible"),
      deathColours(store).map(([reason, colour, n]) => glyph("×", `${words(reason)} (${grouped.format(n)})`, colour)), store.data.picks.length > 0 && glyph("◯", "ringed: a named pick"),
      store.references().some(ref => ref.kind !== "measured") && glyph("◇", "a model that exists (small: its other layouts)"),
      store.references().some(ref => ref.kind === "measured") && glyph("□", "a measured deployment")),
    el("p", {class: "fine screen", text: "Click a point to choose it. Drag a rectangle to filter."}));
  byId("key").replaceChildren(...parts);
}

function buildExplorer(store) {
  const n_dead = store.n - sum([...store.feasible]), hover = makeHover(store);
  const n_front = sum([...store.front]);
  const box = (key, disabled) => el("input", {type: "checkbox", id: key, disabled, on: {change: event => {
    store.state[key] = event.target.checked;
    store.update("rows");
  }}});
  const dead = box("infeasible", !n_dead), best = box("front", !n_front), known = box("known", false), n_known = store.data.references.length;
  byId("controls").append(axisSelect(store, "x", "Horizontal"), axisSelect(store, "y", "Vertical"),
    axisSelect(store, "c", "Colour", "none"), el("label", {class: "check"}, best, ` front only (${grouped.format(n_front)})`),
    el("label", {class: "check"}, dead, ` infeasible too (${grouped.format(n_dead)})`),
    n_known ? el("label", {class: "check"}, known, ` designs that exist (${n_known})`) : "");
  byId("controls").after(filterBar(store));
  const plots = [scatter(store, byId("scatter-box"), byId("staircase"), hover), parallel(store, byId("parallel-box"), hover)];
  byId("table-box").append(...selectionTable(store));
  let shown = "";
  store.views.push(reason => {
    dead.checked = store.state.infeasible;
    best.checked = store.state.front;
    known.checked = store.state.known;
    dead.disabled = !n_dead || store.state.front;
    if (reason === "rows" || reason === "view") drawKey(store);
    const now = JSON.stringify([store.state.chosen, store.state.pins]);
    if (now !== shown) drawDesign(store);
    shown = now;
  });
  window.addEventListener("keydown", event => { if (event.key === "Escape") hover.set(-1); });
  return plots;
}

function boot() {
  const data = JSON.parse(byId("data").textContent), n = data.rows.id.length;
  for (const cells of Object.values(data.rows)) while (cells.length < n) cells.push(null);  // left out to keep the file small
  document.title = `${data.title} · codesign`;
  drawHeader(data);
  drawAssumptions(data);
  drawReproduce(data);
  for (const link of document.querySelectorAll("[data-goto]")) link.addEventListener("click", () => goTo(link.dataset.goto));
  if (!data.rows.id.length || !data.columns.length) {
    for (const id of ["explore", "design"]) byId(id).hidden = byId(`to-${id}`).hidden = true;
    byId("picks").append(el("p", {text: "No design was evaluated."}));
    return drawConvergence(data);
  }
  const store = makeStore(data), plots = buildExplorer(store);
  const redraw = () => {
    drawConvergence(data);
    plots.forEach(plot => plot.resize());
    store.update("rows");
  };
  readHash(store);
  drawAnswer(store);
  drawSure(store);
  redraw();
  let width = document.documentElement.clientWidth;
  window.addEventListener("resize", () => {  // a phone's address bar changes the height only
    if (width !== document.documentElement.clientWidth) redraw();
    width = document.documentElement.clientWidth;
  });
  for (const query of ["(prefers-color-scheme: dark)", "print"]) matchMedia(query).addEventListener("change", redraw);
  window.addEventListener("hashchange", () => {
    readHash(store);
    store.update("rows");
  });
}

boot();
document.documentElement.dataset.ready = String(Math.round(performance.now()));
