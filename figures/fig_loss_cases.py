"""Counts the cases that a further step of each loss would cause, before and after training."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from figures import loss_groups, loss_runs, style
from figures.loss_groups import BLOCKS, ROWS, Block
from figures.sweeps import Swept
from toymodel import PairGram, theory
from toymodel.theory import CASES

LOOKS: dict[str, tuple[str, dict[str, Any]]] = {
    "chosen_up_rejected_down": ("chosen up, rejected down", {"facecolor": style.SKY}),
    "both_down": ("both down", {"facecolor": style.RED, "hatch": "\\\\\\\\\\\\"}),
    "both_up": ("both up", {"facecolor": style.GREEN, "hatch": "//////"}),
    "chosen_down_rejected_up": ("chosen down, rejected up", {"facecolor": style.GREY}),
    "stationary": ("nothing moves", {"facecolor": "white"}),
}
TIMES = {"start": 0, "end": -1}  # states
LINE = 1.2  # width of a predicted edge, in points
EDGE: dict[str, Any] = {"edgecolor": "black", "linewidth": 0.4}


def compute(quick: bool, swept: Swept) -> style.Table:
    runs, start = loss_runs.trained(quick, swept), loss_runs.starts(quick, swept)
    gram = PairGram(*(jnp.asarray(start[name]) for name in PairGram._fields))
    return style.stacked(
        *(_rows(name, style.rows(runs, loss=name), gram, time) for name in loss_groups.in_order() for time in TIMES)
    )


def _rows(name: str, runs: style.Table, gram: PairGram, time: str) -> style.Table:
    """One row per case: the share of pairs, and the sum of the shares before it."""
    measured = _shares(loss_runs.cases(runs)[:, TIMES[time]])
    predicted = np.full(len(CASES), np.nan)
    if time == "start":
        weights = (jnp.asarray(runs[name][:, 0]) for name in ("d_chosen", "d_rejected"))
        predicted = _shares(theory.case_index(gram, *weights))
    return {
        "loss": np.full(len(CASES), name),
        "time": np.full(len(CASES), time),
        "case": np.array(CASES),
        "measured": measured,
        "left_of_measured": np.cumsum(measured) - measured,
        "predicted": predicted,
        "right_end_predicted": np.cumsum(predicted),
    }


def _shares(cases: Array | np.ndarray) -> np.ndarray:
    return np.array([np.mean(np.asarray(cases) == place) for place in range(len(CASES))])


def draw(table: style.Table) -> Figure:
    figure = Figure(figsize=(style.PAGE, 5.2))
    axes = figure.subplots(1, 2 * len(BLOCKS), gridspec_kw={"wspace": 0.03})
    for block, pair in zip(BLOCKS, np.split(axes, len(BLOCKS)), strict=True):
        for ax, time in zip(pair, TIMES, strict=True):
            _bars(ax, style.rows(table, time=time), block)
            ax.set_title(f"at the {time}", fontsize=7)
            ax.set_ylim(ROWS, -0.6)
        for heading, height in block.headings.items():
            label = pair[0].text(0, height, heading, fontweight="bold", fontsize=7, va="center")
            label.set_in_layout(False)
        pair[0].set(zorder=1, facecolor="none")  # headings run into the next axes
        pair[1].tick_params(labelleft=False)
    figure.supxlabel("share of the pairs", fontsize=8)
    handles: list[Artist] = [Patch(label=label, **EDGE, **look) for label, look in LOOKS.values()]
    handles.append(Line2D([], [], color="black", linewidth=LINE, label="predicted edge"))
    axes[-1].legend(handles=handles, loc="lower right").set_in_layout(False)
    return figure


def _bars(ax: Axes, part: style.Table, block: Block) -> None:
    for case, (_, look) in LOOKS.items():
        of_case = style.rows(part, case=case)
        rows = [list(of_case["loss"]).index(name) for name in block.losses]
        measured, left, edge = (of_case[name][rows] for name in ("measured", "left_of_measured", "right_end_predicted"))
        ax.barh(block.heights, measured, 0.8, left, **EDGE, **look)
        ax.plot(np.stack([edge, edge]), np.add.outer((-0.5, 0.5), block.heights), color="black", linewidth=LINE)
    ax.set(xlim=(0, 1), xticks=(0, 0.5, 1))
    ax.xaxis.set_major_formatter("{x:g}")
    ax.set_yticks(block.heights, block.losses)
    ax.tick_params(axis="y", length=0)
    ax.spines[["left", "bottom"]].set_visible(False)
