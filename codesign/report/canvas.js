// What the two canvas plots share: colours and shapes of rows, axes, layers, marks. Colours come from the style sheet.

const N_BINS = 12, N_CLASSES = 8;
const SHAPES = ["circle", "square", "triangle", "diamond", "down", "plus", "bar", "post"];
const GLYPHS = {  // the same shapes in the key
  circle: "●", square: "■", triangle: "▲", diamond: "◆", down: "▼", plus: "✚", bar: "▬", post: "▮",
};
const CORNERS = {  // in units of the mark's radius
  square: [-0.9, -0.9, 0.9, -0.9, 0.9, 0.9, -0.9, 0.9],
  triangle: [0, -1.2, 1.1, 0.8, -1.1, 0.8],
  diamond: [0, -1.3, 1.3, 0, 0, 1.3, -1.3, 0],
  down: [0, 1.2, 1.1, -0.8, -1.1, -0.8],
  bar: [-1.4, -0.5, 1.4, -0.5, 1.4, 0.5, -1.4, 0.5],
  post: [-0.5, -1.4, 0.5, -1.4, 0.5, 1.4, -0.5, 1.4],
  plus: [-0.4, -1.3, 0.4, -1.3, 0.4, -0.4, 1.3, -0.4, 1.3, 0.4, 0.4, 0.4,
    0.4, 1.3, -0.4, 1.3, -0.4, 0.4, -1.3, 0.4, -1.3, -0.4, -0.4, -0.4],
};
const PAPER = 680;  // a printed page is this wide, whatever the window
const onPaper = () => matchMedia("print").matches;
const css = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const placed = (x, y) => x === x && y === y;  // NaN is not itself

function mix(a, b, share) {
  const part = (hex, k) => parseInt(hex.slice(1 + 2 * k, 3 + 2 * k), 16);
  const blend = k => Math.round(part(a, k) + (part(b, k) - part(a, k)) * share);
  return "#" + [0, 1, 2].map(k => blend(k).toString(16).padStart(2, "0")).join("");
}

function ramp(share) {
  const stops = [css("--ramp-0"), css("--ramp-1"), css("--ramp-2")], k = share < 0.5 ? 0 : 1;
  return mix(stops[k], stops[k + 1], share * 2 - k);
}

/** Colour and shape of every row under the colouring column. `bin[i]` points into both; the last bin is "no value".
 *  Classes differ in shape too, so that colour is never the only cue. */
function makePaint(store) {
  const column = store.column("c");
  if (!column) return {bin: new Uint8Array(store.n), colours: [css("--accent")], shapes: ["circle"]};
  const classes = column.levels || (column.steps && column.steps.length <= N_CLASSES ? column.steps : null);
  return classes ? paintClasses(store, column, classes) : paintRamp(store, column);
}

const reasonOf = (store, i) => store.killedBy[i] || "a constraint";

/** [constraint, colour, designs that it ruled out] of the infeasible rows in play, the deadliest first. */
function deathColours(store) {
  const tally = new Map();
  for (let i = 0; i < store.n; i++)
    if (store.base[i] && !store.feasible[i]) tally.set(reasonOf(store, i), (tally.get(reasonOf(store, i)) || 0) + 1);
  const order = [...tally].sort((a, b) => b[1] - a[1]);
  return order.map(([reason, n], k) => [reason, css(`--class-${Math.min(k, N_CLASSES - 1)}`), n]);
}

function paintClasses(store, column, classes) {
  const n = Math.min(classes.length, N_CLASSES), place = column.levels ? v => v : v => classes.indexOf(v);
  const bin = Uint8Array.from(column.v, v => (Number.isNaN(v) ? n : Math.min(place(v), n - 1)));
  const colours = Array.from({length: n}, (_, k) => (column.levels ? css(`--class-${k}`) : ramp(k / Math.max(1, n - 1))));
  const items = colours.map((colour, k) =>
    ({colour, shape: SHAPES[k], text: k === n - 1 && classes.length > n ? "all others" : column.tell(classes[k])}));
  return {column, bin, items, colours: [...colours, css("--muted")], shapes: [...SHAPES.slice(0, n), "circle"]};
}

function paintRamp(store, column) {
  let lo = Infinity, hi = -Infinity;
  for (let i = 0; i < store.n; i++)
    if (store.base[i] && column.v[i] === column.v[i]) [lo, hi] = [Math.min(lo, column.v[i]), Math.max(hi, column.v[i])];
  const scale = lo <= hi ? makeScale(lo, hi, column.log) : makeScale(0, 1, false);
  const step = v => Math.max(0, Math.min(N_BINS - 1, Math.floor(scale.at(v) * N_BINS)));
  const bin = Uint8Array.from(column.v, v => (Number.isNaN(v) ? N_BINS : step(v)));
  const colours = Array.from({length: N_BINS}, (_, k) => ramp(k / (N_BINS - 1)));
  return {column, scale, bin, colours: [...colours, css("--muted")], shapes: new Array(N_BINS + 1).fill("circle")};
}

/** Evenly spaced places for classes and for short lists of numbers. `range` snaps a stretch of the axis to them. */
function evenAxis(column, places) {
  const n = places.length, place = new Map(places.map((value, k) => [value, (k + 0.5) / n]));
  const text = k => (column.levels ? show(column.levels[k]) : sig(tidy(places[k] / column.div, 6)));
  return {
    lo: places[0], hi: places[n - 1], at: value => place.get(value) ?? NaN,
    ticks: places.map((_, k) => ({at: (k + 0.5) / n, text: text(k)})),
    range: (from, to) => {
      const first = Math.max(0, Math.ceil(from * n - 0.5)), last = Math.min(n - 1, Math.floor(to * n - 0.5));
      return first <= last ? [places[first], places[last]] : null;
    },
    span: ([lo, hi]) => {
      const inside = places.map((_, k) => k).filter(k => places[k] >= lo && places[k] <= hi);
      return inside.length ? [(inside[0] + 0.08) / n, (inside.at(-1) + 0.92) / n] : [0, 0];
    },
  };
}

/** An axis turns values into shares of its length (`at`) and stretches of it into limits (`range`) and back (`span`).
 *  A stretch that reaches an end is open there, so that rounding cannot lose the extreme rows. */
function makeAxis(column, base, {log = false, even = false, extra = [], count = 5, margin = 0} = {}) {
  const places = column.levels ? column.levels.map((_, k) => k) : even ? column.steps : null;
  if (places && places.length) return evenAxis(column, places);
  let lo = Infinity, hi = -Infinity;
  const take = v => {
    if (Number.isFinite(v) && (!log || v > 0)) [lo, hi] = [Math.min(lo, v), Math.max(hi, v)];
  };
  for (let i = 0; i < base.length; i++) if (base[i]) take(column.v[i]);
  extra.forEach(take);
  const tight = lo <= hi ? makeScale(lo, hi, log) : makeScale(0, 1, false);
  const scale = makeScale(tight.inv(-margin), tight.inv(1 + margin), tight.log);
  const clamp = share => Math.max(0, Math.min(1, share));
  return {
    lo: scale.lo, hi: scale.hi, at: scale.at,
    ticks: ticks(scale, count, column.div).map(v => ({at: scale.at(v), text: sig(tidy(v / column.div, 6))})),
    range: (from, to) => [from <= 0 ? -Infinity : scale.inv(from), to >= 1 ? Infinity : scale.inv(to)],
    span: ([from, to]) => [from <= scale.lo ? 0 : clamp(scale.at(from)), to >= scale.hi ? 1 : clamp(scale.at(to))],
  };
}

function layer(parent, attributes = {}) {
  const canvas = parent.appendChild(el("canvas", attributes)), ctx = canvas.getContext("2d");
  let blank = true;  // browsers print a canvas as drawing commands, where a needless clear hides the layers below
  function size(width, height) {
    const ratio = Math.min(window.devicePixelRatio || 1, 2);
    canvas.width = width * ratio;
    canvas.height = height * ratio;
    canvas.style.width = `${width}px`;
    canvas.style.height = `${height}px`;
    ctx.setTransform(ratio, 0, 0, ratio, 0, 0);
    blank = true;
  }
  function clear() {
    if (!blank) {
      ctx.save();
      ctx.resetTransform();
      ctx.clearRect(0, 0, canvas.width, canvas.height);
      ctx.restore();
    }
    blank = false;
  }
  return {canvas, ctx, size, clear};
}

/** Stroke and fill settings for the length of one drawing. */
function pen(ctx, {stroke, fill, width = 1, alpha = 1, dash = []}, draw) {
  ctx.save();
  if (stroke) ctx.strokeStyle = stroke;
  if (fill) ctx.fillStyle = fill;
  ctx.lineWidth = width;
  ctx.globalAlpha = alpha;
  ctx.setLineDash(dash);
  ctx.beginPath();
  draw(ctx);
  if (fill) ctx.fill();
  if (stroke) ctx.stroke();
  ctx.restore();
}

function mark(ctx, shape, x, y, r) {
  if (shape === "circle") {
    ctx.moveTo(x + r, y);
    ctx.arc(x, y, r, 0, 7);
    return;
  }
  const corners = CORNERS[shape];
  for (let k = 0; k < corners.length; k += 2) ctx[k ? "lineTo" : "moveTo"](x + r * corners[k], y + r * corners[k + 1]);
  ctx.closePath();
}

/** Text with a halo of the page's colour, so that it reads over points and lines. */
function haloText(ctx, text, x, y, limit) {
  ctx.lineJoin = "round";
  ctx.strokeStyle = css("--paper");
  ctx.lineWidth = 3.5;
  ctx.strokeText(text, x, y, limit);
  ctx.fillStyle = css("--ink");
  ctx.fillText(text, x, y, limit);
}
