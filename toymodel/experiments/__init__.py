"""Experiments that a sweep can run by name."""

from toymodel.experiments.gram import GRAM
from toymodel.experiments.sentiment import SENTIMENT
from toymodel.experiments.training import TRAINING

EXPERIMENTS = {experiment.name: experiment for experiment in (GRAM, SENTIMENT, TRAINING)}

__all__ = ["EXPERIMENTS", "GRAM", "SENTIMENT", "TRAINING"]
