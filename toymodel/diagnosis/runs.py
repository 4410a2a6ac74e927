"""Compares several runs at equal margin: how far the chosen answers had fallen when the margin had grown equally.

More margin costs more, so the ends of runs cannot be compared. The gallery compares remedies in the same way.
"""

import math
from typing import Any

import numpy as np

from toymodel._public import own_names
from toymodel.diagnosis.evidence import Evidence
from toymodel.diagnosis.logs import diagnose_evidence
from toymodel.diagnosis.trend import Line, Trend, follow

__dir__ = own_names(globals())


def compare_runs(runs: dict[str, Evidence], *, tolerance: float = 0.0) -> dict[str, Any]:
    """Compare runs by name; plain numbers, ready for JSON.

    `margin`: the largest that every run reached since its first state, None if one never gained any. `unit`, and for
    each of the `runs`: `summary` as for a single log, and `at_margin`: the `step` at which it first reached the margin,
    `chosen_change` and `rejected_change` until then, and their errors. All are in the logs' common unit.

    Raises:
      ValueError: fewer than two runs, or their numbers are of different kinds.
    """
    kinds = {(evidence.source, evidence.unit, evidence.split) for evidence in runs.values()}
    if len(runs) < 2 or len(kinds) > 1:
        said = "; ".join(f"{name} has {e.source} of {e.split} in {e.unit}" for name, e in runs.items())
        raise ValueError(f"at least two runs with numbers of the same kind are needed: {said}.")
    trends = {name: _trends(evidence) for name, evidence in runs.items()}
    margin = min(float(_margins(*sides)[1].max()) for sides in trends.values())
    reached = margin > 0
    return {
        "margin": margin if reached else None,
        "unit": next(iter(runs.values())).unit,
        "runs": {
            name: {
                "summary": diagnose_evidence(evidence, tolerance=tolerance).summary,
                "at_margin": _at_margin(margin, *trends[name]) if reached else None,
            }
            for name, evidence in runs.items()
        },
    }


def _trends(evidence: Evidence) -> tuple[Trend, Trend]:
    (chosen, rejected), _ = follow([evidence.chosen, evidence.rejected], fixed=evidence.split == "evaluation")
    return chosen, rejected


def _margins(chosen: Trend, rejected: Trend) -> tuple[np.ndarray, np.ndarray]:
    """The margin since the first state, at every step where it may bend."""
    steps = np.unique(np.concatenate([t.nodes if isinstance(t, Line) else t.steps for t in (chosen, rejected)]))
    margins = np.array([chosen.at(step) - rejected.at(step) for step in steps])
    return steps, margins - margins[0]


def _at_margin(margin: float, chosen: Trend, rejected: Trend) -> dict[str, Any]:
    steps, margins = _margins(chosen, rejected)
    after = int((margins >= margin).argmax())
    step = float(np.interp(margin, margins[after - 1 : after + 1], steps[after - 1 : after + 1]))
    w, l = (trend.change(float(steps[0]), step) for trend in (chosen, rejected))  # noqa: E741
    sizes = {"chosen_change": w.size, "rejected_change": l.size}
    return {"step": step, **sizes, "chosen_error": w.error, "rejected_error": l.error}


def difference(one: dict[str, Any], other: dict[str, Any]) -> tuple[float, float | None]:
    """How much higher the chosen of one run is than that of another at their margin, and the standard error."""
    errors = [run["at_margin"]["chosen_error"] for run in (one, other)]
    size = one["at_margin"]["chosen_change"] - other["at_margin"]["chosen_change"]
    return size, None if None in errors else math.hypot(*errors)
