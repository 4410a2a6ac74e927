"""What the pages of docs/ tell a reader to type works as printed, and what makes them a strict site can fail.

The site itself is built by `make docs`, where every warning is an error.
"""

import base64
import json
import re
import shlex
import sys
import warnings
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
FENCE = re.compile(r"^```(\w+)\n(.*?)^```\n(?:\s*^```text\n(.*?)^```)?", re.MULTILINE | re.DOTALL)
SHOWN_TOO = [ROOT / "examples/README.md", *(ROOT / "examples").glob("*.py")]  # other code on the site
COLUMNS = 88  # of code, on a page as wide as the site's
# The first words of what no test types in, and why.
NOT_RUN = {
    "make env": "makes this very environment",
    ". .venv/bin/activate": "belongs to it",
    "pip install": "asks an index for packages",
    "toymodel check --quick": "tests/test_check.py does, with the labels one by one",
    "toymodel diagnose --model": "needs torch and a checkpoint; tests/test_huggingface.py has both where it is run",
    "from toymodel.huggingface": "needs torch",
    "toymodel diagnose trainer_state.json": "a file of the reader's",
    "toymodel diagnose yours.npz": "a file of the reader's",
    "toymodel account": "trains for minutes; tests/test_account_experiment.py is smaller",
    "toymodel real": "downloads a model",
}


def blocks(page, language):
    """The code in this language, each block with as many empty lines before it as make its line numbers the page's."""
    return [code for found, code, _ in steps(page) if found == language]


def steps(page):
    """Language, code as `blocks` has it, and what stands below it as its output, of each block of a page."""
    text = page.read_text(encoding="utf-8")
    for found in FENCE.finditer(text):
        yield found[1], "\n" * text[: found.start(2)].count("\n") + found[2], found[3]


def left_out(line):
    return any(line.startswith(words) for words in NOT_RUN)


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


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_does_what_it_shows(page, here, capsys):
    """From top to bottom, as a reader would: Python, files that are named in their first line, and a shell's lines."""
    from toymodel import cli

    names = {"__name__": "__main__"}
    for language, code, shown in steps(page):
        if named := re.match(r"\n*# (\w+\.(py|toml))\n", code):
            (here / named[1]).write_text(code, encoding="utf-8")
        if language == "python" and not left_out(code.lstrip()):
            exec(compile(code, str(page), "exec"), names)
        elif language == "sh":
            for line in filter(None, code.splitlines()):
                assert left_out(line) or line.startswith("toymodel "), line
                assert left_out(line) or cli.main(shlex.split(line, comments=True)[1:]) == 0, line
        printed = capsys.readouterr().out
        if shown is not None or language == "python":  # a shell's tables are shown where a reader needs them
            assert printed == (shown or ""), f"{page.name} after {code.strip()}"


def test_what_is_not_run_is_on_a_page():
    lines = "\n".join(code for page in PAGES for _, code, _ in steps(page)).splitlines()
    for words in NOT_RUN:
        assert any(line.startswith(words) for line in lines), words


@pytest.mark.parametrize("path", [*PAGES, *SHOWN_TOO], ids=lambda path: path.name)
def test_code_fits_the_page(path):
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        text = "".join(code + (shown or "") for language, code, shown in steps(path) if language != "math")
    assert [line for line in text.splitlines() if len(line) > COLUMNS] == []


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
    assert config.load("widening.toml").size == 13 * 5 * 20


def test_every_answer_says_where_it_is_shown():
    text = (ROOT / "docs/faq.md").read_text(encoding="utf-8")
    _, *answers = re.split(r"(?m)^## ", text)
    assert len(answers) > 10
    for answer in answers:
        assert re.search(r"\]\((made/\w+\.md|#fig_\w+|your_own\.md)\)", answer), answer.partition("\n")[0]
    assert set(re.findall(r"#(fig_\w+)", text)) <= set(published.SHOWN.values())


# --- What a reader sees ---------------------------------------------------------------------------------------------

# The site without what is made from elsewhere in the repository, which takes longer.
SETTINGS = """
import sys
sys.path.insert(0, {docs!r})
project, html_theme, html_math_renderer, default_role = "toymodel", "furo", "mathml", "code"
extensions, exclude_patterns, myst_fence_as_directive = ["myst_parser", "mathml"], ["_build", "made"], ["math"]
html_static_path, html_css_files = [{docs!r} + "/static"], ["site.css"]
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Our own pages as HTML."""
    from sphinx.application import Sphinx

    folder = tmp_path_factory.mktemp("site")
    (folder / "conf.py").write_text(SETTINGS.format(docs=str(ROOT / "docs")), encoding="utf-8")
    out = folder / "html"
    silent = {"status": None, "warning": None}  # links to what is left out; `make docs` checks them
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what other people's extensions say to each other
        Sphinx(ROOT / "docs", folder, out, folder / "doctrees", "html", **silent).build()
    return out


# What reaches beyond the window, and no box of its own to scroll in.
BEYOND = """() => [...document.querySelectorAll('article *')].filter(element => {
  if (element.getBoundingClientRect().right <= innerWidth + 1) return false;
  let box = element.parentElement;
  while (box.tagName !== 'ARTICLE' && getComputedStyle(box).overflowX === 'visible') box = box.parentElement;
  return box.tagName === 'ARTICLE';
}).map(element => element.outerHTML.slice(0, 80))"""


def test_no_page_scrolls_sideways_on_a_phone(site, browser):
    opened = browser.new_context(viewport={"width": 390, "height": 800}).new_page()
    for page in PAGES:
        opened.goto((site / f"{page.stem}.html").as_uri())
        assert opened.evaluate(BEYOND) == [], page.name
    opened.evaluate("() => document.querySelector('article').style.minWidth = '500px'")
    assert opened.evaluate(BEYOND)


def test_a_line_of_code_fits_the_page_on_a_desk(site, browser):
    opened = browser.new_context(viewport={"width": 1280, "height": 800}).new_page()
    opened.goto((site / "concepts.html").as_uri())
    hidden = """columns => {
      const code = document.querySelector('article pre');
      code.textContent = 'x'.repeat(columns);
      return code.scrollWidth - code.clientWidth;
    }"""
    assert opened.evaluate(hidden, COLUMNS) <= 0 < opened.evaluate(hidden, COLUMNS + 12)


def test_the_cheat_sheet_is_one_sheet_of_paper(site, browser):
    opened = browser.new_context().new_page()
    for page, sheets in (("cheat_sheet", 1), ("concepts", None)):
        opened.goto((site / f"{page}.html").as_uri())
        found = len(re.findall(rb"/Type\s*/Page\b", opened.pdf(prefer_css_page_size=True)))
        assert found == sheets if sheets else found > 1, page


@pytest.mark.parametrize(
    ("text", "formulas"),
    [
        ("‖g_w‖² and L*_B", [r"\lVert g_w \rVert^2", "L^*_B"]),
        ("⟨g_w, g_l⟩ > r*", [r"\langle g_w, g_l \rangle", "r^*"]),
        ("π_ref, Σ_{s,s′}, h_w′", [r"π_{\mathrm{ref}}", r"\sum_{s,s'}", "h_w'"]),
        ("2ρ_ψ − d_w/d_l", ["ρ_ψ", "d_w", "d_l"]),
        ("fig_story, add_loss, chosen_logps and 2 * x_measured", []),
    ],
)
def test_mathematics_in_running_text_is_found(text, formulas):
    found = [mathml.tex(piece[0]) for piece in mathml.PLAIN.finditer(text)]
    assert found == formulas
    assert all(mathml.convert(formula).startswith("<math") for formula in found)


def test_no_mathematics_is_left_as_text(site):
    """Outside of code and of formulas, on every page of our own."""
    for page in PAGES:
        html = (site / f"{page.stem}.html").read_text(encoding="utf-8")
        article = re.search(r"<article.*?</article>", html, re.DOTALL)[0]
        text = re.sub(r"<(pre|code|math|title)\b.*?</\1>|<[^>]*>", "", article, flags=re.DOTALL)
        assert re.findall(r"\b[a-zπ]_[wl]\b|‖|⟨|\b[Lr]\*", text) == [], page.name


def test_norms_stars_and_signs_are_set_as_one_would_by_hand():
    def set_(formula):
        return re.sub(r"\s*\n\s*", "", mathml.convert(formula))

    assert "<msup><mrow><mo" in set_(r"\lVert g \rVert^2")  # the square of the norm, not of its bar
    assert "<mo>∗</mo>" in set_("L^*")
    assert "<mo>*</mo>" not in set_("L^*")
    assert "<mn>0.9</mn>" in set_("(.9, .5)")
    assert '<mo form="prefix">−</mo>' in set_("(-1, 2)")
    assert "form" not in set_("1 - 2")
    assert "<msubsup><mi>y</mi><mi>j</mi><mi>′" in set_("y'_j")


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
        ("proofs/T8.md", "```math\nx\n```", "```math\nx\n```"),
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
