"""Writes the pages with measured numbers: figures/README.md, and marked blocks of other pages.

Every number comes from the table of a figure, through a template in figures/captions; nothing here is hashed into a
figure. A caption begins with `# title` and the claim, and ends with its labels; a block of another page stands between
`<!-- numbers: NAME -->` and `<!-- end -->`. A sentence that the numbers could contradict goes through `check`. If they
do, no page is written.

The values that the templates read are kept in figures/gallery, to five digits. From these anyone can write the same
pages again with `python -m figures.gallery`, for instance after changing a word; a test does so.
"""

import functools
import importlib
import itertools
import re
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2

from figures.tables import NotSupported, Rows, Tables, number, percent, plain, signed, spelled

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parent
CAPTIONS = FOLDER / "captions"
BLOCK = re.compile(r"(<!-- numbers: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
PAGES_WITH_BLOCKS = (
    *("README.md", "docs/cheat_sheet.md", "docs/concepts.md", "docs/faq.md", "docs/real.md", "docs/related.md"),
    *("docs/entanglement.html", "toymodel/remedies/README.md"),
)
WIDTH = 120  # characters in a line of a page
UNBROKEN = re.compile(r" [=<>] |\[[+−\d.]+, (?=[+−\d.]+\])")  # equations and intervals; a line with > is a quotation
INTRODUCTION = """# Figures

Lines are predicted in closed form; markers are measured on the same models. Where whole training runs are shown, curves
are measured too, and the caption says so. Labels such as T3 are those of `toymodel check`, which states each claim and
tests it on fresh draws. `make gallery` writes this page.
"""
# The groups in the order of the page; a figure of the paper stands in the first group.
OF_PAPER = "The paper"
GROUPS = {
    OF_PAPER: (),
    "A real model": ("fig_real",),
    "One pair": (
        *("fig_story", "fig_suffix_threshold", "fig_case_map", "fig_case_fractions", "fig_overlap", "fig_token_map"),
        *("fig_finite_step", "fig_flow", "fig_mass"),
    ),
    "Many pairs: crowd and account": (
        *("fig_crowd", "fig_account", "fig_common_step", "fig_normalised_batch", "fig_groups", "fig_credit"),
    ),
    "Losses": ("fig_loss",),
    "Remedies": ("fig_remed", "fig_masks"),
    "Networks": ("fig_network", "fig_layers", "fig_predictors", "fig_sentiment"),
}


def main() -> None:
    """Writes the pages again from the tables in figures/gallery."""
    _write_pages(pages(sorted(path.stem for path in CAPTIONS.glob("fig_*.md")), Tables(FOLDER / "gallery")))


def write(names: list[str], out: Path) -> None:
    """Writes pictures, tables and pages of the figures whose tables are in `out`.

    Raises:
      NotSupported: a table contradicts a sentence. No page is written then.
    """
    from toymodel._files import write_whole

    tables = Tables(out)
    written = pages(names, tables)
    (FOLDER / "gallery").mkdir(parents=True, exist_ok=True)
    for name, text in tables.kept().items():
        write_whole(FOLDER / "gallery" / f"{name}.csv", text.encode())
    _write_pages(written)
    for name in names:
        write_picture(name, out, FOLDER / "gallery")


def write_picture(name: str, out: Path, folder: Path) -> None:
    """Draws a small picture of one figure from its table in `out`."""
    from figures import style

    picture = _module(name).draw(style.read_table(out / f"{name}.csv"))
    style.write_small_png(picture, folder / f"{name}.png")


def pages(names: list[str], tables: Mapping[str, Rows]) -> dict[str, str]:
    """The text of every page that has numbers, by its path in the repository."""
    sections = {name: section(name, tables) for name in names}
    written = {"figures/README.md": _gallery(sections)}
    for path in PAGES_WITH_BLOCKS:
        page = (ROOT / path).read_text(encoding="utf-8")
        written[path] = BLOCK.sub(lambda block: block[1] + rendered(block[2], tables) + block[3], page)
    return written


def _gallery(sections: dict[str, str]) -> str:
    """Contents, then group by group the sections of the figures."""
    placed = grouped(list(sections))
    contents, body = [], []
    for heading, names in placed.items():
        titles = [sections[name].partition("\n")[0].removeprefix("### ") for name in names]
        links = [f"[{title}](#{anchor(title)}){_number(name)}" for title, name in zip(titles, names, strict=True)]
        contents.append(f"- [{heading}](#{anchor(heading)})\n" + "\n".join(f"  - {link}" for link in links))
        body += [f"## {heading}\n", *(sections[name] for name in names)]
    return "\n".join([INTRODUCTION, "\n".join(contents) + "\n", *body])


def grouped(names: list[str]) -> dict[str, list[str]]:
    """The figures of each non-empty group; those of the paper come in its order.

    Raises:
      ValueError: a figure belongs to no group.
    """
    of_paper = [name for name in names if paper(name)]
    places: dict[str, list[str]] = {OF_PAPER: of_paper}
    for name in names:
        if name not in of_paper:
            # The longest beginning wins: fig_crowd_network is with fig_crowd.
            known = [
                (len(start), heading) for heading, all_ in GROUPS.items() for start in all_ if name.startswith(start)
            ]
            if not known:
                raise ValueError(f"{name} is in no group of figures/gallery.py.")
            places.setdefault(max(known)[1], []).append(name)
    order = {heading: GROUPS[heading] for heading in GROUPS if places.get(heading)}
    return {heading: sorted(places[heading], key=lambda name: _rank(name, starts)) for heading, starts in order.items()}


def _rank(name: str, starts: tuple[str, ...]) -> tuple[str, int, str]:
    """By the figure of the paper, or else by the first beginning in its group."""
    return paper(name), next((place for place, start in enumerate(starts) if name.startswith(start)), 0), name


def paper(name: str) -> str:
    """Which figure of the paper a figure is: its module's `PAPER`, or nothing."""
    return str(getattr(_module(name), "PAPER", ""))


def _number(name: str) -> str:
    return f" ({paper(name)})" if paper(name) else ""


def anchor(title: str) -> str:
    """The name that GitHub and the site give a heading."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def section(name: str, tables: Mapping[str, Rows]) -> str:
    """A figure's part of figures/README.md: claim, picture, caption, folded details, and links to its sources."""
    title, claim, caption, *rest, theory = rendered(name, tables).strip().split("\n\n")
    labels = re.sub(r"T\d+", lambda label: f"[{label[0]}](../proofs/{label[0]}.md)", theory.rstrip("."))
    more = ["<details><summary>More</summary>", *rest, "</details>"] if rest else []
    where = f"{paper(name)} of the paper · " if paper(name) else ""
    links = (
        f"{labels} · {where}[script]({name}.py) · [table](gallery/{name}.csv) · `.venv/bin/python figures/build.py "
        f"--only {name}` makes only this figure, with all numbers in `figures/out/{name}.csv`."
    )
    picture = f"![{title.removeprefix('# ')}](gallery/{name}.png)"
    return "\n\n".join([f"##{title}", claim, picture, caption, *more, links]) + "\n"


def rendered(template: str, tables: Mapping[str, Rows]) -> str:
    """The text of a template in figures/captions; that of a figure knows the figure's table and module."""
    known: dict[str, Any] = {"table": tables.__getitem__, "check": _checked(template), "module": _module}
    if template.startswith("fig_"):
        known["figure"] = _module(template)
        readers = ("rows", "column", "each", "value", "smallest", "largest", "count", "rises", "falls")
        known |= {reader: _late(tables, template, reader) for reader in (*readers, "interval")}
    try:
        return wrapped(_environment().get_template(f"{template}.md").render(known))
    except Exception as error:
        error.add_note(f"This happened in figures/captions/{template}.md.")
        raise


def wrapped(text: str) -> str:
    """Paragraphs and list items filled; tables, headings and comments as they are."""
    blocks = (block for block in re.split(r"\n\s*\n|\n(?=- )", text.strip()) if block.strip())
    filled = [(block.startswith("- "), _filled(block.strip())) for block in blocks]
    joined = filled[0][1]
    for (item, _), (next_item, block) in itertools.pairwise(filled):
        joined += ("\n" if item and next_item else "\n\n") + block
    return joined + "\n"


def _filled(block: str) -> str:
    if block.startswith(("|", "#", "<")):
        return "\n".join(line for line in block.splitlines() if line.strip())
    indent = "  " if block.startswith("- ") else ""
    lines = {"break_long_words": False, "break_on_hyphens": False, "subsequent_indent": indent}
    words = UNBROKEN.sub(lambda joined: joined[0].replace(" ", "\0"), " ".join(block.split()))
    return textwrap.fill(words, WIDTH, **lines).replace("\0", " ")  # type: ignore[arg-type]


def _write_pages(written: dict[str, str]) -> None:
    from toymodel._files import write_whole

    for path, text in written.items():
        write_whole(ROOT / path, text.encode())


def _checked(template: str) -> Any:
    def check(holds: bool, words: str) -> str:
        if not holds:
            raise NotSupported(f'{template}.md: the table no longer supports "{" ".join(words.split())}".')
        return words

    return check


def _late(tables: Mapping[str, Rows], name: str, reader: str) -> Any:
    """A reader of a figure's own table, which is looked up when it is called."""
    return lambda *args, **equal: getattr(tables[name], reader)(*args, **equal)


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(CAPTIONS),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,
    )
    environment.filters |= {f.__name__: f for f in (number, signed, percent, spelled, plain)}
    environment.globals["abs"] = abs
    return environment


def _module(name: str) -> Any:
    return importlib.import_module(f"figures.{name}")


if __name__ == "__main__":
    main()
