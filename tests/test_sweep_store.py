"""A sweep's folder: files that are not what they were are named, and never read as if nothing had happened."""

import json
import os
import shutil

import numpy as np
import polars as pl
import pytest
from tiny_experiment import GROWN, TINY

from toymodel import cli, sweep
from toymodel._files import write_whole
from toymodel.sweep import BadFolder, make_sweep
from toymodel.sweep.runner import missing, tasks
from toymodel.sweep.store import Store

WANTED = make_sweep(TINY, {"size": [2, 3], "seed": range(40)}, shard_size=8)


@pytest.fixture
def folder(tmp_path):
    sweep.run(WANTED, tmp_path / "out")
    return tmp_path / "out"


def table_files(folder):
    return sorted(folder.glob("table/*.parquet"))


def truncated(path):
    path.write_bytes(path.read_bytes()[:-100])


def emptied(path):
    path.write_bytes(b"")


def one_bit_changed(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    path.write_bytes(content)


def swapped(path):
    other = next(p for p in table_files(path.parents[1]) if p != path)
    path.write_bytes(other.read_bytes())


def renamed(path):
    """The whole file of another shard, under the settings of this one."""
    other = next(p for p in table_files(path.parents[1]) if p != path)
    code, settings, _ = path.name.split("-")
    path.unlink()
    shutil.copy(other, path.with_name(f"{code}-{settings}-{other.name.split('-')[2]}"))


def of_other_code(path):
    """The whole file, as if newer code had computed it."""
    path.replace(path.with_name(f"{'f' * 12}{path.name[12:]}"))


@pytest.mark.parametrize("damage", [truncated, emptied, one_bit_changed, swapped, renamed, of_other_code])
def test_a_damaged_file_is_named_refused_and_computed_anew(damage, folder, capsys):
    whole = sweep.read(folder).collect()
    path = table_files(folder)[-1]
    files = set(table_files(folder))
    damage(path)
    if path not in table_files(folder):
        (path,) = set(table_files(folder)) - files
    with pytest.raises(BadFolder, match=f"{path.name} is damaged"):
        sweep.read(folder)
    assert cli.main(["sweep", "--verify", str(folder)]) == 1
    assert f"damaged: {path}" in capsys.readouterr().out
    assert cli.main(["sweep", "--status", str(folder)]) == 1
    assert f"damaged: {path}" in capsys.readouterr().out
    done, told = [], []
    again = sweep.run(WANTED, folder, progress=lambda count, _: done.append(count), notice=told.append).collect()
    assert sum(done) == 8  # that shard alone
    assert told == [f"{path} is damaged; its settings are computed anew."]
    assert [p.name for p in (folder / "set_aside").iterdir()] == [path.name]
    assert set(table_files(folder)) == files  # the same digits
    assert sweep.read(folder).collect().equals(whole)
    assert again.height == whole.height
    assert cli.main(["sweep", "--verify", str(folder)]) == 0


def test_a_file_that_does_not_belong_there_is_no_part_of_the_table(folder):
    whole = sweep.read(folder).collect()
    place = table_files(folder)[0].parent
    (place / "note.txt").write_text("mine")
    (place / "copy.parquet").write_bytes(table_files(folder)[0].read_bytes())
    assert sweep.read(folder).collect().equals(whole)
    assert sweep.run(WANTED, folder).collect().height == whole.height
    assert (place / "copy.parquet").is_file()


def test_a_file_that_another_process_sets_aside_first_is_no_matter(folder):
    path = table_files(folder)[0]
    emptied(path)
    store = Store.open(folder)
    store.set_aside(path)
    store.set_aside(path)
    assert [p.name for p in (folder / "set_aside").iterdir()] == [path.name]


def test_a_setting_that_two_processes_computed_counts_once(folder, capsys):
    """Without locks, both may compute it; on another processor its round-off, and so its file's name, may differ."""
    whole = sweep.read(folder).collect()
    store, first = Store.open(folder), table_files(folder)[0]
    other = pl.read_parquet(first).with_columns(pl.col("total") * (1 + 2**-52))
    assert store.write(first.name.rpartition("-")[0], other) != first
    cut = make_sweep(TINY, {"size": [2, 3], "seed": range(40)}, shard_size=3)
    store.write(tasks(cut)[0].name, other.head(3))
    assert len(table_files(folder)) == 10 + 2
    assert sweep.read(folder).collect().height == whole.height
    for wanted in (WANTED, cut):
        assert sweep.run(wanted, folder).collect().height == whole.height
        assert not missing(wanted, store).size
    assert cli.main(["sweep", "--verify", str(folder)]) == 0
    assert "80 settings in 12 files" in capsys.readouterr().out


def test_results_of_other_code_are_not_mixed(folder, monkeypatch):
    monkeypatch.setattr(sweep.Experiment, "code", lambda *_: "f" * 64)
    with pytest.raises(BadFolder, match=r"holds results of another code .* choose a new folder"):
        sweep.run(WANTED, folder)


def test_the_folder_of_another_experiment_is_refused_and_left_as_it_is(folder):
    assert set(TINY.fields) < set(GROWN.fields)
    with pytest.raises(BadFolder, match="holds results of another experiment"):
        sweep.run(make_sweep(GROWN, {"seed": range(3)}), folder)
    assert sweep.run(WANTED, folder).collect().height == WANTED.size


def test_a_folder_with_other_things_in_it_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(BadFolder, match=r"is not a sweep's folder \(it holds thesis.tex\)"):
        sweep.run(WANTED, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    with pytest.raises(BadFolder, match=r"it has no readable sweep\.json"):
        sweep.read(tmp_path)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"fields": 3}'])
def test_a_broken_sweep_json_is_refused(content, folder):
    (folder / "sweep.json").write_text(content)
    with pytest.raises(BadFolder, match=r"no readable sweep\.json"):
        sweep.run(WANTED, folder)


def test_what_dead_processes_began_is_removed_and_what_living_ones_write_is_not(folder):
    place = folder / "table"
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
    assert {"started", "ended", "host", "devices", "python", "xla_flags"} <= set(run)
    assert run["git_revision"] is None or len(run["git_revision"].removesuffix("-dirty")) == 40


def test_reading_is_lazy_and_other_tools_read_it_too(folder):
    duckdb, pandas = pytest.importorskip("duckdb"), pytest.importorskip("pandas")
    whole = sweep.read(folder)
    assert isinstance(whole, pl.LazyFrame)
    total = whole.filter(pl.col("size") == 2).select(pl.col("total").sum()).collect().item()
    files = str(folder / "table" / "*.parquet")
    ((by_duckdb,),) = duckdb.sql(f"SELECT sum(total) FROM '{files}' WHERE size = 2").fetchall()
    assert by_duckdb == pytest.approx(total, rel=1e-13)
    frame = pandas.read_parquet(folder / "table")
    assert frame[frame["size"] == 2]["total"].sum() == pytest.approx(total, rel=1e-13)


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


def a_file_as_claims(folder):
    shutil.rmtree(folder / ".claims")
    (folder / ".claims").write_text("")


def folders_as_locks(folder):
    for task in tasks(WANTED):
        lock = folder / ".claims" / task.name
        lock.unlink()
        lock.mkdir()


def a_file_as_runs(folder):
    shutil.rmtree(folder / "runs")
    (folder / "runs").write_text("")


@pytest.mark.parametrize("spoil", [a_file_as_claims, folders_as_locks, a_file_as_runs])
def test_a_folder_that_cannot_be_used_is_told_in_one_line(spoil, folder, tmp_path, capsys):
    spoil(folder)
    for path in table_files(folder):
        path.unlink()
    config = tmp_path / "config.toml"
    settings = "shard_size = 8\n[settings]\nsize = [2, 3]\nseed = { range = 40 }\n"
    config.write_text(f'experiment = "tiny_experiment:TINY"\n{settings}')
    assert cli.main(["sweep", str(config), "--out", str(folder)]) == 2
    told = capsys.readouterr()
    assert str(folder) in told.err
    assert "toymodel sweep:" in told.err
    assert (told.err.count("\n"), told.out) == (1, "")


def test_a_whole_folder_is_read_where_nothing_can_be_written(folder, monkeypatch):
    whole = sweep.read(folder).collect()

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr("toymodel.sweep.store.write_whole", refuse)
    monkeypatch.setattr("toymodel.sweep.store.Path.mkdir", refuse)
    assert sweep.run(WANTED, folder).collect().height == whole.height
    emptied(table_files(folder)[0])
    with pytest.raises(PermissionError):
        sweep.run(WANTED, folder)
