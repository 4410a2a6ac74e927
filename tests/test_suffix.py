"""`suffix_pair`: the pair of T7 and T8, as the theory has it."""

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import toymodel as tm
from toymodel import gradients, theory

LONGEST, V = 6, 5  # one shape, and so one program
inside = st.floats(0.01, 0.99)


@jax.jit
def padded(n, a, b):
    pair = tm.suffix_pair(n, a, b, vocab_size=V, longest=LONGEST)
    return gradients.slopes(*pair), jax.nn.softmax(pair.model.logits(pair.params, pair.pairs[0].chosen_response))


@given(st.integers(0, LONGEST), inside, inside)
def test_its_slopes_are_those_of_the_contrast_token_and_n_suffix_tokens(n, a, b):
    measured, probs = padded(n, a, b)
    contrast, suffix = theory.single_token_slopes(1 / V, 1 / V), theory.peaked_suffix_slopes(a, b, V)
    for slope, first, each in zip(measured, contrast, suffix, strict=True):
        np.testing.assert_allclose(slope[0], first + n * each, rtol=1e-12, atol=1e-13)  # 7 terms of size 1
    np.testing.assert_allclose(probs[0], 1 / V, rtol=1e-14)
    after = probs[1 : n + 1]  # padding comes later
    np.testing.assert_allclose(after[:, 2], a, rtol=1e-13)
    np.testing.assert_allclose(after[:, [0, 1, 3, 4]], (1 - a) / (V - 1), rtol=1e-11)  # 1 − a loses two digits


def test_padding_changes_nothing():
    long, short = tm.suffix_pair(2, 0.9, 0.5, longest=5), tm.suffix_pair(2, 0.9, 0.5)
    for padded_entry, entry in zip(gradients.pair_gram(*long), gradients.pair_gram(*short), strict=True):
        np.testing.assert_allclose(padded_entry, entry, rtol=1e-14)
    assert long.pairs[0].words("chosen") == short.pairs[0].words("chosen") == ["good", "s", "s"]
    assert long.pairs[0].words("rejected") == ["bad", "s", "s"]


def test_several_lengths_are_a_batch_in_one_model():
    together = tm.suffix_pair(np.array([3, 0, 2]), 0.9, 0.5)
    assert len(together.pairs) == 3
    gram = gradients.pair_gram(*together)
    for i, n in enumerate((3, 0, 2)):
        alone = gradients.pair_gram(*tm.suffix_pair(n, 0.9, 0.5))
        for entry, of_one in zip(gram, alone, strict=True):
            np.testing.assert_allclose(entry[i], of_one[0], rtol=1e-14)


def test_both_fall_beyond_the_threshold_and_one_token_earlier_they_do_not():
    V, a, b = 20, 0.9, 0.5
    last = int(theory.threshold_length(1 / V, 1 / V, a, b, V))
    cases = [theory.case(gradients.pair_gram(*tm.suffix_pair(n, a, b)))[0] for n in (last, last + 1)]
    assert cases == ["chosen_up_rejected_down", "both_down"]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: tm.suffix_pair(0.9, 0.5, 24), "`suffix_length` must be a whole number at least 0, got 0.9"),
        (lambda: tm.suffix_pair(-1, 0.9, 0.5), "`suffix_length` must be"),
        (lambda: tm.suffix_pair(3, 0.9, 0.5, longest=2), "`suffix_length` must be a whole number between 0 and 2"),
        (lambda: tm.suffix_pair(np.array([1, -1]), 0.9, 0.5), "`suffix_length` must be a whole number at least 0"),
        (lambda: tm.suffix_pair(np.ones((2, 2), int), 0.9, 0.5), "`suffix_length` must hold a whole number, or 4 of"),
        (lambda: tm.suffix_pair(2, 1.0, 0.5), r"`a` must be a probability in \(0, 1\), got 1.0"),
        (lambda: tm.suffix_pair(2, 0.9, 0.0), r"`b` must be a probability in \(0, 1\), got 0.0"),
        (lambda: tm.suffix_pair(2, 0.9, 0.5, vocab_size=2), "`vocab_size` must be a whole number at least 3, got 2"),
    ],
)
def test_settings_out_of_range(call, message):
    with pytest.raises(ValueError, match=message):
        call()
