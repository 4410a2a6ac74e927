"""The package, its citation and its changelog speak of one release; make and the workflow run what they should."""

import os
import re
import subprocess
import tomllib
from datetime import date
from pathlib import Path

import pytest
import yaml

import toymodel

ROOT = Path(__file__).parents[1]
RELEASES = re.findall(r"(?m)^## (\d+\.\d+\.\d+) \((.*)\)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"))


def cited(field):
    return re.search(rf"(?m)^{field}: (.+)$", (ROOT / "CITATION.cff").read_text(encoding="utf-8"))[1]


def test_package_citation_and_changelog_agree_on_the_newest_release():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    version, day = RELEASES[0]
    assert version == project["version"] == toymodel.__version__ == cited("version")
    assert day == cited("date-released")


def test_releases_are_listed_newest_first():
    versions = [tuple(map(int, version.split("."))) for version, _ in RELEASES]
    days = [date.fromisoformat(day) for _, day in RELEASES]
    assert versions == sorted(set(versions), reverse=True)
    assert days == sorted(days, reverse=True)


def test_every_part_of_the_changelog_is_a_release_but_the_one_on_top():
    headings = re.findall(r"(?m)^## (.*)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"))
    assert headings[-len(RELEASES) :] == [f"{version} ({day})" for version, day in RELEASES]
    assert headings[: -len(RELEASES)] in ([], ["Unreleased"])


def test_the_workflow_makes_what_ci_run_makes():
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))
    jobs = workflow["jobs"].values()
    commands = [step["run"] for job in jobs for step in job["steps"] if step.get("run", "").startswith("make ")]
    (matrix,) = (job["strategy"]["matrix"]["make"] for job in jobs if "make" in job["strategy"]["matrix"])
    made = " ".join(command.replace("${{ matrix.make }}", " ".join(matrix)) for command in commands)
    lines = re.findall(r"(?m)^make (.*)$", (ROOT / ".ci/run").read_text(encoding="utf-8"))
    wanted = [word for word in " ".join(lines).split() if not word.startswith("--")]
    assert sorted(made.replace("make ", "").split()) == sorted(wanted)


@pytest.mark.parametrize(("python", "knows"), [("3.11", True), ("3.13", False)])
def test_xla_is_told_nothing_that_its_version_does_not_know(tmp_path, python, knows):
    """It would end every process. The package manager takes jaxlib 0.10 for Python 3.11 alone."""
    locked = (ROOT / "requirements/figures.txt").read_text(encoding="utf-8")
    assert re.search(r"(?m)^jaxlib==0\.10\.\d+ ; python_full_version < '3\.12'", locked)
    executable = tmp_path / "python3"
    executable.write_text(
        f"""#!/bin/sh
exec python3 -c "import sys; sys.version_info = ({python.replace(".", ", ")}, 0); $2"
"""
    )
    executable.chmod(0o755)
    flags = variable_of_make("XLA_FLAGS", f"VENV={tmp_path}", f"PYTHON={executable}", XLA_FLAGS="")
    assert ("fusion_emitters" in flags) == knows, flags


def test_make_keeps_compiled_modules_whatever_the_shell_says():
    """Python takes any value but an empty one as yes."""
    assert variable_of_make("PYTHONDONTWRITEBYTECODE", PYTHONDONTWRITEBYTECODE="1") == "\n"


def variable_of_make(name, *settings, **environment):
    """A variable as make hands it to commands."""
    command = ["make", "-s", *settings, f"--eval=show: ; @echo $${name}", "show"]
    environment = os.environ | environment
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout
