"""Shared suffixes turn the gradients of chosen and rejected the same way; yet alone, few pairs would lower both.

Cosine of g_w and g_l (left), and the share of pairs whose gradients satisfy ⟨g_w, g_l⟩ > ‖g_w‖², so that a step on this
pair alone with d_w = d_l lowers both responses (right); means over 64 pairs whose prompts were in neither training,
then over 12 seeds, with 95% intervals, along the training of the previous figure. All curves are measured.

At the reference the longer the suffix, the larger the cosine: −1.00, 0.36 and 0.48. It does not grow along DPO: with
the long suffix it falls to 0.25, below that of the short one, as both gradients grow faster than their inner product.
Only 8% of pairs with the long suffix are in the case "both down" at the reference, and 1% at the end, by when their
mean log π_w has fallen by 0.6 nats: the condition of a single pair does not explain that fall. Training steps are made
of other pairs' gradients (T20), and rescaled by Adam. Single tokens lose their cosine of −1 late, as p_w → 1 makes g_w
vanish.
"""

import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from figures import sentiment_runs, style
from figures.sentiment_runs import LOOKS, NAMES
from figures.sweeps import Swept
from toymodel import theory
from toymodel.data.sentiment import TASKS

TITLE = "How the gradients of the sentiment tasks come to point the same way"
LABELS = ("T4", "T10", "T20")

PANELS = {"cosine": "cosine of $g_w$ and $g_l$", "both_down": "pairs whose own step\nlowers both"}
HEIGHT = {"cosine": (-1.1, 1), "both_down": (-0.02, 0.4)}
BOTH_DOWN = theory.CASES.index("both_down")


def compute(quick: bool, swept: Swept) -> style.Table:
    runs, steps = sentiment_runs.runs(quick, swept), sentiment_runs.states(quick)
    return style.stacked(*(_rows(task, style.rows(runs, task=task), steps) for task in TASKS))


def _rows(task: str, runs: style.Table, steps: np.ndarray) -> style.Table:
    """Of one task, over its seeds: means over evaluation pairs, each of them judged alone with d_w = d_l."""
    table = {"task": np.full(len(steps), task), "seeds": np.full(len(steps), len(runs["seed"])), "step": steps}
    gram = theory.PairGram(*(jnp.asarray(runs[name]) for name in theory.PairGram._fields))
    of_pairs = {
        "cosine": np.asarray(theory.cosine(gram)),
        "both_down": np.asarray(theory.case_index(gram)) == BOTH_DOWN,
    }
    for name, values in of_pairs.items():
        table |= sentiment_runs.over_seeds(name, values.mean(axis=-1))
    return table


def draw(table: style.Table) -> Figure:
    figure = Figure(figsize=(style.PAGE, 2.3))
    axes = figure.subplots(1, len(PANELS), sharex=True)
    for ax, (name, title) in zip(axes, PANELS.items(), strict=True):
        for task, look in LOOKS.items():
            part = style.rows(table, task=task)
            style.measured(ax, part["step"], part, name, look)
        style.zero_line(ax)
        ax.set(ylabel=title, ylim=HEIGHT[name])
    figure.supxlabel("step of DPO", fontsize=8)
    style.legend(figure, {NAMES[task]: look for task, look in LOOKS.items()}, ncols=len(LOOKS))
    return figure
