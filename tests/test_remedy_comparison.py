"""The comparison of remedies: what its runs are, that all are treated alike, and that one of your own takes part."""

import tomllib
from dataclasses import dataclass
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from neural import NETWORKS, random_params
from scipy.special import softmax
from strategies import as_numpy

from figures import tune_remedies
from toymodel import PreferencePairs, pytree, theory
from toymodel.data.sentiment import FEW, draw_prompts, sentiment_pairs
from toymodel.experiments import remedies as comparison
from toymodel.experiments.remedies import COMPARED, MODELS, MOVES, REMEDY_COMPARISON, TASKS, RemedySetting, measure
from toymodel.experiments.sentiment import fine_tune, reference_policy
from toymodel.experiments.tuned import CANDIDATES, NOT_TRIED, RATES, candidates, found_best, tuned
from toymodel.losses import LOSSES
from toymodel.models import transformer
from toymodel.models.logps import pair_logps
from toymodel.models.mlp import NGramMLP
from toymodel.models.readout import hidden_states, readout
from toymodel.remedies import REMEDIES, NormalisedSides, Remedy, split_adam
from toymodel.remedies.catalogue import half_by_ches
from toymodel.sweep import BadSetting, make_sweep
from toymodel.sweep.grid import columns_of
from toymodel.training import train

SMALL = {"model": "ngram_mlp", "dim": 4, "hidden_dim": 8, "supervised_prompts": 64, "supervised_steps": 24}
SMALL |= {"pairs": 32, "evaluation_pairs": 4, "steps": 6, "preference_batch": 8}


@cache
def pairs():
    prompts = draw_prompts(jax.random.key(0), 8)
    return as_numpy(sentiment_pairs(jax.random.key(1), prompts, "long_suffix", suffix_fit=0.7, suffix_length=8))


def setting(loss, **chosen):
    """The setting as a sweep gives it to `measure`, with the loss's place."""
    return RemedySetting(**SMALL | chosen, loss=jnp.asarray(COMPARED.index(loss)))


@cache
def policy():
    return jax.jit(fine_tune)(setting("dpo"))


@pytree
@dataclass(frozen=True)
class Scaled:
    """A loss times a number."""

    loss: object
    scale: object

    def value(self, *inputs):
        return self.scale * self.loss.value(*inputs)

    def weights(self, *inputs):
        return tuple(self.scale * d for d in self.loss.weights(*inputs))


@pytest.mark.parametrize("name", COMPARED)
def test_without_a_remedy_it_is_ordinary_training(name):
    rate, last = RATES[1], list(TASKS).index("long suffix")
    found = measure(setting(name, learning_rate=rate), policy())
    reference = jax.jit(reference_policy)(setting(name), policy())
    logps = jax.jit(pair_logps)(reference.model, reference.params, reference.training)
    loss = LOSSES[name]()
    d_rejected = jax.jit(loss.weights)(*logps, *logps, np.full(32, 9.0), np.full(32, 9.0))[1].mean()
    key = jax.random.split(jax.random.fold_in(jax.random.key(0), 3))[1]
    options = {"steps": 6, "batch_size": 8, "key": key, "record": "loss"}
    scaled = Scaled(loss, 1 / d_rejected)
    run = train(reference.model, reference.params, reference.training, scaled, optax.adam, rate, **options)
    before, after = (
        pair_logps(reference.network, reference.to_measure(p), reference.evaluation)[0].mean()
        for p in (reference.params, run.params)
    )
    # Adam's first steps are g/|g|: entries of a gradient that are 0 but for round-off may take either sign. They change
    # nothing to first order, and 6 steps of size 5e-4 to second order by 1e-5 of a curvature of about 1.
    np.testing.assert_allclose(found["chosen_change"][last], after - before, rtol=0, atol=1e-5)
    assert abs(after - before) > 1e-3


def test_what_is_measured_of_a_run_is_what_its_names_say():
    """The last of three states is compared with the reference, by definition; to round-off of short sums."""
    model = NETWORKS["mlp"]
    reference, *states = (random_params(i, model) for i in range(4))
    pairs = PreferencePairs.from_lists([[1, 4], [2, 2], []], [[0, 2], [1], [3]], [[1], [4, 4], [0]], vocab_size=5)
    checkpoints = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
    found = comparison._measure(model, reference, pairs, checkpoints)
    logps = np.array([pair_logps(model, params, pairs) for params in states])  # [states, 2, n]
    change = logps[-1] - np.array(pair_logps(model, reference, pairs))
    kl, at_label = 0.0, 0.0
    for i in range(3):
        for response in (pairs[i].chosen_response, pairs[i].rejected_response):
            p, q = (np.asarray(jax.nn.softmax(model.logits(w, response))) for w in (states[-1], reference))
            kl += (p * np.log(p / q))[np.asarray(response.mask)].sum() / 6
            at_label += p[0, response.tokens[0]] / 3
    expected = {
        "chosen_logps": logps[:, 0].mean(axis=-1),
        "rejected_logps": logps[:, 1].mean(axis=-1),
        "chosen_change": change[0].mean(),
        "rejected_change": change[1].mean(),
        "others": 1 - at_label,
        "accuracy": (logps[-1, 0] > logps[-1, 1]).mean(),
        "kl": kl,
    }
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-12, atol=1e-14)
    up = change > 0
    for name, (chosen_up, rejected_up) in dict(zip(MOVES, ((1, 0), (0, 0), (1, 1), (0, 1)), strict=True)).items():
        assert found[name] == ((up[0] == chosen_up) & (up[1] == rejected_up)).mean()
    assert 0 < found["accuracy"] < 1


def test_a_remedy_of_your_own_takes_part(monkeypatch):
    mine = Remedy("made up", strengths=(0.1, 0.2, 0.3), update=lambda _strength: NormalisedSides())
    monkeypatch.setitem(REMEDIES, "mine", mine)
    assert tuned("ngram_mlp", "mine", "dpo") == candidates(mine, "ngram_mlp")[NOT_TRIED]
    none, ours, theirs = (
        measure(setting("dpo", remedy=name, learning_rate=1e-3, strength=0.1), policy())
        for name in ("none", "mine", "normalised_sides")
    )
    assert ours["chosen_logps"].shape == (len(TASKS), comparison.CHECKPOINTS)
    assert np.isfinite(ours["chosen_change"]).all()
    assert (ours["chosen_change"] != none["chosen_change"]).all()
    np.testing.assert_allclose(ours["chosen_change"], theirs["chosen_change"], rtol=1e-4)  # the same, in float32


def test_the_filter_trains_on_its_half(monkeypatch):
    seen = []
    monkeypatch.setattr(
        comparison, "train", lambda *arguments, **options: seen.append(arguments[2]) or train(*arguments, **options)
    )
    rows = [measure(setting("dpo", remedy="ches_filter", learning_rate=2e-3, beta=0.2), policy())]
    assert {pairs.chosen.shape[0] for pairs in seen} == {SMALL["pairs"] // 2}
    assert np.isfinite(rows[0]["chosen_change"]).all()


def test_every_remedy_is_given_as_many_candidates():
    for remedy in REMEDIES.values():
        assert np.shape(candidates(remedy, "readout")) == (CANDIDATES, 2)
    with pytest.raises(ValueError, match="no strength or 3"):
        candidates(Remedy("made up", strengths=(1.0,)), "readout")


def test_what_was_found_best_is_one_of_the_candidates_for_every_model_remedy_and_loss():
    assert list(found_best()) == list(MODELS)
    for model in MODELS:
        assert list(found_best()[model]) == list(REMEDIES)
        for name, remedy in REMEDIES.items():
            assert list(found_best()[model][name]) == list(COMPARED)
            for loss in COMPARED:
                best = tuned(model, name, loss)
                known = candidates(remedy, model)
                assert any(np.allclose(best, one, rtol=1e-12, atol=0, equal_nan=True) for one in known)


def test_what_is_left_out_is_taken_from_the_file_and_what_is_given_is_not():
    grid = {"remedy": ["none", "gate"], "loss": ["dpo", "simpo"], "seed": 0}
    sweep = make_sweep(REMEDY_COMPARISON, SMALL | grid)
    columns = sweep.settings.to_dict()
    assert len(columns["seed"]) == 4
    for i, (name, loss) in enumerate(zip(columns["remedy"], columns["loss"], strict=True)):
        np.testing.assert_array_equal(
            (columns["learning_rate"][i], columns["strength"][i]), tuned("ngram_mlp", name, loss)
        )
    given = make_sweep(REMEDY_COMPARISON, SMALL | {"remedy": "gate", "learning_rate": 0.25, "seed": 0})
    (row,) = given.settings.to_dicts()
    assert row["learning_rate"] == 0.25
    assert row["strength"] == tuned("ngram_mlp", "gate", "dpo")[1]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"steps": 7}, "`steps` must be a multiple of 6"),
        ({"learning_rate": 0.0}, "`learning_rate` must be a number > 0 and finite, or left out"),
        ({"strength": -1.0}, "`strength` must be a number >= 0 and finite, or left out"),
        ({"loss": "kto"}, "`loss` must be a word among dpo"),
        ({"remedy": "gates"}, "Did you mean 'gate'"),
        ({"supervised_prompts": 373_248}, f"must be at most {FEW} prompts together"),
    ],
)
def test_bad_settings_are_named(given, message):
    with pytest.raises(BadSetting, match=message):
        make_sweep(REMEDY_COMPARISON, SMALL | {"seed": 0} | given)


def test_tasks_are_the_long_one_cut_or_changed():
    worlds = as_numpy(jax.jit(comparison._each_task)(jax.random.key(2), pairs()))
    for task, (suffix, kept) in enumerate(TASKS.values()):
        world = worlds[task]
        np.testing.assert_array_equal(world.chosen_mask.sum(axis=1), 1 + suffix)
        same = (world.chosen == world.rejected)[:, 1:].sum(axis=1)
        np.testing.assert_array_equal(same, kept)
        assert (world.chosen[:, 0] != world.rejected[:, 0]).all()


def test_the_filter_keeps_the_half_of_lowest_ches():
    model = transformer.Transformer(27, 18, layers=1, dim=4, heads=2)
    params = random_params(0, model)
    kept = jax.jit(half_by_ches)(model, params, pairs())
    sums = np.array(
        jax.jit(jax.vmap(jax.vmap(lambda one: hidden_states(model, params, one).sum(axis=0))))(pairs().both_responses)
    )
    scores = (sums[0] * sums[1]).sum(axis=1) - (sums[0] ** 2).sum(axis=1)
    np.testing.assert_array_equal(kept.chosen, pairs().chosen[np.argsort(scores)[:4]])


def test_a_readout_is_the_last_layer():
    network = transformer.Transformer(27, 18, layers=1, dim=4, heads=2, tied=False)
    weights = random_params(0, network)
    model, params = readout(network, weights)
    for ours, theirs in zip(pair_logps(model, params, pairs()), pair_logps(network, weights, pairs()), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)  # the same sums
    run = train(model, params, pairs(), LOSSES["dpo"](), optax.sgd, 0.1, steps=2)
    gram = theory.PairGram(*(entry[0] for entry in run.trajectory.gram))
    # Gradients of a linear model: of `features` and residuals alone.
    response = pairs()[0].chosen_response
    logits, features = as_numpy(jax.jit(lambda: (model.logits(params, response), model.features(response)))())
    residual = np.eye(27)[response.tokens] - softmax(logits, axis=-1)
    gradient = residual.T @ features
    np.testing.assert_allclose(gram.chosen_sq[0], (gradient**2).sum() + (residual.sum(axis=0) ** 2).sum(), rtol=1e-10)


def tables_of(chosen, margin):
    """What runs of two states found, by candidate: from the ends of chosen and margin, [candidates, seeds, …]."""
    tables = []
    for ends in zip(chosen, chosen - margin, strict=True):
        sides = dict(zip(("chosen", "rejected"), ends, strict=True))
        logps = {f"{side}_logps": np.stack([np.zeros_like(end), end], axis=-1) for side, end in sides.items()}
        tables.append(logps | {f"{side}_change": end for side, end in sides.items()})
    return tables


def test_the_best_candidate_has_the_likeliest_chosen_where_the_mean_margin_is_half_a_nat():
    """Runs have two states: margins grow from 0 to `margin`, and the chosen changes in proportion."""
    shape = CANDIDATES, 1, len(REMEDIES), len(TASKS), len(COMPARED)
    chosen, margin = np.full(shape, -9.0), np.full(shape, 1.0)
    chosen[2], chosen[4] = -1.0, 3.0
    margin[4] = 0.4  # too little
    margin[:, :, 1], margin[3, :, 1] = 0.1, 0.2  # one that never widens it by enough takes the widest
    chosen[5, :, 3], margin[5, :, 3], margin[5, :, 3, 0] = 1.0, 0.2, 2.0  # enough on one task is enough in the mean
    chosen[2, :, 2, 0], chosen[5, :, 2] = np.nan, -3.0  # one that diverged on a task is not taken
    best = list(tune_remedies.best(tables_of(chosen, margin), 0.5).values())
    assert best[:4] == [[2] * 4, [3] * 4, [5] * 4, [5] * 4]


def test_each_candidate_of_every_remedy_is_tried_around_every_loss():
    asked = []

    def made_up(sweep):
        columns = columns_of(sweep.settings)
        asked.append(columns)
        return columns | {"label_accuracy": np.ones(len(columns["seed"]))}

    tables = tune_remedies.try_all("transformer", made_up)
    assert len(tables) == CANDIDATES
    (columns,) = asked
    runs = len(tune_remedies.SEEDS) * len(REMEDIES) * len(COMPARED)
    assert len(columns["seed"]) == runs * CANDIDATES
    for place, table in enumerate(tables):
        for name, remedy in enumerate(REMEDIES.values()):
            rate, strength = candidates(remedy, "transformer")[place]
            np.testing.assert_array_equal(table["learning_rate"][name], [rate] * len(COMPARED))
            np.testing.assert_array_equal(table["strength"][name], [strength] * len(COMPARED))


def test_the_file_that_is_written_says_what_was_found_best():
    """Written again from the places among the candidates, it is the file that there is."""

    def place(model, name, loss):
        known, best = np.array(candidates(REMEDIES[name], model)), tuned(model, name, loss)
        (at,) = np.flatnonzero(np.isclose(known, best, rtol=1e-12, atol=0, equal_nan=True).all(axis=1))
        return int(at)

    found = {m: {name: [place(m, name, loss) for loss in COMPARED] for name in REMEDIES} for m in MODELS}
    text = tune_remedies.as_toml(found)
    assert tomllib.loads(text) == found_best()
    assert text == tune_remedies.FILE.read_text(encoding="utf-8")
    found["readout"]["gate"][0] = (found["readout"]["gate"][0] + 1) % CANDIDATES
    assert tomllib.loads(tune_remedies.as_toml(found)) != found_best()


@cache
def operations(name):
    """Floating-point operations of one step, the reference's forward pass included."""
    model = NGramMLP(27, 17, embedding_dim=16, hidden_dim=64)
    update, batch = REMEDIES[name].update, pairs()

    def step(params):
        options = {"steps": 1, "update": update(0.5) if update else None, "record": "loss"}
        return train(model, params, batch, LOSSES["dpo"](), split_adam, 1e-3, **options).params

    return jax.jit(step).lower(random_params(0, model)).compile().cost_analysis()["flops"]


@pytest.mark.parametrize("name", [name for name, remedy in REMEDIES.items() if remedy.update is not None])
def test_extra_gradients_are_as_stated(name):
    """Besides them, up to two more forward passes, a third of a gradient each: for weights at one point or two."""
    extra = operations(name) / operations("none") - 1
    assert REMEDIES[name].extra - 0.1 < extra < REMEDIES[name].extra + 0.8
