"""Figures of the comparison of remedies: they show what the sweep found, most of this told of a made-up one."""

import functools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.text import Text
from quick_figures import quick, swept
from scipy import stats
from strategies import seeds

from figures import (
    fig_remedies,
    fig_remedy_account,
    fig_remedy_pareto,
    fig_remedy_tasks,
    fig_remedy_trajectories,
    remedy_runs,
    style,
)
from toymodel.experiments.remedies import CHECKPOINTS, MODELS, REMEDY_COMPARISON, TASKS
from toymodel.experiments.remedies import COMPARED as LOSSES
from toymodel.experiments.sentiment import LEARNT
from toymodel.experiments.tuned import candidates
from toymodel.remedies import REMEDIES
from toymodel.sweep import make_sweep
from toymodel.sweep.grid import columns_of

FIGURES = (fig_remedies, fig_remedy_tasks, fig_remedy_trajectories, fig_remedy_pareto)
NAMES = list(REMEDIES)
SHAPE = len(NAMES), len(TASKS), len(LOSSES)
LONG, DPO = list(TASKS).index("long suffix"), LOSSES.index("dpo")
ROWS = {
    "fig_remedies": len(NAMES),
    "fig_remedy_tasks": len(NAMES) * len(TASKS) * len(LOSSES),
    "fig_remedy_trajectories": len(NAMES) * CHECKPOINTS,
    "fig_remedy_pareto": len(NAMES) * len(LOSSES),
}
# Means and deviations of ten numbers of up to 100 nats, in float64: 10 · 100 · 1.1e-16, and 10 for a chain of them.
ROUNDOFF = {"rtol": 0, "atol": 1e-12}


def name_of(module):
    return module.__name__.removeprefix("figures.")


def made_up_runs(wanted):
    """All that the figures read of a sweep, random numbers of size about 1: [policies, remedies, tasks, losses, …].

    A policy is one seed of one model.
    """
    rng, settings = np.random.default_rng(0), columns_of(wanted.settings)
    policies = dict.fromkeys(zip(settings["model"].tolist(), settings["seed"].tolist(), strict=True))
    n = len(policies)
    found = dict(zip(("model", "seed"), map(np.array, zip(*policies, strict=True)), strict=True))
    found["label_accuracy"] = np.full(n, 0.95)
    for side in ("chosen", "rejected"):
        logps = rng.normal(size=(n, *SHAPE, CHECKPOINTS)).cumsum(axis=-1)
        logps -= 3 * np.arange(CHECKPOINTS) * (side == "rejected")  # margins grow
        reference = rng.normal(-20, 1, size=(n, 1, len(TASKS), 1))
        logps[..., 0] *= np.arange(len(NAMES))[:, None, None] == NAMES.index("both_first")  # all others start there
        found |= {f"{side}_logps": logps + reference[..., None], f"{side}_change": logps[..., -1]}
    return found | {name: rng.uniform(size=(n, *SHAPE)) for name in ("others", "accuracy", "kl", "cosine")}


def made_up(wanted, change=lambda found: found):
    """The rows of a sweep that found this: one for each policy, remedy and loss."""
    found, settings = change(made_up_runs(wanted)), columns_of(wanted.settings)
    policies = list(zip(found["model"].tolist(), found["seed"].tolist(), strict=True))
    places = (
        [policies.index(one) for one in zip(settings["model"].tolist(), settings["seed"].tolist(), strict=True)],
        [NAMES.index(name) for name in settings["remedy"]],
        [LOSSES.index(name) for name in settings["loss"]],
    )
    policy, remedy, loss = map(np.array, places)
    measured = {name: column[policy, remedy, :, loss] for name, column in found.items() if column.ndim > 1}
    return settings | {"label_accuracy": found["label_accuracy"][policy]} | measured


def transformers():
    return make_sweep(REMEDY_COMPARISON, remedy_runs.settings_of("transformer") | {"seed": remedy_runs.SEEDS})


@functools.cache
def table_of(module):
    return module.compute(False, made_up)


def changed(module, change):
    return module.compute(False, functools.partial(made_up, change=change))


@functools.cache
def found_of(model):
    """Runs of a model in the made-up sweep."""
    return remedy_runs.runs(False, made_up)[model]


def assert_over_seeds(table, name, of_seeds):
    """`of_seeds` [seeds, …] in the order of the rows. Errors and quantile are scipy's."""
    of_seeds = of_seeds.reshape(len(of_seeds), -1)
    half = stats.sem(of_seeds) * stats.t.ppf(0.975, len(of_seeds) - 1)
    for end, sign in (("measured", 0), ("low", -1), ("high", 1)):
        np.testing.assert_allclose(table[f"{name}_{end}"], of_seeds.mean(axis=0) + sign * half, **ROUNDOFF)


# --- Numbers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", FIGURES, ids=name_of)
def test_every_model_has_all_its_rows_in_order(module):
    table = table_of(module)
    assert list(dict.fromkeys(table["model"].tolist())) == list(MODELS)
    for model in MODELS:
        part = style.rows(table, model=model)
        assert len(part["remedy"]) == ROWS[name_of(module)]
        assert list(dict.fromkeys(part["remedy"].tolist())) == NAMES
    assert set(table["seeds"].tolist()) == {len(remedy_runs.SEEDS)}
    assert not table["diverged"].any()


@given(seeds)
def test_rows_are_put_in_their_places_whatever_their_order(seed):
    rows, found = made_up(transformers()), made_up_runs(transformers())
    order = np.random.default_rng(seed).permutation(len(rows["seed"]))
    cube = remedy_runs.in_cube({name: column[order] for name, column in rows.items()}, "transformer")
    assert cube["seed"].tolist() == list(remedy_runs.SEEDS)
    for name, column in found.items():
        if column.ndim > 1:
            np.testing.assert_array_equal(cube[name], column)
    for name in ("learning_rate", "strength"):
        for (remedy, loss), value in np.ndenumerate(cube[name]):
            same = (rows["remedy"] == NAMES[remedy]) & (rows["loss"] == LOSSES[loss])
            np.testing.assert_array_equal(rows[name][same], value)


@pytest.mark.parametrize("model", MODELS)
def test_every_number_is_a_mean_over_seeds_with_student_s_interval(model):
    found, one = found_of(model), (slice(None), slice(None), LONG)
    changes = {side: found[f"{side}_change"] for side in ("chosen", "rejected")}
    changes["margin"] = found["chosen_change"] - found["rejected_change"]
    changes["paid"] = remedy_runs.at_margin(remedy_runs.MARGINS[model], *remedy_runs.changes(found))
    changes["spared"] = changes["paid"] - changes["paid"][:, :1]  # the first is none
    table = style.rows(table_of(fig_remedies), model=model)
    for name in fig_remedies.COLUMNS:
        assert_over_seeds(table, name, (changes | found)[name][*one, DPO])
    tasks, pareto = (style.rows(table_of(module), model=model) for module in (fig_remedy_tasks, fig_remedy_pareto))
    assert NAMES[0] == "none"
    for name in ("paid", "spared"):
        assert_over_seeds(tasks, name, changes[name])
    for name in ("margin", "chosen"):
        assert_over_seeds(tasks, name, changes[name])
        assert_over_seeds(pareto, name, changes[name][one].swapaxes(1, 2))
    ways = style.rows(table_of(fig_remedy_trajectories), model=model)
    for side in ("chosen", "rejected"):
        logps = found[f"{side}_logps"][*one, DPO]
        assert_over_seeds(ways, side, logps - logps[:, :1, :1])  # the first remedy is none, and its first state


def test_all_figures_tell_the_same_of_a_remedy():
    def told(module, **equal):
        return style.rows(table_of(module), **equal)["chosen_measured"]

    ends = table_of(fig_remedies)["chosen_measured"]
    np.testing.assert_allclose(told(fig_remedy_trajectories, step=remedy_runs.states(False)[-1]), ends, **ROUNDOFF)
    np.testing.assert_array_equal(told(fig_remedy_tasks, task="long suffix", loss="dpo"), ends)
    np.testing.assert_array_equal(told(fig_remedy_pareto, loss="dpo"), ends)


def test_changes_are_from_the_reference_and_only_fitting_both_answers_starts_elsewhere():
    start = style.rows(table_of(fig_remedy_trajectories), step=0)
    elsewhere = start["remedy"] == "both_first"
    for side in ("chosen", "rejected"):
        assert (start[f"{side}_measured"][~elsewhere] == 0).all()
        assert (start[f"{side}_measured"][elsewhere] != 0).all()


def test_learning_rates_and_strengths_are_among_the_candidates():
    table = table_of(fig_remedies)
    told = ("model", "remedy", "learning_rate", "strength", "extra_gradients")
    for model, name, rate, strength, extra in zip(*(table[column].tolist() for column in told), strict=True):
        tried = np.array([rate, strength])
        known = candidates(REMEDIES[name], model)
        assert any(np.allclose(tried, one, rtol=1e-12, atol=0, equal_nan=True) for one in known)  # decimals in the file
        assert np.isnan(strength) == (not REMEDIES[name].strengths)
        assert extra == REMEDIES[name].extra


@given(seeds, st.integers(2, 7), st.floats(-1, 1))
def test_the_chosen_is_told_when_the_mean_margin_is_first_reached(seed, states, start):
    """Against paths between states, cut finely."""
    chosen, margin = np.random.default_rng(seed).normal(size=(2, 3, states)).cumsum(axis=-1) * 0.3
    margin += start - margin[:, :1]
    told = remedy_runs.at_margin(0.5, chosen, chosen - margin)
    times, mean = np.linspace(0, states - 1, 6000 * (states - 1) + 1), margin.mean(axis=0)
    reached = np.interp(times, np.arange(states), mean) >= 0.5
    if not (mean >= 0.5).any():
        assert np.isnan(told).all()
    else:  # a step of the grid away, along slopes of at most 0.3 · 6 nats a state
        at_once = [np.interp(times[reached.argmax()], np.arange(states), path) for path in chosen]
        np.testing.assert_allclose(told, at_once, rtol=0, atol=3e-4)


def test_what_diverged_reaches_no_margin():
    found = lost(made_up_runs(transformers()), np.nan)
    paid = remedy_runs.at_margin(2.0, *remedy_runs.changes(found))
    assert np.isnan(paid[:, NAMES.index("oracle_mask")]).all()  # nor does its mean over seeds
    assert np.isfinite(np.delete(paid, NAMES.index("oracle_mask"), axis=1)).any()


# --- Seeds that are not there ---------------------------------------------------------------------------------------


def untaught(*places):
    def change(found):
        accuracy = found["label_accuracy"].copy()
        accuracy[list(places)] = LEARNT - 0.01
        return found | {"label_accuracy": accuracy}

    return change


@pytest.mark.parametrize("module", FIGURES, ids=name_of)
def test_a_seed_that_learnt_no_label_is_left_out(module):
    table, model = changed(module, untaught(0)), next(iter(MODELS))
    fewer, every = (style.rows(t, model=model) for t in (table, table_of(module)))
    assert set(fewer["seeds"]) == {len(remedy_runs.SEEDS) - 1}
    assert (fewer["chosen_measured"] != every["chosen_measured"]).any()
    other = table["model"] != model
    for name, column in table.items():
        np.testing.assert_array_equal(column[other], table_of(module)[name][other])
    module.draw(table)


def test_too_few_taught_seeds_are_told():
    with pytest.raises(ValueError, match="did not teach readout"):
        changed(fig_remedies, untaught(*range(len(remedy_runs.SEEDS) - 1)))


def lost(found, amount):
    """Run 3 of the last model with `oracle_mask`: all is NaN as a stopped run has it, or a side went too far."""
    place = (len(found["seed"]) - 7, NAMES.index("oracle_mask"))
    found = {name: column.copy() for name, column in found.items()}
    if np.isnan(amount):
        for name in ("chosen_change", "rejected_change", "others", "kl", "cosine"):
            found[name][place] = np.nan
        for side in ("chosen", "rejected"):
            found[f"{side}_logps"][place][..., -2:] = np.nan
        found["accuracy"][place] = 0  # what a comparison of NaN gives
    else:
        found["rejected_change"][place] = amount
    return found


@pytest.mark.parametrize("amount", [np.nan, -1e6], ids=["stopped", "beyond all use"])
@pytest.mark.parametrize("module", FIGURES, ids=name_of)
def test_what_diverged_in_a_seed_is_absent_and_named(module, amount):
    table = changed(module, functools.partial(lost, amount=amount))
    gone = (table["model"] == "transformer") & (table["remedy"] == "oracle_mask")
    np.testing.assert_array_equal(table["diverged"], gone)
    for name, column in table.items():
        if name.endswith(("_measured", "_low", "_high")):
            assert np.isnan(column[gone]).all(), name
            np.testing.assert_array_equal(column[~gone], table_of(module)[name][~gone])
    word = "–" if module is fig_remedy_tasks else "diverged"
    missing, none = (
        sum(word in text.get_text() for text in module.draw(t).findobj(Text)) for t in (table, table_of(module))
    )
    assert missing > none


@pytest.mark.parametrize("module", FIGURES, ids=name_of)
def test_a_picture_in_which_all_diverged_is_drawn(module):
    table = changed(module, lambda found: found | {"chosen_change": np.full_like(found["chosen_change"], np.nan)})
    assert (table["diverged"] == len(remedy_runs.SEEDS)).all()
    module.draw(table).draw_without_rendering()


# --- Pictures -------------------------------------------------------------------------------------------------------


def words_of(figure):
    """All that is written, but for labels of ticks beyond an axis."""
    axes = [(axis, axis.get_view_interval()) for ax in figure.axes for axis in (ax.xaxis, ax.yaxis)]
    beyond = {
        t.label1 for axis, ends in axes for t in axis.get_major_ticks() if not min(ends) <= t.get_loc() <= max(ends)
    }
    return [t for t in figure.findobj(Text) if t.get_text().strip() and t.get_visible() and t not in beyond]


@pytest.mark.parametrize("module", FIGURES, ids=name_of)
def test_no_words_leave_the_picture_or_cover_each_other(module):
    figure = module.draw(table_of(module))
    renderer = figure._get_renderer()
    figure.draw(renderer)
    words = words_of(figure)
    boxes = np.array([text.get_window_extent(renderer).extents for text in words])
    width, height = figure.bbox.size
    assert (boxes[:, :2] >= -1).all()
    assert (boxes[:, 2:] <= [width + 1, height + 1]).all()
    apart = (boxes[:, None, :2] >= boxes[None, :, 2:] - 1) | (boxes[None, :, :2] >= boxes[:, None, 2:] - 1)
    covered = ~apart.any(axis=-1) & ~np.eye(len(words), dtype=bool)
    assert not covered.any(), [words[i].get_text() for i in np.unique(np.nonzero(covered))]


def test_remedies_are_sorted_and_a_marker_is_filled_where_the_interval_excludes_zero():
    table = table_of(fig_remedies)
    narrow = np.arange(len(table["remedy"])) % 2  # every other interval, so that some exclude zero
    ends = {f"spared_{end}": table[f"spared_{end}"] for end in ("low", "high")}
    table = table | {name: np.where(narrow, table["spared_measured"], column) for name, column in ends.items()}
    of_models = [style.rows(table, model=model) for model in MODELS]
    shown = [name for name in fig_remedies.order(of_models) if name != "none"]
    places = [stats.rankdata(-part["spared_measured"], method="min") for part in of_models]
    mean = dict(zip(NAMES, np.mean(places, axis=0), strict=True))
    assert [mean[name] for name in shown] == sorted(mean[name] for name in shown)
    figure = fig_remedies.draw(table)
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == [remedy_runs.NAMES[n] for n in shown]
    seen = set()
    for ax, part in zip(figure.axes, of_models, strict=True):
        for line in [line for line in ax.lines if line.get_marker() == "o"]:
            one = style.rows(part, remedy=shown[int(line.get_ydata()[0])])
            assert line.get_xdata()[0] == one["spared_measured"][0]
            clear = (one["spared_low"] > 0) | (one["spared_high"] < 0)
            assert (line.get_markerfacecolor() != "white") == clear[0]
            seen.add(bool(clear[0]))
        assert ax.get_xscale() == "linear"
    assert seen == {True, False}


def test_brackets_are_where_the_interval_includes_zero():
    told = fig_remedy_tasks.told
    assert told(-0.583, -0.6, -0.5) == "−0.58"
    assert told(0.041, -0.01, 0.09) == "(+0.04)"
    assert told(-0.001, -0.002, -0.0001) == "+0.00"
    assert told(-12.34, -15, -9) == "−12.3"
    assert told(np.nan, np.nan, np.nan) == "–"
    table = style.rows(table_of(fig_remedy_tasks), model="transformer")
    bracketed = [text.get_text() for text in fig_remedy_tasks.draw(table_of(fig_remedy_tasks)).findobj(Text)]
    including = (table["paid_low"] <= 0) & (table["paid_high"] >= 0)
    assert 0 < including.sum() < including.size
    assert sum(text.startswith("(") for text in bracketed) == including.sum()


@given(seeds, st.integers(1, 12), st.integers(1, 6))
def test_the_front_is_of_points_that_none_beats(seed, n, levels):
    """With ties, and with points that are not there."""
    x, y = np.random.default_rng(seed).integers(levels, size=(2, n)).astype(float)
    x[x == levels - 1] = np.nan
    for i, found in enumerate(fig_remedy_pareto.on_front(x, y)):
        beaten = any(x[j] >= x[i] and y[j] >= y[i] and (x[j], y[j]) != (x[i], y[i]) for j in range(n))
        assert found == (np.isfinite(x[i]) and not beaten)


def test_the_front_is_drawn_for_each_model_and_loss():
    table = table_of(fig_remedy_pareto)
    for model in MODELS:
        for loss in LOSSES:
            part = style.rows(table, model=model, loss=loss)
            front = style.rows(part, on_front=1)
            assert part["chosen_measured"].max() in front["chosen_measured"]
            assert part["margin_measured"].max() in front["margin_measured"]


def test_the_front_alone_is_named_each_remedy_with_a_marker_of_its_own():
    table = style.rows(table_of(fig_remedy_pareto), loss=fig_remedy_pareto.LOSS)
    for ax, model in zip(fig_remedy_pareto.draw(table_of(fig_remedy_pareto)).axes, MODELS, strict=True):
        lines = {line.get_label(): line for line in ax.lines if not line.get_label().startswith("_")}
        front = style.rows(table, model=model, on_front=1)
        assert set(lines) - {"none"} == {remedy_runs.NAMES[name] for name in front["remedy"]} - {"none"}
        assert len({line.get_marker() for line in lines.values()}) == len(lines)
        for name, margin in zip(front["remedy"].tolist(), front["margin_measured"].tolist(), strict=True):
            assert lines[remedy_runs.NAMES[name]].get_xdata() == margin
    assert len({marker for marker, _ in fig_remedy_pareto.LOOKS}) == len(fig_remedy_pareto.LOOKS)


def test_every_model_has_a_marker_of_its_own():
    assert list(remedy_runs.NAMES) == NAMES
    assert set(remedy_runs.MODEL_NAMES) == set(MODELS) == set(remedy_runs.LOOKS)
    assert len({look.marker for look in remedy_runs.LOOKS.values()}) == len(MODELS)


# --- The sweep itself, of few points --------------------------------------------------------------------------------


def test_the_quick_sweep_fills_all_tables_and_its_last_states_are_its_changes():
    found = remedy_runs.runs(True, swept)["ngram_mlp"]
    assert found["chosen_logps"].shape[1:] == (*SHAPE, len(remedy_runs.states(True)))
    ends, ways = quick("fig_remedies"), quick("fig_remedy_trajectories")
    assert len(quick("fig_remedy_tasks")["remedy"]) == ROWS["fig_remedy_tasks"]
    assert len(quick("fig_remedy_pareto")["remedy"]) == ROWS["fig_remedy_pareto"]
    last = style.rows(ways, step=remedy_runs.states(True)[-1])
    for side in ("chosen", "rejected"):
        # Means of 16 log-probabilities of up to 100 nats, whose differences compiled code sums otherwise.
        np.testing.assert_allclose(last[f"{side}_measured"], ends[f"{side}_measured"], rtol=0, atol=1e-10)
    start = style.rows(ways, step=0)
    assert (start["chosen_measured"][start["remedy"] != "both_first"] == 0).all()
    shares = [ends[f"{name}_measured"] for name in ("accuracy", "others")]
    assert all(((share >= 0) & (share <= 1)).all() for share in shares)
    assert (abs(ends["cosine_measured"]) <= 1).all()
    assert (ends["kl_measured"] >= 0).all()


# --- The account of remedies ----------------------------------------------------------------------------------------


def test_an_account_is_closed_where_the_mean_margin_over_seeds_is_reached():
    """Between two states in proportion; at the last state where it never is."""
    margin = np.tile([0.0, 1.0, 3.0], (2, *SHAPE, 1))
    margin[0, ..., 1] = 0.5
    margin[1, ..., 1] = 1.5  # the mean is as before
    margin[:, 1] /= 4
    runs = {"chosen_logps": margin, "rejected_logps": np.zeros_like(margin)}
    runs |= {"chosen_change": margin[..., -1], "rejected_change": np.zeros_like(margin[..., -1])}
    stops = fig_remedy_account._stops(runs, np.array([0, 8, 16]), 1.5)
    assert list(stops) == NAMES
    assert stops.pop(NAMES[1]) == 16
    assert set(stops.values()) == {10}


def test_accounts_add_up_and_are_told_beside_the_one_without_a_remedy():
    """Seed by seed; the table has their medians, and the second from either end."""
    rng, parts = np.random.default_rng(0), len(fig_remedy_account.TOKENS)
    found = {"contributions": rng.normal(size=(5, parts, parts, 7)), "true_change": rng.normal(size=(5, parts, 7))}
    brought = {name: fig_remedy_account._brought(found) for name in ("none", "gate")}
    brought["gate"]["both labels"] = brought["none"]["both labels"] + [0.0, -2.0, 9.0, 1.0, 3.0]
    of_pairs = found["contributions"][:, :, :2].sum(axis=2).mean(axis=-1)
    np.testing.assert_allclose(brought["none"]["all sources"], of_pairs.sum(axis=1), **ROUNDOFF)
    for place, both in enumerate(("both labels", "both suffixes")):
        np.testing.assert_allclose(brought["none"][both], of_pairs[:, place] + of_pairs[:, place + 2], **ROUNDOFF)
    sides = found["true_change"].mean(axis=-1).reshape(5, 2, 2).sum(axis=-1)
    np.testing.assert_allclose(brought["none"]["margin"], sides[:, 0] - sides[:, 1], **ROUNDOFF)
    row = style.rows(fig_remedy_account._rows("gate", 3, brought), source="both labels")
    assert (row["step"], row["seeds"]) == (3, 5)
    np.testing.assert_allclose([row[f"more_{end}"][0] for end in ("low", "measured", "high")], [0, 1, 3], **ROUNDOFF)


def test_a_mask_on_both_sides_leaves_nothing_to_suffixes():
    table = quick("fig_remedy_account")
    for source in ("chosen suffix", "rejected suffix"):
        rows = style.rows(table, source=source)
        assert dict(zip(rows["remedy"], rows["brought_measured"] == 0, strict=True)) == {
            name: name == "oracle_mask" for name in fig_remedy_account.QUICK_REMEDIES
        }


def test_an_account_is_of_the_run_that_the_comparison_makes():
    """Closed at the last step: the same change of the chosen answers, trained in float32 by another program."""
    settings = remedy_runs.SETTINGS | remedy_runs.QUICK | {"model": "ngram_mlp", "seed": remedy_runs.QUICK_SEEDS}
    settings |= {"loss": "dpo", "remedy": "rejected_mask", "stop": remedy_runs.QUICK["steps"]}
    found = swept(make_sweep(fig_remedy_account.EXPERIMENT, settings))
    mine = found["true_change"][:, fig_remedy_account.CHOSEN].sum(axis=1).mean(axis=-1)
    theirs = remedy_runs.runs(True, swept)["ngram_mlp"]["chosen_change"][:, NAMES.index("rejected_mask"), LONG, DPO]
    np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-3)
