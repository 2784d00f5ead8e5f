"""What `codesign place` says of a reference: the point that breaks least, where its figures come from, in which precision it is served."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

import studies
from codesign import reference_notes, references
from codesign.catalog import hf
from codesign.spec import Reference

MEGATRON = """--num-layers 32 --hidden-size 4096 --ffn-hidden-size 14336 --num-attention-heads 32 --group-query-attention --num-query-groups 8
--seq-length 4096 --max-position-embeddings 4096 --tensor-model-parallel-size 4 --pipeline-model-parallel-size 2 --swiglu
--global-batch-size 1024 --train-iters 250000 --vocab-size 128256 --normalization RMSNorm --position-embedding-type rope
--untie-embeddings-and-output-weights --disable-bias-linear --bf16
"""


@pytest.fixture(scope="module")
def arguments(tmp_path_factory):
    path = tmp_path_factory.mktemp("megatron") / "train.sh"
    path.write_text(MEGATRON)
    return str(path)


def test_the_point_that_breaks_least_stands_for_the_model(tmp_path, small):
    """With a deadline nobody keeps, the fastest training allowed stands for the model, not the cheapest and slower one."""
    named = Reference(model="llama-3.1-8b", pretrain_tok="1 Ttok")
    free, late = (
        references.references_of(studies.study(tmp_path, {"constraints": limits}), small.run, [named])[0]
        for limits in ({"train_devices": "<= 2048"}, {"train_devices": "<= 2048", "train_days": "<= 0.1 day"})
    )
    assert any(r.startswith("train_days") for r in late["reasons"])
    assert late["point"]["train_s"] < free["point"]["train_s"] and late["point"]["train_devices"] <= 2048


def test_first_is_the_cheapest_of_those_that_break_least(small):
    setting = dataclasses.replace(small.study.setting)
    columns = {g.column: np.array([1.0, 1.0, 1.0, 1.0]) for g in setting.goals}
    columns |= {"usd_per_mtok": np.array([1.0, 2.0, 3.0, 4.0]), "lifecycle_usd": np.ones(4)}
    broken = {"a": np.array([2.0, 0.805, 0.8, 0.1]), "b": np.array([-1.0, -1.0, -1.0, 0.1])}
    assert references._front(setting, columns, broken)[0] == 1
    kept = {"a": np.array([-1.0, -1.0, 0.8, -1.0])}
    assert references._front(setting, columns, kept) == [0]


def test_words_of_a_file_of_ones_own(small, arguments):
    (one,) = references.named(small.study, small.run, [arguments])
    notes = "\n".join(one["notes"])
    assert "as your file says" in notes and "as published" not in notes
    assert "its parallel layout is not used: every layout is tried" in notes and f"read from {arguments}" in notes
    (known,) = references.named(small.study, small.run, ["qwen3-30b-a3b"])
    assert "as published" in known["notes"][0] and not any("read from" in note for note in known["notes"])


def test_tokens_that_are_paid_for_but_do_not_count_are_said(small):
    (one,) = references.named(small.study, small.run, ["qwen3-30b-a3b"])
    said = [note for note in one["notes"] if "are paid for" in note]
    assert bool(said) == (one["point"]["pretrain_spent_tok"] > 1.005 * one["point"]["pretrain_tok"])


def test_other_bits_than_the_front_are_said(small):
    known = Reference(model="llama-3.1-8b", pretrain_tok="1 Ttok", precision={"weight_bits": 2, "kv_bits": 2})
    (one,) = references.references_of(small.study, small.run, [known])[-1:]
    (note,) = [n for n in one["notes"] if "part of the gap is precision" in n]
    assert note.startswith("served in w2 kv2")
    point = {f"precision.{k}": small.run.front[f"precision.{k}"].iloc[0] for k in ("weight_bits",)}
    assert reference_notes.other_bits(small.study, small.run, point) == []


@pytest.mark.parametrize(("folder", "name"), [("configs", "llama"), ("my-model", "my-model"), ("a" * 40, "llama")])
def test_a_folder_that_names_no_model_gives_way_to_the_family(tmp_path, folder, name):
    (tmp_path / folder).mkdir()
    path = tmp_path / folder / "config.json"
    raw = {"model_type": "llama"}
    path.write_text(json.dumps(raw))
    assert hf._name(raw, path) == name
