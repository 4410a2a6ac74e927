"""What a step of any size does to a pair (T12, T13).

The step is θ ← θ + η(d_w g_w − d_l g_l), each pair alone. In a linear softmax model it moves the logits of position i
by ηv_i exactly, so log π(y|x) changes by Σ_i (ηv_i[y^i] − log E_p e^{ηv_i}): concave in η, hence never above η · slope,
and below it by no more than Hoeffding's lemma allows. So a slope and the ranges of v_i bound what a step does to a
pair.

Slopes are `theory.slopes`, in nats per unit of learning rate; everything here is elementwise over pairs.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from toymodel._checks import FROM_ZERO, REAL, require
from toymodel._public import own_names
from toymodel.data.pairs import PreferencePairs
from toymodel.gram import Scalars
from toymodel.models.linear import LinearSoftmax, LinearStates
from toymodel.theory._domains import require_linear, require_logits
from toymodel.theory.overlap import masked_residuals, pair_states, per_pair

__dir__ = own_names(globals())

Directions = Float[Array, "*n T V"]


def logit_directions(
    model: LinearSoftmax,
    params: Float[Array, "V d"],
    pairs: PreferencePairs,
    d_chosen: Scalars = 1.0,
    d_rejected: Scalars = 1.0,
) -> tuple[Float[Array, "n T_w V"], Float[Array, "n T_l V"]]:
    """v_i = Σ_j A_j⟨φ_i, φ_j⟩s_j: change of the logits per unit of learning rate, at each position of both responses.

    j runs over the tokens of both, with A = d_w on the chosen and −d_l on the rejected. Zero at padding.

    Raises:
      ValueError: as for `pair_gram`; a weight is not finite, or neither one number nor one per pair.
    """
    require_linear(model, params, pairs)
    return _logit_directions(
        model, params, pairs, *_broadcast_to_pairs(pairs, params, d_chosen=d_chosen, d_rejected=d_rejected)
    )


def exact_change(
    model: LinearSoftmax,
    params: Float[Array, "V d"],
    pairs: PreferencePairs,
    eta: Scalars,
    d_chosen: Scalars = 1.0,
    d_rejected: Scalars = 1.0,
) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
    """Change of (log π_w, log π_l), in nats, when each pair alone takes a step of learning rate η (T12).

    Raises:
      ValueError: as for `logit_directions`, or η < 0.
    """
    require_linear(model, params, pairs)
    require(FROM_ZERO, eta=eta)
    settings = _broadcast_to_pairs(pairs, params, eta=eta, d_chosen=d_chosen, d_rejected=d_rejected)
    return _exact_change(model, params, pairs, *settings)


def range_shortfall(directions: Directions) -> Float[Array, "*n"]:
    """Σ_i (max v_i − min v_i)²/8: the change falls short of η · slope by at most η² times this (T12; Hoeffding).

    Raises:
      ValueError: no array [T, V], or one that is not finite.
    """
    _check_directions(directions=directions)
    return (_ranges(directions) ** 2).sum(axis=-1) / 8


def norm_shortfall(directions: Directions) -> Float[Array, "*n"]:
    """Σ_i ‖v_i‖²/4 ≥ `range_shortfall`: the same from the curvature of log softmax, at most 1/2 (T12).

    Raises:
      ValueError: as for `range_shortfall`.
    """
    _check_directions(directions=directions)
    return (directions**2).sum(axis=(-2, -1)) / 4


def change_bounds(slope: Scalars, shortfall: Scalars, eta: Scalars) -> tuple[Float[Array, "*n"], Float[Array, "*n"]]:
    """(low, high) = (η·slope − η²·shortfall, η·slope), in nats: the true change lies between them at every η > 0 (T12).

    Where the slope is not positive, the log-probability therefore falls (or nothing moves) at every learning rate.

    Raises:
      ValueError: a number is not finite, the shortfall or η is below 0.
    """
    require(REAL, slope=slope)
    require(FROM_ZERO, shortfall=shortfall, eta=eta)
    high = jnp.asarray(eta * slope)
    return high - eta**2 * shortfall, high


def certified_step(slope: Scalars, shortfall: Scalars) -> Float[Array, "*n"]:
    """slope/shortfall: at every smaller η > 0 the log-probability certainly rises (T12).

    Zero where the slope is not positive: the log-probability then rises at no η. Infinite where no position can fall
    short.

    Raises:
      ValueError: a number is not finite, or the shortfall is below 0.
    """
    require(REAL, slope=slope)
    require(FROM_ZERO, shortfall=shortfall)
    slope, shortfall = jnp.asarray(slope), jnp.asarray(shortfall)
    step = jnp.where(shortfall > 0, slope / jnp.where(shortfall > 0, shortfall, 1), jnp.inf)
    return jnp.where(slope > 0, step, 0)


def halving_bound(velocity: Directions, acceleration: Directions, eta: Scalars) -> Float[Array, "*n"]:
    """Largest |error(η) − 4·error(η/2)|, in nats, of the estimate η·slope where logits move by ηv + η²q (T13).

    η³ sup|f‴|/12, f the log-probability along the step: the difference is ∫ K f‴ with a kernel K ≥ 0 of integral η³/12.
    There f‴ = −Σ_i (3 Cov(z′, z″) + κ₃(z′)) with |Cov(a, b)| ≤ range(a)·range(b)/4 and |κ₃(a)| ≤ range(a)³/(6√3).
    The bound is of the order η³ and the error itself of the order η², so halving η divides the error by nearly 4.
    A linear softmax model has q = 0.

    Raises:
      ValueError: no two arrays [T, V] of one shape, numbers that are not finite, or η < 0.
    """
    _check_directions(velocity=velocity, acceleration=acceleration)
    require(FROM_ZERO, eta=eta)
    first = _ranges(velocity) + 2 * eta * _ranges(acceleration)
    second = 2 * _ranges(acceleration)
    return eta**3 / 12 * (0.75 * first * second + first**3 / (6 * 3**0.5)).sum(axis=-1)


def log_mean_exp(logits: Float[Array, "*T V"], shift: Float[Array, "*T V"]) -> Float[Array, "*T"]:
    """log E_p e^{shift}, p = softmax(z): what the log-partition function gains when the logits move by `shift`.

    Keeps its digits for small shifts, log(1 + E_p(e^{shift} − 1)), and does not overflow for large ones.

    Raises:
      ValueError: logits or shifts that are not finite, or over fewer than 2 tokens.
    """
    require_logits(logits=logits, shift=shift)
    small = abs(shift).max(axis=-1) <= 1
    gain = (jax.nn.softmax(logits) * jnp.expm1(jnp.where(small[..., None], shift, 0))).sum(axis=-1)
    return jnp.where(small, jnp.log1p(gain), jax.nn.logsumexp(jax.nn.log_softmax(logits) + shift, axis=-1))


def _check_directions(**directions: Directions) -> None:
    require_logits(**directions)
    for name, value in directions.items():
        if jnp.ndim(value) < 2 or jnp.shape(value) != jnp.shape(next(iter(directions.values()))):
            raise ValueError(f"`{name}` must have one shape [*n, T, V], got {jnp.shape(value)}.")


def _ranges(directions: Directions) -> Float[Array, "*n T"]:
    return directions.max(axis=-1) - directions.min(axis=-1)


@jax.jit
def _logit_directions(
    model: LinearSoftmax, params: Array, pairs: PreferencePairs, d_chosen: Array, d_rejected: Array
) -> tuple[Array, Array]:
    def one(pair: PreferencePairs, d_w: Array, d_l: Array) -> tuple[Array, Array]:
        return _directions(*pair_states(model, params, pair), d_w, d_l)

    return jax.vmap(one)(pairs, d_chosen, d_rejected)


@jax.jit
def _exact_change(
    model: LinearSoftmax, params: Array, pairs: PreferencePairs, eta: Array, d_chosen: Array, d_rejected: Array
) -> tuple[Array, Array]:
    def one(pair: PreferencePairs, eta: Array, d_w: Array, d_l: Array) -> tuple[Array, Array]:
        chosen, rejected = pair_states(model, params, pair)
        v_chosen, v_rejected = _directions(chosen, rejected, d_w, d_l)
        return _change(chosen, eta * v_chosen), _change(rejected, eta * v_rejected)

    return jax.vmap(one)(pairs, eta, d_chosen, d_rejected)


def _directions(
    chosen: LinearStates, rejected: LinearStates, d_chosen: Array, d_rejected: Array
) -> tuple[Array, Array]:
    features = jnp.concatenate([chosen.features, rejected.features])
    moves = jnp.concatenate([d_chosen * masked_residuals(chosen), -d_rejected * masked_residuals(rejected)])
    mask = jnp.concatenate([chosen.mask, rejected.mask])
    directions = mask[:, None] * ((features @ features.T) @ moves)
    return directions[: chosen.mask.size], directions[chosen.mask.size :]


def _change(states: LinearStates, shift: Float[Array, "T V"]) -> Float[Array, ""]:
    """Shifts are taken relative to the token's own, so that nothing cancels where the token is nearly certain."""
    relative = shift - jnp.take_along_axis(shift, states.tokens[:, None], axis=-1)
    return -log_mean_exp(states.logits, relative).sum()  # padding: nothing moves, nothing changes


def _broadcast_to_pairs(pairs: PreferencePairs, params: Array, **values: Scalars) -> list[Array]:
    return [per_pair(name, value, len(pairs)).astype(params.dtype) for name, value in values.items()]
