"""Maps the cosines between all tokens of the two answers in a pretrained language model."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures import real_runs, style
from figures.real_runs import NAMES, WORDS
from figures.sweeps import Swept
from toymodel import plot

FAINT = 0.05  # cosines below it in size have no number
SHOWN = ("long_suffix", "varied")


def compute(_quick: bool, _swept: Swept) -> style.Table:
    """The stored means over pairs and seeds, a row for each cell."""
    table = real_runs.stored("tokens")
    return style.stacked(*(style.rows(table, format=format) for format in SHOWN))


def draw(table: style.Table) -> Figure:
    """One map for each format."""
    figure = Figure(figsize=(style.PAGE, 3.4))
    axes = figure.subplots(1, len(SHOWN))
    for ax, format in zip(axes, SHOWN, strict=True):
        _heatmap(ax, style.rows(table, format=format), format)
        ax.set_title(NAMES[format])
    axes[1].set_ylabel("")
    figure.colorbar(
        axes[0].images[0], ax=axes, label="cosine of the gradients", shrink=0.7, ticks=(-1, -0.5, 0, 0.5, 1)
    )
    return figure


def _heatmap(ax: Axes, part: style.Table, format: str) -> None:
    size = part["chosen_position"].max() + 1
    words = WORDS[1:size] if format == "long_suffix" else [f"token {place}" for place in range(1, size)]
    sides = ["right label", *words], ["wrong label", *words]
    plot.token_map(part["measured"].reshape(size, size), sides, ax, limit=1, least=FAINT)
