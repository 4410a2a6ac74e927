"""Correlates scores of single pairs, and the account of the run, with the change of the pairs in training."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from figures import account_runs, sentiment_runs, style
from figures.sentiment_runs import NAMES
from figures.sweeps import Swept
from toymodel.data.sentiment import TASKS
from toymodel.experiments.sentiment import PARTS
from toymodel.experiments.statistics import rank_correlation
from toymodel.gram import PairGram, cosine

HEAD = PARTS.index("head")
LOOKS = {
    "slope": style.Look(style.BLUE, "o", "-"),
    "slope of the head": style.Look(style.ORANGE, "s", "--"),
    "−CHES": style.Look(style.GREEN, "^", "-."),
    "−cosine": style.Look(style.PURPLE, "v", ":"),
    "log π of the chosen": style.Look(style.BLACK, "x", "-"),
}
ACCOUNT = "account of the run"  # known when the run has ended: a single marker, at its end
STAR: dict[str, Any] = {"marker": "*", "color": style.RED, "markersize": 8, "linestyle": "none"}


def compute(quick: bool, swept: Swept) -> style.Table:
    runs, states = sentiment_runs.runs(quick, swept), sentiment_runs.states(quick)[1:]  # nothing has changed before
    scores = (_rows(task, states, style.rows(runs, task=task)) for task in TASKS)
    accounts = account_runs.runs(quick, swept)
    return style.stacked(*scores, *(_account(task, states[-1:], style.rows(accounts, task=task)) for task in TASKS))


def _rows(task: str, states: np.ndarray, runs: style.Table) -> style.Table:
    """One row for each score and state."""
    changes = (runs["chosen_logps"] - runs["chosen_logps"][:, :1])[:, 1:]  # [seeds, states, pairs]
    tables = []
    for name, score in _scores(runs).items():
        if np.ptp(score, axis=-1).any():  # one that is the same for all pairs ranks none
            tables.append(_ranks(task, name, states, rank_correlation(score[:, None], changes)))
    return style.stacked(*tables)


def _account(task: str, end: np.ndarray, accounts: style.Table) -> style.Table:
    """The row of what all sources contributed to each pair's chosen answer."""
    brought, true_change = account_runs.of_chosen(accounts)
    return _ranks(task, ACCOUNT, end, rank_correlation(brought.sum(axis=1), true_change)[:, None])


def _ranks(task: str, score: str, states: np.ndarray, of_seeds: np.ndarray) -> style.Table:
    table = {"task": np.full(len(states), task), "score": np.full(len(states), score), "step": states}
    return table | sentiment_runs.over_seeds("rank", of_seeds)


def _scores(runs: style.Table) -> dict[str, np.ndarray]:
    """Scores of each seed and pair at the reference: the larger, the more the chosen should rise."""
    chosen_sq, rejected_sq, inner, ches = (runs[name][:, 0] for name in ("chosen_sq", "rejected_sq", "inner", "ches"))
    return {
        "slope": chosen_sq - inner,
        "slope of the head": (runs["parts_chosen_sq"] - runs["parts_inner"])[:, 0, HEAD],
        "−CHES": -ches,
        "−cosine": -cosine(PairGram(chosen_sq, rejected_sq, inner)),
        "log π of the chosen": runs["chosen_logps"][:, 0],
    }


def draw(table: style.Table) -> Figure:
    figure = Figure(figsize=(style.PAGE, 2.4))
    axes = figure.subplots(1, len(TASKS), sharex=True, sharey=True)
    for ax, task in zip(axes, TASKS, strict=True):
        style.zero_line(ax)
        for score, look in LOOKS.items():
            part = style.rows(table, task=task, score=score)
            style.intervals(ax, part["step"], part["rank_low"], part["rank_high"], look)
            style.curve(ax, part["step"], part["rank_measured"], part["rank_measured"], look)
        account = style.rows(table, task=task, score=ACCOUNT)
        ax.plot(account["step"], account["rank_measured"], **STAR)
        ax.set(title=NAMES[task], ylim=(-1.05, 1.12))
    figure.supxlabel("step of DPO", fontsize=8)
    axes[0].set_ylabel("rank correlation with\nthe change of the chosen")
    handles = [Line2D([], [], label=ACCOUNT, **STAR), *style.entries(LOOKS)]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles))
    return figure
