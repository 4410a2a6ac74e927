"""The true change never exceeds slope times learning rate: what starts to fall, falls at every learning rate.

Change of a log-probability over one step of DPO (d_w = d_l = 1), divided by the learning rate η, in linear softmax
models. Left and middle: one contrast token and n identical suffix tokens, to which the model gives probability 0.9
after the chosen and 0.5 after the rejected contrast token (V = 20; threshold length 23.75). Lines are the closed form,
markers the model after the step. Shaded is what the slope and the ranges of the logits' moves leave possible, dotted
the step up to which the chosen certainly rises. Right: random pairs that share 32 suffix tokens (V = 7, random features
of cosine 0.95), measured, in units that give all pairs with a slope of one sign the same two bounds: the shortfall is
the sum of range²/8 over positions.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from figures import ensemble, style
from toymodel import PreferencePairs, gradients, theory
from toymodel.families import contrast_pairs
from toymodel.models import linear
from toymodel.models.linear import LinearSoftmax

TITLE = "No learning rate repairs a falling log-probability"
LABELS = ("T12",)

VOCAB, SUFFIX_PROBS = 20, (0.9, 0.5)  # of the suffix token, after chosen and after rejected
SUFFIX = 2  # token id
SUFFIXES = {"12 suffix tokens": 12, "32 suffix tokens": 32}
RANDOM = "random"
RANDOM_VOCAB, RANDOM_LENGTH = 7, 33
DIM, CORRELATION, TEMPERATURE = 4, 0.95, 0.5
DRAWS, QUICK_DRAWS = 40, 12
RATES, QUICK_RATES = np.geomspace(1e-2, 1e2, 25), np.geomspace(1e-2, 1e2, 9)
SEED = 0
LOOKS = {"chosen": style.Look(style.BLUE, "o", "-"), "rejected": style.Look(style.RED, "s", "--")}
LIMITS = {"chosen": (-6.2, 1.2), "rejected": (-16.5, 1.5)}
POSSIBLE: dict[str, Any] = {"facecolor": "0.92", "edgecolor": "0.55", "linewidth": 0.6, "zorder": -1}
CERTIFIED: dict[str, Any] = {"color": style.BLACK, "linestyle": ":", "linewidth": 0.9}
STROKES: dict[str, dict[str, Any]] = {
    "> 0": {"color": style.GREEN, "linewidth": 0.5},
    "≤ 0": {"color": style.PURPLE, "linestyle": "--", "linewidth": 0.6},
}


def compute(quick: bool) -> style.Table:
    rates, draws = (QUICK_RATES, QUICK_DRAWS) if quick else (RATES, DRAWS)
    pair_key, model_key = jax.random.split(jax.random.key(SEED))
    chosen, rejected = ([[contrast] + [SUFFIX] * n for n in SUFFIXES.values()] for contrast in (0, 1))
    suffix = PreferencePairs.from_lists([[]] * len(SUFFIXES), chosen, rejected, vocab_size=VOCAB)
    drawn = contrast_pairs(pair_key, draws, vocab_size=RANDOM_VOCAB, length=RANDOM_LENGTH)
    keys = jax.random.split(model_key, draws)
    return style.stacked(
        _steps(list(SUFFIXES), _suffix_model, keys[: len(SUFFIXES)], suffix, rates),
        style.rows(_steps([RANDOM] * draws, _random_features, keys, drawn, rates, relative=True), side="chosen"),
    )


def _suffix_model(_key: Array, pair: PreferencePairs) -> LinearSoftmax:
    logits = []
    for prob in SUFFIX_PROBS:
        peaked = jnp.full(VOCAB, jnp.log((1 - prob) / (VOCAB - 1))).at[SUFFIX].set(jnp.log(prob))
        logits.append(jnp.tile(peaked, (pair.chosen.size, 1)).at[0].set(0.0))  # uniform at the contrast token
    return linear.positional_offset(VOCAB, pair, *logits)


def _random_features(key: Array, pair: PreferencePairs) -> LinearSoftmax:
    return linear.random_features(key, RANDOM_VOCAB, pair, dim=DIM, correlation=CORRELATION)


def _steps(
    names: list[str],
    constructor: ensemble.Constructor,
    keys: Array,
    pairs: PreferencePairs,
    rates: np.ndarray,
    relative: bool = False,
) -> style.Table:
    """Rows for every pair, side and learning rate; `relative`: in units that make the bounds ±1 and ±1 − rate."""
    built = ensemble.models(constructor, keys, pairs, TEMPERATURE)
    bounds = ensemble.each(_slopes_and_shortfalls, *built, pairs)
    tables = []
    for i, side in enumerate(LOOKS):
        slope, shortfall = (of_side[i][:, None] for of_side in bounds)
        change_unit, rate_unit = (abs(slope), abs(slope) / shortfall) if relative else (1.0, 1.0)
        etas = jnp.broadcast_to(rates * rate_unit, (len(pairs), rates.size))
        exact, true = (ensemble.each(changes, *built, pairs, etas)[i] for changes in (_exact_changes, _true_changes))
        lower, upper = theory.change_bounds(slope, shortfall, etas)
        columns = {
            "pair": np.array(names)[:, None],
            "draw": np.arange(len(pairs))[:, None],
            "side": side,
            "slope_predicted": np.where(slope > 0, "> 0", "≤ 0"),
            "learning_rate": rates,
            "certified_predicted": theory.certified_step(slope, shortfall) / rate_unit,
            "lower_predicted": lower / etas / change_unit,
            "upper_predicted": upper / etas / change_unit,
            "predicted": exact / etas / change_unit,
            "measured": true / etas / change_unit,
        }
        tables.append({name: np.broadcast_to(column, etas.shape).ravel() for name, column in columns.items()})
    return style.stacked(*tables)


def _slopes_and_shortfalls(model: LinearSoftmax, params: Array, pairs: PreferencePairs) -> tuple[Any, Any]:
    """Both for (chosen, rejected)."""
    shortfalls = map(theory.range_shortfall, theory.logit_directions(model, params, pairs))
    return theory.slopes(theory.pair_gram(model, params, pairs)), tuple(shortfalls)


def _exact_changes(model: LinearSoftmax, params: Array, pairs: PreferencePairs, etas: Array) -> tuple[Array, Array]:
    """Changes of (log π_w, log π_l) of a batch of one pair, at each of its learning rates [1, rates]."""
    return jax.vmap(lambda eta: theory.exact_change(model, params, pairs, eta), out_axes=1)(etas[0])


def _true_changes(model: LinearSoftmax, params: Array, pairs: PreferencePairs, etas: Array) -> tuple[Array, Array]:
    """The same, by taking the step."""
    return jax.vmap(lambda eta: gradients.step_change(model, params, pairs, optax.sgd(eta)), out_axes=1)(etas[0])


def draw(table: style.Table) -> Figure:
    figure = Figure(figsize=(style.PAGE, 3.7))
    grid = figure.add_gridspec(1, 2, width_ratios=(1.75, 1))
    left, right = (figure.add_subfigure(grid[column]) for column in range(2))
    axes = left.subplots(2, 2, sharex=True, sharey="row")
    for row, (side, look) in zip(axes, LOOKS.items(), strict=True):
        for ax, name in zip(row, SUFFIXES, strict=True):
            _pair(ax, style.rows(table, pair=name, side=side), look)
        row[0].set(ylabel=side, ylim=LIMITS[side])
    for ax, name in zip(axes[0], SUFFIXES, strict=True):
        ax.set_title(name)
    left.supxlabel("learning rate η", fontsize=8)
    left.supylabel("change / η (nats per unit of learning rate)", fontsize=8)
    _random(right.subplots(), style.rows(table, pair=RANDOM))
    handles: list[Artist] = [
        Line2D([], [], color=look.colour, marker=look.marker, linestyle=look.line, markerfacecolor="white", label=side)
        for side, look in LOOKS.items()
    ]
    handles += [Patch(**POSSIBLE, label="possible"), Line2D([], [], **CERTIFIED, label="certified step")]
    handles += [Line2D([], [], **stroke, label=f"random, slope {move}") for move, stroke in STROKES.items()]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles))
    return figure


def _pair(ax: Axes, part: style.Table, look: style.Look) -> None:
    x, certified = part["learning_rate"], part["certified_predicted"][0]
    style.zero_line(ax)
    ax.fill_between(x, part["lower_predicted"], part["upper_predicted"], **POSSIBLE)
    style.curve(ax, x, part["predicted"], part["measured"], look)
    if certified > 0:
        ax.axvline(certified, **CERTIFIED)
    ax.set(xscale="log", xlim=(x.min(), x.max()))


def _random(ax: Axes, table: style.Table) -> None:
    style.zero_line(ax)
    for move, stroke in STROKES.items():
        part = style.rows(table, slope_predicted=move)
        draws = np.unique(part["draw"])
        for draw in draws:
            one = style.rows(part, draw=draw)
            ax.plot(one["learning_rate"], one["measured"], **stroke)
        one = style.rows(part, draw=draws[0])  # the bounds are the same for all
        ax.fill_between(one["learning_rate"], one["lower_predicted"], one["upper_predicted"], **POSSIBLE)
    ax.axvline(1.0, **CERTIFIED)
    x = table["learning_rate"]
    ax.set(xscale="log", xlim=(x.min(), x.max()), ylim=(-4.2, 1.4), title="chosen of random pairs")
    ax.set(xlabel="η in units of |slope| / shortfall", ylabel="change / η in units of |slope|")
