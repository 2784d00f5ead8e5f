// Put the page together: read the data, build the views, draw once, then keep up with the window and the theme.

function makeHover(store) {
  const tip = byId("tip"), hover = {row: -1, views: []};
  const line = (label, text) => el("div", {}, el("dt", {text: label}), el("dd", {text}));
  hover.set = (i, x = 0, y = 0) => {
    const moved = i !== hover.row;
    hover.row = i; tip.hidden = i < 0;
    if (moved) hover.views.forEach(view => view());
    if (i < 0) return;
    if (moved) {
      const {state} = store, keys = [...new Set([...store.objectives, ...["x", "y", "c"].map(key => store.byName.get(state[key])).filter(Boolean),
        ...store.plottable.filter(column => ["architecture", "hardware"].includes(column.group)).slice(0, 8)])];
      tip.replaceChildren(el("b", {text: `#${store.ids[i]}`}), store.feasible[i] ? store.front[i] ? " on the front" : "" : ` infeasible: ${store.killedBy[i] || "a constraint"}`,
        el("dl", {}, keys.filter(column => column.raw[i] !== null).map(column => line(column.label, column.value(i)))));
    }
    const wide = tip.offsetWidth, tall = tip.offsetHeight;
    tip.style.left = `${Math.max(4, x + 18 + wide > innerWidth ? x - wide - 18 : x + 18)}px`;
    tip.style.top = `${Math.max(4, Math.min(y + 12, innerHeight - tall - 8))}px`;
  };
  return hover;
}

/** What the marks and colours of the plots mean; redrawn when the colouring column changes. */
function drawKey(store) {
  const root = byId("key"), {items, column, scale} = makePaint(store), shapes = {circle: "●", square: "■", triangle: "▲", diamond: "◆", down: "▼", plus: "✚", bar: "▬", post: "▮"};
  const parts = [];
  if (items) parts.push(el("h3", {text: column.label}), el("ul", {}, items.map(item => el("li", {}, el("span", {class: "glyph", style: {color: item.colour}, text: shapes[item.shape]}), item.text))));
  else if (column) parts.push(el("h3", {text: column.label + (column.shown ? `, ${column.shown}` : "")}), el("div", {class: "ramp"}),
    el("div", {class: "ramp-ends"}, [scale.lo, scale.inv(0.5), scale.hi].map(value => el("span", {text: sig(Number((value / column.div).toPrecision(3)))}))));
  const glyph = (text, words) => el("li", {}, el("span", {class: "glyph", text}), words);
  parts.push(el("ul", {}, [glyph("◉", "large, outlined: on the front"), glyph("·", "small: feasible"), store.state.infeasible ? glyph("×", "infeasible") : null, glyph("◯", "ringed: a named pick"),
    store.data.references.length ? glyph("◇", "known model") : null]), el("p", {class: "fine screen", text: "Click a point to choose it. Drag a rectangle to filter."}));
  root.replaceChildren(...parts);
}

function buildExplorer(store, hover) {
  const {data} = store, n_dead = store.n - store.feasible.reduce((total, yes) => total + yes, 0);
  const dead = el("input", {type: "checkbox", id: "infeasible", disabled: !n_dead, on: {change: () => { store.state.infeasible = dead.checked; store.update("rows"); }}});
  byId("controls").append(axisSelect(store, "x", "Horizontal"), axisSelect(store, "y", "Vertical"), axisSelect(store, "c", "Colour", "none"),
    el("label", {class: "check"}, dead, ` infeasible too (${grouped.format(n_dead)})`));
  store.views.push(() => { dead.checked = store.state.infeasible; });
  byId("controls").after(filterBar(store));
  const plots = [scatter(store, byId("scatter-box"), hover), parallel(store, byId("parallel-box"), hover)];
  byId("table-box").append(...selectionTable(store));
  store.views.push(reason => { if (reason === "rows" || reason === "view") drawKey(store); });
  return plots;
}

function boot() {
  const data = JSON.parse(byId("data").textContent);
  document.title = `${data.title} · codesign`;
  drawHeader(data); drawAssumptions(data); drawReproduce(data);
  for (const link of document.querySelectorAll("[data-goto]")) link.addEventListener("click", () => goTo(link.dataset.goto));
  if (!data.rows.id.length || !data.columns.length) {
    byId("explore").hidden = byId("design").hidden = true;
    byId("picks").append(el("p", {text: "No design was evaluated."}));
    drawConvergence(data);
    return;
  }
  const store = makeStore(data), hover = makeHover(store), [points, lines] = buildExplorer(store, hover);
  readHash(store);
  drawAnswer(store);
  let shown = "";
  store.views.push(() => { const now = JSON.stringify([store.state.chosen, store.state.pins]); if (now !== shown) { shown = now; drawDesign(store); } });
  const redraw = () => { drawConvergence(data); points.resize(); lines.resize(); lines.recolour(); store.update("rows"); };
  redraw();
  let width = document.documentElement.clientWidth;
  window.addEventListener("resize", () => { const now = document.documentElement.clientWidth; if (now !== width) { width = now; redraw(); } });
  for (const query of ["(prefers-color-scheme: dark)", "print"]) matchMedia(query).addEventListener("change", redraw);
  window.addEventListener("hashchange", () => { readHash(store); store.update("rows"); });
  window.addEventListener("keydown", event => { if (event.key === "Escape") hover.set(-1); });
}

const started = performance.now();
boot();
document.documentElement.dataset.ready = String(Math.round(performance.now() - started));
