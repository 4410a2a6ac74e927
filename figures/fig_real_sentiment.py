"""Follows both log-probabilities along DPO of a pretrained language model, in four formats of answers."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures import real_runs, style
from figures.real_runs import NAMES
from figures.sweeps import Swept

PAPER = "Fig. 3 on another model"

SIDES = {"chosen": style.Look(style.BLUE, "o", "-"), "rejected": style.Look(style.RED, "s", "--")}
ZOOM = {
    "held out": ("chosen_median", style.Look(style.BLUE, "o", "-")),
    "trained on": ("trained_chosen_median", style.Look(style.SKY, "^", "-.")),
}


def compute(_quick: bool, _swept: Swept) -> style.Table:
    """The stored states of DPO: one row for each format, seed and state."""
    return style.rows(real_runs.stored("states"), stage="preference")


def draw(table: style.Table) -> Figure:
    """Above both answers on one axis, below the chosen one alone; thin lines are seeds."""
    figure = Figure(figsize=(style.PAGE, 3.4))
    axes = figure.subplots(2, len(NAMES), sharex=True, sharey="row", height_ratios=(1, 1))
    for column, (format, name) in zip(axes.T, NAMES.items(), strict=True):
        part = style.rows(table, format=format)
        for side, look in SIDES.items():
            _curves(column[0], part, f"{side}_mean", look)
        for quantity, look in ZOOM.values():
            _curves(column[1], part, quantity, look)
        for ax in column:
            style.zero_line(ax)
        column[0].set_title(name)
    axes[0, 0].set_ylabel("change of log π (nats)\nmean over pairs")
    axes[1, 0].set_ylabel("chosen alone (nats)\nmedian over pairs")
    figure.supxlabel("step of DPO", fontsize=8)
    looks = {f"{side}, held out": look for side, look in SIDES.items()} | {"chosen, trained on": ZOOM["trained on"][1]}
    style.legend(figure, looks, ncols=len(looks))
    return figure


def _curves(ax: Axes, table: style.Table, quantity: str, look: style.Look) -> None:
    """Every seed thin, their mean with markers."""
    steps = np.unique(table["step"])
    of_seeds = np.array([style.rows(table, seed=seed)[quantity] for seed in np.unique(table["seed"])])
    ax.plot(steps, of_seeds.T, look.line, color=look.colour, linewidth=0.4, alpha=0.6)
    ax.plot(steps, of_seeds.mean(axis=0), look.line, marker=look.marker, color=look.colour, markerfacecolor="white")
