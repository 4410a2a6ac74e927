"""The pairs of `toymodel.suffix_pair` at every suffix length: predicted and measured slopes and Gram entries."""

import jax.numpy as jnp
from jaxtyping import Array

from toymodel import gradients, suffix_pair, theory
from toymodel.experiments.experiment import POSITIVE, Experiment, Row, real, setting, whole

VOCAB = 20
LONGEST = 40
CONTRAST_PROB = 1 / VOCAB  # p_w = p_l
SIDES = ("chosen", "rejected")


@setting
class SuffixSetting:
    """A pair and the length of its suffix."""

    a: float = real(None, POSITIVE)
    b: float = real(None, POSITIVE)
    suffix_length: int = whole(None, low=0, high=LONGEST)


def measure(setting: SuffixSetting) -> dict[str, Array]:
    """Slopes of log π_w and log π_l (nats per unit of learning rate), the Gram entries that make the chosen's
    (nats² per parameter unit²), and the suffix length where a slope turns.
    """
    pair = suffix_pair(setting.suffix_length, setting.a, setting.b, vocab_size=VOCAB, longest=LONGEST)
    contrast = theory.single_token_slopes(CONTRAST_PROB, CONTRAST_PROB)
    per_token = theory.peaked_suffix_slopes(setting.a, setting.b, VOCAB)
    slopes = gradients.slopes(*pair)
    row: Row = {"threshold_predicted": _threshold(setting.a, setting.b)}
    for i, side in enumerate(SIDES):
        row[f"{side}_predicted"] = jnp.asarray(contrast[i] + setting.suffix_length * per_token[i])
        row[f"{side}_measured"] = slopes[i][0]
    grams = {"predicted": theory.pair_gram(*pair), "measured": gradients.pair_gram(*pair)}
    for how, gram in grams.items():
        row |= {f"chosen_sq_{how}": gram.chosen_sq[0], f"inner_{how}": gram.inner[0]}
    return row


def _threshold(a: float | Array, b: float | Array) -> Array:
    """Suffix length beyond which both slopes have one sign; for a < b, L* of the pair with its two sides exchanged."""
    return theory.threshold_length(CONTRAST_PROB, CONTRAST_PROB, jnp.maximum(a, b), jnp.minimum(a, b), VOCAB)


EXPERIMENT = Experiment("suffix_threshold", SuffixSetting, measure)


def lengths(quick: bool) -> range:
    """Lengths of the suffixes that are shown."""
    return range(0, LONGEST + 1, 8 if quick else 2)
