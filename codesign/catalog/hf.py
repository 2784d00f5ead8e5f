"""Hugging Face `config.json` -> a model record of the catalog."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from codesign.catalog.hf_families import ALIASES, FAMILIES, FOREIGN, Config, guess
from codesign.spec.errors import Diagnostic, SpecError, did_you_mean

MAX_BYTES = 16_000_000
VAGUE = {"", "tmp", "config", "configs", "model", "models", "checkpoint", "checkpoints", "download", "downloads", "hf"}  # name no model


def read_config(path: str | Path) -> dict:
    """The model record of a Hugging Face `config.json`, or of the folder that holds one.

    Keys: name, aliases, source, architecture, precision {weight_bits, kv_bits, act_bits}, context_tok, published (empty),
    training_tok None, and `note` where something was assumed. Raises SpecError naming every key that is missing or wrong.
    """
    file = Path(path)
    file = file / "config.json" if file.is_dir() else file
    raw = _load(file)
    keys, notes = _text_part(raw)
    kind = str(keys.get("model_type", ""))
    known = ALIASES.get(kind, kind)
    readers, defaults = FAMILIES.get(known, ((guess,), {}))
    config = Config(keys, defaults)
    config.notes += notes
    if known not in FAMILIES:
        _refuse_foreign(config, file, kind)
        config.notes.append(f"model_type {kind!r} is not a known family: read as a Llama-like decoder, best effort")
    architecture: dict[str, Any] = {}
    for reader in readers:
        reader(config, architecture)
    if config.missing or config.wrong:
        raise _complaint(file, kind, config)
    precision = _precision(config, file)
    context = config.count("max_position_embeddings", "n_positions", default=0, least=0)
    if not context:
        config.notes.append("context length not stated: taken as 4096")
    record = {
        "name": _name(raw, file),
        "aliases": [],
        "source": f"{file} (Hugging Face config, model_type {kind or 'not stated'})",
        "architecture": architecture,
        "precision": precision,
        "context_tok": float(context or 4096),
        "published": {},
        "training_tok": None,
    }
    return record | ({"note": "; ".join(config.notes)} if config.notes else {})


def _load(file: Path) -> dict:
    try:
        if file.stat().st_size > MAX_BYTES:
            raise SpecError(
                Diagnostic(
                    f"larger than {MAX_BYTES:,} bytes",
                    str(file),
                    hint="give the config.json, not the weights",
                )
            )
        config = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        hint = "give a config.json or the folder that holds one"
        raise SpecError(Diagnostic(f"cannot read the model: {error.strerror or error}", str(file), hint=hint)) from None
    except (UnicodeDecodeError, RecursionError) as error:
        raise SpecError(Diagnostic(f"not a JSON text: {error}", str(file))) from None
    except json.JSONDecodeError as error:
        raise SpecError(Diagnostic(f"not JSON: {error.msg}", str(file), error.lineno, error.colno)) from None
    if not isinstance(config, dict):
        raise SpecError(Diagnostic("a config.json must hold an object of keys", str(file)))
    return config


def _text_part(raw: dict) -> tuple[dict, list[str]]:
    """The language model's keys: those of `text_config` where a config nests it, the outer ones behind them."""
    inner = next(
        (raw[k] for k in ("text_config", "llm_config", "language_config") if isinstance(raw.get(k), dict)),
        None,
    )
    if inner is None:
        return raw, []
    outer = {k: v for k, v in raw.items() if not isinstance(v, dict) or k == "quantization_config"}
    merged = outer | {k: v for k, v in inner.items() if v is not None}
    towers = [k for k in raw if k.endswith("_config") and isinstance(raw[k], dict) and ("vision" in k or "audio" in k)]
    return merged, [f"text model only, without {', '.join(towers)}"] if towers else []


def _refuse_foreign(config: Config, file: Path, kind: str) -> None:
    foreign = sorted(k for k in config.keys if FOREIGN.search(k))
    types = config.items("layer_types")
    foreign += sorted({f"layer_types: {t}" for t in types if not str(t).endswith("_attention") or "linear" in str(t)})
    if foreign:
        message = f"model_type {kind!r} describes layers that cannot be imported: {', '.join(foreign)}"
        hint = "write a catalog entry by hand (see codesign/catalog/models) and give its path"
        raise SpecError(Diagnostic(message, str(file), hint=hint))


def _complaint(file: Path, kind: str, config: Config) -> SpecError:
    problems = [Diagnostic(text, str(file)) for text in dict.fromkeys(config.wrong)]
    if config.missing:
        missing = ", ".join(dict.fromkeys(config.missing))
        hint = did_you_mean(kind, FAMILIES, "known families") if kind not in FAMILIES else None
        problems.append(Diagnostic(f"missing keys: {missing} (model_type {kind or 'not stated'})", str(file), hint=hint))
    return SpecError(problems)


def _name(raw: dict, file: Path) -> str:
    stated = str(raw.get("_name_or_path") or "").rstrip("/").rpartition("/")[2]
    stem = file.resolve().parent.name if file.name == "config.json" else re.sub(r"[_-]?config$", "", file.stem)
    if not stated and (stem.lower() in VAGUE or re.fullmatch(r"[0-9a-f]{40}", stem)):
        stem = str(raw.get("model_type") or stem)
    return (stated or stem or "model").lower()


# storage format named by a quantiser -> (weight_bits, act_bits)
FORMATS = {"fp8": (8, 8), "fbgemm_fp8": (8, 8), "nvfp4": (4, 4), "mxfp4": (4, 16), "mxfp8": (8, 8), "w4a16": (4, 16), "w8a8": (8, 8),
           "int8": (8, 8), "w4a8": (4, 8), "w8a16": (8, 16)}  # fmt: skip


def _precision(config: Config, file: Path) -> dict[str, float]:
    """Bits of weights, KV cache and activations from `quantization_config` (or ModelOpt's hf_quant_config.json beside it)."""
    quant = config.get("quantization_config", "compression_config")
    beside = file.with_name("hf_quant_config.json")
    if not isinstance(quant, dict) and beside.is_file() and beside != file:
        quant = _load(beside).get("quantization")
    if not isinstance(quant, dict):
        dtype = str(config.get("dtype", "torch_dtype", default="bfloat16"))
        if dtype in ("float32", "float64"):
            config.notes.append(f"checkpoint in {dtype}, taken as 16 bit")
        return {"weight_bits": 16.0, "kv_bits": 16.0, "act_bits": 16.0}
    try:
        bits, kv_bits = _bits(quant), float(_kv_bits(quant))
    except (AttributeError, TypeError, ValueError):
        raise SpecError(Diagnostic("quantization_config has an unexpected form", str(file))) from None
    if bits is None:
        config.notes.append(f"quantization {quant.get('quant_method', quant.get('quant_algo'))!r} is not known: taken as 16 bit")
        bits = (16, 16)
    return {"weight_bits": float(bits[0]), "kv_bits": kv_bits, "act_bits": float(bits[1])}


def _bits(quant: dict) -> tuple[float, float] | None:
    method = str(quant.get("quant_method", "")).lower()
    groups = quant.get("config_groups")
    if isinstance(groups, dict) and groups:
        first = next(iter(groups.values()))
        weights, acts = first.get("weights") or {}, first.get("input_activations") or {}
        return float(weights.get("num_bits", 16)), float(acts.get("num_bits", 16))
    if method == "bitsandbytes":
        return (4, 16) if quant.get("load_in_4bit") else (8, 8)
    if method in ("gptq", "awq", "auto-round", "auto_round", "hqq"):
        return float(quant.get("bits", quant.get("w_bit", 4))), 16
    algorithm = str(quant.get("quant_algo", method)).lower()
    named = algorithm if algorithm in FORMATS else next((f for f in FORMATS if algorithm.startswith(f)), None)
    return FORMATS.get(named or method)


def _kv_bits(quant: dict) -> float:
    scheme = quant.get("kv_cache_scheme")
    if isinstance(scheme, dict):
        return scheme.get("num_bits", 16)
    algorithm = str(quant.get("kv_cache_quant_algo", scheme or "")).lower()
    return 8 if "8" in algorithm else 4 if "4" in algorithm else 16
