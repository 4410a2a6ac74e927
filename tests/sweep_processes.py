"""Sweeps as processes of their own, for tests that kill them."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
GRID = """experiment = "{experiment}"
shard_size = {shard_size}
[settings]
size = [2, 3]
operation = ["sine", "square"]
scale = [0.5, 2.0]
seed = {{ range = {seeds} }}
"""


def write_config(folder, *, seeds, shard_size=40, experiment="tiny_experiment:TINY"):
    path = folder / "config.toml"
    path.write_text(GRID.format(experiment=experiment, seeds=seeds, shard_size=shard_size))
    return path


def environment(**more):
    paths = os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "PYTHONPATH": paths, "JAX_PLATFORMS": "cpu", **more}


def start(*arguments, **more):
    """`toymodel sweep` with these arguments, running."""
    command = [sys.executable, "-m", "toymodel.cli", "sweep", *map(str, arguments)]
    return subprocess.Popen(
        command,
        env=environment(**more),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finish(process, timeout=300):
    """(exit code, stdout, stderr)"""
    out, err = process.communicate(timeout=timeout)
    return process.returncode, out, err


def computed(folder):
    """How many settings each run computed, in the order in which they began."""
    return [json.loads(path.read_text())["settings"] for path in sorted(folder.glob("runs/*.json"))]


def wait_until(condition, seconds=90):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


def files(folder):
    """Every file of a table: its name says what it holds, so equal sets of names are equal tables, bit for bit."""
    return {path.relative_to(folder).as_posix() for path in folder.glob("table/*.parquet")}
