"""What may go wrong, and what to measure before money is spent: both follow from the plan's own numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from codesign import payload
from codesign.export._markup import figure
from codesign.export._subject import Subject, plain
from codesign.physics import failures
from codesign.service import traffic as service
from codesign.spec.errors import UserError
from codesign.spec.units import show
from codesign.units import serving as unit

NARROW = 0.05  # less room than this to a limit, or to the memory, counts as a risk
WAITING = 0.05  # share of an RL step that a weight synchronisation may take unmentioned
COVERED = 0.8  # share of a phase that the operators of the measurement list must explain
PER = {"prefill": "one prompt per rank", "decode": "one decode step", "micro-batch": "one micro-batch, forward and backward"}
CURATED = ("price.rent", "power.all_in", "isl.mean", "osl.mean", "prefix_hit", "peak_to_mean", "demand", "lifetime")


def risks(s: Subject, plan: dict[str, Any]) -> list[dict[str, str]]:
    """Kind and sentence of everything in this plan that is outside evidence, close to a limit, or not counted."""
    found = [("quality law", text) for text in s.explained["notes"]]
    general = payload.warnings(s.study, s.run.front, s.run.manifest)
    found += [("search", text) for text in general if "fitted range" not in text or not s.explained["notes"]]
    found += [("limit", text) for text in _close(s, plan)]
    found += [("training", text) for text in _training(s, plan)]
    found += [("RL", text) for text in _reinforcement(plan)]
    return [{"kind": kind, "text": text} for kind, text in dict.fromkeys(found)]


def _close(s: Subject, plan: dict[str, Any]) -> list[str]:
    out, ends = [], {"train_days": plan["pretraining"]["train_high_s"], "tpot": plan["service"]["tpot_high_s"]}
    for row in s.explained["slack"]:
        if row["limit"] < ends.get(row["constraint"], 0.0):
            end, limit = (show(value, row["unit"]) for value in (ends[row["constraint"]], row["limit"]))
            out.append(f"the 80 % interval of {row['constraint']} ends at {end}, beyond the limit of {limit}: measure before signing")
        if row["slack_frac"] < NARROW:
            value, limit = (show(row[key], row["unit"]) for key in ("value", "limit"))
            out.append(f"{row['constraint']} uses {1 - row['slack_frac']:.1%} of its limit: {value} of {limit}")
    pools = {"training": plan["training_memory"]} | {role: fleet["memory"] for role, fleet in plan["serving"].items()}
    for name, used in pools.items():
        if used["used_frac"] > 1 - NARROW:
            out.append(
                f"{name} fills {used['used_frac']:.1%} of what may be used of its fullest device's memory: fragmentation may stop it"
            )
    return out


def _training(s: Subject, plan: dict[str, Any]) -> list[str]:
    job, lost = plan["training"], plan["checkpoints"]
    out = []
    if plan["parameters"]["n_mtp_params"]:
        out.append(_mtp(s, plan))
    longest = max(fleet["launch"]["max_model_len_tok"] for fleet in plan["serving"].values())
    if longest > job["seq_tok"]:
        out.append(
            f"requests of up to {longest:,} tokens are to be served by a model trained on sequences of {job['seq_tok']:,}: extending its context "
            "afterwards is in neither time nor cost (DeepSeek-V3: 1,000 steps each at 32k and 128k, arXiv 2412.19437 section 4.3)"
        )
    spread, domain = job["n_ep"] * job["n_etp"], job["n_devices_per_scale_up_domain"]
    if spread > domain:
        out.append(
            f"experts are spread over {spread} devices, beyond the {domain} of one scale-up domain: dispatch and combine cross the "
            "NICs, and no overlap with computation is assumed"
        )
    count, bubble = job["n_micro_batches_per_step"], job["bubble_s"] / job["step_s"]
    if job["n_pp"] > 1 and count < 4 * job["n_pp"]:
        out.append(f"{count} micro-batches fill a pipeline of {job['n_pp']} stages: the bubble is {bubble:.0%} of the step")
    if count == 1:
        out.append("one micro-batch per step: a smaller batch leaves devices or memory idle, and little hides the gradient exchange")
    if lost["n_failures_expected"] >= 1:
        gone = 1 - plan["pretraining"]["goodput_frac"]
        out.append(f"{lost['n_failures_expected']:.0f} failures are expected; they and checkpoints take {gone:.0%} of the time")
    if plan["batch_schedule"]["ramp_extra_s"] > 0:
        days = show(plan["batch_schedule"]["ramp_extra_s"], "s")
        out.append(f"the batch ramp takes {days} more than the constant batch that time and cost assume")
    if plan["tokens"]["n_epochs"] and plan["tokens"]["n_epochs"] > 1:
        out.append(f"every token is seen {plan['tokens']['n_epochs']:.2g} times on average: deduplicate before, shuffle between")
    return out


def _mtp(s: Subject, plan: dict[str, Any]) -> str:
    """Training work of the modules beside the model's: their layers, and the head once more for each."""
    n = plan["parameters"]
    more = (float(s.census.mtp_active_params) + s.shape["n_mtp_layers"] * float(s.census.head_params)) / n["n_active_params_excl_in"]
    return (
        f"multi-token-prediction modules ({n['n_mtp_params'] / n['n_params']:.1%} more parameters, {more:.0%} more training FLOP) are in neither "
        f"training time, memory nor cost: leave them out, or plan for up to {show(more * plan['pretraining']['train_s'], 's')} more"
    )


def _reinforcement(plan: dict[str, Any]) -> list[str]:
    r = plan["rl"]
    if r is None:
        return []
    found = []
    if r["weight_sync_s"] > WAITING * r["s_per_step"]:
        sync, step = (show(r[key], "s") for key in ("weight_sync_s", "s_per_step"))
        found.append(f"new weights reach the rollout replicas in up to {sync}, beside steps of {step}: overlap it, or count it")
    if r["s_per_step"] >= r["longest_rollout_s"]:
        return found
    whole, step, longest = (show(r[key], "s") for key in ("rl_s", "s_per_step", "longest_rollout_s"))
    return [
        *found,
        f"RL in {whole} means one step of {r['rollouts_per_step']} rollouts every {step}, but the longest rollout of a step takes about "
        f"{longest} at the serving speed: it needs {r['rollouts_in_flight_needed']:,} rollouts in flight (a larger or asynchronous "
        "batch), fewer devices for longer, or fewer RL tokens",
    ]


def measurements(s: Subject) -> list[dict[str, Any]]:
    """Per phase the operators that take most of its time: what to run, the time to beat, what a miss costs."""
    rows = []
    for bound in s.explained["bounds"]:
        here = [op for op in s.explained["operators"] if (op["unit"], op["phase"]) == (bound["unit"], bound["phase"])]
        total, covered = sum(op["time_s"] for op in here), 0.0
        for op in sorted(here, key=lambda op: -op["time_s"]):
            if covered >= COVERED * total:
                break
            covered += op["time_s"]
            share = op["time_s"] / total
            rows.append({
                "unit": op["unit"], "phase": op["phase"], "operator": op["name"], "run": _recipe(s, op), "per": PER[op["phase"]],
                "n_devices": _n_devices(s, op), "bound": op["bound"], "expected_s": op["time_s"], "share_frac": share,
            })  # fmt: skip
    return rows


def _recipe(s: Subject, op: dict[str, Any]) -> str:
    """The operator as a micro-benchmark: sizes on the fullest device."""
    at, c, ffn = s.layout(op["unit"]), s.census, s.census.ffn
    n_tok = _tokens_per_rank(s, op["unit"], op["phase"])
    name, heads = op["name"], f"{s.shape['attention']} attention, {figure(s.shape['n_heads'] / float(at.n_tp))} heads"
    back = ", with backward" if op["unit"] == "train" else ""
    if name == "routed experts":
        group = n_tok * float(at.n_dp / at.n_edp) * (1.0 if op["phase"] == "decode" else float(at.n_cp))
        each = group * float(ffn.n_active_experts / ffn.n_experts)
        size, local = f"{int(ffn.d_expert_in)} x {figure(float(ffn.d_expert / at.n_etp))}", figure(float(ffn.n_experts / at.n_ep))
        return f"grouped GEMM, experts {size}, {local} per device, {figure(each)} tokens each{back}"
    if name in ("expert dispatch", "expert combine"):
        sent = f"{figure(n_tok / float(at.n_tp))} tokens per device to {int(ffn.n_active_experts)} experts"
        return f"all-to-all over {int(at.n_ep)} devices: {sent}, {int(ffn.d_expert_in)} wide{back}"
    if name == "attention":
        length = s.setting.life.seq_tok if back else float(unit.prompt_of(s.setting.traffic).new_tok)
        return f"causal {heads}, sequence of {figure(length)} tokens{back}"
    if name == "attention over cache":
        return f"decode {heads}, {figure(n_tok)} sequences of {figure(float(service.mean_context(s.setting.traffic)))} tokens"
    if name in ("attention projections", "dense FFN", "shared experts, router", "LM head"):
        return f"GEMMs of {figure(n_tok)} tokens, d_model {int(c.d_model)}, tensor parallel {int(at.n_tp)}{back}"
    if name.startswith(("TP ", "expert TP")):
        return f"{figure(n_tok)} x {int(c.d_model)} 16-bit values over {int(at.n_tp)} devices{back}"
    return f"{figure(n_tok)} tokens{back}"


def _n_devices(s: Subject, op: dict[str, Any]) -> int:
    """Devices that an operator's micro-benchmark needs: those that exchange, else one."""
    at, name = s.layout(op["unit"]), op["name"]
    groups = {"TP ": at.n_tp, "CP ": at.n_cp, "expert TP": at.n_etp, "expert dispatch": at.n_ep * at.n_etp, "expert combine": at.n_ep * at.n_etp,
              "pipeline hop": 2}  # fmt: skip
    return int(next((size for start, size in groups.items() if name.startswith(start)), 1))


def _tokens_per_rank(s: Subject, pool: str, phase: str) -> float:
    """Tokens that one attention rank works on at a time."""
    at, traffic = s.layout(pool), s.setting.traffic
    if pool == "train":
        return float(s.job.micro_batch * s.job.seq_tok / at.n_cp)
    if phase == "prefill":
        return float(unit.chunk_of(traffic) / at.n_cp)
    return float(np.ceil(np.ceil(s.count(f"{pool}.batch") / at.n_dp) / at.n_pp) * traffic.q_tok)


def assumptions(s: Subject) -> list[dict[str, Any]]:
    """Figures that this plan rests on and that no measurement of ours backs: to be replaced by your own."""
    pools = (role for role in s.setting.pools if role != "rl" or s.number("rl_tok") > 0)
    mine = tuple(f"{role}.{plain(s.values[f'hardware.{role}'])}." for role in pools)
    rows = []
    for row in payload.assumptions(s.study):
        if row["name"].startswith((*mine, "workload.", "demand", "lifetime")) and row["name"].endswith(CURATED):
            rows.append({key: row[key] for key in ("name", "value", "unit", "source", "confidence")})
    own = (
        ("train.mean_device_time_between_failures", failures.DEVICE_S_BETWEEN_FAILURES, "Llama 3, arXiv 2407.21783 Table 5"),
        (
            "train.restart",
            failures.RESTART_S,
            "so that 16,384 devices train for the more than 90 % of the time that Llama 3 reports, arXiv 2407.21783",
        ),
        ("train.checkpoint_stall", failures.CHECKPOINT_S, "asynchronous writers: 5-60 s"),
    )
    return rows + [{"name": n, "value": v, "unit": "s", "source": source, "confidence": "estimate"} for n, v, source in own]


def same_constants(s: Subject) -> None:
    """Recomputed figures must be those of the run: nobody should sign or start what comes half from other constants."""
    pairs = [(s.number("train.step_s"), next(row["step_s"] for row in s.explained["layout"] if row["unit"] == "train"))]
    for pool in ("train", *s.setting.roles):
        pairs.append((s.number(f"{pool}.memory_bytes"), sum(row["bytes"] for row in s.explained["memory"] if row["unit"] == pool)))
    if any(abs(recomputed / kept - 1.0) > 1e-6 for kept, recomputed in pairs):
        raise UserError(
            f"{s.run.path} was computed with other constants than those installed now (codesign {s.run.manifest['version']}, "
            "catalog or engine): step time or memory differ", hint="run the study again in another directory",
        )  # fmt: skip
