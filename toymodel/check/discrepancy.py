"""By how much a draw misses the claim of a label.

Each check maps one draw to one discrepancy. Identities are compared relative to the size of the terms they sum, so a
tolerance means round-off; a wrong sign or name counts as an infinite discrepancy.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from toymodel._public import own_names
from toymodel.check.draws import MODELS, Draw

__dir__ = own_names(globals())

ROUNDOFF = 1e-10
BY_ROUNDOFF = "float64 round-off of at most 1e4 operations, with logits up to 1e2 (1e4 · 1e2 · 1.1e-16)"
BY_SIGN = "a sign or a name: right or wrong, draws within round-off of zero left out"


class Check(NamedTuple):
    """A label, what it says, and how its discrepancy is computed for one draw of each of the given models."""

    label: str
    statement: str
    discrepancy: Callable[[Draw], Float[Array, ""]]
    models: tuple[str, ...]
    tolerance: float
    reason: str


def checks(
    label: str,
    statement: str,
    models: tuple[str, ...] = MODELS,
    tolerance: float = ROUNDOFF,
    reason: str = BY_ROUNDOFF,
) -> Callable[[Callable[[Draw], Float[Array, ""]]], Check]:
    """Make a discrepancy the `Check` of a label; `toymodel.check` finds it in its module."""
    return lambda discrepancy: Check(label, statement, discrepancy, models, tolerance, reason)


def relative(difference: Array, size: Array) -> Float[Array, ""]:
    """Largest |difference| / size; a difference at size 0 counts as infinite."""
    ratio = abs(difference) / jnp.where(size > 0, size, 1)
    return jnp.where((size > 0) | (difference == 0), ratio, jnp.inf).max()


def excess(value: Array, bound: Array, size: Array) -> Float[Array, ""]:
    """By how much a value exceeds its upper bound, relative to a size; 0 if it does not."""
    return relative(jnp.maximum(value - bound, 0), size)


def wrong(is_wrong: Array) -> Float[Array, ""]:
    """Infinite where something is wrong, 0 where nothing is."""
    return jnp.where(is_wrong, jnp.inf, 0.0).max()
