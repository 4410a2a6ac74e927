"""Random pairs in a random model: the fields and pieces that experiments share.

`overlap` counts, in each family, the tokens that it makes the responses share:

Family         `overlap` is                                  Largest
`positional`   matching positions                            L
`prefix`       length of the shared prefix                   L
`contrast`     length of the suffix after the contrast token L − 1
`bag`          shared tokens, in another order               L
`edit`         tokens that both keep, in order               L
"""

from typing import Any

import jax
from jaxtyping import Array

from toymodel._checks import Domain
from toymodel.data.families import bag_pairs, contrast_pairs, edit_pairs, positional_pairs, prefix_pairs
from toymodel.data.pairs import PreferencePairs
from toymodel.experiments.experiment import POSITIVE, Rule, one_of, real, setting, whole
from toymodel.models import linear
from toymodel.models.logps import Params

FAMILIES = ("positional", "prefix", "contrast", "bag", "edit")
MODELS = ("unigram", "positional", "bigram", "prefix", "random_features", "positional_offset")
CORRELATION = Domain("in [-1, 1]", lambda x: (x >= -1) & (x <= 1))


@setting
class PairSetting:
    """A random pair of one family in one random model."""

    model: str = one_of(MODELS, "positional")
    vocab_size: int = whole(20, low=2, compiled=True)
    length: int = whole(12, low=1, compiled=True)  # tokens in a response
    dim: int = whole(16, low=2, compiled=True)  # of random features
    family: str = one_of(FAMILIES, "positional")
    overlap: int = whole(6, low=0)
    temperature: float = real(1.0, POSITIVE)  # logits have standard deviation 1 / temperature
    correlation: float = real(0.9, CORRELATION)  # of random features after chosen and after rejected
    seed: int = whole(0, low=0)


RULES = (
    Rule(("overlap", "length"), lambda overlap, length: overlap <= length, "`overlap` must be at most `length`"),
    Rule(
        ("overlap", "length", "family"),
        lambda overlap, length, family: (family != "contrast") | (overlap < length),
        "`overlap` must be less than `length` for contrast pairs",
    ),
    Rule(
        ("length", "family"),
        lambda length, family: (family != "bag") | (length >= 2),
        "`length` must be at least 2 for bag pairs",
    ),
)


def draw_pairs(setting: PairSetting, n: int = 1) -> PreferencePairs:
    """A batch of n pairs of the setting's family and overlap, from its seed."""
    key = jax.random.fold_in(jax.random.key(setting.seed), 0)
    size: dict[str, Any] = {"vocab_size": setting.vocab_size, "length": setting.length}
    shared = setting.overlap
    match setting.family:
        case "positional":
            return positional_pairs(key, n, **size, matches=shared)
        case "prefix":
            return prefix_pairs(key, n, **size, shared=shared)
        case "contrast":
            return contrast_pairs(key, n, **size, contrast_position=setting.length - 1 - shared)
        case "bag":
            return bag_pairs(key, n, **size, shared=shared)
    return edit_pairs(key, n, **size, deletions=setting.length - shared)


def draw_model(setting: PairSetting, pairs: PreferencePairs) -> tuple[linear.LinearSoftmax, Params]:
    """The setting's linear model and its initial parameters, both from its seed."""
    frozen, learned = keys_of_model(setting)
    V, temperature = setting.vocab_size, setting.temperature
    match setting.model:
        case "unigram":
            model = linear.unigram(V)
        case "positional":
            model = linear.positional(V, setting.length)
        case "bigram":
            model = linear.bigram(V)
        case "prefix":
            model = linear.prefix(V, pairs)
        case "random_features":
            model = linear.random_features(frozen, V, pairs, dim=setting.dim, correlation=setting.correlation)
        case _:
            model = linear.random_offset(frozen, V, pairs, temperature=temperature)
    return model, linear.init_params(learned, model, temperature=temperature)


def keys_of_model(setting: PairSetting) -> tuple[Array, Array]:
    """The keys of what is frozen in a model, and of what it learns."""
    frozen, learned = (jax.random.fold_in(jax.random.key(setting.seed), i) for i in (1, 2))
    return frozen, learned
