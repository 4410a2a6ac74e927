"""Measures which training tokens moved the answers to held-out prompts."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures import account_runs, style
from figures.sentiment_runs import NAMES, over_seeds
from figures.sweeps import Swept
from toymodel.data.sentiment import TASKS
from toymodel.experiments.account import CHOSEN, TOKENS, TaskAccount, accounts

LOOKS = {
    "chosen label": style.Look(style.SKY, "o", "-"),
    "chosen suffix": style.Look(style.BLUE, "s", "--"),
    "rejected label": style.Look(style.ORANGE, "^", "-."),
    "rejected suffix": style.Look(style.RED, "v", ":"),
}
SUM, TRUTH, ANSWER = "all sources", "true change", "chosen answer"  # rows, and the part that both panels end with
WIDTH = 0.17  # of a bar, between parts that are 1 apart


def compute(quick: bool, swept: Swept) -> style.Table:
    """A row for each task, source and part; rows of the chosen answer also have how pairs are ranked."""
    found = account_runs.runs(quick, swept)
    told, _ = accounts(found)
    return style.stacked(*(_rows(task, style.rows(found, task=task), told[task]) for task in TASKS))


def _rows(task: str, found: style.Table, told: TaskAccount) -> style.Table:
    brought, true_change = found["contributions"].mean(axis=-1), found["true_change"].mean(axis=-1)  # over pairs
    brought = np.concatenate([brought, brought.sum(axis=1, keepdims=True), true_change[:, None]], axis=1)
    cells = np.concatenate([brought, brought[..., CHOSEN].sum(axis=-1, keepdims=True)], axis=2)
    source, part = np.meshgrid([*TOKENS, SUM, TRUTH], [*TOKENS, ANSWER], indexing="ij")
    table = {"task": np.full(source.shape, task), "source": source, "part": part}
    table |= over_seeds("brought", cells) | {"seeds_below": (cells < 0).sum(axis=0)}
    table |= {"spearman": np.full(source.shape, told.spearman), "seeds": np.full(source.shape, len(told.seeds))}
    table |= {"own_slope_spearman": np.full(source.shape, told.own_slope_spearman)}
    return {name: np.ravel(column) for name, column in table.items()}


def draw(table: style.Table) -> Figure:
    figure = Figure(figsize=(style.PAGE, 3.8))
    axes = figure.subplots(2, len(TASKS), sharex="col", height_ratios=(1, 1))
    for column, task in enumerate(TASKS):
        here = style.rows(table, task=task)
        for ax, side in zip(axes[:, column], ("chosen", "rejected"), strict=True):
            _bars(ax, here, side, task)
        axes[0, column].set_title(NAMES[task])
    for ax, side in zip(axes[:, 0], ("chosen", "rejected"), strict=True):
        ax.set_ylabel(f"contribution to the\n{side} answer (nats)")
    truth = {"sum": style.Look(style.BLACK, "_", "-"), TRUTH: style.Look(style.BLACK, "x", "-")}
    handles = style.entries({f"by {source}": look for source, look in LOOKS.items()} | truth)
    for handle in handles:
        handle.set_linestyle("none")
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles))
    return figure


def _bars(ax: Axes, table: style.Table, side: str, task: str) -> None:
    """For each part of the answer: what each source contributed, then their sum and the true change."""
    words = ["label"] if task == TASKS[0] else ["label", "suffix"]
    sources = [source for source in LOOKS if source.split()[1] in words]
    style.zero_line(ax)
    for place, word in enumerate(words):
        rows = style.rows(table, part=f"{side} {word}")
        for number, source in enumerate(sources, start=-len(sources) // 2):
            row, look, x = style.rows(rows, source=source), LOOKS[source], place + number * WIDTH
            ax.bar(x, row["brought_measured"], WIDTH * 0.85, color=look.colour, alpha=0.45)
            style.intervals(ax, np.array([x]), row["brought_low"], row["brought_high"], look)
            ax.plot(x, row["brought_measured"], look.marker, color=look.colour, markerfacecolor="white")
        beside = np.array([place + len(sources) // 2 * WIDTH])
        total, truth = (style.rows(rows, source=name) for name in (SUM, TRUTH))
        ax.plot(beside, total["brought_measured"], "_", color=style.BLACK, markersize=9)
        ax.plot(beside, truth["brought_measured"], "x", color=style.BLACK)
        style.intervals(ax, beside, truth["brought_low"], truth["brought_high"], style.Look(style.BLACK, "x", "-"))
    ax.set_xticks(range(len(words)), words)
    ax.set_xlim(-0.5, len(words) - 0.5)
