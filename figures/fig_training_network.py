"""Follows both log-probabilities along DPO of a network, where both fall and where both rise."""

import jax
import numpy as np
from matplotlib.figure import Figure

from figures import sentiment_runs, style
from figures.sentiment_runs import QUICK, QUICK_SEEDS, SEEDS, SETTINGS
from figures.sweeps import Swept
from toymodel.experiments.crowd import CrowdSetting, mark
from toymodel.experiments.experiment import Row
from toymodel.experiments.sentiment import (
    FINE_TUNING,
    RULES,
    label_accuracy,
    prefer,
    reference_columns,
    reference_policy,
)
from toymodel.models.logps import pair_logps
from toymodel.sweep import Experiment, make_sweep

PAPER = "Fig. 1"

SHARES = ((0.6, 0.1), (0.1, 0.6))  # (a, b): of one word, among suffix words of right answers and of wrong ones
TITLES = ("a = 0.6 > b = 0.1:\nboth fall", "a = 0.1 < b = 0.6:\nboth rise")
HERE = {"task": "long_suffix", "optimizer": "sgd", "learning_rate": 3e-3}
QUICK_MARK = {"mark_steps": 200, "mark_rate": 1e-2}
LOOKS = {"chosen": style.Look(style.BLUE, "o", "-"), "rejected": style.Look(style.RED, "s", "--")}


def measure(setting: CrowdSetting, tuned: Row) -> Row:
    """Mean log-probabilities of the evaluation pairs at every checkpoint, [k]."""
    reference = mark(setting, reference_policy(setting, tuned))
    run = prefer(setting, reference)

    def means(state: jax.Array) -> tuple[jax.Array, jax.Array]:
        chosen, rejected = pair_logps(reference.network, reference.to_measure(state), reference.evaluation)
        return chosen.mean(), rejected.mean()

    chosen, rejected = jax.lax.map(means, run.checkpoints)
    return {"label_accuracy": label_accuracy(reference), "chosen_logps": chosen, "rejected_logps": rejected}


EXPERIMENT = Experiment(
    "training_network",
    CrowdSetting,
    measure,
    RULES,
    needs=FINE_TUNING,
    needed=reference_columns,
    block=4,
    shard=4,
)


def compute(quick: bool, swept: Swept) -> style.Table:
    chosen, rejected = zip(*SHARES, strict=True)
    shares = {"zip": {"mark_chosen": chosen, "mark_rejected": rejected}}
    settings = SETTINGS | (QUICK | QUICK_MARK if quick else {}) | HERE
    found = swept(make_sweep(EXPERIMENT, settings | shares | {"seed": QUICK_SEEDS if quick else SEEDS}))
    steps = sentiment_runs.states(quick)
    return style.stacked(
        *(_rows(*pair, style.rows(found, mark_chosen=pair[0], mark_rejected=pair[1]), steps) for pair in SHARES)
    )


def _rows(a: float, b: float, runs: style.Table, steps: np.ndarray) -> style.Table:
    """One setting, over its seeds: means over evaluation pairs."""
    runs = sentiment_runs.taught(runs, f"suffixes of {a} and {b}")
    table = {"a": np.full(len(steps), a), "b": np.full(len(steps), b), "step": steps}
    table |= {"seeds": np.full(len(steps), len(runs["seed"]))}
    for side in LOOKS:
        changes = runs[f"{side}_logps"] - runs[f"{side}_logps"][:, :1]
        table |= sentiment_runs.over_seeds(side, changes)
        table |= {f"{side}_seeds_below": (changes < 0).sum(axis=0)}
    return table


def draw(table: style.Table) -> Figure:
    figure = Figure(figsize=(style.COLUMN, 2.5))
    axes = figure.subplots(1, len(SHARES), sharex=True, sharey=True)
    for ax, (a, b), title in zip(axes, SHARES, TITLES, strict=True):
        part = style.rows(table, a=a, b=b)
        style.zero_line(ax)
        for side, look in LOOKS.items():
            style.measured(ax, part["step"], part, side, look)
        ax.set_title(title)
    figure.supxlabel("step of DPO", fontsize=8)
    axes[0].set_ylabel("change of log π (nats)")
    style.legend(figure, LOOKS, ncols=2)
    return figure
