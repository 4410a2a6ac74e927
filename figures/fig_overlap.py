"""The more tokens are shared where a model ties its parameters, the larger the inner product of the gradients.

Columns are families of overlap. More is shared to the right, but for the contrast pairs: they share 11 of 12 tokens
everywhere, and to the right more of these follow the token that differs, where fewer models still share parameters.
Lines are means of the closed form over draws of pair and model, markers are means of what automatic differentiation
gives on the same draws, and bars are the 95% intervals of those means. V = 20, L = 12 tokens per response, logits of
standard deviation 1. With uniform probabilities (dashed) the positional model follows k − L/V exactly: negative when
nothing is shared.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from matplotlib.figure import Figure

from figures import ensemble, style
from toymodel import PairGram, PreferencePairs, cosine, gradients, theory
from toymodel.families import bag_pairs, contrast_pairs, edit_pairs, positional_pairs, prefix_pairs
from toymodel.models import linear

TITLE = "Shared tokens entangle"
LABELS = ("T2", "T3")

VOCAB, LENGTH = 20, 12
TEMPERATURE = 1.0
CORRELATION, DIM = 0.9, 16  # of the hidden states after chosen and after rejected
DRAWS, QUICK_DRAWS = 64, 4
PAIR_SEED, MODEL_SEED = 0, 1
COLUMNS = ("predicted", "measured", "low", "high")  # of each of the two quantities


class Family(NamedTuple):
    """One way of sharing tokens: what its axis counts, the counts shown, and `draws` pairs from a key at one count."""

    axis: str
    counts: range
    pairs: Callable[[Array, int, int], PreferencePairs]


SIZE = {"vocab_size": VOCAB, "length": LENGTH}
EVEN = range(0, LENGTH + 1, 2)
FAMILIES = {
    "positional": Family("matching\npositions k", EVEN, lambda key, n, k: positional_pairs(key, n, **SIZE, matches=k)),
    "prefix": Family("length of\nshared prefix", EVEN, lambda key, n, k: prefix_pairs(key, n, **SIZE, shared=k)),
    "contrast": Family(
        "length of suffix\nafter contrast",
        range(1, LENGTH, 2),
        lambda key, n, k: contrast_pairs(key, n, **SIZE, contrast_position=LENGTH - 1 - k),
    ),
    "bag": Family("shared tokens,\nreordered", EVEN, lambda key, n, k: bag_pairs(key, n, **SIZE, shared=k)),
    "edit": Family(
        "edit distance\n(reversed)",
        EVEN,
        lambda key, n, k: edit_pairs(key, n, **SIZE, deletions=k // 2, insertions=k // 2),
    ),
}
MODELS: dict[str, ensemble.Constructor] = {
    "unigram": lambda *_: linear.unigram(VOCAB),
    "positional": lambda *_: linear.positional(VOCAB, LENGTH),
    "bigram": lambda *_: linear.bigram(VOCAB),
    "prefix": lambda _, pair: linear.prefix(VOCAB, pair),
    "random features": lambda key, pair: linear.random_features(key, VOCAB, pair, dim=DIM, correlation=CORRELATION),
    "positional offset": lambda key, pair: linear.random_offset(key, VOCAB, pair, temperature=TEMPERATURE),
}
UNIFORM = "positional at uniform p: k − L/V"
LOOKS = {
    "unigram": style.Look(style.BLACK, "s", "-"),
    "positional": style.Look(style.BLUE, "o", "-"),
    "bigram": style.Look(style.GREEN, "^", "-."),
    "prefix": style.Look(style.PURPLE, "v", "-"),
    "random features": style.Look(style.ORANGE, "D", "-"),
    "positional offset": style.Look(style.SKY, "P", ":"),
    UNIFORM: style.Look(style.RED, "x", "--"),
}


def compute(quick: bool) -> style.Table:
    draws = QUICK_DRAWS if quick else DRAWS
    settings = [(name, count) for name, family in FAMILIES.items() for count in family.counts]
    pair_keys = jax.random.split(jax.random.key(PAIR_SEED), len(settings))
    batches = [FAMILIES[name].pairs(key, draws, count) for key, (name, count) in zip(pair_keys, settings, strict=True)]
    pairs = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *batches)
    # One model per draw, the same at every count: along an axis, nothing but the pair changes.
    keys = jnp.tile(jax.random.split(jax.random.key(MODEL_SEED), draws), len(settings))
    tables = []
    for model, constructor in MODELS.items():
        built = ensemble.models(constructor, keys, pairs, TEMPERATURE)
        predicted, measured = (ensemble.each(route, *built, pairs) for route in (theory.pair_gram, gradients.pair_gram))
        tables.append(_summary(model, settings, predicted, measured))
    return style.stacked(*tables, _uniform_law(settings, pairs))


def _uniform_law(settings: list[tuple[str, int]], pairs: PreferencePairs) -> style.Table:
    """The positional model at exactly uniform p, for the family that fixes k: k − L/V against measurement."""
    measured = gradients.pair_gram(linear.positional(VOCAB, LENGTH), jnp.zeros((VOCAB, LENGTH)), pairs)
    counts = jnp.repeat(jnp.array([float(count) for _, count in settings]), len(pairs) // len(settings))
    inner = theory.uniform_positional_inner(counts, LENGTH, VOCAB)
    norm = theory.uniform_positional_inner(LENGTH, LENGTH, VOCAB)  # a response agrees with itself everywhere
    predicted = PairGram(norm, norm, inner)
    return style.rows(_summary(UNIFORM, settings, predicted, measured), family="positional")


def _summary(model: str, settings: list[tuple[str, int]], predicted: PairGram, measured: PairGram) -> style.Table:
    """One row per setting: means over its draws, and the 95% interval of the measured mean."""
    families, counts = zip(*settings, strict=True)
    table = {"model": np.repeat(model, len(settings)), "family": np.array(families), "shared": np.array(counts)}
    for quantity, of in (("inner", lambda gram: gram.inner), ("cosine", cosine)):
        theirs, ours = (np.reshape(of(gram), (len(settings), -1)) for gram in (predicted, measured))
        values = (theirs.mean(axis=1), *ensemble.mean_interval(ours))
        table |= {f"{quantity}_{column}": value for column, value in zip(COLUMNS, values, strict=True)}
    return table


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
    style.legend(figure, LOOKS, ncols=4)
    return figure
