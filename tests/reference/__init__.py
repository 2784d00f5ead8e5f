"""An independent, slow, scalar re-implementation of the evaluator in plain Python floats: what the tests compare against.

counts (parameters) -> machine (kernels, network, experts) -> scalar (decode, prefill, training) -> service (traffic, fleet).
"""

from __future__ import annotations

from functools import cache
from types import SimpleNamespace as Record

TRAIN_LAYOUT = Record(n_tp=2, n_cp=1, n_dp=64, n_pp=8, n_etp=1, n_ep=32, n_edp=4)
SERVE_LAYOUT = Record(n_tp=1, n_cp=1, n_dp=32, n_pp=1, n_etp=1, n_ep=32, n_edp=1)
JOB = Record(seq_tok=4096.0, micro_batch=1.0, global_batch=4096.0, recompute=1.0, zero=1.0, n_interleave=1.0)


def flat(values: dict[str, float], base: str = "deepseek-v3", train: str = "h100_sxm_node", serve: str = "h200_sxm_node") -> Record:
    """One flat design, train + prefill + decode: `values` by dotted variable name replace those of the base model."""
    from reference.service import evaluate_flat_design

    model, learn, chip, traffic = _inputs(base, train, serve)
    parts = {"architecture": dict(model["architecture"]), "precision": dict(model["precision"])}
    for name, value in values.items():
        part, key = name.split(".", 1)
        parts[part][key] = value
    return evaluate_flat_design(parts["architecture"], parts["precision"], learn, chip, TRAIN_LAYOUT, JOB, SERVE_LAYOUT, 64.0, traffic)


@cache
def _inputs(base: str, train: str, serve: str):
    """Catalog figures only: a model record, two chips and a workload as plain numbers."""
    from codesign import catalog
    from codesign.physics.arrays import Arrays
    from codesign.scenario import make_chip, make_traffic

    def plain(record):
        return Record(**{k: plain(v) if isinstance(v, Arrays) else getattr(v, "item", lambda v=v: v)() for k, v in vars(record).items()})

    traffic = make_traffic(catalog.load("workloads", "chat"), 1e6)
    return catalog.load("models", base), plain(make_chip(train)), plain(make_chip(serve)), plain(traffic)
