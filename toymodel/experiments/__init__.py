"""Experiments that a sweep can run by name."""

from toymodel.experiments.gram import GRAM
from toymodel.experiments.remedies import REMEDY_COMPARISON
from toymodel.experiments.sentiment import SENTIMENT
from toymodel.experiments.training import TRAINING

#: Experiments by the name that a configuration calls them.
EXPERIMENTS = {experiment.name: experiment for experiment in (GRAM, REMEDY_COMPARISON, SENTIMENT, TRAINING)}

__all__ = ["EXPERIMENTS", "GRAM", "REMEDY_COMPARISON", "SENTIMENT", "TRAINING"]


def __dir__() -> list[str]:
    return __all__
