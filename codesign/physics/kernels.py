"""Time of one kernel, and the ledger that adds kernels up.

    t = t0 + max(FLOP / (eP peak), bytes / (eB bandwidth))

The additive t0 is the term that a bare roofline misses: fitted on NVIDIA's kernel tables (ai-dynamo/aiconfigurator
@095f58a, collected by CUDA-graph replay) this form leaves 4-9 % median error in bf16 where a saturating efficiency in m
leaves 8-16 % and the bare roofline 26-41 %.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from codesign.physics.arrays import Arrays


@dataclass(frozen=True)
class Rate(Arrays):
    """What one kind of kernel achieves on one chip at one dtype: fixed time [s], FLOP/s and byte/s after efficiency."""

    t0_s: np.ndarray
    flop_per_s: np.ndarray
    bytes_per_s: np.ndarray


@dataclass(frozen=True)
class Op:
    """One operator of a phase, all its launches together; arrays (N,) in seconds.  time = fixed + max(compute, memory) + network."""

    name: str
    compute_s: np.ndarray
    memory_s: np.ndarray
    network_s: np.ndarray
    fixed_s: np.ndarray
    flop: np.ndarray
    bytes: np.ndarray

    @property
    def time_s(self):
        return self.fixed_s + np.maximum(self.compute_s, self.memory_s) + self.network_s

    @property
    def bound(self):
        """Which of compute, memory, network, fixed takes the largest part of the operator's time: index into BOUNDS."""
        body = np.maximum(self.compute_s, self.memory_s)
        is_compute = self.compute_s >= self.memory_s
        parts = np.broadcast_arrays(np.where(is_compute, body, 0), np.where(is_compute, 0, body), self.network_s, self.fixed_s)
        return np.argmax(np.stack(parts), axis=0)


BOUNDS = ("compute", "memory", "network", "fixed")


@dataclass
class Ledger:
    """Adds up the serial time of a phase; keeps every operator only when somebody will read it (`detail`)."""

    detail: bool = False
    time_s: np.ndarray | float = 0.0
    fixed_s: np.ndarray | float = 0.0  # of the kernels and collectives, part of time_s
    slack_s: np.ndarray | float = 0.0  # time in which weights are read and arithmetic units wait: room for the FLOP of mixed-in prompts
    ops: list[Op] = field(default_factory=list)

    @property
    def work(self) -> list[Op]:
        """Operators of one step, each as one device of the attention finds it in the mean: what energy is counted from."""
        return self.ops

    def kernel(self, name, rate: Rate, n_launches, flop, n_bytes, repeat=1.0, lends=True) -> None:
        """Add `repeat` x [n_launches t0 + max(flop / rate, bytes / bandwidth)]; flop and bytes are of all n_launches together.

        lends: other tokens may use the weights that it reads, so that its waiting arithmetic is theirs; a kernel without weights
        (attention over a cache, norms) has nothing to lend, because theirs runs before or after it.
        """
        compute_s = flop / rate.flop_per_s
        memory_s = n_bytes / rate.bytes_per_s
        fixed_s = n_launches * rate.t0_s
        self.time_s = self.time_s + repeat * (fixed_s + np.maximum(compute_s, memory_s))
        self.fixed_s = self.fixed_s + repeat * fixed_s
        if lends:
            self.slack_s = self.slack_s + repeat * np.maximum(memory_s - compute_s, 0.0)
        if self.detail:
            self._keep(name, repeat * compute_s, repeat * memory_s, 0.0, repeat * fixed_s, repeat * flop, repeat * n_bytes)

    def network(self, name, latency_s, transfer_s, repeat=1.0) -> None:
        """Add `repeat` x (latency + transfer); latency counts as fixed time."""
        self.time_s = self.time_s + repeat * (latency_s + transfer_s)
        self.fixed_s = self.fixed_s + repeat * latency_s
        if self.detail:
            self._keep(name, 0.0, 0.0, repeat * transfer_s, repeat * latency_s, 0.0, 0.0)

    def fixed(self, name, seconds) -> None:
        self.time_s = self.time_s + seconds
        if self.detail:
            self._keep(name, 0.0, 0.0, 0.0, seconds, 0.0, 0.0)

    def _keep(self, name, *parts) -> None:
        self.ops.append(Op(name, *(np.asarray(p, dtype=float) for p in parts)))

    def totals(self) -> dict[str, np.ndarray]:
        """Seconds by cause (compute, memory, network, fixed: they add up to the estimate) and the pair of bounds.

        lower = max(sum compute, sum memory, sum network), everything overlapped; upper = their sum plus the fixed time,
        nothing overlapped.  lower <= estimate <= upper.
        """
        causes = {name: 0.0 for name in BOUNDS}
        raw = {"compute": 0.0, "memory": 0.0, "network": 0.0, "fixed": 0.0}
        for op in self.ops:
            is_compute = op.compute_s >= op.memory_s
            causes["compute"] = causes["compute"] + np.where(is_compute, op.compute_s, 0.0)
            causes["memory"] = causes["memory"] + np.where(is_compute, 0.0, op.memory_s)
            causes["network"] = causes["network"] + op.network_s
            causes["fixed"] = causes["fixed"] + op.fixed_s
            for cause, value in zip(BOUNDS, (op.compute_s, op.memory_s, op.network_s, op.fixed_s), strict=True):
                raw[cause] = raw[cause] + value
        lower = np.maximum(np.maximum(raw["compute"], raw["memory"]), raw["network"])
        upper = raw["compute"] + raw["memory"] + raw["network"] + raw["fixed"]
        return {**{f"{k}_s": v for k, v in causes.items()}, "lower_s": lower, "upper_s": upper}


def dominant(causes: dict[str, np.ndarray]) -> np.ndarray:
    """Name of the largest cause per row: one of compute, memory, network, fixed."""
    parts = np.broadcast_arrays(*(np.asarray(causes[f"{name}_s"], dtype=float) for name in BOUNDS))
    return np.array(BOUNDS)[np.argmax(np.stack(parts), axis=0)]
