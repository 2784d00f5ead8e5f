"""Exported Hugging Face configs: parameters by hand, by `transformers` itself, and read back by our own importer."""

import itertools
import json
import os

import plans
import pytest
from test_training_plan import points

import studies
from codesign import export
from codesign.catalog.hf import read_config
from codesign.export._subject import plain, subject
from codesign.export.hf import FAMILIES, FEATURES, config, features
from codesign.physics.architecture import census, fill, problems
from codesign.run import run
from codesign.spec.errors import UserError

DENSE = dict(n_layers=6, d_model=96, vocab=211, n_heads=6, n_kv_heads=2, d_head=16, d_ff=80)
MOE = DENSE | dict(n_experts=8, n_active_experts=2, d_expert=24)
DEEP = MOE | dict(n_dense_layers=2, n_shared_experts=1)
MLA = DEEP | dict(attention="mla", d_head=0, q_lora_rank=20, kv_lora_rank=12, d_head_nope=8, d_head_rope=4, d_head_v=10)
MLA = MLA | dict(n_kv_heads=0)
DSA = MLA | dict(index_heads=3, index_dim=8, index_topk_tok=16)
BOTH = dict(attention_bias=1, output_bias=1)
OSS = MOE | BOTH | dict(attention_sinks=1, expert_bias=1, router_bias=1)
WINDOW = dict(window_tok=64)
CASES = {
    "llama": ("llama", DENSE),
    "llama mha": ("llama", DENSE | dict(attention="mha")),
    "llama mqa": ("llama", DENSE | dict(attention="mqa")),
    "llama biases": ("llama", DENSE | BOTH | dict(ffn_bias=1)),
    "llama wide heads": ("llama", DENSE | dict(d_head=32)),
    "mistral": ("mistral", DENSE | WINDOW),
    "mistral uneven heads": ("mistral", DENSE | dict(n_heads=10, d_head=8)),
    "ministral": ("ministral", DENSE | WINDOW | dict(global_every=3)),
    "qwen3": ("qwen3", DENSE | dict(qk_norm=1)),
    "qwen3 windows": ("qwen3", DENSE | WINDOW | dict(qk_norm=1, global_every=2)),
    "qwen2": ("qwen2", DENSE | dict(attention_bias=1)),
    "qwen2 windows": ("qwen2", DENSE | WINDOW | dict(attention_bias=1, n_full_layers=4)),
    "mixtral": ("mixtral", MOE),
    "mixtral windows": ("mixtral", MOE | WINDOW),
    "qwen3 moe": ("qwen3_moe", MOE | dict(qk_norm=1)),
    "qwen3 moe dense first": ("qwen3_moe", MOE | dict(qk_norm=1, n_dense_layers=1)),
    "qwen3 moe every": ("qwen3_moe", MOE | dict(qk_norm=1, moe_every=2)),
    "glm": ("glm4_moe", DEEP),
    "glm mqa": ("glm4_moe", DEEP | dict(attention="mqa", n_kv_heads=0)),
    "glm qk norm, bias, mtp": ("glm4_moe", DEEP | dict(qk_norm=1, attention_bias=1, n_mtp_layers=1, n_shared_experts=2)),
    "glm wide shared": ("glm4_moe", DEEP | dict(d_shared=72, n_dense_layers=0)),
    "glm nothing shared": ("glm4_moe", MOE | dict(n_dense_layers=1)),
    "gpt-oss": ("gpt_oss", OSS),
    "gpt-oss windows": ("gpt_oss", OSS | WINDOW | dict(global_every=2)),
    "deepseek": ("deepseek_v3", MLA),
    "deepseek full query": ("deepseek_v3", MLA | dict(q_lora_rank=0)),
    "deepseek dense": ("deepseek_v3", MLA | dict(n_experts=0, n_dense_layers=0, n_shared_experts=0)),
    "deepseek nothing shared": ("deepseek_v3", MLA | dict(n_shared_experts=0, n_dense_layers=0)),
    "deepseek biases, mtp": ("deepseek_v3", MLA | BOTH | dict(n_mtp_layers=1)),
    "deepseek sparse": ("deepseek_v32", DSA),
}
BOTH_WAYS = [pytest.param(name, tied, id=f"{name}{', tied' if tied else ''}") for name, tied in itertools.product(CASES, (0, 1))]


def shape_of(architecture):
    filled = fill(architecture)
    assert not any(mask.any() for mask in problems(filled).values())
    return {key: plain(value) for key, value in filled.items()}


def exported(name, tied=0, context=4096):
    return config(shape_of(CASES[name][1] | {"tied_embeddings": tied}), context)


def by_hand(c):
    """Parameters of a config, from the tensors that the model classes of `transformers` 5.23 create; nothing of ours is used."""
    d, kind = c["hidden_size"], c["model_type"]
    layers = range(c["num_hidden_layers"])
    total = c["vocab_size"] * d * (1 if c["tie_word_embeddings"] else 2) + d
    for layer in layers:
        total += 2 * d + (latent(c) if kind.startswith("deepseek") else heads(c))
        total += experts(c) if has_experts(c, layer) else gated(d, c["intermediate_size"], bias=c.get("mlp_bias"))
    return total


def gated(d, width, bias=False):
    return 3 * d * width + (2 * width + d if bias else 0)


def heads(c):
    d, kind, width = c["hidden_size"], c["model_type"], c["head_dim"]
    q, kv = c["num_attention_heads"] * width, c["num_key_value_heads"] * width
    has_bias = kind == "qwen2" or c.get("attention_bias", False)
    on_output = has_bias and kind in ("llama", "gpt_oss")
    norm = 2 * width if kind.startswith("qwen3") or c.get("use_qk_norm") else 0
    sinks = c["num_attention_heads"] if kind == "gpt_oss" else 0
    return 2 * d * q + 2 * d * kv + has_bias * (q + 2 * kv) + on_output * d + norm + sinks


def latent(c):
    d, h, q, latent = c["hidden_size"], c["num_attention_heads"], c["q_lora_rank"], c["kv_lora_rank"]
    nope, rope, v = c["qk_nope_head_dim"], c["qk_rope_head_dim"], c["v_head_dim"]
    query = d * q + q + q * h * (nope + rope) if q else d * h * (nope + rope)
    total = query + d * (latent + rope) + latent + latent * h * (nope + v) + h * v * d
    if c["attention_bias"]:
        total += (q or 0) + latent + rope + d
    if c["model_type"] == "deepseek_v32":
        heads, width = c["index_n_heads"], c["index_head_dim"]
        total += q * heads * width + d * width + 2 * width + d * heads
    return total


def has_experts(c, layer):
    if c["model_type"] in ("mixtral", "gpt_oss"):
        return True
    if c["model_type"] == "qwen3_moe":
        return layer not in c["mlp_only_layers"] and (layer + 1) % c["decoder_sparse_step"] == 0
    return layer >= c.get("first_k_dense_replace", 10**9)


def experts(c):
    d = c["hidden_size"]
    n = c.get("num_local_experts") or c.get("num_experts") or c["n_routed_experts"]
    width = c.get("moe_intermediate_size", c["intermediate_size"])
    biases = n * (2 * width + d) + n if c["model_type"] == "gpt_oss" else 0
    return n * gated(d, width) + n * d + biases + gated(d, width * c.get("n_shared_experts", 0))


@pytest.mark.parametrize(("name", "tied"), BOTH_WAYS)
def test_parameters_by_hand(name, tied):
    keys = exported(name, tied)
    assert keys["model_type"] == CASES[name][0]
    assert by_hand(keys) == int(census(fill(CASES[name][1] | {"tied_embeddings": tied})).n_params)


@pytest.mark.parametrize(("name", "tied"), BOTH_WAYS)
def test_the_importer_reads_the_same_architecture(name, tied, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(exported(name, tied)))
    record = read_config(tmp_path)
    theirs = census(fill(record["architecture"]))
    ours = census(fill(CASES[name][1] | {"tied_embeddings": tied}))
    for field in ("n_params", "n_active_params", "n_active_params_excl_both", "n_matmul_params_per_tok", "mtp_params", "head_params"):
        assert float(getattr(theirs, field)) == float(getattr(ours, field)), field
    for mixer in ("full", "window"):
        mine, yours = getattr(ours, mixer), getattr(theirs, mixer)
        assert float(mine.n_layers) == float(yours.n_layers)
        assert not mine.n_layers or (float(mine.kv_elems_per_tok), float(mine.span_tok)) == (
            float(yours.kv_elems_per_tok),
            float(yours.span_tok),
        )
    assert record["context_tok"] == 4096
    assert "note" not in record


@pytest.mark.parametrize(("name", "tied"), BOTH_WAYS)
def test_parameters_equal_those_of_transformers(name, tied):
    torch = pytest.importorskip("torch")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    transformers = pytest.importorskip("transformers")
    mapping = pytest.importorskip("transformers.models.auto.configuration_auto").CONFIG_MAPPING
    keys = exported(name, tied)
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(mapping[keys["model_type"]](**keys))
    model.tie_weights()
    assert type(model).__name__ == keys["architectures"][0]
    theirs = sum(p.numel() for p in {id(p): p for p in model.parameters()}.values())
    assert theirs == int(census(fill(CASES[name][1] | {"tied_embeddings": tied})).n_params)


@pytest.mark.parametrize("name", CASES)
def test_transformers_runs_the_model(name):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    mapping = pytest.importorskip("transformers.models.auto.configuration_auto").CONFIG_MAPPING
    keys = exported(name, context=512)
    model = transformers.AutoModelForCausalLM.from_config(mapping[keys["model_type"]](**keys)).float()
    out = model(torch.arange(24).reshape(2, 12)).logits
    assert out.shape == (2, 12, keys["vocab_size"]) and bool(torch.isfinite(out).all())


FOREIGN = {
    "n_linear_layers": DENSE | dict(linear_attention="gated_deltanet", n_linear_layers=3),
    "norms_per_layer": DENSE | dict(norms_per_layer=4),
    "qk_norm_full": DENSE | dict(qk_norm=1, qk_norm_full=1),
    "output_gate": DENSE | dict(output_gate=1),
    "learned_positions": DENSE | dict(learned_positions=64),
    "ffn_gated": DENSE | dict(ffn_gated=0),
    "d_head_v": DENSE | dict(d_head=16, d_head_v=8),
    "d_head)": DENSE | dict(d_head=15),
    "window_tok": DEEP | WINDOW,
    "n_mtp_layers": DENSE | dict(n_mtp_layers=1),
    "shared_gate": DEEP | dict(shared_gate=1),
    "d_shared": DEEP | dict(d_shared=36),
    "moe_every": DEEP | dict(moe_every=2),
    "d_expert_latent": MOE | dict(d_expert_latent=32),
    "d_router": MOE | dict(d_router=16),
    "index_topk_tok": DENSE | dict(index_heads=2, index_dim=8, index_topk_tok=64),
    "output_bias": DENSE | dict(output_bias=1),
    "n_window_kv_heads": DENSE | WINDOW | dict(global_every=2, n_window_kv_heads=1),
    "index_topk_tok)": DSA | dict(q_lora_rank=0),
    "gpt_oss, always has a bias of the router": OSS | dict(router_bias=0),
}


@pytest.mark.parametrize("key", FOREIGN)
def test_what_no_family_has_is_named(key):
    with pytest.raises(UserError) as caught:
        config(shape_of(FOREIGN[key]), 4096)
    text = str(caught.value)
    assert "no Hugging Face family is exactly this design" in text and "training-plan" in text
    assert key in text


def test_families_name_known_features():
    for family in FAMILIES:
        assert family.always | family.maybe <= set(FEATURES)
        assert {kind for kind, _ in CASES.values()} >= {family.model_type}


def test_windows_lie_between_the_full_layers():
    types = exported("ministral")["layer_types"]
    assert [i for i, kind in enumerate(types) if kind == "full_attention"] == [2, 5]


def test_rotary_base_follows_the_context():
    assert exported("llama", context=4096)["rope_theta"] < exported("llama", context=131072)["rope_theta"]


def test_plain_attention_has_no_features():
    assert features(shape_of(DENSE)) == set()


@pytest.mark.parametrize("kind", ["moe", "dense", "latent"])
def test_a_study_of_the_exported_model_finds_the_same_numbers(kind, tmp_path):
    """Export, import as the base of a study with the same choices elsewhere: every column of the point is there again."""
    source, found = plans.searched(kind)
    point = found.point(points(kind, 3)[1])
    export.write(export.export("hf", source, found, int(point["id"])), tmp_path / "model")
    values = {k: plain(v) for k, v in subject(source, found, int(point["id"])).values.items()}
    free = {k: [values[k]] for k in ("precision.weight_bits", *(v for v in found.variables if v.startswith("hardware.")))}
    precision = {k.partition(".")[2]: v for k, v in values.items() if k.startswith("precision.") and k not in free}
    changes = plans.KINDS[kind] | {"base": {"model": str(tmp_path / "model"), "precision": precision}, "space": free}
    again = run(studies.study(tmp_path, changes), tmp_path / "run").front
    degrees = (".n_tp", ".n_dp", ".n_pp", ".n_ep", ".batch", ".n_devices", ".zero", ".recompute")
    layouts = [c for c in found.front.columns if c.endswith(degrees)]
    [same] = again[(again[layouts] == [point[c] for c in layouts]).all(axis=1)].to_dict("records")
    both = [c for c in again.columns if c in found.front.columns and c not in ("id", "design_id", "point")]
    columns = [c for c in both if again[c].dtype.kind == "f"]
    assert len(columns) > 50
    for column in columns:
        assert same[column] == pytest.approx(point[column], rel=1e-9, nan_ok=True), column
