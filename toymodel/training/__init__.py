"""Training on preference pairs: `train` is the loop, an `Update` is what one step does, a `Trajectory` its record."""

from toymodel.training.loop import Optimizer, train
from toymodel.training.step import CHOSEN, REJECTED, Batch, Plain, State, Update, descend
from toymodel.training.trajectory import Diverged, Run, Trajectory

__all__ = [
    "CHOSEN",
    "REJECTED",
    "Batch",
    "Diverged",
    "Optimizer",
    "Plain",
    "Run",
    "State",
    "Trajectory",
    "Update",
    "descend",
    "train",
]


def __dir__() -> list[str]:
    return __all__
