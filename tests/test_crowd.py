"""T22: slopes of every pair of a crowd under the mean step of a batch of them, and the suffix length where they turn.

Measured along the step of the linear model of `toymodel.models.crowd`. Pairs outside the batch have the weight 0, so
that one compiled program serves every size of the batch.
"""

from dataclasses import replace
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import event, given
from hypothesis import strategies as st
from oracles import assert_close
from strategies import as_numpy, seeds

from toymodel import PreferencePairs, gradients, theory
from toymodel.models.crowd import Cosines, crowd
from toymodel.models.linear import LinearSoftmax, frozen_features

EPS = float(jnp.finfo(jnp.float64).eps)
SIZES = {"few": (4, 3, 2), "many": (66, 7, 5)}  # pairs, longest suffix, V
probabilities = st.floats(0.02, 0.98)
build = partial(jax.jit, static_argnames=("pairs", "suffix_length", "vocab_size"))(crowd)


class World(NamedTuple):
    pairs: PreferencePairs
    model: LinearSoftmax
    cosines: Cosines
    probs: tuple[float, float, float, float]  # p_w, p_l, a, b

    @property
    def shape(self):
        """Pairs, longest suffix, V."""
        n, T = self.pairs.chosen.shape
        return n, T - 1, self.model.vocab_size

    def formula(self, function, *arguments, batch_size=None):
        return function(*self.probs, self.shape[2], *arguments, self.cosines, batch_size)

    @property
    def roundoff(self):
        """Two dot products of V and d terms, a softmax of logits down to log 0.0002, the mean over n pairs."""
        n, longest, V = self.shape
        return 4 * EPS * (V + n * (1 + longest) + 2 * 9 + 2 * n)


def make(size, cosines, p_chosen=0.3, share=0.5, a=0.7, b=0.2):
    """The rejected word has this share of what the chosen one leaves; with two words, all of it."""
    pairs, longest, V = SIZES[size]
    p_rejected = (1 - p_chosen) * (1.0 if V == 2 else share)
    probs = {"p_chosen": p_chosen, "p_rejected": p_rejected, "a": a, "b": b}
    made, model = build(pairs=pairs, suffix_length=longest, cosines=cosines, vocab_size=V, **probs)
    return World(as_numpy(made), model, cosines, tuple(probs.values()))


@st.composite
def worlds(draw, size=None, *, for_any_number=False):
    """Cosines from the smallest to the largest that so many pairs, or any number of pairs, can have."""
    size = size or draw(st.sampled_from(list(SIZES)))
    n = SIZES[size][0]
    unit = st.floats(0, 1)
    lowest = (0, 0) if for_any_number else (-1 / (n / 2 - 1), -1 / (n - 1))
    same, suffix = (low + draw(unit) * (1 - low) for low in lowest)
    room = same if for_any_number else (1 + same * (n / 2 - 1)) / (n / 2)
    different = draw(st.floats(-1, 1)) * room
    return make(size, Cosines(same, different, suffix), *(draw(probabilities) for _ in range(4)))


def batches(n):
    return st.integers(0, n // 2).map(lambda half: max(1, 2 * half))


def measured(world, n, in_batch, pairs=None, model=None):
    """Slopes of chosen and of rejected, [2, pairs], with n suffix tokens under the mean step of those in the batch."""
    pairs = world.pairs if pairs is None else pairs
    model = world.model if model is None else model
    mask = np.broadcast_to(np.arange(pairs.chosen.shape[1]) <= n, pairs.chosen.shape)
    d = np.asarray(in_batch) * len(pairs) / np.sum(in_batch)
    responses, advantages = theory.as_group(replace(pairs, chosen_mask=mask, rejected_mask=mask), d, d)
    params = np.zeros((world.shape[2], model.features.shape[1]))
    return np.asarray(gradients.group_slopes(model, params, responses, advantages)).reshape(2, -1)


def first(world, batch_size):
    return np.arange(world.shape[0]) < batch_size


# --- Inside a batch, and outside ------------------------------------------------------------------------------------


@given(worlds(), st.data())
def test_t22_slopes_of_every_pair_in_the_batch(world, data):
    n, longest, _ = world.shape
    B, length = data.draw(batches(n)), data.draw(st.integers(0, longest))
    slopes = measured(world, length, first(world, B))[:, :B]
    predicted = np.array(world.formula(theory.crowd_slopes, length, batch_size=B))
    assert_close(slopes, predicted[:, None], 4 * (1 + length), world.roundoff)


@given(worlds("many", for_any_number=True), st.data())
def test_t22_slopes_of_an_unseen_pair_are_the_same_for_every_batch(world, data):
    n, longest, _ = world.shape
    B, length = 2 * data.draw(st.integers(1, n // 2 - 1)), data.draw(st.integers(0, longest))
    slopes = measured(world, length, first(world, B))[:, B:]
    predicted = np.array(world.formula(theory.crowd_slopes, length))
    assert_close(slopes, predicted[:, None], 4 * (1 + length), world.roundoff)


def assert_falls_beyond_the_threshold(world, B):
    """Every pair of the batch, and those outside it: at the last length before, and at the first beyond."""
    longest = world.shape[1]
    for batch_size, judged in ((B, first(world, B)), (None, ~first(world, B))):
        threshold = float(world.formula(theory.crowd_threshold, batch_size=batch_size))
        below = int(min(threshold, longest))
        for length in {below, min(below + 1, longest)}:
            slopes = measured(world, length, first(world, B))[0][judged]
            clear = abs(slopes) > 4 * (1 + length) * world.roundoff
            assert np.all(((slopes < 0) == (length > threshold))[clear])


@given(worlds("many", for_any_number=True), st.integers(1, 32))
def test_t22_the_chosen_falls_exactly_beyond_the_threshold(world, half):
    assert_falls_beyond_the_threshold(world, 2 * half)
    event(f"both sides of L*_B seen: {world.formula(theory.crowd_threshold, batch_size=2 * half) < world.shape[1]}")


@pytest.mark.parametrize("B", [2, 8, 64])
def test_t22_both_sides_of_the_threshold(B):
    """(a, b) = (.3, .1) and p_w = p_l: alone a pair survives five suffix tokens, in company two or three."""
    world = make("many", Cosines(0.6, 0.1, 1.0), 0.2, 0.25, 0.3, 0.1)
    assert_falls_beyond_the_threshold(world, B)
    alone, company = (float(world.formula(theory.crowd_threshold, batch_size=size)) for size in (1, B))
    assert 1 < company < 4 < 5 < alone < 6
    for threshold, size in ((company, B), (alone, 1)):
        below, beyond = (measured(world, int(threshold) + more, first(world, size))[0, :size] for more in (0, 1))
        assert np.all(below > 0)
        assert np.all(beyond < 0)


@given(worlds())
def test_t22_a_batch_of_one_is_t8(world):
    alone = theory.threshold_length(*world.probs, world.shape[2])
    assert world.formula(theory.crowd_threshold, batch_size=1) == alone
    assert theory.crowd_shares(world.cosines, 1) == (1, 1)


@given(worlds("many", for_any_number=True), st.integers(1, 2**40).map(lambda half: 2 * half))
def test_t22_large_batches_tend_to_the_unseen_pair(world, B):
    """The shares differ from their limits by (1 − ρ_s)/B and (1 − ρ_ψ)/B."""
    label, suffix = theory.crowd_shares(world.cosines, B)
    limit = theory.crowd_shares(world.cosines)
    assert_close(label - limit[0], (1 - world.cosines.same) / B, 1, 8 * EPS)
    assert_close(suffix - limit[1], (1 - world.cosines.suffix) / B, 1, 8 * EPS)


def test_t22_known_thresholds():
    alone = 95 / 14  # (a, b) = (.3, .1), V = 20
    setting = (0.05, 0.05, 0.3, 0.1, 20)
    assert_close(theory.crowd_threshold(*setting, Cosines(0.6, 0.1, 1.0), 8), alone * 0.3, 7, 8 * EPS)
    assert_close(theory.crowd_threshold(*setting, Cosines(0.6, 0.1, 1.0)), alone / 4, 7, 8 * EPS)
    for B in (2, 64):  # labels that no longer tell the words apart
        assert_close(theory.crowd_threshold(*setting, Cosines(0.3, 0.3, 1.0), B), alone * 0.7 / B, 7, 8 * EPS)


def test_t22_where_no_suffix_is_long_enough():
    cosines = Cosines(0.6, 0.1, 0.0)
    assert theory.crowd_threshold(0.3, 0.3, 0.7, 0.2, 5, cosines) == np.inf  # orthogonal suffixes leave others alone
    assert theory.crowd_threshold(0.3, 0.3, 0.7, 0.2, 5, cosines, 64) < np.inf  # but for the pair's own
    # The labels cancel altogether, and the suffix is likelier after the rejected: no division of infinity by nothing.
    assert theory.crowd_threshold(0.3, 0.3, 0.2, 0.7, 5, Cosines(1.0, 1.0, 1.0), 4) == np.inf
    assert theory.crowd_threshold(0.3, 0.3, 0.7, 0.2, 5, Cosines(1.0, 1.0, 1.0), 4) == 0


# --- What it needs, and what not ------------------------------------------------------------------------------------


@jax.jit
def rebuilt(pairs, model):
    """The model of these pairs with the features and logits of another's."""
    sides = [table.reshape(2, *pairs.chosen.shape, table.shape[-1]) for table in (model.features, model.frozen_logits)]
    return frozen_features(model.vocab_size, pairs, *sides[0], *sides[1])


@given(worlds("many"), seeds)
def test_t22_other_pairs_may_have_other_words_in_their_suffix(world, seed):
    """Where p and q are theirs too, (e_k − p) − (e_k − q) = q − p whatever the word."""
    B, (_, longest, V) = 8, world.shape
    other = np.random.default_rng(seed).integers(0, V, (len(world.pairs), longest))
    chosen, rejected = (
        np.concatenate([side[:, :1], np.where(np.arange(len(side))[:, None] > 0, other, side[:, 1:])], axis=1)
        for side in (world.pairs.chosen, world.pairs.rejected)
    )
    pairs = as_numpy(replace(world.pairs, chosen=chosen, rejected=rejected))
    slopes = measured(world, longest, first(world, B), pairs, rebuilt(pairs, world.model))[:, 0]
    predicted = world.formula(theory.crowd_slopes, longest, batch_size=B)
    assert_close(slopes, predicted, 4 * (1 + longest), world.roundoff)


@given(worlds("many"), st.integers(1, 33), st.integers(0, 33))
def test_t22_needs_labels_that_are_balanced(world, zeros, ones):
    """With B/2 + x pairs of its word, a pair's label has (ρ_s + ρ_d)x/B more; with B/2 − x, as much less."""
    number = np.arange(world.shape[0])
    in_batch = np.where(number % 2 == 0, number // 2 < zeros, number // 2 < ones)
    B, x = zeros + ones, (zeros - ones) / 2
    label, _ = theory.crowd_shares(world.cosines, 2)  # 1 + ρ_s(B/2 − 1) − ρ_d B/2, at B = 2 and with that many more
    balanced = (2 * label + (B / 2 - 1) * (world.cosines.same - world.cosines.different)) / B
    p_w, p_l, a, b = world.probs
    added = np.array(theory.peaked_suffix_slopes(a, b, world.shape[2]))[0] * (1 + world.cosines.suffix * (B - 1)) / B
    for word, sign in ((0, 1), (1, -1)):
        slopes = measured(world, 1, in_batch)[0][in_batch & (number % 2 == word)]
        missed = (1 - p_w + p_l) * sign * (world.cosines.same + world.cosines.different) * x / B
        assert_close(slopes - (1 - p_w + p_l) * balanced - added, missed, 8, world.roundoff)
    event(f"as many of each word: {x == 0}")


@given(worlds("many"), st.floats(0, 1), st.integers(0, 7), st.data())
def test_t22_needs_suffix_contexts_that_are_orthogonal_over_positions(world, cosine, length, data):
    """With cosine κ between positions each suffix token meets n − 1 others: the suffix counts 1 + (n − 1)κ times."""
    n, longest, _ = world.shape
    B = data.draw(batches(n))
    between = np.where(np.eye(longest), 1, cosine)
    values, vectors = np.linalg.eigh(between)
    mix = np.eye(1 + longest)
    mix[1:, 1:] = vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T
    table = np.asarray(world.model.features).reshape(2 * n, 1 + longest, 1 + longest, n)
    features = np.einsum("rtsn,su->rtun", table, mix).reshape(world.model.features.shape)
    slopes = measured(world, length, first(world, B), model=replace(world.model, features=features))[:, :B]
    predicted = np.array(world.formula(theory.crowd_slopes, length, batch_size=B))
    _, share = theory.crowd_shares(world.cosines, B)
    token = np.array(theory.peaked_suffix_slopes(*world.probs[2:], world.shape[2]))
    missed = length * (length - 1) * cosine * share * token
    assert_close(slopes - predicted[:, None], missed[:, None], 8 * (1 + length) ** 2, world.roundoff)


# --- Bad input ------------------------------------------------------------------------------------------------------

FINE = Cosines(0.6, 0.1, 0.5)
SETTING = (0.3, 0.3, 0.7, 0.2, 5)


def built(pairs=4, suffix_length=2, cosines=FINE, **changed):
    setting = {"vocab_size": 5, "p_chosen": 0.3, "p_rejected": 0.3, "a": 0.7, "b": 0.2}
    return crowd(pairs, suffix_length, cosines, **setting | changed)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: theory.crowd_shares(FINE, 0), "`batch_size` must be a whole number at least 1, got 0"),
        (
            lambda: theory.crowd_shares(FINE, 3),
            "`batch_size` must be even, as half of the pairs prefer each word, got 3",
        ),
        (lambda: theory.crowd_shares(FINE._replace(same=1.1), 2), r"`cosines.same` must be in \[-1, 1\] for 2 pairs"),
        (
            lambda: theory.crowd_shares(FINE._replace(same=-0.6), 6),
            r"`cosines.same` must be in \[-0.5, 1\] for 6 pairs, got -0.6",
        ),
        (lambda: theory.crowd_shares(FINE._replace(same=-0.1)), r"`cosines.same` must be in \[0, 1\] for many pairs"),
        (
            lambda: theory.crowd_shares(FINE._replace(suffix=-0.5), 4),
            r"`cosines.suffix` must be in \[-0.333, 1\] for 4 pairs, got -0.5",
        ),
        (lambda: theory.crowd_shares(FINE._replace(different=-0.7)), "`cosines.different` must be at most 0.6 in size"),
        (
            lambda: theory.crowd_shares(FINE._replace(different=0.9), 4),
            "`cosines.different` must be at most 0.8 in size",
        ),
        (lambda: theory.crowd_threshold(1.3, *SETTING[1:], FINE), r"`p_chosen` must be a probability in \[0, 1\]"),
        (lambda: theory.crowd_slopes(0.3, -1.0, 0.7, 0.2, 5, 1, FINE), r"`p_rejected` must be a probability"),
        (lambda: theory.crowd_threshold(0.3, 0.3, np.nan, 0.2, 5, FINE), r"`a` must be a probability in \[0, 1\]"),
        (lambda: theory.crowd_slopes(0.3, 0.3, 0.7, 2, 5, 1, FINE), r"`b` must be a probability in \[0, 1\], got 2"),
        (lambda: theory.crowd_slopes(*SETTING, -1, FINE), "`suffix_length` must be >= 0, got -1"),
        (lambda: theory.crowd_threshold(*SETTING[:4], 1, FINE), "`vocab_size` must be a whole number at least 2"),
        (lambda: built(pairs=5), "`pairs` must be even, as half of them prefer each word, got 5"),
        (lambda: built(suffix_length=-1), "`suffix_length` must be a whole number at least 0"),
        (
            lambda: built(cosines=FINE._replace(suffix=2)),
            r"`cosines.suffix` must be in \[-0.333, 1\] for 4 pairs, got 2",
        ),
        (lambda: built(a=1.0), r"`a` must be a probability in \(0, 1\), got 1.0"),
        (lambda: built(p_chosen=0.8), r"`p_chosen` \+ `p_rejected` must be below 1 for 5 tokens, got 1.1"),
        (lambda: built(vocab_size=2), r"`p_chosen` \+ `p_rejected` must be 1 for 2 tokens, got 0.6"),
    ],
)
def test_bad_crowds(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_plain_cosines_are_checked_inside_a_trace_too():
    @jax.jit
    def threshold(a):
        return (
            crowd(2, 1, Cosines(0.5, 0.1, 1.0), vocab_size=5, p_chosen=0.2, p_rejected=0.2, a=0.3, b=0.1)[1].features
            * a
        )

    assert jnp.isfinite(threshold(1.0)).all()
    with pytest.raises(ValueError, match=r"`cosines.suffix` must be in"):
        jax.jit(
            lambda a: (
                a
                * crowd(2, 1, Cosines(0.5, 0.1, 2.0), vocab_size=5, p_chosen=0.2, p_rejected=0.2, a=0.3, b=0.1)[
                    1
                ].features
            )
        )(1.0)
