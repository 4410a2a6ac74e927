"""What the sentiment experiment says about the paper's claims (arXiv 2410.13828, Figs. 3 and 4a), seed by seed.

With one differing token the gradients have a negative cosine and the chosen answer rises. With identical words after
it the cosine is positive and the chosen answer falls, both more so for more words.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from toymodel._public import own_names
from toymodel.data.sentiment import TASKS
from toymodel.experiments.sentiment import learnt
from toymodel.experiments.statistics import mean_interval
from toymodel.gram import PairGram
from toymodel.gram import cosine as cosine_of

__dir__ = own_names(globals())


class Sign(NamedTuple):
    """One claim: a number that should have one sign, its mean over seeds and the 95% interval of that mean."""

    claim: str
    quantity: str
    seeds: int  # in which the labels of all tasks concerned were learnt
    mean: float  # NaN for fewer than two seeds, as are the next two
    low: float
    high: float
    holds: bool  # the whole interval has the claimed sign


class Outcome(NamedTuple):
    """The verdict of all seeds of a sweep."""

    signs: tuple[Sign, ...]
    not_learnt: dict[str, list[int]]  # seeds in which fine-tuning did not teach a task its label; they are left out


def signs(table: Mapping[str, np.ndarray]) -> Outcome:
    """Signs of cosines and changes, from the columns of the sentiment experiment for all tasks over the same seeds.

    The cosine is that at the reference, before the first step; the change is that of the chosen log-probability from
    there to the end, in nats. Both are means over evaluation pairs.

    Raises:
      ValueError: a task is missing, or the tasks do not share their seeds.
    """
    seeds = {task: np.sort(table["seed"][table["task"] == task]) for task in TASKS}
    if not all(len(seeds[task]) and np.array_equal(seeds[task], seeds[TASKS[0]]) for task in TASKS):
        raise ValueError(f"`table` must hold the tasks {', '.join(TASKS)} over the same seeds, each once.")
    cosine, change, taught = {}, {}, {}
    for task in TASKS:
        here = np.flatnonzero(table["task"] == task)
        here = here[np.argsort(table["seed"][here])]
        cosine[task], change[task] = mean_cosine(table)[here, 0], chosen_change(table)[here, -1]
        taught[task] = learnt({"label_accuracy": table["label_accuracy"][here]}, task, fewest=0)
    single, short, long = TASKS
    found = (
        _sign("one differing token: gradients point apart", "cosine", -cosine[single], taught[single], -1),
        _sign("one differing token: the chosen rises", "change", change[single], taught[single]),
        _sign("short suffix: gradients point together", "cosine", cosine[short], taught[short]),
        _sign("short suffix: the chosen falls", "change", -change[short], taught[short], -1),
        _sign("long suffix: gradients point together", "cosine", cosine[long], taught[long]),
        _sign("long suffix: the chosen falls", "change", -change[long], taught[long], -1),
        _sign("more so than for the short one", "cosine", cosine[long] - cosine[short], taught[long] & taught[short]),
        _sign(
            "further than for the short one", "change", change[short] - change[long], taught[long] & taught[short], -1
        ),
    )
    return Outcome(found, {task: seeds[task][~taught[task]].tolist() for task in TASKS})


def mean_cosine(table: Mapping[str, np.ndarray]) -> Float[np.ndarray, "settings k"]:
    """Cosine between the gradients of chosen and rejected at every checkpoint, mean over evaluation pairs."""
    return np.asarray(cosine_of(PairGram(*(table[name] for name in PairGram._fields))).mean(axis=-1))


def chosen_change(table: Mapping[str, np.ndarray]) -> Float[np.ndarray, "settings k"]:
    """Change of log π_w since the reference at every checkpoint, mean over evaluation pairs, in nats."""
    logps = table["chosen_logps"].mean(axis=-1)
    return np.asarray(logps - logps[:, :1])


def _sign(
    claim: str,
    quantity: str,
    claimed_positive: Float[np.ndarray, " seeds"],
    taught: Bool[np.ndarray, " seeds"],
    told: int = 1,
) -> Sign:
    """The claim that a number is positive, reported with the sign `told`."""
    kept = claimed_positive[taught]
    if len(kept) < 2:
        return Sign(claim, quantity, len(kept), np.nan, np.nan, np.nan, False)
    mean, *ends = (float(told * value) for value in mean_interval(kept))
    low, high = sorted(ends)
    return Sign(claim, quantity, len(kept), mean, low, high, bool(min(told * low, told * high) > 0))
