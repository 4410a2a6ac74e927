"""Log-probabilities down to −1e4, log-ratios up to ±1e3, lengths up to 1000: no NaN, no false zero, no false infinity.

What float64 can know there is said at `loss_oracle.assert_agrees`.
"""

from itertools import product

import numpy as np
import pytest
from golden import few, hypers, ranges
from hypothesis import given
from hypothesis import strategies as st
from loss_oracle import VALUES, assert_agrees, measure

from toymodel.losses import LOSSES

# Not closer to zero than 1e-300: over 1000 tokens the mean would be subnormal, which the compiler flushes to zero.
logps = st.one_of(st.floats(-1e4, -1e-300), st.floats(-300, 4).map(lambda exponent: -(10.0**exponent)))
ratios = st.one_of(st.floats(-1e3, 1e3, allow_subnormal=False), st.floats(-12, 3).map(lambda e: 10.0**e), st.just(0.0))
lengths = st.integers(1, 1000)


@st.composite
def responses(draw):
    """(log π, log π_ref) with a log-ratio of up to 1e3 either way."""
    logp, ratio = draw(logps), draw(ratios)
    return logp, min(max(logp - ratio, -1e4), -1e-300)


RATIOS = (-1000.0, -900.0, -30.0, 0.0, 30.0, 1000.0)  # exp overflows at two of them: their order must still show
LOGPS = (-1e4, -700.0, -1.0, -1e-9)
GRID = [
    *((-5000.0, -4000.0, -5000.0 - r_w, -4000.0 - r_l, 1, 1000) for r_w, r_l in product(RATIOS, RATIOS)),
    *((*logps, *logps, *lengths) for logps in product(LOGPS, LOGPS) for lengths in ((1, 1), (1, 1000), (1000, 1))),
]


def examine(name, hyper, pairs):
    """Value and closed-form weights; not autodiff, which says 0 · ∞ of exp(exp(x)) where x > 710."""
    value, closed, _ = measure([LOSSES[name](**hyper)] * len(pairs), pairs)
    for pair, numbers in zip(pairs, np.column_stack([value, closed]), strict=True):
        assert_agrees(name, pair, hyper, numbers)


@pytest.mark.parametrize("name", VALUES)
def test_corners(name):
    examine(name, {key: ends[1] for key, ends in ranges(name).items()}, GRID)


@pytest.mark.parametrize("name", VALUES)
def test_anywhere(name):
    @few
    @given(responses(), responses(), lengths, lengths, hypers(name))
    def test(chosen, rejected, n_w, n_l, hyper):
        (w, rho_w), (l, rho_l) = chosen, rejected  # noqa: E741
        examine(name, hyper, [(w, l, rho_w, rho_l, n_w, n_l)])

    test()
