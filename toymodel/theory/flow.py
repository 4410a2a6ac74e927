"""Exact paths of gradient flow for one differing token, from reference = initial policy (T14).

In one context with features φ, a step of DPO or IPO moves the logits along e_w − e_l alone: the softmax drops out of
s_w − s_l. So the chosen logit has risen by u(t) and the rejected one fallen by as much, for any vocabulary, and the
loss sees the margin 2u. Time t is learning rate summed over steps, and grows from 0.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from toymodel._checks import ABOVE_ZERO, FROM_ZERO, REAL, require
from toymodel._public import own_names
from toymodel.gram import Ints, Scalars
from toymodel.theory._domains import require_different, require_logits, require_tokens

__dir__ = own_names(globals())

NEWTON_STEPS = 5  # 4 reach the last digit, for 2β²‖φ‖²t from 1e-300 to 1e300


def dpo_flow(t: Scalars, beta: Scalars, feature_sq: Scalars = 1.0) -> Float[Array, "*n"]:
    """u(t) with 2βu + e^{2βu} = 2β²‖φ‖²t + 1 =: c, that is 2βu = c − W₀(e^c), W₀ Lambert's function (T14; DPO).

    u grows like β‖φ‖²t/2 at first and like log(2β²‖φ‖²t)/(2β) later, without bound.

    Raises:
      ValueError: t < 0, or β or ‖φ‖² is not positive.
    """
    _check_time(t, feature_sq, beta=beta)
    # Newton's method on x + (e^x − 1) = c − 1: convex, so from above the root it comes down to it from every start.
    grown = jnp.asarray(2 * beta**2 * feature_sq * t)
    x = jnp.minimum(grown / 2, jnp.log1p(grown))
    for _ in range(NEWTON_STEPS):
        x = x - (x + jnp.expm1(x) - grown) / (1 + jnp.exp(x))
    return x / (2 * beta)


def ipo_flow(t: Scalars, tau: Scalars, feature_sq: Scalars = 1.0) -> Float[Array, "*n"]:
    """u(t) = (1 − e^{−4‖φ‖²t})/(4τ): the margin 2u reaches IPO's target 1/(2τ) and stays there (T14).

    Raises:
      ValueError: t < 0, or τ or ‖φ‖² is not positive.
    """
    _check_time(t, feature_sq, tau=tau)
    return -jnp.expm1(-4 * feature_sq * jnp.asarray(t)) / (4 * tau)


def flow_logps(
    logits: Float[Array, " V"], chosen: Ints, rejected: Ints, u: Scalars
) -> tuple[Float[Array, "*n"], Float[Array, "*n"]]:
    """(log π_w, log π_l), in nats, after the chosen logit has risen by u and the rejected one fallen by u (T14).

    Raises:
      ValueError: no logits [V], token ids out of range or equal, or numbers that are not finite.
    """
    require_logits(logits=logits)
    if jnp.ndim(logits) != 1:
        raise ValueError(f"`logits` must have shape [V], got {jnp.shape(logits)}.")
    require_tokens(logits.shape[-1], chosen=chosen, rejected=rejected)
    require_different(chosen=chosen, rejected=rejected)
    require(REAL, u=u)
    tokens = jnp.arange(logits.shape[-1])
    towards = (tokens == chosen).astype(logits.dtype) - (tokens == rejected)
    moved = logits + jnp.asarray(u)[..., None] * towards
    logps = jax.nn.log_softmax(moved)
    return logps[..., chosen], logps[..., rejected]


def _check_time(t: Any, feature_sq: Any, **hyper: Any) -> None:
    require(FROM_ZERO, t=t)
    require(ABOVE_ZERO, feature_sq=feature_sq, **hyper)
