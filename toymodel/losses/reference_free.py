"""Losses that compare the policy's own log-probabilities, without a reference."""

import jax.numpy as jnp

from toymodel._public import own_names
from toymodel.gram import Scalars
from toymodel.losses.catalogue import NonNegative, Positive, Real, loss
from toymodel.losses.form import Form, Jet, Margin, Outcome, Piece, Side, nothing
from toymodel.losses.pieces import (
    hinge_below,
    identity,
    log_sigmoid,
    logp,
    mean_logp,
    scaled,
    shifted,
)

__dir__ = own_names(globals())


@loss(ratio="n_l/n_w")
def simpo(beta: Positive = 2.0, gamma: Real = 0.5) -> Form:
    """SimPO (arXiv 2405.14734): −log S(β(a_w − a_l) − γ), a the log-probability per token.

    TRL calls γ simpo_gamma, has β = 0.1 and adds a likelihood term unless told not to (`cpo_simpo`); the authors give
    γ/β instead.
    """
    return Margin(shifted(log_sigmoid, gamma), scaled(mean_logp, beta))


@loss(ratio="(n_l/n_w) exp(α(a_l − a_w))")
def alphapo(beta: Positive = 2.0, gamma: Real = 0.5, alpha: Real = 0.25) -> Form:
    """AlphaPO (arXiv 2501.03884): SimPO with reward β(1 − exp(−αa))/α; α = 0 is SimPO, and TRL's default."""

    def h(side: Side) -> Jet:
        a, divisor = side.mean_logp, jnp.where(alpha == 0, 1.0, alpha)
        power = -alpha * a
        # expm1 keeps the digits of a small power; away from it exp does, and keeps those of its derivative too.
        grown = jnp.where(abs(power) < 1, jnp.expm1(power), jnp.exp(power) - 1)
        return Jet(beta * jnp.where(alpha == 0, a, -grown / divisor), beta * jnp.exp(power) / side.tokens)

    return Margin(shifted(log_sigmoid, gamma), h, order=lambda chosen, rejected: chosen.mean_logp - rejected.mean_logp)


@loss(ratio="1 + λ/(β S(−z))")
def cpo_nll_sum(beta: Positive = 0.1, lam: NonNegative = 1.0) -> Form:
    """CPO (arXiv 2401.08417): −log S(β(w − l)) − λw, the likelihood term summed over tokens."""
    return Margin(log_sigmoid, scaled(logp, beta), likelihood=scaled(logp, lam))


@loss(ratio="1 + α/(n_w β S(−z))")
def cpo_nll_mean(beta: Positive = 0.1, cpo_alpha: NonNegative = 1.0) -> Form:
    """CPO as in TRL: the likelihood term averaged over tokens (there over all tokens of a batch, here of one pair)."""
    return Margin(log_sigmoid, scaled(logp, beta), likelihood=scaled(mean_logp, cpo_alpha))


@loss(ratio="1")
def cpo_pref_only(beta: Positive = 0.1) -> Form:
    """CPO without its likelihood term: DPO with a uniform reference."""
    return Margin(log_sigmoid, scaled(logp, beta))


@loss(ratio="1")
def cpo_hinge(beta: Positive = 0.1) -> Form:
    """CPO's hinge variant in TRL, without its likelihood term: max(1 − β(w − l), 0)."""
    return Margin(hinge_below(1.0), scaled(logp, beta))


@loss(ratio="(n_l/n_w)(1 + α/(β S(−z)))")
def cpo_simpo(beta: Positive = 0.1, gamma: Real = 0.5, cpo_alpha: NonNegative = 1.0) -> Form:
    """SimPO plus a likelihood term per token: what TRL's CPO trainer computes for SimPO by default."""
    return Margin(shifted(log_sigmoid, gamma), scaled(mean_logp, beta), likelihood=scaled(mean_logp, cpo_alpha))


@loss(ratio="1 + λ, ∞ once w − l > γ")
def slic_hf(gamma: Positive = 1.0, lam: NonNegative = 0.1) -> Form:
    """SLiC-HF (arXiv 2305.10425): max(γ − (w − l), 0) − λw. At the kink the hinge still pulls (torch.clamp).

    What TRL calls hinge is `hinge`: with a reference and β, without the likelihood term.
    """

    def m(a: Scalars) -> Jet:
        return Jet(-jnp.where(a <= gamma, gamma - a, 0.0), jnp.where(a <= gamma, 1.0, 0.0))

    return Margin(m, logp, likelihood=scaled(logp, lam))


@loss(ratio="n_l/n_w")
def rrhf_rank() -> Form:
    """The ranking term of RRHF (arXiv 2304.05302): max(a_l − a_w, 0), a the log-probability per token."""
    return Margin(hinge_below(0.0), mean_logp)


@loss(ratio="(n_l/n_w)(1 − p_l)(1/(1 − p_w) + 1/(λ S(−z)))")
def orpo(lam: Positive = 0.1) -> Form:
    """ORPO (arXiv 2403.07691): −a_w − λ log S(log-odds of p_w − log-odds of p_l), p = exp(a). λ is TRL's beta.

    TRL's likelihood term also counts the prompt's tokens. Log-odds are infinite where p = 1.
    """
    return _odds_ratio(lam, mean_logp, likelihood=mean_logp)


@loss(ratio="(n_l/n_w)(1 − p_l)/(1 − p_w)")
def orpo_or_only(lam: Positive = 0.1) -> Form:
    """ORPO's odds-ratio term alone."""
    return _odds_ratio(lam, mean_logp)


@loss(ratio="(1 − exp(l))(1/(1 − exp(w)) + 1/(n_w λ S(−z)))")
def orpo_sumodds(lam: Positive = 0.1) -> Form:
    """ORPO with odds of the whole response's probability, as in tunix; the likelihood term stays per token."""
    return _odds_ratio(lam, logp, likelihood=mean_logp)


def _odds_ratio(lam: Scalars, log_p: Piece, likelihood: Piece = nothing) -> Form:
    """The paper's form with m = λ log S and h = log p/(1 − p), h′ = 1/(1 − p).

    The weights S(−z)/(1 − p) go through their logarithms: S(−z) alone would vanish where 1/(1 − p) is large.
    """

    def at(chosen: Side, rejected: Side) -> Outcome:
        (x_w, slope_w), (x_l, slope_l), extra = log_p(chosen), log_p(rejected), likelihood(chosen)
        rest_w, rest_l = jnp.log(-jnp.expm1(x_w)), jnp.log(-jnp.expm1(x_l))  # log(1 − p)
        z = (x_w - rest_w) - (x_l - rest_l)
        pull = log_sigmoid(-z).value
        return Outcome(
            -(lam * log_sigmoid(z).value + extra.value),
            lam * slope_w * jnp.exp(pull - rest_w) + extra.slope,
            lam * slope_l * jnp.exp(pull - rest_l),
        )

    return at


@loss(ratio="(1 − lT/n_w)/(τ − lT/n_l), T = dτ/d(a_w − a_l)")
def arpo_pref_only(beta: Positive = 0.1, eta1: Positive = 0.9, eta2: Positive = 0.4) -> Form:
    """ARPO (X-ALMA): −log S(β(w − τl)), τ = min(η₁ exp(η₂|a_w − a_l|) − 1, 1), differentiated through τ.

    Near a_w = a_l τ is η₁ − 1 < 0, so the rejected is pushed *up*.
    """

    def at(chosen: Side, rejected: Side) -> Outcome:
        w, l, difference = chosen.logp, rejected.logp, chosen.mean_logp - rejected.mean_logp  # noqa: E741
        size = jnp.where(difference > 0, difference, jnp.where(difference < 0, -difference, 0.0))  # no slope at 0
        free = eta2 * size < jnp.log(2 / eta1)  # below the cap of τ at 1
        growth = eta1 * jnp.exp(jnp.where(free, eta2 * size, 0.0))
        tau = jnp.where(free, growth - 1, 1.0)
        slope = jnp.where(free, eta2 * growth * jnp.sign(difference), 0.0)  # T
        value, pull = log_sigmoid(beta * (w - tau * l))
        d_chosen = beta * pull * (1 - l * slope / chosen.tokens)
        d_rejected = beta * pull * (tau - l * slope / rejected.tokens)
        return Outcome(-value, d_chosen, d_rejected)

    return at


@loss(ratio="∞")
def sft_mean() -> Form:
    """Negative log-likelihood of the chosen per token; the rejected plays no part."""
    return Margin(identity, mean_logp, nothing)
