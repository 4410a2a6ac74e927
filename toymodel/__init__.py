"""A sandbox for gradient entanglement in preference optimisation, on softmax language models small enough to solve.

Data flows from `vocabulary` and `pairs` (with the `families` of overlap) through `models` to two routes that never
import one another: `gradients` measures by automatic differentiation, `theory` predicts in closed form. They meet in
`check`. `losses` say how much of each gradient a step takes, `training` takes many steps and records what they do.
`experiments` measure one setting of all this, and a `sweep` measures many.
"""

from importlib.metadata import version

from toymodel.diagnose import diagnose
from toymodel.families import Overlap, bag_pairs, contrast_pairs, edit_pairs, overlap, positional_pairs, prefix_pairs
from toymodel.gram import PairGram, cosine
from toymodel.pairs import PreferencePairs, Response
from toymodel.regimes import diagnose_log, diagnose_tokens
from toymodel.vocabulary import Vocabulary

__version__ = version("toymodel")

__all__ = [
    "Overlap",
    "PairGram",
    "PreferencePairs",
    "Response",
    "Vocabulary",
    "bag_pairs",
    "contrast_pairs",
    "cosine",
    "diagnose",
    "diagnose_log",
    "diagnose_tokens",
    "edit_pairs",
    "overlap",
    "positional_pairs",
    "prefix_pairs",
]
