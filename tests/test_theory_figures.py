"""Figures beyond the first order and beyond one pair: lines meet markers, and each caption's claim is in its table."""

import functools
import importlib

import numpy as np
import pytest
from quick_figures import quick

from figures import fig_common_step, fig_crowd, fig_finite_step, fig_flow, fig_groups, fig_mass, style, sweeps

FIGURES = ("fig_common_step", "fig_credit", "fig_crowd", "fig_finite_step", "fig_flow", "fig_groups", "fig_mass")
# Sums of at most 1e4 terms of size about 1, in float64: 1e4 · 1.1e-16.
ROUNDOFF = {"rtol": 1e-12, "atol": 1e-12}


def part(name, **equal):
    table = style.rows(quick(name), **equal)
    assert len(table["measured"]) > 0
    return table


@pytest.mark.parametrize("name", FIGURES)
def test_the_table_is_small_and_a_second_one_is_equal(name, tmp_path):
    again = importlib.import_module(f"figures.{name}").compute(True, functools.partial(sweeps.swept, tmp_path))
    for column, values in quick(name).items():
        np.testing.assert_array_equal(again[column], values)
        assert values.shape == (len(values),)
    assert len(values) < 2000


# --- fig_finite_step (T12) ------------------------------------------------------------------------------------------

# Changes of log-probabilities of up to 100 nats, rounded a few times (8 · 100 · 1.1e-16), in units of η|slope|: down to
# 1e-2 · slope²/shortfall = 9e-5 for random pairs.
OF_A_STEP = {"rtol": 1e-12, "atol": 8 * 1.1e-14 / 9e-5}


def test_steps_of_every_size_are_predicted_and_between_their_bounds():
    table = quick("fig_finite_step")
    assert abs(table["measured"]).max() > 5  # far beyond the first order
    np.testing.assert_allclose(table["measured"], table["predicted"], **OF_A_STEP)
    slip = OF_A_STEP["atol"] + OF_A_STEP["rtol"] * abs(table["measured"])
    assert (table["measured"] <= table["upper_predicted"] + slip).all()
    assert (table["measured"] >= table["lower_predicted"] - slip).all()


def test_below_the_certified_step_the_chosen_rises_and_a_slope_that_is_not_positive_falls_for_ever():
    table = quick("fig_finite_step")
    rises = style.rows(table, slope_predicted="> 0")
    below = rises["learning_rate"] < rises["certified_predicted"]
    assert (rises["measured"][below] > 0).all()
    assert (rises["measured"][~below] < 0).any()
    falls = style.rows(table, slope_predicted="≤ 0")
    assert (falls["measured"] < 0).all()
    assert (falls["certified_predicted"] == 0).all()
    for name, slope in zip(fig_finite_step.SUFFIXES, ("> 0", "≤ 0"), strict=True):
        assert set(style.rows(table, pair=name, side="chosen")["slope_predicted"]) == {slope}
    assert set(style.rows(table, pair=fig_finite_step.RANDOM)["slope_predicted"]) == {"> 0", "≤ 0"}


def test_the_bounds_of_all_random_pairs_are_the_same_two():
    table = part("fig_finite_step", pair=fig_finite_step.RANDOM)
    sign = np.where(table["slope_predicted"] == "> 0", 1, -1)
    np.testing.assert_allclose(table["upper_predicted"], sign, **ROUNDOFF)
    np.testing.assert_allclose(table["lower_predicted"], sign - table["learning_rate"], **ROUNDOFF)


# --- fig_crowd (T22) ------------------------------------------------------------------------------------------------


def test_thresholds_of_a_crowd_are_predicted_and_below_that_of_one_pair():
    table = quick("fig_crowd")
    np.testing.assert_allclose(table["measured"], table["predicted"], **ROUNDOFF)
    assert (part("fig_crowd", batch_size=1)["measured"] > table["measured"][table["batch_size"] > 1].max()).all()
    unseen = part("fig_crowd", judged="unseen")
    assert set(unseen["batch_size"]) == set(fig_crowd.QUICK_BATCHES) - {1}
    for crowd in fig_crowd.CROWDS:
        np.testing.assert_allclose(
            style.rows(unseen, crowd=crowd)["measured"], style.rows(unseen, crowd=crowd)["predicted"][0], **ROUNDOFF
        )
    falling = style.rows(table, crowd="labels told apart", judged="in the batch")["measured"]
    assert (np.diff(falling) < 0).all()


# --- fig_credit (T25) -----------------------------------------------------------------------------------------------


def test_a_common_prefix_stays_unless_weights_depend_on_length():
    table = quick("fig_credit")
    np.testing.assert_allclose(table["measured"], table["predicted"], **ROUNDOFF)
    assert (part("fig_credit", panel="falls", curve="in a common prefix")["measured"] == 0).all()
    assert (part("fig_credit", panel="falls", curve="common after the branch")["low"] > 0).all()
    assert (part("fig_credit", panel="prefix", curve="A")["measured"] == 0).all()
    shorter, equal, longer = part("fig_credit", panel="prefix", curve="A/|y|")["measured"]
    assert shorter > equal == 0 > longer


# --- fig_flow (T14) -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", fig_flow.FLOWS)
def test_the_distance_to_the_flow_is_the_leading_term_up_to_the_next_order(name):
    """Its relative error falls like 1/steps as well: it is halved with η, within the third order."""
    table = part("fig_flow", curve="distance", loss=name)
    missing = table["measured"] / table["predicted"] - 1
    assert (missing > 0).all()
    np.testing.assert_allclose(missing[-3:-1] / missing[-2:], 2, rtol=0.1)
    assert missing[-1] < 1.5 / table["steps"][-1]


@pytest.mark.parametrize("name", fig_flow.FLOWS)
def test_small_steps_follow_the_flow(name):
    """Descent is ahead of the flow, by less the smaller the step: by a factor of 8 in η, 4 at least."""
    distances = []
    for steps in fig_flow.SHOWN:
        table = part("fig_flow", curve="descent", loss=name, steps=steps)
        assert table["measured"][0] == table["predicted"][0] == 0
        distances.append(abs(table["measured"] - table["predicted"]).max())
    assert distances[0] > distances[1] > distances[2]
    assert distances[0] > 4 * distances[2]
    flow = part("fig_flow", curve="flow", loss=name)["predicted"]
    assert (np.diff(flow) > 0).all()
    assert (flow[-1] < fig_flow.TARGET) == (name == "IPO")


# --- fig_mass (T15, T16) --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("panel", ["slope", "squeeze"])
def test_slopes_and_squeezed_probabilities_are_predicted(panel):
    table = part("fig_mass", panel=panel)
    np.testing.assert_allclose(table["measured"], table["predicted"], rtol=1e-12, atol=2e-11)  # logits up to 20, slopes


def test_third_tokens_are_on_one_line_and_the_pair_is_off_it_by_the_squared_norm():
    table, line = part("fig_mass", panel="slope"), style.rows(quick("fig_mass"), panel="line")
    offset = table["measured"] - table["x"] - (line["predicted"] - line["x"])[0]
    sq = fig_mass.HIDDEN_NORM**2
    np.testing.assert_allclose(offset[table["token"] == "all others"], 0, atol=1e-11)
    np.testing.assert_allclose(offset[:2], [sq, -sq], atol=1e-11)
    assert table["measured"][0] < 0  # the chosen token falls …
    assert table["measured"].max() > 0  # … and a third one rises


def test_the_pushed_token_falls_and_the_largest_other_rises_at_every_step_size():
    largest = next(iter(fig_mass.PROBS))
    for name, before in fig_mass.PROBS.items():
        after = part("fig_mass", panel="squeeze", token=name)["measured"]
        if name == fig_mass.PUSHED:
            assert (after < before).all()
        if name == largest:
            assert (after > before).all()


def test_dpo_feeds_third_tokens_and_a_likelihood_term_the_chosen():
    """At the last state, with intervals that do not overlap those at the start."""
    for name, up, down in (
        ("DPO", "all others", "chosen"),
        ("DPO", "all others", "rejected"),
        ("DPO + likelihood", "chosen", "all others"),
    ):
        rising, falling = (part("fig_mass", panel=name, token=token) for token in (up, down))
        assert rising["low"][-1] > rising["high"][0]
        assert falling["high"][-1] < falling["low"][0]
    for name in fig_mass.TRAINED:
        parts = [part("fig_mass", panel=name, token=token) for token in fig_mass.LOOKS]
        np.testing.assert_allclose(sum(p["measured"] for p in parts), 1, **ROUNDOFF)
        assert all((p["low"] < p["measured"]).all() and (p["measured"] < p["high"]).all() for p in parts)
    assert fig_mass.QUICK_RUNS >= 20


# --- fig_groups (T20, T21) ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("panel", ["pair", "sum", "response", "fraction"])
def test_slopes_of_batches_and_groups_are_predicted(panel):
    table = part("fig_groups", panel=panel)
    np.testing.assert_allclose(table["measured"], table["predicted"], **ROUNDOFF)


def test_a_second_pair_reverses_the_first_but_not_the_sum():
    chosen, rejected = (part("fig_groups", panel="pair", curve=side)["measured"] for side in ("chosen", "rejected"))
    assert chosen[0] > 0 > rejected[0]
    assert chosen[-1] < 0 < rejected[-1]
    assert (part("fig_groups", panel="sum")["measured"] > 0).all()


def test_a_right_response_falls_exactly_when_the_wrong_ones_pull_harder():
    table = part("fig_groups", panel="response")
    np.testing.assert_array_equal(table["curve"] == "falls", table["x"] > 1)
    assert set(table["curve"]) == {"rises", "falls"}
    assert set(table["overlap"]) == set(fig_groups.SHOWN_OVERLAPS)


def test_right_responses_fall_more_often_the_more_is_shared_and_the_more_are_right():
    fractions = np.array([part("fig_groups", panel="fraction", curve=f"{n} right")["measured"] for n in (2, 4, 6)])
    assert (np.diff(fractions, axis=1) >= 0).all()
    assert (np.diff(fractions, axis=0) >= 0).all()
    least, most = (part("fig_groups", panel="fraction", overlap=share) for share in (0.0, 0.9))
    assert (least["high"] < most["low"]).all()


# --- fig_common_step (T24) ------------------------------------------------------------------------------------------


def test_a_common_step_exists_while_gradients_are_no_more_than_parameters_and_is_lost_beyond():
    table = quick("fig_common_step")
    load = 2 * table["batch_size"] / table["parameters"]
    assert (table["exists_measured"][load <= 1] == 1).all()
    assert (table["exists_measured"][load >= 2] < 0.2).all()
    for dim in fig_common_step.QUICK_DIMS:
        assert (
            np.diff(style.rows(table, dim=dim)["exists_measured"]) <= 0
        ).all()  # batches begin with the smaller ones
    for name in ("exists", *fig_common_step.STEPS):
        assert (table[f"{name}_low"] <= table[f"{name}_measured"]).all()
        assert (table[f"{name}_measured"] <= table[f"{name}_high"]).all()


def test_a_pair_alone_is_separated_by_its_normalised_step_and_few_are_in_batches():
    table = quick("fig_common_step")
    alone = table["batch_size"] == 1
    assert (table["normalised_measured"][alone] == 1).all()
    for step in fig_common_step.STEPS:
        assert (table[f"{step}_measured"][table["batch_size"] >= 8] < 0.8).all()


def test_wendels_formula_is_that_of_random_directions():
    """In the plane, n directions leave a step with probability n/2^(n−1); in one dimension, with 2/2^n."""
    assert fig_common_step.share_of_random_directions(4, 2) == pytest.approx(4 / 2**3, rel=1e-14)
    assert fig_common_step.share_of_random_directions(5, 1) == pytest.approx(2 / 2**5, rel=1e-14)


def test_the_shares_of_a_batch_are_those_of_explicit_steps():
    rng = np.random.default_rng(0)
    both = rng.standard_normal((16, 5)) * 10 ** rng.uniform(-1, 1, (16, 1)) + 0.5
    chosen, rejected = both[:6], both[8:14]  # six of eight pairs
    found = fig_common_step.of_batch(both @ both.T, 6)
    plain = (chosen - rejected).sum(axis=0)
    one, other = (np.linalg.norm(side, axis=1, keepdims=True) for side in (chosen, rejected))
    normalised = (np.sqrt(one * other) * (chosen / one - rejected / other)).sum(axis=0)
    for name, step in (("plain", plain), ("normalised", normalised)):
        assert found[name] == ((chosen @ step > 0) & (rejected @ step < 0)).mean()
