"""Remedies that balance the two gradients: d_w/d_l at the centre of T11's band, r* = ‖g_l‖/‖g_w‖.

There, the direction is that of g_w/‖g_w‖ − g_l/‖g_l‖: for one pair alone the chosen rises and the rejected falls,
whatever the cosine (T17). The product d_w d_l stays the loss's own, and with it the size of the step; so weights must
be positive, and a pair with one that is not stands still.

Rule                 Balances                            Guarantee of a small plain step
`NormalisedPairs`    each pair                           for every pair, if the batch is one pair
`NormalisedSides`    the mean of each side of the batch  for the weighted means of log π_w and log π_l
`Calibrated`         as that, by a running average       none
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from toymodel._pytree import pytree
from toymodel.models.logps import Params
from toymodel.training.step import CHOSEN, REJECTED, Batch, State, descend, squared_norm


@pytree
@dataclass(frozen=True)
class NormalisedPairs:
    """Pairwise normalised gradient descent, our reading: the batch mean of √(d_w d_l ‖g_w‖‖g_l‖) (ĝ_w − ĝ_l).

    It builds the gradient of every response: 2 B P numbers.
    """

    def init(self, _token_logps: Float[Array, "2 n T"]) -> Any:
        """Nothing."""

    def __call__(self, batch: Batch, before: State) -> tuple[State, Params]:
        """As `Update` has it."""
        gradients = batch.response_gradients(before.params)
        chosen, rejected = jnp.sqrt(jax.vmap(jax.vmap(squared_norm))(gradients))
        scale = _product(*batch.weights(before.params))
        weights = jnp.stack([-scale * _root_ratio(rejected, chosen), scale * _root_ratio(chosen, rejected)])
        direction = jax.tree.map(lambda leaf: jnp.tensordot(weights, leaf, 2) / weights.shape[1], gradients)
        return descend(batch, direction, before)


@pytree
@dataclass(frozen=True)
class NormalisedSides:
    """The same once a batch, with G_w and G_l, the means of d_w g_w and d_l g_l: √(‖G_w‖‖G_l‖) (Ĝ_w − Ĝ_l).

    For a batch of one pair it is `NormalisedPairs`.
    """

    def init(self, _token_logps: Float[Array, "2 n T"]) -> Any:
        """Nothing."""

    def __call__(self, batch: Batch, before: State) -> tuple[State, Params]:
        """As `Update` has it."""
        chosen, rejected, log_ratio = _sides(batch, before.params)
        return descend(batch, _turned(chosen, rejected, log_ratio), before)


@pytree
@dataclass(frozen=True)
class Calibrated:
    """Reward calibration (arXiv 2604.18239), our reading: d_w e^a and d_l e^−a, a steering their ratio to r*.

    The e^2a wanted is the quotient of r* and d_w/d_l, of whole batches; a is its running average over steps, in logs.
    """

    decay: float | Float[Array, "*runs"] = 0.98  # share of the running average that a step keeps

    def init(self, token_logps: Float[Array, "2 n T"]) -> Any:
        """log r* − log d_w/d_l."""
        return jnp.zeros((), token_logps.dtype)

    def __call__(self, batch: Batch, before: State) -> tuple[State, Params]:
        """As `Update` has it."""
        chosen, rejected, now = _sides(batch, before.params)
        average = jnp.where(batch.number == 0, now, self.decay * before.memory + (1 - self.decay) * now)
        return descend(batch, _turned(chosen, rejected, average), before, average)


def _product(d_chosen: Array, d_rejected: Array) -> Array:
    """√(d_w d_l); 0 unless both are positive. Roots first: the product may underflow."""
    return jnp.sqrt(jnp.maximum(d_chosen, 0)) * jnp.sqrt(jnp.maximum(d_rejected, 0))


def _root_ratio(a: Array, b: Array) -> Array:
    """√(a/b); 0 where one of them is."""
    return jnp.where((a > 0) & (b > 0), jnp.sqrt(a) / jnp.sqrt(jnp.where(b > 0, b, 1)), 0)


def _sides(batch: Batch, params: Params) -> tuple[Params, Params, Array]:
    """G_w, G_l, and log ‖G_l‖/‖G_w‖: twice the `a` that makes their norms alike."""
    weights = batch.weights(params)
    chosen, rejected = (batch.ascent(params, side, weights[side]) for side in (CHOSEN, REJECTED))
    chosen_sq, rejected_sq = squared_norm(chosen), squared_norm(rejected)
    both = (chosen_sq > 0) & (rejected_sq > 0)
    safe = [jnp.where(both, norm_sq, 1) for norm_sq in (chosen_sq, rejected_sq)]
    return chosen, rejected, (jnp.log(safe[1]) - jnp.log(safe[0])) / 2


def _turned(chosen: Params, rejected: Params, log_ratio: Array) -> Params:
    """−(e^a G_w − e^−a G_l), a half of `log_ratio`: downhill."""
    up, down = jnp.exp(log_ratio / 2), jnp.exp(-log_ratio / 2)
    return jax.tree.map(lambda w, l: down * l - up * w, chosen, rejected)  # noqa: E741
