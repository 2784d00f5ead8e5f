"""A made-up report payload with the shape of a real one: plausible figures, every optional part, no physics to trust."""

import numpy as np

HOSTILE = '</script><img src=x onerror="window.pwned=1"><b>&amp;'

COLUMNS = [  # name, label, unit, group, meaning, direction, log, categorical
    (
        "architecture.n_layers",
        "Layers",
        "",
        "architecture",
        "Number of transformer layers",
        None,
        False,
        False,
    ),
    (
        "architecture.d_model",
        "d_model",
        "",
        "architecture",
        "Width of the residual stream",
        None,
        False,
        False,
    ),
    ("architecture.attention", "Attention", "", "architecture", "Kind of attention", None, False, True),
    ("architecture.n_heads", "Heads", "", "architecture", "Query heads", None, False, False),
    (
        "architecture.n_kv_heads",
        "KV heads",
        "",
        "architecture",
        "Key and value heads; none for MLA",
        None,
        False,
        False,
    ),
    ("architecture.n_experts", "Experts", "", "architecture", "Routed experts per layer", None, True, False),
    (
        "architecture.n_active_experts",
        "Active experts",
        "",
        "architecture",
        "Routed experts per token",
        None,
        False,
        False,
    ),
    (
        "architecture.d_expert",
        "Expert width",
        "",
        "architecture",
        "Hidden width of an expert",
        None,
        False,
        False,
    ),
    (
        "precision.weight_bits",
        "Weight bits",
        "bit",
        "precision",
        "Bits per weight when serving",
        None,
        False,
        False,
    ),
    ("precision.kv_bits", "KV bits", "bit", "precision", "Bits per KV cache element", None, False, False),
    ("hardware.serve", "Serving system", "", "hardware", "System that serves", None, False, True),
    (
        "lifecycle.pretrain_tok",
        "Pretraining",
        "tok",
        "lifecycle",
        "Pretraining tokens, solved from the budget",
        None,
        True,
        False,
    ),
    ("decode.n_tp", "Decode TP", "", "deployment", "Tensor parallel degree", None, False, False),
    ("decode.n_dp", "Decode DP", "", "deployment", "Attention data parallel degree", None, False, False),
    ("decode.n_ep", "Decode EP", "", "deployment", "Expert parallel degree", None, True, False),
    ("decode.batch", "Batch", "", "deployment", "Sequences in flight per replica", None, True, False),
    ("decode.n_devices", "Devices", "device", "deployment", "Devices of one replica", None, True, False),
    (
        "c_eq_flop",
        "Quality, equivalent compute",
        "FLOP",
        "objective",
        "Training compute of the dense model with this loss",
        "max",
        True,
        False,
    ),
    (
        "usd_per_mtok",
        "Cost of serving",
        "USD/Mtok",
        "objective",
        "Serving USD per million output tokens",
        "min",
        True,
        False,
    ),
    ("tpot_s", "TPOT", "s", "objective", "Time per output token", "min", True, False),
    ("ttft_s", "TTFT", "s", "metric", "Time to first token", "min", True, False),
    ("n_params", "Parameters", "", "metric", "All parameters", None, True, False),
    ("n_active_params", "Active parameters", "", "metric", "Parameters used per token", None, True, False),
    ("train_s", "Training time", "s", "metric", "Wall time of pretraining", "min", True, False),
    ("lifecycle_usd", "Lifecycle cost", "USD", "metric", "Training, RL and serving", "min", True, False),
    (
        "kv_bytes_per_tok",
        "KV per token",
        "byte",
        "metric",
        "KV cache bytes per token, all layers",
        "min",
        True,
        False,
    ),
]
KEYS = ("name", "label", "unit", "group", "meaning", "direction", "log", "categorical")
CONSTRAINTS = ("memory", "train_days", "balance", "ttft")


def _designs(n: int, rng) -> dict:
    pick = lambda *values: rng.choice(np.array(values), n)  # noqa: E731
    attention = pick("gqa", "mla")
    return {
        "architecture.n_layers": pick(40, 48, 56, 61, 72, 80),
        "architecture.d_model": pick(4096, 5120, 6144, 7168, 8192),
        "architecture.attention": attention,
        "architecture.n_heads": pick(32, 64, 96, 128),
        "architecture.n_kv_heads": np.where(attention == "mla", np.nan, pick(4.0, 8.0, 16.0)),
        "architecture.n_experts": pick(32, 64, 128, 256, 512),
        "architecture.n_active_experts": pick(4, 8, 16),
        "architecture.d_expert": pick(1024, 1536, 2048, 2560, 3072),
        "precision.weight_bits": pick(4, 8, 16),
        "precision.kv_bits": pick(8, 16),
        "hardware.serve": pick("gb200_nvl72", "h200_sxm_node", "mi300x_node"),
        "lifecycle.pretrain_tok": np.exp(rng.normal(np.log(1.2e13), 0.5, n)),
        "decode.n_tp": pick(1, 2, 4, 8),
        "decode.n_dp": pick(1, 8, 16, 64),
        "decode.batch": pick(16, 32, 64, 128, 256, 512, 1024, 2048),
    }


def _metrics(rows: dict, n: int, rng) -> None:
    layers, width, experts = (rows[f"architecture.{key}"] for key in ("n_layers", "d_model", "n_experts"))
    active, d_expert = rows["architecture.n_active_experts"], rows["architecture.d_expert"]
    rows["decode.n_devices"] = rows["decode.n_tp"] * rows["decode.n_dp"]
    rows["decode.n_ep"] = rows["decode.n_devices"]
    dense = layers * width**2 * 4.0
    rows["n_params"] = dense + layers * experts * 3.0 * width * d_expert
    rows["n_active_params"] = dense + layers * active * 3.0 * width * d_expert
    noise = np.exp(rng.normal(0, 0.12, n))
    n_eff = rows["n_active_params"] ** 0.75 * rows["n_params"] ** 0.25
    rows["c_eq_flop"] = (
        1e-3 * n_eff**1.1 * rows["lifecycle.pretrain_tok"] ** 1.05 * np.exp(rng.normal(0, 0.05, n)) / 1.5
    )
    mla = rows["architecture.attention"] == "mla"
    kv = np.where(mla, 576.0, 256.0 * np.nan_to_num(rows["architecture.n_kv_heads"], nan=0.0))
    rows["kv_bytes_per_tok"] = layers * kv * rows["precision.kv_bits"] / 8
    speed = {"gb200_nvl72": 8e12, "h200_sxm_node": 4.8e12, "mi300x_node": 5.3e12}
    bandwidth = np.array([speed[name] for name in rows["hardware.serve"]])
    devices, batch = rows["decode.n_devices"], rows["decode.batch"]
    share = np.minimum(1, active / experts * batch)
    step = (
        4e-3
        + (
            rows["n_params"] * share * rows["precision.weight_bits"] / 8
            + batch * 3e4 * rows["kv_bytes_per_tok"]
        )
        / bandwidth
        / devices
    )
    rows["tpot_s"] = step * noise
    rows["usd_per_mtok"] = devices * (bandwidth / 2e12) / 3600 * rows["tpot_s"] / batch * 1e6
    rows["ttft_s"] = 0.05 + rows["n_active_params"] * 2 * 8192 / (devices * 4e14) * noise
    train_flop = 6 * rows["n_active_params"] * rows["lifecycle.pretrain_tok"]
    rows["train_s"] = train_flop / (4096 * 4e14)
    rows["lifecycle_usd"] = train_flop / 4e14 / 3600 * 2.2 + 2e13 * rows["usd_per_mtok"] / 1e6


def front_of(values: np.ndarray) -> np.ndarray:
    """Rows of (N, M) minimised values that no other row dominates."""
    keep = np.ones(len(values), bool)
    for i in np.argsort(values.sum(axis=1)):
        if keep[i]:
            dominated = (values >= values[i]).all(axis=1) & (values > values[i]).any(axis=1)
            keep &= ~dominated
    return keep


def _detail(i: int, rows: dict, limit_hit: bool) -> dict:
    tpot, params = float(rows["tpot_s"][i]), float(rows["n_params"][i])
    devices, batch = int(rows["decode.n_devices"][i]), int(rows["decode.batch"][i])
    parts = [
        ("experts", "memory", 0.38, 0.10, 0.30, 0.0, 0.08),
        ("attention", "memory", 0.22, 0.06, 0.19, 0.0, 0.03),
        ("dispatch", "network", 0.12, 0, 0, 0.09, 0.03),
        ("combine", "network", 0.11, 0, 0, 0.08, 0.03),
        ("qkv and output", "compute", 0.08, 0.06, 0.04, 0, 0.02),
        ("router", "fixed", 0.03, 0, 0, 0, 0.03),
        ("norms", "fixed", 0.03, 0, 0.01, 0, 0.02),
        ("lm head", "memory", 0.02, 0.005, 0.015, 0, 0.005),
        ("sampling", "fixed", 0.01, 0, 0, 0, 0.01),
    ]
    operators = [
        dict(
            unit="serve",
            phase=phase,
            name=name,
            bound=bound,
            time_s=t * size,
            compute_s=c * size,
            memory_s=m * size,
            network_s=w * size,
            fixed_s=f * size,
        )
        for phase, size in (("decode", tpot), ("prefill", float(rows["ttft_s"][i])))
        for name, bound, t, c, m, w, f in parts
    ]
    bounds = [
        dict(unit="serve", phase=phase, lower_s=0.83 * size, estimate_s=size, upper_s=1.22 * size)
        for phase, size in (("decode", tpot), ("prefill", float(rows["ttft_s"][i])))
    ]
    weights = params * float(rows["precision.weight_bits"][i]) / 8 / devices
    memory = [
        dict(unit="serve", **{"class": name}, bytes=value)
        for name, value in (
            ("weights", weights),
            ("kv_cache", 0.45 * 186e9),
            ("activations", 4e9),
            ("engine reserve", 9e9),
        )
    ]
    memory += [
        dict(unit="train", **{"class": name}, bytes=value)
        for name, value in (
            ("weights", 9e9),
            ("gradients", 9e9),
            ("optimizer", 21e9),
            ("activations", 26e9),
            ("reserve", 5e9),
        )
    ]
    total = float(rows["lifecycle_usd"][i])
    flop = 6 * float(rows["n_active_params"][i]) * float(rows["lifecycle.pretrain_tok"][i])
    lifecycle = [
        dict(
            phase=phase,
            flop=flop * share,
            usd=total * share,
            device_s=flop * share / 4e14,
            energy_j=flop * share / 4e14 * 900,
            tok=tok,
        )
        for phase, share, tok in (
            ("pretraining", 0.42, float(rows["lifecycle.pretrain_tok"][i])),
            ("rl", 0.25, 8e11),
            ("inference", 0.33, 2e13),
        )
    ]
    slack = [
        dict(
            constraint="train_days",
            limit=120 * 86400.0,
            value=118.6 * 86400 if limit_hit else 60 * 86400.0,
            unit="s",
            slack_frac=0.0117 if limit_hit else 0.5,
        ),
        dict(constraint="train_devices", limit=16384, value=8192, unit="device", slack_frac=0.5),
        dict(constraint="ttft", limit=2.0, value=1.2, unit="s", slack_frac=0.4),
    ]
    return {
        "layout": [
            {"unit": "train", "text": "tp4-cp1-pp4-dp256-etp1-ep64", "n_devices": 4096, "batch": 2048},
            {
                "unit": "serve",
                "text": f"tp{rows['decode.n_tp'][i]}-dp{rows['decode.n_dp'][i]}-ep{rows['decode.n_ep'][i]}",
                "n_devices": devices,
                "batch": batch,
            },
        ],
        "operators": operators,
        "bounds": bounds,
        "memory": memory,
        "capacity": {"serve": 186e9, "train": 80e9},
        "cost": [
            {"name": name, "usd": total * share}
            for name, share in (
                ("pretraining", 0.42),
                ("decode", 0.24),
                ("rl", 0.25),
                ("prefill", 0.07),
                ("idle", 0.02),
            )
        ],
        "lifecycle": lifecycle,
        "balance": {"of": "usd", "ratio": 0.42 / 0.25, "max_ratio": 2.0},
        "slack": slack,
        "notes": [
            "c_eq above 10²⁵ FLOP is outside the fitted range of the quality law; the ranking there is extrapolated."
        ],
    }


def payload(n_rows: int = 1500, seed: int = 0, hostile: bool = False) -> dict:
    """A payload of `n_rows` designs; `hostile` puts markup into every string that a user or a catalog can name."""
    rng = np.random.default_rng(seed)
    rows = _designs(n_rows, rng)
    _metrics(rows, n_rows, rng)
    feasible = (rows["train_s"] < 200 * 86400) & (
        rows["n_params"] * rows["precision.weight_bits"] / 8 < rows["decode.n_devices"] * 120e9
    )
    objectives = np.column_stack(
        [-np.log(rows["c_eq_flop"]), np.log(rows["usd_per_mtok"]), np.log(rows["tpot_s"])]
    )
    front = np.zeros(n_rows, bool)
    front[feasible] = front_of(objectives[feasible])
    killed = np.where(feasible, None, rng.choice(CONSTRAINTS, n_rows))
    ids = rng.permutation(n_rows * 3)[:n_rows]
    chosen = np.flatnonzero(front)
    scaled = (objectives[chosen] - objectives[chosen].min(0)) / np.ptp(objectives[chosen], axis=0)
    best = [
        int(chosen[k])
        for k in (np.linalg.norm(scaled, axis=1).argmin(), scaled[:, 1].argmin(), scaled[:, 2].argmin())
    ]
    said = [
        (
            "knee",
            "Closest to the best of all three objectives at once, on the scale of the front.",
            "12 % of the quality of the largest design on the front.",
        ),
        ("cheapest", "Lowest cost of serving that meets the SLO.", "Half the speed of the knee."),
        (
            "fastest",
            "Lowest time per output token within the budget.",
            "Costs 5.4 times as much per token as the cheapest.",
        ),
    ]
    mark = HOSTILE if hostile else ""
    shown = {
        name: [None if isinstance(v, float) and np.isnan(v) else v for v in column.tolist()]
        for name, column in rows.items()
    }
    if hostile:
        shown["hardware.serve"] = [name + mark for name in shown["hardware.serve"]]
    columns = [dict(zip(KEYS, column, strict=True)) for column in COLUMNS]
    for column in columns:
        column["label"] += mark
        column["meaning"] += mark
    details = {str(ids[i]): _detail(i, rows, k == 0) for k, i in enumerate(best)}
    for detail in details.values():
        detail["notes"] = [note + mark for note in detail["notes"]]
        for operator in detail["operators"]:
            operator["name"] += mark
    return {
        "title": "moe-on-nvl72" + mark,
        "question": "Which MoE shape and layout does a 200 MUSD lifecycle buy, if it trains on 8-GPU nodes and serves from NVL72 racks?"
        + mark,
        "version": "0.1.0",
        "created": "2026-08-14 09:12 UTC",
        "seed": seed,
        "method": "exhaustive",
        "exact": not hostile,
        "command": "codesign run studies/moe-on-nvl72.yaml" + mark,
        "counts": dict(
            n_designs=1_800_000,
            n_layouts=79_200_000,
            n_feasible=738_000,
            n_front=int(front.sum()),
            space_designs=1_800_000,
            space_rows=412_000_000,
            wall_s=13.2,
            layouts_per_s=6.1e6,
            hypervolume=0.7123,
        ),
        "killed": {"memory" + mark: 0.31, "train_days": 0.22, "balance": 0.19, "ttft": 0.04},
        "columns": columns,
        "rows": {
            "id": ids.tolist(),
            "on_front": front.tolist(),
            "feasible": feasible.tolist(),
            "killed_by": [k and k + mark for k in killed.tolist()],
            **shown,
        },
        "total_rows": 412_331,
        "picks": [
            {"name": name + mark, "id": int(ids[i]), "reason": reason + mark, "gives_up": gives_up + mark}
            for i, (name, reason, gives_up) in zip(best, said, strict=True)
        ],
        "details": details,
        "references": [
            {
                "name": "DeepSeek-V3" + mark,
                "values": {"c_eq_flop": 3e24, "usd_per_mtok": 2.1, "tpot_s": 0.021},
            }
        ],
        "codesign": {
            "sentence": "At equal quality and SLO the joint choice is 1.6 times cheaper than choosing quality first and the layout after."
            + mark
        },
        "warnings": [
            "c_eq above 10²⁵ FLOP is outside the fitted range of the quality law." + mark,
            "Three accelerators have no measured kernels; engine medians stand in for them.",
        ],
        "history": [[1000 * 2**k, 0.4 * 1.35**k, 0.7123 * (1 - 0.6 * np.exp(-k / 2.2))] for k in range(11)],
        "assumptions": [
            {
                "name": "h100_sxm.hbm.bandwidth" + mark,
                "value": 3.35e12,
                "unit": "byte/s",
                "source": "https://example.com/h100-datasheet.pdf",
                "date": "2024-03",
                "confidence": "vendor",
            },
            {
                "name": "gb200.hbm.capacity",
                "value": 186e9,
                "unit": "byte",
                "source": "javascript:alert(1)" if hostile else "vendor data sheet, GB200 NVL72",
                "date": "2025-01",
                "confidence": "vendor",
            },
            {
                "name": "gb200.price",
                "value": 3.4 / 3600,
                "unit": "USD/s",
                "source": "three-year rent, price list",
                "date": "2026-06",
                "confidence": "estimate",
            },
            {
                "name": "generic.gemm.compute",
                "value": 0.71,
                "unit": "",
                "source": "arXiv:2408.12757, figure 5",
                "date": "2024-08",
                "confidence": "measured",
            },
            {
                "name": "quality.irreducible_loss",
                "value": 1.69,
                "unit": "",
                "source": "arXiv:2203.15556, equation 10",
                "date": "2022-03",
                "confidence": "measured",
            },
        ],
        "study_yaml": "version: 1\nname: moe-on-nvl72\n"
        + (f"question: '{mark}'\n" if hostile else "")
        + "hardware: {train: h100_sxm_node, rl: h100_sxm_node, serve: gb200_nvl72}\nspace:\n  architecture.n_layers: {range: [40, 80], step: 4}\n",
        "reproduce": [
            "codesign run studies/moe-on-nvl72.yaml --seed 0" + mark,
            "codesign report runs/moe-on-nvl72",
        ],
    }
