"""T24: whether one step is right for all pairs, the best one, and what it costs; against explicit gradients.

Round-off: slopes are sums over n gradients of products that are known to a few ε ‖g_i‖‖g_j‖, so everything is compared
relative to that size, (‖g_i‖ + S) S for S = Σ_j w_j‖g_j‖, with 16 n ε allowed as in `theory.cancels`.
"""

from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, event, given
from hypothesis import strategies as st
from oracles import assert_close
from strategies import seeds

from toymodel import PairGram, gradients, theory
from toymodel.data.families import contrast_pairs
from toymodel.models import linear

EPS = float(np.finfo(float).eps)
PAIRS = (1, 2, 8)  # few sizes, few programs
slopes = st.just(0.0) | st.floats(1e-3, 10)
scales = st.sampled_from([1e-20, 1.0, 1e20])  # of all gradients: what is told from round-off has no unit
common_weights = jax.jit(theory.common_weights)


class Batch(NamedTuple):
    """Gradients of N pairs, chosen first; `signed` are the points of the hull."""

    gradients: np.ndarray  # [2N, P]
    signs: np.ndarray  # [2N]

    @property
    def signed(self):
        return self.signs[:, None] * self.gradients

    @property
    def gram(self):
        return self.gradients @ self.gradients.T

    @property
    def norms(self):
        return np.linalg.norm(self.gradients, axis=1)

    @property
    def roundoff(self):
        return 16 * len(self.signs) * EPS

    def sizes(self, weights):
        """Sizes of what is summed in the slopes along the weighted sum, and in its square."""
        total = weights @ self.norms
        return (self.norms + total) * total


def signs_of(n):
    return np.where(np.arange(n) < n // 2, 1.0, -1.0)


@st.composite
def batches(draw, pairs=PAIRS):
    """From few parameters to more than gradients; entangled by any degree, parallel too; lengths over four orders."""
    n = 2 * draw(st.sampled_from(pairs))
    P = draw(st.sampled_from([1, n // 2, n, 2 * n]))
    rng = np.random.default_rng(draw(seeds))
    shared, spread = draw(st.floats(0, 3)), draw(st.floats(0, 2))
    found = rng.standard_normal((n, P)) + shared * rng.standard_normal(P)
    found = found[rng.integers(n, size=n)] if draw(st.booleans()) else found
    return Batch(found * 10 ** (spread * rng.uniform(-1, 1, (n, 1))), signs_of(n))


def hull_of_zero(seed, N, P, scale):
    """Gradients of N pairs whose hull has 0 inside or on an edge: planted weights, and their points centred on 0."""
    rng = np.random.default_rng(seed)
    planted = rng.dirichlet(np.ones(2 * N)) * (rng.random(2 * N) < 0.7)
    planted[rng.permutation(2 * N)[:2]] += 1
    planted /= planted.sum()
    points = rng.standard_normal((2 * N, P))
    points -= planted @ points
    return Batch(scale * signs_of(2 * N)[:, None] * points, signs_of(2 * N))


# --- the common step ------------------------------------------------------------------------------------------------


@given(batches())
def test_t24_every_slope_is_at_least_the_square_of_the_hulls_shortest_point(b):
    """And exactly that where the weight is positive, so that the inequality is as tight as it can be."""
    exists, least, weights = theory.find_common_step(b.gram)
    assert (weights >= 0).all()
    assert_close(weights.sum(), 1, 1, b.roundoff)
    u = weights @ b.signed
    sizes = b.sizes(weights)
    assert_close(least, u @ u, sizes @ weights, b.roundoff)
    slopes = b.signed @ u
    assert np.all(slopes >= least - b.roundoff * sizes)
    carrying = weights * b.norms > 1e-6 * (weights @ b.norms)  # below, a slope off by round-off has no effect
    assert_close(slopes[carrying], least, sizes[carrying], b.roundoff)
    if exists:
        assert np.all(slopes > 0)
    event(f"exists: {exists}, all gradients carry weight: {carrying.all()}")


@given(batches(), seeds, st.floats(1e-6, 1))
def test_t24_no_step_of_that_length_has_a_larger_least_slope(b, seed, away):
    """Random directions, and perturbations of u itself."""
    exists, least, weights = theory.find_common_step(b.gram)
    assume(exists)
    u = weights @ b.signed
    noise = np.random.default_rng(seed).standard_normal((20, len(u)))
    noise *= np.linalg.norm(u) / np.linalg.norm(noise, axis=1, keepdims=True)
    for step in (*noise, *(u + away * noise)):
        assert (b.signed @ step).min() <= np.sqrt(least) * np.linalg.norm(step) + b.roundoff * b.norms.max() * (
            weights @ b.norms
        )


@given(seeds, st.sampled_from(PAIRS), st.sampled_from([1, 3, 40]), scales)
def test_t24_without_a_common_step_the_weights_prove_it(seed, N, P, scale):
    """A convex combination of the gradients that vanishes: no direction has a positive slope along all of them."""
    b = hull_of_zero(seed, N, P, scale)
    exists, least, weights = theory.find_common_step(b.gram)
    assert not exists
    assert (weights >= 0).all()
    assert_close(weights.sum(), 1, 1, b.roundoff)
    # A square is known to round-off, and its root to the root of that.
    assert_close(least, 0, (weights @ b.norms) ** 2, b.roundoff)
    assert_close(np.linalg.norm(weights @ b.signed), 0, weights @ b.norms, np.sqrt(b.roundoff))


@given(seeds, st.sampled_from(PAIRS), st.sampled_from([1, 3, 40]), st.floats(1e-4, 0.1), scales)
def test_t24_a_leak_out_of_such_a_hull_is_found_to_be_the_step(seed, N, P, leak, scale):
    """All points moved by `leak` along a direction of its own: the hull comes that near 0, and no nearer."""
    b, leak = hull_of_zero(seed, N, P, scale), leak * scale
    moved = Batch(np.hstack([b.gradients, leak * b.signs[:, None]]), b.signs)
    exists, least, weights = theory.find_common_step(moved.gram)
    assert exists
    assert_close(least, leak**2, (weights @ moved.norms) ** 2, moved.roundoff)


@given(batches(), seeds)
def test_t24_existence_does_not_depend_on_the_lengths_of_gradients(b, seed):
    lengths = 10 ** np.random.default_rng(seed).uniform(-2, 2, (len(b.signs), 1))
    one, other = (theory.find_common_step(x.gram) for x in (b, b._replace(gradients=lengths * b.gradients)))
    # Near the edge lengths matter to what is told from round-off.
    assume(not one.exists or one.least_slope > 1e-6 * (one.weights @ b.norms) ** 2)
    assert one.exists == other.exists


B = 24  # pairs of THEORY's trial


@lru_cache
def linear_world(seed, V=7, dim=4):
    """B pairs of eight tokens that differ in one, V × dim parameters; their responses and the closed Gram matrix."""
    of_pairs, of_model, of_params = jax.random.split(jax.random.key(seed), 3)
    pairs = contrast_pairs(of_pairs, B, vocab_size=V, length=8, prompt_length=2)
    prompts = np.stack([np.arange(B) // V, np.arange(B) % V], axis=1)  # no two pairs share a context
    pairs = replace(pairs, prompt=jnp.asarray(prompts))
    model = linear.random_features(of_model, V, pairs, dim=dim, correlation=0.95)
    params = linear.init_params(of_params, model)
    responses, _ = theory.as_group(pairs)
    return model, params, responses, np.asarray(theory.group_gram(model, params, responses))


def of_first(pairs):
    """The places of the first few pairs' responses in a batch of B."""
    return np.concatenate([np.arange(pairs), B + np.arange(pairs)])


@pytest.mark.parametrize("seed", range(3))
def test_t24_predicted_from_a_closed_gram_and_measured_along_the_step(seed):
    """No gradient is built for the prediction; the measurement is a derivative of the model along the step."""
    model, params, responses, gram = linear_world(seed)
    for pairs in (2, 12):
        some = of_first(pairs)
        exists, least, weights = theory.find_common_step(gram[np.ix_(some, some)])
        step = np.zeros(2 * B)
        step[some] = signs_of(2 * pairs) * weights
        slopes = signs_of(2 * B) * gradients.group_slopes(model, params, responses, jnp.asarray(step))
        assert exists
        # Gradients of 8 tokens, with ‖s‖‖φ‖ < √2, and a softmax and two dot products of less than 16 terms in each.
        roundoff = 64 * 8**2 * EPS
        assert np.all(slopes[some] >= least - roundoff)
        assert_close(slopes[some][weights > 1e-6], least, 1, roundoff)


@pytest.mark.parametrize(("pairs", "fewest", "most"), [(12, 10, 10), (16, 1, 10), (24, 0, 0)])
def test_t24_a_common_step_exists_while_parameters_are_more_than_gradients(pairs, fewest, most):
    """(V − 1)d = 24 parameters act: 24 gradients are independent, so any slopes can be had; 48 are too many."""
    some = of_first(pairs)
    found = [theory.find_common_step(linear_world(seed)[3][np.ix_(some, some)]).exists for seed in range(10)]
    assert fewest <= sum(found) <= most


# --- under jit ------------------------------------------------------------------------------------------------------


@given(batches())
def test_t24_the_solver_for_training_agrees_with_the_exact_one(b):
    exact, weights = theory.find_common_step(b.gram), np.asarray(common_weights(b.gram, b.signs))
    assert (weights >= 0).all()
    assert_close(weights.sum(), 1, 1, b.roundoff)
    u, sizes = weights @ b.signed, b.sizes(weights)
    assert np.all(b.signed @ u >= u @ u - b.roundoff * sizes)
    assert_close(u @ u, exact.least_slope, np.maximum(weights @ b.norms, exact.weights @ b.norms) ** 2, b.roundoff)
    assert bool(theory.cancels(b.gram, b.signs * weights)) == (not exact.exists)


def test_t24_parallel_gradients_never_break_the_solver():
    """Entries off by a unit round-off make a system of parallel gradients singular, unless its ridge is larger."""
    rng = np.random.default_rng(0)
    one = rng.uniform(0.1, 10, (4000, 2))
    grams = one[:, :, None] * one[:, None, :] * (1 + EPS * rng.integers(-1, 2, (4000, 2, 2)))
    weights = jax.jit(jax.vmap(theory.common_weights, in_axes=(0, None)))(grams, np.array([1.0, -1.0]))
    assert np.isfinite(weights).all()


@given(batches(pairs=(2, 8)), seeds, st.floats(-3, 3))
def test_t24_damped_weights_solve_their_problem(b, seed, power):
    """Slopes and pulls together are at least μ, and μ where the weight is positive: enough for a convex problem."""
    rng, damping = np.random.default_rng(seed), 10**power
    advantages = b.signs * rng.uniform(0.1, 1, len(b.signs))
    share = abs(advantages) / abs(advantages).sum()
    weights = np.asarray(common_weights(b.gram, advantages, damping))
    assert (weights >= 0).all()
    assert_close(weights.sum(), 1, 1, b.roundoff)
    forces = b.signed @ (weights @ b.signed) + damping * b.norms**2 * (weights - share)
    pulls = damping * b.norms**2 * (weights + share)
    sizes = b.sizes(weights) + pulls + weights @ pulls + damping * b.norms * (weights @ b.norms)
    level, roundoff = weights @ forces, 4 * b.roundoff  # the solution is a difference of two, each of that round-off
    assert np.all(forces >= level - roundoff * sizes)
    carrying = weights * b.norms > 1e-6 * (weights @ b.norms)
    assert_close(forces[carrying], level, sizes[carrying], roundoff)


@given(batches(pairs=(2, 8)), seeds)
def test_t24_damping_leads_from_the_common_step_to_the_plain_one(b, seed):
    advantages = b.signs * np.random.default_rng(seed).uniform(0.1, 1, len(b.signs))
    share = abs(advantages) / abs(advantages).sum()
    # The forces of the problem are at most ‖g_i‖ max‖g‖, and λ‖g_i‖² pulls back.
    assert_close(common_weights(b.gram, advantages, 1e9), share, b.norms.max() / b.norms.min(), 1e-8)
    tiny, none = (np.asarray(common_weights(b.gram, advantages, damping)) for damping in (1e-13, 0.0))
    least = [np.linalg.norm(weights @ b.signed) ** 2 for weights in (tiny, none)]
    # λ‖…‖² is at most 1e-13 (‖y‖ + ‖shares‖)², each below n max‖g‖.
    assert abs(least[0] - least[1]) <= 1e-13 * (2 * len(share) * b.norms.max()) ** 2


@given(batches(pairs=(8,)), seeds)
def test_t24_responses_without_advantage_or_gradient_take_no_part(b, seed):
    rng = np.random.default_rng(seed)
    left, zero = rng.permutation(16)[:2]
    gradient = b.gradients.copy()
    gradient[zero] = 0
    advantages = np.where(np.arange(16) == left, 0, b.signs)
    weights = np.asarray(common_weights(gradient @ gradient.T, advantages))
    assert weights[left] == weights[zero] == 0
    rest = np.delete(b.signed, [left, zero], axis=0)
    u = weights @ b.signed
    assert np.all(rest @ u >= u @ u - b.roundoff * np.linalg.norm(rest, axis=1) * (weights @ b.norms))
    assert not np.any(common_weights(b.gram, np.zeros(16)))


# --- the price ------------------------------------------------------------------------------------------------------


@given(seeds, st.floats(-0.999, 0.999), slopes, slopes)
def test_t24_the_price_is_the_square_of_the_shortest_step_with_these_slopes(seed, cosine, s, t):
    """Among all steps with slopes (s, −t): least squares finds the shortest. Cosines up to 0.999: entangled."""
    rng = np.random.default_rng(seed)
    basis = np.linalg.qr(rng.standard_normal((5, 2)))[0].T
    norms = rng.uniform(0.1, 3, 2)
    chosen, rejected = norms[0] * basis[0], norms[1] * (cosine * basis[0] + np.sqrt(1 - cosine**2) * basis[1])
    step = np.linalg.lstsq(np.stack([chosen, rejected]), np.array([s, -t]), rcond=None)[0]
    gram = PairGram(chosen @ chosen, rejected @ rejected, chosen @ rejected)
    price = theory.step_price(gram, s, t)
    # The determinant is a difference of two products: 1 − cos² of them is left.
    size = (s / norms[0] + t / norms[1]) ** 2 / (1 - cosine**2)
    assert_close(price, step @ step, size, 256 * EPS / (1 - cosine**2))


@given(batches(pairs=(1,)))
def test_t24_a_pairs_common_step_is_worth_its_price(b):
    """Where both gradients carry weight, u has the slopes (‖u‖², −‖u‖²), and nothing shorter has."""
    exists, least, weights = theory.find_common_step(b.gram)
    sine = 1 - b.gram[0, 1] ** 2 / (b.gram[0, 0] * b.gram[1, 1])
    assume(exists and weights.min() > 1e-6 and sine > 1e-6)
    gram = PairGram(b.gram[0, 0], b.gram[1, 1], b.gram[0, 1])
    assert_close(theory.step_price(gram, least, least) / least, 1, 1, 1e-9)  # sines of 1e-6 lose six digits of fifteen


# --- bad input ------------------------------------------------------------------------------------------------------

BAD_GRAMS = {
    "no pairs": (np.zeros((0, 0)), r"shape \[2N, 2N\] for N >= 1 pairs, chosen first, got shape \(0, 0\)"),
    "odd": (np.eye(3), r"got shape \(3, 3\)"),
    "not square": (np.ones((2, 4)), r"got shape \(2, 4\)"),
    "NaN": (np.array([[1, np.nan], [np.nan, 1]]), r"`gram` must be finite, got nan at index \(0, 1\)"),
    "not symmetric": (
        np.array([[1, 0.5], [0.4, 1]]),
        r"`gram` must be symmetric, got 0.5 at \(0, 1\) and 0.4 at \(1, 0\)",
    ),
    "negative square": (np.diag([1.0, -2.0]), "squared norms >= 0 on its diagonal, got -2.0"),
    "not a Gram matrix": (
        np.array([[1.0, 2.0], [2.0, 1.0]]),
        "positive semidefinite, got cosines with an eigenvalue of -1",
    ),
}


@pytest.mark.parametrize(("gram", "message"), BAD_GRAMS.values(), ids=BAD_GRAMS)
def test_bad_grams(gram, message):
    with pytest.raises(ValueError, match=message):
        theory.find_common_step(gram)


def test_parallel_gradients_have_no_price():
    with pytest.raises(ValueError, match="`gram` must be that of gradients that are not parallel"):
        theory.step_price(PairGram(1.0, 4.0, 2.0), 1.0, 1.0)


def test_gradients_of_very_different_lengths_have_a_price():
    """A slope of 1 along the short one alone, at a cosine of 1/2; four roundings."""
    assert_close(theory.step_price(PairGram(1e-10, 1e10, 0.5), 1.0, 0.0), 1e10 / 0.75, 1e10, 4 * 2**-52)


def test_a_singular_gram_matrix_is_not_bad():
    """More gradients than parameters, identical ones, whole numbers and zeros are all answered."""
    assert not theory.find_common_step(np.ones((2, 2), int)).exists  # chosen = rejected
    assert not theory.find_common_step(np.diag([1.0, 0.0])).exists  # a gradient of zero moves nowhere
    alike = theory.find_common_step(np.kron([[1, -1], [-1, 1]], np.ones((3, 3))))  # g_l = −g_w, three times
    assert alike.exists
    assert alike.least_slope == pytest.approx(1, rel=1e-14)
