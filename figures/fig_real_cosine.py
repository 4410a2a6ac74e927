"""Follows the cosine of the two gradients in a pretrained language model, in all and block by block."""

import numpy as np
from matplotlib.figure import Figure

from figures import real_runs, style
from figures.real_runs import LOOKS, NAMES
from figures.sweeps import Swept

PANELS = {"supervised": "step of fine-tuning", "preference": "step of DPO", "block": "block, at the reference"}
FEW = 3  # every so many blocks have a marker


def compute(_quick: bool, _swept: Swept) -> style.Table:
    """A row for each format and state of either training, and for each block, from the stored runs."""
    states = (real_runs.over_seeds(stage, ("cosine", "own_falls", "label_right")) for stage in list(PANELS)[:2])
    blocks = real_runs.stored("blocks")
    nowhere = np.full(len(blocks["block"]), np.nan)
    of_blocks = {"format": blocks["format"], "stage": np.full(len(nowhere), "block"), "step": blocks["block"]}
    of_blocks |= {"seeds": np.full(len(nowhere), len(real_runs.SEEDS)), "cosine_measured": blocks["measured"]}
    kinds = [f"{name}_{end}" for name in ("cosine", "own_falls", "label_right") for end in ("measured", "low", "high")]
    return style.stacked(*states, dict.fromkeys(kinds, nowhere) | of_blocks)


def draw(table: style.Table) -> Figure:
    """Two panels along training, and one along the network."""
    figure = Figure(figsize=(style.PAGE, 2.5))
    axes = figure.subplots(1, len(PANELS), sharey=True)
    for ax, (stage, words) in zip(axes, PANELS.items(), strict=True):
        for format, look in LOOKS.items():
            part = style.rows(table, format=format, stage=stage)
            if stage != "block":
                style.measured(ax, part["step"], part, "cosine", look)
                continue
            ax.plot(
                part["step"],
                part["cosine_measured"],
                look.line,
                marker=look.marker,
                markevery=FEW,
                color=look.colour,
                markerfacecolor="white",
            )
        style.zero_line(ax)
        ax.set(xlabel=words, ylim=(-1.1, 1.1))
    axes[0].set_ylabel("cosine of $g_w$ and $g_l$")
    style.legend(figure, {NAMES[format]: look for format, look in LOOKS.items()}, ncols=len(LOOKS))
    return figure
