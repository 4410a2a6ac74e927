"""Running a sweep in this process: the shards that are missing are computed one by one, and written one by one.

Several processes may run sweeps of one folder at once: each claims a shard before it computes it.
"""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from toymodel._files import BadFolder
from toymodel._public import own_names
from toymodel.experiments.experiment import Columns
from toymodel.sweep.grid import Sweep, needed_sweep
from toymodel.sweep.program import places, table
from toymodel.sweep.store import Notice, Store, address, program_name, refuse_damaged, scan

__dir__ = own_names(globals())

Progress = Callable[[int, str], Any]  # called with the number of settings just done, and "shard 3 of 8"


class Task(NamedTuple):
    """Settings to compute and to write together: a shard, or what of it is not there yet."""

    program: str
    code: str
    settings: Columns

    @property
    def size(self) -> int:
        """The number of settings."""
        return len(next(iter(self.settings.values())))

    @property
    def place(self) -> str:
        """Where its file lies, but for the hash of the content."""
        return f"{self.program}/{self.code[:12]}-{address(self.settings)}"


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
      progress: called with the number of settings just done, 0 while those that they need are computed.
      notice: told of files that are set aside.

    Raises:
      BadFolder: the folder is not this sweep's, or cannot be written to.
    """
    store = Store.create(Path(folder), sweep)
    if todo := missing(sweep, store, notice):
        with store.record() as record:
            run_here(sweep, store, todo, record, needed_in=needed_in, progress=progress, notice=notice)
    return results(sweep, store)


def run_here(
    sweep: Sweep,
    store: Store,
    todo: list[Task],
    record: dict[str, Any],
    *,
    needed_in: Path | None = None,
    progress: Progress = lambda *_: None,
    notice: Notice = lambda _: None,
) -> None:
    """Compute tasks, after what they need, and keep count in the record; what other processes are at comes last."""

    def run_first(needed: Sweep, at: Path) -> None:
        name = needed.experiment.name
        run(needed, at, progress=lambda _, shard: progress(0, f"{name}, {shard}"), notice=notice)

    run_needed(sweep, store, todo, needed_in, run_first)
    left = list(enumerate(todo, start=1))
    for wait in (False, True):
        of_others = []
        for number, task in left:
            report = partial(_report, progress, f"shard {number} of {len(todo)}")
            done = compute(sweep, store, task, needed_in, report, wait=wait)
            record["settings"] += done or 0
            of_others += [(number, task)] if done is None else []
        left = of_others


def _report(progress: Progress, shard: str, count: int) -> None:
    progress(count, shard)


def run_needed(
    sweep: Sweep, store: Store, todo: list[Task], needed_in: Path | None, run: Callable[[Sweep, Path], Any]
) -> None:
    """Have `run` compute what the tasks need of another experiment."""
    if sweep.experiment.needs:
        columns = {name: np.concatenate([task.settings[name] for task in todo]) for name in sweep.experiment.fields}
        needed, _ = needed_sweep(sweep, columns)
        run(needed, _needed_folder(needed, store, needed_in))


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
      The number of settings computed: 0 when another process has written them; None when one is at them. With `wait`,
      that one is waited for.
    """
    with store.claim(task.place, wait=wait) as mine:
        if not mine:
            return None
        if store.has(task.place):
            report(task.size)
            return 0
        needed = _needed_rows(sweep, store, task, needed_in) if sweep.experiment.needs else None
        store.write(
            task.place, table(sweep.experiment, task.settings, needed, precision=sweep.precision, report=report)
        )
        return task.size


def _needed_rows(sweep: Sweep, store: Store, task: Task, needed_in: Path | None) -> dict[str, np.ndarray]:
    """What the needed experiment gave for each setting of a task, by name: [settings, …]."""
    of_task, columns = needed_sweep(sweep, task.settings)
    rows = results(of_task, Store.open(_needed_folder(of_task, store, needed_in)))
    found = _in_order(pl.DataFrame(columns), rows).collect()
    names = of_task.experiment.names
    return {column.name: places(column.to_numpy(), names.get(column.name, ())) for column in found.drop(list(columns))}


def _needed_folder(needed: Sweep, store: Store, needed_in: Path | None) -> Path:
    name = f"{needed.experiment.name}-{needed.precision}-{needed.experiment.code()[:12]}"
    return (needed_in or store.folder / "needed") / name


def tasks(sweep: Sweep) -> Iterator[Task]:
    """Every shard of a sweep, in order."""
    for shard in sweep.shards():
        compiled = shard.program.compiled
        code = sweep.experiment.code(word for word in compiled.values() if isinstance(word, str))
        yield Task(program_name(compiled), code, sweep.settings(shard))


def missing(sweep: Sweep, store: Store, notice: Notice | None = None) -> list[Task]:
    """What is left to compute.

    Args:
      notice: told of each file that is damaged, or of other code, when it is set aside; without it nothing is moved.
    """
    fields = list(sweep.experiment.fields)
    files: dict[str, dict[str, Path]] = {}
    held: dict[str, pl.DataFrame] = {}
    found = []
    for task in tasks(sweep):
        if task.program not in files:
            files[task.program] = _sound_files(store, task, notice)
        whole = files[task.program]
        if task.place in whole:
            continue
        if whole and task.program not in held:  # a grid that was cut otherwise
            held[task.program] = scan(list(whole.values()), fields).select(fields).collect()
        settings = _without(held[task.program], task.settings) if whole else task.settings
        if len(settings[fields[0]]):
            found.append(task._replace(settings=settings))
    return found


def _sound_files(store: Store, task: Task, notice: Notice | None) -> dict[str, Path]:
    """The files of a task's program that are whole and of its code; with `notice`, all others are set aside."""
    whole, damaged = store.files(task.program)
    sound = {place: path for place, path in whole.items() if path.name.startswith(task.code[:12])}
    if notice is not None:
        for path in damaged:
            notice(f"{path} is damaged; its settings are computed anew.")
        for path in (old := [path for place, path in whole.items() if place not in sound]):
            notice(f"{path} was computed by other code; it is set aside.")
        for path in (*damaged, *old):
            store.set_aside(path)
    return sound


def results(sweep: Sweep, store: Store) -> pl.LazyFrame:
    """The table of exactly this sweep's settings, in their order.

    Raises:
      BadFolder: a file is damaged, or a setting is missing.
    """
    fields = list(sweep.experiment.fields)
    files: dict[str, dict[str, Path]] = {}
    in_order: list[Path | None] = []
    for task in tasks(sweep):
        if task.program not in files:
            files[task.program] = refuse_damaged(store.files(task.program, task.code))
        in_order.append(files[task.program].get(task.place))
    if all(in_order):
        return scan([path for path in in_order if path], fields)
    # The grid was cut otherwise: its settings are looked up.
    settings = pl.concat([pl.DataFrame(task.settings) for task in tasks(sweep)])
    whole = [path for of_program in files.values() for path in of_program.values()]
    held = scan(whole, fields) if whole else settings.lazy().clear()
    held = held.join(settings.lazy(), on=fields, how="semi").unique(fields, keep="first")
    if left := settings.lazy().join(held, on=fields, how="anti").collect().height:
        raise BadFolder(f"{store.folder} lacks {left} of {sweep.size} settings; run it again.")
    return _in_order(settings, held)


def _in_order(settings: pl.DataFrame, rows: pl.LazyFrame) -> pl.LazyFrame:
    """The rows of these settings."""
    return settings.lazy().join(rows, on=settings.columns, how="left", maintain_order="left")


def _without(held: pl.DataFrame, settings: Columns) -> Columns:
    """The settings that are not held."""
    wanted = pl.DataFrame(settings).with_row_index("row")
    rows = wanted.join(held, on=list(settings), how="anti")["row"].sort().to_numpy()
    return {name: column[rows] for name, column in settings.items()}
