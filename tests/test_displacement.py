"""Which remedies can still lower a pair's chosen response, if that pair is all there is, and by how little of a suffix.

The world is T8's: a contrast token of probability p_w and p_l = (1 − p_w)/(V − 1), then n suffix tokens that both
answers share, of probability a after the chosen one and b after the rejected one. All examples are one program.
"""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from toymodel import PreferencePairs, theory
from toymodel.losses import LOSSES
from toymodel.models import linear
from toymodel.remedies import (
    REMEDIES,
    Calibrated,
    CommonStep,
    Gated,
    LearnedMask,
    NormalisedPairs,
    NormalisedSides,
    OracleMask,
    RejectedMask,
    Split,
    VirtualSplit,
    WithLikelihood,
    WithPenalty,
)
from toymodel.training import train

V, LONGEST, RATE = 4, 8, 1e-7
DPO = LOSSES["dpo"](beta=2.0)  # d_w = d_l = 1 at the start
# By remedy: loss, update, and the fewest suffix tokens with which the chosen falls; None: it never does.
CASES = {
    "none": (DPO, None, 1),
    "likelihood": (WithLikelihood(DPO, 0.1), None, 1),
    "penalty": (WithPenalty(DPO, 5.0), None, 1),
    "gate": (Gated(DPO, 0.1), None, 2),
    "learned_mask": (DPO, LearnedMask(), 1),
    "chosen_first": (DPO, Split("chosen"), 1),
    "rejected_first": (DPO, Split("rejected"), 1),
    "fair_coin": (DPO, Split("coin"), 1),
    "virtual_split": (DPO, VirtualSplit(), 1),
    "normalised_pairs": (DPO, NormalisedPairs(), None),
    "normalised_sides": (DPO, NormalisedSides(), None),
    "calibration": (DPO, Calibrated(), None),
    "common_step": (DPO, CommonStep(), None),
    "damped_common_step": (DPO, CommonStep(1.0), 2),
    "oracle_mask": (DPO, OracleMask(), None),
    "rejected_mask": (DPO, RejectedMask(0.3), 1),
}
PROBABILITIES = [0.25, 0.5, 0.75, 0.9, 0.95]
EVERY = np.array(list(itertools.product(range(LONGEST), PROBABILITIES, PROBABILITIES, PROBABILITIES)))  # n, p_w, a, b


def slopes_of(loss, update, examples):
    """To first order, what a small step does to both log-probabilities, per unit of rate: [chosen and rejected, k]."""
    n, p_w, a, b = np.transpose(examples)[..., None]
    positions = np.arange(LONGEST)
    mask = (positions <= n)[:, None]
    chosen, rejected = (np.broadcast_to(np.where(positions == 0, first, 2), mask.shape) for first in (0, 1))
    empty = np.zeros((len(mask), 1, 0), int)
    pairs = PreferencePairs(empty, empty.astype(bool), chosen, mask, rejected, mask)

    def rows(token, probability):
        return np.where(np.arange(V) == token, np.log(probability), np.log((1 - probability) / (V - 1)))

    logits = [np.stack([rows(0, p_w)] + [rows(2, p)] * (LONGEST - 1), axis=1) for p in (a, b)]
    model = jax.vmap(functools.partial(linear.positional_offset, V))(pairs[:, 0], *logits)
    over = ("model", "pairs")
    run = train(model, jnp.zeros((V, LONGEST)), pairs, loss, optax.sgd, RATE, steps=1, update=update, over=over)
    found = [getattr(run.trajectory, f"{side}_predicted")[:, 0, 0] for side in ("chosen", "rejected")]
    return np.array(found) / RATE


@functools.cache
def slopes(name):
    """Slopes along a remedy in every example, [chosen and rejected, examples]: see `slopes_of`."""
    loss, update, _ = CASES[name]
    return slopes_of(loss, update, EVERY)


def test_the_world_is_that_of_the_threshold():
    """With DPO the chosen falls exactly beyond L* (T8)."""
    for p_w, a, b in ((0.9, 0.75, 0.25), (0.5, 0.75, 0.25), (0.95, 0.9, 0.5)):
        threshold = float(theory.threshold_length(p_w, (1 - p_w) / (V - 1), a, b, V))
        chosen, _ = slopes("none")[:, (EVERY[:, 1:] == (p_w, a, b)).all(axis=1)]
        assert (chosen < 0).tolist() == [n > threshold for n in range(LONGEST)]


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case[2] is not None])
def test_these_can_displace(name):
    """The smallest example has as few suffix tokens as stated, and with fewer none displaces."""
    chosen, _ = slopes(name)
    assert EVERY[chosen < -1e-9, 0].min() == CASES[name][2]


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case[2] is None])
def test_these_never_do(name):
    """Slopes are of order 0.01 and more wherever they are not 0 by definition."""
    chosen, rejected = slopes(name)
    assert (chosen > 1e-6).all()
    assert (rejected < -1e-6).all()


@given(example=st.sampled_from(EVERY.tolist()), strength=st.floats(0, 1))
def test_a_rejected_mask_turns_the_pull_of_suffix_tokens(example, strength):
    """T7 with weights 1 and 1 − κ: each token adds ⟨e − p, (e − p) − (1 − κ)(e − q)⟩ to the chosen.

    At κ = 1 it raises the chosen whatever the probabilities, and the rejected as well, so that their order can turn.
    """
    n, p_w, a, b = example
    pull = ((1 - a) - (1 - strength) * (1 - b)) * V / (V - 1)
    alone, found = slopes_of(DPO, RejectedMask(strength), [(0, p_w, a, b), example]).T
    # `slopes_of` divides changes of parameters that are near 1e-7 by a rate of 1e-7, and none of these exceeds 10.
    np.testing.assert_allclose(found - alone, n * pull * np.array([1 - a, 1 - b]), rtol=0, atol=1e-12)
    if strength == 1:
        assert found[0] >= alone[0] > 0
        assert found[1] >= alone[1]


def test_every_remedy_that_acts_on_one_pair_is_here():
    assert set(CASES) == {name for name, remedy in REMEDIES.items() if not (remedy.pairs or remedy.fit_both)}
