"""`toymodel sweep`: a sweep from a shell."""

import contextlib
import hashlib
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from toymodel._files import BadFolder, write_whole
from toymodel._public import counted
from toymodel.commands._environment import use_devices
from toymodel.commands._progress import progress_bar

if TYPE_CHECKING:
    from toymodel.sweep import Sweep
    from toymodel.sweep.store import Store

Folder = Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="")]


def run(
    config: Positional[Annotated[Path | None, arg(metavar="CONFIG.toml", help_behavior_hint="")]] = None,
    *,
    out: Folder = None,
    resume: bool = False,
    dry_run: bool = False,
    devices: Annotated[int | None, arg(metavar="N", help_behavior_hint="(default: all cores)")] = None,
    scheduler: Annotated[str | None, arg(metavar="ADDRESS", help_behavior_hint="")] = None,
    status: Folder = None,
    verify: Folder = None,
) -> int:
    """Run an experiment for every setting of a grid, into a folder of Parquet files.

    for example:
      toymodel sweep examples/overlap.toml --dry-run
      toymodel sweep examples/overlap.toml --out results
      toymodel sweep examples/overlap.toml --out results --resume
      toymodel sweep --status results
      toymodel sweep --verify results

    Results are Parquet files; toymodel.sweep.read(DIR) is their table. See
    examples/README.md for configurations, and for experiments of your own.

    Args:
      config: experiment and settings
      out: a folder for the results
      resume: continue where a run stopped, or with a wider grid
      dry_run: say what there is to compute, and compute nothing
      devices: CPU devices to share the work
      scheduler: address of a Dask cluster that computes the shards
      status: say how far a sweep has come, and check its files
      verify: the same
    """
    if folder := status or verify:
        with _usable(folder):
            return _inspect(folder)
    if config is None:
        raise ValueError("give a CONFIG.toml, or --status DIR, or --verify DIR.")
    if not dry_run and out is None:
        raise ValueError("give --out DIR, a folder for the results (or --dry-run).")
    from toymodel.sweep.config import load

    use_devices(devices)
    sweep = load(config)
    with _usable(out):
        if dry_run or out is None:
            _tell_plan(sweep, out)
        else:
            _run(sweep, config, out, resume=resume, scheduler=scheduler)
    return 0


def _inspect(folder: Path) -> int:
    """Say what a folder holds, and whether every file has the bytes that its name promises."""
    from toymodel.sweep.store import Store

    store = Store.open(folder)
    whole, damaged = store.files()
    rows = store.settings(whole).unique().collect().height
    size = sum(path.stat().st_size for path in whole)
    print(f"{folder}: {store.identity['experiment']}, {store.identity['precision']}")
    print(f"{counted(rows, 'setting')} in {counted(len(whole), 'file')}, {size / 1e6:,.1f} MB, all intact")
    if record := store.last_run():
        end = f"ended {_to_the_second(record['ended'])}" if "ended" in record else "has not ended, or was stopped"
        print(f"last run: started {_to_the_second(record['started'])} on {record['host']}, {end}")
    for path in damaged:
        print(f"damaged: {path} (cut short or changed; --resume computes it again)")
    return 1 if damaged else 0


def _to_the_second(moment: str) -> str:
    return datetime.fromisoformat(moment).strftime("%Y-%m-%d %H:%M:%S %Z")


def _tell_plan(sweep: "Sweep", out: Path | None) -> None:
    """Say what a sweep has left to compute."""
    from toymodel.sweep.runner import missing, tasks
    from toymodel.sweep.store import Store

    begun = out is not None and (out / "sweep.json").is_file()
    left = missing(sweep, Store.create(out, sweep)) if out is not None and begun else sweep
    already = f", {sweep.size - left.size:,} of them already computed" if left.size < sweep.size else ""
    print(f"settings  {sweep.size:,}{already}")
    print(f"files     {len(tasks(left)):,} of at most {sweep.shard_size:,} settings")
    print(f"programs  {len(left.programs()):,}")


def _run(sweep: "Sweep", config: Path, out: Path, *, resume: bool, scheduler: str | None) -> None:
    """Compute what is missing of a sweep, and say where it is."""
    from toymodel.sweep.runner import missing, results
    from toymodel.sweep.store import Store

    store = Store.create(out, sweep)
    if any(out.glob("table/*.parquet")) and not resume:
        raise BadFolder(f"{out} already holds results; add --resume to continue (nothing is computed twice).")
    again = f"toymodel sweep {config} --out {out} --resume"
    try:
        left = missing(sweep, store, _notice)
        computed = _compute(left, config, store, scheduler) if left.size else 0
        results(sweep, store)
    except KeyboardInterrupt:
        where = "The cluster finishes what it has begun. " if scheduler else ""
        print(f"toymodel sweep: interrupted; every file is intact. {where}To continue:\n  {again}", file=sys.stderr)
        raise
    except ValueError as error:
        raise BadFolder(f"{error} Every file is intact; to continue: {again}") from error
    found = f"{counted(sweep.size, 'setting')} {'is' if sweep.size == 1 else 'are'} in {out}"
    print(f"{found} ({computed:,} computed now); read them with toymodel.sweep.read.")


def _compute(left: "Sweep", config: Path, store: "Store", scheduler: str | None) -> int:
    """Compute what is left of a sweep; returns how many settings that were."""
    from toymodel.sweep.runner import run_here

    with store.record() as record, progress_bar(left.size) as advance:
        content = config.read_bytes()  # kept with the results; workers read it there
        record["config"] = f"{hashlib.sha256(content).hexdigest()[:12]}.toml"
        saved = write_whole(store.folder / "configs" / record["config"], content)
        if scheduler is None:
            run_here(left, store, record, progress=advance, notice=_notice)
            return int(record["settings"])
        try:
            from toymodel.sweep import cluster
        except ImportError:
            raise ValueError("a cluster needs the package `distributed`: pip install 'toymodel[cluster]'.") from None
        record["settings"] = cluster.run_on_cluster(left, store, saved, scheduler, progress=advance, notice=_notice)
        return int(record["settings"])


@contextlib.contextmanager
def _usable(folder: Path | None) -> Iterator[None]:
    """Say in one line that a file in the folder cannot be read or written."""
    try:
        yield
    except OSError as error:
        raise BadFolder(f"cannot use {error.filename or folder}: {error.strerror or error}.") from error


def _notice(message: str) -> None:
    print(f"toymodel sweep: {message}", file=sys.stderr)
