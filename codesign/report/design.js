// One design in full: where its time goes, what fills its memory, what it costs, what limits it; and up to three side by side.

const CAUSES = ["compute", "memory", "network", "fixed"];
const MAX_OPERATORS = 9;
const quote = text => (/^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);
const runCommand = (store, verb, id, rest = "") => `codesign ${verb} ${quote(store.data.run)} ${id}${rest}`;
const firstTarget = ({exports}) => (!exports.length || exports.includes("training-plan") ? "training-plan" : exports[0]);
const exportCommand = (store, id, target = firstTarget(store.data)) => runCommand(store, "export", id, ` --to ${quote(target)}`);
const heading = (tag, text, value) => el(tag, {}, text, value && el("span", {class: "value", text: value}));

/** The command that hands this design over, to a target of the reader's choice. */
function exportPicker(store, id) {
  const box = el("div", {class: "export"}), {exports} = store.data;
  const line = target => box.replaceChildren(command(exportCommand(store, id, target)));
  line(store.target);
  if (!exports.length) return box;
  const select = el("select", {id: "export-target", on: {change: () => line(store.target = select.value)}},
    exports.map(name => el("option", {value: name, text: name, selected: name === (store.target || firstTarget(store.data))})));
  return el("div", {}, el("p", {class: "control screen"}, el("label", {for: "export-target", text: "Hand over as"}), select), box);
}

/** Where the true value lies with the study's probability, where the page knows it. */
function intervalText(store, i, column) {
  const found = ((store.data.details[store.ids[i]] || {}).intervals || {})[column.name];
  return found ? `${column.tell(found.lower)} to ${column.tell(found.upper)}` : "";
}

const intervalNote = store => `The small print spans ${percent(store.data.level)} of the error of the model and of the quality law; `
  + "prices and demand are taken as the study has them.";

const tip = column => `${column.name}${column.meaning ? `: ${column.meaning}` : ""}`;

function figures(columns, i, style, note = () => "") {
  const cell = column => [el("dt", {text: column.label}), el("dd", {}, column.value(i), el("small", {text: note(column)}))];
  return el("dl", {class: style}, columns.map(column => el("div", {title: tip(column)}, cell(column))));
}

const headline = (store, i) => figures(store.objectives, i, "headline", column => intervalText(store, i, column));

function configuration(store, i, groups) {
  return figures(store.columns.filter(column => groups.includes(column.group) && column.raw[i] !== null), i, "config");
}

function layoutLines(store, i, detail) {
  const replicas = unit => (store.byName.get(`${unit}.n_replicas`) || {raw: []}).raw[i] || 0;
  if (!detail || !(detail.layout || []).length) return null;
  return el("ul", {class: "layout"}, detail.layout.map(({unit, text, n_devices, batch}) =>
    el("li", {}, el("b", {text: words(unit)}), " ", el("code", {text}),
      ` on ${plural(n_devices, "device")}${isNumber(batch) ? `, batch ${show(batch)}` : ""}`,
      replicas(unit) > 1 && `, ${plural(replicas(unit), "replica")}`)));
}

// ---- time ------------------------------------------------------------------------------------------------

/** Seconds of each cause that show in one operator. Operators take the maximum of some causes and the sum of others; the
 *  causes that show are those that, with the binding one, explain time_s best. What remains is "other". */
function visibleCauses(op) {
  const own = Object.fromEntries(CAUSES.map(cause => [cause, op[`${cause}_s`] || 0]));
  const rest = CAUSES.filter(cause => cause !== "fixed" && cause !== op.bound);
  const sets = Array.from({length: 2 ** rest.length}, (_, bits) =>
    CAUSES.filter(cause => !rest.includes(cause) || (bits >> rest.indexOf(cause)) & 1));
  const total = set => sum(set.map(cause => own[cause])), miss = set => Math.abs(op.time_s - total(set));
  const best = sets.reduce((a, b) => (miss(b) < miss(a) - 1e-6 * op.time_s ? b : a));
  const scale = Math.min(1, op.time_s / total(best) || 1);
  const seen = Object.fromEntries(best.map(cause => [cause, own[cause] * scale])), other = op.time_s - total(best);
  return {...seen, other: other > 0.01 * op.time_s ? other : 0};
}

function causeParts(ops) {
  const seen = ops.map(visibleCauses);
  return [...CAUSES, "other"].map(cause => {
    const value = sum(seen.map(parts => parts[cause]));
    return {name: cause, style: `cause-${cause}`, value, text: show(value, "s")};
  });
}

const phaseName = ({phase, unit}) => `${capital(words(phase))} on ${words(unit)}`;
const ofPhase = (rows, {unit, phase}) => (rows || []).filter(row => row.unit === unit && row.phase === phase);

function phasesOf(...details) {
  const rows = details.flatMap(detail => [...(detail.bounds || []), ...(detail.operators || [])]);
  return [...new Map(rows.map(({unit, phase}) => [`${unit}/${phase}`, {unit, phase}])).values()];
}

/** Which devices or links work for how much of a step whose micro-batches overlap, and which of them it waits for. */
function busyText({busy}) {
  const shares = Object.entries(busy), [pace] = shares.reduce((a, b) => (b[1] > a[1] ? b : a));
  const list = shares.map(([name, share]) => `${name} ${percent(share)}`).join(", ");
  return `Micro-batches overlap: at work ${list} of the time, the pace is set by ${pace}; the rest is idle and paid for. Operators are those of all `
    + "micro-batches, on the device that runs them.";
}

function phaseTime(detail, key) {
  const ops = ofPhase(detail.operators, key).sort((a, b) => b.time_s - a.time_s), [bound] = ofPhase(detail.bounds, key);
  const parts = causeParts(ops), total = sum(ops.map(op => op.time_s)), longest = ops.length ? ops[0].time_s : 1;
  const shown = ops.length > MAX_OPERATORS ? ops.slice(0, MAX_OPERATORS - 1) : ops, rest = ops.slice(shown.length);
  const [lower, best, upper] = bound ? [bound.lower_s, bound.estimate_s, bound.upper_s].map(time => show(time, "s")) : [];
  const marks = bound ? [
    {style: "whisker", from: bound.lower_s, to: bound.upper_s, title: `lower ${lower}, upper ${upper}`},
    {style: "needle", from: bound.estimate_s, title: `estimate ${best}`},
  ] : [];
  const line = op => [
    el("span", {class: "bars-name", text: words(op.name)}), stackBar(causeParts([op]), longest),
    el("span", {class: "bars-value", text: show(op.time_s, "s")}), el("span", {class: "bound", text: `${op.bound} bound`}),
  ];
  return el("section", {class: "phase"},
    heading("h4", phaseName(key), bound && `${best} (lower ${lower}, upper ${upper})`),
    stackBar(parts, Math.max(total, bound ? bound.upper_s : 0) * 1.04, marks), legend(parts),
    bound && bound.busy && el("p", {class: "fine", text: busyText(bound)}),
    el("div", {class: "ops"}, shown.map(line)),
    rest.length > 0 && el("p", {class: "fine", text:
      `${rest.length} smaller operators take ${show(sum(rest.map(op => op.time_s)), "s")} together.`}));
}

// ---- memory, cost, lifecycle, constraints ----------------------------------------------------------------

function memoryBlock({memory, capacity = {}}) {
  const kinds = [...new Set(memory.map(row => row.class))];
  const device = unit => {
    const parts = memory.filter(row => row.unit === unit).map(row => ({
      name: words(row.class), value: row.bytes, text: show(row.bytes, "byte"), style: `kind-${kinds.indexOf(row.class) % 8}`,
    }));
    const used = sum(parts.map(part => part.value)), limit = capacity[unit], free = limit - used;
    const room = free >= 0 ? `${show(free, "byte")} free` : `${show(-free, "byte")} too much`;
    const text = isNumber(limit) ? `${show(used, "byte")} of ${show(limit, "byte")}, ${room}` : show(used, "byte");
    const marks = isNumber(limit) ? [{style: "needle", from: limit, title: `capacity ${show(limit, "byte")}`}] : [];
    return [heading("h4", capital(words(unit)), text), stackBar(parts, Math.max(used, limit || 0) * 1.02, marks), legend(parts)];
  };
  return el("section", {}, el("h3", {text: "Memory per device"}), [...new Set(memory.map(row => row.unit))].map(device));
}

function costBlock({cost}) {
  const items = [...cost].sort((a, b) => b.usd - a.usd), total = sum(items.map(item => item.usd));
  const bar = ({name, usd}) => ({name: words(name), value: usd, text: `${show(usd, "USD")}, ${percent(usd / total)}`});
  return el("section", {}, heading("h3", "Cost", show(total, "USD")), bars(items.map(bar), items[0].usd));
}

const LIFECYCLE = [
  ["tok", "Tokens", value => show(value, "tok")], ["flop", "FLOP", value => show(value, "FLOP")],
  ["device_s", "Device-hours", value => show(value / 3600)], ["energy_j", "Energy", value => show(value / 3600, "Wh")],
  ["usd", "USD", value => show(value, "USD")],
];

function balanceText({ratio, max_ratio}) {
  if (!max_ratio) return `Largest over smallest ${sig(ratio)}, no limit set.`;
  const verdict = ratio <= max_ratio ? "in balance" : "out of balance";
  return `Largest over smallest ${sig(ratio)}, limit ${sig(max_ratio)}: ${verdict}. The hatched band spans that factor. The ratio `
    + "counts every phase on its cheapest feasible layout, the bars what this design spends.";
}

function lifecycleBlock({lifecycle, balance}) {
  const of = balance ? String(balance.of) : "usd";
  const [key, title, write] = LIFECYCLE.find(([name]) => name.startsWith(of)) || LIFECYCLE.at(-1);
  const most = Math.max(...lifecycle.map(row => row[key] || 0)), limit = balance && balance.max_ratio;
  const band = limit ? {style: "band", from: most / limit, to: most, title: `within a factor ${sig(limit)} of the largest`} : null;
  const cell = (value, text) => el("td", {text: isNumber(value) ? text(value) : "–"});
  const line = row => el("tr", {},
    el("th", {scope: "row", text: words(row.phase)}), LIFECYCLE.map(([name, , text]) => cell(row[name], text)));
  return el("section", {}, el("h3", {text: `Lifecycle: ${title} by phase`}),
    bars(lifecycle.map(row => ({name: words(row.phase), value: row[key], text: write(row[key])})), most * 1.02, band),
    balance && el("p", {class: "fine", text: balanceText(balance)}),
    scroller("Lifecycle table", table(["Phase", ...LIFECYCLE.map(([, name]) => name)], lifecycle.map(line))));
}

function slackBlock({slack}) {
  const verdict = left => (left < 0 ? "violated" : left < 0.02 ? "binding" : "");
  const line = ({constraint, value, limit, unit, slack_frac}) => el("tr", {},
    el("th", {scope: "row", text: words(constraint)}),
    [show(value, unit), show(limit, unit), percent(slack_frac)].map(text => el("td", {text})),
    el("td", {class: "word"}, el("b", {text: verdict(slack_frac)})));
  const rows = [...slack].sort((a, b) => a.slack_frac - b.slack_frac);
  return el("section", {}, el("h3", {text: "Room left in each constraint"}),
    scroller("Constraint slack", table(["Constraint", "Value", "Limit", "Slack", "<"], rows.map(line))));
}

// ---- the section -----------------------------------------------------------------------------------------

const TIME_NOTE = "Bars add up the causes that show; what ran behind them is left out. The line is the estimate, the bracket "
  + "spans the roofline bounds, from everything overlapped to nothing overlapped.";
const NO_DETAIL = "This page carries operators, memory and cost of a few designs only. To see them for this one:";

function drawDesign(store) {
  const {chosen, pins} = store.state, i = store.indexOf(chosen), detail = store.data.details[chosen];
  const pick = store.data.picks.find(one => one.id === chosen), pinned = pins.includes(chosen);
  const has = key => detail && (detail[key] || []).length > 0;
  const fit = store.front[i] ? "on the front" : "feasible, not on the front";
  const rank = store.feasible[i] ? fit : `infeasible, ${store.why(i)}`;
  const pin = el("button", {type: "button", "aria-pressed": String(pinned), text: pinned ? "Unpin" : "Pin for comparison",
    on: {click: () => { store.pin(chosen); byId("design-body").querySelector("[aria-pressed]").focus(); }}});
  byId("design-body").replaceChildren(...[
    el("p", {class: "lede"}, el("b", {text: `#${chosen}`}), ` ${pick ? `${pick.name}, ` : ""}${rank}. `, pin),
    layoutLines(store, i, detail), headline(store, i),
    detail && detail.intervals && el("p", {class: "fine", text: intervalNote(store)}),
    configuration(store, i, ["architecture", "precision", "hardware", "lifecycle"]),
    el("details", {}, el("summary", {text: "Layout in full, and all metrics"}),
      configuration(store, i, ["deployment"]), configuration(store, i, ["metric"])),
    (has("operators") || has("bounds")) && el("section", {},
      el("h3", {text: "Where the time goes"}), el("p", {class: "fine", text: TIME_NOTE}),
      el("div", {class: "two"}, phasesOf(detail).map(key => phaseTime(detail, key)))),
    el("div", {class: "two"}, has("memory") && memoryBlock(detail), has("cost") && costBlock(detail),
      has("lifecycle") && lifecycleBlock(detail), has("slack") && slackBlock(detail)),
    has("notes") && el("ul", {class: "notes"}, detail.notes.map(text => el("li", {text}))),
    !detail && el("p", {class: "fine", text: NO_DETAIL}), !detail && command(runCommand(store, "show", chosen)),
    exportPicker(store, chosen),
  ].filter(Boolean));
  drawCompare(store);
}

// ---- side by side ----------------------------------------------------------------------------------------

const SHAPE_GROUPS = ["objective", "architecture", "precision", "hardware", "lifecycle"];

/** What a pinned design has in a column, its interval, and how many times that of the first one it is. */
function pinnedCell(store, rows, i, column) {
  const [here, first] = [column.v[i], column.v[rows[0]]], ratio = column.direction && i !== rows[0] && first > 0 && here > 0;
  return [column.value(i), el("small", {class: "interval", text: intervalText(store, i, column)}),
    ratio && here !== first && el("small", {class: "interval", text: `${sig(tidy(here / first, 3))}× the first`})];
}

/** Up to three pinned designs: shape and results that differ, layouts and time by cause, then the rest, and what they share. */
function drawCompare(store) {
  const rows = store.state.pins.map(store.indexOf), details = rows.map(i => store.data.details[store.ids[i]] || {});
  byId("compare").hidden = !rows.length;
  const differs = column => rows.length < 2 || rows.some(i => column.value(i) !== column.value(rows[0]));
  const ordered = [...store.objectives, ...store.columns.filter(column => column.group !== "objective")];
  const line = (name, cells, title) =>
    el("tr", {title}, el("th", {scope: "row", text: name}), cells.map(cell => el("td", {}, cell)));
  const values = column => line(column.label, rows.map(i => pinnedCell(store, rows, i, column)), tip(column));
  const head = id => el("th", {scope: "col"},
    el("button", {type: "button", class: "link", text: `#${id}`, on: {click: () => store.choose(id)}}), " ",
    el("button", {type: "button", class: "quiet", text: "Unpin", "aria-label": `Unpin ${id}`, on: {click: () => store.pin(id)}}));
  const layoutOf = (detail, unit) =>
    (detail.layout || []).filter(one => one.unit === unit).map(one => el("code", {text: one.text}));
  const units = [...new Set(details.flatMap(detail => (detail.layout || []).map(one => one.unit)))];
  const timeLine = key => {
    const parts = details.map(detail => causeParts(ofPhase(detail.operators, key)));
    const full = Math.max(...parts.map(list => sum(list.map(part => part.value)))) || 1;
    return line(`${phaseName(key)}, by cause`, parts.map(list => [stackBar(list, full), legend(list)]));
  };
  const sheet = lines => el("table", {class: "compare"},
    el("thead", {}, el("tr", {}, el("td"), store.state.pins.map(head))), el("tbody", {}, lines));
  const different = ordered.filter(differs), [lead, rest] = [true, false].map(wanted =>
    different.filter(column => SHAPE_GROUPS.includes(column.group) === wanted));
  const same = ordered.filter(column => !differs(column)).map(column => `${column.label} ${column.value(rows[0])}`).join(", ");
  byId("compare-body").replaceChildren(
    scroller("Pinned designs side by side", sheet([
      ...lead.map(values), ...units.map(unit => line(`${capital(words(unit))} layout`, details.map(detail => layoutOf(detail, unit)))),
      ...phasesOf(...details).map(timeLine)])),
    rest.length ? el("details", {}, el("summary", {text: `${plural(rest.length, "other figure")} that differ`}),
      scroller("Other figures that differ", sheet(rest.map(values)))) : "",
    el("p", {class: "fine", text: rows.length > 1 && same ? `The same in all: ${same}.` : ""}));
}
