"""The three numbers that decide what a gradient step does to a pair: measured by `gradients`, predicted by `theory`."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from toymodel._checks import REAL, Domain, describe, epsilon_of, first_outside, is_concrete, require
from toymodel._public import own_names

__dir__ = own_names(globals())

Scalars = Float[Array, "*n"] | float  # one number, or one per pair
Ints = Int[Array, "*n"] | int

# What round-off may be: in units of the largest entry, and beside it in units of ε, for terms of order 1. Closed forms
# sum the products of all tokens, which may cancel: to a square just below 0, say, with whatever inner product.
ROUNDOFF, CANCELLED = 1e-6, 1e3
LOW_PRECISION = 1e-2  # by how much of ‖g_w‖‖g_l‖ an inner product may exceed it, as those of bfloat16 do


class PairGram(NamedTuple):
    """Inner products of a pair's log-probability gradients (nats² per squared parameter unit), one entry per pair.

    The entries are JAX arrays, NumPy arrays or plain numbers.
    """

    chosen_sq: Float[Any, "*n"]  # ‖∇ log π_w‖²
    rejected_sq: Float[Any, "*n"]  # ‖∇ log π_l‖²
    inner: Float[Any, "*n"]  # ⟨∇ log π_w, ∇ log π_l⟩

    def check(self) -> None:
        """Raise `ValueError` unless two vectors can have these inner products; values in a trace are not checked."""
        require(REAL, **self._asdict())
        if not is_concrete(self):
            return
        entries = [np.asarray(entry).astype(float) for entry in self]
        largest = max(abs(entry).max(initial=0) for entry in entries)
        roundoff = ROUNDOFF * largest + CANCELLED * max(map(epsilon_of, self))
        chosen_sq, rejected_sq, inner = entries
        square = Domain(">= 0", lambda x: x >= -roundoff)
        require(square, chosen_sq=chosen_sq, rejected_sq=rejected_sq)
        most = np.sqrt(np.maximum(chosen_sq, 0) + roundoff) * np.sqrt(np.maximum(rejected_sq, 0) + roundoff)
        inner, most = np.broadcast_arrays(inner, (1 + LOW_PRECISION) * most)
        if not (inside := np.asarray(abs(inner) <= most)).all():
            raise ValueError(f"`inner` must be at most the product of the norms, got {first_outside(inner, inside)}.")

    def swapped(self) -> "PairGram":
        """The Gram entries after exchanging chosen and rejected."""
        return PairGram(self.rejected_sq, self.chosen_sq, self.inner)


def require_gram(gram: Any) -> None:
    """Raise `ValueError` unless `gram` is a `PairGram` that two vectors can have."""
    if not isinstance(gram, PairGram):
        raise ValueError(f"`gram` must be a `PairGram`, got {describe(gram)}.")
    gram.check()


def cosine(gram: PairGram, *, allow_zero: bool = False) -> Float[Any, "*n"]:
    """Cosine between the two gradients, in [−1, 1] up to round-off. Shapes of the entries broadcast.

    Args:
      gram: entries as NumPy arrays give a NumPy array of their precision; JAX arrays give a JAX array.
      allow_zero: return NaN where a gradient is zero, instead of raising. Inside a trace it is always NaN there.

    Raises:
      ValueError: a gradient is zero, so there is no angle; no two vectors have these inner products.
    """
    if not allow_zero:
        require_gram(gram)
    xp: Any = jnp if any(isinstance(entry, jax.Array) for entry in gram) else np
    # The product of the roots, not the root of the product: squares of small norms would underflow.
    norms = xp.sqrt(gram.chosen_sq) * xp.sqrt(gram.rejected_sq)
    defined = norms > 0
    if not allow_zero and is_concrete(norms) and not np.all(defined):
        zero = np.argwhere(~np.atleast_1d(defined))[0]
        raise ValueError(f"the cosine is undefined where a gradient is zero: pair {', '.join(map(str, zero))}.")
    return xp.where(defined, gram.inner / xp.where(defined, norms, 1), xp.nan)
