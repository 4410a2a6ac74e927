"""Sweeps on Dask clusters: in this process where nothing dies, else of separate processes, some of which do."""

import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import distributed
import pytest
import slow_experiment
from sweep_processes import environment, files, finish, start, wait_until, write_config

from toymodel import cli, sweep
from toymodel.sweep import BadFolder, cluster, config
from toymodel.sweep.runner import missing, tasks
from toymodel.sweep.store import Store


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Processes:
    """A scheduler and workers, each a process of its own."""

    def __init__(self, folder):
        self.port, self.folder, self.running = free_port(), folder, {}

    @property
    def file(self):
        """What the scheduler writes its address to."""
        return self.folder / "scheduler.json"

    @property
    def address(self):
        return f"tcp://127.0.0.1:{self.port}"

    def start(self, name, *arguments):
        module = f"distributed.cli.dask_{arguments[0]}"
        with (self.folder / f"{name}.log").open("a") as log:
            self.running[name] = subprocess.Popen(
                [sys.executable, "-m", module, *map(str, arguments[1:])],
                env=environment(),
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def start_scheduler(self):
        where = ("--host", "127.0.0.1", "--port", self.port, "--scheduler-file", self.file)
        self.start("scheduler", "scheduler", *where, "--no-dashboard", "--no-show")

    def start_worker(self, number):
        self.start(f"worker {number}", "worker", self.address, "--nthreads", 1, "--no-dashboard", "--no-nanny")

    def kill(self, name):
        process = self.running.pop(name)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def close(self):
        for name in list(self.running):
            self.kill(name)


@pytest.fixture
def processes(tmp_path):
    (tmp_path / "logs").mkdir()
    started = Processes(tmp_path / "logs")
    try:
        started.start_scheduler()
        yield started
    finally:
        started.close()


@pytest.fixture(scope="module")
def slow(tmp_path_factory):
    """A sweep of 80 shards that takes long enough to be disturbed, and the files that one process writes."""
    folder = tmp_path_factory.mktemp("slow")
    path = write_config(folder, seeds=80, shard_size=8, experiment="slow_experiment:SLOW")
    sweep.run(config.load(path), folder / "out")
    return path, files(folder / "out")


class Disturbance(threading.Thread):
    """What happens while a client in this process is at work, after that many files; and has happened when it ends."""

    def __init__(self, out, count, happens):
        super().__init__()
        self.out, self.count, self.happens, self.seen = out, count, happens, None

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.join()  # also where the client failed: what it starts must not outlive the test

    def run(self):
        wait_until(lambda: len(files(self.out)) >= self.count)
        self.happens()
        self.seen = len(files(self.out))


def test_client_and_worker_are_killed_and_the_cluster_ends_with_the_table_of_one_process(
    slow, processes, tmp_path, capsys
):
    (path, expected), out = slow, tmp_path / "out"
    for number in range(2):
        processes.start_worker(number)
    client = start(path, "--out", out, "--scheduler", processes.address)
    wait_until(lambda: len(files(out)) >= 5 or client.poll() is not None)
    assert client.poll() is None, finish(client)
    os.killpg(client.pid, signal.SIGKILL)
    finish(client)
    done = len(files(out))
    assert done < len(expected) - 30
    wait_until(lambda: len(files(out)) >= done + 10)  # no client is there
    with Disturbance(out, done + 15, lambda: processes.kill("worker 0")) as killing:
        assert cli.main(["sweep", str(path), "--out", str(out), "--scheduler", str(processes.file), "--resume"]) == 0
    assert killing.seen < len(expected)
    told = capsys.readouterr()
    assert told.err == ""
    assert "640 settings are in" in told.out
    assert files(out) == expected


def test_a_restarted_scheduler_is_found_again(slow, processes, tmp_path, capsys):
    (path, expected), out = slow, tmp_path / "out"
    processes.start_worker(0)

    def restart():
        processes.close()
        time.sleep(1)
        processes.start_scheduler()
        processes.start_worker(0)

    with Disturbance(out, 5, restart) as restarting:
        assert cli.main(["sweep", str(path), "--out", str(out), "--scheduler", processes.address]) == 0
    assert restarting.seen < len(expected)
    assert "waiting for it to come back" in capsys.readouterr().err
    assert files(out) == expected


@pytest.fixture
def here():
    """A cluster whose workers are threads of this process."""
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None
    ) as in_threads:
        yield in_threads


def test_what_an_experiment_needs_is_computed_on_the_cluster_as_well(here, tmp_path):
    path, out = write_config(tmp_path, seeds=20, shard_size=7, experiment="tiny_experiment:GROWN"), tmp_path / "out"
    wanted = config.load(path)
    alone = sweep.run(wanted, tmp_path / "alone").collect()
    store = Store.create(out, wanted)
    assert cluster.run_on_cluster(wanted, store, path, here) == 160
    assert files(out) == files(tmp_path / "alone")
    (needed,) = out.glob("needed/*")
    assert files(needed) == files(tmp_path / "alone" / "needed" / needed.name)
    assert json.loads((needed / "sweep.json").read_text())["experiment"] == "tiny"
    assert sweep.run(wanted, out).collect().equals(alone)


def test_a_worker_with_other_code_is_refused(here, tmp_path, monkeypatch, capsys):
    def other_code(path):
        found = config.load(path)
        return dataclasses.replace(
            found, experiment=dataclasses.replace(found.experiment, measure=slow_experiment.measure)
        )

    monkeypatch.setattr(cluster, "load", other_code)
    cluster._experiment.cache_clear()
    path, out = write_config(tmp_path, seeds=3), tmp_path / "out"
    assert cli.main(["sweep", str(path), "--out", str(out), "--scheduler", here.scheduler_address]) == 2
    told = capsys.readouterr().err
    assert "this worker's code or packages differ" in told
    assert told.count("\n") == 1
    assert not files(out)


def test_a_worker_that_cannot_use_the_folder_is_told(here, tmp_path, monkeypatch):
    path = write_config(tmp_path, seeds=3)
    wanted = config.load(path)
    store = Store.create(tmp_path / "out", wanted)

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied", "/far/away")

    monkeypatch.setattr(cluster, "compute", refuse)
    with pytest.raises(BadFolder, match=r"a worker cannot use .*out: .*Permission denied: '/far/away'"):
        cluster.run_on_cluster(wanted, store, path, here)
    monkeypatch.undo()
    task = tasks(missing(wanted, store))[0]
    with pytest.raises(BadFolder, match=r"this worker does not see .*nowhere"):
        cluster.compute_on_worker(str(tmp_path / "nowhere"), str(path), "tiny", "float64", task)


def test_without_a_scheduler_it_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(cluster, "FIRST_PATIENCE", 1)
    path, nowhere = write_config(tmp_path, seeds=3), f"tcp://127.0.0.1:{free_port()}"
    assert cli.main(["sweep", str(path), "--out", str(tmp_path / "out"), "--scheduler", nowhere]) == 2
    told = capsys.readouterr().err
    assert f"no scheduler answers at {nowhere}" in told
    assert told.count("\n") == 1
