"""The comparison of remedies: what its runs are, that all are treated alike, and that one of your own takes part."""

from functools import cache
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from figures import tune_remedies
from toymodel import theory
from toymodel.data.sentiment import draw_prompts, sentiment_pairs
from toymodel.experiments import remedies as comparison
from toymodel.experiments.remedies import CANDIDATES, LOSSES, REMEDY_COMPARISON, TASKS, candidates, measure
from toymodel.experiments.sentiment import fine_tune
from toymodel.losses import LOSSES as ALL_LOSSES
from toymodel.models import transformer
from toymodel.models.logps import pair_logps
from toymodel.models.readout import hidden_states, readout
from toymodel.remedies import REMEDIES, NormalisedSides, Remedy, split_adam
from toymodel.remedies.catalogue import half_by_ches
from toymodel.training import train

SMALL = {"model": "ngram_mlp", "dim": 4, "hidden_dim": 8, "supervised_prompts": 64, "supervised_steps": 20}
SMALL |= {"pairs": 32, "evaluation_pairs": 4, "steps": 6, "preference_batch": 8, "candidate": 1}
PAIRS = sentiment_pairs(
    jax.random.key(1), draw_prompts(jax.random.key(0), 8), "long_suffix", suffix_fit=0.7, suffix_length=8
)


def setting(**chosen):
    defaults = {name: field.default for name, field in REMEDY_COMPARISON.fields.items()}
    return SimpleNamespace(**defaults | SMALL | chosen)


def few(monkeypatch, **remedies):
    """The comparison of these alone."""
    monkeypatch.setattr(comparison, "REMEDIES", remedies)


def test_without_a_remedy_it_is_ordinary_training(monkeypatch):
    few(monkeypatch, none=REMEDIES["none"])
    found = jax.jit(lambda: measure(setting()))()
    reference, _ = fine_tune(SimpleNamespace(**vars(setting()) | {"task": "long_suffix", "short_suffix": None}))
    last = list(TASKS).index("long suffix")
    logps = pair_logps(reference.model, reference.params, reference.training)
    for place, (name, rate) in enumerate((name, comparison.RATES[1]) for name in LOSSES):
        loss = ALL_LOSSES[name]()
        d_rejected = loss.weights(*logps, *logps, jnp.full(32, 9.0), jnp.full(32, 9.0))[1].mean()
        key = jax.random.split(jax.random.fold_in(jax.random.key(0), 3))[1]
        options = {"steps": 6, "batch_size": 8, "key": key, "record": "loss"}
        scaled = comparison._Scaled(loss, 1 / d_rejected)
        run = train(reference.model, reference.params, reference.training, scaled, optax.adam, rate, **options)
        before, after = (
            pair_logps(reference.model, p, reference.evaluation)[0].mean() for p in (reference.params, run.params)
        )
        # Adam's first steps are g/|g|: entries of a gradient that are 0 but for round-off may take either sign.
        np.testing.assert_allclose(found["chosen_change"][0, last, place], after - before, rtol=1e-6)
        assert abs(after - before) > 1e-4


def test_a_remedy_of_your_own_takes_part(monkeypatch):
    mine = Remedy("made up", strengths=(0.1, 0.2, 0.3), update=lambda _strength: NormalisedSides())
    few(monkeypatch, none=REMEDIES["none"], ches_filter=REMEDIES["ches_filter"], mine=mine)
    found = jax.jit(lambda: measure(setting(candidate=-1)))()
    assert found["chosen_logps"].shape == (3, len(TASKS), len(LOSSES), comparison.CHECKPOINTS)
    assert np.isfinite(found["chosen_change"]).all()
    none, filtered, ours = found["chosen_change"]
    assert (ours != none).all()
    assert (filtered != none).any()  # the order in which groups of remedies were run is not theirs in the table


def test_every_remedy_is_given_as_many_candidates():
    for remedy in REMEDIES.values():
        assert candidates(remedy, "readout").shape == (CANDIDATES, 2)
    with pytest.raises(ValueError, match="no strength or 3"):
        candidates(Remedy("made up", strengths=(1.0,)), "readout")
    for choice in comparison.TUNED.values():
        assert set(choice) <= set(REMEDIES)
        assert all(0 <= place < CANDIDATES for places in choice.values() for place in places)


def test_tasks_are_the_long_one_cut_or_changed():
    worlds = comparison._each_task(jax.random.key(2), PAIRS)
    for task, (suffix, kept) in enumerate(TASKS.values()):
        pairs = jax.tree.map(lambda leaf, task=task: leaf[task], worlds)
        np.testing.assert_array_equal(pairs.chosen_mask.sum(axis=1), 1 + suffix)
        same = (pairs.chosen == pairs.rejected)[:, 1:].sum(axis=1)
        np.testing.assert_array_equal(same, kept)
        assert (pairs.chosen[:, 0] != pairs.rejected[:, 0]).all()


def test_the_filter_keeps_the_half_of_lowest_ches():
    model = transformer.Transformer(27, 18, layers=1, dim=4, heads=2)
    params = transformer.init_params(jax.random.key(0), model)
    kept = half_by_ches(model, params, PAIRS)
    sums = [
        np.array(jax.vmap(lambda response: hidden_states(model, params, response).sum(axis=0))(side))
        for side in (PAIRS.chosen_response, PAIRS.rejected_response)
    ]
    scores = (sums[0] * sums[1]).sum(axis=1) - (sums[0] ** 2).sum(axis=1)
    np.testing.assert_array_equal(kept.chosen, PAIRS.chosen[np.argsort(scores)[:4]])


def test_a_readout_is_the_last_layer():
    network = transformer.Transformer(27, 18, layers=1, dim=4, heads=2, tied=False)
    weights = transformer.init_params(jax.random.key(0), network)
    model, params = readout(network, weights)
    for ours, theirs in zip(pair_logps(model, params, PAIRS), pair_logps(network, weights, PAIRS), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)  # the same sums
    run = train(model, params, PAIRS, ALL_LOSSES["dpo"](), optax.sgd, 0.1, steps=2)
    gram = theory.PairGram(*(entry[0] for entry in run.trajectory.gram))
    # Gradients of a linear model: of `features` and residuals alone.
    p = jax.nn.softmax(model.logits(params, PAIRS[0].chosen_response))
    residual = jax.nn.one_hot(PAIRS.chosen[0], 27) - p
    gradient = residual.T @ model.features(PAIRS[0].chosen_response)
    np.testing.assert_allclose(gram.chosen_sq[0], (gradient**2).sum() + (residual.sum(axis=0) ** 2).sum(), rtol=1e-10)


def test_the_best_candidate_has_the_likeliest_chosen_where_the_mean_margin_is_half_a_nat():
    """Of runs with two states: margins grow from 0 to `margin`, and the chosen changes in proportion."""
    shape = CANDIDATES, len(REMEDIES), len(TASKS), len(LOSSES)
    chosen, margin = np.full(shape, -9.0), np.full(shape, 1.0)
    chosen[2], chosen[4] = -1.0, 3.0
    margin[4] = 0.4  # too little
    margin[:, 1], margin[3, 1] = 0.1, 0.2  # one that never widens it by enough takes the widest
    chosen[5, 3], margin[5, 3], margin[5, 3, 0] = 1.0, 0.2, 2.0  # enough on one task is enough in the mean
    chosen[2, 2, 0], chosen[5, 2] = np.nan, -3.0  # one that diverged on a task is not taken
    ends = {"chosen": chosen, "rejected": chosen - margin}
    table = {f"{side}_logps": np.stack([np.zeros(shape), end], axis=-1) for side, end in ends.items()}
    table |= {f"{side}_change": end for side, end in ends.items()} | {"candidate": np.arange(CANDIDATES)}
    best = list(tune_remedies.best(table, 0.5).values())
    assert best[:4] == [[2] * 4, [3] * 4, [5] * 4, [5] * 4]


@cache
def operations(name):
    """Floating-point operations of one compiled step, the reference's forward pass included."""
    model = transformer.Transformer(27, 18, layers=1, dim=32, heads=2)
    update = REMEDIES[name].update

    def step(params):
        options = {"steps": 1, "update": update(0.5) if update else None, "record": "loss"}
        return train(model, params, PAIRS, ALL_LOSSES["dpo"](), split_adam, 1e-3, **options).params

    return jax.jit(step).lower(transformer.init_params(jax.random.key(0), model)).compile().cost_analysis()["flops"]


@pytest.mark.parametrize("name", [name for name, remedy in REMEDIES.items() if remedy.update is not None])
def test_extra_gradients_are_as_stated(name):
    """Besides them, up to two more forward passes, a third of a gradient each: for weights at one point or two."""
    extra = operations(name) / operations("none") - 1
    assert REMEDIES[name].extra - 0.1 < extra < REMEDIES[name].extra + 0.8
