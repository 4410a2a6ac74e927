"""The commands, as a shell sees them: output, exit code, and one line on stderr when something is wrong."""

import io
import json
import pickle
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from toymodel import check, cli


@pytest.fixture
def gradients_file(tmp_path):
    chosen, rejected = np.random.default_rng(0).standard_normal((2, 3, 8))
    rejected[2] = 0
    np.savez(tmp_path / "g.npz", chosen_grad=chosen, rejected_grad=rejected, d_chosen=np.ones(3), d_rejected=np.ones(3))
    return tmp_path / "g.npz"


def test_diagnose_json(gradients_file, capsys):
    assert cli.main(["diagnose", str(gradients_file), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found) == ["pairs", "summary"]
    assert set(found["pairs"][0]) == {
        *("chosen_sq", "rejected_sq", "inner", "cosine", "case", "band", "chosen_slope", "rejected_slope")
    }
    assert found["pairs"][2]["cosine"] is None
    assert found["summary"]["pairs"] == 3


def test_diagnose_table(gradients_file, capsys):
    assert cli.main(["diagnose", str(gradients_file)]) == 0
    out = capsys.readouterr().out
    assert "stationary" in out
    assert "undefined" in out
    assert "3 pair(s):" in out


def test_diagnose_table_of_many_pairs_is_cut_and_says_so(tmp_path, capsys):
    np.savez(tmp_path / "many.npz", chosen_sq=np.ones(41), rejected_sq=np.ones(41), inner=np.zeros(41))
    assert cli.main(["diagnose", str(tmp_path / "many.npz")]) == 0
    out = capsys.readouterr().out
    assert "The first 40 of 41 pairs" in out
    assert "41 pair(s): 41 chosen up rejected down" in out


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
    np.savez(folder / "cauchy.npz", chosen_sq=np.ones(1), rejected_sq=np.ones(1), inner=np.full(1, 2.0))
    return {
        "missing.npz": "No such file",
        ".": "Is a directory",
        "array.npy": "not an .npz archive",
        "text.npz": "not an .npz archive",
        "empty.npz": "not an .npz archive",
        "pickled.npz": "allow_pickle=False",
        "pickle.npz": "not an .npz archive",
        "truncated.npz": "cannot read",
        "corrupted.npz": "cannot read",
        "unknown.npz": "unknown array 'chosen_grads'",
        "nan.npz": "`chosen_grad` must be finite",
        "shapes.npz": "must share one shape",
        "half.npz": "`rejected_grad` is missing",
        "none.npz": "got neither",
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
        ([], "required: COMMAND"),
        (["diagnose"], "required: FILE.npz"),
        (["check", "--examples", "many"], "invalid int value"),
        (["nonsense"], "invalid choice"),
    ],
)
def test_bad_arguments_exit_with_2(arguments, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(arguments)
    assert stopped.value.code == 2
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
