"""The gradient condition for gradients a user brings: norms, cosine, case, band and slopes of every pair."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from toymodel._checks import require_positive
from toymodel._public import own_names
from toymodel.diagnosis.batch import diagnose_batch, find_batch_windows
from toymodel.diagnosis.inputs import (
    broadcast_to_pairs,
    check_entries,
    cut_entries,
    join_name,
    read_entries,
    read_layers,
    to_float64,
)
from toymodel.diagnosis.likelihood import BETA, Windows, describe_most, find_by_unit, find_windows, plain
from toymodel.diagnosis.readers import GRADIENTS, GRAM, GRAMS, LENGTHS, LOGPS, WEIGHTS
from toymodel.diagnosis.readers import load as load
from toymodel.gram import PairGram, cosine
from toymodel.theory.condition import CASES, band, case_of_slopes, slopes

__dir__ = own_names(globals())

AT_ONCE = 2**21  # numbers of a gradient that are held in float64 at a time: 16 MiB
BATCH = 256  # pairs, at most, of which all gradients are multiplied with each other: more take too long
Gradients = np.ndarray | Mapping[str, np.ndarray]  # whole, [N, P], or by layer, [N, *shape] each
Entries = Float[np.ndarray, " N"] | Mapping[str, Float[np.ndarray, " N"]]  # whole, or by layer


class Diagnosis(NamedTuple):
    """What one small step does to each pair, and to all pairs together; plain numbers, ready for JSON.

    `pairs`: per pair `chosen_sq`, `rejected_sq`, `inner`, `cosine`, `case`, `band` ([low, high] of d_w/d_l),
    `chosen_slope`, `rejected_slope`, and log-probabilities and lengths that were given. The cosine is None where a
    gradient is zero; the band is None there and where every positive ratio is inside it (⟨g_w, g_l⟩ ≤ 0).
    `likelihood` is, for every unit of `find_by_unit`, the open interval [low, high] of coefficients for which a
    likelihood term in the loss separates the pair (T19); `lambda` is that of −λ log π_w. A `low` below 0 means that the
    pair is separated without it; `high` is None if there is no end, and the interval None if no coefficient separates.
    If no weights were given, they are those of DPO at its reference, β/2. The units of libraries whose term is a mean
    over tokens need `chosen_lengths`.
    `summary`: number of `pairs`, how many fall in each of `cases`, `undefined_cosines`, `mean_cosine` over the others,
    and `sum`: the same entries (but no band) for Σ log π_w and Σ log π_l under the step summed over all pairs. It needs
    the gradients themselves (None when only Gram entries were given: products across pairs are unknown).
    `likelihood` says which coefficient separates most pairs, each by its own step: for every unit its `window`
    [low, high] and the number `pairs_right` of these pairs; and the `beta` above, None if weights were given.
    With gradients or entries by layer, `summary` also has `layers`: each layer's part of the Gram entries and slopes,
    averaged over pairs, with their cosine and case. Parts add up over layers.
    `batch`: what the mean step of all pairs does to each, as in `diagnose_batch`, and `likelihood` for that step, with
    the same term in every pair; None if products across pairs are unknown, as without the gradients or `gram`, or for
    gradients of more than 256 pairs.
    """

    pairs: list[dict[str, Any]]
    summary: dict[str, Any]
    batch: dict[str, Any] | None = None


def diagnose(
    *,
    chosen_grad: Gradients | None = None,
    rejected_grad: Gradients | None = None,
    chosen_sq: Entries | None = None,
    rejected_sq: Entries | None = None,
    inner: Entries | None = None,
    gram: Float[np.ndarray, "2*N 2*N"] | None = None,
    d_chosen: Float[np.ndarray, " N"] | float | None = None,
    d_rejected: Float[np.ndarray, " N"] | float | None = None,
    beta: float | None = None,
    chosen_logps: Float[np.ndarray, " N"] | None = None,
    rejected_logps: Float[np.ndarray, " N"] | None = None,
    chosen_lengths: Float[np.ndarray, " N"] | None = None,
    rejected_lengths: Float[np.ndarray, " N"] | None = None,
) -> Diagnosis:
    """Diagnose N pairs from their log-probability gradients, from their Gram matrix, or from three Gram entries each.

    Args:
      chosen_grad: ∇ log π_w of each pair, over P parameters or by layer; likewise `rejected_grad`. Computed in float64,
        a slice of the parameters at a time: an array that is a file (`numpy.memmap`, say) need not fit into memory.
      chosen_sq: ‖∇ log π_w‖² of each pair, whole or by layer; with `rejected_sq` and `inner`, instead of the gradients.
      gram: inner products of all 2N gradients, chosen first, then rejected in the same order; instead of the gradients.
      d_chosen: weight of each pair's loss on ∇ log π_w, any sign (default 1); likewise `d_rejected` on −∇ log π_l.
      beta: β of DPO (default 0.1), instead of the weights; only `likelihood` uses it, which is in units of losses.
      chosen_logps: log π_w, reported with each pair and not used otherwise; likewise `rejected_logps`.
      chosen_lengths: numbers of tokens, which `likelihood` needs for the units of libraries; `rejected_lengths` are
        only reported.

    Raises:
      ValueError: none or several kinds of input, mismatched shapes or layers, values that are not finite numbers,
        negative squares, an inner product that the Cauchy–Schwarz inequality forbids, a `gram` that no gradients have,
        a log-probability above 0, a length below 1, or both weights and `beta`.
    """
    layers = read_layers(dict(zip(GRADIENTS, (chosen_grad, rejected_grad), strict=True)), axes=2)
    entries = read_entries(dict(zip(GRAMS, (chosen_sq, rejected_sq, inner), strict=True)))
    kinds = [bool(layers), bool(entries), gram is not None]
    if sum(kinds) != 1:
        raise ValueError(
            f"give either `{'`, `'.join(GRADIENTS)}` or `{'`, `'.join(GRAMS)}` or `{GRAM}`, "
            f"got {'several' if any(kinds) else 'none'} of them."
        )
    if gram is not None:
        entries = cut_entries(gram)
    n = next(iter(entries.values())).shape[1] if entries else next(iter(layers.values()))[0].shape[0]
    weighted = d_chosen is not None or d_rejected is not None
    if beta is not None:
        require_positive("beta", beta)
        if weighted:
            raise ValueError("`beta` applies only if `d_chosen` and `d_rejected` are not given.")
    with jax.enable_x64(True):
        given = (1.0 if d is None else d for d in (d_chosen, d_rejected))
        d_w, d_l = (broadcast_to_pairs(name, d, n) for name, d in zip(WEIGHTS, given, strict=True))
        as_numpy = np.asarray(d_w), np.asarray(d_l)
        parts, total, products = _measure(layers, *as_numpy)
        parts = parts or entries
        pair_gram = PairGram(*map(jnp.asarray, np.sum([*parts.values()], axis=0)))
        check_entries(pair_gram)
        if gram is not None:
            products, total = np.asarray(gram), _sum_gram(np.asarray(gram, float), *as_numpy)
        both_slopes = slopes(pair_gram, d_w, d_l)
        columns = _describe(pair_gram, *both_slopes) | {"band": np.stack(band(pair_gram), axis=-1)}
        told = (chosen_logps, rejected_logps, chosen_lengths, rejected_lengths)
        shown = {
            name: np.asarray(broadcast_to_pairs(name, value, n))
            for name, value in zip((*LOGPS, *LENGTHS), told, strict=True)
            if value is not None
        }
        for name in set(LOGPS) & set(shown):
            if (shown[name] > 0).any():
                raise ValueError(f"`{name}` must be <= 0 (log-probabilities in nats), got {shown[name].max()}.")
        for name in set(LENGTHS) & set(shown):
            if (shown[name] < 1).any():
                raise ValueError(f"`{name}` must be >= 1 (tokens), got {shown[name].min()}.")
        columns |= shown
        rows = [{name: _to_plain(column[i]) for name, column in columns.items()} for i in range(n)]
        beta = None if weighted else beta or BETA
        scaled = [d if beta is None else d * beta / 2 for d in as_numpy]
        by_unit = partial(find_by_unit, d_w=scaled[0], lengths=shown.get(LENGTHS[0]))
        own = by_unit(partial(_find_own_windows, pair_gram, *scaled))
        for i, row in enumerate(rows):
            row["likelihood"] = {unit: plain(windows[i]) for unit, windows in own.items()}
        cosines = [row["cosine"] for row in rows if row["cosine"] is not None]
        counts = Counter(row["case"] for row in rows)
        summary = {
            "pairs": n,
            "cases": {name: counts[name] for name in CASES},
            "undefined_cosines": n - len(cosines),
            "mean_cosine": float(np.mean(cosines)) if cosines else None,
            "sum": _describe_one(total[:3], total[3:]) if total is not None else None,
            "likelihood": {"beta": beta} | describe_most(own),
        }
        if "" not in parts:
            summary["layers"] = {
                name: _describe_one(part.mean(axis=1), [slope.mean() for slope in slopes(PairGram(*part), d_w, d_l)])
                for name, part in parts.items()
            }
        batch = None
        if products is not None:
            most = describe_most(by_unit(partial(find_batch_windows, products, *scaled)))
            batch = diagnose_batch(products, *as_numpy) | {"likelihood": {"beta": beta} | most}
    return Diagnosis(rows, summary, batch)


def _find_own_windows(gram: PairGram, d_w: np.ndarray, d_l: np.ndarray, term: np.ndarray) -> Windows:
    """For each pair, the λ for which its own step separates it, with −λ·`term` log π_w added to its loss (T19)."""
    along = np.asarray([gram.chosen_sq, gram.inner]) * term
    return find_windows(np.asarray(slopes(gram, jnp.asarray(d_w), jnp.asarray(d_l))), along)


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
            _cut_slices(join_name(side, layer), gradient) for side, gradient in zip(GRADIENTS, sides, strict=True)
        )
        for both in zip(*slices, strict=True):
            chosen, rejected = both
            with np.errstate(over="ignore", invalid="ignore"):  # an overflow is reported by name, in `check_gram`
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
        yield to_float64(here, gradient[:, start : min(start + some, width)]).reshape(n, -1)


def _multiply(chosen: np.ndarray, rejected: np.ndarray) -> np.ndarray:
    return np.stack([(chosen**2).sum(axis=-1), (rejected**2).sum(axis=-1), (chosen * rejected).sum(axis=-1)])


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
