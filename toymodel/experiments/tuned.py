"""Learning rates and strengths for the comparison of remedies: the candidates, and the best ones (tuned.toml)."""

import tomllib
from functools import cache
from pathlib import Path
from typing import Any

from toymodel._public import own_names
from toymodel.remedies import REMEDIES, Remedy

__dir__ = own_names(globals())

RATES = (2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2)  # of Adam
SMALLER = {"readout": 1.0, "ngram_mlp": 1.0, "transformer": 0.1}  # factors of these rates
CANDIDATES = len(RATES)
NOT_TRIED = 2  # the candidate of what is not in the file, such as a remedy of yours

Trial = tuple[float, float]  # learning rate and strength; NaN where there is no strength


def candidates(remedy: Remedy, model: str) -> list[Trial]:
    """The `CANDIDATES` pairs (learning rate, strength) to try for a remedy.

    Without a strength: all rates. With one: the two largest, which are best for ordinary training, and every strength.

    Raises:
      ValueError: the remedy has the wrong number of strengths.
    """
    rates = [SMALLER[model] * rate for rate in RATES]
    if not remedy.strengths:
        return [(rate, float("nan")) for rate in rates]
    if len(remedy.strengths) != CANDIDATES // 2:
        raise ValueError(f"a remedy must have no strength or {CANDIDATES // 2} to try, got {remedy.strengths}.")
    return [(rate, strength) for rate in rates[-2:] for strength in remedy.strengths]


def tuned(model: str, remedy: str, loss: str) -> Trial:
    """The best candidate for a remedy with a loss in a model; the third candidate if none was tuned."""
    found = found_best().get(model, {}).get(remedy, {}).get(loss)
    if found is None:
        return candidates(REMEDIES[remedy], model)[NOT_TRIED]
    return found["learning_rate"], found.get("strength", float("nan"))


@cache
def found_best() -> dict[str, Any]:
    """The file, by model, remedy and loss."""
    return tomllib.loads((Path(__file__).parent / "tuned.toml").read_text(encoding="utf-8"))
