"""Preference pairs: a vocabulary, pairs of responses, families of overlap, and a synthetic sentiment task."""

from toymodel.data.families import (
    FAMILIES,
    Overlap,
    bag_pairs,
    contrast_pairs,
    edit_pairs,
    overlap,
    positional_pairs,
    prefix_pairs,
)
from toymodel.data.pairs import PreferencePairs, Response
from toymodel.data.vocabulary import Vocabulary

__all__ = [
    "FAMILIES",
    "Overlap",
    "PreferencePairs",
    "Response",
    "Vocabulary",
    "bag_pairs",
    "contrast_pairs",
    "edit_pairs",
    "overlap",
    "positional_pairs",
    "prefix_pairs",
]


def __dir__() -> list[str]:
    return __all__
