from .accounting import Account, Attribution, account, attribute
from .loop import Optimizer, train
from .sources import by_group, by_position, by_side, crossed, same_or_other
from .step import CHOSEN, REJECTED, Batch, Direction, Plain, State, Update, Weighted, descend
from .trajectory import Diverged, Run, Trajectory

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
