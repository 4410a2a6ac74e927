"""The longer the suffix two responses share, the less often DPO raises the chosen and lowers the rejected.

Pairs of one contrast token and n identical random suffix tokens, in a model with random features whose hidden states
after chosen and after rejected have cosine 0.95 (V = 7, 4 features, logits of standard deviation 2). Lines are the
fractions of draws for which the slopes from closed-form inner products predict each case at d_w = d_l = 1; markers are
the fractions by the signs of the measured slopes on the same draws, with 95% Wilson intervals. The fourth case, chosen
down and rejected up, never occurs.
"""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from matplotlib.figure import Figure

from figures import ensemble, style
from toymodel import PreferencePairs, gradients, theory
from toymodel.families import contrast_pairs
from toymodel.models import linear
from toymodel.models.linear import LinearSoftmax

TITLE = "How often DPO lowers the chosen response"
LABELS = ("T9", "T10")

VOCAB, DIM, CORRELATION = 7, 4, 0.95
TEMPERATURE = 0.5
LENGTHS, QUICK_LENGTHS = (0, 1, 2, 4, 8, 12, 16, 20, 24, 28, 32), (0, 4, 32)
DRAWS, QUICK_DRAWS = 1500, 200
SEED = 0
NORMAL_95 = 1.96
CASES = {  # the signs of the two slopes
    "chosen_up_rejected_down": (1, -1),
    "both_down": (-1, -1),
    "both_up": (1, 1),
    "chosen_down_rejected_up": (-1, 1),
}
LOOKS = {
    "chosen up, rejected down": style.Look(style.BLUE, "o", "-"),
    "both down": style.Look(style.RED, "v", "--"),
    "both up": style.Look(style.GREEN, "^", "-."),
    "chosen down, rejected up": style.Look(style.BLACK, "x", ":"),
}


def compute(quick: bool) -> style.Table:
    draws, lengths = (QUICK_DRAWS, QUICK_LENGTHS) if quick else (DRAWS, LENGTHS)
    pair_key, model_key = jax.random.split(jax.random.key(SEED))
    # The longest suffix is drawn once and cut: along the axis, nothing but the length changes.
    pairs = contrast_pairs(pair_key, draws, vocab_size=VOCAB, length=max(LENGTHS) + 1)
    model, params = ensemble.models(_random_features, jax.random.split(model_key, draws), pairs, TEMPERATURE)
    tables = []
    for length in lengths:
        mask = jnp.broadcast_to(jnp.arange(max(LENGTHS) + 1) <= length, pairs.chosen.shape)
        cut = replace(pairs, chosen_mask=mask, rejected_mask=mask)
        predicted = theory.slopes(ensemble.each(theory.pair_gram, model, params, cut))
        measured = ensemble.each(gradients.slopes, model, params, cut)
        tables.append(_fractions(length, np.sign(predicted), np.sign(measured)))
    return style.stacked(*tables)


def _random_features(key: Array, pair: PreferencePairs) -> LinearSoftmax:
    return linear.random_features(key, VOCAB, pair, dim=DIM, correlation=CORRELATION)


def _fractions(length: int, predicted: np.ndarray, measured: np.ndarray) -> style.Table:
    """One row per case: how often the predicted and the measured signs [2, draws] are those of the case."""
    fractions = [
        [np.equal(signs.T, case).all(axis=1).mean() for case in CASES.values()] for signs in (predicted, measured)
    ]
    low, high = _wilson(np.array(fractions[1]), measured.shape[1])
    return {
        "suffix_length": np.full(len(CASES), length),
        "case": np.array(list(CASES)),
        "predicted": np.array(fractions[0]),
        "measured": np.array(fractions[1]),
        "low": low,
        "high": high,
    }


def _wilson(fraction: np.ndarray, draws: int) -> tuple[np.ndarray, np.ndarray]:
    """Wilson's 95% interval of a binomial fraction: it stays inside [0, 1] and has width even at 0."""
    shrink = 1 + NORMAL_95**2 / draws
    centre = (fraction + NORMAL_95**2 / (2 * draws)) / shrink
    half = NORMAL_95 * np.sqrt(fraction * (1 - fraction) / draws + (NORMAL_95 / (2 * draws)) ** 2) / shrink
    return centre - half, centre + half


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
