"""Follows both log-probabilities along DPO of a pretrained language model, in four formats of answers."""

from matplotlib.figure import Figure

from figures import real_runs, style
from figures.real_runs import NAMES
from figures.sweeps import Swept

LOOKS = {
    "chosen_mean": style.Look(style.BLUE, "o", "-"),
    "rejected_mean": style.Look(style.RED, "s", "--"),
    "chosen_median": style.Look(style.BLUE, "o", "-"),
    "trained_chosen_median": style.Look(style.SKY, "^", "-."),
}
ROWS = {"change of log π (nats)\nmean over pairs": ("chosen_mean", "rejected_mean")}
ROWS |= {"chosen alone (nats)\nmedian over pairs": ("chosen_median", "trained_chosen_median")}
TOLD = (
    "chosen_rises",
    "trained_chosen_mean",
    "trained_chosen_rises",
    "rejected_median",
    "label_mean",
    "suffix_mean",
)  # besides


def compute(_quick: bool, _swept: Swept) -> style.Table:
    """A row for each format and state of DPO, from the stored runs."""
    return real_runs.over_seeds("preference", (*LOOKS, *TOLD))


def draw(table: style.Table) -> Figure:
    """Above both answers on one axis, below the chosen one alone."""
    figure = Figure(figsize=(style.PAGE, 3.4))
    axes = figure.subplots(len(ROWS), len(NAMES), sharex=True, sharey="row")
    for column, (format, name) in zip(axes.T, NAMES.items(), strict=True):
        part = style.rows(table, format=format)
        for ax, quantities in zip(column, ROWS.values(), strict=True):
            style.zero_line(ax)
            for quantity in quantities:
                style.measured(ax, part["step"], part, quantity, LOOKS[quantity])
        column[0].set_title(name)
    for ax, words in zip(axes[:, 0], ROWS, strict=True):
        ax.set_ylabel(words)
    figure.supxlabel("step of DPO", fontsize=8)
    shown = {"chosen, held out": "chosen_mean", "rejected, held out": "rejected_mean"}
    shown |= {"chosen, trained on": "trained_chosen_median"}
    style.legend(figure, {told: LOOKS[quantity] for told, quantity in shown.items()}, ncols=len(shown))
    return figure
