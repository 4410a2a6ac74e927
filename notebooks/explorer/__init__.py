"""What the explorer (`notebooks/explorer/app.py`) shows: one pair in a small model, and what a loss does to it.

`suffix_pair` or `family_pair` make a `Scene`, `look` says what one step does there, `in_words` says it in a sentence,
and `follow` takes many steps.
"""

from notebooks.explorer.scenes import FAMILIES, LENGTH, MODELS, WIDEST, Scene, family_pair, suffix_pair
from notebooks.explorer.view import CASE_WORDS, OPTIMIZERS, FixedWeights, View, follow, hyper_steps, in_words, look

__all__ = [
    "CASE_WORDS",
    "FAMILIES",
    "LENGTH",
    "MODELS",
    "OPTIMIZERS",
    "WIDEST",
    "FixedWeights",
    "Scene",
    "View",
    "family_pair",
    "follow",
    "hyper_steps",
    "in_words",
    "look",
    "suffix_pair",
]
