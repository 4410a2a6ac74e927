"""What the pages of docs/ tell a reader to type works as printed, and what makes them a strict site can fail.

The site itself is built by `make docs`, where every warning is an error.
"""

import re
import shlex
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
    code = "".join(code for _, code, _ in steps(path)) if path.suffix == ".md" else text
    assert [line for line in code.splitlines() if len(line) > COLUMNS] == []


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
        ("examples/README.md", "[guide](../toymodel/remedies/README.md#x)", "[guide](remedies.md#x)"),
        ("examples/README.md", "[away](https://arxiv.org/abs/1)", "[away](https://arxiv.org/abs/1)"),
        ("examples/README.md", "[broken](nothing_here.md)", "[broken](nothing_here.md)"),  # for the build to fail on
    ],
)
def test_links_and_formulas_of_the_repository_become_those_of_the_site(source, text, translated):
    assert published.translate(text, (ROOT / source).parent, ROOT / "docs/made") == translated


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
