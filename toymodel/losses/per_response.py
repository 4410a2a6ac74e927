"""Losses with one term for the chosen and one for the rejected, and losses that switch between the two responses.

A sum A(w) + B(l) has the paper's form with m the identity, h_w = −A, h_l = B. r is a response's logratio.
"""

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array

from toymodel._public import own_names
from toymodel.gram import Scalars
from toymodel.losses.catalogue import Fraction, Positive, Real, loss
from toymodel.losses.form import Form, Jet, Margin, Outcome, Side
from toymodel.losses.pieces import (
    hinge_below,
    identity,
    log_sigmoid,
    logp,
    of_logratio,
    scaled,
    sigmoid,
    square,
)

__dir__ = own_names(globals())


@loss(ratio="(t − r_w)/(t + r_l), t = 1/(2β)")
def sppo_hard(beta: Positive = 0.1) -> Form:
    """SPPO (arXiv 2405.00675) as in TRL, without the factor ½: (r_w − 1/(2β))² + (r_l + 1/(2β))².

    The authors' β is near 1e-3. Past its target each weight turns negative.
    """
    return _pull_towards(1 / (2 * beta), 1.0)


@loss(ratio="(t − r_w)/(t + r_l), t = 1/(2β)")
def sppo_half(beta: Positive = 0.1) -> Form:
    """SPPO as in its paper and official code: half of `sppo_hard`."""
    return _pull_towards(1 / (2 * beta), 0.5)


@loss(ratio="(t − r_w)/(t + r_l), t = (P − ½)/β")
def sppo_soft_half(beta: Positive = 0.1, p_win: Fraction = 0.9) -> Form:
    """SPPO with soft labels: the chosen wins with probability P, so the targets are ±(P − ½)/β."""
    return _pull_towards((p_win - 0.5) / beta, 0.5)


def _pull_towards(target: Scalars, factor: Scalars) -> Margin:
    """factor · ((r_w − target)² + (r_l + target)²)."""

    def up(r: Scalars) -> Jet:
        return square(target)(r)

    def down(r: Scalars) -> Jet:
        value, slope = square(-target)(r)
        return Jet(-value, -slope)

    return Margin(scaled(identity, factor), of_logratio(up), of_logratio(down))


def _bounded(a: Scalars) -> Jet:
    """S(a), slope S(a)S(−a)."""
    return Jet(sigmoid(a), sigmoid(a) * sigmoid(-a))


def _bounded_loss(a: Scalars) -> Jet:
    """S(a) − 1 = −S(−a), which keeps its digits where S(a) → 1."""
    return Jet(-sigmoid(-a), sigmoid(a) * sigmoid(-a))


@loss(ratio="(λ_D/λ_U) S′(β(r_w − z₀))/S′(β(z₀ − r_l))")
def kto_pair(
    beta: Positive = 0.1, kl: Real = 0.0, desirable_weight: Positive = 1.0, undesirable_weight: Positive = 1.0
) -> Form:
    """KTO (arXiv 2402.01306) on a pair: λ_D S(−β(r_w − z₀)) + λ_U S(−β(z₀ − r_l)), z₀ = max(kl, 0).

    z₀ is a detached batch statistic in practice, here a number. TRL averages over the two responses; this is the sum.
    """
    centre = jnp.maximum(kl, 0.0)

    def chosen(side: Side) -> Jet:
        value, slope = _bounded_loss(beta * (side.logratio - centre))
        return Jet(desirable_weight * value, desirable_weight * beta * slope)

    def rejected(side: Side) -> Jet:
        value, slope = _bounded(beta * (side.logratio - centre))
        return Jet(undesirable_weight * value, undesirable_weight * beta * slope)

    return Margin(identity, chosen, rejected)


@loss(ratio="(λ_D/λ_U) S′(βr_w)/S′(βr_l)")
def apo_zero(beta: Positive = 0.1, desirable_weight: Positive = 1.0, undesirable_weight: Positive = 1.0) -> Form:
    """APO-zero (arXiv 2408.06266): 1 − S(βr_w) + S(βr_l); the two weights as in TRL's unpaired variant."""
    return Margin(
        identity,
        scaled(of_logratio(_bounded_loss, beta), desirable_weight),
        scaled(of_logratio(_bounded, beta), undesirable_weight),
    )


@loss(ratio="(2S(−βr_w) − S(βr_w))/S(βr_l)")
def nca_pair(beta: Positive = 0.1) -> Form:
    """NCA on a pair (arXiv 2402.05369): pushes the chosen back down once βr_w > log 2."""

    def chosen(a: Scalars) -> Jet:
        up, down = log_sigmoid(a), log_sigmoid(-a)
        return Jet(up.value + down.value / 2, up.slope - down.slope / 2)

    return Margin(identity, of_logratio(chosen, beta), scaled(of_logratio(_softplus, beta), 0.5))


def _softplus(a: Scalars) -> Jet:
    """−log S(−a), slope S(a)."""
    value, slope = log_sigmoid(-a)
    return Jet(-value, slope)


@loss(ratio="S(δ − βr_w)/S(βr_l − δ)")
def bco_pair(beta: Positive = 0.1, delta: Real = 0.0) -> Form:
    """BCO (arXiv 2404.04656) on a pair: −log S(βr_w − δ) − log S(δ − βr_l).

    δ is a running mean of rewards in the paper and in TRL 0.11, absent in TRL ≥ 1, here a number.
    """
    return Margin(
        identity,
        of_logratio(lambda a: log_sigmoid(a - delta), beta),
        of_logratio(lambda a: _softplus(a - delta), beta),
    )


@loss(ratio="S(−r_w)/S(r_l)")
def bce() -> Form:
    """Binary cross-entropy on logratios (arXiv 2604.18239's code): `bco_pair` with β = 1, δ = 0."""
    return Margin(identity, of_logratio(log_sigmoid), of_logratio(_softplus))


@loss(ratio="exp(−r_l)")
def ukl() -> Form:
    """Unnormalised KL, a density-ratio loss (arXiv 2604.18239's code): −w + exp(r_l)."""
    return Margin(identity, logp, of_logratio(_exp))


@loss(ratio="exp(r_w − 2r_l)")
def lsif() -> Form:
    """Least-squares importance fitting, a density-ratio loss (arXiv 2604.18239's code): −exp(r_w) + exp(2r_l)/2."""

    def half_square(r: Scalars) -> Jet:
        return Jet(jnp.exp(2 * r) / 2, jnp.exp(2 * r))

    def order(chosen: Side, rejected: Side) -> Array:
        return chosen.logratio - (2 * rejected.logratio - jnp.log(2.0))

    return Margin(identity, of_logratio(_exp), of_logratio(half_square), order=order)


def _exp(r: Scalars) -> Jet:
    return Jet(jnp.exp(r), jnp.exp(r))


DDRO_ROOM = 5e-7  # where 1 − exp(r_l)/2 is smaller, −log(1 − x) continues as its tangent


@loss(ratio="(2 − exp(r_l)) exp(−r_l)")
def ddro() -> Form:
    """DDRO, a density-ratio loss (arXiv 2604.18239's code): log 2 − r_w − log(1 − exp(r_l)/2), linear at the end."""

    def rejected(r: Scalars) -> Jet:
        x = jnp.exp(r) / 2
        inside = x < 1 - DDRO_ROOM
        room = jnp.where(inside, 1 - x, DDRO_ROOM)
        logarithm = -jnp.log1p(-jnp.where(inside, x, 0.0))
        tangent = -jnp.log(DDRO_ROOM) + (x - (1 - DDRO_ROOM)) / DDRO_ROOM
        return Jet(jnp.where(inside, logarithm, tangent), x / room)

    return Margin(identity, of_logratio(lambda r: Jet(r - jnp.log(2.0), 1.0)), of_logratio(rejected))


@loss(ratio="(S(−D) + t − r_w)/(S(−D) + t + r_l), t = 1/(2β)")
def cal_dpo(beta: Positive = 0.1) -> Form:
    """Cal-DPO (arXiv 2412.14516): −log S(D) + ½(r_w − 1/(2β))² + ½(r_l + 1/(2β))²; no β in the first term."""
    target = 1 / (2 * beta)

    def at(chosen: Side, rejected: Side) -> Outcome:
        r_w, r_l = chosen.logratio, rejected.logratio
        margin = log_sigmoid(r_w - r_l)
        value = -margin.value + (r_w - target) ** 2 / 2 + (r_l + target) ** 2 / 2
        return Outcome(value, margin.slope + target - r_w, margin.slope + target + r_l)

    return at


@loss(ratio="∞ where r_w < −αr_l, else 0")
def bpo_logistic(beta: Positive = 0.1, alpha: Positive = 1.0) -> Form:
    """BPO (arXiv 2506.03557): −log S(β min(r_w, −αr_l)). Moves the side that lags; at a tie each moves half."""
    return _move_weaker_side(log_sigmoid, beta, alpha)


@loss(ratio="∞ where r_w < −αr_l, else 0")
def bpo_hinge(beta: Positive = 0.1, alpha: Positive = 0.3) -> Form:
    """BPO with a hinge: max(1 − β min(r_w, −αr_l), 0)."""
    return _move_weaker_side(hinge_below(1.0), beta, alpha)


def _move_weaker_side(m: Callable[[Scalars], Jet], beta: Scalars, alpha: Scalars) -> Form:
    def at(chosen: Side, rejected: Side) -> Outcome:
        r_w, r_l = chosen.logratio, -alpha * rejected.logratio
        value, slope = m(beta * jnp.minimum(r_w, r_l))
        share = jnp.where(r_w < r_l, 1.0, jnp.where(r_w > r_l, 0.0, 0.5))
        return Outcome(-value, beta * slope * share, alpha * beta * slope * (1 - share))

    return at
