"""The verdict on a training log: which of chosen and rejected rose or fell, in all and in which stretches.

A side rose or fell if its change can be told from noise and exceeds the tolerance (`trend`). It is unchanged if the
change is within the tolerance. Cases have the names of `theory`; if only one side moved, names such as
"chosen_unchanged_rejected_down"; if neither is known to have moved, "not_told_from_noise".
"""

import math
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from toymodel._checks import require_finite
from toymodel._public import own_names
from toymodel.diagnosis.evidence import Evidence, Series
from toymodel.diagnosis.trend import Change, Trend, follow
from toymodel.theory.condition import CASES

__dir__ = own_names(globals())

LARGEST = 1e200  # in nats; sums of such numbers do not overflow

NOT_TOLD = "not_told_from_noise"
TWO_SIDED = {"up up": "both_up", "down down": "both_down", "unchanged unchanged": "stationary"}
assert set(TWO_SIDED.values()) < set(CASES)


class LogDiagnosis(NamedTuple):
    """Plain numbers, ready for JSON. Changes and errors are in the unit of the log; an unknown error is None.

    `summary`, from the first state to the last: `case`, `first_step`, `last_step`, `chosen_change`, `rejected_change`,
    `chosen_error`, `rejected_error` (one standard error) and `rows`, the number of states.
    `stretches`, in order: the same without `rows`. Neighbours have different cases.
    """

    summary: dict[str, Any]
    stretches: list[dict[str, Any]]


def diagnose_log(
    chosen_logps: Float[np.ndarray, " S"],
    rejected_logps: Float[np.ndarray, " S"],
    *,
    steps: Int[np.ndarray, " S"] | None = None,
    tolerance: float = 0.0,
    fixed_pairs: bool = False,
) -> LogDiagnosis:
    """Diagnose a training run from two numbers at each of S logged states.

    Args:
      chosen_logps: log π_w, usually a mean over pairs; likewise `rejected_logps`. Rewards β·log-ratio work too.
      steps: the step of each state, increasing (default: 0, 1, 2, …).
      tolerance: a side whose change since the stretch began is up to this size is unchanged.
      fixed_pairs: whether all states have the same pairs, as in an evaluation, so that there is no noise of batches.

    Raises:
      ValueError: shapes differ, fewer than two states, numbers that are not finite, steps that do not increase.
    """
    chosen = check_numbers("chosen_logps", chosen_logps, "[S]")
    rejected = check_numbers("rejected_logps", rejected_logps, "[S]")
    require_finite("chosen_logps", chosen)
    require_finite("rejected_logps", rejected)
    if len(chosen) != len(rejected):
        raise ValueError(
            f"`chosen_logps` and `rejected_logps` must have one length, got {len(chosen)} and {len(rejected)}."
        )
    at = check_steps(steps, len(chosen))
    return judge([Series(at, chosen), Series(at, rejected)], fixed=fixed_pairs, tolerance=tolerance)


def diagnose_evidence(evidence: Evidence, *, tolerance: float = 0.0) -> LogDiagnosis:
    """The verdict on the columns of a log that are used; the summary also names them.

    Adds `name`, `split`, `source`, `columns`, `unit` and `step_kind`, as `Evidence` has them.

    Raises:
      ValueError: `tolerance` is negative or not finite.
    """
    fixed = evidence.split == "evaluation"
    found = judge([evidence.chosen, evidence.rejected], fixed=fixed, tolerance=tolerance)
    names = ("name", "split", "source", "columns", "unit", "step_kind")
    return found._replace(summary=found.summary | {name: getattr(evidence, name) for name in names})


def judge(sides: list[Series], *, fixed: bool, tolerance: float) -> LogDiagnosis:
    """The verdict on chosen and rejected, in all and by stretch.

    Raises:
      ValueError: `tolerance` is negative or not finite.
    """
    if not 0 <= tolerance < math.inf:
        raise ValueError(f"`tolerance` must be >= 0 and finite, got {tolerance!r}.")
    trends, cuts = follow(sides, fixed=fixed, tolerance=tolerance)
    stretches: list[dict[str, Any]] = []
    for first, last in pairwise(cuts):
        found = _between(trends, first, last, tolerance)
        if stretches and stretches[-1]["case"] == found["case"]:
            stretches[-1] = _between(trends, stretches[-1]["first_step"], last, tolerance)
        else:
            stretches.append(found)
    rows = len(np.union1d(*(side.steps for side in sides)))
    return LogDiagnosis(_between(trends, cuts[0], cuts[-1], tolerance) | {"rows": rows}, stretches)


def _between(trends: list[Trend], first: float, last: float, tolerance: float) -> dict[str, Any]:
    chosen, rejected = (trend.change(first, last) for trend in trends)
    return {
        "case": name_case(chosen, rejected, tolerance),
        "first_step": _whole(first),
        "last_step": _whole(last),
        "chosen_change": chosen.size,
        "rejected_change": rejected.size,
        "chosen_error": chosen.error,
        "rejected_error": rejected.error,
    }


def name_case(chosen: Change, rejected: Change, tolerance: float) -> str:
    """The name of the case of two changes."""

    def way(change: Change) -> str:
        if abs(change.size) <= tolerance:
            return "unchanged"
        return ("up" if change.size > 0 else "down") if change.told else "not told"

    ways = way(chosen), way(rejected)
    if not {"up", "down"} & {*ways}:
        return NOT_TOLD if "not told" in ways else TWO_SIDED[" ".join(ways)]
    w, l = (way.replace("not told", "unchanged") for way in ways)  # noqa: E741
    return TWO_SIDED.get(f"{w} {l}", f"chosen_{w}_rejected_{l}")


def check_numbers(name: str, value: Any, axes: str) -> np.ndarray:
    """Real numbers with these axes, at two states or more, in float64.

    Raises:
      ValueError: the input is something else.
    """
    array = np.asarray(value)
    if array.dtype.kind not in "fiu" or array.ndim != axes.count(",") + 1 or array.size == 0 or len(array) < 2:
        raise ValueError(
            f"`{name}` must hold real numbers {axes} at two states or more, got {array.dtype} of shape {array.shape}."
        )
    with np.errstate(over="ignore"):  # values that are too large are reported below
        array = array.astype(np.float64)
    large = array[(abs(array) > LARGEST) & np.isfinite(array)]  # the caller knows whether padding may hold no number
    if large.size:
        raise ValueError(f"`{name}` must be numbers up to {LARGEST:g} in size, got {large[0]:g}.")
    return array


def check_logps(name: str, array: np.ndarray) -> None:
    """Raise `ValueError` unless these are finite and at most 0."""
    require_finite(name, array)
    if (array > 0).any():
        raise ValueError(f"`{name}` must be <= 0 (log-probabilities in nats), got {array.max():g}.")


def check_steps(steps: Any, states: int) -> np.ndarray:
    """The steps of this number of states, in float64.

    Raises:
      ValueError: they do not increase, or their number is different.
    """
    if steps is None:
        return np.arange(states, dtype=np.float64)
    array = np.asarray(steps)
    if array.dtype.kind not in "fiu" or array.shape != (states,) or not np.isfinite(array).all():
        raise ValueError(f"`steps` must hold {states} numbers, got {array.dtype} of shape {array.shape}.")
    numbers = array.astype(np.float64)  # differences of unsigned numbers are never negative
    back = np.flatnonzero(np.diff(numbers) <= 0)
    if back.size:
        raise ValueError(f"`steps` must increase, got {array[back[0] + 1]} after {array[back[0]]}; one run at a time.")
    return numbers


def _whole(step: float) -> float:
    return int(step) if float(step).is_integer() else float(step)
