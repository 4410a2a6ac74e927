"""Trains the same pairs by every loss and follows both log-probabilities."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures import loss_groups, loss_runs, style
from figures.intervals import mean_interval
from figures.loss_groups import GROUPS
from figures.loss_runs import STATES, STEPS
from figures.sweeps import Swept
from toymodel.theory import CASES

PAPER = "Fig. 2"

JUMP = 100.0  # nats in one step
COLUMNS = 6
CUT = 60.0  # nats
TICKS = {-10: "−10", 0: "0", 10: "10"}
MARGINS = {"left": 0.075, "right": 0.985, "bottom": 0.05, "top": 0.975, "hspace": 0.42, "wspace": 0.12}
HEADING = 0.4  # height of a group's heading, in panels
CURVES = ("chosen", "rejected", "margin")
LOOKS = {
    "chosen": style.Look(style.BLUE, "", "-"),
    "rejected": style.Look(style.RED, "", "--"),
    "margin": style.Look(style.BLACK, "", ":"),
}
SHADES = {"chosen": 0.3, "rejected": 0.3, "margin": 0.15}  # opacity of the intervals


def compute(quick: bool, swept: Swept) -> style.Table:
    runs = loss_runs.trained(quick, swept)
    return style.stacked(*(_rows(name, style.rows(runs, loss=name)) for name in loss_groups.in_order()))


def _rows(name: str, runs: style.Table) -> style.Table:
    """What is shown of one loss: its states until any seed jumps."""
    jumped = runs["largest_change"] > JUMP  # [seeds, states]
    shown = ~jumped.any(axis=0)
    table = {"loss": np.full(shown.sum(), name), "step": STATES[shown]}
    logps = {side: runs[f"{side}_logps"] for side in ("chosen", "rejected")}
    logps["margin"] = logps["chosen"] - logps["rejected"]
    for curve in CURVES:
        mean, low, high = mean_interval((logps[curve] - logps[curve][:, :1]).T[shown])
        table |= {f"{curve}_measured": mean, f"{curve}_low": low, f"{curve}_high": high}
    table["jumping_seeds"] = np.full(shown.sum(), jumped.any(axis=1).sum())
    cases = loss_runs.cases(runs)[:, shown]
    return table | {f"{case}_measured": (cases == place).mean(axis=0) for place, case in enumerate(CASES)}


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
                _panel(ax, style.rows(table, loss=name), name)
                ax.tick_params(labelleft=column == 0, labelbottom=line is lines[-1])
        row += 1
    figure.supxlabel(f"step of training (of {STEPS})", fontsize=8, y=0.005)
    figure.supylabel("change of log π since the start (nats)", fontsize=8, x=0.005)
    style.legend(figure, LOOKS, ncols=3)
    return figure


def _panel(ax: Axes, part: style.Table, name: str) -> None:
    style.zero_line(ax)
    for curve, look in LOOKS.items():
        mean, low, high = (part[f"{curve}_{end}"] for end in ("measured", "low", "high"))
        ax.fill_between(part["step"], low, high, color=look.colour, alpha=SHADES[curve], linewidth=0)
        ax.plot(part["step"], mean, look.line, color=look.colour)
    if part["jumping_seeds"][0]:
        ax.text(STEPS / 2, 1, f"ends at step {part['step'][-1]}", fontsize=7, ha="center")
    ax.set_title(name, fontsize=7, pad=2)
    ax.set_yscale("symlog", linthresh=1.0)
    ax.set(xlim=(0, STEPS), ylim=(-CUT, CUT))
    ax.set_xticks((0, STEPS // 2, STEPS), ("0", str(STEPS // 2), ""))  # the next panel's 0 needs the room
    ax.set_yticks(list(TICKS), TICKS.values())
    ax.minorticks_off()
