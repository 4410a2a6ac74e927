"""Remedies that balance the two gradients: they put d_w/d_l at the centre of T11's band, r* = ‖g_l‖/‖g_w‖.

There, a step goes along g_w/‖g_w‖ − g_l/‖g_l‖: for one pair alone the chosen rises and the rejected falls at any
cosine (T17). The product d_w d_l stays that of the loss, and with it the size of the step. A pair contributes only if
both weights are positive.

Rule                 Balances                            Guarantee of a small plain step
`NormalisedPairs`    each pair                           for every pair, if the batch is one pair
`NormalisedSides`    the mean of each side of the batch  for the weighted means of log π_w and log π_l
`Calibrated`         the same, by a running average      none
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from toymodel._public import own_names
from toymodel._pytree import pytree
from toymodel.models.logps import Params
from toymodel.training.step import CHOSEN, REJECTED, Batch, Direction, State, Weighted

__dir__ = own_names(globals())


@pytree
@dataclass(frozen=True)
class NormalisedPairs(Weighted):
    """Pairwise normalised gradient descent, our reading: the batch mean of √(d_w d_l ‖g_w‖‖g_l‖) (ĝ_w − ĝ_l).

    It builds the gradient of every response, 2 B P numbers.
    """

    def direction(self, batch: Batch, before: State) -> Direction:
        """The mean of the normalised pairs."""
        _, gradients = batch.logps_and_gradients(before.params)
        chosen, rejected = jax.vmap(jax.vmap(optax.tree.norm))(gradients)
        scale = _multiply_roots(*batch.weights(before.params))
        weights = jnp.stack([-scale * _divide_roots(rejected, chosen), scale * _divide_roots(chosen, rejected)])
        weights = weights / weights.shape[1]
        return Direction(jax.tree.map(lambda leaf: jnp.tensordot(weights, leaf, 2), gradients), weights[..., None])


@pytree
@dataclass(frozen=True)
class NormalisedSides(Weighted):
    """√(‖G_w‖‖G_l‖) (Ĝ_w − Ĝ_l) for G_w and G_l, the means over a batch of d_w g_w and d_l g_l.

    For a batch of one pair it equals `NormalisedPairs`.
    """

    def direction(self, batch: Batch, before: State) -> Direction:
        """The difference of the normalised sides."""
        sides, log_ratio = _measure_sides(batch, before.params)
        return _combine(batch, before.params, sides, log_ratio)


@pytree
@dataclass(frozen=True)
class Calibrated(Weighted):
    """Reward calibration (arXiv 2604.18239), our reading: the weights d_w e^a and d_l e^−a, whose ratio a moves to r*.

    The wanted a is half of log(‖G_l‖/‖G_w‖) of each batch, as in `NormalisedSides`; its running average is used.
    """

    decay: float | Float[Array, "*runs"] = 0.98  # share of the running average that a step keeps

    def init(self, token_logps: Float[Array, "2 n T"]) -> Any:
        """Return the running average of 2a before the first step."""
        return jnp.zeros((), token_logps.dtype)

    def direction(self, batch: Batch, before: State) -> Direction:
        """The calibrated gradient."""
        sides, now = _measure_sides(batch, before.params)
        average = jnp.where(batch.number == 0, now, self.decay * before.memory + (1 - self.decay) * now)
        return _combine(batch, before.params, sides, average)._replace(memory=average)


def _multiply_roots(d_chosen: Array, d_rejected: Array) -> Array:
    """√(d_w d_l), 0 unless both are positive. The roots come first, since the product may underflow."""
    return jnp.sqrt(jnp.maximum(d_chosen, 0)) * jnp.sqrt(jnp.maximum(d_rejected, 0))


def _divide_roots(a: Array, b: Array) -> Array:
    """√(a/b), 0 where a or b is 0."""
    return jnp.where((a > 0) & (b > 0), jnp.sqrt(a) / jnp.sqrt(jnp.where(b > 0, b, 1)), 0)


def _measure_sides(batch: Batch, params: Params) -> tuple[list[Params], Array]:
    """G_w and G_l, and log ‖G_l‖/‖G_w‖, which is twice the `a` that makes their norms equal; 0 where one norm is 0."""
    weights = batch.weights(params)
    sides = [batch.ascent(params, side, weights[side]) for side in (CHOSEN, REJECTED)]
    norms = jnp.stack([optax.tree.norm(side) for side in sides])
    log_norms = jnp.log(jnp.where((norms > 0).all(), norms, 1))
    return sides, log_norms[REJECTED] - log_norms[CHOSEN]


def _combine(batch: Batch, params: Params, sides: list[Params], log_ratio: Array) -> Direction:
    """The gradient −(e^a G_w − e^−a G_l) to descend, where a is half of `log_ratio`."""
    up, down = jnp.exp(log_ratio / 2), jnp.exp(-log_ratio / 2)
    gradient = jax.tree.map(lambda w, l: down * l - up * w, *sides)  # noqa: E741
    return Direction(gradient, batch.loss_gradients(params)[..., None] * jnp.stack([up, down])[:, None, None])
