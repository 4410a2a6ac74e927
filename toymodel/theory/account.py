"""What a linear softmax model's training tokens bring to the tokens of any answer (T23), in closed form.

With gradient descent and momentum, Δθ_t = η Σ_{u ≤ t} μ^{t−u} Σ_j w_j(u) s_j(u) φ_jᵀ over training tokens j, where w is
d_w/B on the chosen and −d_l/B on the rejected side. So token j brings to a token i of another answer

    η Σ_t Σ_{u ≤ t} μ^{t−u} w_j(u) ⟨φ_i, φ_j⟩ ⟨s_i(t), s_j(u)⟩

over a run. All but a remainder of the true change is that: each step's logits move by v_i, and log π is concave in
them, so that the remainder is at most 0 and at least −Σ_t Σ_i (max v_i − min v_i)²/8, as T12 has it for one step.
"""

from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from toymodel._public import own_names
from toymodel.data.pairs import PreferencePairs, Response
from toymodel.gram import Scalars
from toymodel.models.linear import LinearSoftmax, LinearStates, check_linear
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
    """What each training token brought to each token of the judged answers, in nats (T23).

    Args:
      model: a linear softmax model.
      path: the parameters at every state of the run.
      pairs: what it was trained on, and `judged` what it is judged on; both sides of either are of one width.
      weights: d_w/B and −d_l/B of each pair at each step, 0 for pairs that were not in the batch.
      learning_rate: η.
      momentum: μ of heavy-ball momentum.
    """
    check_linear(model, path[0], pairs)
    check_linear(model, path[0], judged)

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
    """(low, high) of true change − the sources' sum over a run, of both answers (T23), of any optimiser.

    Let R_i = max v_i − min v_i, where v_i is by how much a step moved the logits before token i. With gradients from
    the start of each step the ends are −Σ_t Σ_i R_i²/8 and 0. From its middle they are ∓Σ_t Σ_i R_i³/(144√3): along a
    step the third derivative of log p is minus a third central moment of v_i, which is at most R_i³/(6√3) in size, and
    a 24th of it is left.
    """
    check_linear(model, path[0], judged)
    states = _states(model, path[0], judged)
    moved = jnp.einsum("tvd,zmid->tzmiv", jnp.diff(path, axis=0), states.features) * states.mask[..., None]
    if at == "middle":
        high = (jnp.ptp(moved, axis=-1) ** 3).sum(axis=(0, -1)) / (144 * 3**0.5)
        return -high, high
    low = -range_shortfall(moved).sum(axis=0)
    return low, jnp.zeros_like(low)


def _states(model: LinearSoftmax, params: Array, pairs: PreferencePairs) -> LinearStates:
    """Both sides' states, [2, n, T, …]."""
    both: Response = jax.tree.map(lambda *sides: jnp.stack(sides), pairs.chosen_response, pairs.rejected_response)
    states: LinearStates = jax.vmap(jax.vmap(model.states, in_axes=(None, 0)), in_axes=(None, 0))(params, both)
    return states


def _residuals(states: LinearStates) -> Float[Array, "2 n T V"]:
    residuals: Array = jax.vmap(jax.vmap(masked_residuals))(states)
    return residuals
