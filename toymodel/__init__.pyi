from . import (
    check,
    data,
    diagnosis,
    experiments,
    gradients,
    huggingface,
    losses,
    models,
    remedies,
    sweep,
    theory,
    training,
)
from ._pytree import pytree
from ._version import __version__
from .data import (
    Overlap,
    PreferencePairs,
    Response,
    Vocabulary,
    bag_pairs,
    contrast_pairs,
    edit_pairs,
    overlap,
    positional_pairs,
    prefix_pairs,
)
from .diagnosis import diagnose, diagnose_log, diagnose_tokens
from .gram import PairGram, cosine
from .losses import LOSSES
from .training import train

__all__ = [
    "LOSSES",
    "Overlap",
    "PairGram",
    "PreferencePairs",
    "Response",
    "Vocabulary",
    "__version__",
    "bag_pairs",
    "check",
    "contrast_pairs",
    "cosine",
    "data",
    "diagnose",
    "diagnose_log",
    "diagnose_tokens",
    "diagnosis",
    "edit_pairs",
    "experiments",
    "gradients",
    "huggingface",
    "losses",
    "models",
    "overlap",
    "positional_pairs",
    "prefix_pairs",
    "pytree",
    "remedies",
    "sweep",
    "theory",
    "train",
    "training",
]
