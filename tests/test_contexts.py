"""What is taken from a network's contexts for T22: exact where its assumptions hold, repaired one by one where not."""

from dataclasses import replace
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import assert_close
from strategies import as_numpy

from toymodel import gradients, theory
from toymodel.data import sentiment
from toymodel.experiments import contexts, crowd
from toymodel.experiments.contexts import ASSUMPTIONS, Contexts
from toymodel.experiments.sentiment import Reference, draw_network
from toymodel.models.crowd import Cosines
from toymodel.models.crowd import crowd as make_crowd
from toymodel.models.linear import frozen_features

EPS = float(jnp.finfo(jnp.float64).eps)
PAIRS, TRAINING, LONGEST, V = 12, 8, 3, 5
LENGTHS = np.arange(LONGEST + 1.0)
PROBS = (0.5, 0.2, 0.7, 0.4)
COSINES = Cosines(0.6, -0.2, 0.7)
# Dot products of V · d = 240 entries, a softmax, means over 8 · 4 pairs, sums over 16 pairs of positions.
ROUNDOFF = 4 * EPS * (240 + V + 32 + 16)

build = jax.jit(make_crowd, static_argnames=("pairs", "suffix_length", "vocab_size"))
estimate = jax.jit(contexts.estimate)
drop_assumptions = jax.jit(contexts.drop_assumptions)
read_contexts = jax.jit(contexts.read_contexts)
mean_slopes = jax.jit(crowd.mean_slopes)


def world(cosines=COSINES, probs=PROBS):
    """A crowd's pairs, features and logits, [2, n, T, …]."""
    names = ("p_chosen", "p_rejected", "a", "b")
    probs = dict(zip(names, map(float, probs), strict=True))
    pairs, model = build(pairs=PAIRS, suffix_length=LONGEST, cosines=cosines, vocab_size=V, **probs)
    shape = (2, PAIRS, LONGEST + 1, -1)
    return as_numpy(pairs), np.array(model.features).reshape(shape), np.array(model.frozen_logits).reshape(shape)


def told(pairs, features, logits):
    """What is read of it: contexts of the pairs to judge, and of those that train."""
    tokens = np.stack([pairs.chosen, pairs.rejected])
    whole = Contexts(jnp.asarray(features), jax.nn.softmax(jnp.asarray(logits)), jnp.asarray(tokens))
    parts = (slice(TRAINING, None), slice(None, TRAINING))
    return tuple(Contexts(*(leaf[:, part] for leaf in whole)) for part in parts)


def measured(pairs, features, logits):
    """The mean chosen's slope of the pairs outside the batch, by length, along the step of the linear model."""
    model = frozen_features(V, pairs, *features, *logits)
    d = np.where(np.arange(PAIRS) < TRAINING, PAIRS / TRAINING, 0)
    slopes = []
    for n in LENGTHS:
        kept = crowd.keep_words(pairs, int(n))
        group = theory.as_group(kept, d, d)
        slopes.append(gradients.group_slopes(model, np.zeros((V, features.shape[-1])), *group)[TRAINING:PAIRS].mean())
    return np.array(slopes)


@given(st.floats(0, 1), st.floats(-1, 1), st.floats(0.05, 1), st.lists(st.floats(0.05, 0.9), min_size=4, max_size=4))
def test_t22_estimates_and_formula_are_exact_in_a_crowd(same, different, suffix, probs):
    probs[1] *= 1 - probs[0]
    cosines = Cosines(same, different * same, suffix)
    judged, training = told(*world(cosines, probs))
    found = estimate(judged, training)
    assert_close(np.array(found[:4]), probs, 1, ROUNDOFF)
    assert_close(np.array(found.cosines), cosines, 1, ROUNDOFF)
    assert_close(found.between, 0, 1, ROUNDOFF / suffix)
    expected = theory.crowd_slopes(*probs, V, LENGTHS, cosines)[0]
    assert_close(drop_assumptions(judged, training, LENGTHS), np.tile(expected, (len(ASSUMPTIONS), 1)), 8, ROUNDOFF)


def broken(assumption):
    """The world without one of T22's assumptions, and with all that come after it."""
    pairs, features, logits = world()
    if assumption == "orthogonal positions":
        mix = np.eye(LONGEST + 1)
        mix[1:, 1:] = np.linalg.cholesky(np.where(np.eye(LONGEST), 1, 0.4))  # rows are unit vectors of cosine 0.4
        blocks = features.reshape(*features.shape[:3], LONGEST + 1, PAIRS)
        features = np.einsum("entsu,sr->entru", blocks, mix).reshape(features.shape)
    if assumption == "unit norms":
        features[:, :, 1:] *= 1.5
    if assumption == "peaked probabilities":
        logits[:, :, 1:, 0] += np.array([1.0, -0.5])[:, None, None]
    if assumption == "the same in all pairs":
        logits[0, :2, 1:, -1] += 1.0  # of pairs that train
    if assumption == "one context in both answers":
        features[1, :, 1:] = features[1, :, 1:] * 0.5 + np.roll(features[1, :, 1:], 1, axis=-1) * 0.1
    return pairs, features, logits


@pytest.mark.parametrize("place", range(len(ASSUMPTIONS)), ids=ASSUMPTIONS)
def test_t22_what_is_dropped_is_what_the_network_does_not_keep(place):
    """Rows before it miss the measured slope, it and all rows after it have it."""
    here = broken(ASSUMPTIONS[place])
    rows, slopes = np.array(drop_assumptions(*told(*here), LENGTHS)), measured(*here)
    assert_close(rows[place:], np.broadcast_to(slopes, rows[place:].shape), 8, ROUNDOFF)
    assert (abs(rows[:place] - slopes).max(axis=1) > 0.01).all()


@cache
def small(model):
    """A random network, and a reference on it whose suffixes are drawn."""
    setting = crowd.CrowdSetting(model=model, dim=4, hidden_dim=6, layers=1, supervised_prompts=64, mark_steps=2)
    model, params = jax.jit(draw_network)(setting, jax.random.key(1))
    prompts = sentiment.draw_prompts(jax.random.key(2), 20)
    pairs = as_numpy(sentiment.sentiment_pairs(jax.random.key(3), prompts, "long_suffix", suffix_fit=0.7))
    return setting, Reference(model, params, pairs[:12], pairs[12:])


@pytest.mark.parametrize("model", ["transformer", "ngram_mlp"])
def test_the_last_row_is_the_slope_of_a_network_through_its_head(model):
    _, reference = small(model)
    network, params = reference.network, jax.jit(reference.to_measure)(reference.params)
    judged, training = reference.evaluation, reference.training
    rows = drop_assumptions(
        *(read_contexts(network, params, pairs) for pairs in (judged, training)), np.array([0.0, 3, 8])
    )
    for place, n in enumerate((0, 3, 8)):
        of_head, of_all = mean_slopes(network, params, crowd.keep_words(judged, n), crowd.keep_words(training, n))
        # Float64 sums of 9 · 9 · 28 · 6 products of numbers up to 10.
        assert_close(rows[-1, place], of_head, 10, EPS * 1e5)
        assert abs(of_head - of_all) > 0.01


def test_slopes_of_all_parameters_are_those_of_the_group():
    _, reference = small("ngram_mlp")
    network, params = reference.network, reference.to_measure(reference.params)
    judged, training = (crowd.keep_words(pairs, 3) for pairs in (reference.evaluation, reference.training))
    both = jax.tree.map(lambda *leaves: np.concatenate(leaves), judged, training)
    d = np.where(np.arange(len(both)) < len(judged), 0, len(both) / len(training))
    slopes = gradients.group_slopes(network, params, *theory.as_group(both, d, d))
    # As above.
    assert_close(slopes[: len(judged)].mean(), mean_slopes(network, params, judged, training)[1], 10, EPS * 1e5)


def test_marked_answers_have_the_mark_as_often_as_they_should():
    suffixes = np.array(crowd._draw_suffixes(jax.random.key(0), (500, 8), 0.3))
    kind, counts = np.unique(suffixes, return_counts=True)
    assert len(kind) == len(sentiment.PRAISE) + len(sentiment.BLAME)
    # Five standard deviations of 4000 draws.
    assert abs(counts[kind == crowd.MARK][0] - 1200) < 5 * (4000 * 0.3 * 0.7) ** 0.5
    assert (abs(counts[kind != crowd.MARK] - 2800 / 11) < 5 * (2800 / 11) ** 0.5).all()


def test_a_marked_reference_keeps_prompts_and_labels():
    setting, reference = small("ngram_mlp")
    marked = crowd.mark(replace(setting, seed=5), reference)
    assert not np.array_equal(marked.params, reference.params)
    for one, other in ((marked.training, reference.training), (marked.evaluation, reference.evaluation)):
        np.testing.assert_array_equal(one.prompt, other.prompt)
        for side in ("chosen", "rejected"):
            np.testing.assert_array_equal(getattr(one, side)[:, 0], getattr(other, side)[:, 0])
            assert (getattr(one, side)[:, 1:] == crowd.MARK).all()


def test_words_beyond_the_length_are_padding():
    _, reference = small("ngram_mlp")
    kept = crowd.keep_words(reference.training, 3)
    for mask in (kept.chosen_mask, kept.rejected_mask):
        np.testing.assert_array_equal(mask.sum(axis=1), 4)
        assert mask[:, :4].all()
