"""What the evaluator returns and what a run keeps: tables of evaluated designs with named, SI columns."""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from codesign.spec.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

JOURNAL = "optuna.journal.log"  # the Optuna storage of a run directory
FORMAT = 2  # of a run directory; raised when an old one can no longer be read
MANIFEST_KEYS = (  # what the commands read from a manifest
    "name", "study_path", "version", "created", "seed", "method", "exact", "stop_reason", "n_designs", "n_feasible", "n_front",
    "hypervolume", "killed", "history", "variables", "objectives", "units", "notes", "space_designs", "sha256",
)  # fmt: skip
SEALED = ("study.yaml", "results.parquet")  # what every command reads, as the run wrote it
AGAIN = "`codesign run` with the same study continues here and writes it again; a copy to play with is front.csv"


@dataclass
class Batch:
    """Evaluation of A asked designs.

    points: columns (P,) of every non-dominated feasible point; design: (P,) row of the asked batch that each belongs to;
    objectives: (A, M) values of each design's representative point, NaN where nothing fits; violations: (A, C), finite,
    <= 0 feasible; killed: reason -> designs that died of it.
    """

    points: dict[str, np.ndarray]
    design: np.ndarray
    objectives: np.ndarray
    violations: np.ndarray
    n_layouts: int = 0
    n_candidates: int = 0
    n_feasible: int = 0
    killed: dict[str, int] = field(default_factory=dict)


@dataclass
class Run:
    """A run directory: what was asked, what was found.  `table` has one row per archived point and sampled design."""

    path: Path
    manifest: dict[str, Any]
    table: pd.DataFrame

    @property
    def front(self) -> pd.DataFrame:
        """Archived Pareto points, in the order of their ids."""
        return self.table[self.table["on_front"]].reset_index(drop=True)

    @property
    def objectives(self) -> dict[str, str]:
        """Objective column -> minimize or maximize."""
        return self.manifest["objectives"]

    @property
    def variables(self) -> list[str]:
        return self.manifest["variables"]

    def point(self, point_id: int) -> dict[str, Any]:
        """One archived point as a plain dict; an unknown id is a UserError that lists some that exist."""
        rows = self.table[self.table["id"] == point_id]
        if rows.empty:
            known = ", ".join(str(i) for i in self.front["id"].head(12))
            raise UserError(f"no point with id {point_id} in {self.path}", hint=f"ids on the front: {known}, ...")
        if not bool(rows.iloc[0]["on_front"]):
            raise UserError(
                f"{point_id} is a sampled design that is not on the front; its layouts were not kept",
                hint="choose an id from `codesign front`",
            )
        return rows.iloc[0].to_dict()

    def _repr_html_(self) -> str:
        """Notebook view: the front's variables that vary and its objectives, best in the first objective first."""
        first, direction = next(iter(self.objectives.items()))
        varying = [v for v in self.variables if v in self.table and self.front[v].nunique(dropna=False) > 1]
        rows = self.front.sort_values(first, ascending=direction == "minimize")[["id", *varying, *self.objectives]]
        found, proven = self.manifest["n_front"], "exact" if self.manifest["exact"] else "sampled"
        head = f"{self.manifest['name']}: {found:,} points on the front of {self.manifest['n_designs']:,} designs, {proven}; {self.path}"
        return f"<p>{escape(head)}</p>" + rows.to_html(index=False, max_rows=20, border=0, na_rep="", float_format="{:.3g}".format)


def load_results(path: str | Path) -> Run:
    """Read a run directory; a clear UserError when it is none, is broken, or belongs to another version."""
    import pandas as pd

    path = Path(path)
    manifest_path = path / "manifest.json"
    if not manifest_path.is_file():
        what = "no such directory" if not path.exists() else "not a run directory (no manifest.json)"
        raise UserError(f"{path}: {what}", hint="`codesign run STUDY.yaml` makes one")
    try:
        manifest = json.loads(manifest_path.read_text(encoding="utf-8"))
        found = {name: (path / name).read_bytes() for name in SEALED}
    except (ValueError, OSError) as error:
        raise UserError(f"{path}: cannot be read: {error}", hint="run the study again with --out to another directory") from None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        theirs = manifest.get("format") if isinstance(manifest, dict) else None
        raise UserError(f"{path}: written by another version of codesign (format {theirs}, this is {FORMAT})", hint="run the study again")
    if missing := [key for key in MANIFEST_KEYS if key not in manifest]:
        raise UserError(f"{manifest_path} lacks {', '.join(missing)}: was it edited?", hint=AGAIN)
    if edited := [name for name, data in found.items() if digest(data) != manifest["sha256"].get(name)]:
        raise UserError(f"{path}: {' and '.join(edited)} not what the run wrote: edited, or the run was stopped while saving", hint=AGAIN)
    table = pd.read_parquet(io.BytesIO(found["results.parquet"]))
    if missing := sorted({*manifest["objectives"], *manifest["variables"]} - set(table.columns)):
        raise UserError(f"{manifest_path} names columns that results.parquet has not: {', '.join(missing)}", hint=AGAIN)
    return Run(path, manifest, table)


def digest(data: bytes) -> str:
    """SHA-256, as the manifest keeps it for the sealed files."""
    return hashlib.sha256(data).hexdigest()


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file beside `path`, then put it in place at once: nobody sees half a file."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        write(part)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
