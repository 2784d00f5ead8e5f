"""Named columns: unit, direction, meaning, formula.  Everything a study can minimise, maximise or bound stands here.

To add an objective: compute the column in `evaluate.py` (or its unit) and add one entry.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Column:
    """One result column.  `better` is "min", "max" or "" where neither is better."""

    unit: str
    better: str
    meaning: str
    formula: str = ""
    source: str = ""


COLUMNS: dict[str, Column] = {
    "c_eq_flop": Column("FLOP", "max", "quality: training compute of the compute-optimal dense bf16 model with the same loss",
        "6 N D with L(N, D) = L(N_eff, D_eff), N and D compute-optimal", "arXiv 2404.10102; arXiv 2203.15556"),
    "n_eq": Column("", "max", "size of that equivalent dense model, parameters"),
    "n_eff": Column("", "max", "effective parameters N_a x MoE x shape x attention x precision factors; not a quality by itself when tokens vary"),
    "loss": Column("nat", "min", "predicted training loss L(N_eff, D_eff)", "E + A N_eff^-alpha + B D_eff^-beta", "arXiv 2404.10102"),
    "q_mixed": Column("", "max", "mixed-knowledge axis (MMLU class): ln N_eff"),
    "q_reason": Column("", "max", "reasoning axis (MATH, BBH class): ln N_eff with 0.4 of the sparsity gain", "", "arXiv 2505.09388 Tables 3-8"),
    "n_reason": Column("", "max", "size of the compute-optimal dense model that reasons as well before RL, parameters; rises with tokens, unlike q_reason",
        "n_eq of L(exp(q_reason), D_eff)"),
    "rl_pass_frac": Column("", "max", "pass rate on checked mathematics after RL: saturates with rollouts, below a ceiling that n_reason sets",
        "R_0 + (A - R_0) / (1 + (C_mid / C)^B), C = rl_tok / gen_tok rollouts; R_0 and A moved in logits by the MATH slopes of n_reason",
        "arXiv 2510.13786 equation 1, Table 1; arXiv 2505.09388 Tables 3-8"),
    "rl_gain_frac": Column("", "max", "share of what RL can add that the rollouts have added", "1 / (1 + (C_mid / C)^B)", "arXiv 2510.13786"),
    "q_know_bits": Column("bit", "max", "knowledge axis: stored facts, 2 bits per total parameter", "", "arXiv 2404.05405"),
    "usd_per_mtok": Column("USD/Mtok", "min", "all serving USD (prefill, decode, idle, at mean load) per 10^6 output tokens, without training",
        "charged devices x USD/s / (mean output tok/s) x 1e6"),
    "usd_per_mtok_input": Column("USD/Mtok", "min", "prefill share of the serving cost per 10^6 prompt tokens that are computed"),
    "usd_per_mtok_output": Column("USD/Mtok", "min", "decode share of the serving cost per 10^6 output tokens"),
    "usd_per_task": Column("USD", "min", "serving cost of one task of the workload", "usd_per_mtok x tokens per task / 1e6"),
    "tpot_s": Column("s", "min", "time per output token of one request, prefill interference included", "(step + stall) / accepted tokens"),
    "ttft_s": Column("s", "min", "mean time to first token: wait behind other prompts and for half the running step, prefill, KV transfer",
        "prefill + step / 2 + M/G/c wait with the spread of prompt lengths (+ cache / NICs)"),
    "tok_per_s_per_user": Column("tok/s", "max", "speed one user sees", "1 / tpot"),
    "energy_j_per_tok": Column("J/tok", "min", "provisioned energy of serving per output token: what the fleet may draw at full load",
        "charged devices x all-in W / (mean output tok/s)"),
    "energy_used_j_per_tok": Column("J/tok", "min", "energy that serving draws per output token: activity, idle power, host and facility",
        "PUE x (FLOP x J/FLOP + bytes x J/byte by where they go + (idle + host) W x charged devices / demand)", "catalog/energy"),
    "energy_arithmetic_j_per_tok": Column("J/tok", "min", "its part in multipliers and adders"),
    "energy_on_chip_j_per_tok": Column("J/tok", "min", "its part in SRAM, registers and wires of the chip"),
    "energy_hbm_j_per_tok": Column("J/tok", "min", "its part in HBM and its interface"),
    "energy_scale_up_j_per_tok": Column("J/tok", "min", "its part in links inside the scale-up domain"),
    "energy_scale_out_j_per_tok": Column("J/tok", "min", "its part in links between domains"),
    "energy_idle_j_per_tok": Column("J/tok", "min", "its part that chips draw whatever they do", "idle W x charged devices / demand"),
    "energy_host_j_per_tok": Column("J/tok", "min", "its part in hosts, switches and fans",
        "(0.824 all-in W / PUE - 0.946 TDP) x charged devices / demand", "arXiv 2412.08602"),
    "energy_facility_j_per_tok": Column("J/tok", "min", "its part in cooling and conversion", "(PUE - 1) x the other parts"),
    "train_energy_used_j": Column("J", "min", "energy that pretraining draws: activity, lost work, idle power, host and facility",
        "", "catalog/energy"),
    "clip_s": Column("s", "min", "time to make one clip of video, without waiting", "steps x passes / dp x one pass"),
    "clip_latency_s": Column("s", "min", "mean time until a clip of video is finished: its own time and the wait for a replica", "clip_s + M/D/c wait"),
    "usd_per_clip": Column("USD", "min", "all serving USD per clip of video, idle devices included"),
    "usd_per_video_s": Column("USD", "min", "all serving USD per second of video", "charged devices x USD/s / (mean seconds of video per second)"),
    "j_per_video_s": Column("J", "min", "provisioned energy of serving per second of video"),
    "serve_devices": Column("", "min", "devices of the serving fleet, whole replicas and whole domains"),
    "serve_power_w": Column("W", "min", "all-in power of the serving fleet at its largest", "charged devices x all-in W"),
    "serve_load_frac": Column("", "max", "share of the serving capacity held that is used, over the life (decode pool's, where pools are apart)",
        "mean demand / (mean replicas held x tok/s of one)"),
    "serve_usd": Column("USD", "min", "serving cost over the product's lifetime"),
    "rack_n_cables": Column("", "min", "copper cables of one scale-up domain of the serving (or decode) pool", "n x 2 x link / lane",
        "SemiAnalysis, GB200 Hardware Architecture (2024-07)"),
    "rack_n_racks": Column("", "min", "racks that one such domain spans"),
    "rack_n_tiers": Column("", "min", "tiers of switches inside it"),
    "rack_n_switches": Column("", "min", "switches inside it", "(2 tiers - 1) n links / ports"),
    "rack_n_optics": Column("", "min", "transceivers on its links between racks"),
    "rack_power_w": Column("W", "min", "power of the fullest rack"),
    "rack_weight_kg": Column("kg", "min", "weight of the fullest rack"),
    "rack_extra_usd": Column("USD", "min", "parts per device beyond one tier of copper: switches, optics, liquid cooling"),
    "rack_n_spare": Column("", "min", "devices of a domain kept idle for repairs"),
    "rack_availability_frac": Column("", "max", "share of time in which enough devices of a domain work", "P(failed trays <= spare trays)"),
    "train_s": Column("s", "min", "pretraining wall-clock time, failures and checkpoints included", "tokens x seconds per token / goodput"),
    "train_devices": Column("", "min", "devices of the pretraining job"),
    "train_usd": Column("USD", "min", "pretraining cost"),
    "train_energy_j": Column("J", "min", "pretraining energy, all-in"),
    "train_power_w": Column("W", "min", "all-in power of the training devices, in pretraining or in RL, whichever draws more",
        "devices x all-in W"),
    "facility_power_w": Column("W", "min", "all-in power of training and serving side by side: what a site must supply",
        "train_power_w + serve_power_w"),
    "rl_s": Column("s", "min", "RL wall-clock time on as many devices as pretraining used"),
    "rl_usd": Column("USD", "min", "RL cost: rollout, reference and reward passes, update"),
    "lifecycle_usd": Column("USD", "min", "pretraining + RL + serving over the lifetime"),
    "lifecycle_energy_j": Column("J", "min", "energy of pretraining, RL and serving over the lifetime"),
    "pretrain_tok": Column("tok", "", "pretraining tokens that count (spent tokens / waste of a batch beyond the critical one)"),
    "pretrain_spent_tok": Column("tok", "", "pretraining tokens processed"),
    "rl_tok": Column("tok", "", "tokens generated in RL"),
    "pretrain_flop": Column("FLOP", "", "necessary pretraining compute", "(6 N + attention) D"),
    "rl_flop": Column("FLOP", "", "necessary RL compute"),
    "inference_flop": Column("FLOP", "", "necessary inference compute over the lifetime"),
    "balance_ratio": Column("", "min", "largest over smallest of pretraining, RL, inference, on necessary work or cheapest layouts"),
    "tok_per_param": Column("tok", "", "pretraining tokens per active parameter"),
    "n_params": Column("", "", "total parameters"),
    "n_active_params": Column("", "", "parameters touched per token, both embedding tables included"),
    "kv_bytes_per_tok": Column("byte", "min", "KV cache per token over all layers at kv_bits, scales included"),
    "sigma_ln_c_eq": Column("", "", "one standard deviation of ln c_eq_flop, shared and own part"),
    "sigma_ln_c_eq_own": Column("", "", "the part of that deviation that comparisons between designs keep"),
}  # fmt: skip

BENCHMARKS = {  # logit columns: what a benchmark of this class would say; computed where a study reads one
    "mmlu": "MMLU", "mmlu_pro": "MMLU-Pro", "supergpqa": "SuperGPQA", "gpqa": "GPQA", "bbh": "BBH", "gsm8k": "GSM8K", "math": "MATH",
}  # fmt: skip
COLUMNS |= {
    f"{key}_logit": Column("", "max", f"logit of the chance-corrected {name} score of the base model above a 1-billion dense one; flattens with size",
        "integral of the slope per ln N, which falls with ln N: s1 + (s10 - s1) log10(N / 1e9), not below 0", "arXiv 2505.09388 Tables 3-8")
    for key, name in BENCHMARKS.items()
}  # fmt: skip
COLUMNS["simpleqa_logit"] = Column(
    "", "max", "logit of the SimpleQA score of the base model, from total parameters", "-3.83 + 0.432 ln(N_t / 1e9)", "arXiv 2411.04368"
)
READOUTS = frozenset({"simpleqa_logit", *(f"{key}_logit" for key in BENCHMARKS)})

# Quality that does not see how long a model was trained: no objective on its own where tokens vary.
BLIND_TO_TOKENS = frozenset({"n_eff", "q_mixed", "q_reason", "q_know_bits"}) | READOUTS
SEES_TOKENS = frozenset({"c_eq_flop", "n_eq", "loss", "n_reason", "rl_pass_frac"})

ALIASES = {
    "tpot": "tpot_s", "itl": "tpot_s", "itl_s": "tpot_s", "ttft": "ttft_s", "train_days": "train_s", "rl_days": "rl_s",
    "clip_latency": "clip_latency_s", "c_eq": "c_eq_flop", "quality": "c_eq_flop", "energy_per_tok": "energy_j_per_tok", "j_per_tok": "energy_j_per_tok",
    "serve_power": "serve_power_w", "train_power": "train_power_w", "facility_power": "facility_power_w",
    "lifecycle_energy": "lifecycle_energy_j",
}  # fmt: skip


def canonical(name: str) -> str:
    """The column that a study's name means; the name itself when it is no alias."""
    return ALIASES.get(name, name)


# Columns that are computed only where an objective or a constraint reads one of them, or the study has `lifecycle.rl.returns`.
RL_COLUMNS = frozenset({"n_reason", "rl_pass_frac", "rl_gain_frac"})

# Columns that are computed only where an objective or a constraint reads one of them.
ENERGY_COLUMNS = frozenset(
    {name for name in COLUMNS if name.startswith("energy_") and name != "energy_j_per_tok"} | {"train_energy_used_j"}
)

# Columns that fall with the serving or training rate of a layout: choosing a cheaper layout can only improve them.
COST_COLUMNS = frozenset(
    {
        "usd_per_video_s",
        "usd_per_clip",
        "usd_per_mtok",
        "usd_per_mtok_output",
        "usd_per_mtok_input",
        "usd_per_task",
        "serve_usd",
        "lifecycle_usd",
    }
)
