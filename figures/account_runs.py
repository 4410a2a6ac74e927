"""The sweep that figures of the account of training share, over tasks, seeds and settings of `sentiment_runs`."""

import numpy as np

from figures import sentiment_runs, style
from figures.sentiment_runs import QUICK, QUICK_SEEDS, SEEDS, SETTINGS
from figures.sweeps import Swept
from toymodel.data.sentiment import TASKS
from toymodel.experiments.account import ACCOUNT, CHOSEN
from toymodel.sweep import make_sweep


def runs(quick: bool, swept: Swept) -> style.Table:
    """Every task and seed, with the columns of `experiments.account.measure`.

    Raises:
      ValueError: as for `sentiment_runs.runs`, which leaves out the same seeds.
    """
    seeds, settings = (QUICK_SEEDS, SETTINGS | QUICK) if quick else (SEEDS, SETTINGS)
    found = swept(make_sweep(ACCOUNT, settings | {"task": TASKS, "seed": seeds}))
    return style.stacked(*(sentiment_runs.taught(style.rows(found, task=task), task) for task in TASKS))


def of_chosen(found: style.Table) -> tuple[np.ndarray, np.ndarray]:
    """What each source contributed to the chosen answers, label and suffix together, and their true change, in nats.

    [seeds, sources, pairs] and [seeds, pairs].
    """
    return found["contributions"][:, :, CHOSEN].sum(axis=2), found["true_change"][:, CHOSEN].sum(axis=1)
