"""The commands, as a shell sees them: output, exit code, and one line on stderr when something is wrong."""

import importlib
import inspect
import io
import json
import os
import pickle
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import version
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

import toymodel
from toymodel import check, cli
from toymodel.experiments.sentiment import MODELS as SENTIMENT_MODELS

ROOT = Path(__file__).parents[1]


@pytest.fixture
def gradients_file(tmp_path):
    chosen, rejected = np.random.default_rng(0).standard_normal((2, 3, 8))
    rejected[2] = 0
    np.savez(tmp_path / "g.npz", chosen_grad=chosen, rejected_grad=rejected, d_chosen=np.ones(3), d_rejected=np.ones(3))
    return tmp_path / "g.npz"


@pytest.mark.parametrize("arguments", [["--help"], ["--print-completion", "bash"], ["check", "--help"]])
def test_a_reader_that_goes_early_is_no_error(arguments):
    """As with `toymodel … | head`; here it is gone before anything is written."""
    command = [sys.executable, "-m", "toymodel.cli", *arguments]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        running.stdout.close()
        assert running.stderr.read() == b""
    assert running.returncode == 0


def test_numbers_of_things_agree_with_their_words(tmp_path, capsys):
    np.savez(tmp_path / "g.npz", chosen_sq=np.ones(1), rejected_sq=np.ones(1), inner=np.zeros(1))
    assert cli.main(["diagnose", str(tmp_path / "g.npz")]) == 0
    assert "\n1 pair: 1 chosen up rejected down." in capsys.readouterr().out
    (tmp_path / "one.toml").write_text('experiment = "gram"\n[settings]\noverlap = 1\nseed = 0\n', encoding="utf-8")
    assert cli.main(["sweep", str(tmp_path / "one.toml"), "--out", str(tmp_path / "one")]) == 0
    assert "1 setting is in" in capsys.readouterr().out
    assert cli.main(["sweep", "--status", str(tmp_path / "one")]) == 0
    told = capsys.readouterr().out
    assert "1 setting in 1 file, " in told
    assert re.search(r"started \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC on .*, ended [-\d]+ [:\d]+ UTC\n", told)


def test_diagnose_json(gradients_file, capsys):
    assert cli.main(["diagnose", str(gradients_file), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found) == ["pairs", "summary", "batch", "losses"]
    assert set(found["pairs"][0]) == {
        *("chosen_sq", "rejected_sq", "inner", "cosine", "case", "band", "chosen_slope", "rejected_slope"),
        "likelihood",
    }
    assert set(found["losses"]) == {"right", "ratio", "negative", "untold"}
    assert found["summary"]["likelihood"]["beta"] is None
    assert found["pairs"][2]["cosine"] is None
    assert found["summary"]["pairs"] == 3


def test_diagnose_table(gradients_file, capsys):
    assert cli.main(["diagnose", str(gradients_file)]) == 0
    out = capsys.readouterr().out
    assert "stationary" in out
    assert "undefined" in out
    assert "3 pairs:" in out


def test_diagnose_batch(tmp_path, capsys):
    """T20's example, from the Gram matrix of its gradients: the second pair turns the first one round."""
    both = np.array([[1.0, 0, 1], [-3, 0, 1], [0, 1, -1], [0, -3, -1]])  # a third parameter leaves a common step
    np.savez(tmp_path / "gram.npz", gram=both @ both.T)
    assert cli.main(["diagnose", str(tmp_path / "gram.npz"), "--json"]) == 0
    batch = json.loads(capsys.readouterr().out)["batch"]
    assert set(batch) == {"cases", "pairs", "common_step", "likelihood"}
    assert set(batch["pairs"][0]) == {"case", "chosen_slope", "rejected_slope", "worst"}
    assert batch["pairs"][0]["worst"][0] == [1, "chosen", -1.0]
    assert batch["common_step"]["exists"]
    assert len(batch["common_step"]["weights"]) == 4
    assert cli.main(["diagnose", str(tmp_path / "gram.npz")]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "chosen 1 (-1)" in told
    assert "A step exists that raises every chosen and lowers every rejected answer, each by" in told
    np.savez(tmp_path / "gram.npz", gram=both[:, :2] @ both[:, :2].T)
    assert cli.main(["diagnose", str(tmp_path / "gram.npz")]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "Separated alone but not in the batch: 0." in told
    assert "No step raises every chosen and lowers every rejected answer" in told


def test_diagnose_table_of_many_pairs_is_cut_and_says_so(tmp_path, capsys):
    np.savez(tmp_path / "many.npz", chosen_sq=np.ones(41), rejected_sq=np.ones(41), inner=np.zeros(41))
    assert cli.main(["diagnose", str(tmp_path / "many.npz")]) == 0
    out = capsys.readouterr().out
    assert "The first 40 of 41 pairs" in out
    assert "41 pairs: 41 chosen up rejected down" in out


def test_diagnose_tells_strengths_in_units_of_libraries(tmp_path, capsys):
    """Both down alone; right for λ/d between 1 and 2. DPO has d = β/2 at its reference; ten tokens are averaged."""
    entries = {"chosen_sq": np.ones(1), "rejected_sq": np.full(1, 6.0), "inner": np.full(1, 2.0)}
    np.savez(tmp_path / "short.npz", **entries)
    np.savez(tmp_path / "long.npz", **entries, chosen_lengths=np.full(1, 10), rejected_lengths=np.full(1, 20))
    assert cli.main(["diagnose", str(tmp_path / "short.npz")]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "│ 0 │ 2 to 3 │ 0.05 to 0.1 │ 1 to 2 │" in told
    assert "λ log π_w, a sum over tokens │ 0.05 to 0.1: 1 of 1 separated" in told
    assert "rpo_alpha, pref_ftx and nll_loss_coef weigh means over tokens; they need chosen_lengths [N]." in told
    assert "These losses need chosen_lengths and rejected_lengths [N]: rdpo," in told
    assert "These losses need chosen_logps and rejected_logps [N]: cpo_nll_sum," in told
    assert cli.main(["diagnose", str(tmp_path / "long.npz"), "--beta", "0.2"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "DPO with β = 0.2 at its reference" in told
    assert 'rpo_alpha (TRL; cpo_alpha, and "sft" beside "sigmoid", are the same) │ 1 to 2: 1 of 1 separated' in told
    assert "pref_ftx (LLaMA-Factory; nll_loss_coef of OpenRLHF is the same) │ 1 to 2: 1 of 1 separated" in told
    assert "0 of 1 │ 1 │ dpo," in told
    assert "│ 0 │ 2 to 3 │ 0.1 to 0.2 │ 1 to 2 │ 1 to 2 │ 1 to 2 │" in told
    assert "λ of DPOP, where the chosen fell below the reference │ 1 to 2: 1 of 1 separated" in told
    assert "1 of 1 │ 2 │ simpo" not in told  # n_l/n_w = 2 is the end of the band, and not inside
    assert cli.main(["diagnose", str(tmp_path / "long.npz"), "--beta", "0"]) == 2
    assert "`beta` must be > 0" in capsys.readouterr().err


def test_no_number_is_cut_on_a_narrow_terminal(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setattr("rich.console.Console.is_terminal", True)
    chosen, rejected = -1.2345e-5 * np.random.default_rng(0).standard_normal((2, 3, 8))
    np.savez(tmp_path / "g.npz", chosen_grad=chosen, rejected_grad=rejected)
    assert cli.main(["diagnose", str(tmp_path / "g.npz")]) == 0
    assert "…" not in capsys.readouterr().out


def layers_file(folder):
    safetensors = pytest.importorskip("safetensors.numpy")
    rng = np.random.default_rng(0)
    layers = {f"{side}_grad/{name}": rng.standard_normal((2, 3)) for side in ("chosen", "rejected") for name in "ab"}
    safetensors.save_file(layers, folder / "layers.safetensors")
    return folder / "layers.safetensors"


def test_diagnose_layers(tmp_path, capsys):
    assert cli.main(["diagnose", str(layers_file(tmp_path))]) == 0
    assert "By layer, means over pairs" in capsys.readouterr().out
    assert cli.main(["diagnose", str(layers_file(tmp_path)), "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)["summary"]["layers"]) == {"a", "b"}


def test_safetensors_that_is_not_installed_is_named(tmp_path, capsys, monkeypatch):
    path = layers_file(tmp_path)
    monkeypatch.setitem(sys.modules, "safetensors", None)
    assert cli.main(["diagnose", str(path)]) == 2
    assert capsys.readouterr().err.endswith("needs the package `safetensors`: pip install 'toymodel[safetensors]'.\n")


def test_an_archive_that_is_too_large_says_what_to_do(gradients_file, capsys, monkeypatch):
    def full(*_):
        raise MemoryError("Unable to allocate 9. TiB")

    monkeypatch.setattr(np.lib.npyio.NpzFile, "__getitem__", full)
    assert cli.main(["diagnose", str(gradients_file)]) == 2
    err = capsys.readouterr().err
    assert "does not fit into memory (Unable to allocate 9. TiB); a .safetensors file is read in slices." in err
    assert err.count("\n") == 1


@pytest.fixture
def log_file(tmp_path):
    """As TRL writes it: evaluations in which the chosen rises, then falls; training logs beside them."""
    chosen, rejected = (-10, -9, -8, -9, -11, -13, -15), (-12, -14, -16, -18, -20, -22, -24)
    rows = [
        {"step": 10 * i, f"{prefix}{kind}/chosen": up, f"{prefix}{kind}/rejected": down}
        for i, (up, down) in enumerate(zip(chosen, rejected, strict=True))
        for prefix, kind in (("", "logps"), ("", "rewards"), ("eval_", "logps"))
    ]
    (tmp_path / "trainer_state.json").write_text(json.dumps({"log_history": rows}))
    return str(tmp_path / "trainer_state.json")


def test_diagnose_log_json(log_file, capsys):
    assert cli.main(["diagnose", log_file, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [{name: value for name, value in s.items() if "error" not in name} for s in found["stretches"]] == [
        {
            "case": "chosen_up_rejected_down",
            **{"first_step": 0, "last_step": 20, "chosen_change": 2, "rejected_change": -4},
        },
        {"case": "both_down", "first_step": 20, "last_step": 60, "chosen_change": -7, "rejected_change": -8},
    ]
    assert {**found["summary"], "chosen_error": 0, "rejected_error": 0} == {
        **{"case": "both_down", "chosen_change": -5, "rejected_change": -12, "chosen_error": 0, "rejected_error": 0},
        **{"unit": "nats", "source": "logps", "rows": 7, "first_step": 0, "last_step": 60, "step_kind": "step"},
        **{"columns": ["eval_logps/chosen", "eval_logps/rejected"], "split": "evaluation", "name": ""},
    }
    assert found["warnings"] == []
    assert len(found["to_do"]) == 3


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (
            [],
            [
                "0 to 20  │ chosen up rejected down",
                "20 to 60",
                "both down",
                "rejected -12 ± 0,",
                "the same pairs at every",
            ],
        ),
        (["--tolerance", "6"], ["margin +7 nats: chosen unchanged rejected down."]),
        (["--columns", "logps/chosen", "logps/rejected"], ["different pairs in every row", "different_batches: "]),
        (["--columns", "rewards/chosen", "rewards/rejected"], ["different pairs in every row", "divide by β for nats"]),
    ],
)
def test_diagnose_log_table(log_file, capsys, options, told):
    assert cli.main(["diagnose", log_file, *options]) == 0
    out = capsys.readouterr().out
    assert all(words in out for words in told), out


def test_no_number_of_a_table_is_cut_at_80_columns(tmp_path, capsys):
    """Steps of seven digits, numbers of four and their errors, and words that are too long for the rest."""
    time = np.arange(300)
    noise = 20 * np.random.default_rng(0).standard_normal((2, 300))
    chosen = np.where(time < 150, 0, 12 * (150 - time)) - 12345 + noise[0]
    rejected = np.where(time < 150, -10 * time, -1500) - 12345 + noise[1]
    rows = zip(1_000_000 + 5_000 * time, chosen, rejected, strict=True)
    (tmp_path / "log.csv").write_text(
        "step,logps/chosen,logps/rejected\n" + "\n".join(",".join(map(str, row)) for row in rows)
    )
    assert cli.main(["diagnose", str(tmp_path / "log.csv")]) == 0
    table = [line for line in capsys.readouterr().out.splitlines() if line.startswith("│")]
    assert len(table) >= 2
    assert all(len(line) <= 80 and "…" not in line for line in table)
    number = r"[-+][\d.]+ ± [\d.]+ +"
    assert re.fullmatch(rf"│ 1000000 to 17\d+ │ chosen unchanged rejected │ {number}│ {number}│", table[0])


def test_diagnose_runs_side_by_side(tmp_path, capsys):
    for name, pay in (("a.csv", 1), ("b.csv", 2)):
        rows = [f"{10 * i},{-80 - pay * i},{-90 - (pay + 1) * i}" for i in range(4)]
        (tmp_path / name).write_text("\n".join(["step,eval_logps/chosen,eval_logps/rejected", *rows]))
    files = [str(tmp_path / name) for name in ("a.csv", "b.csv")]
    assert cli.main(["diagnose", *files, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["margin"] == 3
    assert [found["runs"][file]["at_margin"]["chosen_change"] for file in files] == [-3, -6]
    assert cli.main(["diagnose", *files, "--plot", str(tmp_path / "runs.svg")]) == 0
    out = capsys.readouterr().out
    assert "When the margin had grown by 3 nats, the largest that all runs reached:" in out
    assert f"The chosen is highest in {files[0]} and lowest in {files[1]}, 3 nats apart." in out
    assert (tmp_path / "runs.svg").is_file()


def test_diagnose_tokens(tmp_path, capsys):
    logps = -np.arange(12.0).reshape(2, 2, 3)
    np.savez(tmp_path / "t.npz", chosen_token_logps=logps, rejected_token_logps=logps * [1, 2, 0], steps=[0, 50])
    assert cli.main(["diagnose", str(tmp_path / "t.npz")]) == 0
    out = capsys.readouterr().out
    assert "Change of the rejected by position, -18 nats in all, largest first: 1: -12, 0: -6, 2: +0." in out
    assert "Each pair from the first state to the last: 2 both down." in out
    assert cli.main(["diagnose", str(tmp_path / "t.npz"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["mean"]["stretches"][0]["rejected_positions"] == [-6, -12, 0]
    assert len(found["pairs"]) == 2


def result(passed, worst):
    return check.Result("T4", "a statement", 10, worst, 1e-10, "round-off", passed)


def test_check_json_table_and_exit_codes(monkeypatch, capsys):
    monkeypatch.setattr(check, "run", lambda **_: [result(True, 1e-15)])
    assert cli.main(["check", "--examples", "10", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["labels"] == [
        {
            "label": "T4",
            "statement": "a statement",
            "draws": 10,
            "worst": 1e-15,
            "tolerance": 1e-10,
            "reason": "round-off",
            "passed": True,
        }
    ]
    for worst in (1.0, float("nan"), float("inf")):
        monkeypatch.setattr(check, "run", lambda worst=worst, **_: [result(False, worst)])
        assert cli.main(["check", "--json"]) == 1
        captured = capsys.readouterr()
        assert not json.loads(captured.out)["labels"][0]["passed"]
        assert captured.err == "toymodel check: T4 failed (seed 0)\n"
        assert cli.main(["check"]) == 1
        assert "FAILED" in capsys.readouterr().out


def test_a_quick_check_compiles_one_shape_only(monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(check, "run", lambda **how: asked.append(how) or [result(True, 1e-15)])
    assert cli.main(["check", "--quick", "--seed", "3"]) == 0
    assert cli.main(["check", "--quick", "--examples", "5"]) == 0
    assert "T4" in capsys.readouterr().out
    assert [how["examples"] for how in asked] == [64, 5]
    assert all(how["shapes"] == check.SHAPES[:1] for how in asked)
    assert asked[0]["seed"] == 3


def test_the_models_of_sentiment_are_those_of_the_experiment():
    hints = inspect.get_annotations(module("sentiment").run)
    assert set(get_args(hints["model"])) == set(SENTIMENT_MODELS)


def test_interrupting_says_so_in_one_line(monkeypatch, capsys):
    def interrupted(**_):
        raise KeyboardInterrupt

    monkeypatch.setattr(check, "run", interrupted)
    assert cli.main(["check"]) == 130
    assert capsys.readouterr().err == "toymodel check: interrupted\n"


class Bomb:
    """Unpickling this would create a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def write_bad_files(folder):
    """Name → (file, what the message must say)."""
    np.save(folder / "array.npy", np.ones(3))
    (folder / "text.npz").write_text("not an archive")
    (folder / "empty.npz").write_bytes(b"")
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.array([Bomb(folder / "exploded")], dtype=object), allow_pickle=True)
    with zipfile.ZipFile(folder / "pickled.npz", "w") as archive:
        archive.writestr("chosen_grad.npy", buffer.getvalue())
    (folder / "pickle.npz").write_bytes(pickle.dumps(Bomb(folder / "exploded")))
    np.savez(folder / "good.npz", chosen_grad=np.ones((2, 3)), rejected_grad=np.ones((2, 3)))
    whole = (folder / "good.npz").read_bytes()
    (folder / "truncated.npz").write_bytes(whole[: len(whole) // 2])
    corrupted = bytearray(whole)
    corrupted[len(whole) // 3] ^= 0xFF
    (folder / "corrupted.npz").write_bytes(corrupted)
    np.savez(folder / "unknown.npz", chosen_grads=np.ones((2, 3)))
    np.savez(folder / "nan.npz", chosen_grad=np.full((1, 2), np.nan), rejected_grad=np.ones((1, 2)))
    np.savez(folder / "shapes.npz", chosen_grad=np.ones((1, 2)), rejected_grad=np.ones((2, 2)))
    np.savez(folder / "half.npz", chosen_grad=np.ones((1, 2)))
    np.savez(folder / "none.npz", d_chosen=np.ones(1))
    np.savez(folder / "mixed.npz", chosen_grad=np.ones((1, 2)), steps=np.ones(2))
    np.savez(folder / "half_tokens.npz", chosen_token_logps=np.ones((2, 1, 2)))
    np.savez(folder / "layered.npz", **{"chosen_grad": np.ones((1, 2)), "chosen_grad/a": np.ones((1, 2))})
    (folder / "text.safetensors").write_text("not safetensors")
    (folder / "text.json").write_text("no JSON")
    (folder / "binary.csv").write_bytes(b"\xff\xfe\x00")
    np.savez(folder / "cauchy.npz", chosen_sq=np.ones(1), rejected_sq=np.ones(1), inner=np.full(1, 2.0))
    return {
        "missing.npz": "No such file",
        ".": "Is a directory",
        "array.npy": "not an .npz archive",
        "text.npz": "not an .npz archive",
        "empty.npz": "not an .npz archive",
        "pickled.npz": "allow_pickle=False",
        "pickle.npz": "it is a torch or pickle file: load it there, and save its arrays by numpy.savez",
        "truncated.npz": "cannot read",
        "corrupted.npz": "cannot read",
        "unknown.npz": "unknown array 'chosen_grads'",
        "nan.npz": "`chosen_grad` must be finite",
        "shapes.npz": "must share one shape",
        "half.npz": "`rejected_grad` is missing",
        "none.npz": "got none of them",
        "mixed.npz": "must hold gradients or log-probabilities along a run, got chosen_grad, steps",
        "half_tokens.npz": "`rejected_token_logps` is missing",
        "layered.npz": "must hold `chosen_grad` whole or by layer, got both",
        "text.safetensors": "cannot read",
        "missing.safetensors": "No such file",
        "text.json": "cannot read",
        "binary.csv": "cannot read",
        "missing.jsonl": "No such file",
        "cauchy.npz": "inner² <= chosen_sq · rejected_sq",
    }


def test_bad_files_give_one_line_and_exit_code_2(tmp_path, capsys):
    for name, message in write_bad_files(tmp_path).items():
        assert cli.main(["diagnose", str(tmp_path / name), "--json"]) == 2, name
        captured = capsys.readouterr()
        assert captured.out == "", name
        assert captured.err.count("\n") == 1, name
        assert message in captured.err, f"{name}: {captured.err}"
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "COMMAND is required: one of check, diagnose, sweep, sentiment, account"),
        (["nonsense"], "COMMAND must be one of check, diagnose, sweep, sentiment, account, real, got 'nonsense'"),
        (["--nonsense"], "got '--nonsense'"),
        (["--print-completion"], "--print-completion must be one of bash, zsh, tcsh"),
        (["--print-completion", "fish"], "--print-completion must be one of bash, zsh, tcsh"),
        (["check", "--examples", "many"], "--examples: invalid literal for int() with base 10: 'many'"),
        (["check", "--examples"], "Missing value for argument '--examples'"),
        (["check", "--exmples", "3"], "--exmples"),
        (["check", "more"], "more"),
        (["diagnose"], "FILE"),
        (["diagnose", "a.npz", "b"], "several files are compared only if all are logs; `a.npz` is not"),
        (["diagnose", "a", "--columns", "b"], "--columns: tuple[str, str]: input length 1 did not match"),
        (["diagnose", "a", "--tolerance", "x"], "--tolerance: <class 'float'>: could not convert"),
        (["sweep", "--devices", "x"], "--devices: <class 'int'>: invalid literal"),
        (["sentiment", "--out", "x"], "--seeds FIRST:STOP"),
        (["sentiment", "--seeds", "0:2", "--out", "x", "--model", "y"], "'--model'. Expected one of ('transformer',"),
    ],
)
def test_bad_arguments_give_one_line_and_exit_code_2(arguments, message, capsys):
    assert cli.main(arguments) == 2
    told = capsys.readouterr()
    assert message in told.err
    assert told.err.startswith("toymodel ") or told.err.startswith("toymodel: ")
    assert (told.err.count("\n"), told.out) == (1, "")
    assert "[" not in told.err.replace("tuple[str, str]", "").replace("['b']", "")  # no markup is left


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--tolerance", "0.1"], "--tolerance is for logs and log-probabilities along a run"),
        (["--columns", "a", "b"], "--columns is for logs"),
        (["--plot", "a.png"], "--plot is for logs"),
        (["--out", "a.npz"], "--out and --no-eos need --model."),
        (["--no-eos"], "--out and --no-eos need --model."),
    ],
)
def test_options_that_gradients_do_not_have(gradients_file, capsys, options, message):
    assert cli.main(["diagnose", str(gradients_file), *options]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--examples", "0"], ["--seed", "-1"]])
def test_bad_numbers_give_one_line(arguments, capsys):
    assert cli.main(["check", *arguments]) == 2
    assert "must be a whole number at least" in capsys.readouterr().err


def test_the_installed_command_runs(gradients_file):
    command = [sys.executable, "-m", "toymodel.cli", "diagnose", str(gradients_file), "--json"]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    assert json.loads(finished.stdout)["summary"]["pairs"] == 3


def printed(arguments, capsys):
    assert cli.main(arguments) == 0
    return capsys.readouterr().out


def test_version(capsys):
    assert printed(["--version"], capsys) == f"toymodel {toymodel.__version__}\n"


def options(command):
    return [name.replace("_", "-") for name in inspect.signature(module(command).run).parameters]


def module(command):
    return importlib.import_module(f"toymodel.commands.{command}")


@pytest.mark.parametrize("command", ["", *cli.COMMANDS])
def test_help_has_examples_that_parse_and_fits_a_terminal(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    out = printed([*command.split(), "--help"], capsys)
    examples = [line.strip() for line in out.splitlines() if line.startswith("  toymodel ")]
    parsed = [line for line in examples if "--print-completion" not in line]
    assert parsed
    for line in parsed:
        name, *rest = shlex.split(line.partition("  ")[0].partition(" | ")[0])[1:]
        call = cli.parse([name, *rest])
        assert call.func is module(name).run
        assert command in ("", name)
        config = call.keywords.get("config", next(iter(call.args), None)) if name == "sweep" else None
        assert config is None or (ROOT / config).is_file()
    assert max(map(len, out.splitlines())) <= 80
    if command:
        assert all(f"--{option}" in out for option in options(command) if option not in ("file", "more", "config"))
    else:
        assert {line.split()[1] for line in parsed} == set(cli.COMMANDS)
        assert "toymodel --print-completion bash" in out


def run_python(code, **environment):
    command = [sys.executable, "-c", code]
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("JAX_", "TF_CPP", "XDG_"))}
    return subprocess.run(command, env={**clean, **environment}, capture_output=True, text=True, check=False, cwd=ROOT)


@pytest.mark.parametrize("command", ["", *cli.COMMANDS])
def test_help_is_quick_to_come(command):
    """Nothing that takes long is imported: no jax for any help, and no subcommand for the help of all."""
    code = f"""
import sys, time
from toymodel import cli
assert cli.main([*{command.split()}, "--help"]) == 0
assert "jax" not in sys.modules and "numpy" not in sys.modules
loaded = {{name.split(".")[2] for name in sys.modules if name.startswith("toymodel.commands.")}}
assert loaded & set(cli.COMMANDS) == {{*{command.split()}}}, loaded
assert time.process_time() < 2  # 0.2 on a machine that does nothing else
"""
    finished = run_python(code)
    assert finished.returncode == 0, finished.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_completion_knows_commands_and_options(shell, capsys):
    script = printed(["--print-completion", shell], capsys)
    for name in cli.COMMANDS:
        assert name in script
        for option in options(name):
            assert option in ("file", "more", "config") or f"--{option}" in script or shell != "bash", option
            assert option in ("file", "more", "config") or option in script, option
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=script, text=True, check=True)


def test_bash_completes(capsys, tmp_path):
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("no bash here")
    script = printed(["--print-completion", "bash"], capsys)
    (tmp_path / "results").mkdir()

    def complete(*words):
        asked = f"""
COMP_WORDS=({shlex.join(words)}); COMP_CWORD={len(words) - 1}; COMP_LINE="{shlex.join(words)}"
COMP_POINT=${{#COMP_LINE}}; _tyro_toymodel; echo ${{COMPREPLY[@]}}"""
        done = subprocess.run([bash, "-c", script + asked], text=True, capture_output=True, check=True, cwd=tmp_path)
        return done.stdout.split()

    assert complete("toymodel", "di") == ["diagnose"]
    assert complete("toymodel", "check", "--ex") == ["--examples"]
    assert complete("toymodel", "sweep", "--out", "res") == ["results"]
    # For FILE there is nothing to say, and bash goes on to complete file names.
    assert complete("toymodel", "diagnose", "res") == []
    known = subprocess.run([bash, "-c", script + "complete -p toymodel"], text=True, capture_output=True, check=True)
    assert "-o default" in known.stdout


# --- What jax is told before it begins ------------------------------------------------------------------------------

COMPILE = """
from toymodel.commands import _environment
_environment.prepare()
import jax
jax.jit(lambda x: x + 1)(1.0)
print(jax.config.jax_compilation_cache_dir)
"""


def test_compiled_programs_are_kept_in_the_users_cache_folder(tmp_path):
    finished = run_python(COMPILE, XDG_CACHE_HOME=str(tmp_path))
    assert finished.stdout.strip() == str(tmp_path / "toymodel" / "jax"), finished.stderr
    assert list((tmp_path / "toymodel" / "jax").iterdir())
    finished = run_python(COMPILE, HOME=str(tmp_path))
    assert finished.stdout.strip() == str(tmp_path / ".cache" / "toymodel" / "jax"), finished.stderr


def test_the_users_own_choice_of_a_cache_counts(tmp_path):
    other = tmp_path / "other"
    finished = run_python(COMPILE, XDG_CACHE_HOME=str(tmp_path), JAX_COMPILATION_CACHE_DIR=str(other))
    assert finished.stdout.strip() == str(other)
    finished = run_python(COMPILE, XDG_CACHE_HOME=str(tmp_path), TOYMODEL_CACHE="off")
    assert finished.stdout.strip() == "None"
    assert not (tmp_path / "toymodel").exists()


def test_a_cache_folder_that_cannot_be_written_is_no_error(tmp_path):
    (tmp_path / "file").touch()
    finished = run_python(COMPILE, XDG_CACHE_HOME=str(tmp_path / "file"))
    assert (finished.returncode, finished.stdout.strip(), finished.stderr) == (0, "None", "")


def test_the_compilers_alarms_do_not_reach_the_terminal():
    """Folding this constant takes over a second: then XLA logs the same alarm as for a program that takes minutes."""
    code = """
import jax, jax.numpy as jnp
jax.jit(lambda: jax.lax.reduce_window(jnp.ones((40, 40)), 0.0, jax.lax.add, (50, 50), (1, 1), "SAME").sum())()
"""
    if "slow_operation_alarm" not in run_python(code).stderr:
        assert not version("jaxlib").startswith("0.10.")
        pytest.skip("this version of XLA does not fold the constant, so there is no alarm to be silenced")
    quiet = run_python(
        "from toymodel.commands import _environment; _environment.prepare()" + code, TOYMODEL_CACHE="off"
    )
    assert (quiet.returncode, quiet.stderr) == (0, "")
