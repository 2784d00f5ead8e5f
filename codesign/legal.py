"""What a space may vary: every legal variable of a study, with type, unit and meaning."""

from __future__ import annotations

from codesign import catalog
from codesign.physics import architecture as arch
from codesign.physics import attention
from codesign.problem import TIER
from codesign.service import tiers as kv_tiers
from codesign.spec import StudyFile
from codesign.spec.choices import Legal

PLACE = "serving.kv_tier"


def kinds_of(key: str) -> tuple[str, ...]:
    """Names that one of the text keys of an architecture may take."""
    return attention.kinds(state=False) if key == "attention" else ("none", *attention.kinds(state=True))


def legal_variables(file: StudyFile) -> dict[str, Legal]:
    """Every variable a space may have, with type, unit and meaning."""
    legal = {f"architecture.{key}": Legal(int, "", "architecture", least=0) for key in arch.DEFAULTS}
    legal |= {f"architecture.{key}": Legal(str, "", "architecture", kinds_of(key)) for key in arch.TEXT}
    legal |= {f"precision.{key}": Legal(int, "", "bits", least=1) for key in ("weight_bits", "kv_bits", "act_bits", "train_bits")}
    roles = roles_of(file)
    legal |= {f"hardware.{role}": Legal(str, "", "accelerator or system of this pool") for role in roles}
    legal |= {f"{role}.scale_up_size": Legal(int, "", "devices of one scale-up domain", least=1) for role in roles}
    legal[PLACE] = Legal(str, "", "where prefixes wait for their next use", (kv_tiers.RECOMPUTE, kv_tiers.HBM, *catalog.names("memory")))
    legal[TIER] = Legal(float, "s", "speed tier: time per output token asked of the design", least=0)
    if roles == ("serve",):  # of video: nothing waits, nothing is trained
        return legal
    legal["lifecycle.pretrain_tok"] = Legal(float, "tok", "pretraining tokens", least=0)
    legal["lifecycle.rl_tok"] = Legal(float, "tok", "tokens generated in RL", least=0)
    return legal


def roles_of(file: StudyFile) -> tuple[str, ...]:
    if file.workload is not None and file.workload.clip is not None:
        return ("serve",)
    return ("train", "rl", "prefill", "decode") if file.serving.mode == "disaggregated" else ("train", "rl", "serve")
