"""The machine at hand through PyTorch: how each kernel is run, and how it is timed.

On a GPU a probe is captured in a CUDA graph and replayed, so that launch cost of the host is outside, as in the tables of the catalog; operands
rotate over copies larger than the cache.  On a CPU the clock is the wall's: useful to test the way, not to describe a machine.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from codesign.evidence.measure import REPEATS, Probe, Unsupported
from codesign.spec.errors import UserError

COLD_BYTES = 256 << 20  # operands rotate over at least this much: twice the largest L2
LEAST_S = 0.02  # a timed stretch lasts at least this long
REDUCTIONS = 20  # all-reduces per timed stretch: back to back, the host runs ahead
INSTALL = "pip install 'codesign[measure]' on the machine that has the GPU, then run the command there"


def open_machine() -> TorchMachine:
    """The first GPU of this process.  Without PyTorch or a GPU: place, reason, remedy."""
    try:
        import torch
    except ImportError as error:
        raise UserError(f"codesign measure needs PyTorch, which this Python cannot import ({error})", hint=INSTALL) from None
    if not torch.cuda.is_available():
        raise UserError(
            "codesign measure needs a GPU, and PyTorch sees none here",
            hint="check `nvidia-smi` (AMD: `rocm-smi`) and CUDA_VISIBLE_DEVICES; " + INSTALL,
        )
    return TorchMachine(torch, "cuda")


class TorchMachine:
    """Seconds of one run of a probe on one device (or a group of them)."""

    def __init__(self, torch: Any, device: str) -> None:
        self.torch, self.device = torch, device
        self._reduced: dict[Probe, list[float]] = {}
        gpu = device == "cuda"
        self.name = torch.cuda.get_device_name() if gpu else "CPU"
        self.n_devices = torch.cuda.device_count() if gpu else 1
        self.software = f"PyTorch {torch.__version__}" + (f", CUDA {torch.version.cuda}" if gpu and torch.version.cuda else "")

    def seconds(self, probe: Probe) -> float:
        if probe.kernel == "all_reduce":
            if not self._reduced.get(probe):  # one start of processes serves all repeats
                self._reduced[probe] = all_reduce_seconds(self.torch, probe)
            return self._reduced[probe].pop()
        try:
            runs = getattr(self, f"_{probe.kernel}")(probe)
            return self._time(runs)
        except (RuntimeError, NotImplementedError) as error:  # out of memory, or no kernel for this format
            raise Unsupported(str(error).splitlines()[0][:120]) from None

    def _gemm(self, p: Probe) -> list[Callable[[], Any]]:
        """y = x w', weights rotating; fp8 with one scale per tensor."""
        torch, copies = self.torch, max(min(COLD_BYTES // (p.n * p.k), 64), 1)
        x = torch.randn(p.m, p.k, device=self.device, dtype=torch.bfloat16)
        weights = [torch.randn(p.n, p.k, device=self.device, dtype=torch.bfloat16) for _ in range(copies)]
        if p.dtype == "bf16":
            return [lambda w=w: torch.nn.functional.linear(x, w) for w in weights]
        if not hasattr(torch, "_scaled_mm") or self.device != "cuda":
            raise Unsupported("this PyTorch has no fp8 matrix product here")
        one, narrow = torch.ones((), device=self.device), torch.float8_e4m3fn
        x8, w8 = x.to(narrow), [w.to(narrow) for w in weights]
        return [lambda w=w: torch._scaled_mm(x8, w.t(), scale_a=one, scale_b=one, out_dtype=torch.bfloat16) for w in w8]

    def _hbm(self, p: Probe) -> list[Callable[[], Any]]:
        """A copy that reads half of n_bytes and writes the other half."""
        torch, copies = self.torch, max(min(COLD_BYTES // p.n_bytes, 16), 1)
        pairs = [[torch.zeros(p.n_bytes // 4, device=self.device, dtype=torch.bfloat16) for _ in range(2)] for _ in range(copies)]
        return [lambda a=a, b=b: b.copy_(a) for a, b in pairs]

    def _attention_decode(self, p: Probe) -> list[Callable[[], Any]]:
        """One new token per sequence over its cache: PyTorch's fused attention."""
        torch = self.torch
        cache = 2 * p.batch * p.n_kv_heads * p.context_tok * p.d_head * 2
        copies = max(min(COLD_BYTES // cache, 16), 1)

        def new(heads: int, tokens: int) -> Any:
            return torch.randn(p.batch, heads, tokens, p.d_head, device=self.device, dtype=torch.bfloat16)

        q = new(p.n_heads, 1)
        caches = [(new(p.n_kv_heads, p.context_tok), new(p.n_kv_heads, p.context_tok)) for _ in range(copies)]
        attend = torch.nn.functional.scaled_dot_product_attention
        return [lambda k=k, v=v: attend(q, k, v, enable_gqa=True) for k, v in caches]

    def _time(self, runs: list[Callable[[], Any]]) -> float:
        for run in runs[:3]:
            run()
        stretch, clock = (self._graph(runs), self._events) if self.device == "cuda" else (lambda: [run() for run in runs], self._wall)
        once = max(clock(stretch, 1), 1e-9)
        return clock(stretch, max(int(LEAST_S / once), 1)) / len(runs)

    def _graph(self, runs: list[Callable[[], Any]]) -> Callable[[], Any]:
        torch = self.torch
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            for run in runs:
                run()
        return graph.replay

    def _events(self, stretch: Callable[[], Any], times: int) -> float:
        torch = self.torch
        first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        first.record()
        for _ in range(times):
            stretch()
        last.record()
        torch.cuda.synchronize()
        return first.elapsed_time(last) / 1e3 / times

    @staticmethod
    def _wall(stretch: Callable[[], Any], times: int) -> float:
        start = time.perf_counter()
        for _ in range(times):
            stretch()
        return (time.perf_counter() - start) / times


def all_reduce_seconds(torch: Any, probe: Probe) -> list[float]:
    """REPEATS times of an all-reduce over the first n devices, each that of the slowest rank; one process each (NCCL or RCCL; gloo on CPU)."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        answers = torch.multiprocessing.get_context("spawn").SimpleQueue()
        torch.multiprocessing.spawn(_rank, (probe.n_devices, probe.n_bytes, folder, answers), nprocs=probe.n_devices)
        return [max(ranks) for ranks in zip(*(answers.get() for _ in range(probe.n_devices)), strict=True)]


def _rank(rank: int, n: int, n_bytes: int, folder: str, answers: Any) -> None:
    import torch
    import torch.distributed as dist

    gpu = torch.cuda.is_available()
    if gpu:
        torch.cuda.set_device(rank)
    dist.init_process_group("nccl" if gpu else "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=n)
    data = torch.zeros(max(n_bytes // 2, 1), dtype=torch.bfloat16, device="cuda" if gpu else "cpu")
    found = []
    for _ in range(REPEATS + 1):  # the first one warms up
        dist.barrier()
        if gpu:
            torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(REDUCTIONS):
            dist.all_reduce(data)
        if gpu:
            torch.cuda.synchronize()
        found.append((time.perf_counter() - start) / REDUCTIONS)
    answers.put(found[1:])
    dist.destroy_process_group()
