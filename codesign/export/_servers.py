"""Servers that an engine is started with: a replica of the design, cut into the processes that engines know."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, floor
from typing import Any

from codesign.export import _checks, _serving, hf
from codesign.export._refusal import refuse
from codesign.export._shell import Options, nodes_of, script
from codesign.export._subject import Subject, subject
from codesign.physics.layout import PLAIN
from codesign.results import Run
from codesign.study import Study

PLANNED = {
    "n_ffn": "attention and FFN on devices of their own", "overlap": "two batches in turn", "n_ffn_x": "dense FFNs cut along d_model",
    "n_gather": "weights of dense FFNs gathered for prompts",
}  # fmt: skip
CHUNK_STEP = 64  # prefill chunks are whole cache pages: 64 tokens are a multiple of every engine's page here
MODEL, DRAFT = "./model", "./draft"
MULTI_TOKEN, HEAD = "MTP", "EAGLE3"  # how drafts are proposed: by the model's own modules, or by a head of one layer


@dataclass(frozen=True)
class Server:
    """One server and how many of them a pool runs.  Degrees are those of one server; counts per attention rank say so."""

    role: str  # serve | prefill | decode
    n_tp: int
    n_dp: int
    n_pp: int
    n_etp: int
    n_ep: int
    n_servers: int
    n_idle_devices: int
    n_per_node: int
    max_seqs_per_rank: int
    max_len_tok: int
    chunk_tok: int  # prompt tokens of a step and rank: a chunk, or what arrives in steady state; 0 in a decode pool
    is_chunked: bool  # prefill rides inside decode steps
    prefix_caching: bool
    n_draft_tok: int
    drafter: str
    bits: tuple[int, int, int]  # weights, activations, KV cache
    memory: dict[str, Any]
    hbm_bytes: float

    @property
    def n_stage(self) -> int:
        return self.n_tp * self.n_dp

    @property
    def n_devices(self) -> int:
        return self.n_stage * self.n_pp

    @property
    def nodes(self) -> tuple[int, int]:
        return nodes_of(self.n_devices, self.n_per_node)

    @property
    def step_tok_per_rank(self) -> int:
        """Tokens that one step works on: a chunk, and every running sequence with its drafts."""
        running = self.max_seqs_per_rank * (1 + self.n_draft_tok) if self.role != "prefill" else 0
        return self.chunk_tok + running

    def fraction(self, part_bytes: float, of_bytes: float) -> float:
        """Share of memory, rounded down."""
        return floor(part_bytes / of_bytes * 1e4) / 1e4


def servers(s: Subject, who: str) -> list[Server]:
    """One entry per pool.  Refuses what no engine loads or no engine lays out so."""
    _checks.same_constants(s)
    config = hf.config_of(s)
    if config["model_type"] == "ministral":
        refuse(who, [("a sliding window in some layers (global_every) of a model without query and key norms",
                      "search with qk_norm, which makes it a Qwen3, or without the window")])  # fmt: skip
    return [_server(s, who, role, fleet) for role, fleet in _serving.fleets(s).items()]


def _server(s: Subject, who: str, role: str, fleet: dict[str, Any]) -> Server:
    launch, has_moe = fleet["launch"], s.shape["n_experts"] > 0
    is_chunked = launch.get("prefill_mixed_with_decode", "chunked") == "chunked"
    prompt_tok = max(launch.get("prefill_chunk_tok", 0), launch.get("prompt_tok_per_step_and_rank", 0) if is_chunked else 0)
    copies = fleet["n_edp"] if has_moe else fleet["n_dp"]  # independent servers in one replica
    only = "search with layout: {{{}: {{{}: [1]}}}}".format
    refuse(who, [(f"context parallelism in serving ({role}: n_cp)", only(role, "n_cp"))] if fleet["n_cp"] > 1 else [])
    refuse(who, [(f"copies of experts inside one attention rank ({role}: n_edp)", only(role, "n_tp"))] if fleet["n_dp"] % copies else [])
    planned = [key for key in PLANNED if fleet.get(key, PLAIN[key]) != PLAIN[key]]
    plain_form = "search with layout: {{{}: {{{}: {}}}}}".format
    refuse(who, [(f"{PLANNED[key]} ({role}: {key})", plain_form(role, key, "none" if key == "overlap" else PLAIN[key])) for key in planned])
    return Server(
        role, fleet["n_tp"], fleet["n_dp"] // copies, fleet["n_pp"], fleet["n_etp"], fleet["n_ep"],
        n_servers=fleet["n_replicas"] * copies, n_idle_devices=fleet["n_idle_devices"], n_per_node=fleet["n_devices_per_node"],
        max_seqs_per_rank=launch["max_num_seqs_per_rank"], max_len_tok=launch["max_model_len_tok"],
        chunk_tok=CHUNK_STEP * ceil(prompt_tok / CHUNK_STEP), is_chunked=is_chunked,
        prefix_caching=launch.get("prefix_caching", False),
        n_draft_tok=_serving.n_draft_tok(s), drafter=MULTI_TOKEN if s.shape["n_mtp_layers"] else HEAD,
        bits=(launch["weight_bits"], launch["act_bits"], launch["kv_bits"]), memory=fleet["memory"], hbm_bytes=float(s.chip(role).hbm_bytes),
    )  # fmt: skip


def served_name(s: Subject) -> str:
    return f"{s.study.name}-{int(s.point['id'])}"


def pick(who: str, table: dict[Any, Any], key: Any, feature: str) -> Any:
    """Entry of a table of what the engine has."""
    if key not in table:
        known = " or ".join("/".join(map(str, k)) if isinstance(k, tuple) else str(k) for k in table)
        refuse(who, [(feature, f"it has {known}: search with one of those")])
    return table[key]


def quantised(who: str, table: dict[tuple[int, int], Any], server: Server) -> Any:
    """Entry for the widths of weights and activations."""
    weights, acts, _ = server.bits
    feature = f"{weights}-bit weights with {acts}-bit activations (precision.weight_bits/act_bits)"
    return pick(who, table, (weights, acts), feature)


def cached(who: str, table: dict[int, str], server: Server) -> str:
    """Entry for the width of the cache."""
    return pick(who, table, server.bits[2], f"a {server.bits[2]}-bit KV cache (precision.kv_bits)")


def notes(s: Subject, server: Server, version: str, checkpoint: str) -> list[str]:
    """What every launch file says first: which design, how many servers, what the numbers rest on."""
    used, (n_nodes, each) = server.memory, server.nodes
    found = [
        f"{served_name(s)}, pool {server.role}: start {server.n_servers} of these servers.  Options as {version} has them.",
        f"n_servers={server.n_servers} n_devices_per_server={server.n_devices} n_devices={server.n_servers * server.n_devices}"
        f" n_nodes_per_server={n_nodes} n_devices_per_node={each} n_idle_devices={server.n_idle_devices}",
        f"Memory of the fullest device: {used['total_bytes'] / 1e9:.1f} GB expected, {used['usable_bytes'] / 1e9:.1f} GB usable; "
        f"weights {used['weights_bytes'] / 1e9:.1f}, KV cache {used['kv_bytes'] / 1e9:.1f} GB.",
        f"MODEL: a folder with the trained weights, their tokenizer, and the config.json of: "
        f"codesign export {shlex.quote(str(s.run.path))} {int(s.point['id'])} --to hf -o {MODEL}",
        f"Weights: {checkpoint}.",
    ]  # fmt: skip
    if server.n_draft_tok and server.drafter == HEAD:
        found.append(
            f"The design counts on drafts, but the model has no multi-token-prediction modules: put a trained draft head in {DRAFT}."
        )
    if n_nodes > 1:
        found.append(f"Start it on each of {n_nodes} nodes with NODE_RANK=0..{n_nodes - 1} and HEAD=<host of node 0>.")
    return found


def variables(server: Server) -> dict[str, str]:
    """Variables of the script with their defaults."""
    return {"MODEL": MODEL} | ({"NODE_RANK": "0", "HEAD": "localhost"} if server.nodes[0] > 1 else {})


@dataclass(frozen=True)
class Engine:
    """An engine that is started by one script per pool: its formats, and its options for each part of a server."""

    name: str
    version: str
    command: tuple[Any, ...]
    weights: dict[tuple[int, int], tuple[str | None, str]]  # (weight, activation bits): --quantization, what the folder must hold
    cache: dict[int, str]  # bits: --kv-cache-dtype
    layout: Callable[[Server], Options]
    batch: Callable[[Server], Options]
    memory: Callable[[Server], Options]
    drafts: Callable[[Server], Options]
    transfer: Callable[[Server], Options]
    last: Callable[[Server], str] = lambda server: ""

    def scripts(self, study: Study, run: Run, point_id: int) -> dict[str, str]:
        """`<engine>-serve.sh`, or one for prefill and one for decode where the pools are apart."""
        s = subject(study, run, point_id)
        return {f"{self.name.lower()}-{server.role}.sh": self._script(s, server) for server in servers(s, self.name)}

    def _script(self, s: Subject, server: Server) -> str:
        method, checkpoint = quantised(self.name, self.weights, server)
        groups: dict[str, Options] = {
            "layout": self.layout(server),
            "batch and length": self.batch(server),
            "precision and memory": [
                *([("--quantization", method)] if method else []),
                ("--kv-cache-dtype", cached(self.name, self.cache, server)),
                *self.memory(server),
            ],
            "drafts": self.drafts(server),
            "hand-over of the cache from prefill to decode": self.transfer(server),
            "name of the model in requests": [("--served-model-name", served_name(s))],
        }
        return script(notes(s, server, self.version, checkpoint), variables(server), groups, self.command, self.last(server))
