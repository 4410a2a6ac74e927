"""Every loss against what the public implementations compute (tests/data), and against its definition.

Also the oracle against the same rows: three opinions, of which only one is ours.
"""

from functools import cache

import loss_oracle
import numpy as np
import pytest
from golden import GOLDEN, NAMES, REFERENCE_FREE, UNRECORDED, few, hypers, ranges
from hypothesis import given
from hypothesis import strategies as st
from loss_oracle import assert_agrees, measure

from toymodel.losses import LOSSES


def close(actual, row):
    """To the row's tolerance; where it is flagged as saturated, to the 1 − σ round-off of the recorded program."""
    expected = np.array(row.numbers)
    # 2.3e-308: subnormal numbers are flushed to zero, and some of the programs recorded a zero.
    allowed = np.full(3, 3e-14) if row.saturated else row.rtol * abs(expected) + 2.3e-308
    return np.abs(np.asarray(actual) - expected) <= allowed


def test_every_row_is_read_and_every_name_is_a_loss():
    assert sum(map(len, GOLDEN.values())) == 2088
    assert set(GOLDEN) | set(UNRECORDED) == set(LOSSES) == set(loss_oracle.VALUES)
    assert set(NAMES) == {"fdpo_alpha_trl011"} | set(GOLDEN) - {"fdpo_alpha"}
    assert sum(row.saturated for rows in GOLDEN.values() for row in rows) == 32


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_rows(name):
    """Value, closed-form weights and autodiff weights."""
    rows = GOLDEN[name]
    full = {key: 1.0 for row in rows for key in row.hyper}  # the two weights of APO-zero are recorded where not 1
    losses = [LOSSES[name](**full | row.hyper) for row in rows]
    values, closed, autodiff = measure(losses, [row.pair for row in rows])
    for row, value, weights, derivatives in zip(rows, values, closed, autodiff, strict=True):
        assert close([value, *weights], row).all(), (row, value, weights)
        # Differentiating 1 − σ in float64 legitimately gives 0 where σ rounds to 1; the closed form has to know better.
        if not row.saturated:
            assert close([value, *derivatives], row).all(), (row, value, derivatives)


@pytest.mark.parametrize("name", GOLDEN)
def test_oracle_reproduces_the_golden_rows(name):

    @cache  # several programs ran on the same inputs
    def oracle(pair, hyper, side):
        return [float(x) for x in loss_oracle.evaluate(name, pair, dict(hyper), side)]

    for row in GOLDEN[name]:
        inputs = tuple(row.pair), tuple(row.hyper.items())
        if not close(oracle(*inputs, 0), row).all():
            # relu′(0) = 0 is a convention, which no difference quotient knows: the recorded weights are those of one
            # side of the kink. (torch's conventions for min and abs are the mean of the sides, as a central one is.)
            assert name in ("dpop", "hinge")
            assert 0 in loss_oracle.kinks(name, row.pair, row.hyper)
            one_sided = [close(oracle(*inputs, side), row) for side in (+1, -1)]
            assert np.any(one_sided, axis=0).all(), row


AT_KINKS = {  # of numbers that are exact in binary, so that the kink is hit: (hyper, pair, (d_w, d_l))
    "hinge": ({"beta": 0.5}, (-10.0, -12.0, -11.0, -11.0, 5, 6), (0, 0)),  # relu′(0) = 0
    "cpo_hinge": ({"beta": 0.5}, (-10.0, -12.0, 0.0, 0.0, 5, 6), (0, 0)),
    "dpop": ({"beta": 0.5, "lam": 50.0}, (-11.0, -11.0, -11.0, -11.0, 5, 6), (0.25, 0.25)),
    "rrhf_rank": ({}, (-4.0, -8.0, 0.0, 0.0, 1, 2), (0, 0)),
    "slic_hf": ({"gamma": 1.0, "lam": 0.5}, (-11.0, -12.0, 0.0, 0.0, 5, 6), (1.5, 1)),  # clamp(min=0)′(0) = 1
    "bpo_logistic": ({"beta": 0.5, "alpha": 0.5}, (-1.0, -1.0, -1.0, -1.0, 5, 6), (0.125, 0.0625)),  # ties are halved
    "bpo_hinge": ({"beta": 0.5, "alpha": 0.5}, (-1.0, -1.0, -1.0, -1.0, 5, 6), (0.25, 0.125)),
}


@pytest.mark.parametrize("name", AT_KINKS)
def test_conventions_at_kinks(name):
    hyper, pair, expected = AT_KINKS[name]
    assert 0 in loss_oracle.kinks(name, pair, hyper)
    _, closed, autodiff = measure([LOSSES[name](**hyper)], [pair])
    np.testing.assert_array_equal(closed[0], expected)
    np.testing.assert_array_equal(autodiff[0], expected)


def test_alphapo_at_zero_is_simpo():
    for row in GOLDEN["simpo"]:
        limit, simpo = LOSSES["alphapo"](**row.hyper, alpha=0.0), LOSSES["simpo"](**row.hyper)
        for ours, expected in zip(measure([limit], [row.pair]), measure([simpo], [row.pair]), strict=True):
            np.testing.assert_allclose(ours, expected, rtol=1e-13)  # a few round-offs of a margin of some 1e2 nats


@pytest.mark.parametrize("name", sorted(REFERENCE_FREE))
def test_reference_free_losses_need_no_reference(name):
    for row in GOLDEN[name][:3]:
        loss, (w, l, rho_w, rho_l, n_w, n_l) = LOSSES[name](**row.hyper), row.pair  # noqa: E741
        for method in (loss.value, loss.weights):
            without = method(w, l, chosen_lengths=n_w, rejected_lengths=n_l)
            np.testing.assert_array_equal(without, method(w, l, rho_w, rho_l, n_w, n_l))
        assert close([loss.value(w, l, None, None, n_w, n_l), *without], row).all()


def test_reference_free_losses_are_those_whose_definition_lacks_it():
    for name in loss_oracle.VALUES:
        hyper = {key: ends[1] for key, ends in ranges(name).items()}
        here, there = ([-7.0, -8.0, rho_w, rho_l, 3, 4] for rho_w, rho_l in ((-7.5, -8.25), (-9.0, -6.0)))
        same = loss_oracle.evaluate(name, here, hyper) == loss_oracle.evaluate(name, there, hyper)
        assert same == (name in REFERENCE_FREE), name


logps = st.floats(-300.0, -0.1)
lengths = st.integers(1, 60)
pairs = st.tuples(logps, logps, logps, logps, lengths, lengths)


@pytest.mark.parametrize("name", loss_oracle.VALUES)
def test_fresh_rows_of_the_same_kind(name):
    """Log-probabilities, references, lengths and hyperparameters anywhere in the ranges of the golden rows."""

    @few
    @given(pairs, hypers(name))
    def test(pair, hyper):
        value, closed, autodiff = (x[0] for x in measure([LOSSES[name](**hyper)], [pair]))
        assert_agrees(name, pair, hyper, *([value, *weights] for weights in (closed, autodiff)))

    test()
