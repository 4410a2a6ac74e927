"""What the pages of docs/ tell a reader to type works as printed, and what makes them a strict site can fail.

The site itself is built by `make docs`, where every warning is an error.
"""

import base64
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from proofs import claims
from toymodel.losses import ALIASES, LOSSES
from toymodel.remedies import REMEDIES

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "docs"))  # where Sphinx finds its extensions

import mathml  # noqa: E402
import published  # noqa: E402
import reference  # noqa: E402

PAGES = sorted((ROOT / "docs").glob("*.md"))
RUNNABLE = [page for page in PAGES if "```python" in page.read_text(encoding="utf-8")]


def blocks(page, language):
    """The code in this language, each block with as many empty lines before it as make its line numbers the page's."""
    text = page.read_text(encoding="utf-8")
    found = re.finditer(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return ["\n" * text[: block.start(1)].count("\n") + block[1] for block in found]


# --- The pages ------------------------------------------------------------------------------------------------------


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder to run in; what a page enters into a catalogue is taken out again."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    kept = [(catalogue, dict(catalogue)) for catalogue in (LOSSES, REMEDIES)]
    yield tmp_path
    for catalogue, entries in kept:
        catalogue.clear()
        catalogue.update(entries)


@pytest.mark.parametrize("page", RUNNABLE, ids=lambda page: page.stem)
def test_the_python_of_a_page_runs_from_top_to_bottom(page, here):
    names = {"__name__": "__main__"}
    for block in blocks(page, "python"):
        if named := re.match(r"\n*# (\w+\.py)\n", block):
            (here / named[1]).write_text(block, encoding="utf-8")
        exec(compile(block, str(page), "exec"), names)


@pytest.mark.usefixtures("here")
def test_the_losses_of_a_page_have_the_weights_of_their_values():
    page, names, logps = ROOT / "docs/add_loss.md", {}, np.array([-3.0, -9.0])
    known = set(LOSSES)
    for block in blocks(page, "python"):
        exec(compile(block, str(page), "exec"), names)
    assert len(set(LOSSES) - known) >= 2
    for name in set(LOSSES) - known:
        loss = LOSSES[name]()
        closed, automatic = (route(logps, logps[::-1], logps, logps) for route in (loss.weights, loss.autodiff_weights))
        np.testing.assert_allclose(closed, automatic, rtol=1e-14)  # a dozen operations each


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_command_on_a_page_is_one_that_there_is(page):
    from toymodel import cli

    for line in "".join(blocks(page, "sh")).splitlines():
        words = line.partition("  #")[0].split()
        if words[:1] == ["toymodel"]:
            cli.parse(words[1:])
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"(?:`|^)make ([a-z]+)", page.read_text(encoding="utf-8"), re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_a_configuration_on_a_page_is_understood(here):
    from toymodel.sweep import config

    page = ROOT / "docs/add_experiment.md"
    (here / "widening.py").write_text(blocks(page, "python")[0], encoding="utf-8")
    (here / "widening.toml").write_text(blocks(page, "toml")[0], encoding="utf-8")
    assert config.load("widening.toml").size == 13 * 5 * 100


def test_every_answer_says_where_it_is_shown():
    text = (ROOT / "docs/faq.md").read_text(encoding="utf-8")
    _, *answers = re.split(r"(?m)^## ", text)
    assert len(answers) > 10
    for answer in answers:
        assert re.search(r"\]\((made/\w+\.md|#fig_\w+|your_own\.md)\)", answer), answer.partition("\n")[0]
    assert set(re.findall(r"#(fig_\w+)", text)) <= set(published.SHOWN.values())


# --- What makes them a site -----------------------------------------------------------------------------------------


def test_formulas_are_understood():
    formulas = [claim["formula"] for claim in claims.load().values()]
    for path in (ROOT / "proofs").glob("T*.md"):
        text = path.read_text(encoding="utf-8")
        formulas += re.findall(r"\$`(.*?)`\$", text, re.DOTALL) + re.findall(r"^```math\n(.*?)^```", text, re.M | re.S)
    assert len(formulas) > 1000
    assert all(mathml.convert(formula).startswith("<math") for formula in formulas)
    with pytest.raises(mathml.MathError):
        mathml.convert(r"\nosuchcommand x")


@pytest.mark.parametrize(
    ("source", "text", "translated"),
    [
        ("proofs/CLAIMS.md", "[T8.md](T8.md)", "[T8.md](T8.md)"),
        ("proofs/CLAIMS.md", "[fig_overlap](../figures/fig_overlap.py)", "[fig_overlap](#fig_overlap)"),
        ("proofs/CLAIMS.md", "[`a`](Suffix.v#L7)", "[`a`](../../proofs/Suffix.v)"),
        ("proofs/CLAIMS.md", "[`a_test`](../tests/test_mass.py)", "`a_test`"),
        ("proofs/CLAIMS.md", "`toymodel.theory.case`", "{py:obj}`toymodel.theory.case`"),
        ("proofs/T8.md", "$`a \\le\nb`$ and $`c`$", "{math}`a \\le b` and {math}`c`"),
        ("proofs/T8.md", "```math\nx\n```", "```{math}\nx\n```"),
        ("proofs/T8.md", "```coq\n[a](b) $`c`$\n```", "```coq\n[a](b) $`c`$\n```"),
        ("proofs/T8.md", "`f[a](b)`", "`f[a](b)`"),
        ("figures/README.md", "![a](gallery/fig_flow.png)", "![a](../../figures/gallery/fig_flow.png)"),
        ("figures/README.md", "[a](fig_flow.py)", "[a](../../figures/fig_flow.py)"),
        ("figures/README.md", "[a](gallery/fig_flow.csv)", "[a](../../figures/gallery/fig_flow.csv)"),
        ("figures/README.md", "[T8](../proofs/T8.md)", "[T8](T8.md)"),
        (
            "figures/README.md",
            "[![a](gallery/fig_flow.png)](../README.md)",
            "![a](../../figures/gallery/fig_flow.png)",
        ),
        ("notebooks/README.md", "[a](01_quickstart.ipynb)", "[a](01_quickstart.md)"),
        ("notebooks/01_quickstart.ipynb", "[a](02_token_overlap.ipynb)", "[a](02_token_overlap.md)"),
        ("examples/README.md", "[guide](../toymodel/remedies/README.md#x)", "[guide](remedies.md#x)"),
        ("examples/README.md", "[away](https://arxiv.org/abs/1)", "[away](https://arxiv.org/abs/1)"),
        ("examples/README.md", "[broken](nothing_here.md)", "[broken](nothing_here.md)"),  # for the build to fail on
    ],
)
def test_links_and_formulas_of_the_repository_become_those_of_the_site(source, text, translated):
    assert published.translate(text, (ROOT / source).parent, ROOT / "docs/made") == translated


def test_a_notebook_is_a_page_with_what_it_printed_and_its_pictures(tmp_path):
    png, badge = b"a picture", "[![Open in Colab](https://a/badge.svg)](https://colab/a.ipynb)"
    outputs = [
        {"output_type": "stream", "name": "stdout", "text": ["two\n", "lines\n"]},
        {"output_type": "display_data", "data": {"image/png": base64.b64encode(png).decode()}},
        {"output_type": "display_data", "data": {"text/plain": ["a table"]}},
    ]
    cells = [
        {"cell_type": "markdown", "source": [f"# 1 · One\n\n{badge}\n\n$a\n< b$ and\n\n$$x$$\n"]},
        {"cell_type": "code", "source": ["%pip install toymodel"], "outputs": []},
        {"cell_type": "markdown", "source": ["## A curve"]},
        {"cell_type": "code", "source": ["draw()"], "outputs": outputs},
    ]
    page = published.from_notebook(json.dumps({"cells": cells}), "01_one", tmp_path)
    assert page == "\n\n".join(
        [
            "# 1 · One",
            "{download}`This notebook <../../notebooks/01_one.ipynb>` · [in Colab](https://colab/a.ipynb)",
            "$`a\n< b`$ and",
            "```math\nx\n```\n",
            "## A curve",
            "```python\ndraw()\n```",
            "```text\ntwo\nlines\n```",
            "![A curve](01_one_3_1.png)",
            "```text\na table\n```",
        ]
    )
    assert (tmp_path / "01_one_3_1.png").read_bytes() == png


def test_what_is_public_must_have_a_docstring_and_a_place(monkeypatch):
    objects = {f"{module}.{name}" for module in reference.modules() for name, _ in reference.definitions(module)}
    missing = "toymodel.theory.condition.case is not in the API reference"
    assert missing not in set(reference.undocumented(objects))
    assert missing in set(reference.undocumented(objects - {"toymodel.theory.condition.case"}))
    elsewhere = objects - {"toymodel.theory.condition.case"} | {"toymodel.theory.case"}
    assert missing not in set(reference.undocumented(elsewhere))
    constant = "toymodel.theory.CASES is in `__all__` and not in the API reference"
    assert constant in set(reference.undocumented(objects))
    assert constant not in set(reference.undocumented(objects | {"toymodel.theory.condition.CASES"}))
    monkeypatch.setattr(reference, "modules", lambda: ["toymodel.experiments.statistics"])
    monkeypatch.setattr(reference, "definitions", lambda _module: [("mean_interval", None)])
    assert "toymodel.experiments.statistics.mean_interval has no docstring" in set(reference.undocumented(objects))


def test_the_reference_shows_every_name_that_a_loss_is_found_under(tmp_path):
    reference.write(tmp_path)
    page = (tmp_path / "api_losses.rst").read_text(encoding="utf-8")
    assert all(f"“{alias}”" in page for alias in ALIASES)
    assert "Also called “ipo” (which may also mean `ipo_lennorm`)." in page


def test_no_module_is_left_out():
    assert {"toymodel.theory.condition", "toymodel.training", "toymodel.losses"} <= set(reference.modules())
    private = [
        path for path in (ROOT / "toymodel").rglob("*.py") if path.name.startswith("_") and path.stem != "__init__"
    ]
    assert len(reference.modules()) == len([*(ROOT / "toymodel").rglob("*.py")]) - len(private)
