"""Every preference loss from its definition, in arbitrary precision: a second opinion on `toymodel.losses`.

Slow and obvious on purpose. A loss is one line, its value in nats for one pair; its weights d_w = −∂value/∂w and
d_l = +∂value/∂l are central differences of that line, never a formula. Inputs are taken as the exact numbers that
their floats are, so what comes out is the true value at those floats.
"""

from functools import cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from mpmath import exp, expm1, log, log1p, mp, mpf

STEP = mpf(10) ** -350  # of the central differences: far below the smallest input, whose distance to 0 may matter
# Digits carried: a weight of 1e-308 must be seen beside a value of order one, 350 are lost to the step, 50 reported.
# What the value has before the decimal point comes on top.
DIGITS = 710
HALF = mpf(1) / 2
# Zero and infinity are right answers from here on: the ends of float64 (the compiler flushes subnormals to zero) with
# room for one factor up to 1e3, a length, a hyperparameter or a log-odds, that multiplies what is already out of range.
SMALLEST, LARGEST = mpf(10) ** -305, mpf(10) ** 305
REWARD_ROUNDOFF = mpf(10) ** -9
BATCH = 60  # rows that one compiled call measures


class Pair(NamedTuple):
    """One pair as a loss sees it: summed log-probabilities in nats under policy and reference, and token counts."""

    w: mpf
    l: mpf  # noqa: E741
    rho_w: mpf = mpf(0)
    rho_l: mpf = mpf(0)
    n_w: mpf = mpf(1)
    n_l: mpf = mpf(1)

    @property
    def r_w(self):
        return self.w - self.rho_w

    @property
    def r_l(self):
        return self.l - self.rho_l

    @property
    def D(self):
        return self.r_w - self.r_l

    @property
    def a_w(self):
        return self.w / self.n_w

    @property
    def a_l(self):
        return self.l / self.n_l


def softplus(x):
    """log(1 + e^x) = −log σ(−x), to the last digit carried: e^(−1e5) lies far below."""
    return relu(x) + (log1p(exp(-abs(x))) if abs(x) < 10**5 else 0)


def sigmoid(x):
    return 1 / (1 + exp(-x))


def relu(x):
    return max(x, mpf(0))


def mix(share, x, y):
    return (1 - share) * x + share * y


def two_squares(p, target):
    return (p.r_w - target) ** 2 + (p.r_l + target) ** 2


def log_odds(a):
    return a - log(-expm1(a))  # of the probability exp(a)


def relative_entropy(x, log_p, log_not_p):
    """The relative entropy of a coin of log-odds x to weights that need not sum to one."""
    return sigmoid(x) * (-softplus(-x) - log_p) + sigmoid(-x) * (-softplus(x) - log_not_p)


def rejection(p, eta1, eta2):
    """ARPO's adaptive share of the rejected log-probability."""
    return min(eta1 * exp(eta2 * abs(p.a_w - p.a_l)) - 1, mpf(1))


def ratio_penalty(r):
    """DDRO's −log(1 − e^r / 2), continued by its tangent in e^r where 2 − e^r falls below 1e-6."""
    gap, least = 2 - exp(r), mpf(1) / 10**6
    return -log(gap / 2) if gap > least else -log(least / 2) + (least - gap) / least


VALUES = {
    # one margin, sigmoid or not: d_w = d_l
    "dpo": lambda p, beta: softplus(-beta * p.D),
    "cdpo": lambda p, beta, label_smoothing: mix(label_smoothing, softplus(-beta * p.D), softplus(beta * p.D)),
    "robust_dpo": lambda p, beta, label_smoothing: (
        mix(label_smoothing, softplus(-beta * p.D), -softplus(beta * p.D)) / (1 - 2 * label_smoothing)
    ),
    "rdpo": lambda p, beta, alpha: softplus(-beta * p.D - alpha * (p.n_w - p.n_l)),
    "odpo": lambda p, beta, offset: softplus(offset - beta * p.D),
    "ipo_sum": lambda p, tau: (p.D - 1 / (2 * tau)) ** 2,
    "hinge": lambda p, beta: relu(1 - beta * p.D),
    "cpo_pref_only": lambda p, beta: softplus(-beta * (p.w - p.l)),
    "cpo_hinge": lambda p, beta: relu(1 - beta * (p.w - p.l)),
    "exo_pair": lambda p, beta, label_smoothing: relative_entropy(
        beta * p.D, log(1 - label_smoothing), log(label_smoothing)
    ),
    "exo_pair_unnorm": lambda p, beta, log_eps: relative_entropy(beta * p.D, 0, log_eps),
    "discopop": lambda p, beta, tau: mix(sigmoid(beta * p.D / tau), softplus(-beta * p.D), exp(-beta * p.D)),
    # averaged over tokens
    "ipo_lennorm": lambda p, tau: (p.r_w / p.n_w - p.r_l / p.n_l - 1 / (2 * tau)) ** 2,
    "dpo_sigmoid_norm": lambda p, beta: softplus(-beta * (p.r_w / p.n_w - p.r_l / p.n_l)),
    "simpo": lambda p, beta, gamma: softplus(gamma - beta * (p.a_w - p.a_l)),
    "alphapo": lambda p, beta, gamma, alpha: softplus(
        gamma - beta * (exp(-alpha * p.a_l) - exp(-alpha * p.a_w)) / alpha
    ),
    "rrhf_rank": lambda p: relu(p.a_l - p.a_w),
    # a term of the chosen alone beside the margin
    "cpo_nll_sum": lambda p, beta, lam: softplus(-beta * (p.w - p.l)) - lam * p.w,
    "cpo_nll_mean": lambda p, beta, cpo_alpha: softplus(-beta * (p.w - p.l)) - cpo_alpha * p.a_w,
    "cpo_simpo": lambda p, beta, gamma, cpo_alpha: softplus(gamma - beta * (p.a_w - p.a_l)) - cpo_alpha * p.a_w,
    "dpo_nll_mean": lambda p, beta, rpo_alpha: softplus(-beta * p.D) - rpo_alpha * p.a_w,
    "slic_hf": lambda p, gamma, lam: relu(gamma - (p.w - p.l)) - lam * p.w,
    "orpo": lambda p, lam: lam * softplus(log_odds(p.a_l) - log_odds(p.a_w)) - p.a_w,
    "orpo_or_only": lambda p, lam: lam * softplus(log_odds(p.a_l) - log_odds(p.a_w)),
    "orpo_sumodds": lambda p, lam: lam * softplus(log_odds(p.l) - log_odds(p.w)) - p.a_w,
    "sft_mean": lambda p: -p.a_w,
    # a margin of bent rewards
    "fdpo_js": lambda p, beta: softplus(beta * (softplus(-p.r_w) - softplus(-p.r_l))),
    "fdpo_forward_kl": lambda p, beta: softplus(beta * (exp(-p.r_w) - exp(-p.r_l))),
    "fdpo_alpha": lambda p, beta, alpha: softplus(beta * (exp(-alpha * p.r_w) - exp(-alpha * p.r_l)) / alpha),
    "chi_po": lambda p, beta: softplus(-beta * (p.r_w + exp(p.r_w) - p.r_l - exp(p.r_l))),
    "dpop": lambda p, beta, lam: softplus(-beta * (p.D - lam * relu(-p.r_w))),
    "dpo_shift": lambda p, beta, f_lambda: softplus(-beta * (p.r_w - f_lambda * p.r_l)),
    "bdpo": lambda p, beta, lam: softplus(-beta * (p.r_w - log(lam * exp(p.r_l) + 1 - lam))),
    "bpo_logistic": lambda p, beta, alpha: softplus(-beta * min(p.r_w, -alpha * p.r_l)),
    "bpo_hinge": lambda p, beta, alpha: relu(1 - beta * min(p.r_w, -alpha * p.r_l)),
    "arpo_pref_only": lambda p, beta, eta1, eta2: softplus(-beta * (p.w - rejection(p, eta1, eta2) * p.l)),
    "npo": lambda p, beta: 2 / beta * softplus(beta * p.r_l),
    # chosen and rejected apart
    "sppo_hard": lambda p, beta: two_squares(p, 1 / (2 * beta)),
    "sppo_half": lambda p, beta: two_squares(p, 1 / (2 * beta)) / 2,
    "sppo_soft_half": lambda p, beta, p_win: two_squares(p, (p_win - HALF) / beta) / 2,
    "kto_pair": lambda p, beta, kl, desirable_weight, undesirable_weight: (
        desirable_weight * sigmoid(-beta * (p.r_w - relu(kl))) + undesirable_weight * sigmoid(beta * (p.r_l - relu(kl)))
    ),
    "apo_zero": lambda p, beta, desirable_weight=1, undesirable_weight=1: (
        desirable_weight * sigmoid(-beta * p.r_w) + undesirable_weight * sigmoid(beta * p.r_l)
    ),
    "apo_down": lambda p, beta: sigmoid(beta * p.r_w) + sigmoid(-beta * p.D),
    "nca_pair": lambda p, beta: softplus(-beta * p.r_w) + softplus(beta * p.r_w) / 2 + softplus(beta * p.r_l) / 2,
    "bco_pair": lambda p, beta, delta: softplus(delta - beta * p.r_w) + softplus(beta * p.r_l - delta),
    "cal_dpo": lambda p, beta: softplus(-p.D) + two_squares(p, 1 / (2 * beta)) / 2,
    "bce": lambda p: softplus(-p.r_w) + softplus(p.r_l),
    "ukl": lambda p: exp(p.r_l) - p.w,
    "lsif": lambda p: exp(2 * p.r_l) / 2 - exp(p.r_w),
    "ddro": lambda p: ratio_penalty(p.r_l) - p.r_w + log(2),
}


# Where the derivative jumps: the zeros of these. A central difference there is the mean of the two sides.
KINKS = {
    "hinge": lambda p, beta: [1 - beta * p.D],
    "cpo_hinge": lambda p, beta: [1 - beta * (p.w - p.l)],
    "slic_hf": lambda p, gamma, **_: [gamma - (p.w - p.l)],
    "rrhf_rank": lambda p: [p.a_l - p.a_w],
    "dpop": lambda p, **_: [p.r_w],
    "bpo_logistic": lambda p, alpha, **_: [p.r_w + alpha * p.r_l],
    "bpo_hinge": lambda p, beta, alpha: [p.r_w + alpha * p.r_l, 1 - beta * min(p.r_w, -alpha * p.r_l)],
    "arpo_pref_only": lambda p, eta1, eta2, **_: [p.a_w - p.a_l, eta1 * exp(eta2 * abs(p.a_w - p.a_l)) - 2],
}


# Where d_w is a difference of two weights that cancel (APO-down's at r_l = 0): how far one of them moves, relatively to
# the change of its argument.
CANCELLING = {
    "apo_down": lambda p, beta: beta * (1 + abs(beta * p.r_w)) * sigmoid(beta * p.r_w) * sigmoid(-beta * p.r_w),
}


def exactly(pair, hyper):
    """The numbers that the floats are."""
    return Pair(*map(mpf, pair)), {key: mpf(number) for key, number in hyper.items()}


def evaluate(name, pair, hyper, side=0):
    """(value, d_w, d_l) of one pair of numbers; with `side` = ±1, the one-sided derivatives towards it."""
    pair, hyper = exactly(pair, hyper)
    with mp.workdps(30):
        before_point = max(0, mp.mag(VALUES[name](pair, **hyper)))  # in bits
    with mp.workdps(DIGITS), mp.extraprec(before_point):

        def value(**moved):
            return VALUES[name](pair._replace(**moved), **hyper)

        up, down = STEP * (side >= 0), STEP * (side <= 0)
        d_w = (value(w=pair.w - down) - value(w=pair.w + up)) / (up + down)
        d_l = (value(l=pair.l + up) - value(l=pair.l - down)) / (up + down)
        return value(), d_w, d_l


def kinks(name, pair, hyper):
    """The numbers whose zeros are the kinks of this loss."""
    pair, hyper = exactly(pair, hyper)
    return KINKS[name](pair, **hyper) if name in KINKS else []


def near_kink(name, pair, hyper):
    """True where float64 may see the other side: it knows a kink's distance to some 1e-15 of the log-probabilities."""
    return any(abs(distance) <= 1e-13 * (1 + sum(map(abs, pair[:4]))) for distance in kinks(name, pair, hyper))


def sensitivity(name, pair, hyper):
    """How far (value, d_w, d_l) move when an input moves by 2⁻⁴⁷ of itself, up or down; summed over the inputs.

    That is 64 unit round-offs: what some twenty operations, each good to two units in the last place, may do to a
    result that is exact for slightly different inputs. Where the result crosses zero nothing better can be asked.
    """
    (pair, hyper), total = exactly(pair, hyper), np.zeros(3, dtype=object)
    here = np.array(evaluate(name, pair, hyper))
    for change in (1 + mpf(2) ** -47, 1 - mpf(2) ** -47):
        there = [evaluate(name, pair._replace(**{key: change * x}), hyper) for key, x in pair._asdict().items()]
        there += [evaluate(name, pair, hyper | {key: change * x}) for key, x in hyper.items()]
        total += abs(np.array(there) - here).sum(axis=0)
    if name in CANCELLING:
        total[1] += mpf(2) ** -47 * CANCELLING[name](pair, **hyper)
    return total


def assert_agrees(name, pair, hyper, *actual):
    """Each `actual` (value, d_w, d_l) is what float64 can know of the truth; near a kink only the values are compared.

    The largest reward met in tests is 8e4 nats (β = 2 times four log-probabilities of 1e4): known to some 1e-11, and
    so is its exponential, relatively. Hence 1e-9; or the change under 64 unit round-offs of the inputs, if more.
    """
    compared = 1 if near_kink(name, pair, hyper) else 3
    slips = cache(lambda: sensitivity(name, pair, hyper))  # slow, and seldom asked for
    for i, want in enumerate(evaluate(name, pair, hyper)[:compared]):
        for got in (float(numbers[i]) for numbers in actual):
            agrees = within(got, want, REWARD_ROUNDOFF * abs(want) + SMALLEST) or within(got, want, slips()[i])
            what = f"{('value', 'd_w', 'd_l')[i]} of {name}({hyper}) at {pair}"
            assert agrees, f"{what}: {got!r}, truly {mp.nstr(want, 17)}"


def within(got, want, error):
    """|got − want| ≤ error, where an infinity stands for every number too large for float64; NaN never is."""
    if np.isinf(got):
        return want * np.sign(got) + error >= LARGEST
    return abs(got - want) <= error


def measure(losses, pairs):
    """Value, closed-form and autodiff weights of losses of one name at one pair each: arrays (n,), (n, 2), (n, 2)."""
    results = []
    for start in range(0, len(pairs), BATCH):
        rows = (np.arange(start, start + BATCH)).clip(max=len(pairs) - 1)  # one shape: the last row again and again
        stacked = jax.tree.map(lambda *hyper: np.array(hyper), *(losses[i] for i in rows))
        *logps, n_w, n_l = np.array([pairs[i] for i in rows], dtype=float).T
        results.append(_measure(stacked, (*logps, n_w.astype(int), n_l.astype(int))))
    return tuple(np.concatenate(parts)[: len(pairs)] for parts in zip(*results, strict=True))


@jax.jit
@jax.vmap
def _measure(loss, pair):
    value, (by_chosen, by_rejected) = jax.value_and_grad(loss.value, argnums=(0, 1))(*pair)
    return value, jnp.stack(loss.weights(*pair)), jnp.stack([-by_chosen, by_rejected])
