"""What a linear softmax model's training tokens contribute to the tokens of any answer (T23), in closed form.

With gradient descent and momentum, Δθ_t = η Σ_{u ≤ t} μ^{t−u} Σ_j w_j(u) s_j(u) φ_jᵀ over training tokens j, where w is
d_w/B on the chosen and −d_l/B on the rejected side. So token j contributes to a token i of another answer

    η Σ_t Σ_{u ≤ t} μ^{t−u} w_j(u) ⟨φ_i, φ_j⟩ ⟨s_i(t), s_j(u)⟩

over a run. The true change is the sum of these and a remainder: each step moves the logits by v_i, and log π is concave
in them, so the remainder is at most 0 and at least −Σ_t Σ_i (max v_i − min v_i)²/8, as in T12 for one step.
"""

from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from toymodel._checks import ABOVE_ZERO, REAL, Domain, require
from toymodel._public import own_names
from toymodel.data.pairs import PreferencePairs
from toymodel.gram import Scalars
from toymodel.models.linear import LinearSoftmax, LinearStates
from toymodel.models.logps import check_inputs
from toymodel.theory._domains import require_linear_model
from toymodel.theory.finite_step import range_shortfall
from toymodel.theory.overlap import masked_residuals

__dir__ = own_names(globals())


def token_account(
    model: LinearSoftmax,
    path: Float[Array, "steps+1 V d"],
    pairs: PreferencePairs,
    judged: PreferencePairs,
    weights: Float[Array, "steps 2 n"],
    learning_rate: Scalars,
    momentum: Scalars = 0.0,
) -> Float[Array, "2 n T 2 m T"]:
    """What each training token contributed to each token of the judged answers, in nats (T23).

    Args:
      model: a linear softmax model.
      path: the parameters at every state of the run.
      pairs: the training pairs, and `judged` the pairs that are judged; in each, both sides have the same width.
      weights: d_w/B and −d_l/B of each pair at each step, 0 for pairs that were not in the batch.
      learning_rate: η.
      momentum: μ of heavy-ball momentum.

    Raises:
      ValueError: another model; path, pairs or weights of the wrong shape; numbers that are not finite or out of range.
    """
    _check_path(model, path, judged)
    check_inputs(model, path[0], pairs)
    _check_widths(pairs, judged)
    require(REAL, weights=weights)
    if jnp.shape(weights) != (wanted := (len(path) - 1, 2, len(pairs))):
        raise ValueError(f"`weights` must have shape {wanted}, got {jnp.shape(weights)}.")
    require(ABOVE_ZERO, learning_rate=learning_rate)
    require(Domain("in [0, 1)", lambda mu: (mu >= 0) & (mu < 1)), momentum=momentum)

    def step(velocity: Array, now: tuple[Array, Array]) -> tuple[Array, Array]:
        params, weight = now
        trained, other = _states(model, params, pairs), _states(model, params, judged)
        pushes = jnp.einsum("sn,sntv,sntd->sntvd", weight, _residuals(trained), trained.features)
        velocity = momentum * velocity + pushes
        return velocity, jnp.einsum("zmiv,sntvd,zmid->sntzmi", _residuals(other), velocity, other.features)

    states = _states(model, path[0], pairs)
    start = jnp.zeros((*states.tokens.shape, *path.shape[1:]), path.dtype)
    _, brought = jax.lax.scan(step, start, (path[:-1], weights))
    return learning_rate * brought.sum(axis=0)


def remainder_bounds(
    model: LinearSoftmax,
    path: Float[Array, "steps+1 V d"],
    judged: PreferencePairs,
    at: Literal["start", "middle"] = "start",
) -> tuple[Float[Array, "2 m"], Float[Array, "2 m"]]:
    """(low, high) of the true change minus the sum of the sources over a run, of both answers, for any optimiser (T23).

    Let R_i = max v_i − min v_i, where v_i is the move of the logits before token i in a step. With gradients from
    the start of each step the ends are −Σ_t Σ_i R_i²/8 and 0. From its middle they are ∓Σ_t Σ_i R_i³/(144√3): along a
    step the third derivative of log p is minus a third central moment of v_i, which is at most R_i³/(6√3) in size, and
    a 24th of it is left.

    Raises:
      ValueError: another model, path or pairs of another shape, parameters that are not finite, or an unknown `at`.
    """
    _check_path(model, path, judged)
    _check_widths(judged)
    if at not in ("start", "middle"):
        raise ValueError(f'`at` must be "start" or "middle", got {at!r}.')
    states = _states(model, path[0], judged)
    moved = jnp.einsum("tvd,zmid->tzmiv", jnp.diff(path, axis=0), states.features) * states.mask[..., None]
    if at == "middle":
        high = (jnp.ptp(moved, axis=-1) ** 3).sum(axis=(0, -1)) / (144 * 3**0.5)
        return -high, high
    low = -range_shortfall(moved).sum(axis=0)
    return low, jnp.zeros_like(low)


def _check_path(model: LinearSoftmax, path: Array, judged: PreferencePairs) -> None:
    require_linear_model(model)
    require(REAL, path=path)
    wanted = (model.vocab_size, model.features.shape[1])
    if jnp.ndim(path) != 3 or path.shape[1:] != wanted or len(path) < 2:
        raise ValueError(f"`path` must have shape [steps + 1, {wanted[0]}, {wanted[1]}], got {jnp.shape(path)}.")
    check_inputs(model, path[0], judged)


def _check_widths(*batches: PreferencePairs) -> None:
    """Both sides are stacked."""
    for pairs in batches:
        if pairs.chosen.shape != pairs.rejected.shape:
            raise ValueError(
                f"`chosen` and `rejected` must be equally wide, got {pairs.chosen.shape} and {pairs.rejected.shape}."
            )


def _states(model: LinearSoftmax, params: Array, pairs: PreferencePairs) -> LinearStates:
    """Both sides' states, [2, n, T, …]."""
    states: LinearStates = jax.vmap(jax.vmap(partial(model.states, params)))(pairs.both_responses)
    return states


def _residuals(states: LinearStates) -> Float[Array, "2 n T V"]:
    residuals: Array = jax.vmap(jax.vmap(masked_residuals))(states)
    return residuals
