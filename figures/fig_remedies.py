"""Compares what every remedy moves around DPO on the long suffix."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from figures import remedy_runs, style
from figures.remedy_runs import LOOKS, LOSSES, MODEL_NAMES, NAMES, TASK_NAMES, over_seeds
from figures.sweeps import Swept
from toymodel.remedies import REMEDIES

TASK, LOSS = "long suffix", "dpo"
LINEAR = 0.1  # nats: axes of nats are linear up to here, and logarithmic beyond
TICKS = {-10: "−10", -1: "", -0.1: "", 0: "0", 0.1: "", 1: "1", 10: ""}
COLUMNS = {  # panels: title, unit
    "paid": ("chosen at\na margin", "nats"),
    "chosen": ("chosen at\nthe end", "nats"),
    "rejected": ("rejected at\nthe end", "nats"),
    "others": ("other words\nat the label", "mass"),
    "accuracy": ("preference\naccuracy", "share"),
    "kl": ("KL from the\nreference", "nats"),
    "cosine": ("cosine at\nthe end", ""),
}
APART = 0.26  # between models, in rows


def compute(quick: bool, swept: Swept) -> style.Table:
    return style.stacked(*(_rows(model, runs) for model, runs in remedy_runs.runs(quick, swept).items()))


def _rows(model: str, runs: style.Table) -> style.Table:
    """A row for each remedy, of one model."""
    task, loss = TASK_NAMES.index(TASK), LOSSES.index(LOSS)
    table = {
        "model": np.full(len(NAMES), model),
        "remedy": np.array(list(NAMES)),
        "seeds": np.full(len(NAMES), len(runs["seed"])),
        "diverged": remedy_runs.diverged(runs)[:, task, loss],
        "learning_rate": runs["learning_rate"][:, loss],
        "strength": runs["strength"][:, loss],
        "extra_gradients": np.array([remedy.extra for remedy in REMEDIES.values()]),
    }
    found = {"chosen": remedy_runs.finished(runs, "chosen_change")}
    found["rejected"] = remedy_runs.finished(runs, "rejected_change")
    found["margin"] = found["chosen"] - found["rejected"]
    found["paid"] = remedy_runs.at_margin(remedy_runs.MARGINS[model], *remedy_runs.changes(runs))
    found |= {name: remedy_runs.finished(runs, name) for name in ("others", "accuracy", "kl", "cosine")}
    for name, column in found.items():
        table |= over_seeds(name, column[:, :, task, loss])
    return table


def draw(table: style.Table) -> Figure:
    figure = Figure(figsize=(style.PAGE, 5.4))
    axes = figure.subplots(1, len(COLUMNS) + 1, sharey=True, width_ratios=[*(1 for _ in COLUMNS), 0.8])
    models = [model for model in MODEL_NAMES if model in table["model"]]
    for ax, (name, (title, unit)) in zip(axes, COLUMNS.items(), strict=False):
        ax.axvline(0, color=style.GREY, linewidth=0.5, zorder=0)
        for place, model in enumerate(models):
            _markers(ax, style.rows(table, model=model), name, (place - (len(models) - 1) / 2) * APART, LOOKS[model])
        ax.set_title(title)
        ax.set_xlabel(unit)
        if unit == "nats":
            ends = ax.get_xlim()
            ax.set_xscale("symlog", linthresh=LINEAR)
            ax.set_xticks(list(TICKS), TICKS.values())
            ax.set_xlim(*np.multiply(ends, (2.5, 1.5)))  # room that was enough on a linear axis
            ax.minorticks_off()
        else:
            ax.xaxis.set_major_locator(MaxNLocator(2, steps=[1, 2, 5, 10]))
            ax.xaxis.set_major_formatter("{x:g}")
    _extra(axes[-1], style.rows(table, model=models[0]))
    for ax in axes:
        for row in range(0, len(NAMES), 2):
            ax.axhspan(row - 0.5, row + 0.5, color="0.95", zorder=-1, linewidth=0)
        ax.tick_params(axis="y", length=0)
        ax.spines["left"].set_visible(False)
    axes[0].set_yticks(range(len(NAMES)), list(NAMES.values()))
    axes[0].set_ylim(len(NAMES) - 0.5, -0.5)
    style.legend(figure, {MODEL_NAMES[model]: LOOKS[model] for model in models}, ncols=len(models))
    return figure


def _markers(ax: Axes, part: style.Table, name: str, offset: float, look: style.Look) -> None:
    """Markers of one model; what diverged is named where its first marker would be."""
    y = np.array([list(NAMES).index(remedy) for remedy in part["remedy"]]) + offset
    ax.hlines(y, part[f"{name}_low"], part[f"{name}_high"], color=look.colour, linewidth=0.8)
    ax.plot(part[f"{name}_measured"], y, look.marker, color=look.colour, markerfacecolor="white")
    if name == next(iter(COLUMNS)):
        for place, seeds in zip(y, part["diverged"].tolist(), strict=True):
            if seeds:
                across = ax.get_yaxis_transform()
                ax.text(
                    0.5, place, "diverged", transform=across, color=look.colour, fontsize=7, ha="center", va="center"
                )


def _extra(ax: Axes, part: style.Table) -> None:
    for row, extra in enumerate(part["extra_gradients"].tolist()):
        ax.text(0.5, row, f"{extra:g}", ha="center", va="center", fontsize=7)
    ax.set_title("extra\ngradients")
    ax.set_xlabel("a step")
    ax.set(xlim=(0, 1), xticks=[])
    ax.spines["bottom"].set_visible(False)
