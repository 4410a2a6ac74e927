"""Token masks, our reading of the paper's sparsity-regularised masking: log π(y) becomes Σ_i u_i log p(y^i).

Each u_i is in [0, 1], and the reference's log-probabilities are masked alike. With u = 1 at one contrast position and 0
elsewhere, the pair is that of T4: its chosen answer always rises and its rejected one falls (T18).

Rule            u
`OracleMask`    1 where the two answers differ, for a user who knows the contrast tokens
`LearnedMask`   one for each position and side, shared by all pairs, learned from the loss + λ(‖u_w‖₁ + ‖u_l‖₁)

`RejectedMask` is ours and changes less: the loss stays as it is, and the rejected answer's shared tokens are pushed
less. By the account of training (T23), these tokens lower the chosen answers.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from toymodel._public import own_names
from toymodel._pytree import pytree
from toymodel.models.logps import Params
from toymodel.training.step import REJECTED, Batch, Direction, State, Weighted

__dir__ = own_names(globals())


@pytree
@dataclass(frozen=True)
class OracleMask(Weighted):
    """Only tokens that differ from the other answer's token at the same position count, or that have none opposite."""

    def direction(self, batch: Batch, before: State) -> Direction:
        """The gradient of the masked loss."""
        masks = (~_shared(batch)).astype(batch.lengths.dtype)
        weights, _ = _masked_gradients(batch, before.params, masks[None])
        return Direction(batch.pull(before.params, weights), weights)


@pytree
@dataclass(frozen=True)
class LearnedMask(Weighted):
    """Each u starts at 1 and takes gradient steps of size `rate` on the masked loss, clipped to [0, 1].

    It grows where the chosen token has gained on the reference by more than λ/d_w on average, or the rejected token has
    lost more than λ/d_l. Tokens that both answers share after similar contexts gain and lose together.
    """

    strength: float | Float[Array, "*runs"] = 0.01  # λ, in nats
    rate: float | Float[Array, "*runs"] = 1.0  # per nat

    def init(self, token_logps: Float[Array, "2 n T"]) -> Any:
        """Return the masks before the first step, all 1: [2, T]."""
        return jnp.ones_like(token_logps[:, 0])

    def direction(self, batch: Batch, before: State) -> Direction:
        """The gradient of the masked loss; and the masks after the step."""
        masks: Array = before.memory
        weights, mask_gradient = _masked_gradients(batch, before.params, masks[:, None])
        moved = masks - self.rate * (mask_gradient[:, 0] + self.strength)
        return Direction(batch.pull(before.params, weights), weights, jnp.clip(moved, 0, 1))


@pytree
@dataclass(frozen=True)
class RejectedMask(Weighted):
    """The loss's own weights d_w and d_l; the rejected answer's tokens that `OracleMask` masks have d_l (1 − strength).

    The chosen answer is trained as a whole. Tokens that the rejected one shares with it, at the same position, are not
    pushed down at strength 1; both answers can then rise. At strength κ a shared suffix token adds
    ⟨e − p, (e − p) − (1 − κ)(e − q)⟩ to the slope of the chosen; T7 is κ = 0.
    """

    strength: float | Float[Array, "*runs"] = 1.0  # from 0, ordinary training, to 1

    def direction(self, batch: Batch, before: State) -> Direction:
        """The gradient without that share of the push on tokens that the chosen answer has too."""
        kept = 1 - self.strength * _shared(batch)
        weights = batch.loss_gradients(before.params)[..., None] * jnp.ones_like(kept)
        weights = weights.at[REJECTED].multiply(kept)
        return Direction(batch.pull(before.params, weights), weights)


def _shared(batch: Batch) -> Bool[Array, "B T"]:
    """Where both answers have a token, and the same one."""
    tokens, mask = batch.responses.tokens, batch.responses.mask
    return (tokens[0] == tokens[1]) & mask.all(axis=0)


def _masked_gradients(
    batch: Batch, params: Params, masks: Float[Array, "2 1 T"] | Float[Array, "1 B T"]
) -> tuple[Float[Array, "2 B T"], Array]:
    """Derivatives of the mean loss with masked log-probabilities: in those of the tokens, and in the masks."""
    ref_token_logps = batch.token_logps(batch.ref_params)

    def mean_loss(token_logps: Array, masks: Array) -> Array:
        return batch.value((masks * token_logps).sum(axis=-1), (masks * ref_token_logps).sum(axis=-1))

    of_tokens, of_masks = jax.grad(mean_loss, argnums=(0, 1))(batch.token_logps(params), masks)
    return of_tokens, of_masks
