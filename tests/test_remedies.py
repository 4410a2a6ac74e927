"""Remedies: each one's step against its definition, what it reduces to, and which of them can still displace.

Round-off: a step is a sum over pairs of products of weights and gradients, some of which were divided by norms; `RTOL`
allows a few hundred unit round-offs of the largest entry, which is what such short sums of a small network lose.
"""

from dataclasses import dataclass, replace
from functools import partial
from operator import itemgetter

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from jax.flatten_util import ravel_pytree
from neural import LENGTH, MODEL, mlp_worlds
from strategies import as_numpy

from toymodel import PreferencePairs, gradients, pytree, remedies, theory
from toymodel.data.families import contrast_pairs
from toymodel.gram import PairGram
from toymodel.losses import LOSSES
from toymodel.models import linear
from toymodel.models.logps import pair_logps
from toymodel.remedies import (
    Calibrated,
    CommonStep,
    Gated,
    LearnedMask,
    NormalisedPairs,
    NormalisedSides,
    OracleMask,
    RejectedMask,
    Split,
    VirtualSplit,
    WithLikelihood,
    WithPenalty,
    fit_both,
    split_adam,
)
from toymodel.training import step as updates
from toymodel.training import train

RTOL = 1e-12
DPO = LOSSES["dpo"](beta=0.5)
WRAPPERS = {"likelihood": WithLikelihood, "penalty": WithPenalty, "gate": Gated}
UPDATES = {
    "normalised_pairs": NormalisedPairs(),
    "normalised_sides": NormalisedSides(),
    "calibrated": Calibrated(),
    "common_step": CommonStep(),
    "damped_common_step": CommonStep(1.0),
    "oracle_mask": OracleMask(),
    "learned_mask": LearnedMask(),
    "rejected_mask": RejectedMask(),
    "chosen_first": Split("chosen"),
    "rejected_first": Split("rejected"),
    "fair_coin": Split("coin"),
    "virtual_split": VirtualSplit(),
}
common_weights = jax.jit(theory.common_weights)
worlds = mlp_worlds(3, temperature=st.sampled_from([3.0, 1.0, 0.3]))


@pytree
@dataclass(frozen=True)
class Constant:
    """A loss with weights that do not change, so that its two halves are gradients of functions."""

    d_chosen: float = 1.0
    d_rejected: float = 1.0

    def value(self, w, l, *_):  # noqa: E741
        return self.d_rejected * l - self.d_chosen * w

    def weights(self, w, *_):
        return self.d_chosen * jnp.ones_like(w), self.d_rejected * jnp.ones_like(w)


def moved(w, update, *, loss=DPO, rate=0.1, optimizer=optax.sgd, steps=1):
    """By how much training moved the parameters, as one vector."""
    run = train(MODEL, w.params, w.pairs, loss, optimizer, rate, steps=steps, update=update, record="loss")
    return flat(run.params) - flat(w.params)


def flat(params):
    """All parameters as one vector."""
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(params)])


def assert_same(actual, expected, rtol=RTOL):
    """Relative to the largest entry; a difference of parameters, none above 8, is also off by their unit round-off."""
    np.testing.assert_allclose(actual, expected, rtol=0, atol=rtol * np.abs(expected).max() + 2e-15)


def gradient_pairs(w):
    """g_w and g_l of all pairs, [2, n, P], and DPO's weights at the reference, [2, n]."""
    weights = DPO.weights(*(logps := pair_logps(MODEL, w.params, w.pairs)), *logps)
    return np.stack(gradients.pair_gradients(MODEL, w.params, w.pairs)), np.stack(weights)


# Losses around losses


def batches(*columns):
    """Inputs of a loss, four pairs as its columns: [columns, 4]."""
    return st.lists(st.tuples(*columns), min_size=4, max_size=4).map(lambda rows: np.array(rows, float).T)


LOGPS = [st.floats(-30, -0.01)] * 4


@partial(jax.jit, static_argnums=(0, 1))
def slopes_and_weights(name, inner, strength, arguments):
    """Derivatives of a wrapped loss's sum in both log-probabilities, and its weights, each [2, n]."""
    loss = WRAPPERS[name](LOSSES[inner](), strength)
    return jax.grad(lambda logps: loss.value(*logps, *arguments[2:]).sum())(arguments[:2]), loss.weights(*arguments)


@pytest.mark.parametrize("name", WRAPPERS)
@given(
    batches(*LOGPS, st.integers(1, 9), st.integers(1, 9)),
    st.floats(0.01, 5),
    st.sampled_from(["dpo", "ipo_sum", "simpo", "cpo_nll_mean"]),
)
def test_weights_are_the_derivatives_of_the_value(name, arguments, strength, inner):
    slopes, weights = slopes_and_weights(name, inner, strength, arguments)
    assert_same(-slopes[0], weights[0])
    assert_same(slopes[1], weights[1])


@jax.jit
def with_penalty_and_dpop(strength, arguments):
    losses = WithPenalty(LOSSES["dpo"](beta=0.3), strength), LOSSES["dpop"](beta=0.3, lam=strength)
    return [(loss.value(*arguments), loss.weights(*arguments)) for loss in losses]


@given(batches(*LOGPS), st.floats(0.01, 50))
def test_the_penalty_around_dpo_is_dpo_positive(arguments, strength):
    ours, known = with_penalty_and_dpop(strength, arguments)
    assert_same(ours[0], known[0])
    np.testing.assert_allclose(ours[1], known[1], rtol=1e-9)


def test_a_gate_is_half_open_at_its_threshold_and_shut_below():
    logps = jnp.log(jnp.array([0.9, 0.1, 0.001])) * 4  # of responses of four tokens
    other = jnp.full(3, -0.5)  # of chosen ones of two tokens
    arguments = (other, logps, other, logps, jnp.full(3, 2.0), jnp.full(3, 4.0))
    d_chosen, d_rejected = Gated(DPO, threshold=0.1, sharpness=100.0).weights(*arguments)
    np.testing.assert_array_equal(d_chosen, 0.25)
    # σ(80) is 1 up to round-off; σ(0) = ½; σ(−9.9) is 5e-5.
    np.testing.assert_allclose(d_rejected, 0.25 * np.array([1, 0.5, 5.0172e-5]), rtol=1e-4)


# What the step is


def test_without_a_remedy_nothing_changes():
    w = one_world()
    np.testing.assert_array_equal(moved(w, None, steps=3), moved(w, updates.Plain(), steps=3))


@given(worlds)
def test_normalised_pairs_take_the_mean_of_balanced_directions(w):
    (chosen, rejected), (d_w, d_l) = gradient_pairs(w)
    norms = np.linalg.norm([chosen, rejected], axis=-1)
    weights = theory.balanced_weights(PairGram(*(norms**2), (chosen * rejected).sum(axis=-1)), d_w, d_l)
    step = weights[0] @ chosen / 3 - weights[1] @ rejected / 3
    assert_same(moved(w, NormalisedPairs()), 0.1 * step, 1e-10)


@given(mlp_worlds(1, temperature=st.sampled_from([3.0, 1.0, 0.3])))
def test_for_one_pair_all_balanced_updates_are_the_same(w):
    expected = moved(w, NormalisedPairs())
    assert_same(moved(w, NormalisedSides()), expected, 1e-10)
    assert_same(moved(w, Calibrated(0.0)), expected, 1e-10)


@given(worlds)
def test_normalised_sides_raise_the_mean_chosen_and_lower_the_mean_rejected(w):
    gradient, weights = gradient_pairs(w)
    sides = np.einsum("sn,snp->sp", weights, gradient)
    step = moved(w, NormalisedSides())
    size = np.linalg.norm(step) * np.linalg.norm(sides, axis=1)
    slopes = sides @ step
    assert slopes[0] >= -RTOL * size[0]
    assert slopes[1] <= RTOL * size[1]


def test_calibration_reaches_the_centre_of_the_band():
    """On one pair, whatever the average starts from: its distance shrinks by `decay` each step at rest."""
    w = one_world(pairs=1)
    update = Calibrated(0.5)
    run = partial(train, MODEL, w.params, w.pairs, Constant(3.0, 0.2), optax.sgd, 1e-9, update=update, record="pairs")
    # The parameters hardly move at this rate: the step's ratio of weights is read off its first-order changes.
    trajectory = as_numpy(run(steps=6).trajectory)
    gram = PairGram(trajectory.chosen_sq[:, 0], trajectory.rejected_sq[:, 0], trajectory.inner[:, 0])
    u_w, u_l = trajectory.chosen_predicted[:, 0], trajectory.rejected_predicted[:, 0]
    # u_w = η(a‖g_w‖² − b⟨⟩), u_l = η(a⟨⟩ − b‖g_l‖²), solved for a/b.
    ratio = (u_w * gram.rejected_sq - u_l * gram.inner) / (u_w * gram.inner - u_l * gram.chosen_sq)
    np.testing.assert_allclose(ratio, theory.band_centre(gram), rtol=1e-8)
    ordinary = 3.0 / 0.2
    assert abs(ordinary / theory.band_centre(gram)[0] - 1) > 0.5  # far from it without


def test_calibration_averages_over_steps():
    """What it remembers after two steps: the first ratio, and a tenth of the way to the second."""
    w = one_world()
    options = {"steps": 2, "update": Calibrated(0.9), "record": "loss", "checkpoint_every": 1}
    run = train(MODEL, w.params, w.pairs, Constant(3.0, 0.2), optax.sgd, 0.3, **options)
    ratios = []
    for state in range(2):
        params = jax.tree.map(itemgetter(state), as_numpy(run.checkpoints))
        chosen, rejected = (g.mean(axis=0) for g in gradients.pair_gradients(MODEL, params, w.pairs))
        ratios.append(np.log(0.2 * np.linalg.norm(rejected) / (3 * np.linalg.norm(chosen))))
    assert abs(ratios[1] - ratios[0]) > 0.01
    np.testing.assert_allclose(run.memory, 0.9 * ratios[0] + 0.1 * ratios[1], rtol=1e-10)


def all_gradients(w):
    """g of all responses, chosen first, and A of the plain step of DPO."""
    gradient, weights = gradient_pairs(w)
    return gradient.reshape(-1, gradient.shape[-1]), (weights * [[1], [-1]]).ravel() / len(w.pairs)


@given(worlds)
def test_the_common_step_is_right_for_every_pair_and_as_long_as_the_plain_one(w):
    gradient, advantages = all_gradients(w)
    exists, least, weights = theory.find_common_step(gradient @ gradient.T)
    norms = np.linalg.norm(gradient, axis=1)
    assume(least > 1e-4 * (weights @ norms) ** 2)  # nearer to none, directions are known to fewer digits than `RTOL`
    assert exists
    step = moved(w, CommonStep()) / 0.1
    # A direction u/‖u‖ with ‖u‖² ≥ 1e-4 of its terms, which are off by round-off: relative 1e-12 · 1e2, and a few.
    common = (np.sign(advantages) * weights) @ gradient
    assert_same(step, common * np.linalg.norm(advantages @ gradient) / np.linalg.norm(common), 1e-9)
    assert np.all(np.sign(advantages) * (gradient @ step) > 0)


@given(worlds, st.floats(-2, 2))
def test_the_damped_common_step_takes_the_damped_weights_and_ends_as_the_plain_step(w, power):
    gradient, advantages = all_gradients(w)
    damping = 10**power
    weights = np.sign(advantages) * common_weights(gradient @ gradient.T, advantages, damping)
    length = np.linalg.norm(advantages @ gradient)
    assume(np.linalg.norm(weights @ gradient) > 1e-2 * abs(weights) @ np.linalg.norm(gradient, axis=1))
    expected = weights @ gradient * length / np.linalg.norm(weights @ gradient)
    assert_same(moved(w, CommonStep(damping)), 0.1 * expected, 1e-9)
    assert_same(moved(w, CommonStep(1e12)), moved(w, None), 1e-9)


def test_where_no_common_step_exists_it_is_the_plain_one():
    """Two pairs with chosen and rejected exchanged, of unequal weights, want the opposite of each other."""
    w = one_world(pairs=1)
    both = PreferencePairs(
        *(np.concatenate([getattr(w.pairs, name)] * 2) for name in ("prompt", "prompt_mask")),
        np.concatenate([w.pairs.chosen, w.pairs.rejected]),
        np.concatenate([w.pairs.chosen_mask, w.pairs.rejected_mask]),
        np.concatenate([w.pairs.rejected, w.pairs.chosen]),
        np.concatenate([w.pairs.rejected_mask, w.pairs.chosen_mask]),
    )
    w = replace_world(w, both)
    loss = LOSSES["simpo"]()
    assert_same(moved(w, CommonStep(), loss=loss), moved(w, None, loss=loss))


def test_a_common_step_follows_the_signs_of_the_loss():
    """With negative weights the loss wants chosen down and rejected up; with d_w = 0 it wants nothing of the chosen."""
    w = one_world()
    (chosen, rejected), _ = gradient_pairs(w)
    turned = moved(w, CommonStep(), loss=Constant(-1.0, -1.0))
    assert np.all(chosen @ turned < 0)
    assert np.all(rejected @ turned > 0)
    assert_same(turned, -moved(w, CommonStep(), loss=Constant()), 1e-9)
    alone = moved(w, CommonStep(), loss=Constant(0.0, 1.0))
    assert np.all(rejected @ alone < 0)
    own = theory.common_weights(rejected @ rejected.T, -np.ones(3)) @ rejected
    assert_same(alone, -0.1 * own * np.linalg.norm(rejected.mean(axis=0)) / np.linalg.norm(own), 1e-9)


# Masks


def contrast_world(suffix=3, n=4, seed=0):
    pairs = contrast_pairs(jax.random.key(seed), n, vocab_size=5, length=1 + suffix, contrast_position=0)
    return replace_world(one_world(seed=seed), as_numpy(pairs))


def test_an_oracle_mask_trains_on_the_contrast_tokens_alone():
    w = contrast_world()
    first = np.arange(4) == 0
    alone = replace(w.pairs, chosen_mask=w.pairs.chosen_mask & first, rejected_mask=w.pairs.rejected_mask & first)
    # DPO knows no lengths, so masked tokens might as well not be there.
    assert_same(moved(w, OracleMask(), steps=3), moved(replace_world(w, alone), None, steps=3), 1e-10)


def test_a_rejected_mask_trains_the_whole_chosen_and_of_the_rejected_its_contrast_tokens():
    """With weights that do not change: the rejected answers' other tokens might as well not be there."""
    w = contrast_world()
    cut = replace(w.pairs, rejected_mask=w.pairs.rejected_mask & (np.arange(4) == 0))
    mine, theirs = moved(w, RejectedMask(), loss=Constant(), steps=3), replace_world(w, cut)
    assert_same(mine, moved(theirs, None, loss=Constant(), steps=3), 1e-10)
    assert np.abs(mine - moved(w, None, loss=Constant(), steps=3)).max() > 1e-3


def test_between_no_mask_and_a_whole_one_a_rejected_mask_is_in_proportion():
    w = contrast_world()
    assert_same(moved(w, RejectedMask(0.0), steps=3), moved(w, None, steps=3), 1e-10)
    none, half, whole = (moved(w, RejectedMask(strength)) for strength in (0.0, 0.5, 1.0))
    assert_same(half, (none + whole) / 2, 1e-10)


def test_a_mask_that_does_not_learn_is_no_mask():
    w = contrast_world()
    assert_same(moved(w, LearnedMask(0.0, 0.0), steps=3), moved(w, None, steps=3), 1e-10)


def test_a_mask_stays_in_its_range_and_forgets_everything_at_a_high_price():
    w = contrast_world()
    # At the first step log-ratios are 0, so that the price alone moves the mask: by 2, from 1 to 0.
    np.testing.assert_array_equal(moved(w, LearnedMask(2.0, 1.0), steps=4), moved(w, LearnedMask(9.0, 1.0), steps=4))
    first, later = (moved(w, LearnedMask(2.0, 1.0), steps=steps) for steps in (1, 4))
    np.testing.assert_array_equal(first, later)  # with masks of 0 nothing is left to learn


# Split updates


@jax.jit
@jax.grad
def inner_product_gradient(params, pairs):
    """∇⟨g_w, g_l⟩, summed over pairs of pairs as the means of both sides meet: one pair here."""
    return gradients.pair_gram(MODEL, params, pairs).inner[0]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("ways", [(Split("chosen"), Split("rejected")), (VirtualSplit(1.0),)])
def test_splitting_descends_the_inner_product(ways, seed):
    """Both orders' mean less the joint step is −(h²/2)∇⟨g_w, g_l⟩ up to h³: the error falls by 8 as h halves."""
    w = one_world(pairs=1, seed=seed)
    predicted = flat(inner_product_gradient(w.params, w.pairs))
    errors = []
    for h in (4e-3, 2e-3):
        split = np.mean([moved(w, way, loss=Constant(), rate=h) for way in ways], axis=0)
        errors.append(np.linalg.norm(split - moved(w, None, loss=Constant(), rate=h) + h**2 / 2 * predicted))
    assert 7.8 < errors[0] / errors[1] < 8.2  # the next order adds a part of h, and round-off 1e-15 of 1e-9
    assert errors[1] < 0.1 * 2e-3**2 / 2 * np.linalg.norm(predicted)


def test_a_virtual_split_with_kappa_0_is_the_joint_update():
    w = one_world()
    assert_same(moved(w, VirtualSplit(0.0), steps=3), moved(w, None, steps=3))


def test_a_split_takes_both_halves():
    w = one_world()
    chosen, rejected = (moved(w, None, loss=Constant(*weights)) for weights in ((1.0, 0.0), (0.0, 1.0)))
    between = w._replace(params=jax.tree.map(np.add, w.params, unflat(w, chosen)))
    assert_same(
        moved(w, Split("chosen"), loss=Constant()), chosen + moved(between, None, loss=Constant(0.0, 1.0)), 1e-10
    )
    between = w._replace(params=jax.tree.map(np.add, w.params, unflat(w, rejected)))
    assert_same(
        moved(w, Split("rejected"), loss=Constant()), rejected + moved(between, None, loss=Constant(1.0, 0.0)), 1e-10
    )


def test_a_fair_coin_takes_each_order_about_half_of_the_time():
    w = one_world()
    orders = [moved(w, Split(first), loss=Constant()) for first in ("chosen", "rejected")]
    tossed = [moved(w, Split("coin", seed), loss=Constant()) for seed in range(40)]
    heads = [np.array_equal(step, orders[0]) for step in tossed]
    assert all(np.array_equal(step, orders[0]) or np.array_equal(step, orders[1]) for step in tossed)
    assert 10 <= sum(heads) <= 30  # seeds are fixed; of a fair coin, less than one in 700 sets of 40 is outside


def test_split_adam_is_adam_unless_told_otherwise():
    w = one_world()
    adam = partial(optax.adam, b1=0.8, b2=0.99)
    ours = partial(split_adam, b1=0.8, b2=0.99)
    assert_same(moved(w, None, optimizer=ours, steps=4), moved(w, None, optimizer=adam, steps=4), 1e-10)
    # The first step of Adam is η g/(|g| + ε), η up to a thousandth where |g| is above 1e-5; with the second moment of
    # another gradient it is not.
    split = moved(w, VirtualSplit(500.0), optimizer=split_adam, rate=0.01)
    alone = moved(w, VirtualSplit(500.0), optimizer=optax.adam, rate=0.01)
    assert (np.abs(np.abs(alone) - 0.01) < 1e-5)[np.abs(alone) > 1e-6].all()
    assert np.abs(np.abs(split) - 0.01).max() > 1e-3


def test_a_virtual_split_bursts_adam_where_the_halves_cancel():
    """One differing token, one context: rows of other words cancel in the plain gradient, but not in the shifted one.

    Its second moment is 0 there, and Adam divides by ε alone.
    """
    model, params = linear.unigram(4), jnp.array([[0.3], [-0.2], [0.5], [0.0]])
    pair = PreferencePairs.from_lists([[]], [[0]], [[1]], vocab_size=4)
    options = {"steps": 1, "update": VirtualSplit(1.0), "record": "loss"}
    steps = {
        name: np.abs(train(model, params, pair, Constant(), optimizer, 1e-3, **options).params - params)[:, 0]
        for name, optimizer in (("split", split_adam), ("plain", optax.adam))
    }
    np.testing.assert_allclose(steps["split"][:2], 1e-3, rtol=0.01)  # the pair's own words
    assert (steps["split"][2:] > 0.1).all()
    assert (steps["plain"] < 1.01e-3).all()  # at most the rate, if both moments are of the shifted gradient


# Beforehand


def test_the_lowest_scores_are_kept():
    w = one_world()
    kept = remedies.keep_lowest(w.pairs, np.array([3.0, -1.0, 2.0]), 2)
    np.testing.assert_array_equal(kept.chosen, w.pairs.chosen[[1, 2]])
    for scores, keep, words in (
        ([1.0, 2.0], 1, "one number per pair"),
        ([1.0, 2.0, np.nan], 1, "finite"),
        ([1.0, 2.0, 3.0], 4, "`keep`"),
    ):
        with pytest.raises(ValueError, match=words):
            remedies.keep_lowest(w.pairs, np.array(scores), keep)


def test_fitting_both_raises_both():
    """Two single tokens, where more of one alone would be less of the other."""
    model, params = linear.unigram(4), jnp.zeros((4, 1))
    pair = PreferencePairs.from_lists([[]], [[0]], [[1]], vocab_size=4)
    after = pair_logps(model, remedies.fit_both(model, params, pair, optax.sgd, 0.1, steps=20), pair)
    for logp in after:
        assert logp[0] > np.log(0.25)


# What `train` promises of updates


@pytest.mark.parametrize("name", UPDATES)
def test_many_runs_at_once_are_the_single_runs(name):
    model, pairs, rates = linear.bigram(MODEL.vocab_size), one_world().pairs, np.array([0.05, 0.1])  # a small program
    start = np.random.default_rng(0).standard_normal((MODEL.vocab_size, MODEL.vocab_size + 1))
    run = partial(train, model, start, pairs, DPO, optax.sgd, steps=3, update=UPDATES[name])
    together = as_numpy(run(rates, over=("learning_rate",)))
    for i, rate in enumerate(rates):
        alone = run(rate)
        np.testing.assert_allclose(together.params[i], alone.params, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(
            together.trajectory.chosen_predicted[i], alone.trajectory.chosen_predicted, rtol=1e-8, atol=1e-12
        )


def test_hyperparameters_may_differ_from_run_to_run():
    w = one_world()
    strengths = np.array([0.0, 0.5])
    run = train(MODEL, w.params, w.pairs, DPO, optax.sgd, 0.1, steps=3, update=LearnedMask(strengths), over=("update",))
    for i, strength in enumerate(strengths):
        expected = moved(w, LearnedMask(float(strength)), steps=3)
        assert_same(flat(jax.tree.map(itemgetter(i), as_numpy(run.params))) - flat(w.params), expected, 1e-10)


@pytest.mark.parametrize(
    ("update", "words"),
    [(NormalisedPairs, "`update` must have `init`"), (LearnedMask(float("nan")), "finite"), (0.3, "`update`")],
)
def test_bad_updates_are_named(update, words):
    with pytest.raises((ValueError, TypeError), match=words):
        moved(one_world(), update)


def test_a_split_begins_somewhere():
    with pytest.raises(ValueError, match="`first` must be"):
        Split("left")


def one_world(pairs=3, seed=0):
    """A small network and some pairs, the same ones every time."""
    from neural import mlp_world

    key = jax.random.key(seed)
    batch = contrast_pairs(key, pairs, vocab_size=MODEL.vocab_size, length=LENGTH, contrast_position=1)
    return mlp_world(as_numpy(batch), seed, 1.0)


def replace_world(w, pairs):
    return w._replace(pairs=pairs)


def unflat(w, vector):
    return jax.jit(ravel_pytree(w.params)[1])(vector)


def test_defaults_of_masks_are_those_that_their_documentation_tells():
    learned = remedies.LearnedMask()
    assert (learned.strength, learned.rate) == (0.01, 1.0)
    assert remedies.RejectedMask().strength == 1.0  # what both answers share is not pushed down at all


def test_fine_tuning_beforehand_is_on_both_answers_alike():
    pairs = PreferencePairs.from_lists([[0], [1]], [[1], [1]], [[2], [0]], vocab_size=3)
    model, start = linear.unigram(3), jnp.zeros((3, 1))
    fitted = fit_both(model, start, pairs, optax.sgd, 0.1, steps=1)
    # Mean over pairs of half the gradients of both answers: tokens 1, 2 and 1, 0, each p = 1/3.
    np.testing.assert_allclose(fitted[:, 0], 0.1 * (np.array([1 / 4, 1 / 2, 1 / 4]) - 1 / 3), rtol=0, atol=1e-15)
