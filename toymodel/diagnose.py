"""The gradient condition for gradients a user brings: norms, cosine, case, band and slopes of every pair."""

import os
import zipfile
import zlib
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from toymodel._checks import require_finite
from toymodel.gram import PairGram
from toymodel.theory.condition import CASES, band, case_of_slopes, slopes

GRADIENTS = ("chosen_grad", "rejected_grad")
GRAMS = ("chosen_sq", "rejected_sq", "inner")
WEIGHTS = ("d_chosen", "d_rejected")


class Diagnosis(NamedTuple):
    """What one small step does to each pair, and to all pairs together; plain numbers, ready for JSON.

    `pairs`: per pair `chosen_sq`, `rejected_sq`, `inner`, `cosine`, `case`, `band` ([low, high] of d_w/d_l),
    `chosen_slope`, `rejected_slope`. The cosine is None where a gradient is zero; the band is None there and where
    every positive ratio is inside it (⟨g_w, g_l⟩ ≤ 0).
    `summary`: number of `pairs`, how many fall in each of `cases`, `undefined_cosines`, `mean_cosine` over the others,
    and `sum`: the same entries (but no band) for Σ log π_w and Σ log π_l under the step summed over all pairs. It needs
    the gradients themselves (None when only Gram entries were given: products across pairs are unknown).
    """

    pairs: list[dict[str, Any]]
    summary: dict[str, Any]


def diagnose(
    *,
    chosen_grad: Float[np.ndarray, "N P"] | None = None,
    rejected_grad: Float[np.ndarray, "N P"] | None = None,
    chosen_sq: Float[np.ndarray, " N"] | None = None,
    rejected_sq: Float[np.ndarray, " N"] | None = None,
    inner: Float[np.ndarray, " N"] | None = None,
    d_chosen: Float[np.ndarray, " N"] | float = 1.0,
    d_rejected: Float[np.ndarray, " N"] | float = 1.0,
) -> Diagnosis:
    """Diagnose N pairs from their log-probability gradients, or from the three Gram entries alone.

    Args:
      chosen_grad: ∇ log π_w of each pair, over P parameters; likewise `rejected_grad`. Computed in float64.
      chosen_sq: ‖∇ log π_w‖² of each pair; with `rejected_sq` and `inner`, instead of the gradients.
      d_chosen: weight of each pair's loss on ∇ log π_w, any sign; likewise `d_rejected` on −∇ log π_l.

    Raises:
      ValueError: neither or both kinds of input, mismatched shapes, values that are not finite numbers, negative
        squares, or an inner product that the Cauchy–Schwarz inequality forbids.
    """
    grads = _given(dict(zip(GRADIENTS, (chosen_grad, rejected_grad), strict=True)), ndim=2)
    entries = _given(dict(zip(GRAMS, (chosen_sq, rejected_sq, inner), strict=True)), ndim=1)
    if bool(grads) == bool(entries):
        raise ValueError(
            f"give either `{'`, `'.join(GRADIENTS)}` or `{'`, `'.join(GRAMS)}`, got {'both' if grads else 'neither'}."
        )
    with jax.enable_x64(True):
        gram = _gram(*grads) if grads else PairGram(*map(jnp.asarray, entries))
        _check_gram(gram)
        n = len(gram.inner)
        d_w, d_l = (_weight(name, d, n) for name, d in zip(WEIGHTS, (d_chosen, d_rejected), strict=True))
        columns = _columns(gram, *slopes(gram, d_w, d_l)) | {"band": np.stack(band(gram), axis=-1)}
        rows = [{name: _plain(column[i]) for name, column in columns.items()} for i in range(n)]
        total = _total(jnp.asarray(grads[0]), jnp.asarray(grads[1]), d_w, d_l) if grads else None
    cosines = [row["cosine"] for row in rows if row["cosine"] is not None]
    counts = Counter(row["case"] for row in rows)
    summary = {
        "pairs": n,
        "cases": {name: counts[name] for name in CASES},
        "undefined_cosines": n - len(cosines),
        "mean_cosine": float(np.mean(cosines)) if cosines else None,
        "sum": total,
    }
    return Diagnosis(rows, summary)


def load(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """The arrays of an .npz file, by name; pickled objects are refused, never loaded.

    Raises:
      ValueError: the file is missing, unreadable, not an .npz archive, or holds an array we do not know.
    """
    known = (*GRADIENTS, *GRAMS, *WEIGHTS)
    try:
        if not zipfile.is_zipfile(path):
            Path(path).open("rb").close()  # says why, when the file cannot be read at all
            raise ValueError("it is not an .npz archive")
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"cannot read `{path}`: {error}") from error
    for name in arrays:
        if name not in known:
            raise ValueError(f"`{path}` holds an unknown array {name!r}; known are {', '.join(known)}.")
    return arrays


def _given(arrays: dict[str, Any], ndim: int) -> list[np.ndarray]:
    """The arrays as float64 if all are there, nothing if none is."""
    missing = [name for name, value in arrays.items() if value is None]
    if len(missing) == len(arrays):
        return []
    if missing:
        raise ValueError(f"`{missing[0]}` is missing; `{'`, `'.join(arrays)}` go together.")
    values = [_float64(name, value) for name, value in arrays.items()]
    if len({value.shape for value in values}) > 1 or values[0].ndim != ndim or values[0].size == 0:
        wanted = "[N, P]" if ndim == 2 else "[N]"
        raise ValueError(
            f"`{'`, `'.join(arrays)}` must share one shape {wanted} and not be empty, "
            f"got {', '.join(str(value.shape) for value in values)}."
        )
    return values


def _float64(name: str, value: Any) -> np.ndarray:
    array = np.asarray(value)
    if array.dtype.kind not in "fiu":
        raise ValueError(f"`{name}` must hold real numbers, got dtype {array.dtype}.")
    array = array.astype(np.float64)
    require_finite(name, array)
    return array


def _weight(name: str, value: Any, n: int) -> Array:
    array = _float64(name, value)
    if array.shape not in ((), (n,)):
        raise ValueError(f"`{name}` must have shape ({n},), got {array.shape}.")
    return jnp.broadcast_to(jnp.asarray(array), n)


def _gram(chosen: np.ndarray, rejected: np.ndarray) -> PairGram:
    with np.errstate(over="ignore"):  # an overflow is reported by name, in `_check_gram`
        entries = ((chosen**2).sum(axis=-1), (rejected**2).sum(axis=-1), (chosen * rejected).sum(axis=-1))
    return PairGram(*map(jnp.asarray, entries))


def _check_gram(gram: PairGram) -> None:
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


def _total(chosen: Array, rejected: Array, d_w: Array, d_l: Array) -> dict[str, Any]:
    """All pairs as one: how Σ log π_w and Σ log π_l move under the joint step Σ (d_w g_w − d_l g_l)."""
    sum_w, sum_l = chosen.sum(axis=0), rejected.sum(axis=0)
    step = d_w @ chosen - d_l @ rejected
    columns = _columns(_gram(np.asarray(sum_w), np.asarray(sum_l)), sum_w @ step, sum_l @ step)
    return {name: _plain(value) for name, value in columns.items()}


def _columns(gram: PairGram, chosen_slope: Array, rejected_slope: Array) -> dict[str, np.ndarray]:
    """What is said of each pair, one array per entry; the cosine is NaN where a gradient is zero."""
    norms = jnp.sqrt(gram.chosen_sq) * jnp.sqrt(gram.rejected_sq)
    columns = {
        **gram._asdict(),
        "cosine": jnp.where(norms > 0, jnp.clip(gram.inner / norms, -1, 1), jnp.nan),
        "chosen_slope": chosen_slope,
        "rejected_slope": rejected_slope,
    }
    cases = np.asarray(CASES)[np.asarray(case_of_slopes(chosen_slope, rejected_slope))]
    return {name: np.asarray(value) for name, value in columns.items()} | {"case": cases}


def _plain(value: Any) -> Any:
    """A number, a string or a list of numbers; None where it is not finite."""
    if isinstance(value, str):
        return str(value)
    return np.asarray(value).tolist() if np.isfinite(value).all() else None
