"""Split updates take the two halves of a loss's gradient, A = −d_w g_w and B = d_l g_l, one after the other.

To second order in h, a step θ − h(A + B) follows the flow of L + (h/4)‖A + B‖². Two half-steps, the second computed
where the first has led and either half first with probability ½, follow L + (h/4)(‖A‖² + ‖B‖²) on average. The
difference is −(h/2)⟨A, B⟩ = (h/2)⟨d_w g_w, d_l g_l⟩: splitting descends the inner product that entangles the two
answers (T26). That is exact to second order for constant weights; other weights add terms of their derivatives.

Rule            Step
`Split`         one step of the optimiser along one half, then one along the other, computed anew
`VirtualSplit`  one step of the optimiser along A(θ − (κh/2) B) + B(θ − (κh/2) A): the same term, times κ
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from toymodel._public import own_names
from toymodel._pytree import pytree
from toymodel.models.logps import Params
from toymodel.training.step import CHOSEN, REJECTED, Batch, Direction, State, Weighted, descend

__dir__ = own_names(globals())

First = Literal["chosen", "rejected", "coin"]


@partial(pytree, static=["first"])
@dataclass(frozen=True)
class Split(Weighted):
    """One half of the gradient after the other.

    Args:
      first: the side that goes first; "coin" draws it for every step.
      seed: of the coin.

    Raises:
      ValueError: `first` is not one of the three.
    """

    first: First = "coin"
    seed: int | Int[Array, "*runs"] = 0

    def __post_init__(self) -> None:
        if self.first not in ("chosen", "rejected", "coin"):
            raise ValueError(f'`first` must be "chosen", "rejected" or "coin", got {self.first!r}.')

    def in_turn(self, batch: Batch) -> tuple[Weighted, ...]:
        """Both halves in their order, the second computed where the first has led."""
        one, other = (CHOSEN, REJECTED) if self.first == "chosen" else (REJECTED, CHOSEN)
        if self.first == "coin":
            key = jax.random.fold_in(jax.random.key(jnp.asarray(self.seed).astype(jnp.uint32)), batch.number)
            one, other = jax.random.permutation(key, 2)
        return _Half(one), _Half(other)


@dataclass(frozen=True)
class _Half(Weighted):
    side: int | Array

    def direction(self, batch: Batch, before: State) -> Direction:
        weights = batch.weights(before.params)
        of_tokens = batch.loss_gradients(before.params) * (jnp.arange(2) == self.side)[:, None]
        return Direction(_compute_half(batch, before.params, self.side, weights), of_tokens[..., None])


@pytree
@dataclass(frozen=True)
class VirtualSplit:
    """Each half of the gradient, computed where κ/2 of a plain step along the other half leads, with the same weights.

    It is meant for optimisers with a memory. An optimiser that takes `plain_gradient`, as `split_adam` does, gets it.
    """

    kappa: float | Float[Array, "*runs"] = 1.0

    def init(self, _token_logps: Float[Array, "2 n T"]) -> Any:
        """Return None: nothing is remembered from step to step."""

    def __call__(self, batch: Batch, before: State) -> tuple[State, Params]:
        """Return the state after a step along the shifted halves, and the step."""
        reach = self.kappa * batch.learning_rate / 2
        weights = batch.weights(before.params)
        halves = [_compute_half(batch, before.params, side, weights) for side in (CHOSEN, REJECTED)]
        ahead = [jax.tree.map(lambda p, step: p - reach * step, before.params, half) for half in reversed(halves)]
        shifted = [_compute_half(batch, ahead[side], side, weights) for side in (CHOSEN, REJECTED)]
        summed, plain = (jax.tree.map(jnp.add, *both) for both in (shifted, halves))
        return descend(batch, summed, before, plain_gradient=plain)


def _compute_half(batch: Batch, params: Params, side: int | Array, weights: Float[Array, "2 B"]) -> Params:
    """The mean over the batch of −d_w g_w or of d_l g_l, at these parameters and weights."""
    signed = jnp.array([[-1], [1]], weights.dtype) * weights
    return batch.ascent(params, side, signed[side])


class _Moments(NamedTuple):
    steps: Int[Array, ""]
    mean: Params
    square: Params


def split_adam(
    learning_rate: optax.ScalarOrSchedule, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8
) -> optax.GradientTransformationExtraArgs:
    """Adam whose second moment is that of `plain_gradient`, where its update is given one, as by `VirtualSplit`.

    Beware of parameters in which the two halves cancel: the moment is 0 there, and steps are divided by `eps` alone.
    """

    def init(params: Params) -> _Moments:
        zeros = optax.tree.zeros_like(params)
        return _Moments(jnp.zeros((), jnp.int32), zeros, zeros)

    def update(
        gradient: Params, state: _Moments, _params: Params = None, *, plain_gradient: Params = None, **_extra: Any
    ) -> tuple[Params, _Moments]:
        steps = optax.safe_increment(state.steps)
        mean = optax.tree.update_moment(gradient, state.mean, b1, 1)
        squared = gradient if plain_gradient is None else plain_gradient
        square = optax.tree.update_moment_per_elem_norm(squared, state.square, b2, 2)
        m, v = optax.tree.bias_correction(mean, b1, steps), optax.tree.bias_correction(square, b2, steps)
        return jax.tree.map(lambda m, v: m / (jnp.sqrt(v) + eps), m, v), _Moments(steps, mean, square)

    adam = optax.GradientTransformationExtraArgs(init, update)
    return optax.chain(adam, optax.scale_by_learning_rate(learning_rate))
