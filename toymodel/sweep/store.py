"""A sweep's folder: one Parquet file for each shard, whole or absent, named by what it holds.

    sweep.json                    what all its files have in common: experiment, precision, code, packages
    table/<program>/<name>.parquet
    runs/<start>-<host>-<pid>.json    who computed what, when and on what

A file's name is `<code>-<settings>-<content>.parquet`: hashes of the code that computed it, of its settings, and of its
own bytes. So a shard that is there is found by its settings alone, and a file that was cut short, changed or brought
from elsewhere does not answer to its name.
"""

import hashlib
import io
import json
import os
import platform
import re
import socket
import subprocess
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import jax
import polars as pl

from toymodel.experiments.experiment import PACKAGES, Columns
from toymodel.sweep.grid import Sweep

NAME = re.compile(r"(?P<code>[0-9a-f]{12})-(?P<settings>[0-9a-f]{24})-(?P<content>[0-9a-f]{24})\.parquet")
TEMPORARY = re.compile(r"\.(?P<host>.+)-(?P<pid>\d+)-[0-9a-f]+\.part")


class BadFolder(ValueError):
    """A folder that a sweep cannot use as it is; the message says what to do."""


class State(NamedTuple):
    """The files of a table."""

    whole: dict[str, Path]  # by the hash of their settings
    damaged: list[Path]  # their bytes are not what they were
    foreign: list[Path]  # not written by this sweep
    repeated: list[Path]  # whole, but another file has these settings: two workers computed them, with other round-off


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
            others = [] if not folder.exists() else sorted(entry.name for entry in folder.iterdir())
            if others := [name for name in others if not TEMPORARY.fullmatch(name) and name != ".lock"]:
                raise BadFolder(
                    f"{folder} is not a sweep's folder (it holds {others[0]}); choose an empty or a new one."
                )
            write_whole(folder / "sweep.json", (json.dumps(identity, indent=2) + "\n").encode())
        store = cls.open(folder)
        if differing := [key for key in identity if store.identity.get(key) != identity[key]]:
            key = next((key for key in differing if key != "code"), "code")
            raise BadFolder(
                f"{folder} holds results of another {key} ({_told(store.identity.get(key))}, now "
                f"{_told(identity[key])}); one table never mixes the two: choose a new folder."
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
        except (OSError, ValueError, KeyError, TypeError):
            raise BadFolder(f"{folder} is not a sweep's folder: it has no readable sweep.json.") from None
        return cls(folder, identity)

    @cached_property
    def code(self) -> str:
        """The first part of every file's name."""
        return hashlib.sha256(json.dumps(self.identity, sort_keys=True).encode()).hexdigest()[:12]

    def names(self) -> set[str]:
        """Hashes of the settings of all files that are there, by their names alone."""
        found = (NAME.fullmatch(path.name) for path in self.folder.glob("table/*/*"))
        return {match["settings"] for match in found if match and match["code"] == self.code}

    def state(self) -> State:
        """Every file of the table, read and compared with its name."""
        state = State({}, [], [], [])
        for path in self._files():
            match = NAME.fullmatch(path.name)
            if not match or match["code"] != self.code or not path.is_file():
                state.foreign.append(path)
            elif _content(path.read_bytes()) != match["content"]:
                state.damaged.append(path)
            elif match["settings"] in state.whole:
                state.repeated.append(path)
            else:
                state.whole[match["settings"]] = path
        return state

    def write(self, program: str, settings: Columns, rows: pl.DataFrame) -> Path:
        """One more file of the table, unless one with these settings has come to be there meanwhile."""
        path, name = self.folder / "table" / program, f"{self.code}-{address(settings)}"
        for other in sorted(path.glob(f"{name}-*.parquet")):
            return other
        content = _parquet(rows)
        return write_whole(path / f"{name}-{_content(content)}.parquet", content)

    def set_aside(self, files: Iterable[Path]) -> None:
        """Moves files out of the table, into `set_aside/`."""
        for path in files:
            (self.folder / "set_aside").mkdir(exist_ok=True)
            path.replace(self.folder / "set_aside" / path.name)

    def remove_leftovers(self) -> None:
        """Removes what processes of this machine that are no more had begun to write."""
        for path in self.folder.rglob(".*.part"):
            match = TEMPORARY.fullmatch(path.name)
            if match and match["host"] == socket.gethostname() and not _is_running(int(match["pid"])):
                path.unlink(missing_ok=True)

    def write_run(self, name: str, run: dict[str, Any]) -> None:
        """The provenance of one run: replaced as it goes on."""
        write_whole(self.folder / "runs" / f"{name}.json", (json.dumps(run, indent=2) + "\n").encode())

    def _files(self) -> Iterator[Path]:
        for path in sorted(self.folder.glob("table/*/*")):
            if not TEMPORARY.fullmatch(path.name):
                yield path
        yield from (path for path in sorted(self.folder.glob("table/*")) if not path.is_dir())


def read(folder: Path | str, *, verify: bool = True) -> pl.LazyFrame:
    """The table of a sweep's folder, lazily: every setting that has been computed there, in the order of file names.

    Args:
      verify: read every file once to compare its bytes with its name; False is for a folder that was just verified.

    Raises:
      BadFolder: it is no sweep's folder, nothing is there yet, or a file is damaged or foreign.
    """
    store = Store.open(Path(folder))
    if verify:
        state = store.state()
        refuse(state)
        files = sorted(state.whole.values())
    else:
        files = sorted(store.folder.glob(f"table/*/{store.code}-*.parquet"))
    if not files:
        raise BadFolder(f"{folder} holds no results yet.")
    return pl.scan_parquet(files, glob=False)


def refuse(state: State) -> None:
    """Raise `BadFolder` when a file of the table is not what a sweep wrote."""
    if state.foreign:
        raise BadFolder(f"{state.foreign[0]} was not written by this sweep{_more(state.foreign)}; move it elsewhere.")
    if state.damaged:
        raise BadFolder(
            f"{state.damaged[0]} is damaged (cut short or changed){_more(state.damaged)}; run the sweep again with "
            "--resume to compute it anew."
        )


def address(settings: Columns) -> str:
    """Hash of settings: of every field's name and values, in order."""
    digest = hashlib.sha256()
    for name, column in sorted(settings.items()):
        digest.update(f"{name}:{column.dtype.kind}:".encode())
        digest.update("\0".join(column.tolist()).encode() if column.dtype.kind == "U" else column.tobytes())
    return digest.hexdigest()[:24]


def write_whole(path: Path, content: bytes) -> Path:
    """The file appears with all of its content or, whatever interrupts, not at all.

    Raises:
      BadFolder: the place cannot be written to, or is full.
    """
    temporary = path.parent / f".{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex}.part"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise BadFolder(f"cannot write to {path.parent}: {error.strerror}.") from error
    return path


def _parquet(rows: pl.DataFrame) -> bytes:

    content = io.BytesIO()
    rows.write_parquet(content, compression="zstd", statistics=True)
    return content.getvalue()


def _content(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:24]


def _identity(sweep: Sweep) -> dict[str, Any]:
    return {
        "experiment": sweep.experiment.name,
        "precision": sweep.precision,
        "fields": list(sweep.experiment.fields),
        "packages": {package: version(package) for package in (*PACKAGES, "toymodel")},
        "code": sweep.experiment.code,
    }


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _told(value: Any) -> str:
    return value[:12] if isinstance(value, str) else json.dumps(value)


def _more(files: list[Path]) -> str:
    return f" (and {len(files) - 1} more)" if len(files) > 1 else ""


def about_this_machine() -> dict[str, Any]:
    """What provenance says of where a run takes place."""
    return {
        "host": socket.gethostname(),
        "python": platform.python_version(),
        "devices": [str(device) for device in jax.local_devices()],
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "git_revision": git_revision(),
    }


def git_revision() -> str | None:
    """The commit of the checkout that this package runs from, "-dirty" where files differ from it; None without one."""
    here = Path(__file__).parent
    command = ("git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
