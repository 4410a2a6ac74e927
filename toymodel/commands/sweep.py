"""`toymodel sweep`: a sweep from a shell."""

import argparse
import contextlib
import hashlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import shtab
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from toymodel._files import BadFolder, write_whole
from toymodel.sweep import config, inspection
from toymodel.sweep.grid import Sweep
from toymodel.sweep.runner import Task, missing, results, run_here, tasks
from toymodel.sweep.store import Store

EPILOG = """examples:
  toymodel sweep examples/overlap.toml --dry-run
  toymodel sweep examples/overlap.toml --out results
  toymodel sweep examples/overlap.toml --out results --resume
  toymodel sweep --status results
  toymodel sweep --verify results

Results are Parquet files; toymodel.sweep.read(DIR) is their table. See
examples/README.md for configurations, and for experiments of your own."""


def add_parser(commands: Any) -> None:
    """Add `sweep` to the subcommands."""
    parser = commands.add_parser(
        "sweep",
        help="an experiment over a grid of settings, as one table",
        description="Run an experiment for every setting of a grid, into a folder of Parquet files.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    file = parser.add_argument("config", nargs="?", type=Path, metavar="CONFIG.toml", help="experiment and settings")
    out = parser.add_argument("--out", type=Path, metavar="DIR", help="the folder of the results")
    parser.add_argument("--resume", action="store_true", help="go on where a run stopped, or with a wider grid")
    parser.add_argument("--dry-run", action="store_true", help="say what there is to do, and do nothing")
    parser.add_argument("--devices", type=int, metavar="N", help="CPU devices to share the work (default: all cores)")
    parser.add_argument("--scheduler", metavar="ADDRESS", help="of a Dask cluster that computes the shards")
    status = parser.add_argument("--status", type=Path, metavar="DIR", help="say how far a sweep has come")
    verify = parser.add_argument("--verify", type=Path, metavar="DIR", help="check every file of a sweep's folder")
    file.complete = shtab.FILE
    for folder in (out, status, verify):
        folder.complete = shtab.DIRECTORY
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the subcommand; returns the exit code."""
    try:
        return _run(options)
    except OSError as error:
        raise BadFolder(f"cannot use {error.filename or options.out}: {error.strerror or error}.") from error


def _run(options: argparse.Namespace) -> int:
    for folder, tell in ((options.status, inspection.status), (options.verify, inspection.verify)):
        if folder is not None:
            lines, sound = tell(folder)
            print("\n".join(lines))
            return 0 if sound else 1
    if options.config is None:
        raise ValueError("give a CONFIG.toml, or --status DIR, or --verify DIR.")
    if not options.dry_run and options.out is None:
        raise ValueError("give --out DIR, the folder of the results (or --dry-run).")
    use_devices(options.devices)
    sweep = config.load(options.config)
    if options.dry_run:
        _tell_plan(sweep, options.out)
    else:
        _run_all(options, sweep)
    return 0


def use_devices(count: int | None) -> None:
    """As many CPU devices as there are cores, unless this or the environment says otherwise."""
    if count is not None and count < 1:
        raise ValueError(f"--devices must be at least 1, got {count}.")
    if count is None and ("JAX_NUM_CPU_DEVICES" in os.environ or "device_count" in os.environ.get("XLA_FLAGS", "")):
        return
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    with contextlib.suppress(RuntimeError):  # jax has begun already, in a process that is not only ours
        jax.config.update("jax_num_cpu_devices", count or cores or 1)  # type: ignore[no-untyped-call]


def _tell_plan(sweep: Sweep, out: Path | None) -> None:
    begun = out is not None and (out / "sweep.json").is_file()
    todo = missing(sweep, Store.create(out, sweep)) if out is not None and begun else list(tasks(sweep))
    left = sum(task.size for task in todo)
    already = f", {sweep.size - left:,} of them computed already" if left < sweep.size else ""
    print(f"settings  {sweep.size:,}{already}")
    print(f"files     {len(todo):,} of at most {sweep.shard_size:,} settings")
    print(f"programs  {len({task.program for task in todo}):,}")


def _run_all(options: argparse.Namespace, sweep: Sweep) -> None:
    store = Store.create(options.out, sweep)
    if any(options.out.glob("table/*/*.parquet")) and not options.resume:
        raise BadFolder(f"{options.out} holds results already; add --resume to go on (nothing is computed twice).")
    again = f"toymodel sweep {options.config} --out {options.out} --resume"
    try:
        computed = _compute(options, sweep, store, missing(sweep, store, _notice))
    except KeyboardInterrupt:
        where = "The cluster goes on with what it has. " if options.scheduler else ""
        print(f"toymodel sweep: interrupted; every file is whole. {where}To go on:\n  {again}", file=sys.stderr)
        raise
    except (ValueError, OSError) as error:
        raise BadFolder(f"{error} Every file is whole; to go on: {again}") from error
    results(sweep, store)
    print(
        f"{sweep.size:,} settings are in {options.out} ({computed:,} computed now); read them with toymodel.sweep.read."
    )


def _compute(options: argparse.Namespace, sweep: Sweep, store: Store, todo: list[Task]) -> int:
    """Compute what is left, and say how many settings that were."""
    with store.record() as record, progress_bar(sum(task.size for task in todo)) as advance:
        content = options.config.read_bytes()  # kept with the results; workers read it there
        record["config"] = f"{hashlib.sha256(content).hexdigest()[:12]}.toml"
        saved = write_whole(store.folder / "configs" / record["config"], content)
        if options.scheduler:
            record["settings"] = _on_cluster(options.scheduler, sweep, store, saved, advance)
        else:
            run_here(sweep, store, todo, record, progress=advance, notice=_notice)
        return int(record["settings"])


def _on_cluster(scheduler: str, sweep: Sweep, store: Store, config: Path, advance: Any) -> int:
    try:
        from toymodel.sweep import cluster
    except ImportError:
        raise ValueError("a cluster needs the package `distributed`: pip install 'toymodel[cluster]'.") from None

    return cluster.run_on_cluster(sweep, store, config, scheduler, progress=advance, notice=_notice)


def _notice(message: str) -> None:
    print(f"toymodel sweep: {message}", file=sys.stderr)


@contextlib.contextmanager
def progress_bar(total: int) -> Iterator[Any]:
    """A progress bar on a terminal; nothing elsewhere."""
    errors = Console(stderr=True)
    columns = (BarColumn(20), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=errors, transient=True, disable=not errors.is_terminal) as bar:
        task = bar.add_task("", total=total)
        yield lambda settings, shard: bar.update(task, advance=settings, description=shard)
