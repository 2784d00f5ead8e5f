"""What a pin (`codesign claims --set KEY=VALUE`) does to a claim: which keys it may name, and what it leaves nothing to compare of."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from codesign import catalog
from codesign.evidence.reductions import REDUCTIONS
from codesign.evidence.scenes import HARDWARE, NOTE
from codesign.spec.errors import Diagnostic, UserError, did_you_mean

if TYPE_CHECKING:
    from codesign.evidence.claims import Claim

RELATIONS = {"slope", "rank_correlation", "crossing", "at", "at_lowest", "at_highest"}  # reductions that set rows side by side
CHOICES = {"pick", "total", "count"}  # reductions that say something about one row too
SHOWN = 4  # compared values that a reason names


def check(claims: Iterable[Claim], changes: Mapping[str, Any]) -> None:
    """Refuse keys that none of the claims uses and names that the catalog does not have, all at once."""
    claims = list(claims)
    scenes = [scene for claim in claims for scene in claim.scenarios.values()]
    known = {key for scene in scenes for key in scene.used if not key.startswith(f"{NOTE}.")}
    known |= HARDWARE if HARDWARE & known else set()
    of = claims[0].id if len(claims) == 1 else "any of these claims"
    found = [
        Diagnostic(f"--set {key}: no such key in the scenarios of {of}", hint=did_you_mean(key, known, "keys"))
        for key in changes if key not in known
    ]  # fmt: skip
    for key in {"model", *HARDWARE} & {*changes} & known:
        try:
            catalog.load("models", changes[key]) if key == "model" else catalog.hardware(changes[key])
        except UserError as error:
            found += error.diagnostics
    if found:
        raise UserError(found)


def reason(claim: Claim, changes: Mapping[str, Any], cause: str) -> str:
    """Why a claim cannot be judged under a pin, in words: what the scenarios compare, or need, before what went wrong."""
    for name, scene in claim.scenarios.items():
        for key in changes:
            before, after = scene.values(key), scene.changed(changes).values(key)
            if len(before) > 1 and len(after) == 1:
                listed = ", ".join(before[:SHOWN]) + (f" and {len(before) - SHOWN} more" if len(before) > SHOWN else "")
                what = f"values of {key}" if key not in HARDWARE else "systems" if "system" in scene.used else "chips"
                return f"pinning {key} leaves nothing to compare; scenario '{name}' compares {what} ({listed})"
    for name, scene in claim.scenarios.items():
        if "accelerator" in changes and "system" in scene.used - scene.changed(changes).used:
            return f"a system such as {scene.values('system')[0]} is needed, {changes['accelerator']} is a chip alone; scenario '{name}'"
    return cause


def merged(claim: Claim, changes: Mapping[str, Any]) -> set[str]:
    """Quantities that set rows side by side which a pin has made one."""
    lost = {name for name, scene in claim.scenarios.items() if len(scene.changed(changes).cases) < len(scene.cases)}
    pinned = {*changes, *(HARDWARE if HARDWARE & {*changes} else ())}
    sides: dict[str, int] = {}  # how many rows or sets of rows of a merged scenario go into a name
    for name, summary in claim.summaries.items():
        if summary.of in lost:
            if pinned & {*summary.by}:
                lost.add(name)
            sides |= {f"{name}.{column}": _sides(text, {}, None) for column, text in summary.columns.items()}
    for q in claim.quantities:
        sides[q.name] = _sides(q.value, sides, lost)
    return {q.name for q in claim.quantities if sides[q.name] > 1}


def _sides(text: str, known: Mapping[str, int], lost: set[str] | None) -> int:
    """Reductions of an expression that read a merged scenario (any, without `lost`), and those behind the names in it."""
    n = 0
    for node in ast.walk(ast.parse(text.strip(), mode="eval")):
        if isinstance(node, (ast.Name, ast.Attribute)):
            n += max(known.get(ast.unparse(node), 0) - isinstance(node, ast.Attribute), 0)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in REDUCTIONS.keys() - CHOICES:
            inner = {ast.unparse(part).partition(".")[0] for part in ast.walk(node) if isinstance(part, ast.Attribute)}
            if lost is None or inner & lost:
                n += 2 if node.func.id in RELATIONS else 1
    return n
