"""More than one pair in a step: batches of pairs (T20), groups of signed responses (T21), and their tokens (T25).

A step θ ← θ + η Σ_i A_i g_i over responses 1 … n, with A_i > 0 on those it should raise, moves log π(y_j) with slope
(GA)_j, G the Gram matrix of the gradients. A pair is a group of two with A = (d_w, −d_l); a batch of B pairs a group of
2B; GRPO a group with Σ A_i = 0. The weighted slopes never fall: AᵀGA = ‖Σ A_i g_i‖² ≥ 0. One response may.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from toymodel._checks import REAL, is_boolean, require
from toymodel._public import own_names
from toymodel.data.pairs import PreferencePairs, Response
from toymodel.gram import Scalars
from toymodel.models.linear import LinearSoftmax
from toymodel.models.logps import check_group
from toymodel.theory._domains import (
    require_batch,
    require_distributions,
    require_gram_matrix,
    require_tokens,
    require_w,
)
from toymodel.theory.overlap import masked_residuals, per_pair, response_inner

__dir__ = own_names(globals())


def group_gram(model: LinearSoftmax, params: Float[Array, "V d"], responses: Response) -> Float[Array, "n n"]:
    """⟨∇ log π(y_i), ∇ log π(y_j)⟩ of n responses, from the same token Grams as `pair_gram` (T2, T21).

    Raises:
      ValueError: malformed responses, tokens outside the model's vocabulary, non-finite parameters.
    """
    require_w(model, params)
    check_group(model, params, responses)
    return _group_gram(model, params, responses)


def group_slopes(gram: Float[Array, "n n"], advantages: Float[Array, " n"]) -> Float[Array, " n"]:
    """d/dη of log π(y_j), each response j, under Σ_i A_i g_i: G A, in nats per unit of learning rate (T21).

    Raises:
      ValueError: no Gram matrix, or advantages that are not finite or not one per response.
    """
    require_gram_matrix(gram, advantages=advantages)
    return gram @ advantages


def group_token_slopes(
    model: LinearSoftmax, params: Float[Array, "V d"], responses: Response, advantages: Float[Array, " n"]
) -> Float[Array, "n T"]:
    """d/dη of log p of every token under Σ_i A_i g_i: s_itᵀ U φ_it, U = Σ_i A_i Σ_t s_it φ_itᵀ the step (T25).

    In nats per unit of learning rate; zero at padding. The sums over tokens are `group_slopes`.

    Raises:
      ValueError: as for `group_gram`, or there is not one advantage per response.
    """
    require_w(model, params)
    check_group(model, params, responses)
    require(REAL, advantages=advantages)
    if jnp.shape(advantages) != (n := responses.tokens.shape[:1]):
        raise ValueError(f"`advantages` must be one number per response {n}, got shape {jnp.shape(advantages)}.")
    return _group_token_slopes(model, params, responses, advantages)


def displaced(gram: Float[Array, "n n"], advantages: Float[Array, " n"]) -> Bool[Array, " n"]:
    """Which responses fall although their weight is positive (T21; "lazy likelihood displacement").

    Response j falls if A_j > 0 and Σ_{A_i<0} |A_i| G_ji > Σ_{A_i>0} A_i G_ji: responses of the other sign pull harder
    than those of the same sign.

    Raises:
      ValueError: as for `group_slopes`.
    """
    require_gram_matrix(gram, advantages=advantages)
    raised, lowered = jnp.maximum(advantages, 0), jnp.maximum(-advantages, 0)
    return (advantages > 0) & (gram @ lowered > gram @ raised)


def as_group(
    pairs: PreferencePairs, d_chosen: Scalars = 1.0, d_rejected: Scalars = 1.0
) -> tuple[Response, Float[Array, " 2*n"]]:
    """A batch of B pairs as a group: B chosen, then B rejected responses, A = (d_w/B, −d_l/B): the mean step (T20).

    Raises:
      ValueError: no batch of pairs; a weight is not finite, or neither one number nor one per pair.
    """
    require_batch(pairs)
    B, both = len(pairs), pairs.both_responses
    responses: Response = jax.tree.map(lambda leaf: leaf.reshape(2 * B, leaf.shape[-1]), both)
    d_w, d_l = per_pair("d_chosen", d_chosen, B), per_pair("d_rejected", d_rejected, B)
    return responses, jnp.concatenate([d_w, -d_l]) / B


def token_credit(
    probs: Float[Array, "*n V"], tokens: Int[Array, " n"], advantages: Float[Array, " n"]
) -> Float[Array, " V"]:
    """(1/n) Σ_i A_i (e_{y_i} − p_i): the part of a group's mean step on the logits at the place of n tokens (T25).

    It is Cov(A, e_y − p) + mean(A)(p̂ − p̄), p̂ the frequencies of the tokens and p̄ the mean of the p_i. In one context
    p drops out of the covariance: for Σ A = 0 a token that all responses have there gets nothing. After prefixes that
    differ it gets −Cov(A, p). Weights 1/|y_i| turn A into A/|y|, whose mean is not 0: in one context a token that all
    have then gets Cov(A, 1/|y|)(e_j − p).

    Args:
      probs: p_i of each response, or [V] of the context that they share.
      tokens: y_i.
      advantages: A_i.

    Raises:
      ValueError: there are not as many advantages, or rows of `probs`, as tokens; no distributions, token ids out of
        range, or an advantage that is not finite.
    """
    require_distributions(probs=probs)
    require(REAL, advantages=advantages)
    require_tokens(probs.shape[-1], tokens=tokens)
    if jnp.ndim(tokens) != 1:
        raise ValueError(f"`tokens` must have shape [n], got {jnp.shape(tokens)}.")
    n, V = len(tokens), probs.shape[-1]
    if jnp.shape(advantages) != (n,):
        raise ValueError(f"`advantages` must be one number per token ({n}), got shape {jnp.shape(advantages)}.")
    if probs.shape not in ((V,), (n, V)):
        raise ValueError(f"`probs` must be one distribution, or one per token ({n}), got shape {probs.shape}.")
    residuals = jax.nn.one_hot(tokens, V, dtype=probs.dtype) - probs
    mean, mean_residual = advantages.mean(), residuals.mean(axis=0)
    return (advantages - mean) @ (residuals - mean_residual) / n + mean * mean_residual


def normalised_advantages(rewards: Float[Array, "*n group"]) -> Float[Array, "*n group"]:
    """(r − mean)/std over each group, std that of the population: GRPO's advantages, which sum to zero (T21).

    Zero if all rewards of a group are equal: such a group teaches nothing. (Implementations that divide by std + ε, or
    by the sample's std, differ by one factor per group, which does not change the sign of any slope.)

    Raises:
      ValueError: rewards that are not finite, or no group.
    """
    rewards = jnp.asarray(rewards, float) if is_boolean(rewards) else rewards
    require(REAL, rewards=rewards)
    if not jnp.ndim(rewards) or not jnp.size(rewards):
        raise ValueError(f"`rewards` must hold at least one group, [*n, group], got shape {jnp.shape(rewards)}.")
    rewards = jnp.asarray(rewards, float)
    centred = rewards - rewards.mean(axis=-1, keepdims=True)
    # Compare rewards to find equal ones: their mean may round away from them, and 1e-17/1e-17 is not zero.
    differ = (rewards != rewards[..., :1]).any(axis=-1, keepdims=True)
    return jnp.where(differ, centred / jnp.where(differ, jnp.sqrt((centred**2).mean(axis=-1, keepdims=True)), 1), 0)


@jax.jit
def _group_token_slopes(model: LinearSoftmax, params: Array, responses: Response, advantages: Array) -> Array:
    states = jax.vmap(model.states, in_axes=(None, 0))(params, responses)
    s = jax.vmap(masked_residuals)(states)
    step = jnp.einsum("n,ntv,ntd->vd", advantages, s, states.features)
    return jnp.einsum("ntv,vd,ntd->nt", s, step, states.features)


@jax.jit
def _group_gram(model: LinearSoftmax, params: Array, responses: Response) -> Array:
    states = jax.vmap(model.states, in_axes=(None, 0))(params, responses)
    row = jax.vmap(response_inner, in_axes=(None, 0))
    return jax.vmap(row, in_axes=(0, None))(states, states)
