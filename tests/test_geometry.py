"""T27: inner products in Fisher's geometry, from the pseudo-inverse itself and through a diagonal preconditioner."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import assert_close, single
from strategies import one_token_pair, seeds

from toymodel import PreferencePairs, gradients, theory
from toymodel.models import linear

EPS = float(jnp.finfo(jnp.float64).eps)


@st.composite
def cases(draw):
    """Logits from uniform to rather sure, and two different tokens: p down to 1e-6, as pinv squares its condition."""
    V = draw(st.sampled_from([2, 5, 40]))
    logits = np.random.default_rng(draw(seeds)).standard_normal(V) * draw(st.sampled_from([0.0, 0.3, 1.0, 2.0]))
    chosen = draw(st.integers(0, V - 1))
    return logits, chosen, (chosen + draw(st.integers(1, V - 1))) % V


@jax.jit
def scores(logits):
    """∇ log p_y for each y, by automatic differentiation, and Fisher's matrix E[s sᵀ]."""
    s = jax.jacrev(jax.nn.log_softmax)(logits)
    return s, s.T @ (jax.nn.softmax(logits)[:, None] * s)


@given(cases())
def test_t27_inner_products_through_the_pseudo_inverse(case):
    logits, chosen, rejected = case
    s, fisher = map(np.asarray, scores(logits))
    p = np.asarray(jax.nn.softmax(logits))
    # F's only zero eigenvalue belongs to the constant vector; the others are at least min p.
    cut = p.min() / 2
    measured = s @ np.linalg.pinv(fisher, rcond=cut / np.linalg.norm(fisher, 2), hermitian=True) @ s.T
    roundoff = 8 * len(p) * EPS / p.min() ** 2  # of F, times its condition, in each inverse eigenvalue
    for one, other in ((chosen, rejected), (chosen, chosen), (rejected, rejected)):
        assert_close(measured[one, other], theory.fisher_inner(p, one, other), 1 / p.min(), roundoff)


@given(cases())
def test_t27_gram_and_cosine_through_a_preconditioner(case):
    logits, chosen, rejected = case
    V, p = len(logits), np.asarray(jax.nn.softmax(logits))
    pairs = one_token_pair(V, chosen, rejected)
    gram = gradients.preconditioned_pair_gram(linear.unigram(V), logits[:, None], pairs, 1 / p[:, None])
    predicted = theory.fisher_gram(p, chosen, rejected)
    sizes = 1 / p[chosen], 1 / p[rejected], np.ones(())
    assert_close(single(gram), predicted, sizes, 16 * V * EPS)
    assert_close(theory.slopes(predicted), [1 / p[chosen], -1 / p[rejected]], sizes[:2], 4 * EPS)
    cosine = theory.cosine(gram)[0]
    # 1/p − 1 loses as many digits as p is near 1.
    lost = 16 * V * EPS / (1 - p[[chosen, rejected]].max())
    assert_close(cosine, theory.fisher_cosine(p[chosen], p[rejected]), 1, lost)
    assert cosine < 0
    assert theory.cosine(gradients.pair_gram(linear.unigram(V), logits[:, None], one_token_pair(V, chosen, chosen))) > 0


@given(st.floats(1e-6, 0.05), st.floats(0.1, 0.9))
def test_t27_two_tokens_that_hold_nearly_all_mass_are_nearly_opposite(rest, share):
    """Within 5 · rest/(share(1 − share)) of −1: (1 − p_w)(1 − p_l) = p_w p_l + rest."""
    p = np.array([share * (1 - rest), (1 - share) * (1 - rest), rest])
    gram = gradients.preconditioned_pair_gram(
        linear.unigram(3), np.log(p)[:, None], one_token_pair(3, 0, 1), 1 / p[:, None]
    )
    cosine = float(theory.cosine(gram)[0])
    assert -1 - 64 * EPS <= cosine <= -1 / np.sqrt(1 + rest / (p[0] * p[1])) + 64 * EPS


def test_t27_euclids_angle_may_be_acute_where_fishers_is_obtuse():
    p = np.array([0.1, 0.1, 0.8])
    model, params, pairs = linear.unigram(3), np.log(p)[:, None], one_token_pair(3, 0, 1)
    # (‖p‖² − p_w − p_l)/(1 − 2p_w + ‖p‖²) = .46/1.46
    assert_close(theory.cosine(gradients.pair_gram(model, params, pairs)), 0.46 / 1.46, 1, 64 * EPS)
    fisher = gradients.preconditioned_pair_gram(model, params, pairs, 1 / p[:, None])
    assert_close(theory.cosine(fisher), -1 / 9, 1, 64 * EPS)
    assert_close(theory.fisher_cosine(0.1, 0.1), -1 / 9, 1, 4 * EPS)


def test_t27_needs_one_softmax():
    """A token that both have in a second context entangles them again: −1 for the contrast, 1/.1 − 1 for it."""
    p = np.array([0.1, 0.1, 0.1, 0.7])
    pairs = PreferencePairs.from_lists([[]], [[0, 2]], [[1, 2]], vocab_size=4)
    log_p = np.log(np.stack([p, p], axis=1))
    gram = gradients.preconditioned_pair_gram(linear.positional(4, 2), log_p, pairs, np.exp(-log_p))
    assert_close(gram.inner, theory.fisher_inner(p, 0, 1) + theory.fisher_inner(p, 2, 2), 20, 64 * EPS)
    assert gram.inner > 0


def test_t27_a_certain_token_has_no_angle():
    assert np.isnan(theory.fisher_cosine(1.0, 1e-20))


@pytest.mark.parametrize("p", [[0.0, 1.0], [1.5, -0.5], [np.nan, 0.5]])
def test_t27_refuses_what_is_no_probability(p):
    with pytest.raises(ValueError, match=r"`probs` must be in \(0, 1\]"):
        theory.fisher_inner(np.array(p), 0, 1)
