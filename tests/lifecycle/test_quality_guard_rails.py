"""Guard rails against the optimizer: what no search may exploit, as properties over all designs."""

import ast
import inspect
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import codesign.lifecycle
from codesign.lifecycle import quality, quality_factors
from codesign.lifecycle.quality import LAWS, WEIGHT_FORMATS

TIGHT = 1 + 1e-9
examples = settings(max_examples=60, deadline=None)

n_actives = st.floats(8, 12).map(lambda x: 10**x)
ratios = st.floats(1, 64)
granularities = st.floats(1, 32)
over_training = st.floats(1.3, 4.3).map(lambda x: 10**x)  # tokens per active parameter, 20-20,000
more = st.floats(1.0, 8.0)
formats = st.sampled_from(sorted(WEIGHT_FORMATS))
laws = st.sampled_from(list(LAWS.values()))
bits = st.sampled_from([3, 4, 5, 6, 8, 16])
unique = st.sampled_from([np.inf, 1e12, 3e13])


def assess(n_active, ratio, tok, fmt="bf16", **design):
    form = WEIGHT_FORMATS[fmt]
    bits_of = dict(weight_bits=form.weight_bits, act_bits=form.act_bits, fmt_act_bits=form.act_bits)
    return quality.assess(n_active, n_active * ratio, tok, **{"c_fmt": form.c_fmt, **bits_of, **design})


AXES = ("c_eq_flop", "q_loss", "q_mixed", "q_reason", "q_know_bits")
# axes at equal tokens may fall when a quantised model is trained longer; these must not
QUANTISED_AXES = ("c_eq_flop", "q_know_bits")


def never_lower(better, worse, axes=AXES):
    for axis in axes:
        assert np.all(better[axis] >= worse[axis] / TIGHT - 1e-12), axis


@examples
@given(n_actives, ratios, granularities, over_training, more, formats, laws, unique)
def test_quality_rises_with_active_parameters(n, r, g, over, k, fmt, law, wall):
    tok, n_total = n * over, n * r * k
    kw = dict(fmt=fmt, granularity=g, law=law, unique_tok=wall)
    axes = AXES if fmt == "bf16" else QUANTISED_AXES
    never_lower(assess(n * k, r, tok, **kw), assess(n, r, tok, **kw), axes)
    same_total = assess(n * k, n_total / (n * k), tok, **kw)
    never_lower(same_total, assess(n, n_total / n, tok, **kw), QUANTISED_AXES)


@examples
@given(n_actives, ratios, granularities, over_training, more, formats, laws)
def test_quality_rises_with_total_parameters(n, r, g, over, k, fmt, law):
    kw = dict(fmt=fmt, granularity=g, law=law)
    never_lower(assess(n, min(r * k, 64.0), n * over, **kw), assess(n, r, n * over, **kw), QUANTISED_AXES)
    never_lower(assess(n, min(r * k, 64.0), n * over, granularity=g), assess(n, r, n * over, granularity=g))


@examples
@given(n_actives, ratios, over_training, more, formats, laws, unique)
def test_c_eq_rises_with_tokens(n, r, over, k, fmt, law, wall):
    kw = dict(fmt=fmt, law=law, unique_tok=wall)
    fewer, longer = assess(n, r, n * over, **kw), assess(n, r, n * over * k, **kw)
    never_lower(longer, fewer, ("c_eq_flop", "d_eff", "q_know_bits"))
    if k > 1.001 and fmt in ("bf16", "fp8") and wall == np.inf:
        assert longer["c_eq_flop"] > fewer["c_eq_flop"]


@examples
@given(n_actives, over_training, bits, bits, formats, laws)
def test_quality_rises_with_bits(n, over, one, other, fmt, law):
    low, high = sorted((one, other))
    c_fmt = WEIGHT_FORMATS[fmt].c_fmt
    for name in ("weight_bits", "act_bits", "kv_bits", "train_bits"):
        base = dict(law=law, c_fmt=c_fmt, weight_bits=16, act_bits=16)
        worse = quality.assess(n, n, n * over, **{**base, name: low})
        never_lower(quality.assess(n, n, n * over, **{**base, name: high}), worse, QUANTISED_AXES)


@examples
@given(n_actives, granularities, ratios)
def test_multiplier_is_one_for_dense_and_never_above_the_ratio(n, g, r):
    assert quality.moe_multiplier(n, n, g) == 1.0
    assert 1.0 <= quality.moe_multiplier(n, n * r, g) <= r * TIGHT


@examples
@given(granularities)
def test_multiplier_is_concave_and_rising_below_64(g):
    x = np.linspace(0, np.log(64), 50)
    ln_m = np.log(quality.moe_multiplier(1e9, 1e9 * np.exp(x), g))
    assert np.all(np.diff(ln_m) > 0)
    assert np.all(np.diff(ln_m, 2) < 1e-12)
    assert quality.moe_multiplier(1e9, 900e9, g) == quality.moe_multiplier(1e9, 64e9, g)


@examples
@given(n_actives, st.floats(1.1, 64), granularities, over_training, formats, laws)
def test_at_equal_total_a_dense_model_beats_the_mixture(n, r, g, over, fmt, law):
    tok = n * over
    dense = assess(n * r, 1.0, tok, fmt=fmt, law=law)
    mixture = assess(n, r, tok, fmt=fmt, law=law, granularity=g)
    never_lower(dense, mixture)
    assert dense["c_eq_flop"] > mixture["c_eq_flop"]
    assert dense["q_reason"] > mixture["q_reason"]


@examples
@given(n_actives, ratios, more, formats)
def test_more_experts_never_lower_knowledge(n, r, k, fmt):
    form = WEIGHT_FORMATS[fmt]
    bits_of = [quality.q_know_bits(n * x, form.weight_bits, form.c_fmt) for x in (r, r * k)]
    assert bits_of[1] >= bits_of[0]


@examples
@given(over_training, more, st.floats(0.01, 5))
def test_quantisation_hurts_more_when_over_trained(over, k, c):
    assert quality.quant_factor(over * k, c) <= quality.quant_factor(over, c) <= 1.0


@examples
@given(n_actives, st.floats(1.0, 63.0), st.floats(1.01, 8.0), granularities)
def test_reasoning_gains_less_from_sparsity_than_knowledge(n, r, k, g):
    few, many = (assess(n, x, 100 * n, granularity=g) for x in (r, min(r * k, 64.0)))
    knowledge = np.log(many["q_know_bits"] / few["q_know_bits"])
    assert many["q_reason"] - few["q_reason"] < knowledge


@examples
@given(n_actives, over_training, st.floats(0, 1), st.floats(0, 1), st.floats(4, 300))
def test_no_quality_for_free_from_cheaper_attention(n, over, windowed, linear, aspect):
    plain = assess(n, 1.0, n * over)
    window = assess(n, 1.0, n * over, window_fraction=windowed, window_tok=512)
    mixed = assess(n, 1.0, n * over, linear_fraction=linear, linear_attention="mamba2", aspect_ratio=aspect)
    for cheaper in (window, mixed):
        assert cheaper["c_eq_flop"] <= plain["c_eq_flop"] * TIGHT
        assert np.isfinite(cheaper["c_eq_flop"])


@examples
@given(st.integers(1, 64), st.integers(1, 64), st.integers(1, 64))
def test_attention_factor_rises_with_kv_heads_and_latent(a, b, heads):
    low, high = sorted((a, b))
    factor = quality.attention_factor
    assert factor("gqa", heads, low) <= factor("gqa", heads, high)
    assert factor("mla", heads, heads, 16 * low) <= factor("mla", heads, heads, 16 * high) <= 1.10


@examples
@given(n_actives, over_training, formats, laws, unique)
def test_tokens_for_quality_round_trip(n, over, fmt, law, wall):
    form = WEIGHT_FORMATS[fmt]
    kw = dict(weight_bits=form.weight_bits, c_fmt=form.c_fmt, law=law, unique_tok=wall)
    c_quant = quality.quant_coefficient(form.weight_bits, form.c_fmt)
    out = quality.assess(n, n, n * over, **kw)
    target = out["c_eq_flop"] * (1 - 1e-9)  # the data wall and the best quantised model are reached exactly
    tok = quality.tokens_for_quality(n, target, law, wall, n_active=n, c_quant=c_quant)
    reached = quality.assess(n, n, tok, **kw)
    assert tok <= n * over * TIGHT
    assert np.isclose(reached["c_eq_flop"], out["c_eq_flop"], rtol=1e-6)


@examples
@given(n_actives, laws)
def test_unreachable_quality_needs_infinite_tokens(n, law):
    floor = law.E + law.A * n**-law.alpha
    best, _ = quality.equivalent_compute(floor, law)
    assert quality.tokens_for_quality(n, best * 1.01, law) == np.inf
    assert quality.tokens_for_quality(n, best * 0.5, law, unique_tok=1e6) == np.inf


readout_names = st.sampled_from(sorted(quality.BENCHMARK_SLOPES))


@examples
@given(st.floats(8.7, 12).map(lambda x: 10**x), st.floats(1.01, 8.0), readout_names)
def test_a_benchmark_gains_less_from_the_same_step_of_a_larger_model(n, k, name):
    """A constant slope fools the search: it pays as much for the last doubling as for the first."""
    low, middle, high = quality.benchmark_readout(np.log([n, n * k, n * k * k]), name)
    assert low <= middle <= high and high - middle <= middle - low + 1e-12
    constant = quality.BENCHMARK_SLOPES[name][0] * 2 * np.log(k)  # the slope at a billion, kept
    assert high - low <= constant * TIGHT or n < 1e9


@examples
@given(n_actives, ratios, more, readout_names)
def test_readouts_rise_with_their_axis_and_read_sparsity_as_it_does(n, r, k, name):
    axis = quality.READ_OFF[name]
    base, wider, sparser = (
        assess(a, b, 1e12)[axis]
        for a, b in (
            (
                n,
                r,
            ),
            (n * k, r),
            (n, min(r * k, 64.0)),
        )
    )
    values = [float(quality.readout(name, v)) for v in (base, wider, sparser)]
    assert values[1] >= values[0] - 1e-12 and values[2] >= values[0] - 1e-12


def test_quality_cannot_see_layout_batch_or_rack():
    for function in (quality.assess, quality.effective_params, quality_factors.factor_table):
        names = " ".join(inspect.signature(function).parameters)
        forbidden = ("n_tp", "n_ep", "n_pp", "n_dp", "batch", "rack", "scale_up", "usd")
        assert not any(word in names for word in forbidden)


ROOM = Path(codesign.lifecycle.__path__[0])


@pytest.mark.parametrize("path", sorted(ROOM.glob("*.py")), ids=lambda p: p.name)
def test_room_imports_only_numpy_and_itself(path):
    allowed = ("numpy", "dataclasses", "typing", "codesign.lifecycle")
    for node in ast.walk(ast.parse(path.read_text())):
        modules = [node.module] if isinstance(node, ast.ImportFrom) else []
        modules += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        assert all(module.startswith(allowed) for module in modules), modules
