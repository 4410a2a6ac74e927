"""Figures of learned masks and of normalised batches: what is plotted against its definition, and what is left out."""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from matplotlib.text import Text
from neural import LENGTH, MODEL, mlp_world
from quick_figures import quick, swept
from scipy.stats import t as student

from figures import fig_masks, fig_normalised_batch, style
from toymodel import gradients, pytree, theory
from toymodel.data.families import contrast_pairs
from toymodel.experiments.sentiment import FINE_TUNING, LEARNT, SentimentSetting, reference_policy
from toymodel.gram import PairGram
from toymodel.losses import LOSSES
from toymodel.models.logps import pair_logps
from toymodel.remedies import LearnedMask, NormalisedPairs, NormalisedSides
from toymodel.sweep import make_sweep
from toymodel.training import Plain, train

# Sums and means of at most 1e4 terms of size about 1, in float64: 1e4 · 1.1e-16.
ROUNDOFF = {"rtol": 1e-12, "atol": 1e-12}
PAIRS = 32  # in the quick sweep of normalised batches
FIGURES = {"fig_masks": fig_masks, "fig_normalised_batch": fig_normalised_batch}


def part(name, **equal):
    table = style.rows(quick(name), **equal)
    assert len(next(iter(table.values()))) > 0
    return table


def found(name):
    """The rows of the quick sweep."""
    rows = []
    FIGURES[name].compute(True, lambda wanted: rows.append(swept(wanted)) or rows[-1])
    return rows[0]


def computed(name, **columns):
    """The quick table, had the sweep found these columns."""
    return FIGURES[name].compute(True, lambda wanted: swept(wanted) | columns)


def interval(of_seeds):
    """Mean and 95% interval over the first axis, from Student's own distribution."""
    mean, error = np.mean(of_seeds, axis=0), np.std(of_seeds, axis=0, ddof=1) / len(of_seeds) ** 0.5
    half = student.ppf(0.975, len(of_seeds) - 1) * error
    return {"measured": mean, "low": mean - half, "high": mean + half}


def assert_interval(row, name, of_seeds):
    for end, expected in interval(of_seeds).items():
        np.testing.assert_allclose(row[f"{name}_{end}"], expected, **ROUNDOFF)


@pytest.mark.parametrize("name", FIGURES)
def test_the_table_is_small_and_intervals_hold_their_means(name):
    table = quick(name)
    assert {column.shape for column in table.values()} == {(len(table["seeds"]),)}
    for column in [column for column in table if column.replace("measured", "low") in table]:
        low, high = (table[column.replace("measured", end)] for end in ("low", "high"))
        assert (low <= table[column]).all()
        assert (table[column] <= high).all()


@pytest.mark.parametrize("name", FIGURES)
def test_a_seed_that_learnt_no_label_is_left_out_and_a_model_that_none_learnt_is_told(name):
    accuracy = found(name)["label_accuracy"]
    assert (accuracy >= LEARNT).all()
    fewer = computed(name, label_accuracy=np.where(np.arange(len(accuracy)) == 0, LEARNT - 0.01, accuracy))
    assert set(fewer["seeds"]) == {len(accuracy) - 1}
    assert FIGURES[name].draw(fewer).axes
    with pytest.raises(ValueError, match="did not teach ngram_mlp"):
        computed(name, label_accuracy=np.where(np.arange(len(accuracy)) < len(accuracy) - 1, 0.0, accuracy))


@pytest.mark.parametrize("name", FIGURES)
def test_what_is_drawn_from_the_file_is_readable(name, tmp_path):
    style.write_table(quick(name), tmp_path / "table.csv")
    figure = FIGURES[name].draw(style.read_table(tmp_path / "table.csv"))
    assert figure.get_figwidth() in (style.COLUMN, style.PAGE)
    assert min(text.get_fontsize() for text in figure.findobj(Text) if text.get_text()) >= 7
    style.write_small_png(figure, tmp_path / "small.png")
    assert 5_000 < (tmp_path / "small.png").stat().st_size < 100_000


# --- fig_masks (T18) ------------------------------------------------------------------------------------------------


def places():
    """Every task, side and strength, with its place in the columns of the sweep."""
    for task_place, task in enumerate(fig_masks.TASKS):
        for side_place, side in enumerate(fig_masks.SIDES):
            for strength_place, strength in enumerate(fig_masks.STRENGTHS):
                row = part("fig_masks", task=task, side=side, strength=strength)
                yield row, (slice(None), task_place, strength_place, side_place)


def test_masks_and_what_is_told_of_them_are_those_of_the_seeds():
    rows = found("fig_masks")
    for row, place in places():
        masks = rows["masks"][place]  # [seeds, T]
        assert_interval(row, "mask", masks)
        assert_interval(row, "gap", [[mask[0] - sum(mask[1:]) / len(mask[1:])] * len(mask) for mask in masks])
        largest = [sum(mask[0] > other for other in mask[1:]) == len(mask) - 1 for mask in masks]
        np.testing.assert_allclose(row["found_measured"], np.mean(largest), **ROUNDOFF)
        assert_interval(row, "change", rows["changes"][place][:, None].repeat(masks.shape[1], axis=1))
        without = rows["changes"][place[0], place[1], len(fig_masks.STRENGTHS), place[3]]
        assert_interval(row, "unmasked_change", without[:, None].repeat(masks.shape[1], axis=1))


def test_masks_are_shares_and_the_pairs_differ_where_they_should():
    table = quick("fig_masks")
    assert ((table["mask_measured"] >= 0) & (table["mask_measured"] <= 1)).all()
    for task, kept in fig_masks.TASKS.items():
        line = part("fig_masks", task=task, side="chosen", strength=fig_masks.STRENGTHS[0])["contrast_predicted"]
        assert line[0] == 1
        np.testing.assert_allclose(line[1:].mean(), 1 - kept / 8, **ROUNDOFF)
    assert (line[1:] > 0).all()  # of half shared suffixes, no position is the same in all pairs


@pytree
@dataclass(frozen=True)
class OfUnitWeight:
    """DPO whose weights are 1 where it starts: minus the log-sigmoid of β times the margin, times 2/β."""

    beta: float

    def value(self, w, l, ref_w, ref_l, *_):  # noqa: E741
        return -jax.nn.log_sigmoid(self.beta * (w - ref_w - l + ref_l)) * 2 / self.beta

    def weights(self, w, l, ref_w, ref_l, *_):  # noqa: E741
        weight = 2 * jax.nn.sigmoid(-self.beta * (w - ref_w - l + ref_l))
        return weight, weight


def test_masks_are_learnt_from_a_loss_of_unit_weight():
    """Adam's ε is the only number that knows the loss's scale, so it is given the same."""
    rows, strength = found("fig_masks"), fig_masks.STRENGTHS[1]
    here = SentimentSetting(**{name: rows[name].tolist()[0] for name in fig_masks.EXPERIMENT.fields})
    policy = swept(make_sweep(FINE_TUNING, {name: getattr(here, name) for name in FINE_TUNING.fields}))
    reference = reference_policy(here, {"params": jnp.asarray(policy["params"][0])})
    done = train(
        reference.model,
        reference.params,
        reference.training,
        OfUnitWeight(here.beta),
        partial(optax.adam, eps=1e-8 * 2 / here.beta),
        5e-4,
        steps=here.steps,
        batch_size=fig_masks.BATCH,
        key=jax.random.fold_in(jax.random.key(here.seed), 3),
        update=LearnedMask(strength, 1.0),
        record="loss",
    )
    assert len(np.unique(done.memory)) > 4
    # Both round in float32, by 6e-8 in each of a hundred steps, which training enlarges.
    np.testing.assert_allclose(rows["masks"][0, 0, 1], done.memory, atol=1e-4)


def test_without_a_price_that_is_high_the_rejected_keeps_all_and_with_one_the_chosen_keeps_nothing():
    for task in fig_masks.TASKS:
        keeps = part("fig_masks", task=task, side="rejected", strength=0.001)["mask_measured"]
        assert keeps.mean() > 0.9
        nothing = part("fig_masks", task=task, side="chosen", strength=0.1)["mask_measured"]
        assert nothing.max() < 0.1


def test_no_strength_finds_the_label_on_both_sides_in_all_seeds():
    for task in fig_masks.TASKS:
        for strength in fig_masks.STRENGTHS:
            sides = [
                part("fig_masks", task=task, side=s, strength=strength)["found_measured"][0]
                for s in ("chosen", "rejected")
            ]
            assert min(sides) < 1


def test_a_run_that_diverged_is_absent_and_named():
    rows = found("fig_masks")
    masks, changes = rows["masks"].copy(), rows["changes"].copy()
    masks[1, 0, 2], changes[1, 0, 2] = np.nan, np.nan  # one seed, the first task, the third strength
    table = computed("fig_masks", masks=masks, changes=changes)
    gone = (table["task"] == "long suffix") & (table["strength"] == fig_masks.STRENGTHS[2])
    np.testing.assert_array_equal(np.isnan(table["mask_measured"]), gone)
    np.testing.assert_array_equal(np.isnan(table["found_measured"]), gone)
    np.testing.assert_array_equal(np.isnan(table["change_measured"]), gone)
    np.testing.assert_array_equal(table["diverged"], gone.astype(int))
    titles = [ax.get_title() for ax in fig_masks.draw(table).axes if ax.images]
    assert ["1 diverged" in title for title in titles] == [False, False, True, False] * 2


def test_a_strip_is_of_all_seeds_and_its_title_counts_those_that_found_the_label():
    rows, figure = found("fig_masks"), fig_masks.draw(quick("fig_masks"))
    strips = iter([ax for ax in figure.axes if ax.images])
    task = list(fig_masks.TASKS).index(fig_masks.SHOWN)
    for side in range(len(fig_masks.SIDES)):
        for strength in range(len(fig_masks.STRENGTHS)):
            ax, masks = next(strips), rows["masks"][:, task, strength, side]
            shown = np.asarray(ax.images[0].get_array())
            np.testing.assert_array_equal(np.sort(shown, axis=0), np.sort(masks, axis=0))
            ahead = shown[:, 0] > shown[:, 1:].max(axis=1)
            assert (np.diff(ahead.astype(int)) <= 0).all()  # they are on top
            assert f"label kept most: {ahead.sum()} of {len(masks)}" in ax.get_title()


# --- fig_normalised_batch (T17) -------------------------------------------------------------------------------------


def test_slopes_are_those_along_the_step_of_the_pair_s_own_batch():
    """For four pairs in batches of one, two and four: from the rules' definitions, and as `train` takes the step."""
    pairs = contrast_pairs(jax.random.key(0), 4, vocab_size=MODEL.vocab_size, length=LENGTH, contrast_position=1)
    w, dpo = mlp_world(pairs, 0, 1.0), LOSSES["dpo"](beta=0.1)
    chosen, rejected = np.stack(gradients.pair_gradients(MODEL, w.params, pairs))
    gram = PairGram((chosen**2).sum(axis=1), (rejected**2).sum(axis=1), (chosen * rejected).sum(axis=1))
    d_w, d_l = dpo.weights(*(logps := pair_logps(MODEL, w.params, pairs)), *logps)
    balanced = theory.balanced_weights(gram, d_w, d_l)

    def step(rule, batch):
        up, down = balanced if rule == "pairs" else (d_w, d_l)
        sides = (
            np.asarray(up)[batch] @ chosen[batch] / len(batch),
            np.asarray(down)[batch] @ rejected[batch] / len(batch),
        )
        if rule == "sides":
            one, other = map(np.linalg.norm, sides)
            return (one * other) ** 0.5 * (sides[0] / one - sides[1] / other)
        return sides[0] - sides[1]

    updates = {"plain": Plain(), "pairs": NormalisedPairs(), "sides": NormalisedSides()}
    assert tuple(updates) == fig_normalised_batch.RULES
    inner, weights = fig_normalised_batch._inner_products(MODEL, w.params, pairs, 0.1)
    for rule, update in updates.items():
        slopes = fig_normalised_batch._slopes(inner, weights, rule)
        assert slopes.shape == (3, 2, 4)
        for place, size in enumerate((1, 2, 4)):
            for first in range(0, 4, size):
                batch = np.arange(first, first + size)
                expected = np.stack([chosen[batch] @ step(rule, batch), rejected[batch] @ step(rule, batch)])
                # Sums of some hundred products, of which most may cancel.
                close = {"atol": 1e-12 * abs(expected).max(), "rtol": 1e-9}
                np.testing.assert_allclose(slopes[place][:, batch], expected, **close)
                if first == 0:  # of SGD at rate 1, the update is the direction of the step
                    done = train(MODEL, w.params, pairs[batch], dpo, optax.sgd, 1.0, steps=1, update=update).trajectory
                    along = np.stack([done.chosen_predicted[0], done.rejected_predicted[0]])
                    np.testing.assert_allclose(slopes[place][:, batch], along, **close)


def test_shares_and_means_are_those_of_the_pairs():
    rows, sizes = found("fig_normalised_batch"), fig_normalised_batch.sizes(PAIRS)
    assert sizes == [1, 2, 4, 8, 16, 32]
    for state_place, state in enumerate(fig_normalised_batch.STATES):
        own = [np.mean(pairs) for pairs in rows["own"][:, state_place]]
        for rule_place, rule in enumerate(fig_normalised_batch.RULES):
            for size_place, size in enumerate(sizes):
                row = part("fig_normalised_batch", state=state, rule=rule, batch_size=size)
                assert len(row["seeds"]) == 1
                slopes = rows["slopes"][:, state_place, rule_place, size_place]  # [seeds, 2, n]
                assert_interval(row, "chosen_falls", [np.sum(pairs < 0) / PAIRS for pairs in slopes[:, 0]])
                assert_interval(row, "rejected_rises", [np.sum(pairs > 0) / PAIRS for pairs in slopes[:, 1]])
                for side_place, side in enumerate(("chosen", "rejected")):
                    means = [
                        size * np.sum(pairs) / PAIRS / unit
                        for pairs, unit in zip(slopes[:, side_place], own, strict=True)
                    ]
                    assert_interval(row, f"{side}_slope", means)
                batches = [sum(pairs[i : i + size]) < 0 for pairs in slopes[:, 0] for i in range(0, PAIRS, size)]
                np.testing.assert_allclose(row["batches_lowered_measured"], np.mean(batches), **ROUNDOFF)


def test_one_pair_is_safe_and_both_normalised_updates_are_the_same():
    for state in fig_normalised_batch.STATES:
        one, other = (part("fig_normalised_batch", state=state, rule=rule, batch_size=1) for rule in ("pairs", "sides"))
        for name in ("chosen_falls_measured", "rejected_rises_measured"):
            assert one[name] == other[name] == 0
        for name in ("chosen_slope_measured", "rejected_slope_measured"):
            np.testing.assert_allclose(one[name], other[name], rtol=1e-9)


def test_in_a_batch_pairs_are_reversed_but_never_the_mean_of_a_side():
    for state in fig_normalised_batch.STATES:
        for rule in ("pairs", "sides"):
            assert (
                part("fig_normalised_batch", state=state, rule=rule, batch_size=PAIRS)["chosen_falls_measured"] > 0.05
            )
        sides = part("fig_normalised_batch", state=state, rule="sides")
        assert (sides["batches_lowered_measured"] == 0).all()
        assert (sides["chosen_slope_measured"] > 0).all()
        assert (sides["rejected_slope_measured"] < 0).all()


def test_slopes_that_are_not_finite_are_absent():
    rows = found("fig_normalised_batch")
    slopes = rows["slopes"].copy()
    slopes[0, 1, 0, 3] = np.nan  # fine-tuned, the plain rule, batches of eight
    table = computed("fig_normalised_batch", slopes=slopes)
    gone = (table["state"] == "fine-tuned") & (table["rule"] == "plain") & (table["batch_size"] == 8)
    for name in [name for name in table if name.endswith("_measured")]:
        np.testing.assert_array_equal(np.isnan(table[name]), gone)
    assert fig_normalised_batch.draw(table).axes
