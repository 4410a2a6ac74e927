"""Notebooks are short, without outputs, need only what is installed, and are listed. `make notebooks` executes them."""

import ast
import json
import re
import sys
from pathlib import Path

import pytest

from toymodel.check import CHECKS

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "notebooks"
INDEX = (FOLDER / "README.md").read_text(encoding="utf-8")
NOTEBOOKS = {path.name: json.loads(path.read_text(encoding="utf-8")) for path in sorted(FOLDER.glob("*.ipynb"))}
INSTALLED = {"toymodel", "jax", "numpy", "matplotlib", "optax"}
OTHERS = {"07_theory_and_proofs.ipynb": {"proofs"}, "08_your_own_model.ipynb": {"torch"}}  # where they are there
LINES = 15  # of code in a cell
TIME = re.compile(r"about (\d+) s on two CPU cores", re.IGNORECASE)
each = pytest.mark.parametrize("name", NOTEBOOKS)


def sources(name, kind):
    return ["".join(cell["source"]) for cell in NOTEBOOKS[name]["cells"] if cell["cell_type"] == kind]


def test_there_are_nine_in_order():
    assert [name[:2] for name in NOTEBOOKS] == [f"{number:02}" for number in range(1, 10)]


@each
def test_nothing_of_a_run_is_kept(name):
    notebook = NOTEBOOKS[name]
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    assert notebook["metadata"] == {"kernelspec": kernel, "language_info": {"name": "python"}}
    assert len({cell["id"] for cell in notebook["cells"]}) == len(notebook["cells"])
    for cell in notebook["cells"]:
        assert cell["metadata"] == {}
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            assert cell["execution_count"] is None


@each
def test_cells_are_short(name):
    for source in sources(name, "code"):
        lines = [line for line in source.splitlines() if line.strip() and not line.lstrip().startswith("#")]
        assert 0 < len(lines) <= LINES, source


@each
def test_the_first_cells_say_what_it_is_and_how_to_install(name):
    head, *_ = sources(name, "markdown")
    assert NOTEBOOKS[name]["cells"][0]["cell_type"] == "markdown"
    assert head.startswith(f"# {int(name[:2])} · ")
    large = name == "09_real_model.ipynb"  # a model that is twice as large in float64
    assert int(TIME.search(head)[1]) <= (180 if large else 60)
    assert "pip install '.[notebooks]'" in head
    assert "pip install 'toymodel[notebooks] @ file:" in head
    setup, *_ = sources(name, "code")
    assert setup.startswith("# %pip install ")
    assert large or 'jax.config.update("jax_enable_x64", True)' in setup


@each
def test_it_imports_only_what_is_installed(name):
    for source in sources(name, "code"):
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Import | ast.ImportFrom):
                modules = [node.module] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
                packages = {module.partition(".")[0] for module in modules}
                assert packages <= INSTALLED | sys.stdlib_module_names | OTHERS.get(name, set()), source


@each
def test_labels_links_and_names_exist(name):
    text = "\n".join(sources(name, "markdown") + sources(name, "code"))
    labels = set(re.findall(r"\bT\d+\b", text))
    assert labels, "every claim has its label"
    assert labels <= {check.label for check in CHECKS}
    assert "://" not in text.replace("file://", ""), "hosts change"
    for target in re.findall(r"\]\(([^)]+)\)", "\n".join(sources(name, "markdown"))):
        assert target in NOTEBOOKS, target
    for figure in re.findall(r"\bfig_\w+", text):
        assert (ROOT / "figures" / f"{figure}.py").is_file(), figure
    for path in re.findall(r"`((?:proofs|toymodel|examples)/[\w/]+\.\w+)`", text):
        assert (ROOT / path).is_file(), path


def test_the_index_lists_each_with_its_time():
    rows = re.findall(r"(?m)^\| \[.*?\]\((\S+?)\) \|.*\| (\d+) s \|$", INDEX)
    assert rows == [(name, TIME.search(sources(name, "markdown")[0])[1]) for name in NOTEBOOKS]
