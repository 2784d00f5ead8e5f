"""What would happen if a design were changed: `codesign show RUN ID --why-not "n_experts=512"`.

The changed design is tried with every layout, as the search would.  Either a constraint kills it, and by how much is said; or it is
feasible, and what its comparable point gains and pays is set beside the original, with the points of the front that beat it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from codesign import evaluate as pipeline
from codesign.constraints import WORST, in_words
from codesign.evaluate import constraint_names
from codesign.legal import legal_variables
from codesign.physics import architecture as arch
from codesign.problem import StudyProblem
from codesign.results import Run
from codesign.sensitivity import comparable, index_of
from codesign.spec.errors import UserError, did_you_mean, nearest
from codesign.study import Study
from codesign.units.serve_unit import DEGREES

MOST = 65_536  # experts, heads, layers: tables of one row each are made of them
WIDEST = 2**24  # every other size of an architecture


def why_not(study: Study, run: Run, point_id: int, change: str) -> dict[str, Any]:
    """{changed, in_space, feasible, broken: [sentences], point, changes, beaten_by: [ids], verdict} of a point after `change`."""
    row = run.point(point_id)
    problem = study.problem
    wanted = parse(problem, change)
    _check(study, wanted)
    values, in_space = _changed(problem, row, wanted)
    answer: dict[str, Any] = {
        "id": point_id, "changed": {k: {"from": problem.values_of([row])[k].tolist()[0], "to": v} for k, v in wanted.items()},
        "in_space": in_space, "feasible": False, "broken": [], "point": None, "changes": None, "beaten_by": [], "on_front_as": None,
        "notes": _notes(problem, values, wanted),
    }  # fmt: skip
    answer["broken"] = _unbuildable(problem, values)
    if answer["broken"]:
        return answer | {"verdict": _verdict(answer)}
    batch = pipeline.evaluate(problem.setting, values, {name: np.zeros(1, dtype=int) for name in values})
    answer["feasible"] = bool(batch.design.size)
    if not batch.design.size:
        names = constraint_names(problem.setting)
        broken = [(n, float(v)) for n, v in zip(names, batch.violations[0], strict=True) if v > 0 and n != "speed tier"]
        answer["broken"] = [in_words(n, v if v < WORST else WORST, problem.setting.limits) for n, v in broken]
    else:
        answer |= _beside(problem, run, row, batch)
    return answer | {"verdict": _verdict(answer)}


def parse(problem: StudyProblem, text: str) -> dict[str, Any]:
    """`n_experts=512, weight_bits=4` as {searched variable: value of its type}."""
    variables, wanted = {v.name: v for v in problem.space.variables}, {}
    leaves = {name.split(".", 1)[-1]: name for name in variables}
    for part in (p for p in text.replace("==", "=").replace(" and ", ",").split(",") if p.strip()):
        name, equals, value = (p.strip() for p in part.partition("="))
        key = name if name in variables else leaves.get(name)
        if not equals or not value:
            raise UserError(
                f"'{part.strip()}' is no change",
                hint='write variable=value, several separated by commas: --why-not "n_experts=512"',
            )
        if key is None:
            raise UserError(f"'{name}' is not a variable of this study's space", hint=_instead(name, variables, leaves))
        wanted[key] = _typed(variables[key].choices[0], value.strip("'\""), name)
    if not wanted:
        raise UserError("--why-not is empty", hint='for example --why-not "n_experts=512"')
    return wanted


def _check(study: Study, wanted: Mapping[str, Any]) -> None:
    """Refuses what a study file would refuse (the least legal value), and sizes whose tables would not fit this machine's memory."""
    legal = legal_variables(study.file)
    for name, value in wanted.items():
        if isinstance(value, str) or name not in legal:
            continue
        leaf, value = name.rpartition(".")[2], float(value)
        if not np.isfinite(value) or value < legal[name].least:
            raise UserError(f"{leaf} = {value:g} is not legal: it must be at least {legal[name].least:g}", hint="as in a study file")
        most = MOST if leaf.startswith("n_") else WIDEST
        if name.startswith("architecture.") and value > most:
            raise UserError(f"{leaf} = {value:g} is more than can be tried: at most {most:,}", hint="give a smaller value")


def _filled(problem: StudyProblem, values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    given = {k.split(".", 1)[1]: v for k, v in (problem.setting.base | values).items() if k.startswith("architecture.")}
    with np.errstate(divide="ignore", invalid="ignore"):
        return arch.fill(given)


def _unbuildable(problem: StudyProblem, values: Mapping[str, np.ndarray]) -> list[str]:
    """The rules of structure that the changed architecture breaks, in words."""
    if problem.setting.clip:
        return []
    return [rule for rule, broken in arch.problems(_filled(problem, values)).items() if np.any(broken)]


def _notes(problem: StudyProblem, values: Mapping[str, np.ndarray], wanted: Mapping[str, Any]) -> list[str]:
    """What a change means where the value alone does not say it: no experts is a dense FFN."""
    if wanted.get("architecture.n_experts") != 0:
        return []
    d_ff = _filled(problem, values)["d_ff"]
    return [f"n_experts = 0: a dense FFN of d_ff {float(np.ravel(d_ff)[0]):g} in every layer; what describes experts is not read"]


def _instead(name: str, variables: Mapping[str, Any], leaves: Mapping[str, str]) -> str:
    """What to ask: the nearest variable; how to fix a layout, which is nobody's variable; or the variables, each once."""
    unit, _, degree = name.rpartition(".")
    if degree in (*DEGREES, "batch", "micro_batch", "recompute", "zero"):
        return f"every layout is tried for every design; to allow some only: codesign run STUDY.yaml --set 'layout.{unit or 'serve'}.{degree}=[8]' --out RUN"
    close = nearest(name, [*variables, *leaves])
    return f"did you mean '{close}'?" if close else did_you_mean("", leaves, "variables")


def _typed(example: Any, text: str, name: str) -> Any:
    if isinstance(example, str):
        return text
    try:
        number = float(text)
    except ValueError:
        raise UserError(f"{name} = '{text}' is not a number", hint=f"it is one, such as {example}") from None
    if isinstance(example, (int, np.integer)) and not isinstance(example, bool) and not number.is_integer():
        raise UserError(f"{name} = {text} must be a whole number")
    return type(example)(number)


def _changed(problem: StudyProblem, row: dict[str, Any], wanted: dict[str, Any]) -> tuple[dict[str, np.ndarray], bool]:
    """Values (1,) of the changed design, and whether the space contains it.  Ties (`derived`) follow where the value is a choice."""
    index, outside = index_of(problem, row), {}
    for v, variable in enumerate(problem.space.variables):
        if variable.name in wanted:
            choices = [c for c in variable.choices[: variable.n_active]]
            if wanted[variable.name] in choices:
                index[v] = choices.index(wanted[variable.name])
            elif variable.name.startswith("hardware.") or isinstance(variable.choices[0], str):
                raise UserError(f"'{wanted[variable.name]}' is not one of {variable.name}: {', '.join(map(str, choices))}",
                                hint="add it to the space and run again")  # fmt: skip
            else:
                outside[variable.name] = np.array([wanted[variable.name]])
    design = problem.space.canonical(index[None])
    values = problem.space.values(design)
    overruled = [n for n in wanted if n not in outside and values[n].tolist()[0] != wanted[n]]
    if overruled:
        raise UserError(
            f"{overruled[0]} is not read by this design: its `when` is false",
            hint="change the variable that its condition reads too",
        )
    return values | outside, not outside and bool(problem.valid(design)[0])


def _beside(problem: StudyProblem, run: Run, row: dict[str, Any], batch) -> dict[str, Any]:
    """The changed design's comparable point, what it gains and pays, and who on the front is at least as good in everything."""
    goals = list(run.objectives)
    at = comparable(problem.setting, {g: batch.points[g] for g in goals}, row)
    point = {k: v[at].item() for k, v in batch.points.items()}
    signs = np.array([-1.0 if d == "maximize" else 1.0 for d in run.objectives.values()])
    mine, front = np.array([point[g] for g in goals]) * signs, run.front[goals].to_numpy(float) * signs
    near = mine + 1e-9 * np.abs(mine)
    beaten = np.all(front <= near, axis=1) & np.any(front < mine - 1e-9 * np.abs(mine), axis=1)
    same = np.all(np.abs(front - mine) <= 1e-9 * np.abs(mine), axis=1)
    worst = np.argsort(-np.max((mine - front) / np.maximum(np.abs(front), 1e-30), axis=1))
    return {
        "point": point, "changes": {g: point[g] / row[g] - 1.0 if row[g] else None for g in goals}, "objectives": dict(run.objectives),
        "beaten_by": [int(run.front["id"].iloc[i]) for i in worst if beaten[i]][:3],
        "on_front_as": next((int(i) for i in run.front["id"][same]), None),
    }  # fmt: skip


def _verdict(answer: dict[str, Any]) -> str:
    if not answer["feasible"]:
        return f"infeasible: {'; '.join(answer['broken']) or 'no layout fits'}"
    if answer["on_front_as"] is not None:
        return f"it is on the front, as #{answer['on_front_as']}"
    if answer["beaten_by"]:
        listed = ", ".join(f"#{i}" for i in answer["beaten_by"])
        return f"feasible, but beaten: {listed} {'is' if len(answer['beaten_by']) == 1 else 'are'} at least as good in every objective"
    where = (
        "the search did not reach it; more trials would"
        if answer["in_space"]
        else "it lies outside the study's space: widen the space and run again"
    )
    return f"feasible and not beaten by the front: {where}"
