"""Trains pairs whose shared suffix makes both log-probabilities fall, or both rise."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array
from matplotlib.figure import Figure

from figures import style
from figures.intervals import mean_interval
from figures.sweeps import Swept
from toymodel import PreferencePairs, theory
from toymodel.experiments.experiment import real, setting, whole
from toymodel.losses import LOSSES
from toymodel.models import linear
from toymodel.models.linear import LinearSoftmax
from toymodel.sweep import Experiment, make_sweep
from toymodel.training import train

PAPER = "Fig. 1"

VOCAB, SUFFIX_LENGTH = 20, 24
SUFFIX_PROBS = ((0.3, 0.1), (0.1, 0.3))  # (a, b)
TITLES = ("a = 0.3 > b = 0.1:\nboth fall", "a = 0.1 < b = 0.3:\nboth rise")
NOISE = 0.5
BETA, LEARNING_RATE = 0.1, 0.5
STEPS = 200
SHOWN = np.arange(0, STEPS + 1, 10)
SEEDS, QUICK_SEEDS = 24, 6
SEED = 0
CHOSEN, REJECTED, SUFFIX = 0, 1, 2  # token ids
HEIGHT = (-21, 21)  # nats
COLUMNS = ("predicted", "measured", "low", "high")
LOOKS = {"chosen": style.Look(style.BLUE, "o", "-"), "rejected": style.Look(style.RED, "s", "--")}


@setting
class RunSetting:
    """One run of DPO."""

    a: float = real(None)  # probability of the suffix token after the chosen one
    b: float = real(None)  # after the rejected one
    seed: int = whole(None, low=0)


def measure(setting: RunSetting) -> dict[str, Array]:
    """Changes of log π since the start at the states `SHOWN`, for one seed, and the closed-form slopes at the start."""
    model, params, pair = start(setting)
    slopes = theory.slopes(theory.pair_gram(model, params, pair), BETA / 2, BETA / 2)  # weights of DPO at the reference
    run = train(model, params, pair, LOSSES["dpo"](beta=BETA), optax.sgd, LEARNING_RATE, steps=STEPS)
    assert run.trajectory is not None
    row: dict[str, Array] = {}
    for side, slope in zip(LOOKS, slopes, strict=True):
        logps = getattr(run.trajectory, f"{side}_logps")
        row |= {f"{side}_slope": slope[0], f"{side}_change": (logps - logps[0])[SHOWN, 0]}
    return row


def start(setting: RunSetting) -> tuple[LinearSoftmax, Array, PreferencePairs]:
    """A seed's model, its parameters and the one pair; a seed draws the same noise for all a and b."""
    suffix = [SUFFIX] * SUFFIX_LENGTH
    pair = PreferencePairs.from_lists([[]], [[CHOSEN, *suffix]], [[REJECTED, *suffix]], vocab_size=VOCAB)
    key = jax.random.fold_in(jax.random.key(SEED), setting.seed)
    noise = NOISE * jax.random.normal(key, (2, *pair.chosen.shape, VOCAB))
    model = linear.positional_offset(VOCAB, pair, _logits(setting.a) + noise[0], _logits(setting.b) + noise[1])
    return model, jnp.zeros((VOCAB, SUFFIX_LENGTH + 1)), pair


def _logits(prob: float | Array) -> Array:
    """Uniform at the contrast token; later, `prob` for the suffix token and the rest spread evenly."""
    peaked = jnp.where(jnp.arange(VOCAB) == SUFFIX, jnp.log(prob), jnp.log((1 - prob) / (VOCAB - 1)))
    return jnp.tile(peaked, (SUFFIX_LENGTH + 1, 1)).at[0].set(0.0)


EXPERIMENT = Experiment("training", RunSetting, measure, block=8)


def compute(quick: bool, swept: Swept) -> style.Table:
    a, b = zip(*SUFFIX_PROBS, strict=True)
    seeds = range(QUICK_SEEDS if quick else SEEDS)
    runs = swept(make_sweep(EXPERIMENT, {"zip": {"a": a, "b": b}, "seed": seeds}))
    return style.stacked(*(_panel(a, b, style.rows(runs, a=a, b=b)) for a, b in SUFFIX_PROBS))


def _panel(a: float, b: float, runs: style.Table) -> style.Table:
    """Means over seeds."""
    table = {"a": np.full(len(SHOWN), a), "b": np.full(len(SHOWN), b), "step": SHOWN}
    for side in LOOKS:
        mean, low, high = mean_interval(runs[f"{side}_change"].T)
        predicted = LEARNING_RATE * runs[f"{side}_slope"].mean() * SHOWN
        table |= {f"{side}_predicted": predicted, f"{side}_measured": mean, f"{side}_low": low, f"{side}_high": high}
    return table


def draw(table: style.Table) -> Figure:
    figure = Figure(figsize=(style.COLUMN, 2.5))
    axes = figure.subplots(1, len(SUFFIX_PROBS), sharex=True, sharey=True)
    for ax, (a, b), title in zip(axes, SUFFIX_PROBS, TITLES, strict=True):
        part = style.rows(table, a=a, b=b)
        style.zero_line(ax)
        for side, look in LOOKS.items():
            predicted, measured, low, high = (part[f"{side}_{name}"] for name in COLUMNS)
            style.intervals(ax, part["step"], low, high, look)
            style.curve(ax, part["step"], predicted, measured, look)
        ax.set(title=title, ylim=HEIGHT)
    figure.supxlabel("step of DPO", fontsize=8)
    axes[0].set_ylabel("change of log π (nats)")
    style.legend(figure, LOOKS, ncols=2)
    return figure
