"""Compares remedies on every task and with every loss, at the same margin."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, SymLogNorm
from matplotlib.figure import Figure

from figures import remedy_runs, style
from figures.remedy_runs import LOSS_NAMES, LOSSES, NAMES, TASK_NAMES, over_seeds
from figures.sweeps import Swept

# Light at both ends, so that black numbers are read on all of it.
COLOURS = "#EE9B6B", "white", "#7DB8E2"
FALLS_OR_RISES = LinearSegmentedColormap.from_list("falls or rises", COLOURS).with_extremes(bad="0.85")
LINEAR, LARGEST = 0.1, 3.0  # nats: colours are linear up to the one, and alike beyond the other


def compute(quick: bool, swept: Swept) -> style.Table:
    return style.stacked(*(_rows(model, runs) for model, runs in remedy_runs.runs(quick, swept).items()))


def _rows(model: str, runs: style.Table) -> style.Table:
    """Rows of one model, one for each remedy, task and loss."""
    chosen, rejected = (remedy_runs.finished(runs, f"{side}_change") for side in ("chosen", "rejected"))
    remedy, task, loss = np.meshgrid(list(NAMES), TASK_NAMES, LOSSES, indexing="ij")
    table = {"model": np.full(remedy.shape, model), "remedy": remedy, "task": task, "loss": loss}
    table |= {"seeds": np.full(remedy.shape, len(chosen)), "diverged": remedy_runs.diverged(runs)}
    paid = remedy_runs.at_margin(remedy_runs.MARGINS[model], *remedy_runs.changes(runs))
    table |= {"reached": np.isfinite(paid).sum(axis=0)}
    spared = paid - paid[:, remedy_runs.places(NAMES, "none")]  # seed by seed
    table |= over_seeds("paid", paid) | over_seeds("spared", spared)
    table |= over_seeds("chosen", chosen) | over_seeds("margin", chosen - rejected)
    return {name: column.ravel() for name, column in table.items()}


def draw(table: style.Table) -> Figure:
    """Draw the last model."""
    table = style.rows(table, model=table["model"][-1])
    figure = Figure(figsize=(style.PAGE, 6.6))
    axes = figure.subplots(2, 2, sharex=True, sharey=True)
    for ax, loss in zip(axes.ravel(), LOSSES, strict=True):
        _cells(ax, style.rows(table, loss=loss))
        ax.set_title(LOSS_NAMES[loss])
    for ax in axes[-1]:
        ax.set_xticks(range(len(TASK_NAMES)), [name.replace(" ", "\n") for name in TASK_NAMES])
    axes[0][0].set_yticks(range(len(NAMES)), list(NAMES.values()))
    return figure


def _cells(ax: Axes, part: style.Table) -> None:
    shape = len(NAMES), len(TASK_NAMES)
    norm = SymLogNorm(LINEAR, vmin=-LARGEST, vmax=LARGEST)
    ax.imshow(part["paid_measured"].reshape(shape), cmap=FALLS_OR_RISES, norm=norm, aspect="auto")
    numbers = (part[f"paid_{end}"].reshape(shape) for end in ("measured", "low", "high"))
    for (row, column), change, low, high in zip(np.ndindex(shape), *map(np.ravel, numbers), strict=True):
        ax.text(column, row, told(change, low, high), ha="center", va="center", fontsize=7)
    ax.set_xticks(np.arange(0.5, len(TASK_NAMES) - 1), minor=True)
    ax.set_yticks(np.arange(0.5, len(NAMES) - 1), minor=True)
    ax.grid(which="minor", color="white", linewidth=1.0)
    ax.tick_params(which="both", length=0)
    ax.spines[:].set_visible(False)


def told(change: float, low: float, high: float) -> str:
    """A cell's number: in brackets if its interval includes 0; a word if there is none."""
    if not np.isfinite(change):
        return "–"
    number = f"{change:+z.2f}" if abs(change) < 9.995 else f"{change:+.1f}"
    number = number.replace("-", "−")
    return f"({number})" if low <= 0 <= high else number
