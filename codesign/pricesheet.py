"""What a million tokens would have to cost on given hardware: by context, speed, cache and batch, beside public price lists.

    codesign prices deepseek-v3 --system h200_sxm_node

Cost, not price: the cheapest layouts of separate prefill and decode pools, at the utilisation stated, without margin, research or sales.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from codesign import catalog
from codesign.physics.architecture import census, fill, kv_bytes_per_tok
from codesign.physics.arrays import stack
from codesign.physics.operators import make_scene
from codesign.physics.precision import Precision
from codesign.point_check import bits_problems
from codesign.scenario import make_chip, make_tier
from codesign.service import tiers
from codesign.service.traffic import Traffic
from codesign.spec.errors import Diagnostic, UserError
from codesign.spec.units import show
from codesign.units import serve_unit
from codesign.units.candidates import serving_grid
from codesign.units.serving import cache_bytes

LISTS = Path(__file__).parent / "evidence" / "data" / "api_prices.csv"
CONTEXTS = (8192, 32768, 131072, 262144, 524288, 1048576)
SPEEDS = (20.0, 50.0, 125.0)  # tok/s of one user: batch-like, standard, 2.5 times as fast
STANDARD = 50.0
REUSE = {"min_1": 60.0, "min_5": 300.0, "h_1": 3600.0, "h_24": 86400.0}
TIERS = ("host_dram", "nvme", "remote_flash", "hdd")
FRESH = 0.1  # of a prompt with a cached prefix, the share that is new
PEAK = 2.0 / 0.8  # capacity paid over mean tokens sold: peak to mean of chat, utilisation at peak; estimates, both overridable
BATCHES = (
    *range(1, 8),
    *(round(2.0 ** (i / 4.0)) for i in range(12, 41)),
)  # 1 to 1024, four per octave: powers of two miss a speed by up to half
TROUGH = 1.0 / 0.95  # of work that waits for free machines
DRAFT, ACCEPTANCE = 1.0, 0.85  # models with an MTP module draft one token (arXiv 2412.19437, section 5.4.3: 85 to 90 % accepted)
MUCH_TOK_PER_S = 1e9  # demand at which whole replicas and domains no longer show
OSL = 1000.0
KEYS = ("input", "cached", "output")
PUBLIC = {  # what public lists ask for longer contexts and more speed; no list says it per model
    "long": (
        "2 beyond 200,000 tokens (102 of 104 lists with that step); 1 for sparse and hybrid attention (DeepSeek V4, Kimi K3)",
        "litellm 1.109.1",
    ),
    "fast": (
        "2 to 7: fast modes 2 and 6 (Anthropic), 7 measured (InferenceX v2, B200)",
        "docs.anthropic.com pricing; InferenceX v2, 2026-02",
    ),
}


class Offer(NamedTuple):
    """Cost of one service: USD per 10^6 tokens, the layout behind it and its time per output token [s]."""

    usd_per_mtok: float
    layout: str
    tpot_s: float


class Subject:
    """One model on one system under one engine: the pools that price sheets are read off."""

    def __init__(self, model: str, system: str, engine: str = "generic", bits: Mapping[str, float] | None = None) -> None:
        if wrong := bits_problems(bits or {}):
            raise UserError(wrong)
        record = catalog.load("models", model)
        if reason := record.get("not_evaluable"):
            raise UserError([Diagnostic(f"model '{record['name']}' cannot be evaluated: {reason}")])
        self.name, self.system, self.context_tok = record["name"], system, record.get("context_tok") or np.inf
        shape = fill(record["architecture"])
        self.counts, self.chip = census(shape), make_chip(system, engine)
        if not np.isfinite(self.chip.usd_per_s):
            raise UserError(
                [Diagnostic(f"no price is known for '{system}'", hint="name a system with a price: codesign list accelerators")]
            )
        released = {"weight_bits": 16, "kv_bits": 16, "act_bits": 16} | dict(record.get("precision") or {})
        narrow = {k: min(v, 8) if self.chip.has_8_bit else v for k, v in released.items()}  # what providers serve where the chip has fp8
        self.bits = narrow | {k: v for k, v in (bits or {}).items() if v}
        self.scene = make_scene(
            self.counts, self.chip, Precision(*(np.float64(self.bits[k]) for k in ("weight_bits", "kv_bits", "act_bits")))
        )
        self.grid = serving_grid(self.scene.has_moe(), int(max(64, min(float(self.chip.scale_up_size), 128))), {"batch": BATCHES})
        self.drafts = float(np.max(shape["n_mtp_layers"])) > 0

    def _traffic(self, isl: float, prefix: float = 0.0) -> Traffic:
        accepted, q = (1.0 + ACCEPTANCE, 1.0 + DRAFT) if self.drafts else (1.0, 1.0)
        return Traffic(*(np.float64(v) for v in (isl, OSL, 0.0, 0.0, prefix, accepted, q, MUCH_TOK_PER_S, 1.0)))

    def input_usd(self, isl: float, prefix: float = 0.0) -> Offer:
        """One computed prompt token of prompts of `isl` tokens, of which `prefix` are cached; cheapest prefill pool."""
        need = serve_unit.Need(("usd_per_tok",))
        found = serve_unit.prefill_pool(self.scene, self.grid, self._traffic(isl, prefix), need, 1)
        return _offer(found.columns, np.argmin, OSL / (isl - prefix))

    def outputs(self, isl: float) -> dict[str, np.ndarray]:
        """Decode pools worth having at this context: cost against speed."""
        return serve_unit.decode_pool(self.scene, self.grid, self._traffic(isl), serve_unit.Need(("usd_per_tok", "tpot_s")), 1).columns

    def output_usd(self, isl: float, speed: float = 0.0) -> Offer:
        """One output token after `isl` tokens of context at `speed` tok/s per user or faster."""
        found = self.outputs(isl)
        fast = found["tpot_s"] <= (1.0 / speed if speed else np.inf)
        if not np.any(fast):
            return Offer(np.nan, "", np.nan)
        return _offer({k: v[fast] for k, v in found.items()}, np.argmin, 1.0)

    def cached_usd(self, isl: float, reuse_s: float) -> tuple[float, str]:
        """(USD per 10^6 tokens of a cached prefix, tier): keeping and moving it, and what it adds to the prompt that follows.

        The prefix is 1 - FRESH of the prompt; attention of the new tokens over it is its own cost, which full attention pays and sparse
        attention hardly does.
        """
        new = FRESH * isl
        prefix = isl - new
        with_it, without = self.input_usd(isl, prefix).usd_per_mtok, self.input_usd(new).usd_per_mtok
        attended = max(with_it - without, 0.0) * new / prefix
        index, kept = tiers.best_tier(self.kept_bytes(prefix), self.tiers, reuse_s, np.inf, self.chip.usd_per_s)
        return attended + float(kept) / prefix * 1e6, self.tier_names[int(index)]

    def kept_bytes(self, prefix: float) -> float:
        """Bytes of a prefix: growing caches and constant states, windows no longer than their span."""
        return float(cache_bytes(self.scene, np.float64(prefix)))

    @property
    def tier_names(self) -> tuple[str, ...]:
        return ("hbm", *TIERS)

    @cached_property
    def tiers(self) -> tiers.Tier:
        """HBM of this chip, then the tiers of the catalog, one device's share."""
        here = tiers.Tier(tiers.hbm_holding_price(self.chip.usd_per_s, self.chip.hbm_bytes), np.float64(np.inf), np.float64(0.0))
        return stack([here, *map(make_tier, TIERS)])

    @property
    def kv_bytes_per_tok(self) -> float:
        return float(kv_bytes_per_tok(self.counts, self.bits["kv_bits"]))


def _offer(columns: Mapping[str, np.ndarray], choose, scale: float) -> Offer:
    if not columns["usd_per_tok"].size:
        return Offer(np.nan, "", np.nan)
    i = int(choose(columns["usd_per_tok"]))
    parts = (("tp", "n_tp"), ("cp", "n_cp"), ("pp", "n_pp"), ("dp", "n_dp"), ("etp", "n_etp"), ("ep", "n_ep"))
    layout = "".join(f"{k}{int(columns[key][i])}" for k, key in parts if k == "tp" or columns[key][i] > 1)
    return Offer(float(columns["usd_per_tok"][i]) * scale * 1e6, f"{layout} batch {int(columns['batch'][i])}", float(columns["tpot_s"][i]))


def sheet(model: str, system: str, engine: str = "generic", bits: Mapping[str, float] | None = None, peak: float = PEAK) -> dict[str, Any]:
    """The price sheet: USD per 10^6 tokens, capacity at peak paid for (`peak` times the mean)."""
    subject = Subject(model, system, engine, bits)
    contexts = [c for c in CONTEXTS if c <= subject.context_tok]
    if not np.isfinite(subject.input_usd(contexts[0]).usd_per_mtok):
        raise UserError(
            [Diagnostic(f"'{subject.name}' fits no layout of up to {subject.grid.layout.n_devices.max():.0f} devices of {system}")]
        )
    base = contexts[0]
    rows = [_context_row(subject, c, peak) for c in contexts]
    standard = next(r for r in rows if r["context_tok"] == base)
    speeds = [{"name": f"tok_per_s_{v:g}", "tok_per_s": v, "usd_per_mtok": peak * subject.output_usd(base, v).usd_per_mtok} for v in SPEEDS]
    speeds = [r | {"multiple": r["usd_per_mtok"] / speeds[1]["usd_per_mtok"]} for r in speeds]
    lists = _lists(subject.name, standard)
    return _plain({
        "model": subject.name, "system": system, "engine": engine, "precision": subject.bits, "base_context_tok": base,
        "kv_bytes_per_tok": subject.kv_bytes_per_tok, "capacity_over_mean": peak, "assumed": _assumed(subject), "contexts": rows,
        "speeds": speeds,
        "caches": _cache_rows(subject, base, standard, peak),
        "batch": _batch_row(subject, base, standard), "lists": lists,
        "ratios": {"output_over_input": standard["output"] / standard["input"], "cached_over_input": standard["cached"] / standard["input"],
                   "input_long_over_short": rows[-1]["input"] / standard["input"]},
        "ratios_beside_lists": _ratios(rows, speeds, lists),
    })  # fmt: skip


def _assumed(subject: Subject) -> dict[str, Any]:
    """What every row of the sheet takes for granted: drafts, how long a cached prefix waits, how fast an output token is."""
    drafts = {"draft_tok": DRAFT, "draft_acceptance": ACCEPTANCE} if subject.drafts else {"draft_tok": 0.0, "draft_acceptance": None}
    return drafts | {"cached_for_s": REUSE["min_5"], "fresh_frac": FRESH, "output_tok_per_s": STANDARD}


def _plain(value: Any) -> Any:
    """Numbers that do not exist (a speed that no layout reaches) as None."""
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_plain(v) for v in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _context_row(subject: Subject, context: int, peak: float) -> dict[str, Any]:
    prompt, answer = subject.input_usd(context), subject.output_usd(context, STANDARD)
    cached, tier = subject.cached_usd(context, REUSE["min_5"])
    return {"name": f"{context // 1024}k", "context_tok": context, "input": peak * prompt.usd_per_mtok, "cached": peak * cached,
            "output": peak * answer.usd_per_mtok,
            "prefill": prompt.layout, "decode": answer.layout, "tier": tier}  # fmt: skip


def _cache_rows(subject: Subject, context: int, standard: Mapping[str, Any], peak: float) -> list[dict[str, Any]]:
    """Keeping a prefix by duration: the tier that is cheapest, and what holding and moving cost against computing it again."""
    prefix, out = (1.0 - FRESH) * context, []
    n_bytes = subject.kept_bytes(prefix)
    for name, reuse_s in REUSE.items():
        again = standard["input"] / peak * prefix / 1e6
        index, usd = tiers.best_tier(n_bytes, subject.tiers, reuse_s, again, subject.chip.usd_per_s)
        out.append({"name": name, "reuse_s": reuse_s, "tier": "recompute" if index < 0 else subject.tier_names[int(index)],
                    "usd_per_mtok": peak * float(usd) / prefix * 1e6, "over_input": float(usd) / again,
                    "per_mtok_h": peak * float(usd) / prefix * 1e6 / (reuse_s / 3600.0)})  # fmt: skip
    return out


def _batch_row(subject: Subject, context: int, standard: Mapping[str, Any]) -> dict[str, float]:
    """Work that may wait a day: no latency asked, machines that would idle."""
    prompt, answer = TROUGH * subject.input_usd(context).usd_per_mtok, TROUGH * subject.output_usd(context).usd_per_mtok
    return {"input": prompt, "output": answer, "input_multiple": prompt / standard["input"], "output_multiple": answer / standard["output"]}


def price_lists(model: str | None = None) -> list[dict[str, Any]]:
    """Public price lists, USD per 10^6 tokens; empty cells are None."""
    with LISTS.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    numbers = [f"{k}_usd_per_mtok" for k in KEYS]
    return [{k: (float(v) if v else None) if k in numbers else v for k, v in row.items()} for row in rows if model in (None, row["model"])]


def _lists(model: str, standard: Mapping[str, float]) -> list[dict[str, Any]]:
    """Each public offer with the deviation of the computed cost from it."""
    out = []
    for row in price_lists(model):
        asked = {k: row[f"{k}_usd_per_mtok"] for k in KEYS}
        deviation = {f"{k}_deviation": standard[k] / v - 1.0 if v else None for k, v in asked.items()}
        out.append(
            {
                "name": row["offer"],
                "offer": row["offer"],
                "provider": row["provider"],
                "date": row["date"],
                "source": row["source"],
                **asked,
                **deviation,
            }
        )
    return out


def _ratios(contexts, speeds, lists) -> list[dict[str, Any]]:
    """Ratios of the sheet beside those of public lists: prices hold margins and demand, ratios mostly physics."""
    base, last, fast = contexts[0], contexts[-1], speeds[-1]
    out = []
    for name, top in (("output / input", "output"), ("cached / input", "cached")):
        computed = base[top] / base["input"]
        asked = [(r["offer"], r[top] / r["input"]) for r in lists if r[top] and r["input"]]
        public = [{"offer": offer, "value": v, "deviation": computed / v - 1.0} for offer, v in asked]
        out.append({"name": name, "computed": computed, "public": public, "note": "" if public else "no list", "source": ""})
    steps = (
        (f"input at {last['context_tok']:,} / {base['context_tok']:,}", last["input"] / base["input"], "long"),
        (f"output at {fast['tok_per_s']:g} / {STANDARD:g} tok/s", fast["multiple"], "fast"),
    )
    return out + [{"name": n, "computed": v, "public": [], "note": PUBLIC[k][0], "source": PUBLIC[k][1]} for n, v, k in steps]


def overview(system: str, engine: str = "generic", peak: float = PEAK) -> list[dict[str, Any]]:
    """Every model with a public list: computed cost beside the cheapest public offer."""
    out = []
    for model in dict.fromkeys(row["model"] for row in price_lists()):
        try:
            found = sheet(model, system, engine, peak=peak)
        except UserError as error:
            out.append({"model": model, "note": error.diagnostics[0].message})
            continue
        first, computed = found["lists"][0], found["contexts"][0]
        row = {"model": model, **{k: computed[k] for k in KEYS}, **{f"list_{k}": first[k] for k in KEYS}}
        row |= {f"{k}_deviation": first[f"{k}_deviation"] for k in KEYS} | found["ratios"]
        out.append(row)
    return out


def overview_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """The overview for people."""
    head = ["model", *(f"{k} (list)" for k in KEYS), "out/in", "cached/in", "longest/short input"]
    body = []
    for row in rows:
        if "note" in row:
            body.append([row["model"], row["note"], *[""] * (len(head) - 2)])
            continue
        pairs = [f"{_usd(row[k])} ({_usd(row[f'list_{k}'])}{_signed(row[f'{k}_deviation'])})" for k in KEYS]
        ratios = ("output_over_input", "cached_over_input", "input_long_over_short")
        body.append([row["model"], *pairs, *(_usd(row[k]) for k in ratios)])
    return _table(head, body)


def _signed(deviation: float | None) -> str:
    return "" if deviation is None else f", {100 * deviation:+.0f} %"


def text(sheet_: Mapping[str, Any]) -> str:
    """The sheet for people."""
    s = sheet_
    bits = s["precision"]
    head = (f"{s['model']} on {s['system']}, engine {s['engine']}, w{bits['weight_bits']:g} a{bits['act_bits']:g} kv{bits['kv_bits']:g}; "
            f"USD per million tokens, capacity {s['capacity_over_mean']:.3g} x mean load")  # fmt: skip
    rows = [[f"{r['context_tok']:,}", *(_usd(r[k]) for k in KEYS), r["tier"], r["prefill"], r["decode"] or "none"] for r in s["contexts"]]
    blocks = [f"{head}\n{_assumed_text(s)}", _table(["context", *KEYS, "cache in", "prefill pool", "decode pool"], rows)]
    rows = [[f"{r['tok_per_s']:g} tok/s", _usd(r["usd_per_mtok"]), _multiple(r["multiple"])] for r in s["speeds"]]
    blocks.append(_table(["speed of one user", "output", "of standard"], rows) + _missed(s))
    rows = [[show(r["reuse_s"], "s"), r["tier"], f"{r['usd_per_mtok']:.3g}", _multiple(r["over_input"])] for r in s["caches"]]
    blocks.append(_table(["kept for", "tier", "USD/Mtok", "of input"], rows))
    b = s["batch"]
    blocks.append(
        "batch, within a day: " + ", ".join(f"{k} {_usd(b[k])} (of standard {_multiple(b[f'{k}_multiple'])})" for k in ("input", "output"))
    )
    if s["lists"]:
        rows = [[r["offer"], r["provider"], *(_beside(r, k) for k in KEYS), r["date"]] for r in s["lists"]]
        blocks.append(_table(["public list", "provider", *(f"{k} (computed)" for k in KEYS), "date"], rows))
    rows = [[r["name"], _usd(r["computed"]), _publicly(r)] for r in s["ratios_beside_lists"]]
    return "\n\n".join([*blocks, _table(["ratio", "computed", "public lists"], rows)])


def _assumed_text(s: Mapping[str, Any]) -> str:
    a = s["assumed"]
    drafts = (
        f"{a['draft_tok']:g} draft token (MTP), {a['draft_acceptance']:.0%} accepted"
        if a["draft_tok"]
        else "no drafts (the model has no MTP)"
    )
    return (
        f"assumed: {drafts}; cached = {1 - a['fresh_frac']:.0%} of a prompt, kept for {show(a['cached_for_s'], 's')}; "
        f"output at {a['output_tok_per_s']:g} tok/s or faster"
    )


def _missed(s: Mapping[str, Any]) -> str:
    """Why an output has no price."""
    slow = [f"{r['tok_per_s']:g} tok/s at {s['base_context_tok']:,} tokens" for r in s["speeds"] if r["usd_per_mtok"] is None]
    slow += [f"{s['assumed']['output_tok_per_s']:g} tok/s at {r['context_tok']:,}" for r in s["contexts"][1:] if r["output"] is None]
    return f"\nnone: no layout meets the asked speed ({'; '.join(slow)})" if slow else ""


def _publicly(row: Mapping[str, Any]) -> str:
    return ", ".join(f"{r['offer']} {r['value']:.3g}{_deviation(r['deviation'])}" for r in row["public"]) or row["note"]


def _deviation(value: float | None) -> str:
    return "" if value is None else f" ({100 * value:+.0f} %)"


def _usd(value: float | None) -> str:
    return "none" if value is None else f"{value:.3g}"


def _multiple(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}x"


def _beside(row: Mapping[str, Any], key: str) -> str:
    return f"{row[key]:.3g}{_deviation(row[f'{key}_deviation'])}" if row[key] else "-"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(r[i]) for r in [head, *rows]) for i in range(len(head))]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)).rstrip() for r in [head, *rows])
