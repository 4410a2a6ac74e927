"""Makes the figures that are missing or out of date. `make figures` runs this; so does `python figures/build.py`.

Every figures/fig_*.py gives a .pdf, a .png, the .csv behind them and a .json that says what they were made from. A
figure is up to date if its .json holds the hash of the code that it runs, of its settings and of the installed
packages; that check imports neither jax nor matplotlib, so it takes no time. The figures of the paper come first.
"""

import argparse
import ast
import functools
import importlib
import json
import multiprocessing
import os
import platform
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from importlib.metadata import version
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parent
STORED = FOLDER / "real"  # tables of runs that a build does not repeat
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))
from toymodel.experiments.code import dependencies, hash_of  # noqa: E402 (imports no jax)

OUTPUTS = (".pdf", ".png", ".csv", ".json")
PACKAGES = ("jax", "jaxlib", "matplotlib", "numpy", "optax", "polars")
OPTIMISATION = "xla_backend_optimization_level"
ENVIRONMENT = {
    "JAX_ENABLE_X64": "1",  # theory and measurement agree to the round-off of float64
    "TF_CPP_MIN_LOG_LEVEL": "3",  # the compiler tells users nothing that they can use
}


class BadInput(Exception):
    """An error that the caller can correct: reported in one line, without a traceback."""


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        _run(options.only, options.paper, options.quick, options.gallery, options.out, options.jobs)
    except BadInput as error:
        print(f"build.py: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Interrupted: every file that was written is whole; the next run makes the rest.", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="build.py", description="Make the figures that are missing or out of date.")
    parser.add_argument("--quick", action="store_true", help="fewer points, for a fast check")
    parser.add_argument("--paper", action="store_true", help="the figures of the paper alone")
    parser.add_argument("--gallery", action="store_true", help="also write figures/gallery and figures/README.md")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="this figure; may be repeated")
    parser.add_argument("--out", type=Path, default=FOLDER / "out", metavar="DIR", help="default: figures/out")
    parser.add_argument("--jobs", type=int, default=_cores(), metavar="N", help="processes (default: one a core)")
    return parser


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _run(only: list[str], paper: bool, quick: bool, gallery: bool, out: Path, jobs: int) -> None:
    if gallery and (quick or only or paper):
        raise BadInput("--gallery shows every figure in full; leave out --quick, --paper and --only.")
    if paper and only:
        raise BadInput("--paper and --only name figures twice; leave one out.")
    if jobs < 1:
        raise BadInput(f"--jobs must be at least 1, got {jobs}.")
    names = _names(only, paper)
    # Hashed before anything is imported: an edit during the build makes its figures stale, not wrongly up to date.
    hashes = {name: _content_hash(name, quick) for name in names}
    stale = {name: content for name, content in hashes.items() if not _up_to_date(name, content, out)}
    if stale:
        _prepare(out)
        _make_all(stale, quick, out, jobs)
    figures = "1 figure is" if len(names) == 1 else f"{len(names)} figures are"
    print(f"{figures} {'now' if stale else 'up to date'} in {_shown(out)}.")
    if gallery:
        _write_gallery(sorted(names), out)


def _names(only: list[str], paper: bool) -> list[str]:
    """The figures to make, those of the paper first."""
    of_paper = {path.stem: _of_paper(path) for path in sorted(FOLDER.glob("fig_*.py"))}
    known = sorted(of_paper, key=lambda name: (of_paper[name] == "", of_paper[name], name))
    wanted = [f"fig_{name.removeprefix('fig_')}" for name in only]
    for name, given in zip(wanted, only, strict=True):
        if name not in known:
            raise BadInput(f"there is no figure {given!r}; there are {', '.join(sorted(known))}.")
    return wanted or [name for name in known if of_paper[name] or not paper]


def _of_paper(path: Path) -> str:
    """Which figure of the paper a module makes: its `PAPER`."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "PAPER":
            return str(ast.literal_eval(node.value))
    return ""


def _prepare(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=out).close()  # found out before the computation, not after it
    except OSError as error:
        raise BadInput(f"cannot write to {out}: {error.strerror}.") from error


def _up_to_date(name: str, content_hash: str, out: Path) -> bool:
    files = [out / f"{name}{suffix}" for suffix in OUTPUTS]
    return all(file.is_file() for file in files) and content_hash.encode() in files[-1].read_bytes()


def _content_hash(name: str, quick: bool) -> str:
    """Hash of all that decides what a figure shows: the code it runs, its settings, the installed packages."""
    sources = dependencies(FOLDER / f"{name}.py", FOLDER / "style.py")
    kept = sorted(STORED.glob("*.csv")) if FOLDER / "real_runs.py" in sources else []
    also = json.dumps([quick, _versions(), *(path.read_text(encoding="utf-8") for path in kept)])
    return hash_of(sources, also=also, whole_catalogue=True)


def _versions() -> dict[str, str]:
    return {package: version(package) for package in PACKAGES}


def _make_all(hashes: dict[str, str], quick: bool, out: Path, jobs: int) -> None:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    terminal = sys.stdout.isatty()
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("left:"), TimeRemainingColumn())
    with Progress(*columns, TextColumn("{task.description}"), disable=not terminal, speed_estimate_period=600) as bar:
        task = bar.add_task("", total=len(hashes))
        made = _made_here if min(jobs, len(hashes)) == 1 else functools.partial(_made_beside, jobs)
        for number, name in enumerate(made(hashes, quick, out), start=1):
            bar.update(task, advance=1, description=name)
            if not terminal:
                print(f"[{number}/{len(hashes)}] {name}", flush=True)
        bar.update(task, description="")


def _made_here(hashes: dict[str, str], quick: bool, out: Path) -> Iterator[str]:
    """Make figures in this process, and name each when it is done."""
    _set_environment(devices=_cores())
    for name, content_hash in hashes.items():
        yield _make(name, content_hash, quick, out)


def _made_beside(jobs: int, hashes: dict[str, str], quick: bool, out: Path) -> Iterator[str]:
    """Make figures in separate processes, one device each; they share the sweeps that several figures need.

    A process that finds no figure left helps with the sweeps of the others.
    """
    spawn = multiprocessing.get_context("spawn")
    os.environ.setdefault("MALLOC_ARENA_MAX", "1")  # a tenth less memory; glibc reads it when a process starts
    with ProcessPoolExecutor(min(jobs, len(hashes)), mp_context=spawn, initializer=_begin_process) as pool:
        futures = [pool.submit(_make, *item, quick, out) for item in hashes.items()]
        for item in hashes.items():
            pool.submit(_help, *item, quick, out)
        try:
            yield from (future.result() for future in as_completed(futures))
        except BaseException:  # an interrupt as well: what has not begun is not begun, and the error goes on
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _begin_process() -> None:
    """End this process when its parent ends, in any way."""
    _set_environment()
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _set_environment(devices: int = 1) -> None:
    """Before jax is imported."""
    os.environ |= ENVIRONMENT
    os.environ.setdefault("JAX_NUM_CPU_DEVICES", str(devices))
    if OPTIMISATION not in os.environ.get("XLA_FLAGS", ""):  # most programs take longer to compile than to run
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --{OPTIMISATION}=1"


def _make(name: str, content_hash: str, quick: bool, out: Path) -> str:
    try:
        style, module, sweeps = _load("style"), _load(name), _load("sweeps")
        from toymodel._files import git_revision, write_whole

        table = module.compute(quick, functools.partial(sweeps.swept, out))
        (out / f"{name}.json").unlink(missing_ok=True)  # until the new files are all there, they are nobody's
        style.write_table(table, out / f"{name}.csv")
        style.write_figure(module.draw(table), out / name)
        provenance = {
            "figure": name,
            "quick": quick,
            "content_sha256": content_hash,
            "packages": _versions(),
            "python": platform.python_version(),
            "git_revision": git_revision(),
        }
        write_whole(out / f"{name}.json", (json.dumps(provenance, indent=2) + "\n").encode())
    except Exception as error:
        error.add_note(f"This happened while making {name}.")
        raise
    _free_memory()
    return name


def _help(name: str, content_hash: str, quick: bool, out: Path) -> None:
    """Help another process with the sweeps of its figure: each takes the shards that no other has."""
    if not _up_to_date(name, content_hash, out):
        _load(name).compute(quick, functools.partial(_load("sweeps").swept, out))
        _free_memory()


def _free_memory() -> None:
    """Free the programs of one figure, which are of no use to the next or to a waiting process."""
    import jax

    from toymodel.sweep.program import free_memory

    jax.clear_caches()  # type: ignore[no-untyped-call]
    free_memory()


def _load(name: str) -> Any:
    """A module of this folder."""
    return importlib.import_module(f"figures.{name}")


def _write_gallery(names: list[str], out: Path) -> None:
    _set_environment()
    gallery = _load("gallery")
    try:
        gallery.write(names, out)
    except gallery.NotSupported as error:
        raise BadInput(" ".join([str(error), *error.__notes__])) from error
    print(f"The gallery is {_shown(FOLDER / 'README.md')}.")


def _shown(path: Path) -> str:
    """The path, relative to the current folder if it lies there."""
    return os.path.relpath(path) if path.resolve().is_relative_to(Path.cwd()) else str(path)


if __name__ == "__main__":
    sys.exit(main())
