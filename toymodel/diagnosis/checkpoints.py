"""The same pairs at the states of a run: the change of each pair, and the positions of the answers that carry it.

There is no noise of batches here. Errors of means are over pairs: how far other pairs may differ from these.
"""

import csv
import math
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from toymodel._public import own_names
from toymodel.diagnosis.evidence import Series
from toymodel.diagnosis.files import read_rows
from toymodel.diagnosis.logs import LogDiagnosis, check_logps, check_numbers, check_steps, judge
from toymodel.diagnosis.readers import LOGPS, MASKS, TOKENS, read_mask
from toymodel.diagnosis.table import Table

__dir__ = own_names(globals())

PAIRS = ("pair", "pair_id")  # names of the column that identifies pairs


class PairsDiagnosis(NamedTuple):
    """The changes of N pairs and of their mean (errors are standard errors over pairs, None for one pair).

    `falls`: the pairs whose chosen answer fell by more than the tolerance, the largest fall first.
    With tokens, every entry also has `chosen_positions` and `rejected_positions`: what each position adds to the
    change.
    """

    mean: LogDiagnosis
    pairs: list[LogDiagnosis]
    falls: list[int]


def diagnose_pairs(
    chosen_logps: Float[np.ndarray, "S N"],
    rejected_logps: Float[np.ndarray, "S N"],
    *,
    steps: Int[np.ndarray, " S"] | None = None,
    tolerance: float = 0.0,
) -> PairsDiagnosis:
    """Diagnose N pairs from their log-probabilities (nats) at S states of a run, for instance at checkpoints.

    Args:
      chosen_logps: log π_w of each pair at each state; likewise `rejected_logps`.
      steps: the step of each state, increasing (default: 0, 1, 2, …).
      tolerance: a side whose change since the stretch began is up to this size is unchanged.

    Raises:
      ValueError: as for `diagnose_log`.
    """
    arrays = [check_numbers(*of, "[S, N]") for of in zip(LOGPS, (chosen_logps, rejected_logps), strict=True)]
    for name, array in zip(LOGPS, arrays, strict=True):
        check_logps(name, array)
    return _diagnose(LOGPS, [array[..., None] for array in arrays], steps, tolerance, positions=False)


def diagnose_tokens(
    *,
    chosen_token_logps: Float[np.ndarray, "S N T_w"],
    rejected_token_logps: Float[np.ndarray, "S N T_l"],
    chosen_mask: Bool[np.ndarray, "N T_w"] | None = None,
    rejected_mask: Bool[np.ndarray, "N T_l"] | None = None,
    steps: Int[np.ndarray, " S"] | None = None,
    tolerance: float = 0.0,
) -> PairsDiagnosis:
    """Diagnose N pairs along a run, and which positions of the responses carry their changes.

    Args:
      chosen_token_logps: log-probability of each token of the chosen responses at S states; likewise the rejected.
      chosen_mask: True at real tokens (default: all, so that padding must hold the same number at all states).
      steps: as for `diagnose_pairs`; likewise `tolerance`, for the sums over tokens.

    Raises:
      ValueError: as for `diagnose_log`.
    """
    chosen = _check_tokens(TOKENS[0], chosen_token_logps, MASKS[0], chosen_mask)
    rejected = _check_tokens(TOKENS[1], rejected_token_logps, MASKS[1], rejected_mask)
    return _diagnose(TOKENS, [chosen, rejected], steps, tolerance, positions=True)


def load_pairs(path: str | os.PathLike[str]) -> dict[str, Any] | None:
    """The same pairs at the states of a run, from a table with a row for each pair at each state.

    It has a column `pair` (or `pair_id`), one of steps, and both log-probabilities. Returns the arguments of
    `diagnose_pairs`, the pairs in the order of the table; None if the file has no such column. The later row of a pair
    at a step counts, and an incomplete last state, as of a run that still goes on, is left out.

    Raises:
      ValueError: the file cannot be read, or a pair is missing at a state.
    """
    try:
        table = Table(read_rows(Path(path)).rows)
    except (OSError, ValueError, csv.Error):
        return None  # `load_log` says why
    name = next((name for name in table.names if name.strip().lower() in PAIRS), None)
    held = next((held for held in table.places.values() if held.keys() >= {*LOGPS}), None)
    if name is None or held is None:
        return None
    of = [row.get(name) for row in table.rows]
    pairs = {pair: i for i, pair in enumerate(dict.fromkeys(pair for pair in of if pair is not None))}
    sides = [table.numbers(held[side]) for side in LOGPS]
    used = np.isfinite(sides[0]) & np.isfinite(sides[1]) & np.array([pair is not None for pair in of])
    steps = table.steps(used, used).of_rows
    at = np.unique(steps[used])
    arrays = np.full((2, len(at), len(pairs)), np.nan)
    for row in np.flatnonzero(used):
        arrays[:, np.searchsorted(at, steps[row]), pairs[of[row]]] = sides[0][row], sides[1][row]
    if len(at) > 2 and np.isnan(arrays[0, -1]).any():
        at, arrays = at[:-1], arrays[:, :-1]
    lacking = np.argwhere(np.isnan(arrays[0]))
    if len(lacking):
        state, pair = lacking[0]
        raise ValueError(
            f"`{path}` lacks pair {list(pairs)[pair]} at step {at[state]:g}; every step must have every pair."
        )
    return {LOGPS[0]: arrays[0], LOGPS[1]: arrays[1], "steps": at}


def _diagnose(
    names: tuple[str, str], sides: list[np.ndarray], steps: Any, tolerance: float, *, positions: bool
) -> PairsDiagnosis:
    """Diagnose token log-probabilities [S, N, T] of two sides, or sums [S, N, 1]."""
    chosen, rejected = sides
    if chosen.shape[:2] != rejected.shape[:2]:
        raise ValueError(
            f"`{'` and `'.join(names)}` must share the axes [S, N, …], got {chosen.shape} and {rejected.shape}."
        )
    at = check_steps(steps, len(chosen))

    def of(arrays: list[np.ndarray]) -> LogDiagnosis:
        """Diagnose two arrays [S, T], of chosen and of rejected."""
        found = judge([Series(at, array.sum(axis=1)) for array in arrays], fixed=True, tolerance=tolerance)
        for entry in (found.summary, *found.stretches) if positions else ():
            first, last = np.searchsorted(at, [entry["first_step"], entry["last_step"]])
            for side, array in zip(("chosen", "rejected"), arrays, strict=True):
                entry[f"{side}_positions"] = (array[last] - array[first]).tolist()
        return found

    pairs = [of([side[:, i] for side in sides]) for i in range(chosen.shape[1])]
    mean = of([side.mean(axis=1) for side in sides])
    for entry in (mean.summary, *mean.stretches):
        first, last = np.searchsorted(at, [entry["first_step"], entry["last_step"]])
        for name, side in zip(("chosen_error", "rejected_error"), sides, strict=True):
            changes = (side[last] - side[first]).sum(axis=1)
            entry[name] = float(changes.std(ddof=1) / math.sqrt(len(changes))) if len(changes) > 1 else None
    fell = [pair.summary["chosen_change"] for pair in pairs]
    falls = [i for i in np.argsort(fell, kind="stable").tolist() if fell[i] < -tolerance]
    return PairsDiagnosis(mean, pairs, falls)


def _check_tokens(name: str, value: Any, mask_name: str, mask: Any) -> np.ndarray:
    array = check_numbers(name, value, "[S, N, T]")
    if mask is not None:
        real = read_mask(mask_name, mask)
        if real.shape != array.shape[1:]:
            raise ValueError(f"`{mask_name}` must have shape {array.shape[1:]}, got {real.shape}.")
        array = np.where(real, array, 0)
    check_logps(name, array)
    return array
