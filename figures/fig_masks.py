"""Trains token masks with DPO and shows which tokens they keep."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

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
SHOWN = "long suffix"  # the task of the picture
KEPT = LinearSegmentedColormap.from_list("kept", ["white", style.BLUE]).with_extremes(bad="0.8")


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
    """The pairs of each of `TASKS`: arrays [tasks, n, …]."""
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
    """One row for each task, side, strength and position, over seeds that learnt the labels; NaN if one diverged.

    Beside the means, the mask of each seed; those of seeds that did not learn the labels are NaN and come last.
    """
    seeds, found = len(found["seed"]), taught(found, model)
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
    each = np.full((seeds, *masks.shape[1:]), np.nan)
    each[: len(masks)] = masks
    columns |= {f"mask_of_{number}": mask for number, mask in enumerate(each)}
    whole = np.broadcast_arrays(*columns.values())
    return {name: column.ravel() for name, column in zip(columns, whole, strict=True)}


def draw(table: style.Table) -> Figure:
    """A strip for each model, side and strength: seeds below each other, the label on the left."""
    table = style.rows(table, task=SHOWN)
    shown = [(model, side) for model in dict.fromkeys(table["model"].tolist()) for side in SIDES]
    figure = Figure(figsize=(style.PAGE, 0.5 + 1.05 * len(shown)))
    axes = figure.subplots(len(shown), len(STRENGTHS), sharex=True, sharey=True)
    for row, (model, side) in zip(axes, shown, strict=True):
        for ax, strength in zip(row, STRENGTHS, strict=True):
            image = _strip(ax, style.rows(table, model=model, side=side, strength=strength))
        row[0].set_ylabel(f"{MODELS[model]},\n{side}")
    for ax, strength in zip(axes[0], STRENGTHS, strict=True):
        ax.set_title(f"λ = {strength:g}\n{ax.get_title()}")
    positions = range(1, int(table["position"].max()) + 1)
    axes[0][0].set_xticks([0, *positions], ["label", *(str(n) if n % 2 == 0 else "" for n in positions)])
    axes[0][0].set_yticks([])
    figure.supxlabel("position of the token", fontsize=8)
    figure.colorbar(image, ax=axes, label="mask u", aspect=40, pad=0.01)
    return figure


def _strip(ax: Axes, part: style.Table) -> AxesImage:
    """Masks [seeds, positions]; those in which the label stands out are on top, and the title gives their number."""
    masks = np.stack([part[name] for name in part if name.startswith("mask_of_")])
    masks = masks[: int(part["seeds"][0])]
    ahead = masks[:, 0] - masks[:, 1:].max(axis=1)
    masks = masks[np.argsort(-ahead, kind="stable")]
    words = f"label kept most: {np.sum(ahead > 0)} of {len(masks)}"
    if part["diverged"][0]:
        words = f"{part['diverged'][0]} diverged"
    ax.set_title(words, fontsize=7, pad=3)
    ax.spines[:].set_visible(True)
    for row in range(1, len(masks)):
        ax.axhline(row - 0.5, color="0.85", linewidth=0.4)
    return ax.imshow(masks, cmap=KEPT, vmin=0, vmax=1, aspect="auto", interpolation="none")
