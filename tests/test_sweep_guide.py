"""What examples/README.md shows can be typed in."""

import re
from pathlib import Path

import pytest

from toymodel import cli, sweep
from toymodel.experiments import GRAM
from toymodel.sweep import config, make_sweep

GUIDE = Path(__file__).parents[1] / "examples" / "README.md"
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", GUIDE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def block(language, start):
    (found,) = (text for kind, text in BLOCKS if kind == language and text.lstrip("# ").startswith(start))
    return found


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_the_configuration_means_what_its_comments_say(here):
    (here / "c.toml").write_text(block("toml", "experiment"), encoding="utf-8")
    wanted = config.load("c.toml")
    # models × overlaps × temperatures × zipped sizes × draws × families
    assert wanted.size == 2 * 13 * 5 * 2 * 1000 * 3
    assert len(wanted.programs()) == 2 * 2 * 3


def test_the_table_is_read_in_three_ways(here):
    import duckdb
    import pandas

    sweep.run(
        make_sweep(GRAM, {"family": ["positional", "bag"], "overlap": [0, 6], "seed": range(8)}), here / "results"
    )
    names = {"duckdb": duckdb, "pandas": pandas}
    lazily = block("python", "import polars")
    exec(compile(lazily, str(GUIDE), "exec"), names)
    assert names["table"].collect().height == 32
    sql, *lines = block("python", "sql").splitlines()
    exec(sql, names)
    by_duckdb, by_pandas = (eval(line, names) for line in lines)
    assert len(by_duckdb.fetchall()) == 2
    assert by_pandas.shape == (32, names["table"].collect().width)


def test_an_experiment_of_ones_own_is_swept(here):
    (here / "spread.py").write_text(block("python", "spread.py"), encoding="utf-8")
    names = {"sweep": sweep}
    exec(compile(block("python", "from spread"), str(GUIDE), "exec"), names)
    assert sweep.read("spreads").collect().height == names["wanted"].size == 400
    (here / "c.toml").write_text('experiment = "spread:SPREAD"\n[settings]\nsize = [5, 6]\n')
    assert len(config.load("c.toml").programs()) == 2


def test_every_command_names_options_and_files_that_exist():
    commands = [
        line for kind, text in BLOCKS if kind == "sh" for line in text.splitlines() if line.startswith("toymodel")
    ]
    assert len(commands) >= 6
    for line in commands:
        call = cli.parse(line.partition("  #")[0].split()[1:])
        config_file = call.keywords.get("config", next(iter(call.args), None))
        assert config_file is None or (GUIDE.parents[1] / config_file).is_file()
