"""The suffix length beyond which a batch of pairs lowers its chosen answers: the crowd's threshold (T22).

Each pair has one contrast token, then n suffix tokens (T8), and takes part in the mean step over B pairs with equal
weights. Half of the pairs prefer one word, half the other. So the effects of their labels partly cancel, while those of
their suffixes add up, and a batch lowers its chosen answers at a suffix with which each pair alone would raise its own.

The model is linear softmax; `toymodel.models.crowd` builds it, and defines the cosines. Slopes are for d = 1.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from toymodel._checks import FROM_ZERO, describe, require, require_int
from toymodel._public import own_names
from toymodel.gram import Scalars
from toymodel.models.crowd import Cosines
from toymodel.theory.overlap import single_token_slopes
from toymodel.theory.suffix import peaked_suffix_slopes, threshold_length

__dir__ = own_names(globals())


def crowd_shares(cosines: Cosines, batch_size: int | None = None) -> tuple[Scalars, Scalars]:
    """The shares of a lone pair's label slope and suffix slope that are left in a batch (T22).

    Label: [1 + ρ_s(B/2 − 1) − ρ_d B/2]/B. Suffix: [1 + ρ_ψ(B − 1)]/B.

    Args:
      cosines: between the contexts of two different pairs.
      batch_size: B, even. 1 is a pair alone, both shares are 1 and T22 is T8. None is a pair outside a batch of any
        even size, and also the limit of large batches: (ρ_s − ρ_d)/2 and ρ_ψ.

    Raises:
      ValueError: B is odd and not 1, or B pairs cannot have these cosines.
    """
    if batch_size is not None:
        require_int("batch_size", batch_size, low=1)
        if batch_size > 1 and batch_size % 2:
            raise ValueError(f"`batch_size` must be even, as half of the pairs prefer each word, got {batch_size}.")
    if not isinstance(cosines, Cosines):
        raise ValueError(f"`cosines` must be `Cosines`, got {describe(cosines)}.")
    cosines.check(batch_size)
    if batch_size is None:
        return (cosines.same - cosines.different) / 2, cosines.suffix
    if batch_size == 1:
        return 1.0, 1.0
    half = batch_size / 2
    label = 1 + cosines.same * (half - 1) - cosines.different * half
    return label / batch_size, (1 + cosines.suffix * (batch_size - 1)) / batch_size


def crowd_slopes(
    p_chosen: Scalars,
    p_rejected: Scalars,
    a: Scalars,
    b: Scalars,
    vocab_size: int,
    suffix_length: Scalars,
    cosines: Cosines,
    batch_size: int | None = None,
) -> tuple[Float[Array, "*n"], Float[Array, "*n"]]:
    """d/dη of (log π_w, log π_l) of each pair under the batch's mean step, in nats per unit of learning rate (T22).

    The contrast token's slopes (T4) by the label's share, and n times a suffix token's (T7) by the suffix's share.
    `batch_size` is that of `crowd_shares`: None for a pair outside the batch.

    Raises:
      ValueError: as for `crowd_shares`; a probability outside [0, 1], or p_w + p_l > 1; V < 2; n < 0.
    """
    require(FROM_ZERO, suffix_length=suffix_length)
    label, suffix = crowd_shares(cosines, batch_size)
    contrast, token = single_token_slopes(p_chosen, p_rejected), peaked_suffix_slopes(a, b, vocab_size)
    chosen, rejected = (
        jnp.asarray(one * label + suffix_length * each * suffix) for one, each in zip(contrast, token, strict=True)
    )
    return chosen, rejected


def crowd_threshold(
    p_chosen: Scalars,
    p_rejected: Scalars,
    a: Scalars,
    b: Scalars,
    vocab_size: int,
    cosines: Cosines,
    batch_size: int | None = None,
) -> Float[Array, "*n"]:
    """L*_B = L* · [1 + ρ_s(B/2 − 1) − ρ_d B/2] / [1 + ρ_ψ(B − 1)]: more suffix tokens, and every chosen falls (T22).

    For `batch_size` None it is L*(ρ_s − ρ_d)/(2ρ_ψ), of a pair outside the batch. Infinite where no suffix is long
    enough: L* is infinite (a ≤ b or a = 1), or the suffixes cancel, as at ρ_ψ = 0 for a pair outside.

    Raises:
      ValueError: as for `crowd_shares`; a probability outside [0, 1], or p_w + p_l > 1; V < 2.
    """
    label, suffix = map(jnp.asarray, crowd_shares(cosines, batch_size))
    alone = threshold_length(p_chosen, p_rejected, a, b, vocab_size)
    reached = jnp.isfinite(alone) & (suffix > 0)
    return jnp.where(reached, jnp.where(reached, alone, 0) * label / jnp.where(reached, suffix, 1), jnp.inf)
