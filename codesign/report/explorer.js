// Controls of the explorer, the filters it shows as chips, and the table of the selection.

function axisSelect(store, key, label, none = null) {
  const options = store.plottable.includes(store.column(key)) || !store.column(key)
    ? store.plottable : [store.column(key), ...store.plottable];
  const groups = GROUPS.map(([, title, members]) => [title, options.filter(column => members.includes(column.group))]);
  const select = el("select", {id: `axis-${key}`, on: {change: () => {
    store.state[key] = select.value;
    if (key !== "c") store.state[`${key}log`] = Boolean(store.column(key).log);
    store.update("view");
  }}},
    none && el("option", {value: "", text: none}),
    groups.filter(([, list]) => list.length).map(([title, list]) =>
      el("optgroup", {label: title}, list.map(column => el("option", {value: column.name, text: column.label})))));
  const log = el("input", {type: "checkbox", id: `log-${key}`, on: {change: () => {
    store.state[`${key}log`] = log.checked;
    store.update("view");
  }}});
  store.views.push(() => {
    select.value = store.state[key];
    log.checked = Boolean(store.state[`${key}log`]);
    log.disabled = !(store.column(key) && store.column(key).positive);
  });
  const box = el("div", {class: "control"}, el("label", {for: `axis-${key}`, text: label}), select);
  if (key !== "c") box.append(el("label", {class: "check"}, log, " log"));
  return box;
}

function rangeText(column, [lo, hi]) {
  if (column.levels) return column.levels.filter((_, k) => k >= lo && k <= hi).map(level => show(level)).join(", ");
  if (!Number.isFinite(lo)) return `≤ ${column.tell(hi)}`;
  if (!Number.isFinite(hi)) return `≥ ${column.tell(lo)}`;
  return lo === hi ? column.tell(lo) : `${column.tell(lo)} to ${column.tell(hi)}`;
}

function filterBar(store) {
  const count = el("output", {id: "count", "aria-live": "polite"});
  const chips = el("ul", {class: "chips", "aria-label": "Filters"});
  const button = (id, text, title, run) => el("button", {type: "button", id, text, title, on: {click: run}});
  const keep = button("keep", "Keep", "Work on with the selection only", () => store.step("keep"));
  const exclude = button("exclude", "Exclude", "Drop the selection, work on with the rest", () => store.step("exclude"));
  const reset = button("reset", "Reset", "Remove every filter", () => {
    Object.assign(store.state, {brushes: {}, steps: []});
    store.update("rows");
  });
  const csv = button("csv", "Download CSV", "The selection: all columns, SI units", () =>
    download("codesign-selection.csv", toCsv(store), "text/csv"));
  const describe = brushes => Object.entries(brushes)
    .map(([name, range]) => `${store.byName.get(name).label} ${rangeText(store.byName.get(name), range)}`).join(" and ");
  const chip = (text, remove) => el("li", {}, el("button", {
    type: "button", class: "chip", "aria-label": `Remove filter: ${text}`, on: {click: remove},
  }, text, el("span", {"aria-hidden": "true", text: " ×"})));
  store.views.push(reason => {
    if (reason !== "rows" && reason !== "brush") return;
    const {brushes, steps} = store.state, n_bad = store.rows.filter(i => !store.feasible[i]).length;
    count.textContent = `${grouped.format(store.rows.length)} of ${grouped.format(sum([...store.base]))} points selected`
      + (n_bad ? ` (${grouped.format(n_bad)} infeasible)` : "");
    keep.disabled = exclude.disabled = !Object.keys(brushes).length;
    reset.disabled = keep.disabled && !steps.length;
    chips.replaceChildren(
      ...steps.map(([op, limits], k) => chip(`${op === "keep" ? "kept" : "excluded"}: ${describe(limits)}`, () => {
        steps.splice(k, 1);
        store.update("rows");
      })),
      ...Object.entries(brushes).map(([name, range]) => chip(describe({[name]: range}), () => store.brush(name, null))));
  });
  return el("div", {class: "filters"}, count, keep, exclude, reset, csv, chips);
}

function toCsv(store) {
  const names = ["id", "on_front", "feasible", "killed_by", ...store.columns.map(column => column.name)];
  const cell = value => {
    const text = value === null || value === undefined ? "" : String(value);
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  const lines = store.rows.map(i => names.map(name => cell(store.data.rows[name][i])).join(","));
  return [names.map(cell).join(","), ...lines, ""].join("\r\n");
}

// ---- table of the selection ------------------------------------------------------------------------------

function sortedRows(store) {
  const [name, way] = store.state.sort, column = store.byName.get(name), key = column ? column.v : store.ids;
  return [...store.rows].sort((a, b) => {
    const u = key[a], w = key[b], empty = (u !== u) - (w !== w);  // NaN is not itself: empty cells go last
    return empty || (u < w ? -way : u > w ? way : a - b);
  });
}

function tableRow(store, order, i) {
  const id = store.ids[i], note = !store.feasible[i] ? store.why(i) : store.front[i] ? "front" : "";
  const marks = [id === store.state.chosen ? "chosen" : "", store.feasible[i] ? "" : "dead"].join(" ").trim();
  return el("tr", {"data-id": id, class: marks || null},
    el("th", {scope: "row"},
      el("input", {type: "checkbox", checked: store.state.pins.includes(id), "aria-label": `Pin ${id} for comparison`,
        on: {change: () => store.pin(id)}}),
      el("button", {type: "button", class: "link", text: `#${id}`, title: "Show this design in full",
        on: {click: () => { store.choose(id); goTo("design"); }}}),
      el("small", {text: note})),
    order.map(column => el("td", {class: column.levels ? "word" : null, text: column.cell(i)})));
}

/** Mark the chosen and the pinned row in place, so that the keyboard keeps its focus. */
function retouch(store, row) {
  const id = store.ids[store.indexOf(row.dataset.id)];
  row.classList.toggle("chosen", id === store.state.chosen);
  row.querySelector("input").checked = store.state.pins.includes(id);
}

function selectionTable(store) {
  const PAGE = 50, MORE = 250;
  const order = [...store.objectives, ...store.columns.filter(column => column.varies && column.group !== "objective")];
  const fixed = store.columns.filter(({varies, raw}) => !varies && raw[0] !== null && raw.every(value => value === raw[0]));
  const head = el("tr"), body = el("tbody");
  let sorted = null;
  const more = el("button", {type: "button", id: "more", on: {click: () => draw(body.children.length + MORE)}});
  function sortBy(name) {
    const [current, way] = store.state.sort, column = store.byName.get(name);
    store.state.sort = [name, current === name ? -way : column && column.direction === "max" ? -1 : 1];
    store.update("view");
  }
  function sorter(column) {
    const {name, label, shown, levels} = column;
    const button = el("button", {type: "button", title: tip(column), on: {click: () => sortBy(name)}}, label);
    button.append(el("small", {text: shown || "\u00a0"}));
    return el("th", {scope: "col", class: levels ? "word" : null, "data-column": name}, button);
  }
  head.append(...[{name: "id", label: "Design", meaning: "Number in this run"}, ...order].map(sorter));
  function draw(limit) {
    const rows = sortedRows(store), [name, way] = store.state.sort;
    body.append(...rows.slice(body.children.length, limit).map(i => tableRow(store, order, i)));
    more.hidden = rows.length <= limit;
    more.textContent = `Show more (${grouped.format(body.children.length)} of ${grouped.format(rows.length)} shown)`;
    for (const th of head.children)
      th.setAttribute("aria-sort", th.dataset.column !== name ? "none" : way > 0 ? "ascending" : "descending");
  }
  store.views.push(reason => {
    if (reason === "chosen") return body.childNodes.forEach(row => retouch(store, row));
    if (reason === "view" && sorted === String(store.state.sort)) return;
    sorted = String(store.state.sort);
    body.replaceChildren();
    draw(PAGE);
  });
  const caption = el("caption", {class: "away", text: "Designs in the selection"});
  const box = scroller("Table of the selection", el("table", {id: "selection"}, caption, el("thead", {}, head), body));
  box.classList.add("tall");
  const same = fixed.map(column => `${column.label} ${column.value(0)}`).join(", ");
  return [box, more, same ? el("p", {class: "fine", text: `The same in every design: ${same}.`}) : ""];
}
