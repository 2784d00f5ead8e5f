// Numbers, scales and bars. No state, and no knowledge of the study.
// Text reaches the page through textContent and append(string) only, so a hostile name stays text.

function el(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (key === "text") node.textContent = value;
    else if (key === "on") for (const [name, run] of Object.entries(value)) node.addEventListener(name, run);
    else if (key === "style") for (const [name, text] of Object.entries(value)) node.style.setProperty(name, text);
    else node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.flat(2).filter(child => child !== null && child !== undefined && child !== false));
  return node;
}

const byId = id => document.getElementById(id);
const isNumber = value => typeof value === "number" && Number.isFinite(value);
const sum = list => list.reduce((total, value) => total + (value || 0), 0);
const words = name => String(name).replaceAll("_", " ");
const breakable = text => text.split("_").flatMap((part, k) => (k ? ["_", el("wbr"), part] : [part]));  // n_active_|experts
const capital = text => text.charAt(0).toUpperCase() + text.slice(1);

// ---- numbers ---------------------------------------------------------------------------------------------

const PREFIXES = [
  [1e18, "E"], [1e15, "P"], [1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"], [1, ""], [1e-3, "m"], [1e-6, "µ"], [1e-9, "n"],
];
const COUNTS = [[1e12, "T"], [1e9, "B"], [1e6, "M"]];  // as the field says it: 671B parameters
const TIMES = [  // the third number is where a unit starts to be used: 90 s, but 2 min
  [31557600, "yr", 63115200], [86400, "day", 172800], [3600, "h", 7200], [60, "min", 120], [1, "s"],
  [1e-3, "ms"], [1e-6, "µs"], [1e-9, "ns"],
];
const PREFIXED = /^(byte|bit\/s|FLOP|tok|W|J|Wh|USD)(\/.*)?$/;
const DIGITS = "⁰¹²³⁴⁵⁶⁷⁸⁹";
const grouped = new Intl.NumberFormat("en-US", {maximumFractionDigits: 0});
const three = new Intl.NumberFormat("en-US", {maximumSignificantDigits: 3});

const power = n => (n < 0 ? "⁻" : "") + [...String(Math.abs(n))].map(digit => DIGITS[digit]).join("");
const plural = (n, one) => `${grouped.format(n)} ${one}${n === 1 ? "" : "s"}`;
const tidy = (value, digits) => Number(value.toPrecision(digits));

function percent(share) {
  if (!isNumber(share)) return "–";
  if (Math.abs(share) < 5e-5) return "0 %";
  return `${share !== 0 && Math.abs(share) < 0.1 ? sig(share * 100) : Math.round(share * 100)} %`;
}

/** Human unit for an SI value of this size: value / div is what to print, followed by unit. */
function unitScale(unit, size) {
  const choose = table => table.find(([div, , least = div]) => size >= least * 0.9995) || table.at(-1);
  if (!(size > 0)) return {div: 1, unit: unit === "byte" ? "B" : unit};
  if (unit === "s") {
    const [div, name] = choose(TIMES);
    return {div, unit: name};
  }
  if (unit === "J" && size >= 3.6e9) {
    const {div, unit: name} = unitScale("Wh", size / 3600);
    return {div: div * 3600, unit: name};
  }
  if (unit === "USD/s") return {div: 1 / 3600, unit: "USD/h"};
  if (unit === "" || unit === "1") {
    const found = size < 1e15 && COUNTS.find(([div]) => size >= div);
    return found ? {div: found[0], unit: found[1], glued: true} : {div: 1, unit: ""};
  }
  const [, base, rest = ""] = PREFIXED.exec(unit) || [];
  if (!base || (base === "USD" && rest)) return {div: 1, unit};
  if (base === "FLOP" && size >= 1e21) {
    const exponent = Math.floor(Math.log10(size));
    return {div: 10 ** exponent, unit: `×10${power(exponent)} FLOP${rest}`, glued: true};
  }
  const divides = ["W", "J", "Wh"].includes(base);  // no milli-bytes, no milli-dollars
  const [div, prefix] = choose(divides ? PREFIXES : PREFIXES.filter(([each]) => each >= 1));
  return {div, unit: prefix + (base === "byte" ? "B" : base) + rest};
}

/** Three significant digits; whole numbers below a million stay whole, because 7168 is a name as much as a size. */
function sig(value) {
  if (!isNumber(value)) return "–";
  if (Number.isInteger(value) && Math.abs(value) < 1e6) return grouped.format(value);
  const size = Math.abs(value);
  if (size >= 1e-3 && size < 1e6) return three.format(value);
  const exponent = Math.floor(Math.log10(size));
  return `${three.format(value / 10 ** exponent)}×10${power(exponent)}`;
}

function show(value, unit = "") {
  if (value === null || value === undefined) return "–";
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (!isNumber(value)) return String(value);
  const scale = unitScale(unit, Math.abs(value)), text = sig(value / scale.div);
  if (!scale.unit) return text;
  const many = /^(day|device|rack|tray)$/.test(scale.unit) && text !== "1" ? "s" : "";
  return text + (scale.glued ? "" : "\u00a0") + scale.unit + many;
}

// ---- scales ----------------------------------------------------------------------------------------------

function makeScale(lo, hi, log) {
  if (!(hi > lo)) {  // one value: give it room
    const room = Math.abs(lo) * 0.1 || 0.5;
    [lo, hi] = log ? [lo / 1.5, hi * 1.5] : [lo - room, hi + room];
  }
  const to = log ? value => (value > 0 ? Math.log(value) : NaN) : value => value, back = log ? Math.exp : value => value;
  const start = to(lo), length = to(hi) - start;
  return {lo, hi, log, at: value => (to(value) - start) / length, inv: share => back(start + share * length)};
}

/** Round values between the ends of a scale, about n of them, round in the unit that will be printed. */
function ticks(scale, n, div = 1) {
  const lo = scale.lo / div, hi = scale.hi / div, decades = scale.log ? Math.log10(hi / lo) : 0, found = [];
  if (decades > 0.9) {
    const mantissas = decades > 3 ? [1] : decades > 1.6 ? [1, 3] : [1, 2, 5];
    const stride = Math.max(1, Math.round(decades / n));
    for (let e = Math.floor(Math.log10(lo)); e <= Math.ceil(Math.log10(hi)); e += stride)
      for (const mantissa of mantissas) found.push(mantissa * 10 ** e);
  } else {
    const raw = (hi - lo) / n, unit = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 5, 10].map(m => m * unit).find(s => s >= raw * 0.999);
    for (let k = Math.ceil(lo / step - 1e-9); k * step <= hi + 1e-9 * step; k++) found.push(k * step);
  }
  const slack = (hi - lo) * 1e-9;
  return found.filter(v => v >= lo - slack && v <= hi + slack).map(v => tidy(v, 10) * div);
}

// ---- bars ------------------------------------------------------------------------------------------------

/** One stacked bar: parts [{name, value, style (a CSS class), text}], on a track that ends at `full`. */
function stackBar(parts, full, marks = []) {
  const share = value => `${Math.max(0, Math.min(100, (100 * value) / full)).toFixed(3)}%`;
  const segment = part =>
    el("span", {class: `seg ${part.style}`, style: {width: share(part.value)}, title: `${part.name}: ${part.text}`});
  const flag = ({style, title, from, to}) =>
    el("i", {class: `mark ${style}`, title, style: {left: share(from), width: to === undefined ? null : share(to - from)}});
  return el("div", {class: "bar"}, parts.filter(part => part.value > 0).map(segment), marks.map(flag));
}

function legend(parts) {
  const item = part => el("li", {}, el("span", {class: `key ${part.style}`}), `${part.name} `, el("b", {text: part.text}));
  return el("ul", {class: "legend"}, parts.filter(part => part.value > 0).map(item));
}

/** Labelled horizontal bars [{name, value, text}], with an optional band behind the values that are allowed. */
function bars(items, full, band = null) {
  return el("div", {class: "bars"}, items.map(item => [
    el("span", {class: "bars-name", text: item.name}),
    stackBar([{...item, style: "plain"}], full, band ? [band] : []),
    el("span", {class: "bars-value", text: item.text}),
  ]));
}

function svg(tag, attributes, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children.flat(2));
  return node;
}

/** Step line through points [[x, y]], x a plain count. */
function lineChart(points, {xLabel, yLabel, label, width}) {
  const [w, h, left, right, top, bottom] = [width, 250, 56, 24, 14, 44];
  const xs = points.map(p => p[0]), ys = points.map(p => p[1]), low = Math.min(...xs), high = Math.max(...xs);
  const x = makeScale(low, high, low > 0 && high / low > 200);
  const y = makeScale(Math.min(...ys, 0), Math.max(...ys) * 1.04 || 1, false);
  const px = v => left + x.at(v) * (w - left - right), py = v => h - bottom - y.at(v) * (h - top - bottom);
  const steps = points.map(([a, b], k) => (k ? `H${px(a).toFixed(1)}V${py(b).toFixed(1)}` : `M${px(a)} ${py(b)}`));
  const middle = (top + h - bottom) / 2;
  return svg("svg", {viewBox: `0 0 ${w} ${h}`, width: w, height: h, class: "line-chart", role: "img", "aria-label": label},
    ticks(y, 4).map(v => [
      svg("line", {class: "grid", x1: left, x2: w - right, y1: py(v), y2: py(v)}),
      svg("text", {x: left - 8, y: py(v) + 4, "text-anchor": "end"}, sig(v)),
    ]),
    ticks(x, w / 130).map(v => svg("text", {x: px(v), y: h - bottom + 18, "text-anchor": "middle"}, show(v))),
    svg("path", {class: "line", d: steps.join("")}),
    svg("text", {class: "axis", x: (left + w - right) / 2, y: h - 4, "text-anchor": "middle"}, xLabel),
    svg("text", {class: "axis", x: 14, y: middle, "text-anchor": "middle", transform: `rotate(-90 14 ${middle})`}, yLabel));
}

// ---- small parts -----------------------------------------------------------------------------------------

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {  // an old browser, or permission denied
    const area = el("textarea", {class: "away"});
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
}

function copyButton(text, label = "Copy") {
  const button = el("button", {type: "button", class: "quiet copy", "data-copy": text, text: label, on: {click: async () => {
    await copy(text);
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = label; }, 1500);
  }}});
  return button;
}

const command = text => el("div", {class: "command"}, el("code", {text}), copyButton(text));

function download(name, text, type) {
  const url = URL.createObjectURL(new Blob([text], {type}));
  const link = el("a", {href: url, download: name});
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}

/** A part that scrolls by itself, by keyboard too, so that the page never does. */
const scroller = (label, ...children) =>
  el("div", {class: "scroll", tabindex: "0", role: "region", "aria-label": label}, ...children);

/** Columns of words are named "<text" and set left. */
function table(head, rows) {
  const cell = text => el("th", {scope: "col", class: text.startsWith("<") ? "word" : null, text: text.replace("<", "")});
  return el("table", {}, el("thead", {}, el("tr", {}, head.map(cell))), el("tbody", {}, rows));
}
