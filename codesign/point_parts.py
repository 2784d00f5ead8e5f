"""Parts of one point: its layout, joules by cause, the bill of its scale-up domain, the clips of a diffusion transformer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from codesign import catalog
from codesign.physics import rack
from codesign.physics.architecture import Census
from codesign.physics.energy import EnergyFit, in_joules
from codesign.physics.hardware import Chip
from codesign.physics.kernels import Ledger
from codesign.physics.layout import OVERLAP, PLAIN, Layout, make_layout, with_plan
from codesign.physics.operators import Scene, make_scene
from codesign.physics.phases import denoise
from codesign.physics.precision import Precision
from codesign.scenario import make_rack
from codesign.spec.errors import Diagnostic, UserError
from codesign.units import energy


def layout_of(s: Mapping[str, Any], has_moe: bool) -> Layout:
    """Unset degrees are 1; for MoE an unset n_ep spreads the experts over the stage, a given n_ep implies n_dp."""
    if s["n_ffn"] is not None:
        return _apart(s, has_moe)
    tp, cp, pp, etp = s["n_tp"], s["n_cp"], s["n_pp"], s["n_etp"]
    dp, ep = s["n_dp"], s["n_ep"]
    if not has_moe and max(ep or 1, etp) > 1:
        key, value = ("n_ep", ep) if (ep or 1) > 1 else ("n_etp", etp)
        flag = f"--{key.replace('_', '-')}"
        raise UserError([Diagnostic(f"{key} = {value}, but the model has no experts", hint=f"it is a dense model: leave {flag} out")])
    if ep is not None and dp is None and has_moe:
        dp = max(1, (etp * ep) // (tp * cp))
    dp = dp or 1
    if ep is None:
        ep = tp * cp * dp // etp if has_moe else 1
    layout = make_layout(*(np.int64(v) for v in (tp, cp, dp, pp, etp, ep)))
    if not bool(layout.is_consistent):
        raise UserError([Diagnostic(
            f"n_tp n_cp n_dp = {tp * cp * dp} is not a multiple of n_etp n_ep = {etp * ep}",
            hint="tp*cp*dp*pp = etp*ep*edp*pp = devices of one replica, with a whole number edp of expert copies",
        )])  # fmt: skip
    plan = {"overlap": OVERLAP.index(s["overlap"]), "n_ffn_x": s["n_ffn_x"], "n_gather": s["n_gather"]}
    planned = {k: v for k, v in plan.items() if v != PLAIN[k]}
    return with_plan(Layout(*(np.float64(v) for v in layout.columns.values())), planned)


def _apart(s: Mapping[str, Any], has_moe: bool) -> Layout:
    """FFNs on n_ffn devices of their own: experts spread over all of these unless n_ep says otherwise, a dense FFN cut in all of them."""
    n_ffn = s["n_ffn"]
    etp = s["n_etp"] if has_moe or s["n_etp"] > 1 else n_ffn
    ep = (s["n_ep"] or max(n_ffn // etp, 1)) if has_moe else 1
    if n_ffn % (etp * ep):
        raise UserError([Diagnostic(f"n_ffn = {n_ffn} is not a multiple of n_etp n_ep = {etp * ep}", hint="n_etp n_ep n_edp = n_ffn")])
    degrees = (s["n_tp"], s["n_cp"], s["n_dp"] or 1, s["n_pp"], etp, ep, n_ffn // (etp * ep))
    return with_plan(Layout(*(np.float64(v) for v in degrees)), {"n_ffn": n_ffn, "n_micro": s["n_micro"] or 2})


def check_possible(layout: Layout, counts) -> None:
    """Refuse degrees that the model cannot be cut into, each with its remedy."""
    heads = max(float(m.n_heads) for m in (counts.full, counts.window, counts.linear) if float(m.n_layers) > 0)
    moe, found = float(counts.ffn.n_moe_layers) > 0, []
    divisor, n_layers, n_experts = "choose a degree that divides it", int(counts.n_layers), int(counts.ffn.n_experts)
    rules = (
        (heads % float(layout.n_tp) != 0, f"n_tp = {int(layout.n_tp)} does not divide {int(heads)} heads", divisor),
        (
            float(layout.n_pp) > n_layers,
            f"n_pp = {int(layout.n_pp)} exceeds {n_layers} layers",
            f"a stage holds a layer at least: n_pp at most {n_layers}",
        ),
        (moe and n_experts % float(layout.n_ep) != 0, f"n_ep = {int(layout.n_ep)} does not divide {n_experts} experts", divisor),
    )
    if layout.plan is not None:
        cut, no_dense = float(np.maximum(layout.plan.n_ffn_x, layout.plan.n_gather)) > 1, not float(counts.ffn.n_dense_layers) > 0
        rules += (
            (
                cut and no_dense,
                "n_ffn_x and n_gather cut dense FFNs, and the model has none",
                "leave them out: experts keep n_ep and n_etp",
            ),
        )
    found = [Diagnostic(text, hint=hint) for broken, text, hint in rules if broken]
    if found:
        raise UserError(found)


def meter(counts: Census, chip: Chip, fit: EnergyFit, precision: Precision, training: bool) -> energy.Meter:
    """Scenes in joules of one model on one chip of the ideal engine."""
    scenes = (make_scene(counts, in_joules(chip, fit, far=far), precision, training=training) for far in (False, True))
    return energy.Meter(*scenes, fit)


def joules(meter: energy.Meter, parts: Mapping[str, Any], n_devices: float, tok_per_s: float) -> dict[str, Any]:
    """J per token at the wall by cause, and `chip_w`: what one chip draws while the phase runs."""
    columns = energy.serving_columns(meter, [dict(parts)], n_devices, tok_per_s)
    causes = {k.removeprefix("energy_").removesuffix("_j_per_tok"): float(v) for k, v in columns.items()}
    tdp_w = float(meter.near.chip.tdp_w)
    chip_w = float(sum(parts.values())) * tok_per_s / n_devices + float(meter.fit.idle_frac) * tdp_w
    return {"j_per_tok": causes.pop("used"), "by_cause_j_per_tok": causes, "chip_w": chip_w, "tdp_w": tdp_w}


def racked(hardware: Any, chip: Chip, limits: Mapping[str, float | None], is_asked: bool) -> dict[str, Any]:
    """`{"rack": ...}`: the bill of the chip's scale-up domain, and the largest that one copper rack holds; switched domains only.

    Who asks for a limit is told where there is no such rack, or where it holds not one device.
    """
    topology = catalog.hardware(hardware)["scale_up"].get("topology", "switch")
    if topology != "switch" or not np.isfinite(chip.all_in_w):
        why = f"joins its devices as a {topology}" if topology != "switch" else "states no power"
        if is_asked:
            raise UserError(
                f"'{hardware}' {why}; racks are modelled for switched domains of known power", hint="leave the rack's limits out"
            )
        return {}
    kind = make_rack(hardware, {"power": limits["rack_power"], "weight": limits["rack_weight"], "n_cables": limits["rack_cables"]})
    empty = [name for name, n in rack.device_limits(chip, kind).items() if n < 1]
    if empty and is_asked:
        raise UserError([Diagnostic(f"not one device of '{hardware}' fits a rack within its limit of {name}",
                                    hint=f"raise the limit of {name}: --rack-{name}") for name in empty])  # fmt: skip
    size, ends = rack.largest_copper_domain(chip, kind)
    allowed = {f"{name}_allows": float(n) for name, n in rack.device_limits(chip, kind).items()}
    bill = {k: float(v) for k, v in vars(rack.domain(chip, kind, chip.scale_up_size)).items()}
    return {"rack": bill | {"largest_copper": float(size), "ended_by": rack.LIMITS[int(ends)], **allowed}}


def denoised(scene: Scene, layout: Layout, clip: denoise.Clip) -> tuple[dict[str, Any], dict[str, Any], Ledger]:
    """(numbers, memory classes, ledger of one pass) of a diffusion transformer."""
    if scene.has_moe() or np.any(scene.census.linear.n_layers > 0) or np.any(scene.census.window.n_layers > 0):
        raise UserError("denoise takes dense models with full attention", hint="take one such as llama-2-13b and replace its dimensions")
    ledger = denoise.step(scene, layout, clip, detail=True)
    seconds = float(denoise.clip_s(ledger.time_s, clip, layout))
    ranks = float(np.maximum(layout.n_dp / clip.n_guidance, 1.0))  # data-parallel ranks take the passes of a clip first
    clips_per_s = float(clip.batch) * ranks / seconds
    matmul, attention = denoise.flop(scene, clip)
    usd = float(scene.chip.usd_per_s * layout.n_devices / clips_per_s)
    numbers = {
        "step_s": float(ledger.time_s), "clip_s": seconds, "clips_per_s": clips_per_s, "usd_per_clip": usd if np.isfinite(usd) else None,
        "flop_matmul": float(matmul), "flop_attention": float(attention),
    }  # fmt: skip
    return numbers, denoise.memory_classes(scene, layout, clip), ledger
