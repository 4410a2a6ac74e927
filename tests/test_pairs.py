from dataclasses import replace
from operator import itemgetter

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import unpadded
from strategies import as_numpy

from toymodel import PreferencePairs, Vocabulary

tokens = st.lists(st.integers(0, 4), min_size=1, max_size=5)
prompts = st.lists(st.integers(0, 4), max_size=3)


both_responses = jax.jit(lambda pairs: pairs.both_responses)  # one program for each shape


@given(st.lists(st.tuples(prompts, tokens, tokens), min_size=1, max_size=4))
def test_both_responses_are_the_two_sides_in_one_array_of_any_widths(triples):
    prompt, chosen, rejected = map(list, zip(*triples, strict=True))
    pairs = PreferencePairs.from_lists(prompt, chosen, rejected, vocab_size=5)
    cut = max(map(len, chosen))  # may be narrower than the rejected side
    pairs = as_numpy(pairs)
    pairs = replace(pairs, chosen=pairs.chosen[:, :cut], chosen_mask=pairs.chosen_mask[:, :cut])
    for each in (pairs, pairs[0]):
        both = as_numpy(both_responses(each))
        both.check(vocab_size=5)
        for side, expected in enumerate((each.chosen_response, each.rejected_response)):
            for mask, array in (("mask", "tokens"), ("prompt_mask", "prompt")):
                got = jax.tree.map(itemgetter(side), both)
                assert unpadded(*map(np.atleast_2d, (getattr(got, array), getattr(got, mask)))) == unpadded(
                    *map(np.atleast_2d, (getattr(expected, array), getattr(expected, mask)))
                )


@given(st.lists(st.tuples(prompts, tokens, tokens), min_size=1, max_size=4))
def test_from_lists_keeps_every_token_and_nothing_else(triples):
    prompt, chosen, rejected = map(list, zip(*triples, strict=True))
    pairs = PreferencePairs.from_lists(prompt, chosen, rejected, vocab_size=5)
    pairs = as_numpy(pairs)
    assert unpadded(pairs.prompt, pairs.prompt_mask) == prompt
    assert unpadded(pairs.chosen, pairs.chosen_mask) == chosen
    assert unpadded(pairs.rejected, pairs.rejected_mask) == rejected
    assert len(pairs) == len(triples)
    swapped = pairs.swapped()
    assert unpadded(swapped.chosen, swapped.chosen_mask) == rejected
    for index, (_, response, _) in enumerate(triples):
        assert unpadded(pairs[index : index + 1].chosen, pairs[index : index + 1].chosen_mask) == [response]


def test_prompts_are_padded_on_the_left_and_responses_on_the_right():
    pairs = PreferencePairs.from_lists([[3], [1, 2]], [[4], [0, 1]], [[1, 2], [3]], vocab_size=5, length=3)
    assert pairs.prompt_mask.tolist() == [[False, True], [True, True]]
    assert pairs.chosen_mask.tolist() == [[True, False, False], [True, True, False]]


def test_pairs_are_a_pytree_that_survives_jit_and_vmap():
    pairs = PreferencePairs.from_lists([[], []], [[1], [2]], [[0], [1]], vocab_size=3)
    doubled = jax.jit(jax.vmap(lambda pair: jax.tree.map(lambda a: a, pair)))(pairs)
    assert jax.tree.structure(doubled) == jax.tree.structure(pairs)
    assert np.array_equal(doubled.chosen, pairs.chosen)
    assert len(jax.tree.leaves(pairs)) == 6


@given(st.lists(st.tuples(prompts, tokens, tokens), min_size=1, max_size=4))
def test_from_texts_is_from_lists_in_words(triples):
    vocabulary = Vocabulary.numbered(5)
    texts = [[vocabulary.decode(side) for side in sides] for sides in zip(*triples, strict=True)]
    pairs = PreferencePairs.from_texts(*texts, vocabulary=vocabulary)
    lists = PreferencePairs.from_lists(*map(list, zip(*triples, strict=True)), vocab_size=5)
    for one, other in zip(jax.tree.leaves(pairs), jax.tree.leaves(lists), strict=True):
        assert np.array_equal(one, other)
    for index, sides in enumerate(texts := list(zip(*texts, strict=True))):
        names = ("prompt", "chosen", "rejected")
        assert [" ".join(pairs[index].words(name)) for name in names] == list(texts[index]), sides


def test_a_vocabulary_is_made_of_the_texts_and_goes_with_the_pairs():
    pairs = PreferencePairs.from_texts(["a film"], ["good film"], ["bad"])
    assert pairs.vocabulary.tokens == ("good", "film", "bad", "a")
    for other in (pairs.swapped(), pairs[:1], pairs[0], jax.jit(lambda p: p)(pairs)):
        assert other.vocabulary == pairs.vocabulary
    assert pairs.swapped()[0].words("chosen") == ["bad"]


def test_indexing_beyond_the_end_raises_instead_of_clamping():
    pairs = PreferencePairs.from_lists([[]], [[1]], [[0]], vocab_size=3)
    with pytest.raises(IndexError, match="pair 1 of 1"):
        pairs[1]
    with pytest.raises(TypeError, match="batch of one"):
        len(pairs[0])


def test_pairs_are_counted_from_either_end_and_not_beyond():
    pairs = PreferencePairs.from_lists([[0], [1], [2]], [[1], [1], [1]], [[2], [2], [2]], vocab_size=3)
    assert [int(pairs[i].prompt[0]) for i in (-3, -2, -1)] == [0, 1, 2]
    for i in (-4, 3):
        with pytest.raises(IndexError, match=f"pair {i} of 3"):
            pairs[i]


@pytest.mark.parametrize("mask", [(True, False, True), (False, True, True), (False, False, True)])
def test_padding_of_responses_is_on_the_right_alone(mask):
    tokens, real, gap = jnp.zeros((1, 3), int), jnp.ones((1, 3), bool), jnp.array([mask])
    with pytest.raises(ValueError, match="`chosen_mask` must be False only in the padding, on the right"):
        PreferencePairs(tokens, real, tokens, gap, tokens, real).check(2)
    with pytest.raises(ValueError, match="`prompt_mask` must be False only in the padding, on the left"):
        PreferencePairs(tokens, gap[:, ::-1], tokens, real, tokens, real).check(2)
    PreferencePairs(tokens, jnp.array([[False, True, True]]), tokens, real, tokens, real).check(2)
    PreferencePairs(tokens, real, tokens, jnp.array([[True, True, False]]), tokens, real).check(2)
