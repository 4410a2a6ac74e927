"""Notebooks are short, show what they showed when they ran and nothing else of it, need only what is installed, and are
listed. `make notebooks` executes them; its comparison is tested here.
"""

import ast
import base64
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image, ImageDraw

from notebooks import execute
from toymodel.check import CHECKS

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "notebooks"
INDEX = (FOLDER / "README.md").read_text(encoding="utf-8")
NOTEBOOKS = {path.name: json.loads(path.read_text(encoding="utf-8")) for path in sorted(FOLDER.glob("*.ipynb"))}
INSTALLED = {"toymodel", "jax", "numpy", "matplotlib", "optax"}
OTHERS = {"07_theory_and_proofs.ipynb": {"proofs"}, "08_your_own_model.ipynb": {"torch"}}  # where they are there
LINES = 15  # of code in a cell
TIME = re.compile(r"about (\d+) s on two CPU cores", re.IGNORECASE)
BADGE = "https://colab.research.google.com/assets/colab-badge.svg"
CLONE = f"git+https://github.com/{execute.REPOSITORY}"
each = pytest.mark.parametrize("name", NOTEBOOKS)


def sources(name, kind):
    return ["".join(cell["source"]) for cell in NOTEBOOKS[name]["cells"] if cell["cell_type"] == kind]


def test_there_are_nine_in_order():
    assert [name[:2] for name in NOTEBOOKS] == [f"{number:02}" for number in range(1, 10)]


@each
def test_only_what_a_run_showed_is_kept_of_it(name):
    notebook = NOTEBOOKS[name]
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    assert notebook["metadata"] == {"kernelspec": kernel, "language_info": {"name": "python"}}
    assert len({cell["id"] for cell in notebook["cells"]}) == len(notebook["cells"])
    for cell in notebook["cells"]:
        assert cell["metadata"] == {}
        if cell["cell_type"] == "code":
            assert cell["execution_count"] is None
            assert [kind for kind, _ in shown(cell)].count("image/png") == "".join(cell["source"]).count("plt.show()")
            for kind, output in shown(cell):
                assert kind in ("text", "text/plain", "image/png")
                # Addresses, colours, absolute paths, packages, warnings, progress.
                noise = r" at 0x|\x1b|(?<![\w.:/])/\w[\w.-]*/|site-packages|Warning|%\|"
                assert kind == "image/png" or not re.search(noise, output)
                assert kind != "image/png" or len(base64.b64decode(output)) < 40_000


def shown(cell):
    """Kinds and contents, of a cell as its file has it."""
    return [
        ("text", "".join(output["text"])) if "text" in output else (kind, "".join(content))
        for output in cell["outputs"]
        for kind, content in output.get("data", {"text": ""}).items()
    ]


def test_all_of_them_are_small():
    assert sum(path.stat().st_size for path in FOLDER.glob("*.ipynb")) < 1_200_000


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
    assert (
        f"]({BADGE})](https://colab.research.google.com/github/{execute.REPOSITORY}/blob/main/notebooks/{name})" in head
    )
    install, setup, *_ = sources(name, "code")
    assert install.splitlines()[-1].strip().endswith(f" @ {CLONE}'")
    assert f'jax.config.update("jax_enable_x64", {not large})' in setup


@each
def test_the_last_cell_asks_for_a_prediction_and_folds_the_answer(name):
    assert NOTEBOOKS[name]["cells"][-1]["cell_type"] == "markdown"
    *_, last = sources(name, "markdown")
    question, answer = re.fullmatch(
        r".*## Change this, predict that\n\n(.+?)\n\n<details><summary>Answer</summary>\n\n(.+)\n\n</details>",
        last,
        re.DOTALL,
    ).groups()
    assert question.endswith("?")
    assert "`" in question
    assert answer.endswith(".")


@each
def test_it_imports_only_what_is_installed(name):
    for source in sources(name, "code"):
        for node in ast.walk(ast.parse(re.sub(r"^( *)%.*", r"\1pass", source, flags=re.MULTILINE))):
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
    for known in ("file://", BADGE, CLONE, f"https://colab.research.google.com/github/{execute.REPOSITORY}/"):
        text = text.replace(known, "")
    assert "://" not in text, "hosts change"
    for target in re.findall(r"(?<!\))\]\(([^):]+)\)", "\n".join(sources(name, "markdown"))):
        assert target in NOTEBOOKS, target
    for figure in re.findall(r"\bfig_\w+", text):
        assert (ROOT / "figures" / f"{figure}.py").is_file(), figure
    for path in re.findall(r"`((?:proofs|toymodel|examples)/[\w/]+\.\w+)`", text):
        assert (ROOT / path).is_file(), path


def test_the_index_lists_each_with_its_time():
    rows = re.findall(r"(?m)^\| \[.*?\]\((\S+?)\) \|.*\| (\d+) s \|$", INDEX)
    assert rows == [(name, TIME.search(sources(name, "markdown")[0])[1]) for name in NOTEBOOKS]


# --- The comparison of `make notebooks` -------------------------------------------------------------------------------


def picture(level=40, size=(300, 200)):
    """A curve on white: a line across, at a height."""
    image, png = Image.new("RGB", size, "white"), io.BytesIO()
    ImageDraw.Draw(image).line([(0, 100), (300, level)], fill="blue", width=2)
    image.save(png, "png")
    return new_output("display_data", {"image/png": base64.b64encode(png.getvalue()).decode()})


def text(words):
    return new_output("stream", name="stdout", text=words)


def of(*outputs, source="show()"):
    return new_notebook(cells=[new_markdown_cell("# Words"), new_code_cell(source, outputs=list(outputs))])


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (text("slope +0.158\n"), text("slope +0.158\n")),
        (text("slope +0.158\n"), text("slope +0.159\n")),  # one unit of the last digit
        (text("p 1.092034650881\n"), text("p 1.092034650882\n")),
        (text("nats 0.00\n"), text("nats -0.00\n")),
        (text("off by 2e-16\n"), text("off by 1e-14\n")),  # round-off
        (text("a  9.99  b\n"), text("a 10.00  b\n")),  # in columns
        (picture(40), picture(40)),
    ],
)
def test_what_another_processor_rounds_otherwise_is_the_same(before, after):
    assert list(execute.differences(of(before), of(after))) == []


@pytest.mark.parametrize(
    ("before", "after", "difference"),
    [
        (text("slope +0.158\n"), text("slope +0.160\n"), "it printed\n  slope +0.158\nand now\n  slope +0.160"),
        (text("slope +0.158\n"), text("slope -0.158\n"), "it printed"),
        (text("24 of 24\n"), text("23 of 24\n"), "it printed"),
        (text("off by 2e-16\n"), text("off by 2e-06\n"), "it printed"),
        (text("L* = 23.75\n"), text("L* = inf\n"), "it printed"),
        (text("both down\n"), text("both up\n"), "it printed"),
        (text("a\nb\n"), text("a\n"), "2 lines, and now 1"),
        (picture(), text("no picture\n"), r"showed ['image/png'], and now ['text']"),
        (picture(40), picture(60), "its picture differs by"),
        (picture(), picture(size=(300, 201)), "had (300, 200) pixels, and now (300, 201)"),
    ],
)
def test_what_changed_is_told_with_its_cell(before, after, difference):
    (told,) = execute.differences(of(before), of(after))
    assert told.startswith("cell 1: ")
    assert difference in told


def test_a_missing_picture_is_told():
    (told,) = execute.differences(of(text("a\n"), picture()), of(text("a\n")))
    assert told == "cell 1: it showed ['text', 'image/png'], and now ['text']."


def test_an_address_that_is_not_the_repositorys_is_told():
    old, new = (f"%pip install 'toymodel @ git+https://github.com/{name}'" for name in ("a/b", execute.REPOSITORY))
    (told,) = execute.differences(of(source=old), of(source=new))
    assert told.endswith(f"does not lead to {execute.REPOSITORY}.")


def run(*arguments):
    script = ROOT / "notebooks/execute.py"
    done = subprocess.run([sys.executable, script, *map(str, arguments)], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def test_a_run_is_kept_and_a_later_one_compared(tmp_path):
    good, bad = tmp_path / "good.ipynb", tmp_path / "bad.ipynb"
    source = (
        "import sys\nfrom PIL import Image\n1 + 1; print(0.5); print('noise', file=sys.stderr)\nImage.new('L', (9, 9))"
    )
    nbformat.write(new_notebook(cells=[new_code_cell(source)], metadata={"signature": "x"}), good)
    assert run("--update", good)[0] == 0

    kept = nbformat.read(good, as_version=4)
    (cell,) = kept.cells
    assert (kept.metadata, cell.metadata, cell.execution_count) == (execute.METADATA, {}, None)
    assert [kind for kind, _ in shown(cell)] == ["text", "image/png"]
    assert cell.outputs[0].text == "0.5\n"

    cell.outputs[0].text = "0.7\n"
    nbformat.write(kept, good)
    nbformat.write(new_notebook(cells=[new_code_cell("1 / 0")]), bad)
    code, _, told = run(good, bad)
    assert code == 1
    assert "good.ipynb, cell 0: it printed\n  0.7\nand now\n  0.5" in told
    assert "bad.ipynb, it stops" in told
    assert "ZeroDivisionError" in told
    assert "make notebooks UPDATE=1" in told
    assert nbformat.read(good, as_version=4) == kept
