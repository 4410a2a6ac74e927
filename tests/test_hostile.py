"""The commands on hostile files, and where an ordinary user may not read or write: exit code 2, and one line."""

import os
import tempfile
from pathlib import Path

import pytest
from hostile_commands import can_be_ordinary, of_files, of_places, violation


@pytest.fixture
def open_folder():
    """A folder that everyone may enter, unlike pytest's own."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o777)
        yield folder
        for path, _, _ in os.walk(folder):  # else an ordinary user could not remove it
            Path(path).chmod(0o777)
            for inside in Path(path).iterdir():
                inside.chmod(0o777)


def test_malformed_files_are_refused_in_one_line(tmp_path, capsys):
    found = [(words, arguments, violation(arguments)) for words, arguments in of_files(tmp_path)]
    with capsys.disabled():
        print(f" {len(found)} hostile files")
    assert len(found) > 150
    assert not [(words, wrong) for words, _, wrong in found if wrong]


@pytest.mark.skipif(not can_be_ordinary(), reason="this process cannot become one of an ordinary user")
def test_places_without_permission_are_refused_in_one_line(open_folder, capsys):
    found = [(words, violation(arguments, as_nobody=True)) for words, arguments in of_places(open_folder)]
    with capsys.disabled():
        print(f" {len(found)} places without permission")
    assert len(found) >= 30
    assert not [(words, wrong) for words, wrong in found if wrong]


def test_a_violation_is_found(tmp_path):
    (tmp_path / "log.csv").write_text("step,logps/chosen,logps/rejected\n0,-1,-2\n1,-2,-3\n")
    assert violation(("diagnose", tmp_path / "log.csv")) == "ended with 0"
