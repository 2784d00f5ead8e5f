"""What we write for Megatron-LM comes back as the same architecture."""

import plans
import pytest
from test_export_hf import CASES, shape_of
from test_training_plan import points

from codesign import catalog, export
from codesign.export import hf, megatron
from codesign.export._shell import word
from codesign.export._subject import subject
from codesign.physics.architecture import census, fill

FIELDS = ("n_params", "n_active_params", "n_active_params_excl_both", "n_matmul_params_per_tok", "mtp_params", "head_params", "norm_params")
EXPRESSIBLE = [name for name, (_, a) in CASES.items() if hf.features(shape_of(a)) <= megatron.HAS]


def same(record, architecture):
    theirs, ours = census(fill(record["architecture"])), census(fill(architecture))
    for field in (f for f in FIELDS if hasattr(ours, f)):
        assert float(getattr(theirs, field)) == float(getattr(ours, field)), field
    for mixer in ("full", "window"):
        mine, yours = getattr(ours, mixer), getattr(theirs, mixer)
        assert float(mine.n_layers) == float(yours.n_layers)
        assert not mine.n_layers or (float(mine.kv_elems_per_tok), float(mine.span_tok)) == (
            float(yours.kv_elems_per_tok), float(yours.span_tok))  # fmt: skip
    assert float(ours.ffn.n_moe_layers) == float(theirs.ffn.n_moe_layers)


@pytest.mark.parametrize("kind", plans.KINDS)
def test_the_exported_script_comes_back(kind, tmp_path):
    study, run = plans.searched(kind)
    for i in points(kind, 3):
        for name, text in export.export("megatron", study, run, i).items():
            (tmp_path / name).write_text(text)
        record = catalog.load("models", tmp_path / "megatron.sh")
        same(record, subject(study, run, i).shape)
        assert record["training_tok"]["value"] == pytest.approx(run.point(i)["pretrain_spent_tok"], rel=1e-3)


@pytest.mark.parametrize("name", EXPRESSIBLE)
@pytest.mark.parametrize("tied", (0, 1))
def test_every_shape_that_can_be_written_comes_back(name, tied, tmp_path):
    a = shape_of(CASES[name][1] | {"tied_embeddings": tied})
    body = [("--num-layers", a["n_layers"]), ("--hidden-size", a["d_model"]), ("--ffn-hidden-size", a["d_ff"] or a["d_expert"]),
            ("--vocab-size", a["vocab"]), ("--disable-bias-linear",), ("--position-embedding-type", "rope"),
            *([("--swiglu",)] if a["ffn_gated"] else []), ("--normalization", "LayerNorm" if a["norm_bias"] else "RMSNorm"),
            *([] if tied else [("--untie-embeddings-and-output-weights",)]),
            *([("--mtp-num-layers", a["n_mtp_layers"])] if a["n_mtp_layers"] else [])]  # fmt: skip
    options = [*body, *megatron._attention(a), *megatron._experts(a)]
    (tmp_path / "args.txt").write_text("\n".join(" ".join(map(word, option)) for option in options))
    same(catalog.load("models", tmp_path / "args.txt"), a)


def test_most_shapes_can_be_written():
    assert len(EXPRESSIBLE) > len(CASES) / 2
