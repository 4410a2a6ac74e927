"""T1–T9: closed forms against automatic differentiation, over all linear softmax models and drawn pairs.

Tolerances are round-off (`World.roundoff`) relative to the size of the terms summed, unless a test says otherwise.
"""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from oracles import assert_close, gram_sizes, single, slope_sizes, token_sizes
from strategies import (
    MODELS,
    ORTHOGONAL,
    SHAPES,
    TABULAR,
    World,
    as_numpy,
    distributions,
    one_token_pair,
    seeds,
    temperatures,
    weights,
    world,
    worlds,
)

from toymodel import PreferencePairs, gradients, theory
from toymodel.data.families import bag_pairs, contrast_pairs, overlap, positional_pairs
from toymodel.models import linear
from toymodel.models.logps import pair_logps

residuals = jax.jit(theory.residuals)


def measured_gram(w):
    return single(gradients.pair_gram(w.model, w.params, w.pairs))


# --- T1, T2: residuals and token Grams ------------------------------------------------------------------------------


@given(worlds())
def test_t1_token_gradient_is_residual_times_features(w):
    response = w.pairs[0].chosen_response
    measured = np.asarray(gradients.token_gradients(w.model, w.params, response)).reshape(-1, *w.params.shape)
    states = w.states[0]
    s = np.asarray(residuals(states.logits, states.tokens))
    predicted = np.where(states.mask[:, None, None], s[:, :, None] * states.features[:, None, :], 0)
    assert_close(measured, predicted, token_sizes(w)[0][:, None, None], w.roundoff)


@given(worlds())
def test_t1_response_gradient_is_the_sum_over_tokens(w):
    pair = w.pairs[0]
    for response, gradient in zip(
        (pair.chosen_response, pair.rejected_response),
        gradients.pair_gradients(w.model, w.params, w.pairs),
        strict=True,
    ):
        tokens = np.asarray(gradients.token_gradients(w.model, w.params, response))
        assert_close(np.asarray(gradient)[0], tokens.sum(axis=0), np.linalg.norm(tokens, axis=1).sum(), w.roundoff)


@given(worlds())
def test_t2_token_gram(w):
    measured = gradients.token_gram(w.model, w.params, w.pairs[0])
    chosen, rejected = token_sizes(w)
    assert_close(theory.token_gram(w.model, w.params, w.pairs[0]), measured, np.outer(chosen, rejected), w.roundoff)


@given(worlds())
def test_t2_pair_gram_sums_the_token_gram(w):
    predicted = single(theory.pair_gram(w.model, w.params, w.pairs))
    assert_close(predicted, measured_gram(w), gram_sizes(w), w.roundoff)
    assert_close(np.sum(theory.token_gram(w.model, w.params, w.pairs[0])), predicted[2], gram_sizes(w)[2], w.roundoff)


@given(worlds())
def test_swapping_chosen_and_rejected_swaps_the_gram(w):
    swapped = single(theory.pair_gram(w.model, w.params, w.pairs.swapped()))
    # A prefix model keeps the features of a context's first occurrence, and they are the same for both orders.
    assert_close(swapped, measured_gram(w)[[1, 0, 2]], gram_sizes(w)[[1, 0, 2]], w.roundoff)


# --- T3: the overlap law --------------------------------------------------------------------------------------------


@given(worlds(TABULAR))
def test_t3_inner_product_counts_shared_tokens_over_shared_contexts(w):
    predicted = theory.tabular_inner(w.model, w.params, w.pairs)[0]
    chosen, rejected = w.states
    shared = (chosen.contexts[:, None] == rejected.contexts) & chosen.mask[:, None] & rejected.mask
    assert_close(predicted, measured_gram(w)[2], 4 * shared.sum(), w.roundoff)  # each summand: four terms of at most 1


@given(worlds(("random_features", "positional_offset")))
def test_t3_refuses_models_that_are_not_tabular(w):
    with pytest.raises(ValueError, match="tabular"):
        theory.tabular_inner(w.model, w.params, w.pairs)


@partial(jax.jit, static_argnums=(0, 1))
def matching_pairs(V, L, key, matches):
    return positional_pairs(key, 1, vocab_size=V, length=L, matches=matches, prompt_length=2)


@given(seeds, st.sampled_from([2, 3, 64]), st.integers(0, 8))
def test_t3_uniform_positional_law(seed, V, matches):
    L = 8
    pairs = as_numpy(matching_pairs(V, L, jax.random.key(seed), matches))
    w = world("positional", pairs, V, temperature=float("inf"))
    gram = gradients.pair_gram(w.model, w.params, w.pairs)
    assert_close(single(gram)[2], theory.uniform_positional_inner(matches, L, V), 4 * L, w.roundoff)
    cosine = theory.uniform_positional_cosine(matches, L, V)
    # The cosine divides by L(1 − 1/V) ≥ L/2, the sum of 2L or fewer squared residuals.
    assert_close(theory.cosine(gram)[0], cosine, 8, w.roundoff)
    if V == 2:
        assert_close(cosine, 2 * matches / L - 1, 1, w.roundoff)  # from −1 (nothing shared) to 1 (all shared)


@given(worlds(("unigram",), temperature=st.just(float("inf"))))
def test_t3_uniform_unigram_law(w):
    V = w.model.vocab_size
    pair = w.pairs[0]
    counts = [
        np.bincount(np.asarray(tokens)[np.asarray(mask)], minlength=V).astype(float)
        for tokens, mask in ((pair.chosen, pair.chosen_mask), (pair.rejected, pair.rejected_mask))
    ]
    assert_close(theory.uniform_unigram_inner(*counts), measured_gram(w)[2], gram_sizes(w)[2], w.roundoff)


@partial(jax.jit, static_argnums=0)
def same_bag(L, key):
    return bag_pairs(key, 1, vocab_size=7, length=L, shared=L)


@given(seeds, st.sampled_from([2, 6]))
def test_a_bag_of_the_same_tokens_has_the_same_unigram_gradient(seed, L):
    pairs = as_numpy(same_bag(L, jax.random.key(seed)))
    w = world("unigram", pairs, 7, seed=seed)
    chosen, rejected = gradients.pair_gradients(w.model, w.params, pairs)
    assert_close(chosen, rejected, sum(token_sizes(w)[0]), w.roundoff)


def replaced(pairs, place, token):
    rejected = np.array(pairs.rejected)
    rejected[0, place] = token
    return replace(pairs, rejected=rejected)


@given(worlds(("positional",), equal_lengths=True), st.data())
def test_t3_increment_is_exact_and_positive_at_a_shared_context(w, data):
    length = int(w.pairs.chosen_mask.sum())
    place = data.draw(st.integers(0, length - 1))
    chosen = int(w.pairs.chosen[0, place])
    old = (chosen + data.draw(st.integers(1, w.model.vocab_size - 1))) % w.model.vocab_size
    before, after = (measured_gram(w._replace(pairs=replaced(w.pairs, place, t)))[2] for t in (old, chosen))
    p = jax.nn.softmax(w.states[0].logits[place])
    increment = theory.replacement_increment(p[chosen], p[old])
    assert increment > 0
    assert_close(after - before, increment, 8 * length, w.roundoff)


def test_t3_increment_needs_a_context_that_occurs_once():
    """Unigram, uniform: chosen = (0, 1, 1), and the first rejected token goes from 1 to 0. The inner product falls."""
    pairs = PreferencePairs.from_lists([[]], [[0, 1, 1]], [[1, 2, 2]], vocab_size=3)
    w = world("unigram", pairs, 3, temperature=float("inf"))
    before, after = measured_gram(w)[2], measured_gram(w._replace(pairs=replaced(pairs, 0, 0)))[2]
    assert_close(after - before, -1.0, 12, w.roundoff)
    assert theory.replacement_increment(1 / 3, 1 / 3) == 1.0


# --- T4: one differing token ----------------------------------------------------------------------------------------


@st.composite
def single_token_worlds(draw):
    kind = draw(st.sampled_from(MODELS))
    V, T = draw(st.sampled_from(SHAPES[kind]))
    chosen = draw(st.integers(0, V - 1))
    pairs = one_token_pair(V, chosen, (chosen + draw(st.integers(1, V - 1))) % V, length=T, prompt=[0, 0])
    w = world(kind, pairs, V, seed=draw(seeds), temperature=draw(temperatures))
    length = draw(st.sampled_from([0.2, 1.0, 5.0]))  # ‖φ‖, with the same logits
    features, params = (np.asarray(array) for array in (w.model.features, w.params))
    return w._replace(model=replace(w.model, features=length * features), params=params / length), length**2


@given(single_token_worlds())
def test_t4_gram_slopes_and_strictness(case):
    w, sq = case
    p = np.asarray(jax.nn.softmax(w.states[0].logits[0]))
    chosen, rejected = int(w.pairs.chosen[0, 0]), int(w.pairs.rejected[0, 0])
    assert_close(
        single(theory_gram := theory.single_token_gram(p[None], chosen, rejected, sq)),
        measured_gram(w),
        4 * sq,
        w.roundoff,
    )
    measured = single(gradients.slopes(w.model, w.params, w.pairs))
    assert_close(theory.single_token_slopes(p[chosen], p[rejected], sq), measured, 4 * sq, w.roundoff)
    # Strict, however sure the model is: DPO always separates one differing token.
    assert measured[0] > 0 > measured[1]
    assert_close(theory.margin_slope(theory_gram)[0], 2 * sq, 8 * sq, w.roundoff)
    assert_close(theory.contrast_token_entry(p, chosen, rejected, sq), measured_gram(w)[2], 4 * sq, w.roundoff)


@given(single_token_worlds())
def test_t4_cosine_is_minus_one_for_two_tokens_and_negative_when_the_pair_outweighs_the_rest(case):
    w, sq = case
    gram = gradients.pair_gram(w.model, w.params, w.pairs)
    p = np.asarray(jax.nn.softmax(w.states[0].logits[0]))
    pair_mass = float(p[w.pairs.chosen[0, 0]] + p[w.pairs.rejected[0, 0]])
    if w.model.vocab_size == 2:
        assert_close(theory.cosine(gram)[0], -1, 1, w.roundoff)  # accurate even where p = 1 − 1e-12
    if abs(pair_mass - float(p @ p)) > w.roundoff:
        assert (gram.inner[0] < 0) == (pair_mass > p @ p)
    if pair_mass >= p.max():
        assert gram.inner[0] <= 4 * sq * w.roundoff


@given(single_token_worlds())
def test_t4_uniform_cosine(case):
    w, _ = case
    frozen = None if w.model.frozen_logits is None else np.zeros(w.model.frozen_logits.shape)
    w = w._replace(params=np.zeros(w.params.shape), model=replace(w.model, frozen_logits=frozen))
    V = w.model.vocab_size
    assert_close(theory.cosine(gradients.pair_gram(w.model, w.params, w.pairs))[0], -1 / (V - 1), 8, w.roundoff)


def test_t4_needs_shared_features():
    """With different features after a different prompt token the pair is not T4's, and its inner product vanishes."""
    pairs = PreferencePairs.from_lists([[0], [1]], [[0], [0]], [[1], [1]], vocab_size=3)
    w = world("bigram", pairs, 3)
    gram = gradients.pair_gram(w.model, w.params, pairs)
    across = gradients.pair_gradients(w.model, w.params, pairs)
    assert gram.inner[0] != 0
    assert across[0][0] @ across[1][1] == 0


# --- T5: shared contexts cancel -------------------------------------------------------------------------------------


@given(worlds())
def test_t5_shared_positions_drop_out_of_the_difference(w):
    full = measured_gram(w)
    contrast = theory.contrast_gram(w.model, w.params, w.pairs)
    distance_sq = full[0] - 2 * full[2] + full[1]
    assert_close(theory.margin_slope(contrast)[0], distance_sq, gram_sizes(w) @ [1, 1, 2], w.roundoff)


@given(worlds(ORTHOGONAL))
def test_t5_shared_positions_change_no_slope_of_dpo(w):
    contrast = single(theory.slopes(theory.contrast_gram(w.model, w.params, w.pairs)))
    measured = single(gradients.slopes(w.model, w.params, w.pairs))
    assert_close(contrast, measured, slope_sizes(w), w.roundoff)


@given(worlds(("prefix", "positional"), equal_lengths=True))
def test_t5_prefix_and_positional_models_never_displace_under_dpo(w):
    slopes = single(gradients.slopes(w.model, w.params, w.pairs))
    assert slopes[0] >= -w.roundoff * slope_sizes(w)[0]
    assert slopes[1] <= w.roundoff * slope_sizes(w)[1]


def shared_prefix_world():
    pairs = PreferencePairs.from_lists([[0]], [[2, 2, 2, 0]], [[2, 2, 2, 1]], vocab_size=3)
    return world("prefix", pairs, 3, temperature=float("inf"))


def test_t5_shared_positions_matter_when_the_weights_differ():
    """Three shared tokens, one contrast token, uniform over three: d_w = 2 d_l lifts the rejected because of them."""
    w = shared_prefix_world()
    contrast = single(theory.slopes(theory.contrast_gram(w.model, w.params, w.pairs), 2.0, 1.0))
    measured = single(gradients.slopes(w.model, w.params, w.pairs, 2.0, 1.0))
    assert contrast[1] < 0 < measured[1]
    assert_close(measured[1] - contrast[1], 3 * 2 / 3, 16, w.roundoff)  # each shared token adds ‖e_j − p‖² = 2/3


def test_t5_needs_contexts_that_meet_no_other():
    """Unigram, uniform: shared tokens equal to the rejected contrast token lower the chosen response under DPO.

    Slope of the chosen: 1 − p_w + p_l for the contrast, and 1[y = w] − 1[y = l] − p_w + p_l = −1 for each of them.
    """
    pairs = PreferencePairs.from_lists([[]], [[0, 1, 1]], [[1, 1, 1]], vocab_size=3)
    w = world("unigram", pairs, 3, temperature=float("inf"))
    contrast = single(theory.slopes(theory.contrast_gram(w.model, w.params, pairs)))
    measured = single(gradients.slopes(w.model, w.params, pairs))
    assert_close(contrast[0], 1.0, 9, w.roundoff)
    assert_close(measured[0], -1.0, 9, w.roundoff)


# --- T6, T7, T8: suffixes -------------------------------------------------------------------------------------------


def suffix_world(V, contrast, p, q, suffix):
    """Contrast tokens 0 and 1 with the given probabilities, then one `suffix` token with p and q; orthonormal φ."""
    pairs = as_numpy(PreferencePairs.from_lists([[]], [[0, suffix]], [[1, suffix]], vocab_size=V))
    logits = [np.log(np.stack([contrast, after]))[None] for after in (p, q)]
    return World("positional_offset", offset_model(V, pairs, *logits), np.zeros((V, 2)), pairs)


offset_model = jax.jit(linear.positional_offset, static_argnums=0)


@st.composite
def suffix_worlds(draw):
    V = draw(st.sampled_from([2, 3, 64]))
    contrast, p, q = (draw(distributions(V)) for _ in range(3))
    assume(min(contrast.min(), p.min(), q.min()) > 0)  # log 0 has no place in a table of logits
    suffix = draw(st.integers(0, V - 1))
    return suffix_world(V, contrast, p, q, suffix), (contrast, p, q, suffix)


@given(suffix_worlds())
def test_t6_shared_suffix_tokens_entangle_at_least_by_the_bound(case):
    w, (_, p, q, j) = case
    entry = gradients.token_gram(w.model, w.params, w.pairs[0])[1, 1]
    bound = theory.suffix_token_bound(p[j], q[j])
    assert bound >= 0
    assert entry >= bound - w.roundoff  # 1 − p_j is a difference of numbers of size 1


@given(st.floats(0.01, 0.99), st.floats(0.01, 0.99), st.floats(1e-6, 0.01))
def test_t6_bound_is_nearly_reached(p_j, q_j, overlap):
    """The remaining mass on two different tokens, but for a fraction `overlap`: within 5 % of equality."""
    p = np.array([p_j, (1 - p_j) * (1 - overlap), (1 - p_j) * overlap])
    q = np.array([q_j, (1 - q_j) * overlap, (1 - q_j) * (1 - overlap)])
    w = suffix_world(3, p, p, q, 0)
    entry = float(gradients.token_gram(w.model, w.params, w.pairs[0])[1, 1])
    bound = float(theory.suffix_token_bound(p_j, q_j))
    # The excess is Σ_{v≠j} p_v q_v = 2 · overlap · (1 − overlap)(1 − p_j)(1 − q_j) < 0.02 of the bound.
    assert bound * (1 - w.roundoff / ((1 - p_j) * (1 - q_j))) <= entry <= 1.05 * bound


def test_t6_needs_the_same_token():
    """Different tokens at one position: the entry may be negative, as for the contrast tokens."""
    p = jnp.array([0.5, 0.3, 0.2])
    w = suffix_world(3, p, p, p, 2)
    gram = gradients.token_gram(w.model, w.params, w.pairs[0])
    assert gram[0, 0] < 0 < gram[1, 1]
    assert_close(gram[0, 0], theory.contrast_token_entry(p, 0, 1), 4, w.roundoff)


@given(suffix_worlds())
def test_t7_what_a_suffix_token_adds_to_the_slopes(case):
    w, (contrast, p, q, j) = case
    measured = single(gradients.slopes(w.model, w.params, w.pairs))
    alone = np.array(theory.single_token_slopes(contrast[0], contrast[1]))
    assert_close(measured - alone, theory.suffix_slopes(p, q, j), 8, w.roundoff)


@st.composite
def moved_masses(draw):
    """p, and q with a part of the mass of the suffix token moved to the others; and the token."""
    V = draw(st.sampled_from([2, 3, 64]))
    p, target = draw(distributions(V)), draw(distributions(V))
    j = draw(st.integers(0, V - 1))
    # No probability of 0, whose logarithm has no place in a table, and p_j as small or as close to 1 as drawn.
    p, target = (np.maximum(x, 1e-12) / np.maximum(x, 1e-12).sum() for x in (p, target * (np.arange(V) != j)))
    q = p + draw(st.floats(0.01, 0.99)) * p[j] * (target - (np.arange(V) == j))
    return V, p, q, j


def measured_suffix_slopes(V, p, q, j):
    """What one suffix token adds to both slopes, and its round-off."""
    w = suffix_world(V, np.full(V, 1 / V), p, q, j)
    alone = np.array(theory.single_token_slopes(1 / V, 1 / V))
    return single(gradients.slopes(w.model, w.params, w.pairs)) - alone, 8 * w.roundoff


@given(moved_masses())
def test_t7_mass_that_leaves_the_suffix_token_alone_lowers_both(case):
    """And where it comes to the suffix token alone, both rise."""
    V, p, q, j = case
    for first, second, sign in ((p, q, -1), (q, p, 1)):
        assert theory.suffix_direction(first, second, j) == sign
        slopes, roundoff = measured_suffix_slopes(V, first, second, j)
        assert np.all(sign * slopes >= -roundoff)
        assert np.all(sign * np.array(theory.suffix_slopes(first, second, j)) >= -roundoff)


@given(st.floats(1e-6, 0.02), st.floats(0.05, 0.95))
def test_t7_both_nearly_stay_where_the_suffix_token_is_nearly_certain(doubt, share):
    """p_j = 1 − doubt: the chosen slope is −1.5 · doubt · (p_j − q_j), within 4 % of 0, and not above it."""
    p = np.array([1 - doubt, doubt / 2, doubt / 2])
    q = p + share * p[0] * np.array([-1, 0.3, 0.7])
    slopes, roundoff = measured_suffix_slopes(3, p, q, 0)
    assert -0.04 * (p[0] - q[0]) - roundoff <= slopes[0] <= roundoff
    assert slopes[1] < 0
    assert theory.suffix_direction(p, q, 0) == -1


def test_t7_a_suffix_token_that_is_likelier_after_the_chosen_may_raise_it():
    """Mass moves between the other tokens as well, and this decides: nothing follows from q_j < p_j alone."""
    p, q = np.array([0.2, 0.79, 0.01]), np.array([0.1, 0.01, 0.89])
    slopes, roundoff = measured_suffix_slopes(3, p, q, 0)
    # .8 · −.1 + .79 · .78 − .01 · .88, and that less ‖q − p‖² = .01 + .6084 + .7744
    assert_close(slopes, [0.5274, 0.5274 - 1.3928], 1, roundoff)
    assert theory.suffix_direction(p, q, 0) == theory.suffix_direction(q, p, 0) == 0


def test_t7_equal_probabilities_have_no_direction():
    p = np.array([0.2, 0.79, 0.01])
    assert theory.suffix_direction(p, p, 0) == 0
    assert theory.suffix_direction(np.stack([p, p]), np.array([[0.1, 0.85, 0.05], [0.3, 0.7, 0.0]]), 0).tolist() == [
        -1,
        1,
    ]


def peaked(V, token, prob):
    return np.where(np.arange(V) == token, prob, (1 - prob) / (V - 1))


@given(st.sampled_from([2, 3, 64]), st.floats(0.01, 0.99), st.floats(0.01, 0.99), seeds)
@example(V=20, a=0.9, b=0.5, seed=0)
def test_t7_peaked_suffix(V, a, b, seed):
    contrast = np.asarray(jax.nn.softmax(np.random.default_rng(seed).standard_normal(V)))
    w = suffix_world(V, contrast, peaked(V, V - 1, a), peaked(V, V - 1, b), V - 1)
    measured = single(gradients.slopes(w.model, w.params, w.pairs))
    added = measured - np.array(theory.single_token_slopes(contrast[0], contrast[1]))
    predicted = theory.peaked_suffix_slopes(a, b, V)
    assert_close(added, predicted, 8, w.roundoff)
    for slope in predicted:
        assert np.sign(slope) == np.sign(b - a)  # both fall when a > b, both rise when a < b


def many_suffix_slopes(V, contrast, a, b, n, width=32):
    """Measured slopes: a contrast token, then n suffix tokens of probability a after chosen and b after rejected."""
    suffix = V - 1
    pairs = PreferencePairs.from_lists([[]], [[0] + [suffix] * n], [[1] + [suffix] * n], vocab_size=V, length=width)
    logits = [np.log([[contrast, *[peaked(V, suffix, prob)] * (width - 1)]]) for prob in (a, b)]
    return single(gradients.slopes(offset_model(V, pairs, *logits), np.zeros((V, width)), pairs))


@given(
    st.sampled_from([3, 20]),
    st.floats(0.05, 0.95),
    st.floats(0.05, 0.95),
    st.floats(-3, 3),  # the contrast tokens' log-odds
)
@example(V=20, a=0.9, b=0.5, log_odds=0.0)
@example(V=20, a=0.3, b=0.1, log_odds=0.0)
def test_t8_chosen_falls_exactly_beyond_the_threshold(V, a, b, log_odds):
    contrast = np.asarray(jax.nn.softmax(log_odds * (np.arange(V) == 0)))
    threshold = float(theory.threshold_length(contrast[0], contrast[1], a, b, V))
    below = min(int(np.floor(threshold)) if np.isfinite(threshold) else 31, 31)
    # Clear of the threshold by more than the round-off of 32 summed terms.
    if threshold - below > 1e-12:
        assert many_suffix_slopes(V, contrast, a, b, below)[0] > 0
    if below < 31 and below + 1 - threshold > 1e-12:
        assert many_suffix_slopes(V, contrast, a, b, below + 1)[0] < 0
    if a <= b:
        assert threshold == np.inf


def test_t8_known_thresholds():
    assert_close(
        theory.threshold_length(0.1, 0.1, np.array([0.9, 0.3]), np.array([0.5, 0.1]), 20), [23.75, 95 / 14], 24, 1e-14
    )


@given(st.floats(0.05, 0.95), st.floats(0.05, 0.95), st.integers(1, 31))
def test_t8_both_rise_when_the_suffix_is_likelier_after_the_rejected(a, b, n):
    assume(a < b)
    contrast = np.full(20, 0.05)
    slopes = many_suffix_slopes(20, contrast, a, b, n)
    predicted = np.array(theory.single_token_slopes(0.05, 0.05)) + n * np.array(theory.peaked_suffix_slopes(a, b, 20))
    assert_close(slopes, predicted, 8 * (n + 1), 1e-13)  # 2·32 products of 20 terms: 64 · 20 · 1.1e-16
    assert slopes[0] > 0


# --- T9: slopes and true changes ------------------------------------------------------------------------------------


@given(worlds(), weights, weights)
def test_t9_slopes_are_the_derivative_along_the_step(w, d_chosen, d_rejected):
    predicted = single(theory.slopes(theory.pair_gram(w.model, w.params, w.pairs), d_chosen, d_rejected))
    measured = single(gradients.slopes(w.model, w.params, w.pairs, d_chosen, d_rejected))
    assert_close(predicted, measured, slope_sizes(w, d_chosen, d_rejected), w.roundoff)


@jax.jit
def sgd_change(model, params, pairs, eta):
    return gradients.step_change(model, params, pairs, optax.sgd(eta))


@given(worlds(), st.floats(1e-4, 1.0))
def test_t9_true_change_stays_within_the_curvature_bound(w, eta):
    slopes = single(theory.slopes(theory.pair_gram(w.model, w.params, w.pairs)))
    change = single(sgd_change(w.model, w.params, w.pairs, eta))
    chosen, rejected = gradients.pair_gradients(w.model, w.params, w.pairs)
    step = (np.asarray(chosen) - np.asarray(rejected)).reshape(w.params.shape)
    # log π is concave in θ, with curvature at most 1/2 per position: −η²Σ‖v_i‖²/4 ≤ change − η·slope ≤ 0.
    bound = np.array([(((s.features @ step.T) ** 2).sum(axis=1) * s.mask).sum() / 4 for s in w.states])
    logps = single(pair_logps(w.model, w.params, w.pairs))
    slip = w.roundoff * (eta * slope_sizes(w) + abs(logps) + 1 + eta**2 * bound)
    assert np.all(change - eta * slopes <= slip)
    assert np.all(change - eta * slopes >= -(eta**2) * bound - slip)


@given(worlds())
def test_t9_margin_never_falls_for_equal_weights(w):
    gram = theory.pair_gram(w.model, w.params, w.pairs)
    chosen, rejected = single(gradients.slopes(w.model, w.params, w.pairs, 0.3, 0.3))
    assert_close(chosen - rejected, theory.margin_slope(gram, 0.3)[0], slope_sizes(w, 0.3, 0.3).sum(), w.roundoff)
    assert chosen - rejected >= -w.roundoff * slope_sizes(w, 0.3, 0.3).sum()


def test_step_change_follows_the_optimizer():
    pairs = contrast_pairs(jax.random.key(0), 3, vocab_size=5, length=4)
    model = linear.positional(5, 4)
    params = linear.init_params(jax.random.key(1), model)
    chosen, rejected = pair_logps(model, params, pairs)
    gradient = as_numpy(gradients.pair_gradients(model, params, pairs))
    change = jax.jit(partial(gradients.step_change, optimizer=optax.sign_sgd(0.1)))(model, params, pairs)
    for index in range(3):
        # The first step of sign descent, written out.
        step = np.sign(gradient[0][index] - gradient[1][index]).reshape(params.shape)
        after = pair_logps(model, params + 0.1 * step, pairs)
        for side, before in enumerate((chosen, rejected)):
            # Round-off of the two log-probabilities, sums of 4 terms each, that are subtracted.
            assert_close(change[side][index], (after[side] - before)[index], 16 * abs(before[index]), 1e-15)
    assert overlap(pairs).matches.tolist() == [3, 3, 3]
