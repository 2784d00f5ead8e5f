"""Structures of arrays: a frozen dataclass whose fields are arrays (or nested structures) that broadcast together."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np


class Arrays:
    """Base of every structure of arrays.  A size-1 field stands for all rows, so it is never copied per row."""

    def map(self, function) -> Any:
        """The same structure with `function` applied to every array in it; parts that are absent stay absent."""
        new = object.__new__(type(self))
        new.__dict__.update(
            {
                name: value.map(function) if isinstance(value, Arrays) else None if value is None else function(value)
                for name, value in self.__dict__.items()
            }
        )
        return new

    def take(self, index) -> Any:
        """Rows `index` of every field; scalars stay scalars, so only what varies between rows is copied."""
        return self.map(lambda v: v if getattr(v, "size", 1) == 1 else v.ravel().take(index))

    def column(self) -> Any:
        """Every per-row field as a column (A, 1), ready to broadcast against layouts (1, L)."""
        return self.map(lambda v: v if np.size(v) == 1 else np.reshape(v, (-1, 1)))

    def length(self) -> int:
        """Rows: the size of the longest field (1 when every field is scalar)."""
        sizes = [1]
        self.map(lambda v: sizes.append(np.size(v)) or v)
        return max(sizes)

    def compact(self) -> Any:
        """Fields that are equal in all rows become scalars: they cost one value instead of a pass over memory."""
        return self.map(_compact)


def _compact(value):
    array = np.asarray(value)
    if array.size == 0:
        return value
    first = array.flat[0]
    return first if array.size == 1 or bool(np.all(array == first)) else array


def stack(records: list[Any]) -> Any:
    """(H,) structure from H scalar structures of one type, so that a hardware choice is an index into it."""
    head = records[0]
    merged = {}
    for f in fields(head):
        values = [getattr(r, f.name) for r in records]
        merged[f.name] = None if values[0] is None else stack(values) if isinstance(values[0], Arrays) else np.array(values)
    return replace(head, **merged)
