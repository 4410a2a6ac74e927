"""Figures of fine-tuned networks: what each claims is in its quick table, and first orders are what steps tend to."""

import functools
import importlib
from dataclasses import replace

import numpy as np
import pytest
from quick_figures import quick, swept

from figures import (
    fig_crowd_network,
    fig_network_step,
    fig_sentiment_cosine,
    fig_sentiment_regime,
    sentiment_runs,
    style,
    sweeps,
)
from toymodel.data.sentiment import TASKS
from toymodel.experiments.contexts import ASSUMPTIONS
from toymodel.experiments.sentiment import LEARNT, SentimentSetting, fine_tune

FIGURES = ("fig_sentiment", "fig_sentiment_cosine", "fig_sentiment_regime", "fig_network_step")


def part(name, **equal):
    table = style.rows(quick(name), **equal)
    assert len(next(iter(table.values()))) > 0
    return table


@pytest.mark.parametrize("name", FIGURES)
def test_the_table_is_small_and_intervals_hold_their_means(name):
    table = quick(name)
    assert {column.shape for column in table.values()} == {(len(table[next(iter(table))]),)}
    assert len(next(iter(table.values()))) < 500
    for column in table:
        if column.endswith("_measured") and column.replace("measured", "low") in table:
            low, high = (table[column.replace("measured", end)] for end in ("low", "high"))
            assert (low <= table[column]).all()
            assert (table[column] <= high).all()


# --- The shared sweep -----------------------------------------------------------------------------------------------


def untaught(task, seeds):
    """The quick sweep, as if fine-tuning had not taught the task in the first of these seeds."""

    def changed(wanted):
        found = swept(wanted)
        not_learnt = (found["task"] == task) & np.isin(found["seed"], sentiment_runs.QUICK_SEEDS[:seeds])
        return found | {"label_accuracy": np.where(not_learnt, LEARNT - 0.01, found["label_accuracy"])}

    return changed


def test_a_seed_that_learnt_no_label_is_left_out_and_a_task_that_none_learnt_is_told():
    every = sentiment_runs.runs(True, swept)
    assert (every["label_accuracy"] >= LEARNT).all()
    assert set(every["task"]) == set(TASKS)
    fewer = sentiment_runs.runs(True, untaught("short_suffix", 1))
    assert len(fewer["seed"]) == len(every["seed"]) - 1
    assert (fewer["task"] == "short_suffix").sum() == len(sentiment_runs.QUICK_SEEDS) - 1
    with pytest.raises(ValueError, match="did not teach short_suffix"):
        sentiment_runs.runs(True, untaught("short_suffix", len(sentiment_runs.QUICK_SEEDS)))


def test_the_states_are_those_that_were_recorded():
    for setting in (True, False):
        settings = sentiment_runs.SETTINGS | (sentiment_runs.QUICK if setting else {})
        shown = sentiment_runs.states(setting)
        assert (shown[0], shown[-1]) == (0, settings["steps"])
    assert sentiment_runs.runs(True, swept)["chosen_logps"].shape[1] == len(sentiment_runs.states(True))


# --- fig_sentiment, fig_sentiment_cosine ----------------------------------------------------------------------------


def test_changes_are_since_the_reference_and_are_means_over_pairs_and_seeds():
    runs = sentiment_runs.runs(True, swept)
    for task in TASKS:
        table = part("fig_sentiment", task=task)
        for side in ("chosen", "rejected"):
            logps = runs[f"{side}_logps"][runs["task"] == task]
            assert table[f"{side}_measured"][0] == 0
            # Means of some 50 differences of numbers of up to 40 nats: round-off of 50 · 40 · 1.1e-16.
            expected = logps.mean(axis=(0, 2)) - logps.mean(axis=(0, 2))[0]
            np.testing.assert_allclose(table[f"{side}_measured"], expected, atol=2.2e-13)


def test_the_chosen_rises_with_one_token_and_falls_with_a_suffix_the_more_the_longer():
    ends = [part("fig_sentiment", task=task)["chosen_measured"][-1] for task in TASKS]
    assert ends[0] > 0 > ends[1] > ends[2]


def test_the_rejected_falls_further_than_the_chosen_in_every_task():
    for task in TASKS:
        table = part("fig_sentiment", task=task)
        assert (np.diff(table["rejected_measured"]) < 0).all()
        assert (table["rejected_measured"][1:] < table["chosen_measured"][1:]).all()


def test_shared_suffixes_turn_gradients_the_same_way_and_single_pairs_would_seldom_fall():
    start = [part("fig_sentiment_cosine", run="DPO", task=task, step=0) for task in TASKS]
    cosines = [table["cosine_measured"][0] for table in start]
    assert cosines[0] < 0 < cosines[1] < cosines[2]
    assert cosines[0] == pytest.approx(-1, abs=0.05)  # one token of two that have all the probability: g_l = −c g_w
    table = quick("fig_sentiment_cosine")
    assert (abs(table["cosine_measured"]) <= 1).all()
    assert ((table["both_down_measured"] >= 0) & (table["both_down_measured"] < 0.2)).all()


def test_pairs_are_both_down_where_the_inner_product_exceeds_the_chosen_square():
    """Told of a sweep in which every other pair's inner product lies halfway between ‖g_w‖² and ‖g_w‖‖g_l‖."""

    def changed(wanted):
        found = swept(wanted)
        pairs = found["inner"].shape[-1]
        largest = np.sqrt(found["chosen_sq"] * found["rejected_sq"])
        halfway = np.where(largest > found["chosen_sq"], (largest + found["chosen_sq"]) / 2, np.inf)
        down = (np.arange(pairs) % 2 == 0) & np.isfinite(halfway)
        return found | {"inner": np.where(down, halfway, -np.minimum(found["chosen_sq"], largest) / 2), "down": down}

    runs, table = sentiment_runs.runs(True, changed), fig_sentiment_cosine.compute(True, changed)
    for task in TASKS:
        wanted = runs["down"][runs["task"] == task].mean(axis=(0, 2))
        assert (wanted > 0.2).all()
        # A mean of means of at most 48 zeros and ones.
        np.testing.assert_allclose(style.rows(table, run="DPO", task=task)["both_down_measured"], wanted, atol=1e-14)


def test_the_one_token_cosine_falls_in_fine_tuning_and_ends_where_dpo_starts():
    """The formula for the label's probabilities is the network's where the two words hold all mass."""
    for task in TASKS:
        tuning, dpo = (part("fig_sentiment_cosine", run=run, task=task) for run in ("fine-tuning", "DPO"))
        assert (np.diff(tuning["step"]) > 0).all()
        # One state, measured by two programs.
        np.testing.assert_allclose(tuning["cosine_measured"][-1], dpo["cosine_measured"][0], rtol=1e-8)
    single = part("fig_sentiment_cosine", run="fine-tuning", task="single_token")
    assert single["cosine_measured"][0] > -0.5 > single["cosine_high"][-1]
    assert abs(single["cosine_predicted"][0]) < 0.5
    # At a cosine of −1 + ε both gradients are within √(2ε) of the line of e_w − e_l, whatever the features learn.
    np.testing.assert_allclose(single["cosine_predicted"][-1], single["cosine_measured"][-1], atol=0.05)


def test_the_beginning_of_fine_tuning_is_that_of_the_whole():
    """Minibatches do not depend on how many steps follow: the repeated first steps lead to the kept stages."""
    setting = SentimentSetting(task="single_token", seed=100, supervised_prompts=64, supervised_steps=8)
    whole, beginning = (fine_tune(replace(setting, supervised_steps=steps))["params"] for steps in (16, 8))
    np.testing.assert_array_equal(whole[0], beginning[0])
    # float32, eight steps of Adam, whose first is a sign: 3e-3 · 8 steps · 6e-8, enlarged where a gradient is near 0.
    np.testing.assert_allclose(whole[4], beginning[8], atol=1e-4)


# --- fig_sentiment_regime -------------------------------------------------------------------------------------------


def test_a_cell_is_told_by_its_interval_and_by_what_its_reference_has_learnt():
    table = quick("fig_sentiment_regime")
    learnt = table["label_accuracy"] >= LEARNT
    np.testing.assert_array_equal(table["sign"] == "untaught", ~learnt)
    np.testing.assert_array_equal(table["sign"] == "rises", learnt & (table["chosen_low"] > 0))
    np.testing.assert_array_equal(table["sign"] == "falls", learnt & (table["chosen_high"] < 0))
    assert set(table["sign"]) <= set(fig_sentiment_regime.CELLS)
    cells = len(fig_sentiment_regime.STAGES) * sum(map(len, fig_sentiment_regime.RATES.values()))
    assert len(table["sign"]) == len(TASKS) * cells


@pytest.mark.parametrize("task", TASKS)
def test_optimisers_go_on_from_one_fine_tuning_and_move_further_at_larger_rates(task):
    accuracies = [part("fig_sentiment_regime", task=task, optimizer=o)["label_accuracy"] for o in ("sgd", "adam")]
    np.testing.assert_array_equal(*accuracies)
    for optimizer in fig_sentiment_regime.RATES:
        slowest = part(
            "fig_sentiment_regime",
            task=task,
            optimizer=optimizer,
            learning_rate=min(fig_sentiment_regime.RATES[optimizer]),
        )
        assert len(set(slowest["rejected_measured"])) == len(fig_sentiment_regime.STAGES)  # each from its own reference
        for stage in set(part("fig_sentiment_regime", task=task)["fine_tuning_steps"].tolist()):
            cells = part("fig_sentiment_regime", task=task, optimizer=optimizer, fine_tuning_steps=stage)
            assert (np.diff(cells["learning_rate"]) > 0).all()
            assert (np.diff(cells["rejected_measured"]) < 0).all()


@pytest.mark.parametrize("task", TASKS)
def test_the_map_continues_what_the_shared_runs_show(task):
    """From the last stage, by the shared runs' optimiser and rate: the same training, for the seeds of the map."""
    settings, seeds = sentiment_runs.SETTINGS | sentiment_runs.QUICK, fig_sentiment_regime.QUICK_SEEDS
    runs = style.rows(sentiment_runs.runs(True, swept), task=task)
    rate, optimizer = settings["learning_rate"], settings["optimizer"]
    last = settings["supervised_steps"]
    cell = part("fig_sentiment_regime", task=task, optimizer=optimizer, learning_rate=rate, fine_tuning_steps=last)
    place = sentiment_runs.states(True).tolist().index(fig_sentiment_regime.STEPS)
    for side in ("chosen", "rejected"):
        logps = runs[f"{side}_logps"][np.isin(runs["seed"], seeds)].mean(axis=-1)
        assert len(logps) == len(seeds)
        # The same reference; other programs round otherwise, by 6e-8 in each of 30 steps of float32, which training
        # enlarges.
        np.testing.assert_allclose(cell[f"{side}_measured"], [(logps[:, place] - logps[:, 0]).mean()], rtol=1e-5)


def test_after_all_of_fine_tuning_a_long_suffix_lowers_the_chosen_below_a_single_token():
    """At the larger rates of either optimiser: the smallest raise it in all tasks, in the full figure too."""
    last = quick("fig_sentiment_regime")["fine_tuning_steps"].max()
    for optimizer in fig_sentiment_regime.RATES:
        single, long = (
            part("fig_sentiment_regime", task=task, optimizer=optimizer, fine_tuning_steps=last)["chosen_measured"][-2:]
            for task in ("single_token", "long_suffix")
        )
        assert (long < single).all()
        assert long[-1] < 0


# --- fig_network_step (T13) -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", fig_network_step.STATES)
@pytest.mark.parametrize("optimizer", fig_network_step.RATES)
def test_the_error_of_the_first_order_grows_like_the_learning_rate(optimizer, state):
    """Errors aη + bη² leave their first-order line by (b/a)η, and the ratio √10 between neighbours by 0.69 of it.

    Here |b| is at most 16a². Terms of the next order were seen to be a fifth of that at errors of 0.5%.
    """
    table = part("fig_network_step", optimizer=optimizer, state=state, predicted="either")
    error = table["error_measured"]
    small = error[error < 0.003]
    assert len(small) >= 5
    assert (abs(small[1:] / small[:-1] / 10**0.5 - 1) < 0.69 * 16 * small[1:]).all()
    assert (abs(small / table["error_predicted"][: len(small)] - 1) < 16 * small).all()
    assert (table["error_lower_quartile"] <= error).all()
    assert (error <= table["error_upper_quartile"]).all()


def test_signs_are_right_while_the_first_order_is_and_wrong_beyond():
    table = quick("fig_network_step")
    rises = style.rows(table, predicted="rises")
    small = rises["error_upper_quartile"] < 0.01
    assert (rises["right_measured"][small] == 1).all()
    largest = rises["learning_rate"] >= 0.1
    assert (rises["right_measured"][largest] < 1).all()
    falls = style.rows(table, predicted="falls")
    assert (falls["right_measured"] > 0.9).all()


def test_nearly_every_pair_alone_would_raise_its_chosen_response():
    table = quick("fig_network_step")
    either, rises = (style.rows(table, predicted=way)["pairs"] for way in ("either", "rises"))
    assert set(either) == {len(fig_network_step.QUICK_SEEDS) * sentiment_runs.QUICK["evaluation_pairs"]}
    assert (rises > 0.9 * either).all()


@pytest.mark.parametrize("name", ["fig_network_step"])
def test_a_second_table_is_equal(name, tmp_path):
    again = importlib.import_module(f"figures.{name}").compute(True, functools.partial(sweeps.swept, tmp_path))
    for column, values in quick(name).items():
        np.testing.assert_array_equal(again[column], values)


# --- fig_crowd_network (T22) ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", fig_crowd_network.TITLES)
def test_the_formula_is_a_line_through_its_threshold_and_the_last_row_is_the_head(suffix):
    table = style.rows(quick("fig_crowd_network"), suffix=suffix)
    means = {curve: style.rows(table, curve=curve, seed=-1) for curve in (*ASSUMPTIONS, *fig_crowd_network.SLOPES)}
    for curve in means.values():
        assert curve["length"].tolist() == list(fig_crowd_network.LENGTHS)
        np.testing.assert_allclose(curve["mean_measured"][0], 1)
    threshold = style.rows(table, curve="few steps")["threshold_predicted"]
    threshold = threshold[~np.isnan(threshold)]
    assert len(threshold) == means["T22"]["seeds"][0]
    # Ratios of sums of a few thousand terms in float64; thresholds are infinite where a ≤ b, and the slope then rises.
    if np.isfinite(threshold).all():
        expected = 1 - fig_crowd_network.LENGTH * (1 / threshold).mean()
        np.testing.assert_allclose(means["T22"]["mean_measured"], expected, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(
        means["head alone"]["mean_measured"], means[ASSUMPTIONS[-1]]["mean_measured"], rtol=1e-9, atol=1e-9
    )


def test_a_curve_turns_between_the_lengths_around_its_zero():
    values = np.array([[1, 0.5, -0.5, -1, -2], [1, 1, 2, 1, 1], [-1, -1, 0, 1, 1], [3, 2, 1, 1, -1.0]])
    np.testing.assert_allclose(fig_crowd_network._turns(values), [1.5, np.inf, 0, 6])
