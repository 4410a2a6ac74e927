"""What `toymodel sweep` does, and says of it."""

import contextlib
import hashlib
import sys
from pathlib import Path
from typing import Any

import jax

from toymodel.commands._progress import progress_bar
from toymodel.sweep.grid import Sweep
from toymodel.sweep.runner import Task, estimate, missing, results, run_here, tasks, writing
from toymodel.sweep.store import BadFolder, Store, write_whole


def tell_plan(sweep: Sweep, out: Path | None) -> None:
    """What the sweep would take, from a sample that is run."""
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


def run_all(
    sweep: Sweep, config: Path, out: Path, *, resume: bool, scheduler: str | None = None, workers: int | None = None
) -> None:
    """Compute what is missing of a sweep, and say where it is."""
    store = Store.create(out, sweep)
    if store.names() and not resume:
        raise BadFolder(f"{out} holds results already; add --resume to go on (nothing is computed twice).")
    again = f"toymodel sweep {config} --out {out} --resume"
    try:
        with writing(store) as record:
            saved = _save_config(config, store)
            record["config"] = saved.name
            left = missing(sweep, store, _notice)
            todo = sum(task.size for task in left)
            with progress_bar(todo) as advance:
                if scheduler or workers:
                    record["settings"] = _on_cluster(scheduler, workers, sweep, store, saved, advance)
                else:
                    run_here(sweep, store, left, record, advance)
    except KeyboardInterrupt:
        where = "The cluster goes on with what it has. " if scheduler else ""
        print(f"toymodel sweep: interrupted; every file is whole. {where}To go on:\n  {again}", file=sys.stderr)
        raise
    except BadFolder as error:
        raise BadFolder(f"{error} Every file is whole; to go on: {again}") from error
    rows = sweep.size
    results(sweep, store)
    print(f"{rows:,} settings are in {out} ({todo:,} computed now); read them with toymodel.sweep.read.")


def _save_config(path: Path, store: Store) -> Path:
    """The configuration, kept with the results; workers read it there."""
    content = path.read_bytes()
    return write_whole(store.folder / "configs" / f"{hashlib.sha256(content).hexdigest()[:12]}.toml", content)


def _on_cluster(
    scheduler: str | None, workers: int | None, sweep: Sweep, store: Store, saved: Path, advance: Any
) -> int:
    try:
        from toymodel.sweep import cluster
    except ImportError:
        raise ValueError("a cluster needs the package `distributed`: pip install 'toymodel[cluster]'.") from None

    try:
        with cluster.local(workers) if workers else contextlib.nullcontext(scheduler) as where:
            return cluster.run_on_cluster(sweep, store, saved, where, progress=advance, notice=_notice)
    except cluster.ClusterLost as error:
        raise BadFolder(str(error)) from error


def _notice(message: str) -> None:
    print(f"toymodel sweep: {message}", file=sys.stderr)


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
