"""What `toymodel sweep` does, and says of it."""

import contextlib
import hashlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from toymodel._files import BadFolder, write_whole
from toymodel.commands._progress import progress_bar
from toymodel.sweep.grid import Sweep
from toymodel.sweep.runner import Task, missing, results, run_here, tasks
from toymodel.sweep.store import Store


def tell(inspect: Callable[[Path], tuple[list[str], bool]], folder: Path) -> int:
    """Print what an inspection says of a folder; returns the exit code."""
    with _usable(folder):
        lines, sound = inspect(folder)
    print("\n".join(lines))
    return 0 if sound else 1


def tell_plan(sweep: Sweep, out: Path | None) -> None:
    """What there is to do for a sweep."""
    with _usable(out):
        begun = out is not None and (out / "sweep.json").is_file()
        todo = missing(sweep, Store.create(out, sweep)) if out is not None and begun else list(tasks(sweep))
    left = sum(task.size for task in todo)
    already = f", {sweep.size - left:,} of them computed already" if left < sweep.size else ""
    print(f"settings  {sweep.size:,}{already}")
    print(f"files     {len(todo):,} of at most {sweep.shard_size:,} settings")
    print(f"programs  {len({task.program for task in todo}):,}")


def run_all(sweep: Sweep, config: Path, out: Path, *, resume: bool, scheduler: str | None = None) -> None:
    """Compute what is missing of a sweep, and say where it is."""
    with _usable(out):
        store = Store.create(out, sweep)
        if any(out.glob("table/*/*.parquet")) and not resume:
            raise BadFolder(f"{out} holds results already; add --resume to go on (nothing is computed twice).")
    again = f"toymodel sweep {config} --out {out} --resume"
    try:
        with _usable(out):
            todo = missing(sweep, store, _notice)
            computed = _compute(sweep, config, store, todo, scheduler) if todo else 0
            results(sweep, store)
    except KeyboardInterrupt:
        where = "The cluster goes on with what it has. " if scheduler else ""
        print(f"toymodel sweep: interrupted; every file is whole. {where}To go on:\n  {again}", file=sys.stderr)
        raise
    except ValueError as error:
        raise BadFolder(f"{error} Every file is whole; to go on: {again}") from error
    print(f"{sweep.size:,} settings are in {out} ({computed:,} computed now); read them with toymodel.sweep.read.")


def _compute(sweep: Sweep, config: Path, store: Store, todo: list[Task], scheduler: str | None) -> int:
    """Compute what is left; returns how many settings that were."""
    with store.record() as record, progress_bar(sum(task.size for task in todo)) as advance:
        content = config.read_bytes()  # kept with the results; workers read it there
        record["config"] = f"{hashlib.sha256(content).hexdigest()[:12]}.toml"
        saved = write_whole(store.folder / "configs" / record["config"], content)
        if scheduler:
            record["settings"] = _on_cluster(scheduler, sweep, store, saved, advance)
        else:
            run_here(sweep, store, todo, record, progress=advance, notice=_notice)
        return int(record["settings"])


def _on_cluster(scheduler: str, sweep: Sweep, store: Store, config: Path, advance: Any) -> int:
    try:
        from toymodel.sweep import cluster
    except ImportError:
        raise ValueError("a cluster needs the package `distributed`: pip install 'toymodel[cluster]'.") from None

    return cluster.run_on_cluster(sweep, store, config, scheduler, progress=advance, notice=_notice)


@contextlib.contextmanager
def _usable(folder: Path | None) -> Iterator[None]:
    """Say in one line that a file in the folder cannot be read or written."""
    try:
        yield
    except OSError as error:
        raise BadFolder(f"cannot use {error.filename or folder}: {error.strerror or error}.") from error


def _notice(message: str) -> None:
    print(f"toymodel sweep: {message}", file=sys.stderr)
