"""Shows how other pairs, and other responses of a group, reverse the change of a single response."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from figures import style
from figures.intervals import mean_interval
from figures.sweeps import Swept
from toymodel import PreferencePairs, gradients, theory
from toymodel.experiments.experiment import real, setting, whole
from toymodel.models import linear
from toymodel.sweep import Experiment, make_sweep

PROBS = (0.5, 0.3, 0.2)  # of the unigram model of the two pairs
WEIGHTS, QUICK_WEIGHTS = np.linspace(0, 4, 17), np.linspace(0, 4, 5)  # of the second pair; the first has 1

VOCAB, LENGTH, GROUP = 10, 12, 8
RIGHT = (2, 4, 6)  # right responses in a group
OVERLAPS, QUICK_OVERLAPS = (0.0, 0.2, 0.4, 0.6, 0.7, 0.8, 0.9), (0.0, 0.4, 0.8, 0.9)  # at 1, no response would move
TEMPERATURE = 1.0
GROUPS, QUICK_GROUPS = 200, 40
SHOWN_RIGHT, SHOWN_OVERLAPS, SHOWN_GROUPS = 4, (0.4, 0.8, 0.9), 8  # in the middle
SEED = 0

PAIR_LOOKS = {"chosen": style.Look(style.BLUE, "o", "-"), "rejected": style.Look(style.RED, "s", "--")}
SUM_LOOK = style.Look(style.BLACK, "D", "-")
MOVE_LOOKS = {"rises": style.Look(style.GREEN, "^", "-"), "falls": style.Look(style.PURPLE, "v", "-")}
RIGHT_LOOKS = {
    2: style.Look(style.BLACK, "o", "-"),
    4: style.Look(style.ORANGE, "s", "--"),
    6: style.Look(style.SKY, "D", "-."),
}


@setting
class PairsSetting:
    """Two pairs of one batch."""

    weight: float = real(None)  # of the second; the first has 1


def two_pairs(setting: PairsSetting) -> dict[str, Array]:
    """Slopes of the first pair, and Σ_a d_a (slope of chosen − slope of rejected) over both (T20)."""
    pairs = PreferencePairs.from_lists([[0], [1]], [[0, 0], [1, 1]], [[1, 2], [0, 2]], vocab_size=3)
    model, params = linear.unigram(3), jnp.log(jnp.array(PROBS))[:, None]
    d = jnp.stack([jnp.ones_like(setting.weight), setting.weight])
    responses, advantages = theory.as_group(pairs, d, d)
    row: dict[str, Array] = {}
    for route, slopes in (
        ("predicted", theory.group_slopes(theory.group_gram(model, params, responses), advantages)),
        ("measured", gradients.group_slopes(model, params, responses, advantages)),
    ):
        row |= {f"chosen_{route}": slopes[0], f"rejected_{route}": slopes[2]}
        row |= {f"sum_{route}": 2 * advantages @ slopes}
    return row


@setting
class GroupSetting:
    """A random group of responses, and how many of them are right."""

    overlap: float = real(None)  # share of tokens that a response takes from what is common
    right: int = whole(None, low=1, high=GROUP - 1)
    seed: int = whole(None, low=0)


def one_group(setting: GroupSetting) -> dict[str, Array]:
    """The two pulls on each response, whether it falls (T21), and its measured slope.

    Right responses come first. Their number changes neither the responses nor the model.
    """
    common, own, which, build = jax.random.split(jax.random.fold_in(jax.random.key(SEED), setting.seed), 4)
    tokens = jnp.where(
        jax.random.uniform(which, (GROUP, LENGTH)) < setting.overlap,
        jax.random.randint(common, (LENGTH,), 0, VOCAB),
        jax.random.randint(own, (GROUP, LENGTH), 0, VOCAB),
    )
    halves, mask = tokens.reshape(2, GROUP // 2, LENGTH), jnp.ones((GROUP // 2, LENGTH), bool)
    prompt = jnp.zeros((GROUP // 2, 1), int)
    pairs = PreferencePairs(prompt, prompt == 0, halves[0], mask, halves[1], mask)
    model, params = linear.random_offset(build, VOCAB, pairs, temperature=TEMPERATURE), jnp.zeros((VOCAB, LENGTH))
    responses, _ = theory.as_group(pairs)
    advantages = theory.normalised_advantages(jnp.arange(GROUP) < setting.right)
    gram = theory.group_gram(model, params, responses)
    return {
        "raising": gram @ jnp.maximum(advantages, 0),
        "lowering": gram @ jnp.maximum(-advantages, 0),
        "falls_predicted": theory.displaced(gram, advantages),
        "slope_measured": gradients.group_slopes(model, params, responses, advantages),
    }


TWO_PAIRS = Experiment("groups_two_pairs", PairsSetting, two_pairs, block=32)
GROUP_SLOPES = Experiment("groups", GroupSetting, one_group)


def compute(quick: bool, swept: Swept) -> style.Table:
    weights, overlaps, groups = (QUICK_WEIGHTS, QUICK_OVERLAPS, QUICK_GROUPS) if quick else (WEIGHTS, OVERLAPS, GROUPS)
    tables = [_two_pairs(swept(make_sweep(TWO_PAIRS, {"weight": weights})))]
    slopes = swept(make_sweep(GROUP_SLOPES, {"overlap": overlaps, "right": RIGHT, "seed": range(groups)}))
    shown = {name: column[slopes["seed"] < SHOWN_GROUPS] for name, column in slopes.items()}
    for overlap in SHOWN_OVERLAPS:
        tables.append(_responses(overlap, style.rows(shown, overlap=overlap, right=SHOWN_RIGHT)))
    for overlap in overlaps:
        tables += [_fraction(overlap, right, style.rows(slopes, overlap=overlap, right=right)) for right in RIGHT]
    return style.stacked(*tables)


def _two_pairs(slopes: style.Table) -> style.Table:
    curves = (("pair", "chosen", "chosen"), ("pair", "rejected", "rejected"), ("sum", "both pairs", "sum"))
    return style.stacked(
        *(
            _table(panel, curve, slopes["weight"], slopes[f"{name}_predicted"], slopes[f"{name}_measured"])
            for panel, curve, name in curves
        )
    )


def _responses(overlap: float, slopes: style.Table) -> style.Table:
    """One row per right response: its slope in units of the pull upwards, 1 − lowering/raising."""
    names = ("raising", "lowering", "slope_measured")
    raising, lowering, measured = (slopes[name][:, :SHOWN_RIGHT].ravel() for name in names)
    moves = np.where(measured < 0, "falls", "rises")
    return _table("response", moves, lowering / raising, 1 - lowering / raising, measured / raising, overlap=overlap)


def _fraction(overlap: float, right: int, slopes: style.Table) -> style.Table:
    """Fraction of the right responses that fall: mean over groups, with its 95% interval."""
    falls = (slopes["falls_predicted"], slopes["slope_measured"] < 0)
    predicted, measured = (of_all[:, :right].mean(axis=1) for of_all in falls)
    columns = (np.array([x]) for x in (overlap, predicted.mean(), *mean_interval(measured)))
    return _table("fraction", f"{right} right", *columns, overlap=overlap)


def _table(
    panel: str,
    curve: str | np.ndarray,
    x: np.ndarray,
    predicted: np.ndarray,
    measured: np.ndarray,
    low: np.ndarray | float = np.nan,
    high: np.ndarray | float = np.nan,
    *,
    overlap: float = np.nan,
) -> style.Table:
    names = ("panel", "curve", "overlap", "x", "predicted", "measured", "low", "high")
    columns = np.broadcast_arrays(panel, curve, overlap, x, predicted, measured, low, high)
    return dict(zip(names, columns, strict=True))


def draw(table: style.Table) -> Figure:
    figure = Figure(figsize=(style.PAGE, 3.2))
    grid = figure.add_gridspec(1, 3)
    left, middle, right = (figure.add_subfigure(grid[column]) for column in range(3))
    _pairs(left, table)
    ax = middle.subplots()
    style.zero_line(ax)
    for move, look in MOVE_LOOKS.items():
        part = style.rows(table, panel="response", curve=move)
        ax.plot(part["x"], part["predicted"], "-", color=style.GREY, linewidth=0.8, zorder=0)
        ax.plot(part["x"], part["measured"], look.marker, color=look.colour, markerfacecolor="white", label=move)
    ax.axvline(1.0, color=style.BLACK, linewidth=0.8, linestyle=":")
    ax.set(title=f"groups: {SHOWN_RIGHT} of {GROUP} right", ylabel="slope / pull of right")
    ax.set_xlabel("pull of wrong / pull of right")
    ax.legend(title="right response")
    ax = right.subplots()
    for number, look in RIGHT_LOOKS.items():
        name = f"{number} right"
        part = style.rows(table, panel="fraction", curve=name)
        style.intervals(ax, part["x"], part["low"], part["high"], look)
        style.curve(ax, part["x"], part["predicted"], part["measured"], look)
        _entry(ax, name, look)
    ax.set(title=f"groups of {GROUP}", ylabel="fraction of right that fall", xlabel="share of common tokens")
    ax.legend(reverse=True)
    return figure


def _pairs(figure: SubFigure, table: style.Table) -> None:
    slopes, total = figure.subplots(2, sharex=True, height_ratios=(1.3, 1))
    for side, look in PAIR_LOOKS.items():
        part = style.rows(table, panel="pair", curve=side)
        style.curve(slopes, part["x"], part["predicted"], part["measured"], look)
        _entry(slopes, side, look)
    part = style.rows(table, panel="sum")
    style.curve(total, part["x"], part["predicted"], part["measured"], SUM_LOOK)
    style.zero_line(slopes)
    slopes.set(title="a batch of two pairs", ylabel="first pair", ylim=(-2.4, 2.9))
    slopes.legend(loc="upper right")
    total.set(ylim=(0, None), xlabel="weight of the second pair", ylabel="both, summed")
    figure.supylabel("slope (nats per unit of learning rate)", fontsize=8)


def _entry(ax: Axes, label: str, look: style.Look) -> None:
    """One entry of the legend, line and marker together."""
    ax.plot([], [], look.line, marker=look.marker, color=look.colour, markerfacecolor="white", label=label)
