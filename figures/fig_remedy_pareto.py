"""Sets the margin that each remedy gains against what the chosen answer pays."""

import textwrap

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from figures import remedy_runs, style
from figures.remedy_runs import LOSSES, MODEL_NAMES, NAMES, TASK_NAMES, over_seeds
from figures.sweeps import Swept

TASK, LOSS = "long suffix", "dpo"  # and the loss whose markers are large
LINEAR = 0.1  # nats: the axis of log π is linear up to here, and logarithmic beyond
TICKS = {-10: "−10", -1: "−1", -0.1: "−0.1", 0: "0", 0.1: "0.1"}
# A colour for what a remedy changes: the loss, the balance, the tokens, the order of the halves, what comes before.
LOOKS = {
    "none": (style.BLACK, "*"),
    "likelihood": (style.BLUE, "o"),
    "penalty": (style.BLUE, "s"),
    "gate": (style.BLUE, "D"),
    "normalised_pairs": (style.RED, "^"),
    "normalised_sides": (style.RED, "v"),
    "calibration": (style.RED, "P"),
    "common_step": (style.RED, "d"),
    "damped_common_step": (style.RED, "H"),
    "learned_mask": (style.GREEN, "<"),
    "oracle_mask": (style.GREEN, ">"),
    "rejected_mask": (style.GREEN, "8"),
    "chosen_first": (style.PURPLE, "1"),
    "rejected_first": (style.PURPLE, "2"),
    "fair_coin": (style.PURPLE, "+"),
    "virtual_split": (style.PURPLE, "X"),
    "ches_filter": (style.ORANGE, "h"),
    "both_first": (style.ORANGE, "p"),
}


def compute(quick: bool, swept: Swept) -> style.Table:
    return style.stacked(*(_rows(model, runs) for model, runs in remedy_runs.runs(quick, swept).items()))


def _rows(model: str, runs: style.Table) -> style.Table:
    """Rows of one model, one for each loss and remedy."""
    task = TASK_NAMES.index(TASK)
    chosen, rejected = (
        remedy_runs.finished(runs, f"{side}_change")[:, :, task].swapaxes(1, 2) for side in ("chosen", "rejected")
    )
    loss, remedy = np.meshgrid(LOSSES, list(NAMES), indexing="ij")
    table = {"model": np.full(loss.shape, model), "loss": loss, "remedy": remedy}
    table |= {"seeds": np.full(loss.shape, len(chosen)), "diverged": remedy_runs.diverged(runs)[:, task].T}
    table |= over_seeds("margin", chosen - rejected) | over_seeds("chosen", chosen)
    fronts = map(on_front, table["margin_measured"], table["chosen_measured"])
    table["on_front"] = np.array(list(fronts)).astype(int)
    return {name: column.ravel() for name, column in table.items()}


def on_front(*goods: np.ndarray) -> np.ndarray:
    """Which points no other one equals in all goods and exceeds in one, [n]. A point that is not finite is none."""
    as_good = np.logical_and.reduce([good[:, None] >= good for good in goods])
    better = np.logical_or.reduce([good[:, None] > good for good in goods])
    return np.isfinite(sum(goods)) & ~(as_good & better).any(axis=0)


def draw(table: style.Table) -> Figure:
    models = [model for model in MODEL_NAMES if model in table["model"]]
    figure = Figure(figsize=(style.PAGE, 3.9))
    axes = np.atleast_1d(figure.subplots(1, len(models), sharey=True))
    for ax, model in zip(axes, models, strict=True):
        _points(ax, style.rows(table, model=model))
        ax.set_title(MODEL_NAMES[model])
    axes[0].set_yscale("symlog", linthresh=LINEAR)
    axes[0].set_yticks(list(TICKS), TICKS.values())
    axes[0].set_ylabel("change of log π of chosen (nats)")
    axes[len(axes) // 2].set_xlabel("margin gained (nats)")
    handles = [
        Line2D(
            [], [], linestyle="", color=colour, marker=marker, markersize=5, markerfacecolor="white", label=NAMES[name]
        )
        for name, (colour, marker) in LOOKS.items()
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=5)
    return figure


def _points(ax: Axes, part: style.Table) -> None:
    style.zero_line(ax)
    for remedy, (_, marker) in LOOKS.items():
        faint = style.rows(part, remedy=remedy)
        others = faint["loss"] != LOSS
        ax.plot(faint["margin_measured"][others], faint["chosen_measured"][others], marker, color="0.75", markersize=2)
    shown = part["margin_measured"][np.isfinite(part["margin_measured"])]
    if shown.size:  # all markers, but not every end of an interval
        room = 0.15 * np.ptp(shown)
        ax.set_xlim(shown.min() - room, shown.max() + room)
    part = style.rows(part, loss=LOSS)
    front = style.rows(part, on_front=1)
    order = np.argsort(front["margin_measured"])
    ax.step(front["margin_measured"][order], front["chosen_measured"][order], "k:", where="pre", linewidth=0.8)
    for remedy, (colour, marker) in LOOKS.items():
        one = style.rows(part, remedy=remedy)
        x, y = one["margin_measured"], one["chosen_measured"]
        ax.hlines(y, one["margin_low"], one["margin_high"], color=colour, linewidth=0.5)
        ax.vlines(x, one["chosen_low"], one["chosen_high"], color=colour, linewidth=0.5)
        face = colour if one["on_front"][0] else "white"
        ax.plot(x, y, marker, color=colour, markerfacecolor=face, markersize=5)
    absent = [NAMES[remedy] for remedy, count in zip(part["remedy"], part["diverged"].tolist(), strict=True) if count]
    if absent:
        words = textwrap.fill(f"diverged: {', '.join(absent)}", 32)
        ax.text(0.02, 0.02, words, transform=ax.transAxes, fontsize=7)
