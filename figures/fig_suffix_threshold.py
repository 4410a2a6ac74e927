"""A shared suffix longer than L* makes DPO lower the chosen response; predicted to the token, for d_w = d_l = 1.

One contrast token (p_w = p_l), then n identical suffix tokens that the model gives probability a after the chosen and b
after the rejected contrast token, V = 20. Lines are the contrast token's slope plus n times the suffix slope, vertical
lines the predicted thresholds, markers the forward derivative of the positional offset model along the DPO step. Shaded
and hatched: both log-probabilities fall (a > b), or both rise (a < b: the mirror image, with the roles exchanged).
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from matplotlib.figure import Figure

from figures import style
from toymodel import PreferencePairs, gradients, theory
from toymodel.models import linear

TITLE = "When a shared suffix lowers the chosen response"
LABELS = ("T4", "T7", "T8", "T9")

VOCAB = 20
LONGEST = 40
STEP, QUICK_STEP = 2, 8
SUFFIX_PROBS = ((0.9, 0.5), (0.3, 0.1), (0.5, 0.7))  # (a, b): of the suffix token after chosen and after rejected
CONTRAST_PROB = 1 / VOCAB  # p_w = p_l
CHOSEN, REJECTED, SUFFIX = 0, 1, 2  # token ids
LOOKS = {"chosen": style.Look(style.BLUE, "o", "-"), "rejected": style.Look(style.RED, "s", "--")}


def compute(quick: bool) -> style.Table:
    lengths = np.arange(0, LONGEST + 1, QUICK_STEP if quick else STEP)
    return style.stacked(*(_panel(a, b, lengths) for a, b in SUFFIX_PROBS))


def _panel(a: float, b: float, lengths: np.ndarray) -> style.Table:
    chosen, rejected = measured_slopes(a, b, lengths)
    contrast = theory.single_token_slopes(CONTRAST_PROB, CONTRAST_PROB)
    per_token = theory.peaked_suffix_slopes(a, b, VOCAB)
    columns: dict[str, Any] = {
        "a": a,
        "b": b,
        "suffix_length": lengths,
        "chosen_predicted": contrast[0] + lengths * per_token[0],
        "chosen_measured": chosen,
        "rejected_predicted": contrast[1] + lengths * per_token[1],
        "rejected_measured": rejected,
        "threshold_predicted": _threshold(a, b),
    }
    return {name: np.array(np.broadcast_to(column, lengths.shape)) for name, column in columns.items()}


def _threshold(a: float, b: float) -> Array:
    """Suffix length beyond which both slopes have one sign; for a < b, L* of the pair with its two sides exchanged."""
    return theory.threshold_length(CONTRAST_PROB, CONTRAST_PROB, max(a, b), min(a, b), VOCAB)


def measured_slopes(a: float, b: float, lengths: np.ndarray) -> tuple[Array, Array]:
    """Slopes of (log π_w, log π_l), in nats per unit of learning rate, for each suffix length."""
    return _measured_slopes(a, b, jnp.asarray(lengths))


@jax.jit
def _measured_slopes(a: Array, b: Array, lengths: Array) -> tuple[Array, Array]:
    suffix = jnp.full(LONGEST + 1, SUFFIX)
    prompt = jnp.zeros(1, int)
    after_chosen, after_rejected = (_logits(prob) for prob in (a, b))

    def one(length: Array) -> tuple[Array, Array]:
        mask = jnp.arange(LONGEST + 1) <= length
        chosen, rejected = (suffix.at[0].set(token) for token in (CHOSEN, REJECTED))
        pair = PreferencePairs(prompt, jnp.ones(1, bool), chosen, mask, rejected, mask)
        model = linear.positional_offset(VOCAB, pair, after_chosen, after_rejected)
        batch = jax.tree.map(lambda leaf: leaf[None], pair)
        slopes = gradients.slopes(model, jnp.zeros((VOCAB, LONGEST + 1)), batch)
        return slopes[0][0], slopes[1][0]

    return jax.vmap(one)(lengths)


def _logits(prob: Array) -> Array:
    """Uniform at the contrast position; later, `prob` for the suffix token and the rest spread evenly."""
    peaked = jnp.where(jnp.arange(VOCAB) == SUFFIX, jnp.log(prob), jnp.log((1 - prob) / (VOCAB - 1)))
    return jnp.tile(peaked, (LONGEST + 1, 1)).at[0].set(0.0)


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
