"""The domains of theory's arguments: token ids, logits, probabilities, Gram matrices and linear softmax models.

Every function raises `ValueError` with the argument's name, what was wanted and what was given. Shapes are always
checked; values are unknown inside a trace and are skipped there.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from toymodel._checks import (
    PROBABILITY,
    REAL,
    describe,
    dtype_of,
    epsilon_of,
    first_outside,
    is_concrete,
    real_array,
    require,
)
from toymodel._public import own_names
from toymodel.data.pairs import PreferencePairs
from toymodel.gram import ROUNDOFF, Ints, PairGram
from toymodel.models.linear import LinearSoftmax
from toymodel.models.logps import check_inputs

__dir__ = own_names(globals())

SUM_ROUNDOFF = 1e-6  # of probabilities that should sum to 1, and 16 ε where that is more


def require_linear(model: Any, params: Any, pairs: Any, *, one_pair: bool = False) -> None:
    """Raise `ValueError` unless this is a linear softmax model with its W, and pairs (or one pair) that it can read."""
    require_w(model, params)
    check_inputs(model, params, pairs, one_pair=one_pair)


def require_w(model: Any, params: Any) -> None:
    """Raise `ValueError` unless this is a linear softmax model with its W."""
    require_linear_model(model)
    require(REAL, params=params)
    if np.shape(params) != (wanted := (model.vocab_size, model.features.shape[1])):
        raise ValueError(f"`params` must be W of shape {wanted}, got shape {np.shape(params)}.")


def require_linear_model(model: Any) -> None:
    """Raise `ValueError` unless this is a linear softmax model."""
    if not isinstance(model, LinearSoftmax):
        raise ValueError(
            "`model` must be a linear softmax model (`toymodel.models.linear`) for a closed form, got "
            f"{describe(model)}; `toymodel.gradients` measures any model."
        )


def require_gram_matrix(gram: Any, **per_response: Any) -> None:
    """Raise `ValueError` unless this is a matrix of inner products of n vectors, with one number each for them.

    It must be square and symmetric, with squares ≥ 0 on its diagonal that bound the other entries.
    """
    require(REAL, gram=gram, **per_response)
    shape = np.shape(gram)
    if len(shape) != 2 or shape[0] != shape[1] or not shape[0]:
        raise ValueError(f"`gram` must have shape [n, n] for n >= 1 responses, got shape {shape}.")
    for name, value in per_response.items():
        if np.shape(value) != shape[:1]:
            raise ValueError(f"`{name}` must be one number per response {shape[:1]}, got shape {np.shape(value)}.")
    squares = jnp.diagonal(gram)
    PairGram(squares[:, None], squares, gram).check()
    if is_concrete(gram):
        entries = np.asarray(gram, float)
        if not (inside := abs(entries - entries.T) <= ROUNDOFF * abs(entries).max()).all():
            raise ValueError(
                f"`gram` must be symmetric, got a difference of {first_outside(entries - entries.T, inside)}."
            )


def require_tokens(vocab_size: int, **tokens: Any) -> None:
    """Raise `ValueError` unless these are token ids (or arrays of them) in [0, vocab_size)."""
    for name, value in tokens.items():
        array = real_array(name, value)
        if not jnp.issubdtype(dtype_of(value), jnp.integer):
            raise ValueError(f"`{name}` must be a token id or an array of them, got {describe(value)}.")
        if array is not None and not (inside := (array >= 0) & (array < vocab_size)).all():
            raise ValueError(
                f"`{name}` must be a token id in [0, {vocab_size}), got {first_outside(array, np.asarray(inside))}."
            )


def require_different(**tokens: Any) -> None:
    """Raise `ValueError` where two token ids that should differ are equal."""
    (one, other), (a, b) = tokens, tokens.values()
    if is_concrete(a, b) and (same := np.asarray(a) == np.asarray(b)).any():
        where = f" at index {tuple(int(i) for i in np.argwhere(same)[0])}" if same.ndim else ""
        raise ValueError(f"`{one}` and `{other}` must be different tokens, got the same{where}.")


def require_logits(**logits: Any) -> None:
    """Raise `ValueError` unless these are arrays of finite numbers, over at least 2 tokens along their last axis."""
    for name, value in logits.items():
        real_array(name, value)
        if not np.ndim(value) or np.shape(value)[-1] < 2:
            raise ValueError(f"`{name}` must have an entry for each of 2 tokens or more, got shape {np.shape(value)}.")
        require(REAL, **{name: value})


def require_distributions(**probs: Any) -> None:
    """Raise `ValueError` unless these are arrays of probabilities, of sum 1 along their last axis."""
    require_logits(**probs)
    for name, value in probs.items():
        require(PROBABILITY, **{name: value})
        if is_concrete(value):
            sums = np.asarray(np.asarray(value).sum(axis=-1))
            if not (inside := abs(sums - 1) <= _sum_roundoff(value)).all():
                raise ValueError(f"`{name}` must sum to 1, got a sum of {first_outside(sums, np.asarray(inside))}.")


def require_two_probabilities(**probs: Any) -> None:
    """Raise `ValueError` unless these are probabilities that two different tokens of one context may have."""
    require(PROBABILITY, **probs)
    (one, other), (p, q) = probs, probs.values()
    if is_concrete(p, q):
        sums = np.asarray(np.asarray(p) + np.asarray(q))
        if not (inside := sums <= 1 + max(map(_sum_roundoff, (p, q)))).all():
            raise ValueError(
                f"`{one}` + `{other}` must be at most 1 for two tokens of one context, "
                f"got {first_outside(sums, np.asarray(inside))}."
            )


def _sum_roundoff(probs: Any) -> float:
    return max(SUM_ROUNDOFF, 16 * epsilon_of(probs))


def require_batch(pairs: Any) -> None:
    """Raise `ValueError` unless this is a batch of pairs, of any vocabulary."""
    if not isinstance(pairs, PreferencePairs) or np.ndim(pairs.chosen) != 2:
        raise ValueError(f"`pairs` must be a batch of `PreferencePairs`, got {describe(pairs)}.")
    pairs.check(np.iinfo(np.int32).max)


def pick(values: Float[Array, "*n V"], tokens: Ints) -> Float[Array, "*n"]:
    """The entry of each token; leading axes and those of the tokens are broadcast against one another."""
    values, tokens = jnp.asarray(values), jnp.asarray(tokens)
    shape = jnp.broadcast_shapes(values.shape[:-1], tokens.shape)
    values = jnp.broadcast_to(values, (*shape, values.shape[-1]))
    return jnp.take_along_axis(values, jnp.broadcast_to(tokens, shape)[..., None], axis=-1)[..., 0]
