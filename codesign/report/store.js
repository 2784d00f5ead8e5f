// The explorer's one state: which rows are in play, what is filtered, which design is chosen. Views read it and redraw.

const GROUPS = [
  ["architecture", "Architecture", ["architecture", "precision"]],
  ["deployment", "Deployment", ["hardware", "deployment"]],
  ["lifecycle", "Lifecycle", ["lifecycle"]],
  ["objective", "Objectives", ["objective"]],
  ["metric", "Metrics", ["metric"]],
];
const KNOWN_GROUPS = GROUPS.flatMap(([, , members]) => members);
const MAX_LEVELS = 40;  // a column with more classes than this is text: in the table, on no axis
const MAX_STEPS = 10;  // a column with at most this many numbers gets evenly spaced places on its axis
const MAX_PINS = 3;
const FAR = 1.5, WIDE = 10;  // a reference this many times beyond the designs takes a logarithmic axis that spans this many times

const byNature = (a, b) =>
  typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), "en", {numeric: true});

/** A column with its numbers (`v`: NaN where empty; the position in `levels` for classes) and how to print them. Feasible rows decide
 *  whether it can have a logarithmic axis: what was ruled out may hold zeros. `known`: values of references, which may lie far off. */
function makeColumn(spec, raw, feasible, known = []) {
  const present = raw.filter(value => value !== null && value !== undefined);
  const distinct = [...new Set(present)].sort(byNature);
  const column = {...spec, raw, levels: null, steps: null, positive: false, div: 1, shown: "", varies: distinct.length > 1};
  if (!KNOWN_GROUPS.includes(spec.group)) column.group = "metric";
  if (spec.categorical || distinct.some(value => typeof value !== "number")) {
    const code = new Map(distinct.map((level, k) => [level, k]));
    column.levels = distinct;
    column.v = Float64Array.from(raw, value => code.get(value) ?? NaN);
  } else {
    const good = raw.filter((value, i) => feasible[i] && value !== null && value !== undefined);
    const sizes = (good.length ? good : present).map(Math.abs).filter(size => size > 0).sort((a, b) => a - b);
    const scale = unitScale(spec.unit, sizes[sizes.length >> 1] || 0);
    column.v = Float64Array.from(raw, value => value ?? NaN);
    column.steps = distinct.length <= MAX_STEPS ? distinct : null;
    column.positive = sizes.length > 0 && good.every(value => value > 0);
    const [least, most] = [Math.min(sizes[0], ...known), Math.max(sizes.at(-1), ...known)];
    const isFar = least * FAR < sizes[0] || most > FAR * sizes.at(-1);
    column.log = column.positive && (spec.log || sizes.at(-1) / sizes[0] > 50 || (isFar && least > 0 && most / least > WIDE));
    column.div = scale.div;
    column.shown = scale.unit.replace(/^×/, "");
  }
  column.tell = value => show(value, column.levels ? "" : spec.unit);  // 18.2 ms
  column.value = i => column.tell(raw[i]);
  column.cell = i => (column.levels || !isNumber(raw[i]) ? show(raw[i]) : sig(raw[i] / column.div));  // 18.2 under "ms"
  return column;
}

function firstState(data, columns, plottable, objectives) {
  const pool = [...objectives, ...plottable.filter(column => !objectives.includes(column)), ...columns];
  const x = pool.find(column => column.direction === "min") || pool[0];
  const y = objectives.find(column => column !== x && column.direction === "max") || pool.find(column => column !== x) || x;
  const c = pool.find(column => column !== x && column !== y), lead = objectives[0];
  return {
    x: x.name, y: y.name, c: c ? c.name : "", xlog: Boolean(x.log), ylog: Boolean(y.log), infeasible: false, front: false, known: true,
    brushes: {},  // {column: [lo, hi]}
    steps: [],  // [["keep" or "exclude", brushes]], in the order they were taken
    sort: lead ? [lead.name, lead.direction === "max" ? -1 : 1] : ["id", 1],
    chosen: data.picks.length ? data.picks[0].id : data.rows.id[0], pins: [], closed: null,
  };
}

function makeStore(data) {
  const rows = data.rows, n = rows.id.length;
  const feasible = Uint8Array.from(rows.feasible, Number), front = Uint8Array.from(rows.on_front, Number);
  const columns = data.columns.map(spec => makeColumn(spec, rows[spec.name], feasible,
    data.references.map(ref => ref.values[spec.name]).filter(isNumber)));
  const byName = new Map(columns.map(column => [column.name, column]));
  const index = new Map(rows.id.map((id, i) => [String(id), i]));
  const base = new Uint8Array(n), hit = new Uint8Array(n);  // in play; in the selection
  const objectives = columns.filter(column => column.group === "objective");
  const plottable = columns.filter(column => column.varies && !column.derived && !(column.levels && column.levels.length > MAX_LEVELS));
  const initial = () => firstState(data, columns, plottable, objectives);
  const store = {
    data, n, columns, byName, objectives, plottable, feasible, front, base, hit, initial, state: initial(), views: [],
    rows: [], ids: rows.id, killedBy: rows.killed_by, indexOf: id => index.get(String(id)),
    column: key => byName.get(store.state[key]),
    references: () => (store.state.known ? data.references : []),  // of them, those that are drawn
    why: i => `killed by ${rows.killed_by[i] || "a constraint"}`,
  };

  function within(brushes) {
    const inside = new Uint8Array(n).fill(1);
    for (const [name, [lo, hi]] of Object.entries(brushes)) {
      const {v} = byName.get(name);
      for (let i = 0; i < n; i++) if (!(v[i] >= lo && v[i] <= hi)) inside[i] = 0;
    }
    return inside;
  }

  /** Recompute and tell the views what moved: "rows" (everything), "brush" (the selection), "view", "chosen". */
  store.update = (reason = "rows", live = false) => {
    const {state} = store;
    if (reason === "rows") {
      const steps = state.steps.map(([op, brushes]) => [op === "keep" ? 1 : 0, within(brushes)]);
      for (let i = 0; i < n; i++)
        base[i] = (state.front ? front[i] : state.infeasible || feasible[i]) && steps.every(([wanted, inside]) => inside[i] === wanted) ? 1 : 0;
    }
    if (reason === "rows" || reason === "brush") {
      const inside = within(state.brushes);
      for (let i = 0; i < n; i++) hit[i] = base[i] & inside[i];
      store.rows = Array.from(hit.keys()).filter(i => hit[i]);
    }
    store.views.forEach(view => view(reason));
    if (!live) writeHash(store);
  };
  store.brush = (name, range, live = false) => {
    if (range) store.state.brushes[name] = range;
    else delete store.state.brushes[name];
    store.update("brush", live);
  };
  store.step = op => {
    store.state.steps.push([op, store.state.brushes]);
    store.state.brushes = {};
    store.update("rows");
  };
  store.choose = id => {
    store.state.chosen = id;
    store.update("chosen");
  };
  store.pin = id => {
    const pins = store.state.pins, rest = pins.filter(other => other !== id);
    store.state.pins = rest.length < pins.length ? rest : [...pins, id].slice(-MAX_PINS);
    store.update("chosen");
  };
  return store;
}

// ---- state in location.hash: a selection can be mailed with the file -------------------------------------

const finite = value => (Number.isFinite(value) ? value : null);
const packBrushes = brushes => Object.entries(brushes).map(([name, [lo, hi]]) => [name, finite(lo), finite(hi)]);

function unpackBrushes(store, list) {
  const known = list.filter(([name]) => store.byName.has(name));
  return Object.fromEntries(known.map(([name, lo, hi]) => [name, [lo ?? -Infinity, hi ?? Infinity]]));
}

function writeHash(store) {
  const now = store.state, start = store.initial(), out = new URLSearchParams();
  const set = (key, value) => out.set(key, JSON.stringify(value));
  for (const key of ["x", "y", "c", "xlog", "ylog", "infeasible", "front", "known", "chosen"]) if (now[key] !== start[key]) set(key, now[key]);
  if (Object.keys(now.brushes).length) set("f", packBrushes(now.brushes));
  if (now.steps.length) set("k", now.steps.map(([op, brushes]) => [op, packBrushes(brushes)]));
  if (String(now.sort) !== String(start.sort)) set("sort", now.sort);
  if (now.pins.length) set("pins", now.pins);
  if (now.closed) set("closed", now.closed);
  const text = out.toString();
  try {
    history.replaceState(null, "", text ? `#${text}` : location.pathname + location.search);
  } catch { /* some frames forbid it: the page works, only its address stays behind */ }
}

function readHash(store) {
  const state = store.initial(), hash = new URLSearchParams(location.hash.slice(1));
  const read = (key, use) => {
    try {
      if (hash.has(key)) use(JSON.parse(hash.get(key)));
    } catch { /* a mangled link opens the page without that part */ }
  };
  const drawable = name => store.plottable.includes(store.byName.get(name));
  for (const key of ["x", "y"]) read(key, name => { if (drawable(name)) state[key] = name; });
  read("c", name => { if (name === "" || drawable(name)) state.c = name; });
  for (const key of ["x", "y"]) state[`${key}log`] = Boolean(store.byName.get(state[key]).log);
  for (const key of ["xlog", "ylog", "infeasible", "front", "known"]) read(key, on => { state[key] = on === true; });
  read("chosen", id => { state.chosen = store.ids[store.indexOf(id)] ?? state.chosen; });
  read("f", list => { state.brushes = unpackBrushes(store, list); });
  read("k", list => {
    state.steps = list.map(([op, brushes]) => [op === "keep" ? "keep" : "exclude", unpackBrushes(store, brushes)]);
  });
  read("sort", ([name, way]) => { if (name === "id" || store.byName.has(name)) state.sort = [name, way < 0 ? -1 : 1]; });
  read("pins", ids => { state.pins = ids.filter(id => store.indexOf(id) !== undefined).slice(0, MAX_PINS); });
  read("closed", names => { state.closed = names.filter(name => GROUPS.some(([key]) => key === name)); });
  store.state = state;
}
