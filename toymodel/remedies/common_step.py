"""The remedy that takes a step which separates all pairs of a batch, if such a step exists (T24).

The loss only decides which answers should rise and fall, and how long the step is. The weights on the gradients are
those of the point of their convex hull nearest 0.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from toymodel import theory
from toymodel._public import own_names
from toymodel._pytree import pytree
from toymodel.training.step import Batch, Direction, State, Weighted

__dir__ = own_names(globals())


@pytree
@dataclass(frozen=True)
class CommonStep(Weighted):
    """The common step of the batch, as long as the plain one, with damping λ of its weights (`theory.common_weights`).

    A small step without damping raises every chosen and lowers every rejected answer of the batch, if any step does.
    If none does, it is the plain step, so it jumps where the last such step disappears. Damping keeps the weights near
    those of the loss instead, without jumps, and guarantees nothing to any pair.

    It builds the gradient of every response, 2 B P numbers.
    """

    damping: float | Float[Array, "*runs"] = 0.0  # λ ≥ 0; the plain step for ∞

    def direction(self, batch: Batch, before: State) -> Direction:
        """The common direction, as long as the plain one."""
        _, gradients = batch.logps_and_gradients(before.params)
        weights = batch.weights(before.params)
        plain = jnp.concatenate([weights[0], -weights[1]]) / weights.shape[1]  # A of all 2B responses
        flat = [leaf.reshape(len(plain), -1) for leaf in jax.tree.leaves(gradients)]
        gram = jnp.stack([leaf @ leaf.T for leaf in flat]).sum(axis=0)
        common = jnp.sign(plain) * theory.common_weights(gram, plain, self.damping)
        none = theory.cancels(gram, common)
        lengths = [jnp.sqrt(jnp.maximum(step @ gram @ step, 0)) for step in (plain, common)]
        step = jnp.where(none, plain, common * lengths[0] / jnp.where(none, 1, lengths[1]))
        step = -step.reshape(2, -1)
        return Direction(jax.tree.map(lambda leaf: jnp.tensordot(step, leaf, 2), gradients), step[..., None])
