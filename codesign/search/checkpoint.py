"""An append-only file of batches: what a killed run reads to continue.

Each record is a length, a checksum and an uncompressed npz of arrays plus one JSON text, so a record costs
about what its rows weigh, a torn last record is recognised and cut off, and nothing is ever unpickled.
"""

from __future__ import annotations

import io
import json
import os
import struct
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from codesign.spec.errors import UserError

_HEADER = struct.Struct("<4sQI")  # magic, bytes of the body, crc32 of the body
_MAGIC = b"CDS1"
_META = "__meta__"
_LEAST_S = 0.2  # two records are at least this far apart ...
_COST_FACTOR = 10  # ... and writing takes at most a tenth of the time


class Checkpoint:
    """Records of one search in one file, which only a search of the same `identity` may continue."""

    def __init__(self, path: str | Path, identity: dict[str, object]) -> None:
        self._path = Path(path)
        self._due = 0.0
        self._path.parent.mkdir(parents=True, exist_ok=True)
        records = list(_scan(self._path)) if self._path.exists() else []
        good = records[-1][0] if records else 0
        self.records = [_decode(body) for _, body in records]  # [(arrays, meta)], oldest first
        self.note = self._keep_damaged(good)  # what a reader should know about the file, or None
        if self.records:
            self._compare(self.records.pop(0)[1], identity)
        with self._path.open("r+b" if self._path.exists() else "w+b") as file:
            file.truncate(good)  # a record that was being written when the run died
        if not good:
            self.append({}, identity)

    def _keep_damaged(self, good: int) -> str | None:
        """Save a copy where whole records follow a damaged one; a torn end alone is what a kill leaves, and is cut off."""
        data = self._path.read_bytes() if self._path.exists() else b""
        if data.find(_MAGIC, good + len(_MAGIC)) < 0:
            return None
        copy = self._path.with_name(f"{self._path.name}.damaged")
        copy.write_bytes(data)
        lost = f"{len(data) - good:,} of {len(data):,} bytes"
        return f"{self._path.name} was damaged: {lost} are done again; the damaged file is kept as {copy.name}"

    def _compare(self, stored: dict, identity: dict) -> None:
        identity = json.loads(json.dumps(identity))
        differing = sorted(name for name in {*stored, *identity} if stored.get(name) != identity.get(name))
        if differing:
            changes = ", ".join(f"{name} was {stored.get(name)!r} and is {identity.get(name)!r}" for name in differing)
            raise UserError(
                f"{self._path} belongs to a different search: {changes}",
                hint="use another output directory, or the settings of the first run",
            )

    @property
    def due(self) -> bool:
        """Whether enough time has passed for another record to be worth its cost."""
        return time.perf_counter() >= self._due

    def append(self, arrays: dict[str, np.ndarray], meta: dict) -> None:
        """Write one record; it is in the file when this returns."""
        start = time.perf_counter()
        body = _encode(arrays, meta)
        with self._path.open("ab") as file:
            end = file.tell()
            try:
                file.write(_HEADER.pack(_MAGIC, len(body), zlib.crc32(body)) + body)
                file.flush()
            except OSError:  # a full disk: give back what the torn record took
                os.ftruncate(file.fileno(), end)
                raise
        now = time.perf_counter()
        self._due = now + max(_LEAST_S, _COST_FACTOR * (now - start))


def _encode(arrays: dict[str, np.ndarray], meta: dict) -> bytes:
    plain = {name: _plain(name, array) for name, array in arrays.items()}
    buffer = io.BytesIO()
    np.savez(buffer, **plain, **{_META: np.frombuffer(json.dumps(meta).encode(), dtype=np.uint8)})
    return buffer.getvalue()


def _plain(name: str, array: np.ndarray) -> np.ndarray:
    """Strings held as objects become fixed-width text; other objects cannot be stored safely."""
    array = np.asarray(array)
    if array.dtype != object:
        return array
    if all(isinstance(value, str) for value in array.flat):
        return array.astype(str)
    raise TypeError(f"column {name} holds objects that are neither numbers nor text")


def _decode(body: bytes) -> tuple[dict[str, np.ndarray], dict]:
    with np.load(io.BytesIO(body), allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    return arrays, json.loads(arrays.pop(_META).tobytes())


def _scan(path: Path) -> Iterator[tuple[int, bytes]]:
    """(end position, body) of every whole record; stops at the first that is torn."""
    data = path.read_bytes()
    position = 0
    while position + _HEADER.size <= len(data):
        magic, length, checksum = _HEADER.unpack_from(data, position)
        start, stop = position + _HEADER.size, position + _HEADER.size + length
        body = data[start:stop]
        if magic != _MAGIC and position == 0:
            raise UserError(f"{path} is not a search checkpoint", hint="move it away or choose another output directory")
        if magic != _MAGIC or len(body) < length or zlib.crc32(body) != checksum:
            return
        yield stop, body
        position = stop
