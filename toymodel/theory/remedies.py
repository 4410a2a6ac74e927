"""What remedies do to the gradient condition (T17–T19), as algebra on Gram entries.

Paper                                       Here                 Meaning
pairwise normalised gradient descent        `normalised_slopes`  a step along g_w/‖g_w‖ − g_l/‖g_l‖
                                            `balanced_weights`   the same direction, as weights on g_w and g_l
sparsity-regularised token masking          `masked_gram`        log π(y) becomes Σ_i u_i log p(y^i)
usual likelihood term                       `likelihood_window`  the λ for which an added λ log π_w separates the pair

The paper names the first two remedies but gives no code: the code here is our reading of them. All of it is elementwise
over pairs; nothing is differentiated.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from toymodel._checks import ABOVE_ZERO, REAL, require
from toymodel._public import own_names
from toymodel.data.pairs import PreferencePairs
from toymodel.gram import PairGram, Scalars, require_gram
from toymodel.models.linear import LinearSoftmax
from toymodel.theory._domains import require_linear
from toymodel.theory.condition import Band
from toymodel.theory.overlap import pair_states, response_inner

__dir__ = own_names(globals())


def normalised_slopes(gram: PairGram) -> tuple[Float[Array, "*n"], Float[Array, "*n"]]:
    """Slopes of (log π_w, log π_l) along g_w/‖g_w‖ − g_l/‖g_l‖: ‖g_w‖(1 − cos) ≥ 0 and −‖g_l‖(1 − cos) ≤ 0 (T17).

    In nats per unit of learning rate. NaN where a gradient is zero, for it has no direction. The step is one pair's
    own; the mean of several such directions guarantees nothing for any of their pairs.

    Raises:
      ValueError: no two vectors have this `gram`.
    """
    require_gram(gram)
    gram = _blank_zero_gradients(gram)
    chosen, rejected = jnp.sqrt(gram.chosen_sq), jnp.sqrt(gram.rejected_sq)
    apart = 1 - gram.inner / chosen / rejected  # 1 − cos
    return chosen * apart, -rejected * apart


def balanced_weights(
    gram: PairGram, d_chosen: Scalars = 1.0, d_rejected: Scalars = 1.0
) -> tuple[Float[Array, "*n"], Float[Array, "*n"]]:
    """Weights (d_w′, d_l′) = √(d_w d_l)·(√r*, 1/√r*), r* = ‖g_l‖/‖g_w‖: same product, at the band's centre (T11, T17).

    d_w′g_w − d_l′g_l is the normalised direction of T17 times √(d_w d_l ‖g_w‖‖g_l‖). NaN where a gradient is zero.

    Raises:
      ValueError: no two vectors have this `gram`, or a weight is not positive.
    """
    require_gram(gram)
    require(ABOVE_ZERO, d_chosen=d_chosen, d_rejected=d_rejected)
    gram = _blank_zero_gradients(gram)
    both = jnp.sqrt(d_chosen) * jnp.sqrt(d_rejected)
    root = jnp.sqrt(jnp.sqrt(gram.rejected_sq) / jnp.sqrt(gram.chosen_sq))  # of r*
    return both * root, both / root


def likelihood_window(gram: PairGram, d: Scalars = 1.0) -> Band:
    """The open interval of λ for which adding −λ log π_w to a loss with d_w = d_l = d separates the pair (T19).

    low = d(⟨g_w, g_l⟩/‖g_w‖² − 1), and high = d(‖g_l‖²/⟨g_w, g_l⟩ − 1) if ⟨g_w, g_l⟩ > 0, else ∞. Exact for every real
    λ, also below −d, where d_w turns negative. If low < 0 < high, the pair needs no likelihood term. If
    high ≤ 0, that is ‖g_l‖² ≤ ⟨g_w, g_l⟩, no λ ≥ 0 helps. Beyond high the term raises the rejected as well.
    The length is d·r*(1/cos − cos), which is 0 if the gradients are parallel. NaN where a gradient is zero.

    Raises:
      ValueError: no two vectors have this `gram`, or `d` is not positive.
    """
    require_gram(gram)
    require(ABOVE_ZERO, d=d)
    chosen_sq, rejected_sq, inner = _blank_zero_gradients(gram)
    return Band(d * (inner / chosen_sq - 1), jnp.where(inner <= 0, jnp.inf, d * (rejected_sq / inner - 1)))


def masked_gram(
    model: LinearSoftmax,
    params: Float[Array, "V d"],
    pairs: PreferencePairs,
    chosen_weights: Float[Array, "n T_w"],
    rejected_weights: Float[Array, "n T_l"],
) -> PairGram:
    """Gram entries of Σ_i u_i ∇ log p(y^i), each pair's responses with weights u on their tokens (T18).

    They are sums over the token Grams of `pair_gram` (T2), and equal it for u = 1. A mask that leaves one contrast
    token, in a context that both responses share, gives T4's pair. The entries describe the masked sums, which the loss
    sees. Tokens that are masked out still move with the parameters, and log π(y) with them.

    Args:
      model: a linear softmax model, with its learned `params`.
      pairs: a batch.
      chosen_weights: u for the chosen tokens, usually in [0, 1]; ignored at padding.
      rejected_weights: the same for the rejected tokens.

    Raises:
      ValueError: as for `pair_gram`, or weights that are not finite or not one per token.
    """
    require_linear(model, params, pairs)
    u_w = _check_token_weights("chosen_weights", chosen_weights, pairs.chosen_mask)
    u_l = _check_token_weights("rejected_weights", rejected_weights, pairs.rejected_mask)
    return _masked_gram(model, params, pairs, u_w.astype(params.dtype), u_l.astype(params.dtype))


@jax.jit
def _masked_gram(model: LinearSoftmax, params: Array, pairs: PreferencePairs, u_w: Array, u_l: Array) -> PairGram:
    def one(pair: PreferencePairs, u_w: Array, u_l: Array) -> PairGram:
        chosen, rejected = pair_states(model, params, pair)
        chosen = chosen._replace(mask=chosen.mask * u_w)  # each residual is multiplied by its mask
        rejected = rejected._replace(mask=rejected.mask * u_l)
        return PairGram(
            response_inner(chosen, chosen), response_inner(rejected, rejected), response_inner(chosen, rejected)
        )

    return jax.vmap(one)(pairs, u_w, u_l)


def _blank_zero_gradients(gram: PairGram) -> PairGram:
    """The same entries, NaN where a gradient is zero."""
    some = (gram.chosen_sq > 0) & (gram.rejected_sq > 0)
    return PairGram(*(jnp.where(some, entry, jnp.nan) for entry in gram))


def _check_token_weights(name: str, weights: Float[Array, "n T"], mask: Bool[Array, "n T"]) -> Float[Array, "n T"]:
    require(REAL, **{name: weights})
    if jnp.shape(weights) != mask.shape:
        raise ValueError(f"`{name}` must be one number per token {mask.shape}, got shape {jnp.shape(weights)}.")
    return jnp.asarray(weights)
