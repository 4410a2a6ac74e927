"""Each family keeps the numbers it promises, in every pair, counted independently."""

import inspect
from collections import Counter

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import indel_distance, unpadded
from strategies import pairs_of, seeds

from toymodel import bag_pairs, contrast_pairs, edit_pairs, overlap, positional_pairs, prefix_pairs
from toymodel.data import FAMILIES

N = 5
vocab_sizes = st.sampled_from([2, 3, 64])
lengths = st.sampled_from([2, 7])


def lists(pairs):
    return zip(unpadded(pairs.chosen, pairs.chosen_mask), unpadded(pairs.rejected, pairs.rejected_mask), strict=True)


def common_start(a, b):
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


@given(pairs_of(4, 7))
def test_overlap_numbers_against_plain_counting(pairs):
    found = overlap(pairs)
    ((chosen, rejected),) = lists(pairs)
    assert found.matches[0] == sum(a == b for a, b in zip(chosen, rejected, strict=False))
    assert found.prefix[0] == common_start(chosen, rejected)
    assert found.suffix[0] == common_start(chosen[::-1], rejected[::-1])
    assert found.bag[0] == (Counter(chosen) & Counter(rejected)).total()
    assert found.edit_distance[0] == indel_distance(chosen, rejected)


@given(pairs_of(4, 7))
def test_overlap_is_symmetric(pairs):
    assert overlap(pairs) == overlap(pairs.swapped())


@given(seeds, vocab_sizes, lengths, st.data())
def test_positional(seed, V, L, data):
    k = data.draw(st.integers(0, L))
    pairs = positional_pairs(jax.random.key(seed), N, vocab_size=V, length=L, matches=k)
    pairs.check(V)
    assert overlap(pairs).matches.tolist() == [k] * N


@given(seeds, vocab_sizes, lengths, st.data())
def test_prefix(seed, V, L, data):
    k = data.draw(st.integers(0, L))
    found = overlap(prefix_pairs(jax.random.key(seed), N, vocab_size=V, length=L, shared=k))
    assert found.prefix.tolist() == found.matches.tolist() == [k] * N


@given(seeds, vocab_sizes, lengths, st.data())
def test_contrast(seed, V, L, data):
    m = data.draw(st.integers(0, L - 1))
    found = overlap(contrast_pairs(jax.random.key(seed), N, vocab_size=V, length=L, contrast_position=m))
    assert found.prefix.tolist() == [m] * N
    assert found.suffix.tolist() == [L - m - 1] * N
    assert found.edit_distance.tolist() == [2] * N


@given(seeds, vocab_sizes, lengths, st.data())
def test_bag(seed, V, L, data):
    k = data.draw(st.integers(0, L))
    pairs = bag_pairs(jax.random.key(seed), N, vocab_size=V, length=L, shared=k)
    pairs.check(V)
    assert overlap(pairs).bag.tolist() == [k] * N
    for chosen, rejected in lists(pairs):
        assert chosen != rejected  # another order, even when all tokens are shared


@given(seeds, vocab_sizes, lengths, st.data())
def test_edit(seed, V, L, data):
    insertions = data.draw(st.sampled_from([0, 3]))
    deletions = data.draw(st.sampled_from([0, 1, L if insertions else L - 1]))
    pairs = edit_pairs(jax.random.key(seed), N, vocab_size=V, length=L, deletions=deletions, insertions=insertions)
    pairs.check(V)
    assert overlap(pairs).edit_distance.tolist() == [deletions + insertions] * N
    for chosen, rejected in lists(pairs):
        assert indel_distance(chosen, rejected) == deletions + insertions
        assert len(rejected) == L - deletions + insertions


def test_edit_keeps_tokens_at_places_of_their_own_in_both():
    pairs = edit_pairs(jax.random.key(0), 64, vocab_size=12, length=6, deletions=3, insertions=3)
    assert len(set(overlap(pairs).matches.tolist())) > 2  # the same places would make it 3, the number kept


SHARED = {"positional": "matches", "prefix": "prefix", "contrast": "suffix", "bag": "bag"}


@pytest.mark.parametrize("name", FAMILIES)
@given(seed=seeds, data=st.data())
def test_every_family_by_name_shares_the_overlap(name, seed, data):
    """Counted from the tokens; of edits, what both keep is what is left after as many deletions as insertions."""
    L = 7
    shared = np.array([data.draw(st.integers(0, L - (name == "contrast"))) for _ in range(N)])
    found = overlap(FAMILIES[name](jax.random.key(seed), N, vocab_size=64, length=L, overlap=shared))
    counted = L - found.edit_distance / 2 if name == "edit" else getattr(found, SHARED[name])
    np.testing.assert_array_equal(counted, shared)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_cannot_share_more_than_it_has(name):
    largest = 6 - (name == "contrast")
    FAMILIES[name](jax.random.key(0), 1, vocab_size=9, length=6, overlap=largest)
    with pytest.raises(ValueError, match=f"`overlap` must be .* between 0 and {largest}, got {largest + 1}"):
        FAMILIES[name](jax.random.key(0), 1, vocab_size=9, length=6, overlap=largest + 1)


@pytest.mark.parametrize(
    ("family", "amount"),
    [
        (positional_pairs, {"matches": 3}),
        (prefix_pairs, {"shared": 3}),
        (contrast_pairs, {"contrast_position": 3}),
        (bag_pairs, {"shared": 3}),
        (edit_pairs, {"deletions": 2, "insertions": 1}),
    ],
)
def test_the_key_alone_decides_and_different_keys_differ(family, amount):
    def draw(seed):
        return family(jax.random.key(seed), 20, vocab_size=9, length=6, **amount)

    once, again, other = draw(0), draw(0), draw(1)
    assert all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(once), jax.tree.leaves(again), strict=True))
    assert not np.array_equal(once.chosen, other.chosen)
    assert len({tuple(row) for row in once.chosen.tolist()}) > 10  # pairs of one batch differ too


@pytest.mark.parametrize("family", [bag_pairs, contrast_pairs, edit_pairs, positional_pairs, prefix_pairs])
def test_a_prompt_is_one_token_unless_said_otherwise(family):
    assert inspect.signature(family).parameters["prompt_length"].default == 1
