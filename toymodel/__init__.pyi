from . import (
    check,
    data,
    diagnosis,
    experiments,
    gradients,
    huggingface,
    losses,
    models,
    plot,
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
from .models.suffix import SuffixPair, suffix_pair
from .training import train

__all__ = [
    "LOSSES",
    "Overlap",
    "PairGram",
    "PreferencePairs",
    "Response",
    "SuffixPair",
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
    "plot",
    "positional_pairs",
    "prefix_pairs",
    "pytree",
    "remedies",
    "suffix_pair",
    "sweep",
    "theory",
    "train",
    "training",
]
