"""Token masks, our reading of the paper's sparsity-regularised masking: log π(y) becomes Σ_i u_i log p(y^i).

Each u_i is in [0, 1], and the reference's log-probabilities are masked alike. With u = 1 at one contrast position and 0
elsewhere, the pair is that of T4: its chosen answer always rises and its rejected one falls (T18).

Rule           u
`OracleMask`   1 where the two answers differ, for a user who knows the contrast tokens
`LearnedMask`  one for each position and side, shared by all pairs, learned from the loss + λ(‖u_w‖₁ + ‖u_l‖₁)
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from toymodel._public import own_names
from toymodel._pytree import pytree
from toymodel.models.logps import Params
from toymodel.training.step import Batch, State, descend

__dir__ = own_names(globals())

Masks = Float[Array, "2 B T"] | Float[Array, "2 1 T"]


@pytree
@dataclass(frozen=True)
class OracleMask:
    """Only tokens count that differ from the other answer's token at the same position, or have none opposite."""

    def init(self, _token_logps: Float[Array, "2 n T"]) -> Any:
        """Return None: nothing is remembered from step to step."""

    def __call__(self, batch: Batch, before: State) -> tuple[State, Params]:
        """Return the state after a step along the gradient of the masked loss, and the step."""
        tokens, mask = batch.responses.tokens, batch.responses.mask
        contrast = ((tokens[0] != tokens[1]) | ~mask.all(axis=0)).astype(batch.lengths.dtype)
        return descend(batch, jax.grad(_mask_loss(batch))(before.params, contrast[None]), before)


@pytree
@dataclass(frozen=True)
class LearnedMask:
    """Each u starts at 1 and takes gradient steps of size `rate` on the masked loss, clipped to [0, 1].

    It grows where the chosen token has gained on the reference by more than λ/d_w on average, or the rejected token has
    lost more than λ/d_l. Tokens that both answers share after similar contexts gain and lose together.
    """

    strength: float | Float[Array, "*runs"] = 0.01  # λ, in nats
    rate: float | Float[Array, "*runs"] = 1.0  # per nat

    def init(self, token_logps: Float[Array, "2 n T"]) -> Any:
        """Return the masks before the first step, all 1: [2, T]."""
        return jnp.ones_like(token_logps[:, 0])

    def __call__(self, batch: Batch, before: State) -> tuple[State, Params]:
        """Return the state after a step along the gradient of the masked loss, with new masks, and the step."""
        masks: Array = before.memory
        gradient, mask_gradient = jax.grad(_mask_loss(batch), argnums=(0, 1))(before.params, masks[:, None])
        moved = masks - self.rate * (mask_gradient[:, 0] + self.strength)
        return descend(batch, gradient, before, jnp.clip(moved, 0, 1))


def _mask_loss(batch: Batch) -> Callable[[Params, Masks], Array]:
    """The mean loss with masked log-probabilities, as a function of parameters and masks."""
    ref_token_logps = batch.token_logps(batch.ref_params)

    def mean_loss(params: Params, masks: Masks) -> Array:
        token_logps = batch.token_logps(params)
        return batch.value((masks * token_logps).sum(axis=-1), (masks * ref_token_logps).sum(axis=-1))

    return mean_loss
