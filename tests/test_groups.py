"""T20, T21, T25: batches of pairs, groups of signed responses, and their tokens, against the step they take together.

Round-off is relative to the products of the responses' Σ‖s_i‖‖φ_i‖, which bound everything summed.
"""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import event, given
from hypothesis import strategies as st
from oracles import assert_close, single, slope_sizes
from signed_groups import EPS, T, V, groups
from strategies import seeds, temperatures, weights, worlds

from toymodel import PreferencePairs, Response, gradients, theory
from toymodel.models import linear
from toymodel.models.unconstrained import init_params, unconstrained


def random_advantages(seed, n):
    """Signs and sizes over two orders of magnitude."""
    rng = np.random.default_rng(seed)
    return rng.choice([-1.0, 1.0], n) * 10.0 ** rng.uniform(-1, 1, n)


as_group = jax.jit(theory.as_group)


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
    responses, advantages = jax.device_get(as_group(w.pairs, d_chosen, d_rejected))
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
    responses, advantages = jax.device_get(as_group(g.pairs, d_chosen, d_rejected))
    jax.tree.map(np.testing.assert_array_equal, responses, g.responses)
    slopes = measured_slopes(g, advantages)
    sizes = g.sizes * (g.sizes @ abs(advantages))
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


# --- T25: tokens of a group -----------------------------------------------------------------------------------------


@partial(jax.jit, static_argnums=0)
def _step_on_logits(kind, key, responses, advantages, temperature):
    """[V, T]: what the group's mean step moves at each position, and the probabilities there, [n, T, V].

    Learned positional offsets, on logits that either differ from context to context or are 0: their gradient is summed
    over responses position by position.
    """
    halves = jax.tree.map(lambda a: a.reshape(2, -1, *a.shape[1:]), responses)
    pairs = PreferencePairs(
        halves.prompt[0], halves.prompt_mask[0], halves.tokens[0], halves.mask[0], halves.tokens[1], halves.mask[1]
    )
    build, init = jax.random.split(key)
    if kind == "positional_offset":
        model = linear.random_offset(build, V, pairs, temperature=temperature)
    else:
        model = linear.positional(V, T)
    params = linear.init_params(init, model, temperature=temperature)
    gradient = jnp.concatenate(gradients.pair_gradients(model, params, pairs))
    logits = jax.vmap(model.logits, in_axes=(None, 0))(params, responses)
    return (advantages @ gradient / len(advantages)).reshape(params.shape), jax.nn.softmax(logits)


@given(groups(), seeds)
def test_t25_slopes_of_every_token(g, seed):
    advantages = random_advantages(seed, g.sizes.size)
    predicted = np.asarray(theory.group_token_slopes(g.model, g.params, g.responses, jnp.asarray(advantages)))
    measured = np.asarray(gradients.group_token_slopes(g.model, g.params, g.responses, jnp.asarray(advantages)))
    # A token's ‖s‖‖φ‖ is √2 at most.
    assert_close(predicted, measured, 2 * (g.sizes @ abs(advantages)), g.roundoff)
    assert not np.any(predicted[~g.responses.mask])
    gram = theory.group_gram(g.model, g.params, g.responses)
    sizes = g.sizes * (g.sizes @ abs(advantages))
    assert_close(predicted.sum(axis=1), theory.group_slopes(gram, advantages), sizes, g.roundoff)


def group_of_answers(seed, prefix=2, *, n=8):
    """Answers to one prompt that share `prefix` tokens, then one of their own, then the rest again; lengths differ."""
    rng = np.random.default_rng(seed)
    shared = rng.integers(0, V, T)
    tokens = np.where(np.arange(T) == prefix, np.arange(n)[:, None] % V, shared)
    mask = np.arange(T) < rng.integers(prefix + 2, T + 1, (n, 1))
    prompt = np.zeros((n, 1), int)
    return Response(prompt, prompt == 0, tokens, mask), rng


@given(st.sampled_from(["positional", "positional_offset"]), seeds, temperatures, st.booleans())
def test_t25_credit_is_what_the_step_puts_on_the_logits(kind, seed, temperature, centred):
    responses, rng = group_of_answers(seed)
    rewards = rng.standard_normal(len(responses.tokens))
    advantages = np.asarray(theory.normalised_advantages(rewards)) if centred else rewards
    step, probs = map(np.asarray, _step_on_logits(kind, jax.random.key(seed), responses, advantages, temperature))
    for t in range(T):
        # Answers that have ended get no credit, and count in n.
        credit = theory.token_credit(probs[:, t], responses.tokens[:, t], advantages * responses.mask[:, t])
        assert_close(step[:, t], credit, 2 * abs(advantages).mean(), 4 * EPS * (V + 8 + 2 * abs(np.log(probs)).max()))
        if kind == "positional":  # one context: p drops out of the covariance
            whole = theory.token_credit(probs[0, t], responses.tokens[:, t], advantages * responses.mask[:, t])
            assert_close(credit, whole, 2 * abs(advantages).mean(), 16 * EPS)


@given(seeds, st.sampled_from([3.0, 1.0]))
def test_t25_shared_tokens_get_credit_after_prefixes_that_differ_and_none_before(seed, temperature):
    responses, rng = group_of_answers(seed)
    responses = replace(responses, mask=np.ones_like(responses.mask))
    advantages = np.asarray(theory.normalised_advantages(rng.standard_normal(8)))
    step, probs = map(
        np.asarray, _step_on_logits("positional_offset", jax.random.key(seed), responses, advantages, temperature)
    )
    roundoff = 64 * EPS * abs(advantages).mean()
    assert np.all(abs(step[:, :2]) <= roundoff)  # in the prefix: one context, one token
    for t in (3, 4, 5):
        covariance = advantages @ (probs[:, t] - probs[:, t].mean(axis=0)) / 8
        assert_close(step[:, t], -covariance, 1, roundoff)
        assert abs(step[:, t]).max() > 1e-3  # eight contexts of random logits are not uncorrelated with A


@given(seeds)
def test_t25_weights_by_length_give_the_shared_prefix_credit(seed):
    responses, rng = group_of_answers(seed)
    advantages, lengths = np.asarray(theory.normalised_advantages(rng.standard_normal(8))), responses.mask.sum(axis=1)
    step, probs = map(
        np.asarray, _step_on_logits("positional_offset", jax.random.key(seed), responses, advantages / lengths, 1.0)
    )
    tilt = np.mean(advantages * (1 / lengths - np.mean(1 / lengths)))  # Cov(A, 1/|y|)
    for t in (0, 1):
        shared = np.arange(V) == responses.tokens[0, t]
        assert_close(step[:, t], tilt * (shared - probs[0, t]), 2, 64 * EPS)
    event(f"the prefix is pushed {'down' if tilt < 0 else 'up'}")


def test_t25_longer_right_answers_push_their_shared_prefix_down():
    """Right: four tokens, wrong: two, the same first one. Σ A_i/|y_i| = 1/4 − 1/2, over two answers."""
    probs, first = np.full(3, 1 / 3), np.array([0, 0])
    credit = theory.token_credit(probs, first, np.array([1.0, -1.0]) / np.array([4, 2]))
    assert_close(credit, [-1 / 12, 1 / 24, 1 / 24], 1, 4 * EPS)
    assert not np.any(theory.token_credit(probs, first, np.array([1.0, -1.0])))


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
            lambda r: theory.group_token_slopes(MODEL, PARAMS, r, jnp.ones((4, 2))),
            r"`advantages` must be one number per response \(4,\), got shape \(4, 2\)",
        ),
        (
            lambda _: theory.as_group(reversed_batch(), jnp.ones(2)),
            r"`d_chosen` must be one number or one per pair \(4\)",
        ),
        (lambda _: theory.as_group(reversed_batch(), 1.0, jnp.nan), "`d_rejected` must be finite"),
        (
            lambda _: theory.token_credit(np.ones(3) / 3, np.zeros(4, int), np.ones(3)),
            r"`advantages` must be one number per token \(4\), got shape \(3,\)",
        ),
        (
            lambda _: theory.token_credit(np.ones((3, 3)) / 3, np.zeros(4, int), np.ones(4)),
            r"`probs` must be one distribution, or one per token \(4\), got shape \(3, 3\)",
        ),
    ],
)
def test_bad_groups(call, message):
    with pytest.raises(ValueError, match=message):
        call(group_of_four())
