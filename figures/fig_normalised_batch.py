"""Compares plain and normalised steps of DPO, for pairs alone and in batches."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float
from matplotlib.figure import Figure

from figures import sentiment_runs, style
from figures.sentiment_runs import MLP, QUICK, QUICK_SEEDS, SETTINGS, over_seeds, taught
from figures.sweeps import Swept
from toymodel.data.families import contrast_pairs
from toymodel.data.pairs import PreferencePairs
from toymodel.data.sentiment import PROMPT_LENGTH, WORDS
from toymodel.experiments.experiment import Row
from toymodel.experiments.sentiment import SentimentSetting, draw_network, label_accuracy, reference_policy
from toymodel.gradients import pair_gram
from toymodel.losses import LOSSES
from toymodel.models.logps import Model, Params
from toymodel.remedies import NormalisedPairs, NormalisedSides
from toymodel.sweep import make_sweep
from toymodel.training import train
from toymodel.training.step import Plain, Update

RULES: dict[str, Update] = {"plain": Plain(), "pairs": NormalisedPairs(), "sides": NormalisedSides()}
NAMES = {"plain": "plain DPO", "pairs": "normalised, each pair", "sides": "normalised, both sides"}
LOOKS = {
    "plain": style.Look(style.GREY, "o", ":"),
    "pairs": style.Look(style.BLUE, "s", "-"),
    "sides": style.Look(style.RED, "^", "--"),
}
WORLDS = {
    ("random", "ngram_mlp"): "n-gram MLP, random",
    ("fine-tuned", "ngram_mlp"): "n-gram MLP, fine-tuned",
    ("fine-tuned", "transformer"): "transformer, fine-tuned",
}
STATES = ("random", "fine-tuned")
SHOWN = {
    "chosen_falls": "chosen falls\n(share of pairs)",
    "rejected_rises": "rejected rises\n(share of pairs)",
    "chosen_slope": "mean slope of\nchosen, × B",
}
FEW = 8  # pairs, in as small a program as small batches need
HERE = {"task": "long_suffix", "pairs": 64}
SEEDS = sentiment_runs.SEEDS[:10]


def sizes(pairs: int) -> list[int]:
    """Of the batches: 1, 2, 4, … all pairs."""
    return [2**power for power in range(pairs.bit_length())]


def measure(setting: SentimentSetting, tuned: Row) -> Row:
    """Slopes of both log π of every pair along the step of its batch, [states, rules, sizes, 2, n], and d_w ‖g_w‖².

    In the first of `STATES` the network is random and so are pairs that differ in their first word; in the second it is
    fine-tuned, with pairs of the long suffix.
    """
    reference = reference_policy(setting, tuned)
    of_network, of_pairs = jax.random.split(jax.random.fold_in(jax.random.key(setting.seed), 2))
    shape = {"vocab_size": len(WORDS), "length": reference.training.chosen.shape[1], "prompt_length": PROMPT_LENGTH}
    random_pairs = contrast_pairs(of_pairs, setting.pairs, **shape)
    of_states = (draw_network(setting, of_network)[1], random_pairs), (reference.params, reference.training)

    def at(state: tuple[Array, PreferencePairs]) -> Row:
        params, pairs = state[0].astype(float), state[1]  # a single step, measured in float64
        slopes = jnp.stack([_slopes(reference.model, params, pairs, setting.beta, rule) for rule in RULES.values()])
        gram = pair_gram(reference.network, reference.to_measure(params), pairs)
        return {"slopes": slopes, "own": setting.beta / 2 * gram.chosen_sq}  # d_w = β/2

    states = jax.tree.map(lambda *leaves: jnp.stack(leaves), *of_states)
    return {"label_accuracy": label_accuracy(reference)} | jax.lax.map(at, states)


def _slopes(
    model: Model, params: Params, pairs: PreferencePairs, beta: float | Array, rule: Update
) -> Float[Array, "sizes 2 n"]:
    """Along the step of each pair's batch, nats per unit of learning rate."""
    n, loss, slopes = len(pairs), LOSSES["dpo"](beta=beta), []

    def of_batch(members: Array) -> Array:
        done = train(model, params, pairs[members], loss, optax.sgd, 1.0, steps=1, update=rule).trajectory
        assert done is not None
        # To first order in the update; that of SGD at rate 1 is the direction of the step.
        return jnp.stack([done.chosen_predicted[0], done.rejected_predicted[0]])

    # A batch of B is B neighbours, each several times over, which changes no mean: one program for many B.
    for width, some in ((FEW, [B for B in sizes(n) if B <= FEW]), (n, [B for B in sizes(n) if B > FEW])):
        if some:
            batches = [np.arange(0, n, B)[:, None] + np.arange(width) % B for B in some]
            found = jax.lax.map(of_batch, jnp.asarray(np.concatenate(batches)))  # [batches, 2, width]
            of_sizes = jnp.split(found, np.cumsum([len(rows) for rows in batches])[:-1])
            slopes += [part[:, :, :B].swapaxes(0, 1).reshape(2, n) for B, part in zip(some, of_sizes, strict=True)]
    return jnp.stack(slopes)


EXPERIMENT = sentiment_runs.experiment("normalised_batch", measure, block=1)


def compute(quick: bool, swept: Swept) -> style.Table:
    settings = SETTINGS | HERE | {"seed": SEEDS}
    grids = [SETTINGS | QUICK | HERE | {"pairs": 32, "seed": QUICK_SEEDS}] if quick else [settings | MLP, settings]
    found = swept(make_sweep(EXPERIMENT, *grids))
    worlds = [world for world in WORLDS if world[1] in found["model"]]
    return style.stacked(*(_rows(*world, style.rows(found, model=world[1])) for world in worlds))


def _rows(state: str, model: str, found: style.Table) -> style.Table:
    """One row a rule and size of batch: means over pairs, then over the seeds that learnt the labels."""
    found = taught(found, model)
    place = STATES.index(state)
    slopes, own = found["slopes"][:, place], found["own"][:, place].mean(axis=-1)
    chosen, rejected = np.moveaxis(slopes, 3, 0)  # [seeds, rules, sizes, n]
    batch_sizes = sizes(slopes.shape[-1])
    lowered = [
        _negative(part.reshape(*part.shape[:2], -1, B).mean(axis=-1)).mean(axis=(0, -1))
        for part, B in zip(np.moveaxis(chosen, 2, 0), batch_sizes, strict=True)
    ]  # of batches, by their mean chosen slope
    columns: dict[str, Any] = {
        "state": np.full(slopes.shape[1:3], state),
        "model": model,
        "rule": np.array(list(RULES))[:, None],
        "batch_size": np.array(batch_sizes),
        "seeds": len(slopes),
        **over_seeds("chosen_falls", _negative(chosen).mean(axis=-1)),
        **over_seeds("rejected_rises", _negative(-rejected).mean(axis=-1)),
        # Of B pairs, each has a B-th part in the step.
        **over_seeds("chosen_slope", chosen.mean(axis=-1) * batch_sizes / own[:, None, None]),
        **over_seeds("rejected_slope", rejected.mean(axis=-1) * batch_sizes / own[:, None, None]),
        "batches_lowered_measured": np.stack(lowered, axis=-1),
    }
    whole = np.broadcast_arrays(*columns.values())
    return {name: column.ravel() for name, column in zip(columns, whole, strict=True)}


def _negative(slopes: np.ndarray) -> np.ndarray:
    """1 where they are, NaN where there is none."""
    return np.where(np.isnan(slopes), np.nan, slopes < 0)


def draw(table: style.Table) -> Figure:
    figure = Figure(figsize=(style.PAGE, 4.0))
    shown = dict.fromkeys(zip(table["state"].tolist(), table["model"].tolist(), strict=True))
    axes = figure.subplots(3, len(shown), sharex=True, sharey="row")
    for column, world in zip(axes.T, shown, strict=True):
        part = style.rows(table, state=world[0], model=world[1])
        for ax, name in zip(column, SHOWN, strict=True):
            style.zero_line(ax)
            for rule, look in LOOKS.items():
                one = style.rows(part, rule=rule)
                x = one["batch_size"] * 1.08 ** (list(LOOKS).index(rule) - 1)  # beside each other
                style.intervals(ax, x, one[f"{name}_low"], one[f"{name}_high"], look)
                ax.plot(
                    x,
                    one[f"{name}_measured"],
                    look.line,
                    marker=look.marker,
                    color=look.colour,
                    markerfacecolor="white",
                )
        column[0].set_title(WORLDS[world])
    for row, words in zip(axes, SHOWN.values(), strict=True):
        row[0].set_ylabel(words)
    axes[0][0].set_xscale("log", base=2)
    ticks = sorted(set(table["batch_size"].tolist()))
    axes[0][0].set_xticks(ticks, map(str, ticks))
    figure.supxlabel("pairs in the batch", fontsize=8)
    style.legend(figure, {NAMES[rule]: look for rule, look in LOOKS.items()}, ncols=len(LOOKS))
    return figure
