"""A made-up report payload with the shape of a real one: plausible figures, every optional part."""

import numpy as np

HOSTILE = '</script><img src=x onerror="window.pwned=1"><b>&amp;'
CONSTRAINTS = ("memory", "train_days", "balance", "ttft")
KEYS = ("name", "label", "unit", "group", "meaning", "direction", "log", "categorical")

# name | label | unit | group | meaning | direction, log, categorical where they apply
_COLUMNS = """
architecture.n_layers | Layers | | architecture | Number of transformer layers |
architecture.d_model | d_model | | architecture | Width of the residual stream |
architecture.attention | Attention | | architecture | Kind of attention | categorical
architecture.n_heads | Heads | | architecture | Query heads |
architecture.n_kv_heads | KV heads | | architecture | Key and value heads; none for MLA |
architecture.n_experts | Experts | | architecture | Routed experts per layer | log
architecture.n_active_experts | Active experts | | architecture | Routed experts per token |
architecture.d_expert | Expert width | | architecture | Hidden width of an expert |
architecture.d_head | Width of heads | | architecture | Follows from the width and the heads |
precision.weight_bits | Weight bits | bit | precision | Bits per weight when serving |
precision.kv_bits | KV bits | bit | precision | Bits per KV cache element |
hardware.serve | Serving system | | hardware | System that serves | categorical
lifecycle.pretrain_tok | Pretraining | tok | lifecycle | Pretraining tokens, solved from the budget | log
decode.n_tp | Decode TP | | deployment | Tensor parallel degree |
decode.n_dp | Decode DP | | deployment | Attention data parallel degree |
decode.n_ep | Decode EP | | deployment | Expert parallel degree | log
decode.batch | Batch | | deployment | Sequences in flight per replica | log
decode.n_devices | Devices | device | deployment | Devices of one replica | log
c_eq_flop | Quality, equivalent compute | FLOP | objective | Compute of a dense equal | max log
usd_per_mtok | Cost of serving | USD/Mtok | objective | Serving USD per million output tokens | min log
tpot_s | TPOT | s | objective | Time per output token | min log
ttft_s | TTFT | s | metric | Time to first token | min log
n_params | Parameters | | metric | All parameters | log
n_active_params | Active parameters | | metric | Parameters used per token | log
train_s | Training time | s | metric | Wall time of pretraining | min log
lifecycle_usd | Lifecycle cost | USD | metric | Training, RL and serving | min log
kv_bytes_per_tok | KV per token | byte | metric | KV cache bytes per token, all layers | min log
"""


def _column(line: str) -> tuple:
    *text, flags = (part.strip() for part in line.split("|"))
    direction = next((word for word in flags.split() if word in ("min", "max")), None)
    return (*text, direction, "log" in flags.split(), "categorical" in flags.split())


COLUMNS = [_column(line) for line in _COLUMNS.strip().splitlines()]


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
    rows["architecture.d_head"] = width // rows["architecture.n_heads"]
    dense = layers * width**2 * 4.0
    rows["n_params"] = dense + layers * experts * 3.0 * width * d_expert
    rows["n_active_params"] = dense + layers * active * 3.0 * width * d_expert
    noise = np.exp(rng.normal(0, 0.12, n))
    n_eff = rows["n_active_params"] ** 0.75 * rows["n_params"] ** 0.25
    luck = np.exp(rng.normal(0, 0.05, n))
    rows["c_eq_flop"] = 0.05 * n_eff**1.1 * rows["lifecycle.pretrain_tok"] ** 1.05 * luck
    mla = rows["architecture.attention"] == "mla"
    kv = np.where(mla, 576.0, 256.0 * np.nan_to_num(rows["architecture.n_kv_heads"], nan=0.0))
    rows["kv_bytes_per_tok"] = layers * kv * rows["precision.kv_bits"] / 8
    speed = {"gb200_nvl72": 8e12, "h200_sxm_node": 4.8e12, "mi300x_node": 5.3e12}
    bandwidth = np.array([speed[name] for name in rows["hardware.serve"]])
    devices, batch = rows["decode.n_devices"], rows["decode.batch"]
    share = np.minimum(1, active / experts * batch)
    weights = rows["n_params"] * share * rows["precision.weight_bits"] / 8
    read = weights + batch * 3e4 * rows["kv_bytes_per_tok"]
    rows["tpot_s"] = (4e-3 + read / bandwidth / devices) * noise
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


OPERATORS = [  # name, what binds, shares of the step: total, compute, memory, network, fixed
    ("experts", "memory", 0.38, 0.10, 0.30, 0, 0.08),
    ("attention", "memory", 0.22, 0.06, 0.19, 0, 0.03),
    ("dispatch", "network", 0.12, 0, 0, 0.09, 0.03),
    ("combine", "network", 0.11, 0, 0, 0.08, 0.03),
    ("qkv and output", "compute", 0.08, 0.06, 0.04, 0, 0.02),
    ("router", "fixed", 0.03, 0, 0, 0, 0.03),
    ("norms", "fixed", 0.03, 0, 0.01, 0, 0.02),
    ("lm head", "memory", 0.02, 0.005, 0.015, 0, 0.005),
    ("sampling", "fixed", 0.01, 0, 0, 0, 0.01),
]
TRAIN_MEMORY = [
    ("weights", 9e9),
    ("gradients", 9e9),
    ("optimizer", 21e9),
    ("activations", 26e9),
    ("reserve", 5e9),
]
COST = [("pretraining", 0.42), ("decode", 0.24), ("rl", 0.25), ("prefill", 0.07), ("idle", 0.02)]
NOTE = "c_eq above 10²⁵ FLOP is outside the fitted range of the quality law."


def _times(phases: dict) -> dict:
    names = ("time_s", "compute_s", "memory_s", "network_s", "fixed_s")
    operators, bounds = [], []
    for phase, size in phases.items():
        key = {"unit": "serve", "phase": phase}
        bounds.append({**key, "lower_s": 0.83 * size, "estimate_s": size, "upper_s": 1.22 * size})
        for name, bound, *shares in OPERATORS:
            seconds = {what: share * size for what, share in zip(names, shares, strict=True)}
            operators.append({**key, "name": name, "bound": bound, **seconds})
    return {"operators": operators, "bounds": bounds}


def _lifecycle(flop: float, usd: float, pretrain_tok: float) -> list[dict]:
    phases = [("pretraining", 0.42, pretrain_tok), ("rl", 0.25, 8e11), ("inference", 0.33, 2e13)]
    total = {"flop": flop, "usd": usd, "device_s": flop / 4e14, "energy_j": 900 * flop / 4e14}
    return [{"phase": phase, "tok": tok, **{name: value * share for name, value in total.items()}} for phase, share, tok in phases]


def _detail(i: int, rows: dict, is_tight: bool) -> dict:
    row = {name: column[i].item() for name, column in rows.items()}
    devices, batch, usd = row["decode.n_devices"], row["decode.batch"], row["lifecycle_usd"]
    weights = row["n_params"] * row["precision.weight_bits"] / 8 / devices
    serve = [("weights", weights), ("kv_cache", 84e9), ("activations", 4e9), ("engine reserve", 9e9)]
    memory = [("serve", *part) for part in serve] + [("train", *part) for part in TRAIN_MEMORY]
    text = f"tp{row['decode.n_tp']}-dp{row['decode.n_dp']}-ep{row['decode.n_ep']}"
    days = 118.6 if is_tight else 60
    slack = [
        ("train_days", 120 * 86400, days * 86400, "s", 1 - days / 120),
        ("train_devices", 16384, 8192, "device", 0.5),
        ("ttft", 2.0, 1.2, "s", 0.4),
    ]
    flop = 6 * row["n_active_params"] * row["lifecycle.pretrain_tok"]
    keys = ("constraint", "limit", "value", "unit", "slack_frac")
    return {
        "layout": [
            {"unit": "train", "text": "tp4-cp1-pp4-dp256-etp1-ep64", "n_devices": 4096, "batch": 2048},
            {"unit": "serve", "text": text, "n_devices": devices, "batch": batch},
        ],
        **_times({"decode": row["tpot_s"], "prefill": row["ttft_s"]}),
        "memory": [{"unit": unit, "class": kind, "bytes": size} for unit, kind, size in memory],
        "capacity": {"serve": 186e9, "train": 80e9},
        "cost": [{"name": name, "usd": usd * share} for name, share in COST],
        "lifecycle": _lifecycle(flop, usd, row["lifecycle.pretrain_tok"]),
        "balance": {"of": "usd", "ratio": 0.42 / 0.25, "max_ratio": 2.0},
        "slack": [dict(zip(keys, one, strict=True)) for one in slack],
        "notes": [NOTE],
        "intervals": {"tpot_s": {"value": row["tpot_s"], "lower": 0.83 * row["tpot_s"], "upper": 1.2 * row["tpot_s"]}},
    }


ASSUMPTIONS = [
    ("h100_sxm.hbm.bandwidth", 3.35e12, "byte/s", "https://example.com/h100.pdf", "2024-03", "vendor"),
    ("gb200.hbm.capacity", 186e9, "byte", "vendor data sheet, GB200 NVL72", "2025-01", "vendor"),
    ("gb200.price", 3.4 / 3600, "USD/s", "three-year rent, price list", "2026-06", "estimate"),
    ("generic.gemm.compute", 0.71, "", "arXiv:2408.12757, figure 5", "2024-08", "measured"),
    ("quality.irreducible_loss", 1.69, "", "arXiv:2203.15556, equation 10", "2022-03", "measured"),
]
PICKS = [
    ("knee", "Closest to the best of all three objectives at once.", "12 % of the best quality."),
    ("cheapest", "Lowest cost of serving that meets the SLO.", "Half the speed of the knee."),
    ("fastest", "Lowest time per output token within the budget.", "5.4 times the cost per token."),
]
STUDY = """version: 1
name: moe-on-nvl72
hardware: {train: h100_sxm_node, rl: h100_sxm_node, serve: gb200_nvl72}
space:
  architecture.n_layers: {range: [40, 80], step: 4}
"""
COUNTS = {
    "n_designs": 1_800_000,
    "n_layouts": 79_200_000,
    "n_feasible": 738_000,
    "n_front": 87,
    "space_designs": 1_800_000,
    "space_rows": 412_000_000,
    "wall_s": 13.2,
    "layouts_per_s": 6.1e6,
    "hypervolume": 0.7123,
}


def _text(mark: str) -> dict:
    """The parts that are the same in every payload, with `mark` behind every name."""
    keys = ("name", "value", "unit", "source", "date", "confidence")
    assumptions = [dict(zip(keys, one, strict=True)) for one in ASSUMPTIONS]
    if mark:
        assumptions[0].update(name=mark, source="javascript:alert(1)")
    model = {"c_eq_flop": 3e24, "usd_per_mtok": 2.1, "tpot_s": 0.021}
    gain = "At equal quality and SLO the joint choice is 1.6 times cheaper than quality first, layout after."
    return {
        "title": "moe-on-nvl72" + mark,
        "version": "0.1.0",
        "created": "2026-08-14 09:12 UTC",
        "question": "Which MoE shape and layout does a 200 MUSD lifecycle buy, if it trains on 8-GPU nodes "
        "and serves from NVL72 racks?" + mark,
        "method": "exhaustive",
        "exact": not mark,
        "counts": dict(COUNTS),
        "command": "codesign run studies/moe-on-nvl72.yaml" + mark,
        "killed": {"memory" + mark: 0.31, "train_days": 0.22, "balance": 0.19, "ttft": 0.04},
        "references": _references(model, mark),
        "codesign": {"sentence": gain + mark},
        "warnings": [NOTE + mark, "Three accelerators have no measured kernels: engine medians stand in."],
        "history": [[1000 * 2**k, 0.4 * 1.35**k, 0.7123 * (1 - 0.6 * np.exp(-k / 2.2))] for k in range(11)],
        "assumptions": assumptions,
        "study_yaml": STUDY + mark,
        "exports": ["csv", "training-plan", "vllm"],
        "reproduce": ["codesign run studies/moe-on-nvl72.yaml" + mark, "codesign report runs/moe-on-nvl72"],
    }


def _references(model: dict, mark: str) -> list[dict]:
    """A model with a second layout, a measured deployment, and one that has no point at all."""
    said = {"place": "#3 has 12% less cost" + mark, "gains": "", "reasons": [], "notes": ["trained on 14.8 Ttok" + mark], "source": mark}
    return [
        {"name": "DeepSeek-V3" + mark, "kind": "model", "feasible": True, "values": model, "others": [model | {"tpot_s": 0.03}]} | said,
        {"name": "node" + mark, "kind": "measured", "feasible": True, "values": {"tpot_s": 0.02}, "others": []} | said | {"place": ""},
        {"name": "too large" + mark, "kind": "model", "feasible": False, "values": {}, "others": []}
        | said
        | {"reasons": ["memory" + mark]},
    ]


def _decision(picks: list[dict], rows: dict, mark: str) -> dict:
    """What `codesign decide` says, for the same picks."""
    flip = {"assumption": "decode time on gb200" + mark, "factor": 1.4, "value": None, "unit": "", "probability": 0.0004,
            "becomes": picks[1]["id"], "breaks_a_limit": True}  # fmt: skip
    debiased = [
        {name: rows[name][rows["id"].index(pick["id"])] * 1.05 for name in ("c_eq_flop", "usd_per_mtok", "tpot_s")} for pick in picks
    ]
    sure = {"p_front": 0.62, "p_holds": 0.981, "leaves_front": False, "flips": [flip],
            "neighbours": [{"id": picks[2]["id"], "sentence": "3% more quality for 9% more cost" + mark}]}  # fmt: skip
    measure = {"source": "decode time" + mark, "how": "serve it for half a day" + mark, "usd": 290.0, "removes_frac": 0.18}
    told = [pick | sure | {"debiased": d} for pick, d in zip(picks, debiased, strict=True)]
    return {"samples": 256, "picks": told, "measurements": [measure]}


def payload(n_rows: int = 1500, seed: int = 0, hostile: bool = False) -> dict:
    """A payload of `n_rows` designs; `hostile` puts markup into every string that a user or catalog names."""
    rng = np.random.default_rng(seed)
    rows = _designs(n_rows, rng)
    _metrics(rows, n_rows, rng)
    bytes_per_device = rows["n_params"] * rows["precision.weight_bits"] / 8 / rows["decode.n_devices"]
    feasible = (rows["train_s"] < 200 * 86400) & (bytes_per_device < 120e9)
    objectives = np.log(np.column_stack([1 / rows["c_eq_flop"], rows["usd_per_mtok"], rows["tpot_s"]]))
    front = np.zeros(n_rows, bool)
    front[feasible] = front_of(objectives[feasible])
    killed = np.where(feasible, None, rng.choice(CONSTRAINTS, n_rows))
    ids = rng.permutation(n_rows * 3)[:n_rows]
    chosen = np.flatnonzero(front)
    scaled = (objectives[chosen] - objectives[chosen].min(0)) / np.ptp(objectives[chosen], axis=0)
    best = chosen[[np.linalg.norm(scaled, axis=1).argmin(), scaled[:, 1].argmin(), scaled[:, 2].argmin()]]
    mark = HOSTILE if hostile else ""
    shown = {name: [None if v != v else v for v in column.tolist()] for name, column in rows.items()}
    shown["hardware.serve"] = [name + mark for name in shown["hardware.serve"]]
    columns = [dict(zip(KEYS, column, strict=True)) for column in COLUMNS]
    for column in columns:
        derived = column["name"] == "architecture.d_head"
        column.update(label=column["label"] + mark, meaning=column["meaning"] + mark, derived=derived)
    details = {str(ids[i]): _detail(i, rows, k == 0) for k, i in enumerate(best)}
    for detail in details.values():
        detail["notes"] = [note + mark for note in detail["notes"]]
        detail["operators"] = [{**one, "name": one["name"] + mark} for one in detail["operators"]]
    status = {
        "id": ids.tolist(),
        "on_front": front.tolist(),
        "feasible": feasible.tolist(),
        "killed_by": [why and why + mark for why in killed.tolist()],
    }
    picks = [
        {"name": name + mark, "id": int(ids[i]), "reason": reason + mark, "gives_up": gives_up + mark}
        for i, (name, reason, gives_up) in zip(best, PICKS, strict=True)
    ]
    return {
        **_text(mark),
        "decision": _decision(picks, {**status, **shown}, mark),
        "seed": seed,
        "columns": columns,
        "rows": {**status, **shown},
        "total_rows": 412_331,
        "picks": picks,
        "details": details,
    }
