"""What the README tells a reader to type works, and prints what it says."""

import re
from pathlib import Path

import pytest

from toymodel import cli, theory
from toymodel.check import CHECKS
from toymodel.experiments import sentiment
from toymodel.remedies import REMEDIES

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PROSE = re.sub(r"```.*?```", "", README, flags=re.DOTALL)
PAPER = [[cell.strip() for cell in row.split("|")[1:-1]] for row in re.findall(r"(?m)^\| (?!Paper|--).*$", README)]


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def test_the_first_block_is_short_and_prints_what_stands_below_it(capsys):
    (code,), (printed,) = blocks("python"), blocks("text")
    assert len(code.splitlines()) <= 15
    exec(code, {})
    assert capsys.readouterr().out == printed
    assert "both_down" in printed


def test_one_token_less_and_the_chosen_rises():
    (code,) = blocks("python")
    names = {}
    exec(code.replace("suffix_pair(24", "suffix_pair(23"), names)
    assert names["chosen"][0] > 0 > names["rejected"][0]
    assert "With 23 shared tokens the chosen answer rises; with 24 it falls." in README


def test_it_is_short():
    words = re.sub(r"(?m)^\|.*$", "", PROSE).split()
    assert len(words) <= 850


def test_the_two_first_commands_and_the_quick_way():
    first, *_ = blocks("sh")
    assert [line.partition("#")[0].strip() for line in first.splitlines()] == ["make figures", "make test"]
    assert "`make paper`" in README.partition("## In Python")[0]


def test_every_named_target_and_file_exists():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = re.findall(r"(?m)(?:`|^)make ([a-z]+)", README)
    assert targets
    for target in targets:
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target
    for path in re.findall(r"\]\(([^):#]+)\)", PROSE):
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize("line", re.findall(r"(?m)(?:^|`)(toymodel [a-z][^`#\n]*)", README))
def test_every_command_is_one_that_there_is(line):
    cli.parse(line.split()[1:])


def test_the_table_of_the_paper_names_what_there_is():
    figures = {path.stem: path.read_text(encoding="utf-8") for path in (ROOT / "figures").glob("fig_*.py")}
    labels = {check.label for check in CHECKS}
    shown = {}
    for paper, here, label, _, _ in PAPER:
        name = here.strip("`")
        if paper.startswith("Fig."):
            shown[name] = paper
        elif name.startswith("theory."):
            assert hasattr(theory, name.removeprefix("theory."))
        else:
            assert name in REMEDIES
        assert set(re.findall(r"T\d+", label)) <= labels, label
        assert label
    said = {name: found[1] for name, text in figures.items() if (found := re.search(r'(?m)^PAPER = "(.*)"$', text))}
    assert shown == said


def test_what_prose_names_exists():
    for figure in re.findall(r"\bfig_\w+", PROSE):
        assert (ROOT / "figures" / f"{figure}.py").exists(), figure
    for function in re.findall(r"`sentiment\.(\w+)", PROSE):
        assert hasattr(sentiment, function)
    assert f"All {len(CHECKS)} claims" in README


def test_every_label_has_its_tests():
    source = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").glob("test_*.py"))
    for check in CHECKS:
        assert f"def test_{check.label.lower()}_" in source
