"""Draws random pairs with suffixes of growing length and counts how often DPO puts them into each case."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from matplotlib.figure import Figure

from figures import style
from figures.intervals import wilson
from figures.sweeps import Swept
from toymodel import gradients, theory
from toymodel.data.families import contrast_pairs
from toymodel.experiments.experiment import setting, whole
from toymodel.models import linear
from toymodel.sweep import Experiment, make_sweep

VOCAB, DIM, CORRELATION = 7, 4, 0.95
TEMPERATURE = 0.5
LENGTHS, QUICK_LENGTHS = (0, 1, 2, 4, 8, 12, 16, 20, 24, 28, 32), (0, 4, 32)
LONGEST = max(LENGTHS)
DRAWS, QUICK_DRAWS = 1500, 200
CASES = theory.CASES[:4]  # all but a slope of zero
LOOKS = {
    "chosen up, rejected down": style.Look(style.BLUE, "o", "-"),
    "both down": style.Look(style.RED, "v", "--"),
    "both up": style.Look(style.GREEN, "^", "-."),
    "chosen down, rejected up": style.Look(style.BLACK, "x", ":"),
}


@setting
class DrawSetting:
    """A random pair in a random model, and the length of its suffix."""

    suffix_length: int = whole(None, low=0, high=LONGEST)
    seed: int = whole(None, low=0)


def measure(setting: DrawSetting) -> dict[str, Array]:
    """The case of a random pair in a random model, from predicted and from measured slopes."""
    pair_key, frozen, learned = jax.random.split(jax.random.key(setting.seed), 3)
    # The longest suffix is drawn and then cut: along the axis, nothing but the length changes.
    pairs = contrast_pairs(pair_key, 1, vocab_size=VOCAB, length=LONGEST + 1)
    model = linear.random_features(frozen, VOCAB, pairs, dim=DIM, correlation=CORRELATION)
    params = linear.init_params(learned, model, temperature=TEMPERATURE)
    mask = (jnp.arange(LONGEST + 1) <= setting.suffix_length)[None]
    cut = replace(pairs, chosen_mask=mask, rejected_mask=mask)
    predicted, measured = theory.slopes(theory.pair_gram(model, params, cut)), gradients.slopes(model, params, cut)
    return {
        "case_predicted": theory.case_of_slopes(*predicted)[0],
        "case_measured": theory.case_of_slopes(*measured)[0],
    }


EXPERIMENT = Experiment(
    "case_fractions",
    DrawSetting,
    measure,
    names={"case_predicted": theory.CASES, "case_measured": theory.CASES},
)


def compute(quick: bool, swept: Swept) -> style.Table:
    draws, lengths = (QUICK_DRAWS, QUICK_LENGTHS) if quick else (DRAWS, LENGTHS)
    table = swept(make_sweep(EXPERIMENT, {"suffix_length": lengths, "seed": range(draws)}))
    return style.stacked(*(_fractions(length, style.rows(table, suffix_length=length)) for length in lengths))


def _fractions(length: int, draws: style.Table) -> style.Table:
    """One row per case: the predicted and the measured fraction of draws."""
    predicted, measured = (
        np.array([(draws[f"case_{route}"] == case).mean() for case in CASES]) for route in ("predicted", "measured")
    )
    low, high = wilson(measured, len(draws["seed"]))
    return {
        "suffix_length": np.full(len(CASES), length),
        "case": np.array(CASES),
        "predicted": predicted,
        "measured": measured,
        "low": low,
        "high": high,
    }


def draw(table: style.Table) -> Figure:
    figure = Figure(figsize=(style.COLUMN, 2.8))
    ax = figure.subplots()
    for case, look in zip(CASES, LOOKS.values(), strict=True):
        part = style.rows(table, case=case)
        style.intervals(ax, part["suffix_length"], part["low"], part["high"], look)
        style.curve(ax, part["suffix_length"], part["predicted"], part["measured"], look)
    ax.set(xlabel="suffix length n (tokens)", ylabel="fraction of pairs", ylim=(-0.03, 1.03), xticks=range(0, 33, 8))
    style.legend(figure, LOOKS, ncols=2)
    return figure
