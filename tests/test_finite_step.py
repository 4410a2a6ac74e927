"""T12, T13: steps of any size, against the model before and after them.

Round-off is that of `World.roundoff`, relative to the log-probabilities before the step and to the largest amount by
which the step can move them, unless a test says otherwise.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import event, example, given
from hypothesis import strategies as st
from oracles import assert_close, single, slope_sizes, token_sizes
from steps import change_sizes, sgd_changes, step_sizes
from strategies import FEATURE_DIM, as_numpy, one_token_pair, seeds, temperatures, weights, world, worlds

from toymodel import PreferencePairs, gradients, theory
from toymodel.models import linear
from toymodel.models.logps import pair_logps
from toymodel.models.unconstrained import init_params, unconstrained

MODELS = ("random_features", "positional_offset")  # correlated features, and frozen parts; few compilations


def predicted(w, etas, d_chosen=1.0, d_rejected=1.0):
    """Slopes [2], both shortfalls [2] and the exact changes [2, etas] of a world's pair."""
    arguments = (w.model, w.params, w.pairs)
    slopes = single(theory.slopes(theory.pair_gram(*arguments), d_chosen, d_rejected))
    directions = as_numpy(theory.logit_directions(*arguments, d_chosen, d_rejected))
    shortfalls = [single(map(f, directions)) for f in (theory.range_shortfall, theory.norm_shortfall)]
    changes = exact_changes(*arguments, etas, d_chosen, d_rejected)
    return slopes, *shortfalls, np.asarray(changes)


@jax.jit
def exact_changes(model, params, pairs, etas, d_chosen, d_rejected):
    def change(eta):
        return jnp.array(theory.exact_change(model, params, pairs, eta, d_chosen, d_rejected))[:, 0]

    return jax.vmap(change)(etas).T


# --- T12: linear softmax, every step size ---------------------------------------------------------------------------


@given(worlds(MODELS), weights, weights)
def test_t12_logit_directions_are_what_the_step_adds_to_the_logits(w, d_chosen, d_rejected):
    chosen, rejected = as_numpy(gradients.pair_gradients(w.model, w.params, w.pairs))
    step = (d_chosen * chosen[0] - d_rejected * rejected[0]).reshape(w.params.shape)
    step_size = np.array([d_chosen, d_rejected]) @ [size.sum() for size in token_sizes(w)]
    directions = as_numpy(theory.logit_directions(w.model, w.params, w.pairs, d_chosen, d_rejected))
    for states, direction in zip(w.states, directions, strict=True):
        measured = (states.features @ step.T) * states.mask[:, None]
        size = np.linalg.norm(states.features, axis=1)[:, None] * step_size
        assert_close(direction[0], measured, size, w.roundoff)


@given(worlds(MODELS), step_sizes, weights, weights)
def test_t12_change_is_exact_and_bounded_at_every_step_size(w, etas, d_chosen, d_rejected):
    slopes, shortfall, loose, changes = predicted(w, etas, d_chosen, d_rejected)
    measured = sgd_changes(w.model, w.params, w.pairs, etas, d_chosen, d_rejected)
    sizes = change_sizes(w, etas, d_chosen, d_rejected)
    assert_close(changes, measured, sizes, w.roundoff)
    assert np.all(shortfall <= loose * (1 + w.roundoff))
    for bound in (shortfall, loose):
        low, high = theory.change_bounds(slopes[:, None], bound[:, None], etas)
        slip = w.roundoff * (sizes + etas**2 * bound[:, None])
        assert np.all(measured <= high + slip)
        assert np.all(measured >= low - slip)
    # No learning rate repairs a slope that is not positive.
    falls = (slopes[:, None] <= 0) & (etas * abs(slopes[:, None]) > w.roundoff * sizes)
    assert np.all(measured[falls] < 0)
    event(f"chosen falls at every step size: {bool(falls[0].any())}")


@given(worlds(MODELS), weights, weights)
def test_t12_every_step_below_the_certified_one_raises_the_chosen(w, d_chosen, d_rejected):
    slopes, *shortfalls, _ = predicted(w, np.ones(9), d_chosen, d_rejected)
    fractions = np.array([1e-3, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99, 0.999, 1 - 1e-6])
    for shortfall in shortfalls:
        step = float(theory.certified_step(slopes[0], shortfall[0]))
        assert (step > 0) == (slopes[0] > 0)
        if 0 < step < np.inf:
            etas = fractions * step
            measured = sgd_changes(w.model, w.params, w.pairs, etas, d_chosen, d_rejected)[0]
            surely = fractions * (1 - fractions) * slopes[0] * step  # the lower bound, f(1 − f) · slope²/shortfall
            clear = surely > w.roundoff * change_sizes(w, etas, d_chosen, d_rejected)[0]
            assert np.all(measured[clear] > 0)
            event(f"clear of round-off: {bool(clear.all())}")


@given(st.floats(1e-3, 0.02))
def test_t12_certified_step_is_nearly_the_largest_that_raises_the_chosen(gap):
    """Chosen (0, 0, 1, 1) in a unigram model, p = ½ − gap: the step g_w overshoots the best p, ½, when η passes 4/4.

    Along it log π is a parabola but for terms of relative size gap², and 4p(1 − p) ≥ 0.998: 2 % on either side decide.
    """
    pairs = PreferencePairs.from_lists([[]], [[0, 0, 1, 1]], [[1]], vocab_size=2)
    w = world("unigram", pairs, 2)._replace(params=jnp.array([[np.log((0.5 - gap) / (0.5 + gap))], [0.0]]))
    slopes, shortfall, _, _ = predicted(w, np.ones(9), 1.0, 0.0)
    step = theory.certified_step(slopes[0], shortfall[0])
    assert_close(step, 1.0, 1, 1e-10)  # gap is a difference from ½: up to 1e3 unit round-offs
    change = sgd_changes(w.model, w.params, pairs, step * np.array([0.5, 0.98, 1.02, *[1.0] * 6]), 1.0, 0.0)[0]
    assert np.all(change[:2] > 0)
    assert change[2] < 0


def test_t12_beyond_the_threshold_length_no_step_size_raises_the_chosen():
    """T8's pair with n = 30 > L* = 23.75 suffix tokens: DPO lowers the chosen from η = 1e-4 to 1e4."""
    V, n, (a, b) = 20, 30, (0.9, 0.5)
    pairs = PreferencePairs.from_lists([[]], [[0] + [2] * n], [[1] + [2] * n], vocab_size=V)
    peaked = [jnp.log(jnp.full(V, (1 - top) / (V - 1)).at[2].set(top)) for top in (a, b)]
    logits = [jnp.tile(row, (1, n + 1, 1)).at[0, 0].set(0.0) for row in peaked]
    model, params = linear.positional_offset(V, pairs, *logits), jnp.zeros((V, n + 1))
    assert theory.case(theory.pair_gram(model, params, pairs)) == ["both_down"]
    assert np.all(sgd_changes(model, params, pairs, 10.0 ** np.arange(-4, 5)) < 0)
    assert theory.certified_step(theory.slopes(theory.pair_gram(model, params, pairs))[0], 1.0) == 0


@given(worlds(MODELS), st.floats(1e-4, 0.01))
def test_t12_slope_is_nearly_reached_by_small_steps(w, fraction):
    """At a fraction f of the certified step (of the |slope|) the change is within f of η · slope, and not above it."""
    slopes, shortfall, _, _ = predicted(w, np.ones(9))
    for side in range(2):
        if abs(slopes[side]) > 1e-6 and shortfall[side] > 0:
            etas = np.full(9, fraction * abs(slopes[side]) / shortfall[side])
            measured = sgd_changes(w.model, w.params, w.pairs, etas)[side, 0]
            high = etas[0] * slopes[side]
            slip = w.roundoff * change_sizes(w, etas)[side, 0]
            assert high - fraction * abs(high) - slip <= measured <= high + slip


@given(st.floats(0.45, 0.55), st.floats(0.01, 0.2), st.integers(1, 4))
def test_t12_lower_bound_is_nearly_reached_by_two_even_tokens(p, eta, length):
    """V = 2, p near ½ and every position different: 4p(1−p) ≥ 0.99 of the bound, less (2η)²/6 < 3 % of it by η⁴."""
    pairs = PreferencePairs.from_lists([[]], [[0] * length], [[1] * length], vocab_size=2, length=4)
    model = linear.positional(2, 4)
    w = world("positional", pairs, 2)._replace(
        model=model, params=jnp.array([[np.log(p / (1 - p))], [0.0]]) * jnp.ones((2, 4))
    )
    slopes, shortfall, loose, _ = predicted(w, np.ones(9))
    etas = np.full(9, eta)
    missing = etas[0] * slopes - sgd_changes(w.model, w.params, pairs, etas)[:, 0]
    slip = w.roundoff * change_sizes(w, etas)[:, 0]
    assert np.all(missing <= eta**2 * shortfall + slip)
    assert np.all(missing >= 0.95 * eta**2 * shortfall - slip)
    assert_close(shortfall, loose, loose, w.roundoff)  # of two opposite entries, range² = 2‖v‖²


def test_t12_needs_a_log_probability_that_is_concave_in_the_parameters():
    """Head and hidden state both trained, W = (0.1, −0.1), h = 0.1: slope 0.0297, but a step of 1 changes by 0.0483."""
    model, pairs = unconstrained(linear.unigram(2)), one_token_pair(2, 0, 1)
    params = {"head": jnp.array([[0.1], [-0.1]]), "hidden": jnp.array([[0.1]])}
    slope = gradients.slopes(model, params, pairs)[0][0]
    assert gradients.step_change(model, params, pairs, optax.sgd(1.0))[0][0] > 1.6 * slope > 0


# --- T13: halving the step divides the error of the slope by four ---------------------------------------------------


class FreeWorld(NamedTuple):
    """Unconstrained features with a batch of one pair."""

    model: object
    params: dict
    pairs: PreferencePairs
    roundoff: float


@st.composite
def free_worlds(draw):
    """The contexts of a drawn world, with a learned hidden state for each."""
    w = draw(worlds(("prefix",), temperature=st.just(1.0)))
    model, params = build_free(w.model, jax.random.key(draw(seeds)), draw(temperatures))
    return FreeWorld(model, params, w.pairs, 10 * w.roundoff)  # logits up to 1/0.03 · √(2 log V) times those of w


@jax.jit
def build_free(table, key, temperature):
    model = unconstrained(table)
    return model, init_params(key, model, dim=FEATURE_DIM, temperature=temperature)


@jax.jit
def path(model, params, pairs):
    """Slopes [2], and per response the velocity and acceleration of the logits along the pair's own step."""
    pair = jax.tree.map(lambda a: a[0], pairs)
    chosen, rejected = gradients.pair_gradients(model, params, pairs)
    flat, unravel = jax.flatten_util.ravel_pytree(params)
    step = chosen[0] - rejected[0]
    slopes = jnp.array(theory.slopes(gradients.pair_gram(model, params, pairs)))[:, 0]

    def logits(eta, response):
        return model.logits(unravel(flat + eta * step), response) * response.mask[:, None]

    # The logits are a quadratic polynomial in η, so central differences over any step are exact.
    moves = []
    for response in (pair.chosen_response, pair.rejected_response):
        back, here, ahead = (logits(eta, response) for eta in (-1.0, 0.0, 1.0))
        moves.append(((ahead - back) / 2, (ahead + back) / 2 - here))
    return slopes, moves


def halving(w, move):
    """[2]: errors of η · slope at η and at η/2, halving_bound, slip; η moves no logit by more than about `move`."""
    slopes, moves = as_numpy(path(w.model, w.params, w.pairs))
    fastest = max(float(abs(v).max() + np.sqrt(abs(q).max())) for v, q in moves)
    eta = move / fastest if fastest > 0 else move
    etas = eta / np.array([1, 2] + [2] * 7)
    errors = sgd_changes(w.model, w.params, w.pairs, etas)[:, :2] - np.outer(slopes, etas[:2])
    bound = np.array([theory.halving_bound(v, q, eta) for v, q in moves])
    logps = abs(single(pair_logps(w.model, w.params, w.pairs)))
    # Of the log-probabilities; and of the step and its slopes, in which parts that both answers share cancel.
    slip = 4 * w.roundoff * (w.pairs.chosen.shape[1] * (1 + move) + logps) + 2 * eta * w.roundoff * slope_sizes(w)
    return errors, bound, slip


def nearly_cancelled():
    """The answers share an unlikely token, and the rejected one goes on with a certain one: a tiny step, a large η."""
    pairs = PreferencePairs.from_lists([[0, 0]], [[0]], [[0, 0]], vocab_size=2, length=4)
    w = world("prefix", pairs, 2)
    hidden = np.where(np.arange(w.params.shape[1]) == 0, -0.3, 1.0)[:, None]
    params = {"head": np.array([[12.0], [-12.0]]), "hidden": hidden}
    return FreeWorld(unconstrained(w.model), params, pairs, 10 * w.roundoff)


@given(st.one_of(free_worlds(), worlds(("random_features",))), st.floats(1e-3, 1.0))
@example(nearly_cancelled(), 1.0)
def test_t13_error_of_the_slope_is_quartered_when_the_step_is_halved(w, move):
    errors, bound, slip = halving(w, move)
    assert np.all(abs(errors[:, 0] - 4 * errors[:, 1]) <= bound + slip)
    # Where the bound is small against the error, the ratio itself is 4, within that bound.
    clear = abs(errors[:, 1]) > 20 * (bound + slip)
    ratio = errors[clear, 0] / errors[clear, 1]
    assert np.all(abs(ratio - 4) <= 0.05)
    event(f"ratio seen: {bool(clear.any())}")


@given(st.floats(0.17, 0.25), st.floats(0.005, 0.01))
def test_t13_bound_is_nearly_reached(p, eta):
    """Two tokens with p near ½ − 1/√12 = 0.21, where the third cumulant is largest: at least 95 % of the bound.

    At p in [0.17, 0.25] the third cumulant κ₃ is at least 0.967 of the largest, 2³/(6√3) = 0.77; along the step it
    changes by at most ηκ₄ ≤ 0.01 · 2⁴/8 · 0.6, that is 1.6 %: 0.6 is where the kernel has its mean.
    """
    pairs = one_token_pair(2, 0, 1)
    w = world("unigram", pairs, 2)._replace(params=jnp.array([[np.log(p / (1 - p))], [0.0]]))
    etas = np.array([eta, eta / 2, *[eta / 2] * 7])
    slopes, *_ = predicted(w, np.ones(9))
    errors = sgd_changes(w.model, w.params, pairs, etas)[:, :2] - np.outer(slopes, etas[:2])
    directions = as_numpy(theory.logit_directions(w.model, w.params, pairs))
    bound = np.array([float(theory.halving_bound(v[0], 0 * v[0], eta)) for v in directions])
    missing = abs(errors[:, 0] - 4 * errors[:, 1])
    slip = 5 * w.roundoff * change_sizes(w, etas)[:, 0]
    assert np.all(missing <= bound + slip)
    assert np.all(missing >= bound * 0.95 - slip)


def test_t13_a_wrong_slope_shows_in_the_ratio():
    """One per cent off, the error falls by 2 instead: the test above can tell."""
    w = world("unigram", one_token_pair(3, 0, 1), 3)
    etas = np.array([1e-3, 5e-4, *[1.0] * 7])
    slope = theory.slopes(theory.pair_gram(w.model, w.params, w.pairs))[0][0]
    change = sgd_changes(w.model, w.params, w.pairs, etas)[0]
    right, wrong = ((change - factor * slope * etas)[:2] for factor in (1, 1.01))
    assert right[0] / right[1] == pytest.approx(4, abs=0.01)
    # The wrong part is 0.01·slope·η, the curvature's η² is below a tenth of it at η = 1e-3: the ratio is 2 + O(0.1).
    assert wrong[0] / wrong[1] == pytest.approx(2, abs=0.2)
