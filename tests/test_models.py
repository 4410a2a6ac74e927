"""The linear softmax models: what they look at, how sure they are, and their log-probabilities."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import assert_close, unpadded
from scipy.special import log_softmax, softmax
from strategies import MODELS, pairs_of, seeds, world, worlds

from toymodel import PreferencePairs, contrast_pairs, gradients, theory
from toymodel.models import linear
from toymodel.models.logps import log_softmax_at, pair_logps, response_logp, token_logps

of_tokens_and_response = jax.jit(lambda *given: (token_logps(*given), response_logp(*given)))
logits = jax.jit(lambda model, params, response: model.logits(params, response))


@given(worlds())
def test_log_probabilities_are_those_of_the_softmax(w):
    pair = w.pairs[0]
    states = w.states[0]
    reference = log_softmax(states.logits, axis=-1)[np.arange(states.tokens.size), states.tokens]
    logps, total = map(np.asarray, of_tokens_and_response(w.model, w.params, pair.chosen_response))
    assert_close(logps, np.where(states.mask, reference, 0), 1 + abs(reference), w.roundoff)
    assert_close(total, logps.sum(), 1 + abs(logps).sum(), w.roundoff)
    assert_close(pair_logps(w.model, w.params, w.pairs)[0][0], logps.sum(), 1 + abs(logps).sum(), w.roundoff)


@jax.jit
@jax.grad
def gradient_of_first(z):
    return log_softmax_at(z[None], jnp.zeros(1, int))[0]


@given(st.floats(0, 700))
def test_gradient_of_a_nearly_certain_token_keeps_its_digits(gap):
    """Two tokens, logits (gap, 0): d log p_0/dz_0 = p_1 = 1/(1 + e^gap), far below the resolution of 1 − p_0."""
    gradient = gradient_of_first(np.array([gap, 0.0]))
    exact = np.exp(-gap) / (1 + np.exp(-gap))
    assert_close(gradient, [exact, -exact], exact, 1e-13)  # exp of 700 loses 700 unit round-offs
    assert exact > 0


@given(worlds(), st.data())
def test_logits_depend_on_earlier_tokens_only(w, data):
    response = w.pairs[0].chosen_response
    place = data.draw(st.integers(0, response.tokens.size - 1))
    token = data.draw(st.integers(0, w.model.vocab_size - 1))
    changed = np.array(response.tokens)
    changed[place] = token
    both = (np.asarray(logits(w.model, w.params, r)) for r in (response, replace(response, tokens=changed)))
    before, after = (z[: place + 1] for z in both)
    np.testing.assert_array_equal(before, after)


@given(worlds(), seeds)
def test_padding_changes_nothing(w, seed):
    """Tokens under the mask are noise: no log-probability of a real token depends on them."""
    rng = np.random.default_rng(seed)
    noise = [rng.integers(0, w.model.vocab_size, a.shape) for a in (w.pairs.chosen, w.pairs.rejected)]
    noisy = replace(
        w.pairs,
        chosen=np.where(w.pairs.chosen_mask, w.pairs.chosen, noise[0]),
        rejected=np.where(w.pairs.rejected_mask, w.pairs.rejected, noise[1]),
    )
    for before, after in zip(pair_logps(w.model, w.params, w.pairs), pair_logps(w.model, w.params, noisy), strict=True):
        np.testing.assert_array_equal(before, after)


def test_every_model_by_name_is_the_one_of_its_constructor():
    key, pairs = jax.random.key(3), contrast_pairs(jax.random.key(0), 2, vocab_size=5, length=4)
    wanted = {
        "unigram": linear.unigram(5),
        "positional": linear.positional(5, 4),
        "bigram": linear.bigram(5),
        "prefix": linear.prefix(5, pairs),
        "random_features": linear.random_features(key, 5, pairs, dim=3, correlation=0.2),
        "positional_offset": linear.random_offset(key, 5, pairs, temperature=2.0),
    }
    assert list(linear.MODELS) == list(wanted)
    for name, model in wanted.items():
        found = linear.MODELS[name](key, 5, pairs, dim=3, correlation=0.2, temperature=2.0)
        assert jax.tree.structure(found) == jax.tree.structure(model)
        for ours, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(model), strict=True):
            np.testing.assert_array_equal(ours, theirs)


@given(worlds(temperature=st.just(float("inf"))))
def test_temperature_infinity_is_exactly_uniform(w):
    probabilities = softmax(w.states[0].logits, axis=-1)
    np.testing.assert_array_equal(probabilities, np.full(probabilities.shape, 1 / w.model.vocab_size))


@pytest.mark.parametrize("kind", MODELS)
def test_low_temperature_is_nearly_deterministic(kind):
    pairs = PreferencePairs.from_lists([[0]], [[0, 1, 2, 0]], [[1, 1, 2, 0]], vocab_size=3)
    w = world(kind, pairs, 3, seed=0, temperature=0.003)
    assert min(softmax(states.logits, axis=-1).max() for states in w.states) > 1 - 1e-9


def test_which_contexts_are_shared():
    """chosen = (0, 1, 1), rejected = (2, 1, 1) after prompt 2: rows of each model's table at the three positions."""
    pairs = PreferencePairs.from_lists([[2]], [[0, 1, 1]], [[2, 1, 1]], vocab_size=3)
    rows = {
        kind: [s.contexts.tolist() for s in world(kind, pairs, 3).states]
        for kind in ("unigram", "positional", "bigram", "prefix")
    }
    assert rows["unigram"] == [[0, 0, 0], [0, 0, 0]]
    assert rows["positional"] == [[0, 1, 2], [0, 1, 2]]
    assert rows["bigram"] == [[2, 0, 1], [2, 2, 1]]
    assert rows["prefix"] == [[0, 1, 2], [0, 4, 5]]


def test_bigram_has_a_row_for_an_empty_prompt():
    pairs = PreferencePairs.from_lists([[], [1]], [[0], [0]], [[1], [1]], vocab_size=3)
    model = linear.bigram(3)
    assert [int(model.contexts(pairs[i].chosen_response)[0]) for i in range(2)] == [3, 1]


def test_a_prefix_never_seen_is_uniform():
    seen = PreferencePairs.from_lists([[0]], [[0, 1]], [[1, 1]], vocab_size=3)
    unseen = PreferencePairs.from_lists([[0]], [[2, 1]], [[2, 2]], vocab_size=3)
    model = linear.prefix(3, seen)
    params = linear.init_params(jax.random.key(0), model)
    logits = model.logits(params, unseen[0].chosen_response)
    assert not np.array_equal(logits[0], np.zeros(3))  # the prompt alone was seen
    np.testing.assert_array_equal(logits[1], np.zeros(3))


@given(pairs_of(5, 6), seeds, st.floats(-1, 1))
def test_random_features_have_the_correlation_that_was_asked_for(pairs, seed, correlation):
    w = world("random_features", pairs, 5, seed=seed, correlation=correlation)
    chosen, rejected = w.states
    cosines = (chosen.features * rejected.features).sum(axis=1)
    both = chosen.mask & rejected.mask
    expected = np.where(chosen.contexts == rejected.contexts, 1.0, correlation)
    assert_close(np.where(both, cosines, 0), np.where(both, expected, 0), 1, 1e-14)  # unit vectors of 4 entries
    assert_close(np.where(chosen.mask, np.linalg.norm(chosen.features, axis=1), 1), 1, 1, 1e-14)


def test_random_features_refuse_contexts_shared_between_pairs():
    pairs = PreferencePairs.from_lists([[0], [0]], [[0, 1], [1, 1]], [[2, 1], [2, 1]], vocab_size=3)
    with pytest.raises(ValueError, match="different prompts"):
        linear.random_features(jax.random.key(0), 3, pairs, dim=3, correlation=0.5)
    apart = PreferencePairs.from_lists([[0], [1]], [[0, 1], [1, 1]], [[2, 1], [2, 1]], vocab_size=3)
    linear.random_features(jax.random.key(0), 3, apart, dim=3, correlation=0.5)


def test_a_batch_of_pairs_and_a_stack_of_models():
    """One model for many pairs, or one model per pair by vmap: the same numbers."""
    pairs = contrast_pairs(jax.random.key(0), 3, vocab_size=9, length=4, prompt_length=6)
    model = linear.prefix(9, pairs)
    params = linear.init_params(jax.random.key(1), model)
    batched = pair_logps(model, params, pairs)
    stacked = jax.vmap(lambda pair: response_logp(model, params, pair.chosen_response))(pairs)
    assert_close(batched[0], stacked, abs(stacked), 1e-14)


def test_prefixes_never_seen_add_nothing_to_an_inner_product():
    seen = PreferencePairs.from_lists([[0]], [[0, 1]], [[1, 1]], vocab_size=3)
    unseen = PreferencePairs.from_lists([[1]], [[0, 1]], [[0, 2]], vocab_size=3)
    model = linear.prefix(3, seen)
    params = linear.init_params(jax.random.key(0), model)
    for inner in (
        gradients.pair_gram(model, params, unseen).inner,
        theory.pair_gram(model, params, unseen).inner,
        theory.tabular_inner(model, params, unseen),
    ):
        np.testing.assert_array_equal(inner, [0.0])


def test_padding_adds_no_context_to_a_prefix_table():
    """What would follow a finished response was never seen, even though its row is computed."""
    short = PreferencePairs.from_lists([[0]], [[0, 1]], [[1, 1]], vocab_size=3, length=4)
    longer = PreferencePairs.from_lists([[0]], [[0, 1, 2]], [[1, 1, 2]], vocab_size=3, length=4)
    rows = linear.prefix(3, short).contexts(longer[0].chosen_response)
    assert rows.tolist() == [0, 1, 8, 8]


prefix_of_three = jax.jit(partial(linear.prefix, 3))
contexts = jax.jit(lambda model, response: model.contexts(response))


@given(pairs_of(3, 6), st.data())
def test_prefix_rows_are_equal_exactly_when_the_prefixes_are(pairs, data):
    """Against plain comparison of lists, for both responses of the pair and for one that was never seen."""
    ((chosen, rejected),) = zip(
        unpadded(pairs.chosen, pairs.chosen_mask), unpadded(pairs.rejected, pairs.rejected_mask), strict=True
    )
    stranger = data.draw(st.lists(st.integers(0, 2), min_size=1, max_size=6))
    prompt = pairs.prompt[0].tolist()
    others = PreferencePairs.from_lists([prompt], [stranger], [stranger], vocab_size=3, length=6)
    model = prefix_of_three(pairs)
    rows = {}
    for tokens, response in (
        (chosen, pairs[0].chosen_response),
        (rejected, pairs[0].rejected_response),
        (stranger, others[0].chosen_response),
    ):
        for i, row in enumerate(contexts(model, response).tolist()[: len(tokens)]):
            seen = any(tokens[:i] == known[:i] for known in (chosen, rejected) if i < len(known))
            expected = rows.setdefault(tuple(tokens[:i]), row) if seen else model.features.shape[0]
            assert row == expected
    assert len(set(rows.values())) == len(rows)


def test_a_shorter_prompt_finds_its_prefixes():
    """Prompts are padded on the left, so a batch with shorter prompts meets the same table."""
    wide = PreferencePairs.from_lists([[1, 2], [2]], [[0], [0]], [[1], [1]], vocab_size=3)
    narrow = PreferencePairs.from_lists([[2]], [[0]], [[1]], vocab_size=3)
    model = linear.prefix(3, wide)
    assert model.contexts(narrow[0].chosen_response) == model.contexts(wide[1].chosen_response)
