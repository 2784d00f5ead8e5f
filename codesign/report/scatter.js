// The scatter: two chosen columns, coloured by a third, with the Pareto staircase of the pair.

const PAD = {left: 68, right: 22, top: 18, bottom: 50};
const REACH = 14;  // a pointer this close to a point means it

const better = column => ({min: "lower is better", max: "higher is better"})[column.direction];

function axisTitle(column) {
  return column.label + (column.shown ? `, ${column.shown}` : "") + (better(column) ? `  (${better(column)})` : "");
}

/** Rows on the Pareto staircase of two columns, best first along x: the best y that each x allows. */
function staircase(rows, cx, cy) {
  if (!cx.direction || !cy.direction || cx === cy) return [];
  const sx = cx.direction === "min" ? 1 : -1, sy = cy.direction === "min" ? 1 : -1, steps = [];
  const order = [...rows].sort((a, b) => sx * (cx.v[a] - cx.v[b]) || sy * (cy.v[a] - cy.v[b]));
  for (const i of order) if (!steps.length || sy * cy.v[i] < sy * cy.v[steps.at(-1)]) steps.push(i);
  return steps;
}

function scatter(store, root, note, hover) {
  const back = layer(root), over = layer(root, {id: "scatter", tabindex: "0", role: "img"}), {ctx} = back;
  const px = new Float32Array(store.n), py = new Float32Array(store.n);
  let w = 0, h = 0, ax, ay, rubber = null, paint;
  const toX = share => PAD.left + share * (w - PAD.left - PAD.right);
  const toY = share => h - PAD.bottom - share * (h - PAD.top - PAD.bottom);
  const fromX = x => (x - PAD.left) / (w - PAD.left - PAD.right);
  const fromY = y => (h - PAD.bottom - y) / (h - PAD.top - PAD.bottom);

  function resize() {
    w = onPaper() ? PAPER : root.clientWidth;
    h = w < 560 ? 340 : 460;
    back.size(w, h);
    over.size(w, h);
  }

  function place() {
    const cx = store.column("x"), cy = store.column("y"), {state} = store;
    const extra = column => store.references().map(ref => ref.values[column.name]).filter(isNumber);
    ax = makeAxis(cx, store.base, {log: state.xlog, extra: extra(cx), count: Math.max(3, w / 130), margin: 0.03});
    ay = makeAxis(cy, store.base, {log: state.ylog, extra: extra(cy), count: 6, margin: 0.04});
    for (let i = 0; i < store.n; i++) {
      px[i] = toX(ax.at(cx.v[i]));
      py[i] = toY(ay.at(cy.v[i]));
    }
    paint = makePaint(store);
  }

  function drawFrame(cx, cy) {
    const right = w - PAD.right, foot = h - PAD.bottom, middle = (PAD.top + foot) / 2;
    pen(ctx, {stroke: css("--hair")}, () => {
      for (const {at} of ax.ticks) { ctx.moveTo(toX(at), PAD.top); ctx.lineTo(toX(at), foot); }
      for (const {at} of ay.ticks) { ctx.moveTo(PAD.left, toY(at)); ctx.lineTo(right, toY(at)); }
    });
    ctx.font = `11.5px ${css("--sans")}`;
    ctx.fillStyle = css("--muted");
    ctx.textAlign = "center";
    ctx.textBaseline = "alphabetic";
    let last = -Infinity;
    for (const {at, text} of ax.ticks) {
      const half = ctx.measureText(text).width / 2;
      if (toX(at) - half < last + 8) continue;
      last = toX(at) + half;
      ctx.fillText(text, toX(at), foot + 17);
    }
    ctx.textAlign = "right";
    ctx.textBaseline = "middle";
    for (const {at, text} of ay.ticks) ctx.fillText(text, PAD.left - 9, toY(at), PAD.left - 24);
    ctx.font = `12.5px ${css("--sans")}`;
    ctx.fillStyle = css("--ink");
    ctx.textAlign = "center";
    ctx.textBaseline = "alphabetic";
    ctx.fillText(axisTitle(cx), (PAD.left + right) / 2, h - 9, w - 20);
    ctx.save();
    ctx.translate(13, middle);
    ctx.rotate(-Math.PI / 2);
    ctx.fillText(axisTitle(cy), 0, 0, 2 * middle - 6);
    ctx.restore();
  }

  function drawStaircase(steps, cx, cy) {
    if (!steps.length) return;
    pen(ctx, {stroke: css("--ink"), alpha: 0.55, width: 1.25, dash: [5, 3]}, () => {
      ctx.moveTo(px[steps[0]], cy.direction === "min" ? PAD.top : h - PAD.bottom);
      steps.forEach((i, k) => {
        if (k) ctx.lineTo(px[i], py[steps[k - 1]]);
        ctx.lineTo(px[i], py[i]);
      });
      ctx.lineTo(cx.direction === "min" ? w - PAD.right : PAD.left, py[steps.at(-1)]);
    });
  }

  function drawDots(rows, r, alpha, outline) {
    const bins = paint.colours.map(() => []);
    for (const i of rows) bins[paint.bin[i]].push(i);
    bins.forEach((list, k) => pen(ctx, {fill: paint.colours[k], stroke: outline, width: 0.9, alpha}, () =>
      list.forEach(i => mark(ctx, paint.shapes[k], px[i], py[i], r))));
  }

  function drawCrosses(rows, alpha) {
    for (const [reason, stroke] of deathColours(store))
      pen(ctx, {stroke, alpha}, () => rows.filter(i => reasonOf(store, i) === reason).forEach(i => {
        for (const way of [-2.5, 2.5]) { ctx.moveTo(px[i] - 2.5, py[i] - way); ctx.lineTo(px[i] + 2.5, py[i] + way); }
      }));
  }

  /** Names beside their points, on the first side that is free; left out where none is. */
  function drawNames(items) {
    const taken = [];
    ctx.font = `600 12px ${css("--sans")}`;
    ctx.textAlign = "left";
    ctx.textBaseline = "middle";
    for (const {x, y, text} of items) {
      const wide = ctx.measureText(text).width, before = x - wide - 10, centre = x - wide / 2;
      const sides = [[x + 10, y], [before, y], [centre, y - 16], [centre, y + 16],
        [x + 10, y - 15], [x + 10, y + 15], [before, y - 15], [before, y + 15]];
      const clash = (left, mid) =>
        taken.some(([l, m, n]) => left < l + n + 4 && l < left + wide + 4 && Math.abs(m - mid) < 14);
      const free = sides.find(([left, mid]) =>
        left > PAD.left && left + wide < w - 2 && mid > 8 && mid < h - PAD.bottom && !clash(left, mid));
      if (!free) continue;
      taken.push([...free, wide]);
      haloText(ctx, text, ...free);
    }
  }

  function drawNamed(cx, cy) {
    const at = (axis, column, value) => axis.at(column.levels ? column.levels.indexOf(value) : value ?? NaN);
    const put = (values, text, shape) => ({text, shape, x: toX(at(ax, cx, values[cx.name])), y: toY(at(ay, cy, values[cy.name]))});
    const references = store.references().map(({name, values, kind}) => put(values, name, kind === "measured" ? "square" : "diamond"));
    const others = store.references().flatMap(({others}) => others.map(values => put(values, "", "diamond"))).filter(({x, y}) => placed(x, y)
      && x >= PAD.left && x <= w - PAD.right && y >= PAD.top && y <= h - PAD.bottom);
    const picks = store.data.picks.map(pick => ({text: pick.name, i: store.indexOf(pick.id)}))
      .filter(({i}) => store.base[i]).map(({text, i}) => ({text, x: px[i], y: py[i]}));
    const [models, named] = [references, picks].map(list => list.filter(({x, y}) => placed(x, y)));
    pen(ctx, {fill: css("--paper"), stroke: css("--ink"), width: 1.1}, () => others.forEach(({x, y}) => mark(ctx, "diamond", x, y, 2.6)));
    pen(ctx, {fill: css("--paper"), stroke: css("--ink"), width: 1.6}, () =>
      models.forEach(({x, y, shape}) => mark(ctx, shape, x, y, 5)));
    pen(ctx, {stroke: css("--accent"), width: 2}, () => named.forEach(({x, y}) => mark(ctx, "circle", x, y, 8)));
    drawNames([...named, ...models]);
  }

  function draw() {
    const cx = store.column("x"), cy = store.column("y");
    const kinds = {front: [], feasible: [], outside: [], dead: [], deadOutside: []};
    for (let i = 0; i < store.n; i++) if (store.base[i] && placed(px[i], py[i])) {
      if (store.feasible[i]) kinds[!store.hit[i] ? "outside" : store.front[i] ? "front" : "feasible"].push(i);
      else kinds[store.hit[i] ? "dead" : "deadOutside"].push(i);
    }
    const steps = staircase([...kinds.front, ...kinds.feasible], cx, cy);
    back.clear();
    drawFrame(cx, cy);
    drawCrosses(kinds.deadOutside, 0.25);
    drawCrosses(kinds.dead, 0.8);
    pen(ctx, {fill: css("--muted"), alpha: 0.3}, () => kinds.outside.forEach(i => mark(ctx, "circle", px[i], py[i], 1.5)));
    drawDots(kinds.feasible, 2.4, kinds.feasible.length > 2000 ? 0.55 : 0.75);
    drawStaircase(steps, cx, cy);
    drawDots(kinds.front, 4.6, 1, css("--ink"));
    drawNamed(cx, cy);
    note.textContent = steps.length
      ? `Dashed: the Pareto staircase of this pair, through ${plural(steps.length, "selected design")}.`
      : "No staircase here: it needs selected feasible designs and two axes that have a better direction.";
    over.canvas.setAttribute("aria-label", `Scatter of ${cy.label} against ${cx.label}, `
      + `${plural(store.rows.length, "design")} selected. Arrow keys walk through them, Enter chooses one.`);
    drawOver();
  }

  function drawOver() {
    const rings = [[store.indexOf(store.state.chosen), "--ink"], [hover.row, "--accent"]];
    over.clear();
    for (const [i, colour] of rings)
      if (store.base[i] && placed(px[i], py[i]))
        pen(over.ctx, {stroke: css(colour), width: 2.4}, () => mark(over.ctx, "circle", px[i], py[i], 6.5));
    if (rubber)
      pen(over.ctx, {fill: css("--accent"), alpha: 0.16}, () =>
        over.ctx.rect(rubber[0], rubber[1], rubber[2] - rubber[0], rubber[3] - rubber[1]));
  }

  function nearest(x, y) {
    let best = -1, least = REACH ** 2;
    for (let i = 0; i < store.n; i++) if (store.base[i]) {
      const far = (px[i] - x) ** 2 + (py[i] - y) ** 2 + (store.hit[i] ? 0 : 60);  // the selection goes first
      if (far < least) [least, best] = [far, i];
    }
    return best;
  }

  function brushRectangle([x0, y0, x1, y1]) {
    const limits = {
      [store.state.x]: ax.range(fromX(Math.min(x0, x1)), fromX(Math.max(x0, x1))),
      [store.state.y]: ay.range(fromY(Math.max(y0, y1)), fromY(Math.min(y0, y1))),
    };
    for (const [name, range] of Object.entries(limits)) if (range) store.state.brushes[name] = range;
    store.update("brush");
  }

  /** Arrow keys walk through the selection from left to right. */
  function walk(way) {
    const order = store.rows.filter(i => placed(px[i], py[i])).sort((a, b) => px[a] - px[b]);
    const at = order.indexOf(hover.row), next = order[at < 0 ? 0 : Math.max(0, Math.min(order.length - 1, at + way))];
    const box = over.canvas.getBoundingClientRect();
    if (next !== undefined) hover.set(next, box.left + px[next], box.top + py[next]);
  }

  const on = (name, run) => over.canvas.addEventListener(name, run);
  on("pointerdown", event => {
    over.canvas.setPointerCapture(event.pointerId);
    rubber = [event.offsetX, event.offsetY, event.offsetX, event.offsetY];
  });
  on("pointermove", event => {
    if (!rubber) return hover.set(nearest(event.offsetX, event.offsetY), event.clientX, event.clientY);
    rubber.splice(2, 2, event.offsetX, event.offsetY);
    drawOver();
  });
  on("pointerup", event => {
    const drag = rubber, i = nearest(event.offsetX, event.offsetY);
    rubber = null;
    if (drag && Math.hypot(drag[2] - drag[0], drag[3] - drag[1]) > 5) brushRectangle(drag);
    else if (i >= 0) store.choose(store.ids[i]);
    else drawOver();
  });
  on("pointercancel", () => { rubber = null; drawOver(); });
  on("pointerleave", () => hover.set(-1));
  on("keydown", event => {
    const way = {ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1}[event.key];
    if (event.key === "Enter" && hover.row >= 0) store.choose(store.ids[hover.row]);
    if (!way) return;
    event.preventDefault();
    walk(way);
  });
  hover.views.push(drawOver);
  store.views.push(reason => {
    if (reason === "chosen") return drawOver();
    if (reason !== "brush") place();
    draw();
  });
  return {resize};
}
