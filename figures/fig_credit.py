"""Shows which tokens of a right answer fall in a group's step, by what the answer shares with the others."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from matplotlib.figure import Figure

from figures import style
from figures.intervals import mean_interval
from figures.sweeps import Swept
from toymodel import PreferencePairs, gradients, theory
from toymodel.experiments.experiment import Row, real, setting, whole
from toymodel.models import linear
from toymodel.sweep import Experiment, make_sweep

VOCAB, GROUP, RIGHT = 10, 8, 4
PREFIX, LONGEST, WRONG_LENGTH = 4, 12, 9  # tokens
OVERLAPS, QUICK_OVERLAPS = (0.1, 0.3, 0.5, 0.7, 0.9, 1.0), (0.1, 0.5, 1.0)
LENGTHS, QUICK_LENGTHS = range(6, LONGEST + 1), (6, WRONG_LENGTH, LONGEST)
OVERLAP = 0.5  # where lengths vary
GROUPS, QUICK_GROUPS = 200, 40
ROUTES = ("predicted", "measured")
ROUNDOFF = 1e-12  # of slopes of size 1: below it, a token stays
KINDS = {
    "in a common prefix": style.Look(style.BLACK, "o", "-"),
    "common after the branch": style.Look(style.RED, "s", "--"),
    "its own": style.Look(style.BLUE, "^", "-."),
}
WEIGHTS = {
    "A": style.Look(style.BLACK, "o", "-"),
    "A/|y|": style.Look(style.PURPLE, "D", ":"),
}


@setting
class CreditSetting:
    """A random group: the share of common tokens after the branch, and the length of right answers."""

    overlap: float = real(None)
    right_length: int = whole(None, low=PREFIX + 2, high=LONGEST)
    seed: int = whole(None, low=0)


def measure(setting: CreditSetting) -> Row:
    """By weights, share of a right answer's tokens of each kind that fall, and mean slope of those of the prefix.

    All answers begin with the same tokens, then each has another one; the right ones come first.
    """
    common, own, which, build = jax.random.split(jax.random.key(setting.seed), 4)
    place, shared = jnp.arange(LONGEST), jax.random.randint(common, (LONGEST,), 0, VOCAB)
    drawn = jax.random.randint(own, (GROUP, LONGEST), 0, VOCAB)
    is_common = jax.random.uniform(which, (GROUP, LONGEST)) < setting.overlap
    branch = jnp.where(place == PREFIX, jnp.arange(GROUP)[:, None], jnp.where(is_common, shared, drawn))
    tokens = jnp.where(place < PREFIX, shared, branch)
    lengths = jnp.where(jnp.arange(GROUP) < RIGHT, setting.right_length, WRONG_LENGTH)
    halves = tokens.reshape(2, -1, LONGEST)
    mask = (place < lengths[:, None]).reshape(halves.shape)
    prompt = jnp.zeros((GROUP // 2, 1), int)
    pairs = PreferencePairs(prompt, prompt == 0, halves[0], mask[0], halves[1], mask[1])
    model, params = linear.random_offset(build, VOCAB, pairs, temperature=1.0), jnp.zeros((VOCAB, LONGEST))
    responses, _ = theory.as_group(pairs)
    advantages = theory.normalised_advantages(jnp.arange(GROUP) < RIGHT) / GROUP
    in_prefix = jnp.broadcast_to(place < PREFIX, tokens.shape)
    kinds = jnp.stack([in_prefix, ~in_prefix & (tokens == shared), ~in_prefix & (tokens != shared)])
    kinds = kinds[:, :RIGHT] & responses.mask[:RIGHT]
    row: Row = {}
    for how, route in (("predicted", theory.group_token_slopes), ("measured", gradients.group_token_slopes)):
        weights = advantages, advantages / lengths * LONGEST
        slopes = jnp.stack([route(model, params, responses, weight)[:RIGHT] for weight in weights])
        row[f"falls_{how}"] = _mean((slopes < -ROUNDOFF)[:, None], kinds)
        row[f"prefix_{how}"] = _mean(slopes[:, None], kinds[:1])[:, 0]
    return row


def _mean(values: Array, kinds: Array) -> Array:
    """[weights, kinds]: over the tokens of each kind; NaN where there is none."""
    return (values * kinds).sum(axis=(-2, -1)) / kinds.sum(axis=(-2, -1))


EXPERIMENT = Experiment("credit", CreditSetting, measure)


def compute(quick: bool, swept: Swept) -> style.Table:
    overlaps, lengths = (QUICK_OVERLAPS, QUICK_LENGTHS) if quick else (OVERLAPS, LENGTHS)
    seeds = range(QUICK_GROUPS if quick else GROUPS)
    by_overlap = swept(make_sweep(EXPERIMENT, {"overlap": overlaps, "right_length": WRONG_LENGTH, "seed": seeds}))
    by_length = swept(make_sweep(EXPERIMENT, {"overlap": OVERLAP, "right_length": lengths, "seed": seeds}))
    tables = []
    for overlap in overlaps:
        part = style.rows(by_overlap, overlap=overlap)
        for i, kind in enumerate(KINDS):
            tables.append(_point("falls", kind, overlap, *(part[f"falls_{how}"][:, 0, i] for how in ROUTES)))
    for length in lengths:
        part = style.rows(by_length, right_length=length)
        for i, weight in enumerate(WEIGHTS):
            tables.append(_point("prefix", weight, length, *(part[f"prefix_{how}"][:, i] for how in ROUTES)))
    return style.stacked(*tables)


def _point(panel: str, curve: str, x: float, predicted: np.ndarray, measured: np.ndarray) -> style.Table:
    """Means over the groups that have such tokens, with the 95% interval of the measured one."""
    some = np.isfinite(measured)
    mean, low, high = mean_interval(measured[some])
    columns = {"x": x, "predicted": predicted[some].mean(), "measured": mean, "low": low, "high": high}
    names = {"panel": np.array([panel]), "curve": np.array([curve])}
    # Digits beyond these are round-off, and not those of another machine.
    return names | {name: np.round(np.reshape(value, 1), 12) + 0.0 for name, value in columns.items()}


def draw(table: style.Table) -> Figure:
    figure = Figure(figsize=(style.PAGE, 2.6))
    left, right = figure.subplots(1, 2)
    for ax, panel, looks in ((left, "falls", KINDS), (right, "prefix", WEIGHTS)):
        for curve, look in looks.items():
            part = style.rows(table, panel=panel, curve=curve)
            style.intervals(ax, part["x"], part["low"], part["high"], look)
            style.curve(ax, part["x"], part["predicted"], part["measured"], look)
        ax.legend(handles=style.entries(looks))
    left.set(xlabel="common tokens after the branch (share)", ylabel="right answers' tokens that fall (share)")
    style.zero_line(right)
    right.axvline(WRONG_LENGTH, color=style.GREY, linewidth=0.5, zorder=0)
    right.set(xlabel="length of right answers (tokens)", ylabel="slope of a token of the prefix")
    return figure
