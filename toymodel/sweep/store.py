"""A sweep's folder: one Parquet file for each shard, whole or absent, named by what it holds.

    sweep.json                        common to all files: experiment, precision, fields, packages, code
    table/<code>-<settings>-<content>.parquet
    runs/<start>-<host>-<pid>.json    who computed what, when and on which machine
    set_aside/                        files that are damaged, or computed by another version of a loss
    .claims/                          locks of running processes

Three hashes make a file's name: of the code that it depends on, of its settings, and of its bytes together with these.
So a file that was cut short, changed or renamed does not match its name.
"""

import hashlib
import io
import json
import os
import platform
import re
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import filelock
import jax
import numpy as np
import polars as pl

from toymodel._files import BadFolder, git_revision, remove_leftovers, write_whole
from toymodel._public import own_names
from toymodel.experiments.code import PACKAGES
from toymodel.sweep.grid import Sweep

__dir__ = own_names(globals())

NAME = re.compile(r"[0-9a-f]{12}-[0-9a-f]{24}-[0-9a-f]{24}\.parquet")
KINDS: dict[str, type] = {"int": int, "float": float, "str": str}

Notice = Callable[[str], Any]  # called with a message for the user


@dataclass(frozen=True)
class Store:
    """The folder of one sweep."""

    folder: Path
    identity: dict[str, Any]

    @classmethod
    def create(cls, folder: Path, sweep: Sweep) -> "Store":
        """The folder for a sweep, made if it does not exist.

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
            with cls(folder, identity).claim("sweep.json", wait=True):  # two processes may begin at once
                if not (folder / "sweep.json").is_file():
                    _write_json(folder / "sweep.json", identity)
        found = cls.open(folder).identity
        differing = [key for key in identity if found.get(key) != identity[key]]
        if differing == ["fields"] and found["fields"].items() < identity["fields"].items():
            _write_json(folder / "sweep.json", identity)  # a loss with new hyperparameters was added
        elif differing:
            raise BadFolder(
                f"{folder} holds results of another {differing[0]} ({_short(found.get(differing[0]))}, now "
                f"{_short(identity[differing[0]])}); one table never mixes the two: choose a new folder."
            )
        remove_leftovers(folder)
        return cls(folder, identity)

    @classmethod
    def open(cls, folder: Path) -> "Store":
        """The folder of a sweep that has begun.

        Raises:
          BadFolder: it is not the folder of a sweep.
        """
        try:
            identity = json.loads((folder / "sweep.json").read_text(encoding="utf-8"))
            named = isinstance(identity["experiment"], str) and isinstance(identity["precision"], str)
            if not named or not all(kind in KINDS for kind in identity["fields"].values()):
                raise ValueError
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise BadFolder(f"{folder} is not a sweep's folder: it has no readable sweep.json.") from None
        return cls(folder, identity)

    def files(self) -> tuple[list[Path], list[Path]]:
        """The files of the table that are whole, and those that are damaged."""
        whole: list[Path] = []
        damaged: list[Path] = []
        for path in self._listed("table"):
            if NAME.fullmatch(path.name):
                with suppress(FileNotFoundError):  # another process may have just set it aside
                    stat = path.stat()
                    (whole if _is_whole(path, stat.st_mtime_ns, stat.st_size) else damaged).append(path)
        return whole, damaged

    def last_run(self) -> dict[str, str] | None:
        """When the last run began, on which machine, and when it ended, if it did; None before any.

        Raises:
          BadFolder: its record cannot be read.
        """
        records = [path for path in self._listed("runs") if path.suffix == ".json"]
        if not records:
            return None
        try:
            record = json.loads(records[-1].read_text(encoding="utf-8"))
            return {
                name: str(record[name]) for name in ("started", "host", "ended") if name != "ended" or name in record
            }
        except (ValueError, KeyError, TypeError, RecursionError):
            raise BadFolder(f"{records[-1]} is no record of a run; move it away.") from None

    def _listed(self, name: str) -> list[Path]:
        """The sorted content of a subfolder; unlike `glob`, it raises an error if that cannot be read."""
        try:
            return sorted((self.folder / name).iterdir())
        except FileNotFoundError:
            return []

    def settings(self, files: Sequence[Path]) -> pl.LazyFrame:
        """The settings that files hold."""
        fields = list(self.identity["fields"])
        return pl.concat([part.select(fields) for part in self._parts(files)])

    def table(self, files: Sequence[Path], of: pl.DataFrame | None = None) -> pl.LazyFrame:
        """The rows of files, each setting once: without locks, two processes may compute the same.

        Args:
          of: settings. If files differ in the shapes of their columns, only files with any of these settings count.
        """
        parts = self._parts(files)
        if of is not None and len(parts) > 2:
            wanted = of.lazy()
            parts = [p for p in parts if p.join(wanted, on=of.columns, how="semi").select(pl.len()).collect().item()]
        try:
            rows = pl.concat([*self._parts([]), *parts], how="diagonal")
            rows.collect_schema()
        except (pl.exceptions.SchemaError, pl.exceptions.InvalidOperationError):
            raise BadFolder(
                f"{self.folder} holds arrays of other shapes for other settings, which no one table can have; run a "
                "sweep of some of them."
            ) from None
        return rows.unique(list(self.identity["fields"]), keep="first", maintain_order=True)

    def _parts(self, files: Sequence[Path]) -> list[pl.LazyFrame]:
        """The rows of files, grouped by columns; a hyperparameter of a loss added later is NaN, as if left out."""
        fields = {name: KINDS[kind] for name, kind in self.identity["fields"].items()}
        alike: dict[Any, list[Path]] = {}
        for path in files:
            alike.setdefault(tuple(pl.read_parquet_schema(path).items()), []).append(path)
        none = pl.LazyFrame(schema=fields)
        filled = [pl.concat([none, pl.scan_parquet(paths, glob=False)], how="diagonal") for paths in alike.values()]
        reals = [name for name, kind in fields.items() if kind is float]
        return [none, *(part.with_columns(pl.col(reals).fill_null(np.nan)) for part in filled)]

    def write(self, name: str, rows: pl.DataFrame) -> Path:
        """Write one more file of the table, named by its code and its settings."""
        content = io.BytesIO()
        rows.write_parquet(content, compression="zstd", statistics=True)
        name = f"{name}-{_hash(name.encode() + content.getvalue())}.parquet"
        return write_whole(self.folder / "table" / name, content.getvalue())

    def has(self, name: str) -> bool:
        """Whether a file of this code and these settings exists."""
        return any(self.folder.glob(f"table/{name}-*.parquet"))

    def set_aside(self, path: Path) -> None:
        """Move a file out of the table, into `set_aside/`, unless another process has."""
        (self.folder / "set_aside").mkdir(exist_ok=True)
        with suppress(FileNotFoundError):
            path.replace(self.folder / "set_aside" / path.name)

    @contextmanager
    def claim(self, name: str, *, wait: bool = False) -> Iterator[bool]:
        """Claim a file name for this process; false if another process holds it.

        The system releases a claim when its process ends in any way.
        """
        (self.folder / ".claims").mkdir(parents=True, exist_ok=True)
        try:
            held = filelock.FileLock(self.folder / ".claims" / name).acquire(blocking=wait)
        except filelock.Timeout:
            yield False
            return
        with held:
            yield True

    @contextmanager
    def record(self) -> Iterator[dict[str, Any]]:
        """The record of a run, written before and after."""
        started = datetime.now(UTC)
        path = self.folder / "runs" / f"{started:%Y%m%dT%H%M%S%f}-{socket.gethostname()}-{os.getpid()}.json"
        record = {
            "started": started.isoformat(),
            "host": socket.gethostname(),
            "python": platform.python_version(),
            "devices": [str(device) for device in jax.local_devices()],
            "xla_flags": os.environ.get("XLA_FLAGS", ""),
            "git_revision": git_revision(),
            "settings": 0,
        }
        _write_json(path, record)
        yield record
        _write_json(path, record | {"ended": datetime.now(UTC).isoformat()})


def read(folder: Path | str) -> pl.LazyFrame:
    """The table of a sweep's folder, lazily: every setting that has been computed there, in the order of file names.

    Raises:
      BadFolder: it is not a sweep's folder, has no results yet, or a file is damaged.
    """
    store = Store.open(Path(folder))
    whole, damaged = store.files()
    if damaged:
        more = f" (and {len(damaged) - 1} more)" if len(damaged) > 1 else ""
        raise BadFolder(
            f"{damaged[0]} is damaged (cut short or changed){more}; run the sweep again with --resume to compute it "
            "anew."
        )
    if not whole:
        raise BadFolder(f"{folder} holds no results yet.")
    return store.table(whole)


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:24]


@lru_cache(maxsize=100_000)
def _is_whole(path: Path, _mtime: int, _size: int) -> bool:
    """Whether a file's bytes match its name; it is read again only if it has changed."""
    name, _, content = path.stem.rpartition("-")
    return _hash(name.encode() + path.read_bytes()) == content


def _identity(sweep: Sweep) -> dict[str, Any]:
    return {
        "experiment": sweep.experiment.name,
        "precision": sweep.precision,
        "fields": {name: field.kind.__name__ for name, field in sweep.experiment.fields.items()},
        "packages": {package: version(package) for package in (*PACKAGES, "toymodel")},
        "code": sweep.experiment.code(),
    }


def _write_json(path: Path, content: dict[str, Any]) -> None:
    write_whole(path, (json.dumps(content, indent=2) + "\n").encode())


def _short(value: Any) -> str:
    return value[:12] if isinstance(value, str) else json.dumps(value)
