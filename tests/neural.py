"""Hypothesis strategies for small neural models, and how large their gradients could be."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st
from jax.flatten_util import ravel_pytree
from strategies import pairs_of, seeds

from toymodel import PreferencePairs
from toymodel.models import mlp
from toymodel.models.logps import response_logp
from toymodel.models.mlp import NGramMLP
from toymodel.models.transformer import Transformer

MODEL = NGramMLP(vocab_size=5, context_length=3, embedding_dim=2, hidden_dim=4)
LENGTH = 4
TRANSFORMERS = {
    "tied": Transformer(vocab_size=5, context_length=8, layers=2, dim=4, heads=2),
    "untied": Transformer(vocab_size=5, context_length=8, layers=1, dim=6, heads=3, tied=False),
}
NETWORKS = {"mlp": MODEL} | TRANSFORMERS
temperatures = st.sampled_from([float("inf"), 3.0, 1.0, 0.3, 0.1])


class MLPWorld(NamedTuple):
    """The model above, its parameters, and a batch of pairs."""

    params: mlp.MLPParams
    pairs: PreferencePairs

    @property
    def gradient_size(self) -> float:
        """Bound on ‖∇ log π‖ of any response, term by term, with |tanh| ≤ 1 and residuals of norm at most √2."""
        E, A, U = (np.linalg.norm(self.params[name]) for name in ("embedding", "hidden_weight", "head_weight"))
        inputs = MODEL.context_length**0.5 * E
        per_token = 2**0.5 * (1 + MODEL.hidden_dim**0.5 + U * (1 + inputs + MODEL.context_length**0.5 * A))
        return LENGTH * float(per_token)

    @property
    def roundoff(self) -> float:
        """Relative round-off of products of two gradients, as `World.roundoff`: the terms summed, and the logits."""
        U, b = (self.params[name] for name in ("head_weight", "head_bias"))
        largest = float(abs(U).sum(axis=1).max() + abs(b).max())
        terms = MODEL.vocab_size + MODEL.context_length * MODEL.embedding_dim + MODEL.hidden_dim + 2 * LENGTH
        return 4 * float(jnp.finfo(U.dtype).eps) * (terms + 2 * largest)


@st.composite
def mlp_worlds(draw, n=1, temperature=temperatures):
    """Random parameters, n pairs."""
    pairs = [draw(pairs_of(MODEL.vocab_size, LENGTH)) for _ in range(n)]
    return mlp_world(jax.tree.map(lambda *a: np.concatenate(a), *pairs), draw(seeds), draw(temperature))


def mlp_world(pairs, seed=0, temperature=1.0) -> MLPWorld:
    return MLPWorld(random_params(seed, MODEL, temperature), pairs)


class NetworkWorld(NamedTuple):
    """A network of any kind, its parameters, and a batch of pairs."""

    model: NGramMLP | Transformer
    params: dict
    pairs: PreferencePairs

    @property
    def unit(self) -> float:
        """Unit round-offs in a number that is a sum at every layer: as many as all these sums have terms, relatively.

        Forward and back, in prediction and measurement, and twice for the order in which a compiler sums.
        """
        eps = jnp.finfo(jax.tree.leaves(self.params)[0].dtype).eps
        return 8 * float(eps) * longest_sum(self.model, self.pairs.prompt.shape[-1] + self.pairs.chosen.shape[-1])

    @property
    def gradient_errors(self) -> np.ndarray:
        """[2]: how far round-off may move an entry of ∇ log π_w and of ∇ log π_l.

        By what a change of all weights by so many unit round-offs does, which is what the round-off of a layer amounts
        to, and by as many of the gradient itself.
        """
        return self.unit * np.asarray(_gradient_condition(self.model, self.params, self.pairs[0]))


def longest_sum(model, positions) -> int:
    """Terms of all sums that a token's log-probability goes through, one after the other, tables to softmax."""
    V = model.vocab_size
    if isinstance(model, NGramMLP):
        return model.context_length * model.embedding_dim + model.hidden_dim + V + positions
    d, hidden = model.dim, getattr(model, "hidden", 4 * model.dim)
    attention = 2 * d + d + d // model.heads + 2 * positions + d  # norm, in, scores, softmax and mixture, out
    return model.layers * (attention + 2 * d + d + hidden) + 2 * d + d + V + positions


@partial(jax.jit, static_argnums=0)
def _gradient_condition(model, params, pair):
    """[2]: how far a relative change of all parameters by ±1 moves a response's gradient, to first order and in norm
    (root mean square over draws of the signs), and the gradient's own norm."""
    flat, unravel = ravel_pytree(params)
    signs = jax.random.rademacher(jax.random.key(0), (8, flat.size), flat.dtype)

    def condition(response):
        gradient = jax.grad(lambda flat: response_logp(model, unravel(flat), response))
        along = jax.vmap(lambda sign: jax.jvp(gradient, (flat,), (sign * flat,)), out_axes=(None, 0))
        own, moved = along(signs)
        return jnp.sqrt((moved**2).sum(axis=-1).mean()) + jnp.linalg.norm(own)

    return jax.vmap(condition)(pair.both_responses)


@st.composite
def network_worlds(draw, models=("mlp", "tied"), temperature=temperatures):
    """One of the networks above with random parameters, biases and gains included, and one pair."""
    model = NETWORKS[draw(st.sampled_from(models))]
    pairs = draw(pairs_of(model.vocab_size, LENGTH))
    return network_world(model, pairs, seed=draw(seeds), temperature=draw(temperature))


def network_world(model, pairs, *, seed=0, temperature=1.0) -> NetworkWorld:
    return NetworkWorld(model, random_params(seed, model, temperature), pairs)


def random_params(seed, model, temperature=1.0):
    """Normal weights scaled by 1/√(inputs), the head divided by `temperature`; biases are not zero, and gains not one.

    Drawn by NumPy, as JAX takes seconds to compile such a draw.
    """
    rng = np.random.default_rng(seed)

    def draw(path, shape):
        *_, name = (key.key for key in path)
        normal = rng.standard_normal(shape)
        if name.endswith(("gain", "bias")):
            return (name == "gain") + 0.3 * normal
        return normal / shape[-2 if name == "weight" else -1] ** 0.5

    params = jax.tree.map_with_path(draw, model.shapes, is_leaf=lambda leaf: isinstance(leaf, tuple))
    head = "head_weight" if isinstance(model, NGramMLP) else "token_embedding" if model.tied else "head"
    params[head] /= temperature
    return jax.device_put(params)  # which compiles nothing either, unlike `jnp.asarray`
