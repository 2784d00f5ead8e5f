"""vLLM's and SGLang's own parsers take our launch scripts and read the design's counts from them.  Run by `.ci/extra`."""

import argparse
import json

import accepted
import launched
import pytest


@pytest.fixture(scope="module")
def vllm_parser():
    patch = pytest.MonkeyPatch()
    patch.setenv("VLLM_TARGET_DEVICE", "cpu")
    pytest.importorskip("vllm", reason="vLLM is not installed: .ci/extra installs it")
    from vllm.entrypoints.common.cli_args import make_arg_parser
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    yield make_arg_parser(FlexibleArgumentParser(exit_on_error=False))
    patch.undo()


@pytest.fixture(scope="module")
def sglang_parser():
    arguments = pytest.importorskip("sglang.srt.server_args", reason="SGLang is not installed: .ci/extra installs it")
    parser = argparse.ArgumentParser(exit_on_error=False, allow_abbrev=False)
    arguments.ServerArgs.add_cli_args(parser)
    return parser


def scripts(engine):
    """(point, role, text) of every script of the designs that the engine serves."""
    for point, files in accepted.exports(engine):
        for name, text in files.items():
            yield point, name.removeprefix(f"{engine}-").removesuffix(".sh"), text


def test_vllm_takes_ten_designs(vllm_parser):
    seen = set()
    for point, role, text in scripts("vllm"):
        o, n = vllm_parser.parse_args(accepted.arguments(text)), launched.counts(text)
        assert (o.tensor_parallel_size, o.pipeline_parallel_size) == (point[f"{role}.n_tp"], point[f"{role}.n_pp"])
        assert o.tensor_parallel_size * (o.data_parallel_size or 1) * o.pipeline_parallel_size * n["n_servers"] == n["n_devices"]
        assert n["n_devices"] + n["n_idle_devices"] == point[f"{role}.n_devices"]
        assert o.max_num_seqs * point[f"{role}.n_dp"] >= point[f"{role}.batch"]
        assert (o.kv_transfer_config is None) == (role == "serve")
        seen.add((point["id"], text))
    assert len(seen) >= accepted.N_DESIGNS


def test_sglang_takes_ten_designs(sglang_parser):
    seen = set()
    for point, role, text in scripts("sglang"):
        o, n = sglang_parser.parse_args(["--model-path", "model", *accepted.arguments(text)]), launched.counts(text)
        assert o.tp_size * o.pp_size * n["n_servers"] == n["n_devices"]
        assert (o.ep_size, o.pp_size) == (point[f"{role}.n_ep"], point[f"{role}.n_pp"])
        assert o.tp_size == point[f"{role}.n_tp"] * o.attn_dp_size
        assert (o.disaggregation_mode in (None, "null")) == (role == "serve")
        seen.add((point["id"], text))
    assert len(seen) >= accepted.N_DESIGNS


def test_drafts_are_json_that_vllm_reads(vllm_parser):
    read = (vllm_parser.parse_args(accepted.arguments(text)).speculative_config for _, _, text in scripts("vllm"))
    drafted = [config for config in read if config]
    assert drafted
    for config in drafted:
        config = json.loads(config) if isinstance(config, str) else config
        assert config["num_speculative_tokens"] >= 1
