"""Splits the inner product of the two gradients of a transformer by its layers."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from figures import sentiment_runs, style
from figures.sentiment_runs import NAMES
from figures.sweeps import Swept
from toymodel.data.sentiment import TASKS
from toymodel.experiments.sentiment import PARTS
from toymodel.gram import PairGram, cosine

ALL = "all layers"
STATES = {"reference": 0, "end of DPO": -1}  # of the states that are recorded
MARKERS = {"reference": (style.BLUE, "o"), "end of DPO": (style.RED, "s")}
QUANTITIES = {
    "inner": "part of the cosine",
    "square": "share of $‖g_w‖²$",
    "sign": "share of pairs with\nthe sign of the sum",
}
SHIFT = {"reference": -0.13, "end of DPO": 0.13}  # so that markers of one part lie side by side


def compute(quick: bool, swept: Swept) -> style.Table:
    runs = sentiment_runs.runs(quick, swept)
    return style.stacked(*(_rows(task, state, style.rows(runs, task=task)) for task in TASKS for state in STATES))


def _rows(task: str, state: str, runs: style.Table) -> style.Table:
    """One row for each part: means over the pairs of a seed, then over seeds."""
    at = STATES[state]
    chosen_sq, rejected_sq, inner = (runs[name][:, at, None] for name in ("chosen_sq", "rejected_sq", "inner"))
    of_parts = {
        "inner": cosine(PairGram(chosen_sq, rejected_sq, runs["parts_inner"][:, at])),
        "square": runs["parts_chosen_sq"][:, at] / chosen_sq,
        "sign": (runs["parts_inner"][:, at] * inner > 0).astype(float),
    }
    of_all = {
        "inner": cosine(PairGram(chosen_sq, rejected_sq, inner)),
        "square": chosen_sq / chosen_sq,
        "sign": inner**2 > 0,
    }
    names = (*PARTS, ALL)
    table = {"task": np.full(len(names), task), "state": np.full(len(names), state), "part": np.array(names)}
    for name in QUANTITIES:
        both = np.concatenate([of_parts[name], of_all[name]], axis=1)  # [seeds, parts, pairs]
        table |= sentiment_runs.over_seeds(name, both.mean(axis=-1))
    return table


def draw(table: style.Table) -> Figure:
    figure = Figure(figsize=(style.PAGE, 4.6))
    axes = figure.subplots(len(QUANTITIES), len(TASKS), sharex=True, sharey="row")
    for column, task in zip(axes.T, TASKS, strict=True):
        for ax, quantity in zip(column, QUANTITIES, strict=True):
            _panel(ax, style.rows(table, task=task), quantity)
        column[0].set_title(NAMES[task])
    for ax, label in zip(axes[:, 0], QUANTITIES.values(), strict=True):
        ax.set_ylabel(label)
    handles = [
        Line2D([], [], color=colour, marker=marker, linestyle="none", markerfacecolor="white", label=state)
        for state, (colour, marker) in MARKERS.items()
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles))
    return figure


def _panel(ax: Axes, part: style.Table, quantity: str) -> None:
    names = (*PARTS, ALL)
    style.zero_line(ax)
    for state, (colour, marker) in MARKERS.items():
        here = style.rows(part, state=state)
        x = np.arange(len(names)) + SHIFT[state]
        ax.vlines(x, here[f"{quantity}_low"], here[f"{quantity}_high"], color=colour, linewidth=0.8)
        ax.plot(x, here[f"{quantity}_measured"], marker, color=colour, markerfacecolor="white")
    ax.axvline(len(PARTS) - 0.5, color=style.GREY, linewidth=0.5, linestyle=":")
    ax.set_xticks(range(len(names)), names, rotation=45, ha="right")
