"""Measures inner products and cosines for five families of overlap, in six models and at uniform probabilities."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from figures import style
from figures.intervals import mean_interval
from figures.sweeps import Swept
from toymodel import theory
from toymodel.experiments import GRAM
from toymodel.models.linear import MODELS
from toymodel.sweep import make_sweep

VOCAB, LENGTH = 20, 12
SIZE = {"vocab_size": VOCAB, "length": LENGTH, "dim": 16, "correlation": 0.9}  # of what follows chosen and rejected
TEMPERATURE, UNIFORM_TEMPERATURE = 1.0, 1e30  # the second leaves logits too small for any probability to feel them
DRAWS, QUICK_DRAWS = 64, 4
COLUMNS = ("predicted", "measured", "low", "high")  # of each of the two quantities


class Family(NamedTuple):
    """One way of sharing tokens: what its axis counts, and the overlaps shown."""

    axis: str
    overlaps: Sequence[int]


EVEN = range(0, LENGTH + 1, 2)
FAMILIES = {
    "positional": Family("matching\npositions k", EVEN),
    "prefix": Family("length of\nshared prefix", EVEN),
    "contrast": Family("length of suffix\nafter contrast", range(1, LENGTH, 2)),
    "bag": Family("shared tokens,\nreordered", EVEN),
    "edit": Family("edit distance\n(reversed)", range(LENGTH // 2, LENGTH + 1)),
}
UNIFORM = "positional at uniform p: k − L/V"
LOOKS = {
    "unigram": style.Look(style.BLACK, "s", "-"),
    "positional": style.Look(style.BLUE, "o", "-"),
    "bigram": style.Look(style.GREEN, "^", "-."),
    "prefix": style.Look(style.PURPLE, "v", "-"),
    "random_features": style.Look(style.ORANGE, "D", "-"),
    "positional_offset": style.Look(style.SKY, "P", ":"),
    UNIFORM: style.Look(style.RED, "x", "--"),
}


def compute(quick: bool, swept: Swept) -> style.Table:
    # A seed is one model and one draw of what is shared: along an axis, nothing but the overlap changes.
    every = SIZE | {"seed": range(QUICK_DRAWS if quick else DRAWS)}
    grids = [
        every | {"model": list(MODELS), "family": name, "overlap": family.overlaps, "temperature": TEMPERATURE}
        for name, family in FAMILIES.items()
    ]
    uniform = every | {"family": "positional", "overlap": EVEN, "temperature": UNIFORM_TEMPERATURE}
    draws = _with_uniform_law(swept(make_sweep(GRAM, *grids, uniform)))
    settings = dict.fromkeys(zip(draws["model"], draws["family"], draws["overlap"], strict=True))
    means = [_mean(draws, *setting) for setting in settings]
    return {name: np.array([mean[name] for mean in means]) for name in means[0]}


def _with_uniform_law(draws: style.Table) -> style.Table:
    """The positional model at uniform p, under a separate name and predicted by k − L/V."""
    is_uniform = draws["temperature"] == UNIFORM_TEMPERATURE
    matches = jnp.asarray(draws["overlap"])
    replaced: dict[str, Any] = {
        "model": UNIFORM,
        "inner_predicted": theory.uniform_positional_inner(matches, LENGTH, VOCAB),
        "cosine_predicted": theory.uniform_positional_cosine(matches, LENGTH, VOCAB),
    }
    return draws | {name: np.where(is_uniform, values, draws[name]) for name, values in replaced.items()}


def _mean(draws: style.Table, model: str, family: str, overlap: int) -> dict[str, Any]:
    """One row: means over the draws of one setting, and the 95% interval of the measured mean."""
    here = style.rows(draws, model=model, family=family, overlap=overlap)
    shared = 2 * (LENGTH - overlap) if family == "edit" else overlap  # the edit distance, or the overlap itself
    row = {"model": model, "family": family, "shared": shared}
    for quantity in ("inner", "cosine"):
        measured = mean_interval(here[f"{quantity}_measured"])
        values = (here[f"{quantity}_predicted"].mean(), *measured)
        row |= {f"{quantity}_{column}": value for column, value in zip(COLUMNS, values, strict=True)}
    return row


def draw(table: style.Table) -> Figure:
    figure = Figure(figsize=(style.PAGE, 3.9))
    axes = figure.subplots(2, len(FAMILIES), sharey="row", sharex="col")
    for place, (name, family) in enumerate(FAMILIES.items()):
        for ax, quantity in zip(axes[:, place], ("inner", "cosine"), strict=True):
            style.zero_line(ax)
            for model, look in LOOKS.items():
                part = style.rows(table, family=name, model=model)
                predicted, measured, low, high = (part[f"{quantity}_{column}"] for column in COLUMNS)
                style.intervals(ax, part["shared"], low, high, look)
                style.curve(ax, part["shared"], predicted, measured, look)
        axes[0, place].set_title(name)
        axes[1, place].set(xlabel=family.axis, xticks=(0, 4, 8, 12))
    axes[0, -1].invert_xaxis()
    axes[0, 0].set_ylabel("inner product $⟨g_w, g_l⟩$\n(nats² / parameter unit²)")
    axes[1, 0].set_ylabel("cosine")
    style.legend(figure, {model.replace("_", " "): look for model, look in LOOKS.items()}, ncols=4)
    return figure
