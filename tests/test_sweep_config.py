"""Configurations: what they mean, and what is said, with file and line, when they mean nothing."""

import polars as pl
import pytest
from sweep_processes import GRID
from tiny_experiment import TINY

from toymodel import cli
from toymodel.experiments.catalogue import EXPERIMENTS
from toymodel.sweep import BadSetting, config, make_sweep

GOOD = """experiment = "tiny_experiment:TINY"
precision = "float32"
shard_size = 10

[settings]
scale = [0.5, 2.0]
seed = { range = 3 }

[[grids]]
operation = "sine"

[[grids]]
operation = ["square", "exponential"]
zip = { size = [2, 4], limit = [7, 8] }
seed = 9
"""


def write(folder, text):
    path = folder / "c.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_configuration_is_the_grids_it_writes_out(tmp_path):
    loaded = config.load(write(tmp_path, GOOD))
    assert loaded.experiment is TINY
    assert (loaded.precision, loaded.shard_size) == ("float32", 10)
    by_hand = make_sweep(
        TINY,
        {"scale": [0.5, 2.0], "seed": range(3), "operation": "sine"},
        {
            "scale": [0.5, 2.0],
            "seed": 9,
            "operation": ["square", "exponential"],
            "zip": {"size": [2, 4], "limit": [7, 8]},
        },
        shard_size=10,
    )
    assert loaded.size == by_hand.size == 6 + 8
    assert loaded.settings.equals(by_hand.settings)


def test_an_experiment_beside_the_configuration_is_found(tmp_path):
    (tmp_path / "beside_it.py").write_text("from tiny_experiment import TINY as MINE\n")
    assert config.load(write(tmp_path, 'experiment = "beside_it:MINE"\n')).experiment is TINY


BAD = {
    "no TOML": ("scale =", "c.toml: Invalid value (at line 5, column 8)."),
    "unknown field": ("overlapp = 3", "c.toml:5: `tiny` has no field 'overlapp'. Known are size, "),
    "near miss": ("scal = 3", "c.toml:5: `tiny` has no field 'scal'. Did you mean 'scale'?"),
    "below its range": ("scale = [1.0, 0.0]", "c.toml:5: `scale` must be a number > 0 and finite, got 0.0."),
    "not finite": ("scale = inf", "c.toml:5: `scale` must be a number > 0 and finite, got inf."),
    "not whole": ("seed = 1.5", "c.toml:5: `seed` must be a whole number of at least 0, got 1.5."),
    "not a number": ('scale = "big"', "c.toml:5: `scale` must be a number > 0 and finite, got 'big'."),
    "a truth value": ("seed = true", "c.toml:5: `seed` must be a whole number of at least 0, got True."),
    "unknown word": (
        'operation = "sin"',
        "c.toml:5: `operation` must be a word among sine, exponential, square, got '",
    ),
    "empty list": ("seed = []", "c.toml:5: `seed` must have at least one value."),
    "no such table": ("seed = { upto = 3 }", "c.toml:5: `seed` must be values, {range = n}, "),
    "backward interval": (
        "scale = { linear = [2, 1], count = 3 }",
        "c.toml:5: `scale`: `linear` must be [low, high]",
    ),
    "log from zero": (
        "scale = { log = [0, 1], count = 3 }",
        "c.toml:5: `scale`: `log` must be [low, high], both",
    ),
    "a value twice": ("seed = [4, 5, 4]", "c.toml:5: seed = 4 occurs twice; every setting must occur once."),
    "against a rule": ("limit = [1, 9]", "c.toml:5: `size` must be at most `limit`, got size = 3, limit = 1."),
    "uneven zip": (
        "zip = { size = [2, 3], seed = [1] }",
        "`zip` must have equally many values, got size 2, seed 1.",
    ),
    "given twice": ("seed = 1\nzip = { seed = [1] }", "c.toml:5: `seed` is given twice in one grid."),
    "no draws": ("random = { seed = [1] }", "c.toml:5: `random` must be a table with `draws`, "),
    "drawn badly": ("[settings.random]\ndraws = 3\nscale = 1.0", "c.toml:7: `scale` under `random` must be a list, "),
    "wrong grid": (
        "[[grids]]\nseed = 1\n[[grids]]\nseed = -1",
        "c.toml:8: `seed` must be a whole number of at least 0, got",
    ),
    "grids overlap": (
        "[[grids]]\nseed = 1\n[[grids]]\nseed = [0, 1]",
        "c.toml:7: size = 3, operation = 'sine', scale = 1.0, limit = 100, seed = 1 occurs twice",
    ),
    "too many": (
        "seed = { range = 100_000 }\nscale = { linear = [1, 2], count = 100_000 }",
        "there are 10,000,000,000 settings here; at most 100,000,000 fit into one sweep.",
    ),
    "grids no table": ("[other]", "c.toml:5: there is no 'other' here; known are experiment, "),
}


@pytest.mark.parametrize(("text", "message"), BAD.values(), ids=BAD)
def test_what_is_wrong_is_told_with_its_line(text, message, tmp_path, capsys):
    path = write(tmp_path, f'experiment = "tiny_experiment:TINY"\n\n# a comment: seed = 3\n[settings]\n{text}\n')
    with pytest.raises(BadSetting) as caught:
        config.load(path)
    assert message in str(caught.value)
    assert str(caught.value).startswith(str(path))
    assert cli.main(["sweep", str(path), "--out", str(tmp_path / "out")]) == 2
    told = capsys.readouterr()
    assert message in told.err
    assert (told.err.count("\n"), told.out) == (1, "")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "",
            f"`experiment` must be one of {', '.join(EXPERIMENTS)}, or module:OBJECT, got None.",
        ),
        (
            'experiment = "grim"',
            f"c.toml:1: `experiment` must be one of {', '.join(EXPERIMENTS)}, or module:OBJECT, got 'grim'.",
        ),
        ('experiment = "no_such:X"', "c.toml:1: cannot import `experiment` 'no_such:X'"),
        ('experiment = "tiny_experiment:no"', "c.toml:1: cannot import `experiment` 'tiny_experiment:no'"),
        ('experiment = "tiny_experiment:measure"', "but 'tiny_experiment:measure' is function."),
        ('experiment = "gram"\nprecision = "half"', 'c.toml:2: `precision` must be "float64" or "float32"'),
        ('experiment = "gram"\nshard_size = 0', "c.toml:2: `shard_size` must be a whole number of at least 1, got 0."),
        ('experiment = "gram"\nsettings = 3', "c.toml:2: `settings` must be a table, got 3."),
        ('experiment = "gram"\n[settings]\noverlap = 13', "c.toml:3: `overlap` must be at most `length`"),
        (
            'experiment = "training"\n[settings]\ntau = 0.1',
            "c.toml:3: `tau` must be in the range that its loss",
        ),
        ('experiment = "training"\n[settings]\nbeta = -0.1', "got beta = -0.1, loss = 'dpo'."),
    ],
)
def test_what_is_wrong_at_the_top_is_told(text, message, tmp_path):
    with pytest.raises(BadSetting) as caught:
        config.load(write(tmp_path, text))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give a CONFIG.toml"),
        (["CONFIG"], "give --out DIR"),
        (["missing.toml", "--out", "OUT"], "cannot read missing.toml: No such file or directory."),
        (["CONFIG", "--out", "OUT", "--devices", "0"], "--devices must be at least 1, got 0."),
        (["CONFIG", "--out", "CONFIG"], "is a file; a sweep needs a folder."),
        (["--status", "OUT"], "is not a sweep's folder"),
        (["--verify", "OUT"], "is not a sweep's folder"),
    ],
)
def test_bad_calls_are_told_in_one_line(arguments, message, tmp_path, capsys):
    path = write(tmp_path, GRID.format(experiment="tiny_experiment:TINY", seeds=3, shard_size=4))
    known = {"CONFIG": str(path), "OUT": str(tmp_path / "out")}
    assert cli.main(["sweep", *(known.get(argument, argument) for argument in arguments)]) == 2
    told = capsys.readouterr()
    assert message in told.err
    assert (told.err.count("\n"), told.out) == (1, "")
    assert not (tmp_path / "out").exists()


def test_a_dry_run_says_what_it_would_take_and_writes_nothing(tmp_path, capsys):
    path = write(tmp_path, GRID.format(experiment="tiny_experiment:TINY", seeds=30, shard_size=16))
    assert cli.main(["sweep", str(path), "--dry-run", "--out", str(tmp_path / "out")]) == 0
    told = {line.split("  ")[0]: line.split("  ")[-1].strip() for line in capsys.readouterr().out.splitlines()}
    assert told == {"settings": "240", "files": "16 of at most 16 settings", "programs": "4"}
    assert not (tmp_path / "out").exists()
    assert cli.main(["sweep", str(path), "--out", str(tmp_path / "out")]) == 0
    assert "240 settings are in" in capsys.readouterr().out
    assert cli.main(["sweep", str(path), "--dry-run", "--out", str(tmp_path / "out")]) == 0
    assert "240, 240 of them already computed" in capsys.readouterr().out
    damaged = max((tmp_path / "out").glob("table/*"), key=lambda path: pl.read_parquet(path).height)
    damaged.write_bytes(b"")
    assert cli.main(["sweep", str(path), "--dry-run", "--out", str(tmp_path / "out")]) == 0
    told = capsys.readouterr().out
    assert "240, 224 of them already computed" in told
    assert "files     1 of" in told
    assert damaged.is_file()  # nothing was touched
