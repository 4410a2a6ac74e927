"""Pairs of one contrast token and n identical suffix tokens, in frozen logits with a learned positional offset.

The contrast token has probability p_w = p_l = 1/V; the model gives the suffix token probability a after the chosen and
b after the rejected one, and spreads the rest evenly.
"""

from dataclasses import replace

import jax.numpy as jnp
from jaxtyping import Array

from toymodel import PreferencePairs, gradients, theory
from toymodel.experiments.experiment import POSITIVE, Experiment, Row, real, setting, whole
from toymodel.models import linear

VOCAB = 20
LONGEST = 40
CONTRAST_PROB = 1 / VOCAB  # p_w = p_l
CHOSEN, REJECTED, SUFFIX = 0, 1, 2  # token ids
SIDES = ("chosen", "rejected")


@setting
class SuffixSetting:
    """A pair with a suffix of so many tokens."""

    a: float = real(None, POSITIVE)
    b: float = real(None, POSITIVE)
    suffix_length: int = whole(None, low=0, high=LONGEST)


def measure(setting: SuffixSetting) -> dict[str, Array]:
    """Slopes of log π_w and log π_l (nats per unit of learning rate), the Gram entries that make the chosen's
    (nats² per parameter unit²), and the suffix length where a slope turns.
    """
    chosen, rejected = ([[contrast] + [SUFFIX] * LONGEST] for contrast in (CHOSEN, REJECTED))
    longest = PreferencePairs.from_lists([[]], chosen, rejected, vocab_size=VOCAB)
    mask = (jnp.arange(LONGEST + 1) <= setting.suffix_length)[None]
    pairs = replace(longest, chosen_mask=mask, rejected_mask=mask)
    model = linear.positional_offset(VOCAB, pairs, *(_logits(prob)[None] for prob in (setting.a, setting.b)))
    params = jnp.zeros((VOCAB, LONGEST + 1))
    contrast = theory.single_token_slopes(CONTRAST_PROB, CONTRAST_PROB)
    per_token = theory.peaked_suffix_slopes(setting.a, setting.b, VOCAB)
    slopes = gradients.slopes(model, params, pairs)
    row: Row = {"threshold_predicted": _threshold(setting.a, setting.b)}
    for i, side in enumerate(SIDES):
        row[f"{side}_predicted"] = jnp.asarray(contrast[i] + setting.suffix_length * per_token[i])
        row[f"{side}_measured"] = slopes[i][0]
    grams = {"predicted": theory.pair_gram(model, params, pairs), "measured": gradients.pair_gram(model, params, pairs)}
    for how, gram in grams.items():
        row |= {f"chosen_sq_{how}": gram.chosen_sq[0], f"inner_{how}": gram.inner[0]}
    return row


def _logits(prob: float | Array) -> Array:
    """Uniform at the contrast position; later, `prob` for the suffix token and the rest spread evenly."""
    peaked = jnp.where(jnp.arange(VOCAB) == SUFFIX, jnp.log(prob), jnp.log((1 - prob) / (VOCAB - 1)))
    return jnp.tile(peaked, (LONGEST + 1, 1)).at[0].set(0.0)


def _threshold(a: float | Array, b: float | Array) -> Array:
    """Suffix length beyond which both slopes have one sign; for a < b, L* of the pair with its two sides exchanged."""
    return theory.threshold_length(CONTRAST_PROB, CONTRAST_PROB, jnp.maximum(a, b), jnp.minimum(a, b), VOCAB)


EXPERIMENT = Experiment("suffix_threshold", SuffixSetting, measure)


def lengths(quick: bool) -> range:
    """Of the suffixes that are shown."""
    return range(0, LONGEST + 1, 8 if quick else 2)
