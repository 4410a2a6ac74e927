"""Hypothesis strategies: models, parameters and pairs, from exactly uniform to nearly deterministic.

Few array shapes are drawn, so that little is compiled; lengths vary inside them through the masks. Pairs and states
are numpy arrays, as each jax operation outside a compiled function is a program of its own for every shape.
"""

import os
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st

from toymodel import PairGram, PreferencePairs
from toymodel.models import linear
from toymodel.models.linear import LinearSoftmax, LinearStates

SHORT, LONG, WIDE = (2, 4), (3, 32), (64, 8)  # (V, longest response): V from 2 to 64, lengths from 1 to 32
SHAPES = {  # of each kind of model: two, as all three are half as many programs again
    "unigram": (SHORT, LONG),
    "positional": (SHORT, WIDE),
    "bigram": (LONG, WIDE),
    "prefix": (SHORT, LONG),
    "random_features": (SHORT, WIDE),
    "positional_offset": (LONG, WIDE),
}
if os.environ.get("HYPOTHESIS_PROFILE") == "deep":
    SHAPES = dict.fromkeys(SHAPES, (SHORT, LONG, WIDE))
MODELS = tuple(SHAPES)
TABULAR = ("unigram", "positional", "bigram", "prefix")
ORTHOGONAL = ("positional", "prefix", "positional_offset")
FEATURE_DIM = 4

seeds = st.integers(0, 2**32 - 1)
temperatures = st.sampled_from([float("inf"), 3.0, 1.0, 0.3, 0.1, 0.03])
weights = st.floats(-4, 4).map(lambda exponent: 10.0**exponent)  # d_w, d_l from 1e-4 to 1e4


class World(NamedTuple):
    """A model, its parameters, and a batch of one pair."""

    kind: str
    model: LinearSoftmax
    params: jax.Array
    pairs: PreferencePairs

    @property
    def states(self) -> tuple[LinearStates, LinearStates]:
        return as_numpy(_states(self.model, self.params, self.pairs))

    @property
    def roundoff(self) -> float:
        """Relative round-off of a sum of T·T products ⟨φ, φ′⟩⟨s, s′⟩, against the sum of their sizes.

        A dot product of n terms loses n unit round-offs, a softmax as many as its largest logit; twice, because
        prediction and measurement both do; and twice again for the order in which a compiler sums.
        """
        (V, d), T = self.params.shape, self.pairs.chosen.shape[1]
        largest = max(float(abs(states.logits).max()) for states in self.states)
        return 4 * float(jnp.finfo(self.params.dtype).eps) * (V + d + 2 * T + 2 * largest)


@st.composite
def pairs_of(draw, V, T, *, equal_lengths=False):
    """One pair of responses of 1 … T tokens that share a beginning and some later positions."""
    tokens = st.integers(0, V - 1)
    prompt = draw(st.lists(tokens, min_size=2, max_size=2))
    chosen = draw(st.lists(tokens, min_size=1, max_size=T))
    longest = len(chosen) if equal_lengths else T
    rejected = draw(
        st.lists(st.one_of(st.none(), tokens), min_size=len(chosen) if equal_lengths else 1, max_size=longest)
    )
    # None: the chosen token, where there is one.
    rejected = [chosen[min(i, len(chosen) - 1)] if t is None else t for i, t in enumerate(rejected)]
    return as_numpy(PreferencePairs.from_lists([prompt], [chosen], [rejected], vocab_size=V, length=T))


@st.composite
def worlds(draw, models=MODELS, *, equal_lengths=False, temperature=temperatures):
    """A random linear softmax model with a pair for it."""
    kind = draw(st.sampled_from(models))
    V, T = draw(st.sampled_from(SHAPES[kind]))
    pairs = draw(pairs_of(V, T, equal_lengths=equal_lengths))
    return world(kind, pairs, V, seed=draw(seeds), temperature=draw(temperature), correlation=draw(st.floats(-1, 1)))


def world(kind, pairs, V, *, seed=0, temperature=1.0, correlation=0.5) -> World:
    """The world that `worlds` draws, from its parts."""
    model, params = _build(kind, V, pairs, jax.random.key(seed), temperature, correlation)
    return World(kind, model, params, pairs)


@partial(jax.jit, static_argnums=(0, 1))
def _build(kind, V, pairs, key, temperature, correlation):
    build, init = jax.random.split(key)
    model = linear.MODELS[kind](build, V, pairs, dim=FEATURE_DIM, correlation=correlation, temperature=temperature)
    return model, linear.init_params(init, model, temperature=temperature)


@jax.jit
def _states(model, params, pairs):
    pair = jax.tree.map(lambda a: a[0], pairs)
    return tuple(model.states(params, response) for response in (pair.chosen_response, pair.rejected_response))


@st.composite
def distributions(draw, V, *, temperature=temperatures):
    """A probability vector of V entries, from uniform to nearly deterministic."""
    rng = np.random.default_rng(draw(seeds))
    return np.asarray(jax.nn.softmax(rng.standard_normal(V) / draw(temperature)))


def one_token_pair(V, chosen, rejected, *, length=1, prompt=()) -> PreferencePairs:
    """A batch of one pair with responses of one token, padded to `length`, and an empty prompt unless one is given."""
    return as_numpy(PreferencePairs.from_lists([prompt], [[chosen]], [[rejected]], vocab_size=V, length=length))


def as_numpy(tree):
    return jax.tree.map(np.asarray, tree)


entries = st.floats(0.01, 100.0)
cosines = st.floats(-1, 1).map(lambda c: c if abs(c) > 1e-100 else 0.0)  # no subnormals: XLA flushes them to zero


@st.composite
def grams(draw, cosine=cosines):
    """Gram entries of two vectors, from their norms and their cosine."""
    chosen, rejected = draw(entries), draw(entries)
    return PairGram(*map(np.float64, (chosen**2, rejected**2, draw(cosine) * chosen * rejected)))
