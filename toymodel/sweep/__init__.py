"""Sweeps: an experiment run for a grid of settings, as one table, resumable, on one machine or a cluster.

`make_sweep` makes grids of settings; `run` computes those that a folder lacks and returns their table; `read` reads
whatever a folder holds. What an experiment is, says `toymodel.experiments`.
"""

from toymodel._files import BadFolder
from toymodel.experiments.experiment import POSITIVE, REAL, BadSetting, Experiment, Field, Rule, one_of, real, whole
from toymodel.sweep.axes import make_sweep
from toymodel.sweep.grid import Sweep
from toymodel.sweep.runner import run
from toymodel.sweep.store import read

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


def __dir__() -> list[str]:
    return __all__
