"""T10 under a preconditioner and T13 for networks: SGD's and Adam's first steps against the model itself.

Round-off of slopes is what `NetworkWorld.gradient_errors` does to them, entry by entry: see `slope_errors`.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import assume, event, example, given, target
from hypothesis import strategies as st
from jax.flatten_util import ravel_pytree
from neural import MODEL, NETWORKS, network_world, network_worlds, random_params
from oracles import assert_close, single
from strategies import one_token_pair, seeds, weights

from toymodel import PairGram, PreferencePairs, gradients, theory
from toymodel.models.logps import pair_logps, response_logp

EPS = float(jnp.finfo(jnp.float64).eps)
betas = st.sampled_from([0.0, 0.5, 0.9, 0.999])
epsilons = st.floats(-8, 0).map(lambda exponent: 10.0**exponent)


def pair_gradients(w):
    """g_w and g_l of a world's only pair."""
    return [np.asarray(g[0]) for g in gradients.pair_gradients(w.model, w.params, w.pairs)]


def positive_scale(w, seed, decades=6):
    """A positive number for every parameter, over twelve orders of magnitude; flat, and as a tree."""
    flat, unravel = ravel_pytree(w.params)
    scale = 10 ** np.random.default_rng(seed).uniform(-decades, decades, flat.size)
    return scale, unravel(scale)


def logps(model, params, pair):
    """[2]: log π_w and log π_l."""
    return jax.vmap(partial(response_logp, model, params))(pair.both_responses)


@partial(jax.jit, static_argnums=0)
def derivatives(model, params, pair, step, etas):
    """[4, etas, 2]: (log π_w, log π_l) and their first three derivatives in η at θ + η · step, forward through it."""
    flat, unravel = ravel_pytree(params)

    def and_derivative(f):
        return lambda eta: jax.jvp(f, (eta,), (jnp.ones_like(eta),))

    def orders(eta):
        f = and_derivative(and_derivative(and_derivative(lambda eta: logps(model, unravel(flat + eta * step), pair))))
        ((zeroth, first), (_, second)), ((_, _), (_, third)) = f(eta)
        return jnp.array([zeroth, first, second, third])

    return jax.vmap(orders, out_axes=1)(etas)


ETAS = np.linspace(0, 1, 9)  # one shape, so that little is compiled


@partial(jax.jit, static_argnums=0)
def _slopes(model, params, pair, step):
    flat, unravel = ravel_pytree(params)
    return jax.jvp(lambda flat: logps(model, unravel(flat), pair), (flat,), (step,))[1]


def measured_slopes(w, step):
    """[2]: forward derivative of the model along a step."""
    return np.asarray(_slopes(w.model, w.params, w.pairs[0], step))


@partial(jax.jit, static_argnums=0)
def adam_update(model, params, pair, d_chosen, d_rejected, b1, b2, epsilon):
    """The first update of optax's Adam at a learning rate of 1, flat."""
    adam = optax.adam(1.0, b1=b1, b2=b2, eps=epsilon)
    gradient = jax.grad(lambda params: logps(model, params, pair) @ jnp.array([-d_chosen, d_rejected]))(params)
    return ravel_pytree(adam.update(gradient, adam.init(params), params)[0])[0]


def slope_errors(w, scale, d_chosen=1.0, d_rejected=1.0, relative=0.0):
    """[2]: round-off of both slopes along u = P(d_w g_w − d_l g_l), P fixed or 1/(|g| + ε).

    An entry of g is off by δ = d_w δ_w + d_l δ_l, hence one of u by 2Pδ: for Adam because g/(|g| + ε) and g′/(|g′| + ε)
    differ by at most 2|g − g′|/(max(|g|, |g′|) + ε). Sums of products lose `unit` of their terms. `relative`: what else
    u is off by.
    """
    pair, deltas = pair_gradients(w), w.gradient_errors
    d = d_chosen, d_rejected
    delta = np.dot(d, deltas)
    terms = scale * np.dot(d, np.abs(pair))
    off = 2 * scale * delta + (w.unit + relative) * terms
    return np.array([(abs(g) * off + own * terms).sum() for g, own in zip(pair, deltas, strict=True)])


# --- T10: slopes and cases under a preconditioner -------------------------------------------------------------------


@given(network_worlds(), weights, weights, seeds)
def test_t10_slopes_along_a_preconditioned_step(w, d_chosen, d_rejected, seed):
    scale, tree = positive_scale(w, seed)
    gram = gradients.preconditioned_pair_gram(w.model, w.params, w.pairs, tree)
    chosen, rejected = pair_gradients(w)
    measured = measured_slopes(w, scale * (d_chosen * chosen - d_rejected * rejected))
    predicted = single(theory.slopes(gram, d_chosen, d_rejected))
    assert_close(predicted, measured, slope_errors(w, scale, d_chosen, d_rejected), 1)


@given(network_worlds(), weights, weights, betas, betas, epsilons)
def test_t10_slopes_of_adams_first_step(w, d_chosen, d_rejected, b1, b2, epsilon):
    gram = gradients.first_adam_gram(w.model, w.params, w.pairs, d_chosen, d_rejected, epsilon=epsilon)
    update = adam_update(w.model, w.params, w.pairs[0], d_chosen, d_rejected, b1, b2, epsilon)
    measured, predicted = measured_slopes(w, update), single(theory.slopes(gram, d_chosen, d_rejected))
    chosen, rejected = pair_gradients(w)
    scale = gradients.adam_preconditioner(d_rejected * rejected - d_chosen * chosen, epsilon)
    # Adam multiplies by 1 − b and divides by 1 − b¹, which costs that difference's round-off.
    relative = 4 * EPS * (1 / (1 - b1) + 1 / (1 - b2))
    assert_close(predicted, measured, slope_errors(w, scale, d_chosen, d_rejected, relative), 1)
    event(theory.CASES[int(theory.case_of_slopes(*measured))])


@given(network_worlds(), weights, weights, seeds)
def test_t10_impossible_with_any_positive_diagonal(w, d_chosen, d_rejected, seed):
    """Hypothesis climbs towards it, as in the test of T10 without a preconditioner."""
    scale, tree = positive_scale(w, seed)
    gram = gradients.preconditioned_pair_gram(w.model, w.params, w.pairs, tree)
    chosen, rejected = single(theory.slopes(gram, d_chosen, d_rejected))
    ww, ll, wl = single(gram)
    sizes = d_chosen * ww + d_rejected * abs(wl), d_chosen * abs(wl) + d_rejected * ll
    nearness = min(-chosen / sizes[0], rejected / sizes[1])
    target(float(nearness))
    assert nearness <= scale.size * EPS  # Cauchy–Schwarz, but for the round-off of three sums of so many terms
    # The same of Adam's own diagonal.
    adam = single(gradients.first_adam_gram(w.model, w.params, w.pairs, d_chosen, d_rejected))
    chosen, rejected = theory.slopes(PairGram(*adam), d_chosen, d_rejected)
    sizes = d_chosen * adam[0] + d_rejected * abs(adam[2]), d_chosen * abs(adam[2]) + d_rejected * adam[1]
    assert min(-chosen / sizes[0], rejected / sizes[1]) <= scale.size * EPS


@given(network_worlds(temperature=st.sampled_from([1.0, 0.3])), weights, weights)
def test_t10_needs_a_positive_preconditioner(w, d_chosen, d_rejected):
    """One negative entry is enough: where ∂log π_w and ∂log π_l have opposite signs, and large against the rest."""
    chosen, rejected = pair_gradients(w)
    place = np.argmax(-chosen * rejected)
    assume(chosen[place] * rejected[place] < -1e-6)
    gram = gradients.pair_gram(w.model, w.params, w.pairs)
    slopes = abs(single(theory.slopes(gram, d_chosen, d_rejected)))
    step = d_chosen * chosen - d_rejected * rejected
    scale = np.ones(step.size)
    here = np.array([chosen[place], rejected[place]])
    scale[place] = -2 * (slopes / abs(here * step[place])).max() - 2
    measured = measured_slopes(w, scale * step)
    assert theory.case_of_slopes(*measured) == theory.CASES.index("chosen_down_rejected_up")


# --- T13: halving the step divides the error of the slope by four ---------------------------------------------------


class Rule(NamedTuple):
    """An optimiser from a learning rate, and what its first step multiplies the gradient by."""

    optimizer: object
    gram: object
    scale: object


RULES = {
    "sgd": Rule(optax.sgd, gradients.pair_gram, np.ones_like),
    "adam": Rule(optax.adam, gradients.first_adam_gram, gradients.adam_preconditioner),
}


@partial(jax.jit, static_argnums=(0, 1))
def changes(optimizer, model, params, pairs, etas):
    """[etas, 2]: true changes of (log π_w, log π_l) of the only pair at each learning rate."""
    return jax.vmap(lambda eta: jnp.array(gradients.step_change(model, params, pairs, optimizer(eta)))[:, 0])(etas)


class Halving(NamedTuple):
    """Errors of η · slope [9, 2] at η, η/2, η/4 …, third derivatives [9, 2] on a grid over [0, η], round-off [9, 2]."""

    errors: np.ndarray
    thirds: np.ndarray
    slip: np.ndarray
    eta: float


def halving(w, rule, move, slope_factor=1.0):
    """`move`: about what the fastest of both log-probabilities, or of its derivatives, moves by at η."""
    chosen, rejected = pair_gradients(w)
    scale = np.asarray(rule.scale(chosen - rejected))
    step = scale * (chosen - rejected)
    arguments = (w.model, w.params, w.pairs)
    here = np.asarray(derivatives(w.model, w.params, w.pairs[0], step, 0 * ETAS))[:, 0]
    fastest = max((abs(here[order]).max() * move ** (order - 1)) ** (1 / order) for order in (1, 2, 3))
    # Where the gradients cancel, the step is their round-off. That must stay small as well: it counts to first order.
    loose = (scale * (w.gradient_errors.sum() + w.unit * (abs(chosen) + abs(rejected)))).max()
    eta = min(move / max(fastest, 1e-100), 1e-3 / max(loose, 1e-100))
    etas = eta / 2.0 ** np.arange(9)
    slopes = slope_factor * single(theory.slopes(rule.gram(*arguments)))
    errors = np.asarray(changes(rule.optimizer, *arguments, etas)) - np.outer(etas, slopes)
    thirds = np.asarray(derivatives(w.model, w.params, w.pairs[0], step, eta * ETAS))[3]
    # A log-probability is off by what round-off of all layers does to it, and by that of the sum over tokens.
    flat = abs(ravel_pytree(w.params)[0])
    values = w.unit * (np.array([flat @ abs(chosen), flat @ abs(rejected)]) + abs(here[0]) + w.pairs.chosen.shape[1])
    return Halving(errors, thirds, 2 * values + np.outer(etas, slope_errors(w, scale)), eta)


SAME_ANSWER = one_token_pair(5, 0, 0, length=4, prompt=(1, 2))  # the gradients cancel, but for round-off


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
@given(w=network_worlds(), move=st.floats(1e-3, 0.3))
@example(w=network_world(NETWORKS["tied"], SAME_ANSWER, temperature=0.1), move=0.25)
def test_t13_error_of_the_slope_is_quartered_when_the_step_is_halved(rule, w, move):
    """error(η) − 4 error(η/2) = ∫ K f‴ with K ≥ 0 of integral η³/12: η³/12 times a value that f‴ takes in [0, η].

    That is the lemma of `halving_bound`, f the log-probability along the step, which has one direction for all η. f‴
    is measured at nine points; between two of them it is taken to leave their values by no more than they differ.
    """
    errors, thirds, slip, eta = halving(w, rule, move)
    wider = abs(np.diff(thirds, axis=0)).max(axis=0)
    least, most = (thirds.min(axis=0) - wider) * eta**3 / 12, (thirds.max(axis=0) + wider) * eta**3 / 12
    difference, round_off = errors[0] - 4 * errors[1], slip[0] + 4 * slip[1]
    assert np.all(difference <= most + round_off)
    assert np.all(difference >= least - round_off)
    bound = np.maximum(abs(least), abs(most))
    # Where that is small against the error, the ratio itself is 4, within that bound.
    clear = abs(errors[1]) > 20 * (bound + round_off)
    assert np.all(abs(errors[0, clear] / errors[1, clear] - 4) <= 0.05)
    event(f"ratio seen: {bool(clear.any())}; difference seen: {bool(np.any(abs(difference) > 10 * round_off))}")


PAIRS = PreferencePairs.from_lists([[1, 4]], [[0, 2, 3]], [[1, 2]], vocab_size=5, length=4)


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
@pytest.mark.parametrize("name", ["mlp", "tied"])
def test_t13_ratio_tends_to_four(rule, name):
    """Its distance from 4 is of the order η: each halving halves it, which a tenth tells from staying or quartering."""
    errors, _, slip, _ = halving(network_world(NETWORKS[name], PAIRS, seed=1), rule, 0.3)
    away = (errors[:-1] / errors[1:] - 4)[:5]
    lost = ((slip[:-1] + 4 * slip[1:]) / abs(errors[1:]))[:5]
    assert np.all(lost < 0.05 * abs(away))
    assert np.all(abs(away[4] / away[3] - 0.5) < 0.1)
    assert np.all(abs(away[4]) < 0.15)


@pytest.mark.parametrize(("gram", "factor"), [(gradients.pair_gram, 1.0), (gradients.first_adam_gram, 1.01)])
def test_t13_a_wrong_slope_shows_in_the_ratio(gram, factor):
    """The plain Gram with Adam, or one per cent off: the error falls by 2 in the end, so the tests above can tell."""
    rule = RULES["adam"]._replace(gram=gram)
    errors, *_ = halving(network_world(NETWORKS["tied"], PAIRS, seed=1), rule, 1e-3, factor)
    assert np.all(abs(errors[-2] / errors[-1] - 2) < 0.1)


# --- The functions themselves ---------------------------------------------------------------------------------------

BATCH = PreferencePairs.from_lists([[1, 4], [2, 2], []], [[0, 2], [1], [3]], [[1], [4, 4], [0]], vocab_size=5, length=4)


def test_one_everywhere_is_the_plain_gram_and_pairs_do_not_meet():
    params = random_params(0, MODEL)
    ones = jax.tree.map(jnp.ones_like, params)
    ours = gradients.preconditioned_pair_gram(MODEL, params, BATCH, ones)
    plain = gradients.pair_gram(MODEL, params, BATCH)
    size = np.sqrt(plain.chosen_sq * plain.rejected_sq) + plain.chosen_sq + plain.rejected_sq
    for ours_entry, plain_entry in zip(ours, plain, strict=True):
        assert_close(ours_entry, plain_entry, size, ravel_pytree(params)[0].size * EPS)  # sums of so many terms
    d_chosen, d_rejected = np.array([1.0, 0.2, 3.0]), np.array([0.5, 1.0, 2.0])
    together = gradients.first_adam_gram(MODEL, params, BATCH, d_chosen, d_rejected, epsilon=1e-3)
    for i in range(len(BATCH)):
        alone = gradients.first_adam_gram(MODEL, params, BATCH[i : i + 1], d_chosen[i], d_rejected[i], epsilon=1e-3)
        # An entry of P g answers to round-off of g by up to 1/ε.
        assert_close(single(alone), [entry[i] for entry in together], sum(single(alone)[:2]), 1e-9)


def test_works_inside_jit_and_in_float32():
    params = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), random_params(0, MODEL))
    eager = gradients.first_adam_gram(MODEL, params, BATCH, 2.0, 1.0, epsilon=1e-3)
    traced = jax.jit(partial(gradients.first_adam_gram, MODEL))(params, BATCH, 2.0, 1.0, epsilon=1e-3)
    assert all(entry.dtype == jnp.float32 for entry in (*eager, *traced))
    scale = gradients.adam_preconditioner(params)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(scale))
    size = eager.chosen_sq + eager.rejected_sq
    for one, other in zip(eager, traced, strict=True):
        # Entries of g are below 10 and off by 100 unit round-offs of that; P answers by up to 1/ε.
        assert_close(one, other, size, 100 * 10 * float(jnp.finfo(jnp.float32).eps) / 1e-3)
    gram = jax.jit(partial(gradients.preconditioned_pair_gram, MODEL))(params, BATCH, scale)
    assert gram.inner.dtype == jnp.float32


def test_adams_preconditioner_is_what_optax_divides_by():
    gradient = {"a": jnp.array([0.0, -2.0, 1e-9]), "b": jnp.array(3.0)}
    adam = optax.adam(1.0, eps=1e-6)
    update, _ = adam.update(gradient, adam.init(gradient))
    ours = jax.tree.map(lambda g, p: -g * p, gradient, gradients.adam_preconditioner(gradient, 1e-6))
    for name in gradient:
        assert_close(ours[name], update[name], abs(update[name]), 4 * EPS / (1 - 0.999))


PARAMS = random_params(0, MODEL)
ONES = jax.tree.map(np.ones_like, PARAMS)
BAD = {
    "another shape": (
        ONES | {"head_bias": np.ones(4)},
        r"`preconditioner` must have the shapes of `params`, .*\(4,\)",
    ),
    "one missing": ({"embedding": ONES["embedding"]}, "`preconditioner` must have the shapes"),
    "one number": (1.0, r"`preconditioner` must have the shapes of `params`, .* got \(\)"),
    "a zero": (ONES | {"head_bias": np.zeros(5)}, "`preconditioner` must be > 0 and finite, got 0.0"),
    "negative": (ONES | {"head_bias": -np.ones(5)}, "`preconditioner` must be > 0 and finite, got -1.0"),
    "infinite": (ONES | {"head_bias": np.full(5, np.inf)}, "`preconditioner` must be > 0 and finite, got inf"),
}


@pytest.mark.parametrize(("preconditioner", "message"), BAD.values(), ids=BAD)
def test_bad_preconditioner(preconditioner, message):
    with pytest.raises(ValueError, match=message):
        gradients.preconditioned_pair_gram(MODEL, PARAMS, BATCH, preconditioner)


BAD_ADAM = {
    "epsilon zero": ({"epsilon": 0.0}, "`epsilon` must be > 0 and finite, got 0.0"),
    "epsilon NaN": ({"epsilon": np.nan}, "`epsilon` must be > 0 and finite, got nan"),
    "weights of another length": ({"d_chosen": np.ones(2)}, r"`d_chosen` must be one number or one per pair \(3,\)"),
    "a weight infinite": ({"d_rejected": np.inf}, "`d_rejected` must be finite"),
}


@pytest.mark.parametrize(("arguments", "message"), BAD_ADAM.values(), ids=BAD_ADAM)
def test_bad_arguments_of_adams_gram(arguments, message):
    with pytest.raises(ValueError, match=message):
        gradients.first_adam_gram(MODEL, PARAMS, BATCH, **arguments)


def test_tokens_outside_the_vocabulary_are_told():
    with pytest.raises(ValueError, match="`prompt` must hold token ids"):
        gradients.first_adam_gram(MODEL, PARAMS, jax.tree.map(lambda a: a + 5 if a.dtype != bool else a, BATCH))
    assert np.all(np.isfinite(pair_logps(MODEL, PARAMS, BATCH)))
