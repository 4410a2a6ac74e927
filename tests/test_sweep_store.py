"""A sweep's folder: files that are not what they were are named, and never read as if nothing had happened."""

import json
import os
import shutil

import numpy as np
import polars as pl
import pytest
from tiny_experiment import TINY

from toymodel import cli, sweep
from toymodel.sweep import BadFolder, make_sweep
from toymodel.sweep.store import Store, write_whole

WANTED = make_sweep(TINY, {"size": [2, 3], "seed": range(40)}, shard_size=8)


@pytest.fixture
def folder(tmp_path):
    sweep.run(WANTED, tmp_path / "out")
    return tmp_path / "out"


def table_files(folder):
    return sorted(folder.glob("table/*/*.parquet"))


def truncated(path):
    path.write_bytes(path.read_bytes()[:-100])


def emptied(path):
    path.write_bytes(b"")


def one_bit_changed(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    path.write_bytes(content)


def swapped(path):
    other = next(p for p in table_files(path.parents[2]) if p != path)
    path.write_bytes(other.read_bytes())


@pytest.mark.parametrize("damage", [truncated, emptied, one_bit_changed, swapped])
def test_a_damaged_file_is_named_refused_and_computed_anew(damage, folder, capsys):
    whole = sweep.read(folder).collect()
    path = table_files(folder)[3]
    damage(path)
    with pytest.raises(BadFolder, match=f"{path.name} is damaged"):
        sweep.read(folder)
    assert cli.main(["sweep", "--verify", str(folder)]) == 1
    assert f"damaged: {path}" in capsys.readouterr().out
    assert cli.main(["sweep", "--status", str(folder)]) == 1
    assert f"damaged: {path}" in capsys.readouterr().out
    done = []
    again = sweep.run(WANTED, folder, progress=lambda count, _: done.append(count)).collect()
    assert sum(done) == 8  # that shard alone
    assert [p.name for p in (folder / "set_aside").iterdir()] == [path.name]
    assert sweep.read(folder).collect().equals(whole)
    assert again.height == whole.height
    assert cli.main(["sweep", "--verify", str(folder)]) == 0


def of_another_sweep(folder):
    other = folder.parent / "other"
    sweep.run(make_sweep(TINY, {"seed": range(3)}, precision="float32"), other)
    return table_files(other)[0]


def a_note(folder):
    path = folder.parent / "note.txt"
    path.write_text("mine")
    return path


def under_another_name(folder):
    path = folder.parent / "0123.parquet"
    shutil.copy(table_files(folder)[0], path)
    return path


@pytest.mark.parametrize("stranger", [of_another_sweep, a_note, under_another_name])
def test_a_foreign_file_is_named_and_refused(stranger, folder, capsys):
    source = stranger(folder)
    path = folder / "table" / "size-2" / source.name
    shutil.copy(source, path)
    for use in (lambda: sweep.read(folder), lambda: sweep.run(WANTED, folder)):
        with pytest.raises(BadFolder, match=f"{path.name} was not written by this sweep"):
            use()
    assert cli.main(["sweep", "--verify", str(folder)]) == 1
    assert f"foreign: {path}" in capsys.readouterr().out
    path.unlink()
    assert sweep.read(folder).collect().height == WANTED.size


def test_a_file_whose_settings_are_not_those_of_its_name_is_found(folder, capsys):
    """Bytes that answer to the name, written by hand: only comparing the settings shows it."""
    first, second = table_files(folder)[:2]
    code, settings, _ = first.name.split("-")
    other = second.name.split("-")[2]
    first.unlink()
    shutil.copy(second, first.with_name(f"{code}-{settings}-{other}"))
    assert cli.main(["sweep", "--verify", str(folder)]) == 1
    assert "its settings are not those that its name tells" in capsys.readouterr().out


def test_a_setting_that_is_there_twice_is_found(folder, capsys):
    store = Store.open(folder)
    settings = {name: column[:3] for name, column in WANTED.settings(next(WANTED.shards())).items()}
    store.write("size-2", settings, sweep.read(folder).head(3).collect())
    assert cli.main(["sweep", "--verify", str(folder)]) == 1
    assert "3 settings are there more than once" in capsys.readouterr().out


def test_a_shard_that_two_workers_wrote_counts_once(folder, capsys):
    """The scheduler may have a task done twice; on another processor its round-off, and so its name, may differ."""
    whole = sweep.read(folder).collect()
    first = table_files(folder)[0]
    content = first.read_bytes()
    rows = pl.read_parquet(first).with_columns(pl.col("total") * (1 + 2**-52))
    settings = {name: rows[name].to_numpy() for name in TINY.fields}
    settings["operation"] = settings["operation"].astype(str)
    store = Store.open(folder)
    assert store.write(first.parent.name, settings, rows) == first  # the first to be there stays
    first.unlink()
    second = store.write(first.parent.name, settings, rows)
    assert second.name != first.name
    first.write_bytes(content)  # both came at the same moment
    assert sweep.read(folder).collect().height == whole.height
    assert cli.main(["sweep", "--verify", str(folder)]) == 1
    kept, other = sorted([first, second])
    assert f"repeated: {other}" in capsys.readouterr().out
    assert sweep.run(WANTED, folder).collect().height == whole.height
    assert [path.name for path in (folder / "set_aside").iterdir()] == [other.name]
    assert kept.is_file()


def test_results_of_other_code_are_not_mixed(folder, monkeypatch):
    monkeypatch.setattr("toymodel.experiments.experiment._code", lambda _: "f" * 64)
    with pytest.raises(BadFolder, match=r"holds results of another code .* choose a new folder"):
        sweep.run(WANTED, folder)


def test_a_folder_with_other_things_in_it_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(BadFolder, match=r"is not a sweep's folder \(it holds thesis.tex\)"):
        sweep.run(WANTED, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    with pytest.raises(BadFolder, match=r"it has no readable sweep\.json"):
        sweep.read(tmp_path)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"code": 3}'])
def test_a_broken_sweep_json_is_refused(content, folder):
    (folder / "sweep.json").write_text(content)
    with pytest.raises(BadFolder, match=r"no readable sweep\.json"):
        sweep.run(WANTED, folder)


def test_what_dead_processes_began_is_removed_and_what_living_ones_write_is_not(folder):
    place = folder / "table" / "size-2"
    host = os.uname().nodename
    dead, alive, elsewhere = (
        place / f".{name}-{pid}-ab.part" for name, pid in ((host, 2**22 + 1), (host, os.getpid()), ("other", 2**22 + 1))
    )
    for path in (dead, alive, elsewhere):
        path.write_bytes(b"PAR1")
    assert sweep.read(folder).collect().height == WANTED.size
    sweep.run(WANTED, folder)
    assert not dead.exists()
    assert alive.exists()
    assert elsewhere.exists()


def test_provenance_lies_beside_the_table(folder):
    identity = json.loads((folder / "sweep.json").read_text())
    assert identity["experiment"] == "tiny"
    assert identity["packages"]["numpy"] == np.__version__
    (run,) = (json.loads(path.read_text()) for path in folder.glob("runs/*.json"))
    assert run["settings"] == WANTED.size
    assert {"started", "ended", "host", "devices", "python", "xla_flags", "code"} <= set(run)
    assert run["git_revision"] is None or len(run["git_revision"].removesuffix("-dirty")) == 40


def test_reading_is_lazy_and_other_tools_read_it_too(folder):
    duckdb, pandas = pytest.importorskip("duckdb"), pytest.importorskip("pandas")
    whole = sweep.read(folder)
    assert isinstance(whole, pl.LazyFrame)
    total = whole.filter(pl.col("size") == 2).select(pl.col("total").sum()).collect().item()
    files = str(folder / "table" / "*" / "*.parquet")
    ((by_duckdb,),) = duckdb.sql(f"SELECT sum(total) FROM '{files}' WHERE size = 2").fetchall()
    assert by_duckdb == pytest.approx(total, rel=1e-13)
    frame = pandas.read_parquet(folder / "table")
    assert frame[frame["size"] == 2]["total"].sum() == pytest.approx(total, rel=1e-13)
    assert sweep.read(folder, verify=False).collect().equals(whole.collect())


def test_a_write_that_fails_leaves_nothing(tmp_path, monkeypatch):
    def fails(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(BadFolder, match=r"cannot write to .*: No space left on device"):
        write_whole(tmp_path / "file", b"content")
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch):
    def interrupted(_):
        raise KeyboardInterrupt

    (tmp_path / "file").write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_whole(tmp_path / "file", b"new")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("file", b"old")]


def test_an_empty_folder_has_nothing_to_read(tmp_path):
    Store.create(tmp_path / "out", WANTED)
    with pytest.raises(BadFolder, match="holds no results yet"):
        sweep.read(tmp_path / "out")
