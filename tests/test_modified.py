"""T26: gradient descent and split steps against flows: of the loss, and of its modification.

The steps are taken with automatic differentiation. Flows are integrated by Runge and Kutta's method, whose error at
these steps is below 1e-9 of the way.
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
from scipy.linalg import expm
from strategies import seeds, temperatures, weights

from toymodel import PreferencePairs, theory
from toymodel.models import linear
from toymodel.models.logps import response_logp

EPS = float(jnp.finfo(jnp.float64).eps)
V, T, B = 4, 3, 2


class World(NamedTuple):
    """Two pairs to two prompts in a bigram model, and fixed weights."""

    pairs: PreferencePairs
    params: jax.Array
    d_chosen: jax.Array
    d_rejected: jax.Array


MODEL = linear.bigram(V)


def make(seed, temperature=1.0, d_chosen=(1.0, 1.0), d_rejected=(1.0, 1.0)):
    rng = np.random.default_rng(seed)
    tokens = rng.integers(0, V, (2, B, T))
    masks = np.arange(T) < rng.integers(1, T + 1, (2, B, 1))
    prompt = np.arange(B)[:, None]
    pairs = PreferencePairs(prompt, prompt >= 0, tokens[0], masks[0], tokens[1], masks[1])
    params = rng.standard_normal((V, V + 1)) / temperature
    return World(pairs, jnp.asarray(params), jnp.array(d_chosen), jnp.array(d_rejected))


def logps(world, params):
    """[2, B]: of chosen and of rejected."""
    read = jax.vmap(response_logp, in_axes=(None, None, 0))
    return jnp.stack([read(MODEL, params, r) for r in (world.pairs.chosen_response, world.pairs.rejected_response)])


def margin_weights(world, params):
    """DPO's weights, [B], that change with the parameters (β = 1, reference: both equally likely)."""
    chosen, rejected = logps(world, params)
    return 2 * jax.nn.sigmoid(rejected - chosen)


def halves(world, params, margin_weight=False):
    """The two halves of the loss, [2], with fixed weights or, for contrast, with a gradient that has DPO's."""
    chosen, rejected = logps(world, params)
    d = jax.lax.stop_gradient(margin_weights(world, params)) if margin_weight else 1.0
    return jnp.stack([-(d * world.d_chosen * chosen).mean(), (d * world.d_rejected * rejected).mean()])


@jax.jit
def modified_gradients(world, h):
    """−∇ of L + (h/4)‖∇L‖², of L + (h/4)(‖∇L⁺‖² + ‖∇L⁻‖²), and (h/2)∇⟨∇L⁺, ∇L⁻⟩."""

    def losses(params):
        loss, gradient = halves(world, params), jax.jacrev(lambda p: halves(world, p))(params)
        inner = jnp.vdot(gradient[0], gradient[1])
        total = gradient.sum(axis=0)
        return jnp.stack(
            [
                -loss.sum() - h / 4 * jnp.vdot(total, total),
                -loss.sum() - h / 4 * jnp.vdot(gradient, gradient),
                h / 2 * inner,
            ]
        )

    return jax.jacrev(losses)(world.params)


@given(seeds, temperatures, *[st.tuples(weights, weights)] * 2, st.floats(-3, 1).map(lambda e: 10.0**e))
def test_t26_fields_are_the_gradients_of_the_modified_losses(seed, temperature, d_chosen, d_rejected, h):
    world = make(seed, temperature, d_chosen, d_rejected)
    joint, split, inner = map(np.asarray, modified_gradients(world, h))
    arguments = (MODEL, world.params, world.pairs, h, world.d_chosen, world.d_rejected)
    # Residuals are at most √2 long and the Hessian of a token 1/2, so ‖∇L‖ ≤ √2·slope and ‖∇²L‖ ≤ slope/2.
    slope = T * float(np.mean(d_chosen) + np.mean(d_rejected))
    size = 2 * slope + h / 2 * slope**2
    roundoff = 8 * EPS * (V + 2 * T + 2 * float(abs(world.params).max()))
    assert_close(theory.descent_field(*arguments), joint, size, roundoff)
    assert_close(theory.split_field(*arguments), split, size, roundoff)
    assert_close(split - joint, inner, size, roundoff)


# --- Orders ---------------------------------------------------------------------------------------------------------


@partial(jax.jit, static_argnums=0)
def flow(field, world, h, time):
    """Where the flow of a field of the theory leads from the world's parameters."""
    steps = 100

    def slope(params):
        return field(MODEL, params, world.pairs, h, world.d_chosen, world.d_rejected)

    def advance(_, params):
        dt = time / steps
        k1 = slope(params)
        k2 = slope(params + dt / 2 * k1)
        k3 = slope(params + dt / 2 * k2)
        return params + dt / 6 * (k1 + 2 * k2 + 2 * k3 + slope(params + dt * k3))

    return jax.lax.fori_loop(0, steps, advance, world.params)


@partial(jax.jit, static_argnames="margin_weight")
def step(world, params, h, order, margin_weight=False):
    """A joint step (order 2), or the chosen half first (0), or the rejected half first (1); each half recomputed."""

    def half(params, side):
        return jax.grad(lambda p: halves(world, p, margin_weight)[side])(params)

    joint = params - h * (half(params, 0) + half(params, 1))
    between = params - h * half(params, jnp.minimum(order, 1))
    return jnp.where(order == 2, joint, between - h * half(between, 1 - jnp.minimum(order, 1)))


@jax.jit
def descend(world, h, steps):
    return jax.lax.fori_loop(0, steps, lambda _, params: step(world, params, h, 2), world.params)


@partial(jax.jit, static_argnames="steps")
def mean_of_all_orders(world, h, steps):
    """Exact mean over the coin: all 2^steps sequences."""

    def run(coins):
        return jax.lax.fori_loop(0, steps, lambda i, params: step(world, params, h, coins[i]), world.params)

    coins = jnp.arange(2**steps)[:, None] >> jnp.arange(steps) & 1
    return jax.vmap(run)(coins).mean(axis=0)


def distance(one, other):
    return float(jnp.linalg.norm(one - other))


def assert_order(errors, order):
    """Halving h divides the error by 2^order (1 + c·h), so what the ratio lacks is halved with h as well."""
    ratios = np.array(errors[:-1]) / errors[1:] / 2**order - 1
    assert abs(ratios[-1]) < 0.05, ratios
    assert abs(ratios[-1]) < 0.7 * abs(ratios[-2]) + 1e-3, ratios  # 1e-3: rounding, of errors above 1e-9


@pytest.mark.parametrize("seed", range(3))
def test_t26_descent_follows_the_modified_flow_to_second_order(seed):
    world = make(seed, d_rejected=(0.5, 2.0))
    plain, modified = [], []
    for steps in (16, 32, 64):
        h = 0.5 / steps
        there = descend(world, h, steps)
        plain.append(distance(there, flow(theory.descent_field, world, 0.0, 0.5)))
        modified.append(distance(there, flow(theory.descent_field, world, h, 0.5)))
    assert_order(plain, 1)
    assert_order(modified, 2)
    assert modified[-1] < 0.1 * plain[-1]


@pytest.mark.parametrize("seed", range(3))
def test_t26_split_steps_follow_theirs_on_average_over_the_coin(seed):
    world = make(seed, d_rejected=(0.5, 2.0))
    plain, modified, others = [], [], []
    for steps in (2, 4, 8):
        h = 0.1 / steps
        there = mean_of_all_orders(world, h, steps)
        plain.append(distance(there, flow(theory.split_field, world, 0.0, 0.1)))
        modified.append(distance(there, flow(theory.split_field, world, h, 0.1)))
        others.append(distance(there, flow(theory.descent_field, world, h, 0.1)))
    assert_order(plain, 1)
    assert_order(modified, 2)
    assert_order(others, 1)  # the flow of the joint step misses ⟨∇L⁺, ∇L⁻⟩


@pytest.mark.parametrize("seed", range(3))
def test_t26_needs_a_fair_coin_and_fixed_weights(seed):
    """One step misses its modified flow by h³. With one half always first, or with weights that change, by h²."""
    world = make(seed)
    errors = {"fair": [], "chosen first": [], "weights that change": []}
    for h in (0.04, 0.02, 0.01):
        there = flow(theory.split_field, world, h, h)
        first, second = step(world, world.params, h, 0), step(world, world.params, h, 1)
        errors["fair"].append(distance((first + second) / 2, there))
        errors["chosen first"].append(distance(first, there))
        # DPO's weights at these parameters, fixed in the theory and followed by the steps.
        d = margin_weights(world, world.params)
        own = world._replace(d_chosen=d * world.d_chosen, d_rejected=d * world.d_rejected)
        moving = [step(world, world.params, h, order, margin_weight=True) for order in (0, 1)]
        there = flow(theory.split_field, own, h, h)
        errors["weights that change"].append(distance((moving[0] + moving[1]) / 2, there))
    assert_order(errors["fair"], 3)
    assert_order(errors["chosen first"], 2)
    assert_order(errors["weights that change"], 2)


# --- Quadratic losses, where rates are exact ------------------------------------------------------------------------


@given(st.floats(1e-3, 1e3), st.floats(1e-3, 0.5), st.integers(1, 40))
def test_t26_rate_of_a_quadratic_loss_is_exact(curvature, x, steps):
    h = x / curvature
    decayed = 1.0
    for _ in range(steps):
        decayed -= h * (curvature * decayed)
    rate = float(theory.quadratic_rate(curvature, h))
    slip = 128 * EPS  # XLA's log1p is off by up to 2e-14
    assert_close(np.log(decayed), -rate * h * steps, steps, slip)
    # −log(1 − x) = x + x²/2 + x³/3 + …: above each partial sum, by a tail of at most x^k/k · 1/(1 − x).
    for order, modified in ((2, curvature), (3, curvature + h * curvature**2 / 2)):
        missed = rate - modified
        least = curvature * x ** (order - 1) / order
        assert least - slip * curvature <= missed <= least / (1 - x) + slip * curvature


@given(st.floats(1e-2, 0.3), st.floats(-0.3, 0.3))
def test_t26_split_rates_add_where_the_halves_share_the_eigenvector(h, other):
    one = 1.0
    product = (1 - h * one) * (1 - h * other)
    rate = theory.quadratic_rate(one, h) + theory.quadratic_rate(other, h)
    assert_close(np.exp(-h * float(rate)), product, 1, 128 * EPS)  # XLA's log1p is off by up to 2e-14
    joint = float(theory.quadratic_rate(one + other, h))
    # They differ by hλ⁺λ⁻ and the next order, of at most h²(|λ⁺| + |λ⁻|)³/(1 − h(|λ⁺| + |λ⁻|)).
    size = abs(one) + abs(other)
    assert abs(joint - float(rate) - h * one * other) <= h**2 * size**3 / (1 - h * size) + 128 * EPS / h


@pytest.mark.parametrize("seed", range(3))
def test_t26_quadratic_halves_that_share_no_eigenvector(seed):
    """Steps are linear maps, so their mean over the coin is a power of the mean map, and flows are exponentials."""
    rng = np.random.default_rng(seed)
    plus, minus = (a @ a.T / 4 for a in rng.standard_normal((2, 3, 3)))
    start, errors = rng.standard_normal(3), {1: [], 2: []}
    for steps in (64, 128, 256):
        h, eye = 1.0 / steps, np.eye(3)
        maps = eye - h * plus, eye - h * minus
        mean = (maps[0] @ maps[1] + maps[1] @ maps[0]) / 2
        there = np.linalg.matrix_power(mean, steps) @ start
        for order, bend in ((1, 0), (2, h / 2 * (plus @ plus + minus @ minus))):
            errors[order].append(np.linalg.norm(there - expm(-(plus + minus + bend)) @ start))
    for order in (1, 2):
        assert_order(errors[order], order)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda _: theory.quadratic_rate(1.0, 0.0), "`h` must be > 0"),
        (lambda _: theory.quadratic_rate(2.0, 0.5), "`curvature` must be below 1/h = 2.0, got 2.0"),
        (lambda w: theory.descent_field(MODEL, w.params * jnp.nan, w.pairs, 0.1), "`params` must be finite"),
        (lambda w: theory.split_field(MODEL, w.params, w.pairs, 0.1, jnp.ones(3)), r"`d_chosen` must be one number or"),
        (lambda w: theory.descent_field(MODEL, w.params, w.pairs, 0.1, 1.0, jnp.inf), "`d_rejected` must be finite"),
    ],
)
def test_bad_modified_flows(call, message):
    with pytest.raises(ValueError, match=message):
        call(make(0))
