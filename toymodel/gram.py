"""The three numbers that decide what a gradient step does to a pair: measured by `gradients`, predicted by `theory`."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from toymodel._checks import is_concrete

Scalars = Float[Array, "*n"] | float  # one number, or one per pair
Ints = Int[Array, "*n"] | int


class PairGram(NamedTuple):
    """Inner products of a pair's log-probability gradients (nats² per squared parameter unit), one entry per pair."""

    chosen_sq: Float[Array, "*n"]  # ‖∇ log π_w‖²
    rejected_sq: Float[Array, "*n"]  # ‖∇ log π_l‖²
    inner: Float[Array, "*n"]  # ⟨∇ log π_w, ∇ log π_l⟩

    def swapped(self) -> "PairGram":
        """The Gram entries after exchanging chosen and rejected."""
        return PairGram(self.rejected_sq, self.chosen_sq, self.inner)


def cosine(gram: PairGram) -> Float[Array, "*n"]:
    """Cosine between the two gradients, in [−1, 1] up to round-off.

    Raises:
      ValueError: a gradient is zero, so there is no angle. (Inside a trace the result is NaN there.)
    """
    # The product of the roots, not the root of the product: squares of small norms would underflow.
    norms = jnp.sqrt(gram.chosen_sq) * jnp.sqrt(gram.rejected_sq)
    if is_concrete(norms) and not np.all(norms > 0):
        zero = np.argwhere(~(np.atleast_1d(norms) > 0))[0]
        raise ValueError(f"the cosine is undefined where a gradient is zero: pair {', '.join(map(str, zero))}.")
    return gram.inner / norms
