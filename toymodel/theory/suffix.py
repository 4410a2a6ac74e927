"""Why a shared suffix entangles two responses, and the length beyond which it lowers the chosen one (T6–T8).

A suffix token j is in both responses, after different contexts: the model's distribution is p after the chosen tokens
and q after the rejected ones. All results are for one shared feature vector φ per position.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from toymodel._checks import FROM_ZERO, PROBABILITY, require, require_int
from toymodel._public import own_names
from toymodel.gram import Ints, Scalars
from toymodel.theory._domains import pick, require_distributions, require_tokens, require_two_probabilities
from toymodel.theory.overlap import single_token_gram

__dir__ = own_names(globals())


def suffix_token_bound(p_token: Scalars, q_token: Scalars, feature_sq: Scalars = 1.0) -> Scalars:
    """Lower bound ‖φ‖²(1 − p_j)(1 − q_j) ≥ 0 of the token Gram entry of a shared suffix token j (T6; paper Fig. 4b).

    The bound is reached when p and q put their remaining mass on different tokens.

    Raises:
      ValueError: a probability outside [0, 1], or a negative ‖φ‖².
    """
    require(PROBABILITY, p_token=p_token, q_token=q_token)
    require(FROM_ZERO, feature_sq=feature_sq)
    return feature_sq * (1 - p_token) * (1 - q_token)


def contrast_token_entry(
    probs: Float[Array, "*n V"], chosen: Ints, rejected: Ints, feature_sq: Scalars = 1.0
) -> Scalars:
    """The token Gram entry of the contrast tokens, ‖φ‖²(‖p‖² − p_w − p_l): negative if p_w + p_l ≥ max p (T4, T6).

    Raises:
      ValueError: as for `single_token_gram`.
    """
    return single_token_gram(probs, chosen, rejected, feature_sq).inner


def suffix_slopes(
    p: Float[Array, "*n V"], q: Float[Array, "*n V"], token: Ints, feature_sq: Scalars = 1.0
) -> tuple[Scalars, Scalars]:
    """What one suffix position adds to the slopes of (log π_w, log π_l) for d_w = d_l = 1 (T7).

    It adds ‖φ‖²⟨e_j − p, q − p⟩ to the chosen, and that minus ‖φ‖²‖q − p‖² to the rejected.

    Raises:
      ValueError: no distributions over the same tokens, a token id out of range, or a negative ‖φ‖².
    """
    _check_suffix(p, q, token)
    require(FROM_ZERO, feature_sq=feature_sq)
    towards = q - p
    chosen = feature_sq * (pick(towards, token) - (p * towards).sum(axis=-1))
    return chosen, chosen - feature_sq * (towards**2).sum(axis=-1)


def suffix_direction(p: Float[Array, "*n V"], q: Float[Array, "*n V"], token: Ints) -> Int[Array, "*n"]:
    """−1 if both slopes of `suffix_slopes` must be ≤ 0, +1 if they must be ≥ 0, 0 if p and q do not decide (T7).

    −1: q_j ≤ p_j and q_v ≥ p_v for every other token v. So a suffix token that is less likely after the rejected
    answer, while no other token is, lowers both. +1 is the mirror image. q_j ≤ p_j alone
    says nothing: p = (.2, .79, .01) and q = (.1, .01, .89) raise the chosen. (0 also where p = q: both slopes are 0.)

    Raises:
      ValueError: no distributions over the same tokens, or a token id out of range.
    """
    _check_suffix(p, q, token)
    outward = jnp.where(jnp.arange(p.shape[-1]) == jnp.asarray(token)[..., None], p - q, q - p)
    return (outward <= 0).all(axis=-1).astype(int) - (outward >= 0).all(axis=-1)


def peaked_suffix_slopes(a: Scalars, b: Scalars, vocab_size: int) -> tuple[Scalars, Scalars]:
    """`suffix_slopes` with p_j = a, q_j = b and all other tokens equally likely, ‖φ‖ = 1 (T7).

    −(1−a)(a−b)V/(V−1) and −(1−b)(a−b)V/(V−1): both fall when a > b, both rise when a < b.

    Raises:
      ValueError: a or b is not a probability, or V < 2.
    """
    require_int("vocab_size", vocab_size, low=2)
    require(PROBABILITY, a=a, b=b)
    pull = (a - b) * vocab_size / (vocab_size - 1)
    return -(1 - a) * pull, -(1 - b) * pull


def threshold_length(
    p_chosen: Scalars, p_rejected: Scalars, a: Scalars, b: Scalars, vocab_size: int
) -> Float[Array, "*n"]:
    """L* = (1 − p_w + p_l)(V − 1) / (V(1 − a)(a − b)): more suffix tokens than this and DPO lowers the chosen (T8).

    Features are orthonormal per position (or there is a positional offset). Infinite when a ≤ b or a = 1: no suffix is
    long enough.

    Raises:
      ValueError: p_w, p_l, a or b is not a probability, p_w + p_l > 1, or V < 2.
    """
    require_two_probabilities(p_chosen=p_chosen, p_rejected=p_rejected)
    per_token = jnp.maximum(-jnp.asarray(peaked_suffix_slopes(a, b, vocab_size)[0]), 0)
    return jnp.where(per_token > 0, (1 - p_chosen + p_rejected) / jnp.where(per_token > 0, per_token, 1), jnp.inf)


def _check_suffix(p: Array, q: Array, token: Ints) -> None:
    require_distributions(p=p, q=q)
    if (V := jnp.shape(p)[-1]) != jnp.shape(q)[-1]:
        raise ValueError(f"`q` must be over the {V} tokens of `p`, got {jnp.shape(q)[-1]}.")
    require_tokens(V, token=token)
