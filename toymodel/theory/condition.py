"""The gradient condition (T9–T11): what one small step does, from three inner products and two weights.

Paper               Here                      Meaning
∇ log π_w, l        `PairGram`                only their inner products matter
d_w, d_l            `d_chosen`, `d_rejected`  weight the loss puts on each gradient; DPO: equal
Eqs. 4–5            `slopes`                  θ ← θ + η(d_w ∇ log π_w − d_l ∇ log π_l), first order in η
Condition 1, Tab. 1 `case`                    which of the two log-probabilities rises

Pure algebra on Gram entries, elementwise over pairs. `gradients` measures them and is never imported here.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from toymodel._checks import ABOVE_ZERO, REAL, note_single_precision, require
from toymodel._public import own_names
from toymodel.gram import PairGram, Scalars, require_gram

__dir__ = own_names(globals())

#: The names of the cases; the last one is for a slope of zero.
CASES = ("chosen_up_rejected_down", "both_down", "both_up", "chosen_down_rejected_up", "stationary")


class Band(NamedTuple):
    """The open interval of ratios d_w/d_l that raise the chosen and lower the rejected; empty when low >= high."""

    low: Float[Array, "*n"]
    high: Float[Array, "*n"]


def slopes(
    gram: PairGram, d_chosen: Scalars = 1.0, d_rejected: Scalars = 1.0
) -> tuple[Float[Array, "*n"], Float[Array, "*n"]]:
    """d/dη of (log π_w, log π_l) at η = 0, in nats per unit of learning rate (T9; paper Eqs. 4–5 for d_w = d_l).

    Raises:
      ValueError: no two vectors have this `gram`, or a weight is not finite.
    """
    require_gram(gram)
    require(REAL, d_chosen=d_chosen, d_rejected=d_rejected)
    return (
        jnp.asarray(d_chosen * gram.chosen_sq - d_rejected * gram.inner),
        jnp.asarray(d_chosen * gram.inner - d_rejected * gram.rejected_sq),
    )


def margin_slope(gram: PairGram, d: Scalars = 1.0) -> Float[Array, "*n"]:
    """d/dη of log π_w − log π_l for d_w = d_l = d: d‖g_w − g_l‖², never negative for d ≥ 0 (T9).

    Raises:
      ValueError: no two vectors have this `gram`, or `d` is not finite.
    """
    require_gram(gram)
    require(REAL, d=d)
    return jnp.asarray(d * (gram.chosen_sq - 2 * gram.inner + gram.rejected_sq))


def slack(gram: PairGram, d_chosen: Scalars = 1.0, d_rejected: Scalars = 1.0) -> Float[Array, "*n"]:
    """min((d_w/d_l)‖g_w‖², (d_l/d_w)‖g_l‖²) − ⟨g_w, g_l⟩: > 0 iff chosen rises and rejected falls (T10; Condition 1).

    Raises:
      ValueError: no two vectors have this `gram`, or a weight is not positive; the condition has this form for
        positive weights only (`case` takes any).
    """
    require_gram(gram)
    require(ABOVE_ZERO, d_chosen=d_chosen, d_rejected=d_rejected)
    ratio = jnp.asarray(d_chosen / d_rejected)
    return jnp.minimum(ratio * gram.chosen_sq, gram.rejected_sq / ratio) - gram.inner


def case_index(gram: PairGram, d_chosen: Scalars = 1.0, d_rejected: Scalars = 1.0) -> Int[Array, "*n"]:
    """The case of each pair as its index in `CASES` (T10; Table 1), for any finite weights. Works under `jit`.

    Raises:
      ValueError: no two vectors have this `gram`, or a weight is not finite.
    """
    return case_of_slopes(*slopes(gram, d_chosen, d_rejected))


def case_of_slopes(chosen_slope: Scalars, rejected_slope: Scalars) -> Int[Array, "*n"]:
    """The index in `CASES` that two slopes have, however they were obtained.

    Raises:
      ValueError: a slope is not finite.
    """
    require(REAL, chosen_slope=chosen_slope, rejected_slope=rejected_slope)
    chosen, rejected = jnp.sign(chosen_slope), jnp.sign(rejected_slope)
    index = jnp.where(chosen > 0, jnp.where(rejected > 0, 2, 0), jnp.where(rejected > 0, 3, 1))
    return jnp.where((chosen == 0) | (rejected == 0), 4, index)


def case(gram: PairGram, d_chosen: Scalars = 1.0, d_rejected: Scalars = 1.0) -> np.ndarray | str:
    """The name of each pair's case, one of `CASES`: a string for one pair, an array of strings for several.

    The signs of the two slopes decide, so negative weights are judged correctly too. "stationary": a slope is zero.

    Raises:
      ValueError: no two vectors have this `gram`, or a weight is not finite.
    """
    names = np.asarray(CASES)[np.asarray(case_index(gram, d_chosen, d_rejected))]
    note_single_precision()
    return names if names.ndim else str(names)


def band(gram: PairGram) -> Band:
    """Ratios d_w/d_l with chosen up and rejected down: (cos · r*, r*/cos), r* = ‖g_l‖/‖g_w‖ (T11; arXiv 2604.18239).

    For ⟨g_w, g_l⟩ ≤ 0 every positive ratio separates the pair: (0, ∞). Where a gradient is zero no ratio does: NaN.

    Raises:
      ValueError: no two vectors have this `gram`.
    """
    require_gram(gram)
    entangled = gram.inner > 0
    safe = jnp.where(entangled, gram.inner, 1.0)
    some = (gram.chosen_sq > 0) & (gram.rejected_sq > 0)
    low = jnp.where(entangled, gram.inner / jnp.where(some, gram.chosen_sq, 1.0), 0.0)
    high = jnp.where(entangled, gram.rejected_sq / safe, jnp.inf)
    return Band(jnp.where(some, low, jnp.nan), jnp.where(some, high, jnp.nan))


def band_centre(gram: PairGram) -> Float[Array, "*n"]:
    """r* = ‖g_l‖/‖g_w‖, the geometric mean of the band's two ends (T11). NaN where both gradients are zero.

    Raises:
      ValueError: no two vectors have this `gram`.
    """
    require_gram(gram)
    return jnp.sqrt(gram.rejected_sq) / jnp.sqrt(gram.chosen_sq)


def in_band(gram: PairGram, d_chosen: Scalars, d_rejected: Scalars) -> Bool[Array, "*n"]:
    """Whether d_w/d_l lies strictly inside the band; for positive weights this is case 1 (T11).

    Raises:
      ValueError: no two vectors have this `gram`, or a weight is not positive.
    """
    require_gram(gram)
    require(ABOVE_ZERO, d_chosen=d_chosen, d_rejected=d_rejected)
    low, high = band(gram)
    ratio = jnp.asarray(d_chosen / d_rejected)
    return (low < ratio) & (ratio < high)
