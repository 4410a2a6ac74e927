"""Files that are written whole or not at all, and the code revision that made them."""

import os
import socket
import subprocess
import uuid
from pathlib import Path


class BadFolder(ValueError):
    """A folder that cannot be used as it is; the message says what to do."""


def cache_folder() -> Path:
    """The user's cache folder for this package; it may not exist yet.

    Raises:
      RuntimeError: the user has no home.
    """
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "toymodel"


def write_whole(path: Path, content: bytes) -> Path:
    """Write a file with all of its content or, if interrupted, not at all.

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


def remove_leftovers(folder: Path) -> None:
    """Remove the partial files of processes of this machine that have ended."""
    for path in folder.rglob(f".{socket.gethostname()}-*.part"):
        pid = path.name.removeprefix(f".{socket.gethostname()}-").partition("-")[0]
        if pid.isdigit() and not _is_running(int(pid)):
            path.unlink(missing_ok=True)


def git_revision() -> str | None:
    """The commit of the checkout that this package runs from, "-dirty" where files differ from it; None without one."""
    here = Path(__file__).parent
    command = ("git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
