"""Token masks, our reading of the paper's sparsity-regularised masking: Σ_i u_i log p(y^i), u in [0, 1], for log π(y).

The same sum replaces the reference's. With u = 1 at a contrast position alone, the pair is T4's, whose chosen always
rises and whose rejected falls (T18).

Rule           u
`OracleMask`   1 where the two answers differ: what a user does who knows the contrast tokens
`LearnedMask`  by position and side, shared by all pairs, learned by the loss itself with λ(‖u_w‖₁ + ‖u_l‖₁) added
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from toymodel._pytree import pytree
from toymodel.models.logps import Params
from toymodel.training.step import Batch, State, descend

Masks = Float[Array, "2 B T"] | Float[Array, "2 1 T"]


@pytree
@dataclass(frozen=True)
class OracleMask:
    """Tokens count that differ from the other answer's at the same position, or have none opposite."""

    def init(self, _token_logps: Float[Array, "2 n T"]) -> Any:
        """Nothing."""

    def __call__(self, batch: Batch, before: State) -> tuple[State, Params]:
        """As `Update` has it."""
        tokens, mask = batch.responses.tokens, batch.responses.mask
        contrast = ((tokens[0] != tokens[1]) | ~mask.all(axis=0)).astype(batch.lengths.dtype)
        return descend(batch, jax.grad(_mean_loss(batch))(before.params, contrast[None]), before)


@pytree
@dataclass(frozen=True)
class LearnedMask:
    """u starts at 1 and follows its own gradient, one step of size `rate` at a time, kept in [0, 1].

    It grows where the chosen token has gained on the reference by more than λ/d_w on average, and the rejected one lost
    by more than λ/d_l: tokens that both answers share, after alike contexts, gain or lose alike.
    """

    strength: float | Float[Array, "*runs"] = 0.01  # λ, in nats
    rate: float | Float[Array, "*runs"] = 1.0  # per nat

    def init(self, token_logps: Float[Array, "2 n T"]) -> Any:
        """U of both sides' positions, [2, T]."""
        return jnp.ones_like(token_logps[:, 0])

    def __call__(self, batch: Batch, before: State) -> tuple[State, Params]:
        """As `Update` has it."""
        masks: Array = before.memory
        gradient, of_masks = jax.grad(_mean_loss(batch), argnums=(0, 1))(before.params, masks[:, None])
        moved = masks - self.rate * (of_masks[:, 0] + self.strength)
        return descend(batch, gradient, before, jnp.clip(moved, 0, 1))


def _mean_loss(batch: Batch) -> Any:
    """The mean loss with masked log-probabilities, as a function of parameters and masks."""
    ref_token_logps = batch.token_logps(batch.ref_params)

    def mean_loss(params: Params, masks: Masks) -> Array:
        token_logps = batch.token_logps(params)
        return batch.value((masks * token_logps).sum(axis=-1), (masks * ref_token_logps).sum(axis=-1))

    return mean_loss
