"""Supervised fine-tuning: its weights are its derivatives, and what it learns is the annotators' shares."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.flatten_util import ravel_pytree
from neural import MODEL, mlp_world
from oracles import assert_close

from toymodel import PreferencePairs
from toymodel.losses.supervised import CrossEntropy
from toymodel.models import linear
from toymodel.models.logps import pair_logps
from toymodel.training import train

EPS = np.finfo(float).eps
PAIRS = PreferencePairs.from_lists(
    [[0], [1], [2]], [[0, 1, 2], [1, 1], [4]], [[0, 3], [2, 1, 0, 4], [3, 3]], vocab_size=5, length=4
)
START = mlp_world(PAIRS).params
RATE, STEPS = 0.1, 3
shares, inner_shares = st.floats(0, 1), st.floats(0.01, 0.99)
# Not so small that products with them underflow.
logps = st.lists(st.just(0.0) | st.floats(-1e3, -1e-6), min_size=3, max_size=3).map(np.array)


def run(loss, pairs=PAIRS, **options):
    return train(MODEL, START, pairs, loss, optax.sgd, RATE, steps=STEPS, **options)


# --- Value and weights ----------------------------------------------------------------------------------------------


@given(shares, logps, logps)
def test_weights_are_the_derivatives_of_the_value(share, chosen, rejected):
    """d_w = −∂ℓ/∂log π_w and d_l = ∂ℓ/∂log π_l; the loss is linear, so that both ways give the same number."""
    loss = CrossEntropy(share)
    others = (chosen, rejected, np.ones(3), np.ones(3))  # the reference and the lengths are nothing to it
    by_chosen, by_rejected = jax.grad(lambda *both: loss.value(*both, *others).sum(), argnums=(0, 1))(chosen, rejected)
    d_chosen, d_rejected = loss.weights(chosen, rejected, *others)
    np.testing.assert_array_equal(d_chosen, -by_chosen)
    np.testing.assert_array_equal(d_rejected, by_rejected)
    assert d_chosen.shape == d_rejected.shape == (3,)


@given(shares, logps, logps)
def test_the_value_is_what_annotators_with_these_shares_cost(share, chosen, rejected):
    """By a count of a thousand annotators of whom this many, give or take one, take the rejected answer."""
    wrong = round(1000 * share)
    each = [-rejected] * wrong + [-chosen] * (1000 - wrong)
    # One annotator more or less changes the mean by a thousandth of |log π_w − log π_l| at most, half of it rounded.
    error = abs(np.mean(each, axis=0) - CrossEntropy(share).value(chosen, rejected))
    assert (error <= 0.5e-3 * abs(chosen - rejected) + 1000 * EPS * (abs(chosen) + abs(rejected))).all()


@given(inner_shares, inner_shares)
def test_the_loss_of_two_answers_is_least_at_the_annotators_shares(share, probability):
    """Over π_w = p and π_l = 1 − p the loss is KL above its least, at q = 1 − s: 2(p − q)² ≤ KL ≤ (p − q)²/(p(1 − p)).

    The first is Pinsker's inequality, the second says that KL is below χ².
    """
    loss, best = CrossEntropy(share), 1 - share

    def cost(p):
        return loss.value(np.log(p), np.log1p(-p))

    above, squared = cost(probability) - cost(best), (probability - best) ** 2
    roundoff = 10 * EPS * (cost(probability) + cost(best))
    assert 2 * squared - roundoff <= above <= squared / (probability * (1 - probability)) + roundoff


@given(shares, logps, logps)
def test_swapped_answers_have_swapped_shares(share, chosen, rejected):
    swapped = CrossEntropy(1 - share).value(rejected, chosen)
    assert_close(CrossEntropy(share).value(chosen, rejected), swapped, abs(chosen) + abs(rejected), 4 * EPS)


# --- In training ----------------------------------------------------------------------------------------------------


def test_without_noise_training_is_gradient_ascent_on_the_chosen_answers():
    @jax.jit
    def ascend(params):
        up = jax.grad(lambda params: pair_logps(MODEL, params, PAIRS)[0].mean())(params)
        return jax.tree.map(lambda p, g: p + RATE * g, params, up)

    params = START
    for _ in range(STEPS):
        params = ascend(params)
    learnt = run(CrossEntropy()).params
    # Sums of a hundred terms of size one at each of three steps, in another order.
    np.testing.assert_allclose(ravel_pytree(learnt)[0], ravel_pytree(params)[0], rtol=0, atol=1e-13)
    others = PreferencePairs(
        PAIRS.prompt, PAIRS.prompt_mask, PAIRS.chosen, PAIRS.chosen_mask, PAIRS.chosen[::-1], PAIRS.chosen_mask[::-1]
    )
    # The same program, where the rejected answers meet a factor of 0.
    jax.tree.map(np.testing.assert_array_equal, run(CrossEntropy(), others).params, learnt)


def test_what_training_records_is_what_it_does():
    """⟨g, Δθ⟩ from the value's gradient, against learning rate × slope from the weights."""
    t = run(CrossEntropy(0.3)).trajectory
    np.testing.assert_allclose(t.d_chosen, np.full((STEPS, 3), 0.7), rtol=EPS)
    np.testing.assert_allclose(t.d_rejected, np.full((STEPS, 3), -0.3), rtol=EPS)
    size = RATE * mlp_world(PAIRS).gradient_size ** 2
    for predicted, slope in ((t.chosen_predicted, t.chosen_slope), (t.rejected_predicted, t.rejected_slope)):
        assert_close(predicted, RATE * slope, size, mlp_world(PAIRS).roundoff)


def test_shares_can_differ_between_runs():
    several = jnp.array([0.0, 0.2, 0.5])
    together = run(CrossEntropy(several), over=("loss",), record="loss")
    for number, share in enumerate(several):
        alone = run(CrossEntropy(share), record="loss")
        # Sums of a hundred terms of size one at each of three steps, in another order.
        np.testing.assert_allclose(together.losses[number], alone.losses, rtol=1e-12)
        assert not np.array_equal(alone.losses, together.losses[number - 1])


def test_answers_learnt_well_have_the_annotators_shares():
    """One pair of single tokens, of two: z ↦ z − 2(σ(z) − 1 + s) for the difference z of logits at a rate of 1.

    Near the end the error shrinks at least by 1 − 2s(1 − s) ≤ 0.82 a step, and 0.82³⁰⁰ is no more than round-off.
    """
    pairs = PreferencePairs.from_lists([[]], [[0]], [[1]], vocab_size=2)
    shares = jnp.array([0.1, 0.3, 0.5, 0.9])
    model = linear.positional(2, 1)
    start = jnp.array([[0.5], [-0.5]])
    run = train(model, start, pairs, CrossEntropy(shares), optax.sgd, 1.0, steps=300, over=("loss",), record="loss")
    chosen = jax.vmap(lambda params: jnp.exp(pair_logps(model, params, pairs)[0][0]))(run.params)
    np.testing.assert_allclose(chosen, 1 - shares, rtol=100 * EPS)
    entropy = -(shares * jnp.log(shares) + (1 - shares) * jnp.log1p(-shares))
    np.testing.assert_allclose(run.losses[:, -1], entropy, rtol=10 * EPS)


def test_it_is_a_tree_of_its_share():
    assert jax.tree.leaves(CrossEntropy(0.25)) == [0.25]
    assert jax.tree.map(lambda share: 2 * share, CrossEntropy(0.25)) == CrossEntropy(0.5)
    chosen, rejected = jnp.array([-1.0]), jnp.array([-3.0])
    values = jax.vmap(lambda share: CrossEntropy(share).value(chosen, rejected))(jnp.array([0.0, 0.5, 1.0]))
    assert values.ravel().tolist() == [1.0, 2.0, 3.0]
    jax.jit(lambda share: CrossEntropy(share).value(chosen, rejected))(2.0)  # unknown inside a trace


@pytest.mark.parametrize("number", [np.float32, np.float64, jnp.float32, np.array, jnp.array])
def test_a_share_is_looked_at_whatever_holds_it(number):
    CrossEntropy(number(1.0))
    with pytest.raises(ValueError, match="`rejected_share` must be"):
        CrossEntropy(number(1.5))
