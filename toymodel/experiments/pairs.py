"""Random pairs in a random model, shared by experiments. `toymodel.data.FAMILIES` says what overlap counts."""

import jax
from jaxtyping import Array

from toymodel._checks import Domain
from toymodel._public import own_names
from toymodel.data.families import FAMILIES
from toymodel.data.pairs import PreferencePairs
from toymodel.experiments.experiment import POSITIVE, Rule, one_of, real, setting, whole
from toymodel.models import linear
from toymodel.models.linear import MODELS
from toymodel.models.logps import Params

__dir__ = own_names(globals())

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
    draw = FAMILIES[setting.family]
    return draw(key, n, vocab_size=setting.vocab_size, length=setting.length, overlap=setting.overlap)


def draw_model(setting: PairSetting, pairs: PreferencePairs) -> tuple[linear.LinearSoftmax, Params]:
    """The setting's linear model and its initial parameters, both from its seed."""
    frozen, learned = keys_of_model(setting)
    options = {"dim": setting.dim, "correlation": setting.correlation, "temperature": setting.temperature}
    model = MODELS[setting.model](frozen, setting.vocab_size, pairs, **options)
    return model, linear.init_params(learned, model, temperature=setting.temperature)


def keys_of_model(setting: PairSetting) -> tuple[Array, Array]:
    """The keys of a model's frozen arrays and of its parameters."""
    frozen, learned = (jax.random.fold_in(jax.random.key(setting.seed), i) for i in (1, 2))
    return frozen, learned
