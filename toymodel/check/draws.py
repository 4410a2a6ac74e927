"""Random instances to check the theory on: linear softmax models, parameters, pairs and weights.

All randomness is drawn by numpy, in chunks of one size: random numbers compile slowly, and a size is compiled once.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from toymodel import gradients, theory
from toymodel.data.pairs import PreferencePairs
from toymodel.gram import PairGram
from toymodel.models import linear
from toymodel.models.linear import LinearSoftmax, LinearStates
from toymodel.models.logps import Model, Params

MODELS = ("unigram", "positional", "bigram", "prefix", "frozen_features", "positional_offset")
TABULAR = MODELS[:4]
OFFSET = MODELS[5:]
ORTHOGONAL = ("positional", "prefix", "positional_offset")  # different positions have orthogonal features
SHAPES = ((2, 6), (40, 12))  # (V, longest response)
CHUNK = 64  # draws in one compiled call


class Noise(NamedTuple):
    """All that is random in one draw, as plain numbers; batched along a leading axis."""

    pair: PreferencePairs
    sharpness: Float[np.ndarray | Array, ""]  # 1 / temperature: 0 is exactly uniform
    weights: Float[np.ndarray | Array, " 2"]  # d_w, d_l
    params: Float[np.ndarray | Array, "V rows"]
    features: Float[np.ndarray | Array, "2 T 5"]
    logits: Float[np.ndarray | Array, "2 T V"]
    shift: Int[np.ndarray | Array, ""]  # 1 … V − 1: from a token to another one
    uniform: Float[np.ndarray | Array, " 2"]


class Draw(NamedTuple):
    """One random instance, with what most checks need of it: chosen before rejected wherever there are two."""

    kind: str
    model: LinearSoftmax
    params: Float[Array, "V d"]
    pair: PreferencePairs
    d_chosen: Float[Array, ""]
    d_rejected: Float[Array, ""]
    noise: Noise
    states: tuple[LinearStates, LinearStates]
    sizes: tuple[Float[Array, " T"], Float[Array, " T"]]  # ‖s_i‖‖φ_i‖: what a token adds to an inner product at most
    tokens: tuple[Float[Array, "T P"], Float[Array, "T P"]]  # measured gradients
    gram: PairGram  # measured
    predicted: PairGram


def draw_noise(rng: np.random.Generator, V: int, T: int) -> Noise:
    """The noise of CHUNK draws: p from exactly uniform to 1 − 1e-12 and beyond, d_w and d_l from 1e-4 to 1e4."""
    n = CHUNK
    sharpness = np.where(rng.random(n) < 0.9, 10 ** rng.uniform(-1, 1.5, n), 0)
    noise = Noise(
        pair=_random_pairs(rng, n, V, T),
        sharpness=sharpness,
        weights=10 ** rng.uniform(-4, 4, (n, 2)),
        params=rng.standard_normal((n, V, max(V + 1, 2 * T))),
        features=rng.standard_normal((n, 2, T, 5)),
        logits=rng.standard_normal((n, 2, T, V)),
        shift=rng.integers(1, V, n),
        uniform=rng.random((n, 2)),
    )
    return jax.tree.map(jnp.asarray, noise)


def _random_pairs(rng: np.random.Generator, n: int, V: int, T: int) -> PreferencePairs:
    """A shared beginning of up to half the length, random agreement after it, and lengths that leave room for it."""
    prompt, chosen, other = (rng.integers(0, V, (n, width)) for width in (2, T, T))
    agree = (np.arange(T) < rng.integers(0, T // 2 + 1, (n, 1))) | (rng.random((n, T)) < rng.random((n, 1)))
    masks = [np.arange(T) < rng.integers(1, T + 1, (n, 3)).max(axis=1, keepdims=True) for _ in range(2)]
    arrays = (prompt, np.ones((n, 2), bool), chosen, masks[0], np.where(agree, chosen, other), masks[1])
    return PreferencePairs(*map(jnp.asarray, arrays))


def build_draw(kind: str, noise: Noise) -> Draw:
    """The instance that one entry of `draw_noise` stands for, with a model of the given kind."""
    T, V = noise.logits.shape[1:]
    features = noise.features / jnp.linalg.norm(noise.features, axis=-1, keepdims=True)
    build: dict[str, Callable[[], LinearSoftmax]] = {
        "unigram": lambda: linear.unigram(V),
        "positional": lambda: linear.positional(V, T),
        "bigram": lambda: linear.bigram(V),
        "prefix": lambda: linear.prefix(V, noise.pair),
        "frozen_features": lambda: linear.frozen_features(V, noise.pair, *features),
        "positional_offset": lambda: linear.positional_offset(V, noise.pair, *(noise.sharpness * noise.logits)),
    }
    model = build[kind]()
    params = jnp.asarray(noise.sharpness * noise.params[:, : model.features.shape[1]])
    if kind == "positional_offset":
        params = jnp.zeros_like(params)
    states = [model.states(params, r) for r in (noise.pair.chosen_response, noise.pair.rejected_response)]
    return Draw(
        kind=kind,
        model=model,
        params=params,
        pair=noise.pair,
        d_chosen=jnp.asarray(noise.weights[0]),
        d_rejected=jnp.asarray(noise.weights[1]),
        noise=noise,
        states=(states[0], states[1]),
        sizes=(_size(states[0]), _size(states[1])),
        tokens=(
            gradients.token_gradients(model, params, noise.pair.chosen_response),
            gradients.token_gradients(model, params, noise.pair.rejected_response),
        ),
        gram=of_one_pair(gradients.pair_gram, model, params, noise.pair),
        predicted=of_one_pair(theory.pair_gram, model, params, noise.pair),
    )


def _size(states: LinearStates) -> Float[Array, " T"]:
    s, features = theory.residuals(states.logits, states.tokens), states.features
    return jnp.linalg.norm(s, axis=1) * jnp.linalg.norm(features, axis=1) * states.mask


def of_one_pair(function: Callable[..., Any], model: Model, params: Params, pair: PreferencePairs, *args: Any) -> Any:
    """A function of a batch of pairs, for a single pair."""
    batch = jax.tree.map(lambda a: a[None], pair)
    return jax.tree.map(lambda a: a[0], function(model, params, batch, *args))
