// Scatter and parallel coordinates on canvas, linked through the store. Colours come from the style sheet.

const css = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const PAPER = 680, onPaper = () => matchMedia("print").matches;  // a printed page is this wide, whatever the window
const N_BINS = 12, N_PALETTE = 8;
const SHAPES = ["circle", "square", "triangle", "diamond", "down", "plus", "bar", "post"];

function mix(a, b, share) {
  const part = (hex, k) => parseInt(hex.slice(1 + 2 * k, 3 + 2 * k), 16);
  return "#" + [0, 1, 2].map(k => Math.round(part(a, k) + (part(b, k) - part(a, k)) * share).toString(16).padStart(2, "0")).join("");
}

function ramp(share) {
  const stops = [css("--ramp-0"), css("--ramp-1"), css("--ramp-2")], k = share < 0.5 ? 0 : 1;
  return mix(stops[k], stops[k + 1], share * 2 - k);
}

/** Colour and shape of every row under the chosen column; classes get a shape too, so colour is never the only cue. */
function makePaint(store) {
  const column = store.byName.get(store.state.c), bin = new Uint8Array(store.n);
  if (!column) return {bin, colours: [css("--accent")], shapes: ["circle"], items: null, column: null};
  const classes = column.levels || (column.steps && column.steps.length <= N_PALETTE ? column.steps : null);
  if (classes) {
    const code = column.levels ? v => v : v => column.steps.indexOf(v), last = Math.min(classes.length, N_PALETTE) - 1;
    for (let i = 0; i < store.n; i++) bin[i] = Number.isNaN(column.v[i]) ? last + 1 : Math.min(code(column.v[i]), last);
    const colours = classes.slice(0, last + 1).map((_, k) => column.levels ? css(`--class-${k}`) : ramp(last ? k / last : 0));
    const names = classes.map(level => column.levels ? show(level) : show(level, column.unit));
    const items = colours.map((colour, k) => ({colour, shape: SHAPES[k], text: k === last && classes.length > N_PALETTE ? "all others" : names[k]}));
    return {bin, colours: [...colours, css("--muted")], shapes: [...SHAPES.slice(0, last + 1), "circle"], items, column};
  }
  const seen = column.v.filter((v, i) => store.base[i] && Number.isFinite(v));
  const lo = seen.reduce((a, v) => Math.min(a, v), Infinity), hi = seen.reduce((a, v) => Math.max(a, v), -Infinity);
  const scale = makeScale(seen.length ? lo : 0, seen.length ? hi : 1, store.wantsLog(column));
  for (let i = 0; i < store.n; i++) bin[i] = Number.isNaN(column.v[i]) ? N_BINS : Math.max(0, Math.min(N_BINS - 1, Math.floor(scale.at(column.v[i]) * N_BINS)));
  const colours = Array.from({length: N_BINS}, (_, k) => ramp(k / (N_BINS - 1)));
  return {bin, colours: [...colours, css("--muted")], shapes: new Array(N_BINS + 1).fill("circle"), items: null, column, scale};
}

/** An axis turns values into shares of its length and back. Short lists of values get even places, in order. */
function makeAxis(column, base, {log = false, even = false, extra = [], count = 5, margin = 0} = {}) {
  const places = column.levels ? column.levels.map((_, k) => k) : even && column.steps;
  if (places && places.length) {
    const n = places.length, place = new Map(places.map((value, k) => [value, (k + 0.5) / n]));
    const text = k => column.levels ? show(column.levels[k]) : sig(places[k] / column.div);
    return {lo: places[0], hi: places[n - 1], at: value => place.get(value) ?? NaN, ticks: places.map((value, k) => ({at: (k + 0.5) / n, text: text(k)})),
      range: (from, to) => { const a = Math.ceil(from * n - 0.5), b = Math.floor(to * n - 0.5); return a <= b && b >= 0 && a < n ? [places[Math.max(a, 0)], places[Math.min(b, n - 1)]] : null; },
      span: ([lo, hi]) => { const inside = places.map((v, k) => v >= lo && v <= hi ? k : -1).filter(k => k >= 0); return inside.length ? [(inside[0] + 0.08) / n, (inside.at(-1) + 0.92) / n] : [0, 0]; }};
  }
  let lo = Infinity, hi = -Infinity;
  const take = v => { if (Number.isFinite(v) && (!log || v > 0)) { lo = Math.min(lo, v); hi = Math.max(hi, v); } };
  for (let i = 0; i < base.length; i++) if (base[i]) take(column.v[i]);
  extra.forEach(take);
  const tight = lo <= hi ? makeScale(lo, hi, log) : makeScale(0, 1, false);
  const scale = margin ? makeScale(tight.inv(-margin), tight.inv(1 + margin), tight.log) : tight, clamp = share => Math.max(0, Math.min(1, share));
  return {lo: scale.lo, hi: scale.hi, at: scale.at, ticks: ticks(scale, count, column.div).map(v => ({at: scale.at(v), text: sig(Number((v / column.div).toPrecision(6)))})),
    range: (from, to) => [from <= 0 ? -Infinity : scale.inv(from), to >= 1 ? Infinity : scale.inv(to)],
    span: ([a, b]) => [a <= scale.lo ? 0 : clamp(scale.at(a)), b >= scale.hi ? 1 : clamp(scale.at(b))]};
}

function layer(parent, attributes = {}) {
  const canvas = parent.appendChild(el("canvas", attributes)), ctx = canvas.getContext("2d");
  let blank = true;  // browsers print a canvas as drawing commands, where a needless clear hides the layers below
  return {canvas, ctx, size(width, height) {
    const ratio = Math.min(window.devicePixelRatio || 1, 2);
    canvas.width = width * ratio; canvas.height = height * ratio;
    canvas.style.width = `${width}px`; canvas.style.height = `${height}px`;
    ctx.setTransform(ratio, 0, 0, ratio, 0, 0);
    blank = true;
  }, clear() {
    if (blank) { blank = false; return; }
    ctx.save(); ctx.resetTransform(); ctx.clearRect(0, 0, canvas.width, canvas.height); ctx.restore();
  }};
}

function mark(ctx, shape, x, y, r) {
  if (shape === "circle") { ctx.moveTo(x + r, y); ctx.arc(x, y, r, 0, 7); return; }
  const s = r * 0.9, corners = {square: [-s, -s, s, -s, s, s, -s, s], triangle: [0, -1.2 * r, 1.1 * r, 0.8 * r, -1.1 * r, 0.8 * r], diamond: [0, -1.3 * r, 1.3 * r, 0, 0, 1.3 * r, -1.3 * r, 0],
    down: [0, 1.2 * r, 1.1 * r, -0.8 * r, -1.1 * r, -0.8 * r], bar: [-1.4 * r, -0.5 * r, 1.4 * r, -0.5 * r, 1.4 * r, 0.5 * r, -1.4 * r, 0.5 * r], post: [-0.5 * r, -1.4 * r, 0.5 * r, -1.4 * r, 0.5 * r, 1.4 * r, -0.5 * r, 1.4 * r],
    plus: [-0.4, -1.3, 0.4, -1.3, 0.4, -0.4, 1.3, -0.4, 1.3, 0.4, 0.4, 0.4, 0.4, 1.3, -0.4, 1.3, -0.4, 0.4, -1.3, 0.4, -1.3, -0.4, -0.4, -0.4].map(v => v * r)}[shape];
  for (let k = 0; k < corners.length; k += 2) ctx[k ? "lineTo" : "moveTo"](x + corners[k], y + corners[k + 1]);
  ctx.closePath();
}

const better = column => column.direction === "min" ? "lower is better" : column.direction === "max" ? "higher is better" : "";
const axisTitle = column => column.label + (column.shown ? `, ${column.shown}` : "") + (better(column) ? `  (${better(column)})` : "");

// ---- scatter ---------------------------------------------------------------------------------------------------

function scatter(store, root, hover) {
  const back = layer(root), over = layer(root, {id: "scatter", tabindex: "0", role: "img"}), note = root.parentNode.querySelector(".staircase-note");
  const px = new Float32Array(store.n), py = new Float32Array(store.n), pad = {left: 68, right: 22, top: 18, bottom: 50};
  let w = 0, h = 0, ax, ay, rubber = null, paint;
  const toX = share => pad.left + share * (w - pad.left - pad.right), toY = share => h - pad.bottom - share * (h - pad.top - pad.bottom);
  const column = key => store.byName.get(store.state[key]);

  function frame(ctx, cx, cy) {
    ctx.font = `11.5px ${css("--sans")}`; ctx.lineWidth = 1; ctx.strokeStyle = css("--hair"); ctx.fillStyle = css("--muted");
    ctx.textAlign = "center"; ctx.textBaseline = "alphabetic";
    let last = -Infinity;
    ax.ticks.forEach(tick => {
      const x = toX(tick.at), half = ctx.measureText(tick.text).width / 2;
      ctx.beginPath(); ctx.moveTo(x, pad.top); ctx.lineTo(x, h - pad.bottom); ctx.stroke();
      if (x - half > last + 8) { ctx.fillText(tick.text, x, h - pad.bottom + 17); last = x + half; }
    });
    ctx.textAlign = "right"; ctx.textBaseline = "middle";
    ay.ticks.forEach(tick => { const y = toY(tick.at); ctx.beginPath(); ctx.moveTo(pad.left, y); ctx.lineTo(w - pad.right, y); ctx.stroke(); ctx.fillText(tick.text, pad.left - 9, y, pad.left - 24); });
    ctx.fillStyle = css("--ink"); ctx.font = `12.5px ${css("--sans")}`; ctx.textAlign = "center"; ctx.textBaseline = "alphabetic";
    ctx.fillText(axisTitle(cx), (pad.left + w - pad.right) / 2, h - 9, w - 20);
    const middle = (pad.top + h - pad.bottom) / 2;
    ctx.save(); ctx.translate(13, middle); ctx.rotate(-Math.PI / 2); ctx.fillText(axisTitle(cy), 0, 0, 2 * middle - 6); ctx.restore();
  }
  /** Best attainable y at each x among the selected feasible rows: the Pareto staircase of this pair. */
  function staircase(cx, cy) {
    if (!cx.direction || !cy.direction || cx === cy) return [];
    const sx = cx.direction === "min" ? 1 : -1, sy = cy.direction === "min" ? 1 : -1, steps = [];
    const rows = store.rows.filter(i => store.feasible[i] && px[i] === px[i] && py[i] === py[i]);
    rows.sort((a, b) => sx * (cx.v[a] - cx.v[b]) || sy * (cy.v[a] - cy.v[b]));
    for (const i of rows) if (!steps.length || sy * cy.v[i] < sy * cy.v[steps.at(-1)]) steps.push(i);
    return steps;
  }
  function drawStaircase(ctx, steps, cx, cy) {
    if (!steps.length) return;
    ctx.beginPath(); ctx.moveTo(px[steps[0]], cy.direction === "min" ? pad.top : h - pad.bottom);
    steps.forEach((i, k) => { if (k) ctx.lineTo(px[i], py[steps[k - 1]]); ctx.lineTo(px[i], py[i]); });
    ctx.lineTo(cx.direction === "min" ? w - pad.right : pad.left, py[steps.at(-1)]);
    ctx.strokeStyle = css("--ink"); ctx.globalAlpha = 0.55; ctx.lineWidth = 1.25; ctx.setLineDash([5, 3]); ctx.stroke(); ctx.setLineDash([]); ctx.globalAlpha = 1;
  }
  function dots(ctx, rows, r, alpha, ring) {
    const bins = paint.colours.map(() => []);
    for (const i of rows) bins[paint.bin[i]].push(i);
    ctx.globalAlpha = alpha;
    bins.forEach((list, k) => {
      ctx.beginPath(); list.forEach(i => mark(ctx, paint.shapes[k], px[i], py[i], r));
      ctx.fillStyle = paint.colours[k]; ctx.fill();
      if (ring) { ctx.strokeStyle = css("--ink"); ctx.lineWidth = 0.9; ctx.stroke(); }
    });
    ctx.globalAlpha = 1;
  }
  function crosses(ctx, rows, alpha) {
    ctx.beginPath(); rows.forEach(i => { ctx.moveTo(px[i] - 2.5, py[i] - 2.5); ctx.lineTo(px[i] + 2.5, py[i] + 2.5); ctx.moveTo(px[i] + 2.5, py[i] - 2.5); ctx.lineTo(px[i] - 2.5, py[i] + 2.5); });
    ctx.strokeStyle = css("--muted"); ctx.globalAlpha = alpha; ctx.lineWidth = 1; ctx.stroke(); ctx.globalAlpha = 1;
  }
  /** Names beside their points, moved to the first side that is free. */
  function labels(ctx, items) {
    const taken = [];
    ctx.font = `600 12px ${css("--sans")}`; ctx.textAlign = "left"; ctx.textBaseline = "middle"; ctx.lineJoin = "round";
    for (const {x, y, text} of items) {
      const wide = ctx.measureText(text).width;
      const spots = [[x + 10, y], [x - wide - 10, y], [x - wide / 2, y - 16], [x - wide / 2, y + 16], [x + 10, y - 15], [x + 10, y + 15], [x - wide - 10, y - 15], [x - wide - 10, y + 15]];
      const free = spots.find(([left, mid]) => left > pad.left && left + wide < w - 2 && mid > 8 && mid < h - pad.bottom && !taken.some(([l, m, n]) => left < l + n + 4 && l < left + wide + 4 && Math.abs(m - mid) < 14));
      if (!free) continue;
      taken.push([free[0], free[1], wide]);
      ctx.strokeStyle = css("--paper"); ctx.lineWidth = 4; ctx.strokeText(text, ...free); ctx.fillStyle = css("--ink"); ctx.fillText(text, ...free);
    }
  }
  function named(ctx, cx, cy) {
    const place = (axis, col, value) => axis.at(col.levels ? col.levels.indexOf(value) : value);
    const references = store.data.references.map(ref => ({text: ref.name, x: toX(place(ax, cx, ref.values[cx.name] ?? NaN)), y: toY(place(ay, cy, ref.values[cy.name] ?? NaN))})).filter(ref => ref.x === ref.x && ref.y === ref.y);
    ctx.beginPath(); references.forEach(ref => mark(ctx, "diamond", ref.x, ref.y, 4.5)); ctx.fillStyle = css("--paper"); ctx.fill(); ctx.strokeStyle = css("--ink"); ctx.lineWidth = 1.3; ctx.stroke();
    const picks = store.data.picks.map(pick => ({text: pick.name, i: store.indexOf(pick.id)})).filter(({i}) => i !== undefined && store.base[i] && px[i] === px[i] && py[i] === py[i]).map(({text, i}) => ({text, x: px[i], y: py[i]}));
    ctx.beginPath(); picks.forEach(({x, y}) => { ctx.moveTo(x + 8, y); ctx.arc(x, y, 8, 0, 7); }); ctx.strokeStyle = css("--accent"); ctx.lineWidth = 2; ctx.stroke();
    labels(ctx, [...picks, ...references]);
  }
  function place() {
    const cx = column("x"), cy = column("y");
    const extra = col => store.data.references.map(ref => ref.values[col.name]).filter(isNumber);
    ax = makeAxis(cx, store.base, {log: store.state.xlog, extra: extra(cx), count: Math.max(3, w / 130), margin: 0.03});
    ay = makeAxis(cy, store.base, {log: store.state.ylog, extra: extra(cy), count: 6, margin: 0.04});
    for (let i = 0; i < store.n; i++) { px[i] = toX(ax.at(cx.v[i])); py[i] = toY(ay.at(cy.v[i])); }
  }
  function draw() {
    const {ctx} = back, cx = column("x"), cy = column("y"), good = [], rest = [], deadIn = [], deadOut = [], front = [];
    for (let i = 0; i < store.n; i++) if (store.base[i] && px[i] === px[i] && py[i] === py[i])
      (store.feasible[i] ? store.hit[i] ? store.front[i] ? front : good : rest : store.hit[i] ? deadIn : deadOut).push(i);
    back.clear(); frame(ctx, cx, cy);
    crosses(ctx, deadOut, 0.25); crosses(ctx, deadIn, 0.8);
    ctx.beginPath(); rest.forEach(i => mark(ctx, "circle", px[i], py[i], 1.5)); ctx.globalAlpha = 0.3; ctx.fillStyle = css("--muted"); ctx.fill(); ctx.globalAlpha = 1;
    dots(ctx, good, 2.4, good.length > 2000 ? 0.55 : 0.75, false);
    const steps = staircase(cx, cy);
    drawStaircase(ctx, steps, cx, cy);
    dots(ctx, front, 4.6, 1, true);
    named(ctx, cx, cy);
    note.textContent = steps.length ? `Dashed: the Pareto staircase of this pair, through ${plural(steps.length, "selected design")}.` : "No staircase: it needs two axes with a better direction.";
    over.canvas.setAttribute("aria-label", `Scatter of ${cy.label} against ${cx.label}, ${store.rows.length} designs selected. Arrow keys walk through them, Enter chooses one.`);
    highlight();
  }
  function highlight() {
    const {ctx} = over, chosen = store.indexOf(store.state.chosen);
    over.clear();
    for (const [i, r, colour] of [[chosen, 6.5, "--ink"], [hover.row, 6.5, "--accent"]]) if (i !== undefined && i >= 0 && px[i] === px[i] && py[i] === py[i]) {
      ctx.beginPath(); ctx.arc(px[i], py[i], r, 0, 7); ctx.strokeStyle = css(colour); ctx.lineWidth = 2.4; ctx.stroke();
    }
    if (rubber) { ctx.globalAlpha = 0.16; ctx.fillStyle = css("--accent"); ctx.fillRect(rubber[0], rubber[1], rubber[2] - rubber[0], rubber[3] - rubber[1]); ctx.globalAlpha = 1; }
  }
  function nearest(x, y) {
    let best = -1, least = 196;
    for (let i = 0; i < store.n; i++) if (store.base[i]) { const d = (px[i] - x) ** 2 + (py[i] - y) ** 2 + (store.hit[i] ? 0 : 60); if (d < least) { least = d; best = i; } }
    return best;
  }
  function brushRectangle([x0, y0, x1, y1]) {
    const shareX = x => (x - pad.left) / (w - pad.left - pad.right), shareY = y => (h - pad.bottom - y) / (h - pad.top - pad.bottom);
    const rangeX = ax.range(shareX(Math.min(x0, x1)), shareX(Math.max(x0, x1))), rangeY = ay.range(shareY(Math.max(y0, y1)), shareY(Math.min(y0, y1)));
    if (rangeX) store.state.brushes[store.state.x] = rangeX;
    if (rangeY) store.state.brushes[store.state.y] = rangeY;
    store.update("brush");
  }
  over.canvas.addEventListener("pointerdown", event => { over.canvas.setPointerCapture(event.pointerId); rubber = [event.offsetX, event.offsetY, event.offsetX, event.offsetY]; });
  over.canvas.addEventListener("pointermove", event => {
    if (rubber) { rubber[2] = event.offsetX; rubber[3] = event.offsetY; highlight(); } else hover.set(nearest(event.offsetX, event.offsetY), event.clientX, event.clientY);
  });
  over.canvas.addEventListener("pointerup", event => {
    const drag = rubber; rubber = null;
    if (drag && Math.hypot(drag[2] - drag[0], drag[3] - drag[1]) > 5) return brushRectangle(drag);
    const i = nearest(event.offsetX, event.offsetY);
    if (i >= 0) store.choose(store.ids[i]); else highlight();
  });
  over.canvas.addEventListener("pointercancel", () => { rubber = null; highlight(); });
  over.canvas.addEventListener("pointerleave", () => hover.set(-1));
  over.canvas.addEventListener("keydown", event => {
    const way = {ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1}[event.key];
    if (event.key === "Enter" && hover.row >= 0) store.choose(store.ids[hover.row]);
    if (!way) return;
    event.preventDefault();
    const order = store.rows.filter(i => px[i] === px[i] && py[i] === py[i]).sort((a, b) => px[a] - px[b]), at = order.indexOf(hover.row), next = order[Math.max(0, Math.min(order.length - 1, at < 0 ? 0 : at + way))];
    const rect = over.canvas.getBoundingClientRect();
    if (next !== undefined) hover.set(next, rect.left + px[next], rect.top + py[next]);
  });
  hover.views.push(highlight);
  store.views.push(reason => { if (reason === "chosen") return highlight(); if (reason !== "brush") { paint = makePaint(store); place(); } draw(); });
  return {resize() { w = onPaper() ? PAPER : root.clientWidth; h = w < 560 ? 340 : 460; back.size(w, h); over.size(w, h); }};
}
