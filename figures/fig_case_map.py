"""Places random pairs on the map of cosine and weight ratio, and takes one step on each."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array
from matplotlib.figure import Figure

from figures import style
from figures.sweeps import Swept
from toymodel import PairGram, cosine, gradients, theory
from toymodel.experiments.experiment import POSITIVE, real, setting
from toymodel.experiments.pairs import RULES, PairSetting, draw_model, draw_pairs
from toymodel.sweep import Experiment, make_sweep

LENGTH = 8
SIZE = {"vocab_size": 3, "length": LENGTH, "dim": 4}
DRAWS, QUICK_DRAWS = 192, 32
LEARNING_RATE = 1e-6
WIDEST = 10.0  # d_w/d_l lies between r*/10 and 10 r*
EDGE_POINTS = 91
EDGES = "edges of the band"
LOOKS = {
    "chosen_up_rejected_down": ("chosen up, rejected down", style.BLUE, "o"),
    "both_down": ("both down", style.RED, "v"),
    "both_up": ("both up", style.GREEN, "^"),
}
REGION: dict[str, Any] = {"facecolor": "0.95", "edgecolor": "0.7", "linewidth": 0}
REGION_LABELS = {(0.2, 1.03): "both down", (0.8, 1.03): "both up", (0.2, 0.08): "chosen up,\nrejected down"}


@setting
class MapSetting(PairSetting):
    """A random pair, and the ratio of the weights on its gradients, in units of r*."""

    ratio_over_centre: float = real(None, POSITIVE)


def measure(setting: MapSetting) -> dict[str, Array]:
    """Where a random pair is on the map, and its case by the band and by a step."""
    pairs = draw_pairs(setting)
    model, params = draw_model(setting, pairs)
    measured, predicted = (route.pair_gram(model, params, pairs) for route in (gradients, theory))
    ratio = setting.ratio_over_centre * theory.band_centre(measured)
    changes = gradients.step_change(model, params, pairs, optax.sgd(LEARNING_RATE), d_chosen=ratio, d_rejected=1.0)
    low, high = (end / theory.band_centre(predicted) for end in theory.band(predicted))
    columns = {
        "cosine": cosine(measured),
        "low_predicted": low,
        "high_predicted": high,
        "case_predicted": theory.case_index(predicted, ratio),
        "case_measured": theory.case_of_slopes(*changes),
    }
    return {name: column[0] for name, column in columns.items()}


EXPERIMENT = Experiment(
    "case_map",
    MapSetting,
    measure,
    RULES,
    names={"case_predicted": theory.CASES, "case_measured": theory.CASES},
)


def compute(quick: bool, swept: Swept) -> style.Table:
    drawn = {
        "draws": QUICK_DRAWS if quick else DRAWS,
        "model": ("positional", "random_features"),
        "overlap": range(LENGTH),  # matching positions, but not all of them
        "ratio_over_centre": {"log": (1 / WIDEST, WIDEST)},
        "seed": range(10**6),
    }
    table, edges = swept(make_sweep(EXPERIMENT, SIZE | {"random": drawn})), _edges()
    return style.stacked(edges, {name: table[name] for name in edges})


def _edges() -> style.Table:
    """The band of gradients of equal length, r* = 1, for every cosine whose band is on the map."""
    cosines, ones = jnp.linspace(1 / WIDEST, 1.0, EDGE_POINTS), jnp.ones(EDGE_POINTS)
    low, high = theory.band(PairGram(ones, ones, cosines))
    columns: dict[str, Any] = {
        "model": EDGES,
        "cosine": cosines,
        "ratio_over_centre": np.nan,
        "low_predicted": low,
        "high_predicted": high,
        "case_predicted": "",
        "case_measured": "",
    }
    return {name: np.array(np.broadcast_to(column, EDGE_POINTS)) for name, column in columns.items()}


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
