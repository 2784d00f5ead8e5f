// Parallel coordinates: one axis per column that varies, brushed with the mouse or with the inputs under each axis.

const MIN_AXIS = 84, MAX_AXIS = 150, BATCH = 200, CHUNK = 600;
const SHUT_FIRST = ["metric", "deployment", "lifecycle", "architecture"];  // what folds away when the page is narrow

function parallel(store, root, hover) {
  const height = 300, top = 14, bottom = height - 34, rung = height - 12;  // the rung holds rows without a value
  const toggles = el("div", {class: "toggles", role: "group", "aria-label": "Axis groups"});
  const heads = el("div", {class: "heads"}), feet = el("div", {class: "feet"}), stage = el("div", {class: "stage", style: {height: `${height}px`}});
  const sheet = el("div", {class: "lines"}, heads, stage, feet);
  const scroll = el("div", {class: "scroll", tabindex: "0", role: "region", "aria-label": "Parallel coordinates"}, sheet);
  root.append(toggles, scroll);
  const back = layer(stage), fore = layer(stage), over = layer(stage, {id: "parallel"});
  const members = new Map(GROUPS.map(([key, , names]) => [key, store.plottable.filter(column => names.includes(column.group))]));
  let axes = [], gap = MIN_AXIS, paint, stale = true, drag = null, frame = 0;
  const y = share => bottom - share * (bottom - top);

  function closedGroups(width) {
    if (store.state.closed && !onPaper()) return store.state.closed;
    const shut = [], count = () => GROUPS.reduce((sum, [key]) => sum + (shut.includes(key) ? 0 : members.get(key).length), 0);
    for (const key of SHUT_FIRST) if (count() * MIN_AXIS > width && count() > members.get(key).length) shut.push(key);
    return shut;
  }

  function build() {
    const width = onPaper() ? PAPER : scroll.clientWidth, closed = closedGroups(width);
    const shown = GROUPS.filter(([key]) => members.get(key).length && !closed.includes(key));
    toggles.replaceChildren(...GROUPS.filter(([key]) => members.get(key).length).map(([key, title]) => el("button", {
      type: "button", class: "toggle", "aria-expanded": String(!closed.includes(key)), "data-group": key, on: {click: () => {
        store.state.closed = closed.includes(key) ? closed.filter(other => other !== key) : [...closed, key];
        store.update("view");
        toggles.querySelector(`[data-group="${key}"]`).focus();
      }}}, el("span", {class: "sign", "aria-hidden": "true", text: closed.includes(key) ? "+" : "–"}), ` ${title} `, el("small", {text: String(members.get(key).length)}))));
    const list = shown.flatMap(([key]) => members.get(key));
    gap = Math.max(MIN_AXIS, Math.min(MAX_AXIS, Math.floor(width / Math.max(list.length, 1))));
    axes = list.map((column, k) => ({column, x: Math.round((k + 0.5) * gap), ys: new Float32Array(store.n), ...foot(column)}));
    const total = Math.max(list.length * gap, 1);
    sheet.style.width = `${total}px`;
    heads.replaceChildren(...shown.map(([key, title]) => el("div", {class: "head-group", style: {width: `${members.get(key).length * gap}px`}},
      el("div", {class: "group-name", text: title}), el("div", {class: "head-row"}, members.get(key).map(column =>
        el("div", {class: "head", title: column.meaning, style: {width: `${gap}px`}}, el("span", {text: column.label}),
          el("small", {text: column.shown}), el("small", {text: {min: "↓ better", max: "↑ better"}[column.direction] || ""})))))));
    feet.replaceChildren(...axes.map(axis => axis.node));
    [back, fore, over].forEach(part => part.size(total, height));
  }

  /** The keyboard's way to brush: minimum and maximum in the printed unit, or a choice of class. */
  function foot(column) {
    if (column.levels) {
      const select = el("select", {"aria-label": `Filter ${column.label}`, on: {change: () => store.brush(column.name, select.value === "" ? null : [Number(select.value), Number(select.value)])}},
        el("option", {value: "", text: "any"}), el("option", {value: "some", text: "several", hidden: true}), column.levels.map((level, k) => el("option", {value: String(k), text: show(level)})));
      const sync = brush => { select.value = !brush ? "" : brush[0] === brush[1] ? String(brush[0]) : "some"; };
      return {sync, node: el("div", {class: "foot", style: {width: `${gap}px`}}, select)};
    }
    const input = (word, k) => el("input", {type: "number", step: "any", "aria-label": `${column.label} ${word}${column.shown ? ` in ${column.shown}` : ""}`, on: {change: event => {
      const now = [...(store.state.brushes[column.name] || [-Infinity, Infinity])];
      now[k] = event.target.value === "" ? [-Infinity, Infinity][k] : Number(event.target.value) * column.div;
      store.brush(column.name, Number.isFinite(now[0]) || Number.isFinite(now[1]) ? now : null);
    }}});
    const inputs = [input("maximum", 1), input("minimum", 0)], short = value => String(Number((value / column.div).toPrecision(4)));
    const sync = (brush, axis) => inputs.forEach((node, k) => {
      const value = brush ? brush[1 - k] : NaN, end = k ? axis.lo : axis.hi;
      if (document.activeElement !== node) node.value = Number.isFinite(value) ? short(value) : "";
      node.placeholder = `${k ? "≥" : "≤"} ${sig(Number((end / column.div).toPrecision(column.steps ? 6 : 3)))}`;
    });
    return {sync, node: el("div", {class: "foot", style: {width: `${gap}px`}}, inputs)};
  }

  function place() {
    for (const axis of axes) {
      const {column, ys} = axis;
      Object.assign(axis, makeAxis(column, store.base, {log: store.wantsLog(column), even: true, count: 5}));
      axis.gaps = false;
      for (let i = 0; i < store.n; i++) {
        const share = axis.at(column.v[i]), missing = !(share > -1 && share < 2);
        ys[i] = missing ? rung : y(share);
        if (missing && store.base[i]) axis.gaps = true;
      }
    }
    stale = true;
  }
  function polylines(ctx, rows) {
    for (let start = 0; start < rows.length; start += BATCH) {
      ctx.beginPath();
      for (const i of rows.slice(start, start + BATCH)) axes.forEach((axis, k) => ctx[k ? "lineTo" : "moveTo"](axis.x, axis.ys[i]));
      ctx.stroke();
    }
  }
  function drawBack() {  // every row in play, grey, once per change of the rows
    const {ctx} = back, rows = [];
    for (let i = 0; i < store.n; i++) if (store.base[i]) rows.push(i);
    back.clear(); ctx.strokeStyle = css("--muted"); ctx.globalAlpha = rows.length > 1000 ? 0.07 : 0.2; ctx.lineWidth = 0.7;
    polylines(ctx, rows); ctx.globalAlpha = 1; stale = false;
  }
  function drawLines() {
    const {ctx} = fore, good = store.rows.filter(i => store.feasible[i] && !store.front[i]), front = store.rows.filter(i => store.feasible[i] && store.front[i]);
    fore.clear();
    const pass = (rows, alpha, width) => {  // a mixed chunk at a time, so that no colour is painted over by the last one
      ctx.globalAlpha = alpha; ctx.lineWidth = width;
      for (let start = 0; start < rows.length; start += CHUNK) {
        const bins = paint.colours.map(() => []);
        for (const i of rows.slice(start, start + CHUNK)) bins[paint.bin[i]].push(i);
        bins.forEach((list, k) => { ctx.strokeStyle = paint.colours[k]; polylines(ctx, list); });
      }
    };
    ctx.strokeStyle = css("--muted"); ctx.globalAlpha = 0.25; ctx.lineWidth = 0.6;
    polylines(ctx, store.rows.filter(i => !store.feasible[i]));
    pass(good, Math.max(0.16, Math.min(0.7, 250 / store.rows.length)), 0.8);
    pass(front, 0.9, 1.5);
    ctx.globalAlpha = 1;
  }
  function drawOver() {
    const {ctx} = over, chosen = store.indexOf(store.state.chosen);
    over.clear(); ctx.font = `10.5px ${css("--sans")}`; ctx.textBaseline = "middle"; ctx.textAlign = "left"; ctx.lineJoin = "round";
    for (const [i, colour] of [[chosen, "--ink"], [hover.row, "--accent"]]) if (i !== undefined && i >= 0) {
      ctx.strokeStyle = css(colour); ctx.lineWidth = 2.4; polylines(ctx, [i]);
    }
    for (const axis of axes) {
      const {x, column} = axis, brush = store.state.brushes[column.name];
      ctx.strokeStyle = css("--muted"); ctx.lineWidth = 1; ctx.beginPath(); ctx.moveTo(x + 0.5, top); ctx.lineTo(x + 0.5, bottom); ctx.stroke();
      if (brush) {
        const [from, to] = axis.span(brush), high = y(to), tall = Math.max(3, y(from) - high);
        ctx.fillStyle = css("--accent"); ctx.globalAlpha = 0.22; ctx.fillRect(x - 7, high, 15, tall); ctx.globalAlpha = 1;
        ctx.strokeStyle = css("--accent"); ctx.lineWidth = 1.5; ctx.strokeRect(x - 6.5, high, 14, tall);
      }
      let last = Infinity;
      const words = [...axis.ticks.map(tick => [tick.text, y(tick.at)]), ...(axis.gaps ? [["none", rung]] : [])];
      for (const [text, at] of words) {
        ctx.fillStyle = css("--muted"); ctx.fillRect(x - 2, at - 0.5, 5, 1);
        if (Math.abs(at - last) < 11) continue;
        last = at;
        ctx.strokeStyle = css("--paper"); ctx.lineWidth = 3.5; ctx.globalAlpha = 0.85; ctx.strokeText(text, x + 6, at, gap - 14); ctx.globalAlpha = 1;
        ctx.fillStyle = css("--ink"); ctx.fillText(text, x + 6, at, gap - 14);
      }
      axis.sync(brush, axis);
    }
  }
  function draw(reason) {
    const brushed = Object.keys(store.state.brushes).length > 0;
    if (brushed && stale) drawBack();
    back.canvas.style.visibility = brushed ? "visible" : "hidden";
    if (reason !== "chosen") drawLines();
    drawOver();
  }

  // Brushes: press near an axis and drag. The whole height of the stage counts, past the ends of the axis too.
  const axisAt = x => axes.find(axis => Math.abs(axis.x - x) <= gap / 2), share = at => (bottom - at) / (bottom - top);
  const near = (axis, x) => axis && Math.abs(axis.x - x) < Math.min(24, gap / 3);
  function lineAt(x, at) {
    const k = axes.findIndex(axis => axis.x > x);
    if (k < 1) return -1;
    const [a, b] = [axes[k - 1], axes[k]], f = (x - a.x) / (b.x - a.x);
    let best = -1, least = 6;
    for (const i of store.rows) { const d = Math.abs(a.ys[i] + f * (b.ys[i] - a.ys[i]) - at); if (d < least) { least = d; best = i; } }
    return best;
  }
  over.canvas.addEventListener("pointerdown", event => {
    const axis = axisAt(event.offsetX), brush = axis && store.state.brushes[axis.column.name], at = event.offsetY;
    if (!axis) return;
    over.canvas.setPointerCapture(event.pointerId);
    const [from, to] = brush && near(axis, event.offsetX) ? axis.span(brush) : [1, 0];
    drag = {axis, start: at, moved: false, near: near(axis, event.offsetX), held: from <= share(at) && share(at) <= to ? [from, to] : null};
  });
  over.canvas.addEventListener("pointermove", event => {
    if (!drag) {
      over.canvas.style.cursor = near(axisAt(event.offsetX), event.offsetX) ? "ns-resize" : "pointer";
      return hover.set(lineAt(event.offsetX, event.offsetY), event.clientX, event.clientY);
    }
    drag.moved ||= Math.abs(event.offsetY - drag.start) > 3;
    if (!drag.moved) return;
    const move = share(event.offsetY) - share(drag.start);
    const range = drag.held ? drag.held.map(end => end + move) : [share(Math.max(event.offsetY, drag.start)), share(Math.min(event.offsetY, drag.start))];
    drag.range = drag.axis.range(...range);
    frame ||= requestAnimationFrame(() => { frame = 0; if (drag) store.brush(drag.axis.column.name, drag.range, true); });
  });
  over.canvas.addEventListener("pointerup", event => {
    if (!drag) return;
    const done = drag; drag = null;
    if (done.moved) return store.brush(done.axis.column.name, done.range);
    if (done.near) return store.brush(done.axis.column.name, null);
    const i = lineAt(event.offsetX, event.offsetY);
    if (i >= 0) store.choose(store.ids[i]);
  });
  over.canvas.addEventListener("pointercancel", () => { drag = null; });
  over.canvas.addEventListener("pointerleave", () => hover.set(-1));
  hover.views.push(drawOver);

  let layoutKey = "", colourKey = "";
  store.views.push(reason => {
    if (reason === "rows" || reason === "view") {
      const key = JSON.stringify([store.state.closed, scroll.clientWidth, onPaper()]), colour = store.state.c;
      if (key !== layoutKey) { build(); place(); } else if (reason === "rows") place(); else if (colour === colourKey) return;
      layoutKey = key; colourKey = colour; paint = makePaint(store);
    }
    draw(reason);
  });
  return {resize() { layoutKey = ""; }, recolour() { stale = true; colourKey = ""; }};
}
