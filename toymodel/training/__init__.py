"""Training on preference pairs: `train` is the loop, an `Update` is what one step does, a `Trajectory` its record."""

from toymodel.training.loop import Optimizer, train
from toymodel.training.step import Batch, Plain, State, Update
from toymodel.training.trajectory import Diverged, Run, Trajectory

__all__ = ["Batch", "Diverged", "Optimizer", "Plain", "Run", "State", "Trajectory", "Update", "train"]


def __dir__() -> list[str]:
    return __all__
