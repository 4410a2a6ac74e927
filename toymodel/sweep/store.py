"""A sweep's folder: one Parquet file for each shard, whole or absent, named by what it holds.

    sweep.json                    what all its files have in common: experiment, precision, code, packages
    table/<program>/<code>-<settings>-<content>.parquet
    runs/<start>-<host>-<pid>.json    who computed what, when and on what
    set_aside/                    what was damaged, or computed by another version of a loss

A file's name holds hashes: of the code that it depends on, of its settings, and of its own bytes. So a file that was
cut short or changed does not answer to its name, and a shard that is there is found by its settings alone.
"""

import hashlib
import io
import json
import os
import platform
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import filelock
import jax
import polars as pl

from toymodel._files import BadFolder, git_revision, remove_leftovers, write_whole
from toymodel.experiments.code import PACKAGES
from toymodel.experiments.experiment import Columns
from toymodel.sweep.grid import Program, Sweep

NAME = re.compile(r"(?P<code>[0-9a-f]{12})-(?P<settings>[0-9a-f]{24})-(?P<content>[0-9a-f]{24})\.parquet")
LONGEST = 200  # letters of a program's name

Notice = Callable[[str], Any]  # called with a sentence for the user


@dataclass(frozen=True)
class Store:
    """The folder of one sweep."""

    folder: Path
    identity: dict[str, Any]

    @classmethod
    def create(cls, folder: Path, sweep: Sweep) -> "Store":
        """The folder for a sweep, made when it is not there.

        Raises:
          BadFolder: it belongs to something else, or to other code.
        """
        identity = _identity(sweep)
        if not (folder / "sweep.json").is_file():
            if folder.exists() and not folder.is_dir():
                raise BadFolder(f"{folder} is a file; a sweep needs a folder.")
            others = sorted(path.name for path in folder.iterdir() if path.name[0] != ".") if folder.exists() else []
            if others and "sweep.json" not in others:  # else another process has just made it
                raise BadFolder(
                    f"{folder} is not a sweep's folder (it holds {others[0]}); choose an empty or a new one."
                )
            write_whole(folder / "sweep.json", (json.dumps(identity, indent=2) + "\n").encode())
        store = cls.open(folder)
        if differing := [key for key in identity if store.identity.get(key) != identity[key]]:
            key = next((key for key in differing if key != "code"), "code")
            raise BadFolder(
                f"{folder} holds results of another {key} ({_short(store.identity.get(key))}, now "
                f"{_short(identity[key])}); one table never mixes the two: choose a new folder."
            )
        return store

    @classmethod
    def open(cls, folder: Path) -> "Store":
        """The folder of a sweep that has begun.

        Raises:
          BadFolder: it is not one.
        """
        try:
            identity = json.loads((folder / "sweep.json").read_text(encoding="utf-8"))
            if not isinstance(identity["code"], str):
                raise TypeError
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            raise BadFolder(f"{folder} is not a sweep's folder: it has no readable sweep.json.") from None
        return cls(folder, identity)

    def files(self, program: str = "*", code: str = "") -> tuple[list[Path], list[Path]]:
        """The files of a program (or of all) that are whole, and those that are damaged."""
        paths = sorted(path for path in self.folder.glob(f"table/{program}/*.parquet") if NAME.fullmatch(path.name))
        whole, damaged = [], []
        for path in paths:
            if path.name.startswith(code):
                (whole if _hash(path.read_bytes()) == path.stem.rpartition("-")[2] else damaged).append(path)
        return whole, damaged

    def has(self, program: str, code: str, settings: Columns) -> bool:
        """Whether there is a file of exactly these settings."""
        return any(self.folder.glob(f"table/{program}/{code[:12]}-{address(settings)}-*.parquet"))

    def write(self, program: str, code: str, settings: Columns, rows: pl.DataFrame) -> Path:
        """One more file of the table."""
        content = io.BytesIO()
        rows.write_parquet(content, compression="zstd", statistics=True)
        name = f"{code[:12]}-{address(settings)}-{_hash(content.getvalue())}.parquet"
        return write_whole(self.folder / "table" / program / name, content.getvalue())

    def set_aside(self, path: Path) -> None:
        """Move a file out of the table, into `set_aside/`."""
        (self.folder / "set_aside").mkdir(exist_ok=True)
        path.replace(self.folder / "set_aside" / path.name)

    @contextmanager
    def claim(self, settings: Columns, *, wait: bool = False) -> Iterator[bool]:
        """Whether these settings are this process's to compute; another one may have them.

        The system takes a claim back when its process ends, by whatever means.
        """
        (self.folder / ".claims").mkdir(exist_ok=True)
        lock = filelock.FileLock(self.folder / ".claims" / address(settings))
        try:
            lock.acquire(blocking=wait)
        except filelock.Timeout:
            yield False
            return
        try:
            yield True
        finally:
            lock.release()

    @contextmanager
    def record(self) -> Iterator[dict[str, Any]]:
        """The record of a run, written before and after."""
        remove_leftovers(self.folder)
        started = datetime.now(UTC)
        path = self.folder / "runs" / f"{started:%Y%m%dT%H%M%S}-{socket.gethostname()}-{os.getpid()}.json"
        record: dict[str, Any] = {"started": started.isoformat(), **_about_this_machine(), "settings": 0}
        write_whole(path, (json.dumps(record, indent=2) + "\n").encode())
        yield record
        record["ended"] = datetime.now(UTC).isoformat()
        write_whole(path, (json.dumps(record, indent=2) + "\n").encode())


def read(folder: Path | str) -> pl.LazyFrame:
    """The table of a sweep's folder, lazily: every setting that has been computed there, in the order of file names.

    Raises:
      BadFolder: it is no sweep's folder, nothing is there yet, or a file is damaged.
    """
    whole, damaged = Store.open(Path(folder)).files()
    refuse(damaged)
    if not whole:
        raise BadFolder(f"{folder} holds no results yet.")
    return pl.scan_parquet(whole, glob=False)


def refuse(damaged: list[Path]) -> None:
    """Raise `BadFolder` when a file of the table is not what a sweep wrote."""
    if damaged:
        more = f" (and {len(damaged) - 1} more)" if len(damaged) > 1 else ""
        raise BadFolder(
            f"{damaged[0]} is damaged (cut short or changed){more}; run the sweep again with --resume to compute it "
            "anew."
        )


def program_name(program: Program) -> str:
    """The compiled fields of a program's settings: its place in the table.

    Not `name=value`: readers of Parquet would take that for a column. File systems allow a name 255 bytes: the end of a
    longer one is a hash of the whole.
    """
    name = ",".join(f"{name}-{value}" for name, value in program.compiled.items()) or "all"
    return name if len(name) <= LONGEST else f"{name[:LONGEST]}-{_hash(name.encode())[:12]}"


def address(settings: Columns) -> str:
    """Hash of settings: of every field's name and values, in order."""
    digest = hashlib.sha256()
    for name, column in sorted(settings.items()):
        digest.update(f"{name}:{column.dtype.kind}:".encode())
        digest.update("\0".join(column.tolist()).encode() if column.dtype.kind == "U" else column.tobytes())
    return digest.hexdigest()[:24]


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:24]


def _identity(sweep: Sweep) -> dict[str, Any]:
    return {
        "experiment": sweep.experiment.name,
        "precision": sweep.precision,
        "fields": list(sweep.experiment.fields),
        "packages": {package: version(package) for package in (*PACKAGES, "toymodel")},
        "code": sweep.experiment.code(),
    }


def _about_this_machine() -> dict[str, Any]:
    return {
        "host": socket.gethostname(),
        "python": platform.python_version(),
        "devices": [str(device) for device in jax.local_devices()],
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "git_revision": git_revision(),
    }


def _short(value: Any) -> str:
    return value[:12] if isinstance(value, str) else json.dumps(value)
