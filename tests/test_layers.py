"""The rooms of the house import one way, and heavy libraries stay where they belong."""

import ast
import sys
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "codesign"

# Top to bottom: a room imports only from rooms above it (docs: design, section 3; contract of the rooms).
ORDER = (
    "spec", "catalog", "physics", "service", "lifecycle", "uncertainty", "objectives", "constraints", "units", "setting", "scenario",
    "results", "meanings", "law_inputs", "tokens", "clips", "lifecycle_columns", "evaluate", "cheapest", "optimism", "life_point", "service_point", "point_check",
    "point_parts", "point", "problem", "search", "given", "legal", "asked", "study", "starts", "pricesheet",
    "rescore", "assumptions", "intervals", "robustness", "rechoose", "sensitivity", "why_not", "attribution", "picks", "decision", "explain",
    "screen", "decision_text", "evidence", "reference_notes", "references", "reference_text", "payload", "report",
    "export", "baseline", "coverage", "run", "progress", "two_fronts", "tables", "listing", "shell",
    "evaluate_flags", "review", "evidence_cli", "cli", "__init__", "__main__",
)  # fmt: skip
PHYSICS_MAY = {"numpy", "scipy"}
ONLY_HERE = {"optuna": {"search"}, "pint": {"spec"}, "yaml": {"spec", "catalog"}}
BELOW_RESULTS = {"pandas", "pyarrow", "rich", "click", "plotly", "matplotlib"}  # only in `results` and rooms below it


def files():
    return sorted(p for p in PACKAGE.rglob("*.py"))


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@cache
def imports(path: Path) -> list[tuple[int, str]]:
    """(line, full module name) of every import of a file, those inside functions included."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            whole = node.module == "codesign"
            found += [(node.lineno, f"codesign.{a.name}") for a in node.names] if whole else [(node.lineno, node.module)]
    return found


def in_type_checking(path: Path) -> set[int]:
    """Lines under `if TYPE_CHECKING:`, which never run."""
    lines = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            lines |= set(range(node.lineno, node.end_lineno + 1))
    return lines


def test_every_room_has_a_place():
    rooms = {room_of(path) for path in files()}
    assert not rooms - set(ORDER), "name the new room in ORDER, below everything that it imports"


@pytest.mark.parametrize("path", files(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_up(path):
    room, wrong = room_of(path), []
    for line, name in imports(path):
        parts = name.split(".")
        if parts[0] == "codesign" and len(parts) > 1 and parts[1] != room:
            if ORDER.index(parts[1]) > ORDER.index(room):
                wrong.append(f"{path}:{line}: {room} imports {name}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("path", [p for p in files() if room_of(p) == "physics"], ids=lambda p: p.stem)
def test_physics_knows_only_numbers(path):
    for line, name in imports(path):
        top = name.split(".")[0]
        assert name.startswith("codesign.physics") or top in PHYSICS_MAY or top in sys.stdlib_module_names, f"{path}:{line}: {name}"
    text = path.read_text(encoding="utf-8")
    assert "open(" not in text and "read_text" not in text and "yaml" not in text, "physics never reads a file"


@pytest.mark.parametrize("path", files(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_libraries_stay_in_their_room(path):
    room, quiet = room_of(path), in_type_checking(path)
    for line, name in imports(path):
        top = name.split(".")[0]
        if line in quiet:
            continue
        if top in ONLY_HERE:
            assert room in ONLY_HERE[top], f"{path}:{line}: {name}"
        if top in BELOW_RESULTS:
            assert ORDER.index(room) >= ORDER.index("results"), f"{path}:{line}: {name}"


@pytest.mark.parametrize("path", files(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_files_stay_readable(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 420
