"""Remedies before preference training: which pairs to train on, and from which policy to start."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from toymodel._checks import require_finite, require_int
from toymodel._public import own_names
from toymodel.data.pairs import PreferencePairs
from toymodel.losses.supervised import CrossEntropy
from toymodel.models.logps import Model, Params
from toymodel.training.loop import Optimizer, train

__dir__ = own_names(globals())


def keep_lowest(pairs: PreferencePairs, scores: Float[Array, " n"], keep: int) -> PreferencePairs:
    """The `keep` pairs with the lowest scores, lowest first. With `theory.ches` it is the filter of arXiv 2410.08847.

    Raises:
      ValueError: `scores` is not finite or not one number per pair; `keep` is not from 1 to n.
    """
    require_finite("scores", scores)
    if jnp.shape(scores) != (len(pairs),):
        raise ValueError(f"`scores` must be one number per pair ({len(pairs)}), got shape {jnp.shape(scores)}.")
    require_int("keep", keep, low=1, high=len(pairs))
    kept: PreferencePairs = jax.tree.map(lambda leaf: leaf[jnp.argsort(scores)[:keep]], pairs)
    return kept


def fit_both(
    model: Model,
    params: Params,
    pairs: PreferencePairs,
    optimizer: Optimizer,
    learning_rate: float | Array,
    *,
    steps: int,
    **options: Any,
) -> Params:
    """Fine-tune on chosen and rejected answers alike (Ren & Sutherland, arXiv 2407.10490); returns the parameters.

    Preference training should then start from these, and take them as its reference. `options` go to `training.train`.
    """
    loss = CrossEntropy(0.5)
    return train(model, params, pairs, loss, optimizer, learning_rate, steps=steps, record="loss", **options).params
