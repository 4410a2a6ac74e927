"""The modified loss whose flow a finite step follows (T26; backward error analysis).

The loss is L = L⁺ + L⁻, with the halves L⁺ = −mean d_w log π_w and L⁻ = mean d_l log π_l over a batch, and weights that
stay fixed. Up to O(h²) in a fixed time, learning rate h,

Step                                             follows the flow of
gradient descent, θ − h∇L                        L + (h/4)‖∇L‖²
split: first one half, then the other,           L + (h/4)(‖∇L⁺‖² + ‖∇L⁻‖²), on average
recomputed, in an order that a fair coin draws

They differ by (h/2)⟨∇L⁺, ∇L⁻⟩. Here are the vector fields −∇ of both modified losses for linear softmax models, whose
Hessian is known: of −log π it is Σ_i (diag p_i − p_ip_iᵀ) ⊗ φ_iφ_iᵀ.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from toymodel._checks import ABOVE_ZERO, FROM_ZERO, REAL, is_concrete, require
from toymodel._public import own_names
from toymodel.data.pairs import PreferencePairs
from toymodel.gram import Scalars
from toymodel.models.linear import LinearSoftmax, LinearStates
from toymodel.theory._domains import require_linear
from toymodel.theory.overlap import masked_residuals, per_pair

__dir__ = own_names(globals())


def descent_field(
    model: LinearSoftmax,
    params: Float[Array, "V d"],
    pairs: PreferencePairs,
    h: Scalars,
    d_chosen: Scalars = 1.0,
    d_rejected: Scalars = 1.0,
) -> Float[Array, "V d"]:
    """−(∇L + (h/2)∇²L ∇L) at W: what gradient descent with step h follows up to O(h²); h = 0 is the plain flow (T26).

    Raises:
      ValueError: as for `pair_gram`; h < 0; a weight is not finite, or neither one number nor one per pair.
    """
    require_linear(model, params, pairs)
    require(FROM_ZERO, h=h)
    n = len(pairs)
    return _field(
        True, model, params, pairs, h, per_pair("d_chosen", d_chosen, n), per_pair("d_rejected", d_rejected, n)
    )


def split_field(
    model: LinearSoftmax,
    params: Float[Array, "V d"],
    pairs: PreferencePairs,
    h: Scalars,
    d_chosen: Scalars = 1.0,
    d_rejected: Scalars = 1.0,
) -> Float[Array, "V d"]:
    """−(∇L + (h/2)(∇²L⁺ ∇L⁺ + ∇²L⁻ ∇L⁻)) at W: what the split step follows on average up to O(h²) (T26).

    Raises:
      ValueError: as for `descent_field`.
    """
    require_linear(model, params, pairs)
    require(FROM_ZERO, h=h)
    n = len(pairs)
    return _field(
        False, model, params, pairs, h, per_pair("d_chosen", d_chosen, n), per_pair("d_rejected", d_rejected, n)
    )


def quadratic_rate(curvature: Scalars, h: Scalars) -> Float[Array, "*n"]:
    """−log(1 − hλ)/h, the rate at which gradient descent really decays along an eigenvector of a quadratic loss (T26).

    It is λ + hλ²/2 + h²λ³/3 + …: the loss itself, its modification, and what the modified flow misses. One split step
    multiplies by (1 − hλ⁺)(1 − hλ⁻) in either order where the halves share the eigenvector, so its rate is the sum of
    theirs.

    Raises:
      ValueError: h is not positive, or hλ ≥ 1: such a step does not decay, it jumps over the minimum.
    """
    require(ABOVE_ZERO, h=h)
    require(REAL, curvature=curvature)
    if is_concrete(curvature, h) and not jnp.all(jnp.asarray(h * curvature) < 1):
        raise ValueError(f"`curvature` must be below 1/h = {1 / h}, got {curvature!r}.")
    return -jnp.log1p(-jnp.asarray(h * curvature)) / h


@partial(jax.jit, static_argnums=0)
def _field(
    joint: bool,
    model: LinearSoftmax,
    params: Array,
    pairs: PreferencePairs,
    h: Scalars,
    d_chosen: Array,
    d_rejected: Array,
) -> Array:
    read = jax.vmap(model.states, in_axes=(None, 0))
    sides = [read(params, response) for response in (pairs.chosen_response, pairs.rejected_response)]
    weights = [-d_chosen / len(pairs), d_rejected / len(pairs)]
    halves = [
        jnp.tensordot(weight, jax.vmap(_gradient)(states), 1) for weight, states in zip(weights, sides, strict=True)
    ]
    along = [halves[0] + halves[1]] * 2 if joint else halves
    bend = [
        jnp.tensordot(weight, jax.vmap(_curve, in_axes=(0, None))(states, direction), 1)
        for weight, states, direction in zip(weights, sides, along, strict=True)
    ]
    return -(halves[0] + halves[1] + h / 2 * (bend[0] + bend[1]))


def _gradient(states: LinearStates) -> Float[Array, "V d"]:
    """∇ log π of one response."""
    return masked_residuals(states).T @ states.features


def _curve(states: LinearStates, direction: Float[Array, "V d"]) -> Float[Array, "V d"]:
    """The Hessian of log π of one response, times a direction."""
    p, moved = jax.nn.softmax(states.logits), states.features @ direction.T
    bent = p * (moved - (p * moved).sum(axis=-1, keepdims=True)) * states.mask[:, None]
    return -bent.T @ states.features
