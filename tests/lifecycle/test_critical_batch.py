"""Large batches waste tokens: limits, inverses and the agreement of the two published laws."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from codesign.lifecycle import critical_batch as cb

examples = settings(max_examples=60, deadline=None)
tokens = st.floats(9, 14).map(lambda x: 10**x)
batches = st.floats(4, 10).map(lambda x: 10**x)
laws = st.sampled_from(list(cb.BATCH_LAWS.values()))


def test_two_independent_laws_agree_within_a_fifth():
    tok = np.logspace(9, 13.2, 20)
    bergsma, zhang = (cb.critical_batch_tok(tok, law) for law in cb.BATCH_LAWS.values())
    assert np.all(np.abs(np.log(zhang / bergsma)) < 0.2)


def test_zhang_batch_is_the_twenty_percent_point():
    zhang = cb.BATCH_LAWS["zhang"]
    batch = 22.91 * 512 * (3e9 / 1e6) ** 0.47
    assert_allclose(1 + batch / cb.critical_batch_tok(3e9, zhang), 1.2, rtol=1e-12)


def test_hyperbola_of_steps_and_tokens():
    """(S/S_min - 1)(T/T_min - 1) = 1 of arXiv 1812.06162, with w unnormalised by the reference batch."""
    tok, batch = 1e12, np.array([1e7, 1e8, 1e9])
    critical, reference = cb.critical_batch_tok(tok), cb.reference_batch_tok(tok)
    t_over_min = cb.token_waste(batch, tok) * (1 + reference / critical)
    s_over_min = cb.n_steps(batch, tok) * (critical + reference) / tok
    assert_allclose((s_over_min - 1) * (t_over_min - 1), 1.0, rtol=1e-9)


@examples
@given(batches, st.floats(1, 100), tokens, laws)
def test_waste_is_one_at_small_batch_and_rises(batch, k, tok, law):
    small = cb.token_waste(0.5 * cb.reference_batch_tok(tok), tok, law)
    assert small == 1.0
    assert 1.0 <= cb.token_waste(batch, tok, law) <= cb.token_waste(batch * k, tok, law)


@examples
@given(batches, st.floats(1, 100), tokens, laws)
def test_bigger_batches_save_steps_down_to_a_floor(batch, k, tok, law):
    floor = tok / (cb.critical_batch_tok(tok, law) + cb.reference_batch_tok(tok))
    assert cb.n_steps(batch, tok, law) * (1 + 1e-12) >= cb.n_steps(batch * k, tok, law) > floor


@examples
@given(batches, tokens, st.floats(1, 4), laws)
def test_more_processed_tokens_are_more_useful_tokens(batch, processed, k, law):
    few, many = cb.useful_tok(processed, batch, law), cb.useful_tok(processed * k, batch, law)
    assert few <= processed * (1 + 1e-12)
    assert many >= few * (1 - 1e-12)
    assert_allclose(few * cb.token_waste(batch, few, law), processed, rtol=1e-9)


@pytest.mark.parametrize("waste", [1.0, 1.05, 2.0])
def test_max_batch_inverts_the_waste(waste):
    tok = np.logspace(10, 14, 9)
    assert_allclose(cb.token_waste(cb.max_batch_tok(tok, waste), tok), waste, rtol=1e-12)
    assert_allclose(cb.max_batch_tok(tok, 1.0), cb.reference_batch_tok(tok), rtol=1e-9)
