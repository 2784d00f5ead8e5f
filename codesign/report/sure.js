// How sure the picks are: samples of everything uncertain, what would change each choice, what to measure first.

const chance = share => (share > 0 && share < 0.005 ? "under 1\u00a0%" : `${Math.round(100 * share)}\u00a0%`);

/** One sentence for the card of a pick. */
function sureLine(store, pick) {
  if (!isNumber(pick.p_front)) return null;
  const leaves = pick.leaves_front ? " It leaves the front in more than half of them." : "";
  return `On the front in ${chance(pick.p_front)} of the samples, within every limit in ${chance(pick.p_holds)}.${leaves}`;
}

/** What an assumption would have to be for another choice: `prefill time ... 1.66 times as large, probability 3.2 %: #16`. */
function flipLine({assumption, factor, value, unit, probability, becomes, breaks_a_limit: breaks}) {
  const at = isNumber(value) ? ` at ${show(value, unit)}` : "", then = isNumber(becomes) ? `, then #${becomes}` : "";
  return `${assumption} ${sig(tidy(factor, 3))}×${at} (${chance(probability)})${breaks ? " breaks a limit" : ""}${then}`;
}

function sureTable(store, picks) {
  const lines = list => el("ul", {}, list.map(text => el("li", {text})));
  const row = pick => el("tr", {},
    el("th", {scope: "row"}, `${capital(pick.name)} `, el("button", {type: "button", class: "link", text: `#${pick.id}`,
      on: {click: () => { store.choose(pick.id); goTo("design"); }}})),
    el("td", {text: chance(pick.p_front)}), el("td", {text: chance(pick.p_holds)}),
    store.objectives.map(column => el("td", {text: column.tell((pick.debiased || {})[column.name])})),
    el("td", {class: "word wide"}, lines((pick.flips || []).map(flipLine))),
    el("td", {class: "word wide"}, lines((pick.neighbours || []).map(({id, sentence}) => `#${id}: ${sentence}`))));
  const head = ["Pick", "On the front", "Within limits", ...store.objectives.map(column => column.label), "<Flips at", "<Beside it"];
  return scroller("How sure each pick is", table(head, picks.map(row)));
}

function measureTable(rows) {
  const line = ({source, how, usd, removes_frac: share}) => el("tr", {},
    el("th", {scope: "row", text: source}), el("td", {class: "word wide", text: how}),
    el("td", {text: isNumber(usd) ? show(usd, "USD") : "–"}), el("td", {text: chance(share)}));
  return scroller("What to measure first", table(["Assumption", "<How", "Costs", "Regret removed"], rows.map(line)));
}

const MAX_MEASUREMENTS = 6;

function drawSure(store) {
  const {decision} = store.data, root = byId("sure");
  root.hidden = byId("to-sure").hidden = !(decision && decision.picks && decision.picks.length);
  if (root.hidden) return;
  const told = `${plural(decision.samples, "sample")} of the errors of the model and the quality law, prices, demand and the other assumptions, `
    + "each with the front scored again. The objectives are what to expect once the luck of being chosen is taken off."
    + (decision.wanted > decision.samples ? ` This front is long: codesign decide takes ${plural(decision.wanted, "sample")}, so its shares are `
      + `nearer to the truth and may differ by ${percent(1 / Math.sqrt(decision.samples))}.` : "");
  const worth = (decision.measurements || []).filter(row => row.removes_frac > 0).slice(0, MAX_MEASUREMENTS);
  byId("sure-body").replaceChildren(
    el("p", {class: "fine", text: told}), sureTable(store, decision.picks),
    worth.length ? el("h3", {text: "What to measure first"}) : "", worth.length ? measureTable(worth) : "",
    command(`codesign decide ${quote(store.data.run)}`));
}
