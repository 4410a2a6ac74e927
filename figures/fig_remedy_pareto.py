"""Plots the change of the chosen answer against the margin that each remedy gains."""

import itertools

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures import remedy_runs, style
from figures.remedy_runs import LOSSES, MODEL_NAMES, NAMES, TASK_NAMES, over_seeds
from figures.sweeps import Swept

TASK, LOSS = "long suffix", "dpo"  # and the loss whose remedies are shown
HEIGHT = (-1.6, 0.25)  # nats: what lies lower is told in words
# Of the remedies on a front, in the order of their margins.
LOOKS = [
    *zip("os^vD", (style.BLUE, style.RED, style.GREEN, style.PURPLE, style.ORANGE), strict=True),
    *zip("P<>Xph", (style.BLUE, style.RED, style.GREEN, style.PURPLE, style.ORANGE, style.SKY), strict=True),
]


def compute(quick: bool, swept: Swept) -> style.Table:
    return style.stacked(*(_rows(model, runs) for model, runs in remedy_runs.runs(quick, swept).items()))


def _rows(model: str, runs: style.Table) -> style.Table:
    """Rows of one model, one for each loss and remedy."""
    task = TASK_NAMES.index(TASK)
    chosen, rejected = (
        remedy_runs.finished(runs, f"{side}_change")[:, :, task].swapaxes(1, 2) for side in ("chosen", "rejected")
    )
    loss, remedy = np.meshgrid(LOSSES, list(NAMES), indexing="ij")
    table = {"model": np.full(loss.shape, model), "loss": loss, "remedy": remedy}
    table |= {"seeds": np.full(loss.shape, len(chosen)), "diverged": remedy_runs.diverged(runs)[:, task].T}
    table |= over_seeds("margin", chosen - rejected) | over_seeds("chosen", chosen)
    fronts = map(on_front, table["margin_measured"], table["chosen_measured"])
    table["on_front"] = np.array(list(fronts)).astype(int)
    return {name: column.ravel() for name, column in table.items()}


def on_front(*goods: np.ndarray) -> np.ndarray:
    """Which points no other point equals in all coordinates and exceeds in one, [n]; only finite points count."""
    as_good = np.logical_and.reduce([good[:, None] >= good for good in goods])
    better = np.logical_or.reduce([good[:, None] > good for good in goods])
    return np.isfinite(sum(goods)) & ~(as_good & better).any(axis=0)


def draw(table: style.Table) -> Figure:
    """A panel for each model: the front with names, all others in grey."""
    models = [model for model in MODEL_NAMES if model in table["model"]]
    figure = Figure(figsize=(style.PAGE, 4.2))
    axes = np.atleast_1d(figure.subplots(1, len(models), sharey=True))
    for ax, model in zip(axes, models, strict=True):
        _points(ax, style.rows(table, model=model, loss=LOSS))
        ax.set(title=MODEL_NAMES[model], xlabel="margin gained (nats)", ylim=HEIGHT)
    axes[0].set_ylabel("change of log π of chosen (nats)")
    return figure


def _points(ax: Axes, part: style.Table) -> None:
    style.zero_line(ax)
    x, y = part["margin_measured"], part["chosen_measured"]
    order = np.argsort(x)
    front = order[part["on_front"][order] == 1]
    none = np.flatnonzero(part["remedy"] == "none")
    ax.plot(np.delete(x, front), np.delete(y, front), "o", color="0.6", markerfacecolor="white")
    ax.plot(x[none], y[none], "*", color=style.BLACK, markersize=8, label="none")
    ax.step(x[front], y[front], ":", color=style.BLACK, where="pre", linewidth=0.8, zorder=1)
    for place, (marker, colour) in zip(front, itertools.cycle(LOOKS), strict=False):
        ax.hlines(y[place], part["margin_low"][place], part["margin_high"][place], color=colour, linewidth=0.5)
        ax.vlines(x[place], part["chosen_low"][place], part["chosen_high"][place], color=colour, linewidth=0.5)
        ax.plot(x[place], y[place], marker, color=colour, markersize=5, label=NAMES[part["remedy"][place]])
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.17), ncols=2, handlelength=1.0)
    told = [
        f"{NAMES[name]} {low:.1f}".replace("-", "−")
        for name, low in zip(part["remedy"], y, strict=True)
        if low < HEIGHT[0]
    ]
    told += [f"{NAMES[name]} diverged" for name in part["remedy"][part["diverged"] > 0]]
    if told:
        words = "\n".join(["not shown:", *told])
        ax.text(0.03, 0.02, words, transform=ax.transAxes, fontsize=7)
