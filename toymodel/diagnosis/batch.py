"""What one joint step of all pairs does to each of them (T20, T24), from the Gram matrix of their gradients."""

from collections import Counter
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from toymodel._public import own_names
from toymodel.diagnosis.likelihood import Windows, find_windows
from toymodel.theory.common_step import find_common_step
from toymodel.theory.condition import CASES, case_of_slopes

__dir__ = own_names(globals())

WORST = 3  # responses that are named for each pair
SIDES = ("chosen", "rejected")


def diagnose_batch(
    gram: Float[np.ndarray, "2*N 2*N"], d_w: Float[np.ndarray, " N"], d_l: Float[np.ndarray, " N"]
) -> dict[str, Any]:
    """Diagnose the mean step of N pairs, and whether one step would be right for all; plain numbers, ready for JSON.

    `cases` counts those of `pairs`. Each pair has `case`, `chosen_slope` and `rejected_slope` along the mean step,
    and `worst`: up to three responses of other pairs, [pair, side, slope], that harm it most. The slope is what the
    response adds to the pair's chosen, below 0; or, if both rise, to its rejected, above 0.
    `common_step` says whether a step `exists` that raises every chosen and lowers every rejected answer, the
    `least_slope` along it, and its `weights`, [2N] of sum 1 (chosen on g_w first, then rejected on −g_l).

    Raises:
      ValueError: as for `find_common_step`.
    """
    exists, least, weights = find_common_step(gram)
    n = len(d_w)
    parts = np.asarray(gram, float) * np.concatenate([d_w, -d_l]) / n  # [whose slope, by whom]
    chosen, rejected = parts.sum(axis=1).reshape(2, n)
    cases = np.asarray(CASES)[np.asarray(case_of_slopes(jnp.asarray(chosen), jnp.asarray(rejected)))]
    pairs = []
    for i, case in enumerate(cases.tolist()):
        added = -parts[n + i] if case == "both_up" else parts[i]
        others = [place for place in np.argsort(added, kind="stable").tolist() if place % n != i and added[place] < 0]
        sign = -1 if case == "both_up" else 1
        worst = [[place % n, SIDES[place // n], sign * float(added[place])] for place in others[:WORST]]
        slopes = {"chosen_slope": float(chosen[i]), "rejected_slope": float(rejected[i])}
        pairs.append({"case": case, **slopes, "worst": worst})
    counts = Counter(cases.tolist())
    return {
        "cases": {name: counts[name] for name in CASES},
        "pairs": pairs,
        "common_step": {"exists": exists, "least_slope": least, "weights": weights.tolist()},
    }


def find_batch_windows(
    gram: Float[np.ndarray, "2*N 2*N"],
    d_w: Float[np.ndarray, " N"],
    d_l: Float[np.ndarray, " N"],
    term: Float[np.ndarray, " N"],
) -> Windows:
    """For each pair, the λ for which the mean step separates it, with −λ·`term` log π_w added to every pair's loss."""
    gram, n = np.asarray(gram, float), len(d_w)
    slopes = gram @ np.concatenate([d_w, -d_l]) / n
    return find_windows(slopes.reshape(2, n), (gram[:, :n] @ term / n).reshape(2, n))
