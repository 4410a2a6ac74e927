"""Makes the figures that are missing or out of date. `make figures` runs this; so does `python figures/build.py`.

Every figures/fig_*.py gives a .pdf, a .png, the .csv behind them and a .json that says what they were made from. A
figure is up to date when its .json holds the hash of the present sources and settings; that check imports neither jax
nor matplotlib, so it takes no time.
"""

import argparse
import functools
import hashlib
import importlib
import json
import os
import platform
import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parent
HELPERS = (
    "intervals",
    "loss_runs",
    "remedy_runs",
    "sentiment_runs",
    "style",
    "suffix_runs",
    "sweeps",
)  # what figures share
OPTIMISATION = "xla_backend_optimization_level"
OUTPUTS = (".pdf", ".png", ".csv", ".json")
PACKAGES = ("jax", "jaxlib", "matplotlib", "numpy", "optax", "polars")


class BadInput(Exception):
    """Something the caller can put right: told in one line, without a traceback."""


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        _run(options.only, options.quick, options.gallery, options.out)
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
    parser.add_argument("--gallery", action="store_true", help="also write figures/gallery and figures/README.md")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="this figure; may be repeated")
    parser.add_argument("--out", type=Path, default=FOLDER / "out", metavar="DIR", help="default: figures/out")
    return parser


def _run(only: list[str], quick: bool, gallery: bool, out: Path) -> None:
    if gallery and (quick or only):
        raise BadInput("--gallery shows every figure in full; leave out --quick and --only.")
    names = _names(only)
    # Hashed before anything is imported: an edit during the build makes its figures stale, not wrongly up to date.
    hashes = {name: _content_hash(name, quick) for name in names}
    stale = {name: content for name, content in hashes.items() if not _up_to_date(name, content, out)}
    if stale:
        _prepare(out)
        _make_all(stale, quick, out)
    figures = "1 figure is" if len(names) == 1 else f"{len(names)} figures are"
    print(f"{figures} {'now' if stale else 'up to date'} in {_shown(out)}.")
    if gallery:
        _write_gallery(names, out)


def _names(only: list[str]) -> list[str]:
    known = sorted(path.stem for path in FOLDER.glob("fig_*.py"))
    wanted = [f"fig_{name.removeprefix('fig_')}" for name in only]
    for name, given in zip(wanted, only, strict=True):
        if name not in known:
            raise BadInput(f"there is no figure {given!r}; there are {', '.join(known)}.")
    return wanted or known


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
    """Hash of all that decides what a figure shows: its sources, the settings, the packages underneath."""
    digest = hashlib.sha256(json.dumps([quick, _versions()]).encode())
    here = [FOLDER / f"{module}.py" for module in (name, *HELPERS)]
    for path in (*here, *sorted((ROOT / "toymodel").rglob("*.py"))):
        digest.update(path.relative_to(ROOT).as_posix().encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _versions() -> dict[str, str]:
    return {package: version(package) for package in PACKAGES}


def _make_all(hashes: dict[str, str], quick: bool, out: Path) -> None:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    terminal = sys.stdout.isatty()
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Progress(*columns, disable=not terminal) as progress:
        task = progress.add_task("", total=len(hashes))
        for number, (name, content_hash) in enumerate(hashes.items(), start=1):
            progress.update(task, description=name)
            if not terminal:
                print(f"[{number}/{len(hashes)}] {name}", flush=True)
            try:
                _make(name, content_hash, quick, out)
            except Exception as error:
                error.add_note(f"This happened while making {name}.")
                raise
            progress.advance(task)
        progress.update(task, description="")


def _make(name: str, content_hash: str, quick: bool, out: Path) -> None:
    style, module, sweeps = _load("style"), _load(name), _load("sweeps")
    from toymodel.sweep.store import git_revision, write_whole  # only now: what is up to date is found without jax

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


def _load(name: str) -> Any:
    """A module of this folder. Its jax computes in float64: theory and measurement agree to the round-off of that."""
    os.environ["JAX_ENABLE_X64"] = "1"
    if OPTIMISATION not in os.environ.get("XLA_FLAGS", ""):  # most programs take longer to compile than to run
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --{OPTIMISATION}=1"
    # Sweeps share their settings out between devices, and a device keeps little more than a core busy.
    os.environ.setdefault("JAX_NUM_CPU_DEVICES", str(os.cpu_count()))
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))
    return importlib.import_module(f"figures.{name}")


def _write_gallery(names: list[str], out: Path) -> None:
    gallery = _load("gallery")
    try:
        gallery.write(names, out)
    except gallery.NotSupported as error:
        raise BadInput(" ".join([str(error), *error.__notes__])) from error
    print(f"The gallery is {_shown(FOLDER / 'README.md')}.")


def _shown(path: Path) -> str:
    """As short as it can be said from here."""
    return os.path.relpath(path) if path.resolve().is_relative_to(Path.cwd()) else str(path)


if __name__ == "__main__":
    sys.exit(main())
