"""Trains the same pairs by every loss and follows both log-probabilities."""

import numpy as np
from matplotlib.figure import Figure

from figures import loss_curves, loss_groups, loss_runs, style
from figures.loss_curves import LOOKS
from figures.loss_groups import GROUPS
from figures.loss_runs import STEPS
from figures.sweeps import Swept

COLUMNS = 6
MARGINS = {"left": 0.075, "right": 0.985, "bottom": 0.05, "top": 0.975, "hspace": 0.42, "wspace": 0.12}
HEADING = 0.4  # height of a group's heading, in panels


def compute(quick: bool, swept: Swept) -> style.Table:
    runs = loss_runs.trained(quick, swept)
    return style.stacked(*(loss_curves.rows(name, style.rows(runs, loss=name)) for name in loss_groups.in_order()))


def draw(table: style.Table) -> Figure:
    figure = Figure(figsize=(style.PAGE, 8.0))
    figure.set_layout_engine("none")  # fifty panels of one size need no solver
    rows = {heading: np.array_split(group, range(COLUMNS, len(group), COLUMNS)) for heading, group in GROUPS.items()}
    heights = [height for lines in rows.values() for height in (HEADING, *(1 for _ in lines))]
    grid = figure.add_gridspec(len(heights), COLUMNS, height_ratios=heights, **MARGINS)
    row = 0
    for heading, lines in rows.items():
        label = figure.add_subplot(grid[row, :])
        label.set_axis_off()
        label.text(0, 0, heading, fontweight="bold")
        for line in lines:
            row += 1
            for column, name in enumerate(line):
                ax = figure.add_subplot(grid[row, column])
                loss_curves.panel(ax, style.rows(table, loss=name))
                ax.set_title(name, fontsize=7, pad=2)
                ax.set_xticks((0, STEPS // 2, STEPS), ("0", str(STEPS // 2), ""))  # the next panel's 0 needs the room
                ax.tick_params(labelleft=column == 0, labelbottom=line is lines[-1])
        row += 1
    figure.supxlabel(f"step of training (of {STEPS})", fontsize=8, y=0.005)
    figure.supylabel("change of log π since the start (nats)", fontsize=8, x=0.005)
    style.legend(figure, LOOKS, ncols=len(LOOKS))
    return figure
