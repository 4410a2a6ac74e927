"""Compares one step of every size with the bounds that the slope gives."""

from dataclasses import replace
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

from figures import style
from figures.sweeps import Swept
from toymodel import PreferencePairs, gradients, theory
from toymodel.data.families import contrast_pairs
from toymodel.experiments.experiment import POSITIVE, one_of, real, setting, whole
from toymodel.models import linear
from toymodel.models.linear import LinearSoftmax
from toymodel.sweep import Experiment, make_sweep

VOCAB, SUFFIX_PROBS = 20, (0.9, 0.5)  # of the suffix token, after chosen and after rejected
SUFFIX = 2  # token id
SUFFIXES = {"12 suffix tokens": 12, "32 suffix tokens": 32}
PEAKED, RANDOM = "peaked", "random"
LONGEST = 32  # suffix tokens; random pairs have as many
RANDOM_VOCAB = 7
DIM, CORRELATION, TEMPERATURE = 4, 0.95, 0.5
DRAWS, QUICK_DRAWS = 40, 20
RATES, QUICK_RATES = np.geomspace(1e-2, 1e2, 25), np.geomspace(1e-2, 1e2, 9)
LOOKS = {"chosen": style.Look(style.BLUE, "o", "-"), "rejected": style.Look(style.RED, "s", "--")}
LIMITS = {"chosen": (-6.2, 1.2), "rejected": (-16.5, 1.5)}
POSSIBLE: dict[str, Any] = {"facecolor": "0.92", "edgecolor": "0.55", "linewidth": 0.6, "zorder": -1}
CERTIFIED: dict[str, Any] = {"color": style.BLACK, "linestyle": ":", "linewidth": 0.9}
STROKES: dict[str, dict[str, Any]] = {
    "> 0": {"color": style.GREEN, "linewidth": 0.5},
    "≤ 0": {"color": style.PURPLE, "linestyle": "--", "linewidth": 0.6},
}


@setting
class StepSetting:
    """A pair in a model, and one step."""

    pair: str = one_of((PEAKED, RANDOM), None)
    suffix_length: int = whole(LONGEST, low=0, high=LONGEST)
    seed: int = whole(0, low=0)  # of a random pair
    learning_rate: float = real(None, POSITIVE)


def measure(setting: StepSetting) -> dict[str, Array]:
    """The change of one pair in a step, and its bounds, for each side."""
    if setting.pair == PEAKED:
        return _step(setting, *_peaked())
    return _step(setting, *_random_features(setting.seed), relative=True)


def _peaked() -> tuple[PreferencePairs, LinearSoftmax, Array]:
    chosen, rejected = ([[contrast] + [SUFFIX] * LONGEST] for contrast in (0, 1))
    pairs = PreferencePairs.from_lists([[]], chosen, rejected, vocab_size=VOCAB)
    logits = []
    for prob in SUFFIX_PROBS:
        peaked = jnp.full(VOCAB, jnp.log((1 - prob) / (VOCAB - 1))).at[SUFFIX].set(jnp.log(prob))
        logits.append(jnp.tile(peaked, (1, LONGEST + 1, 1)).at[:, 0].set(0.0))  # uniform at the contrast token
    return pairs, linear.positional_offset(VOCAB, pairs, *logits), jnp.zeros((VOCAB, LONGEST + 1))


def _random_features(seed: int | Array) -> tuple[PreferencePairs, LinearSoftmax, Array]:
    pair_key, frozen, learned = jax.random.split(jax.random.key(seed), 3)
    pairs = contrast_pairs(pair_key, 1, vocab_size=RANDOM_VOCAB, length=LONGEST + 1)
    model = linear.random_features(frozen, RANDOM_VOCAB, pairs, dim=DIM, correlation=CORRELATION)
    return pairs, model, linear.init_params(learned, model, temperature=TEMPERATURE)


def _step(
    setting: StepSetting, longest: PreferencePairs, model: LinearSoftmax, params: Array, relative: bool = False
) -> dict[str, Array]:
    """Divided by η; `relative`: in units that make the bounds of the chosen ±1 and ±1 − rate."""
    mask = (jnp.arange(LONGEST + 1) <= setting.suffix_length)[None]
    pairs = replace(longest, chosen_mask=mask, rejected_mask=mask)
    slopes = theory.slopes(theory.pair_gram(model, params, pairs))
    shortfalls = [theory.range_shortfall(directions) for directions in theory.logit_directions(model, params, pairs)]
    slope_unit, rate_unit = (abs(slopes[0][0]), abs(slopes[0][0]) / shortfalls[0][0]) if relative else (1.0, 1.0)
    eta = setting.learning_rate * rate_unit
    exact = theory.exact_change(model, params, pairs, eta)
    true = gradients.step_change(model, params, pairs, optax.sgd(eta))
    row: dict[str, Array] = {}
    for i, side in enumerate(LOOKS):
        slope, shortfall = slopes[i][0], shortfalls[i][0]
        lower, upper = theory.change_bounds(slope, shortfall, eta)
        changes = {"lower_predicted": lower, "upper_predicted": upper, "predicted": exact[i][0], "measured": true[i][0]}
        row |= {f"{side}_{name}": change / eta / slope_unit for name, change in changes.items()}
        row[f"{side}_certified_predicted"] = theory.certified_step(slope, shortfall) / rate_unit
    return row


EXPERIMENT = Experiment("finite_step", StepSetting, measure)


def compute(quick: bool, swept: Swept) -> style.Table:
    rates, draws = (QUICK_RATES, QUICK_DRAWS) if quick else (RATES, DRAWS)
    suffixes = {"pair": PEAKED, "suffix_length": tuple(SUFFIXES.values()), "learning_rate": rates}
    table = swept(make_sweep(EXPERIMENT, suffixes, {"pair": RANDOM, "seed": range(draws), "learning_rate": rates}))
    peaked, random = (style.rows(table, pair=pair) for pair in (PEAKED, RANDOM))
    peaked["pair"] = np.array([f"{n} suffix tokens" for n in peaked["suffix_length"]])
    return style.stacked(*(_changes(peaked, side) for side in LOOKS), _changes(random, "chosen"))


def _changes(table: style.Table, side: str) -> style.Table:
    """The rows of one side."""
    names = ("certified_predicted", "lower_predicted", "upper_predicted", "predicted", "measured")
    return {
        "pair": table["pair"],
        "draw": table["seed"],
        "side": np.full(len(table["pair"]), side),
        # Change / η is nowhere above the slope.
        "slope_predicted": np.where(table[f"{side}_upper_predicted"] > 0, "> 0", "≤ 0"),
        "learning_rate": table["learning_rate"],
        **{name: table[f"{side}_{name}"] for name in names},
    }


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
