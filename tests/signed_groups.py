"""Groups of responses to prompts, in a linear softmax model that is drawn with them."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st
from strategies import seeds, temperatures

from toymodel import PreferencePairs, Response, theory
from toymodel.models import linear

EPS = float(jnp.finfo(jnp.float64).eps)
V, T = 5, 6
GROUPS = (2, 4, 16)
MODELS = ("bigram", "positional_offset")


class Group(NamedTuple):
    """A linear softmax model with n responses to n/2 prompts, half of them after the other half's."""

    model: linear.LinearSoftmax
    params: jax.Array
    pairs: PreferencePairs
    responses: Response
    sizes: np.ndarray  # Σ_i ‖s_i‖‖φ_i‖ of each response
    roundoff: float


@st.composite
def groups(draw, models=MODELS, sizes=GROUPS):
    n = draw(st.sampled_from(sizes))
    rng = np.random.default_rng(draw(seeds))
    prompt = rng.integers(0, V, (n // 2, 1))
    tokens = rng.integers(0, V, (2, n // 2, T))
    tokens[1] = np.where(rng.random((n // 2, T)) < draw(st.floats(0, 1)), tokens[0], tokens[1])  # shared tokens
    masks = np.arange(T) < rng.integers(1, T + 1, (2, n // 2, 1))
    pairs = PreferencePairs(prompt, np.ones((n // 2, 1), bool), tokens[0], masks[0], tokens[1], masks[1])
    model, params, responses, largest, sizes = _build(
        draw(st.sampled_from(models)), pairs, jax.random.key(draw(seeds)), draw(temperatures)
    )
    # As `World.roundoff`: two dot products of V + d and 2T terms, a softmax, and the sum over the group.
    roundoff = 4 * EPS * (V + params.shape[1] + 2 * T + 2 * float(largest) + n)
    return Group(model, params, pairs, responses, np.asarray(sizes), roundoff)


@partial(jax.jit, static_argnums=0)
def _build(kind, pairs, key, temperature):
    build, init = jax.random.split(key)
    model = {
        "unigram": lambda: linear.unigram(V),
        "bigram": lambda: linear.bigram(V),
        "positional_offset": lambda: linear.random_offset(build, V, pairs, temperature=temperature),
    }[kind]()
    params = linear.init_params(init, model, temperature=temperature)
    responses, _ = theory.as_group(pairs)
    states = jax.vmap(model.states, in_axes=(None, 0))(params, responses)
    s = jax.vmap(theory.residuals)(states.logits, states.tokens)
    sizes = jnp.linalg.norm(s, axis=-1) * jnp.linalg.norm(states.features, axis=-1) * states.mask
    return model, params, responses, abs(states.logits).max(), sizes.sum(axis=-1)
