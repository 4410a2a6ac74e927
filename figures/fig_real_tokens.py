"""Maps the cosines between all tokens of the two answers in a pretrained language model."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from figures import real_runs, style
from figures.real_runs import NAMES, WORDS
from figures.sweeps import Swept

DARK, FAINT = 0.6, 0.05  # cosines beyond the one have light ink in a dark cell, below the other no number
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
        image = _heatmap(ax, style.rows(table, format=format), format)
        ax.set(title=NAMES[format], xlabel="token of the rejected answer")
    axes[0].set_ylabel("token of the chosen answer")
    figure.colorbar(image, ax=axes, label="cosine of the gradients", shrink=0.7, ticks=(-1, -0.5, 0, 0.5, 1))
    return figure


def _heatmap(ax: Axes, part: style.Table, format: str) -> AxesImage:
    size = part["chosen_position"].max() + 1
    colours = ax.imshow(part["measured"].reshape(size, size), cmap="RdBu_r", vmin=-1, vmax=1)
    for i, j, value in zip(part["chosen_position"], part["rejected_position"], part["measured"], strict=True):
        number = f"{value:z.1f}".replace("-", "−") if abs(value) >= FAINT else ""
        ax.text(j, i, number, color="white" if abs(value) > DARK else "black", ha="center", va="center", fontsize=7)
    words = [*WORDS] if format == "long_suffix" else ["label", *(f"token {place}" for place in range(1, size))]
    ax.set_xticks(range(size), words[:size], rotation=90)
    ax.set_yticks(range(size), words[:size])
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    return colours
