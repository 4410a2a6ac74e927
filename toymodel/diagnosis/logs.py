"""Regimes of a training log: the steps in which the log-probabilities of chosen and rejected rose or fell.

A log holds states. Every change from one state to the next has a case, decided by the signs of its two numbers, as
slopes have one in `theory`. A stretch is a maximal run of changes of one case. Log-probabilities are in nats.
"""

import math
from collections import Counter
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from toymodel._checks import require_finite, require_int
from toymodel._public import own_names
from toymodel.diagnosis.readers import MASKS, TOKENS
from toymodel.theory.condition import CASES, case_of_slopes

__dir__ = own_names(globals())


class LogDiagnosis(NamedTuple):
    """The regime of every step; plain numbers, ready for JSON. Changes are in the unit of the log (nats).

    `stretches`: one after the other, each from the state where the one before it ended: `case`, `first_step`,
    `last_step`, `chosen_change` and `rejected_change` between those two states.
    With tokens, also `chosen_positions` and `rejected_positions`: what each position of the response adds to them.
    `summary`: the same entries from the first state to the last, number of `states`, how many changes from state to
    state have each of the `cases`, and `both_down`: number of `stretches` and `steps`, and the changes in them.
    """

    stretches: list[dict[str, Any]]
    summary: dict[str, Any]


class TokenDiagnosis(NamedTuple):
    """The regimes of each of N pairs, and of the mean over pairs (padding counts as zero, so that positions add up)."""

    mean: LogDiagnosis
    pairs: list[LogDiagnosis]


def diagnose_log(
    chosen_logps: Float[np.ndarray, " S"],
    rejected_logps: Float[np.ndarray, " S"],
    *,
    steps: Int[np.ndarray, " S"] | None = None,
    tolerance: float = 0.0,
    window: int = 1,
) -> LogDiagnosis:
    """The regimes of a training run, from two numbers at each of S logged states.

    Args:
      chosen_logps: log π_w, most often a mean over pairs; likewise `rejected_logps`. Rewards β·log-ratio work too.
      steps: the step of each state, increasing (default: 0, 1, 2, …).
      tolerance: changes from state to state up to this size count as none; the case is then "stationary".
      window: odd; each state is replaced by the mean of this many around it, and window // 2 are lost at each end.

    Raises:
      ValueError: shapes differ, fewer than two states, numbers that are not finite, steps that do not increase.
    """
    chosen = _check_numbers("chosen_logps", chosen_logps, "[S]")
    rejected = _check_numbers("rejected_logps", rejected_logps, "[S]")
    require_finite("chosen_logps", chosen)
    require_finite("rejected_logps", rejected)
    if len(chosen) != len(rejected):
        raise ValueError(
            f"`chosen_logps` and `rejected_logps` must have one length, got {len(chosen)} and {len(rejected)}."
        )
    return _find_regimes(_check_steps(steps, len(chosen)), chosen[:, None], rejected[:, None], tolerance, window)


def diagnose_tokens(
    *,
    chosen_token_logps: Float[np.ndarray, "S N T_w"],
    rejected_token_logps: Float[np.ndarray, "S N T_l"],
    chosen_mask: Bool[np.ndarray, "N T_w"] | None = None,
    rejected_mask: Bool[np.ndarray, "N T_l"] | None = None,
    steps: Int[np.ndarray, " S"] | None = None,
    tolerance: float = 0.0,
    window: int = 1,
) -> TokenDiagnosis:
    """The regimes of each of N pairs along a run, and which positions of the responses carry them.

    Args:
      chosen_token_logps: log-probability of each token of the chosen responses at S states; likewise the rejected.
      chosen_mask: True at real tokens (default: all, so that padding must hold the same number at all states).
      steps: as for `diagnose_log`; likewise `tolerance`, for the sums over tokens, and `window`.

    Raises:
      ValueError: as for `diagnose_log`.
    """
    chosen = _check_tokens(TOKENS[0], chosen_token_logps, MASKS[0], chosen_mask)
    rejected = _check_tokens(TOKENS[1], rejected_token_logps, MASKS[1], rejected_mask)
    if chosen.shape[:2] != rejected.shape[:2]:
        raise ValueError(
            f"`{'` and `'.join(TOKENS)}` must share the axes [S, N, …], got {chosen.shape} and {rejected.shape}."
        )
    at = _check_steps(steps, len(chosen))

    def of(w: np.ndarray, l: np.ndarray) -> LogDiagnosis:  # noqa: E741
        return _find_regimes(at, w, l, tolerance, window, positions=True)

    pairs = [of(chosen[:, i], rejected[:, i]) for i in range(chosen.shape[1])]
    return TokenDiagnosis(of(chosen.mean(axis=1), rejected.mean(axis=1)), pairs)


def _find_regimes(
    steps: np.ndarray, chosen: np.ndarray, rejected: np.ndarray, tolerance: float, window: int, positions: bool = False
) -> LogDiagnosis:
    """Find the regimes of token log-probabilities [S, T], or of sums [S, 1]."""
    if not 0 <= tolerance < math.inf:
        raise ValueError(f"`tolerance` must be >= 0 and finite, got {tolerance!r}.")
    require_int("window", window, low=1, high=len(steps) - 1)
    if window % 2 == 0:
        raise ValueError(f"`window` must be odd, got {window}.")
    steps = steps[window // 2 : len(steps) - window // 2]
    chosen, rejected = (np.lib.stride_tricks.sliding_window_view(x, window, 0).mean(-1) for x in (chosen, rejected))
    sums = np.stack([chosen.sum(axis=1), rejected.sum(axis=1)])

    def cases(changes: np.ndarray) -> np.ndarray:
        return np.asarray(case_of_slopes(*np.where(abs(changes) > tolerance, np.sign(changes), 0)))

    def between(first: int, last: int) -> dict[str, Any]:
        changes = sums[:, last] - sums[:, first]
        names = dict(zip(("chosen_change", "rejected_change"), changes.tolist(), strict=True))
        if positions:
            names["chosen_positions"] = (chosen[last] - chosen[first]).tolist()
            names["rejected_positions"] = (rejected[last] - rejected[first]).tolist()
        return {"first_step": steps[first].item(), "last_step": steps[last].item(), **names}

    found = cases(np.diff(sums, axis=1))
    cuts = [0, *(np.flatnonzero(np.diff(found)) + 1).tolist(), len(found)]
    stretches = [{"case": CASES[found[first]], **between(first, last)} for first, last in pairwise(cuts)]
    counts = Counter(CASES[i] for i in found)
    down = [stretch for stretch in stretches if stretch["case"] == "both_down"]
    summary = {
        "states": len(steps),
        "case": CASES[cases(sums[:, -1] - sums[:, 0])],
        **between(0, -1),
        "cases": {name: counts[name] for name in CASES},
        "both_down": {
            "stretches": len(down),
            "steps": sum(stretch["last_step"] - stretch["first_step"] for stretch in down),
            "chosen_change": sum(stretch["chosen_change"] for stretch in down),
            "rejected_change": sum(stretch["rejected_change"] for stretch in down),
        },
    }
    return LogDiagnosis(stretches, summary)


def _check_numbers(name: str, value: Any, axes: str) -> np.ndarray:
    array = np.asarray(value)
    if array.dtype.kind not in "fiu" or array.ndim != axes.count(",") + 1 or array.size == 0 or len(array) < 2:
        raise ValueError(
            f"`{name}` must hold real numbers {axes} at two states or more, got {array.dtype} of shape {array.shape}."
        )
    return array.astype(np.float64)


def _check_tokens(name: str, value: Any, mask_name: str, mask: Any) -> np.ndarray:
    array = _check_numbers(name, value, "[S, N, T]")
    if mask is not None:
        real = np.asarray(mask)
        if real.shape != array.shape[1:]:
            raise ValueError(f"`{mask_name}` must have shape {array.shape[1:]}, got {real.shape}.")
        array = np.where(real.astype(bool), array, 0)
    require_finite(name, array)
    return array


def _check_steps(steps: Any, states: int) -> np.ndarray:
    if steps is None:
        return np.arange(states)
    array = np.asarray(steps)
    if array.dtype.kind not in "fiu" or array.shape != (states,) or not np.isfinite(array).all():
        raise ValueError(f"`steps` must hold {states} numbers, got {array.dtype} of shape {array.shape}.")
    back = np.flatnonzero(np.diff(array) <= 0)
    if back.size:
        raise ValueError(f"`steps` must increase, got {array[back[0] + 1]} after {array[back[0]]}; one run at a time.")
    whole = array.astype(np.int64)
    return whole if (whole == array).all() else array
