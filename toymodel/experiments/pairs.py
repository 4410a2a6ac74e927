"""Random pairs in a random model: the fields and pieces that experiments share.

`overlap` counts, in each family, the tokens that it makes the responses share:

Family         `overlap` is                                  Largest
`positional`   matching positions                            L
`prefix`       length of the shared prefix                   L
`contrast`     length of the suffix after the contrast token L − 1
`bag`          shared tokens, in another order               L
`edit`         tokens that both keep, in order               L
"""

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType, SimpleNamespace
from typing import Any

import jax
from jaxtyping import Array

from toymodel._checks import Domain
from toymodel.data.families import bag_pairs, contrast_pairs, edit_pairs, positional_pairs, prefix_pairs
from toymodel.data.pairs import PreferencePairs
from toymodel.experiments.experiment import POSITIVE, Field, Rule, one_of, real, whole
from toymodel.models import linear
from toymodel.models.linear import LinearSoftmax
from toymodel.models.logps import Params

Constructors = Mapping[str, Callable[[Array], tuple[Any, Params]]]

FAMILIES = ("positional", "prefix", "contrast", "bag", "edit")
MODELS = ("unigram", "positional", "bigram", "prefix", "random_features", "positional_offset")
CORRELATION = Domain("in [-1, 1]", lambda x: (x >= -1) & (x <= 1))

FIELDS: dict[str, Field] = {
    "model": one_of(MODELS, "positional"),
    "vocab_size": whole(20, low=2, compiled=True),
    "length": whole(12, low=1, compiled=True),  # tokens in a response
    "dim": whole(16, low=2, compiled=True),  # of random features
    "family": one_of(FAMILIES, "positional"),
    "overlap": whole(6, low=0),
    "temperature": real(1.0, POSITIVE),  # logits have standard deviation 1 / temperature
    "correlation": real(0.9, CORRELATION),  # of random features after chosen and after rejected
    "seed": whole(0, low=0),
}
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


def random_pairs(setting: SimpleNamespace, n: int = 1) -> PreferencePairs:
    """A batch of n pairs of the setting's family and overlap, from its seed."""
    key = jax.random.fold_in(jax.random.key(setting.seed), 0)
    size = {"vocab_size": setting.vocab_size, "length": setting.length}
    families = {
        "positional": lambda shared: positional_pairs(key, n, **size, matches=shared),
        "prefix": lambda shared: prefix_pairs(key, n, **size, shared=shared),
        "contrast": lambda shared: contrast_pairs(key, n, **size, contrast_position=setting.length - 1 - shared),
        "bag": lambda shared: bag_pairs(key, n, **size, shared=shared),
        "edit": lambda shared: edit_pairs(key, n, **size, deletions=setting.length - shared),
    }
    pairs: PreferencePairs = setting.family.switch(families, setting.overlap)
    return pairs


def in_random_model(
    setting: SimpleNamespace,
    pairs: PreferencePairs,
    measure: Callable[[Any, Params], Any],
    others: Constructors = MappingProxyType({}),
) -> Any:
    """`measure` of the setting's model and its initial parameters, both from its seed.

    Args:
      others: models besides the linear ones, by name: a function of a key that returns (model, params).
    """
    frozen, learned = (jax.random.fold_in(jax.random.key(setting.seed), i) for i in (1, 2))
    V, temperature = setting.vocab_size, setting.temperature
    constructors = {
        "unigram": lambda: linear.unigram(V),
        "positional": lambda: linear.positional(V, setting.length),
        "bigram": lambda: linear.bigram(V),
        "prefix": lambda: linear.prefix(V, pairs),
        "random_features": lambda: linear.random_features(
            frozen, V, pairs, dim=setting.dim, correlation=setting.correlation
        ),
        "positional_offset": lambda: linear.random_offset(frozen, V, pairs, temperature=temperature),
    }

    def linear_branch(constructor: Callable[[], LinearSoftmax]) -> Any:
        model = constructor()
        return measure(model, linear.init_params(learned, model, temperature=temperature))

    return setting.model.switch(
        {name: partial(linear_branch, constructor) for name, constructor in constructors.items()}
        | {name: lambda other=other: measure(*other(learned)) for name, other in others.items()}
    )
