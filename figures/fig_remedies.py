"""Compares the effect of every remedy with DPO on the long suffix."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures import remedy_runs, style
from figures.remedy_runs import LOSSES, MODEL_NAMES, NAMES, TASK_NAMES, over_seeds
from figures.sweeps import Swept
from toymodel.remedies import REMEDIES

TASK, LOSS = "long suffix", "dpo"
COLUMNS = ("paid", "spared", "chosen", "rejected", "others", "accuracy", "kl", "cosine")
LEFT = 0.8  # how far a panel reaches below zero, as a share of how far above
LOOKS: dict[str, dict[str, Any]] = {  # of a difference, by its interval
    "above": {"color": style.BLUE, "markerfacecolor": style.BLUE},
    "below": {"color": style.RED, "markerfacecolor": style.RED},
    "around": {"color": style.GREY, "markerfacecolor": "white"},
}


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
    found["spared"] = found["paid"] - found["paid"][:, remedy_runs.places(NAMES, "none")]  # seed by seed
    found |= {name: remedy_runs.finished(runs, name) for name in ("others", "accuracy", "kl", "cosine")}
    for name, column in found.items():
        table |= over_seeds(name, column[:, :, task, loss])
    return table


def draw(table: style.Table) -> Figure:
    """A panel for each model, remedies in the order of their mean rank over models; "none" is the line at zero."""
    models = [model for model in MODEL_NAMES if model in table["model"]]
    tables = {model: style.rows(table, model=model) for model in models}
    shown = [name for name in order(list(tables.values())) if name != "none"]
    figure = Figure(figsize=(style.PAGE, 3.6))
    axes = np.atleast_1d(figure.subplots(1, len(models), sharey=True))
    for ax, (model, part) in zip(axes, tables.items(), strict=True):
        _forest(ax, part, shown)
        ax.set_title(MODEL_NAMES[model])
    axes[0].set_yticks(range(len(shown)), [NAMES[name] for name in shown])
    axes[0].set_ylim(len(shown) - 0.5, -0.5)
    figure.supxlabel("log π of chosen at an equal margin, minus that without a remedy (nats)", fontsize=8)
    return figure


def order(tables: list[style.Table]) -> list[str]:
    """The remedies by mean rank, the one with the highest chosen first; those that did not reach the margin last."""
    spared = np.array([np.nan_to_num(table["spared_measured"], nan=-np.inf) for table in tables])
    ranks = (spared[:, :, None] < spared[:, None, :]).sum(axis=-1)
    return [list(NAMES)[place] for place in np.argsort(ranks.mean(axis=0), kind="stable")]


def _forest(ax: Axes, part: style.Table, shown: list[str]) -> None:
    """Differences of one model; those beyond the panel, or missing, are given in words."""
    ax.axvline(0, color=style.BLACK, linewidth=0.8, zorder=0)
    reach = 1.1 * np.nanmax(np.append(part["spared_high"], 1e-9))
    ax.set_xlim(-LEFT * reach, reach)
    for row, name in enumerate(shown):
        if row % 2 == 0:
            ax.axhspan(row - 0.5, row + 0.5, color="0.95", zorder=-1, linewidth=0)
        one = style.rows(part, remedy=name)
        value, low, high = (one[f"spared_{end}"][0] for end in ("measured", "low", "high"))
        words = "diverged" if one["diverged"][0] else "margin not reached" if np.isnan(value) else ""
        if value < -LEFT * reach:
            words = f"◂ {value:.1f}".replace("-", "−")
        if words:
            ax.text(0.02, row, words, transform=ax.get_yaxis_transform(), fontsize=7, va="center")
            continue
        look = LOOKS["above" if low > 0 else "below" if high < 0 else "around"]
        ax.hlines(row, low, high, color=look["color"], linewidth=0.8)
        ax.plot(value, row, "o", **look)
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
