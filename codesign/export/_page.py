"""A training plan as a Markdown page: human units, nothing computed."""

from __future__ import annotations

from typing import Any

from codesign.export._markup import amount, code, facts, figure, say, table, text

Plan = dict[str, Any]
DEGREES = "{layout:code} (tp {n_tp}, cp {n_cp}, pp {n_pp}, dp {n_dp}, etp {n_etp}, ep {n_ep}, edp {n_edp})"


def page(p: Plan) -> str:
    """The whole page."""
    sections = (_head, _summary, _model, _tokens, _layout, _memory, _batch, _rate, _checkpoints, _gates, _rl, _serving)
    lines = [line for section in (*sections, _risks, _measure, _sign) for line in section(p)]
    return "\n".join(lines).rstrip() + "\n"


def _head(p: Plan) -> list[str]:
    d = p["design"]
    covered = "every design of the space was evaluated" if d["is_exact"] else "the space was sampled"
    return [
        say("# Training plan: {study} #{id}", d), "",
        *([say("Question: {question}", d), ""] if d["question"].strip() else []),
        say("Point {id} (design {design_id}) of {run:code}, based on {base_model:code}; ", d)
        + say(covered + ". codesign {codesign_version}, searched {searched}. The same numbers in SI: `training-plan.yaml`.", d),
        "",
    ]  # fmt: skip


def _summary(p: Plan) -> list[str]:
    values = p["parameters"] | p["tokens"] | p["pretraining"] | p["training"] | p["service"] | p["quality"] | p["lifecycle"]
    values |= {"size": _short(p["parameters"]["n_params"]), "active": _short(p["parameters"]["n_active_params"])}
    values |= {"attention": p["architecture"]["attention"], "train_s": p["pretraining"]["train_s"]}
    values |= {"serving_chips": " and ".join(dict.fromkeys(fleet["accelerator"] for fleet in p["serving"].values()))}
    values["trained_s"] = sum((p["pretraining"]["train_s"], p["batch_schedule"]["ramp_extra_s"], p["evaluation_gates"]["branch_extra_s"],
                               p["rl"]["rl_s"] if p["rl"] else 0.0))  # fmt: skip
    rl = "none" if p["rl"] is None else say("{rl_tok:tok}, {rl_s:s}, {rl_usd:USD}", p["rl"])
    return ["## In short", "", *facts(
        values | {"rl": rl},
        Model="{size} parameters, {active} active, {attention}",
        Tokens="{processed_tok:tok} processed, {useful_tok:tok} useful",
        Training="{n_devices} x {accelerator}, {train_s:s} (80 %, at these tokens: {train_low_s:s} to {train_high_s:s}), "
                 "{train_usd:USD}, {train_energy_j:J}",
        RL="{rl}",
        Trained_after="{trained_s:s}: pretraining, batch ramp, branches of the gates on the same devices" + (", RL" if p["rl"] else ""),
        Serving="{serve_devices} x {serving_chips}, {usd_per_mtok:.3g} USD/Mtok, TPOT {tpot_s:s}, TTFT {ttft_s:s} without queue",
        Quality="{c_eq_flop:.2g} FLOP-equivalent ({c_eq_low_flop:.2g} to {c_eq_high_flop:.2g}, {interval})",
        Whole_life="{lifecycle_usd:USD}, {lifecycle_energy_j:J}",
        With_gates_and_ramp="{with_gates_and_ramp_usd:USD}"
                            + (" of {budget_usd:USD}; chance to be over the budget at these tokens: {over_budget_frac:.0%}"
                               if p["lifecycle"]["budget_usd"] else ""),
    )]  # fmt: skip


def _short(n: float) -> str:
    return f"{n / 1e9:.4g}B" if n >= 1e9 else f"{n / 1e6:.4g}M"


def _model(p: Plan) -> list[str]:
    n = p["parameters"]
    dimensions = [(code(key), text(value) if isinstance(value, str) else figure(value)) for key, value in p["architecture"].items()]
    parts = [(text(name.replace("_", " ")), figure(value), f"{value / n['n_params']:.2%}") for name, value in n["by_part"].items()]
    parts += [("**total**", f"**{figure(n['n_params'])}**", ""), ("active per token", figure(n["n_active_params"]), "")]
    extra = (
        [say("Multi-token-prediction modules add {n_mtp_params} parameters that the total leaves out.", n), ""] if n["n_mtp_params"] else []
    )
    extra += ["The base model's MTP module is left out: nothing drafts.", ""] if n["n_mtp_layers_left_out"] else []
    return [
        "## Architecture", "", *table(("Dimension", "Value"), dimensions),
        "### Parameters", "", *table(("Part", "Parameters", "Share"), parts), *extra,
        "### Precision", "", *facts(
            p["precision"], Training_products="{train_format}", Training_weights="{train_weights_format}",
            Gradients="{gradient_format}", Served_weights="{weight_format}", Served_activations="{act_format}", KV_cache="{kv_format}",
        ),
    ]  # fmt: skip


def _section(title: str, values: Plan, source: str = "", /, **sentences: str) -> list[str]:
    """A heading, a table of sentences about the values, and where they come from."""
    return [f"## {title}", "", *facts(values, **sentences), *([say(source, values), ""] if source else [])]


def _tokens(p: Plan) -> list[str]:
    limited = p["tokens"]["n_epochs"] is not None
    return _section(
        "Tokens", p["tokens"],
        Useful="{useful_tok:tok}: what the quality law counts",
        Processed="{processed_tok:tok}, {processed_over_useful:.3f}x: a batch beyond the critical one wastes the rest",
        Useful_per_active_parameter="{useful_tok_per_active_param} (compute-optimal training: about 20; the loss laws were fitted up to 640)",
        Epochs="{n_epochs:.3g} of {unique_tok:tok} unique" if limited else "no limit on unique tokens is set",
        Sequence="{seq_tok:tok}",
    )  # fmt: skip


def _layout(p: Plan) -> list[str]:
    def again(unit: str) -> str:
        """The interval of `codesign show`, where the study's rule sets the tokens."""
        ends = [f"{{train_{end}_if_solved_again_{unit}:{unit if unit == 's' else 'USD'}}}" for end in ("low", "high")]
        return (
            f"; if they follow from the study's rule again: {ends[0]} to {ends[1]}"
            if "train_low_if_solved_again_s" in p["pretraining"]
            else ""
        )

    return _section(
        "Training layout", p["training"] | p["pretraining"] | {"n_ramped_steps": p["batch_schedule"]["n_steps"]},
        Hardware="{hardware:code}: {accelerator}",
        Devices="{n_devices} in {n_nodes} nodes of {n_devices_per_node}; {n_scale_up_domains} scale-up domains of "
                "{n_devices_per_scale_up_domain}",
        Layout=DEGREES,
        ZeRO_stage="{zero_stage}",
        Recomputation="{recompute}",
        Global_batch="{global_batch_seq} sequences, {global_batch_tok:tok}",
        Micro_batch="{micro_batch_seq} x {seq_tok:tok}, {n_micro_batches_per_step} per step",
        Step="{step_s:s} (80 %: {step_low_s:s} to {step_high_s:s}): {n_micro_batches_per_step} x {micro_batch_s:s} micro-batches, bubble {bubble_s:s}, "
             "exposed exchange {exposed_exchange_s:s}, optimizer {optimizer_s:s}, fixed {fixed_s:s} (clipping, logging, launch of the update)"
             + (", offload or other sites {other_exposed_s:s}" if p["training"]["other_exposed_s"] else ""),
        Micro_batch_time="{micro_batch_s:s} (all overlapped {micro_batch_lower_s:s}, nothing {micro_batch_upper_s:s}); bound by {bound}",
        Model_FLOP_utilisation="{mfu_frac:.1%} (80 %: {mfu_low_frac:.1%} to {mfu_high_frac:.1%})",
        Throughput="{tok_per_s:tok/s}, {tok_per_s_per_device} tok/s per device",
        Steps="{n_ramped_steps} with the batch ramp, which all steps below count ({n_steps} if the batch were constant, as in launch files)",
        Time="{train_s:s} (80 %, at these tokens: {train_low_s:s} to {train_high_s:s}" + again("s") + ") at goodput {goodput_frac:.1%} ({ideal_s:s} without failures)",
        Cost="{train_usd:USD} (80 %, at these tokens: {train_low_usd:USD} to {train_high_usd:USD}" + again("usd") + ") at {usd_per_device_s:USD/device/s}",
        Energy="{train_energy_j:J}",
    )  # fmt: skip


def _memory(p: Plan) -> list[str]:
    pools = {"training": p["training_memory"]} | {role: fleet["memory"] for role, fleet in p["serving"].items()}
    keys = dict.fromkeys(key for used in pools.values() for key in used if key.endswith("_bytes"))
    sums = ("total_bytes", "usable_bytes")
    rows = []
    for key in [*(key for key in keys if key not in sums), *sums]:
        name = key.removesuffix("_bytes")
        rows.append((f"**{name}**" if key in sums else name, *(amount(used.get(key), "byte") for used in pools.values())))
    rows.append(("used", *(f"{used['used_frac']:.1%}" for used in pools.values())))
    return ["## Memory of the fullest device", "", *table(("Class", *pools), rows), *_stages(p)]


def _stages(p: Plan) -> list[str]:
    """Per pipeline stage, where there is more than one; neighbours that are alike share a row."""
    stages = p["training_memory_by_stage"]
    if len(stages) < 2:
        return []
    keys = [key for key in stages[0] if key.endswith("_bytes")]
    rows: dict[tuple[str, ...], list[int]] = {}
    for stage in stages:
        rows.setdefault((figure(stage["n_layers"]), *(amount(stage[key], "byte") for key in keys)), []).append(stage["stage"])
    lines = [(f"{at[0]} to {at[-1]}" if len(at) > 1 else str(at[0]), *cells) for cells, at in rows.items()]
    head = ("Stage", "Layers", *(key.removesuffix("_bytes") for key in keys))
    said = ("Layers count as the model's mean layer, so stages with the leading dense layers hold less; the table above adds "
            "the fullest of each class.")  # fmt: skip
    return ["### Training, by pipeline stage", "", *table(head, lines), said, ""]


def _batch(p: Plan) -> list[str]:
    b = p["batch_schedule"]
    cells = ("{from_tok:tok}", "{to_tok:tok}", "{global_batch_seq}", "{global_batch_tok:tok}", "{n_devices}", "{n_dp}",
             "{n_micro_batches_per_step} x {micro_batch_seq}", "{n_steps}")  # fmt: skip
    head = ("From", "To", "Sequences", "Tokens", "Devices at work", "dp", "Micro-batches x sequences", "Steps")
    return [
        "## Batch schedule", "", *table(head, [[say(cell, stage) for cell in cells] for stage in b["stages"]]),
        say("The ramp takes {ramp_extra_s:s} and {ramp_extra_usd:USD} beyond the constant batch that the budget assumes. Batch of "
            "lowest loss at this compute by DeepSeek LLM's rule: {optimal_batch_tok:tok}. Steps of the cooldown and of the gates are counted "
            "with the ramp: {n_steps} in all.", b), "",
        say("Source: {source}.", b), "",
    ]  # fmt: skip


def _rate(p: Plan) -> list[str]:
    r = p["learning_rate"]
    return _section(
        "Learning rate and optimizer", r | {"sweep": ", ".join(f"{x:.1e}" for x in r["sweep_peaks"])},
        "Source: {source}; optimizer: {optimizer_source}.",
        Schedule="{schedule}",
        Peak="{peak:.2e}"
             + (" ({peak_if_scaled_to_batch:.2e} if scaled down by the root of this batch over that optimum)"
                if r["peak_if_scaled_to_batch"] < r["peak"] else " (not scaled up where the batch is larger than that optimum)"),
        Warmup="{warmup_steps} steps, linear from 0",
        Cooldown="last {cooldown_steps} steps, from {cooldown_from_tok:tok} on (step {cooldown_from_step}), {cooldown_shape} to {final:g}",
        Sweep_before_starting="peak {sweep}, on a proxy of the same shape",
        Optimizer="{optimizer}, betas {beta1} and {beta2}, weight decay {weight_decay}, clip {gradient_clip_norm:g}",
    )  # fmt: skip


def _checkpoints(p: Plan) -> list[str]:
    return _section(
        "Failures and checkpoints", p["checkpoints"], "Source: {source}.",
        Mean_time_between_failures="{mean_time_between_failures_s:s}",
        Failures_expected="{n_failures_expected:.3g}",
        Checkpoint_every="{checkpoint_interval_s:s} ({checkpoint_interval_steps} steps)",
        Checkpoint_size="{checkpoint_bytes:byte}: {checkpoint_holds}",
        Storage_must_write="at least {min_storage_write_bytes_per_s:byte/s} in the background",
        Assumed="{assumed_checkpoint_stall_s:s} stall per checkpoint, {assumed_restart_s:s} to restart",
        Lost_per_failure="{lost_work_per_failure_s:s}",
    )  # fmt: skip


def _gates(p: Plan) -> list[str]:
    g = p["evaluation_gates"]
    cells = ("{tok_frac:.0%}", "{processed_tok:tok}", "{step}", "{at_s:s}", "{loss_nat:.4f}", "{loss_low_nat:.4f} to {loss_high_nat:.4f}")
    drop = "{drop_nat:.4f} ({drop_low_nat:.4f} to {drop_high_nat:.4f})"
    rows = [[*(say(cell, row) for cell in cells), "-" if row["drop_nat"] is None else say(drop, row)] for row in g["rows"]]
    head = ("Tokens", "Processed", "Step", "Time", "Loss, nat", "80 % interval", "Drop since the gate before (80 % band)")
    return [
        "## Evaluation gates", "", *table(head, rows),
        say("Loss of the {loss_of}: compare the drops, not the level. Before the cooldown the loss of a constant learning rate lies "
            "above these values, so each earlier gate is a side branch that cools down over its last {branch_cooldown_frac:.0%} of "
            "tokens: all branches together {branch_extra_tok:tok}, {branch_extra_s:s}, {branch_extra_usd:USD}, not in the budget. "
            "As served, quantised where the precision says so, {loss_deployed_nat:.4f} is expected.", g), "",
        "The band lies around the prediction: as wide as two laws differ and as the law's own fit scatters (0.13 in ln); noise of the "
        "evaluation and of the seed is not in it. One healthy run in ten falls below it, so when a drop does, repeat that evaluation on "
        "more text; stop and look for the cause (data, learning rate, a bug) when it stays below.", "",
    ]  # fmt: skip


def _rl(p: Plan) -> list[str]:
    if p["rl"] is None:
        return ["## Reinforcement learning", "", "There is no RL in this design.", ""]
    return ["## Reinforcement learning", "", *facts(
        p["rl"],
        Hardware="{hardware:code}, {n_devices} devices in {n_nodes} nodes",
        Tokens_generated="{rl_tok:tok}",
        Rollouts="{n_rollouts:.3g} of {gen_tok:tok} (longest {longest_over_mean:g}x), prompts of {prompt_tok:tok}",
        Steps="{n_steps} of {rollouts_per_step} rollouts, one every {s_per_step:s}",
        Rollouts_in_flight_needed="{rollouts_in_flight_needed} (the longest takes about {longest_rollout_s:s})",
        Scoring_passes="{n_forward_passes:g} beside the update",
        Time="{rl_s:s}",
        Cost="{rl_usd:USD}",
        Energy="{rl_energy_j:J}",
        Weight_sync="at most {weight_sync_s:s}, to replicas of the {n_devices_of_least_replica} devices that hold the weights; in neither time nor cost",
        Layout="{layout}",
    )]  # fmt: skip


def _serving(p: Plan) -> list[str]:
    v = p["service"]
    limits = {key: "" if v[f"{key}_limit_s"] is None else f" (limit {{{key}_limit_s:s}})" for key in ("tpot", "ttft")}
    lines = ["## Serving", "", *facts(
        v,
        Demand="{demand_tok_per_s:tok/s} output on average, peak {peak_to_mean:.3g}x, at which {busy_at_peak_frac:.0%} of the "
               "capacity is in use; for {lifetime_s:s}",
        Request="{isl_tok} tokens in ({prefix_tok} cached), {osl_tok} out",
        TPOT="{tpot_s:s} (80 %: {tpot_low_s:s} to {tpot_high_s:s})" + limits["tpot"] + ": {tok_per_s_per_user:.3g} tok/s per user",
        TTFT="{ttft_s:s}" + limits["ttft"] + ", without queueing",
        Cost="{usd_per_mtok:.3g} USD/Mtok output, all serving included ({usd_per_mtok_input:.3g} per Mtok of computed prompt, "
             "{usd_per_mtok_output:.3g} decode); {serve_usd:USD} over the lifetime",
        Energy="{energy_j_per_tok:.3g} J per output token, {serve_power_w:W}",
    )]  # fmt: skip
    for role, fleet in p["serving"].items():
        lines += [f"### Fleet: {text(role)}", "", *_fleet(fleet)]
    return lines


def _fleet(f: Plan) -> list[str]:
    launch = [(code(key), {True: "yes", False: "no"}[x] if isinstance(x, bool) else say("{x}", {"x": x})) for key, x in f["launch"].items()]
    return [
        *facts(
            f,
            Phase="{phase}",
            Hardware="{hardware:code}: {accelerator}",
            Replicas="{n_replicas}, each of {n_devices_per_replica} device" + ("s" if f["n_devices_per_replica"] > 1 else ""),
            Devices="{n_devices} rented, {n_idle_devices} of them idle; scale-up domains: {n_scale_up_domains} of {n_devices_per_scale_up_domain}",
            Layout=DEGREES,
            Cost="{usd_per_s:USD/s}, {serve_usd:USD} over the lifetime",
            Power="{power_w:W}",
        ),
        *table(("Launch parameter", "Value"), launch),
    ]  # fmt: skip


def _risks(p: Plan) -> list[str]:
    return ["## Risks and warnings", "", *(say("* **{kind}**: {text}", risk) for risk in p["risks"]), ""]


def _measure(p: Plan) -> list[str]:
    cells = ("{unit}, {phase}", "{operator}", "{run}", "{n_devices}", "{expected_s:s}", "{bound}", "{share_frac:.0%}")
    rows = [[say(cell, m) for cell in cells] for m in p["measure_first"]]
    figures = [(code(a["name"]), amount(a["value"], a["unit"]), text(a["confidence"]), text(a["source"])) for a in p["assumptions"]]
    return [
        "## Measure first (half a day)", "",
        "Times are for all layers of the fullest stage: forward and backward of one micro-batch, one prompt per rank, or one decode "
        "step. An operator that takes twice as long lengthens its phase by its share.", "",
        *table(("Phase", "Operator", "Run", "Devices", "Expected", "Bound by", "Share"), rows),
        "### Figures to replace by your own", "", *table(("Figure", "Value", "Confidence", "Source"), figures),
    ]  # fmt: skip


def _sign(p: Plan) -> list[str]:
    conditions = [
        "the operators above, measured, are within 25 % of their expected times",
        "prices, power and delivery dates are confirmed in writing",
        "the learning-rate sweep has been run",
        "the data set holds the tokens above after deduplication",
        "the risks above are accepted",
    ]
    roles = ("Architecture", "Training infrastructure", "Serving", "Data", "Budget")
    return [
        "## Sign-off", "", "Start when:", "", *(f"* [ ] {condition}" for condition in conditions), "",
        *table(("Role", "Name", "Date"), [(role, "", "") for role in roles]),
    ]  # fmt: skip
