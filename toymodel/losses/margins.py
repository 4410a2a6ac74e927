"""Losses of a margin between logratios: m(h(y_w) − h(y_l)), possibly with a likelihood term. All need the reference.

D is the logratio of the chosen minus that of the rejected, S the sigmoid. Defaults are the field's; a docstring says
where implementations differ.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array

from toymodel._public import own_names
from toymodel.gram import Scalars
from toymodel.losses.catalogue import FlipRate, Fraction, NonNegative, Positive, PositiveFlipRate, Real, loss
from toymodel.losses.form import Form, Jet, Margin, Outcome, Side, nothing
from toymodel.losses.pieces import (
    hinge_below,
    log_sigmoid,
    logratio,
    mean_logp,
    mean_logratio,
    of_logratio,
    scaled,
    shifted,
    sigmoid,
    square,
)

__dir__ = own_names(globals())


@loss(ratio="1")
def dpo(beta: Positive = 0.1) -> Form:
    """DPO (arXiv 2305.18290, Eq. 7): −log S(βD)."""
    return Margin(log_sigmoid, scaled(logratio, beta))


@loss(ratio="1")
def cdpo(beta: Positive = 0.1, label_smoothing: FlipRate = 0.1) -> Form:
    """Conservative DPO (Mitchell 2023): labels are wrong with probability e. Weights are negative at βD > logit(1 − e).

    TRL ≥ 1 ignores `label_smoothing` for its sigmoid loss; TRL 0.11, HALOs and the original honour it.
    """
    e = label_smoothing

    def m(a: Scalars) -> Jet:
        right, wrong = log_sigmoid(a).value, log_sigmoid(-a).value
        return Jet((1 - e) * right + e * wrong, sigmoid(-a) - e)

    return Margin(m, scaled(logratio, beta))


@loss(ratio="1")
def robust_dpo(beta: Positive = 0.1, label_smoothing: FlipRate = 0.1) -> Form:
    """Robust DPO (arXiv 2403.00409): unbiased under flipped labels. Unbounded below, and its weights never vanish."""
    e = label_smoothing

    def m(a: Scalars) -> Jet:
        right, wrong = log_sigmoid(a), log_sigmoid(-a)
        return Jet(
            ((1 - e) * right.value - e * wrong.value) / (1 - 2 * e),
            ((1 - e) * right.slope + e * wrong.slope) / (1 - 2 * e),
        )

    return Margin(m, scaled(logratio, beta))


@loss(ratio="1")
def rdpo(beta: Positive = 0.1, alpha: NonNegative = 0.2) -> Form:
    """R-DPO (arXiv 2403.19159): DPO with reward β logratio + α length, so −log S(βD + α(n_w − n_l))."""

    def h(side: Side) -> Jet:
        return Jet(beta * side.logratio + alpha * side.tokens, beta)

    return Margin(log_sigmoid, h)


@loss(ratio="1")
def odpo(beta: Positive = 0.1, offset: NonNegative = 1.0) -> Form:
    """ODPO (arXiv 2402.10571): DPO that asks for a margin, −log S(βD − offset)."""
    return Margin(shifted(log_sigmoid, offset), scaled(logratio, beta))


@loss(ratio="1")
def hinge(beta: Positive = 0.1) -> Form:
    """SLiC with a reference, as in RSO (arXiv 2309.06657) and TRL: max(1 − βD, 0). Nothing moves at βD ≥ 1."""
    return Margin(hinge_below(1.0), scaled(logratio, beta))


@loss(ratio="1")
def ipo_sum(tau: Positive = 0.1) -> Form:
    """IPO (arXiv 2310.12036) on summed log-probabilities: (D − 1/(2τ))². Weights turn negative past the target.

    The name for τ is beta in TRL, which also averages over tokens: `ipo_lennorm`.
    """
    return Margin(square(1 / (2 * tau)), logratio)


@loss(ratio="n_l/n_w")
def ipo_lennorm(tau: Positive = 0.1) -> Form:
    """IPO on logratios per token, as in TRL (which calls τ beta) and HALOs. Weights turn negative past the target."""
    return Margin(square(1 / (2 * tau)), mean_logratio)


@loss(ratio="n_l/n_w")
def dpo_sigmoid_norm(beta: Positive = 0.1) -> Form:
    """DPO on logratios per token, as in TRL ≥ 1 ("sigmoid_norm")."""
    return Margin(log_sigmoid, scaled(mean_logratio, beta))


@loss(ratio="S(−r_w)/S(−r_l)")
def fdpo_js(beta: Positive = 0.1) -> Form:
    """f-DPO with the Jensen–Shannon divergence (arXiv 2309.16240): h = β log S(r) up to a constant."""
    return Margin(log_sigmoid, scaled(of_logratio(log_sigmoid), beta))


@loss(ratio="exp(−D)")
def fdpo_forward_kl(beta: Positive = 0.1) -> Form:
    """f-DPO with the forward KL divergence (arXiv 2309.16240): h = −β exp(−r)."""
    return _exponential(beta, -1.0)


@loss(ratio="exp(−αD)")
def fdpo_alpha(beta: Positive = 0.1, alpha: Positive = 0.5) -> Form:
    """f-DPO with an α-divergence (arXiv 2309.16240): h = −β exp(−αr)/α, TRL 0.11's α.

    TRL ≥ 1 calls 1 − α what is α here.
    """
    return _exponential(beta / alpha, -alpha)


def _exponential(scale: Scalars, rate: Scalars) -> Margin:
    """h = −scale · exp(rate · r); the scale goes into the exponent, which may overflow without it."""

    def exponent(side: Side) -> Array:
        return rate * side.logratio + jnp.log(scale)

    def h(side: Side) -> Jet:
        value = -jnp.exp(exponent(side))
        return Jet(value, rate * value)

    return Margin(log_sigmoid, h, order=lambda chosen, rejected: exponent(rejected) - exponent(chosen))


@loss(ratio="(1 + exp(r_w))/(1 + exp(r_l))")
def chi_po(beta: Positive = 0.1) -> Form:
    """χPO (arXiv 2407.13399): h = β(r + exp(r)), without the clipping some implementations add."""

    def exponent(side: Side) -> Array:
        return side.logratio + jnp.log(beta)

    def h(side: Side) -> Jet:
        return Jet(beta * side.logratio + jnp.exp(exponent(side)), beta + jnp.exp(exponent(side)))

    return Margin(log_sigmoid, h, order=lambda chosen, rejected: exponent(chosen) - exponent(rejected))


@loss(ratio="1 + α/(n_w β S(−βD))")
def dpo_nll_mean(beta: Positive = 0.1, rpo_alpha: NonNegative = 1.0) -> Form:
    """DPO plus α times the chosen's negative log-likelihood per token (arXiv 2404.19733; TRL's rpo_alpha)."""
    return Margin(log_sigmoid, scaled(logratio, beta), likelihood=scaled(mean_logp, rpo_alpha))


@loss(ratio="1 + λ where r_w < 0, else 1")
def dpop(beta: Positive = 0.1, lam: NonNegative = 50.0) -> Form:
    """DPOP (arXiv 2402.13228): DPO with a penalty λ where the chosen has fallen below the reference.

    The penalty is inside β. Its kink is at the reference itself, where training starts: there the ratio is 1.
    """

    def h_chosen(side: Side) -> Jet:
        r = side.logratio
        return Jet(beta * (r - lam * jax.nn.relu(-r)), beta * (1 + lam * (r < 0)))

    return Margin(log_sigmoid, h_chosen, scaled(logratio, beta))


@loss(ratio="1/f")
def dpo_shift(beta: Positive = 0.1, f_lambda: Fraction = 0.75) -> Form:
    """DPO-Shift (arXiv 2502.07599): the rejected's reward counts a fraction f, the reference's part included."""
    return Margin(log_sigmoid, scaled(logratio, beta), scaled(logratio, f_lambda * beta))


@loss(ratio="1 + (1 − λ)/λ exp(−r_l)")
def bdpo(beta: Positive = 0.1, lam: Fraction = 0.5) -> Form:
    """Bounded DPO (arXiv 2506.12725): the rejected is measured in a mixture, λπ + (1 − λ)π_ref. λ → 1 is DPO."""
    policy, reference = jnp.log(lam), jnp.log1p(-lam)

    def h_rejected(side: Side) -> Jet:
        r = side.logratio
        return Jet(beta * jnp.logaddexp(policy + r, reference), beta * sigmoid(policy + r - reference))

    return Margin(log_sigmoid, scaled(logratio, beta), h_rejected)


@loss(ratio="1")
def exo_pair(beta: Positive = 0.1, label_smoothing: PositiveFlipRate = 1e-3) -> Form:
    """EXO (arXiv 2402.00856), TRL's form: KL from S(βD) to a label that is wrong with probability e > 0.

    Weights turn negative at βD > logit(1 − e). TRL 0.11 silently replaces e = 0 by 1e-3. The authors' code leaves its
    targets unnormalised: `exo_pair_unnorm`.
    """
    return _exo(beta, jnp.log1p(-label_smoothing), jnp.log(label_smoothing))


@loss(ratio="1")
def exo_pair_unnorm(beta: Positive = 0.1, log_eps: Real = -10.0) -> Form:
    """EXO as in its authors' code: targets log 1 and `log_eps` are not normalised, so the loss can be < 0."""
    return _exo(beta, 0.0, log_eps)


def _exo(beta: Scalars, log_right: Scalars, log_wrong: Scalars) -> Margin:
    def m(a: Scalars) -> Jet:
        right, wrong = log_sigmoid(a), log_sigmoid(-a)  # slopes: S(−a), S(a)
        divergence = wrong.slope * (right.value - log_right) + right.slope * (wrong.value - log_wrong)
        return Jet(-divergence, -right.slope * wrong.slope * (a - (log_right - log_wrong)))

    return Margin(m, scaled(logratio, beta))


@loss(ratio="1 − S′(βr_w)/S′(βD)")
def apo_down(beta: Positive = 0.1) -> Form:
    """APO-down (arXiv 2408.06266): S(βr_w) + 1 − S(βD). Lowers the chosen; at the reference d_w = 0."""

    def at(chosen: Side, rejected: Side) -> Outcome:
        r_w, r_l = chosen.logratio, rejected.logratio
        a, b = beta * (r_w - r_l), beta * r_w
        return Outcome(sigmoid(b) + sigmoid(-a), beta * difference(a, b, beta * r_l), beta * sigmoid(a) * sigmoid(-a))

    def difference(a: Array, b: Array, b_minus_a: Array) -> Array:
        """S′(a) − S′(b), without cancellation where b is near ±a."""
        near, far = jnp.minimum(abs(a), abs(b)), jnp.maximum(abs(a), abs(b))
        size = sigmoid(near) * sigmoid(-near) * sigmoid(far) ** 2 * jnp.expm1(-abs(b_minus_a)) * jnp.expm1(-abs(a + b))
        return jnp.sign(b_minus_a) * jnp.sign(a + b) * size

    return at


@loss(ratio="1")
def discopop(beta: Positive = 0.05, tau: Positive = 0.05) -> Form:
    """DiscoPOP (arXiv 2406.08414): logistic and exponential loss blended, found by search; not convex near 0."""

    def m(a: Scalars) -> Jet:
        gate, closed = sigmoid(a / tau), sigmoid(-a / tau)
        logistic = log_sigmoid(a)
        exponential = jnp.exp(log_sigmoid(a / tau).value - a)  # exp(−a) S(a/τ), finite for τ < 1
        value = logistic.value * closed - exponential
        slope = logistic.slope * closed - logistic.value * gate * closed / tau + exponential * (1 - closed / tau)
        return Jet(value, slope)

    return Margin(m, scaled(logratio, beta))


@loss(ratio="0")
def npo(beta: Positive = 0.1) -> Form:
    """NPO (arXiv 2404.05868): unlearning, −(2/β) log S(−βr_l). The chosen plays no part."""
    return Margin(scaled(log_sigmoid, 2 / beta), nothing, scaled(logratio, beta))
