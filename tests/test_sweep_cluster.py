"""Sweeps on real Dask clusters of separate processes, some of which die."""

import os
import signal
import socket
import subprocess
import sys
import time

import distributed
import pytest
from sweep_processes import environment, files, finish, start, write_config

WORKERS = 3


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Cluster:
    """A scheduler and workers, each a process of its own."""

    def __init__(self, folder):
        self.port, self.folder, self.processes = free_port(), folder, {}

    @property
    def file(self):
        """What the scheduler writes its address to."""
        return self.folder / "scheduler.json"

    @property
    def address(self):
        return f"tcp://127.0.0.1:{self.port}"

    def start(self, name, *arguments, **more):
        module = f"distributed.cli.dask_{arguments[0]}"
        with (self.folder / f"{name}.log").open("a") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-m", module, *map(str, arguments[1:])],
                env=environment(**more),
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def start_scheduler(self):
        where = ("--host", "127.0.0.1", "--port", self.port, "--scheduler-file", self.file)
        self.start("scheduler", "scheduler", *where, "--no-dashboard", "--no-show")

    def start_worker(self, number, **more):
        self.start(f"worker {number}", "worker", self.address, "--nthreads", 1, "--no-dashboard", "--no-nanny", **more)

    def kill(self, name):
        process = self.processes.pop(name)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def close(self):
        for name in list(self.processes):
            self.kill(name)


@pytest.fixture
def cluster(tmp_path):
    (tmp_path / "logs").mkdir()
    cluster = Cluster(tmp_path / "logs")
    try:
        cluster.start_scheduler()
        yield cluster
    finally:
        cluster.close()


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The files that one process writes: (configuration, names)."""
    folder = tmp_path_factory.mktemp("alone")
    path = write_config(folder, seeds=100)
    assert finish(start(path, "--out", folder / "out", "--devices", 1))[0] == 0
    return path, files(folder / "out")


def wait_until(condition, seconds=90):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_three_workers_write_the_table_of_one_process(alone, cluster, tmp_path):
    path, expected = alone
    for number in range(WORKERS):
        cluster.start_worker(number)
    with distributed.Client(cluster.address, timeout=60) as client:
        client.wait_for_workers(WORKERS, timeout=60)
    out = tmp_path / "out"
    code, _, err = finish(start(path, "--out", out, "--scheduler", cluster.file))
    assert (code, err) == (0, "")
    assert files(out) == expected


@pytest.fixture(scope="module")
def slow(tmp_path_factory):
    """A sweep of 80 shards that takes long enough to be disturbed."""
    folder = tmp_path_factory.mktemp("slow")
    path = write_config(folder, seeds=80, shard_size=8, experiment="slow_experiment:SLOW")
    assert finish(start(path, "--out", folder / "out", "--devices", 1))[0] == 0
    return path, files(folder / "out")


def begun(cluster, slow, tmp_path, workers=2):
    """A sweep on the cluster of which a few shards are done."""
    path, expected = slow
    for number in range(workers):
        cluster.start_worker(number)
    client = start(path, "--out", tmp_path / "out", "--scheduler", cluster.address)
    wait_until(lambda: len(files(tmp_path / "out")) >= 5 or client.poll() is not None)
    assert client.poll() is None, finish(client)
    assert len(files(tmp_path / "out")) < len(expected) - 5
    return client, tmp_path / "out", expected


def test_a_killed_worker_costs_nothing_but_its_shard(slow, cluster, tmp_path):
    client, out, expected = begun(cluster, slow, tmp_path)
    cluster.kill("worker 0")
    cluster.start_worker(2)
    code, _, err = finish(client)
    assert (code, err) == (0, "")
    assert files(out) == expected


def test_a_restarted_scheduler_is_found_again(slow, cluster, tmp_path):
    client, out, expected = begun(cluster, slow, tmp_path)
    cluster.close()
    assert len(files(out)) < len(expected)
    time.sleep(1)
    cluster.start_scheduler()
    cluster.start_worker(0)
    code, _, err = finish(client)
    assert code == 0, err
    assert "waiting for it to come back" in err
    assert files(out) == expected


def test_a_client_that_goes_leaves_the_cluster_at_work_and_can_come_back(slow, cluster, tmp_path):
    client, out, expected = begun(cluster, slow, tmp_path)
    os.killpg(client.pid, signal.SIGKILL)
    finish(client)
    done = len(files(out))
    wait_until(lambda: len(files(out)) >= done + 10)  # no client is there
    code, stdout, err = finish(start(slow[0], "--out", out, "--scheduler", cluster.address, "--resume"))
    assert (code, err) == (0, "")
    assert "640 settings are in" in stdout
    assert files(out) == expected


def test_without_a_scheduler_it_says_so(alone, tmp_path):
    code, _, err = finish(start(alone[0], "--out", tmp_path / "out", "--scheduler", f"tcp://127.0.0.1:{free_port()}"))
    assert code == 2
    assert "no scheduler answers at tcp://127.0.0.1" in err
    assert "Traceback" not in err


def test_a_worker_with_other_code_is_refused(alone, cluster, tmp_path):
    cluster.start_worker(0)
    with distributed.Client(cluster.address, timeout=60) as client:
        client.wait_for_workers(1, timeout=60)
        client.run(exec, "import toymodel.experiments.experiment as e; e._code = lambda _: 'other'")
    code, _, err = finish(start(alone[0], "--out", tmp_path / "out", "--scheduler", cluster.address))
    assert code == 2
    assert "this worker has other code or other packages" in err
    assert err.count("\n") == 1


def test_a_local_cluster_is_started_on_request(alone, tmp_path):
    path, expected = alone
    code, _, err = finish(start(path, "--out", tmp_path / "out", "--workers", 2))
    assert (code, err) == (0, "")
    assert files(tmp_path / "out") == expected
