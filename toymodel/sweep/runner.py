"""Running a sweep in this process: the shards that are missing are computed one by one, and written one by one.

Several processes may run sweeps of one folder at once: each claims a shard before it computes it.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from toymodel._files import BadFolder
from toymodel.experiments.experiment import Columns
from toymodel.sweep.grid import Sweep, needed_sweep
from toymodel.sweep.program import Report, table
from toymodel.sweep.store import Notice, Store, program_name, refuse

Progress = Callable[[int, str], Any]  # called with the number of settings just done, and "shard 3 of 8"


class Task(NamedTuple):
    """What of a shard is not there yet."""

    program: str
    code: str
    settings: Columns

    @property
    def size(self) -> int:
        """The number of settings."""
        return len(next(iter(self.settings.values())))


def run(
    sweep: Sweep,
    folder: Path | str,
    *,
    needed_in: Path | None = None,
    progress: Progress = lambda *_: None,
    notice: Notice = lambda _: None,
) -> pl.LazyFrame:
    """Compute what the folder lacks of a sweep, and read the sweep's table from it, in the order of its settings.

    Interrupted at any point, by whatever means, it goes on from the shards that are whole when it is called again.
    Settings that a file holds already, of this grid or of another, are not computed again.

    Args:
      needed_in: where the sweeps lie that this one needs, to be shared with others (default: in the folder).
      notice: told of files that are set aside.

    Raises:
      BadFolder: the folder is not this sweep's, or cannot be written to.
    """
    store = Store.create(Path(folder), sweep)
    todo = missing(sweep, store, notice)
    run_needed(sweep, store, todo, needed_in, lambda needed, at: run(needed, at, notice=notice, progress=progress))
    with store.record() as record:
        run_here(sweep, store, todo, needed_in, record, progress)
    return results(sweep, store)


def run_needed(
    sweep: Sweep, store: Store, todo: list[Task], needed_in: Path | None, run: Callable[[Sweep, Path], Any]
) -> None:
    """Have `run` compute what the tasks need of another experiment."""
    if todo and sweep.experiment.needs:
        columns = {name: np.concatenate([task.settings[name] for task in todo]) for name in sweep.experiment.fields}
        needed = needed_sweep(sweep, columns)
        run(needed, _needed_folder(needed, store, needed_in))


def run_here(
    sweep: Sweep,
    store: Store,
    todo: list[Task],
    needed_in: Path | None,
    record: dict[str, Any],
    progress: Progress = lambda *_: None,
) -> None:
    """Compute tasks one after the other, keeping count in the record of the run; what others compute comes last."""
    left, wait = list(enumerate(todo, start=1)), False
    while left:
        of_others = []
        for number, task in left:
            report = partial(_report, progress, f"shard {number} of {len(todo)}")
            with store.claim(task.settings, wait=wait) as mine:
                if not mine:
                    of_others.append((number, task))
                elif store.has(task.program, task.code, task.settings):  # another process was quicker
                    report(task.size)
                else:
                    compute(sweep, store, task, needed_in, report)
                    record["settings"] += task.size
        left, wait = of_others, True


def _report(progress: Progress, shard: str, count: int) -> None:
    progress(count, shard)


def missing(sweep: Sweep, store: Store, notice: Notice = lambda _: None) -> list[Task]:
    """What is left to compute. Files that are damaged, or of other code, are set aside first; `notice` is told."""
    found = []
    held: dict[str, pl.DataFrame | None] = {}
    for shard in sweep.shards():
        name, code = program_name(shard.program), sweep.experiment.code(_words(shard.program.compiled))
        if name not in held:
            whole, damaged = store.files(name)
            for path in damaged:
                notice(f"{path} is damaged; its settings are computed anew.")
            old = [path for path in whole if not path.name.startswith(code[:12])]
            for path in old:
                notice(f"{path} was computed by other code; it is set aside.")
            for path in (*damaged, *old):
                store.set_aside(path)
            files = [path for path in whole if path not in old]
            fields = list(sweep.experiment.fields)
            held[name] = pl.scan_parquet(files, glob=False).select(fields).unique().collect() if files else None
        settings = _without(held[name], sweep.settings(shard))
        if len(next(iter(settings.values()))):
            found.append(Task(name, code, settings))
    return found


def compute(
    sweep: Sweep, store: Store, task: Task, needed_in: Path | None = None, report: Report = lambda _: None
) -> Path:
    """Compute one task and write it."""
    needed = None
    if sweep.experiment.needs:
        of_task = needed_sweep(sweep, task.settings)
        rows = results(of_task, Store.open(_needed_folder(of_task, store, needed_in)))
        fields = list(of_task.experiment.fields)
        wanted = {name: sweep.experiment.needed(task.settings)[name] for name in fields}
        joined = _joined(pl.DataFrame(wanted), rows).collect()
        needed = {column.name: column.to_numpy() for column in joined.drop(fields)}
    rows = table(sweep.experiment, task.settings, needed, precision=sweep.precision, report=report)
    return store.write(task.program, task.code, task.settings, rows)


def results(sweep: Sweep, store: Store) -> pl.LazyFrame:
    """The table of exactly this sweep's settings, in their order.

    Raises:
      BadFolder: a file is damaged, or a setting is missing.
    """
    files = []
    for name, code in {
        program_name(program): sweep.experiment.code(_words(program.compiled)) for program in sweep.programs
    }.items():
        whole, damaged = store.files(name, code[:12])
        refuse(damaged)
        files += whole
    settings = pl.concat([pl.DataFrame(sweep.settings(shard)) for shard in sweep.shards()])
    found = pl.scan_parquet(files, glob=False).unique(settings.columns, keep="first") if files else None
    if found is None:
        raise BadFolder(f"{store.folder} lacks all of {sweep.size} settings; run it again.")
    left = settings.lazy().join(found.select(settings.columns), on=settings.columns, how="anti").collect().height
    if left:
        raise BadFolder(f"{store.folder} lacks {left} of {sweep.size} settings; run it again.")
    return _joined(settings, found)


def _joined(settings: pl.DataFrame, found: pl.LazyFrame) -> pl.LazyFrame:
    return settings.lazy().join(found, on=settings.columns, how="left", maintain_order="left")


def _without(held: pl.DataFrame | None, settings: Columns) -> Columns:
    """The settings that are not held."""
    if held is None:
        return settings
    wanted = pl.DataFrame(settings).with_row_index("row")
    rows = wanted.join(held, on=list(settings), how="anti")["row"].sort().to_numpy()
    return {name: column[rows] for name, column in settings.items()}


def _words(compiled: dict[str, Any]) -> tuple[str, ...]:
    return tuple(value for value in compiled.values() if isinstance(value, str))


def _needed_folder(needed: Sweep, store: Store, needed_in: Path | None) -> Path:
    return (needed_in or store.folder / "needed") / f"{needed.experiment.name}-{needed.experiment.code()[:12]}"
