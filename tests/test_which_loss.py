"""How strong a likelihood term must be, and which losses put a pair right, against the gradients themselves."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from oracles import assert_close

from toymodel import PairGram, diagnose, theory
from toymodel.diagnosis import diagnose_losses
from toymodel.losses import LOSSES

EPS = np.finfo(float).eps
seeds = st.integers(0, 2**32 - 1)
alike = st.floats(0, 3)  # how much the two gradients share
weights = st.floats(-3, 3).map(lambda x: 10.0**x)


def gradients_of(n, seed, shared, P=5):
    rng = np.random.default_rng(seed)
    common = shared * rng.standard_normal((n, P))
    lengths = np.exp(rng.normal(size=(2, n, 1)))
    return lengths * (rng.standard_normal((2, n, P)) + common)


def count_right(chosen, rejected, d_w, d_l, *, batch):
    """How many pairs are right, by the slopes of their own step or of the mean step, from the gradients."""
    steps = d_w[:, None] * chosen - d_l[:, None] * rejected
    steps = np.broadcast_to(steps.mean(axis=0), steps.shape) if batch else steps
    return int((((chosen * steps).sum(1) > 0) & ((rejected * steps).sum(1) < 0)).sum())


@given(seeds, alike, weights, weights)
def test_a_pair_flips_at_the_ends_of_its_window(seed, shared, d_w, d_l):
    """Inside and outside each end, down to a relative distance of 1e-9 of the weight d_w + λ."""
    chosen, rejected = gradients_of(1, seed, shared)
    ((row,), *_) = diagnose(chosen_grad=chosen, rejected_grad=rejected, d_chosen=d_w, d_rejected=d_l)
    if row["likelihood"]["lambda"] is None:
        for lam in -d_w + d_l * np.concatenate([[0], *np.outer([1, -1], 10.0 ** np.arange(-3, 4))]):
            assert not count_right(chosen, rejected, np.array([d_w + lam]), np.array([d_l]), batch=False)
        return
    low, high = row["likelihood"]["lambda"]
    # The window's length is that of the angle, which may be nothing but round-off.
    assume(high is None or high - low > 1e-6 * (d_w + max(abs(low), abs(high))))
    for end, inwards in ((low, 1), (high, -1)):
        if end is None:
            assert row["inner"] <= 0
            assert count_right(chosen, rejected, np.array([d_w + 1e6 * d_l]), np.array([d_l]), batch=False)
            continue
        # Sums of 5 products, divided by what may be small against them; and λ beside d_w.
        error = 16 * EPS * (d_w + d_l * (abs(chosen) * abs(rejected)).sum() / min(row["chosen_sq"], abs(row["inner"])))
        for distance in (1e-9, 1e-6, 1e-3):
            for side in (1, -1):
                lam = end + side * inwards * (distance * abs(d_w + end) + error)
                if side < 0 or low < lam < (np.inf if high is None else high):
                    found = count_right(chosen, rejected, np.array([d_w + lam]), np.array([d_l]), batch=False)
                    assert found == (side > 0)


@given(seeds, alike, weights)
def test_the_window_is_that_of_theory(seed, shared, d):
    chosen, rejected = gradients_of(4, seed, shared)
    rows = diagnose(chosen_grad=chosen, rejected_grad=rejected, d_chosen=d, d_rejected=d).pairs
    gram = PairGram(*np.array([[row[name] for row in rows] for name in PairGram._fields]))
    for row, low, high in zip(rows, *map(np.asarray, theory.likelihood_window(gram, d)), strict=True):
        assert row["likelihood"]["lambda"] is not None
        found = [np.inf if end is None else end for end in row["likelihood"]["lambda"]]
        assert np.isinf(found[1]) == np.isinf(high)
        size = [d + abs(low), d + abs(high) if np.isfinite(high) else 1]
        assert_close(found[0], low, size[0], 16 * EPS)  # the same few operations in another order
        assert found[1] == high or abs(found[1] - high) <= 16 * EPS * size[1]


UNITS = {  # what the term weighs in each pair, for a coefficient of 1
    "lambda": lambda _, n_w: np.ones_like(n_w),
    "dpop_lambda": lambda d_w, _: d_w,
    "rpo_alpha": lambda _, n_w: np.full_like(n_w, len(n_w) / n_w.sum()),
    "pref_ftx": lambda _, n_w: 1 / n_w,
}


@pytest.mark.parametrize("batch", [False, True])
@given(seeds, alike, st.integers(1, 6))
def test_most_pairs_are_right_in_the_window_of_each_unit(batch, seed, shared, n):
    """As many as are told in it, and no more anywhere else that was tried."""
    chosen, rejected = gradients_of(n, seed, shared)
    rng = np.random.default_rng(seed)
    d_w, d_l, n_w = *np.exp(rng.normal(size=(2, n))), rng.integers(1, 200, n).astype(float)
    given_weights = {"d_chosen": d_w, "d_rejected": d_l, "chosen_lengths": n_w}
    found = diagnose(chosen_grad=chosen, rejected_grad=rejected, **given_weights)
    told = (found.batch if batch else found.summary)["likelihood"]
    assert told.pop("beta") is None
    assert told.keys() == UNITS.keys()
    for unit, one in told.items():
        term = UNITS[unit](d_w, n_w)
        for row, weight in zip(found.pairs, term, strict=True):  # a pair's own window, in another unit
            theirs, ours = row["likelihood"][unit] or [], row["likelihood"]["lambda"] or []
            assert [end is None for end in theirs] == [end is None for end in ours]
            for end, other in zip(theirs, ours, strict=True):
                assert end is None or abs(end * weight - other) <= 16 * EPS * (d_w.max() + abs(other))
        tried = np.concatenate([[0], np.exp(rng.normal(size=40) * 4) / term.mean()])
        counts = [count_right(chosen, rejected, d_w + c * term, d_l, batch=batch) for c in tried]
        assert max(counts) <= one["pairs_right"]
        if one["window"] is None:
            assert one["pairs_right"] == 0
            continue
        low, high = one["window"]
        inside = low + 0.5 * (high - low) if high is not None else 2 * low + 1e6 / term.min()
        assume(high is None or high - low > 1e-9 * high)
        assert count_right(chosen, rejected, d_w + inside * term, d_l, batch=batch) == one["pairs_right"]


def test_without_weights_they_are_those_of_dpo_at_its_reference():
    chosen, rejected = gradients_of(3, 0, 2.0)
    given_gradients = {"chosen_grad": chosen, "rejected_grad": rejected, "chosen_lengths": np.array([3, 5, 9])}
    d = LOSSES["dpo"](beta=0.4).weights(*[np.full(3, -7.0)] * 4)[0]
    found = diagnose(**given_gradients, beta=0.4)
    weighted = diagnose(**given_gradients, d_chosen=np.asarray(d), d_rejected=np.asarray(d))
    for own, theirs in zip((found.summary, found.batch), (weighted.summary, weighted.batch), strict=True):
        assert own["likelihood"].pop("beta") == 0.4
        assert theirs["likelihood"].pop("beta") is None
        for unit, one in own["likelihood"].items():
            other = theirs["likelihood"][unit]
            assert one["pairs_right"] == other["pairs_right"]
            assert_close(one["window"], other["window"], max(one["window"]), 8 * EPS)
    assert diagnose(**given_gradients).summary["likelihood"]["beta"] == 0.1
    assert "rpo_alpha" not in diagnose(chosen_grad=chosen, rejected_grad=rejected).summary["likelihood"]


def test_a_pair_that_no_term_helps_says_so():
    """Both rise already (T19), or the gradients are parallel, or there is none."""
    entries = {"chosen_sq": np.array([4.0, 1, 0]), "rejected_sq": np.array([1.0, 4, 1]), "inner": np.array([1.5, 2, 0])}
    both_up, parallel, zero = diagnose(**entries).pairs
    assert both_up["case"] == "both_up"
    assert both_up["likelihood"]["lambda"][1] < 0
    assert parallel["likelihood"]["lambda"] is None
    assert zero["likelihood"]["lambda"] is None
    assert diagnose(**entries).summary["likelihood"]["lambda"] == {"window": None, "pairs_right": 0}


@settings(max_examples=10)  # the whole catalogue, four times
@given(seeds, alike)
def test_losses_put_right_what_their_weights_do(seed, shared):
    rng = np.random.default_rng(seed)
    chosen, rejected = gradients_of(3, seed, shared)
    logps, lengths = -np.exp(rng.normal(3, 1, (2, 3))), rng.integers(1, 50, (2, 3))
    with_all = {
        **{"chosen_logps": logps[0], "rejected_logps": logps[1]},
        **{"chosen_lengths": lengths[0], "rejected_lengths": lengths[1]},
    }
    told = diagnose_losses(diagnose(chosen_grad=chosen, rejected_grad=rejected, **with_all))
    assert told["right"].keys() == LOSSES.keys()
    assert not told["untold"]
    for name in (
        "dpo",
        "simpo",
        "dpo_nll_mean",
        "cpo_nll_sum",
        "apo_down",
        "bdpo",
        "orpo",
        "discopop",
        "npo",
        "arpo_pref_only",
    ):
        d_w, d_l = (np.asarray(d) for d in LOSSES[name]().weights(*logps, *logps, *lengths))
        right = [
            i
            for i in range(3)
            if count_right(chosen[i : i + 1], rejected[i : i + 1], d_w[i : i + 1], d_l[i : i + 1], batch=False)
        ]
        assert told["right"][name] == right, name
        assert (name in told["negative"]) == bool((d_w < 0).any() or (d_l < 0).any())
    # What is told with less is the same; so it did not depend on what was missing.
    for missing in ({"lengths"}, {"logps"}, {"lengths", "logps"}):
        less = {name: value for name, value in with_all.items() if name.partition("_")[2] not in missing}
        fewer = diagnose_losses(diagnose(chosen_grad=chosen, rejected_grad=rejected, **less))
        assert set(fewer["untold"].values()) <= missing
        assert all(right == told["right"][name] for name, right in fewer["right"].items())
        assert fewer["right"].keys() | fewer["untold"].keys() == LOSSES.keys()
        assert {"dpo", "ipo_sum", "kto_pair", "bdpo"} <= fewer["right"].keys()
    assert {"simpo", "dpo_nll_mean", "orpo"} <= fewer["untold"].keys()
