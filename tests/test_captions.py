"""Numbers in words come from tables: nothing is typed by hand, and no page says what its table does not."""

import ast
import importlib
import re
from pathlib import Path

import pytest

from figures import build, gallery
from figures.tables import NotSupported, Tables, number, percent, plain, signed, spelled
from toymodel.losses import LOSSES

ROOT = Path(__file__).parents[1]
CAPTIONS = sorted((ROOT / "figures/captions").glob("*.md"))
FIGURES = sorted(path.stem for path in (ROOT / "figures").glob("fig_*.py"))
PAGES = ("figures/README.md", *gallery.PAGES_WITH_BLOCKS)
OTHERS = (
    "README.md",
    "docs/entanglement.html",
    "toymodel/remedies/README.md",
    *(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")),
)

EXPRESSION = re.compile(r"\{[{%#].*?[}%#]\}", re.DOTALL)
TYPED = re.compile(r"(?<![\w.])[+−-]?\d+\.\d+(?![\w.])|\d\s?%")
ALLOWED = re.compile(
    r"arXiv[:\s]*\d{4}\.\d{5}(v\d+)?|arxiv\.org/abs/\d{4}\.\d{5}|95%|(Python|JAX) \d\.\d+|Apache-2\.0|ln 2 ≈ 0\.693"
)


@pytest.fixture(scope="module")
def tables():
    return Tables(ROOT / "figures/gallery")


@pytest.fixture(scope="module")
def pages(tables):
    return gallery.pages(FIGURES, tables)


def typed(text):
    """Decimal numbers and percentages."""
    return TYPED.findall(ALLOWED.sub("", text))


def typed_in(template):
    """Return the decimals outside of expressions, and those inside their quoted words."""
    words = [quoted for code in EXPRESSION.findall(template) for quoted in re.findall(r'"[^"]*"', code)]
    return typed(" ".join([EXPRESSION.sub("", template), *words]))


@pytest.mark.parametrize("path", CAPTIONS, ids=lambda path: path.stem)
def test_no_number_is_typed_by_hand_in_a_caption(path):
    assert typed_in(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("name", FIGURES)
def test_no_number_is_typed_by_hand_in_the_docstring_of_a_figure(name):
    docstring = ast.get_docstring(ast.parse((ROOT / f"figures/{name}.py").read_text(encoding="utf-8")))
    assert re.fullmatch(r"[A-Z][^\d]+\.", docstring), docstring  # one line, no digit
    assert "\n" not in docstring


@pytest.mark.parametrize("path", OTHERS)
def test_no_number_is_typed_by_hand_outside_a_block_of_numbers(path):
    page = (ROOT / path).read_text(encoding="utf-8")
    code = r"<(style|script)\b.*?</\1>|<[^>]*>" if path.endswith(".html") else r"```.*?```|`[^`]*`"
    prose = re.sub(code, "", gallery.BLOCK.sub("", page), flags=re.DOTALL)
    assert typed(prose) == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a loss of −0.58 nats", ["−0.58"]),
        ("in 8% of the pairs", ["8%"]),
        ("a 95% interval (arXiv 2410.13828v2, Eqs. 4–5, Python 3.11)", []),
        ("{{ value(x, step=0.5) | number }} nats", []),
        ('{{ check(x > 0.5, "more than 0.5 nats") }}', ["0.5"]),
    ],
)
def test_typed_numbers_are_recognised(text, found):
    assert typed_in(text) == found


def test_every_figure_has_its_caption_and_every_template_its_place():
    shown = {name for path in gallery.PAGES_WITH_BLOCKS for _, name, _ in gallery.BLOCK.findall(_page(path))}
    assert {path.stem for path in CAPTIONS} == {*FIGURES, *shown}
    marked = {path for path in OTHERS if "<!-- numbers:" in _page(path)}
    assert marked == set(gallery.PAGES_WITH_BLOCKS)


@pytest.mark.parametrize("path", PAGES)
def test_pages_say_what_the_tables_say(path, pages):
    assert pages[path] == _page(path), "run `make gallery`"


def test_the_tables_are_what_the_templates_read_and_small():
    tables = Tables(ROOT / "figures/gallery")
    gallery.pages(FIGURES, tables)
    kept = tables.kept()
    assert set(kept) == set(FIGURES)
    for name, text in kept.items():
        assert text == (ROOT / f"figures/gallery/{name}.csv").read_text(encoding="utf-8"), name
    assert sum(map(len, kept.values())) < 300_000


@pytest.mark.parametrize("name", FIGURES)
def test_captions_begin_with_a_claim_and_a_summary(name, tables):
    title, claim, summary, *_, theory = gallery.rendered(name, tables).strip().split("\n\n")
    assert re.fullmatch(r"# [A-Z].*[^.]", title)
    assert len(claim.split()) <= 40
    assert 30 <= len(summary.split()) <= 80
    assert re.fullmatch(r"Theory: T\d+(, T\d+)*\.", theory)
    assert not re.search(r"(?m)^([>+#=-]|\d+\.) ", gallery.rendered(name, tables).removeprefix("# "))  # Markdown's own


def test_equations_and_intervals_stay_on_one_line():
    words = gallery.wrapped(" ".join(["for a = 0.3 > b = 0.1 it is −6.7 [−7.0, −6.4]"] * 50)).splitlines()
    assert max(map(len, words)) <= gallery.WIDTH
    assert not any(line.startswith((">", "=", "−6.4")) for line in words)
    assert " ".join(words).count("a = 0.3 > b = 0.1") == 50


@pytest.mark.parametrize("name", FIGURES)
def test_the_page_shows_claim_picture_and_command(name, tables, pages):
    section = gallery.section(name, tables)
    assert section in pages["figures/README.md"]
    for part in (f"gallery/{name}.png", f"--only {name}`", f"({name}.py)", f"(gallery/{name}.csv)", "Theory: [T"):
        assert part in section
    for target in re.findall(r"\]\((?!#)([^)]+)\)", section):
        assert (ROOT / "figures" / target).is_file(), target
    assert (ROOT / f"figures/gallery/{name}.png").is_file()


def test_the_gallery_has_contents_and_groups(pages):
    page = pages["figures/README.md"]
    headings = re.findall(r"^##+ (.*)$", page, re.MULTILINE)
    anchors = [gallery.anchor(heading) for heading in headings]
    assert len(set(anchors)) == len(anchors)
    before, _, _ = page.partition("\n## ")
    assert re.findall(r"\]\(#([^)]+)\)", before) == anchors
    of_paper, *groups = gallery.grouped(FIGURES).values()
    assert [gallery.paper(name) for name in of_paper] == sorted(gallery.paper(name) for name in of_paper)
    assert not any(gallery.paper(name) for group in groups for name in group)
    assert sorted(name for group in (of_paper, *groups) for name in group) == FIGURES


def test_a_figure_of_no_group_is_told(monkeypatch):
    monkeypatch.setattr(gallery, "paper", lambda _: "")
    assert gallery.grouped(["fig_real_gpt", "fig_crowd_network"]) == {
        "A real model": ["fig_real_gpt"],
        "Many pairs: crowd and account": ["fig_crowd_network"],
    }
    with pytest.raises(ValueError, match="fig_nonsense is in no group"):
        gallery.grouped(["fig_nonsense"])


def test_the_table_of_losses_has_a_row_for_every_loss(tables):
    lines = [line for line in gallery.section("fig_losses_all", tables).splitlines() if line.startswith("| `")]
    assert len(lines) == len(LOSSES)
    assert len({line.count("|") for line in lines}) == 1
    row = next(line for line in lines if line.startswith("| `dpo` "))
    change = tables["fig_losses_all"].rows(loss="dpo").at(-1).value("chosen_measured")
    assert f"| 1 | {change:.1f} [".replace("-", "−") in row
    assert next(line for line in lines if line.startswith("| `lsif` (until step ")).count("→") == 1


def of(text, tmp_path):
    """The table of this text, by itself."""
    (tmp_path / "fig_made_up.csv").write_text(text, encoding="utf-8")
    return Tables(tmp_path)


MADE_UP = "task,step,x_measured,x_low,x_high\none,0,0.123456,-0.1,0.2\none,5,-0.5,-0.75,-0.25\ntwo,0,nan,nan,nan\n"


def test_rows_are_selected_and_read(tmp_path):
    table = of(MADE_UP, tmp_path)["fig_made_up"]
    assert table.value("x_measured", task="one", step=0) == 0.12346
    assert table.column("x_measured") == [0.12346, -0.5]
    assert table.interval("x", task="one", step=5) == "[−0.75, −0.25]"
    assert (table.falls("x", step=5), table.falls("x", task="one"), table.rises("x", step=5)) == (True, False, False)
    assert table.rows(task="one").at(-1).value("step") == 5
    assert (table.smallest("x_low"), table.largest("x_high"), table.count("step")) == (-0.75, 0.2, 1)


def test_only_what_was_read_is_kept(tmp_path):
    tables = of(MADE_UP, tmp_path)
    tables["fig_made_up"].value("x_low", task="one", step=5)
    assert tables.kept()["fig_made_up"] == "task,step,x_low\none,5,-0.75\n"


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ('{{ value("x_measured") }}', "2 values of x_measured"),
        ('{{ value("y", step=0) }}', "no column 'y'"),
        ('{{ value("x_low", step=7) }}', "no row with {'step': 7}"),
        ('{{ table("fig_other").value("x") }}', "no table of 'fig_other'"),
        ('{{ check(rises("x", step=5), "rises by far") }}', 'no longer supports "rises by far"'),
    ],
)
def test_a_sentence_that_the_table_does_not_support_stops_the_page(template, message, tmp_path, monkeypatch):
    (tmp_path / "fig_made_up.md").write_text(template, encoding="utf-8")
    environment = gallery._environment().overlay(loader=gallery.jinja2.FileSystemLoader(tmp_path))
    monkeypatch.setattr(gallery, "_environment", lambda: environment)
    monkeypatch.setattr(gallery, "_module", lambda _: None)
    with pytest.raises(NotSupported, match=re.escape(message)) as caught:
        gallery.rendered("fig_made_up", of(MADE_UP, tmp_path))
    assert "fig_made_up.md" in caught.value.__notes__[0]


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (number(-0.0004), "0.00"),
        (number(-0.58), "−0.58"),
        (signed(0.0416, 3), "+0.042"),
        (signed(-0.0001), "0.00"),
        (percent(0.0801), "8%"),
        (spelled(12.0), "twelve"),
        (spelled(0), "none"),
        (spelled(40), "40"),
        (plain(1e-06), "1e-6"),
        (plain(0.0001), "0.0001"),
        (plain(30.0), "30"),
    ],
)
def test_numbers_are_written_with_true_minus_signs_and_no_noise(written, expected):
    assert written == expected


def test_a_table_that_changed_its_mind_is_caught():
    """Turned round, the measured changes of the sentiment tasks contradict every page that speaks of them."""
    tables = Tables(ROOT / "figures/gallery")
    for row in tables["fig_sentiment"].cells:
        row["chosen_low"], row["chosen_high"] = -row["chosen_high"], -row["chosen_low"]
    for template in ("fig_sentiment", "readme_sentiment", "fig_network_step"):
        with pytest.raises(NotSupported):
            gallery.rendered(template, tables)


def test_a_contradiction_is_told_in_one_line(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(build, "_up_to_date", lambda *_: True)
    assert build.main(["--gallery", "--out", str(tmp_path)]) == 2
    output = capsys.readouterr()
    assert output.err.startswith("build.py: there is no table of 'fig_account'. This happened in figures/")
    assert output.err.count("\n") == 1


def _page(path):
    return (ROOT / path).read_text(encoding="utf-8")


def test_captions_are_no_part_of_what_is_hashed():
    for name in FIGURES:
        module = importlib.import_module(f"figures.{name}")
        assert not {"TITLE", "LABELS", "table_markdown"} & set(vars(module)), name
