"""DPO lowers the chosen response along with the rejected, or raises the rejected along with the chosen, all the way.

Each response is one contrast token and 24 identical suffix tokens, V = 20. The model (frozen logits and a learned
offset per position) gives a suffix token probability a after the chosen and b after the rejected contrast token, and
all else evenly, up to normal noise of standard deviation 0.5 on its logits, drawn anew for each of 24 seeds. Without
noise, L* = 6.79 suffix tokens suffice for DPO to lower the chosen where a > b; a < b is the mirror image. Markers are
means over seeds of the measured change since the start, each model trained on its pair by gradient descent (β = 0.1,
learning rate 0.5); 95% intervals of these means are drawn, and are smaller than the markers. Lines are the first-order
prediction from the closed-form slopes at the start, which the path leaves as the probabilities move.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array
from matplotlib.figure import Figure

from figures import style
from figures.ensemble import mean_interval
from toymodel import PairGram, PreferencePairs, theory
from toymodel.losses import LOSSES
from toymodel.models import linear
from toymodel.models.linear import LinearSoftmax
from toymodel.training import train

TITLE = "Both down, both up"
LABELS = ("T7", "T8", "T9")

VOCAB, SUFFIX_LENGTH = 20, 24
SUFFIX_PROBS = ((0.3, 0.1), (0.1, 0.3))  # (a, b)
TITLES = ("a = 0.3 > b = 0.1:\nboth fall", "a = 0.1 < b = 0.3:\nboth rise")
NOISE = 0.5
BETA, LEARNING_RATE = 0.1, 0.5
STEPS, SHOWN_EVERY = 200, 10
SEEDS, QUICK_SEEDS = 24, 6
SEED = 0
CHOSEN, REJECTED, SUFFIX = 0, 1, 2  # token ids
HEIGHT = (-21, 21)  # nats
COLUMNS = ("predicted", "measured", "low", "high")
LOOKS = {"chosen": style.Look(style.BLUE, "o", "-"), "rejected": style.Look(style.RED, "s", "--")}


def compute(quick: bool) -> style.Table:
    pairs, keys = setting(QUICK_SEEDS if quick else SEEDS)
    return style.stacked(*(_panel(a, b, keys, pairs) for a, b in SUFFIX_PROBS))


def setting(seeds: int) -> tuple[PreferencePairs, Array]:
    """The one pair, and a key for each seed's model."""
    suffix = [SUFFIX] * SUFFIX_LENGTH
    pairs = PreferencePairs.from_lists([[]], [[CHOSEN, *suffix]], [[REJECTED, *suffix]], vocab_size=VOCAB)
    return pairs, jax.random.split(jax.random.key(SEED), seeds)


def _panel(a: float, b: float, keys: Array, pairs: PreferencePairs) -> style.Table:
    of_seeds, params = models(a, b, keys, pairs)
    slopes = theory.slopes(_grams(of_seeds, params, pairs), BETA / 2, BETA / 2)  # weights of DPO at the reference
    loss = LOSSES["dpo"](beta=BETA)
    run = train(of_seeds, params, pairs, loss, optax.sgd, LEARNING_RATE, steps=STEPS, over=("model",))
    assert run.trajectory is not None
    steps = np.arange(0, STEPS + 1, SHOWN_EVERY)
    table = {"a": np.full(len(steps), a), "b": np.full(len(steps), b), "step": steps}
    for side, slope in zip(LOOKS, slopes, strict=True):
        logps = np.asarray(getattr(run.trajectory, f"{side}_logps"))[:, :, 0].T  # [steps + 1, seeds]
        mean, low, high = mean_interval(logps[steps] - logps[0])
        predicted = LEARNING_RATE * np.mean(slope) * steps
        table |= {f"{side}_predicted": predicted, f"{side}_measured": mean, f"{side}_low": low, f"{side}_high": high}
    return table


@jax.jit
def models(a: Array, b: Array, keys: Array, pairs: PreferencePairs) -> tuple[LinearSoftmax, Array]:
    """A model for each key, and the parameters that all of them start from."""

    def one(key: Array) -> LinearSoftmax:
        noise = NOISE * jax.random.normal(key, (2, *pairs.chosen.shape, VOCAB))
        return linear.positional_offset(VOCAB, pairs, _logits(a) + noise[0], _logits(b) + noise[1])

    return jax.vmap(one)(keys), jnp.zeros((VOCAB, SUFFIX_LENGTH + 1))


def _logits(prob: Array) -> Array:
    """Uniform at the contrast token; later, `prob` for the suffix token and the rest spread evenly."""
    peaked = jnp.where(jnp.arange(VOCAB) == SUFFIX, jnp.log(prob), jnp.log((1 - prob) / (VOCAB - 1)))
    return jnp.tile(peaked, (SUFFIX_LENGTH + 1, 1)).at[0].set(0.0)


@jax.jit
def _grams(models: LinearSoftmax, params: Array, pairs: PreferencePairs) -> PairGram:
    return jax.vmap(theory.pair_gram, in_axes=(0, None, None))(models, params, pairs)


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
