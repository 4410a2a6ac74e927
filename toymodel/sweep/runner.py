"""Running a sweep in this process: the shards that are missing are computed one by one, and written one by one."""

import hashlib
import io
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import filelock
import numpy as np
import polars as pl

from toymodel.experiments.experiment import Columns
from toymodel.sweep.grid import Shard, Sweep
from toymodel.sweep.program import Report, table
from toymodel.sweep.store import BadFolder, State, Store, about_this_machine, address, refuse

LONGEST = 200  # letters of a program's name

Progress = Callable[[int, str], Any]  # called with the number of settings just done, and "shard 3 of 8"


class Task(NamedTuple):
    """A shard that is not there yet, or what is not there of it: rows held by files of an earlier grid are left out."""

    shard: Shard
    rows: np.ndarray | None
    size: int


def run(sweep: Sweep, folder: Path | str, *, progress: Progress = lambda *_: None) -> pl.LazyFrame:
    """Compute what the folder lacks of a sweep, and read the sweep's table from it, in the order of its settings.

    Interrupted at any point, by whatever means, it goes on from the shards that are whole when it is called again.
    Settings that a file holds already, of this grid or of another, are not computed again.

    Raises:
      BadFolder: the folder is not this sweep's, another process writes to it, or it cannot be written to.
    """
    store = Store.create(Path(folder), sweep)
    with writing(store) as record:
        run_here(sweep, store, missing(sweep, store), record, progress)
    return results(sweep, store)


def run_here(
    sweep: Sweep, store: Store, todo: list[Task], record: dict[str, Any], progress: Progress = lambda *_: None
) -> None:
    """Compute tasks one after the other, keeping count in the record of the run."""
    for number, task in enumerate(todo, start=1):
        compute(sweep, store, task, partial(_report, progress, f"shard {number} of {len(todo)}"))
        record["settings"] += task.size


def _report(progress: Progress, shard: str, count: int) -> None:
    progress(count, shard)


def missing(sweep: Sweep, store: Store, notice: Callable[[str], Any] = lambda _: None) -> list[Task]:
    """What is left to compute. Damaged and repeated files are set aside first, and `notice` is told of each.

    Raises:
      BadFolder: the table holds a file that no sweep of this folder wrote.
    """
    state = store.state()
    store.set_aside([*state.damaged, *state.repeated])
    for path in state.damaged:
        notice(f"{path} is damaged; its settings are computed anew.")
    for path in state.repeated:
        notice(f"{path} has the settings of another file; it is set aside.")
    refuse(state._replace(damaged=[]))
    return tasks(sweep, state)


def tasks(sweep: Sweep, state: State) -> list[Task]:
    """What of a sweep the files of a table do not hold."""
    held = _held_otherwise(sweep, state)
    found = []
    for shard in sweep.shards():
        settings = sweep.settings(shard)
        if address(settings) in state.whole:
            continue
        rows = None if held is None else _rows_not_in(held, settings)
        if rows is None or len(rows):
            found.append(Task(shard, rows, shard.stop - shard.start if rows is None else len(rows)))
    return found


def compute(sweep: Sweep, store: Store, task: Task, report: Report = lambda _: None) -> Path:
    """Compute one shard and write it."""
    settings = settings_of(sweep, task)
    return store.write(program_name(sweep, task.shard), settings, table(sweep, settings, report))


def results(sweep: Sweep, store: Store) -> pl.LazyFrame:
    """The table of exactly this sweep's settings, in their order.

    Raises:
      BadFolder: a file is damaged or foreign, or a setting is missing.
    """
    state = store.state()
    refuse(state)
    files = [state.whole.get(address(sweep.settings(shard))) for shard in sweep.shards()]
    whole = [path for path in files if path is not None]
    if len(whole) == len(files):
        return pl.scan_parquet(whole, glob=False)
    if left := sum(task.size for task in tasks(sweep, state)):
        raise BadFolder(f"{store.folder} lacks {left} of {sweep.size} settings; run it again.")
    settings = pl.concat([pl.DataFrame(sweep.settings(shard)) for shard in sweep.shards()])
    found = pl.scan_parquet(sorted(state.whole.values()), glob=False)
    return settings.lazy().join(found, on=settings.columns, how="left", maintain_order="left")


@contextmanager
def writing(store: Store) -> Iterator[dict[str, Any]]:
    """The right to write to a folder, for one process at a time, and the record of the run, written before and after.

    Raises:
      BadFolder: another process has it.
    """
    lock = filelock.FileLock(store.folder / ".lock")
    try:
        lock.acquire(blocking=False)
    except filelock.Timeout:
        raise BadFolder(
            f"another sweep is writing to {store.folder} ({_latest_run(store)}); wait for it, or choose another folder."
        ) from None
    try:
        store.remove_leftovers()
        started = datetime.now(UTC)
        name = f"{started:%Y%m%dT%H%M%S}-{socket.gethostname()}-{os.getpid()}"
        record = {"started": started.isoformat(), **about_this_machine(), **store.identity, "settings": 0}
        store.write_run(name, record)
        yield record
        store.write_run(name, record | {"ended": datetime.now(UTC).isoformat()})
    finally:
        lock.release()


class Estimate(NamedTuple):
    """What a sweep will take, from the first programs, timed here."""

    timed: int  # programs
    compile_seconds: float  # for all programs, one after the other
    run_seconds: float
    bytes: int


def estimate(sweep: Sweep, todo: list[Task], programs: int = 2) -> Estimate:
    """Compile and run a little of the first few programs, and extrapolate to all tasks."""
    first: dict[str, Task] = {}
    for task in todo:
        first.setdefault(program_name(sweep, task.shard), task)
    compiling, running, size, rows = 0.0, 0.0, 0, 0
    timed = list(first.values())[:programs]
    for task in timed:
        settings = {name: column[: 8 * sweep.experiment.block] for name, column in settings_of(sweep, task).items()}
        cold, _ = _timed(sweep, settings)
        warm, frame = _timed(sweep, settings)
        content = io.BytesIO()
        frame.write_parquet(content)
        compiling, running = compiling + cold - warm, running + warm
        size, rows = size + len(content.getvalue()), rows + frame.height
    left = sum(task.size for task in todo)
    if not timed:
        return Estimate(0, 0.0, 0.0, 0)
    return Estimate(len(timed), compiling / len(timed) * len(first), running / rows * left, round(size / rows * left))


def program_name(sweep: Sweep, shard: Shard) -> str:
    """The compiled fields of a shard's settings: its place in the table.

    Not `name=value`: readers of Parquet would take that for a column. File systems allow a name 255 bytes: of a longer
    one the end is a hash of the whole.
    """
    compiled = sweep.programs[shard.program].compiled
    name = ",".join(f"{name}-{value}" for name, value in compiled.items()) or "all"
    return name if len(name) <= LONGEST else f"{name[:LONGEST]}-{hashlib.sha256(name.encode()).hexdigest()[:12]}"


def settings_of(sweep: Sweep, task: Task) -> Columns:
    """The settings that a task computes."""
    settings = sweep.settings(task.shard)
    return settings if task.rows is None else {name: column[task.rows] for name, column in settings.items()}


def _held_otherwise(sweep: Sweep, state: State) -> pl.DataFrame | None:
    """The settings in files that are not shards of this sweep: of other grids, or cut otherwise."""
    if not state.whole:
        return None
    ours = {address(sweep.settings(shard)) for shard in sweep.shards()}
    others = sorted(path for settings, path in state.whole.items() if settings not in ours)
    if not others:
        return None
    return pl.scan_parquet(others, glob=False).select(*sweep.experiment.fields).collect()


def _rows_not_in(held: pl.DataFrame, settings: Columns) -> np.ndarray | None:
    """The numbers of the settings that are not held; None when that is all of them."""
    wanted = pl.DataFrame(settings).with_row_index("row")
    rows = wanted.join(held, on=list(settings), how="anti")["row"].sort().to_numpy()
    return None if len(rows) == wanted.height else rows


def _timed(sweep: Sweep, settings: Columns) -> tuple[float, pl.DataFrame]:
    began = time.monotonic()
    frame = table(sweep, settings)
    return time.monotonic() - began, frame


def _latest_run(store: Store) -> str:
    runs = sorted(path.stem for path in store.folder.glob("runs/*.json"))
    return f"begun {runs[-1]}" if runs else "just begun"
