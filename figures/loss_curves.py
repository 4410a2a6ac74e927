"""Shared by the two figures of log-probabilities under each loss: curves until a seed jumps, and a loss's panel."""

import numpy as np
from matplotlib.axes import Axes

from figures import loss_runs, style
from figures.intervals import mean_interval
from figures.loss_runs import STATES, STEPS
from toymodel.theory import CASES

JUMP = 100.0  # nats in one step
HEIGHT = (-40, 30)  # nats: of every panel
LOOKS = {
    "chosen": style.Look(style.BLUE, "", "-"),
    "rejected": style.Look(style.RED, "", "--"),
    "margin": style.Look(style.BLACK, "", ":"),
}
SHADES = {"chosen": 0.3, "rejected": 0.3, "margin": 0.15}  # opacity of the intervals


def rows(name: str, runs: style.Table) -> style.Table:
    """The states of one loss until any seed jumps: changes since the start, means with intervals; shares of cases."""
    jumped = runs["largest_change"] > JUMP  # [seeds, states]
    shown = ~jumped.any(axis=0)
    table = {"loss": np.full(shown.sum(), name), "step": STATES[shown]}
    logps = {side: runs[f"{side}_logps"] for side in ("chosen", "rejected")}
    logps["margin"] = logps["chosen"] - logps["rejected"]
    for curve in LOOKS:
        mean, low, high = mean_interval((logps[curve] - logps[curve][:, :1]).T[shown])
        table |= {f"{curve}_measured": mean, f"{curve}_low": low, f"{curve}_high": high}
    table["jumping_seeds"] = np.full(shown.sum(), jumped.any(axis=1).sum())
    cases = loss_runs.cases(runs)[:, shown]
    return table | {f"{case}_measured": (cases == place).mean(axis=0) for place, case in enumerate(CASES)}


def panel(ax: Axes, part: style.Table) -> None:
    """The curves of one loss, on a linear axis."""
    style.zero_line(ax)
    for curve, look in LOOKS.items():
        mean, low, high = (part[f"{curve}_{end}"] for end in ("measured", "low", "high"))
        ax.fill_between(part["step"], low, high, color=look.colour, alpha=SHADES[curve], linewidth=0)
        ax.plot(part["step"], mean, look.line, color=look.colour)
    if part["jumping_seeds"][0]:
        ax.text(STEPS / 2, 1, f"ends at step {part['step'][-1]}", fontsize=7, ha="center")
    ax.set(xlim=(0, STEPS), ylim=HEIGHT, yticks=(-20, 0, 20))
