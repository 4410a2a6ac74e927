"""The figures of fifty losses on the same pairs: the runs behind them, and what their captions claim."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from figures import fig_loss_band, fig_loss_cases, fig_losses, fig_training, loss_runs, style
from figures.loss_runs import FIRST_STEP, GROUPS, NAMES, AnyLoss
from toymodel import gradients, theory
from toymodel.losses import LOSSES

EQUAL, _, FAVOURING, EACH, DIVERGENCES, *_ = GROUPS.values()
# Log-probabilities, Gram entries and weights are sums of at most 14 · 7 terms, twice, of relative round-off 1e-16 each;
# differences that cancel are compared with the size of their terms.
ROUNDOFF = 1e-12


@functools.cache
def quick(figure):
    return figure.compute(True)


def runs():
    return loss_runs.trained(True)


def inputs(lengths):
    """What every loss sees at the start, its own reference."""
    trajectory = runs().of("dpo")
    chosen, rejected = trajectory.chosen_logps[0], trajectory.rejected_logps[0]
    return chosen, rejected, chosen, rejected, *lengths


@functools.cache
def lengths():
    _, _, pairs = loss_runs._setting(loss_runs.QUICK_SEEDS)
    return [np.asarray(mask.sum(axis=-1), float) for mask in (pairs.chosen_mask, pairs.rejected_mask)]


def test_every_loss_is_in_one_group_and_in_every_figure():
    assert sorted(loss_runs.in_order()) == sorted(LOSSES)
    for figure in (fig_losses, fig_loss_cases):
        assert set(quick(figure)["loss"]) == set(LOSSES)
    assert set(style.rows(quick(fig_loss_band), kind="loss")["loss"]) == set(LOSSES)


@pytest.mark.parametrize("name", NAMES)
def test_one_program_trains_every_loss_as_itself(name):
    """At the start and far from it: value and weights are those of the catalogue, under its own name."""
    trajectory, loss = runs().of(name), LOSSES[name]()
    references = trajectory.chosen_logps[0], trajectory.rejected_logps[0]
    for step in (0, 3):
        logps = trajectory.chosen_logps[step], trajectory.rejected_logps[step]
        d = np.array(loss.weights(*logps, *references, *lengths()))
        # lsif's weights are exponentials of logratios of up to 100 nats, hence 100 times as uncertain.
        size = 1e-10 * (abs(d).max(axis=0) + 1e-3)
        assert (abs(d - (trajectory.d_chosen[step], trajectory.d_rejected[step])) <= size).all()
        value = loss.value(*logps, *references, *lengths())
        # The same: log-probabilities of some 1e2 nats, of relative round-off ROUNDOFF at most, in lsif's exponent.
        np.testing.assert_allclose(trajectory.loss[step], value, rtol=1e-10, atol=1e-10)


def test_the_derivatives_of_the_one_program_are_its_weights():
    given = [jnp.asarray(x) for x in inputs(lengths())]
    for index in (0.0, float(NAMES.index("orpo"))):
        value = lambda *logps, index=index: AnyLoss(jnp.asarray(index)).value(*logps, *given[2:]).sum()  # noqa: E731
        slopes = jax.grad(value, argnums=(0, 1))(*given[:2])
        d_chosen, d_rejected = LOSSES[NAMES[int(index)]]().weights(*given)
        np.testing.assert_allclose(slopes, (-d_chosen, d_rejected), rtol=ROUNDOFF)


def test_the_first_step_is_the_same_for_every_loss():
    trajectories = runs().trajectories
    weights = np.hypot(trajectories.d_chosen[:, :, 0, 0], trajectories.d_rejected[:, :, 0, 0])
    np.testing.assert_allclose(runs().learning_rate * weights.mean(axis=1), FIRST_STEP, rtol=ROUNDOFF)


@pytest.mark.parametrize("name", NAMES)
def test_slopes_at_the_start_are_those_of_the_closed_form(name):
    trajectory, gram = runs().of(name), runs().predicted_gram
    d_chosen, d_rejected = LOSSES[name]().weights(*inputs(lengths()))
    predicted = theory.slopes(gram, d_chosen, d_rejected)
    terms = abs(d_chosen) + abs(d_rejected)
    for slope, exact, sq in zip(
        (trajectory.chosen_slope, trajectory.rejected_slope), predicted, (gram.chosen_sq, gram.rejected_sq), strict=True
    ):
        assert (abs(slope[0] - exact) <= ROUNDOFF * terms * (sq + abs(gram.inner))).all()


def test_losses_with_equal_weights_take_the_same_direction():
    """Their slopes at the start differ by a factor alone, that of their weights: whatever m is, sign included."""
    equal = [name for name in NAMES if LOSSES[name].ratio == "1"]
    assert set(equal) == set(EQUAL)
    dpo = runs().of("dpo")
    for name in equal:
        trajectory = runs().of(name)
        np.testing.assert_array_equal(trajectory.d_chosen, trajectory.d_rejected)
        factor = trajectory.d_chosen[0] / dpo.d_chosen[0]
        for side in ("chosen_slope", "rejected_slope"):
            expected = factor * getattr(dpo, side)[0]
            size = abs(trajectory.d_chosen[0]) * (dpo.chosen_sq + dpo.rejected_sq)[0]
            assert (abs(getattr(trajectory, side)[0] - expected) <= ROUNDOFF * size).all()


def test_only_lsif_leaves_the_figure_and_nothing_is_lost():
    table = quick(fig_losses)
    assert set(table["loss"][table["jumping_seeds"] > 0]) == {"lsif"}
    for name in set(NAMES) - {"lsif"}:
        part = style.rows(table, loss=name)
        assert part["step"][-1] == loss_runs.STEPS
        change = np.mean(runs().of(name).chosen_logps[-1] - runs().of(name).chosen_logps[0])
        np.testing.assert_allclose(part["chosen_measured"][-1], change, rtol=ROUNDOFF)
    lsif = style.rows(table, loss="lsif")  # it ends before the jump, so within a step's 100 nats each
    assert (abs(lsif["margin_measured"]) <= 2 * fig_losses.JUMP * lsif["step"]).all()
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(runs().trajectories))


def test_the_margin_of_means_is_the_mean_of_margins():
    table = quick(fig_losses)
    difference = table["chosen_measured"] - table["rejected_measured"]
    size = abs(table["chosen_measured"]) + abs(table["rejected_measured"]) + 50  # of the log-probabilities themselves
    assert (abs(table["margin_measured"] - difference) <= ROUNDOFF * size).all()
    for curve in fig_losses.CURVES:
        assert (table[f"{curve}_low"] <= table[f"{curve}_measured"]).all()
        assert (table[f"{curve}_measured"] <= table[f"{curve}_high"]).all()


def end(name, column):
    return style.rows(quick(fig_losses), loss=name)[column][-1]


def test_families_move_pairs_as_the_caption_says():
    for name in ("dpo_nll_mean", "cpo_nll_mean", "cpo_nll_sum", "cpo_simpo", "orpo", "orpo_sumodds", "sft_mean"):
        assert end(name, "chosen_low") > 0
        assert end(name, "rejected_measured") > 0
    for name in set(EACH) - {"lsif"}:
        assert end(name, "chosen_low") > 0
        assert end(name, "rejected_high") < 0
    chosen = style.rows(quick(fig_losses), loss="dpo")["chosen_measured"]
    assert chosen.max() > chosen[-1] + 0.1  # the chosen falls again


def share(name, time, case):
    return style.rows(quick(fig_loss_cases), loss=name, time=time, case=case)["measured"][0]


def test_cases_at_the_start_are_the_predicted_ones():
    start = style.rows(quick(fig_loss_cases), time="start")
    np.testing.assert_array_equal(start["measured"], start["predicted"])
    assert len(np.unique(start["measured"])) > 4
    for name in loss_runs.in_order():
        for time in fig_loss_cases.TIMES:
            # At most five fractions, each rounded once, and their sum.
            part = style.rows(quick(fig_loss_cases), loss=name, time=time)
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
    for name in ("fdpo_js", "fdpo_alpha", "fdpo_forward_kl"):
        assert share(name, "end", "both_down") == 1
    assert share("hinge", "end", "stationary") == 1
    for name in NAMES:
        if share(name, "start", "chosen_down_rejected_up") > 0:  # needs a negative weight (T10)
            trajectory = runs().of(name)
            assert (np.minimum(trajectory.d_chosen, trajectory.d_rejected)[0] < 0).any()


@pytest.mark.parametrize("time", fig_loss_band.TIMES)
def test_a_place_between_the_edges_is_the_first_case(time):
    """For pairs on the map: |place| < 1 iff the measured slopes part the two, beyond are the other two cases."""
    seen = set()
    step = fig_loss_band.TIMES[time]
    for name in NAMES:
        _, places, on_map = fig_loss_band.positions(runs().of(name), step)
        cases = runs().cases(name)[step]
        # A slope is zero at an edge; round-off of the arctangents moves an edge by far less than 1e-9 half-widths.
        clear = on_map & (abs(abs(places) - 1) > 1e-9)
        region = np.select([places <= -1, places >= 1], [1, 2], 0)
        np.testing.assert_array_equal(cases[clear], region[clear])
        seen |= set(region[clear])
    assert seen == {0, 1, 2}


def test_the_edges_of_the_map_are_the_band():
    edges = style.rows(quick(fig_loss_band), kind="edges")
    cosines = np.maximum(edges["cosine_measured"], 0)
    # An arctangent, two changes of unit and a tangent, each rounded by 1e-15 or less.
    np.testing.assert_allclose(np.tan(np.radians(edges["low_predicted"])), cosines, rtol=1e-14, atol=1e-15)
    # The band is symmetric about r*: |log y| < −log cos.
    np.testing.assert_allclose(edges["low_predicted"] + edges["high_predicted"], 90, rtol=1e-15)


def test_equal_weights_leave_the_band_and_a_term_for_each_finds_its_centre():
    table = style.rows(quick(fig_loss_band), kind="loss")

    def median(name, time):
        return style.rows(table, loss=name, time=time)["place_measured"][0]

    for name in ("dpo", "robust_dpo", "odpo", "exo_pair", "cpo_pref_only"):
        assert median(name, "end") < -1 < median(name, "start") < 1
    for name in ("sppo_hard", "sppo_half", "sppo_soft_half", "cal_dpo", "bce", "apo_zero"):
        assert abs(median(name, "end")) < 0.5
    assert np.isnan(median("discopop", "start"))
    assert np.isnan(median("hinge", "end"))


def test_the_table_has_a_row_for_every_loss():
    lines = fig_losses.table_markdown(quick(fig_losses)).splitlines()
    assert len(lines) == 2 + len(LOSSES)
    assert len({line.count("|") for line in lines}) == 1
    row = next(line for line in lines if line.startswith("| `dpo` "))
    change = style.rows(quick(fig_losses), loss="dpo")["chosen_measured"][-1]
    assert f"| 1 | {change:.1f} [".replace("-", "−") in row
    assert next(line for line in lines if line.startswith("| `lsif` (until step ")).count("→") == 1


@pytest.mark.parametrize(("a", "b"), fig_training.SUFFIX_PROBS)
def test_training_goes_where_the_caption_says(a, b):
    part = style.rows(quick(fig_training), a=a, b=b)
    for side in fig_training.LOOKS:
        predicted, measured, low, high = (part[f"{side}_{name}"][1:] for name in fig_training.COLUMNS)
        assert (high < 0 if a > b else low > 0).all()
        assert (np.sign(predicted) == np.sign(measured)).all()
    threshold = theory.threshold_length(1 / 20, 1 / 20, max(a, b), min(a, b), 20)
    np.testing.assert_allclose(threshold, 19 / 2.8, rtol=1e-14)  # 6.79
    assert threshold < fig_training.SUFFIX_LENGTH


@pytest.mark.parametrize(("a", "b"), fig_training.SUFFIX_PROBS)
def test_the_lines_of_training_are_the_measured_slopes(a, b):
    part = style.rows(quick(fig_training), a=a, b=b)
    pairs, keys = fig_training.setting(fig_training.QUICK_SEEDS)
    models, params = fig_training.models(a, b, keys, pairs)
    d = LOSSES["dpo"](beta=fig_training.BETA).weights(*np.full((4, 1), -20.0))
    measured = jax.vmap(lambda model: gradients.slopes(model, params, pairs, *d))(models)
    for side, slope in zip(fig_training.LOOKS, measured, strict=True):
        line = fig_training.LEARNING_RATE * np.mean(slope) * part["step"]
        np.testing.assert_allclose(part[f"{side}_predicted"], line, rtol=1e-11)  # sums of 25 · 20 · 25 terms
