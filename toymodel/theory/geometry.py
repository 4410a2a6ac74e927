"""Entanglement depends on the geometry in which gradients are compared (T27).

In one softmax, log p(y) has the gradient e_y − p in the logits, and the Fisher matrix F = diag(p) − ppᵀ. In Fisher's
geometry, that of natural gradient, two different tokens always have a negative cosine; in Euclid's it may have any
sign (T4). A diagonal preconditioner 1/p gives the same numbers, as it inverts F on vectors whose entries sum to zero.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from toymodel._checks import Domain, require
from toymodel._public import own_names
from toymodel.gram import Ints, PairGram, Scalars
from toymodel.theory._domains import (
    pick,
    require_different,
    require_distributions,
    require_tokens,
    require_two_probabilities,
)

__dir__ = own_names(globals())

_SOME = Domain("in (0, 1]", lambda p: (p > 0) & (p <= 1))


def fisher_inner(probs: Float[Array, "*n V"], one: Ints, other: Ints) -> Float[Array, "*n"]:
    """⟨e_j − p, F⁺(e_k − p)⟩ = δ_jk/p_j − 1, F⁺ the Fisher matrix's pseudo-inverse (T27).

    −1 for two different tokens, at any probabilities; 1/p_j − 1 ≥ 0 for a token with itself.

    Raises:
      ValueError: a probability is not in (0, 1], their sum is not 1, or a token id is out of range.
    """
    require(_SOME, probs=probs)
    require_distributions(probs=probs)
    require_tokens(probs.shape[-1], one=one, other=other)
    same = jnp.asarray(one) == jnp.asarray(other)
    return jnp.where(same, 1 / pick(probs, one), 0) - 1


def fisher_gram(probs: Float[Array, "*n V"], chosen: Ints, rejected: Ints) -> PairGram:
    """Fisher's Gram entries of a pair of one token each: `slopes` of them are those of a natural-gradient step (T27).

    For equal weights d these are d/p_w and −d/p_l: the pair is separated at every p.

    Raises:
      ValueError: as for `fisher_inner`, or the two tokens are equal.
    """
    require_distributions(probs=probs)
    require_tokens(probs.shape[-1], chosen=chosen, rejected=rejected)
    require_different(chosen=chosen, rejected=rejected)
    sides = ((chosen, chosen), (rejected, rejected), (chosen, rejected))
    return PairGram(*(fisher_inner(probs, one, other) for one, other in sides))


def fisher_cosine(p_chosen: Scalars, p_rejected: Scalars) -> Float[Array, "*n"]:
    """−1/√((1/p_w − 1)(1/p_l − 1)), the cosine of two different tokens: below 0 always, −1 for p_w + p_l = 1 (T27).

    NaN where a token is certain: its gradient is zero.

    Raises:
      ValueError: a probability is not in (0, 1], or p_w + p_l > 1.
    """
    require_two_probabilities(p_chosen=p_chosen, p_rejected=p_rejected)
    require(_SOME, p_chosen=p_chosen, p_rejected=p_rejected)
    return -jnp.sqrt(jnp.asarray(_odds(p_chosen))) * jnp.sqrt(_odds(p_rejected))


def _odds(p: Scalars) -> Float[Array, "*n"]:
    certain = jnp.asarray(p) == 1
    return jnp.where(certain, jnp.nan, p / jnp.where(certain, 1, 1 - jnp.asarray(p)))
