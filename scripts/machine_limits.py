"""What this machine can do at most with numpy, and how many element operations and bytes a piece of numpy code takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np

IN_CACHE, IN_MEMORY = 8192, 2**24  # float64 of an array: 64 KiB stay in the L2 of a core, 128 MiB stay in no cache


def triad(size: int, seconds: float) -> float:
    """Element operations per second of a = b * c + d (two operations, in place) on `size` numbers."""
    b, c, d, a = (np.full(size, v) for v in (1.1, 0.9, 1e-3, 0.0))
    n, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        for _ in range(max(1, 2**20 // size)):
            np.multiply(b, c, out=a)
            np.add(a, d, out=a)
            n += 2 * size
    return n / (time.perf_counter() - start)


def limits(n_threads: int, seconds: float = 1.0) -> dict[str, float]:
    """Operations per second in cache, and bytes per second to and from memory (each operation reads two numbers and writes one)."""
    with ThreadPoolExecutor(n_threads) as pool:
        near, far = (sum(pool.map(triad, [size] * n_threads, [seconds] * n_threads)) for size in (IN_CACHE, IN_MEMORY))
    return {"operations_per_s": near, "bytes_per_s": 24.0 * far}


MOVES = (np.where, np.take, np.concatenate, np.stack)
REDUCTIONS = (np.sum, np.prod, np.min, np.max, np.any, np.all, np.cumsum, np.argmin, np.argmax)


class Counted(np.ndarray):
    """An array that counts the elements that numpy computes with it and the bytes that these read and write."""

    n_operations = n_bytes = 0

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, out: tuple = (), **kwargs: Any) -> Any:
        kwargs = {k: _plain(v) for k, v in kwargs.items()} | ({"out": tuple(map(_plain, out))} if out else {})
        result = getattr(ufunc, method)(*map(_plain, inputs), **kwargs)
        _count(inputs, result, reduces=method != "__call__")
        return _wrapped(result)

    def __array_function__(self, func: Callable, types: Any, args: tuple, kwargs: dict) -> Any:
        result = func(*_unwrapped(args), **_unwrapped(kwargs))
        if func in MOVES or func in REDUCTIONS:
            _count(args[:1] if func in REDUCTIONS else (), result, reduces=func in REDUCTIONS)
        return _wrapped(result)


@contextmanager
def counting() -> Iterator[Callable[[], tuple[int, int]]]:
    """Gives a function that says (operations, bytes) so far; in the block numpy keeps counted arrays counted where it would drop the class."""
    asarray, broadcast_to = np.asarray, np.broadcast_to

    def keep(value: Any, dtype: Any = None, **kwargs: Any) -> np.ndarray:
        array = asarray(value, dtype=dtype, **kwargs)
        return array.view(Counted) if isinstance(value, Counted) else array

    Counted.n_operations = Counted.n_bytes = 0
    np.asarray, np.broadcast_to = keep, lambda array, shape, subok=True: broadcast_to(array, shape, subok=True)
    try:
        yield lambda: (Counted.n_operations, Counted.n_bytes)
    finally:
        np.asarray, np.broadcast_to = asarray, broadcast_to


def _count(inputs: tuple, result: Any, reduces: bool = False) -> None:
    results = result if isinstance(result, tuple) else (result,)
    Counted.n_bytes += sum(v.nbytes for v in (*inputs, *results) if isinstance(v, np.ndarray))
    Counted.n_operations += max(map(np.size, inputs), default=0) if reduces else sum(map(np.size, results))


def _plain(value: Any) -> Any:
    return value.view(np.ndarray) if isinstance(value, Counted) else value


def _unwrapped(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return type(value)(map(_unwrapped, value)) if type(value) in (list, tuple) else value
    return {k: _unwrapped(v) for k, v in value.items()} if isinstance(value, dict) else _plain(value)


def _wrapped(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(map(_wrapped, value)) if type(value) is tuple else value
    if isinstance(value, list):
        return list(map(_wrapped, value))
    return value.view(Counted) if type(value) is np.ndarray and value.dtype != object else value
