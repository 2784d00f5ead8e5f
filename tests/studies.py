"""Small studies for tests, as YAML text with knobs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from codesign.study import Study, open_study

SMALL: dict[str, Any] = {
    "version": 1, "name": "small", "question": "test",
    "base": {"model": "qwen3-30b-a3b"},
    "hardware": {"train": "h100_sxm_node", "serve": "h200_sxm_node"},
    "space": {
        "architecture.n_layers": [32, 48], "architecture.n_experts": [64, 128], "precision.weight_bits": [8, 16],
        "hardware.serve": ["h100_sxm_node", "mi300x_node"],
    },
    "layout": {
        "train": {"n_tp": [1, 4], "n_pp": [1, 4], "n_ep": [8], "micro_batch": [1], "recompute": ["full"], "n_devices": [64, 256]},
        "serve": {"n_tp": [1, 2], "n_dp": [1, 4], "n_pp": [1], "batch": [8, 128]},
    },
    "workload": {"use": "chat", "demand": "2e4 tok/s", "lifetime": "1 yr"},
    "slo": {"ttft": "1 s"},
    "lifecycle": {"budget": "3 MUSD", "pretrain_tok": {"solve": "budget"}, "rl_tok": {"solve": "balance"}, "balance": {"of": "usd", "max_ratio": 8},
                  "unique_tok": "20 Ttok", "rl": {"gen_tok": "4 ktok"}},
    "objectives": {"c_eq_flop": "maximize", "usd_per_mtok": "minimize", "tpot": "minimize"},
    "constraints": {"train_days": "<= 200 day"},
}  # fmt: skip


def study(folder: Path, changes: dict[str, Any] | None = None, base: dict[str, Any] = SMALL) -> Study:
    """A study from `base` with top-level keys replaced."""
    path = Path(folder) / "study.yaml"
    path.write_text(yaml.safe_dump({**base, **(changes or {})}, sort_keys=False), encoding="utf-8")
    return open_study(path)
