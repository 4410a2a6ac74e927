"""T9–T11 as algebra on Gram entries, and as what measured pairs do."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, event, example, given, target
from hypothesis import strategies as st
from oracles import assert_close, single, slope_sizes
from strategies import cosines, grams, weights, worlds

from toymodel import PairGram, gradients, theory
from toymodel.training import Trajectory

UP_DOWN, BOTH_DOWN, BOTH_UP, IMPOSSIBLE, STATIONARY = theory.CASES


@st.composite
def weighted_grams(draw, cosine=cosines):
    """Gram entries and weights whose ratio is within a factor of ten of r*, where the cases meet."""
    gram = draw(grams(cosine))
    d_rejected = draw(weights)
    ratio = np.sqrt(gram.rejected_sq / gram.chosen_sq) * 10.0 ** draw(st.floats(-1, 1))
    return gram, ratio * d_rejected, d_rejected


def clear(gram, d_chosen, d_rejected):
    """True when no slope is within round-off of zero (two products and a difference)."""
    slopes = theory.slopes(gram, d_chosen, d_rejected)
    sizes = (
        abs(d_chosen * gram.chosen_sq) + abs(d_rejected * gram.inner),
        abs(d_chosen * gram.inner) + abs(d_rejected * gram.rejected_sq),
    )
    return all(abs(slope) > 1e-12 * size for slope, size in zip(slopes, sizes, strict=True))


@given(weighted_grams())
def test_t10_condition_is_chosen_up_and_rejected_down(case):
    gram, d_chosen, d_rejected = case
    assume(clear(gram, d_chosen, d_rejected))
    chosen, rejected = theory.slopes(gram, d_chosen, d_rejected)
    assert (theory.slack(gram, d_chosen, d_rejected) > 0) == (chosen > 0 > rejected)
    assert (theory.case(gram, d_chosen, d_rejected) == UP_DOWN) == (chosen > 0 > rejected)


@given(weighted_grams())
def test_t10_slack_is_symmetric_under_swapping(case):
    gram, d_chosen, d_rejected = case
    mirrored = theory.slack(gram.swapped(), d_rejected, d_chosen)
    # Four products and quotients of the entries: relative round-off of each is below 1e-15.
    size = d_chosen / d_rejected * gram.chosen_sq + d_rejected / d_chosen * gram.rejected_sq + abs(gram.inner)
    assert_close(theory.slack(gram, d_chosen, d_rejected), mirrored, size, 1e-15)


@given(weighted_grams())
def test_t10_swapping_mirrors_the_case(case):
    """Exchanging the responses and ascending on the rejected instead: both up becomes both down."""
    gram, d_chosen, d_rejected = case
    assume(clear(gram, d_chosen, d_rejected))
    mirror = {UP_DOWN: UP_DOWN, BOTH_DOWN: BOTH_UP, BOTH_UP: BOTH_DOWN}
    assert theory.case(gram.swapped(), d_rejected, d_chosen) == mirror[theory.case(gram, d_chosen, d_rejected)]


@given(grams(), weights, weights)
def test_t10_chosen_down_rejected_up_is_impossible(gram, d_chosen, d_rejected):
    """Hypothesis climbs towards it: the smaller of (chosen falls by, rejected rises by), relative to the terms."""
    chosen, rejected = theory.slopes(gram, d_chosen, d_rejected)
    sizes = (
        d_chosen * gram.chosen_sq + d_rejected * abs(gram.inner),
        d_chosen * abs(gram.inner) + d_rejected * gram.rejected_sq,
    )
    nearness = min(float(-chosen / sizes[0]), float(rejected / sizes[1]))
    target(nearness)
    assert nearness <= 1e-15


@given(worlds(), weights, weights)
def test_t10_measured_pairs_fall_in_the_predicted_case_and_never_in_the_fourth(w, d_chosen, d_rejected):
    measured = single(gradients.slopes(w.model, w.params, w.pairs, d_chosen, d_rejected))
    nearness = (np.array([-1, 1]) * measured / np.maximum(slope_sizes(w, d_chosen, d_rejected), 1e-300)).min()
    target(nearness)
    assert nearness <= w.roundoff
    if np.all(abs(measured) > w.roundoff * slope_sizes(w, d_chosen, d_rejected)):
        case = theory.case(theory.pair_gram(w.model, w.params, w.pairs), d_chosen, d_rejected)[0]
        event(case)
        assert case == theory.CASES[int(theory.case_of_slopes(*measured))]


@given(worlds(), weights, weights, st.integers(0, 2**32 - 1))
def test_t10_impossible_with_any_positive_definite_preconditioner(w, d_chosen, d_rejected, seed):
    chosen, rejected = (np.asarray(g[0]) for g in gradients.pair_gradients(w.model, w.params, w.pairs))
    rng = np.random.default_rng(seed)
    diagonal, low_rank = 10 ** rng.uniform(-3, 3, chosen.size), rng.standard_normal((chosen.size, 3))

    def inner(u, v):  # ⟨u, P v⟩ with P = diagonal + low rank
        return u @ (diagonal * v) + (u @ low_rank) @ (low_rank.T @ v)

    gram = PairGram(inner(chosen, chosen), inner(rejected, rejected), inner(chosen, rejected))
    assume(clear(gram, d_chosen, d_rejected))
    assert theory.case(gram, d_chosen, d_rejected) != IMPOSSIBLE


def test_t10_needs_positive_weights_and_cauchy_schwarz():
    assert theory.case(PairGram(1.0, 1.0, 0.5), -1.0, -1.0) == IMPOSSIBLE  # ascending on the wrong response
    none_such = PairGram(1.0, 1.0, 2.0)  # no two vectors have these products
    assert theory.CASES[jax.jit(theory.case_index)(none_such, 1.0, 1.0)] == IMPOSSIBLE
    with pytest.raises(ValueError, match=r"`inner` must be at most the product of the norms, got 2\.0"):
        theory.case(none_such, 1.0, 1.0)


signed_weights = st.tuples(weights, st.sampled_from([-1.0, 0.0, 1.0])).map(lambda pair: pair[0] * pair[1])
# What cannot happen, by the signs of (d_w, d_l): d_w · (chosen slope) − d_l · (rejected slope) = ‖d_w g_w − d_l g_l‖².
FORBIDDEN = {(1, 1): IMPOSSIBLE, (-1, -1): UP_DOWN, (1, -1): BOTH_DOWN, (-1, 1): BOTH_UP}


@given(grams(), signed_weights, signed_weights)
@example(PairGram(*map(np.float64, (1.0, 1.0, -1.0))), -1.0, 1.0)  # both slopes are 0
def test_t10_for_weights_of_any_sign(gram, d_chosen, d_rejected):
    chosen, rejected = theory.slopes(gram, d_chosen, d_rejected)
    case = theory.case(gram, d_chosen, d_rejected)
    assert (case == STATIONARY) == (chosen == 0 or rejected == 0)
    if d_chosen == d_rejected == 0:
        assert case == STATIONARY
    elif d_rejected == 0 and gram.inner != 0:  # only the chosen's gradient acts, and drags the rejected along
        assert (
            case
            == {(1, 1): BOTH_UP, (1, -1): UP_DOWN, (-1, 1): BOTH_DOWN, (-1, -1): IMPOSSIBLE}[
                int(np.sign(d_chosen)), int(np.sign(gram.inner))
            ]
        )
    assume(clear(gram, d_chosen, d_rejected))
    signs = int(np.sign(d_chosen)), int(np.sign(d_rejected))
    assert case != FORBIDDEN.get(signs)
    assert (
        case == theory.CASES[[(1, -1), (-1, -1), (1, 1), (-1, 1)].index((int(np.sign(chosen)), int(np.sign(rejected))))]
    )


@given(grams(), weights, weights)
def test_t10_every_case_but_the_forbidden_one_is_reached_by_flipping_signs(gram, d_chosen, d_rejected):
    """Both weights reversed: both slopes are, so what was chosen up and rejected down is now the reverse."""
    assume(clear(gram, d_chosen, d_rejected))
    reverse = {UP_DOWN: IMPOSSIBLE, BOTH_DOWN: BOTH_UP, BOTH_UP: BOTH_DOWN}
    assert theory.case(gram, -d_chosen, -d_rejected) == reverse[theory.case(gram, d_chosen, d_rejected)]


def test_t10_near_the_equality_for_each_pair_of_signs():
    """Gradients a thousandth from parallel: the forbidden case is missed by about a millionth of the terms."""
    gram = PairGram(1.0, 1.0, 1 - 5e-7)  # cosine of an angle of 1e-3
    for (sign_w, sign_l), forbidden in FORBIDDEN.items():
        mirrored = gram._replace(inner=sign_w * sign_l * gram.inner)
        chosen, rejected = theory.slopes(mirrored, sign_w * 1.0, sign_l * 1.0)
        wanted = dict(zip(theory.CASES, [(1, -1), (-1, -1), (1, 1), (-1, 1)], strict=False))[forbidden]
        assert 0 < max(-chosen * wanted[0], -rejected * wanted[1]) < 1e-6


def test_cases_by_name():
    gram = PairGram(np.array([1.0, 1.0, 4.0, 0.0]), np.array([1.0, 4.0, 1.0, 1.0]), np.array([0.5, 1.5, 1.5, 0.0]))
    assert theory.case(gram).tolist() == [UP_DOWN, BOTH_DOWN, BOTH_UP, STATIONARY]
    assert theory.case(PairGram(1.0, 1.0, 1.0)) == STATIONARY  # parallel gradients of equal length


@given(st.lists(grams(), min_size=3, max_size=3))
def test_the_cosine_is_the_same_for_numpy_for_jax_and_inside_a_trace(drawn):
    table = PairGram(*np.array(drawn).T)
    found, traced = theory.cosine(table), jax.jit(theory.cosine)(table)
    assert isinstance(found, np.ndarray)
    norms = np.sqrt(table.chosen_sq) * np.sqrt(table.rejected_sq)
    # Two roots, a product and a quotient, each rounded once.
    for cosine in (found, theory.cosine(PairGram(*map(jnp.asarray, table))), traced):
        assert_close(cosine, table.inner / norms, 1, 1e-15)
    single = PairGram(*(entry.astype(np.float32) for entry in table))
    assert theory.cosine(single).dtype == np.float32


def test_the_cosine_of_tiny_gradients_and_of_none():
    """The product of these squares is 1e-400 and underflows; that of their roots does not."""
    # Two roots, a product and a quotient, each rounded once: 1e-15.
    tiny = PairGram(np.array([1e-200, 0.0]), np.array([1e-200, 1.0]), np.array([5e-201, 0.0]))
    for gram in (tiny, PairGram(*map(jnp.asarray, tiny))):
        np.testing.assert_allclose(theory.cosine(gram, allow_zero=True), [0.5, np.nan], rtol=1e-15)
        with pytest.raises(ValueError, match="undefined where a gradient is zero: pair 1"):
            theory.cosine(gram)
    np.testing.assert_allclose(jax.jit(theory.cosine)(tiny), [0.5, np.nan], rtol=1e-15)


@given(weighted_grams(cosine=st.floats(0.01, 0.999)))
def test_t11_band(case):
    gram, d_chosen, d_rejected = case
    low, high = theory.band(gram)
    cos, centre = float(theory.cosine(gram)), float(theory.band_centre(gram))
    assert_close([low, high], [cos * centre, centre / cos], [low, high], 1e-14)
    assert_close(np.sqrt(low * high), centre, centre, 1e-14)  # geometric mean r*
    assert_close(high / low, 1 / cos**2, 1 / cos**2, 1e-14)  # entanglement is the band closing
    assume(clear(gram, d_chosen, d_rejected))
    assert theory.in_band(gram, d_chosen, d_rejected) == (theory.case(gram, d_chosen, d_rejected) == UP_DOWN)


@given(grams(cosine=st.floats(0.01, 0.99)), st.floats(1e-9, 1e-3))
def test_t11_band_is_sharp(gram, step):
    """Just inside and just outside each end, down to a relative distance of 1e-9."""
    low, high = theory.band(gram)
    inside, outside = (low * (1 + step), high * (1 - step)), (low * (1 - step), high * (1 + step))
    assert [theory.case(gram, ratio, 1.0) for ratio in inside] == [UP_DOWN, UP_DOWN]
    assert [theory.case(gram, ratio, 1.0) for ratio in outside] == [BOTH_DOWN, BOTH_UP]


@given(grams(cosine=st.floats(-1, 0)), weights, weights)
def test_t11_every_positive_ratio_separates_when_not_entangled(gram, d_chosen, d_rejected):
    assert theory.band(gram) == (0, np.inf)
    assert theory.in_band(gram, d_chosen, d_rejected)
    assume(clear(gram, d_chosen, d_rejected))
    assert theory.case(gram, d_chosen, d_rejected) == UP_DOWN


def test_t11_band_of_a_zero_gradient_is_nan():
    assert all(np.isnan(end) for end in theory.band(PairGram(0.0, 1.0, 0.0)))
    assert not theory.in_band(PairGram(0.0, 1.0, 0.0), 1.0, 1.0)


@pytest.mark.parametrize("d", [0.0, -1.0, np.array([1.0, -1.0])])
def test_condition_in_ratio_form_needs_positive_weights(d):
    gram = PairGram(1.0, 1.0, 0.5)
    for call in (theory.slack, theory.in_band):
        with pytest.raises(ValueError, match="`d_rejected` must be > 0"):
            call(gram, 1.0, d)


@given(grams(), weights)
def test_t9_the_margin_rises_by_the_difference_of_the_slopes(gram, d):
    chosen, rejected = theory.slopes(gram, d, d)
    size = d * (gram.chosen_sq + gram.rejected_sq + 2 * abs(gram.inner))
    assert_close(theory.margin_slope(gram, d), chosen - rejected, size, 1e-15)
    assert theory.margin_slope(PairGram(1.0, 4.0, 0.5), 3.0) == 12  # not 15: the inner product counts twice


def test_a_trajectory_judges_each_pair_by_its_own_weights():
    """Weights exchanged would make both rise."""
    n = np.ones((1, 1))
    still = dict.fromkeys(Trajectory._fields, 0 * n)
    entries = {"chosen_sq": n, "rejected_sq": n, "inner": n / 2, "d_chosen": n, "d_rejected": 3 * n}
    found = Trajectory(**still | entries)
    assert found.case.tolist() == [["both_down"]]
    stopped = Trajectory(**still | dict.fromkeys((*entries, "loss"), np.nan * n))
    assert stopped.case_index.tolist() == [[-1]]
    assert stopped.case.tolist() == [[""]]
