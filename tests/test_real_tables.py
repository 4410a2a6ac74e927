"""The stored tables of the pretrained model: what they are from, and that one of their numbers is found again."""

import json

import jax
import numpy as np
import pytest

from figures import real_runs, style
from figures.real_runs import FOLDER, FORMATS, SEEDS
from toymodel import theory
from toymodel.data.tweets import VADER
from toymodel.experiments.language_model import RealSetting, prepare
from toymodel.gradients import pair_gram
from toymodel.models.pretrained import SMOLLM2


def test_tables_say_what_they_are_from_and_are_small():
    provenance = json.loads((FOLDER / "provenance.json").read_text())
    for package in (SMOLLM2, VADER):
        assert provenance["packages"][package.name]["sha256"] == package.sha256
    assert provenance["seeds"] == list(SEEDS)
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 2**20
    states = real_runs.stored("states")
    assert {*states["format"].tolist()} == {*FORMATS}
    assert {*states["seed"].tolist()} == {*SEEDS}
    assert {*real_runs.stored("account")["format"].tolist()} == {*FORMATS}


def test_the_account_of_the_pretrained_model_adds_up():
    table = real_runs.stored("account")
    np.testing.assert_allclose(table["first_order"], table["true_change"], rtol=0.05)


def test_a_stored_number_is_found_again_from_nothing():
    """Before any training, to float32's round-off in sums over layers: 1e-3 of a cosine."""
    setting = RealSetting(format="long_suffix", seed=0)
    measure = jax.jit(pair_gram, compiler_options={"xla_backend_optimization_level": 2})  # it runs for long
    with jax.enable_x64(False):
        try:
            model, params, parts = prepare(setting)
        except ValueError as error:
            pytest.skip(str(error))
        gram = measure(model, params, parts.evaluation[: setting.evaluation_pairs])
    cosine = np.asarray(theory.cosine(gram)).mean()
    row = style.rows(real_runs.stored("states"), format="long_suffix", seed=0, stage="supervised", step=0)
    np.testing.assert_allclose(cosine, row["cosine"], atol=1e-3)
