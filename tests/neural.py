"""Hypothesis strategies for small neural models, and how large their gradients could be."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st
from strategies import pairs_of, seeds

from toymodel import PreferencePairs
from toymodel.models import mlp
from toymodel.models.mlp import NGramMLP

MODEL = NGramMLP(vocab_size=5, context_length=3, embedding_dim=2, hidden_dim=4)
LENGTH = 4
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


@partial(jax.jit, static_argnums=1)
def _init(key, model, temperature):
    params = mlp.init_params(key, model, temperature=temperature)
    # Biases that are not zero either.
    return params | {
        name: params[name] + jnp.linspace(-0.5, 0.5, params[name].size) for name in ("hidden_bias", "head_bias")
    }


def mlp_world(pairs, seed=0, temperature=1.0) -> MLPWorld:
    return MLPWorld(_init(jax.random.key(seed), MODEL, temperature), pairs)
