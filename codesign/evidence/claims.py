"""Public statements put to the test: a claim is a YAML file, its numbers come from the evaluators that score studies.

A claim names scenarios (what is evaluated), quantities (expressions over the columns of the resulting tables) and rules (expressions over
the quantities).  The first rule that is true is the verdict.  Nothing about a claim stands in code: change its chip and see.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from codesign.evidence import pins
from codesign.evidence.reductions import REDUCTIONS
from codesign.evidence.scenes import EVALUATORS, Scene, Table
from codesign.spec import expressions, yamlio
from codesign.spec.errors import Diagnostic, UserError, did_you_mean
from codesign.spec.units import show

FOLDER = Path(__file__).parent / "data" / "claims"
LEVEL_Z = 1.2816  # standard normal quantile of an 80 % interval
UNSETTLED, REFUTED = "not settled", "does not hold"
PINNED, MISSING = "cannot say with this pin: ", "no value for "


class Part(BaseModel):
    """A piece of a claim file; unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Quantity(Part):
    """One computed number."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    value: str
    meaning: str
    unit: str = ""
    claimed: float | str | None = None
    within: tuple[float, float] = (-np.inf, np.inf)  # ends beyond which the quantity has no meaning


class Rule(Part):
    """`if` an expression over quantities is true (or always, without one), the verdict and why; {name} is a quantity."""

    when: str | None = Field(None, alias="if")
    then: Literal["holds", "holds with a condition", "does not hold"]
    because: str


class Plot(Part):
    """Columns of one scenario as a picture in text."""

    scenario: str
    x: str
    y: list[str]
    by: str | None = None
    log: str = "xy"


class Summary(Part):
    """A table made of another: one row per distinct value of the `by` columns, `columns` reduced over the rows of each."""

    of: str
    by: list[str]
    columns: dict[str, str]

    def table(self, table: Table) -> Table:
        if missing := [name for name in self.by if name not in table]:
            raise UserError(f"scenario '{self.of}' has no column '{missing[0]}' to group by", hint="set another key")
        keys = list(zip(*(table[name].tolist() for name in self.by), strict=True))
        groups = list(dict.fromkeys(keys))
        rows = [{name: values[[key == group for key in keys]] for name, values in table.items()} for group in groups]
        out = {name: np.array([group[i] for group in groups]) for i, name in enumerate(self.by)}
        for name, text in self.columns.items():
            reduce = expressions.compile(text, list(table), more=REDUCTIONS).evaluate
            out[name] = np.array([float(reduce(row)) for row in rows])
        return out


class Show(Part):
    """Columns of one scenario as a table."""

    scenario: str
    columns: list[str]


class Claim(Part):
    """A statement with everything needed to judge it; with `needs` instead of scenarios, why it cannot be judged yet."""

    id: str = Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]*$")
    title: str
    statement: str
    source: str
    claimed: str = ""
    needs: str | None = None
    scenarios: dict[str, Scene] = {}
    summaries: dict[str, Summary] = {}
    quantities: list[Quantity] = []
    verdict: list[Rule] = []
    show: list[Show] = []
    plot: Plot | None = None
    note: str = ""


class Number(BaseModel):
    """A computed quantity with its 80 % interval (equal to the value where the scenario is bare physics)."""

    name: str
    value: float
    low: float
    high: float
    unit: str
    meaning: str
    claimed: float | str | None

    @cached_property
    def text(self) -> str:
        """For people: value and, where it says something, the interval."""
        middle = show_number(self.value, self.unit)
        ends = [show_number(v, self.unit) for v in (self.low, self.high)]
        return middle if ends[0] == ends[1] else f"{middle} ({ends[0]} to {ends[1]})"


class Answer(BaseModel):
    """A claim, judged."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    claim: Claim
    verdict: str
    because: str
    evidence: str
    numbers: list[Number] = []
    tables: dict[str, Any] = Field({}, exclude=True)


def show_number(value: float, unit: str) -> str:
    """Three digits, prefix and unit; percent where the unit says so."""
    if not np.isfinite(value):
        return "none"
    if unit == "%":
        return f"{100 * value:.3g} %"
    if unit == "x":
        return f"{value:.3g}x"
    if not unit:
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return show(value, unit)


def names() -> list[str]:
    """Ids of the shipped claims."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load(name: str) -> Claim:
    """A shipped claim by id, or one of your own by path."""
    path = FOLDER / f"{name.upper()}.yaml"
    if not path.is_file():
        path = Path(name)
        if path.suffix not in (".yaml", ".yml"):
            raise UserError(f"unknown claim '{name}'", hint=did_you_mean(name.upper(), names(), "claims") + "; or the path of a YAML file")
    document = yamlio.load(path)
    try:
        claim = Claim.model_validate(document.data)
    except ValidationError as error:
        raise UserError([document.diagnostic(_place(e["loc"], document.data), _said(e)) for e in error.errors()]) from None
    _check(claim, path)
    return claim


def _place(location: tuple[Any, ...], data: Any) -> tuple[Any, ...]:
    """The part of pydantic's location that exists in the file."""
    found: list[Any] = []
    for part in location:
        try:
            data = data[part]
        except (KeyError, IndexError, TypeError):
            break
        found.append(part)
    return tuple(found)


def _said(error: Mapping[str, Any]) -> str:
    key = error["loc"][-1] if error["loc"] else "the file"
    return {"extra_forbidden": f"unknown key '{key}'", "missing": f"'{key}' is missing"}.get(error["type"], f"{key}: {error['msg']}")


def _check(claim: Claim, path: Path) -> None:
    """A claim either says what it needs, or has all it takes to be judged."""
    found = []
    if not claim.needs:
        found = [f"'{key}' is missing" for key in ("scenarios", "quantities", "verdict") if not getattr(claim, key)]
    if claim.verdict and claim.verdict[-1].when is not None:
        found.append("the last rule of 'verdict' must have no 'if': something is always true")
    for name, scene in claim.scenarios.items():
        if scene.evaluator not in EVALUATORS:
            near = did_you_mean(scene.evaluator, EVALUATORS, "evaluators")
            found.append(f"scenario '{name}': unknown evaluator '{scene.evaluator}'; {near}")
    shown = [s.scenario for s in claim.show] + ([claim.plot.scenario] if claim.plot else [])
    shown += [s.of for s in claim.summaries.values()]
    found += [f"no scenario is called '{name}'" for name in shown if name not in {**claim.scenarios, **claim.summaries}]
    if found:
        raise UserError([Diagnostic(text, str(path)) for text in found])


def judge(claim: Claim, changes: Mapping[str, Any] | None = None) -> Answer:
    """Evaluate the scenarios (`changes` over what they give), compute the quantities, apply the rules.

    A claim that cannot be judged under `changes` is not settled, and says why; without them its error is the author's.
    """
    if claim.needs:
        return Answer(claim=claim, verdict="needs", because=claim.needs, evidence="")
    if not changes:
        return _judged(claim, {}, set())
    try:
        answer = _judged(claim, changes, pins.merged(claim, changes))
    except UserError as error:
        cause = "; ".join(d.message for d in error.diagnostics)
    except (ArithmeticError, LookupError, ValueError) as error:
        cause = f"its scenarios cannot be evaluated ({type(error).__name__}: {error})"
    else:
        if not answer.because.startswith(MISSING):
            return answer
        return answer.model_copy(update={"because": f"{PINNED}{pins.reason(claim, changes, answer.because)}"})
    return Answer(claim=claim, verdict=UNSETTLED, because=f"{PINNED}{pins.reason(claim, changes, cause)}", evidence="")


def _judged(claim: Claim, changes: Mapping[str, Any], merged: set[str]) -> Answer:
    """`merged`: quantities that `changes` have left nothing to compare, so that no verdict may stand on them."""
    scenes = {name: scene.changed(changes) for name, scene in claim.scenarios.items()}
    tables = _with_summaries(claim, {name: scene.table() for name, scene in scenes.items()})
    middle = _quantities(claim, tables)
    shifts = sorted({shift for scene in scenes.values() for shift in scene.shifts()})
    moved = []
    for shift in shifts:
        new = {name: scene.table(shift) if shift in scene.shifts() else tables[name] for name, scene in scenes.items()}
        moved.append(_quantities(claim, _with_summaries(claim, new)))
    numbers = [_number(q, middle[q.name], [m[q.name] for m in moved]) for q in claim.quantities]
    numbers = [n.model_copy(update=dict.fromkeys(("value", "low", "high"), np.nan)) if n.name in merged else n for n in numbers]
    verdict, because = _verdict(claim, numbers, bool(changes))
    evidence = max((scene.evidence() for scene in scenes.values()), key=EVIDENCE.index)
    return Answer(claim=claim, verdict=verdict, because=because, evidence=evidence, numbers=numbers, tables=tables)


EVIDENCE = ("model", "measured", "prior constants")  # the weakest of a claim's scenarios is named


def _with_summaries(claim: Claim, tables: dict[str, Table]) -> dict[str, Table]:
    out = dict(tables)
    for name, summary in claim.summaries.items():
        out[name] = summary.table(out[summary.of])
    return out


def _quantities(claim: Claim, tables: Mapping[str, Table]) -> dict[str, float]:
    env: dict[str, Any] = {f"{name}.{column}": values for name, table in tables.items() for column, values in table.items()}
    out: dict[str, float] = {}
    for q in claim.quantities:
        value = expressions.compile(q.value, [*env, *out], more=REDUCTIONS).evaluate(env | out)
        if np.ndim(value):
            raise UserError(f"claim {claim.id}: '{q.name}' is a column, not a number", hint=f"reduce it: {', '.join(REDUCTIONS)}")
        out[q.name] = float(value)
    return out


def _number(q: Quantity, middle: float, moved: list[float]) -> Number:
    """Effects of the shifted constants add in squares, on a logarithmic scale where the quantity is positive."""
    is_log = middle > 0 and all(m > 0 for m in moved)
    scale = np.log if is_log else (lambda v: v)
    spread = LEVEL_Z * float(np.sqrt(sum((scale(m) - scale(middle)) ** 2 for m in moved if np.isfinite(m))))
    low, high = (middle * np.exp(-spread), middle * np.exp(spread)) if is_log else (middle - spread, middle + spread)
    low, high = np.clip([low, high], *q.within)
    return Number(name=q.name, value=middle, low=float(low), high=float(high), unit=q.unit, meaning=q.meaning, claimed=q.claimed)


def _verdict(claim: Claim, numbers: list[Number], is_pinned: bool) -> tuple[str, str]:
    """The first true rule, and what the ends of the intervals do to it.

    Where one quantity's interval reaches from `holds` to `holds with a condition`, the weaker of the two is what can be said; where it
    reaches across `does not hold`, nothing is settled.  Nor is it where a pin leaves a quantity
    that the verdict reads without a value; a claim's own author may mean that (a crossing that never comes).
    """
    env = {n.name: n.value for n in numbers}
    rule = _rule(claim, env)
    missing = [n.meaning for n in numbers if is_pinned and n.name in _read(claim, rule) and not np.isfinite(n.value)]
    if missing:
        return UNSETTLED, f"{MISSING}{', '.join(repr(meaning) for meaning in missing)}"
    ends = [(n, _rule(claim, env | {n.name: end})) for n in numbers for end in (n.low, n.high)]
    turning = [(n, other) for n, other in ends if (other.then == REFUTED) != (rule.then == REFUTED)]
    if rule.then != REFUTED and not turning:
        rule = max([rule, *(other for _, other in ends)], key=lambda r: len(r.then))
    texts = {n.name: n.text for n in numbers}
    because = re.sub(r"\{(\w+)\}", lambda m: texts[m[1]], rule.because)
    if turning:
        n, other = turning[0]
        where = f"but {other.then} within the 80 % interval of '{n.meaning}': {n.text}"
        return UNSETTLED, f"{rule.then} at the central constants ({because}), {where}"
    return rule.then, because


def _rule(claim: Claim, env: Mapping[str, float]) -> Rule:
    return next(r for r in claim.verdict if r.when is None or bool(expressions.compile(r.when, env).evaluate(env)))


def _read(claim: Claim, rule: Rule) -> set[str]:
    """Quantities behind a verdict: in its text, and in the conditions up to its own."""
    passed = claim.verdict[: claim.verdict.index(rule) + 1]
    return {*re.findall(r"\{(\w+)\}", rule.because), *(name for r in passed if r.when for name in expressions.compile(r.when).names)}


def judge_all(
    ids: Iterable[str] = (), changes: Mapping[str, Any] | None = None, each: Callable[[list[Claim]], Iterable[Claim]] = iter
) -> list[Answer]:
    """Answers of the named claims, all shipped ones without names; `each` may tell how far they are."""
    found = [load(name) for name in (list(ids) or names())]
    pins.check(found, changes or {})
    return [judge(claim, changes) for claim in each(found)]


def changes_of(texts: Iterable[str]) -> dict[str, Any]:
    """`key=value` pairs of `--set`, values as YAML scalars.

    >>> changes_of(["accelerator=mi300x", "batch=4"])
    {'accelerator': 'mi300x', 'batch': 4}
    """
    out = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise UserError(f"'{text}' is no KEY=VALUE", hint="such as --set accelerator=mi300x")
        out[key.strip().replace("-", "_")] = yamlio.parse(f"v: {value}").data["v"]
    return out
