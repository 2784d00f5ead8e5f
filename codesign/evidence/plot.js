"use strict";
// Predicted against measured on logarithmic axes. Text from the data reaches the page through textContent only.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const svg = document.getElementById("plot");
  const choice = document.getElementById("series");
  const only = document.getElementById("only");
  const about = document.getElementById("about");
  const box = { left: 70, right: 880, top: 15, bottom: 570 };

  const make = (name, attributes, parent, text) => {
    const node = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    if (text !== undefined) node.textContent = text;
    parent.appendChild(node);
    return node;
  };

  const ticks = (low, high) => {
    const found = [];
    for (let decade = Math.floor(low); decade <= Math.ceil(high); decade++)
      for (const digit of high - low > 3 ? [1] : [1, 2, 5]) found.push(decade + Math.log10(digit));
    return found.filter((t) => t >= low - 1e-9 && t <= high + 1e-9);
  };

  const show = (value) => (value >= 1e4 || value < 1e-2 ? value.toExponential(0) : Number(value.toPrecision(3)).toString());

  const line = (x, y, from, to, offset, kind) => {
    const low = Math.max(from, from - offset), high = Math.min(to, to - offset);
    make("line", { x1: x(low), y1: y(low + offset), x2: x(high), y2: y(high + offset), class: kind }, svg);
  };

  const describe = (p) => {
    about.textContent = [
      `${p.id}   ${p.model} on ${p.chip}, ${p.precision}${p.engine ? ", " + p.engine : ""}`,
      `measured ${p.measured}   predicted ${p.predicted} (${p.lower} to ${p.upper})   error ${p.error}`,
      p.source, ...p.notes, p.command,
    ].join("\n");
  };

  const draw = () => {
    svg.replaceChildren();
    const words = only.value.toLowerCase().split(/\s+/).filter(Boolean);
    const points = data.points.filter((p) => {
      const text = [p.id, p.model, p.chip, p.precision, p.engine, p.source, p.class].join(" ").toLowerCase();
      return p.series === choice.value && words.every((word) => text.includes(word));
    });
    if (!points.length) {
      make("text", { x: 420, y: 300 }, svg, "no such measurement");
      return;
    }
    const logs = points.flatMap((p) => [Math.log10(p.measured), Math.log10(p.predicted)]);
    const from = Math.min(...logs) - 0.08, to = Math.max(...logs) + 0.08;
    const x = (v) => box.left + ((v - from) / (to - from)) * (box.right - box.left);
    const y = (v) => box.bottom - ((v - from) / (to - from)) * (box.bottom - box.top);
    for (const t of ticks(from, to)) {
      make("line", { x1: x(t), y1: box.top, x2: x(t), y2: box.bottom, class: "grid" }, svg);
      make("line", { x1: box.left, y1: y(t), x2: box.right, y2: y(t), class: "grid" }, svg);
      make("text", { x: x(t), y: box.bottom + 18, "text-anchor": "middle" }, svg, show(10 ** t));
      make("text", { x: box.left - 8, y: y(t) + 4, "text-anchor": "end" }, svg, show(10 ** t));
    }
    line(x, y, from, to, 0, "even");
    for (const side of [-1, 1]) line(x, y, from, to, side * Math.log10(1.15), "near");
    make("text", { x: (box.left + box.right) / 2, y: 606, "text-anchor": "middle" }, svg, `measured ${choice.value}, ${points.length} rows`);
    make("text", { x: 16, y: 300, transform: "rotate(-90 16 300)", "text-anchor": "middle" }, svg, "predicted");
    const range = make("line", { class: "range" }, svg);
    for (const p of points) {
      const at = { cx: x(Math.log10(p.measured)), cy: y(Math.log10(p.predicted)) };
      const dot = make("circle", { ...at, r: 5, class: p.class, tabindex: 0, "aria-label": `${p.id}, error ${p.error}` }, svg);
      const focus = () => {
        describe(p);
        range.setAttribute("class", `range ${p.class}`);
        for (const [key, value] of Object.entries({ x1: at.cx, x2: at.cx, y1: y(Math.log10(p.lower)), y2: y(Math.log10(p.upper)) }))
          range.setAttribute(key, value);
      };
      dot.addEventListener("mouseenter", focus);
      dot.addEventListener("focus", focus);
    }
  };

  const cells = (row, tag) => {
    const tr = document.createElement("tr");
    for (const text of row) tr.appendChild(Object.assign(document.createElement(tag), { textContent: text }));
    return tr;
  };

  for (const series of [...new Set(data.points.map((p) => p.series))])
    choice.appendChild(Object.assign(document.createElement("option"), { value: series, textContent: series }));
  const table = document.getElementById("table");
  table.appendChild(cells(["", "rows", "median", "P90", "bias", "in 80 % interval"], "th"));
  for (const row of data.tables) table.appendChild(cells(row, "td"));
  const skipped = data.skipped.reduce((sum, s) => sum + s.n, 0);
  document.getElementById("skipped").textContent = skipped
    ? `${skipped} rows skipped: ${data.skipped.map((s) => `${s.reason} (${s.n})`).join("; ")}`
    : "no row was skipped";
  choice.addEventListener("change", draw);
  only.addEventListener("input", draw);
  draw();
})();
