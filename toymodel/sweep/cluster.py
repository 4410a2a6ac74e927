"""Running a sweep on a Dask cluster: each missing shard is a task; the worker that computes it writes it.

Tasks are named by their settings, and the scheduler keeps them when the client leaves: a client that returns with the
same sweep attaches to the tasks still running, and finds the rest in the folder. All machines must see that folder.
"""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError
from functools import lru_cache
from pathlib import Path
from typing import Any

import distributed

from toymodel._files import BadFolder
from toymodel._public import own_names
from toymodel.experiments.experiment import Experiment
from toymodel.sweep.config import load
from toymodel.sweep.grid import Sweep
from toymodel.sweep.runner import Progress, Task, code_of, compute, missing, needed_sweep, tasks
from toymodel.sweep.store import Notice, Store

__dir__ = own_names(globals())

RETRIES = 3  # of a task that fails, or whose worker dies
FIRST_PATIENCE = 20  # seconds to wait for a scheduler at first
PATIENCE = 600  # seconds to wait for a lost scheduler
ONE_AT_A_TIME = threading.Lock()  # a worker's shards share its devices
LOST = (OSError, TimeoutError, CancelledError, distributed.CancelledError, distributed.comm.core.CommClosedError)


def run_on_cluster(
    sweep: Sweep,
    store: Store,
    config: Path,
    scheduler: str | Any,
    *,
    progress: Progress = lambda *_: None,
    notice: Notice = lambda _: None,
) -> int:
    """Have a cluster compute what the folder lacks; returns the number of settings computed.

    Args:
      config: the configuration of the sweep in the sweep's folder; workers read its experiment there.
      scheduler: an address, the `.json` file of a scheduler, or a `distributed` cluster.

    Raises:
      ValueError: the scheduler cannot be reached, or is lost.
      BadFolder: a worker cannot use the folder, or runs other code.
    """
    computed, wait = 0, FIRST_PATIENCE
    while (left := missing(sweep, store, notice)).size:
        if left.experiment.needs:
            needed, folder = needed_sweep(left, store, None)
            first = Store.create(folder, needed)
            run_on_cluster(needed, first, config, scheduler, notice=notice)
        todo = tasks(left)
        try:
            with _client(scheduler, wait) as client:
                for number, task in enumerate(_finished(client, sweep, store, config, todo), start=1):
                    progress(task.settings.height, f"shard {number} of {len(todo)}")
                    computed += task.settings.height
        except LOST as error:
            notice(f"lost the scheduler ({type(error).__name__}); waiting for it to come back")
            wait = PATIENCE
            time.sleep(1)
    return computed


def _finished(client: Any, sweep: Sweep, store: Store, config: Path, todo: list[Task]) -> Iterator[Task]:
    """Submit all tasks and yield each when it is done; they continue if this client ends."""
    folder, path, name = str(store.folder.resolve()), str(config.resolve()), sweep.experiment.name
    futures = {}
    for task in todo:
        call = (compute_on_worker, folder, path, name, sweep.precision, task)
        future = client.submit(*call, key=f"toymodel-{task.name}", retries=RETRIES, pure=False)
        distributed.fire_and_forget(future)
        futures[future] = task
    for future in distributed.as_completed(futures):
        # Not `result`, which would ask the worker for it, and the worker may be gone: what counts is in the folder.
        if future.status == "error":
            error = future.exception()
            if isinstance(error, OSError):  # the worker's, not the connection's
                raise BadFolder(f"a worker cannot use {folder}: {error}.") from error
            raise error
        if future.status != "finished":
            raise CancelledError(future.key)
        yield futures.pop(future)


def _client(scheduler: Any, patience: int) -> distributed.Client:
    """A client of the scheduler, as soon as it answers."""
    until = time.monotonic() + patience
    while True:
        try:
            where = {"scheduler_file": scheduler} if str(scheduler).endswith(".json") else {"address": scheduler}
            return distributed.Client(**where, timeout=min(10, patience))
        except (OSError, TimeoutError) as error:
            if time.monotonic() > until:
                raise ValueError(f"no scheduler answers at {scheduler}; start one, or check the address.") from error
            time.sleep(1)


def compute_on_worker(folder: str, config: str, name: str, precision: str, task: Task) -> None:
    """Compute one task on this worker and write it to the folder.

    Raises:
      BadFolder: this worker does not see the folder, or has other code.
    """
    where = Path(folder)
    if not (where / "sweep.json").is_file():
        raise BadFolder(f"this worker does not see {folder}: all workers need the folder under the same name.")
    experiment = _experiment(config, name)
    if not task.name.startswith(code_of(experiment, task.settings)[:12]):
        raise BadFolder("this worker's code or packages differ from the client's; install the same on all.")
    with ONE_AT_A_TIME:
        compute(Sweep(experiment, task.settings, precision), Store.open(where), task)


@lru_cache(maxsize=4)
def _experiment(config: str, name: str) -> Experiment:
    """The experiment of a configuration, or the experiment of this name that it needs."""
    experiment = load(config).experiment
    while experiment.name != name and experiment.needs is not None:
        experiment = experiment.needs
    return experiment
