"""The sentiment experiment: what a row holds, and when its signs are said to hold."""

import json
from dataclasses import replace
from functools import partial
from operator import itemgetter

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from strategies import as_numpy

from toymodel import cli, gradients, theory
from toymodel.data import sentiment
from toymodel.data.pairs import PreferencePairs
from toymodel.data.sentiment import TASKS
from toymodel.experiments import sentiment as experiments
from toymodel.experiments.sentiment import (
    LEARNT,
    PARTS,
    SENTIMENT,
    STAGES,
    SentimentSetting,
    fine_tune,
    first_token_logps,
    in_parts,
    learnt,
    measure,
    prefer,
    reference_policy,
)
from toymodel.experiments.signs import signs
from toymodel.models import linear
from toymodel.models.logps import pair_logps
from toymodel.models.stages import features
from toymodel.sweep import BadSetting, make_sweep
from toymodel.training import train

TINY = {"model": "ngram_mlp", "dim": 4, "hidden_dim": 12, "supervised_prompts": 64, "supervised_steps": 32}
TINY |= {
    "supervised_rate": 0.02,
    "pairs": 16,
    "evaluation_pairs": 6,
    "batch_size": 8,
    "steps": 4,
    "checkpoint_every": 2,
}
TRANSFORMER = {"model": "transformer", "dim": 8, "layers": 3}
# Sums over the parameters, at most 2^11 of them, in float64, in another order.
ROUNDOFF = {"rtol": 2e-13, "atol": 1e-11}


def setting(**given):
    return SentimentSetting(**TINY | given)


@pytest.fixture(scope="module", params=[{}, TRANSFORMER], ids=["ngram_mlp", "transformer"])
def experiment(request):
    """The reference as the network has it, the parameters at checkpoints, and the row."""
    return run_experiment(setting(task="short_suffix", seed=3, **request.param))


@jax.jit
def run_experiment(here):
    made = []

    def spy(here, reference):
        made.append((reference, prefer(here, reference)))
        return made[-1][1]

    with pytest.MonkeyPatch.context() as patch:  # the very run of `measure`: another would round otherwise
        patch.setattr(experiments, "prefer", spy)
        row = measure(here, fine_tune(here))
    ((reference, run),) = made
    at_reference = reference._replace(model=reference.network, params=reference.to_measure(reference.params))
    return at_reference, reference.to_measure(run.checkpoints), row


def by_state(tree):
    """The trees of all states, from one whose arrays have them along the first axis."""
    tree = as_numpy(tree)
    return [jax.tree.map(itemgetter(k), tree) for k in range(len(jax.tree.leaves(tree)[0]))]


def test_a_row_is_what_the_package_says_at_every_checkpoint(experiment):
    reference, states, row = experiment
    model, pairs = reference.model, reference.evaluation
    assert row["inner"].shape == (3, 6)
    found = jax.jit(
        jax.vmap(lambda params: (pair_logps(model, params, pairs), gradients.pair_gradients(model, params, pairs)))
    )
    for k, ((chosen, rejected), (g_w, g_l)) in enumerate(by_state(found(states))):
        np.testing.assert_allclose(row["chosen_logps"][k], chosen, **ROUNDOFF)
        np.testing.assert_allclose(row["rejected_logps"][k], rejected, **ROUNDOFF)
        for name, entry in (("chosen_sq", g_w * g_w), ("rejected_sq", g_l * g_l), ("inner", g_w * g_l)):
            np.testing.assert_allclose(row[name][k], entry.sum(axis=1), **ROUNDOFF)
            np.testing.assert_allclose(row[f"parts_{name}"][k].sum(axis=0), row[name][k], **ROUNDOFF)


def test_the_heads_part_is_the_closed_form_on_frozen_features(experiment):
    """T2 for the last layer: what `theory` says of a linear softmax on the network's hidden states."""
    reference, states, row = experiment
    model, pairs = reference.model, reference.evaluation
    params = by_state(states)[-1]
    hidden_states = jax.vmap(jax.vmap(features, in_axes=(None, None, 0)), in_axes=(None, None, 0))
    hidden = np.asarray(jax.jit(hidden_states)(model, params, pairs.both_responses))
    head = model.head(params)
    ches = theory.ches(*hidden)
    if head.bias is not None:  # a feature that is always 1
        hidden = np.pad(hidden, ((0, 0), (0, 0), (0, 0), (0, 1)), constant_values=1)
    weight = head.weight if head.bias is None else np.column_stack([head.weight, head.bias])
    last_layer = linear.frozen_features(model.vocab_size, pairs, *hidden)
    predicted = theory.pair_gram(last_layer, weight, pairs)
    for name, entry in predicted._asdict().items():
        np.testing.assert_allclose(row[f"parts_{name}"][-1, PARTS.index("head")], entry, **ROUNDOFF)
    np.testing.assert_allclose(row["ches"][-1], ches, **ROUNDOFF)


def test_parts_sort_layers_by_where_they_are(experiment):
    reference, states, _ = experiment
    grams = as_numpy(jax.jit(gradients.layer_gram)(reference.model, by_state(states)[0], reference.evaluation))
    parts = in_parts(grams).inner
    embeddings = sum(gram.inner for name, gram in grams.items() if "embedding" in name)
    np.testing.assert_allclose(parts[PARTS.index("embeddings")], embeddings, **ROUNDOFF)
    earlier = sum((gram.inner[:-1].sum(axis=0) for gram in grams.values() if gram.inner.ndim == 2), np.zeros(6))
    np.testing.assert_allclose(parts[PARTS.index("earlier blocks")], earlier, **ROUNDOFF)


def test_no_prompt_is_in_two_of_the_sets():
    here = setting(task="single_token", seed=1)
    reference = jax.jit(reference_policy)(here, {"params": np.zeros((STAGES + 1, 0))})  # whatever its parameters
    training, evaluation = (
        {tuple(p) for p in np.asarray(pairs.prompt)} for pairs in (reference.training, reference.evaluation)
    )
    assert len(training) == 16
    assert len(evaluation) == 6
    assert not training & evaluation


def supervised(here, monkeypatch):
    """What `fine_tune` trains on: the pairs that it hands to `train`."""
    handed = []

    def spy(model, params, pairs, *arguments, **options):
        handed.append(pairs)
        return train(model, params, pairs, *arguments, **options)

    monkeypatch.setattr(experiments, "train", spy)
    return jax.jit(lambda: (fine_tune(here), handed[-1]))()


def test_fine_tuning_sees_no_prompt_of_the_others_and_its_pairs_depend_on_no_other_size(monkeypatch):
    here = setting(task="short_suffix", seed=1)
    tuned, pairs = supervised(here, monkeypatch)
    reference = jax.jit(reference_policy)(here, tuned)
    seen, others = (
        {tuple(p) for part in parts for p in np.asarray(part.prompt)}
        for parts in ([pairs], (reference.training, reference.evaluation))
    )
    assert len(seen) == 64
    assert not seen & others
    again, same = supervised(replace(here, pairs=32, evaluation_pairs=5, steps=2), monkeypatch)
    jax.tree.map(np.testing.assert_array_equal, (again, same), (tuned, pairs))


def test_fine_tuning_keeps_the_states_on_its_way():
    """The first of all `STAGES` is the network at random, and each later one is where a shorter fine-tuning ends."""
    here = setting(task="short_suffix", seed=1)
    tune, policy = jax.jit(fine_tune), jax.jit(reference_policy)
    tuned = as_numpy(tune(here))
    assert tuned["params"].shape[0] == STAGES + 1
    assert tuned["params"].dtype == np.float32
    half = as_numpy(tune(replace(here, supervised_steps=TINY["supervised_steps"] // 2)))
    np.testing.assert_array_equal(half["params"][0], tuned["params"][0])
    # The same steps; a program of another length may round otherwise, by 6e-8 of numbers of size about 1, in 16 steps.
    np.testing.assert_allclose(half["params"][-1], tuned["params"][STAGES // 2], atol=1e-5)
    for stage in (0, STAGES // 2, STAGES):
        np.testing.assert_array_equal(policy(here, tuned, stage).params, tuned["params"][stage])
    assert (np.diff(tuned["params"], axis=0) != 0).any(axis=1).all()


def test_label_accuracy_counts_right_first_tokens(experiment):
    reference, _, row = experiment
    pairs = reference.evaluation
    of_labels = partial(jax.jit(first_token_logps), reference.model, reference.params)
    right, wrong = (of_labels(responses) for responses in (pairs.chosen_response, pairs.rejected_response))
    assert row["label_accuracy"] == np.mean(np.asarray(right) > np.asarray(wrong))
    label_alone = PreferencePairs(
        pairs.prompt,
        pairs.prompt_mask,
        *[a[:, :1] for a in (pairs.chosen, pairs.chosen_mask, pairs.rejected, pairs.rejected_mask)],
    )
    np.testing.assert_allclose(right, pair_logps(reference.model, reference.params, label_alone)[0], rtol=1e-13)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"short_suffix": 8, "long_suffix": 8}, "`long_suffix` must be longer than `short_suffix`"),
        ({"short_suffix": 0}, "`short_suffix` must be a whole number of at least 1"),
        ({"dim": 6, "heads": 4}, "`heads` must divide `dim`"),
        ({"batch_size": 64}, "`batch_size` must be at most `pairs`"),
        ({"supervised_prompts": sentiment.FEW}, f"must be at most {sentiment.FEW} prompts"),
        ({"supervised_steps": 30}, "`supervised_steps` must be a multiple of 8"),
        ({"suffix_fit": 1.5}, "`suffix_fit` must be"),
        ({"task": "medium_suffix"}, "`task` must be"),
    ],
)
def test_bad_settings_are_named(given, message):
    with pytest.raises(BadSetting, match=message):
        make_sweep(SENTIMENT, TINY | {"task": "single_token", "seed": 0} | given)


def test_a_task_is_told_as_not_learnt_by_the_fewest_seeds_that_are_wanted():
    table = {"label_accuracy": np.array([LEARNT, np.nextafter(LEARNT, 0), 0.95, 0.1])}
    np.testing.assert_array_equal(learnt(table, "it"), [True, False, True, False])
    with pytest.raises(ValueError, match="did not teach it: right labels in"):
        learnt(table, "it", fewest=3)


def made_up(cosine, change, accuracy=1.0):
    """A table with these means for each task, [3, seeds], of two pairs and two checkpoints."""
    cosine, change = (np.asarray(a, float) for a in (cosine, change))
    seeds = cosine.shape[1]
    spread = np.array([-0.01, 0.01])  # over pairs
    ones = np.ones((3 * seeds, 2, 2))
    logps = np.stack([np.zeros(3 * seeds), change.ravel()], axis=1)[..., None] + spread
    return {
        "task": np.repeat(TASKS, seeds),
        "seed": np.tile(np.arange(seeds), 3),
        "label_accuracy": np.broadcast_to(np.asarray(accuracy, float), (3, seeds)).ravel().copy(),
        "chosen_sq": 4 * ones,
        "rejected_sq": 9 * ones,
        "inner": 6 * (cosine.ravel()[:, None, None] + spread),
        "chosen_logps": logps,
    }


@given(st.integers(0, 2**31))
def test_a_sign_holds_when_the_whole_interval_has_it(seed):
    rng = np.random.default_rng(seed)
    cosine = rng.normal([[-0.5], [0.2], [0.4]], 0.3, (3, 5)).clip(-0.98, 0.98)
    change = rng.normal([[0.3], [-0.3], [-0.6]], 0.4, (3, 5))
    found = signs(made_up(cosine, change)).signs
    claimed = [(cosine[0], -1), (change[0], 1), (cosine[1], 1), (change[1], -1), (cosine[2], 1), (change[2], -1)]
    claimed += [(cosine[2] - cosine[1], 1), (change[2] - change[1], -1)]
    for sign, (numbers, wanted) in zip(found, claimed, strict=True):
        interval = stats.t(4, loc=numbers.mean(), scale=numbers.std(ddof=1) / 5**0.5).interval(0.95)
        np.testing.assert_allclose((sign.mean, sign.low, sign.high), (numbers.mean(), *interval), rtol=1e-9, atol=1e-12)
        assert sign.holds == (min(wanted * interval[0], wanted * interval[1]) > 0)


def test_seeds_without_the_label_are_left_out_and_named():
    cosine, change = np.full((3, 4), 0.5), np.array([[0.1, 0.2, 0.3, 99.0], [-1, -2, -3, -4], [-5, -6, -7, -8]])
    accuracy = np.ones((3, 4))
    accuracy[0, 3] = np.nextafter(LEARNT, 0)
    outcome = signs(made_up(cosine, change, accuracy))
    assert outcome.not_learnt == {"single_token": [3], "short_suffix": [], "long_suffix": []}
    assert (outcome.signs[1].seeds, outcome.signs[3].seeds) == (3, 4)
    np.testing.assert_allclose(outcome.signs[1].mean, 0.2)


def test_nothing_holds_where_no_label_was_learnt():
    outcome = signs(made_up(np.full((3, 4), 0.5), np.full((3, 4), -1.0), accuracy=0.5))
    assert not any(sign.holds for sign in outcome.signs)
    assert all(np.isnan(sign.mean) and sign.seeds == 0 for sign in outcome.signs)


def test_tasks_must_share_their_seeds():
    table = made_up(np.zeros((3, 2)), np.zeros((3, 2)))
    with pytest.raises(ValueError, match="over the same seeds"):
        signs({name: column[1:] for name, column in table.items()})


def test_the_command_tells_signs_and_resumes(tmp_path, capsys):
    options = [f"--set={name}={value}" for name, value in TINY.items() if name != "model"]
    command = ["sentiment", "--model=ngram_mlp", *options, f"--out={tmp_path}"]
    code = cli.main([*command, "--seeds=0:2", "--json"])
    first = capsys.readouterr()
    found = json.loads(first.out)
    assert len(found["signs"]) == 8
    assert code == (0 if all(sign["holds"] for sign in found["signs"]) else 1)
    assert (code == 1) == ("not shown by these seeds" in first.err)
    files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.parquet")}
    cli.main([*command, "--seeds=0:2"])
    assert "claim" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.parquet")} == files


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seeds=5"], "--seeds must be FIRST:STOP"),
        (["--seeds=5:6"], "--seeds must be FIRST:STOP"),
        (["--seeds=0:2", "--set=steps"], "--set must be NAME=VALUE"),
        (["--seeds=0:2", "--set=seed=4"], "--set must be NAME=VALUE"),
        (["--seeds=0:2", "--set=learning_rat=4"], "Did you mean 'learning_rate'"),
        (["--seeds=0:2", "--set=long_suffix=1"], "`long_suffix` must be longer"),
    ],
)
def test_bad_arguments_are_told_in_one_line(arguments, message, tmp_path, capsys):
    assert cli.main(["sentiment", f"--out={tmp_path / 'out'}", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()
