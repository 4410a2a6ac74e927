"""Where the probability goes: one softmax whose token is pushed down (T15), and hidden states that learn too (T16)."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from toymodel._checks import ABOVE_ZERO, REAL, require
from toymodel._public import own_names
from toymodel.gram import Ints, Scalars
from toymodel.theory._domains import require_different, require_logits, require_tokens
from toymodel.theory.finite_step import log_mean_exp
from toymodel.theory.overlap import residuals

__dir__ = own_names(globals())


def squeeze(logits: Float[Array, " V"], token: Ints, eta: Scalars) -> Float[Array, " V"]:
    """Log-probabilities after one step of *ascent* on the loss of a token, z ← z − η(e_y − p) (T15; arXiv 2407.10490).

    At every η > 0 that token falls and the likeliest other one rises; of the rest, `squeeze_threshold` says which.

    Raises:
      ValueError: η is not positive and finite, the token id is out of range, or a logit is not finite.
    """
    _check_push(logits, token, eta)
    return jax.nn.log_softmax(logits - eta * residuals(logits, jnp.asarray(token)))


def squeeze_threshold(logits: Float[Array, " V"], token: Ints, eta: Scalars) -> Float[Array, ""]:
    """(1/η) log E_p e^{−η(e_y − p)}: another token v falls in `squeeze` iff p_v is below this (T15).

    The threshold grows with η, from ‖p‖² − p_y towards the probability of the likeliest other token: a larger step
    lifts fewer tokens.

    Raises:
      ValueError: as for `squeeze`.
    """
    _check_push(logits, token, eta)
    return log_mean_exp(logits, -eta * residuals(logits, jnp.asarray(token))) / eta


def token_slopes(
    head: Float[Array, "V d"], hidden: Float[Array, " d"], chosen: Ints, rejected: Ints
) -> Float[Array, " V"]:
    """d/dη of log π(z), every token z, under g_w − g_l of one token with W and h both trained (T16; arXiv 2410.08847).

    The logits W h move by (e_w − e_l)‖h‖² + W(W_w − W_l). For z other than w and l the slope is ⟨W_z, W_w − W_l⟩
    plus a constant: mass goes to tokens z with W_z along W_w − W_l, and may leave the chosen token too. Nats per unit
    of learning rate.

    Raises:
      ValueError: shapes that do not match, token ids out of range or equal, or numbers that are not finite.
    """
    require(REAL, head=head, hidden=hidden)
    if jnp.ndim(head) != 2 or len(head) < 2 or jnp.shape(hidden) != jnp.shape(head)[1:]:
        raise ValueError(
            f"`head` must have shape [V, d], V >= 2, and `hidden` [d], got {jnp.shape(head)} and {jnp.shape(hidden)}."
        )
    require_tokens(len(head), chosen=chosen, rejected=rejected)
    require_different(chosen=chosen, rejected=rejected)
    tokens = jnp.arange(head.shape[0])
    towards = (tokens == chosen).astype(head.dtype) - (tokens == rejected)
    velocity = towards * (hidden**2).sum() + head @ (head[chosen] - head[rejected])
    return velocity - jax.nn.softmax(head @ hidden) @ velocity


def ches(chosen_hidden: Float[Array, "*n T_w d"], rejected_hidden: Float[Array, "*n T_l d"]) -> Float[Array, "*n"]:
    """⟨Σ h_w, Σ h_l⟩ − ‖Σ h_w‖² over the hidden states before each token: the CHES score (T16; arXiv 2410.08847).

    A large score predicts displacement: it is minus the slope of the chosen with every ⟨s_i, s_j⟩ set to 1. Rows of
    padding must be zero.

    Raises:
      ValueError: shapes that do not match, or numbers that are not finite.
    """
    require(REAL, chosen_hidden=chosen_hidden, rejected_hidden=rejected_hidden)
    shapes = jnp.shape(chosen_hidden), jnp.shape(rejected_hidden)
    if min(map(len, shapes)) < 2 or shapes[0][:-2] != shapes[1][:-2] or shapes[0][-1] != shapes[1][-1]:
        raise ValueError(
            "`chosen_hidden` and `rejected_hidden` must have shapes [*n, T_w, d] and [*n, T_l, d], "
            f"got {shapes[0]} and {shapes[1]}."
        )
    chosen, rejected = chosen_hidden.sum(axis=-2), rejected_hidden.sum(axis=-2)
    return (chosen * (rejected - chosen)).sum(axis=-1)


def _check_push(logits: Array, token: Ints, eta: Scalars) -> None:
    require_logits(logits=logits)
    require_tokens(logits.shape[-1], token=token)
    require(ABOVE_ZERO, eta=eta)
