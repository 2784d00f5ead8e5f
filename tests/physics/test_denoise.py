"""Diffusion transformers: by hand, against prefill, and what parallel ranks do."""

import numpy as np
import pytest
from physics_cases import layout_of, scene_of

from codesign.physics.phases import denoise, prefill
from codesign.point import evaluate_point
from codesign.spec.errors import UserError

WAN = {"model": "llama-2-13b", "architecture": {"ffn_gated": 0, "vocab": 64}, "system": "h100_sxm_node", "phase": "denoise"}


def clip_of(n_tok=4096.0, text=0.0, **more):
    return denoise.Clip(np.float64(n_tok), np.float64(text), **{k: np.float64(v) for k, v in more.items()})


def test_one_pass_by_hand():
    """Every operator of one layer in plain arithmetic, ideal engine, one device: llama-2-7b with cross-attention to 512 tokens."""
    layers, d, h, ff, tok, text = 32, 4096, 32 * 128, 11008, 8192, 512
    scene, peak, hbm = scene_of(model="llama-2-7b"), 989e12, 3.35e12
    seconds = 0.0
    for flop, n_bytes in (
        (2 * tok * 4 * d * h, 4 * d * h * 2 + tok * 2 * (2 * d + 4 * d)),
        (4 * tok * tok * h, 4 * tok * h * 2),
        (4 * d * h * (tok + text), 4 * d * h * 2 + tok * 2 * (2 * d + 2 * d)),
        (4 * tok * text * h, 2 * tok * h * 2),
        (2 * tok * 3 * d * ff, 3 * d * ff * 2 + tok * 2 * (2 * d + 3 * ff)),
    ):
        seconds += layers * max(flop / peak, n_bytes / hbm)
    assert float(denoise.step(scene, layout_of(), clip_of(tok, text)).time_s) == pytest.approx(seconds, rel=2e-3)


def test_every_pair_counts_where_a_language_model_counts_half():
    scene, tok = scene_of(model="llama-2-7b"), 20000.0
    both, causal = denoise.flop(scene, clip_of(tok)), prefill.flop(scene, prefill.Prompt(np.float64(tok)))
    assert float(both[1] / causal[1]) == pytest.approx(2.0, rel=1e-4)
    assert float(both[0]) == pytest.approx(float(causal[0]) - 2 * 4096 * 32000, rel=1e-9)  # no LM head


def test_more_tokens_and_more_text_never_cost_less():
    scene = scene_of(model="llama-2-7b", engine="generic")
    steps = [float(denoise.step(scene, layout_of(), clip_of(n)).time_s) for n in (1000, 4000, 16000, 64000)]
    assert np.all(np.diff(steps) > 0) and steps[-1] / steps[-2] > 4  # quadratic once attention rules
    assert float(denoise.step(scene, layout_of(), clip_of(4000, 512)).time_s) > steps[1]


@pytest.mark.parametrize("degree", ["n_cp", "n_tp"])
def test_ranks_share_the_tokens_or_the_heads(degree):
    one, eight = (evaluate_point(WAN | {degree: n})["denoise"] for n in (1, 8))
    assert 4 < one["clip_s"] / eight["clip_s"] < 8
    assert eight["flop_attention"] == one["flop_attention"]


def test_guidance_doubles_and_two_ranks_share_it():
    plain, guided, shared = (evaluate_point(WAN | c)["denoise"] for c in ({"guidance": 1}, {}, {"n_dp": 2}))
    assert guided["clip_s"] == pytest.approx(2 * plain["clip_s"]) and shared["clip_s"] == pytest.approx(plain["clip_s"])
    assert shared["clips_per_s"] == pytest.approx(2 * guided["clips_per_s"])


def test_video_is_bound_by_arithmetic():
    answer = evaluate_point(WAN | {"n_cp": 8})["denoise"]
    assert answer["bound"] == "compute" and answer["fits"]


def test_only_dense_models_denoise():
    with pytest.raises(UserError, match="dense models with full attention"):
        evaluate_point({"model": "deepseek-v3", "system": "h200_sxm_node", "phase": "denoise", "n_dp": 8})
