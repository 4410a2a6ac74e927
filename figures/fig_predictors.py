"""A pair's own slope ranks the pairs rightly with one differing token, and the wrong way round after a suffix.

Spearman's rank correlation, over 64 pairs that were not trained on, between a score at the reference and the change of
the chosen log-probability since; mean and 95% interval over 12 seeds, a transformer trained by DPO in each. Above zero,
pairs of a higher score rise more or fall less. Scores: the slope ‖g_w‖² − ⟨g_w, g_l⟩ of a step on that pair alone (T9);
the same from the head's parameters (T2, features frozen); −CHES (T16); minus the cosine; and, to compare with, log π of
the chosen. With one differing token the slopes rank well (0.60 and 0.53 at step 15; 0.54 and 0.90 at step 150), the
cosine in between, and CHES not at all: the hidden state before the only token is the same in both responses, its score
zero. There the change also follows log π backwards: what is unlikely has room to rise. After a suffix CHES ranks
nothing (within 0.09 of zero), the cosine little (down to −0.28), and slopes are anticorrelated with the change (−0.47
and −0.68 at step 150; from the head −0.70 and −0.89): the likeliest chosen responses fall least (log π: 0.73 and 0.85),
and they are those of the smallest slopes. A slope is what the pair itself would do; training moves these pairs through
others (T20), and no score here knows of those.
"""

import numpy as np
from matplotlib.figure import Figure
from scipy.stats import rankdata, zscore

from figures import sentiment_runs, style
from figures.sentiment_runs import NAMES
from figures.sweeps import Swept
from toymodel.data.sentiment import TASKS
from toymodel.experiments.sentiment import PARTS
from toymodel.gram import PairGram, cosine

TITLE = "Which pairs will fall"
LABELS = ("T2", "T9", "T16")

HEAD = PARTS.index("head")
LOOKS = {
    "slope": style.Look(style.BLUE, "o", "-"),
    "slope of the head": style.Look(style.ORANGE, "s", "--"),
    "−CHES": style.Look(style.GREEN, "^", "-."),
    "−cosine": style.Look(style.PURPLE, "v", ":"),
    "log π of the chosen": style.Look(style.BLACK, "x", "-"),
}


def compute(quick: bool, swept: Swept) -> style.Table:
    runs, states = sentiment_runs.runs(quick, swept), sentiment_runs.states(quick)[1:]  # nothing has changed before
    return style.stacked(*(_rows(task, states, style.rows(runs, task=task)) for task in TASKS))


def _rows(task: str, states: np.ndarray, runs: style.Table) -> style.Table:
    """One row a score and state."""
    changes = (runs["chosen_logps"] - runs["chosen_logps"][:, :1])[:, 1:]  # [seeds, states, pairs]
    tables = []
    for name, score in _scores(runs).items():
        if np.ptp(score, axis=-1).any():  # one that is the same for all pairs ranks none
            table = {"task": np.full(len(states), task), "score": np.full(len(states), name), "step": states}
            tables.append(table | sentiment_runs.over_seeds("rank", rank_correlation(score[:, None], changes)))
    return style.stacked(*tables)


def _scores(runs: style.Table) -> dict[str, np.ndarray]:
    """Of each seed and pair at the reference: the larger, the more the chosen should rise."""
    chosen_sq, rejected_sq, inner, ches = (runs[name][:, 0] for name in ("chosen_sq", "rejected_sq", "inner", "ches"))
    return {
        "slope": chosen_sq - inner,
        "slope of the head": (runs["parts_chosen_sq"] - runs["parts_inner"])[:, 0, HEAD],
        "−CHES": -ches,
        "−cosine": -cosine(PairGram(chosen_sq, rejected_sq, inner)),
        "log π of the chosen": runs["chosen_logps"][:, 0],
    }


def rank_correlation(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Spearman's rank correlation over the last axis."""
    ranks = (zscore(rankdata(values, axis=-1), axis=-1) for values in (one, other))
    return np.prod(np.broadcast_arrays(*ranks), axis=0).mean(axis=-1)


def draw(table: style.Table) -> Figure:
    figure = Figure(figsize=(style.PAGE, 2.4))
    axes = figure.subplots(1, len(TASKS), sharex=True, sharey=True)
    for ax, task in zip(axes, TASKS, strict=True):
        style.zero_line(ax)
        for score, look in LOOKS.items():
            part = style.rows(table, task=task, score=score)
            style.intervals(ax, part["step"], part["rank_low"], part["rank_high"], look)
            style.curve(ax, part["step"], part["rank_measured"], part["rank_measured"], look)
        ax.set(title=NAMES[task], ylim=(-1.05, 1.05))
    figure.supxlabel("step of DPO", fontsize=8)
    axes[0].set_ylabel("rank correlation with\nthe change of the chosen")
    style.legend(figure, LOOKS, ncols=len(LOOKS))
    return figure
