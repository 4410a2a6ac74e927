"""Follows both log-probabilities along DPO on the three sentiment tasks."""

import numpy as np
from matplotlib.figure import Figure

from figures import sentiment_runs, style
from figures.sentiment_runs import NAMES
from figures.sweeps import Swept
from toymodel.data.sentiment import TASKS

PAPER = "Fig. 3"

LINEAR = 0.05  # nats: the chosen's axis is linear up to here, and logarithmic beyond
TICKS = {-0.5: "−0.5", -0.1: "−0.1", 0: "0", 0.05: "0.05"}
HEIGHT = (-1, 0.1)
LOOKS = {"chosen": style.Look(style.BLUE, "o", "-"), "rejected": style.Look(style.RED, "s", "--")}


def compute(quick: bool, swept: Swept) -> style.Table:
    runs, steps = sentiment_runs.runs(quick, swept), sentiment_runs.states(quick)
    return style.stacked(*(_rows(task, style.rows(runs, task=task), steps) for task in TASKS))


def _rows(task: str, runs: style.Table, steps: np.ndarray) -> style.Table:
    """Of one task, over its seeds: means over evaluation pairs."""
    table = {"task": np.full(len(steps), task), "seeds": np.full(len(steps), len(runs["seed"])), "step": steps}
    for side in LOOKS:
        logps = runs[f"{side}_logps"].mean(axis=-1)
        table |= sentiment_runs.over_seeds(side, logps - logps[:, :1])
    return table


def draw(table: style.Table) -> Figure:
    figure = Figure(figsize=(style.PAGE, 3.0))
    axes = figure.subplots(len(LOOKS), len(TASKS), sharex=True, sharey="row")
    for column, task in zip(axes.T, TASKS, strict=True):
        part = style.rows(table, task=task)
        for ax, (side, look) in zip(column, LOOKS.items(), strict=True):
            style.zero_line(ax)
            style.measured(ax, part["step"], part, side, look)
        column[0].set_title(NAMES[task])
    for row, side in zip(axes, LOOKS, strict=True):
        row[0].set_ylabel(side)
    axes[0][0].set_yscale("symlog", linthresh=LINEAR)
    axes[0][0].set_yticks(list(TICKS), TICKS.values())
    axes[0][0].set_ylim(*HEIGHT)
    for ax in axes[0]:
        ax.minorticks_off()
    figure.supxlabel("step of DPO", fontsize=8)
    figure.supylabel("change of log π (nats)", fontsize=8)
    return figure
