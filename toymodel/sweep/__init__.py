"""Sweeps: an experiment run for a grid of settings, as one table, resumable, on one machine or a cluster.

`Experiment` says what a setting is and measures one; `make_sweep` makes grids of settings; `run` computes those that a
folder lacks and returns their table; `read` reads whatever a folder holds.
"""

from toymodel.experiments.experiment import (
    POSITIVE,
    REAL,
    BadSetting,
    Choice,
    Experiment,
    Field,
    Rule,
    one_of,
    real,
    whole,
)
from toymodel.sweep.axes import make_sweep
from toymodel.sweep.grid import Sweep
from toymodel.sweep.runner import run
from toymodel.sweep.store import BadFolder, read

__all__ = [
    "POSITIVE",
    "REAL",
    "BadFolder",
    "BadSetting",
    "Choice",
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
