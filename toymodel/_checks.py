"""Eager checks of arguments: one `ValueError` with the name, what was wanted and what was given.

Values inside a `jit`, `vmap` or `grad` trace are unknown, so every check of a value is skipped there;
checks of shapes always run.
"""

import functools
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Domain(NamedTuple):
    """The values a number may take: in words, and as a test of an array."""

    words: str
    holds: Callable[[Any], Any]


REAL = Domain("finite", np.isfinite)
POSITIVE = Domain("> 0 and finite", lambda x: (x > 0) & np.isfinite(x))
# For `require`, which also requires finite numbers.
ABOVE_ZERO = Domain("> 0", lambda x: x > 0)
FROM_ZERO = Domain(">= 0", lambda x: x >= 0)
PROBABILITY = Domain("a probability in [0, 1]", lambda x: (x >= 0) & (x <= 1))


def is_concrete(*trees: Any) -> bool:
    """Whether no array in the trees is a tracer, so that values can be read."""
    return not any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(trees))


def require(domain: Domain, **values: Any) -> None:
    """Raise `ValueError` when a value is not a finite real number (or an array of them) in `domain`."""
    for name, value in values.items():
        array = real_array(name, value)
        if array is None:
            continue
        for words, holds in (domain, REAL):
            if not (inside := np.asarray(holds(array))).all():
                raise ValueError(f"`{name}` must be {words}, got {first_outside(array, inside)}.")


def real_array(name: str, value: Any) -> np.ndarray | None:
    """The value as a NumPy array, None inside a trace; raise `ValueError` when it is not a real number or an array.

    Lists are refused, because the formulas cannot calculate with them.
    """
    number = isinstance(value, int | float | np.generic | np.ndarray | jax.Array) and not isinstance(value, bool)
    if not number or not (
        jnp.issubdtype(dtype_of(value), jnp.floating) or jnp.issubdtype(dtype_of(value), jnp.integer)
    ):
        raise ValueError(f"`{name}` must be a real number or an array of them, got {describe(value)}.")
    return np.asarray(value) if is_concrete(value) else None


def dtype_of(value: Any) -> np.dtype:
    """The dtype of an array, or that of a Python number."""
    dtype: np.dtype = np.dtype(type(value)) if isinstance(value, int | float) else value.dtype
    return dtype


def epsilon_of(value: Any) -> float:
    """The unit round-off ε of an array's or a number's precision; 0 for whole numbers."""
    dtype = dtype_of(value)
    return float(jnp.finfo(dtype).eps) if jnp.issubdtype(dtype, jnp.floating) else 0.0  # type: ignore[no-untyped-call]


def is_boolean(value: Any) -> bool:
    """Whether this is a Boolean array."""
    return isinstance(value, np.ndarray | np.bool_ | jax.Array) and value.dtype.kind == "b"


def describe(value: Any) -> str:
    """A value for a message: arrays by dtype and shape, anything else as it prints, shortened."""
    if isinstance(value, np.ndarray | jax.Array):
        return f"an array of {value.dtype} of shape {value.shape}"
    text = " ".join(repr(value).split())  # in one line
    return text if len(text) <= 60 else f"{text[:60]}…"


def first_outside(array: np.ndarray, inside: np.ndarray) -> str:
    """The first entry of an array that is not inside, with its index; a single number has no index."""
    if not array.ndim:
        return str(array)
    where = tuple(int(i) for i in np.argwhere(~inside)[0])
    return f"{array[where]} at index {where}"


def require_finite(name: str, tree: Any) -> None:
    """Raise `ValueError` unless all leaves of the tree are finite real numbers or arrays of them."""
    for leaf in jax.tree.leaves(tree):
        if not (isinstance(leaf, bool) or is_boolean(leaf)):
            require(REAL, **{name: leaf})


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
    """Warning that JAX computes in single precision where digits matter."""


def note_single_precision() -> None:
    """Warn, once in a process, when JAX rounds to float32: near a threshold the sign of a slope is then round-off."""
    if jax.dtypes.canonicalize_dtype(np.float64) == np.float32:
        _warn_once()


@functools.cache
def _warn_once() -> None:
    cause = "JAX computes in float32, so the sign of a slope near 0 may be round-off."
    cure = "For float64, set `jax_enable_x64` in `jax.config`, or JAX_ENABLE_X64=1 in the environment."
    warnings.warn(f"{cause} {cure}", SinglePrecision, stacklevel=4)
