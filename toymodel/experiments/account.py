"""Which training tokens moved the answers of the sentiment experiment: the account of its DPO (T23)."""

from collections.abc import Mapping
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from toymodel._public import own_names
from toymodel.data.sentiment import TASKS
from toymodel.experiments.experiment import Experiment, Row
from toymodel.experiments.sentiment import (
    FINE_TUNING,
    RULES,
    SentimentSetting,
    label_accuracy,
    learnt,
    preference_key,
    reference_columns,
    reference_policy,
)
from toymodel.experiments.statistics import mean_interval, rank_correlation
from toymodel.experiments.training import OPTIMIZERS
from toymodel.gradients import pair_gram
from toymodel.losses import LOSSES
from toymodel.training.accounting import account
from toymodel.training.sources import by_position, by_side, crossed

__dir__ = own_names(globals())

#: The label, and the words after it, of each answer: sources in training, parts in the judged pairs.
TOKENS = ("chosen label", "chosen suffix", "rejected label", "rejected suffix")
CHOSEN = [TOKENS.index(part) for part in ("chosen label", "chosen suffix")]


def measure(setting: SentimentSetting, tuned: Row) -> Row:
    """What each of `TOKENS` in training contributed to each in the evaluation pairs, in nats: [sources, parts, n].

    Also the true change of each part [parts, n], and the slope of each chosen answer along its own pair's step.
    """
    reference = reference_policy(setting, tuned)
    found = account(
        reference.model,
        reference.params,
        reference.training,
        LOSSES["dpo"](beta=setting.beta),
        OPTIMIZERS[setting.optimizer],
        setting.learning_rate,
        judged=reference.evaluation,
        sources=crossed(by_side(reference.training), by_position(reference.training)),
        steps=setting.steps,
        at="middle",
        batch_size=setting.batch_size,
        key=preference_key(setting),
    )
    gram = pair_gram(reference.network, reference.to_measure(reference.params), reference.evaluation)
    return {
        "stopped_at": found.run.stopped_at,
        "label_accuracy": label_accuracy(reference),
        "contributions": jnp.stack([by_part(found.contributions[source]) for source in TOKENS]),
        "true_change": by_part(found.true_change),
        "own_slope": gram.chosen_sq - gram.inner,
    }


def by_part(of_tokens: Float[Array, "2 n T"]) -> Float[Array, "parts n"]:
    """A sum over the tokens of each of `TOKENS`."""
    label, suffix = of_tokens[..., 0], of_tokens[..., 1:].sum(axis=-1)
    return jnp.stack([label, suffix], axis=1).reshape(len(TOKENS), -1).astype(float)


#: `measure` as an experiment, "account" in a configuration.
ACCOUNT = Experiment(
    "account",
    SentimentSetting,
    measure,
    RULES,
    needs=FINE_TUNING,
    needed=reference_columns,
    block=4,
    shard=12,
)


Interval = tuple[float, float, float]  # a mean over seeds, and the ends of its 95% interval


class TaskAccount(NamedTuple):
    """The account of one task: means over evaluation pairs, then over the seeds that learnt their labels, in nats."""

    seeds: list[int]
    true_change: float  # of the chosen answer
    first_order: float  # the sum over all sources
    spearman: float  # rank correlation over pairs between that sum and the true change
    own_slope_spearman: float  # the same of the pair's own slope at the reference
    sources: dict[str, dict[str, Interval]]  # what each brought to each part


def accounts(table: Mapping[str, np.ndarray]) -> tuple[dict[str, TaskAccount], dict[str, list[int]]]:
    """The account of every task, and the seeds of each task that did not learn their labels and are left out.

    Raises:
      ValueError: fewer than two seeds of a task learnt them.
    """
    told, left_out = {}, {}
    for task in dict.fromkeys(table["task"].tolist()):
        mine = {name: column[table["task"] == task] for name, column in table.items()}
        taught = learnt(mine, task)
        left_out[task] = sorted(mine["seed"][~taught].tolist())
        told[task] = _tell({name: column[taught] for name, column in mine.items()}, task)
    return told, left_out


def _tell(table: Mapping[str, np.ndarray], task: str) -> TaskAccount:
    contributions, true_change = table["contributions"], table["true_change"][:, CHOSEN].sum(axis=1)
    first_order = contributions[:, :, CHOSEN].sum(axis=(1, 2))
    interval = np.stack(mean_interval(np.moveaxis(contributions.mean(axis=-1), 0, -1)), axis=-1)
    kept = [part for part in TOKENS if task != TASKS[0] or "label" in part]

    def brought(source: str, part: str) -> Interval:
        mean, low, high = interval[TOKENS.index(source), TOKENS.index(part)].tolist()
        return mean, low, high

    return TaskAccount(
        sorted(table["seed"].tolist()),
        float(true_change.mean()),
        float(first_order.mean()),
        float(rank_correlation(first_order, true_change).mean()),
        float(rank_correlation(table["own_slope"], true_change).mean()),
        {source: {part: brought(source, part) for part in kept} for source in kept},
    )
