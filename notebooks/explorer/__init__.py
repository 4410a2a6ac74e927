"""What the explorer (`notebooks/explorer/app.py`) shows: one pair in a small model, and what a loss does to it.

`suffix_pair` or `family_pair` make a `Scene`, `look` says what one step does there, `slopes_along` what it does at
every suffix length, `in_words` says it in a sentence, and `follow` takes many steps.
"""

from notebooks.explorer.scenes import (
    FAMILIES,
    LENGTH,
    MODELS,
    WIDEST,
    WORDS,
    Scene,
    every_length,
    family_pair,
    suffix_pair,
)
from notebooks.explorer.view import (
    CASE_WORDS,
    OPTIMIZERS,
    FixedWeights,
    View,
    follow,
    hyper_steps,
    in_words,
    look,
    slopes_along,
)

__all__ = [
    "CASE_WORDS",
    "FAMILIES",
    "LENGTH",
    "MODELS",
    "OPTIMIZERS",
    "WIDEST",
    "WORDS",
    "FixedWeights",
    "Scene",
    "View",
    "every_length",
    "family_pair",
    "follow",
    "hyper_steps",
    "in_words",
    "look",
    "slopes_along",
    "suffix_pair",
]
