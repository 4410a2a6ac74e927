"""Eager checks of arguments: one `ValueError` with the name, what was wanted and what came.

Values inside a `jit`, `vmap` or `grad` trace are unknown, so every check of a value is skipped there;
checks of shapes always run.
"""

from typing import Any

import jax
import numpy as np


def is_concrete(*trees: Any) -> bool:
    """True when no array in the trees is a tracer, so that values may be looked at."""
    return not any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(trees))


def require_finite(name: str, tree: Any) -> None:
    """Raise `ValueError` when a floating-point array in `tree` holds NaN or an infinity."""
    if not is_concrete(tree):
        return
    for array in map(np.asarray, jax.tree.leaves(tree)):
        if not np.isfinite(array).all():
            where = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
            raise ValueError(f"`{name}` must be finite, got {array[where]} at index {where}.")


def require_positive(name: str, value: Any) -> None:
    """Raise `ValueError` when `value` (a number or an array) is not positive everywhere; infinity is allowed."""
    if is_concrete(value) and not np.all(np.asarray(value) > 0):
        raise ValueError(f"`{name}` must be > 0, got {value!r}.")


def require_int(name: str, value: Any, *, low: int, high: int | None = None) -> None:
    """Raise `ValueError` when `value` is not a whole number in [low, high]."""
    wanted = f"at least {low}" if high is None else f"between {low} and {high}"
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not whole or value < low or (high is not None and value > high):
        raise ValueError(f"`{name}` must be a whole number {wanted}, got {value!r}.")
