"""The experiments that come with the package: a row of a sweep is what the package says of that one setting."""

from functools import partial

import jax
import numpy as np
import optax
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import as_numpy

from toymodel import cosine, gradients, overlap, theory
from toymodel.data import FAMILIES
from toymodel.experiments import EXPERIMENTS, GRAM, TRAINING
from toymodel.experiments.catalogue import load_object
from toymodel.experiments.losses import HYPER, LossSetting, loss_of
from toymodel.experiments.pairs import PairSetting, draw_model, draw_pairs
from toymodel.losses import LOSSES
from toymodel.models import mlp
from toymodel.models.linear import MODELS
from toymodel.sweep import BadSetting, config, make_sweep
from toymodel.sweep.program import table
from toymodel.training import train

SHAPE = {"vocab_size": 6, "length": 5, "dim": 3}
# Sums of at most 10 tokens × 6 logits × 10 tokens, in float64, added in another order.
ROUNDOFF = {"rtol": 1e-11, "atol": 1e-11}
COUNTED = {"positional": "matches", "prefix": "prefix", "contrast": "suffix", "bag": "bag"}


def frame_of(experiment, grid):
    wanted = make_sweep(experiment, grid)
    return pl.concat([table(experiment, program) for program in wanted.programs()])


def setting_of(experiment, row):
    return experiment.setting(**{name: row[name] for name in experiment.fields})


@partial(jax.jit, static_argnames="n")
def drawn(setting, n=1):
    """Model, parameters and n pairs of a setting."""
    pairs = draw_pairs(setting, n)
    if setting.model != "ngram_mlp":
        return *draw_model(setting, pairs), pairs
    model = mlp.NGramMLP(6, 2, 3, 8)
    return model, mlp.init_params(jax.random.fold_in(jax.random.key(setting.seed), 2), model), pairs


@pytest.fixture(scope="module")
def grams():
    grid = {**SHAPE, "model": list(MODELS), "family": list(FAMILIES), "overlap": range(5), "seed": range(3)}
    return frame_of(GRAM, {**grid, "temperature": 0.7, "d_chosen": 2.0})


def test_prediction_and_measurement_agree_in_every_row(grams):
    assert grams.height == 6 * 5 * 5 * 3
    for name in ("chosen_sq", "rejected_sq", "inner", "cosine", "chosen_slope", "rejected_slope"):
        predicted, measured = (grams[f"{name}_{route}"].to_numpy() for route in ("predicted", "measured"))
        assert len(np.unique(measured)) > 100
        np.testing.assert_allclose(predicted, measured, **ROUNDOFF)
    assert (grams["case_predicted"] == grams["case_measured"]).all()
    assert set(grams["case_measured"]) >= set(theory.CASES[:3])


def test_a_row_of_the_gram_experiment_is_what_the_package_says(grams):
    for row in grams.sample(6, seed=0).iter_rows(named=True):
        setting = setting_of(GRAM, row)
        model, params, pairs = drawn(setting)
        gram = gradients.pair_gram(model, params, pairs)
        slopes = gradients.slopes(model, params, pairs, d_chosen=2.0)
        for name, value in {**gram._asdict(), "cosine": cosine(gram)}.items():
            np.testing.assert_allclose(row[f"{name}_measured"], value[0], **ROUNDOFF)
        for side, slope in zip(("chosen", "rejected"), slopes, strict=True):
            np.testing.assert_allclose(row[f"{side}_slope_measured"], slope[0], **ROUNDOFF)
        assert row["case_measured"] == theory.CASES[theory.case_of_slopes(*slopes)[0]]


@settings(max_examples=30)
@given(st.sampled_from(tuple(FAMILIES)), st.integers(0, 5), st.integers(0, 2**31))
def test_overlap_counts_what_the_family_shares(family, shared, seed):
    shared = min(shared, 4) if family == "contrast" else shared
    setting = PairSetting(**SHAPE, family=family, overlap=shared, seed=seed)
    counts = overlap(as_numpy(jax.jit(draw_pairs, static_argnums=1)(setting, 4)))
    if family == "edit":
        np.testing.assert_array_equal(counts.edit_distance, 2 * (5 - shared))
    else:
        np.testing.assert_array_equal(getattr(counts, COUNTED[family]), shared)


def test_a_row_of_the_training_experiment_is_what_training_does():
    grid = {**SHAPE, "model": ["random_features", "ngram_mlp"], "loss": ["dpo", "simpo"], "beta": [0.5, 1.0]}
    grid |= {"seed": [1, 2], "pairs": 3, "steps": 7, "learning_rate": 0.3, "optimizer": "adam", "overlap": 2}
    rows = frame_of(TRAINING, grid)
    assert rows.height == 16
    for row in rows.gather([0, 6, 11, 13]).iter_rows(named=True):
        setting = setting_of(TRAINING, row)
        model, params, pairs = drawn(setting, 3)
        loss = LOSSES[row["loss"]](**{name: row[name] for name in LOSSES[row["loss"]].defaults})
        assert row["beta"] in (0.5, 1.0)
        run = train(model, params, pairs, loss, optax.adam, 0.3, steps=7)
        chosen = np.asarray(run.trajectory.chosen_logps).mean(axis=1)
        # Two programs, seven steps of Adam: it divides gradients by their size, and so magnifies their round-off.
        np.testing.assert_allclose(row["chosen_change"], chosen[-1] - chosen[0], rtol=1e-8, atol=1e-9)
        np.testing.assert_allclose(row["loss_end"], run.losses[-1], rtol=1e-8)
        assert row["both_down_end"] == pytest.approx((run.trajectory.case[-1] == "both_down").mean())
        assert row["stopped_at"] == 7


def test_the_loss_of_a_setting_is_that_loss_with_those_hyperparameters():
    """The hyperparameters that it lacks are NaN, and are nobody's."""
    for name, definition in LOSSES.items():
        hyper = {h: 0.5 * default for h, default in definition.defaults.items()}
        loss = loss_of(LossSetting(loss=name, **hyper))
        assert loss.name == name
        assert loss.hyper == hyper
        assert set(hyper) <= set(HYPER)


def test_hyperparameters_that_are_left_out_are_the_losses_own():
    wanted = make_sweep(TRAINING, {"loss": ["dpo", "dpop", "sft_mean"]})
    found = {row["loss"]: row for row in wanted.settings.iter_rows(named=True)}
    assert found["dpo"]["beta"] == LOSSES["dpo"].defaults["beta"]
    assert found["dpop"]["lam"] == LOSSES["dpop"].defaults["lam"]
    assert np.isnan(found["dpo"]["lam"])
    assert all(np.isnan(found["sft_mean"][name]) for name in HYPER)
    with pytest.raises(BadSetting, match=r"`beta` must be .* got beta = 0\.1, loss = 'sft_mean'"):
        make_sweep(TRAINING, {"loss": ["dpo", "sft_mean"], "beta": 0.1})


@pytest.mark.parametrize(("name", "programs"), [("overlap", 30), ("losses", 9), ("random", 8)])
def test_the_examples_can_be_run(name, programs, pytestconfig):
    wanted = config.load(pytestconfig.rootpath / "examples" / f"{name}.toml")
    assert wanted.experiment is load_object(EXPERIMENTS[wanted.experiment.name])
    assert wanted.size >= 10_000
    assert len(wanted.programs()) == programs  # of models and families, of losses, of sizes as well
