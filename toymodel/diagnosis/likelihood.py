"""How strong an added likelihood term must be (T19): for each pair, for most of them, and in the units of libraries.

λ is the weight of −log π_w, summed over the answer's tokens, added to a loss with the weights d_w and d_l. Libraries
average that term over tokens. With their coefficient c its weight, if the chosen answer has n_w tokens, is

c        `lambda`       the sum itself: λ in papers, and of CPO and SLiC-HF as published
c/n_w    `pref_ftx`     a mean over the answer's tokens: LLaMA-Factory; OpenRLHF's nll_loss_coef is the same
c/n̄      `rpo_alpha`    a mean over all chosen tokens of a batch, n̄ in each: TRL, and its cpo_alpha
c d_w    `dpop_lambda`  DPOP's penalty, where the chosen fell below the reference: d_w becomes d_w (1 + c)

The mean length of these pairs stands for n̄. The weight of TRL's "sft" beside "sigmoid" is an rpo_alpha too.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float

from toymodel._public import own_names

__dir__ = own_names(globals())

Windows = Float[np.ndarray, "N 2"]  # open intervals (low, high) of λ, NaN if there is none
BETA = 0.1  # DPO's β in TRL, LLaMA-Factory and others, unless told otherwise


def find_windows(slopes: Float[np.ndarray, "2 N"], along: Float[np.ndarray, "2 N"]) -> Windows:
    """The λ for which the chosen slope s + λ c is positive and the rejected slope t + λ e negative, NaN for none.

    Args:
      slopes: (s, t), slopes of log π_w and log π_l without the term.
      along: (c, e), their slopes along what the term adds, for λ = 1.
    """
    a, b = np.array([[1.0], [-1.0]]) * (slopes, along)  # wanted: a + λ b > 0 on both sides
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        ends = -a / b
    low = np.where(b > 0, ends, -np.inf).max(axis=0)
    high = np.where(b < 0, ends, np.inf).min(axis=0)
    right = (low < high) & ~((b == 0) & (a <= 0)).any(axis=0)
    return np.where(right, [low, high], np.nan).T


def find_most(windows: Windows) -> tuple[list[float] | None, int]:
    """The interval of λ ≥ 0 that separates most pairs, the lowest of several, and how many; else None."""
    told = windows[~np.isnan(windows[:, 0])]
    ends = np.unique(np.clip(told, 0, None))
    ends = np.unique([0.0, *ends[np.isfinite(ends)], np.inf])
    inside = (told[:, :1] <= ends[:-1]) & (ends[1:] <= told[:, 1:])  # no end lies between two neighbours
    counts = inside.sum(axis=0)
    best = int(counts.argmax())
    return ([float(ends[best]), float(ends[best + 1])], int(counts[best])) if counts[best] else (None, 0)


def find_by_unit(
    find: Callable[[Float[np.ndarray, " N"]], Windows],
    d_w: Float[np.ndarray, " N"],
    lengths: Float[np.ndarray, " N"] | None,
) -> dict[str, Windows]:
    """The windows of a library's coefficient, in each unit that can be computed.

    Args:
      find: windows of the coefficient, from the term's weight in each pair at a coefficient of 1.
      d_w: the loss's weights.
      lengths: tokens of the chosen answers, which means over tokens need.
    """
    per_unit = {"lambda": np.ones_like(d_w)}
    if (d_w > 0).all():
        per_unit["dpop_lambda"] = d_w
    if lengths is not None:
        per_unit |= {"rpo_alpha": np.full_like(d_w, 1 / lengths.mean()), "pref_ftx": 1 / lengths}
    return {unit: find(term) for unit, term in per_unit.items()}


def describe_most(by_unit: dict[str, Windows]) -> dict[str, Any]:
    """Which coefficient separates most pairs, in each unit; plain numbers, ready for JSON.

    By unit: `window`, [low, high] of coefficients >= 0 (high is None if there is no end) or None, and the number
    `pairs_right` of pairs that it separates.
    """
    most = {unit: find_most(windows) for unit, windows in by_unit.items()}
    return {unit: {"window": plain(window), "pairs_right": right} for unit, (window, right) in most.items()}


def plain(window: Any) -> list[float | None] | None:
    """A window for JSON: None for an infinite end, and for an empty window."""
    if window is None or np.isnan(window[0]):
        return None
    return [float(end) if np.isfinite(end) else None for end in window]
