"""Writes the pages that speak of measured numbers: figures/README.md, and marked blocks of other pages.

Every number comes from the table of a figure, through a template in figures/captions; nothing here is hashed into a
figure. A caption begins with `# title` and the claim, and ends with its labels; a block of another page stands between
`<!-- numbers: NAME -->` and `<!-- end -->`. A sentence that the numbers could contradict goes through `check`: where
they do, no page is written.

What the templates read of the tables is kept in figures/gallery, to five digits: with it anyone can write the same
pages again, by `python -m figures.gallery` after mending a word, and a test does.
"""

import csv
import functools
import importlib
import io
import itertools
import math
import re
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parent
CAPTIONS = FOLDER / "captions"
BLOCK = re.compile(r"(<!-- numbers: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
PAGES_WITH_BLOCKS = ("README.md", "docs/faq.md", "toymodel/remedies/README.md")
DIGITS = 5
WIDTH = 120  # characters in a line of a page
UNBROKEN = re.compile(r" [=<>] |\[[+−\d.]+, (?=[+−\d.]+\])")  # equations and intervals; a line with > is a quotation
INTRODUCTION = """# Figures

Lines are predicted in closed form, markers are measured on the same models; where whole trainings are shown, curves are
measured too, and the caption says so. Labels such as T3 are those of `toymodel check`, which states each and tests it
on fresh draws. `make gallery` writes this page.
"""
WORDS = (
    "none one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen"
)

Cell = float | str


class NotSupported(Exception):
    """A table does not say what a template says."""


@dataclass
class Seen:
    """The rows and columns that were read of a table."""

    rows: set[int] = field(default_factory=set)
    columns: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class Rows:
    """Some rows of a figure's table, in order. Reading a cell marks its row and column as seen."""

    name: str
    cells: list[dict[str, Cell]]
    places: list[int]
    seen: Seen

    def rows(self, **equal: Any) -> "Rows":
        """The rows in which every named column has the given value, or one of the given values."""
        wanted = {column: value if isinstance(value, list | tuple) else (value,) for column, value in equal.items()}
        self._has(*wanted)
        places = [p for p in self.places if all(self.cells[p][column] in wanted[column] for column in wanted)]
        if not places:
            raise NotSupported(f"{self.name} has no row with {equal}.")
        return Rows(self.name, self.cells, places, self.seen)

    def at(self, place: int) -> "Rows":
        """The row at a place among these: 0 is the first, −1 the last."""
        return Rows(self.name, self.cells, [self.places[place]], self.seen)

    def column(self, column: str, **equal: Any) -> list[Any]:
        """One column, without the cells that hold no number."""
        rows = self.rows(**equal)
        rows._has(column)
        self.seen.rows.update(rows.places)
        return [c for c in (self.cells[p][column] for p in rows.places) if not (isinstance(c, float) and math.isnan(c))]

    def each(self, column: str, **equal: Any) -> list[Any]:
        """The different values of a column, in the order of the table."""
        return list(dict.fromkeys(self.column(column, **equal)))

    def value(self, column: str, **equal: Any) -> Any:
        """The value that all these rows have.

        Raises:
          NotSupported: they have several, or none.
        """
        values = self.each(column, **equal)
        if len(values) != 1:
            raise NotSupported(f"{self.name} has {len(values)} values of {column} with {equal}, not one.")
        return values[0]

    def smallest(self, column: str, **equal: Any) -> Any:
        """The smallest number of a column."""
        return min(self.column(column, **equal))

    def largest(self, column: str, **equal: Any) -> Any:
        """The largest number of a column."""
        return max(self.column(column, **equal))

    def count(self, column: str, **equal: Any) -> int:
        """In how many rows a column holds a number other than zero."""
        return sum(value != 0 for value in self.column(column, **equal))

    def rises(self, name: str, **equal: Any) -> bool:
        """Whether the interval of a measurement lies above zero, in every row."""
        return all(low > 0 for low in self.column(f"{name}_low", **equal))

    def falls(self, name: str, **equal: Any) -> bool:
        """Whether the interval of a measurement lies below zero, in every row."""
        return all(high < 0 for high in self.column(f"{name}_high", **equal))

    def interval(self, name: str, digits: int = 2, sign: bool = False, **equal: Any) -> str:
        """Its 95% interval, as "[low, high]"."""
        ends = (self.value(f"{name}_{end}", **equal) for end in ("low", "high"))
        return f"[{', '.join(signed(end, digits) if sign else number(end, digits) for end in ends)}]"

    def _has(self, *columns: str) -> None:
        for column in columns:
            if column not in self.cells[0]:
                raise NotSupported(
                    f"{self.name} has no column {column!r}: write the table anew with `make gallery`, or mend the "
                    "template."
                )
        self.seen.columns.update(columns)


class Tables(Mapping[str, Rows]):
    """The tables of a folder, by name of their figure, with numbers to five digits."""

    def __init__(self, folder: Path) -> None:
        """Reads them all."""
        self._rows = {path.stem: _read(path) for path in sorted(folder.glob("fig_*.csv"))}

    def __getitem__(self, name: str) -> Rows:
        if name not in self._rows:
            raise NotSupported(f"there is no table of {name!r}.")
        return self._rows[name]

    def __iter__(self) -> Any:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def kept(self) -> dict[str, str]:
        """What has been read of each table since, as text of a CSV."""
        return {name: _written(rows) for name, rows in self._rows.items()}


def main() -> None:
    """Writes the pages again from the tables that are kept."""
    _write_pages(pages(sorted(path.stem for path in CAPTIONS.glob("fig_*.md")), Tables(FOLDER / "gallery")))


def write(names: list[str], out: Path) -> None:
    """Pictures, tables and pages, of the figures whose tables are in `out`.

    Raises:
      NotSupported: a table contradicts a sentence. No page is written then.
    """
    from toymodel.sweep.store import write_whole

    tables = Tables(out)
    written = pages(names, tables)
    (FOLDER / "gallery").mkdir(parents=True, exist_ok=True)
    for name, text in tables.kept().items():
        write_whole(FOLDER / "gallery" / f"{name}.csv", text.encode())
    _write_pages(written)
    for name in names:
        write_picture(name, out, FOLDER / "gallery")


def write_picture(name: str, out: Path, folder: Path) -> None:
    """A small picture of one figure, from its table in `out`."""
    from figures import style

    picture = _module(name).draw(style.read_table(out / f"{name}.csv"))
    style.write_small_png(picture, folder / f"{name}.png")


def pages(names: list[str], tables: Mapping[str, Rows]) -> dict[str, str]:
    """The text of every page that has numbers, by its path in the repository."""
    written = {"figures/README.md": "\n".join([INTRODUCTION, *(section(name, tables) for name in names)])}
    for path in PAGES_WITH_BLOCKS:
        page = (ROOT / path).read_text(encoding="utf-8")
        written[path] = BLOCK.sub(lambda block: block[1] + rendered(block[2], tables) + block[3], page)
    return written


def section(name: str, tables: Mapping[str, Rows]) -> str:
    """A figure's part of figures/README.md."""
    title, claim, details = rendered(name, tables).split("\n\n", 2)
    return (
        f"#{title}\n\n{claim}\n\n![{title.removeprefix('# ')}](gallery/{name}.png)\n\n{details.rstrip()} Made by `make "
        f"figures`, or alone by `.venv/bin/python figures/build.py --only {name}`;\n"
        f"the numbers are then in `figures/out/{name}.csv`.\n"
    )


def rendered(template: str, tables: Mapping[str, Rows]) -> str:
    """A template of figures/captions in words; the one of a figure knows its table and its module."""
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


def number(value: float, digits: int = 2) -> str:
    """To so many places after the point, with the sign of a minus; never −0."""
    return f"{value:z.{digits}f}".replace("-", "−")


def signed(value: float, digits: int = 2) -> str:
    """A change: its sign is always shown, unless it rounds to zero."""
    text = number(value, digits)
    return text if text.startswith("−") or not float(text) else f"+{text}"


def percent(share: float) -> str:
    """A share as whole per cent."""
    return f"{100 * share:.0f}%"


def spelled(count: float) -> str:
    """A whole number in words, as far as they go."""
    words = WORDS.split()
    return words[int(count)] if count < len(words) else str(int(count))


def plain(value: float) -> str:
    """A setting as one would type it: 0.1, 30, 1e-6."""
    return f"{value:g}".replace("e-0", "e-").replace("-", "−" if value < 0 else "-")


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
    from toymodel.sweep.store import write_whole

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


def _read(path: Path) -> Rows:
    with path.open(encoding="utf-8", newline="") as lines:
        cells = [{column: _cell(text) for column, text in row.items()} for row in csv.DictReader(lines)]
    return Rows(path.stem, cells, list(range(len(cells))), Seen())


def _cell(text: str) -> Cell:
    try:
        return float(f"{float(text):.{DIGITS}g}")
    except ValueError:
        return text


def _written(table: Rows) -> str:
    text = io.StringIO()
    columns = [column for column in table.cells[0] if column in table.seen.columns]
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for place in sorted(table.seen.rows):
        cells = (table.cells[place][column] for column in columns)
        writer.writerow([f"{cell:.{DIGITS}g}" if isinstance(cell, float) else cell for cell in cells])
    return text.getvalue()


if __name__ == "__main__":
    main()
