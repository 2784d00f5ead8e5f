// The page around the explorer: the answer, one design in full, the evidence, and how to reproduce it.

const CAUSES = ["compute", "memory", "network", "fixed"];
const byId = id => document.getElementById(id);
const words = name => String(name).replaceAll("_", " ");
const capital = text => text.charAt(0).toUpperCase() + text.slice(1);
const sum = list => list.reduce((total, value) => total + (value || 0), 0);
const quote = text => /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;

function goTo(id) {
  const target = byId(id);
  target.scrollIntoView({behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth"});
  target.focus({preventScroll: true});
}

/** Columns of words are named "<text" and set left. */
function table(head, rows) {
  return el("table", {}, el("thead", {}, el("tr", {}, head.map(text => el("th", {scope: "col", class: text.startsWith("<") ? "word" : null, text: text.replace("<", "")})))), el("tbody", {}, rows));
}

// ---- header and answer -------------------------------------------------------------------------------------------

function drawHeader(data) {
  const {counts} = data, shown = data.rows.id.length;
  byId("title").textContent = data.title;
  byId("question").textContent = data.question;
  byId("meta").replaceChildren(...[`${data.method} search`, data.exact ? "exact front" : "sampled front, not proven complete", `seed ${data.seed}`, `codesign ${data.version}`, data.created].map(text => el("span", {text})));
  const facts = [["designs", counts.n_designs], ["layouts timed", counts.n_layouts], ["feasible", counts.n_feasible], ["on the front", counts.n_front],
    ["layouts per second", counts.layouts_per_s], ["wall time", counts.wall_s, "s"], ["hypervolume", counts.hypervolume], ["candidate layouts", counts.space_rows]];
  byId("counts").replaceChildren(...facts.filter(([, value]) => isNumber(value)).map(([name, value, unit]) => el("div", {}, el("dd", {text: show(value, unit)}), el("dt", {text: name}))));
  const killed = Object.entries(data.killed).filter(([, share]) => share > 0).sort((a, b) => b[1] - a[1]);
  if (killed.length) byId("killed").append(el("h3", {text: "What ruled candidates out"}), bars(killed.map(([name, share]) => ({name: words(name), value: share, text: percent(share)})), 1));
  if (data.total_rows > shown) byId("shown").textContent = `This page holds ${grouped.format(shown)} of ${grouped.format(data.total_rows)} designs, the front first. The full table is results.parquet in the run's folder.`;
}

function configuration(store, i, groups) {
  const columns = store.columns.filter(column => groups.includes(column.group) && column.raw[i] !== null);
  return el("dl", {class: "config"}, columns.map(column => el("div", {title: column.meaning}, el("dt", {text: column.label}), el("dd", {text: column.value(i)}))));
}

function headline(store, i) {
  return el("dl", {class: "headline"}, store.objectives.map(column => el("div", {title: column.meaning}, el("dd", {text: column.value(i)}), el("dt", {text: column.label}))));
}

function layoutLines(detail) {
  return detail && detail.layout && detail.layout.length ? el("ul", {class: "layout"}, detail.layout.map(unit => el("li", {}, el("b", {text: words(unit.unit)}), " ", el("code", {text: unit.text}),
    ` on ${plural(unit.n_devices, "device")}` + (isNumber(unit.batch) ? `, batch ${show(unit.batch)}` : "")))) : null;
}

const exportCommand = (store, id) => `codesign export ${quote(store.data.run)} ${id} --to training-plan`;

function pickCard(store, pick) {
  const i = store.indexOf(pick.id), detail = store.data.details[pick.id];
  const bounds = ((detail && detail.bounds) || []).map(bound => `${capital(words(bound.phase))} ${show(bound.estimate_s, "s")}, roofline bounds ${show(bound.lower_s, "s")} to ${show(bound.upper_s, "s")}.`);
  return el("article", {class: "pick", "data-id": pick.id, "aria-label": `${pick.name}, design ${pick.id}`},
    el("h3", {}, capital(pick.name), " ", el("button", {type: "button", class: "link", text: `#${pick.id}`, title: "Show this design in full", on: {click: () => store.choose(pick.id, true)}})),
    headline(store, i),
    el("p", {}, pick.reason),
    pick.gives_up ? el("p", {}, el("b", {text: "Gives up: "}), pick.gives_up) : null,
    layoutLines(detail),
    configuration(store, i, ["architecture", "precision", "hardware", "lifecycle"]),
    el("details", {}, el("summary", {text: "Deployment and metrics"}), configuration(store, i, ["deployment", "metric"]), bounds.map(text => el("p", {class: "fine", text}))),
    command(exportCommand(store, pick.id)));
}

function drawAnswer(store) {
  const {data} = store;
  byId("picks").replaceChildren(...data.picks.map(pick => pickCard(store, pick)));
  if (!data.picks.length) byId("picks").append(el("p", {text: data.counts.n_feasible ? "No picks were named." : "Nothing met every constraint. Switch on infeasible designs below to see how close the search came and what ruled each one out."}));
  if (data.codesign && data.codesign.sentence) byId("codesign").append(el("b", {text: "Value of co-design. "}), data.codesign.sentence);
}

// ---- one design --------------------------------------------------------------------------------------------------

/** The parts of an operator's time that show: fixed, plus those causes that together with it explain time_s best. The
 *  rest ran behind them. (Roofline operators take the maximum of some causes and the sum of others.) */
function visibleCauses(op) {
  const own = Object.fromEntries(CAUSES.map(cause => [cause, op[`${cause}_s`] || 0])), free = CAUSES.filter(cause => cause !== "fixed" && cause !== op.bound);
  const sets = [0, 1, 2, 3].slice(0, 2 ** free.length).map(bits => ["fixed", op.bound, ...free.filter((_, k) => bits >> k & 1)]);
  const miss = set => Math.abs(op.time_s - sum([...new Set(set)].map(cause => own[cause])));
  const best = sets.reduce((a, b) => miss(b) < miss(a) - 1e-6 * op.time_s ? b : a);
  return Object.fromEntries(CAUSES.map(cause => [cause, best.includes(cause) ? own[cause] : 0]));
}

function causeParts(ops) {
  const visible = ops.map(visibleCauses);
  return CAUSES.map(cause => ({name: cause, style: `cause-${cause}`, value: sum(visible.map(parts => parts[cause]))})).map(part => ({...part, text: show(part.value, "s")}));
}

const phaseKeys = detail => [...new Map([...(detail.bounds || []), ...(detail.operators || [])].map(row => [`${row.unit}/${row.phase}`, row])).values()].map(({unit, phase}) => ({unit, phase}));
const ofPhase = (rows, {unit, phase}) => (rows || []).filter(row => row.unit === unit && row.phase === phase);

function phaseTime(detail, key) {
  const ops = ofPhase(detail.operators, key).sort((a, b) => b.time_s - a.time_s), [bound] = ofPhase(detail.bounds, key);
  const total = sum(ops.map(op => op.time_s)), parts = causeParts(ops), full = Math.max(total, bound ? bound.upper_s : 0) * 1.04;
  const range = bound && {style: "whisker", from: bound.lower_s, to: bound.upper_s, title: `lower ${show(bound.lower_s, "s")}, upper ${show(bound.upper_s, "s")}`};
  const best = bound && {style: "needle", from: bound.estimate_s, title: `estimate ${show(bound.estimate_s, "s")}`};
  const rest = ops.length > 9 ? ops.slice(8) : [], longest = ops.length ? ops[0].time_s : 1;
  return el("section", {class: "phase"},
    el("h4", {}, `${capital(words(key.phase))} on ${words(key.unit)}`, bound ? el("span", {class: "value", text: `${show(bound.estimate_s, "s")}  (lower ${show(bound.lower_s, "s")}, upper ${show(bound.upper_s, "s")})`}) : null),
    stackBar(parts, full, bound ? [range, best] : []), legend(parts.filter(part => part.value > 0)),
    el("div", {class: "ops"}, ops.slice(0, ops.length - rest.length).map(op => [el("span", {class: "bars-name", text: words(op.name)}), stackBar(causeParts([op]), longest), el("span", {class: "bars-value", text: show(op.time_s, "s")}), el("span", {class: "bound", text: `${op.bound} bound`})])),
    rest.length ? el("p", {class: "fine", text: `${plural(rest.length, "smaller operator")} take ${show(sum(rest.map(op => op.time_s)), "s")} together.`}) : null);
}

function memoryBlock(detail) {
  const units = [...new Set(detail.memory.map(row => row.unit))], classes = [...new Set(detail.memory.map(row => row.class))];
  return el("section", {}, el("h3", {text: "Memory per device"}), units.map(unit => {
    const parts = detail.memory.filter(row => row.unit === unit).map(row => ({name: words(row.class), value: row.bytes, text: show(row.bytes, "byte"), style: `kind-${classes.indexOf(row.class) % 8}`}));
    const used = sum(parts.map(part => part.value)), capacity = (detail.capacity || {})[unit], free = capacity - used;
    return [el("h4", {}, capital(words(unit)), el("span", {class: "value", text: isNumber(capacity) ? `${show(used, "byte")} of ${show(capacity, "byte")}, ${free >= 0 ? show(free, "byte") + " free" : show(-free, "byte") + " too much"}` : show(used, "byte")})),
      stackBar(parts, Math.max(used, capacity || 0) * 1.02, isNumber(capacity) ? [{style: "needle", from: capacity, title: `capacity ${show(capacity, "byte")}`}] : []), legend(parts)];
  }));
}

function costBlock(detail) {
  const items = [...detail.cost].sort((a, b) => b.usd - a.usd), total = sum(items.map(item => item.usd));
  return el("section", {}, el("h3", {}, "Cost", el("span", {class: "value", text: show(total, "USD")})),
    bars(items.map(item => ({name: words(item.name), value: item.usd, text: `${show(item.usd, "USD")}, ${percent(item.usd / total)}`})), items.length ? items[0].usd : 1));
}

function lifecycleBlock(detail) {
  const rows = detail.lifecycle, balance = detail.balance, keys = [["tok", "Tokens", v => show(v, "tok")], ["flop", "FLOP", v => show(v, "FLOP")], ["device_s", "Device-hours", v => show(v / 3600)], ["energy_j", "Energy", v => show(v / 3600, "Wh")], ["usd", "USD", v => show(v, "USD")]];
  const [key, title, text] = keys.find(([name]) => balance && (name === balance.of || name.startsWith(String(balance.of)))) || keys.at(-1);
  const most = Math.max(...rows.map(row => row[key] || 0));
  const band = balance && balance.max_ratio ? {style: "band", from: most / balance.max_ratio, to: most, title: `balanced: within a factor ${sig(balance.max_ratio)} of the largest`} : null;
  return el("section", {}, el("h3", {text: `Lifecycle, ${title === "FLOP" || title === "USD" ? title : title.toLowerCase()} by phase`}),
    bars(rows.map(row => ({name: words(row.phase), value: row[key], text: text(row[key])})), most * 1.02, {band}),
    balance ? el("p", {class: "fine", text: `Largest over smallest ${sig(balance.ratio)}` + (balance.max_ratio ? `, limit ${sig(balance.max_ratio)}: ${balance.ratio <= balance.max_ratio ? "in balance. A bar that ends inside the hatched band is within the limit." : "out of balance."}` : ", no limit set.")}) : null,
    el("div", {class: "scroll", tabindex: "0", role: "region", "aria-label": "Lifecycle table"}, table(["Phase", ...keys.map(([, name]) => name)], rows.map(row => el("tr", {}, el("th", {scope: "row", text: words(row.phase)}), keys.map(([name, , write]) => el("td", {text: isNumber(row[name]) ? write(row[name]) : "–"})))))));
}

function slackBlock(detail) {
  const rows = [...detail.slack].sort((a, b) => a.slack_frac - b.slack_frac);
  const verdict = slack => slack < 0 ? "violated" : slack < 0.02 ? "binding" : "";
  return el("section", {}, el("h3", {text: "Room left in each constraint"}), el("div", {class: "scroll", tabindex: "0", role: "region", "aria-label": "Constraint slack"},
    table(["Constraint", "Value", "Limit", "Slack", "<"], rows.map(row => el("tr", {}, el("th", {scope: "row", text: words(row.constraint)}), el("td", {text: show(row.value, row.unit)}), el("td", {text: show(row.limit, row.unit)}),
      el("td", {text: percent(row.slack_frac)}), el("td", {class: "word"}, el("b", {text: verdict(row.slack_frac)})))))));
}

function drawDesign(store) {
  const {chosen, pins} = store.state, i = store.indexOf(chosen), root = byId("design-body");
  if (i === undefined) return root.replaceChildren(el("p", {text: "Nothing chosen."}));
  const detail = store.data.details[chosen], pick = store.data.picks.find(other => other.id === chosen), has = key => detail && detail[key] && detail[key].length;
  const state = store.feasible[i] ? store.front[i] ? "on the front" : "feasible, not on the front" : `infeasible: killed by ${store.killedBy[i] || "a constraint"}`;
  root.replaceChildren(...[
    el("p", {class: "lede"}, el("b", {text: `#${chosen}`}), ` ${pick ? `${pick.name}, ` : ""}${state}. `,
      el("button", {type: "button", "aria-pressed": String(pins.includes(chosen)), text: pins.includes(chosen) ? "Unpin" : "Pin for comparison", on: {click: () => store.pin(chosen)}})),
    layoutLines(detail),
    headline(store, i), configuration(store, i, ["architecture", "precision", "hardware", "deployment", "lifecycle"]),
    el("details", {}, el("summary", {text: "All metrics"}), configuration(store, i, ["metric"])),
    has("operators") || has("bounds") ? el("section", {class: "wide"}, el("h3", {text: "Where the time goes"}), el("p", {class: "fine", text: "Bars add up the causes that show; what ran behind them is left out. The line is the estimate, the bracket spans the roofline bounds: everything overlapped to nothing overlapped."}), el("div", {class: "two"}, phaseKeys(detail).map(key => phaseTime(detail, key)))) : null,
    el("div", {class: "two"}, has("memory") ? memoryBlock(detail) : null, has("cost") ? costBlock(detail) : null, has("lifecycle") ? lifecycleBlock(detail) : null, has("slack") ? slackBlock(detail) : null),
    has("notes") ? el("ul", {class: "notes"}, detail.notes.map(text => el("li", {text}))) : null,
    detail ? null : el("p", {class: "fine", text: "This page carries operators, memory and cost for a few designs only. To see them for this one:"}),
    detail ? null : command(`codesign show ${quote(store.data.run)} ${chosen}`), command(exportCommand(store, chosen))].filter(Boolean));
  drawCompare(store);
}

function drawCompare(store) {
  const root = byId("compare-body"), rows = store.state.pins.map(id => store.indexOf(id)).filter(i => i !== undefined);
  byId("compare").hidden = !rows.length;
  if (!rows.length) return root.replaceChildren();
  const details = rows.map(i => store.data.details[store.ids[i]] || {}), phases = new Map(details.flatMap(phaseKeys).map(key => [`${key.unit}/${key.phase}`, key]));
  const differ = column => rows.length < 2 || rows.some(i => column.value(i) !== column.value(rows[0])), same = store.columns.filter(column => !differ(column));
  const units = [...new Set(details.flatMap(detail => (detail.layout || []).map(unit => unit.unit)))];
  const line = (name, cells, title) => el("tr", {title}, el("th", {scope: "row", text: name}), cells.map(cell => el("td", {}, cell)));
  root.replaceChildren(el("div", {class: "scroll", tabindex: "0", role: "region", "aria-label": "Pinned designs side by side"},
    el("table", {class: "compare"}, el("thead", {}, el("tr", {}, el("td"), rows.map(i => el("th", {scope: "col"}, el("button", {type: "button", class: "link", text: `#${store.ids[i]}`, on: {click: () => store.choose(store.ids[i])}}), " ", el("button", {type: "button", class: "quiet", text: "Unpin", "aria-label": `Unpin ${store.ids[i]}`, on: {click: () => store.pin(store.ids[i])}}))))),
      el("tbody", {}, [...store.objectives, ...store.columns.filter(column => column.group !== "objective")].filter(differ).map(column => line(column.label, rows.map(i => column.value(i)), column.meaning)),
        units.map(unit => line(`${capital(words(unit))} layout`, details.map(detail => { const found = (detail.layout || []).find(other => other.unit === unit); return found ? el("code", {text: found.text}) : "–"; }))),
        [...phases.values()].map(key => { const parts = details.map(detail => causeParts(ofPhase(detail.operators, key))), full = Math.max(...parts.map(list => sum(list.map(part => part.value)))) || 1; return line(`${capital(words(key.phase))} time by cause`, parts.map(list => [stackBar(list, full), legend(list.filter(part => part.value > 0))])); })))),
    same.length ? el("p", {class: "fine", text: `The same in all: ${same.map(column => `${column.label} ${column.value(rows[0])}`).join(", ")}.`}) : null);
}

// ---- evidence ----------------------------------------------------------------------------------------------------

function drawConvergence(data) {
  const points = data.history.filter(([n, , hv]) => isNumber(n) && isNumber(hv)), root = byId("convergence-body");
  if (points.length < 2) return root.replaceChildren(el("p", {text: data.exact ? "Every candidate was evaluated, so there is nothing to converge." : "Too few checkpoints to draw."}));
  const half = points[points.length >> 1][2], last = points.at(-1), gain = (last[2] - half) / last[2];
  root.replaceChildren(lineChart(points.map(([n, , hv]) => [n, hv]), {xLabel: "evaluations", yLabel: "hypervolume", width: Math.max(300, Math.min(820, root.clientWidth)), label: `Hypervolume against evaluations, ending at ${sig(last[2])} after ${show(last[0])}`}),
    el("p", {class: "fine", text: `Ends at ${sig(last[2])} after ${show(last[0])} evaluations and ${show(last[1], "s")}. The second half of the checkpoints added ${percent(gain)}${gain < 0.005 ? ": flat, more trials would change little." : ": still rising, more trials may help."}`}));
}

function drawAssumptions(data) {
  byId("warnings").replaceChildren(...data.warnings.map(text => el("li", {text})));
  const source = text => /^https?:\/\/\S+$/.test(text || "") ? el("a", {href: text, rel: "noopener noreferrer", text: text.replace(/^https?:\/\//, "")}) : text || "–";
  const rows = data.assumptions.map(one => el("tr", {}, el("th", {scope: "row", text: one.name}), el("td", {text: show(one.value, one.unit || "")}), el("td", {class: "word"}, source(one.source)), el("td", {class: "word", text: one.date || "–"}), el("td", {class: "word", text: one.confidence || "–"})));
  const tally = Object.entries(data.assumptions.reduce((n, one) => ({...n, [one.confidence || "unstated"]: (n[one.confidence || "unstated"] || 0) + 1}), {}));
  const count = el("output", {}), search = el("input", {type: "search", id: "assumption-search", on: {input: () => {
    const wanted = search.value.toLowerCase();
    rows.forEach(row => { row.hidden = !row.textContent.toLowerCase().includes(wanted); });
    count.textContent = wanted ? ` ${rows.filter(row => !row.hidden).length} shown` : "";
  }}});
  byId("assumptions-body").append(el("p", {}, `${plural(rows.length, "figure")} from the catalog decide these results: ${tally.map(([name, n]) => `${n} ${name}`).join(", ")}.`),
    el("p", {class: "control screen"}, el("label", {for: "assumption-search", text: "Find"}), search, count),
    el("div", {class: "scroll table-scroll", tabindex: "0", role: "region", "aria-label": "Assumptions"}, table(["Figure", "Value", "<Source", "<Date", "<Confidence"], rows)));
}

function drawReproduce(data) {
  const safe = data.title.replace(/[^\w.-]+/g, "-").slice(0, 60) || "study", names = Object.keys(data.rows);
  const button = (text, run) => el("button", {type: "button", text, on: {click: run}});
  byId("reproduce-body").append(el("p", {}, "This result came from ", el("code", {text: data.command}), "."), ...data.reproduce.map(command),
    el("details", {}, el("summary", {text: "The resolved study"}), el("pre", {tabindex: "0"}, el("code", {text: data.study_yaml}))),
    el("p", {class: "screen"}, copyButton(data.study_yaml, "Copy study"), " ", button("Download study.yaml", () => download(`${safe}.yaml`, data.study_yaml, "text/yaml")), " ",
      button("Download all rows as JSON", () => download(`${safe}.json`, JSON.stringify({columns: data.columns, rows: Object.fromEntries(names.map(name => [name, data.rows[name]]))}), "application/json"))));
}
