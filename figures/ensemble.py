"""Many pairs, each in a model of its own: models are pytrees of arrays, so one call serves a whole ensemble of them."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float
from scipy.special import stdtrit

from toymodel import PreferencePairs
from toymodel.models import linear
from toymodel.models.linear import LinearSoftmax

Constructor = Callable[[Array, PreferencePairs], LinearSoftmax]


@partial(jax.jit, static_argnums=(0, 3))
def models(
    constructor: Constructor, keys: Array, pairs: PreferencePairs, temperature: float
) -> tuple[LinearSoftmax, Array]:
    """A model and its parameters for each pair, from a key each: two pytrees with a leading axis over pairs."""

    def one(key: Array, pair: PreferencePairs) -> tuple[LinearSoftmax, Array]:
        frozen, learned = jax.random.split(key)
        model = constructor(frozen, pair)
        return model, linear.init_params(learned, model, temperature=temperature)

    return jax.vmap(one)(keys, pairs)


@partial(jax.jit, static_argnums=0)
def each(
    function: Callable[..., Any], model: LinearSoftmax, params: Array, pairs: PreferencePairs, *args: Array
) -> Any:
    """`function(model, params, pairs, *args)`, which takes one model and many pairs, with a model for each pair."""

    def one(model: LinearSoftmax, params: Array, *of_pair: Any) -> Any:
        batch_of_one = jax.tree.map(lambda leaf: leaf[None], of_pair)
        return jax.tree.map(lambda leaf: leaf[0], function(model, params, *batch_of_one))

    return jax.vmap(one)(model, params, pairs, *args)


def mean_interval(of_seeds: Float[np.ndarray, "... seeds"]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The mean over the last axis, and Student's 95% interval of that mean: (mean, low, high)."""
    seeds = of_seeds.shape[-1]
    mean = of_seeds.mean(axis=-1)
    half = stdtrit(seeds - 1, 0.975) * of_seeds.std(axis=-1, ddof=1) / seeds**0.5
    return mean, mean - half, mean + half
