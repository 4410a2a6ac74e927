"""T20, T21: batches of pairs and groups of signed responses, against the derivative along their common step.

Round-off is relative to the products of the responses' Σ‖s_i‖‖φ_i‖, which bound everything summed.
"""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import event, given
from hypothesis import strategies as st
from oracles import assert_close, single, slope_sizes
from signed_groups import EPS, T, V, groups
from strategies import seeds, weights, worlds

from toymodel import PreferencePairs, gradients, theory
from toymodel.models import linear
from toymodel.models.unconstrained import init_params, unconstrained


def random_advantages(seed, n):
    """Signs and sizes over two orders of magnitude."""
    rng = np.random.default_rng(seed)
    return rng.choice([-1.0, 1.0], n) * 10.0 ** rng.uniform(-1, 1, n)


def measured_slopes(g, advantages):
    return np.asarray(gradients.group_slopes(g.model, g.params, g.responses, jnp.asarray(advantages)))


# --- T21: groups ----------------------------------------------------------------------------------------------------


@given(groups(), seeds)
def test_t21_gram_and_slopes(g, seed):
    predicted = np.asarray(theory.group_gram(g.model, g.params, g.responses))
    measured = np.asarray(gradients.group_gram(g.model, g.params, g.responses))
    assert_close(predicted, measured, np.outer(g.sizes, g.sizes), g.roundoff)
    advantages = random_advantages(seed, g.sizes.size)
    slopes = measured_slopes(g, advantages)
    sizes = g.sizes * (g.sizes @ abs(advantages))
    assert_close(theory.group_slopes(predicted, advantages), slopes, sizes, g.roundoff)
    # Displaced: positively weighted, and falling.
    clear = abs(slopes) > g.roundoff * sizes
    displaced = np.asarray(theory.displaced(predicted, advantages))
    assert np.all((displaced == (slopes < 0) & (advantages > 0))[clear])
    event(f"some response displaced: {bool(displaced.any())}")


@given(groups(), seeds)
def test_t21_weighted_slopes_never_fall(g, seed):
    advantages = random_advantages(seed, g.sizes.size)
    assert advantages @ measured_slopes(g, advantages) >= -g.roundoff * (g.sizes @ abs(advantages)) ** 2


@given(groups(("unigram",), (16,)), seeds, st.floats(1e-4, 0.1))
def test_t21_weighted_slopes_nearly_vanish_when_the_gradients_cancel(g, seed, leak):
    """Sixteen responses, five parameters: A from the null space of G, plus a little. AᵀGA ≥ 0 by a few per cent."""
    gradient = np.asarray(gradients.pair_gradients(g.model, g.params, g.pairs)).reshape(16, V)
    null = np.linalg.svd(gradient.T)[2][V:]
    rng = np.random.default_rng(seed)
    cancelling = rng.standard_normal(len(null)) @ null
    advantages = cancelling / np.linalg.norm(cancelling) + leak * rng.standard_normal(16) / 4
    sizes = (g.sizes @ abs(advantages)) ** 2
    power = advantages @ measured_slopes(g, advantages)
    assert_close(power, np.sum((leak * (advantages @ gradient) / leak) ** 2), sizes, g.roundoff)
    assert -g.roundoff * sizes <= power <= 0.05 * sizes


@given(worlds(("random_features",)), weights, weights)
def test_t21_a_pair_is_a_group_of_two(w, d_chosen, d_rejected):
    responses, advantages = theory.as_group(w.pairs, d_chosen, d_rejected)
    assert advantages.tolist() == [d_chosen, -d_rejected]
    gram, pair = theory.group_gram(w.model, w.params, responses), theory.pair_gram(w.model, w.params, w.pairs)
    sizes = slope_sizes(w, d_chosen, d_rejected)
    slopes = theory.group_slopes(gram, advantages)
    assert_close(slopes, single(theory.slopes(pair, d_chosen, d_rejected)), sizes, w.roundoff)
    assert_close(
        advantages @ slopes, d_chosen * slopes[0] - d_rejected * slopes[1], [d_chosen, d_rejected] @ sizes, EPS
    )


@given(groups(sizes=(4, 16)), st.data())
def test_t21_grpo_advantages_sum_to_zero_and_move_responses_as_predicted(g, data):
    n = g.sizes.size
    rewards = data.draw(st.lists(st.sampled_from([0.0, 0.1, 1.0]), min_size=n, max_size=n))
    advantages = np.asarray(theory.normalised_advantages(jnp.array(rewards)))
    assert_close(advantages.sum(), 0, abs(advantages).sum() + n, n * EPS)
    if len(set(rewards)) == 1:
        assert not advantages.any()
    else:
        assert_close(advantages @ advantages, n, n, 4 * n * EPS)
    slopes = theory.group_slopes(theory.group_gram(g.model, g.params, g.responses), advantages)
    assert_close(slopes, measured_slopes(g, advantages), g.sizes * (g.sizes @ abs(advantages)), g.roundoff)


def test_t21_advantages_are_normalised_group_by_group():
    rewards = jnp.array([[0.0, 1.0], [0.1, 0.1], [5.0, 1.0]])
    assert theory.normalised_advantages(rewards).tolist() == [[-1, 1], [0, 0], [1, -1]]
    for n in (3, 8, 10, 16):  # the mean of eight 0.1s is not 0.1 in float64
        assert not theory.normalised_advantages(jnp.full(n, 0.1)).any()


def test_t21_a_right_answer_is_displaced_by_a_wrong_one_that_shares_its_tokens():
    """Unigram, uniform over 3: right (0, 1, 1), wrong (2, 1, 1, 1, 1), whose four 1s pull the right one's down."""
    pairs = PreferencePairs.from_lists([[]], [[0, 1, 1]], [[2, 1, 1, 1, 1]], vocab_size=3)
    model, params = linear.unigram(3), jnp.zeros((3, 1))
    responses, advantages = theory.as_group(pairs)
    gram = theory.group_gram(model, params, responses)
    assert theory.displaced(gram, advantages).tolist() == [True, False]
    assert gradients.group_slopes(model, params, responses, advantages)[0] < 0
    assert not theory.displaced(gram, jnp.abs(advantages)).any()  # nobody pulls the other way


def test_t21_holds_beyond_linear_models():
    """G A are the slopes in any model, here with hidden states that learn; only the closed G needs a linear one."""
    pairs = PreferencePairs.from_lists([[0], [1]], [[0, 1], [1]], [[2, 1], [2]], vocab_size=3)
    model = unconstrained(linear.bigram(3))
    params = init_params(jax.random.key(0), model, dim=2)
    responses, advantages = theory.as_group(pairs, 2.0, jnp.array([1.0, 3.0]))
    gram = gradients.group_gram(model, params, responses)
    slopes = gradients.group_slopes(model, params, responses, advantages)
    assert_close(theory.group_slopes(gram, advantages), slopes, abs(gram).sum() * 3, 64 * EPS)
    assert_close(gram, gram.T, abs(gram), EPS)
    pair = gradients.pair_gram(model, params, pairs)
    assert_close(jnp.diagonal(gram), jnp.concatenate(pair[:2]), abs(gram).max(), 16 * EPS)


# --- T20: batches ---------------------------------------------------------------------------------------------------


@given(groups(), st.data())
def test_t20_a_batch_is_a_group_and_never_all_pairs_are_reversed(g, data):
    B = g.sizes.size // 2
    d_chosen, d_rejected = (
        np.array(data.draw(st.lists(weights, min_size=B, max_size=B), label=name)) for name in ("d_w", "d_l")
    )
    responses, advantages = theory.as_group(g.pairs, d_chosen, d_rejected)
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), responses, g.responses))
    slopes = measured_slopes(g, advantages)
    sizes = g.sizes * (g.sizes @ abs(np.asarray(advantages)))
    # The step is the mean of the pairs' own steps: its squared length from the measured gradients.
    chosen, rejected = gradients.pair_gradients(g.model, g.params, g.pairs)
    step = (d_chosen @ np.asarray(chosen) - d_rejected @ np.asarray(rejected)) / B
    total = d_chosen @ slopes[:B] - d_rejected @ slopes[B:]
    total_size = np.concatenate([d_chosen, d_rejected]) @ sizes
    assert_close(total, B * (step @ step), total_size, g.roundoff)
    assert total >= -g.roundoff * total_size
    reversed_ = (slopes[:B] < -g.roundoff * sizes[:B]) & (slopes[B:] > g.roundoff * sizes[B:])
    assert not reversed_.all()
    event(f"some pair reversed: {bool(reversed_.any())}")


def reversed_batch():
    """Four pairs after four prompts, for a unigram model; the last three are alike and pull against the first.

    No answer is chosen here and rejected there: the first pair prefers (0, 0) to (1, 2), the others (1, 1) to (0, 2).
    """
    return PreferencePairs.from_lists(
        [[0], [1], [2], [2]], [[0, 0], *[[1, 1]] * 3], [[1, 2], *[[0, 2]] * 3], vocab_size=3
    )


def test_t20_one_pair_of_a_batch_can_be_reversed_though_alone_it_cannot():
    pairs = reversed_batch()
    model, params = linear.unigram(3), jnp.zeros((3, 1))
    assert theory.case(theory.pair_gram(model, params, pairs)).tolist() == ["chosen_up_rejected_down"] * 4
    responses, advantages = theory.as_group(pairs)
    chosen, rejected = np.asarray(gradients.group_slopes(model, params, responses, advantages)).reshape(2, 4)
    assert chosen[0] < 0 < rejected[0]
    assert np.all(chosen[1:] > 0)
    assert np.all(rejected[1:] < 0)


@given(seeds, st.floats(-0.05, 0.05))
def test_t20_two_opposite_pairs_nearly_cancel(seed, excess):
    """The second pair is the first one swapped, with weights 1 + excess: ‖u‖² within 0.1 % of zero, and not below."""
    tokens = np.random.default_rng(seed).integers(0, V, (2, T))
    chosen, rejected = tokens[[0, 1]], tokens[[1, 0]]
    pairs = PreferencePairs.from_lists([[0], [0]], chosen.tolist(), rejected.tolist(), vocab_size=V)
    model = linear.unigram(V)
    params = linear.init_params(jax.random.key(seed), model)
    d = jnp.array([1.0, 1 + excess])
    responses, advantages = theory.as_group(pairs, d, d)
    total = 2 * advantages @ gradients.group_slopes(model, params, responses, advantages)
    own = single(gradients.slopes(model, params, pairs))
    size = 8 * T**2  # four sums of T² products of at most 2
    assert_close(total, excess**2 / 2 * (own[0] - own[1]), size, 64 * EPS)
    assert total >= -64 * EPS * size


# --- responses as input ---------------------------------------------------------------------------------------------


def test_as_group_pads_responses_of_different_width():
    pairs = reversed_batch()
    longer = replace(
        pairs, chosen=jnp.pad(pairs.chosen, ((0, 0), (0, 3))), chosen_mask=jnp.pad(pairs.chosen_mask, ((0, 0), (0, 3)))
    )
    responses, advantages = theory.as_group(longer, 1.0, jnp.array([1.0, 2.0, 3.0, 4.0]))
    assert responses.tokens.shape == responses.mask.shape == (8, 5)
    assert advantages.tolist() == [0.25] * 4 + [-0.25, -0.5, -0.75, -1]
    model, params = linear.unigram(3), jnp.zeros((3, 1))
    short = theory.group_gram(model, params, theory.as_group(pairs)[0])
    # 25 or 4 products ⟨s, s′⟩ of size 1, of three terms each.
    assert_close(theory.group_gram(model, params, responses), short, 4, 16 * EPS)


def group_of_four():
    return theory.as_group(PreferencePairs.from_lists([[0], [1]], [[0, 1], [1]], [[2, 1], [2]], vocab_size=3))[0]


MODEL, PARAMS = linear.unigram(3), jnp.zeros((3, 1))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda r: theory.group_gram(MODEL, PARAMS, replace(r, tokens=r.tokens + 2)),
            r"`tokens` must hold token ids in \[0, 3\), got 3",
        ),
        (
            lambda r: gradients.group_gram(MODEL, PARAMS, replace(r, tokens=r.tokens + 2)),
            r"`tokens` must hold token ids in \[0, 3\), got 3",
        ),
        (lambda r: theory.group_gram(MODEL, PARAMS * jnp.nan, r), "`params` must be finite"),
        (
            lambda r: theory.group_gram(MODEL, PARAMS, jax.tree.map(lambda a: a[0], r)),
            r"`responses` must have one leading axis, got tokens of shape \(2,\)",
        ),
        (
            lambda r: gradients.group_slopes(MODEL, PARAMS, r, jnp.ones(3)),
            r"`advantages` must be one number per response \(4,\), got shape \(3,\)",
        ),
        (lambda r: gradients.group_slopes(MODEL, PARAMS, r, jnp.full(4, jnp.inf)), "`advantages` must be finite"),
        (
            lambda _: theory.as_group(reversed_batch(), jnp.ones(2)),
            r"`d_chosen` must be one number or one per pair \(4\)",
        ),
        (lambda _: theory.as_group(reversed_batch(), 1.0, jnp.nan), "`d_rejected` must be finite"),
    ],
)
def test_bad_groups(call, message):
    with pytest.raises(ValueError, match=message):
        call(group_of_four())
