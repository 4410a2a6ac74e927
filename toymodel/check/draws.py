"""Random instances to check the theory on: linear softmax models, parameters, pairs and weights.

Compiling takes far longer than running. So random numbers are drawn by numpy, in chunks of one size, and the kind of
model is data: one program serves all kinds.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from toymodel import gradients, theory
from toymodel._public import own_names
from toymodel._pytree import pytree
from toymodel.data.pairs import PreferencePairs, Response
from toymodel.gram import PairGram
from toymodel.models import linear
from toymodel.models.linear import LinearSoftmax, LinearStates
from toymodel.models.logps import Model, Params, response_logp

__dir__ = own_names(globals())

# The models, and what each looks at to find the row of a context.
CONTEXTS: dict[str, Literal["unigram", "positional", "bigram", "prefix"]] = {
    "unigram": "unigram",
    "positional": "positional",
    "bigram": "bigram",
    "prefix": "prefix",
    "frozen_features": "prefix",
    "positional_offset": "prefix",
}
MODELS = tuple(CONTEXTS)
KINDS = tuple(dict.fromkeys(CONTEXTS.values()))  # always in this order: else a compiled program is not found again
TABULAR = MODELS[:4]
OFFSET = MODELS[5:]
ORTHOGONAL = ("positional", "prefix", "positional_offset")  # different positions have orthogonal features
#: Shapes of the draws: V, and the longest response.
SHAPES = ((2, 6), (40, 12))
CHUNK = 64  # draws in one compiled call


class Noise(NamedTuple):
    """The random numbers of one draw; batched along a leading axis."""

    pair: PreferencePairs
    sharpness: Float[np.ndarray | Array, ""]  # 1 / temperature: 0 is exactly uniform
    weights: Float[np.ndarray | Array, " 2"]  # d_w, d_l
    params: Float[np.ndarray | Array, "V rows"]
    features: Float[np.ndarray | Array, "2 T 5"]
    logits: Float[np.ndarray | Array, "2 T V"]
    shift: Int[np.ndarray | Array, ""]  # 1 … V − 1: from a token to another one
    uniform: Float[np.ndarray | Array, " 2"]


@partial(pytree, static=["kind", "vocab_size", "tabular"])
@dataclass(frozen=True)
class AnyLinear(LinearSoftmax):
    """Any of the `MODELS`, by number, padded with zeros to the size of the largest."""

    number: Int[Array, ""] | int = 0

    def contexts(self, response: Response) -> Int[Array, " T"]:
        """The contexts of the model with that number."""
        found = {kind: LinearSoftmax.contexts(replace(self, kind=kind), response) for kind in KINDS}
        return jnp.stack([found[kind] for kind in CONTEXTS.values()])[self.number]


class Draw(NamedTuple):
    """One random instance, with what most checks need: chosen before rejected where there are two."""

    model: AnyLinear
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

    def is_one_of(self, models: tuple[str, ...]) -> Bool[Array, ""]:
        """Whether the draw's model is one of these."""
        return jnp.array([model in models for model in MODELS])[self.model.number]


def draw_noise(rng: np.random.Generator, V: int, T: int) -> Noise:
    """The noise of CHUNK draws: p from exactly uniform to 1 − 1e-12 and beyond, d_w and d_l from 1e-4 to 1e4."""
    n = CHUNK
    sharpness = np.where(rng.random(n) < 0.9, 10 ** rng.uniform(-1, 1.5, n), 0)
    noise = Noise(
        pair=_random_pairs(rng, n, V, T),
        sharpness=sharpness,
        weights=10 ** rng.uniform(-4, 4, (n, 2)),
        params=rng.standard_normal((n, V, _rows(V, T))),
        features=rng.standard_normal((n, 2, T, 5)),
        logits=rng.standard_normal((n, 2, T, V)),
        shift=rng.integers(1, V, n),
        uniform=rng.random((n, 2)),
    )
    return jax.tree.map(jnp.asarray, noise)


def _rows(V: int, T: int) -> int:
    """Number of rows: those of a bigram model and of the prefixes of two responses, an even number."""
    return 2 * max(-(-(V + 1) // 2), T)


def _random_pairs(rng: np.random.Generator, n: int, V: int, T: int) -> PreferencePairs:
    """A shared beginning of up to half the length, random agreement after it, and lengths that leave room for it."""
    prompt, chosen, other = (rng.integers(0, V, (n, width)) for width in (2, T, T))
    agree = (np.arange(T) < rng.integers(0, T // 2 + 1, (n, 1))) | (rng.random((n, T)) < rng.random((n, 1)))
    masks = [np.arange(T) < rng.integers(1, T + 1, (n, 3)).max(axis=1, keepdims=True) for _ in range(2)]
    arrays = (prompt, np.ones((n, 2), bool), chosen, masks[0], np.where(agree, chosen, other), masks[1])
    return PreferencePairs(*map(jnp.asarray, arrays))


def build_draw(number: Int[Array, ""], noise: Noise) -> Draw:
    """The instance of one entry of `draw_noise`, with the model of that number in `MODELS`."""
    model, pair = _build_model(number, noise), noise.pair
    params = jnp.where(number == MODELS.index("positional_offset"), 0, noise.sharpness * noise.params)
    responses = pair.both_responses
    states = jax.vmap(model.states, in_axes=(None, 0))(params, responses)
    return Draw(
        model=model,
        params=params,
        pair=pair,
        d_chosen=jnp.asarray(noise.weights[0]),
        d_rejected=jnp.asarray(noise.weights[1]),
        noise=noise,
        states=_apart(states),
        sizes=_apart(jax.vmap(_size)(states)),
        tokens=_apart(jax.vmap(gradients.token_gradients, in_axes=(None, None, 0))(model, params, responses)),
        gram=of_one_pair(gradients.pair_gram, model, params, pair),
        predicted=of_one_pair(theory.pair_gram, model, params, pair),
    )


def _build_model(number: Int[Array, ""], noise: Noise) -> AnyLinear:
    T, V = noise.logits.shape[1:]
    rows = noise.params.shape[1]

    def pad(array: Array | np.ndarray, *shape: int) -> Array:
        return jnp.pad(array, [(0, size - have) for size, have in zip(shape, array.shape, strict=True)])

    answers = ("chosen", "chosen_mask", "rejected", "rejected_mask")
    padded: dict[str, Any] = {name: pad(getattr(noise.pair, name), rows // 2) for name in answers}
    pair = replace(noise.pair, **padded)
    unit = noise.features / jnp.linalg.norm(noise.features, axis=-1, keepdims=True)
    features, logits = pad(unit, 2, rows // 2, 5), pad(noise.sharpness * noise.logits, 2, rows // 2, V)
    offset = linear.positional_offset(V, pair, *logits)
    models = {
        "unigram": linear.unigram(V),
        "positional": linear.positional(V, T),
        "bigram": linear.bigram(V),
        "prefix": linear.prefix(V, pair),
        "frozen_features": linear.frozen_features(V, pair, *features),
        "positional_offset": offset,
    }
    assert offset.frozen_logits is not None
    return AnyLinear(
        "prefix",
        V,
        jnp.stack([pad(models[name].features, rows, rows) for name in MODELS])[number],
        jnp.where(number == MODELS.index("positional_offset"), offset.frozen_logits, 0),
        offset.known,
        number=number,
    )


def _size(states: LinearStates) -> Float[Array, " T"]:
    s, features = theory.residuals(states.logits, states.tokens), states.features
    return jnp.linalg.norm(s, axis=1) * jnp.linalg.norm(features, axis=1) * states.mask


def _apart(tree: Any) -> Any:
    """The two entries of the leading axis."""
    return tuple(jax.tree.map(lambda leaf, i=i: leaf[i], tree) for i in range(2))


def of_one_pair(function: Callable[..., Any], model: Model, params: Params, pair: PreferencePairs, *args: Any) -> Any:
    """A function of a batch of pairs, for a single pair."""
    batch = jax.tree.map(lambda a: a[None], pair)
    return jax.tree.map(lambda a: a[0], function(model, params, batch, *args))


def logps(model: Model, params: Params, pair: PreferencePairs) -> Float[Array, " 2"]:
    """Log π of the chosen and of the rejected response."""
    return jax.vmap(response_logp, in_axes=(None, None, 0))(model, params, pair.both_responses)


def two_pairs(draw: Draw) -> tuple[LinearSoftmax, Array, PreferencePairs, Float[Array, " 4"]]:
    """A bigram model, the draw's pair, and the same with all tokens shifted; and the four responses' Σ‖s‖‖φ‖."""
    V, pair = draw.model.vocab_size, draw.pair

    shift = jnp.asarray(draw.noise.shift)

    def shifted(tokens: Array) -> Array:
        return jnp.stack([tokens, (tokens + shift) % V])

    pairs = PreferencePairs(
        jnp.stack([pair.prompt] * 2),
        jnp.stack([pair.prompt_mask] * 2),
        shifted(pair.chosen),
        jnp.stack([pair.chosen_mask] * 2),
        shifted(pair.rejected),
        jnp.stack([pair.rejected_mask] * 2),
    )
    model, params = linear.bigram(V), jnp.asarray(draw.noise.sharpness * draw.noise.params[:, : V + 1])
    states = jax.vmap(model.states, in_axes=(None, 0))(params, theory.as_group(pairs)[0])
    s = theory.residuals(states.logits, states.tokens) * states.mask[..., None]
    return model, params, pairs, jnp.linalg.norm(s, axis=-1).sum(axis=-1)


def first_tokens(draw: Draw) -> PreferencePairs:
    """One token each after the prompt, made to differ."""
    chosen, one = draw.pair.chosen[:1], jnp.ones(1, bool)
    rejected = (chosen + draw.noise.shift) % draw.model.vocab_size
    return PreferencePairs(draw.pair.prompt, draw.pair.prompt_mask, chosen, one, rejected, one)


def step_size(draw: Draw) -> Array:
    """A learning rate from 1e-4 to 1e4."""
    return 10 ** (8 * draw.noise.uniform[0] - 4)


def slope_sizes(draw: Draw, d_chosen: Array | float, d_rejected: Array | float) -> Array:
    """Sizes of the terms that the two slopes sum."""
    chosen, rejected = (size.sum() for size in draw.sizes)
    return (d_chosen * chosen + d_rejected * rejected) * jnp.array([chosen, rejected])
