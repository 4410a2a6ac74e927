"""The experiment on a pretrained model, with a tiny one in its place, and what is told of it."""

import contextlib
import io
import json
import re
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from toymodel import cli, theory
from toymodel.commands import real
from toymodel.data import tweets
from toymodel.experiments import carry_over, language_model, language_model_account
from toymodel.experiments.language_model import LOOKS, MAPPED, REAL_TRAINING, RealSetting, name_file
from toymodel.experiments.language_model_account import REAL_ACCOUNT, REAL_REGIME, PartialSetting
from toymodel.experiments.one_step import DIRECTIONS
from toymodel.gradients import pair_gram
from toymodel.models import llama, pretrained
from toymodel.models.llama import Llama
from toymodel.models.logps import pair_logps
from toymodel.models.pretrained import Pretrained
from toymodel.sweep import make_sweep, read, run

MODEL = Llama(vocab_size=48, layers=2, dim=16, heads=2, kv_heads=1, hidden=24)
FAST = {"supervised_rate": 1e-2, "learning_rate": 3e-3}
SIZES = {"FINE_TUNING": 96, "TRAINING": 96, "EVALUATION": 32}  # as `answers.splits` cuts 128 pairs of a user
FAST_WORDS = [word for name, value in FAST.items() for word in ("--set", f"{name}={value}")]


def tokenize(text):
    """A word is a token: labels, the words of suffixes, and others by their letters."""
    known = ["negative", "positive", "sentiment", "based", "on", "my", "judgement"]
    words = re.findall(r"\w+", text)
    return SimpleNamespace(ids=[1 + known.index(w) if w in known else 8 + sum(map(ord, w)) % 40 for w in words])


def texts():
    """Half of each sentiment, told by a word; eight others follow. As many as the parts take."""
    rng = np.random.default_rng(0)
    return [
        tweets.Text(
            " ".join(["great" if number % 2 else "awful", *map(str, rng.integers(100, 999, 8))]),
            3 * (-1.0) ** (number + 1),
        )
        for number in range(sum(SIZES.values()))
    ]


@pytest.fixture(scope="module", autouse=True)
def tiny():
    params = jax.tree.map(np.asarray, llama.init_params(jax.random.key(0), MODEL))
    loaded = Pretrained(MODEL, params, SimpleNamespace(encode=tokenize), 0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pretrained, "load", lambda _path=None: loaded)
        patch.setattr(tweets, "read", texts)
        patch.setattr(real, "release_memory", lambda: None)  # a second run finds the programs of the first
        for name, size in SIZES.items():
            patch.setattr(tweets, name, size)
        yield


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """One run of the long suffix, as a sweep's table."""
    return columns(run(make_sweep(REAL_TRAINING, {"seed": [3], **FAST}), tmp_path_factory.mktemp("real")))


def columns(rows):
    return {column.name: np.asarray(column.to_numpy()) for column in rows.collect()}


LAST_BLOCK = ["real", "--seeds", "3", "--layers", "last:1", "--steps", "5", *FAST_WORDS]


@pytest.fixture(scope="module")
def commanded(tmp_path_factory):
    """One run of the last block: the folder of its results, the tables that are printed, and the same as JSON."""
    folder = tmp_path_factory.mktemp("commanded")
    arguments = [*LAST_BLOCK, "--format", "long_suffix", "--out", str(folder)]
    printed = []
    for more in ([], ["--json"]):
        with contextlib.redirect_stdout(io.StringIO()) as out:
            assert cli.main([*arguments, *more]) == 0
        printed.append(out.getvalue())
    return folder, printed[0], json.loads(printed[1])


def test_looks_are_of_the_states_on_the_way(table):
    """The first look of DPO is the last of fine-tuning, and both are what training alone ends at; round-off of sums."""
    before, after = table["supervised_token_logps"][0], table["preference_token_logps"][0]
    assert before.shape == after.shape == (LOOKS, 2, 32, 7)
    np.testing.assert_allclose(after[0], before[-1], rtol=1e-12, atol=1e-12)
    setting = RealSetting(seed=3, **FAST)
    model, params, parts = language_model.prepare(setting)
    reference, _ = language_model.fine_tune(setting, model, params, parts.fine_tuning)
    trained, _ = language_model.prefer(setting, model, reference, parts.training)
    for look, each in ((0, reference), (LOOKS - 1, trained.params)):
        logps = np.stack(pair_logps(model, each, parts.evaluation[:32]))
        np.testing.assert_allclose(after[look].sum(axis=-1), logps, rtol=1e-9, atol=1e-9)
    gram = pair_gram(model, reference, parts.evaluation[:32])
    for name, entries in gram._asdict().items():
        np.testing.assert_allclose(table[f"preference_{name}"][0, 0], entries, rtol=1e-9)
    assert not np.allclose(before[2], before[3])
    assert not np.allclose(after[2], after[3])


def test_remedies_on_request_change_the_training():
    plain, masked = (
        jax.device_get(
            language_model_account.measure_change(
                PartialSetting(seed=3, learned="all", evaluation_pairs=32, remedy=remedy, **FAST)
            )
        )
        for remedy in ("none", "oracle_mask")
    )
    np.testing.assert_array_equal(plain["token_logps"][0], masked["token_logps"][0])
    assert not np.allclose(plain["token_logps"][1], masked["token_logps"][1])


def test_gram_entries_are_those_of_two_plain_gradients(table):
    """To 1e-5: the gradients' and the engine's sums differ in their order, and both are kept in float32."""
    engine = np.stack([table[f"preference_{name}"][0, 0, :4] for name in ("chosen_sq", "rejected_sq", "inner")])
    scale = np.sqrt(engine[0] * engine[1])
    assert (abs(table["step_gram"][0] - engine) / scale).max() < 1e-5
    assert (
        abs(table["token_gram"][0].sum(axis=(1, 2)) - engine_inner(table)) / np.abs(engine_inner(table))
    ).max() < 1e-9
    blocks = table["block_gram"][0]
    assert blocks.shape == (3, MAPPED, MODEL.layers)
    assert (
        blocks[:2].sum(axis=-1)
        < np.stack([table[f"preference_{n}"][0, 0, :MAPPED] for n in ("chosen_sq", "rejected_sq")])
    ).all()


def engine_inner(table):
    return table["preference_inner"][0, 0, :MAPPED]


def test_single_steps_move_answers_as_their_slopes_say(table):
    """A step that moves an answer by 0.02 nats has a curvature of some per cent of that; half the step, half of it."""
    predicted, measured = table["step_predicted"][0], table["step_measured"][0]
    assert predicted.shape == (len(DIRECTIONS), 2, 4)
    most = abs(predicted).max(axis=1, keepdims=True)
    assert (abs(measured - predicted) / most).max() < 0.1
    run = {name: column[0] for name, column in table.items()}
    assert carry_over._halving(run).max() < 0.1
    normalised = measured[DIRECTIONS.index("normalised")]
    assert (normalised[0] > 0).all()
    assert (normalised[1] < 0).all()


def test_claims_are_told_of_every_format(table):
    told = carry_over.verdicts(table)
    assert [each.claim for each in told] == list(carry_over.CLAIMS)
    by_words = {each.claim.words: each for each in told}
    assert by_words["token entries sum to the inner product"].holds == "holds"
    assert by_words["the case of a pair's own step"].mean == 1
    broken = table | {"step_measured": -table["step_measured"]}
    by_words = {each.claim.words: each for each in carry_over.verdicts(broken)}
    assert by_words["the case of a pair's own step"].holds == "does not hold"
    assert by_words["normalised pair: separated"].holds == "does not hold"
    assert by_words["slopes of a pair's own step"].holds == "does not hold"
    broken = table | {"token_gram": 3 * table["token_gram"], "token_cosines": -table["token_cosines"]}
    by_words = {each.claim.words: each for each in carry_over.verdicts(broken)}
    assert by_words["token entries sum to the inner product"].holds != "holds"
    assert by_words["equal suffix tokens: positive entries"].mean < 0.5


def test_labels_that_are_as_alike_as_one_word_leave_no_room_for_a_suffix():
    run = {"contexts": np.array([0.5, 0.1, 0.9, 0.5, 0.6, 0.7, 0.9, 1.0]), "vocab_size": np.array(20)}
    assert carry_over.limit_of_crowd(run) == 0
    run["contexts"][4:6] = 0.7, 0.1
    alone = theory.threshold_length(0.5, 0.1, 0.9, 0.5, vocab_size=20)
    np.testing.assert_allclose(carry_over.limit_of_crowd(run), alone * 0.6 / (2 * 0.9), rtol=1e-6)
    run["contexts"][6] = -0.1
    assert carry_over.limit_of_crowd(run) == np.inf


def test_intervals_are_over_seeds_or_over_the_pairs_of_one():
    of_pairs = np.array([1.0, 3.0, np.nan])
    mean, low, high = carry_over._interval([of_pairs])
    assert mean == 2
    assert low < 1 < 3 < high  # of two numbers
    assert carry_over._interval([of_pairs, np.array([4.0, 4.0])])[0] == 3
    assert np.isnan(carry_over._interval([np.array([np.nan])])).all()


def test_states_have_means_medians_and_shares(table):
    told = carry_over.looks(table)
    end = {name: column[-1] for name, column in told.items()}
    change = np.subtract(*table["preference_token_logps"][0][[-1, 0], 0].sum(axis=-1))
    assert (end["stage"], end["step"]) == ("preference", 15)
    np.testing.assert_allclose(
        [end["chosen_mean"], end["chosen_median"]], [change.mean(), np.median(change)], rtol=1e-12
    )
    assert end["chosen_rises"] == (change > 0).mean()
    gram = theory.PairGram(*(table[f"preference_{name}"][0, -1] for name in theory.PairGram._fields))
    np.testing.assert_allclose(end["cosine"], np.mean(np.asarray(theory.cosine(gram))), rtol=1e-12)
    assert np.isnan(told["trained_chosen_mean"][0])


@pytest.mark.parametrize("learned", ["last_blocks", "low_rank"])
def test_the_account_of_a_part_adds_up(learned, commanded):
    """The sum over the sources misses the truth by a remainder of third order, here below a per cent of it."""
    if learned == "last_blocks":
        table = columns(read(commanded[0] / REAL_ACCOUNT.name))
    else:
        setting = PartialSetting(seed=1, learned=learned, rank=2, steps=5, **FAST)
        row = jax.device_get(language_model_account.measure(setting))
        table = {name: np.asarray(value)[None] for name, value in row.items()}
        table |= {"format": np.array(["long_suffix"]), "seed": np.array([1])}
    told, true_change = table["contributions"][0].sum(axis=0), table["true_change"][0]
    assert abs(true_change).max() > 1e-3
    assert abs(told - true_change).max() < 0.01 * abs(true_change).max()
    (account,) = carry_over.accounts(table).values()
    np.testing.assert_allclose(account.first_order, account.true_change, rtol=0.01)
    assert account.sources["chosen label"]["chosen label"][1] < account.sources["chosen label"]["chosen label"][2]


def test_rules_of_the_settings(tmp_path):
    for experiment, settings, words in (
        (REAL_TRAINING, {"steps": 7}, "multiple of 5"),
        (REAL_TRAINING, {"format": "own"}, "format 'own' needs `pairs`"),
        (REAL_ACCOUNT, {"learned": "all"}, "a momentum for each source"),
        (REAL_REGIME, {"batch_size": 1000}, "batch_size"),
    ):
        with pytest.raises(ValueError, match=re.escape(words)):
            make_sweep(experiment, {"seed": [0], **settings})
    with pytest.raises(ValueError, match="`weights` must be 0 or a number that `name_file` gave"):
        language_model.prepare(RealSetting(seed=0, weights=5))
    (tmp_path / "a.gguf").write_bytes(b"one")
    (tmp_path / "b.gguf").write_bytes(b"other")
    assert name_file(tmp_path / "a.gguf") == name_file(tmp_path / "a.gguf") != name_file(tmp_path / "b.gguf")
    with pytest.raises(ValueError, match="cannot read"):
        name_file(tmp_path / "c.gguf")


def test_command_prints_tables_or_json_and_goes_on(commanded):
    _, printed, told = commanded
    for words in ("slopes of a pair's own step", "cosine: start", "by all sources"):
        assert words in printed
    assert {row["stage"] for row in told["states"]} == {"supervised", "preference"}
    assert len(told["claims"]) == len(carry_over.CLAIMS)
    assert told["accounts"]["long_suffix"]["sources"]


def test_pairs_of_a_user_are_trained_on_and_judged(tmp_path, capsys):
    prompts = ["say" + " it" * (number % 16) + " so" * (number // 16) for number in range(127)]
    rows = [
        {"prompt": prompt, "chosen": " yes" * (number % 3 + 1), "rejected": " no never"}
        for number, prompt in enumerate(prompts)
    ]
    # As many and as wide as the tweets here, so that the programs are those of `commanded`.
    rows.append({"prompt": "say" + " it" * (tweets.PLACES - 1), "chosen": " yes" * tweets.VARIED, "rejected": " no"})
    longest = tweets.PLACES + tweets.VARIED + 1
    rows.insert(5, {"prompt": "say it again", "chosen": " yes" * longest, "rejected": " no"})
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    own = [*LAST_BLOCK, "--pairs", str(path), "--set", f"longest={longest}", "--out", str(tmp_path / "out")]
    assert cli.main([*own, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["left_out"] == 1
    assert cli.main(own) == 0
    assert f"Pairs of more than {longest} tokens, left out: 1;" in capsys.readouterr().out
    assert {row["format"] for row in told["states"]} == {"own"}
    claims = {claim["prediction"]: claim for claim in told["claims"]}
    assert claims["slopes of a pair's own step"]["holds"] == "holds"
    assert claims["unseen chosen falls beyond L*"]["mean"] is None
    path.write_text("".join(json.dumps(row) + "\n" for row in rows[:20]))
    assert cli.main(["real", "--seeds", "3", "--pairs", str(path)]) == 2
    assert "64 pairs at least" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("layers", "learned", "in_account"),
    [
        ("all", {"learned": "all"}, {"learned": "last_blocks", "blocks": 8}),
        ("last:1", {"learned": "last_blocks", "blocks": 1}, {"learned": "last_blocks", "blocks": 1}),
        ("lora:2", {"learned": "low_rank", "rank": 2}, {"learned": "low_rank", "rank": 2}),
    ],
)
def test_layers_are_learned_in_both_experiments_but_not_all_of_them_in_an_account(
    monkeypatch, layers, learned, in_account
):
    asked = {}

    def stop(wanted, _out):
        asked.update(wanted)
        raise ValueError("that is enough")

    monkeypatch.setattr(real, "_run", stop)
    assert cli.main(["real", "--seeds", "3", "--layers", layers]) == 2
    for experiment, found in ((REAL_TRAINING, learned), (REAL_ACCOUNT, in_account)):
        (setting,) = make_sweep(experiment, asked[experiment] | {"format": "varied"}).settings.to_dicts()
        assert setting.items() >= found.items()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--seeds", "x"], "--seeds must be a seed or FIRST:STOP"),
        (["--seeds", "3:3"], "--seeds must be a seed or FIRST:STOP"),
        (["--seeds", "3", "--layers", "last:0"], "--layers must be all, last:K or lora:R"),
        (["--seeds", "3", "--layers", "some"], "--layers must be all, last:K or lora:R"),
        (["--seeds", "3", "--steps", "7"], "multiple of 5"),
        (["--seeds", "3", "--weights", "nowhere.gguf"], "cannot read `nowhere.gguf`"),
        (["--seeds", "3", "--pairs", "nowhere.jsonl"], "cannot read `nowhere.jsonl`"),
    ],
)
def test_bad_input_is_told_in_one_line(arguments, words, capsys):
    assert cli.main(["real", *arguments]) == 2
    said = capsys.readouterr().err.strip()
    assert words in said
    assert "\n" not in said
