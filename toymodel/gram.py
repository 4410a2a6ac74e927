"""The three numbers that decide what a gradient step does to a pair: measured by `gradients`, predicted by `theory`."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from toymodel._checks import is_concrete
from toymodel._public import own_names

__dir__ = own_names(globals())

Scalars = Float[Array, "*n"] | float  # one number, or one per pair
Ints = Int[Array, "*n"] | int


class PairGram(NamedTuple):
    """Inner products of a pair's log-probability gradients (nats² per squared parameter unit), one entry per pair.

    The entries are JAX arrays, NumPy arrays or plain numbers.
    """

    chosen_sq: Float[Any, "*n"]  # ‖∇ log π_w‖²
    rejected_sq: Float[Any, "*n"]  # ‖∇ log π_l‖²
    inner: Float[Any, "*n"]  # ⟨∇ log π_w, ∇ log π_l⟩

    def swapped(self) -> "PairGram":
        """The Gram entries after exchanging chosen and rejected."""
        return PairGram(self.rejected_sq, self.chosen_sq, self.inner)


def cosine(gram: PairGram, *, allow_zero: bool = False) -> Float[Any, "*n"]:
    """Cosine between the two gradients, in [−1, 1] up to round-off. Shapes of the entries broadcast.

    Args:
      gram: entries as NumPy arrays give a NumPy array of their precision; JAX arrays give a JAX array.
      allow_zero: return NaN where a gradient is zero, instead of raising. Inside a trace it is always NaN there.

    Raises:
      ValueError: a gradient is zero, so there is no angle.
    """
    xp: Any = jnp if any(isinstance(entry, jax.Array) for entry in gram) else np
    # The product of the roots, not the root of the product: squares of small norms would underflow.
    norms = xp.sqrt(gram.chosen_sq) * xp.sqrt(gram.rejected_sq)
    defined = norms > 0
    if not allow_zero and is_concrete(norms) and not np.all(defined):
        zero = np.argwhere(~np.atleast_1d(defined))[0]
        raise ValueError(f"the cosine is undefined where a gradient is zero: pair {', '.join(map(str, zero))}.")
    return xp.where(defined, gram.inner / xp.where(defined, norms, 1), xp.nan)
