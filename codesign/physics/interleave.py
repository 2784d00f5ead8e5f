"""A serving step whose parts run at the same time: kernels beside messages, attention devices beside FFN devices.

Micro-batches go round a closed loop of stations that each serve one at a time.  With m of them, T_r the time of a station per
micro-batch and all layers alike, a step takes

    T = max( m max_r T_r,  sum_r T_r )        the slowest station, or one micro-batch's way round when there are too few of them

Two batches (`overlap`) have two stations, kernels K and messages N, hence T = 2 max(N, K + s N): messages that are sent by kernels keep
a share s of the processors from the others.  FFNs on devices of their own have four: attention, dispatch, FFN, return.  Every micro-batch
has all fixed times to itself and reads all weights again, so neither is free.
Sources: two batches, DeepSeek-V3 report (arXiv 2412.19437 section 3.4); ping-pong, MegaScale-Infer (arXiv 2504.02263 equations 1-6: T_a ~ T_e,
T_c < T_f and m T_f >= 2 (T_f + T_c) are the conditions under which the slowest station is attention or FFN and never waits).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from codesign.physics.kernels import BOUNDS, Ledger, Op
from codesign.physics.layout import Layout


class Part:
    """Kernels and messages of one station, added up apart.  Operators put into it what they put into a ledger."""

    def __init__(self, detail: bool) -> None:
        self.kernels, self.wires = Ledger(detail), Ledger(detail)
        self.kernel, self.fixed, self.network = self.kernels.kernel, self.kernels.fixed, self.wires.network

    @property
    def time_s(self):
        return self.kernels.time_s + self.wires.time_s


class Parts:
    """One micro-batch of a step by station; `once`: what a step does a single time, with nothing beside it."""

    def __init__(self, detail: bool) -> None:
        self.detail = detail
        self.attention, self.ffn, self.out, self.back, self.once = (Part(detail) for _ in range(5))

    @property
    def stations(self) -> tuple[Part, ...]:
        return self.attention, self.ffn, self.out, self.back


@dataclass
class Interleaved(Ledger):
    """The ledger of a step of micro-batches.  `counted`: (ledger, how often it is on the path that takes the time)."""

    layout: Layout | None = None
    parts: Parts | None = None
    counted: list[tuple[Ledger, np.ndarray]] = field(default_factory=list)

    @property
    def work(self) -> list[Op]:
        """Operators of all micro-batches, those of FFN devices and of the links between them per attention device."""
        layout, parts = self.layout, self.parts
        ffn = layout.n_ffn_stage / layout.n_stage
        pairs = np.where(layout.plan.n_ffn > 0, np.minimum(ffn, 1.0), 1.0)
        shares = ((parts.attention, 1.0), (parts.ffn, ffn), (parts.out, pairs), (parts.back, pairs))
        found = [_times(op, layout.n_pieces * share) for part, share in shares for op in (*part.kernels.ops, *part.wires.ops)]
        return found + parts.once.kernels.ops

    def totals(self) -> dict[str, np.ndarray]:
        """Seconds by cause along the path that takes the time (they add up to the estimate), and the pair of bounds."""
        causes = {f"{name}_s": 0.0 for name in BOUNDS}
        for ledger, weight in self.counted:
            found = ledger.totals()
            causes = {k: v + weight * found[k] for k, v in causes.items()}
        m, apart = self.layout.n_pieces, self.layout.plan.n_ffn > 0
        rows = [{k: m * v for k, v in _sums(part).items()} for part in self.parts.stations]
        once = _sums(self.parts.once)
        rows[0] = {k: v + once[k] for k, v in rows[0].items()}
        joint = {k: sum(row[k] for row in rows) for k in rows[0]}
        of_group = np.max(np.stack(np.broadcast_arrays(*(row[c] for row in rows for c in BOUNDS[:3]))), axis=0)
        of_all = np.max(np.stack(np.broadcast_arrays(*(joint[c] for c in BOUNDS[:3]))), axis=0)
        return causes | {"lower_s": np.where(apart, of_group, of_all), "upper_s": sum(joint.values())}

    @property
    def busy(self) -> dict[str, np.ndarray]:
        """Share of the step in which each station works: the one at 1 sets the pace, the rest of the others is idle and paid for."""
        m, parts = self.layout.n_pieces, self.parts
        if np.any(self.layout.plan.n_ffn > 0):
            times = {"attention devices": parts.attention.time_s + parts.once.time_s / m, "FFN devices": parts.ffn.time_s,
                     "links between them": np.maximum(parts.out.time_s, parts.back.time_s)}  # fmt: skip
        else:
            sums = [sum(getattr(part, kind).time_s for part in parts.stations) for kind in ("kernels", "wires")]
            times = {"kernels": sums[0] + parts.once.time_s / m, "messages": sums[1]}
        return {name: m * seconds / self.time_s for name, seconds in times.items()}


def busy_of(ledger: Ledger) -> dict[str, float]:
    """`busy` of the ledger of one step, as plain numbers; empty where its parts do not run at the same time."""
    if not isinstance(ledger, Interleaved) or not np.any((ledger.layout.n_pieces > 1) | (ledger.layout.plan.n_ffn > 0)):
        return {}
    return {name: float(np.ravel(share)[0]) for name, share in ledger.busy.items()}


def _times(op: Op, factor) -> Op:
    return replace(op, **{k: v * factor for k, v in vars(op).items() if k != "name"})


def _sums(part: Part) -> dict[str, np.ndarray]:
    ops = (*part.kernels.ops, *part.wires.ops)
    return {name: sum((getattr(op, f"{name}_s") for op in ops), np.float64(0.0)) for name in BOUNDS}


def interleaved(parts: Parts, layout: Layout, copy_frac=0.0) -> Interleaved:
    """The step that `parts`, one micro-batch of it, add up to under the layout's plan.

    copy_frac: share of the processors that messages occupy while kernels run beside them [-].  Rows without overlap and with one group of
    devices take the plain sum.  An overlapped step has no waiting time left to lend (`slack_s`, `fixed_s` 0).
    """
    m, apart = layout.n_pieces, layout.plan.n_ffn > 0
    kernels, wires = (sum(getattr(part, kind).time_s for part in parts.stations) for kind in ("kernels", "wires"))
    waits = m * wires > m * (kernels + copy_frac * wires)  # two batches: the messages are what takes the time
    two = ~apart & (m > 1)
    of_kernels, of_wires = np.where(two & waits, 0.0, m), np.where(two, np.where(waits, m, m * copy_frac), 1.0)
    times = [part.time_s for part in parts.stations]
    path = np.stack(np.broadcast_arrays(sum(times), *(m * t for t in times)))
    first = np.argmax(path, axis=0)
    counted = [(parts.once.kernels, np.float64(1.0))]
    for i, part in enumerate(parts.stations):
        here = np.where(first == 0, 1.0, m * (first == i + 1))
        counted += [(part.kernels, np.where(apart, here, of_kernels)), (part.wires, np.where(apart, here, of_wires))]
    free = ~apart & (m == 1)
    every = [ledger for part in (*parts.stations, parts.once) for ledger in (part.kernels, part.wires)]
    ops = [_times(op, m) for part in parts.stations for op in (*part.kernels.ops, *part.wires.ops)] + parts.once.kernels.ops
    return Interleaved(
        parts.detail, sum(weight * ledger.time_s for ledger, weight in counted), free * sum(x.fixed_s for x in every),
        free * sum(x.slack_s for x in every), ops if parts.detail else [], layout, parts, counted,
    )  # fmt: skip
