"""A shared suffix longer than L* makes DPO lower the chosen response; predicted to the token, for d_w = d_l = 1.

One contrast token (p_w = p_l), then n identical suffix tokens that the model gives probability a after the chosen and b
after the rejected contrast token, V = 20. Lines are the contrast token's slope plus n times the suffix slope, vertical
lines the predicted thresholds, markers the forward derivative of the positional offset model along the DPO step. Shaded
and hatched: both log-probabilities fall (a > b), or both rise (a < b: the mirror image, with the roles exchanged).
"""

from dataclasses import replace
from types import SimpleNamespace

import jax.numpy as jnp
from jaxtyping import Array
from matplotlib.figure import Figure

from figures import style
from figures.sweeps import Swept
from toymodel import PreferencePairs, gradients, theory
from toymodel.models import linear
from toymodel.sweep import POSITIVE, Experiment, make_sweep, real, whole

TITLE = "When a shared suffix lowers the chosen response"
LABELS = ("T4", "T7", "T8", "T9")

VOCAB = 20
LONGEST = 40
STEP, QUICK_STEP = 2, 8
SUFFIX_PROBS = ((0.9, 0.5), (0.3, 0.1), (0.5, 0.7))  # (a, b): of the suffix token after chosen and after rejected
CONTRAST_PROB = 1 / VOCAB  # p_w = p_l
CHOSEN, REJECTED, SUFFIX = 0, 1, 2  # token ids
LOOKS = {"chosen": style.Look(style.BLUE, "o", "-"), "rejected": style.Look(style.RED, "s", "--")}


def measure(setting: SimpleNamespace) -> dict[str, Array]:
    """Slopes of log π_w and log π_l, in nats per unit of learning rate, and the suffix length where one turns."""
    chosen, rejected = ([[contrast] + [SUFFIX] * LONGEST] for contrast in (CHOSEN, REJECTED))
    longest = PreferencePairs.from_lists([[]], chosen, rejected, vocab_size=VOCAB)
    mask = (jnp.arange(LONGEST + 1) <= setting.suffix_length)[None]
    pairs = replace(longest, chosen_mask=mask, rejected_mask=mask)
    model = linear.positional_offset(VOCAB, pairs, *(_logits(prob)[None] for prob in (setting.a, setting.b)))
    measured = gradients.slopes(model, jnp.zeros((VOCAB, LONGEST + 1)), pairs)
    contrast = theory.single_token_slopes(CONTRAST_PROB, CONTRAST_PROB)
    per_token = theory.peaked_suffix_slopes(setting.a, setting.b, VOCAB)
    row = {"threshold_predicted": _threshold(setting.a, setting.b)}
    for i, side in enumerate(LOOKS):
        row[f"{side}_predicted"] = contrast[i] + setting.suffix_length * per_token[i]
        row[f"{side}_measured"] = measured[i][0]
    return row


def _logits(prob: Array) -> Array:
    """Uniform at the contrast position; later, `prob` for the suffix token and the rest spread evenly."""
    peaked = jnp.where(jnp.arange(VOCAB) == SUFFIX, jnp.log(prob), jnp.log((1 - prob) / (VOCAB - 1)))
    return jnp.tile(peaked, (LONGEST + 1, 1)).at[0].set(0.0)


def _threshold(a: Array, b: Array) -> Array:
    """Suffix length beyond which both slopes have one sign; for a < b, L* of the pair with its two sides exchanged."""
    return theory.threshold_length(CONTRAST_PROB, CONTRAST_PROB, jnp.maximum(a, b), jnp.minimum(a, b), VOCAB)


EXPERIMENT = Experiment(
    "suffix_threshold",
    {"a": real(None, POSITIVE), "b": real(None, POSITIVE), "suffix_length": whole(None, low=0, high=LONGEST)},
    measure,
)


def compute(quick: bool, swept: Swept) -> style.Table:
    a, b = zip(*SUFFIX_PROBS, strict=True)
    lengths = range(0, LONGEST + 1, QUICK_STEP if quick else STEP)
    return swept(make_sweep(EXPERIMENT, {"zip": {"a": a, "b": b}, "suffix_length": lengths}))


def draw(table: style.Table) -> Figure:
    figure = Figure(figsize=(style.COLUMN, 4.2))
    axes = figure.subplots(len(SUFFIX_PROBS), sharex=True)
    for ax, (a, b) in zip(axes, SUFFIX_PROBS, strict=True):
        part = style.rows(table, a=a, b=b)
        x, threshold = part["suffix_length"], part["threshold_predicted"][0]
        move, hatch = ("fall", "\\\\\\") if a > b else ("rise", "///")
        style.zero_line(ax)
        for side, look in LOOKS.items():
            style.curve(ax, x, part[f"{side}_predicted"], part[f"{side}_measured"], look)
        ax.axvline(threshold, color=style.BLACK, linewidth=0.8, linestyle=":")
        ax.axvspan(threshold, x.max(), facecolor="0.95", edgecolor="0.8", hatch=hatch, linewidth=0, zorder=-1)
        ax.set_title(f"a = {a}, b = {b}: both {move} beyond L* = {threshold:.2f}")
    axes[-1].set_xlabel("suffix length n (tokens)")
    figure.supylabel("slope (nats per unit of learning rate)", fontsize=8)
    style.legend(figure, LOOKS, ncols=2)
    return figure
