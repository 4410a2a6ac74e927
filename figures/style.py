"""Shared by all figures: their look, and writing a picture and its table.

A table is a dict of columns of equal length. Three kinds of column name mean the same in every figure:

Column              Comes from             Shown as
`…predicted`        `toymodel.theory`      lines
`…measured`         `toymodel.gradients`   markers
`…low`, `…high`     the 95% interval of a measurement over draws, where there are draws

Figures are built without pyplot: no display, no backend and no global state besides the settings below.
"""

import csv
import io
from pathlib import Path
from typing import Any, Literal, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from PIL import Image  # comes with matplotlib

from toymodel._files import write_whole

Table = dict[str, np.ndarray]

COLUMN = 3.3  # inches: one column of a two-column paper
PAGE = 6.8  # both columns
PRINT_DPI = 300
SCREEN_DPI = 110  # the small pictures of the gallery

# Okabe & Ito's palette, safe for colour-blind readers; grey readers go by markers, line styles and hatching.
BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
BLUE, RED, PURPLE = "#0072B2", "#D55E00", "#CC79A7"
GREY = "#666666"


class Look(NamedTuple):
    """Colour, marker and line of one curve; each alone distinguishes it from the others."""

    colour: str
    marker: str
    line: Literal["-", "--", "-.", ":"]


matplotlib.rcParams.update(
    {
        "figure.constrained_layout.use": True,
        "font.size": 8,
        "axes.titlesize": 8,
        "axes.labelsize": 8,
        "xtick.labelsize": 7,
        "ytick.labelsize": 7,
        "legend.fontsize": 7,
        "legend.frameon": False,
        "legend.columnspacing": 1.0,
        "legend.handlelength": 1.8,
        "legend.handletextpad": 0.6,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.linewidth": 0.6,
        "xtick.major.width": 0.6,
        "ytick.major.width": 0.6,
        "lines.linewidth": 1.0,
        "lines.markersize": 3.5,
        "hatch.linewidth": 0.4,
        "pdf.fonttype": 42,  # text stays text in the PDF
    }
)


def rows(table: Table, **equal: str | float) -> Table:
    """The rows of a table in which every named column has the given value."""
    wanted = np.logical_and.reduce([table[name] == value for name, value in equal.items()])
    return {name: column[wanted] for name, column in table.items()}


def stacked(*tables: Table) -> Table:
    """Tables with the same columns, one below the other."""
    return {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}


def curve(ax: Axes, x: np.ndarray, predicted: np.ndarray, measured: np.ndarray, look: Look) -> None:
    """Prediction as a line, measurement as hollow markers, so that the line is seen through them."""
    ax.plot(x, predicted, look.line, color=look.colour)
    ax.plot(x, measured, look.marker, color=look.colour, markerfacecolor="white")


def intervals(ax: Axes, x: np.ndarray, low: np.ndarray, high: np.ndarray, look: Look) -> None:
    """Vertical bars, to lie behind the markers of `curve`."""
    ax.vlines(x, low, high, color=look.colour, linewidth=0.8)


def measured(ax: Axes, x: np.ndarray, table: Table, name: str, look: Look) -> None:
    """A curve that no theory predicts: the means of `name`, with their intervals, joined by the line."""
    intervals(ax, x, table[f"{name}_low"], table[f"{name}_high"], look)
    means = table[f"{name}_measured"]
    ax.plot(x, means, look.line, marker=look.marker, color=look.colour, markerfacecolor="white")


def entries(looks: dict[str, Look]) -> list[Line2D]:
    """One entry of a legend per curve, line and marker together."""
    return [
        Line2D([], [], color=look.colour, marker=look.marker, linestyle=look.line, markerfacecolor="white", label=label)
        for label, look in looks.items()
    ]


def legend(figure: Figure, looks: dict[str, Look], ncols: int) -> None:
    """`entries` above the axes."""
    figure.legend(handles=entries(looks), loc="outside upper center", ncols=ncols)


def zero_line(ax: Axes) -> None:
    """A thin line where a quantity changes sign."""
    ax.axhline(0, color=GREY, linewidth=0.5, zorder=0)


def write_figure(figure: Figure, stem: Path) -> None:
    """`stem`.pdf and `stem`.png, without dates, so that a rebuild gives the same bytes."""
    write_whole(stem.with_suffix(".pdf"), _rendered(figure, format="pdf", metadata={"CreationDate": None}))
    write_whole(stem.with_suffix(".png"), _rendered(figure, format="png", dpi=PRINT_DPI, metadata={"Software": None}))


def write_small_png(figure: Figure, path: Path) -> None:
    """Write a picture of a few kilobytes: screen resolution, 256 colours."""
    picture = Image.open(io.BytesIO(_rendered(figure, format="png", dpi=SCREEN_DPI)))
    content = io.BytesIO()
    picture.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(content, "png", optimize=True)
    write_whole(path, content.getvalue())


def write_table(table: Table, path: Path) -> None:
    """A CSV with a header row; numbers to ten significant digits."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table)
    writer.writerows(zip(*map(_cells, table.values()), strict=True))
    write_whole(path, text.getvalue().encode())


def read_table(path: Path) -> Table:
    """The table that `write_table` wrote, to its ten digits."""
    data = np.genfromtxt(path, delimiter=",", names=True, dtype=None, encoding="utf-8")
    assert data.dtype.names is not None
    return {name: np.atleast_1d(data[name]) for name in data.dtype.names}


def _rendered(figure: Figure, **settings: Any) -> bytes:
    content = io.BytesIO()
    figure.savefig(content, **settings)
    return content.getvalue()


def _cells(column: np.ndarray) -> list[str]:
    if column.dtype.kind == "f":
        return [f"{value:.10g}" for value in column]
    return [str(value) for value in column]
