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

// ---- numbers -------------------------------------------------------------------------------------------------

const PREFIXES = [[1e18, "E"], [1e15, "P"], [1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"], [1, ""], [1e-3, "m"], [1e-6, "µ"], [1e-9, "n"]];
const COUNTS = [[1e12, "T"], [1e9, "B"], [1e6, "M"]];  // as the field says it: 671B parameters
const TIMES = [[31557600, "yr", 63115200], [86400, "day", 172800], [3600, "h", 7200], [60, "min", 120], [1, "s"], [1e-3, "ms"], [1e-6, "µs"], [1e-9, "ns"]];
const PREFIXED = /^(byte|bit\/s|FLOP|tok|W|J|Wh|USD)(\/.*)?$/;
const DIGITS = "⁰¹²³⁴⁵⁶⁷⁸⁹";
const grouped = new Intl.NumberFormat("en-US", {maximumFractionDigits: 0});
const three = new Intl.NumberFormat("en-US", {maximumSignificantDigits: 3});
const isNumber = value => typeof value === "number" && Number.isFinite(value);

function power(exponent) {
  return (exponent < 0 ? "⁻" : "") + [...String(Math.abs(exponent))].map(digit => DIGITS[digit]).join("");
}

/** Human unit for an SI value of this size: value / div is what to print, followed by unit. */
function unitScale(unit, size) {
  const choose = table => table.find(([div, , least = div]) => size >= least * 0.9995) || table.at(-1);
  if (!(size > 0)) return {div: 1, unit: unit === "byte" ? "B" : unit};
  if (unit === "s") { const [div, name] = choose(TIMES); return {div, unit: name}; }
  if (unit === "USD/s") return {div: 1 / 3600, unit: "USD/h"};
  if (unit === "" || unit === "1") {
    const found = COUNTS.find(([div]) => size >= div);
    if (found && size < 1e15) return {div: found[0], unit: found[1], glued: true};
    return {div: 1, unit: ""};
  }
  const [, base, rest = ""] = PREFIXED.exec(unit) || [];
  if (!base || (base === "USD" && rest)) return {div: 1, unit};
  if (base === "FLOP" && size >= 1e21) {
    const exponent = Math.floor(Math.log10(size));
    return {div: 10 ** exponent, unit: `×10${power(exponent)} FLOP${rest}`, glued: true};
  }
  const whole = base === "W" || base === "J" || base === "Wh" ? PREFIXES : PREFIXES.filter(([div]) => div >= 1);
  const [div, prefix] = choose(whole);
  return {div, unit: prefix + (base === "byte" ? "B" : base) + rest};
}

/** Three significant digits; whole numbers below a million stay whole, because 7168 is a name as much as a size. */
function sig(value) {
  if (!isNumber(value)) return "–";
  if (Number.isInteger(value) && Math.abs(value) < 1e6) return grouped.format(value);
  const size = Math.abs(value);
  if (size < 1e-3 || size >= 1e6) {
    const exponent = Math.floor(Math.log10(size));
    return `${three.format(value / 10 ** exponent)}×10${power(exponent)}`;
  }
  return three.format(value);
}

function show(value, unit = "") {
  if (value === null || value === undefined) return "–";
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (!isNumber(value)) return String(value);
  const scale = unitScale(unit, Math.abs(value));
  const text = sig(value / scale.div);
  if (!scale.unit) return text;
  const many = /^(day|device|rack|tray)$/.test(scale.unit) && text !== "1" ? "s" : "";
  return text + (scale.glued ? "" : "\u00a0") + scale.unit + many;
}

const percent = share => isNumber(share) ? `${share !== 0 && Math.abs(share) < 0.1 ? sig(share * 100) : Math.round(share * 100)} %` : "–";
const plural = (n, one, many = one + "s") => `${grouped.format(n)} ${n === 1 ? one : many}`;

// ---- scales --------------------------------------------------------------------------------------------------

function makeScale(lo, hi, log) {
  if (!(hi > lo)) [lo, hi] = log ? [lo / 1.5, hi * 1.5] : [lo - (Math.abs(lo) * 0.1 || 0.5), hi + (Math.abs(hi) * 0.1 || 0.5)];
  const to = log ? Math.log : value => value, back = log ? Math.exp : value => value;
  const start = to(lo), length = to(hi) - start;
  return {lo, hi, log, at: value => (to(value) - start) / length, inv: share => back(start + share * length)};
}

/** Round values between the ends of a scale, about n of them, round in the unit that will be printed. */
function ticks(scale, n, div = 1) {
  const lo = scale.lo / div, hi = scale.hi / div, decades = scale.log ? Math.log10(hi / lo) : 0, found = [];
  if (decades > 0.9) {
    const mantissas = decades > 3 ? [1] : decades > 1.6 ? [1, 3] : [1, 2, 5], stride = Math.max(1, Math.round(decades / n));
    for (let e = Math.floor(Math.log10(lo)); e <= Math.ceil(Math.log10(hi)); e += stride)
      for (const mantissa of mantissas) found.push(mantissa * 10 ** e);
  } else {
    const raw = (hi - lo) / n, unit = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 5, 10].map(m => m * unit).find(s => s >= raw * 0.999);
    for (let k = Math.ceil(lo / step - 1e-9); k * step <= hi * (1 + 1e-12); k++) found.push(k * step);
  }
  return found.filter(v => v >= lo * (lo > 0 ? 0.999999 : 1.000001) && v <= hi * 1.000001).map(v => Number(v.toPrecision(10)) * div);
}

// ---- bars ----------------------------------------------------------------------------------------------------

/** One stacked bar: parts [{name, value, style (a CSS class), text}], on a track that ends at `full`. */
function stackBar(parts, full, marks = []) {
  const share = value => `${Math.max(0, Math.min(100, 100 * value / full)).toFixed(3)}%`;
  return el("div", {class: "bar"},
    parts.filter(part => part.value > 0).map(part =>
      el("span", {class: `seg ${part.style}`, style: {width: share(part.value)}, title: `${part.name}: ${part.text}`})),
    marks.map(mark => el("i", {class: `mark ${mark.style}`, title: mark.title,
      style: {left: share(mark.from), width: mark.to === undefined ? null : share(mark.to - mark.from)}})));
}

function legend(parts) {
  return el("ul", {class: "legend"}, parts.map(part =>
    el("li", {}, el("span", {class: `key ${part.style}`}), `${part.name} `, part.text ? el("b", {text: part.text}) : null)));
}

/** Labelled horizontal bars, longest name first column: [{name, value, text}]. */
function bars(items, full, {style = "plain", band = null} = {}) {
  return el("div", {class: "bars"}, items.map(item => [
    el("span", {class: "bars-name", text: item.name}),
    stackBar([{name: item.name, value: item.value, style, text: item.text}], full, band ? [band] : []),
    el("span", {class: "bars-value", text: item.text})]));
}

function svg(tag, attributes, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children.flat());
  return node;
}

/** Step line of points [[x, y]] with axes; x in plain counts. */
function lineChart(points, {xLabel, yLabel, label, width}) {
  const [w, h, left, right, top, bottom] = [width, 250, 56, 24, 14, 44];
  const xs = points.map(p => p[0]), ys = points.map(p => p[1]);
  const x = makeScale(Math.min(...xs), Math.max(...xs), Math.min(...xs) > 0 && Math.max(...xs) / Math.min(...xs) > 200);
  const y = makeScale(Math.min(...ys, 0), Math.max(...ys) * 1.04 || 1, false);
  const px = v => left + x.at(v) * (w - left - right), py = v => h - bottom - y.at(v) * (h - top - bottom);
  const path = points.map((p, i) => i ? `H${px(p[0]).toFixed(1)}V${py(p[1]).toFixed(1)}` : `M${px(p[0]).toFixed(1)} ${py(p[1]).toFixed(1)}`).join("");
  const words = (text, cls, at) => { const node = svg("text", {class: cls, ...at}); node.textContent = text; return node; };
  return svg("svg", {viewBox: `0 0 ${w} ${h}`, width: w, height: h, class: "line-chart", role: "img", "aria-label": label},
    ticks(y, 4).map(v => [svg("line", {class: "grid", x1: left, x2: w - right, y1: py(v), y2: py(v)}),
      words(sig(v), "tick", {x: left - 8, y: py(v) + 4, "text-anchor": "end"})]).flat(),
    ticks(x, w / 130).map(v => words(show(v), "tick", {x: px(v), y: h - bottom + 18, "text-anchor": "middle"})),
    svg("path", {class: "line", d: path}),
    words(xLabel, "axis", {x: (left + w - right) / 2, y: h - 4, "text-anchor": "middle"}),
    words(yLabel, "axis", {x: 14, y: (top + h - bottom) / 2, "text-anchor": "middle", transform: `rotate(-90 14 ${(top + h - bottom) / 2})`}));
}

// ---- small controls ------------------------------------------------------------------------------------------

function copyButton(text, label = "Copy") {
  const button = el("button", {type: "button", class: "quiet copy", "data-copy": text, "aria-label": `${label}: ${text}`, text: label, on: {click: async () => {
    try { await navigator.clipboard.writeText(text); } catch {  // older browsers and denied permission
      const area = el("textarea", {class: "away"}); area.value = text;
      document.body.append(area); area.select(); document.execCommand("copy"); area.remove();
    }
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = label; }, 1500);
  }}});
  return button;
}

function download(name, text, type) {
  const url = URL.createObjectURL(new Blob([text], {type}));
  const link = el("a", {href: url, download: name});
  document.body.append(link); link.click(); link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}

function command(text) {
  return el("div", {class: "command"}, el("code", {text}), copyButton(text));
}
