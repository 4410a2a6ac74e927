"""Trains token masks with DPO and shows what they keep."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from figures import sentiment_runs, style
from figures.sentiment_runs import MLP, QUICK, QUICK_SEEDS, SETTINGS, over_seeds, taught
from figures.sweeps import Swept
from toymodel.data.pairs import PreferencePairs
from toymodel.data.sentiment import sharing_more
from toymodel.experiments.experiment import Row
from toymodel.experiments.sentiment import SentimentSetting, label_accuracy, reference_policy
from toymodel.losses import LOSSES
from toymodel.models.logps import pair_logps
from toymodel.remedies import LearnedMask
from toymodel.sweep import make_sweep
from toymodel.training import train

MODELS = {"ngram_mlp": "n-gram MLP", "transformer": "transformer"}
TASKS = {"long suffix": 8, "half shared": 4}  # words that the rejected answer keeps, of eight
SIDES = ("chosen", "rejected")
STRENGTHS = (0.001, 0.01, 0.03, 0.1)  # λ, in nats
BATCH = 8  # pairs in a step
HERE = {"task": "long_suffix", "pairs": 64, "learning_rate": 5e-4, "steps": 100}
SEEDS = sentiment_runs.SEEDS[:10]
LOOKS = {
    0.001: style.Look(style.SKY, "o", ":"),
    0.01: style.Look(style.BLUE, "s", "-"),
    0.03: style.Look(style.ORANGE, "^", "--"),
    0.1: style.Look(style.RED, "v", "-."),
}
IDEAL = style.Look(style.BLACK, "_", "-")


def measure(setting: SentimentSetting, tuned: Row) -> Row:
    """After training with each of `STRENGTHS`: masks [tasks, strengths, 2, T], changes of both log π [tasks, …, 2].

    The last run has no mask. NaN where a run diverged.
    """
    reference = reference_policy(setting, tuned)
    keys = jax.random.split(jax.random.fold_in(jax.random.key(setting.seed), 2))
    sides = (reference.training, reference.evaluation)
    training, judged = (_each_task(key, pairs) for key, pairs in zip(keys, sides, strict=True))
    # DPO has d_w = d_l = β/2 at the start. Divided by that it would be the same to Adam, and this to the masks:
    unit = setting.beta / 2
    tried = jnp.array([(unit * strength, 1 / unit) for strength in STRENGTHS] + [(0, 0)])

    def train_with(pairs: PreferencePairs, unseen: PreferencePairs, trial: Array) -> Row:
        run = train(
            reference.model,
            reference.params,
            pairs,
            LOSSES["dpo"](beta=setting.beta),
            optax.adam,
            setting.learning_rate,
            steps=setting.steps,
            batch_size=BATCH,
            key=jax.random.fold_in(jax.random.key(setting.seed), 3),
            update=LearnedMask(*trial),
            record="loss",
        )
        before, after = (
            jnp.stack(pair_logps(reference.network, reference.to_measure(params), unseen))
            for params in (reference.params, run.params)
        )
        found = {"masks": run.memory.astype(float), "changes": (after - before).mean(axis=-1)}
        return jax.tree.map(lambda leaf: jnp.where(run.stopped_at == setting.steps, leaf, jnp.nan), found)

    contrast = (training.chosen != training.rejected).mean(axis=1, dtype=tried.dtype)
    # Another `vmap`, over tasks, gave some float32 products eight dimensions, at which XLA aborts (jax 0.10).
    of_trials = jax.vmap(train_with, in_axes=(None, None, 0))
    found = jax.lax.map(lambda pairs: of_trials(pairs[0], pairs[1], tried), (training, judged))
    return {"label_accuracy": label_accuracy(reference), "contrast": contrast} | found


def _each_task(key: Array, pairs: PreferencePairs) -> PreferencePairs:
    """The pairs as each of `TASKS` has them: arrays [tasks, n, …]."""
    suffixes = sharing_more(key, pairs.rejected[:, 1:])
    of_tasks = [replace(pairs, rejected=pairs.rejected.at[:, 1:].set(suffixes[kept])) for kept in TASKS.values()]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *of_tasks)


EXPERIMENT = sentiment_runs.experiment("masks", measure, block=2)


def compute(quick: bool, swept: Swept) -> style.Table:
    settings = SETTINGS | HERE | {"seed": SEEDS}
    grids = [SETTINGS | QUICK | HERE | {"seed": QUICK_SEEDS}] if quick else [settings | MLP, settings]
    found = swept(make_sweep(EXPERIMENT, *grids))
    models = dict.fromkeys(found["model"].tolist())
    return style.stacked(*(_rows(model, style.rows(found, model=model)) for model in models))


def _rows(model: str, found: style.Table) -> style.Table:
    """One row a task, side, strength and position, over the seeds that learnt the labels; NaN if one diverged."""
    found = taught(found, model)
    masks, changes = found["masks"], found["changes"]
    masks = np.moveaxis(masks[:, :, :-1], 2, 3)  # [seeds, tasks, sides, strengths, T]
    changes = np.moveaxis(changes, 2, 3)[..., None]  # the same, T = 1, and one more without a mask
    first, others = masks[..., :1], masks[..., 1:]
    largest = np.where(np.isnan(first), np.nan, first > others.max(axis=-1, keepdims=True))
    columns = {
        "model": np.full(masks.shape[1:], model),
        "task": np.array(list(TASKS))[:, None, None, None],
        "side": np.array(SIDES)[:, None, None],
        "strength": np.array(STRENGTHS)[:, None],
        "position": np.arange(masks.shape[-1]),
        "seeds": len(masks),
        "diverged": np.isnan(first).sum(axis=0),
        "contrast_predicted": found["contrast"].mean(axis=0)[:, None, None],
        **over_seeds("mask", masks),
        "found_measured": largest.mean(axis=0),
        **over_seeds("gap", first - others.mean(axis=-1, keepdims=True)),
        **over_seeds("change", changes[:, :, :, :-1]),
        **over_seeds("unmasked_change", changes[:, :, :, -1:]),
    }
    whole = np.broadcast_arrays(*columns.values())
    return {name: column.ravel() for name, column in zip(columns, whole, strict=True)}


def draw(table: style.Table) -> Figure:
    figure = Figure(figsize=(style.PAGE, 3.3))
    shown = [(model, task) for model in dict.fromkeys(table["model"].tolist()) for task in TASKS]
    axes = figure.subplots(len(SIDES), len(shown), sharex=True, sharey=True)
    for column, (model, task) in zip(axes.T, shown, strict=True):
        for ax, side in zip(column, SIDES, strict=True):
            _panel(ax, style.rows(table, model=model, task=task, side=side))
        column[0].set_title(f"{MODELS[model]}, {task}")
    for row, side in zip(axes, SIDES, strict=True):
        row[0].set_ylabel(f"mask u, {side}")
    axes[0][0].set(xticks=(0, 2, 4, 6, 8), ylim=(-0.08, 1.08))
    figure.supxlabel("position of the token (0: the label)", fontsize=8)
    handles = [
        Line2D(
            [], [], color=IDEAL.colour, linestyle=IDEAL.line, linewidth=0.8, label="share of pairs that differ there"
        )
    ]
    handles += [
        Line2D([], [], color=look.colour, marker=look.marker, linestyle=look.line, markerfacecolor="white", label=label)
        for label, look in ((f"λ = {strength:g}", look) for strength, look in LOOKS.items())
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles))
    return figure


def _panel(ax: Axes, part: style.Table) -> None:
    lost = []
    for strength, look in LOOKS.items():
        one = style.rows(part, strength=strength)
        if one["diverged"].any():
            lost.append(f"λ = {strength:g}")
        x = one["position"] + 0.12 * (list(LOOKS).index(strength) - 1.5)  # beside each other
        style.intervals(ax, x, one["mask_low"], one["mask_high"], look)
        ax.plot(x, one["mask_measured"], look.line, marker=look.marker, color=look.colour, markerfacecolor="white")
    one = style.rows(part, strength=STRENGTHS[0])
    ax.stairs(
        one["contrast_predicted"],
        np.arange(len(one["position"]) + 1) - 0.5,
        color=IDEAL.colour,
        linewidth=0.8,
        baseline=None,
    )
    if lost:
        ax.text(8.5, 0.5, f"diverged: {', '.join(lost)}", ha="right", va="center", fontsize=7)
