"""Relations between keys of a study that no single key can show."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from codesign.spec.errors import Problem
from codesign.spec.schema import Study, Workload
from codesign.spec.units import dimension, is_quantity, quantity, show


def check(study: Study) -> Iterator[Problem]:
    """Every problem, first to last."""
    yield from _objectives(study)
    yield from _constraints(study)
    yield from _hardware(study)
    yield from _workload(study)
    yield from _lifecycle(study)


def _objectives(study: Study) -> Iterator[Problem]:
    count = len(study.objectives)
    if count < 2:
        message = f"{count or 'no'} objective{'' if count == 1 else 's'}; a Pareto front needs two to five"
        yield Problem(("objectives",), message, "add one such as 'usd_per_mtok: minimize'", at_key=True)
    if count > 5:
        yield Problem(("objectives",), f"{count} objectives; at most five", "make the others constraints", at_key=True)


def _constraints(study: Study) -> Iterator[Problem]:
    for name, bounds in study.constraints.items():
        limits = {bound.op: _si(bound.text) for bound in bounds}
        if len(bounds) == 2 and len(limits) == 1:
            yield Problem(("constraints", name), f"two bounds on the same side of '{name}'")
        elif len(limits) == 2 and limits[">="] > limits["<="]:
            yield Problem(
                ("constraints", name),
                f"nothing is {bounds[0].op} {bounds[0].text} and {bounds[1].op} {bounds[1].text}",
            )
        for bound in bounds:
            limit = _si(bound.text)
            if bound.op == "<=" and (limit < 0 or (limit == 0 and is_quantity(bound.text))):
                yield Problem(("constraints", name), f"no design can have '{name}' {bound.op} {bound.text}")


def _si(text: str) -> float:
    """A bound in the SI unit of its own text."""
    return quantity(text, dimension(text)) if is_quantity(text) else float(text)


def _hardware(study: Study) -> Iterator[Problem]:
    named = {key for key, value in study.hardware if value is not None}
    named |= {name.removeprefix("hardware.") for name in study.space if name.startswith("hardware.")}
    if not named:
        yield Problem(
            ("hardware",),
            "no hardware is named",
            "write for example 'hardware: {serve: h200_sxm_node}'",
            at_key=True,
        )
    elif study.serving.mode == "colocated" and named & {"prefill", "decode"}:
        key = sorted(named & {"prefill", "decode"})[0]
        message = f"'{key}' has hardware of its own, but serving is colocated"
        yield Problem(
            ("hardware", key),
            message,
            "write 'serving: {mode: disaggregated}', or 'hardware: {serve: ...}'",
            at_key=True,
        )
    elif study.serving.mode == "disaggregated" and not named & {"serve"} and len(named & {"prefill", "decode"}) == 1:
        missing = ({"prefill", "decode"} - named).pop()
        yield Problem(
            ("hardware",),
            f"'{missing}' has no hardware",
            "disaggregated serving needs prefill and decode, or serve",
            at_key=True,
        )


def _workload(study: Study) -> Iterator[Problem]:
    workload = study.workload
    if workload is None:
        return
    if workload.clip is not None:
        yield from _clip(study)
        return
    if (workload.use is None) == (workload.mix is None):
        has_both = workload.use is not None
        own = workload.isl is not None and workload.osl is not None
        if has_both or not own:
            message = "'use' and 'mix' exclude each other" if has_both else "the workload names no requests"
            yield Problem(("workload",), message, "give use, mix, or isl with osl", at_key=True)
    if workload.mix:
        total = sum(item.share for item in workload.mix)
        if abs(total - 1) > 1e-3:
            yield Problem(("workload", "mix"), f"the shares add up to {total:.4g}, not 1", at_key=True)
    elif workload.mix is not None:
        yield Problem(("workload", "mix"), "the mix is empty", at_key=True)
    if workload.prefix is not None and workload.isl is not None and workload.prefix > workload.isl:
        yield Problem(("workload", "prefix"), "the prefix is part of isl and cannot be longer")
    if workload.demand is not None:
        yield from _demand(workload)


def _clip(study: Study) -> Iterator[Problem]:
    """A study of video has no requests of text, no training and one pool."""
    for key in ("use", "mix", "demand", "isl", "osl", "prefix", "reuse"):
        if getattr(study.workload, key) is not None:
            yield Problem(("workload", key), f"'{key}' is of text, and 'clip' asks for video", "leave one of them out", at_key=True)
    lifecycle = study.lifecycle
    if lifecycle.pretrain_tok or lifecycle.rl_tok or lifecycle.budget or lifecycle.balance:
        yield Problem(("lifecycle",), "a study of video does not train", "leave 'lifecycle' out", at_key=True)
    if study.serving.mode != "colocated":
        yield Problem(("serving", "mode"), "a clip has no prompt to separate from its answer", "leave 'serving' out")
    if study.slo.ttft or study.slo.tpot:
        hint = "write 'constraints: {clip_latency: \"<= 60 s\"}'"
        yield Problem(("slo",), "ttft and tpot are of text", hint, at_key=True)


def _demand(workload: Workload) -> Iterator[Problem]:
    demand = workload.demand
    if demand.peak_to_mean is not None and workload.peak_to_mean is not None:
        yield Problem(("workload", "peak_to_mean"), "a demand curve already says its peak", "leave one of them out", at_key=True)
    last = demand.life[-1][0] if demand.life else 0.0
    if last and workload.lifetime is None:
        message = "stages of the demand need to know when the life ends"
        yield Problem(("workload",), message, "add 'lifetime: 2 yr' to the workload", at_key=True)
    elif last and last >= workload.lifetime:
        text = f"a stage begins after {show(last / 86400, '')} days, but the life ends after {show(workload.lifetime / 86400, '')}"
        yield Problem(("workload", "demand"), text, "leave it out, or lengthen 'lifetime'", at_key=True)


def _lifecycle(study: Study) -> Iterator[Problem]:
    lifecycle = study.lifecycle
    path: tuple[str, ...] = ("lifecycle", "pretrain_tok")
    for key, tokens in (("pretrain_tok", lifecycle.pretrain_tok), ("rl_tok", lifecycle.rl_tok)):
        if tokens is not None and (tokens.tok is None) == (tokens.solve is None):
            yield Problem(("lifecycle", key), "give a quantity of tokens, or 'solve'", at_key=True)
        if tokens is not None and f"lifecycle.{key}" in study.space:
            yield Problem(
                ("lifecycle", key),
                f"'lifecycle.{key}' is also a variable of the space",
                "leave one out",
                at_key=True,
            )
    pretrain: Any = lifecycle.pretrain_tok
    if pretrain is not None and pretrain.solve == "min_cost" and pretrain.quality is None:
        yield Problem(path, "'min_cost' needs the quality to hold", "add 'quality: 1e25 FLOP'", at_key=True)
    if pretrain is not None and pretrain.solve != "min_cost" and pretrain.quality is not None:
        yield Problem((*path, "quality"), "'quality' goes with 'solve: min_cost'", at_key=True)
    if pretrain is not None and pretrain.solve == "budget" and lifecycle.budget is None:
        yield Problem(path, "'solve: budget' needs a budget", "add 'budget: 200 MUSD' to lifecycle", at_key=True)
