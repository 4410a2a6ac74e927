"""Follows both answers along training with each remedy."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures import remedy_runs, style
from figures.remedy_runs import LOSSES, NAMES, TASK_NAMES, over_seeds
from figures.sweeps import Swept

TASK, LOSS = "long suffix", "dpo"
LOOKS = {"chosen": style.Look(style.BLUE, "o", "-"), "rejected": style.Look(style.RED, "s", "--")}
PLAIN: dict[str, Any] = {"color": "0.6", "linewidth": 0.8, "zorder": 0}  # curves without a remedy, in every panel
COLUMNS = 6
LINEAR = 0.1  # nats: the axis is linear up to here, and logarithmic beyond
TICKS = {-10: "−10", -1: "−1", -0.1: "−0.1", 0: "0", 0.1: "0.1", 1: "1"}


def compute(quick: bool, swept: Swept) -> style.Table:
    steps = remedy_runs.states(quick)
    return style.stacked(*(_rows(model, runs, steps) for model, runs in remedy_runs.runs(quick, swept).items()))


def _rows(model: str, runs: style.Table, steps: np.ndarray) -> style.Table:
    """Rows of one model, one for each remedy and state."""
    task, loss, none = TASK_NAMES.index(TASK), LOSSES.index(LOSS), list(NAMES).index("none")
    remedy, step = np.meshgrid(list(NAMES), steps, indexing="ij")
    table = {"model": np.full(remedy.shape, model), "remedy": remedy, "step": step}
    diverged = remedy_runs.diverged(runs)[:, task, loss]
    table |= {"seeds": np.full(remedy.shape, len(runs["seed"])), "diverged": diverged.repeat(len(steps))}
    for side in LOOKS:
        logps = remedy_runs.finished(runs, f"{side}_logps")[:, :, task, loss]
        reference = runs[f"{side}_logps"][:, [none], task, loss, :1]  # that of all remedies
        table |= over_seeds(side, logps - reference)
    return {name: column.ravel() for name, column in table.items()}


def draw(table: style.Table) -> Figure:
    """The panels of the last model."""
    table = style.rows(table, model=table["model"][-1])
    figure = Figure(figsize=(style.PAGE, 4.8))
    axes = figure.subplots(-(-len(NAMES) // COLUMNS), COLUMNS, sharex=True, sharey=True)
    plain = style.rows(table, remedy="none")
    for ax in axes.ravel()[len(NAMES) :]:
        ax.set_visible(False)
    for ax, (remedy, name) in zip(axes.ravel(), NAMES.items(), strict=False):
        style.zero_line(ax)
        for side, look in LOOKS.items():
            ax.plot(plain["step"], plain[f"{side}_measured"], look.line, **PLAIN)
        _curves(ax, style.rows(table, remedy=remedy))
        ax.set_title(name.replace("damped ", "damped\n"))
    axes[0][0].set_yscale("symlog", linthresh=LINEAR)
    axes[0][0].set_yticks(list(TICKS), TICKS.values())
    axes[0][0].set_xticks(plain["step"][::2])
    for ax in axes.ravel():
        ax.minorticks_off()
    figure.supxlabel("step of preference training", fontsize=8)
    figure.supylabel("change of log π (nats)", fontsize=8)
    style.legend(figure, LOOKS, ncols=len(LOOKS))
    return figure


def _curves(ax: Axes, part: style.Table) -> None:
    for side, look in LOOKS.items():
        style.measured(ax, part["step"], part, side, look)
    if part["diverged"][0]:
        words = f"{part['diverged'][0]} of {part['seeds'][0]} diverged"
        ax.text(0.5, 0.9, words, transform=ax.transAxes, fontsize=7, ha="center")
