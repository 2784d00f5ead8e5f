"""Which layouts are tried: grids of degrees per unit, as flat arrays (L,)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import product

import numpy as np

from codesign.physics.layout import PLAIN, Layout, make_layout, with_plan

SERVE_DEGREES = {
    "n_tp": (1, 2, 4, 8, 16),
    "n_cp": (1,),
    "n_dp": (1, 2, 4, 8, 16, 32, 64),
    "n_pp": (1, 2, 4),
    "batch": (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024),  # sequences per attention rank
}
MICRO_BATCHES = (
    2,
    3,
    4,
)  # between attention and FFN devices; MegaScale-Infer (arXiv 2504.02263 section 4.1) needs 3 or 4 where links are not fast
TRAIN_DEGREES = {
    "n_tp": (1, 2, 4, 8),
    "n_cp": (1,),
    "n_pp": (1, 2, 4, 8, 16),
    "n_ep": (1, 2, 4, 8, 16, 32, 64),
    "micro_batch": (1, 2),
    "recompute": (1, 2),
    "zero": (1,),
    "n_devices": tuple(2**i for i in range(3, 17)),
}


@dataclass(frozen=True)
class Grid:
    """Candidate layouts of one unit: `layout` (L,), the leading-axis values (batch per rank, or devices), extras (L,)."""

    layout: Layout
    leading: np.ndarray
    extras: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def n_rows(self) -> int:
        return self.layout.n_tp.size * self.leading.size


def serving_grid(has_moe: bool, max_devices: int, choices: dict | None = None) -> Grid:
    """Serving layouts of at most `max_devices` devices a replica.

    Dense: tp x cp x pp.  MoE: attention tp x dp ranks with the experts spread over the whole stage (ep = tp cp dp), and
    the plain tensor-parallel form (etp = tp, ep = 1) for one rank.  FFNs on n_ffn devices of their own: experts spread over those, dense
    FFNs cut in all of them.
    """
    degrees = SERVE_DEGREES | (choices or {})
    plans = _plans(choices or {})
    max_devices = 10**6 if choices and {"n_dp", "n_tp"} <= set(choices) else max_devices  # layouts that the study names are all tried
    rows, extras = [], []
    given_ep, given_etp = degrees.get("n_ep"), degrees.get("n_etp")
    for (tp, cp, dp, pp), plan in product(product(*(degrees[k] for k in ("n_tp", "n_cp", "n_dp", "n_pp"))), plans):
        n_ffn, stage = plan["n_ffn"], tp * cp * dp
        if (stage + n_ffn) * pp > max_devices or (not has_moe and dp > 1 and not n_ffn) or tp % plan["n_ffn_x"] or tp % plan["n_gather"]:
            continue
        held = n_ffn or stage
        splits = {(held if n_ffn else 1, 1)} if not has_moe else {(1, held)} | ({(tp, 1)} if cp * dp == 1 and not n_ffn else set())
        if has_moe and (given_ep or given_etp):
            pairs = ((e, p) for e in given_etp or (1,) for p in given_ep or (n_ffn // e if n_ffn else stage,))
            splits = {(e, p) for e, p in pairs if held % (e * p) == 0}
        rows += [(tp, cp, dp, pp, etp, ep) for etp, ep in sorted(splits)]
        extras += [plan] * len(splits)
    layout = _layout(rows)
    if any(k in (choices or {}) for k in PLAIN):
        layout = with_plan(layout, {k: np.array([plan[k] for plan in extras], dtype=float) for k in PLAIN})
        layout = replace(layout, n_edp=layout.n_ffn_stage / (layout.n_etp * layout.n_ep))
    return Grid(layout, np.array(degrees["batch"], dtype=float))


def _plans(choices: dict) -> list[dict[str, int]]:
    """Plans that the study names, each once: what a plan does not read is at its plain value."""
    given = PLAIN | {k: v for k, v in choices.items() if k in PLAIN}
    found = {}
    for values in product(*(v if isinstance(v, tuple) else (v,) for v in given.values())):
        plan = dict(zip(PLAIN, values, strict=True))
        if plan["n_ffn"] == 0:
            plan["n_micro"] = 1
            found[tuple(plan.values())] = plan
            continue
        for n_micro in choices.get("n_micro", MICRO_BATCHES):
            apart = PLAIN | {"n_ffn": plan["n_ffn"], "n_micro": n_micro}
            found[tuple(apart.values())] = apart
    return list(found.values())


def training_grid(has_moe: bool, max_devices: float, choices: dict | None = None) -> Grid:
    """Training layouts; n_dp follows from the device count on the leading axis, so it is 1 here until `with_devices`."""
    degrees = TRAIN_DEGREES | (choices or {})
    ep_choices = degrees["n_ep"] if has_moe else (1,)
    names = ("micro_batch", "recompute", "zero", *(name for name in ("offload", "n_sites", "sync_every") if name in degrees))
    rows, extras = [], []
    for tp, cp, pp, ep in product(degrees["n_tp"], degrees["n_cp"], degrees["n_pp"], ep_choices):
        for extra in product(*(degrees[name] for name in names)):
            rows.append((tp, cp, 1, pp, 1, ep))
            extras.append(extra)
    own_fleet = () if "n_devices" in (choices or {}) or max_devices > 1e6 else (int(max_devices),)  # a bound that is no power of two
    devices = sorted({*(n for n in degrees["n_devices"] if n <= max_devices), *own_fleet}) or [min(degrees["n_devices"])]
    return Grid(_layout(rows), np.array(devices, dtype=float), dict(zip(names, np.array(extras, dtype=float).T, strict=True)))


def with_devices(layout: Layout, n_devices) -> Layout:
    """The layout with n_dp = n_devices / (tp cp pp); rows where that is no whole number fail `is_consistent`."""
    ranks = n_devices / (layout.n_tp * layout.n_cp * layout.n_pp)
    edp = layout.n_tp * layout.n_cp * ranks / (layout.n_etp * layout.n_ep)
    return Layout(layout.n_tp, layout.n_cp, ranks, layout.n_pp, layout.n_etp, layout.n_ep, edp)


def _layout(rows) -> Layout:
    columns = np.array(rows, dtype=float).reshape(-1, 6).T
    tp, cp, dp, pp, etp, ep = columns
    full = make_layout(tp, cp, dp, pp, etp, ep)
    return Layout(*(np.asarray(v, dtype=float) for v in (tp, cp, dp, pp, etp, ep, full.n_edp)))
