// Parallel coordinates: one axis per column that varies, brushed with the mouse or with the inputs under each axis.

const MIN_AXIS = 84, MAX_AXIS = 150;  // width per axis
const STROKE = 200, CHUNK = 150;  // lines per stroke, and per round through the colours
const STAGE = 300, TOP = 14, BOTTOM = STAGE - 34, RUNG = STAGE - 12;  // the rung below an axis holds rows without a value
const SHUT_FIRST = ["metric", "deployment", "lifecycle", "architecture"];  // what folds away when the page is narrow

const toY = share => BOTTOM - share * (BOTTOM - TOP), toShare = y => (BOTTOM - y) / (BOTTOM - TOP);

/** Minimum and maximum in the printed unit: the keyboard's way to brush. `sync` shows the brush that is set. */
function rangeInputs(store, column) {
  const ends = [-Infinity, Infinity], digits = column.steps ? 6 : 3;
  const input = (word, k) => el("input", {
    type: "number", step: "any", "aria-label": `${column.label} ${word}${column.shown ? ` in ${column.shown}` : ""}`,
    on: {change: event => {
      const now = [...(store.state.brushes[column.name] || ends)], typed = event.target.value;
      now[k] = typed === "" ? ends[k] : Number(typed) * column.div;
      store.brush(column.name, now.some(Number.isFinite) ? now : null);
    }},
  });
  const least = input("minimum", 0), most = input("maximum", 1);
  const fill = (node, value, sign, end) => {
    if (document.activeElement !== node || !isNumber(value)) node.value = isNumber(value) ? tidy(value / column.div, 4) : "";
    node.placeholder = isNumber(end) ? `${sign} ${sig(tidy(end / column.div, digits))}` : sign;
  };
  const sync = (brush, axis) => {
    fill(least, brush ? brush[0] : NaN, "≥", axis.lo);
    fill(most, brush ? brush[1] : NaN, "≤", axis.hi);
  };
  return {sync, node: el("div", {class: "foot"}, most, least)};
}

function classSelect(store, column) {
  const select = el("select", {"aria-label": `Filter ${column.label}`, on: {change: () => {
    const k = Number(select.value);
    store.brush(column.name, select.value === "" ? null : [k, k]);
  }}},
    el("option", {value: "", text: "any"}), el("option", {value: "some", text: "several", hidden: true}),
    column.levels.map((level, k) => el("option", {value: String(k), text: show(level)})));
  const sync = brush => { select.value = !brush ? "" : brush[0] === brush[1] ? String(brush[0]) : "some"; };
  return {sync, node: el("div", {class: "foot"}, select)};
}

function axisHead(column) {
  const way = {min: "↓ better", max: "↑ better"}[column.direction] || "";
  const unit = el("small", {text: column.shown});
  return el("div", {class: "head", title: tip(column)}, el("span", {}, breakable(column.label)), unit, el("small", {text: way}));
}

function parallel(store, root, hover) {
  const toggles = el("div", {class: "toggles", role: "group", "aria-label": "Axis groups"});
  const heads = el("div", {class: "heads"}), feet = el("div", {class: "feet"}), stage = el("div", {class: "stage"});
  const sheet = el("div", {class: "lines"}, heads, stage, feet), box = scroller("Parallel coordinates", sheet);
  root.append(toggles, box);
  const back = layer(stage), fore = layer(stage), over = layer(stage, {id: "parallel"});
  const members = names => store.plottable.filter(column => names.includes(column.group));
  const groups = GROUPS.map(([key, title, names]) => ({key, title, columns: members(names)})).filter(g => g.columns.length);
  let axes = [], gap = MIN_AXIS, paint, stale = true;

  // ---- layout: which axes there are, and where each row crosses them

  function closedGroups(width) {
    if (store.state.closed && !onPaper()) return store.state.closed;
    let open = groups;
    const n_axes = () => sum(open.map(group => group.columns.length));
    for (const key of SHUT_FIRST)
      if (n_axes() * MIN_AXIS > width && open.length > 1) open = open.filter(group => group.key !== key);
    return groups.filter(group => !open.includes(group)).map(group => group.key);
  }

  function toggle({key, title, columns}, closed) {
    const shut = closed.includes(key), sign = el("span", {class: "sign", "aria-hidden": "true", text: shut ? "+" : "–"});
    return el("button", {type: "button", "aria-expanded": String(!shut), "data-group": key, on: {click: () => {
      store.state.closed = shut ? closed.filter(other => other !== key) : [...closed, key];
      store.update("view");
      toggles.querySelector(`[data-group="${key}"]`).focus();
    }}}, sign, ` ${title} `, el("small", {text: String(columns.length)}));
  }

  function build() {
    const width = onPaper() ? PAPER : box.clientWidth, closed = closedGroups(width);
    const open = groups.filter(({key}) => !closed.includes(key)), columns = open.flatMap(group => group.columns);
    gap = Math.max(MIN_AXIS, Math.min(MAX_AXIS, Math.floor(width / Math.max(columns.length, 1))));
    axes = columns.map((column, k) => ({
      column, x: Math.round((k + 0.5) * gap), ys: new Float32Array(store.n),
      foot: column.levels ? classSelect(store, column) : rangeInputs(store, column),
    }));
    toggles.replaceChildren(...groups.map(group => toggle(group, closed)));
    heads.replaceChildren(...open.map(group => el("div", {class: "head-group", style: {"--n": group.columns.length}},
      el("div", {class: "group-name", text: group.title}), el("div", {class: "head-row"}, group.columns.map(axisHead)))));
    feet.replaceChildren(...axes.map(axis => axis.foot.node));
    sheet.style.setProperty("--gap", `${gap}px`);
    sheet.style.width = `${Math.max(columns.length * gap, 1)}px`;
    [back, fore, over].forEach(part => part.size(Math.max(columns.length * gap, 1), STAGE));
  }

  function place() {
    for (const axis of axes) {
      Object.assign(axis, makeAxis(axis.column, store.base, {log: axis.column.log, even: true}), {gaps: false});
      for (let i = 0; i < store.n; i++) {
        const share = axis.at(axis.column.v[i]), missing = !(share > -1 && share < 2);
        axis.ys[i] = missing ? RUNG : toY(share);
        if (missing && store.base[i]) axis.gaps = true;
      }
    }
    stale = true;
  }

  // ---- drawing: all rows once, grey; the selection on every change; brushes, words and the named rows on top

  function polylines(ctx, rows, style) {
    for (let start = 0; start < rows.length; start += STROKE)
      pen(ctx, style, () => {
        for (const i of rows.slice(start, start + STROKE))
          axes.forEach((axis, k) => ctx[k ? "lineTo" : "moveTo"](axis.x, axis.ys[i]));
      });
  }

  function drawAll() {
    const rows = Array.from(store.base.keys()).filter(i => store.base[i]);
    back.clear();
    polylines(back.ctx, rows, {stroke: css("--muted"), alpha: rows.length > 1000 ? 0.07 : 0.2, width: 0.7});
    stale = false;
  }

  /** A mixed chunk at a time, so that the last colour does not paint over all others. */
  function drawColoured(rows, alpha, width) {
    for (let start = 0; start < rows.length; start += CHUNK) {
      const bins = paint.colours.map(() => []);
      for (const i of rows.slice(start, start + CHUNK)) bins[paint.bin[i]].push(i);
      bins.forEach((list, k) => polylines(fore.ctx, list, {stroke: paint.colours[k], alpha, width}));
    }
  }

  function drawSelection() {
    const {rows, feasible, front} = store;
    fore.clear();
    polylines(fore.ctx, rows.filter(i => !feasible[i]), {stroke: css("--muted"), alpha: 0.25, width: 0.6});
    drawColoured(rows.filter(i => feasible[i] && !front[i]), Math.max(0.16, Math.min(0.7, 250 / rows.length)), 0.8);
    drawColoured(rows.filter(i => feasible[i] && front[i]), 0.9, 1.5);
  }

  function drawAxis(ctx, axis) {
    const brush = store.state.brushes[axis.column.name];
    const words = [...axis.ticks.map(tick => [tick.text, toY(tick.at)]), ...(axis.gaps ? [["none", RUNG]] : [])];
    pen(ctx, {stroke: css("--muted")}, () => {
      ctx.moveTo(axis.x + 0.5, TOP);
      ctx.lineTo(axis.x + 0.5, BOTTOM);
      for (const [, y] of words) { ctx.moveTo(axis.x - 2, y); ctx.lineTo(axis.x + 3, y); }
    });
    if (brush) {
      const [from, to] = axis.span(brush), rect = [axis.x - 6.5, toY(to), 14, Math.max(3, toY(from) - toY(to))];
      pen(ctx, {fill: css("--accent"), alpha: 0.22}, () => ctx.rect(...rect));
      pen(ctx, {stroke: css("--accent"), width: 1.5}, () => ctx.rect(...rect));
    }
    ctx.font = `10.5px ${css("--sans")}`;
    ctx.textAlign = "left";
    ctx.textBaseline = "middle";
    let last = Infinity;
    for (const [text, y] of words) if (Math.abs(y - last) >= 11) {
      haloText(ctx, text, axis.x + 6, y, gap - 14);
      last = y;
    }
    axis.foot.sync(brush, axis);
  }

  /** References dashed, each from its first axis on; a value beyond an axis, or a kind that no design has, interrupts the line. */
  function drawReferences(ctx) {
    const taken = [];
    for (const {name, values} of store.references()) {
      const share = ({column, at}) => at(column.levels ? column.levels.indexOf(values[column.name]) : values[column.name] ?? NaN);
      const known = axes.map(axis => ({x: axis.x, y: toY(share(axis))})).map(place => (place.y > TOP - 3 && place.y < BOTTOM + 3 ? place : null));
      pen(ctx, {stroke: css("--ink"), width: 1.6, dash: [5, 4]}, () => known.forEach((place, k) => {
        if (place) ctx[known[k - 1] ? "lineTo" : "moveTo"](place.x, place.y);
      }));
      pen(ctx, {fill: css("--paper"), stroke: css("--ink"), width: 1.3}, () => known.filter(Boolean).forEach(({x, y}) => mark(ctx, "diamond", x, y, 3.6)));
      const last = known.findLast(place => place && !taken.some(other => other.x === place.x && Math.abs(other.y - place.y) < 12));
      if (!last) continue;
      taken.push(last);
      ctx.font = `600 11px ${css("--sans")}`;
      ctx.textAlign = "right";
      ctx.textBaseline = "middle";
      haloText(ctx, name, last.x - 8, last.y, 2 * gap);
    }
  }

  function drawOver() {
    over.clear();
    for (const [i, colour] of [[store.indexOf(store.state.chosen), "--ink"], [hover.row, "--accent"]])
      if (store.base[i]) polylines(over.ctx, [i], {stroke: css(colour), width: 2.4});
    for (const axis of axes) drawAxis(over.ctx, axis);
    drawReferences(over.ctx);
  }

  // ---- brushes: press near an axis and drag; the whole height of the stage counts, past the ends of the axis too

  let drag = null, frame = 0;
  const axisAt = x => axes.find(axis => Math.abs(axis.x - x) <= gap / 2);
  const isNear = (axis, x) => axis && Math.abs(axis.x - x) < Math.min(24, gap / 3);

  function lineAt(x, y) {
    const k = axes.findIndex(axis => axis.x > x);
    if (k < 1) return -1;
    const [a, b] = [axes[k - 1], axes[k]], along = (x - a.x) / (b.x - a.x);
    let best = -1, least = 6;
    for (const i of store.rows) {
      const far = Math.abs(a.ys[i] + along * (b.ys[i] - a.ys[i]) - y);
      if (far < least) [least, best] = [far, i];
    }
    return best;
  }

  function dragged(y) {
    const move = toShare(y) - toShare(drag.start);
    if (drag.held) return drag.axis.range(...drag.held.map(end => end + move));
    return drag.axis.range(toShare(Math.max(y, drag.start)), toShare(Math.min(y, drag.start)));
  }

  const on = (name, run) => over.canvas.addEventListener(name, run);
  on("pointerdown", event => {
    const axis = axisAt(event.offsetX), start = event.offsetY;
    if (!axis) return;
    const near = isNear(axis, event.offsetX), brush = near && store.state.brushes[axis.column.name];
    const span = brush ? axis.span(brush) : [1, 0], inside = span[0] <= toShare(start) && toShare(start) <= span[1];
    over.canvas.setPointerCapture(event.pointerId);
    drag = {axis, start, near, moved: false, held: inside ? span : null};  // pressed inside a brush: move it
  });
  on("pointermove", event => {
    if (!drag) {
      over.canvas.style.cursor = isNear(axisAt(event.offsetX), event.offsetX) ? "ns-resize" : "pointer";
      return hover.set(lineAt(event.offsetX, event.offsetY), event.clientX, event.clientY);
    }
    drag.moved ||= Math.abs(event.offsetY - drag.start) > 3;
    if (!drag.moved) return;
    drag.range = dragged(event.offsetY);
    frame ||= requestAnimationFrame(() => {
      frame = 0;
      if (drag) store.brush(drag.axis.column.name, drag.range, true);
    });
  });
  on("pointerup", event => {
    if (!drag) return;
    const {axis, near, moved, range} = drag, i = lineAt(event.offsetX, event.offsetY);
    drag = null;
    if (moved) store.brush(axis.column.name, range);
    else if (near) store.brush(axis.column.name, null);
    else if (i >= 0) store.choose(store.ids[i]);
  });
  on("pointercancel", () => { drag = null; });
  on("pointerleave", () => hover.set(-1));
  hover.views.push(drawOver);

  let layout = "", colour = null;
  store.views.push(reason => {
    if (reason === "rows" || reason === "view") {
      const wanted = JSON.stringify([store.state.closed, box.clientWidth, onPaper()]), fresh = wanted !== layout;
      if (reason === "view" && !fresh && store.state.c === colour) return;  // the scatter's axes moved, not ours
      if (fresh) build();
      if (fresh || reason === "rows") place();
      [layout, colour, paint] = [wanted, store.state.c, makePaint(store)];
    }
    const brushed = Object.keys(store.state.brushes).length > 0;
    if (brushed && stale) drawAll();
    back.canvas.style.visibility = brushed ? "visible" : "hidden";
    if (reason !== "chosen") drawSelection();
    drawOver();
  });
  return {resize() { layout = ""; }};
}
