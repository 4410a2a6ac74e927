"""Inner products of log-probability gradients from shared tokens (T1–T5), in closed form for linear softmax models.

With z(c) = z⁰(c) + W φ(c), the gradient of token i is s_i φ_i^⊤, where s_i = e_{y^i} − p_i is the residual (T1). So
every inner product is ⟨φ_i, φ′_j⟩⟨s_i, s′_j⟩ (T2): O(T²(V + d)) per pair, and no gradient is ever built.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from toymodel._checks import FROM_ZERO, REAL, Domain, is_concrete, require
from toymodel._public import own_names
from toymodel.data.pairs import PreferencePairs
from toymodel.gram import Ints, PairGram, Scalars
from toymodel.models.linear import LinearSoftmax, LinearStates
from toymodel.theory._domains import (
    pick,
    require_different,
    require_distributions,
    require_linear,
    require_logits,
    require_tokens,
    require_two_probabilities,
)

__dir__ = own_names(globals())


def residuals(logits: Float[Array, "T V"], tokens: Int[Array, " T"]) -> Float[Array, "T V"]:
    """s_i = e_{y^i} − softmax(z_i), the gradient of log p(y^i) in its logits (T1).

    The entry at y is summed, Σ_{v≠y} p_v, not subtracted, 1 − p_y: it keeps its digits when p_y → 1.

    Raises:
      ValueError: logits that are not finite, or token ids out of range.
    """
    require_logits(logits=logits)
    require_tokens(logits.shape[-1], tokens=tokens)
    here = jax.nn.one_hot(tokens, logits.shape[-1], dtype=logits.dtype)
    others = jax.nn.softmax(logits) * (1 - here)
    return here * others.sum(axis=-1, keepdims=True) - others


def masked_residuals(states: LinearStates) -> Float[Array, "T V"]:
    """The residuals of one response; zero at padding."""
    return residuals(states.logits, states.tokens) * states.mask[:, None]


def pair_states(
    model: LinearSoftmax, params: Float[Array, "V d"], pair: PreferencePairs
) -> tuple[LinearStates, LinearStates]:
    """States of the model while it reads the chosen and the rejected response of one pair."""
    return model.states(params, pair.chosen_response), model.states(params, pair.rejected_response)


def response_inner(one: LinearStates, other: LinearStates) -> Float[Array, ""]:
    """⟨∇ log π(y|x), ∇ log π(y′|x′)⟩ of two responses: the sum of their token Gram (T2)."""
    return _gram_matrix(one, other).sum()


def per_pair(name: str, value: Scalars, n: int) -> Float[Array, " n"]:
    """Broadcast a number, or one number per pair, to an array over n pairs; raise `ValueError` when it is neither."""
    require(REAL, **{name: value})
    if jnp.shape(value) not in ((), (n,)):
        raise ValueError(f"`{name}` must be one number or one per pair ({n}), got shape {jnp.shape(value)}.")
    return jnp.broadcast_to(jnp.asarray(value, float), n)


def token_gram(model: LinearSoftmax, params: Float[Array, "V d"], pair: PreferencePairs) -> Float[Array, "T_w T_l"]:
    """⟨∇ log p(y_w^i), ∇ log p(y_l^j)⟩ = ⟨φ_i, φ′_j⟩⟨s_i, s′_j⟩ for one pair (T2); zero at padding.

    Raises:
      ValueError: another model, malformed pairs, tokens outside its vocabulary, or parameters that are not finite.
    """
    require_linear(model, params, pair, one_pair=True)
    return _token_gram(model, params, pair)


def pair_gram(model: LinearSoftmax, params: Float[Array, "V d"], pairs: PreferencePairs) -> PairGram:
    """Both squared norms and the inner product of each pair: sums of token Grams (T2).

    Raises:
      ValueError: as for `token_gram`.
    """
    require_linear(model, params, pairs)
    return _pair_gram(model, params, pairs)


def kernel_token_gram(
    kernel: Float[Array, "T_w T_l V V"],
    chosen_residuals: Float[Array, "T_w V"],
    rejected_residuals: Float[Array, "T_l V"],
) -> Float[Array, "T_w T_l"]:
    """⟨∇ log p(y_w^i), ∇ log p(y_l^j)⟩ = s_iᵀ K(c_i, c′_j) s′_j, for the tangent kernel K of any model's logits (T2).

    Raises:
      ValueError: the shapes do not belong together, or a number is not finite.
    """
    require_logits(kernel=kernel, chosen_residuals=chosen_residuals, rejected_residuals=rejected_residuals)
    wanted = (len(chosen_residuals), len(rejected_residuals), chosen_residuals.shape[-1], rejected_residuals.shape[-1])
    if kernel.shape != wanted:
        raise ValueError(f"`kernel` must have the shape {wanted} for these residuals, got {kernel.shape}.")
    return jnp.einsum("iv,ijvu,ju->ij", chosen_residuals, kernel, rejected_residuals)


def tabular_inner(model: LinearSoftmax, params: Float[Array, "V d"], pairs: PreferencePairs) -> Float[Array, " n"]:
    """⟨g_w, g_l⟩ of a tabular model, counted over shared contexts (T3: "the more tokens they share, the larger").

    Σ over (i, j) with c_i = c′_j of  1[y_w^i = y_l^j] − p(y_w^i) − p(y_l^j) + ‖p‖².

    Raises:
      ValueError: the model is not tabular (one-hot features, no frozen logits), or as for `pair_gram`.
    """
    require_linear(model, params, pairs)
    if not model.tabular:
        raise ValueError("`model` must be tabular (unigram, positional, bigram or prefix) to count shared contexts.")

    return _tabular_inner(model, params, pairs)


def uniform_positional_inner(matches: Scalars, length: Scalars, vocab_size: Scalars) -> Float[Array, "*n"]:
    """⟨g_w, g_l⟩ = k − L/V: positional model, uniform p, k of L positions agree (T3).

    Raises:
      ValueError: numbers that are not whole, k > L, L < 1 or V < 2.
    """
    require(_counts(0), matches=matches)
    require(_counts(1), length=length)
    require(_counts(2), vocab_size=vocab_size)
    if is_concrete(matches, length) and not np.all(np.asarray(matches) <= np.asarray(length)):
        raise ValueError(f"`matches` must be at most `length`, got {matches} and {length}.")
    return jnp.asarray(matches - length / vocab_size)


def uniform_positional_cosine(matches: Scalars, length: Scalars, vocab_size: Scalars) -> Float[Array, "*n"]:
    """cos = (k − L/V) / (L(1 − 1/V)): positional model, uniform p, k of L positions agree (T3).

    Raises:
      ValueError: as for `uniform_positional_inner`.
    """
    return uniform_positional_inner(matches, length, vocab_size) / (length * (1 - 1 / vocab_size))


def uniform_unigram_inner(chosen_counts: Float[Array, "*n V"], rejected_counts: Float[Array, "*n V"]) -> Array:
    """⟨g_w, g_l⟩ = Σ_v n_w(v) n_l(v) − L_w L_l / V: unigram model, uniform p, n(v) occurrences of token v (T3).

    Raises:
      ValueError: counts that are not whole, negative, or of fewer than 2 tokens or of different numbers of them.
    """
    require_logits(chosen_counts=chosen_counts, rejected_counts=rejected_counts)
    require(_counts(0), chosen_counts=chosen_counts, rejected_counts=rejected_counts)
    if (V := jnp.shape(chosen_counts)[-1]) != jnp.shape(rejected_counts)[-1]:
        raise ValueError(f"`rejected_counts` must have {V} entries per response, got {jnp.shape(rejected_counts)[-1]}.")
    lengths = chosen_counts.sum(axis=-1) * rejected_counts.sum(axis=-1)
    return (chosen_counts * rejected_counts).sum(axis=-1) - lengths / chosen_counts.shape[-1]


def replacement_increment(p_chosen: Scalars, p_old: Scalars) -> Scalars:
    """1 − p(y_w) + p(old) > 0: what ⟨g_w, g_l⟩ gains when a rejected token becomes the chosen one (T3).

    It holds at a shared context that occurs once in the chosen response, as in a positional model.

    Raises:
      ValueError: a probability outside [0, 1], or two of sum > 1.
    """
    require_two_probabilities(p_chosen=p_chosen, p_old=p_old)
    return 1 - p_chosen + p_old


def single_token_gram(probs: Float[Array, "*n V"], chosen: Ints, rejected: Ints, feature_sq: Scalars = 1.0) -> PairGram:
    """The Gram entries of two responses of one token each in the same context with ‖φ‖² = `feature_sq` (T4).

    Raises:
      ValueError: no distribution, token ids out of range or equal, or a negative ‖φ‖².
    """
    require_distributions(probs=probs)
    require_tokens(probs.shape[-1], chosen=chosen, rejected=rejected)
    require_different(chosen=chosen, rejected=rejected)
    require(FROM_ZERO, feature_sq=feature_sq)
    sq, p_w, p_l = (probs**2).sum(axis=-1), pick(probs, chosen), pick(probs, rejected)
    return PairGram(feature_sq * (1 - 2 * p_w + sq), feature_sq * (1 - 2 * p_l + sq), feature_sq * (sq - p_w - p_l))


def single_token_slopes(p_chosen: Scalars, p_rejected: Scalars, feature_sq: Scalars = 1.0) -> tuple[Scalars, Scalars]:
    """Slopes of (log π_w, log π_l) for d_w = d_l = 1 and one differing token: DPO always separates here (T4).

    ‖φ‖²(1 − p_w + p_l) > 0 and −‖φ‖²(1 − p_l + p_w) < 0.

    Raises:
      ValueError: a probability outside [0, 1], two of sum > 1, or a negative ‖φ‖².
    """
    require_two_probabilities(p_chosen=p_chosen, p_rejected=p_rejected)
    require(FROM_ZERO, feature_sq=feature_sq)
    return feature_sq * (1 - p_chosen + p_rejected), -feature_sq * (1 - p_rejected + p_chosen)


def contrast_gram(model: LinearSoftmax, params: Float[Array, "V d"], pairs: PreferencePairs) -> PairGram:
    """Gram entries without the positions that have the same context and token in both responses (T5).

    Those positions drop out of g_w − g_l, so ‖g_w − g_l‖² is that of the whole pair. Where their contexts are
    orthogonal to all others (prefix and positional models), so are both slopes for d_w = d_l.

    Raises:
      ValueError: as for `token_gram`.
    """
    require_linear(model, params, pairs)

    return _contrast_gram(model, params, pairs)


def _counts(low: int) -> Domain:
    return Domain(f"a whole number >= {low}", lambda x: (x >= low) & (x == np.floor(x)))


@jax.jit
def _token_gram(model: LinearSoftmax, params: Array, pair: PreferencePairs) -> Array:
    return _gram_matrix(*pair_states(model, params, pair))


@jax.jit
def _pair_gram(model: LinearSoftmax, params: Array, pairs: PreferencePairs) -> PairGram:
    return jax.vmap(lambda pair: _summed_gram(*pair_states(model, params, pair)))(pairs)


@jax.jit
def _tabular_inner(model: LinearSoftmax, params: Array, pairs: PreferencePairs) -> Array:
    def one(pair: PreferencePairs) -> Array:
        chosen, rejected = pair_states(model, params, pair)
        p = jax.nn.softmax(chosen.logits)
        same_token = chosen.tokens[:, None] == rejected.tokens
        summand = (
            same_token
            - jnp.take_along_axis(p, chosen.tokens[:, None], axis=1)
            - p[:, rejected.tokens]
            + (p**2).sum(axis=1, keepdims=True)
        )
        same_context = chosen.features @ rejected.features.T  # 0 or 1, for one-hot features; 0 for a prefix never seen
        return (same_context * summand * chosen.mask[:, None] * rejected.mask).sum()

    return jax.vmap(one)(pairs)


@jax.jit
def _contrast_gram(model: LinearSoftmax, params: Array, pairs: PreferencePairs) -> PairGram:
    def one(pair: PreferencePairs) -> PairGram:
        chosen, rejected = pair_states(model, params, pair)
        T = min(chosen.tokens.size, rejected.tokens.size)
        shared = jnp.diagonal(_same_context(chosen, rejected)) & (chosen.tokens[:T] == rejected.tokens[:T])
        return _summed_gram(
            chosen._replace(mask=chosen.mask.at[:T].min(~shared)),
            rejected._replace(mask=rejected.mask.at[:T].min(~shared)),
        )

    return jax.vmap(one)(pairs)


def _gram_matrix(one: LinearStates, other: LinearStates) -> Float[Array, "T T2"]:
    s, s_other = masked_residuals(one), masked_residuals(other)
    return (one.features @ other.features.T) * (s @ s_other.T)


def _summed_gram(chosen: LinearStates, rejected: LinearStates) -> PairGram:
    return PairGram(
        response_inner(chosen, chosen), response_inner(rejected, rejected), response_inner(chosen, rejected)
    )


def _same_context(chosen: LinearStates, rejected: LinearStates) -> Bool[Array, "T_w T_l"]:
    same = chosen.contexts[:, None] == rejected.contexts
    return same & chosen.mask[:, None] & rejected.mask
