"""T14: closed paths of gradient flow, against the equation, the loss's own gradient, and gradient descent.

The measurement is the derivative of a loss through the model (`linear.unigram`, one differing token); the losses are
written out here.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import assert_close
from scipy.special import wrightomega
from strategies import one_token_pair, seeds

from toymodel import PreferencePairs, theory
from toymodel.models.linear import LinearSoftmax
from toymodel.models.logps import response_logp

EPS = float(jnp.finfo(jnp.float64).eps)
times = st.floats(-8, 8).map(lambda exponent: 10.0**exponent)
betas = st.floats(-2, 1).map(lambda exponent: 10.0**exponent)


def dpo_loss(margin, beta):
    return jax.nn.softplus(-beta * margin)


def ipo_loss(margin, tau):
    return (margin - 1 / (2 * tau)) ** 2


# How fast the velocity changes with u, at most: the unit of time is its inverse.
LOSSES = {
    "dpo": (dpo_loss, theory.dpo_flow, lambda beta, sq: beta**2 * sq / 2),
    "ipo": (ipo_loss, theory.ipo_flow, lambda _, sq: 4 * sq),
}


@pytest.mark.parametrize("name", LOSSES)
def test_features_have_norm_one_unless_said_otherwise(name):
    _, flow, _ = LOSSES[name]
    assert flow(2.0, 0.3) == flow(2.0, 0.3, 1.0) != flow(2.0, 0.3, 2.0)


class Token(NamedTuple):
    """One context with features φ ∈ R² and logits Wφ, and a pair of one token each."""

    model: LinearSoftmax
    params: jax.Array
    pair: PreferencePairs
    feature_sq: float


@st.composite
def tokens(draw):
    V = draw(st.sampled_from([2, 5]))
    rng = np.random.default_rng(draw(seeds))
    features = rng.standard_normal((1, 2)) * draw(st.sampled_from([0.3, 1.0, 3.0]))
    chosen = draw(st.integers(0, V - 1))
    pair = one_token_pair(V, chosen, (chosen + draw(st.integers(1, V - 1))) % V)[0]
    params = jnp.asarray(rng.standard_normal((V, 2)) * draw(st.sampled_from([0.0, 1.0, 10.0])))
    model = LinearSoftmax("unigram", V, jnp.asarray(features), tabular=False)
    return Token(model, params, pair, float((features**2).sum()))


@jax.jit
def moved(token, u):
    """The parameters with the chosen logit up and the rejected logit down by u, and nothing else moved."""
    towards = jnp.zeros(token.params.shape[0]).at[token.pair.chosen[0]].add(1.0).at[token.pair.rejected[0]].add(-1.0)
    return token.params + u * towards[:, None] * token.model.features / token.feature_sq


@partial(jax.jit, static_argnums=0)
def descent_direction(loss, model, params, reference, pair, hyper):
    """−∇ of a loss of the margin of log-ratios, in the ordinary way."""

    def margin(params):
        return response_logp(model, params, pair.chosen_response) - response_logp(model, params, pair.rejected_response)

    return -jax.grad(lambda params: loss(margin(params) - margin(reference), hyper))(params)


@given(times, betas, st.sampled_from([0.1, 1.0, 10.0]))
def test_t14_dpo_flow_solves_its_equation_and_is_lamberts_function(t, beta, sq):
    x = 2 * beta * float(theory.dpo_flow(t, beta, sq))
    grown = 2 * beta**2 * sq * t
    # 2βu + e^{2βu} = 1 + grown, without the 1 on both sides; e^x turns an error of x into x times as much.
    assert_close(x + np.expm1(x), grown, grown * (1 + x), 8 * EPS)
    assert_close(x, 1 + grown - wrightomega(1 + grown), 2 + grown, 8 * EPS)


@partial(jax.jit, static_argnums=0)
def and_velocity(flow, t, hyper, feature_sq):
    return jax.jvp(lambda t: flow(t, hyper, feature_sq), (t,), (jnp.ones_like(t),))


@pytest.mark.parametrize("name", LOSSES)
@given(token=tokens(), t=times, hyper=betas)
def test_t14_velocity_is_the_gradient_of_the_loss_on_the_path(name, token, t, hyper):
    loss, flow, _ = LOSSES[name]
    u, velocity = and_velocity(flow, t, hyper, token.feature_sq)
    direction = descent_direction(loss, token.model, moved(token, u), token.params, token.pair, hyper)
    predicted = moved(token, velocity) - token.params
    # Round-off of the margin (logits up to 1e2, and u), as the weight sees it: β²/4 per nat for DPO, 2 for IPO.
    logits = abs(token.params @ token.model.features.T).max() + u
    weight = {"dpo": hyper * (1 + hyper * logits), "ipo": 1 / hyper + 2 * logits}[name]
    size = weight * np.sqrt(token.feature_sq) + abs(token.params)
    assert_close(direction, predicted, size, 64 * EPS)


logp_of, flow_logps = jax.jit(response_logp), jax.jit(theory.flow_logps)


@pytest.mark.parametrize("name", LOSSES)
@given(token=tokens(), t=times, hyper=betas)
def test_t14_log_probabilities_on_the_path_are_the_models(name, token, t, hyper):
    u = LOSSES[name][1](t, hyper, token.feature_sq)
    logits = token.params @ token.model.features[0]
    chosen, rejected = int(token.pair.chosen[0]), int(token.pair.rejected[0])
    params, size = moved(token, u), 10 + abs(logits).max() + u
    for logp, response in zip(
        flow_logps(logits, chosen, rejected, u),
        (token.pair.chosen_response, token.pair.rejected_response),
        strict=True,
    ):
        assert_close(logp, logp_of(token.model, params, response), size, 16 * EPS)
    several = np.stack(flow_logps(logits, chosen, rejected, np.array([0.0, u, 2 * u])))
    assert np.all(np.diff(several, axis=1) * np.array([[1], [-1]]) >= -16 * EPS * size)  # separates, for ever


STEPS = (50, 100, 200)


@partial(jax.jit, static_argnums=(0, 1))
def descend(loss, steps, model, params, pair, hyper, eta):
    def step(now, _):
        return now + eta * descent_direction(loss, model, now, params, pair, hyper), None

    return jax.lax.scan(step, params, None, length=steps)[0]


@pytest.mark.parametrize("name", LOSSES)
@given(token=tokens(), units=st.floats(0.3, 2.0), hyper=betas)
def test_t14_gradient_descent_approaches_the_flow_in_proportion_to_the_step(name, token, units, hyper):
    """Halving the step halves the distance: error = aη + O(η²), the second term smaller by η in units of time."""
    loss, flow, rate = LOSSES[name]
    t = units / rate(hyper, token.feature_sq)
    u = flow(t, hyper, token.feature_sq)
    errors = []
    for steps in STEPS:
        end = descend(loss, steps, token.model, token.params, token.pair, hyper, t / steps)
        errors.append(float(((end - moved(token, u)) @ token.model.features[0])[token.pair.chosen[0]]))
    assert all(abs(error) <= u * units / steps for error, steps in zip(errors, STEPS, strict=True))
    for coarse, fine, steps in zip(errors, errors[1:], STEPS, strict=False):
        assert fine > 0
        assert abs(coarse / fine - 2) <= 2 * (1 + units) * units / steps, (coarse / fine, units)


@given(st.floats(-200, -2), betas, st.sampled_from([0.1, 10.0]))
def test_t14_flows_begin_with_the_slope_of_t4(exponent, hyper, sq):
    """u = β‖φ‖²t/2 and ‖φ‖²t/τ at first, down to times of 1e-200; the rest is of second order in t."""
    grown = 10.0**exponent
    t = grown / (2 * hyper**2 * sq)
    x = 2 * hyper * float(theory.dpo_flow(t, hyper, sq))
    # x ≤ (x + e^x − 1)/2 = grown/2, and e^x − 1 − x ≤ 0.51 x² for x ≤ 0.01.
    assert -4 * EPS <= (grown / 2 - x) / grown <= 0.51 * grown / 8 + 4 * EPS
    t = grown / (4 * sq)
    v = 4 * hyper * float(theory.ipo_flow(t, hyper, sq))
    assert -4 * EPS <= (grown - v) / grown <= grown / 2 + 4 * EPS


@given(st.floats(2, 200), betas, st.sampled_from([0.1, 10.0]))
def test_t14_dpo_ends_like_a_logarithm_and_ipo_at_its_target(exponent, hyper, sq):
    """x = log(c − x) lies between log(c − log c) and log c; IPO's margin 2u between 0 and 1/(2τ)."""
    c = 10.0**exponent
    t = c / (2 * hyper**2 * sq)
    x = 2 * hyper * float(theory.dpo_flow(t, hyper, sq))
    assert np.log(c - np.log(c)) * (1 - 4 * EPS) <= x <= np.log1p(c) * (1 + 4 * EPS)
    u = np.asarray(theory.ipo_flow(np.array([0.0, 0.1, 1.0, 10.0, c]) / sq, hyper, sq))
    assert u[0] == 0
    assert np.all(np.diff(u) >= 0)
    assert_close(2 * u[-1], 1 / (2 * hyper), 1 / hyper, EPS)


def test_t14_needs_the_reference_to_be_the_initial_policy():
    """From a reference that is one nat behind, DPO starts with σ(−β) in place of σ(0), and is on no such path."""
    pair = one_token_pair(2, 0, 1)[0]
    model, reference = LinearSoftmax("unigram", 2, jnp.ones((1, 1))), jnp.zeros((2, 1))
    direction = descent_direction(dpo_loss, model, jnp.array([[1.0], [0.0]]), reference, pair, 1.0)
    assert_close(direction[0], jax.nn.sigmoid(-1.0), 1, 4 * EPS)
    assert_close(jax.grad(theory.dpo_flow)(0.0, 1.0), 0.5, 1, 4 * EPS)


def test_t14_needs_one_differing_token():
    """Two differing tokens in one context see twice the margin and push twice: the logit rises twice as fast."""
    pair = PreferencePairs.from_lists([[]], [[0, 0]], [[1, 1]], vocab_size=2)[0]
    model, params = LinearSoftmax("unigram", 2, jnp.ones((1, 1))), jnp.zeros((2, 1))
    direction = descent_direction(dpo_loss, model, params, params, pair, 1.0)
    assert_close(direction[0], 2 * jax.grad(theory.dpo_flow)(0.0, 1.0), 1, 4 * EPS)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: theory.dpo_flow(-1.0, 0.1), "`t` must be >= 0, got -1.0"),
        (lambda: theory.ipo_flow(np.array([1.0, np.nan]), 0.1), "`t` must be >= 0"),
        (lambda: theory.dpo_flow(1.0, 0.0), "`beta` must be > 0, got 0.0"),
        (lambda: theory.ipo_flow(1.0, -1.0), "`tau` must be > 0"),
        (lambda: theory.dpo_flow(1.0, 1.0, 0.0), "`feature_sq` must be > 0"),
    ],
)
def test_t14_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_t14_works_inside_jit_and_over_arrays():
    t = jnp.array([0.0, 1.0, 10.0])
    compiled = jax.jit(jax.vmap(theory.dpo_flow, in_axes=(0, None)))(t, 0.5)
    assert_close(compiled, [float(theory.dpo_flow(s, 0.5)) for s in (0.0, 1.0, 10.0)], 1, 4 * EPS)


def test_t14_log_probabilities_are_those_of_the_moved_logits_token_by_token():
    """By hand, with chosen and rejected of different logits; several u at once give a row each."""
    logits, moves = np.array([0.3, -1.0, 0.7, 0.1]), np.array([0.0, 0.5, 2.0])
    chosen, rejected = theory.flow_logps(jnp.asarray(logits), 2, 1, moves)
    for u, log_w, log_l in zip(moves, chosen, rejected, strict=True):
        moved = np.exp(logits + u * np.array([0, -1, 1, 0]))
        assert_close(np.exp([log_w, log_l]), moved[[2, 1]] / moved.sum(), 1, 8 * EPS)
