"""What a small step does to a pair is decided by the cosine of its gradients and by d_w/d_l in units of r*.

r* = ‖g_l‖/‖g_w‖ is the centre of the band cos · r* < d_w/d_l < r*/cos of ratios that raise the chosen and lower the
rejected. The band closes as the cosine grows; for a cosine of zero or less every ratio is inside. The regions are the
closed form. Each marker is a pair in a linear softmax model (V = 3, 8 tokens, two kinds of model): placed by its
measured cosine and measured r*, its shape says how the two log-probabilities really changed in one step of SGD with a
learning rate of 1e-6.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array
from matplotlib.figure import Figure

from figures import ensemble, style
from toymodel import PairGram, PreferencePairs, cosine, gradients, theory
from toymodel.families import positional_pairs
from toymodel.models import linear
from toymodel.models.linear import LinearSoftmax

TITLE = "Three cases, one map"
LABELS = ("T10", "T11")

VOCAB, LENGTH = 3, 8
TEMPERATURE = 1.0
CORRELATION, DIM = 0.9, 4
DRAWS, QUICK_DRAWS = 12, 2  # per model and number of matching positions, 0 to 7
LEARNING_RATE = 1e-6
WIDEST = 10.0  # d_w/d_l lies between r*/10 and 10 r*
EDGE_POINTS = 91
SEED = 0
EDGES = "edges of the band"
MODELS: dict[str, ensemble.Constructor] = {
    "positional": lambda *_: linear.positional(VOCAB, LENGTH),
    "random features": lambda key, pair: linear.random_features(key, VOCAB, pair, dim=DIM, correlation=CORRELATION),
}
CASES = {  # signs of the two changes
    (1, -1): "chosen_up_rejected_down",
    (-1, -1): "both_down",
    (1, 1): "both_up",
    (-1, 1): "chosen_down_rejected_up",
}
LOOKS = {
    "chosen_up_rejected_down": ("chosen up, rejected down", style.BLUE, "o"),
    "both_down": ("both down", style.RED, "v"),
    "both_up": ("both up", style.GREEN, "^"),
}
REGION: dict[str, Any] = {"facecolor": "0.95", "edgecolor": "0.7", "linewidth": 0}
REGION_LABELS = {(0.2, 1.03): "both down", (0.8, 1.03): "both up", (0.2, 0.08): "chosen up,\nrejected down"}


def compute(quick: bool) -> style.Table:
    draws = QUICK_DRAWS if quick else DRAWS
    pair_key, model_key, place_key = jax.random.split(jax.random.key(SEED), 3)
    batches = [
        positional_pairs(key, draws, vocab_size=VOCAB, length=LENGTH, matches=matches)
        for matches, key in enumerate(jax.random.split(pair_key, LENGTH))
    ]
    pairs = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *batches)
    keys = jax.random.split(model_key, len(pairs))
    places = WIDEST ** jax.random.uniform(place_key, (len(MODELS), len(pairs)), minval=-1.0)
    return style.stacked(_edges(), *(_steps(*each, keys, pairs) for each in zip(MODELS, places, strict=True)))


def _edges() -> style.Table:
    """The band of gradients of equal length, r* = 1, for every cosine whose band is on the map."""
    cosines, ones = jnp.linspace(1 / WIDEST, 1.0, EDGE_POINTS), jnp.ones(EDGE_POINTS)
    low, high = theory.band(PairGram(ones, ones, cosines))
    nowhere, none = np.full(EDGE_POINTS, np.nan), np.full(EDGE_POINTS, "")
    return _table(EDGES, cosines, nowhere, low, high, none, none)


def _steps(model: str, places: Array, keys: Array, pairs: PreferencePairs) -> style.Table:
    """Pairs in one kind of model that take a step with d_w/d_l at `places`, in units of their measured r*."""
    built = ensemble.models(MODELS[model], keys, pairs, TEMPERATURE)
    measured, predicted = (ensemble.each(route, *built, pairs) for route in (gradients.pair_gram, theory.pair_gram))
    ratios = places * jnp.sqrt(measured.rejected_sq / measured.chosen_sq)
    changes = ensemble.each(_step_change, *built, pairs, ratios)
    happened = np.array([CASES[chosen, rejected] for chosen, rejected in np.sign(changes).T.tolist()])
    low, high = (end / theory.band_centre(predicted) for end in theory.band(predicted))
    return _table(model, cosine(measured), places, low, high, theory.case(predicted, ratios), happened)


def _step_change(model: LinearSoftmax, params: Array, pairs: PreferencePairs, ratio: Array) -> tuple[Array, Array]:
    return gradients.step_change(model, params, pairs, optax.sgd(LEARNING_RATE), d_chosen=ratio, d_rejected=1.0)


def _table(model: str, cosines: Array, *columns: Array | np.ndarray | str) -> style.Table:
    names = ("ratio_over_centre", "low_predicted", "high_predicted", "case_predicted", "case_measured")
    rows = {"model": np.full(len(cosines), model), "cosine": np.asarray(cosines)}
    return rows | {name: np.asarray(column) for name, column in zip(names, columns, strict=True)}


def draw(table: style.Table) -> Figure:
    figure = Figure(figsize=(style.COLUMN, 3.7))
    ax = figure.subplots()
    edges = style.rows(table, model=EDGES)
    y, low, high = (edges[name] for name in ("cosine", "low_predicted", "high_predicted"))
    ax.fill_betweenx(y, 1 / WIDEST, low, hatch="\\\\\\\\", **REGION)
    ax.fill_betweenx(y, high, WIDEST, hatch="////", **REGION)
    for place, label in REGION_LABELS.items():
        ax.annotate(label, place, xycoords="axes fraction", ha="center", va="center")
    lines = [
        ax.axvline(1.0, color=style.GREY, linewidth=0.5, linestyle=":", label="centre r*"),
        *ax.plot(low, y, "-", color=style.BLACK, label="cos · r*"),
        *ax.plot(high, y, "--", color=style.BLACK, label="r* / cos"),
    ]
    markers = []
    for case, (label, colour, marker) in LOOKS.items():
        part = style.rows(table, case_measured=case)
        points = (part["ratio_over_centre"], part["cosine"])
        markers += ax.plot(*points, marker, color=colour, markerfacecolor="white", clip_on=False, label=label)
    ax.set(xscale="log", xlim=(1 / WIDEST, WIDEST), xlabel="$d_w/d_l$ in units of r* = $‖g_l‖/‖g_w‖$")
    ax.set(ylim=(-1, 1), ylabel="cosine of $g_w$ and $g_l$")
    ax.xaxis.set_major_formatter("{x:g}")
    columns = [handle for column in zip(markers, lines, strict=True) for handle in column]
    figure.legend(handles=columns, loc="outside upper center", ncols=len(lines))
    return figure
