"""DPO raises the chosen response that differs in one token, and lowers it where a suffix is shared, more if longer.

Change of the mean log-probability of chosen and of rejected responses since the reference, over 64 pairs whose prompts
were in neither training; mean over 12 seeds with its 95% interval. All curves are measured. The chosen's axis is linear
up to 0.05 nats and logarithmic beyond. A seed is a two-layer transformer that is fine-tuned from random parameters and
then trained by DPO (β = 0.1, Adam at 1e-4, minibatches of 32) on pairs "label" or "label + suffix" that differ in the
label alone, with a suffix of 2 or of 8 words.

With a suffix the chosen too rises at first, by 0.02 nats, while its label has room to: annotators were wrong in 5%, so
that a reference that learnt from them has about 0.05 nats left there. Then it falls, to −0.08 (in nine of twelve seeds;
in three it still is above the start) with the short suffix and to −0.58 (in all seeds) with the long one, while the
label alone ends at +0.04. The rejected falls in all tasks, by far more. Where the chosen begins to fall, and whether it
does within a run, depends on the learning rate, the optimiser and the fine-tuning: see the map of regimes.
"""

import numpy as np
from matplotlib.figure import Figure

from figures import sentiment_runs, style
from figures.sentiment_runs import NAMES
from figures.sweeps import Swept
from toymodel.data.sentiment import TASKS

TITLE = "DPO on the sentiment tasks"
LABELS = ("T4", "T8", "T20")

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
