"""The figures of fifty losses on the same pairs: the runs behind them, and what their captions claim."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from quick_figures import quick, swept

from figures import fig_loss_band, fig_loss_cases, fig_losses, fig_training, loss_curves, loss_groups, loss_runs, style
from figures.loss_groups import GROUPS
from figures.loss_runs import FIRST_STEP, SEEN
from toymodel import PairGram, gradients, theory
from toymodel.losses import LOSSES
from toymodel.training import train

EQUAL, _, FAVOURING, EACH, DIVERGENCES, *_ = GROUPS.values()
NAMES = tuple(LOSSES)
# Log-probabilities, Gram entries and weights are sums of at most 14 · 7 terms, twice, of relative round-off 1e-16 each;
# differences that cancel are compared with the size of their terms.
ROUNDOFF = 1e-12


@functools.cache
def starts():
    return loss_runs.starts(True, swept)


@functools.cache
def trained():
    return loss_runs.trained(True, swept)


def runs(name):
    """The runs of one loss: scalars [seeds], the rest [seeds, states]."""
    return style.rows(trained(), loss=name)


def inputs(name="dpo", state=0):
    """What a loss sees at a state of its runs."""
    logps = (runs(name)[f"{side}_logps"][:, state] for side in ("chosen", "rejected"))
    return tuple(map(jnp.asarray, (*logps, *(starts()[given] for given in SEEN))))


def test_every_loss_is_in_one_group_and_in_every_figure():
    assert sorted(loss_groups.in_order()) == sorted(LOSSES)
    for figure in ("fig_losses_all", "fig_loss_cases"):
        assert set(quick(figure)["loss"]) == set(LOSSES)
    assert set(style.rows(quick("fig_loss_band"), kind="loss")["loss"]) == set(LOSSES)


def test_the_large_panels_show_one_loss_of_each_family_as_the_small_ones_do():
    of_families = [next(group for group in GROUPS.values() if name in group) for name in fig_losses.SHOWN]
    assert of_families == list(GROUPS.values())
    for name in fig_losses.SHOWN:
        large, small = (style.rows(quick(figure), loss=name) for figure in ("fig_losses", "fig_losses_all"))
        for column, values in large.items():
            np.testing.assert_array_equal(values, small[column])
    panels = [ax for ax in fig_losses.draw(quick("fig_losses")).axes if ax.lines]
    assert [ax.get_title().partition(":")[0] for ax in panels] == list(fig_losses.SHOWN)
    assert {ax.get_yscale() for ax in panels} == {"linear"}


def test_every_run_starts_at_its_seed():
    for name in NAMES:
        np.testing.assert_array_equal(runs(name)["seed"], starts()["seed"])
        chosen, rejected, *references, _, _ = inputs(name)
        np.testing.assert_allclose([chosen, rejected], references, rtol=ROUNDOFF)


@pytest.mark.parametrize("name", NAMES)
def test_every_loss_is_trained_with_its_own_weights(name):
    """At the start and far from it, the weights are those of the catalogue, under its own name."""
    for state in (0, 3):
        d = np.array(LOSSES[name]().weights(*inputs(name, state)))
        # lsif's weights are exponentials of logratios of up to 100 nats, hence 100 times as uncertain.
        size = 1e-10 * (abs(d).max(axis=0) + 1e-3)
        of_runs = [runs(name)[side][:, state] for side in ("d_chosen", "d_rejected")]
        assert (abs(d - of_runs) <= size).all()


def test_a_run_depends_on_the_code_of_its_own_loss_alone():
    without = loss_runs.LOSS_RUNS.code()
    assert len({without, *(loss_runs.LOSS_RUNS.code([name]) for name in NAMES)}) == 1 + len(NAMES)


@pytest.mark.parametrize("name", ["dpo", "dpop", "orpo"])
def test_a_run_is_that_of_train(name):
    """Which descends the gradient of the loss itself: there are no weights in that.

    Over 200 steps a pair's round-off grows by less than 1e7, that of DPOP, which chatters around its kink, included.
    """
    rate, seeds = runs(name)["learning_rate"][0], len(runs(name)["seed"])
    model, params, pairs = jax.vmap(loss_runs._drawn)(jnp.arange(seeds))
    every = ("model", "params", "pairs")
    run = train(model, params, pairs, LOSSES[name](), optax.sgd, rate, steps=loss_runs.STEPS, over=every)
    trajectory, states = run.trajectory, loss_runs.STATES
    changes = np.maximum(abs(trajectory.chosen_change), abs(trajectory.rejected_change))[..., 0]
    for side in ("chosen", "rejected"):
        np.testing.assert_allclose(runs(name)[f"{side}_logps"], getattr(trajectory, f"{side}_logps")[:, states, 0])
    taken = np.minimum(states, loss_runs.STEPS - 1)
    for column in ("chosen_sq", "rejected_sq", "cosine", "d_chosen", "d_rejected", "chosen_slope", "rejected_slope"):
        np.testing.assert_allclose(runs(name)[column], getattr(trajectory, column)[:, taken, 0])
    largest = np.maximum.accumulate(changes, axis=1)
    np.testing.assert_allclose(runs(name)["largest_change"][:, 1:], largest[:, states[1:] - 1])


def test_the_first_step_is_the_same_for_every_loss():
    for name in NAMES:
        rate, of_loss = runs(name)["learning_rate"], runs(name)
        size = np.hypot(of_loss["d_chosen"][:, 0], of_loss["d_rejected"][:, 0])
        np.testing.assert_allclose((rate * size).mean(), FIRST_STEP, rtol=ROUNDOFF)
        assert len(set(rate)) == 1


@pytest.mark.parametrize("name", NAMES)
def test_slopes_at_the_start_are_those_of_the_closed_form(name):
    gram = PairGram(*(starts()[entry] for entry in PairGram._fields))
    d_chosen, d_rejected = LOSSES[name]().weights(*inputs())
    predicted = theory.slopes(gram, d_chosen, d_rejected)
    terms = abs(d_chosen) + abs(d_rejected)
    for side, exact, sq in zip(("chosen", "rejected"), predicted, (gram.chosen_sq, gram.rejected_sq), strict=True):
        slope = runs(name)[f"{side}_slope"][:, 0]
        assert (abs(slope - exact) <= ROUNDOFF * terms * (sq + abs(gram.inner))).all()


def test_losses_with_equal_weights_take_the_same_direction():
    """Their slopes at the start differ by a factor alone, that of their weights: whatever m is, sign included."""
    equal = [name for name in NAMES if LOSSES[name].ratio == "1"]
    assert set(equal) == set(EQUAL)
    dpo = runs("dpo")
    for name in equal:
        of_loss = runs(name)
        np.testing.assert_array_equal(of_loss["d_chosen"], of_loss["d_rejected"])
        factor = of_loss["d_chosen"][:, 0] / dpo["d_chosen"][:, 0]
        for side in ("chosen_slope", "rejected_slope"):
            expected = factor * dpo[side][:, 0]
            size = abs(of_loss["d_chosen"] * (dpo["chosen_sq"] + dpo["rejected_sq"]))[:, 0]
            assert (abs(of_loss[side][:, 0] - expected) <= ROUNDOFF * size).all()


def test_only_lsif_leaves_the_figure_and_nothing_is_lost():
    table = quick("fig_losses_all")
    assert set(table["loss"][table["jumping_seeds"] > 0]) == {"lsif"}
    for name in set(NAMES) - {"lsif"}:
        part = style.rows(table, loss=name)
        assert part["step"][-1] == loss_runs.STEPS
        change = np.mean(runs(name)["chosen_logps"][:, -1] - runs(name)["chosen_logps"][:, 0])
        np.testing.assert_allclose(part["chosen_measured"][-1], change, rtol=ROUNDOFF)
    lsif = style.rows(table, loss="lsif")  # it ends before the jump, so within a step's 100 nats each
    assert (abs(lsif["margin_measured"]) <= 2 * loss_curves.JUMP * lsif["step"]).all()
    assert all(np.isfinite(column).all() for column in trained().values() if column.ndim == 2)


def test_the_margin_of_means_is_the_mean_of_margins():
    table = quick("fig_losses_all")
    difference = table["chosen_measured"] - table["rejected_measured"]
    size = abs(table["chosen_measured"]) + abs(table["rejected_measured"]) + 50  # of the log-probabilities themselves
    assert (abs(table["margin_measured"] - difference) <= ROUNDOFF * size).all()
    for curve in loss_curves.LOOKS:
        assert (table[f"{curve}_low"] <= table[f"{curve}_measured"]).all()
        assert (table[f"{curve}_measured"] <= table[f"{curve}_high"]).all()


def end(name, column):
    return style.rows(quick("fig_losses_all"), loss=name)[column][-1]


def test_families_move_pairs_as_the_caption_says():
    for name in ("dpo_nll_mean", "cpo_nll_mean", "cpo_nll_sum", "cpo_simpo", "orpo", "orpo_sumodds", "sft_mean"):
        assert end(name, "chosen_low") > 0
        assert end(name, "rejected_measured") > 0
    for name in set(EACH) - {"lsif"}:
        assert end(name, "chosen_low") > 0
        assert end(name, "rejected_high") < 0
    chosen = style.rows(quick("fig_losses_all"), loss="dpo")["chosen_measured"]
    assert chosen.max() > chosen[-1] + 0.1  # the chosen falls again


def share(name, time, case):
    return style.rows(quick("fig_loss_cases"), loss=name, time=time, case=case)["measured"][0]


def test_cases_at_the_start_are_the_predicted_ones():
    start = style.rows(quick("fig_loss_cases"), time="start")
    np.testing.assert_array_equal(start["measured"], start["predicted"])
    assert len(np.unique(start["measured"])) > 4
    for name in loss_groups.in_order():
        for time in fig_loss_cases.TIMES:
            # At most five fractions, each rounded once, and their sum.
            part = style.rows(quick("fig_loss_cases"), loss=name, time=time)
            np.testing.assert_allclose(part["measured"].sum(), 1, rtol=1e-15)
            np.testing.assert_allclose(part["left_of_measured"][1:], part["measured"].cumsum()[:-1], atol=1e-15)


def test_equal_weights_end_with_both_down_and_a_term_for_each_ends_apart():
    for name in ("dpo", "cdpo", "robust_dpo", "rdpo", "odpo", "exo_pair", "exo_pair_unnorm", "cpo_pref_only"):
        assert share(name, "end", "both_down") >= 0.5 > share(name, "start", "both_down")
        assert share(name, "end", "both_down") > share(name, "end", "chosen_up_rejected_down")
    for name in set(EACH) - {"lsif"}:
        assert share(name, "start", "chosen_up_rejected_down") == share("dpo", "start", "chosen_up_rejected_down")
        assert share(name, "end", "chosen_up_rejected_down") >= 0.75
    for name in FAVOURING[:8]:  # with a likelihood term
        assert share(name, "start", "both_down") == share(name, "end", "both_down") == 0
    for name in ("fdpo_js", "fdpo_alpha"):
        assert share(name, "end", "both_down") == 1
    # One pair jumps to where forward KL's margin, an exponential of the logratios, leaves no weight to float64.
    assert share("fdpo_forward_kl", "end", "both_down") + share("fdpo_forward_kl", "end", "stationary") == 1
    assert share("fdpo_forward_kl", "end", "both_down") > 0.75
    assert share("hinge", "end", "stationary") == 1
    for name in NAMES:
        if share(name, "start", "chosen_down_rejected_up") > 0:  # needs a negative weight (T10)
            assert (np.minimum(runs(name)["d_chosen"], runs(name)["d_rejected"])[:, 0] < 0).any()


@pytest.mark.parametrize("time", fig_loss_band.TIMES)
def test_a_place_between_the_edges_is_the_first_case(time):
    """For pairs on the map: |place| < 1 iff the measured slopes part the two, beyond are the other two cases."""
    seen = set()
    for name in NAMES:
        _, places, on_map = fig_loss_band.positions(runs(name), time)
        cases = loss_runs.cases(runs(name))[:, fig_loss_band.TIMES[time]]
        # A slope is zero at an edge; round-off of the arctangents moves an edge by far less than 1e-9 half-widths.
        clear = on_map & (abs(abs(places) - 1) > 1e-9)
        region = np.select([places <= -1, places >= 1], [1, 2], 0)
        np.testing.assert_array_equal(cases[clear], region[clear])
        seen |= set(region[clear])
    assert seen == {0, 1, 2}


def test_the_edges_of_the_map_are_the_band():
    edges = style.rows(quick("fig_loss_band"), kind="edges")
    cosines = np.maximum(edges["cosine_measured"], 0)
    # An arctangent, two changes of unit and a tangent, each rounded by 1e-15 or less.
    np.testing.assert_allclose(np.tan(np.radians(edges["low_predicted"])), cosines, rtol=1e-14, atol=1e-15)
    # The band is symmetric about r*: |log y| < −log cos.
    np.testing.assert_allclose(edges["low_predicted"] + edges["high_predicted"], 90, rtol=1e-15)


def test_equal_weights_leave_the_band_and_a_term_for_each_finds_its_centre():
    table = style.rows(quick("fig_loss_band"), kind="loss")

    def median(name, time):
        return style.rows(table, loss=name, time=time)["place_measured"][0]

    for name in ("dpo", "robust_dpo", "odpo", "exo_pair", "cpo_pref_only"):
        assert median(name, "end") < -1 < median(name, "start") < 1
    for name in ("sppo_hard", "sppo_half", "sppo_soft_half", "cal_dpo", "bce", "apo_zero"):
        assert abs(median(name, "end")) < 0.5
    assert np.isnan(median("discopop", "start"))
    assert np.isnan(median("hinge", "end"))


def test_an_arrow_leads_from_the_middle_of_the_pairs_and_a_dumbbell_from_the_median_place():
    table = quick("fig_loss_band")
    figure = fig_loss_band.draw(table)
    panels = {ax.get_title(): ax for ax in figure.findobj(Axes)}
    for name in fig_loss_band.SHOWN:
        arrow = next(text for text in panels[name].texts if text.arrow_patch)
        for time, place in (("start", arrow.xyann), ("end", arrow.xy)):
            pairs = style.rows(table, kind="pair", loss=name, time=time)
            middle = [np.median(pairs[f"{column}_measured"]) for column in ("angle", "cosine")]
            np.testing.assert_array_equal(place, middle)
    lines = [
        line for lines in figure.findobj(LineCollection) for line in lines.get_segments() if np.isfinite(line).all()
    ]
    places = style.rows(table, kind="loss", time="start"), style.rows(table, kind="loss", time="end")
    shown = np.transpose([part["place_measured"] for part in places])
    assert {tuple(line[:, 0]) for line in lines if len(line)} == {
        tuple(x) for x in shown[np.isfinite(shown).all(axis=1)]
    }


@pytest.mark.parametrize(("a", "b"), fig_training.SUFFIX_PROBS)
def test_training_goes_where_the_caption_says(a, b):
    part = style.rows(quick("fig_training"), a=a, b=b)
    for side in fig_training.LOOKS:
        predicted, measured, low, high = (part[f"{side}_{name}"][1:] for name in fig_training.COLUMNS)
        assert (high < 0 if a > b else low > 0).all()
        assert (np.sign(predicted) == np.sign(measured)).all()
    threshold = theory.threshold_length(1 / 20, 1 / 20, max(a, b), min(a, b), 20)
    np.testing.assert_allclose(threshold, 19 / 2.8, rtol=1e-14)  # 6.79
    assert threshold < fig_training.SUFFIX_LENGTH


@pytest.mark.parametrize(("a", "b"), fig_training.SUFFIX_PROBS)
def test_the_lines_of_training_are_the_measured_slopes(a, b):
    part = style.rows(quick("fig_training"), a=a, b=b)
    d = LOSSES["dpo"](beta=fig_training.BETA).weights(*np.full((4, 1), -20.0))

    def slopes(seed):
        return gradients.slopes(*fig_training.start(fig_training.RunSetting(a=a, b=b, seed=seed)), *d)

    measured = jax.vmap(slopes)(jnp.arange(fig_training.QUICK_SEEDS))
    for side, slope in zip(fig_training.LOOKS, measured, strict=True):
        line = fig_training.LEARNING_RATE * np.mean(slope) * part["step"]
        np.testing.assert_allclose(part[f"{side}_predicted"], line, rtol=1e-11)  # sums of 25 · 20 · 25 terms
