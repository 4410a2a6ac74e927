"""Follows the cosine of the two gradients in a pretrained language model, and tells it block by block."""

import numpy as np
from matplotlib.figure import Figure

from figures import real_runs, style
from figures.real_runs import LOOKS, NAMES
from figures.sweeps import Swept

PAPER = "Fig. 4a on another model"

PANELS = {"supervised": "step of fine-tuning", "preference": "step of DPO", "block": "block, at the reference"}
FEW = 3  # every so many blocks have a marker


def compute(_quick: bool, _swept: Swept) -> style.Table:
    """The stored cosines: a row for each state and seed, and for each block."""
    states, blocks = real_runs.stored("states"), real_runs.stored("blocks")
    count = len(blocks["block"])
    nowhere = {"seed": np.full(count, -1), "stage": np.full(count, "block"), "step": blocks["block"]}
    columns = ("format", "seed", "stage", "step")
    of_blocks = {"format": blocks["format"]} | nowhere | {"measured": blocks["measured"]}
    return style.stacked({name: states[name] for name in columns} | {"measured": states["cosine"]}, of_blocks)


def draw(table: style.Table) -> Figure:
    """Thin lines are seeds."""
    figure = Figure(figsize=(style.PAGE, 2.5))
    axes = figure.subplots(1, len(PANELS), sharey=True)
    for ax, (stage, words) in zip(axes, PANELS.items(), strict=True):
        for format, look in LOOKS.items():
            part = style.rows(table, format=format, stage=stage)
            steps = np.unique(part["step"])
            of_seeds = np.array([style.rows(part, seed=seed)["measured"] for seed in np.unique(part["seed"])])
            if len(of_seeds) > 1:
                ax.plot(steps, of_seeds.T, look.line, color=look.colour, linewidth=0.4, alpha=0.6)
            every = FEW if stage == "block" else 1
            ax.plot(
                steps,
                of_seeds.mean(axis=0),
                look.line,
                marker=look.marker,
                markevery=every,
                color=look.colour,
                markerfacecolor="white",
            )
        style.zero_line(ax)
        ax.set(xlabel=words, ylim=(-1.05, 1.05))
    axes[0].set_ylabel("cosine of $g_w$ and $g_l$")
    style.legend(figure, {NAMES[format]: look for format, look in LOOKS.items()}, ncols=len(LOOKS))
    return figure
