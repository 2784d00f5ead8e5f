"""What each unit of a design costs on its cheapest layout, remembered: a flat search meets the same design with many layouts."""

from __future__ import annotations

import numpy as np

from codesign import evaluate as pipeline
from codesign.setting import Setting

MOST = 2**20  # parts of a unit to remember, some 200 bytes each; then the memory starts anew


class Cheapest:
    """`evaluate.cheapest` with a memory.  Parts are told apart by the values that the unit reads."""

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self._known: dict[str, dict[bytes, np.ndarray]] = {unit: {} for unit in pipeline.PARTS}
        self._names: dict[str, tuple[str, ...]] = {}

    def __call__(self, values: dict[str, np.ndarray], codes: dict[str, np.ndarray], unit: str) -> dict[str, np.ndarray]:
        """name -> (A,) of a unit.  Threads may ask at once: the worst is that both find out."""
        keys, known = self._keys(values, codes, unit), self._known[unit]
        new = np.array([i for i, key in enumerate(keys) if key not in known], dtype=int)
        found = {}
        if new.size:
            here = ({k: v[new] for k, v in columns.items()} for columns in (values, codes))
            best = pipeline.cheapest(self._setting, *here, unit)
            self._names[unit] = tuple(best)
            found = dict(zip((keys[i] for i in new), np.stack(list(best.values()), axis=1), strict=True))
        rows = np.array([found[key] if key in found else known[key] for key in keys])
        known.update(found)
        if len(known) > MOST:
            self._known[unit] = {}  # not emptied, for another thread may be reading it
        return dict(zip(self._names[unit], rows.T, strict=True))

    def _keys(self, values, codes, unit: str) -> list[bytes]:
        """What tells the parts of the designs apart: codes of the variables, and derived values, whose codes change from batch to batch."""
        names = [name for name in codes if name.startswith(pipeline.PARTS[unit])]
        columns = [values[name.removeprefix("derived.")] if name.startswith("derived.") else codes[name] for name in names]
        n = len(next(iter(codes.values()))) if codes else 1
        table = np.ascontiguousarray(np.array(columns, dtype=float).reshape(len(names), n).T)
        return [row.tobytes() for row in table]
