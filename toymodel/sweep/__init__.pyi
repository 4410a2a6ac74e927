from toymodel._files import BadFolder
from toymodel.experiments.experiment import POSITIVE, REAL, BadSetting, Experiment, Field, Rule, one_of, real, whole

from .grid import Sweep, make_sweep
from .runner import run
from .store import read

__all__ = [
    "POSITIVE",
    "REAL",
    "BadFolder",
    "BadSetting",
    "Experiment",
    "Field",
    "Rule",
    "Sweep",
    "make_sweep",
    "one_of",
    "read",
    "real",
    "run",
    "whole",
]
