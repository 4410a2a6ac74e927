"""Shows how the suffix length beyond which the chosen falls shrinks with the number of pairs in a step."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from matplotlib.figure import Figure

from figures import style
from figures.sweeps import Swept
from toymodel import gradients, theory
from toymodel.experiments.experiment import Row, one_of, real, setting, whole
from toymodel.models import linear
from toymodel.models.crowd import Cosines, crowd
from toymodel.sweep import Experiment, make_sweep

VOCAB, PAIRS, LONGEST = 20, 66, 8  # tokens, pairs in all, suffix tokens
PROBS = {"p_chosen": 1 / VOCAB, "p_rejected": 1 / VOCAB, "a": 0.3, "b": 0.1}
BATCHES, QUICK_BATCHES = (1, 2, 4, 8, 16, 32, 64), (1, 2, 8, 64)
# What pairs have in common. A learned offset is one and the same vector for all pairs.
CROWDS = {
    "labels told apart": Cosines(0.6, 0.1, 1.0),
    "labels alike": Cosines(0.3, 0.3, 1.0),
    "suffixes nearly apart": Cosines(0.6, 0.1, 0.3),
    "learned offset": Cosines(1.0, 1.0, 1.0),
}
MODELS = ("features", "offset")
LOOKS = {
    "labels told apart": style.Look(style.BLUE, "o", "-"),
    "labels alike": style.Look(style.ORANGE, "s", "--"),
    "suffixes nearly apart": style.Look(style.GREEN, "^", "-."),
    "learned offset": style.Look(style.PURPLE, "D", ":"),
}
JUDGED = {"in the batch": "a pair of the batch", "unseen": "a pair outside it"}


@setting
class CrowdSetting:
    """The pairs that make the step, and the cosines of their contexts."""

    model: str = one_of(MODELS, "features")
    batch_size: int = whole(None, low=1, high=PAIRS - 2)
    same: float = real(None)
    different: float = real(None)
    suffix: float = real(None)


def measure(setting: CrowdSetting) -> Row:
    """The suffix length beyond which the chosen of the first pair, and of the last, falls under the mean step."""
    cosines = Cosines(setting.same, setting.different, setting.suffix)
    pairs, model = crowd(PAIRS, LONGEST, cosines, vocab_size=VOCAB, **PROBS)
    if setting.model == "offset":
        assert model.frozen_logits is not None
        model = linear.positional_offset(VOCAB, pairs, *model.frozen_logits.reshape(2, *pairs.chosen.shape, VOCAB))
    params = jnp.zeros((VOCAB, model.features.shape[1]))
    d = jnp.where(jnp.arange(PAIRS) < setting.batch_size, PAIRS / setting.batch_size, 0)

    def slopes(length: Array) -> Array:
        mask = jnp.broadcast_to(jnp.arange(LONGEST + 1) <= length, pairs.chosen.shape)
        group = theory.as_group(replace(pairs, chosen_mask=mask, rejected_mask=mask), d, d)
        return gradients.group_slopes(model, params, *group)[jnp.array([0, PAIRS - 1])]

    by_length = jax.lax.map(slopes, jnp.arange(LONGEST + 1))
    return {"threshold_measured": jax.vmap(_turn, in_axes=1)(by_length)}


def _turn(slopes: Array) -> Array:
    """Where the slope changes sign: between whole lengths it is linear, as each suffix token adds the same."""
    beyond = jnp.maximum(jnp.argmax(slopes < 0), 1)
    before, after = slopes[beyond - 1], slopes[beyond]
    return jnp.where(after < 0, beyond - 1 + before / (before - after), jnp.inf)


EXPERIMENT = Experiment("crowd_threshold", CrowdSetting, measure, block=4)


def compute(quick: bool, swept: Swept) -> style.Table:
    sizes = QUICK_BATCHES if quick else BATCHES
    tables = []
    for name, cosines in CROWDS.items():
        model = "offset" if name == "learned offset" else "features"
        grid = {"model": model, "batch_size": sizes, **cosines._asdict()}
        # Digits beyond these are round-off, and not those of another machine.
        measured = np.round(swept(make_sweep(EXPERIMENT, grid))["threshold_measured"], 12) + 0.0
        for side, judged in enumerate(JUDGED):
            # With one pair in the batch, a pair outside it has no balanced labels to meet.
            shown = [i for i, size in enumerate(sizes) if side == 0 or size > 1]
            predicted = [
                theory.crowd_threshold(
                    **PROBS, vocab_size=VOCAB, cosines=cosines, batch_size=None if side else sizes[i]
                )
                for i in shown
            ]
            tables.append(
                {
                    "crowd": np.full(len(shown), name),
                    "judged": np.full(len(shown), judged),
                    "batch_size": np.array(sizes)[shown],
                    "predicted": np.array(predicted, float),
                    "measured": measured[shown, side],
                }
            )
    return style.stacked(*tables)


def draw(table: style.Table) -> Figure:
    figure = Figure(figsize=(style.PAGE, 2.6))
    axes = figure.subplots(1, 2, sharex=True, sharey=True)
    for ax, (judged, title) in zip(axes, JUDGED.items(), strict=True):
        for name, look in LOOKS.items():
            part = style.rows(table, crowd=name, judged=judged)
            style.curve(ax, part["batch_size"], part["predicted"], part["measured"], look)
        ax.set_xscale("log", base=2)
        ax.set(title=title, xlabel="pairs in the step, B", xticks=BATCHES, xticklabels=BATCHES)
    axes[0].set_ylabel("threshold L*_B (suffix tokens)")
    style.legend(figure, LOOKS, ncols=4)
    return figure
