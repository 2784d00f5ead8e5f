"""What `codesign list` knows: catalog entries, kinds found by file name, columns, constants."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from codesign import catalog
from codesign.constraints import REASONS
from codesign.objectives import ALIASES, COLUMNS
from codesign.spec.errors import UserError, did_you_mean

Rows = tuple[list[dict[str, Any]], list[str]]


def rows(kind: str) -> Rows:
    """(records, columns to show) of one kind."""
    if kind not in KINDS:
        raise UserError(f"unknown kind '{kind}'", hint=did_you_mean(kind, KINDS, "kinds"))
    return KINDS[kind]()


def kinds() -> Rows:
    """What there is to list."""
    return [{"kind": kind, "about": ABOUT[kind]} for kind in KINDS], ["kind", "about"]


def _models() -> Rows:
    from codesign.physics.architecture import census, fill, kv_bytes_per_tok

    out = []
    for name in catalog.names("models"):
        model = catalog.load("models", name)
        published = model.get("published", {})
        row = {"name": name, "n_params": None, "n_active_params": None, "published_total": published.get("n_params"),
               "published_active": published.get("n_active_params"), "kv_bytes_per_tok": None, "source": model.get("source", ""),
               "context_tok": model.get("context_tok"), "not_evaluable": model.get("not_evaluable"), "note": published.get("note")}  # fmt: skip
        if not model.get("not_evaluable"):
            counts = census(fill(model["architecture"]))
            bits = (model.get("precision") or {}).get("kv_bits", 16)
            row |= {"n_params": float(counts.n_params), "n_active_params": float(counts.n_active_params),
                    "kv_bytes_per_tok": float(kv_bytes_per_tok(counts, float(bits)))}  # fmt: skip
        out.append(row)
    return out, ["name", "n_params", "n_active_params", "published_total", "published_active", "kv_bytes_per_tok"]


def _accelerators() -> Rows:
    out = []
    for name in catalog.names("accelerators"):
        chip = catalog.load("accelerators", name)
        scale_up, scale_out, price = chip.get("scale_up", {}), chip.get("scale_out") or {}, chip.get("price") or {}
        rent = price.get("rent")
        out.append({
            "name": name, "vendor": chip.get("vendor"), "hbm_bytes": chip.get("hbm", {}).get("capacity"),
            "hbm_bytes_per_s": chip.get("hbm", {}).get("bandwidth"), "peak_flop_per_s": chip.get("peak", {}),
            "scale_up_bytes_per_s": scale_up.get("bandwidth"), "scale_up_size": scale_up.get("size"),
            "scale_out_bytes_per_s": scale_out.get("bandwidth"), "tdp_w": chip.get("power", {}).get("tdp"),
            "usd_per_h": rent * 3600.0 if rent is not None else None, "price_kind": price.get("kind"),
            "not_evaluable": chip.get("not_evaluable"), "bf16_flop_per_s": chip.get("peak", {}).get("bf16"),
        })  # fmt: skip
    return out, ["name", "hbm_bytes", "hbm_bytes_per_s", "bf16_flop_per_s", "scale_up_bytes_per_s", "scale_up_size", "tdp_w", "usd_per_h"]


def _systems() -> Rows:
    out = []
    for name in catalog.names("systems"):
        record = catalog.hardware(name)
        out.append({"name": name, "accelerator": record["accelerator"], "scale_up_size": record["scale_up"].get("size"),
                    "topology": record["scale_up"].get("topology"), "title": record.get("title", "")})  # fmt: skip
    return out, ["name", "accelerator", "scale_up_size", "topology"]


def _catalog(kind: str) -> Callable[[], Rows]:
    def listed() -> Rows:
        out = []
        for name in catalog.names(kind):
            record = catalog.load(kind, name)
            out.append({"name": name, "about": record.get("question") or record.get("title") or record.get("holds") or ""})
        return out, ["name", "about"]

    return listed


def _attention() -> Rows:
    from codesign.physics import attention

    return [{"name": k, "about": (attention.module(k).__doc__ or "").splitlines()[0]} for k in attention.kinds()], ["name", "about"]


def _samplers() -> Rows:
    from codesign.search import samplers

    out = []
    for name in samplers.names():
        info = samplers.describe(name)
        missing = f" (needs {', '.join(info.missing)})" if info.missing else ""
        out.append({"name": name, "about": info.summary + missing, "resumes": info.resumes})
    return out, ["name", "about"]


def _objectives() -> Rows:
    called = {n: ", ".join(a for a, column in ALIASES.items() if column == n) for n in COLUMNS}
    out = [
        {"name": n, "aliases": called[n], "unit": c.unit, "better": c.better, "meaning": c.meaning} for n, c in COLUMNS.items() if c.better
    ]
    return out, ["name", "aliases", "unit", "better", "meaning"]


def _constraints() -> Rows:
    out = [{"name": n, "unit": c.unit, "meaning": c.meaning} for n, c in COLUMNS.items()]
    return out + [{"name": n, "unit": "", "meaning": m} for n, m in REASONS.items()], ["name", "unit", "meaning"]


def _exports() -> Rows:
    from codesign import export

    return [{"name": t, "about": export.describe(t)} for t in export.targets()], ["name", "about"]


def _claims() -> Rows:
    from codesign.evidence import claims

    found = [claims.load(name) for name in claims.names()]
    return [{"name": c.id, "about": c.title, "claimed": c.claimed, "needs": c.needs} for c in found], ["name", "about", "claimed", "needs"]


def _constants() -> Rows:
    from codesign.evidence import constants

    return [row._asdict() for row in constants.constants()], constants.SHOWN


KINDS: dict[str, Callable[[], Rows]] = {
    "accelerators": _accelerators, "systems": _systems, "engines": _catalog("engines"), "models": _models, "workloads": _catalog("workloads"),
    "memory": _catalog("memory"), "attention": _attention, "samplers": _samplers, "objectives": _objectives, "constraints": _constraints,
    "exports": _exports, "constants": _constants, "claims": _claims,
}  # fmt: skip
ABOUT = {
    "accelerators": "chips: peaks, memory, links, power, price", "systems": "boxes and racks of accelerators",
    "engines": "serving and training software: constants of kernels, habits", "models": "published models: parameters, cache per token",
    "workloads": "prompt and answer lengths", "memory": "where caches can wait", "attention": "kinds of attention",
    "samplers": "search algorithms", "objectives": "columns that a study can optimise", "constraints": "columns and reasons that can bound a study",
    "exports": "what a design can be written as", "constants": "every constant of the tool, with its source", "claims": "public statements that are tested",
}  # fmt: skip
