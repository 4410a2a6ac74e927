"""The account of training (T23): parts add up, and they are what training with these parts alone would bring.

Round-off: sums of at most a hundred terms, relative to the sum of their sizes. Adam and RMSProp divide by roots of
squared gradients, which amplifies it; entries with a gradient near 0, by up to 1/ε = 1e8.
"""

from functools import partial
from operator import itemgetter

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from neural import MODEL, mlp_world
from strategies import as_numpy, seeds

from toymodel import PreferencePairs, theory
from toymodel.losses import LOSSES
from toymodel.models import linear
from toymodel.models.logps import pair_logps, token_logps
from toymodel.remedies import (
    Calibrated,
    CommonStep,
    LearnedMask,
    NormalisedPairs,
    NormalisedSides,
    OracleMask,
    RejectedMask,
    Split,
    VirtualSplit,
    WithPenalty,
)
from toymodel.training import account, attribute, by_group, by_position, by_side, crossed, loop, same_or_other, train
from toymodel.training.additive import check_additive, no_parts, split_step
from toymodel.training.step import Plain

PAIRS = PreferencePairs.from_lists(
    [[0], [1], [2], [3]],
    [[0, 1, 2], [1, 1], [4], [2, 0, 1, 3]],
    [[0, 3], [2, 1, 0, 4], [3, 3], [4]],
    vocab_size=5,
    length=4,
)
JUDGED = PreferencePairs.from_lists([[2], [4]], [[1, 0], [2, 1, 1]], [[3, 0], [4]], vocab_size=5, length=4)
DPO = LOSSES["dpo"](beta=0.5)
BIGRAM = linear.bigram(5)


def start_of(seed):
    """Parameters of `BIGRAM`."""
    return jax.device_put(np.random.default_rng(seed).standard_normal((5, BIGRAM.features.shape[1])))


START = start_of(0)
KEY = jax.random.key(3)
STEPS = 6
token_account = jax.jit(theory.token_account)
remainder_bounds = jax.jit(theory.remainder_bounds, static_argnames="at")
SIDES = by_side(PAIRS)
TOKENS = crossed(SIDES, by_position(PAIRS))


def momentum(rate, mu=0.5):
    return optax.sgd(rate, momentum=mu)


def elementwise(function):
    return optax.stateless(lambda gradient, _params: jax.tree.map(function, gradient))


OPTIMIZERS = {
    "sgd": optax.sgd,
    "momentum": momentum,
    "nesterov": partial(optax.sgd, momentum=0.9, nesterov=True),
    "adam": optax.adam,
    "nadam": optax.nadam,
    "amsgrad": optax.amsgrad,
    "adamw": partial(optax.adamw, weight_decay=0.1),
    "rmsprop": partial(optax.rmsprop, momentum=0.5, centered=True),
    "adagrad": optax.adagrad,
    "decay_into_momentum": lambda rate: optax.chain(optax.add_decayed_weights(0.1), optax.sgd(rate, momentum=0.9)),
    "chosen_by_the_rate": lambda rate: elementwise(lambda g: jnp.where(rate > 1, -g, -rate * g)),
    "warm_up": lambda rate: optax.adamw(optax.linear_schedule(0.0, rate, 3), weight_decay=0.1),
}
DECAYING = {"adamw", "decay_into_momentum", "warm_up"}


def accounted(
    optimizer=momentum, rate=0.1, *, model=BIGRAM, params=START, pairs=PAIRS, loss=DPO, how=account, **options
):
    options = {"judged": JUDGED, "steps": STEPS} | options
    if how is account:
        options = {"sources": TOKENS} | options
    return how(model, params, pairs, loss, optimizer, rate, **options)


# --- An optimiser's step as a sum ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_t23_parts_of_every_step_add_up_to_the_step(name):
    """Three parts nearly cancel in some entries, over four steps; a part alone is what its sum says."""
    optimizer, rng = OPTIMIZERS[name], np.random.default_rng(0)
    params = jax.device_put({"a": np.array([1.0, 2.0, 3.0]), "b": np.array([[0.5, -1.0]])})
    additive = check_additive(optimizer, params)
    assert additive.decays == (name in DECAYING)
    made = optimizer(0.1)
    state = made.init(params)
    parts = no_parts(additive, state, 3)

    @jax.jit
    def take_step(of_parts, parts, state, params):
        whole = jax.tree.map(lambda leaf: leaf.sum(axis=0), of_parts)
        steps, parts = split_step(made, additive, whole, of_parts, state, parts, params)
        moved, state = made.update(whole, state, params)
        return steps, moved, parts, state, optax.apply_updates(params, moved)

    for _ in range(4):
        of_parts = jax.tree.map(lambda leaf: rng.normal(size=(3, *leaf.shape)), params)
        steps, moved, parts, state, params = take_step(of_parts, parts, state, params)
        steps, moved = as_numpy((steps, moved))
        for step, move in zip(jax.tree.leaves(steps), jax.tree.leaves(moved), strict=True):
            assert step.shape == (3 + additive.decays, *move.shape)
            # Some ten roundings, and parts that may cancel in their sum: relative to the largest part.
            np.testing.assert_allclose(step.sum(axis=0), move, rtol=1e-13, atol=1e-14 * abs(step).max())


def test_t23_adams_parts_are_its_definition():
    """Against Adam written out: momenta of their own, divided by the root of the whole gradient's second moment."""
    rng, b1, b2, eps = np.random.default_rng(1), 0.9, 0.999, 1e-8
    made, params = optax.adamw(0.1, weight_decay=0.3), np.array([1.0, -2.0])
    additive, state = check_additive(partial(optax.adamw, weight_decay=0.3), params), made.init(params)
    parts, m, v = no_parts(additive, state, 2), np.zeros((2, 2)), np.zeros(2)

    @jax.jit
    def take_step(g, parts, state):
        whole = g.sum(axis=0)
        steps, parts = split_step(made, additive, whole, g, state, parts, params)
        return steps, parts, made.update(whole, state, params)[1]

    for t in range(1, 5):
        g = rng.normal(size=(2, 2))
        steps, parts, state = take_step(g, parts, state)
        steps = np.asarray(steps)
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g.sum(axis=0) ** 2
        expected = -0.1 * (m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + eps)
        # 1 − b2^t loses three digits of sixteen to cancellation at t = 1, here and there; the decay is one product.
        np.testing.assert_allclose(steps[:2], expected, rtol=1e-12)
        np.testing.assert_allclose(steps[2], -0.1 * 0.3 * params, rtol=1e-12)


REFUSED = {
    "lion": (optax.lion, "the sign of gradients"),
    "sign_sgd": (optax.sign_sgd, "the sign of gradients"),
    "clip": (lambda rate: optax.chain(optax.clip(1.0), optax.adam(rate)), "a bound on gradients, as in clipping"),
    "clip_by_norm": (lambda rate: optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(rate)), "a choice that gradi"),
    "schedule_free": (optax.contrib.schedule_free_sgd, "a sum that does not start at 0"),
    "ratio": (lambda rate: elementwise(lambda g: rate * g / (1 + g)), "`div` of gradients"),
    "mixed": (lambda rate: elementwise(lambda g: rate * (g + g * g)), "`mul` of gradients"),
    "every_second": (lambda rate: optax.MultiSteps(optax.sgd(rate), 2), "`cond` of gradients"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_optimisers_whose_steps_are_no_sums_are_refused(name):
    optimizer, reason = REFUSED[name]
    with pytest.raises(ValueError, match=f"`optimizer` must take steps that are linear .* depends on {reason}") as told:
        accounted(optimizer)
    assert "\n" not in str(told.value)


# --- Agreement with training -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["momentum", "adamw"])
def test_t23_an_account_is_of_the_very_run_that_train_makes(name):
    """Minibatches, checkpoints and all; step by step, what the sources brought is what the step predicts."""
    options = {"steps": STEPS, "batch_size": 3, "key": KEY, "checkpoint_every": 1}
    found = as_numpy(accounted(OPTIMIZERS[name], judged=PAIRS, **options))
    run = as_numpy(train(BIGRAM, START, PAIRS, DPO, OPTIMIZERS[name], 0.1, **options))
    # One program more beside the step, which a compiler may order in another way; Adam divides by small gradients.
    close = partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-9)
    jax.tree.map(close, found.run, run._replace(trajectory=None))
    t = run.trajectory
    predicted = np.stack([t.chosen_predicted.sum(axis=0), t.rejected_predicted.sum(axis=0)])
    # AdamW's `decay` moves parameters beside the trajectory's prediction, which has it too.
    close(found.first_order.sum(axis=-1), predicted)
    true_change = np.stack([t.chosen_logps[-1] - t.chosen_logps[0], t.rejected_logps[-1] - t.rejected_logps[0]])
    close(found.true_change.sum(axis=-1), true_change)
    assert abs(found.remainder).max() > 1e-5  # a few steps bend, so that the two tests above differ


@settings(max_examples=10)
@given(seeds, st.floats(-2, 0).map(lambda exponent: 10.0**exponent))
def test_t23_brought_is_what_the_closed_form_of_linear_models_says(seed, rate):
    """Momentum and minibatches, against residuals and features alone."""
    params = start_of(seed)
    found = as_numpy(accounted(params=params, rate=rate, batch_size=3, key=KEY, checkpoint_every=1))
    path = found.run.checkpoints
    weights = weights_on(path[:-1], params, found.run.batches)
    predicted = token_account(BIGRAM, path, PAIRS, JUDGED, weights, rate, 0.5)
    size = rate * 2 * 2 * 2 * STEPS  # ⟨s, s′⟩ ≤ 2, Σ μ^k ≤ 2, weights add up to at most 2β = 1 a side
    for name, mask in TOKENS.items():
        expected = np.einsum("snt...,snt->...", predicted, mask)
        # Round-off of some 50 terms of a sum, relative to `size`, which bounds all of them together.
        np.testing.assert_allclose(found.contributions[name], expected, rtol=0, atol=1e-14 * size)


@jax.jit
def weights_on(path, params, batches):
    """d_w/B and −d_l/B of all pairs at each of these states, 0 outside the batch."""
    reference = pair_logps(BIGRAM, params, PAIRS)
    lengths = [mask.sum(axis=-1).astype(float) for mask in (PAIRS.chosen_mask, PAIRS.rejected_mask)]

    def at(params, batch):
        d_chosen, d_rejected = DPO.weights(*pair_logps(BIGRAM, params, PAIRS), *reference, *lengths)
        share = jnp.zeros(len(PAIRS)).at[batch].set(1 / len(batch))
        return jnp.stack([share * d_chosen, -share * d_rejected])

    return jax.vmap(at)(path, batches)


@pytest.mark.parametrize("name", ["sgd", "nesterov", "adamw"])
def test_t23_single_pairs_add_up_to_the_same_account(name):
    """By inner products with whole gradients, against derivatives along the steps of each pair's tokens."""
    w = mlp_world(PAIRS)
    options = {"model": MODEL, "params": w.params, "batch_size": 3, "key": KEY, "rate": 0.01}
    pairs = as_numpy(accounted(OPTIMIZERS[name], how=attribute, **options))
    groups = by_group(PAIRS, np.arange(4), "abcd")
    tokens = as_numpy(accounted(OPTIMIZERS[name], sources=groups, **options))
    each = np.stack([tokens.contributions[name].sum(axis=-1) for name in "abcd"])
    close = partial(np.testing.assert_allclose, rtol=1e-8, atol=1e-9)  # Adam's division: see above
    close(pairs.contributions, each)
    close(pairs.first_order, tokens.first_order.sum(axis=-1))
    close(pairs.remainder, tokens.remainder.sum(axis=-1))
    if name == "adamw":
        close(pairs.decay, tokens.contributions["decay"].sum(axis=-1))
        assert abs(pairs.decay).max() > 1e-6
    else:
        assert not np.any(pairs.decay)
        assert "decay" not in tokens.contributions


def test_t23_a_source_that_trains_alone_brings_what_it_brings_in_the_account():
    """One plain step: no other part of the gradient changes what this one does."""
    found = accounted(optax.sgd, steps=1, judged=PAIRS)
    d = 0.5 / 2  # β/2, of every pair at the reference

    def token_logps_of(params):
        return jax.vmap(jax.vmap(partial(token_logps, BIGRAM, params)))(PAIRS.both_responses)

    def of_source(params, mask):
        return (d / 4 * (jnp.array([1, -1])[:, None, None] * token_logps_of(params) * mask)).sum()

    @jax.jit
    def brought(mask):
        return jax.jvp(token_logps_of, (START,), (0.1 * jax.grad(of_source)(START, mask),))[1]

    for name, mask in TOKENS.items():
        # A sum over four pairs, at most 0.1 d/4 · 4 · 4 = 0.1 in all: round-off of a few units.
        np.testing.assert_allclose(found.contributions[name], brought(mask), rtol=0, atol=1e-15)


@pytest.mark.parametrize("how", [account, attribute])
def test_many_runs_at_once_are_the_single_runs(how):
    rates, keys = np.array([0.05, 0.2]), jax.random.split(KEY, 2)
    judged = jax.tree.map(lambda leaf: np.stack([leaf, leaf[::-1]]), as_numpy(JUDGED))
    options = {"how": how, "batch_size": 3, "optimizer": optax.adam}
    together = as_numpy(
        accounted(rate=rates, key=keys, judged=judged, over=("learning_rate", "key", "judged"), **options)
    )
    for number in range(2):
        mine, its_judged = (jax.tree.map(itemgetter(number), tree) for tree in (together, judged))
        alone = accounted(rate=rates[number], key=keys[number], judged=its_judged, **options)
        # Sums in another order; Adam's division amplifies that.
        jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-8, atol=1e-9), mine, alone)


def test_sources_may_differ_between_runs_and_inside_a_trace():
    swapped = {"one": np.stack([SIDES["chosen"], SIDES["rejected"]])}
    swapped["other"] = ~swapped["one"]
    both = accounted(sources=swapped, rate=np.array([0.1, 0.1]), over=("sources", "learning_rate"))
    plain = accounted(sources=SIDES)
    traced = jax.jit(lambda masks: accounted(sources=masks).contributions)(SIDES)
    known = jax.jit(lambda params: accounted(params=params, sources=SIDES).contributions)(START)  # but for parameters
    close = partial(np.testing.assert_allclose, rtol=1e-12, atol=1e-14)
    close(known["rejected"], plain.contributions["rejected"])
    close(both.contributions["one"][0], plain.contributions["chosen"])
    close(both.contributions["one"][1], plain.contributions["rejected"])
    close(traced["rejected"], plain.contributions["rejected"])


def test_what_a_step_hands_on_does_not_grow_with_their_number(monkeypatch):
    shapes, close = [], loop._close
    monkeypatch.setattr(
        loop, "_close", lambda *last: (shapes.append(jax.tree.map(jnp.shape, last[-1])), close(*last))[1]
    )
    accounted(optax.sgd, steps=1, judged=PAIRS)
    accounted(optax.sgd, steps=40, judged=PAIRS)
    assert shapes[0] == shapes[1]


# --- Remedies in the place of the plain step ------------------------------------------------------------------------

REMEDIES = {
    "penalty": (WithPenalty(DPO, 5.0), Plain()),
    "normalised_pairs": (DPO, NormalisedPairs()),
    "normalised_sides": (DPO, NormalisedSides()),
    "calibration": (DPO, Calibrated(0.5)),
    "common_step": (DPO, CommonStep()),
    "oracle_mask": (DPO, OracleMask()),
    "learned_mask": (DPO, LearnedMask(0.05)),
    "rejected_mask": (DPO, RejectedMask(0.9)),
    "fair_coin": (DPO, Split("coin", 1)),
}


@pytest.mark.parametrize("name", REMEDIES)
def test_t23_of_every_remedy_the_account_is_of_the_very_run_that_train_makes(name):
    """What tokens bring adds up to what every step predicts, and pair by pair to what single pairs bring."""
    loss, update = REMEDIES[name]
    options = {"loss": loss, "update": update, "batch_size": 3, "key": KEY}
    tokens = as_numpy(accounted(**options, judged=PAIRS, sources=by_group(PAIRS, np.arange(4), "abcd")))
    pairs = accounted(**options, judged=PAIRS, how=attribute)
    run = as_numpy(train(BIGRAM, START, PAIRS, optimizer=momentum, learning_rate=0.1, steps=STEPS, **options))
    # Sums in another order, of terms that partly cancel and were divided by norms; the common step solves for weights.
    close = partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-10)
    jax.tree.map(close, tokens.run, run._replace(trajectory=None))
    t = run.trajectory
    predicted = np.stack([t.chosen_predicted.sum(axis=0), t.rejected_predicted.sum(axis=0)])
    assert abs(predicted).max() > 1e-3
    close(tokens.first_order.sum(axis=-1), predicted)
    close(pairs.contributions, np.stack([tokens.contributions[name].sum(axis=-1) for name in "abcd"]))
    true_change = np.stack([t.chosen_logps[-1] - t.chosen_logps[0], t.rejected_logps[-1] - t.rejected_logps[0]])
    close(tokens.true_change.sum(axis=-1), true_change)


def test_t23_what_a_mask_leaves_out_brings_nothing_and_all_else_is_as_without():
    """One plain step of DPO, whose weights at the reference do not depend on what is masked."""
    both = PAIRS.both_responses
    shared = np.broadcast_to((both.tokens[0] == both.tokens[1]) & both.mask.all(axis=0), both.mask.shape)
    assert shared.sum() == 4
    options = {"optimizer": optax.sgd, "steps": 1, "sources": crossed(SIDES, {"shared": shared, "own": ~shared})}
    without = accounted(**options).contributions
    masks = {OracleMask(): (0, 0), RejectedMask(): (1, 0), RejectedMask(0.75): (1, 0.25)}
    for update, kept in masks.items():
        shares = {"chosen shared": kept[0], "rejected shared": kept[1]}
        found = accounted(**options, update=update).contributions
        for source, brought in without.items():
            assert np.any(brought)
            # A few products and sums in another order; exactly 0 where a source is left out.
            np.testing.assert_allclose(found[source], shares.get(source, 1) * brought, rtol=1e-13, atol=1e-17)


@pytest.mark.parametrize("how", [account, attribute])
def test_updates_that_do_not_say_their_weights_are_refused(how):
    with pytest.raises(ValueError, match=r"`update` must be a `Weighted` one.* VirtualSplit") as told:
        accounted(how=how, update=VirtualSplit())
    assert "\n" not in str(told.value)


# --- The remainder of linear models ----------------------------------------------------------------------------------


def remainder_and_bounds(found, model=BIGRAM, judged=JUDGED, at="start"):
    low, high = remainder_bounds(model, found.run.checkpoints, judged, at)
    return found.remainder.sum(axis=-1), low, high


@settings(max_examples=15)
@given(seeds, st.floats(-2, 1).map(lambda exponent: 10.0**exponent))
def test_t23_the_remainder_of_linear_models_is_within_t12s_bounds_over_whole_runs(seed, rate):
    params = start_of(seed)
    found = as_numpy(accounted(params=params, rate=rate, checkpoint_every=1))
    remainder, low, high = remainder_and_bounds(found)
    roundoff = 1e-13 * STEPS * (1 + abs(found.first_order).sum(axis=-1) - low)
    assert (remainder <= high + roundoff).all()
    assert (remainder >= low - roundoff).all()


@settings(max_examples=15)
@given(seeds, st.floats(-2, 1).map(lambda exponent: 10.0**exponent))
def test_t23_from_the_middle_of_steps_the_remainder_is_of_third_order(seed, rate):
    params = start_of(seed)
    found = as_numpy(accounted(params=params, rate=rate, checkpoint_every=1, at="middle"))
    remainder, low, high = remainder_and_bounds(found, at="middle")
    roundoff = 1e-13 * STEPS * (1 + abs(found.first_order).sum(axis=-1))
    assert (abs(remainder) <= high + roundoff).all()
    np.testing.assert_array_equal(low, -high)


UNIGRAM = linear.unigram(2)
ONE = PreferencePairs.from_lists([[]], [[0]], [[1]], vocab_size=2)


@pytest.mark.parametrize(("logit", "least", "most"), [(0.0, 0.98, 1.0), (8.0, 0.0, 0.01)])
def test_t23_both_bounds_are_nearly_reached(logit, least, most):
    """Two even tokens have the largest variance, a quarter of the squared range; a token nearly certain has none."""
    params = np.array([[logit], [0.0]])
    found = accounted(
        optax.sgd, 0.01, model=UNIGRAM, params=params, pairs=ONE, judged=ONE, sources=by_side(ONE), checkpoint_every=1
    )
    remainder, low, _ = remainder_and_bounds(found, UNIGRAM, ONE)
    share = np.asarray(remainder / low)
    assert (share > least).all(), share
    assert (share < most + 1e-9).all(), share


@pytest.mark.parametrize(("probability", "least", "most"), [(0.5 - 12**-0.5, 0.98, 1.0), (0.5, -0.01, 0.01)])
def test_t23_the_bound_from_the_middle_is_nearly_reached(probability, least, most):
    """By two tokens of the probabilities (1 ± 1/√3)/2, which have the largest third moment; two even ones have none."""
    params = np.array([[np.log(probability / (1 - probability))], [0.0]])
    options = {"model": UNIGRAM, "params": params, "pairs": ONE, "judged": ONE, "sources": by_side(ONE)}
    found = accounted(optax.sgd, 0.01, steps=1, checkpoint_every=1, at="middle", **options)
    remainder, _, high = remainder_and_bounds(found, UNIGRAM, ONE, "middle")
    share = np.asarray(remainder / high)
    # A remainder of 1e-9 nats, known to some round-offs.
    assert (abs(share) <= most + 1e-3).all(), share
    assert (abs(share) >= least).all(), share


def test_where_gradients_are_taken_must_be_known():
    with pytest.raises(ValueError, match=r'`at` must be "start" or "middle", got \'end\''):
        accounted(at="end")


def test_t23_with_learned_features_the_remainder_may_be_positive():
    """Logits that are not linear in the parameters: log π is not concave in them."""
    w = mlp_world(PAIRS, seed=4)
    found = accounted(optax.sgd, 0.3, model=MODEL, params=w.params, judged=PAIRS)
    assert found.remainder.sum(axis=-1).max() > 1e-3


# --- Sources ---------------------------------------------------------------------------------------------------------


def test_sources_that_are_offered_hold_every_token_once():
    groups = by_group(PAIRS, np.array([0, 1, 1, 0]), ("good", "bad"))
    for sources in (SIDES, by_position(PAIRS, "abc"), groups, TOKENS, crossed(groups, TOKENS)):
        assert (np.sum([np.asarray(mask) for mask in sources.values()], axis=0) == 1).all()
    assert list(TOKENS) == ["chosen label", "chosen suffix", "rejected label", "rejected suffix"]
    assert TOKENS["rejected suffix"][1, :, 1:].all()
    assert TOKENS["rejected suffix"].sum() == 12
    assert by_position(PAIRS, "abc")["c"][:, :, 2:].all()


def test_t23_same_and_other_group_add_up_and_swap_with_the_judged():
    groups, names = np.array([0, 1, 1, 0]), ("good", "bad")
    contributions = accounted(sources=crossed(by_group(PAIRS, groups, names), SIDES)).contributions
    told = same_or_other(contributions, np.array([0, 1]), names)
    assert list(told) == ["same chosen", "other chosen", "same rejected", "other rejected"]
    np.testing.assert_allclose(told["same chosen"][:, 0], contributions["good chosen"][:, 0])
    np.testing.assert_allclose(told["same chosen"][:, 1], contributions["bad chosen"][:, 1])
    np.testing.assert_allclose(told["other chosen"][:, 1], contributions["good chosen"][:, 1])
    np.testing.assert_allclose(sum(told.values()), sum(contributions.values()), rtol=0, atol=1e-15)


BAD = {
    "overlap": (
        {"one": SIDES["chosen"], "two": SIDES["chosen"] | SIDES["rejected"]},
        "10 tokens in several and 0 in n",
    ),
    "gap": ({"one": SIDES["chosen"]}, "0 tokens in several and 9 in none"),
    "shape": ({"one": SIDES["chosen"][:, :2]}, "Boolean masks of shape .2, 4, 4., got 'one' of bool.2, 2, 4."),
    "type": ({"one": np.ones((2, 4, 4))}, "Boolean masks"),
    "none": ({}, "masks by name"),
    "list": (list(SIDES.values()), "masks by name"),
    "name": ({"decay": SIDES["chosen"], "rest": SIDES["rejected"]}, "none of them 'decay'"),
}


@pytest.mark.parametrize("case", BAD)
def test_sources_that_are_no_partition_are_refused_in_one_line(case):
    sources, message = BAD[case]
    with pytest.raises(ValueError, match=message) as told:
        accounted(sources=sources)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"judged": PAIRS[0]}, "batch"),
        ({"judged": PreferencePairs.from_lists([[0]], [[9]], [[1]], vocab_size=10)}, "ids"),
        ({"over": ("nothing",)}, "sources, judged, got 'nothing'"),
        ({"steps": 0}, "steps"),
        ({"batch_size": 2}, "go together"),
        ({"optimizer": optax.sgd(0.1)}, "must make an optimiser"),
    ],
)
def test_bad_input(options, message):
    with pytest.raises(ValueError, match=message):
        accounted(**options)
