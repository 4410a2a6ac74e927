"""Training on preference pairs: `train` is the loop, an `Update` is what one step does, a `Trajectory` its record.

`account` and `attribute` train likewise, and say what each part of the training data brought to the answers.
"""

from toymodel.training.accounting import Account, Attribution, account, attribute
from toymodel.training.loop import Optimizer, train
from toymodel.training.sources import by_group, by_position, by_side, crossed, same_or_other
from toymodel.training.step import CHOSEN, REJECTED, Batch, Direction, Plain, State, Update, Weighted, descend
from toymodel.training.trajectory import Diverged, Run, Trajectory

__all__ = [
    "CHOSEN",
    "REJECTED",
    "Account",
    "Attribution",
    "Batch",
    "Direction",
    "Diverged",
    "Optimizer",
    "Plain",
    "Run",
    "State",
    "Trajectory",
    "Update",
    "Weighted",
    "account",
    "attribute",
    "by_group",
    "by_position",
    "by_side",
    "crossed",
    "descend",
    "same_or_other",
    "train",
]


def __dir__() -> list[str]:
    return __all__
