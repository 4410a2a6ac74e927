"""Eager checks of arguments: one `ValueError` with the name, what was wanted and what came.

Values inside a `jit`, `vmap` or `grad` trace are unknown, so every check of a value is skipped there;
checks of shapes always run.
"""

import functools
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np


class Domain(NamedTuple):
    """The values a number may take: in words, and as a test of an array."""

    words: str
    holds: Callable[[Any], Any]


REAL = Domain("finite", np.isfinite)
POSITIVE = Domain("> 0 and finite", lambda x: (x > 0) & np.isfinite(x))


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


def require_probability(name: str, value: Any, *, inside: bool = False) -> None:
    """Raise `ValueError` when `value` (a number or an array) leaves [0, 1]; with `inside`, when it leaves (0, 1)."""
    if is_concrete(value):
        array = np.asarray(value)
        if not np.all((array > 0) & (array < 1) if inside else (array >= 0) & (array <= 1)):
            raise ValueError(f"`{name}` must be a probability in {'(0, 1)' if inside else '[0, 1]'}, got {value!r}.")


def require_int(name: str, value: Any, *, low: int, high: int | None = None) -> None:
    """Raise `ValueError` when `value` is not a whole number in [low, high]."""
    wanted = f"at least {low}" if high is None else f"between {low} and {high}"
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not whole or value < low or (high is not None and value > high):
        raise ValueError(f"`{name}` must be a whole number {wanted}, got {value!r}.")


def require_counts(name: str, value: Any, n: int, *, low: int, high: int | None = None) -> None:
    """Raise `ValueError` when `value` is not a whole number in [low, high], or n of them."""
    if not isinstance(value, jax.Array | np.ndarray):
        return require_int(name, value, low=low, high=high)
    if value.dtype.kind not in "iu" or value.shape not in ((), (n,)):
        raise ValueError(
            f"`{name}` must hold a whole number, or {n} of them, got {value.dtype} of shape {value.shape}."
        )
    if is_concrete(value):
        for entry in np.asarray(value).ravel()[[np.argmin(value), np.argmax(value)]]:
            require_int(name, entry, low=low, high=high)
    return None


class SinglePrecision(UserWarning):
    """JAX computes in single precision, where digits matter."""


def note_single_precision() -> None:
    """Warn, once in a process, when JAX rounds to float32: near a threshold the sign of a slope is then round-off."""
    if jax.dtypes.canonicalize_dtype(np.float64) == np.float32:
        _warn_once()


@functools.cache
def _warn_once() -> None:
    cause = "JAX computes in float32, so the sign of a slope near 0 may be round-off."
    cure = "For float64, set `jax_enable_x64` in `jax.config`, or JAX_ENABLE_X64=1 in the environment."
    warnings.warn(f"{cause} {cure}", SinglePrecision, stacklevel=4)
