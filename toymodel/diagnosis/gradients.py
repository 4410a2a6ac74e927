"""The gradient condition for gradients a user brings: norms, cosine, case, band and slopes of every pair."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from toymodel._checks import require_finite
from toymodel._public import own_names
from toymodel.diagnosis.batch import diagnose_batch
from toymodel.diagnosis.readers import GRADIENTS, GRAM, GRAMS, LOGPS, WEIGHTS
from toymodel.diagnosis.readers import load as load
from toymodel.gram import PairGram, cosine
from toymodel.theory.common_step import check_gram
from toymodel.theory.condition import CASES, band, case_of_slopes, slopes

__dir__ = own_names(globals())

AT_ONCE = 2**21  # numbers of a gradient that are held in float64 at a time: 16 MiB
BATCH = 256  # pairs whose gradients are all multiplied with each other: of more, that takes longer than to read them
Gradients = np.ndarray | Mapping[str, np.ndarray]  # whole, [N, P], or by layer, [N, *shape] each


class Diagnosis(NamedTuple):
    """What one small step does to each pair, and to all pairs together; plain numbers, ready for JSON.

    `pairs`: per pair `chosen_sq`, `rejected_sq`, `inner`, `cosine`, `case`, `band` ([low, high] of d_w/d_l),
    `chosen_slope`, `rejected_slope`, and log-probabilities that were given. The cosine is None where a gradient is
    zero; the band is None there and where every positive ratio is inside it (⟨g_w, g_l⟩ ≤ 0).
    `summary`: number of `pairs`, how many fall in each of `cases`, `undefined_cosines`, `mean_cosine` over the others,
    and `sum`: the same entries (but no band) for Σ log π_w and Σ log π_l under the step summed over all pairs. It needs
    the gradients themselves (None when only Gram entries were given: products across pairs are unknown).
    With gradients by layer, `summary` also has `layers`: each layer's part of the Gram entries and slopes, averaged
    over pairs, with their cosine and case. Parts add up over layers.
    `batch`: what the mean step of all pairs does to each, as `diagnose_batch` says it; None where products across pairs
    are unknown, as they are without the gradients or `gram`, or for gradients of more than 256 pairs.
    """

    pairs: list[dict[str, Any]]
    summary: dict[str, Any]
    batch: dict[str, Any] | None = None


def diagnose(
    *,
    chosen_grad: Gradients | None = None,
    rejected_grad: Gradients | None = None,
    chosen_sq: Float[np.ndarray, " N"] | None = None,
    rejected_sq: Float[np.ndarray, " N"] | None = None,
    inner: Float[np.ndarray, " N"] | None = None,
    gram: Float[np.ndarray, "2*N 2*N"] | None = None,
    d_chosen: Float[np.ndarray, " N"] | float = 1.0,
    d_rejected: Float[np.ndarray, " N"] | float = 1.0,
    chosen_logps: Float[np.ndarray, " N"] | None = None,
    rejected_logps: Float[np.ndarray, " N"] | None = None,
) -> Diagnosis:
    """Diagnose N pairs from their log-probability gradients, from their Gram matrix, or from three Gram entries each.

    Args:
      chosen_grad: ∇ log π_w of each pair, over P parameters or by layer; likewise `rejected_grad`. Computed in float64,
        a slice of the parameters at a time: an array that is a file (`numpy.memmap`, say) need not fit into memory.
      chosen_sq: ‖∇ log π_w‖² of each pair; with `rejected_sq` and `inner`, instead of the gradients.
      gram: inner products of all 2N gradients, chosen first, then rejected in the same order; instead of the gradients.
      d_chosen: weight of each pair's loss on ∇ log π_w, any sign; likewise `d_rejected` on −∇ log π_l.
      chosen_logps: log π_w, reported with each pair and not used otherwise; likewise `rejected_logps`.

    Raises:
      ValueError: none or several kinds of input, mismatched shapes or layers, values that are not finite numbers,
        negative squares, an inner product that the Cauchy–Schwarz inequality forbids, or a `gram` that no gradients
        have.
    """
    layers = _read_layers(dict(zip(GRADIENTS, (chosen_grad, rejected_grad), strict=True)))
    entries = _read_entries(dict(zip(GRAMS, (chosen_sq, rejected_sq, inner), strict=True)))
    kinds = [bool(layers), bool(entries), gram is not None]
    if sum(kinds) != 1:
        raise ValueError(
            f"give either `{'`, `'.join(GRADIENTS)}` or `{'`, `'.join(GRAMS)}` or `{GRAM}`, "
            f"got {'several' if any(kinds) else 'none'} of them."
        )
    if gram is not None:
        entries = _cut_entries(gram)
    n = len(entries[0]) if entries else next(iter(layers.values()))[0].shape[0]
    with jax.enable_x64(True):
        d_w, d_l = (_broadcast_to_pairs(name, d, n) for name, d in zip(WEIGHTS, (d_chosen, d_rejected), strict=True))
        as_numpy = np.asarray(d_w), np.asarray(d_l)
        parts, total, products = _measure(layers, *as_numpy)
        pair_gram = PairGram(*map(jnp.asarray, entries or np.sum([*parts.values()], axis=0)))
        _check_gram(pair_gram)
        if gram is not None:
            products, total = np.asarray(gram), _sum_gram(np.asarray(gram, float), *as_numpy)
        columns = _describe(pair_gram, *slopes(pair_gram, d_w, d_l)) | {"band": np.stack(band(pair_gram), axis=-1)}
        logps = {
            name: value for name, value in zip(LOGPS, (chosen_logps, rejected_logps), strict=True) if value is not None
        }
        columns |= {name: np.asarray(_broadcast_to_pairs(name, value, n)) for name, value in logps.items()}
        rows = [{name: _to_plain(column[i]) for name, column in columns.items()} for i in range(n)]
        cosines = [row["cosine"] for row in rows if row["cosine"] is not None]
        counts = Counter(row["case"] for row in rows)
        summary = {
            "pairs": n,
            "cases": {name: counts[name] for name in CASES},
            "undefined_cosines": n - len(cosines),
            "mean_cosine": float(np.mean(cosines)) if cosines else None,
            "sum": _describe_one(total[:3], total[3:]) if total is not None else None,
        }
        if isinstance(chosen_grad, Mapping):
            summary["layers"] = {
                name: _describe_one(part.mean(axis=1), [slope.mean() for slope in slopes(PairGram(*part), d_w, d_l)])
                for name, part in parts.items()
            }
        batch = None if products is None else diagnose_batch(products, *as_numpy)
    return Diagnosis(rows, summary, batch)


def _are_given(arrays: dict[str, Any]) -> bool:
    """Whether all arrays are given; raise `ValueError` when only some are."""
    missing = [name for name, value in arrays.items() if value is None]
    if missing and len(missing) < len(arrays):
        raise ValueError(f"`{missing[0]}` is missing; `{'`, `'.join(arrays)}` go together.")
    return not missing


def _read_entries(arrays: dict[str, Any]) -> list[np.ndarray]:
    """Read the three Gram entries in float64; nothing if none is given."""
    if not _are_given(arrays):
        return []
    values = [_to_float64(name, value) for name, value in arrays.items()]
    _check_shapes(tuple(arrays), values, "[N]", values[0].ndim == 1)
    return values


def _read_layers(arrays: dict[str, Any]) -> dict[str, list[Any]]:
    """Read the gradients [N, *shape] by layer (one without a name for whole gradients); nothing if none is given."""
    if not _are_given(arrays):
        return {}
    whole = not any(isinstance(value, Mapping) for value in arrays.values())
    chosen, rejected = ({"": v} if whole else v if isinstance(v, Mapping) else {} for v in arrays.values())
    if not chosen or chosen.keys() != rejected.keys():
        raise ValueError(
            f"`{'` and `'.join(arrays)}` must have the same layers, got {', '.join(chosen) or 'none'} and "
            f"{', '.join(rejected) or 'none'}."
        )
    layers = {layer: [_as_sliceable(chosen[layer]), _as_sliceable(rejected[layer])] for layer in chosen}
    n = tuple(next(iter(layers.values()))[0].shape[:1])
    for layer, values in layers.items():
        names = tuple(_join_name(side, layer) for side in arrays)
        shape = tuple(values[0].shape)
        if whole:
            _check_shapes(names, values, "[N, P]", len(shape) == 2)
        else:
            _check_shapes(
                names, values, f"[N, …] with N = {', '.join(map(str, n))}", len(shape) >= 2 and shape[:1] == n
            )
    return layers


def _join_name(side: str, layer: str) -> str:
    return f"{side}/{layer}" if layer else side


def _as_sliceable(value: Any) -> Any:
    """Return what can be sliced like an array as it is, and make everything else an array."""
    return value if hasattr(value, "shape") and not isinstance(value, jax.Array) else np.asarray(value)


def _check_shapes(names: tuple[str, ...], values: list[Any], wanted: str, right: bool) -> None:
    shapes = [tuple(value.shape) for value in values]
    if len(set(shapes)) > 1 or not right or 0 in shapes[0]:
        raise ValueError(
            f"`{'`, `'.join(names)}` must share one shape {wanted} and not be empty, got {', '.join(map(str, shapes))}."
        )


def _to_float64(name: str, value: Any) -> np.ndarray:
    array = np.asarray(value)
    if not (jnp.issubdtype(array.dtype, jnp.floating) or array.dtype.kind in "iu"):  # bfloat16 has no numpy kind
        raise ValueError(f"`{name}` must hold real numbers, got dtype {array.dtype}.")
    array = array.astype(np.float64)
    require_finite(name, array)
    return array


def _broadcast_to_pairs(name: str, value: Any, n: int) -> Array:
    array = _to_float64(name, value)
    if array.shape not in ((), (n,)):
        raise ValueError(f"`{name}` must have shape ({n},), got {array.shape}.")
    return jnp.broadcast_to(jnp.asarray(array), n)


def _cut_entries(gram: Any) -> list[np.ndarray]:
    """The three entries of each pair from the Gram matrix of all."""
    matrix = _to_float64(GRAM, gram)
    check_gram(np.asarray(gram))
    n = len(matrix) // 2
    return [np.diagonal(block).copy() for block in (matrix[:n, :n], matrix[n:, n:], matrix[:n, n:])]


def _measure(
    layers: dict[str, list[Any]], d_w: np.ndarray, d_l: np.ndarray
) -> tuple[dict[str, np.ndarray], np.ndarray | None, np.ndarray | None]:
    """Measure the Gram entries of each pair, [3, N] by layer; those of Σ log π_w, Σ log π_l with both slopes, [5]; and
    the Gram matrix of all gradients, chosen first. None where there are no gradients, or too many for the matrix.

    All of them are sums over parameters, so they add up over slices of the parameters.
    """
    n = len(d_w)
    parts = {layer: np.zeros((3, n)) for layer in layers}
    total = np.zeros(5)
    products = np.zeros((2, n, 2, n)) if layers and n <= BATCH else None
    for layer, sides in layers.items():
        slices = (
            _cut_slices(_join_name(side, layer), gradient) for side, gradient in zip(GRADIENTS, sides, strict=True)
        )
        for both in zip(*slices, strict=True):
            chosen, rejected = both
            with np.errstate(over="ignore", invalid="ignore"):  # an overflow is reported by name, in `_check_gram`
                parts[layer] += _multiply(chosen, rejected)
                sums, step = (chosen.sum(axis=0), rejected.sum(axis=0)), d_w @ chosen - d_l @ rejected
                total += [*_multiply(*sums), *(one @ step for one in sums)]
                if products is not None:
                    for i, j in ((0, 0), (0, 1), (1, 1)):
                        products[i, :, j] += both[i] @ both[j].T
    if products is None:
        return parts, total if layers else None, None
    products[1, :, 0] = products[0, :, 1].T
    return parts, total, products.reshape(2 * n, 2 * n)


def _sum_gram(gram: np.ndarray, d_w: np.ndarray, d_l: np.ndarray) -> np.ndarray:
    """The Gram entries of Σ log π_w, Σ log π_l and both slopes along the step of all pairs, [5]."""
    n = len(d_w)
    blocks = gram.reshape(2, n, 2, n).sum(axis=(1, 3))
    both_slopes = (gram @ np.concatenate([d_w, -d_l])).reshape(2, n).sum(axis=1)
    return np.array([blocks[0, 0], blocks[1, 1], blocks[0, 1], *both_slopes])


def _cut_slices(name: str, gradient: Any) -> Iterator[np.ndarray]:
    """Cut the gradients of all pairs into slices of a few parameters: [N, some], in float64."""
    n, width, *rest = gradient.shape
    some = max(1, AT_ONCE // (n * math.prod(rest)))
    for start in range(0, width, some):
        here = f"{name}[:, {start}:]" if start else name
        yield _to_float64(here, gradient[:, start : min(start + some, width)]).reshape(n, -1)


def _multiply(chosen: np.ndarray, rejected: np.ndarray) -> np.ndarray:
    return np.stack([(chosen**2).sum(axis=-1), (rejected**2).sum(axis=-1), (chosen * rejected).sum(axis=-1)])


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


def _describe_one(entries: Any, both_slopes: Any) -> dict[str, Any]:
    """Describe one pair (without its band) from three Gram entries and two slopes."""
    return {name: _to_plain(value) for name, value in _describe(PairGram(*entries), *both_slopes).items()}


def _describe(gram: PairGram, chosen_slope: Array, rejected_slope: Array) -> dict[str, np.ndarray]:
    """Describe each pair, one array per entry; the cosine is NaN where a gradient is zero."""
    columns = {
        **gram._asdict(),
        "cosine": np.clip(cosine(gram, allow_zero=True), -1, 1),
        "chosen_slope": chosen_slope,
        "rejected_slope": rejected_slope,
    }
    cases = np.asarray(CASES)[np.asarray(case_of_slopes(chosen_slope, rejected_slope))]
    return {name: np.asarray(value) for name, value in columns.items()} | {"case": cases}


def _to_plain(value: Any) -> Any:
    """Turn a value into a number, a string or a list of numbers; None where it is not finite."""
    if isinstance(value, str):
        return str(value)
    return np.asarray(value).tolist() if np.isfinite(value).all() else None
