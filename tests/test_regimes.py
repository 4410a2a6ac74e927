"""Training logs: their stretches are what a plain reading of the signs says."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from oracles import assert_close

from toymodel.diagnosis.logs import diagnose_log, diagnose_tokens
from toymodel.diagnosis.readers import load
from toymodel.theory import CASES, case_of_slopes

# Whole numbers of nats, so that sums and differences are exact; few of them, so that states repeat.
states = st.lists(st.tuples(st.integers(-4, 4), st.integers(-4, 4)), min_size=2, max_size=12).map(np.array)
tolerances = st.sampled_from([0.0, 0.5, 1.0, 2.0])
EPS = np.finfo(float).eps


def increasing(n):
    return st.lists(st.integers(0, 1000), min_size=n, max_size=n, unique=True).map(sorted)


def sign(change, tolerance):
    return 0 if abs(change) <= tolerance else math.copysign(1, change)


@given(states, tolerances, st.data())
def test_stretches_are_the_runs_of_equal_cases(log, tolerance, data):
    chosen, rejected = log.T
    steps = data.draw(increasing(len(log)))
    stretches, summary = diagnose_log(chosen, rejected, steps=steps, tolerance=tolerance)
    changes = [[sign(c, tolerance) for c in after - before] for before, after in itertools.pairwise(log)]
    names = [CASES[int(case_of_slopes(*change))] for change in changes]
    runs = [[name, len(list(run))] for name, run in itertools.groupby(names)]
    assert [stretch["case"] for stretch in stretches] == [name for name, _ in runs]
    first = 0
    for stretch, (_, length) in zip(stretches, runs, strict=True):
        last = first + length
        assert (stretch["first_step"], stretch["last_step"]) == (steps[first], steps[last])
        assert stretch["chosen_change"] == chosen[last] - chosen[first]
        assert stretch["rejected_change"] == rejected[last] - rejected[first]
        first = last
    assert first == len(log) - 1
    assert summary["cases"] == {name: names.count(name) for name in CASES}
    whole = CASES[int(case_of_slopes(*(sign(c, tolerance) for c in log[-1] - log[0])))]
    assert (summary["case"], summary["first_step"], summary["last_step"]) == (whole, steps[0], steps[-1])
    assert summary["states"] == len(log)


@given(states, tolerances)
@example(np.array([[3, 3], [2, 2], [1, 0], [2, -1]]), 0.0)  # a stretch of two changes
def test_changes_add_up_and_both_down_is_told(log, tolerance):
    stretches, summary = diagnose_log(*log.T, tolerance=tolerance)
    down = [stretch for stretch in stretches if stretch["case"] == "both_down"]
    for name, change in zip(("chosen_change", "rejected_change"), log[-1] - log[0], strict=True):
        assert sum(stretch[name] for stretch in stretches) == summary[name] == change
        assert sum(stretch[name] for stretch in down) == summary["both_down"][name]
    assert summary["both_down"]["stretches"] == len(down)
    assert summary["both_down"]["steps"] == summary["cases"]["both_down"]  # steps 0, 1, 2, … here
    assert all(stretch["chosen_change"] < -tolerance and stretch["rejected_change"] < -tolerance for stretch in down)


@given(states, tolerances, st.integers(1, 8), st.integers(-50, 50), st.integers(-50, 50))
def test_rewards_have_the_regimes_of_log_probabilities(log, tolerance, beta, shift_w, shift_l):
    """β(log π − log π_ref): the reference, which differs by side, drops out of changes, and β scales them."""
    plain = diagnose_log(*log.T, tolerance=tolerance)
    rewards = diagnose_log(*(beta * log + [shift_w, shift_l]).T, tolerance=beta * tolerance)
    assert [s["case"] for s in plain.stretches] == [s["case"] for s in rewards.stretches]
    assert [beta * s["chosen_change"] for s in plain.stretches] == [s["chosen_change"] for s in rewards.stretches]
    assert plain.summary["cases"] == rewards.summary["cases"]


SWAPPED = dict(zip(CASES, ("chosen_down_rejected_up", "both_down", "both_up", CASES[0], "stationary"), strict=True))
REVERSED = dict(zip(CASES, ("chosen_down_rejected_up", "both_up", "both_down", CASES[0], "stationary"), strict=True))


@given(states)
def test_exchanging_the_sides_and_turning_back_time(log):
    cases = [stretch["case"] for stretch in diagnose_log(*log.T).stretches]
    assert [s["case"] for s in diagnose_log(*log.T[::-1]).stretches] == [SWAPPED[case] for case in cases]
    assert [s["case"] for s in diagnose_log(*log[::-1].T).stretches] == [REVERSED[case] for case in cases[::-1]]


@given(states, st.sampled_from([3, 5]))
def test_a_window_takes_means_around_each_state(log, window):
    log = np.concatenate([log, log, log])  # longer than any window
    half = window // 2
    means = np.array([log[i - half : i + half + 1].mean(axis=0) for i in range(half, len(log) - half)])
    smoothed = diagnose_log(*log.T, window=window, tolerance=0.1)  # of thirds and fifths, none is in doubt
    by_hand = diagnose_log(*means.T, steps=np.arange(half, len(log) - half), tolerance=0.1)
    assert smoothed.summary["cases"] == by_hand.summary["cases"]
    for ours, theirs in zip(smoothed.stretches, by_hand.stretches, strict=True):
        assert ours["first_step"] == theirs["first_step"]
        assert_close(ours["chosen_change"], theirs["chosen_change"], 8, 2 * EPS)  # means of at most 5 numbers below 4


def test_a_jitter_is_no_regime():
    steady = np.linspace(-10, -20, 11)
    jitter = np.array([0, 1e-3, 0, 1e-3, 0, 1e-3, 0, 1e-3, 0, 1e-3, 0])
    assert len(diagnose_log(steady, jitter).stretches) == 10
    (stretch,) = diagnose_log(steady, jitter, tolerance=1e-2).stretches
    assert stretch["case"] == "stationary"


@given(st.integers(2, 5), st.integers(1, 4), st.integers(1, 4), st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_tokens_are_the_log_of_their_sums_and_positions_add_up(S, N, T_w, T_l, seed):
    rng = np.random.default_rng(seed)
    tokens = [rng.integers(-4, 1, (S, N, T)).astype(np.float32) for T in (T_w, T_l)]
    masks = [rng.random((N, T)) < 0.7 for T in (T_w, T_l)]
    arrays = dict(zip(("chosen_token_logps", "rejected_token_logps"), tokens, strict=True))
    padded = {name: np.where(m, a, np.nan) for (name, a), m in zip(arrays.items(), masks, strict=True)}
    named = dict(zip(("chosen_mask", "rejected_mask"), masks, strict=True))
    found = diagnose_tokens(**padded, **named, steps=np.arange(S) * 10)
    sums = [np.where(m, a, 0).sum(axis=2) for a, m in zip(tokens, masks, strict=True)]
    assert len(found.pairs) == N
    for i, pair in enumerate(found.pairs):
        plain = diagnose_log(*(side[:, i] for side in sums), steps=np.arange(S) * 10)
        for ours, theirs in zip((*pair.stretches, pair.summary), (*plain.stretches, plain.summary), strict=True):
            assert {name: ours[name] for name in theirs} == theirs
            for side, mask in zip(("chosen", "rejected"), masks, strict=True):
                positions = np.array(ours[f"{side}_positions"])
                assert positions.sum() == ours[f"{side}_change"]  # whole numbers: exact
                assert not positions[~mask[i]].any()
    for side in ("chosen", "rejected"):
        each = np.mean([pair.summary[f"{side}_positions"] for pair in found.pairs], axis=0)
        assert_close(found.mean.summary[f"{side}_positions"], each, 4, 4 * EPS)  # means of at most four numbers
        mean = np.mean([pair.summary[f"{side}_change"] for pair in found.pairs])
        assert_close(found.mean.summary[f"{side}_change"], mean, 16, 8 * EPS)


# --- Files and bad input ----------------------------------------------------------------------------------------------


def test_tokens_from_a_file(tmp_path):
    arrays = {name: -np.ones((2, 1, 3), np.float32) for name in ("chosen_token_logps", "rejected_token_logps")}
    np.savez(tmp_path / "tokens.npz", **arrays, steps=[0, 100], chosen_mask=np.ones((1, 3), bool))
    (stretch,) = diagnose_tokens(**load(tmp_path / "tokens.npz")).pairs[0].stretches
    assert (stretch["case"], stretch["last_step"]) == ("stationary", 100)


ONE, TWO = np.zeros(1), np.zeros(2)
TOKENS = np.zeros((2, 1, 3))
BAD = {
    "one state": (lambda: diagnose_log(ONE, ONE), r"`chosen_logps` must hold real numbers \[S\] at two states or more"),
    "words": (lambda: diagnose_log(TWO, ["a", "b"]), "`rejected_logps` must hold real numbers"),
    "two lengths": (lambda: diagnose_log(TWO, np.zeros(3)), "must have one length, got 2 and 3"),
    "not a number": (lambda: diagnose_log(np.array([0, np.nan]), TWO), "`chosen_logps` must be finite, got nan"),
    "negative tolerance": (lambda: diagnose_log(TWO, TWO, tolerance=-1), "`tolerance` must be >= 0 and finite"),
    "tolerance NaN": (lambda: diagnose_log(TWO, TWO, tolerance=math.nan), "`tolerance` must be >= 0 and finite"),
    "even window": (lambda: diagnose_log(np.zeros(5), np.zeros(5), window=2), "`window` must be odd, got 2"),
    "window too wide": (lambda: diagnose_log(TWO, TWO, window=3), "`window` must be a whole number between 1 and 1"),
    "steps of another run": (lambda: diagnose_log(TWO, TWO, steps=[3]), "`steps` must hold 2 numbers"),
    "steps back": (lambda: diagnose_log(TWO, TWO, steps=[3, 1]), "`steps` must increase, got 1 after 3"),
    "tokens without pairs": (
        lambda: diagnose_tokens(chosen_token_logps=TOKENS[0], rejected_token_logps=TOKENS),
        r"`chosen_token_logps` must hold real numbers \[S, N, T\]",
    ),
    "tokens of other pairs": (
        lambda: diagnose_tokens(chosen_token_logps=TOKENS, rejected_token_logps=np.zeros((2, 2, 3))),
        "must share the axes",
    ),
    "mask of other tokens": (
        lambda: diagnose_tokens(chosen_token_logps=TOKENS, rejected_token_logps=TOKENS, rejected_mask=np.ones((1, 2))),
        r"`rejected_mask` must have shape \(1, 3\), got \(1, 2\)",
    ),
    "padding NaN without a mask": (
        lambda: diagnose_tokens(chosen_token_logps=TOKENS * np.nan, rejected_token_logps=TOKENS),
        "`chosen_token_logps` must be finite",
    ),
}


@pytest.mark.parametrize(("call", "message"), BAD.values(), ids=BAD)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
