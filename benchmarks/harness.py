"""What the benchmarks share: their options, how a ratio is told, and the second table on one core."""

import argparse
import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

Results = list[dict[str, Any]]  # one entry per contender and number of threads; the first is the one compared with


class Options(NamedTuple):
    """How a benchmark was called."""

    quick: bool
    one_core: bool
    cores: int
    json: Path | None


def start(description: str, quick: str) -> Options:
    """Read the command line, and settle the cores before JAX and torch start their threads."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help=quick)
    parser.add_argument("--one-core", action="store_true", help="the second table alone: everything on one core")
    parser.add_argument("--json", type=Path, metavar="FILE", help="append every round's times, a line for each model")
    args = parser.parse_args()
    if args.one_core:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    return Options(args.quick, args.one_core, len(os.sched_getaffinity(0)), args.json)


def configure(**settings: Any) -> None:
    """JAX on the CPU in float32, compiling everything anew, with these settings besides."""
    for name, value in {"platforms": "cpu", "enable_x64": False, "enable_compilation_cache": False, **settings}.items():
        jax.config.update(f"jax_{name}", value)  # type: ignore[no-untyped-call]


def introduce(options: Options, rounds: int) -> None:
    """The line above a table."""
    versions = f"Python {sys.version.split()[0]}, jax {jax.__version__}, torch {version('torch')}"
    print(f"\n{options.cores} of {os.cpu_count()} CPUs, {rounds} rounds; {versions}")


def claim(results: Results, result: dict[str, Any]) -> tuple[float, str]:
    """Median time, and how many times that of the first row it is: median over rounds [least, greatest].

    Only a contender's fastest number of threads has a ratio.
    """
    medians = [np.median(other["rounds_s"]) for other in results if other["contender"] == result["contender"]]
    median, ratios = float(np.median(result["rounds_s"])), np.divide(result["rounds_s"], results[0]["rounds_s"])
    told = f"{np.median(ratios):.3g} [{ratios.min():.3g}, {ratios.max():.3g}]"
    return median, told if median == min(medians) else "(slower setting)"


def save(options: Options, results: Results) -> None:
    """One more line in the file that was asked for."""
    if options.json:
        with options.json.open("a") as file:
            print(json.dumps(results), file=file)


def finish(options: Options, module: str) -> None:
    """The second table, in a process of its own."""
    if options.cores > 1:
        subprocess.run([sys.executable, "-m", module, *sys.argv[1:], "--one-core"], check=True)
