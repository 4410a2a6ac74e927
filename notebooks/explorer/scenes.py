"""The explorer's pairs, each in one linear softmax model.

Every scene has arrays of the same shapes, whatever its settings (padded positions, features and token ids that nothing
reaches), so that all of them are looked at by one compiled program.
"""

from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from toymodel._checks import require_int
from toymodel.data import families
from toymodel.data.pairs import PreferencePairs
from toymodel.models import linear
from toymodel.models.linear import LinearSoftmax

#: Tokens in a response, at most.
LENGTH = 41
#: Token ids; V of them may occur.
WIDEST = 40
DIM = 2 * LENGTH  # features: one for each position after the chosen and after the rejected tokens
NEVER = -1e30  # the logit of ids from V on: a probability of exactly 0, and finite
CHOSEN, REJECTED, SUFFIX = 0, 1, 2  # token ids of `suffix_pair`
#: Their words.
WORDS = ("good", "bad", "s")
DRAWN_DIM = 16  # of random features

#: Families of overlap that `family_pair` knows.
FAMILIES = tuple(families.FAMILIES)
#: Models that `family_pair` knows: those of random W, so all but the one whose frozen logits are random.
MODELS = tuple(name for name in linear.MODELS if name != "positional_offset")


class Scene(NamedTuple):
    """One pair in one model."""

    model: LinearSoftmax
    params: Float[Array, "V d"]
    pairs: PreferencePairs  # a batch of one; of `every_length`, one of each


def suffix_pair(suffix_length: int, a: float, b: float, vocab_size: int, correlation: float = 1.0) -> Scene:
    """One contrast token, then identical tokens that the model expects with other probabilities in each response (T7).

    Args:
      suffix_length: number n of shared tokens after the contrast token, up to `LENGTH` − 1.
      a: probability of each of them after the chosen token, in (0, 1), other tokens being equally likely; b likewise
        after the rejected one. The two contrast tokens have probability 1/V.
      correlation: cosine of the features at one position of both responses. At 1 they share an offset (T7, T8), at 0
        they share nothing.

    Raises:
      ValueError: a setting is out of its range.
    """
    require_int("suffix_length", suffix_length, low=0, high=LENGTH - 1)
    require_int("vocab_size", vocab_size, low=3, high=WIDEST)
    for name, prob in (("a", a), ("b", b)):
        if not 0 < prob < 1:
            raise ValueError(f"`{name}` must be a probability in (0, 1), got {prob!r}.")
    _require_correlation(correlation)
    chosen, rejected = ([[contrast] + [SUFFIX] * suffix_length] for contrast in (CHOSEN, REJECTED))
    pairs = PreferencePairs.from_lists([[CHOSEN]], chosen, rejected, vocab_size=WIDEST, length=LENGTH)
    after_chosen, elsewhere = np.eye(LENGTH, DIM), np.eye(LENGTH, DIM, k=LENGTH)
    after_rejected = correlation * after_chosen + np.sqrt(1 - correlation**2) * elsewhere
    logits = [_peaked_logits(prob, vocab_size) for prob in (a, b)]
    return _scene(pairs, after_chosen, after_rejected, vocab_size, jnp.zeros((WIDEST, DIM)), np.concatenate(logits))


def every_length(longest: Scene) -> Scene:
    """The pairs of 0, 1, …, LENGTH − 1 suffix tokens, in the model of the longest one."""
    repeated = jax.tree.map(lambda leaf: jnp.repeat(leaf, LENGTH, axis=0), longest.pairs)
    mask = jnp.tril(jnp.ones((LENGTH, LENGTH), bool))
    return longest._replace(pairs=replace(repeated, chosen_mask=mask, rejected_mask=mask))


def family_pair(
    family: str, shared: int, model: str, vocab_size: int, *, correlation: float = 0.9, seed: int = 0
) -> Scene:
    """A random pair of `LENGTH` tokens in a random linear model, W standard normal.

    Args:
      family: of `FAMILIES`.
      shared: how many tokens it makes the responses share (of "contrast": the length of the suffix, up to
        `LENGTH` − 1).
      model: of `MODELS`: which contexts share parameters. All of them are `linear.frozen_features` here.
      correlation: of "random_features": cosine of the features at one position of both responses.

    Raises:
      ValueError: a name is unknown, or a setting is out of its range.
    """
    if family not in FAMILIES:
        raise ValueError(f"`family` must be one of {', '.join(FAMILIES)}, got {family!r}.")
    if model not in MODELS:
        raise ValueError(f"`model` must be one of {', '.join(MODELS)}, got {model!r}.")
    require_int("vocab_size", vocab_size, low=2, high=WIDEST)
    require_int("shared", shared, low=0, high=LENGTH - (family == "contrast"))
    _require_correlation(correlation)
    draw, frozen, learned = jax.random.split(jax.random.key(seed), 3)
    pairs = families.FAMILIES[family](draw, 1, vocab_size=vocab_size, length=LENGTH, overlap=shared)
    named = linear.MODELS[model](frozen, WIDEST, pairs, dim=DRAWN_DIM, correlation=correlation)
    rows = (named.contexts(response) for response in (pairs[0].chosen_response, pairs[0].rejected_response))
    chosen, rejected = (_to_width(np.asarray(named.features)[np.asarray(row)]) for row in rows)
    params = jax.random.normal(learned, (WIDEST, DIM))
    return _scene(pairs, chosen, rejected, vocab_size, params, np.zeros((2 * LENGTH, WIDEST)))


def _scene(
    pairs: PreferencePairs,
    chosen_features: Float[np.ndarray, "T d"],
    rejected_features: Float[np.ndarray, "T d"],
    vocab_size: int,
    params: Float[Array, "V d"],
    logits: Float[np.ndarray, "2*T V"],
) -> Scene:
    pairs = jax.tree.map(lambda leaf: leaf if leaf.dtype == bool else leaf.astype(int), pairs)  # one program for all
    features = (jnp.asarray(rows)[None] for rows in (chosen_features, rejected_features))
    model = linear.frozen_features(WIDEST, pairs, *features)
    logits = np.where(np.arange(WIDEST) < vocab_size, logits, NEVER)
    return Scene(replace(model, frozen_logits=jnp.asarray(logits)), params, pairs)


def _peaked_logits(prob: float, vocab_size: int) -> Float[np.ndarray, "T V"]:
    """Uniform at the contrast position; later, `prob` for the suffix token and the rest spread evenly."""
    peaked = np.where(np.arange(WIDEST) == SUFFIX, np.log(prob), np.log((1 - prob) / (vocab_size - 1)))
    logits = np.tile(peaked, (LENGTH, 1))
    logits[0] = 0.0
    return logits


def _to_width(features: Float[np.ndarray, "T d"]) -> Float[np.ndarray, "T D"]:
    return np.pad(features, ((0, 0), (0, DIM - features.shape[1])))


def _require_correlation(correlation: float) -> None:
    if not -1 <= correlation <= 1:
        raise ValueError(f"`correlation` must be in [-1, 1], got {correlation!r}.")
