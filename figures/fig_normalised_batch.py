"""Compares plain and normalised steps of DPO, for pairs alone and in batches."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
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
from toymodel.gradients import pair_gradients
from toymodel.losses import LOSSES
from toymodel.models.logps import Model, Params, pair_logps
from toymodel.sweep import make_sweep

RULES = ("plain", "pairs", "sides")  # steps of `Plain`, `NormalisedPairs` and `NormalisedSides`
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
HERE = {"task": "long_suffix", "pairs": 64}
SEEDS = sentiment_runs.SEEDS[:10]


def sizes(pairs: int) -> list[int]:
    """Sizes of batches: 1, 2, 4, … all pairs."""
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

    def at(state: tuple[Array, PreferencePairs]) -> Row:
        params, pairs = reference.to_measure(state[0]), state[1]
        inner, weights = _inner_products(reference.network, params, pairs, setting.beta)
        own = setting.beta / 2 * jnp.diagonal(inner[0, :, 0])  # d_w = β/2
        return {"slopes": jnp.stack([_slopes(inner, weights, rule) for rule in RULES]), "own": own}

    random_pairs = replace(random_pairs, vocabulary=reference.training.vocabulary)  # to be stacked with those
    states = (draw_network(setting, of_network)[1], random_pairs), (reference.params, reference.training)
    of_states = jax.lax.map(at, jax.tree.map(lambda *leaves: jnp.stack(leaves), *states))
    return {"label_accuracy": label_accuracy(reference)} | of_states


def _inner_products(
    model: Model, params: Params, pairs: PreferencePairs, beta: float | Array
) -> tuple[Float[Array, "2 n 2 n"], Float[Array, "2 n"]]:
    """Inner products of the gradients of all responses, chosen or rejected, and (d_w, d_l) of DPO at the reference."""
    gradients = jnp.stack(pair_gradients(model, params, pairs))  # [2, n, P]
    logps = pair_logps(model, params, pairs)
    return jnp.tensordot(gradients, gradients, (-1, -1)), jnp.stack(LOSSES["dpo"](beta=beta).weights(*logps, *logps))


def _slopes(inner: Float[Array, "2 n 2 n"], weights: Float[Array, "2 n"], rule: str) -> Float[Array, "sizes 2 n"]:
    """Along the step of each pair's batch, nats per unit of learning rate; a batch is B neighbours.

    A step is a sum of gradients, so their inner products are enough for every batch and rule.
    """
    n, both = weights.shape[1], jnp.array([1.0, -1.0])  # up the chosen, down the rejected
    if rule == "pairs":
        one, other = (jnp.sqrt(jnp.diagonal(inner[side, :, side])) for side in range(2))
        weights = jnp.sqrt(weights.prod(axis=0) * jnp.stack([other / one, one / other]))
    slopes = []
    for B in sizes(n):
        same = jnp.arange(n)[:, None] // B == jnp.arange(n) // B
        parts = jnp.einsum("anbm,bm,nm->anb", inner, weights, same) / B  # along the weighted mean of each side
        scale = jnp.ones((2, n))
        if rule == "sides":
            squares = jnp.einsum("ana,an,nm->am", parts, weights, same) / B
            one, other = jnp.sqrt(squares)
            scale = jnp.sqrt(jnp.stack([other / one, one / other]))
        slopes.append((parts * scale.T) @ both)
    return jnp.stack(slopes)


EXPERIMENT = sentiment_runs.experiment("normalised_batch", measure, block=2)


def compute(quick: bool, swept: Swept) -> style.Table:
    settings = SETTINGS | HERE | {"seed": SEEDS}
    grids = [SETTINGS | QUICK | HERE | {"pairs": 32, "seed": QUICK_SEEDS}] if quick else [settings | MLP, settings]
    found = swept(make_sweep(EXPERIMENT, *grids))
    worlds = [world for world in WORLDS if world[1] in found["model"]]
    return style.stacked(*(_rows(*world, taught(style.rows(found, model=world[1]), world[1])) for world in worlds))


def _rows(state: str, model: str, found: style.Table) -> style.Table:
    """One row for each rule and size of batch: means over pairs, then over seeds."""
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
