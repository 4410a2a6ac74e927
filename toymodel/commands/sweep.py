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

from toymodel.sweep import config, inspection
from toymodel.sweep.grid import Sweep
from toymodel.sweep.runner import Task, estimate, missing, results, run_here, tasks, writing
from toymodel.sweep.store import BadFolder, Store, write_whole

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
    parser.add_argument("--dry-run", action="store_true", help="say what it would take, and run nothing but a sample")
    parser.add_argument("--devices", type=int, metavar="N", help="CPU devices to share the work (default: all cores)")
    parser.add_argument("--scheduler", metavar="ADDRESS", help="of a Dask cluster that computes the shards")
    parser.add_argument("--workers", type=int, metavar="N", help="start a Dask cluster of N processes here, and use it")
    status = parser.add_argument("--status", type=Path, metavar="DIR", help="say how far a sweep has come")
    verify = parser.add_argument("--verify", type=Path, metavar="DIR", help="check every file of a sweep's folder")
    file.complete = shtab.FILE
    for folder in (out, status, verify):
        folder.complete = shtab.DIRECTORY
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the subcommand; returns the exit code."""
    for folder, tell in ((options.status, inspection.status), (options.verify, inspection.verify)):
        if folder is not None:
            lines, sound = tell(folder)
            print("\n".join(lines))
            return 0 if sound else 1
    if options.config is None:
        raise ValueError("give a CONFIG.toml, or --status DIR, or --verify DIR.")
    if not options.dry_run and options.out is None:
        raise ValueError("give --out DIR, the folder of the results (or --dry-run).")
    if options.scheduler and options.workers:
        raise ValueError("give --scheduler or --workers, not both.")
    if options.workers is not None and options.workers < 1:
        raise ValueError(f"--workers must be at least 1, got {options.workers}.")
    use_devices(options.devices)
    sweep = config.load(options.config)
    if options.dry_run:
        _tell_plan(sweep, options.out)
        return 0
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
    left = [Task(shard, None, shard.stop - shard.start) for shard in sweep.shards()]
    if out is not None and (out / "sweep.json").is_file():
        left = tasks(sweep, Store.create(out, sweep).state())
    found = estimate(sweep, left)
    todo = sum(task.size for task in left)
    already = f", {sweep.size - todo:,} of them computed already" if todo < sweep.size else ""
    print(f"settings      {sweep.size:,}{already}")
    print(f"shards        {len(left):,} of at most {sweep.shard_size:,} settings")
    print(f"compilations  {sweep.compilations:,}")
    print(f"bytes         about {_bytes(found.bytes)}")
    compiling, running = found.compile_seconds, found.run_seconds
    devices = len(jax.local_devices())
    print(f"time          about {_time(compiling + running)} on {devices} device(s): {_time(compiling)} to compile,")
    print(f"              {_time(running)} to run (from {found.timed} program(s) tried here)")


def _run_all(options: argparse.Namespace, sweep: Sweep) -> None:
    store = Store.create(options.out, sweep)
    if store.names() and not options.resume:
        raise BadFolder(f"{options.out} holds results already; add --resume to go on (nothing is computed twice).")
    again = f"toymodel sweep {options.config} --out {options.out} --resume"
    try:
        with writing(store) as record:
            saved = _save_config(options.config, store)
            record["config"] = saved.name
            left = missing(sweep, store, _notice)
            todo = sum(task.size for task in left)
            with progress_bar(todo) as advance:
                if options.scheduler or options.workers:
                    record["settings"] = _on_cluster(options, sweep, store, saved, advance)
                else:
                    run_here(sweep, store, left, record, advance)
    except KeyboardInterrupt:
        where = "The cluster goes on with what it has. " if options.scheduler else ""
        print(f"toymodel sweep: interrupted; every file is whole. {where}To go on:\n  {again}", file=sys.stderr)
        raise
    except BadFolder as error:
        raise BadFolder(f"{error} Every file is whole; to go on: {again}") from error
    rows = sweep.size
    results(sweep, store)
    print(f"{rows:,} settings are in {options.out} ({todo:,} computed now); read them with toymodel.sweep.read.")


def _save_config(path: Path, store: Store) -> Path:
    """The configuration, kept with the results; workers read it there."""
    content = path.read_bytes()
    return write_whole(store.folder / "configs" / f"{hashlib.sha256(content).hexdigest()[:12]}.toml", content)


def _on_cluster(options: argparse.Namespace, sweep: Sweep, store: Store, saved: Path, advance: Any) -> int:
    try:
        from toymodel.sweep import cluster
    except ImportError:
        raise ValueError("a cluster needs the package `distributed`: pip install 'toymodel[cluster]'.") from None

    try:
        with cluster.local(options.workers) if options.workers else contextlib.nullcontext(options.scheduler) as where:
            return cluster.run_on_cluster(sweep, store, saved, where, progress=advance, notice=_notice)
    except cluster.ClusterLost as error:
        raise BadFolder(str(error)) from error


def _notice(message: str) -> None:
    print(f"toymodel sweep: {message}", file=sys.stderr)


@contextlib.contextmanager
def progress_bar(total: int) -> Iterator[Any]:
    """A progress bar on a terminal; nothing elsewhere."""
    errors = Console(stderr=True)
    columns = (
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=errors, transient=True, disable=not errors.is_terminal) as bar:
        task = bar.add_task("", total=total, rate="")

        def advance(settings: int, shard: str) -> None:
            bar.update(task, advance=settings, description=shard)
            speed = bar.tasks[0].speed
            bar.update(task, rate=f"{speed:,.0f}/s" if speed else "")

        yield advance


def _bytes(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if count < 1000 or unit == "TB":
            break
        count /= 1000
    return f"{count:.3g} {unit}"


def _time(seconds: float) -> str:
    for limit, size, unit in ((120, 1, "s"), (7200, 60, "min"), (172800, 3600, "h")):
        if seconds < limit:
            return f"{seconds / size:.2g} {unit}"
    return f"{seconds / 86400:.2g} days"
