"""Runs to export from: small studies of every kind, searched once per test session."""

from __future__ import annotations

import functools
import json
import tempfile
from pathlib import Path
from typing import Any

import studies
from codesign.results import Run
from codesign.run import run
from codesign.study import Study

HOSTILE = "x`|<script>alert(1)</script>\n# Owned\n- [a](http://b) {{7*7}} *b* & 'q' \"z\": !!python/object:os.system ../../etc"
DENSE = {
    "base": {"model": "llama-3.1-8b"}, "space": {"architecture.n_layers": [24, 32], "precision.kv_bits": [8, 16]},
    "layout": {"train": {"n_tp": [1, 2], "n_pp": [1, 4], "micro_batch": [1, 2], "recompute": ["none", "full"], "zero": [1, 3], "n_devices": [32, 128]},
               "serve": {"n_tp": [1, 2], "batch": [8, 64]}},
    "lifecycle": {"pretrain_tok": "2 Ttok", "global_batch_tok": "4194304 tok", "train_precision": "fp8"}, "constraints": {"train_days": "<= 900 day"},
}  # fmt: skip
DISAGGREGATED = {
    "hardware": {"train": "h100_sxm_node", "rl": "h200_sxm_node", "prefill": "h100_sxm_node", "decode": "h200_sxm_node"},
    "space": {"architecture.n_layers": [32, 48], "precision.weight_bits": [8, 16]},
    "serving": {"mode": "disaggregated", "n_draft_tok": 1},
    "layout": studies.SMALL["layout"] | {"serve": {}, "prefill": {"n_tp": [1, 2], "n_dp": [1, 4], "n_pp": [1]}, "decode": studies.SMALL["layout"]["serve"]},
}  # fmt: skip
LATENT = {
    "base": {"model": "deepseek-v3"}, "hardware": {"train": "h100_sxm_node", "serve": "gb200_nvl72"},
    "space": {"architecture.n_layers": [48, 61], "architecture.attention": ["gqa", "mla"], "precision.weight_bits": [4, 8],
              "architecture.n_kv_heads": {"choices": [4, 8], "when": "attention == 'gqa'"}},
    "layout": {"train": {"n_tp": [1, 4], "n_pp": [4, 8], "n_ep": [8, 64], "micro_batch": [1], "n_devices": [4096]},
               "serve": {"n_tp": [1, 2], "n_dp": [32, 64], "n_pp": [1], "batch": [32, 64]}},
    "workload": {"use": "chat", "demand": "1e6 tok/s", "lifetime": "1 yr"},
    "lifecycle": {"budget": "200 MUSD", "pretrain_tok": {"solve": "budget"}, "rl_tok": {"solve": "balance"}, "unique_tok": "30 Ttok"},
    "constraints": {"train_days": "<= 400 day"},
}  # fmt: skip
HOSTILE_STUDY = DENSE | {"question": HOSTILE}
KINDS: dict[str, dict[str, Any]] = {"moe": {}, "dense": DENSE, "disaggregated": DISAGGREGATED, "latent": LATENT, "hostile": HOSTILE_STUDY}
_FOLDER = tempfile.TemporaryDirectory(prefix="codesign-export-")


@functools.cache
def searched(kind: str) -> tuple[Study, Run]:
    """A study of this kind and its finished run."""
    folder = Path(_FOLDER.name) / kind
    folder.mkdir()
    changes = dict(KINDS[kind])
    if kind == "hostile":
        changes["base"] = {"model": str(_hostile_model(folder))}
    study = studies.study(folder, changes)
    return study, run(study, folder / "run")


def _hostile_model(folder: Path) -> Path:
    """A model whose name, taken from its folder, is no name at all."""
    home = folder / HOSTILE.replace("/", "_")
    home.mkdir()
    keys = dict(model_type="llama", num_hidden_layers=32, hidden_size=4096, num_attention_heads=32, num_key_value_heads=8,
                intermediate_size=14336, vocab_size=128256, max_position_embeddings=8192)  # fmt: skip
    (home / "config.json").write_text(json.dumps(keys), encoding="utf-8")
    return home
