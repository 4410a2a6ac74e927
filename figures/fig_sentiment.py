"""Follows both log-probabilities along DPO on the three sentiment tasks."""

import numpy as np
from matplotlib.figure import Figure

from figures import sentiment_runs, style
from figures.sentiment_runs import NAMES
from figures.sweeps import Swept
from toymodel.data.sentiment import TASKS

PAPER = "Fig. 3"

ZOOM = (-0.2, 0.06)  # nats: the height of the lower panels
LOOKS = {"chosen": style.Look(style.BLUE, "o", "-"), "rejected": style.Look(style.RED, "s", "--")}


def compute(quick: bool, swept: Swept) -> style.Table:
    runs, steps = sentiment_runs.runs(quick, swept), sentiment_runs.states(quick)
    return style.stacked(*(_rows(task, style.rows(runs, task=task), steps) for task in TASKS))


def _rows(task: str, runs: style.Table, steps: np.ndarray) -> style.Table:
    """A row for each state of one task: over its seeds, means over evaluation pairs."""
    table = {"task": np.full(len(steps), task), "seeds": np.full(len(steps), len(runs["seed"])), "step": steps}
    for side in LOOKS:
        logps = runs[f"{side}_logps"].mean(axis=-1)
        table |= sentiment_runs.over_seeds(side, logps - logps[:, :1])
    return table


def draw(table: style.Table) -> Figure:
    """Each task twice, on linear axes: both answers, and the chosen at the heights that are shaded there."""
    figure = Figure(figsize=(style.PAGE, 3.8))
    axes = figure.subplots(2, len(TASKS), sharex=True, sharey="row", height_ratios=(3, 2))
    for (whole, zoomed), task in zip(axes.T, TASKS, strict=True):
        part = style.rows(table, task=task)
        for ax, sides in ((whole, LOOKS), (zoomed, ["chosen"])):
            style.zero_line(ax)
            for side in sides:
                style.measured(ax, part["step"], part, side, LOOKS[side])
        whole.axhspan(*ZOOM, color="0.9", linewidth=0, zorder=-1)
        whole.set_title(NAMES[task])
        zoomed.set(ylim=ZOOM, facecolor="0.95")
    axes[0][0].set_ylabel("both")
    axes[1][0].set_ylabel("chosen, enlarged")
    figure.supxlabel("step of DPO", fontsize=8)
    figure.supylabel("change of log π (nats)", fontsize=8)
    style.legend(figure, LOOKS, ncols=2)
    return figure
