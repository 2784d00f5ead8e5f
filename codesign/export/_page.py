"""A training plan as a Markdown page: human units, nothing computed.  What a user named is shown, never interpreted."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from codesign.spec.units import show

Plan = dict[str, Any]
_SPECIAL = re.compile(r"[\\`*\[\]<>|~$&]|(?<!\w)_|_(?!\w)")  # an underscore inside a word is plain text


def text(value: Any) -> str:
    """Somebody's words as text inside a line: no markup, no line breaks, no control characters."""
    words = "".join(c if c.isprintable() else " " for c in str(value))
    return _SPECIAL.sub(r"\\\g<0>", " ".join(words.split()))


def code(value: Any) -> str:
    """A name in a code span, which also holds inside a table."""
    words = "".join(c if c.isprintable() else " " for c in str(value)).replace("`", "'").replace("|", "/")
    return f"`{' '.join(words.split()) or '-'}`"


def amount(value: Any, unit: str) -> str:
    return "-" if value is None else show(float(value), unit)


def count(value: Any) -> str:
    return "-" if value is None else f"{value:,}" if isinstance(value, int) else figure(value)


def figure(value: float) -> str:
    """A number without a unit: whole from 100 on, else three digits."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    lines = ["| " + " | ".join(row) + " |" for row in (list(head), *map(list, rows))]
    return [lines[0], re.sub(r"[^|]+", " --- ", lines[0]), *lines[1:], ""]


def facts(*pairs: tuple[str, str]) -> list[str]:
    return table(("", ""), pairs)


def page(p: Plan) -> str:
    """The whole page."""
    sections = (
        _head(p), _summary(p), _model(p), _tokens(p), _layout(p), _memory(p), _schedules(p), _checkpoints(p), _gates(p), _rl(p), _serving(p),
        _risks(p), _measure(p), _sign(p),
    )  # fmt: skip
    return "\n".join(line for section in sections for line in section).rstrip() + "\n"


def _head(p: Plan) -> list[str]:
    d = p["design"]
    exact = "every design of the space was evaluated" if d["is_exact"] else "the space was sampled"
    return [
        f"# Training plan: {text(d['study'])} #{d['id']}", "", *([f"Question: {text(d['question'])}", ""] if d["question"].strip() else []),
        f"Point {d['id']} (design {d['design_id']}) of {code(d['run'])}, based on {code(d['base_model'])}; {exact}. codesign {text(d['codesign_version'])}, "
        f"searched {text(d['searched'])}. The same numbers in SI: `training-plan.yaml`.", "",
    ]  # fmt: skip


def _summary(p: Plan) -> list[str]:
    job, run, service, q, n = p["training"], p["pretraining"], p["service"], p["quality"], p["parameters"]
    rows = [
        ("Model", f"{_billions(n['n_params'])} parameters, {_billions(n['n_active_params'])} active, {text(p['architecture']['attention'])}"),
        ("Tokens", f"{amount(p['tokens']['processed_tok'], 'tok')} processed, {amount(p['tokens']['useful_tok'], 'tok')} useful"),
        ("Training", f"{count(job['n_devices'])} x {text(job['accelerator'])}, {amount(run['train_s'], 's')}, {amount(run['train_usd'], 'USD')}, "
                     f"{amount(run['train_energy_j'], 'J')}"),
        ("RL", "none" if p["rl"] is None else f"{amount(p['rl']['rl_tok'], 'tok')}, {amount(p['rl']['rl_s'], 's')}, {amount(p['rl']['rl_usd'], 'USD')}"),
        ("Serving", f"{count(service['serve_devices'])} devices, {service['usd_per_mtok']:.3g} USD/Mtok, TPOT {amount(service['tpot_s'], 's')}, "
                    f"TTFT {amount(service['ttft_s'], 's')} without queue"),
        ("Quality", f"{q['c_eq_flop']:.2g} FLOP-equivalent ({q['c_eq_low_flop']:.2g} to {q['c_eq_high_flop']:.2g}, {q['interval']})"),
        ("Whole life", f"{amount(p['lifecycle']['lifecycle_usd'], 'USD')}, {amount(p['lifecycle']['lifecycle_energy_j'], 'J')}"),
    ]  # fmt: skip
    return ["## In short", "", *facts(*rows)]


def _billions(n: float) -> str:
    return f"{n / 1e9:.4g}B" if n >= 1e9 else f"{n / 1e6:.4g}M"


def _model(p: Plan) -> list[str]:
    n, b = p["parameters"], p["precision"]
    dims = [(code(key), text(value) if isinstance(value, str) else f"{value:,}") for key, value in p["architecture"].items()]
    parts = [(name.replace("_", " "), f"{value:,}", f"{value / n['n_params']:.2%}") for name, value in n["by_part"].items()]
    extra = n["n_mtp_params"]
    return [
        "## Architecture", "", *table(("Dimension", "Value"), dims), "### Parameters", "",
        *table(("Part", "Parameters", "Share"), [*parts, ("**total**", f"**{n['n_params']:,}**", ""), ("active per token", f"{n['n_active_params']:,}", "")]),
        *([f"Multi-token-prediction modules add {extra:,} parameters that the total leaves out.", ""] if extra else []),
        "### Precision", "", *facts(
            ("Training products", f"{text(b['train_format'])}"), ("Training weights", text(b["train_weights_format"])), ("Gradients", text(b["gradient_format"])),
            ("Served weights", text(b["weight_format"])), ("KV cache", text(b["kv_format"])), ("Served activations", text(b["act_format"])),
        ),
    ]  # fmt: skip


def _tokens(p: Plan) -> list[str]:
    t = p["tokens"]
    epochs = "no limit on unique tokens is set" if t["n_epochs"] is None else f"{t['n_epochs']:.3g} ({amount(t['unique_tok'], 'tok')} unique)"
    return ["## Tokens", "", *facts(
        ("Useful (what the quality law counts)", amount(t["useful_tok"], "tok")),
        ("Processed (batch beyond the critical one wastes the rest)", f"{amount(t['processed_tok'], 'tok')}, {t['processed_over_useful']:.3f}x"),
        ("Useful per active parameter", figure(t["useful_tok_per_active_param"])), ("Epochs", epochs), ("Sequence", amount(t["seq_tok"], "tok")),
    )]  # fmt: skip


def _layout(p: Plan) -> list[str]:
    j, run = p["training"], p["pretraining"]
    degrees = ", ".join(f"{name[2:]} {j[name]}" for name in ("n_tp", "n_cp", "n_pp", "n_dp", "n_etp", "n_ep", "n_edp"))
    return ["## Training layout", "", *facts(
        ("Hardware", f"{code(j['hardware'])}: {text(j['accelerator'])}"),
        ("Devices", f"{j['n_devices']:,} in {j['n_nodes']:,} nodes of {j['n_devices_per_node']}; {j['n_scale_up_domains']:,} scale-up domains of "
                    f"{j['n_devices_per_scale_up_domain']}"),
        ("Layout", f"{code(j['layout'])} ({degrees})"), ("ZeRO stage", str(j["zero_stage"])), ("Recomputation", text(j["recompute"])),
        ("Global batch", f"{count(j['global_batch_seq'])} sequences, {amount(j['global_batch_tok'], 'tok')}"),
        ("Micro-batch", f"{j['micro_batch_seq']} x {amount(j['seq_tok'], 'tok')}, {count(j['n_micro_batches_per_step'])} per step"),
        ("Step", f"{amount(j['step_s'], 's')}: bubble {amount(j['bubble_s'], 's')}, exposed exchange {amount(j['exposed_exchange_s'], 's')}, optimizer "
                 f"{amount(j['optimizer_s'], 's')}"),
        ("Micro-batch time", f"{amount(j['micro_batch_s'], 's')} (all overlapped {amount(j['micro_batch_lower_s'], 's')}, nothing "
                             f"{amount(j['micro_batch_upper_s'], 's')}); bound by {j['bound']}"),
        ("Model FLOP utilisation", f"{j['mfu_frac']:.1%}"), ("Throughput", f"{amount(j['tok_per_s'], 'tok/s')}, {figure(j['tok_per_s_per_device'])} tok/s per device"),
        ("Steps", f"{run['n_steps']:,}"), ("Time", f"{amount(run['train_s'], 's')} at goodput {run['goodput_frac']:.1%} ({amount(run['ideal_s'], 's')} without failures)"),
        ("Cost", f"{amount(run['train_usd'], 'USD')} at {amount(j['usd_per_device_s'], 'USD/device/s')}"), ("Energy", amount(run["train_energy_j"], "J")),
    )]  # fmt: skip


def _memory(p: Plan) -> list[str]:
    pools = {"training": p["training_memory"]} | {role: fleet["memory"] for role, fleet in p["serving"].items()}
    classes = dict.fromkeys(key for used in pools.values() for key in used if key.endswith("_bytes") and key not in ("total_bytes", "usable_bytes"))
    rows = [(key.removesuffix("_bytes"), *(amount(used.get(key), "byte") for used in pools.values())) for key in classes]
    rows += [(f"**{name}**", *(amount(used[key], "byte") for used in pools.values())) for name, key in (("total", "total_bytes"), ("usable", "usable_bytes"))]
    rows += [("used", *(f"{used['used_frac']:.1%}" for used in pools.values()))]
    return ["## Memory of the fullest device", "", *table(("Class", *pools), rows)]


def _schedules(p: Plan) -> list[str]:
    b, r = p["batch_schedule"], p["learning_rate"]
    stages = [
        (amount(x["from_tok"], "tok"), amount(x["to_tok"], "tok"), count(x["global_batch_seq"]), amount(x["global_batch_tok"], "tok"), count(x["n_devices"]),
         f"dp {count(x['n_dp'])}, {count(x['n_micro_batches_per_step'])} x {x['micro_batch_seq']}")
        for x in b["stages"]
    ]  # fmt: skip
    sweep = ", ".join(f"{x:.1e}" for x in r["sweep_peaks"])
    return [
        "## Schedules", "", "### Batch", "",
        *table(("From", "To", "Sequences", "Tokens", "Devices at work", "Ranks, micro-batches"), stages),
        f"The ramp takes {amount(b['ramp_extra_s'], 's')} and {amount(b['ramp_extra_usd'], 'USD')} beyond the constant batch of the budget. Batch of lowest loss at "
        f"this compute by DeepSeek LLM's rule: {amount(b['optimal_batch_tok'], 'tok')}.", "", f"Source: {text(b['source'])}.", "",
        "### Learning rate and optimizer", "",
        *facts(
            ("Schedule", text(r["schedule"])), ("Peak", f"{r['peak']:.2e} ({r['peak_if_scaled_to_batch']:.2e} if scaled by the root of this batch over that optimum)"),
            ("Warmup", f"{r['warmup_steps']:,} steps, linear from 0"), ("Cooldown", f"last {r['cooldown_steps']:,} steps from step {r['cooldown_from_step']:,}, "
             f"{text(r['cooldown_shape'])} to {r['final']:g}"), ("Sweep before starting", f"peak {sweep}, on a proxy of the same shape"),
            ("Optimizer", f"{r['optimizer']}, betas {r['beta1']}, {r['beta2']}, weight decay {r['weight_decay']}, clip {r['gradient_clip_norm']}"),
        ),
        f"Source: {text(r['source'])}; optimizer: {text(r['optimizer_source'])}.", "",
    ]  # fmt: skip


def _checkpoints(p: Plan) -> list[str]:
    c = p["checkpoints"]
    return ["## Failures and checkpoints", "", *facts(
        ("Mean time between failures", amount(c["mean_time_between_failures_s"], "s")), ("Failures expected", f"{c['n_failures_expected']:.3g}"),
        ("Checkpoint every", f"{amount(c['checkpoint_interval_s'], 's')} ({c['checkpoint_interval_steps']:,} steps)"),
        ("Checkpoint size", f"{amount(c['checkpoint_bytes'], 'byte')}: {text(c['checkpoint_holds'])}"),
        ("Storage must write", f"at least {amount(c['min_storage_write_bytes_per_s'], 'byte/s')} in the background"),
        ("Assumed", f"{amount(c['assumed_checkpoint_stall_s'], 's')} stall per checkpoint, {amount(c['assumed_restart_s'], 's')} to restart"),
        ("Lost per failure", amount(c["lost_work_per_failure_s"], "s")),
    ), f"Source: {text(c['source'])}.", ""]  # fmt: skip


def _gates(p: Plan) -> list[str]:
    g = p["evaluation_gates"]
    rows = [
        (f"{x['tok_frac']:.0%}", amount(x["processed_tok"], "tok"), f"{x['step']:,}", amount(x["at_s"], "s"), f"{x['loss_nat']:.4f}",
         f"{x['loss_low_nat']:.4f} to {x['loss_high_nat']:.4f}",
         "-" if x["drop_nat"] is None else f"{x['drop_nat']:.4f} ({x['drop_low_nat']:.4f} to {x['drop_high_nat']:.4f})")
        for x in g["rows"]
    ]  # fmt: skip
    return [
        "## Evaluation gates", "", *table(("Tokens", "Processed", "Step", "Time", "Loss, nat", "80 % interval", "Drop since the gate before (two laws)"), rows),
        f"Loss of the {text(g['loss_of'])}: compare the drops, not the level. Before the cooldown the loss of a constant learning rate lies above these "
        f"values, so each earlier gate is a side branch that cools down over its last {g['branch_cooldown_frac']:.0%} of tokens: all branches together "
        f"{amount(g['branch_extra_tok'], 'tok')}, {amount(g['branch_extra_s'], 's')}, {amount(g['branch_extra_usd'], 'USD')}, not in the budget. "
        f"After quantisation for serving {g['loss_deployed_nat']:.4f} is expected.", "",
        "Stop and look for the cause (data, learning rate, a bug) when a drop is smaller than its interval allows.", "",
    ]  # fmt: skip


def _rl(p: Plan) -> list[str]:
    r = p["rl"]
    if r is None:
        return ["## Reinforcement learning", "", "There is no RL in this design.", ""]
    return ["## Reinforcement learning", "", *facts(
        ("Hardware", f"{code(r['hardware'])}, {r['n_devices']:,} devices in {r['n_nodes']:,} nodes"), ("Tokens generated", amount(r["rl_tok"], "tok")),
        ("Rollouts", f"{r['n_rollouts']:.3g} of {amount(r['gen_tok'], 'tok')} (longest {r['longest_over_mean']:g}x), prompts of {amount(r['prompt_tok'], 'tok')}"),
        ("Steps", f"{r['n_steps']:,} of {r['rollouts_per_step']} rollouts, one every {amount(r['s_per_step'], 's')}"),
        ("Rollouts in flight needed", f"{r['rollouts_in_flight_needed']:,} (the longest takes about {amount(r['longest_rollout_s'], 's')})"),
        ("Scoring passes", f"{r['n_forward_passes']:g} beside the update"), ("Time", amount(r["rl_s"], "s")), ("Cost", amount(r["rl_usd"], "USD")),
        ("Energy", amount(r["rl_energy_j"], "J")), ("Weight sync", amount(r["weight_sync_s"], "s")), ("Layout", text(r["layout"])),
    )]  # fmt: skip


def _serving(p: Plan) -> list[str]:
    v = p["service"]
    limits = {key: "" if v[f"{key}_limit_s"] is None else f" (limit {amount(v[f'{key}_limit_s'], 's')})" for key in ("tpot", "ttft")}
    lines = ["## Serving", "", *facts(
        ("Demand", f"{amount(v['demand_tok_per_s'], 'tok/s')} output on average, peak {v['peak_to_mean']:.3g}x, for {amount(v['lifetime_s'], 's')}"),
        ("Request", f"{figure(v['isl_tok'])} tokens in ({figure(v['prefix_tok'])} cached), {figure(v['osl_tok'])} out"),
        ("TPOT", f"{amount(v['tpot_s'], 's')}{limits['tpot']}: {v['tok_per_s_per_user']:.3g} tok/s per user"),
        ("TTFT", f"{amount(v['ttft_s'], 's')}{limits['ttft']}, without queueing"),
        ("Cost", f"{v['usd_per_mtok']:.3g} USD/Mtok output, all serving included ({v['usd_per_mtok_input']:.3g} per Mtok of computed prompt, "
                 f"{v['usd_per_mtok_output']:.3g} decode); {amount(v['serve_usd'], 'USD')} over the lifetime"),
        ("Energy", f"{v['energy_j_per_tok']:.3g} J per output token, {amount(v['serve_power_w'], 'W')}"),
    )]  # fmt: skip
    for role, fleet in p["serving"].items():
        lines += [f"### Fleet: {text(role)}", "", *_fleet(fleet)]
    return lines


def _fleet(f: Plan) -> list[str]:
    launch = [(code(key), "-" if x is None else count(x) if isinstance(x, int | float) and not isinstance(x, bool) else text(x)) for key, x in f["launch"].items()]
    degrees = ", ".join(f"{name[2:]} {f[name]}" for name in ("n_tp", "n_cp", "n_pp", "n_dp", "n_etp", "n_ep", "n_edp"))
    return [
        *facts(
            ("Phase", text(f["phase"])), ("Hardware", f"{code(f['hardware'])}: {text(f['accelerator'])}"),
            ("Replicas", f"{f['n_replicas']:,} of {f['n_devices_per_replica']} devices"),
            ("Devices", f"{f['n_devices']:,} rented, {f['n_idle_devices']:,} of them idle, in {f['n_scale_up_domains']:,} scale-up domains of "
                        f"{f['n_devices_per_scale_up_domain']}"),
            ("Layout", f"{code(f['layout'])} ({degrees})"), ("Cost", f"{amount(f['usd_per_s'], 'USD/s')}, {amount(f['serve_usd'], 'USD')} over the lifetime"),
            ("Power", amount(f["power_w"], "W")),
        ),
        *table(("Launch parameter", "Value"), launch),
    ]  # fmt: skip


def _risks(p: Plan) -> list[str]:
    return ["## Risks and warnings", "", *(f"* **{text(r['kind'])}**: {text(r['text'])}" for r in p["risks"]), ""]


def _measure(p: Plan) -> list[str]:
    rows = [
        (text(f"{m['unit']}, {m['phase']}"), text(m["operator"]), text(m["run"]), amount(m["expected_s"], "s"), m["bound"], f"{m['share_frac']:.0%}")
        for m in p["measure_first"]
    ]  # fmt: skip
    figures = [(code(a["name"]), amount(a["value"], a["unit"]), text(a["confidence"]), text(a["source"])) for a in p["assumptions"]]
    return [
        "## Measure first (half a day on one node of each kind)", "", "Times are for all layers of the fullest stage: forward and backward of one micro-batch, one "
        "prompt per rank, or one decode step. An operator twice as slow lengthens its phase by its share.", "",
        *table(("Phase", "Operator", "Run", "Expected", "Bound by", "Share"), rows),
        "### Figures to replace by your own", "", *table(("Figure", "Value", "Confidence", "Source"), figures),
    ]  # fmt: skip


def _sign(p: Plan) -> list[str]:
    conditions = (
        "the measured operators above are within 25 % of their expected times", "prices, power and delivery dates are confirmed in writing",
        "the learning-rate sweep has been run", "the data set holds the unique tokens above after deduplication", "the risks above are accepted",
    )  # fmt: skip
    roles = ("Architecture", "Training infrastructure", "Serving", "Data", "Budget")
    return [
        "## Sign-off", "", "Start when:", "", *(f"* [ ] {condition}" for condition in conditions), "",
        *table(("Role", "Name", "Date"), [(role, " ", " ") for role in roles]),
    ]  # fmt: skip
