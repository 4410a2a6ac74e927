"""A sweep's folder: one Parquet file for each shard, whole or absent, named by what it holds.

    sweep.json                        what all its files have in common: experiment, precision, packages, code
    table/<program>/<code>-<settings>-<content>.parquet
    runs/<start>-<host>-<pid>.json    who computed what, when and on what
    set_aside/                        what was damaged, or computed by another version of a loss
    .claims/                          locks of those who are computing

A file's name holds hashes: of the code that it depends on, of its settings, and of its bytes together with where it
lies. So a file that was cut short, changed or moved does not answer to its name, and a shard that is there is found by
its settings alone.
"""

import hashlib
import io
import json
import os
import platform
import re
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import quote

import filelock
import jax
import numpy as np
import polars as pl

from toymodel._files import BadFolder, git_revision, remove_leftovers, write_whole
from toymodel._public import own_names
from toymodel.experiments.code import PACKAGES
from toymodel.experiments.experiment import Columns
from toymodel.sweep.grid import Sweep

__dir__ = own_names(globals())

NAME = re.compile(r"([0-9a-f]{12})-([0-9a-f]{24})-([0-9a-f]{24})\.parquet")
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
        if folder.exists() and not folder.is_dir():
            raise BadFolder(f"{folder} is a file; a sweep needs a folder.")
        others = sorted(path.name for path in folder.iterdir() if path.name[0] != ".") if folder.exists() else []
        if others and "sweep.json" not in others:
            raise BadFolder(f"{folder} is not a sweep's folder (it holds {others[0]}); choose an empty or a new one.")
        identity = _identity(sweep)
        if not (folder / "sweep.json").is_file():
            with _lock(folder, "sweep.json", wait=True):  # two may begin at once
                if not (folder / "sweep.json").is_file():
                    _write_json(folder / "sweep.json", identity)
        found = cls.open(folder).identity
        if _only_new_losses(found["fields"], sweep):
            found |= {"fields": identity["fields"]}
            _write_json(folder / "sweep.json", found)
        if differing := [key for key in identity if found.get(key) != identity[key]]:
            key = differing[0]
            raise BadFolder(
                f"{folder} holds results of another {key} ({_short(found.get(key))}, now {_short(identity[key])}); "
                "one table never mixes the two: choose a new folder."
            )
        remove_leftovers(folder)
        return cls(folder, found)

    @classmethod
    def open(cls, folder: Path) -> "Store":
        """The folder of a sweep that has begun.

        Raises:
          BadFolder: it is not one.
        """
        try:
            identity = json.loads((folder / "sweep.json").read_text(encoding="utf-8"))
            if not isinstance(identity["code"], str) or not isinstance(identity["fields"], list):
                raise TypeError
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            raise BadFolder(f"{folder} is not a sweep's folder: it has no readable sweep.json.") from None
        return cls(folder, identity)

    def files(self, program: str = "*", code: str = "") -> tuple[dict[str, Path], list[Path]]:
        """The files of a program (or of all) that are whole, by program, code and settings; and those that are damaged.

        Where two processes wrote the same shard, which only a file system without locks allows, the first counts.
        """
        whole: dict[str, Path] = {}
        damaged = []
        for path in sorted(self.folder.glob(f"table/{program}/{code[:12]}*.parquet")):
            if NAME.fullmatch(path.name) and path.is_file():  # another process may have just set it aside
                place, _, content = path.stem.rpartition("-")
                stat = path.stat()
                if _content_hash(path, stat.st_mtime_ns, stat.st_size) == content:
                    whole.setdefault(f"{path.parent.name}/{place}", path)
                else:
                    damaged.append(path)
        return whole, damaged

    def write(self, place: str, rows: pl.DataFrame) -> Path:
        """One more file of the table, at the place of its settings."""
        content = io.BytesIO()
        rows.write_parquet(content, compression="zstd", statistics=True)
        name = f"{place}-{_hash(place.encode() + content.getvalue())}.parquet"
        return write_whole(self.folder / "table" / name, content.getvalue())

    def has(self, place: str) -> bool:
        """Whether there is a file at this place."""
        return any(self.folder.glob(f"table/{place}-*.parquet"))

    def set_aside(self, path: Path) -> None:
        """Move a file out of the table, into `set_aside/`, unless another process has."""
        (self.folder / "set_aside").mkdir(exist_ok=True)
        with suppress(FileNotFoundError):
            path.replace(self.folder / "set_aside" / path.name)

    def claim(self, place: str, *, wait: bool = False) -> AbstractContextManager[bool]:
        """Whether the settings of this place are this process's to compute; another one may have them.

        The system takes a claim back when its process ends, by whatever means.
        """
        return _lock(self.folder, place.rpartition("-")[2], wait=wait)

    @contextmanager
    def record(self) -> Iterator[dict[str, Any]]:
        """The record of a run, written before and after."""
        started = datetime.now(UTC)
        path = self.folder / "runs" / f"{started:%Y%m%dT%H%M%S%f}-{socket.gethostname()}-{os.getpid()}.json"
        record: dict[str, Any] = {"started": started.isoformat(), **_about_this_machine(), "settings": 0}
        _write_json(path, record)
        yield record
        _write_json(path, record | {"ended": datetime.now(UTC).isoformat()})


def read(folder: Path | str) -> pl.LazyFrame:
    """The table of a sweep's folder, lazily: every setting that has been computed there, in the order of file names.

    Raises:
      BadFolder: it is no sweep's folder, nothing is there yet, or a file is damaged.
    """
    store = Store.open(Path(folder))
    files = refuse_damaged(store.files())
    if not files:
        raise BadFolder(f"{folder} holds no results yet.")
    return scan(list(files.values()), store.identity["fields"])


def refuse_damaged(files: tuple[dict[str, Path], list[Path]]) -> dict[str, Path]:
    """What `Store.files` found to be whole; a `BadFolder` when a file is damaged."""
    whole, damaged = files
    if damaged:
        more = f" (and {len(damaged) - 1} more)" if len(damaged) > 1 else ""
        raise BadFolder(
            f"{damaged[0]} is damaged (cut short or changed){more}; run the sweep again with --resume to compute it "
            "anew."
        )
    return whole


def scan(files: Sequence[Path], fields: Sequence[str]) -> pl.LazyFrame:
    """The rows of files, the fields first. A number that came with a loss entered later is NaN, as if left out."""
    alike: dict[frozenset[str], list[Path]] = {}
    for path in files:
        alike.setdefault(frozenset(pl.read_parquet_schema(path)), []).append(path)
    frames = [
        pl.scan_parquet(paths, glob=False).with_columns(
            pl.lit(np.nan).alias(name) for name in fields if name not in columns
        )
        for columns, paths in alike.items()
    ]
    return pl.concat([frame.select(*fields, pl.exclude(fields)) for frame in frames])


def program_name(compiled: dict[str, Any]) -> str:
    """The compiled fields of a program's settings: its place in the table.

    Not `name=value`: readers of Parquet would take that for a column. File systems allow a name 255 bytes: the end of a
    longer one is a hash of the whole.
    """
    name = quote(",".join(f"{name}-{value}" for name, value in compiled.items()), safe=",") or "all"
    return name if len(name) <= LONGEST else f"{name[:LONGEST]}-{_hash(name.encode())[:12]}"


def address(settings: Columns) -> str:
    """Hash of settings: of every field's name and values, in order."""
    digest = hashlib.sha256()
    for name, column in sorted(settings.items()):
        digest.update(f"{name}:{column.dtype.kind}:".encode())
        digest.update("\0".join(column.tolist()).encode() if column.dtype.kind == "U" else column.tobytes())
    return digest.hexdigest()[:24]


@contextmanager
def _lock(folder: Path, name: str, *, wait: bool) -> Iterator[bool]:
    (folder / ".claims").mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(folder / ".claims" / name)
    try:
        lock.acquire(blocking=wait)
    except filelock.Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:24]


@lru_cache(maxsize=100_000)
def _content_hash(path: Path, _mtime: int, _size: int) -> str:
    """What the end of a file's name should be; read anew only when the file has changed."""
    place = f"{path.parent.name}/{path.stem.rpartition('-')[0]}"
    return _hash(place.encode() + path.read_bytes())


def _identity(sweep: Sweep) -> dict[str, Any]:
    return {
        "experiment": sweep.experiment.name,
        "precision": sweep.precision,
        "fields": list(sweep.experiment.fields),
        "packages": {package: version(package) for package in (*PACKAGES, "toymodel")},
        "code": sweep.experiment.code(),
    }


def _only_new_losses(fields: list[str], sweep: Sweep) -> bool:
    """Whether a folder's settings lack only numbers that are left out by default, as those of a new loss are."""
    new = [field.default for name, field in sweep.experiment.fields.items() if name not in fields]
    return bool(new) and set(fields) < set(sweep.experiment.fields) and all(default != default for default in new)


def _about_this_machine() -> dict[str, Any]:
    return {
        "host": socket.gethostname(),
        "python": platform.python_version(),
        "devices": [str(device) for device in jax.local_devices()],
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "git_revision": git_revision(),
    }


def _write_json(path: Path, content: dict[str, Any]) -> None:
    write_whole(path, (json.dumps(content, indent=2) + "\n").encode())


def _short(value: Any) -> str:
    return value[:12] if isinstance(value, str) else json.dumps(value)
