"""Shared by figures of fine-tuned networks: the sweep of the sentiment experiment, its seeds, and means over seeds.

A transformer or an n-gram MLP is fine-tuned and then trained by DPO, per seed. Sizes, rates and steps are the defaults
of `experiments.sentiment`. They were chosen on seeds 0 to 2; the figures show others.
"""

from collections.abc import Callable

import numpy as np

from figures import style
from figures.intervals import mean_interval
from figures.sweeps import Swept
from toymodel.data.sentiment import TASKS
from toymodel.experiments.experiment import Experiment, Row
from toymodel.experiments.sentiment import FINE_TUNING, RULES, SENTIMENT, SentimentSetting, learnt, reference_columns
from toymodel.sweep import make_sweep

SETTINGS = {name: field.default for name, field in SENTIMENT.fields.items() if name not in ("task", "seed")}
QUICK = {"model": "ngram_mlp", "dim": 8, "hidden_dim": 32}
QUICK |= {"supervised_prompts": 2048, "supervised_rate": 2e-2, "supervised_steps": 600}
QUICK |= {"learning_rate": 3e-3, "steps": 40, "checkpoint_every": 10, "evaluation_pairs": 32}
MLP = {"model": "ngram_mlp", "dim": 16, "hidden_dim": 64, "supervised_rate": 1e-2}
SEEDS, QUICK_SEEDS = range(100, 112), range(100, 104)
LOOKS = {
    "single_token": style.Look(style.BLUE, "o", "-"),
    "short_suffix": style.Look(style.ORANGE, "s", "--"),
    "long_suffix": style.Look(style.RED, "^", "-."),
}
NAMES = {"single_token": "single token", "short_suffix": "short suffix", "long_suffix": "long suffix"}


def runs(quick: bool, swept: Swept) -> style.Table:
    """Every task and seed, with the columns of `experiments.sentiment.measure`.

    Raises:
      ValueError: fine-tuning taught a task in none of its seeds. A seed in which it did not is left out of that task.
    """
    seeds, settings = (QUICK_SEEDS, SETTINGS | QUICK) if quick else (SEEDS, SETTINGS)
    found = swept(make_sweep(SENTIMENT, settings | {"task": TASKS, "seed": seeds}))
    return style.stacked(*(taught(style.rows(found, task=task), task) for task in TASKS))


def experiment(
    name: str, measure: Callable[[SentimentSetting, Row], Row], block: int, shard: int | None = None
) -> Experiment:
    """A figure's own experiment on the reference policies that all of them share. A shard is a block, if not given."""
    shard = block if shard is None else shard
    return Experiment(
        name, SentimentSetting, measure, RULES, needs=FINE_TUNING, needed=reference_columns, block=block, shard=shard
    )


def taught(found: style.Table, what: str) -> style.Table:
    """The rows in which fine-tuning taught the labels of `what`.

    Raises:
      ValueError: there are fewer than two.
    """
    kept = learnt(found, what)
    return {name: column[kept] for name, column in found.items()}


def states(quick: bool) -> np.ndarray:
    """Numbers of the states that are recorded."""
    settings = SETTINGS | (QUICK if quick else {})
    return np.arange(0, int(settings["steps"]) + 1, int(settings["checkpoint_every"]))


def over_seeds(name: str, of_seeds: np.ndarray) -> style.Table:
    """Columns `name`_measured, _low and _high: mean and 95% interval over seeds, the first axis."""
    mean, low, high = mean_interval(np.moveaxis(of_seeds, 0, -1))
    return {f"{name}_measured": mean, f"{name}_low": low, f"{name}_high": high}
