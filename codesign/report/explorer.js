// The explorer's one state: which rows are in play, what is filtered, which design is chosen. Views read it and redraw.

const GROUPS = [["architecture", "Architecture", ["architecture", "precision"]], ["deployment", "Deployment", ["hardware", "deployment"]],
  ["lifecycle", "Lifecycle", ["lifecycle"]], ["objective", "Objectives", ["objective"]], ["metric", "Metrics", ["metric"]]];
const MAX_LEVELS = 40, MAX_STEPS = 10, MAX_PINS = 3;

function makeColumn(spec, raw) {
  const present = raw.filter(value => value !== null && value !== undefined);
  const distinct = [...new Set(present)];
  const column = {...spec, raw, levels: null, steps: null, varies: distinct.length > 1, div: 1, shown: ""};
  if (spec.categorical || distinct.some(value => typeof value !== "number")) {
    column.levels = distinct.sort((a, b) => typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), "en", {numeric: true}));
    const code = new Map(column.levels.map((level, k) => [level, k]));
    column.v = Float64Array.from(raw, value => code.has(value) ? code.get(value) : NaN);
  } else {
    column.v = Float64Array.from(raw, value => value ?? NaN);
    if (distinct.length <= MAX_STEPS) column.steps = distinct.sort((a, b) => a - b);
    const sizes = present.map(Math.abs).filter(size => size > 0).sort((a, b) => a - b);
    const scale = unitScale(spec.unit || "", sizes[sizes.length >> 1] || 0);
    Object.assign(column, {div: scale.div, shown: scale.unit.replace(/^×/, ""), spread: sizes.length ? sizes.at(-1) / sizes[0] : 1, positive: present.length === sizes.length && present.every(v => v > 0)});
  }
  column.cell = i => raw[i] === null || raw[i] === undefined ? "–" : column.levels ? show(raw[i]) : sig(raw[i] / column.div);
  column.value = i => column.levels ? show(raw[i]) : show(raw[i], spec.unit || "");
  return column;
}

function makeStore(data) {
  const rows = data.rows, n = rows.id.length;
  const columns = data.columns.filter(spec => rows[spec.name]).map(spec => makeColumn(spec, rows[spec.name]));
  const byName = new Map(columns.map(column => [column.name, column]));
  const feasible = Uint8Array.from(rows.feasible, Number), front = Uint8Array.from(rows.on_front, Number);
  const index = new Map(rows.id.map((id, i) => [String(id), i]));
  const views = [], base = new Uint8Array(n), hit = new Uint8Array(n);
  const objectives = columns.filter(column => column.group === "objective");
  const plottable = columns.filter(column => column.varies && !(column.levels && column.levels.length > MAX_LEVELS));
  const pool = [...objectives, ...plottable.filter(column => !objectives.includes(column)), ...columns];
  const x = pool.find(column => column.direction === "min") || pool[0];
  const y = objectives.find(column => column !== x && column.direction === "max") || pool.find(column => column !== x) || x;
  const c = pool.find(column => column !== x && column !== y) || null;
  const wantsLog = column => Boolean(column.positive && (column.log || column.spread > 50));
  const initial = () => ({x: x.name, y: y.name, c: c ? c.name : "", xlog: wantsLog(x), ylog: wantsLog(y), infeasible: false,
    brushes: {}, steps: [], sort: [objectives[0] ? objectives[0].name : "id", objectives[0] && objectives[0].direction === "max" ? -1 : 1],
    chosen: data.picks.length ? data.picks[0].id : rows.id[0], pins: [], closed: null});
  const store = {data, columns, byName, plottable, objectives, n, feasible, front, base, hit, rows: [], ids: rows.id, killedBy: rows.killed_by,
    wantsLog, initial, state: initial(), views, indexOf: id => index.get(String(id))};

  function within(brushes) {
    const inside = new Uint8Array(n).fill(1);
    for (const [name, [lo, hi]] of Object.entries(brushes)) {
      const v = byName.get(name).v;
      for (let i = 0; i < n; i++) if (!(v[i] >= lo && v[i] <= hi)) inside[i] = 0;
    }
    return inside;
  }
  /** Recompute what is shown and tell the views why: "rows" (everything), "brush" (selection only), "view", "chosen". */
  store.update = (reason = "rows", live = false) => {
    const {state} = store;
    if (reason === "rows") {
      const steps = state.steps.map(([op, brushes]) => [op === "keep" ? 1 : 0, within(brushes)]);
      for (let i = 0; i < n; i++) base[i] = (state.infeasible || feasible[i]) && steps.every(([wanted, inside]) => inside[i] === wanted) ? 1 : 0;
    }
    if (reason === "rows" || reason === "brush") {
      const inside = within(state.brushes);
      for (let i = 0; i < n; i++) hit[i] = base[i] & inside[i];
      store.rows = Array.from(hit.keys()).filter(i => hit[i]);
    }
    views.forEach(view => view(reason));
    if (!live) history.replaceState(null, "", writeHash(store) || location.pathname + location.search);
  };
  store.brush = (name, range, live = false) => {
    if (range) store.state.brushes[name] = range; else delete store.state.brushes[name];
    store.update("brush", live);
  };
  store.step = op => {
    store.state.steps.push([op, store.state.brushes]);
    store.state.brushes = {};
    store.update("rows");
  };
  store.choose = (id, scroll = false) => { store.state.chosen = id; store.update("chosen"); if (scroll) goTo("design"); };
  store.pin = id => {
    const pins = store.state.pins.filter(other => other !== id);
    if (pins.length === store.state.pins.length) pins.push(id);
    store.state.pins = pins.slice(-MAX_PINS);
    store.update("chosen");
  };
  return store;
}

// ---- state in location.hash: a selection can be mailed with the file ---------------------------------------------

const open = value => value === null ? null : Number.isFinite(value) ? value : null;
const packBrushes = brushes => Object.entries(brushes).map(([name, [lo, hi]]) => [name, open(lo), open(hi)]);

function unpackBrushes(store, list) {
  const known = list.filter(([name]) => store.byName.has(name));
  return Object.fromEntries(known.map(([name, lo, hi]) => [name, [lo ?? -Infinity, hi ?? Infinity]]));
}

function writeHash(store) {
  const now = store.state, start = store.initial(), out = new URLSearchParams();
  for (const key of ["x", "y", "c", "xlog", "ylog", "infeasible", "chosen"]) if (now[key] !== start[key]) out.set(key, JSON.stringify(now[key]));
  if (Object.keys(now.brushes).length) out.set("f", JSON.stringify(packBrushes(now.brushes)));
  if (now.steps.length) out.set("k", JSON.stringify(now.steps.map(([op, brushes]) => [op, packBrushes(brushes)])));
  if (String(now.sort) !== String(start.sort)) out.set("sort", JSON.stringify(now.sort));
  if (now.pins.length) out.set("pins", JSON.stringify(now.pins));
  if (now.closed) out.set("closed", JSON.stringify(now.closed));
  const text = out.toString();
  return text && "#" + text;
}

function readHash(store) {
  const state = store.initial(), hash = new URLSearchParams(location.hash.slice(1));
  const read = (key, use) => { try { if (hash.has(key)) use(JSON.parse(hash.get(key))); } catch { /* a mangled link opens the plain page */ } };
  for (const key of ["x", "y", "c"]) read(key, name => { if (store.plottable.includes(store.byName.get(name)) || (key === "c" && name === "")) state[key] = name; });
  for (const axis of ["x", "y"]) state[axis + "log"] = store.wantsLog(store.byName.get(state[axis]));
  for (const key of ["xlog", "ylog", "infeasible"]) read(key, on => { state[key] = on === true; });
  read("chosen", id => { if (store.indexOf(id) !== undefined) state.chosen = store.ids[store.indexOf(id)]; });
  read("f", list => { state.brushes = unpackBrushes(store, list); });
  read("k", steps => { state.steps = steps.map(([op, list]) => [op === "keep" ? "keep" : "exclude", unpackBrushes(store, list)]); });
  read("sort", ([name, way]) => { if (name === "id" || store.byName.has(name)) state.sort = [name, way < 0 ? -1 : 1]; });
  read("pins", ids => { state.pins = ids.filter(id => store.indexOf(id) !== undefined).slice(0, MAX_PINS); });
  read("closed", names => { state.closed = names.filter(name => GROUPS.some(group => group[0] === name)); });
  store.state = state;
}

// ---- controls ----------------------------------------------------------------------------------------------------

function axisSelect(store, key, label, none) {
  const options = store.plottable.includes(store.byName.get(store.state[key])) ? store.plottable : [store.byName.get(store.state[key]), ...store.plottable].filter(Boolean);
  const select = el("select", {id: `axis-${key}`, on: {change: () => {
    store.state[key] = select.value;
    if (key !== "c") store.state[key + "log"] = store.wantsLog(store.byName.get(select.value));
    store.update("view");
  }}}, none ? el("option", {value: "", text: none}) : null,
    GROUPS.map(([, title, members]) => [title, options.filter(column => members.includes(column.group))]).filter(([, list]) => list.length)
      .map(([title, list]) => el("optgroup", {label: title}, list.map(column => el("option", {value: column.name, text: column.label})))));
  const log = key === "c" ? null : el("input", {type: "checkbox", id: `log-${key}`, on: {change: () => { store.state[key + "log"] = log.checked; store.update("view"); }}});
  store.views.push(() => {
    select.value = store.state[key];
    if (log) { log.checked = store.state[key + "log"]; log.disabled = !store.byName.get(store.state[key]).positive; }
  });
  return el("div", {class: "control"}, el("label", {for: `axis-${key}`, text: label}), select,
    log ? el("label", {class: "check"}, log, " log") : null);
}

function rangeText(column, [lo, hi]) {
  if (column.levels) return column.levels.filter((_, k) => k >= lo && k <= hi).map(level => show(level)).join(", ");
  if (!Number.isFinite(lo)) return `≤ ${show(hi, column.unit)}`;
  return !Number.isFinite(hi) ? `≥ ${show(lo, column.unit)}` : lo === hi ? show(lo, column.unit) : `${show(lo, column.unit)} to ${show(hi, column.unit)}`;
}

function filterBar(store) {
  const count = el("output", {id: "count", "aria-live": "polite"}), chips = el("ul", {class: "chips", "aria-label": "Filters"});
  const button = (id, text, title, run) => el("button", {type: "button", id, text, title, on: {click: run}});
  const keep = button("keep", "Keep", "Work on with the selection only", () => store.step("keep"));
  const exclude = button("exclude", "Exclude", "Drop the selection, work on with the rest", () => store.step("exclude"));
  const reset = button("reset", "Reset", "Remove every filter", () => { store.state.brushes = {}; store.state.steps = []; store.update("rows"); });
  const csv = button("csv", "Download CSV", "The selection, all columns, SI units", () => download("codesign-selection.csv", toCsv(store), "text/csv"));
  const describe = brushes => Object.entries(brushes).map(([name, range]) => `${store.byName.get(name).label} ${rangeText(store.byName.get(name), range)}`).join(" and ");
  const chip = (text, remove) => el("li", {}, el("button", {type: "button", class: "chip", "aria-label": `Remove filter: ${text}`, on: {click: remove}}, text, el("span", {"aria-hidden": "true", text: " ×"})));
  store.views.push(reason => {
    if (reason === "chosen" || reason === "view") return;
    const {brushes, steps} = store.state, total = store.base.reduce((sum, inPlay) => sum + inPlay, 0), bad = store.rows.filter(i => !store.feasible[i]).length;
    count.textContent = `${grouped.format(store.rows.length)} of ${grouped.format(total)} selected` + (bad ? ` (${grouped.format(bad)} infeasible)` : "");
    keep.disabled = exclude.disabled = !Object.keys(brushes).length;
    reset.disabled = keep.disabled && !steps.length;
    chips.replaceChildren(
      ...steps.map((step, k) => chip(`${step[0] === "keep" ? "kept" : "excluded"}: ${describe(step[1])}`, () => { steps.splice(k, 1); store.update("rows"); })),
      ...Object.entries(brushes).map(([name, range]) => chip(describe({[name]: range}), () => store.brush(name, null))));
  });
  return el("div", {class: "filters"}, count, keep, exclude, reset, csv, chips);
}

function toCsv(store) {
  const names = ["id", "on_front", "feasible", "killed_by", ...store.columns.map(column => column.name)];
  const cell = value => value === null || value === undefined ? "" : /[",\r\n]/.test(String(value)) ? `"${String(value).replaceAll('"', '""')}"` : String(value);
  return [names.map(cell).join(","), ...store.rows.map(i => names.map(name => cell(store.data.rows[name][i])).join(","))].join("\r\n") + "\r\n";
}

// ---- table of the selection --------------------------------------------------------------------------------------

function sortedRows(store) {
  const [name, way] = store.state.sort, column = store.byName.get(name);
  const key = column ? column.v : store.ids;
  return [...store.rows].sort((a, b) => {  // empty cells last, whichever way
    const u = key[a], w = key[b], lost = (u !== u) - (w !== w);
    return lost || (u < w ? -way : u > w ? way : a - b);
  });
}

function selectionTable(store) {
  const PAGE = 50;
  let limit = PAGE;
  const order = [...store.objectives, ...store.columns.filter(column => column.varies && !store.objectives.includes(column))];
  const head = el("tr", {}), body = el("tbody"), more = el("button", {type: "button", id: "more", on: {click: () => { limit += 250; draw(); }}});
  const sorter = (name, label, unit, meaning, word) => el("th", {scope: "col", class: word ? "word" : null, "data-column": name}, el("button", {type: "button", title: meaning, on: {click: () => {
    const [current, way] = store.state.sort, column = store.byName.get(name);
    store.state.sort = [name, current === name ? -way : column && column.direction === "max" ? -1 : 1];
    store.update("view");
  }}}, label, el("small", {text: unit || "\u00a0"})));
  head.append(sorter("id", "Design", "", "Row number in this run"), ...order.map(column => sorter(column.name, column.label, column.shown, column.meaning, column.levels)));
  function row(i) {
    const id = store.ids[i], pinned = store.state.pins.includes(id);
    return el("tr", {"data-id": id, class: id === store.state.chosen ? "chosen" : store.feasible[i] ? null : "dead"},
      el("th", {scope: "row"},
        el("input", {type: "checkbox", checked: pinned, "aria-label": `Pin ${id} for comparison`, on: {change: () => store.pin(id)}}),
        el("button", {type: "button", class: "link", text: `#${id}`, on: {click: () => store.choose(id, true)}}),
        el("small", {text: !store.feasible[i] ? `killed by ${store.killedBy[i] || "a constraint"}` : store.front[i] ? "front" : ""})),
      order.map(column => el("td", {class: column.levels ? "word" : null, text: column.cell(i)})));
  }
  function draw() {
    const rows = sortedRows(store);
    body.replaceChildren(...rows.slice(0, limit).map(row));
    more.hidden = rows.length <= limit;
    more.textContent = `Show more (${grouped.format(Math.min(limit, rows.length))} of ${grouped.format(rows.length)} shown)`;
    for (const th of head.children) th.setAttribute("aria-sort", th.dataset.column !== store.state.sort[0] ? "none" : store.state.sort[1] > 0 ? "ascending" : "descending");
  }
  store.views.push(reason => { if (reason === "rows" || reason === "brush") limit = PAGE; draw(); });
  return [el("div", {class: "scroll table-scroll", tabindex: "0", role: "region", "aria-label": "Table of the selection"},
    el("table", {id: "selection"}, el("caption", {class: "away", text: "Designs in the selection"}), el("thead", {}, head), body)), more];
}
