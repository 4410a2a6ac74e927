"""The tables of figures for captions: select rows, read cells, write numbers.

Cells that were read are remembered, so that only these have to be kept beside the pages.
"""

import csv
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

DIGITS = 5
WORDS = (
    "none one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen"
)

Cell = float | str


class NotSupported(Exception):
    """A table does not support what a template says."""


@dataclass
class Seen:
    """The rows and columns of a table that were read."""

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
        """The cells of each table that have been read, as CSV text."""
        return {name: _written(rows) for name, rows in self._rows.items()}


def number(value: float, digits: int = 2) -> str:
    """A number with this many decimal places and a true minus sign; never −0."""
    return f"{value:z.{digits}f}".replace("-", "−")


def signed(value: float, digits: int = 2) -> str:
    """A change: its sign is always shown, unless it rounds to zero."""
    text = number(value, digits)
    return text if text.startswith("−") or not float(text) else f"+{text}"


def percent(share: float) -> str:
    """A share as a whole percentage."""
    return f"{100 * share:.0f}%"


def spelled(count: float) -> str:
    """A whole number in words, as far as they go."""
    words = WORDS.split()
    return words[int(count)] if count < len(words) else str(int(count))


def plain(value: float) -> str:
    """A setting as one would type it: 0.1, 30, 1e-6."""
    return f"{value:g}".replace("e-0", "e-").replace("-", "−" if value < 0 else "-")


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
