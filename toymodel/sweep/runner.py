"""Running a sweep in this process: missing settings are computed and written shard by shard.

Several processes may run sweeps of one folder at once: each claims a shard before it computes it.
"""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from toymodel._files import BadFolder
from toymodel._public import own_names
from toymodel.experiments.experiment import Experiment
from toymodel.sweep.grid import Sweep, columns_of, completed
from toymodel.sweep.program import places, table
from toymodel.sweep.store import Notice, Store

__dir__ = own_names(globals())

Progress = Callable[[int, str], Any]  # called with the number of settings just done, and "shard 3 of 8"


class Task(NamedTuple):
    """Settings of one program, to be computed and written together, and the name of their file but for its content."""

    name: str
    settings: pl.DataFrame


def run(
    sweep: Sweep,
    folder: Path | str,
    *,
    needed_in: Path | None = None,
    progress: Progress = lambda *_: None,
    notice: Notice = lambda _: None,
) -> pl.LazyFrame:
    """Compute what the folder lacks of a sweep, and read the sweep's table from it, in the order of its settings.

    If it is interrupted at any point, the next call continues from the complete shards. Settings that a file already
    holds, of this grid or of another, are not computed again.

    Args:
      needed_in: folder of the sweeps that this one needs, to share them with others (default: in the folder).
      progress: called with the number of settings just done, 0 while the settings that they need are computed.
      notice: called with a message about each file that is set aside.

    Raises:
      BadFolder: the folder is not this sweep's, or cannot be written to.
    """
    return results(sweep, _fill(sweep, Path(folder), needed_in, progress, notice))


def _fill(sweep: Sweep, folder: Path, needed_in: Path | None, progress: Progress, notice: Notice) -> Store:
    """Compute what the folder lacks of a sweep."""
    store = Store.create(folder, sweep)
    left = missing(sweep, store, notice)
    if left.size:
        with store.record() as record:
            run_here(left, store, record, needed_in=needed_in, progress=progress, notice=notice)
    return store


def run_here(
    left: Sweep,
    store: Store,
    record: dict[str, Any],
    *,
    needed_in: Path | None = None,
    progress: Progress = lambda *_: None,
    notice: Notice = lambda _: None,
) -> None:
    """Compute what is left of a sweep, after the sweep that it needs, and keep count in the record."""
    if left.experiment.needs:
        needed, folder = needed_sweep(left, store, needed_in)
        name = needed.experiment.name
        _fill(needed, folder, None, lambda _, shard: progress(0, f"{name}, {shard}"), notice)
    todo = tasks(left)
    shards = [(f"shard {number} of {len(todo)}", task) for number, task in enumerate(todo, start=1)]
    for wait in (False, True):  # tasks of other processes come last
        of_others = []
        for shard, task in shards:

            def report(count: int, shard: str = shard) -> None:
                progress(count, shard)

            done = compute(left, store, task, needed_in, report, wait=wait)
            record["settings"] += done or 0
            if done is None:
                of_others.append((shard, task))
        shards = of_others


def compute(
    sweep: Sweep,
    store: Store,
    task: Task,
    needed_in: Path | None = None,
    report: Callable[[int], Any] = lambda _: None,
    *,
    wait: bool = True,
) -> int | None:
    """Compute one task and write it.

    Returns:
      The number of settings computed: 0 if another process has written them; None if another is computing them. With
      `wait`, it waits for that process.
    """
    with store.claim(task.name, wait=wait) as mine:
        if not mine:
            return None
        if store.has(task.name):
            report(task.settings.height)
            return 0
        needed = _needed_rows(replace(sweep, settings=task.settings), store, needed_in)
        store.write(task.name, table(sweep.experiment, task.settings, needed, precision=sweep.precision, report=report))
        return task.settings.height


def tasks(sweep: Sweep) -> list[Task]:
    """A sweep cut into shards."""
    found = []
    for program in sweep.programs():
        code = code_of(sweep.experiment, program)[:12]
        for settings in program.iter_slices(sweep.shard_size):
            digest = hashlib.sha256(settings.write_csv().encode()).hexdigest()
            found.append(Task(f"{code}-{digest[:24]}", settings))
    return found


def code_of(experiment: Experiment, rows: pl.DataFrame) -> str:
    """Hash of the code that a program's settings depend on."""
    values = (rows[name][0] for name in experiment.compiled)
    return experiment.code(value for value in values if isinstance(value, str))


def missing(sweep: Sweep, store: Store, notice: Notice | None = None) -> Sweep:
    """What is left to compute: the settings that no file holds.

    Args:
      notice: called with a message when a file is set aside as damaged or of other code; without it no file is moved.
    """
    fields = list(sweep.experiment.fields)
    held = store.settings(_usable_files(sweep.experiment, store, notice))
    left = sweep.settings.lazy().join(held, on=fields, how="anti", maintain_order="left")
    return replace(sweep, settings=left.collect())


def results(sweep: Sweep, store: Store) -> pl.LazyFrame:
    """The table of exactly this sweep's settings, in their order.

    Raises:
      BadFolder: a setting is missing, or its file is damaged.
    """
    if lacking := missing(sweep, store).size:
        raise BadFolder(f"{store.folder} lacks {lacking} of {sweep.size} settings; run it again.")
    rows = store.table(_usable_files(sweep.experiment, store), of=sweep.settings)
    return sweep.settings.lazy().join(rows, on=sweep.settings.columns, how="left", maintain_order="left")


def _usable_files(experiment: Experiment, store: Store, notice: Notice | None = None) -> list[Path]:
    """The files that are intact and of the current code; with `notice`, all others are set aside."""
    whole, damaged = store.files()
    of_code = {path.name[:12]: path for path in whole}  # one is enough: they name the same losses
    today = {
        code for code, path in of_code.items() if code_of(experiment, pl.read_parquet(path, n_rows=1))[:12] == code
    }
    old = [path for path in whole if path.name[:12] not in today]
    if notice is not None:
        for path, why in [(path, "is damaged; its settings are computed anew") for path in damaged] + [
            (path, "was computed by other code; it is set aside") for path in old
        ]:
            notice(f"{path} {why}.")
            store.set_aside(path)
    return [path for path in whole if path not in old]


def needed_sweep(sweep: Sweep, store: Store, needed_in: Path | None) -> tuple[Sweep, Path]:
    """The sweep of another experiment that a sweep needs, and the folder for it."""
    needed = _needed_by_each(sweep)
    name = f"{needed.experiment.name}-{needed.precision}-{needed.experiment.code()[:12]}"
    once = replace(needed, settings=needed.settings.unique(maintain_order=True))
    return once, (needed_in or store.folder / "needed") / name


def _needed_by_each(sweep: Sweep) -> Sweep:
    """For each setting, the setting of the needed experiment; several may need the same."""
    experiment = sweep.experiment.needs
    assert experiment is not None
    settings = completed(experiment, sweep.experiment.needed(columns_of(sweep.settings)))
    return Sweep(experiment, settings, sweep.precision, experiment.shard)


def _needed_rows(sweep: Sweep, store: Store, needed_in: Path | None) -> dict[str, np.ndarray] | None:
    """Results of the needed experiment for each setting, by name: [settings, …]."""
    if sweep.experiment.needs is None:
        return None
    needed, (_, folder) = _needed_by_each(sweep), needed_sweep(sweep, store, needed_in)
    rows = results(needed, Store.open(folder)).drop(needed.settings.columns).collect()
    return {column.name: places(column, needed.experiment.names.get(column.name, ())) for column in rows}
