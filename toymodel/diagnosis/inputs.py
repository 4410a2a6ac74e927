"""Reads the input of `diagnose`: gradients or Gram entries, whole or by layer, checked by name."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from toymodel._checks import require_finite
from toymodel._public import own_names
from toymodel.diagnosis.readers import GRAM
from toymodel.gram import PairGram
from toymodel.theory.common_step import check_gram

__dir__ = own_names(globals())


def read_layers(arrays: dict[str, Any], *, axes: int) -> dict[str, list[Any]]:
    """Read gradients [N, …] (two axes or more) or Gram entries [N] (one) by layer; nothing if none is given.

    Whole ones are one layer without a name.
    """
    missing = [name for name, value in arrays.items() if value is None]
    if missing and len(missing) < len(arrays):
        raise ValueError(f"`{missing[0]}` is missing; `{'`, `'.join(arrays)}` go together.")
    if missing:
        return {}
    whole = not any(isinstance(value, Mapping) for value in arrays.values())
    sides = [{"": v} if whole else v if isinstance(v, Mapping) else {} for v in arrays.values()]
    if not sides[0] or any(side.keys() != sides[0].keys() for side in sides):
        got = " and ".join(", ".join(side) or "none" for side in sides)
        raise ValueError(f"`{'` and `'.join(arrays)}` must have the same layers, got {got}.")
    layers = {layer: [_as_sliceable(side[layer]) for side in sides] for layer in sides[0]}
    n = tuple(next(iter(layers.values()))[0].shape[:1])
    for layer, values in layers.items():
        names = tuple(join_name(side, layer) for side in arrays)
        shape = tuple(values[0].shape)
        right = len(shape) == axes or (not whole and axes == 2 and len(shape) > 2)
        wanted = "[N]" if axes == 1 else "[N, P]" if whole else "[N, …]"
        if whole:
            _check_shapes(names, values, wanted, right)
        else:
            _check_shapes(names, values, f"{wanted} with N = {', '.join(map(str, n))}", right and shape[:1] == n)
    return layers


def read_entries(arrays: dict[str, Any]) -> dict[str, np.ndarray]:
    """Read the three Gram entries in float64, [3, N] by layer; nothing if none is given."""
    found = {}
    for layer, values in read_layers(arrays, axes=1).items():
        named = zip(arrays, values, strict=True)
        found[layer] = np.stack([to_float64(join_name(name, layer), value) for name, value in named])
    return found


def cut_entries(gram: Any) -> dict[str, np.ndarray]:
    """The three entries of each pair from the Gram matrix of all."""
    matrix = to_float64(GRAM, gram)
    check_gram(np.asarray(gram))
    n = len(matrix) // 2
    return {"": np.stack([np.diagonal(block) for block in (matrix[:n, :n], matrix[n:, n:], matrix[:n, n:])])}


def join_name(side: str, layer: str) -> str:
    """The name that a layer's array has in a file."""
    return f"{side}/{layer}" if layer else side


def to_float64(name: str, value: Any) -> np.ndarray:
    """Real and finite numbers in float64."""
    array = np.asarray(value)
    if not (jnp.issubdtype(array.dtype, jnp.floating) or array.dtype.kind in "iu"):  # bfloat16 has no numpy kind
        raise ValueError(f"`{name}` must hold real numbers, got dtype {array.dtype}.")
    with np.errstate(over="ignore"):  # values that are too large are reported as infinite
        array = array.astype(np.float64)
    require_finite(name, array)
    return array


def broadcast_to_pairs(name: str, value: Any, n: int) -> Array:
    """One number, or one for each pair, as one for each."""
    array = to_float64(name, value)
    if array.shape not in ((), (n,)):
        raise ValueError(f"`{name}` must have shape ({n},), got {array.shape}.")
    return jnp.broadcast_to(jnp.asarray(array), n)


def check_entries(gram: PairGram) -> None:
    """Raise `ValueError` unless some gradients have these entries."""
    for name, value in gram._asdict().items():
        if not np.isfinite(value).all():
            raise ValueError(f"`{name}` overflows float64; rescale the gradients.")
        if name != "inner" and (value < 0).any():
            raise ValueError(f"`{name}` must be >= 0, got {value.min()}.")
    # Cauchy–Schwarz up to the round-off of sums of P products; 1e-6 also admits entries computed in float32.
    excess = abs(gram.inner) > (1 + 1e-6) * jnp.sqrt(gram.chosen_sq) * jnp.sqrt(gram.rejected_sq)
    if excess.any():
        pair = int(excess.argmax())
        raise ValueError(
            f"`inner` must satisfy inner² <= chosen_sq · rejected_sq, got {gram.inner[pair]}² > "
            f"{gram.chosen_sq[pair]} · {gram.rejected_sq[pair]} for pair {pair}."
        )


def _as_sliceable(value: Any) -> Any:
    """Return what can be sliced like an array as it is, and make everything else an array."""
    return value if hasattr(value, "shape") and not isinstance(value, jax.Array) else np.asarray(value)


def _check_shapes(names: tuple[str, ...], values: list[Any], wanted: str, right: bool) -> None:
    shapes = [tuple(value.shape) for value in values]
    if len(set(shapes)) > 1 or not right or 0 in shapes[0]:
        raise ValueError(
            f"`{'`, `'.join(names)}` must share one shape {wanted} and not be empty, got {', '.join(map(str, shapes))}."
        )
