"""One sweep for all figures of the comparison of remedies: every remedy, loss and task of `experiments.remedies`.

Learning rates and strengths were chosen on seeds 0 to 2 (`tune_remedies`); the figures show others.
"""

from collections.abc import Iterable

import numpy as np

from figures import style
from figures.sentiment_runs import over_seeds
from figures.sweeps import Swept
from toymodel.experiments.remedies import CHECKPOINTS, COMPARED, MODELS, REMEDY_COMPARISON, TASKS
from toymodel.experiments.sentiment import learnt
from toymodel.remedies import REMEDIES
from toymodel.sweep import make_sweep

OF_ROWS = ("model", "remedy", "loss", "seed", "learning_rate", "strength")
SETTINGS = {name: field.default for name, field in REMEDY_COMPARISON.fields.items() if name not in OF_ROWS}
LOSSES = COMPARED
QUICK = {"dim": 8, "hidden_dim": 32, "supervised_prompts": 2048, "supervised_rate": 2e-2, "supervised_steps": 600}
QUICK |= {"pairs": 32, "evaluation_pairs": 16, "steps": 6}
MLP = {"hidden_dim": 64, "supervised_rate": 1e-2}  # as in fig_network_overlap
# Nats: remedies are tuned where training has gained that much, the largest of ½, 1 and 2 that training without a
# remedy reached around each of the four losses on the seeds of the tuning. Figures compare them at three
# quarters of it, which other seeds and single tasks reach as well.
TUNED_AT = {"readout": 2.0, "ngram_mlp": 1.0, "transformer": 2.0}
MARGINS = {model: 0.75 * nats for model, nats in TUNED_AT.items()}
LOST = 100.0  # nats: a mean log-probability that moved this far is that of a run that diverged
SEEDS, QUICK_SEEDS = range(100, 110), range(100, 102)
NAMES = {name: name.replace("_", " ").replace("ches", "CHES") for name in REMEDIES}
MODEL_NAMES = {"readout": "readout", "ngram_mlp": "n-gram MLP", "transformer": "transformer"}
LOOKS = {
    "readout": style.Look(style.GREEN, "^", "-"),
    "ngram_mlp": style.Look(style.RED, "s", "-"),
    "transformer": style.Look(style.BLUE, "o", "-"),
}
TASK_NAMES, LOSS_NAMES = list(TASKS), {"dpo": "DPO", "ipo_sum": "IPO", "simpo": "SimPO", "cpo_nll_mean": "CPO"}


def settings_of(model: str) -> dict[str, object]:
    """All settings but the seed: every remedy with every loss."""
    every = {"model": model, "remedy": list(REMEDIES), "loss": list(LOSSES)}
    return SETTINGS | every | (MLP if model == "ngram_mlp" else {})


def runs(quick: bool, swept: Swept) -> dict[str, style.Table]:
    """By model: every seed, with the columns of `experiments.remedies.measure`, [seeds, remedies, tasks, losses, …].

    Learning rate and strength are [remedies, losses].

    Raises:
      ValueError: fine-tuning taught the labels to fewer than two seeds. A seed in which it did not is left out.
    """
    models = ("ngram_mlp",) if quick else tuple(MODELS)
    grids = [settings_of(model) | ({"seed": QUICK_SEEDS} | QUICK if quick else {"seed": SEEDS}) for model in models]
    found = swept(make_sweep(REMEDY_COMPARISON, *grids))
    return {model: in_cube(style.rows(found, model=model), model) for model in models}


def in_cube(rows: style.Table, model: str) -> style.Table:
    """The rows of a model as arrays over seeds, remedies and losses."""
    remedy, loss = (places(names, *rows[name].tolist()) for name, names in (("remedy", NAMES), ("loss", LOSSES)))
    order = np.lexsort((loss, remedy, rows["seed"]))
    shape = len(set(rows["seed"].tolist())), len(NAMES), len(LOSSES)
    cube = {name: column[order].reshape(*shape, *column.shape[1:]) for name, column in rows.items()}
    taught = learnt({"label_accuracy": cube["label_accuracy"][:, 0, 0]}, model)
    table = {name: column[taught].swapaxes(2, 3) for name, column in cube.items() if column.ndim > 3}
    by_remedy = {name: cube[name][0] for name in ("learning_rate", "strength")}
    return table | by_remedy | {"seed": cube["seed"][taught, 0, 0]}


def states(quick: bool) -> np.ndarray:
    """Numbers of the states that are measured."""
    steps = int((SETTINGS | (QUICK if quick else {}))["steps"])
    return np.arange(CHECKPOINTS) * (steps // (CHECKPOINTS - 1))


def finished(runs: style.Table, name: str) -> np.ndarray:
    """A column [seeds, remedies, tasks, losses, …], NaN where the run diverged."""
    column = runs[name]
    lost = _lost(runs)
    return np.where(lost.reshape(lost.shape + (1,) * (column.ndim - lost.ndim)), np.nan, column)


def changes(runs: style.Table) -> tuple[np.ndarray, np.ndarray]:
    """Changes of the mean log-probability of chosen and of rejected answers since the reference, in nats.

    Both [seeds, remedies, tasks, losses, states]; NaN where the run diverged.
    """
    none = places(NAMES, "none")  # whose first state is the reference; training on both answers comes before its own

    def since(name: str) -> np.ndarray:
        return finished(runs, name) - runs[name][:, none, :, :, :1]

    return since("chosen_logps"), since("rejected_logps")


def at_margin(nats: float, chosen: np.ndarray, rejected: np.ndarray, over: tuple[int, ...] = (0,)) -> np.ndarray:
    """The change of the chosen when the margin, averaged over these axes, first reached `nats`.

    From the changes of both at all states, [seeds, …, states]; without the last axis. All seeds are read at the same
    time of training, linearly between states. NaN where the mean never reached that margin, or a run diverged.
    """
    margin = (chosen - rejected).mean(axis=over, keepdims=True)
    after = (margin >= nats).argmax(axis=-1, keepdims=True)

    def at(column: np.ndarray, state: np.ndarray) -> np.ndarray:
        state = np.broadcast_to(state, (*column.shape[:-1], 1))
        return np.take_along_axis(column, state, axis=-1)[..., 0]

    before = np.maximum(after - 1, 0)
    low, high = at(margin, before), at(margin, after)
    share = np.divide(nats - low, high - low, out=np.zeros_like(low), where=high > low)
    read = (1 - share) * at(chosen, before) + share * at(chosen, after)
    return np.where(high >= nats, read, np.nan)


def diverged(runs: style.Table) -> np.ndarray:
    """The number of diverged seeds, [remedies, tasks, losses]: figures show no mean if one diverged."""
    return _lost(runs).sum(axis=0)


def _lost(runs: style.Table) -> np.ndarray:
    """Which runs stopped, and so have no last state, or moved a log-probability by `LOST` nats or more."""
    changes = np.stack([runs["chosen_change"], runs["rejected_change"]])
    return np.asarray(~(abs(changes) < LOST).all(axis=0))


def places(names: Iterable[str], *wanted: str) -> np.ndarray:
    """Places of these along an axis of remedies, tasks or losses."""
    return np.array([list(names).index(name) for name in wanted])


__all__ = [
    "LOOKS",
    "LOSSES",
    "LOSS_NAMES",
    "MARGINS",
    "MODEL_NAMES",
    "NAMES",
    "SEEDS",
    "SETTINGS",
    "TASK_NAMES",
    "at_margin",
    "changes",
    "diverged",
    "finished",
    "over_seeds",
    "places",
    "runs",
    "settings_of",
    "states",
]
