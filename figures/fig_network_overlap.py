"""Measures the cosine of the two gradients in networks, against the number of shared words."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from figures import sentiment_runs, style
from figures.sentiment_runs import MLP, QUICK, QUICK_SEEDS, SETTINGS, over_seeds, taught
from figures.sweeps import Swept
from toymodel import PreferencePairs, gradients, theory
from toymodel.data.sentiment import WORDS, sharing_more
from toymodel.experiments.experiment import Row
from toymodel.experiments.sentiment import STAGES, SentimentSetting, label_accuracy, reference_policy
from toymodel.gram import PairGram, cosine
from toymodel.models.logps import Params
from toymodel.sweep import make_sweep

TASK = "long_suffix"
SEEDS = sentiment_runs.SEEDS[:8]
PAIRS = 16  # evaluation pairs of a seed, at most
STATES = ("random", "fine-tuned")
TITLES = {"random": "at random initialisation", "fine-tuned": "after fine-tuning"}
MARKERS = {"transformer": (style.BLUE, "o"), "ngram_mlp": (style.ORANGE, "s")}
LINES = {"positional": style.Look(style.BLACK, "", "--"), "unigram": style.Look(style.BLACK, "", ":")}
NAMES = {"transformer": "transformer", "ngram_mlp": "n-gram MLP"}


def measure(setting: SentimentSetting, tuned: Row) -> Row:
    """At both `STATES`: cosines with 0, 1, … shared words, [states, words + 1, pairs]; and the share of the label."""
    reference = reference_policy(setting, tuned)
    model, few = reference.network, reference.evaluation[:PAIRS]
    states = reference.to_measure(tuned["params"][np.array([0, STAGES])])
    suffixes = sharing_more(jax.random.fold_in(jax.random.key(setting.seed), 2), few.chosen[:, 1:])

    def pairs_with(suffix: Array) -> PreferencePairs:
        return replace(few, rejected=few.rejected.at[:, 1:].set(suffix))

    def at(params: Params) -> Row:
        twins = replace(few, chosen=few.rejected, chosen_mask=few.rejected_mask)
        grams = jax.lax.map(lambda pair: gradients.token_gram(model, params, pair), twins)
        return {
            "cosines": jax.lax.map(lambda s: cosine(gradients.pair_gram(model, params, pairs_with(s))), suffixes),
            "label_share": grams[:, 0, 0] / grams.sum(axis=(1, 2)),  # of ‖g_l‖²
        }

    return {
        "label_accuracy": label_accuracy(reference),
        "unigram_cosines": jax.vmap(lambda suffix: cosine(unigram_gram(pairs_with(suffix))))(suffixes),
    } | jax.lax.map(at, states)


def unigram_gram(pairs: PreferencePairs) -> PairGram:
    """The Gram entries of a unigram model at uniform p, from counts alone."""
    chosen, rejected = (
        jax.nn.one_hot(side, len(WORDS), dtype=float).sum(axis=1) for side in (pairs.chosen, pairs.rejected)
    )
    entries = (chosen, chosen), (rejected, rejected), (chosen, rejected)
    return PairGram(*(theory.uniform_unigram_inner(*counts) for counts in entries))


EXPERIMENT = sentiment_runs.experiment("network_overlap", measure, block=4)


def compute(quick: bool, swept: Swept) -> style.Table:
    settings = SETTINGS | {"task": TASK, "seed": SEEDS}
    grids = [SETTINGS | QUICK | {"task": TASK, "seed": QUICK_SEEDS}] if quick else [settings, settings | MLP]
    found = swept(make_sweep(EXPERIMENT, *grids))
    models = dict.fromkeys(found["model"].tolist())
    return style.stacked(*(_rows(model, taught(style.rows(found, model=model), model)) for model in models))


def _rows(model: str, found: style.Table) -> style.Table:
    """One row for each state and number of shared words: means over pairs, then over seeds."""
    of_seeds = found["cosines"].mean(axis=-1)  # [seeds, states, words + 1]
    words = np.arange(of_seeds.shape[-1])
    positional = np.asarray(theory.uniform_positional_cosine(jnp.asarray(words), len(words), len(WORDS)))
    columns = {
        "model": np.full(of_seeds.shape[1:], model),
        "state": np.array(STATES)[:, None],
        "words": words,
        "positional_predicted": positional,
        "unigram_predicted": found["unigram_cosines"].mean(axis=(0, 2)),
        **over_seeds("cosine", of_seeds),
        "label_share_measured": found["label_share"].mean(axis=(0, 2))[:, None],
    }
    return {
        name: np.ravel(column) for name, column in zip(columns, np.broadcast_arrays(*columns.values()), strict=True)
    }


def draw(table: style.Table) -> Figure:
    figure = Figure(figsize=(style.COLUMN, 2.7))
    axes = figure.subplots(1, len(STATES), sharex=True, sharey=True)
    for ax, state in zip(axes, STATES, strict=True):
        style.zero_line(ax)
        part = style.rows(table, state=state)
        for model, (colour, marker) in MARKERS.items():
            here = style.rows(part, model=model)
            ax.vlines(here["words"], here["cosine_low"], here["cosine_high"], color=colour, linewidth=0.8)
            ax.plot(here["words"], here["cosine_measured"], marker, color=colour, markerfacecolor="white")
        line = style.rows(part, model=part["model"][0])  # that of the other is the same, or nearly
        for name, look in LINES.items():
            ax.plot(line["words"], line[f"{name}_predicted"], look.line, color=look.colour)
        ax.set(title=TITLES[state], xticks=(0, 2, 4, 6, 8))
    figure.supxlabel("words that chosen and rejected share", fontsize=8)
    axes[0].set_ylabel("cosine of the gradients")
    handles = [
        Line2D([], [], color=colour, marker=marker, linestyle="none", markerfacecolor="white", label=NAMES[model])
        for model, (colour, marker) in MARKERS.items()
    ]
    handles += [
        Line2D([], [], color=look.colour, linestyle=look.line, label=f"{name}, uniform p")
        for name, look in LINES.items()
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=2)
    return figure
