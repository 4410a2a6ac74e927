"""Who moved the answers of the sentiment experiment: its rows against the package's parts, its means, its command."""

import json

import jax
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from strategies import seeds

from toymodel import cli, gradients
from toymodel.data.sentiment import TASKS
from toymodel.experiments import sentiment
from toymodel.experiments.account import TOKENS, accounts, measure
from toymodel.experiments.sentiment import LEARNT, SentimentSetting, fine_tune, prefer, preference_key, reference_policy
from toymodel.losses import LOSSES
from toymodel.models.logps import pair_logps
from toymodel.training import account

TINY = {"model": "ngram_mlp", "dim": 4, "hidden_dim": 12, "supervised_prompts": 64, "supervised_steps": 32}
TINY |= {"supervised_rate": 0.02, "pairs": 16, "evaluation_pairs": 6, "batch_size": 8, "steps": 4}
HERE = SentimentSetting(**TINY, task="short_suffix", seed=3)
COMMAND = [
    "account",
    "--model=ngram_mlp",
    *(f"--set={name}={value}" for name, value in TINY.items() if name != "model"),
]
PARTS = {"chosen label": (0, slice(1)), "chosen suffix": (0, slice(1, None))}
PARTS |= {"rejected label": (1, slice(1)), "rejected suffix": (1, slice(1, None))}


# --- A row ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def row_and_reference():
    tuned = fine_tune(HERE)
    return jax.tree.map(np.asarray, measure(HERE, tuned)), reference_policy(HERE, tuned)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"task": "suffix"}, "`task` must be a word among single_token, .*, got 'suffix'"),
        ({"pair": 3}, "`sentiment` has no field 'pair'. Did you mean 'pairs'?"),
        ({"pairs": 0}, "`pairs` must be a whole number of at least 1, got 0"),
        ({"pairs": 16, "batch_size": 17}, "`batch_size` must be at most `pairs`, got batch_size = 17, pairs = 16"),
    ],
)
def test_a_reference_that_cannot_be_made_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        sentiment.reference(**{"task": "short_suffix", "key": jax.random.key(0), **TINY, **settings})


def test_a_reference_comes_with_its_pairs_in_one_call():
    key = jax.random.key(5)
    made = sentiment.reference("short_suffix", key, **TINY)
    setting = SentimentSetting(**TINY, task="short_suffix", seed=int(jax.random.randint(key, (), 0, 2**31 - 1)))
    by_hand = reference_policy(setting, fine_tune(setting))
    # Thirty-two steps of Adam in float32, by two programs.
    np.testing.assert_allclose(made.params, by_hand.params, rtol=1e-3, atol=1e-4)
    for one, other in zip(jax.tree.leaves(made.training), jax.tree.leaves(by_hand.training), strict=True):
        np.testing.assert_array_equal(one, other)
    assert gradients.pair_gram(made.network, made.weights, made.evaluation).inner.dtype == np.float64
    assert made.evaluation[0].words("chosen")[0] in ("positive", "negative")


def of_part(of_tokens, part):
    side, words = PARTS[part]
    return np.asarray(of_tokens)[side, :, words].sum(axis=-1)


def test_t23_a_row_is_the_account_of_sources_that_are_written_out(row_and_reference):
    """The training is the same; the parts add up to all that the sources contributed, and to the true change."""
    row, reference = row_and_reference
    masks = {}
    for part, (side, words) in PARTS.items():
        masks[part] = np.zeros((2, *reference.training.chosen.shape), bool)
        masks[part][side, :, words] = True
    found = account(
        reference.model,
        reference.params,
        reference.training,
        LOSSES["dpo"](beta=HERE.beta),
        optax.adam,
        HERE.learning_rate,
        judged=reference.evaluation,
        sources=masks,
        steps=HERE.steps,
        at="middle",
        batch_size=HERE.batch_size,
        key=preference_key(HERE),
    )
    # Two programs in float32, that of training: sums of some hundred terms, and Adam's division by small gradients.
    close = {"rtol": 1e-4, "atol": 1e-6 * abs(row["contributions"]).max()}
    for i, source in enumerate(PARTS):
        for j, part in enumerate(PARTS):
            np.testing.assert_allclose(row["contributions"][i, j], of_part(found.contributions[source], part), **close)
    for j, part in enumerate(PARTS):
        first_order = of_part(found.first_order, part)
        np.testing.assert_allclose(row["contributions"][:, j].sum(axis=0), first_order, **close)
        np.testing.assert_allclose(row["true_change"][j], of_part(found.true_change, part), **close)
    assert tuple(PARTS) == TOKENS
    # Four steps of 1e-4 hardly bend; contributions, of which some cancel, are rounded as above.
    missed = abs(row["contributions"].sum(axis=0) - row["true_change"]).max()
    assert missed < 1e-4 * abs(row["true_change"]).max() + close["atol"]


def test_a_row_is_of_the_run_that_the_sentiment_experiment_makes(row_and_reference):
    row, reference = row_and_reference
    end = prefer(HERE, reference).params
    logps = [
        np.stack(pair_logps(reference.network, reference.to_measure(params), reference.evaluation))
        for params in (reference.params, end)
    ]
    change = np.stack([row["true_change"][:2].sum(axis=0), row["true_change"][2:].sum(axis=0)])
    # The row's log-probabilities are in float32: round-off of three tokens' of some 3 nats each.
    np.testing.assert_allclose(change, logps[1] - logps[0], rtol=0, atol=10 * 2**-23 * 4)
    assert abs(change).max() > 1e-3


def test_the_own_slope_is_that_of_the_pairs_step(row_and_reference):
    row, reference = row_and_reference
    params = reference.to_measure(reference.params)
    g_w, g_l = gradients.pair_gradients(reference.network, params, reference.evaluation)
    # Sums over a few hundred parameters in float64, in another order.
    np.testing.assert_allclose(row["own_slope"], (g_w * (g_w - g_l)).sum(axis=1), rtol=1e-12, atol=1e-12)


# --- Means over pairs and seeds -------------------------------------------------------------------------------------


def made_up(rng, number=4, pairs=5, accuracy=1.0):
    """A table of all tasks with so many seeds each."""
    rows = len(TASKS) * number
    return {
        "task": np.repeat(TASKS, number),
        "seed": np.tile(np.arange(number)[::-1], len(TASKS)),
        "label_accuracy": np.full(rows, accuracy),
        "contributions": rng.normal(size=(rows, 4, 4, pairs)),
        "true_change": rng.normal(size=(rows, 4, pairs)),
        "own_slope": rng.normal(size=(rows, pairs)),
    }


@settings(max_examples=10)
@given(seeds, st.integers(2, 5))
def test_accounts_are_means_over_pairs_then_seeds_with_students_intervals(seed, number):
    table = made_up(np.random.default_rng(seed), number)
    told, left_out = accounts(table)
    assert list(told) == list(left_out) == list(TASKS)
    for task, found in told.items():
        mine = {name: column[table["task"] == task] for name, column in table.items()}
        assert (found.seeds, left_out[task]) == (list(range(number)), [])
        first_order = mine["contributions"][:, :, :2].sum(axis=(1, 2))
        true_change = mine["true_change"][:, 0] + mine["true_change"][:, 1]
        kept = [part for part in PARTS if task != "single_token" or part.endswith("label")]
        assert list(found.sources) == kept
        for source in kept:
            assert list(found.sources[source]) == kept
            for part in kept:
                of_seeds = mine["contributions"][:, TOKENS.index(source), TOKENS.index(part)].mean(axis=-1)
                spread = of_seeds.std(ddof=1) / number**0.5
                wanted = of_seeds.mean(), *stats.t(number - 1, loc=of_seeds.mean(), scale=spread).interval(0.95)
                np.testing.assert_allclose(found.sources[source][part], wanted, rtol=1e-9, atol=1e-12)
        ranks = [
            np.mean([stats.spearmanr(*pair).statistic for pair in zip(scores, true_change, strict=True)])
            for scores in (first_order, mine["own_slope"])
        ]
        wanted = [true_change.mean(), first_order.mean(), *ranks]
        np.testing.assert_allclose(found[1:5], wanted, rtol=1e-9, atol=1e-12)


def test_seeds_without_the_label_are_left_out_and_named_task_by_task():
    table = made_up(np.random.default_rng(0))
    worst = (table["task"] == "long_suffix") & (table["seed"] == 2)
    fewer = {name: column[~worst] for name, column in table.items()}
    table["label_accuracy"][worst] = np.nextafter(LEARNT, 0)
    table["contributions"][worst] = 1e9
    told, left_out = accounts(table)
    assert left_out == {"single_token": [], "short_suffix": [], "long_suffix": [2]}
    assert told["long_suffix"].seeds == [0, 1, 3]
    assert told == accounts(fewer)[0]


def test_one_seed_that_learnt_its_label_is_too_few():
    table = made_up(np.random.default_rng(0), number=2)
    table["label_accuracy"][0] = 0.5
    with pytest.raises(ValueError, match="fine-tuning did not teach single_token"):
        accounts(table)


# --- The command ----------------------------------------------------------------------------------------------------


def files(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*.parquet")}


def test_the_command_tells_who_moved_the_answers_and_goes_on(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sentiment, "LEARNT", 0.0)  # so little fine-tuning teaches some seeds nothing
    monkeypatch.setattr("toymodel.data.sentiment.TASKS", tasks := ["single_token", "long_suffix"])  # two are enough
    command = [*COMMAND, "--set=learning_rate=5e-2", f"--out={tmp_path}"]
    assert cli.main([*command, "--seeds=0:2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found) == {"tasks", "not_learnt"}
    assert list(found["tasks"]) == list(found["not_learnt"]) == tasks
    for task, told in found["tasks"].items():
        assert set(told) == {"seeds", "true_change", "first_order", "spearman", "own_slope_spearman", "sources"}
        assert told["seeds"] == [0, 1]
        kept = [part for part in PARTS if task != "single_token" or part.endswith("label")]
        assert list(told["sources"]) == kept
        for brought in told["sources"].values():
            assert list(brought) == kept
            assert all(low <= mean <= high for mean, low, high in brought.values())
        to_chosen = [brought[part][0] for brought in told["sources"].values() for part in brought if "chosen" in part]
        assert told["first_order"] == pytest.approx(sum(to_chosen), rel=1e-9, abs=1e-12)
        largest = max(abs(mean) for brought in told["sources"].values() for mean, *_ in brought.values())
        assert 0 < abs(told["first_order"] - told["true_change"]) < 0.2 * largest  # a few steps bend little
    before = files(tmp_path)
    assert cli.main([*command, "--seeds=0:2"]) == 0
    out = capsys.readouterr().out
    for words in (
        "long suffix",
        "contributed by",
        "to the chosen suffix",
        "rejected suffix",
        "by all sources",
        "true change",
    ):
        assert words in out
    told = found["tasks"]["long_suffix"]
    first_order, true_change = (f"{told[name]:+.3f}" for name in ("first_order", "true_change"))
    assert first_order != true_change  # so that neither can stand in the other's place
    assert f"chosen answer: {first_order} by all sources, true change {true_change}" in out
    assert files(tmp_path) == before  # nothing was computed again
    monkeypatch.setattr(sentiment, "LEARNT", 1.1)
    assert cli.main([*command, "--seeds=0:2"]) == 2
    told = capsys.readouterr()
    assert told.err.startswith("toymodel account: fine-tuning did not teach single_token")
    assert (told.out, told.err.count("\n")) == ("", 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--seeds FIRST:STOP"),
        (["--seeds=5"], "--seeds must be FIRST:STOP"),
        (["--seeds=5:6"], "--seeds must be FIRST:STOP with at least two seeds"),
        (["--seeds=0:2", "--set=steps"], "--set must be NAME=VALUE"),
        (["--seeds=0:2", "--set=task=short_suffix"], "--set must be NAME=VALUE"),
        (["--seeds=0:2", "--set=learning_rat=4"], "Did you mean 'learning_rate'"),
        (["--seeds=0:2", "--set=optimizer=lion"], "optimizer"),
        (["--seeds=0:2", "--set=batch_size=2000"], "`batch_size` must be at most `pairs`"),
        (["--seeds=0:2", "--model=gpt"], "'--model'. Expected one of ('transformer',"),
    ],
)
def test_bad_arguments_are_told_in_one_line(arguments, message, tmp_path, capsys):
    assert cli.main(["account", f"--out={tmp_path / 'out'}", *arguments]) == 2
    told = capsys.readouterr()
    assert message in told.err
    assert (told.out, told.err.count("\n")) == ("", 1)
    assert not (tmp_path / "out").exists()


def test_results_of_another_experiment_are_not_mixed_in(tmp_path, capsys):
    """`--out` of `toymodel sentiment` is refused, and stays as it is."""
    (tmp_path / "sweep.json").write_text(json.dumps({"experiment": "sentiment", "format": 2}))
    assert cli.main([*COMMAND, "--seeds=0:2", f"--out={tmp_path}"]) == 2
    told = capsys.readouterr()
    assert str(tmp_path) in told.err
    assert (told.out, told.err.count("\n")) == ("", 1)
