"""T17–T19: remedies as closed forms, against derivatives and true steps of the model.

Round-off is that of `World.roundoff`, relative to the terms summed, unless a test says otherwise.
"""

from dataclasses import replace
from itertools import product
from random import Random

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, event, find, given, settings
from hypothesis import strategies as st
from oracles import assert_close, single, slope_sizes, token_sizes
from signed_groups import groups
from steps import change_sizes, sgd_changes, step_sizes
from strategies import MODELS, SHAPES, World, entries, grams, pairs_of, seeds, temperatures, weights, world, worlds

from toymodel import PairGram, PreferencePairs, gradients, theory
from toymodel.models import linear
from toymodel.models.logps import pair_logps

UP_DOWN, BOTH_DOWN, BOTH_UP = theory.CASES[:3]
EPS = float(jnp.finfo(jnp.float64).eps)


# --- T17: the normalised pair ---------------------------------------------------------------------------------------


def along_directions(norms, sums, roundoff):
    """Sizes of the terms in the slopes along ĝ_w − ĝ_l: ‖g‖(κ_w² + κ_l²), κ = Σ‖s_i‖‖φ_i‖/‖g‖.

    κ² is what cancels between tokens: in the slopes' own inner products (κ_w² + κ_wκ_l), and half of it in each norm
    that they are divided by, predicted and measured: 2(κ_w² + κ_l²) bounds them all. Pairs where that leaves less than
    two digits of a direction are left out.
    """
    assume(np.all(norms**2 > 100 * roundoff * sums**2))
    return 2 * norms * np.sum((sums / norms) ** 2)


def normalised(w):
    """Measured ‖g_w‖ and ‖g_l‖ of a world's pair, and the sizes of its slopes along the normalised direction."""
    norms = np.array([np.linalg.norm(g[0]) for g in gradients.pair_gradients(w.model, w.params, w.pairs)])
    return norms, along_directions(norms, np.array([size.sum() for size in token_sizes(w)]), w.roundoff)


@given(worlds())
def test_t17_slopes_of_the_normalised_pair_and_their_signs_at_any_cosine(w):
    norms, sizes = normalised(w)
    predicted = single(theory.normalised_slopes(theory.pair_gram(w.model, w.params, w.pairs)))
    measured = single(gradients.slopes(w.model, w.params, w.pairs, *(1 / norms)))
    assert_close(predicted, measured, sizes, w.roundoff)
    assert measured[0] >= -w.roundoff * sizes[0]
    assert measured[1] <= w.roundoff * sizes[1]
    event(f"entangled: {bool(theory.pair_gram(w.model, w.params, w.pairs).inner[0] > 0)}")


@given(worlds(), weights, weights)
def test_t17_balanced_weights_take_the_normalised_direction(w, d_chosen, d_rejected):
    norms, sizes = normalised(w)
    gram = theory.pair_gram(w.model, w.params, w.pairs)
    balanced = theory.balanced_weights(gram, d_chosen, d_rejected)
    measured = single(gradients.slopes(w.model, w.params, w.pairs, *balanced))
    scale = np.sqrt(d_chosen * d_rejected * norms.prod())
    assert_close(measured, scale * single(theory.normalised_slopes(gram)), scale * sizes, w.roundoff)
    # Strictly apart, and so inside the band, unless the gradients are parallel.
    if np.all(abs(measured) > w.roundoff * scale * sizes):
        assert measured[0] > 0 > measured[1]
        assert theory.in_band(gram, *balanced)[0]


@given(grams(cosine=st.one_of(st.floats(-1, 1), st.floats(-12, -1).map(lambda k: 1 - 10**k))), weights, weights)
def test_t17_balanced_weights_keep_the_product_and_stand_at_the_centre_of_the_band(gram, d_chosen, d_rejected):
    d_w, d_l = (float(d) for d in theory.balanced_weights(gram, d_chosen, d_rejected))
    # A dozen roots, products and quotients.
    assert_close(d_w * d_l, d_chosen * d_rejected, d_chosen * d_rejected, 12 * EPS)
    assert_close(d_w / d_l, np.sqrt(gram.rejected_sq / gram.chosen_sq), d_w / d_l, 12 * EPS)
    low, high = theory.band(gram)
    if 0 < low < high:
        assert_close((d_w / d_l) / low, high / (d_w / d_l), high / low, 24 * EPS)
    norms = np.sqrt([gram.chosen_sq, gram.rejected_sq])
    cosine = gram.inner / norms.prod()
    slopes, scale = np.array(theory.normalised_slopes(gram)), np.sqrt(d_chosen * d_rejected * norms.prod())
    assert_close(slopes, [1, -1] * norms * (1 - cosine), norms, 8 * EPS)
    assert_close(theory.slopes(gram, d_w, d_l), scale * slopes, 2 * scale * norms, 12 * EPS)
    if cosine < 1 - 12 * EPS:
        assert theory.in_band(gram, d_w, d_l)
        assert theory.case(gram, d_w, d_l) == UP_DOWN


@given(st.floats(-6, 0).map(lambda exponent: 10.0**exponent))
def test_t17_slopes_stay_right_as_the_gradients_become_parallel(shrink):
    """A shared token, then a contrast token whose features are ε long: cos = (1 − ε²)/(1 + ε²), uniform over two.

    Both norms are √((1 + ε²)/2), so that the slopes are ±√2 ε²/√(1 + ε²): as near to zero as one likes, never beyond.
    """
    pairs = PreferencePairs.from_lists([[]], [[0, 0]], [[0, 1]], vocab_size=2)
    features = jnp.diag(jnp.array([1.0, shrink]))[None]
    model, params = linear.frozen_features(2, pairs, features, features), jnp.zeros((2, 2))
    exact = np.sqrt(2) * shrink**2 / np.sqrt(1 + shrink**2)
    gram = theory.pair_gram(model, params, pairs)
    measured = single(gradients.slopes(model, params, pairs, *(1 / np.sqrt([gram.chosen_sq, gram.rejected_sq]))))
    for slopes in (measured, single(theory.normalised_slopes(gram))):
        assert_close(slopes, [exact, -exact], 1, 16 * EPS)  # sums and roots of half a dozen terms of size 1
        assert slopes[0] > 0 > slopes[1]  # ε² ≥ 1e-12
    assert theory.cosine(gram)[0] > 1 - 2 * shrink**2 - 8 * EPS


@given(worlds(("random_features", "positional_offset")), step_sizes)
def test_t17_at_every_step_size_the_rejected_falls_and_half_the_certified_one_raises_the_chosen(w, etas):
    """T12 along ĝ_w − ĝ_l, where the slope of the rejected is never positive: learning rates from 1e-4 to 1e4."""
    norms, sizes = normalised(w)
    d = 1 / norms
    slopes = single(theory.normalised_slopes(theory.pair_gram(w.model, w.params, w.pairs)))
    directions = theory.logit_directions(w.model, w.params, w.pairs, *d)
    shortfall = single(map(theory.range_shortfall, directions))

    def measured(etas):
        slip = w.roundoff * (change_sizes(w, etas, *d) + etas * sizes[:, None])
        return sgd_changes(w.model, w.params, w.pairs, etas, *d), slip

    changes, slip = measured(etas)
    low, high = theory.change_bounds(slopes[:, None], shortfall[:, None], etas)
    assert np.all(changes <= high + slip)
    assert np.all(changes >= low - slip - w.roundoff * etas**2 * shortfall[:, None])
    assert np.all(changes[1] <= slip[1])
    falls = -high[1] > slip[1]
    assert np.all(changes[1][falls] < 0)
    event(f"rejected clearly falls at every step size: {bool(falls.all())}")

    step = float(theory.certified_step(slopes[0], shortfall[0]))
    if 0 < step < np.inf:
        fractions = np.arange(1, 10) / 10  # a half, and others below one
        changes, slip = measured(fractions * step)
        surely = fractions * (1 - fractions) * slopes[0] * step  # the lower bound, f(1 − f) · slope²/shortfall
        clear = surely > slip[0]
        assert np.all(changes[0][clear] > 0)
        event(f"chosen clearly rises at half the certified step: {bool(clear[4])}")


def test_t17_a_zero_gradient_has_no_direction():
    for gram in (PairGram(0.0, 1.0, 0.0), PairGram(1.0, np.float64(0.0), 0.0), PairGram(0.0, 0.0, 0.0)):
        assert np.isnan(theory.normalised_slopes(gram)).all()
        assert np.isnan(theory.balanced_weights(gram)).all()
        assert np.isnan(theory.likelihood_window(gram)).all()


# --- T17: more than one pair ----------------------------------------------------------------------------------------

tokens = st.lists(st.integers(0, 2), min_size=1, max_size=2)
batches = st.tuples(tokens, tokens, tokens, tokens)  # chosen and rejected of one pair, and of another
SMALLEST = ([0], [0, 1], [1], [0, 2])


def slopes_under_the_mean(batch):
    """Slopes of the four log-probabilities, alone (pair by pair) and under the mean of the two normalised pairs.

    Unigram, three tokens, uniform: the gradient of a response is the counts of its tokens minus their mean.
    """
    gradient = np.array([np.bincount(response, minlength=3) - len(response) / 3 for response in batch])
    unit = gradient / np.linalg.norm(gradient, axis=1, keepdims=True)
    steps = unit[[0, 2]] - unit[[1, 3]]
    alone = (gradient * steps[[0, 0, 1, 1]]).sum(axis=1)
    return alone, gradient @ steps.mean(axis=0)


def reverses_the_first_pair(batch):
    """Both pairs are strictly apart, alone; under the mean the first one's chosen falls and its rejected rises."""
    alone, together = slopes_under_the_mean(batch)
    return bool(np.all(alone * [1, -1, 1, -1] > 0.1) and together[0] < -0.1 and together[1] > 0.1)


def check_by_measurement(batch):
    """Slopes alone and under the mean, from measured gradients and from the log-probabilities themselves."""
    w, l, other_w, other_l = batch  # noqa: E741
    pairs = PreferencePairs.from_lists([[], []], [w, other_w], [l, other_l], vocab_size=3, length=2)
    model, params = linear.unigram(3), jnp.zeros((3, 1))
    chosen, rejected = (np.asarray(g) for g in gradients.pair_gradients(model, params, pairs))
    norms = [np.linalg.norm(g, axis=1) for g in (chosen, rejected)]
    alone, together = slopes_under_the_mean(batch)
    # Sums of three terms of size 1, a few times over.
    own = np.array(gradients.slopes(model, params, pairs, *(1 / n for n in norms)))
    assert_close(own.T.ravel(), alone, 4, 16 * EPS)
    assert_close(theory.normalised_slopes(theory.pair_gram(model, params, pairs)), own, 4, 16 * EPS)
    mean = (chosen / norms[0][:, None] - rejected / norms[1][:, None]).mean(axis=0)
    assert_close(np.stack([chosen @ mean, rejected @ mean], axis=1).ravel(), together, 4, 16 * EPS)

    # The same from the log-probabilities themselves. log π along the mean has |f‴| ≤ Σ_i range³/(6√3), and T ≤ 2.
    h = 1e-4
    ahead, back = (np.array(pair_logps(model, params + move * mean[:, None], pairs)) for move in (h, -h))
    truncation = h**2 / 6 * 2 * np.ptp(mean) ** 3 / (6 * 3**0.5)
    slopes = (ahead - back) / (2 * h)
    assert np.all(abs(slopes.T.ravel() - together) <= truncation + 32 * EPS / h)
    assert ahead[0, 0] < back[0, 0]
    assert ahead[1, 0] > back[1, 0]


def test_t17_the_mean_of_normalised_pairs_can_reverse_one_of_them():
    """The smallest such batch, three equally likely tokens in every context: "0" over "0 1", and "1" over "0 2".

    Alone, each pair's normalised step raises its chosen and lowers its rejected answer. The second step points against
    the first and is twice as long: "1" and "0 2" have opposite gradients, those of "0" and "0 1" are 60° apart. So
    under the mean "0" falls with slope −√(2/3)/4 and "0 1" rises as fast: the case that no pair alone can show.
    """
    assert reverses_the_first_pair(SMALLEST)
    assert_close(slopes_under_the_mean(SMALLEST)[1][:2], np.sqrt(2 / 3) * np.array([-0.25, 0.25]), 1, 16 * EPS)
    check_by_measurement(SMALLEST)
    # Hypothesis finds one of this size by itself, and there is none smaller.
    found = find(batches, reverses_the_first_pair, settings=settings(max_examples=5000), random=Random(0))
    assert sum(map(len, found)) == sum(map(len, SMALLEST)) == 6
    check_by_measurement(found)
    responses = [list(t) for length in (1, 2) for t in product(range(3), repeat=length)]
    smaller = [batch for batch in product(responses, repeat=4) if sum(map(len, batch)) < 6]
    assert not any(map(reverses_the_first_pair, smaller))


@given(groups(("bigram",), (4, 16)))
def test_t17_normalising_the_mean_gradients_guarantees_the_means(g):
    """Ĝ_w − Ĝ_l for G the mean gradients over the batch: one pair's law, with G_w and G_l in place of g_w and g_l."""
    B = g.sizes.size // 2
    norms = np.array([np.linalg.norm(v.mean(axis=0)) for v in gradients.pair_gradients(g.model, g.params, g.pairs)])
    sizes = along_directions(norms, g.sizes.reshape(2, B).mean(axis=1), g.roundoff)
    blocks = np.asarray(theory.group_gram(g.model, g.params, g.responses)).reshape(2, B, 2, B).mean(axis=(1, 3))
    predicted = np.array(theory.normalised_slopes(PairGram(blocks[0, 0], blocks[1, 1], blocks[0, 1])))
    responses, advantages = theory.as_group(g.pairs, *(1 / norms))
    measured = np.asarray(gradients.group_slopes(g.model, g.params, responses, advantages)).reshape(2, B).mean(axis=1)
    assert_close(predicted, measured, sizes, g.roundoff)
    assert measured[0] >= -g.roundoff * sizes[0]
    assert measured[1] <= g.roundoff * sizes[1]


def test_t17_normalising_the_mean_gradients_guarantees_no_single_pair():
    """The smallest batch again: the mean log π_w rises, the mean log π_l falls, and the first pair is reversed."""
    w, l, other_w, other_l = SMALLEST  # noqa: E741
    pairs = PreferencePairs.from_lists([[], []], [w, other_w], [l, other_l], vocab_size=3)
    model, params = linear.unigram(3), jnp.zeros((3, 1))
    norms = [np.linalg.norm(g.mean(axis=0)) for g in gradients.pair_gradients(model, params, pairs)]
    responses, advantages = theory.as_group(pairs, 1 / norms[0], 1 / norms[1])
    chosen, rejected = np.asarray(gradients.group_slopes(model, params, responses, advantages)).reshape(2, 2)
    assert chosen.mean() > 0 > rejected.mean()
    assert chosen[0] < 0 < rejected[0]


# --- T18: weights on tokens -----------------------------------------------------------------------------------------


def token_weights(seed, w):
    """Weights for both responses, [1, T] each: some zero, some one, some between, and some at padding."""
    rng = np.random.default_rng(seed)
    return [np.clip(rng.uniform(-0.5, 1.5, tokens.shape), 0, 1) for tokens in (w.pairs.chosen, w.pairs.rejected)]


def measured_masked_gram(w, chosen_weights, rejected_weights):
    """From the tokens' gradients, one by one; and the sizes of what is summed."""
    responses = w.pairs[0].chosen_response, w.pairs[0].rejected_response
    weights = np.asarray(chosen_weights[0]), np.asarray(rejected_weights[0])
    chosen, rejected = (
        u @ np.asarray(gradients.token_gradients(w.model, w.params, r)) for u, r in zip(weights, responses, strict=True)
    )
    sizes = [u @ size for u, size in zip(weights, token_sizes(w), strict=True)]
    return np.array([chosen @ chosen, rejected @ rejected, chosen @ rejected]), np.array(
        [sizes[0] ** 2, sizes[1] ** 2, sizes[0] * sizes[1]]
    )


@given(worlds(), seeds)
def test_t18_masked_gram_is_that_of_the_weighted_token_gradients(w, seed):
    u = token_weights(seed, w)
    measured, sizes = measured_masked_gram(w, *u)
    assert_close(single(theory.masked_gram(w.model, w.params, w.pairs, *u)), measured, sizes, w.roundoff)


@given(worlds())
def test_t18_all_tokens_kept_is_the_pair_itself_and_none_is_nothing(w):
    ones, zeros = np.ones(w.pairs.chosen.shape), np.zeros(w.pairs.chosen.shape)
    whole = theory.pair_gram(w.model, w.params, w.pairs)
    kept = theory.masked_gram(w.model, w.params, w.pairs, ones, ones)
    assert_close(single(kept), single(whole), measured_masked_gram(w, ones, ones)[1], w.roundoff)
    assert single(theory.masked_gram(w.model, w.params, w.pairs, ones, zeros))[1:].tolist() == [0, 0]


@st.composite
def contrast_worlds(draw):
    """A shared beginning, one differing token, then anything; and where that token stands."""
    kind = draw(st.sampled_from(MODELS))
    V, T = draw(st.sampled_from(SHAPES[kind]))
    pairs = draw(pairs_of(V, T))
    length = int((pairs.chosen_mask & pairs.rejected_mask).sum())
    place = draw(st.integers(0, length - 1))
    rejected = np.where(np.arange(T) < place, pairs.chosen, pairs.rejected)
    rejected[0, place] = (pairs.chosen[0, place] + draw(st.integers(1, V - 1))) % V
    pairs = replace(pairs, rejected=rejected)
    return world(kind, pairs, V, seed=draw(seeds), temperature=draw(temperatures)), place


@given(contrast_worlds())
def test_t18_the_contrast_token_alone_is_always_separated(case):
    """It is T4's pair, however many tokens stand around it and whatever they do."""
    w, place = case
    alone = np.eye(w.pairs.chosen.shape[1])[place][None]
    masked = theory.masked_gram(w.model, w.params, w.pairs, alone, alone)
    p = np.asarray(jax.nn.softmax(w.states[0].logits[place]))
    sq = float((w.states[0].features[place] ** 2).sum())
    chosen, rejected = int(w.pairs.chosen[0, place]), int(w.pairs.rejected[0, place])
    assert_close(single(masked), single(theory.single_token_gram(p[None], chosen, rejected, sq)), 4 * sq, w.roundoff)
    assert_close(single(masked), measured_masked_gram(w, alone, alone)[0], 4 * sq, w.roundoff)
    assert theory.case(masked)[0] == UP_DOWN


def offset_world(chosen, rejected, chosen_probs, rejected_probs):
    """A positional offset model and one pair: probabilities [T, V] on either side, W zero."""
    V, T = np.shape(chosen_probs)[::-1]
    pairs = PreferencePairs.from_lists([[]], [chosen], [rejected], vocab_size=V)
    logits = [jnp.log(jnp.array([probs])) for probs in (chosen_probs, rejected_probs)]
    return World("positional_offset", linear.positional_offset(V, pairs, *logits), jnp.zeros((V, T)), pairs)


def test_t18_one_suffix_token_in_the_mask_is_enough_to_displace():
    """Contrast token of probability 0.9 over one of 0.02; then a shared token of 1/2 after that, 0.02 after the other.

    The contrast adds 1 − 0.9 + 0.02 = 0.12 to the slope of the chosen, the suffix −(1/2)(0.48)(4/3) = −0.32 (T7): from
    a weight of √(0.12/0.32) = 0.61 on the suffix token on, the masked chosen falls.
    """
    suffix = [[(1 - top) / 3] * 2 + [top] + [(1 - top) / 3] for top in (0.5, 0.02)]
    w = offset_world([0, 2], [1, 2], [[0.9, 0.02, 0.04, 0.04], suffix[0]],
                                       [[0.9, 0.02, 0.04, 0.04], suffix[1]])  # fmt: skip

    def slopes(u):
        gram = theory.masked_gram(w.model, w.params, w.pairs, *[np.array([[1.0, u]])] * 2)
        measured, _ = measured_masked_gram(w, *[np.array([[1.0, u]])] * 2)
        assert_close(single(gram), measured, 4, 64 * EPS)  # eight products of size 1, and logarithms of size 4
        return single(theory.slopes(gram)), theory.case(gram)[0]

    assert_close(slopes(0.0)[0], [0.12, -1.88], 4, 64 * EPS)
    assert_close(slopes(1.0)[0], [0.12 - 0.32, -1.88 - 0.98 * 0.48 * 4 / 3], 4, 64 * EPS)
    threshold = np.sqrt(0.12 / 0.32)
    cases = [slopes(u)[1] for u in (0.0, 0.999 * threshold, 1.001 * threshold, 1.0)]
    assert cases == [UP_DOWN, UP_DOWN, BOTH_DOWN, BOTH_DOWN]


def test_t18_a_contrast_token_in_contexts_that_differ_can_be_displaced():
    """After different tokens: (0.9, 0.01, 0.09) before the chosen token 0, (0.01, 0.01, 0.98) before the rejected 1.

    The first residual, (0.1, −0.01, −0.09), is shorter than its overlap with the second, (−0.01, 0.99, −0.98).
    """
    even = [1 / 3] * 3
    w = offset_world([0, 0], [1, 1], [even, [0.9, 0.01, 0.09]], [even, [0.01, 0.01, 0.98]])
    second = np.array([[0.0, 1.0]])
    gram = theory.masked_gram(w.model, w.params, w.pairs, second, second)
    measured, _ = measured_masked_gram(w, second, second)
    assert_close(single(gram), [0.0182, 1.9406, 0.0773], 4, 64 * EPS)
    assert_close(single(gram), measured, 4, 64 * EPS)
    assert theory.case(gram)[0] == BOTH_DOWN


def test_t18_a_separated_mask_does_not_speak_for_the_tokens_it_leaves_out():
    """Unigram, uniform over three: "0 1 1" over "1 1 1", first tokens kept. Along e_0 − e_1 the 1s fall, twice."""
    pairs = PreferencePairs.from_lists([[]], [[0, 1, 1]], [[1, 1, 1]], vocab_size=3)
    model, params = linear.unigram(3), jnp.zeros((3, 1))
    first = np.array([[1.0, 0.0, 0.0]])
    assert theory.case(theory.masked_gram(model, params, pairs, first, first))[0] == UP_DOWN
    pair = pairs[0]
    tokens = [gradients.token_gradients(model, params, r) for r in (pair.chosen_response, pair.rejected_response)]
    step = tokens[0][0] - tokens[1][0]
    assert_close(tokens[0] @ step, [1, -1, -1], 2, 16 * EPS)  # the whole of log π_w falls with slope −1


# --- T19: how much likelihood term ----------------------------------------------------------------------------------


def slopes_with(gram, lam, d):
    """Slopes with λ log π_w added, and the sizes of their terms: d + λ is itself a sum."""
    chosen, inner = (d + abs(lam)) * np.array([gram.chosen_sq, abs(gram.inner)])
    return np.array(theory.slopes(gram, d + lam, d)), np.array([chosen, inner]) + d * np.array(
        [abs(gram.inner), gram.rejected_sq]
    )


@given(grams(), weights, st.floats(-3, 3), st.booleans(), st.sampled_from([-1, 1]))
def test_t19_window_is_case_one_for_every_real_lambda(gram, d, exponent, near_high, sign):
    """λ around either end, at distances from a thousandth to a thousand times the end's d + λ, or d where that is zero.

    Negative λ too, beyond −d included, where the chosen's weight is negative.
    """
    low, high = (float(end) for end in theory.likelihood_window(gram, d))
    end = high if near_high and np.isfinite(high) else low
    lam = end + sign * 10.0**exponent * (abs(d + end) or d)
    slopes, sizes = slopes_with(gram, lam, d)
    assume(np.all(abs(slopes) > 16 * EPS * sizes))  # half a dozen operations on either side
    inside = low < lam < high
    event(f"inside: {inside}, λ < −d: {lam < -d}")
    assert (theory.case(gram, d + lam, d) == UP_DOWN) == inside


@given(grams(cosine=st.floats(0.01, 0.99)), weights, st.floats(1e-9, 1e-3))
def test_t19_window_is_sharp(gram, d, step):
    """Just inside and just outside each end, down to a relative distance of 1e-9 of d + λ."""
    low, high = (d + float(end) for end in theory.likelihood_window(gram, d))
    inside, outside = (low * (1 + step), high * (1 - step)), (low * (1 - step), high * (1 + step))
    assert [theory.case(gram, d + (total - d), d) for total in inside] == [UP_DOWN, UP_DOWN]
    # Too little leaves the chosen falling; too much lifts the rejected as well.
    assert [theory.case(gram, d + (total - d), d) for total in outside] == [BOTH_DOWN, BOTH_UP]


@given(grams(), weights)
def test_t19_window_is_the_band_in_other_words(gram, d):
    """1 + λ/d is the ratio of the weights. The band is told of positive ratios only, the window of all."""
    low, high = (float(end) for end in theory.likelihood_window(gram, d))
    band_low, band_high = (float(end) for end in theory.band(gram))
    cosine, centre = (float(f(gram)) for f in (theory.cosine, theory.band_centre))
    if gram.inner > 0:
        assert_close([low, high], [d * (band_low - 1), d * (band_high - 1)], [d + abs(low), d + abs(high)], 8 * EPS)
        # Its length vanishes with the angle, and only then.
        assert_close(high - low, d * centre * (1 / cosine - cosine), 2 * d + abs(low) + abs(high), 16 * EPS)
    else:
        assert high == np.inf
        assert low <= -d


@given(entries, entries, weights)
def test_t19_parallel_gradients_leave_no_window(chosen, rejected, d):
    low, high = theory.likelihood_window(PairGram(*map(np.float64, (chosen**2, rejected**2, chosen * rejected))), d)
    assert_close(low, high, d + abs(low), 16 * EPS)


@given(grams(), weights)
def test_t19_no_lambda_helps_exactly_when_the_rejected_overlaps_by_more_than_its_length(gram, d):
    low, high = theory.likelihood_window(gram, d)
    assume(abs(gram.rejected_sq - gram.inner) > 4 * EPS * gram.rejected_sq)
    assume(abs(gram.chosen_sq - gram.inner) > 4 * EPS * gram.chosen_sq)
    assert (high <= 0) == (gram.rejected_sq <= gram.inner)
    if theory.case(gram) == BOTH_DOWN and high - low > 16 * EPS * (d + high):
        assert high > low > 0  # some likelihood term helps, no less than `low`


@given(entries, st.floats(0.01, 0.99), st.floats(0.01, 0.99), st.floats(-4, 4))
def test_t19_where_both_already_rise_no_likelihood_term_helps(length, cosine, shorter, exponent):
    rejected = shorter * cosine * length
    gram = PairGram(*map(np.float64, (length**2, rejected**2, cosine * length * rejected)))
    assert theory.case(gram) == BOTH_UP
    assert theory.likelihood_window(gram).high < 0
    assert theory.case(gram, 1 + 10.0**exponent, 1.0) == BOTH_UP


@given(worlds(), weights, st.floats(-3, 0), st.booleans(), st.sampled_from([-1, 1]))
def test_t19_window_against_measured_slopes(w, d, exponent, near_high, sign):
    """At the ends a measured slope vanishes; a thousandth of d + λ or more to either side, the measured case tells."""
    norms, _ = normalised(w)
    low, high = (
        float(end) for end in single(theory.likelihood_window(theory.pair_gram(w.model, w.params, w.pairs), d))
    )
    near_high = near_high and np.isfinite(high)
    end = high if near_high else low
    cancels = token_sizes(w)[0].sum() / norms[0]  # and again in the norm that λ is divided by

    def measured(lam):
        sizes = cancels * slope_sizes(w, d + abs(lam), d)
        return single(gradients.slopes(w.model, w.params, w.pairs, d + lam, d)), w.roundoff * sizes

    slopes, slip = measured(end)
    assert abs(slopes[int(near_high)]) <= slip[int(near_high)]
    lam = end + sign * 10.0**exponent * abs(d + end)
    slopes, slip = measured(lam)
    if np.all(abs(slopes) > slip):
        case = theory.CASES[int(theory.case_of_slopes(*slopes))]
        event(f"{case}, near the {'high' if near_high else 'low'} end")
        assert (case == UP_DOWN) == (low < lam < high)
        if lam > high:
            assert case == BOTH_UP  # too large a term lifts the rejected


def test_t19_a_displaced_pair_is_repaired_inside_the_window_only():
    """T8's pair with 30 > L* = 23.75 suffix tokens: DPO lowers both, 0.21 < λ < 4.78 separates, more lifts both."""
    V, n = 20, 30
    peaked = [np.full(V, (1 - top) / (V - 1)) for top in (0.9, 0.5)]
    for row, top in zip(peaked, (0.9, 0.5), strict=True):
        row[2] = top
    even = np.full(V, 1 / V)
    w = offset_world([0] + [2] * n, [1] + [2] * n, [even] + [peaked[0]] * n, [even] + [peaked[1]] * n)
    low, high = single(theory.likelihood_window(theory.pair_gram(w.model, w.params, w.pairs)))
    assert_close([low, high], [0.2079, 4.7849], 1, 5e-5)  # to the digits printed here
    lams = (0.0, 0.999 * low, 1.001 * low, 0.999 * high, 1.001 * high)
    for lam, case in zip(lams, (BOTH_DOWN, BOTH_DOWN, UP_DOWN, UP_DOWN, BOTH_UP), strict=True):
        slopes = gradients.slopes(w.model, w.params, w.pairs, 1 + lam, 1.0)
        assert theory.CASES[int(theory.case_of_slopes(*slopes)[0])] == case


# --- bad input ------------------------------------------------------------------------------------------------------

ONE = PreferencePairs.from_lists([[]], [[0, 1]], [[1, 1]], vocab_size=3)
MODEL, PARAMS, KEPT = linear.unigram(3), jnp.zeros((3, 1)), np.ones((1, 2))
GRAM = PairGram(1.0, 1.0, 0.5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: theory.balanced_weights(GRAM, 0.0), "`d_chosen` must be > 0, got 0.0"),
        (lambda: theory.balanced_weights(GRAM, 1.0, np.array([1.0, -1.0])), "`d_rejected` must be > 0"),
        (lambda: theory.likelihood_window(GRAM, -1.0), "`d` must be > 0, got -1.0"),
        (lambda: theory.masked_gram(MODEL, PARAMS, ONE, KEPT[0], KEPT), r"`chosen_weights` must be one number per"),
        (lambda: theory.masked_gram(MODEL, PARAMS, ONE, KEPT, KEPT[:, :1]), r"`rejected_weights` must be .* got shape"),
        (lambda: theory.masked_gram(MODEL, PARAMS, ONE, KEPT, np.nan * KEPT), "`rejected_weights` must be finite"),
        (lambda: theory.masked_gram(MODEL, PARAMS, ONE[0], KEPT, KEPT), "`pairs` must be a batch"),
    ],
)  # fmt: skip
def test_bad_remedies(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_masked_gram_keeps_single_precision():
    single_precision = jax.tree.map(lambda a: a.astype(jnp.float32), MODEL)
    gram = theory.masked_gram(single_precision, PARAMS.astype(jnp.float32), ONE, KEPT, KEPT)
    assert all(entry.dtype == jnp.float32 for entry in gram)
