"""Follows the cosine of the two gradients, and the share of pairs that would both fall alone, along DPO."""

import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from figures import sentiment_runs, style
from figures.sentiment_runs import LOOKS, NAMES
from figures.sweeps import Swept
from toymodel import theory
from toymodel.data.sentiment import TASKS

PAPER = "Fig. 4a"

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
