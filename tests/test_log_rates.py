"""How often the verdict on a noisy log is wrong, on 1,000 simulated logs each: batches of a spread of 26 nats."""

import numpy as np
import pytest

from toymodel.diagnosis.evidence import Series
from toymodel.diagnosis.logs import judge

LOGS = 1000
SPREAD = 26.0  # nats, of the mean over a batch


def batches(rows, rho, seed):
    """Means over batches, [2, LOGS, rows]: those of one batch resemble each other, and the next one's by rho."""
    rng = np.random.default_rng(seed)
    fresh = rng.standard_normal((rows, LOGS))
    both = np.stack([fresh, 0.9 * fresh + np.sqrt(1 - 0.9**2) * rng.standard_normal((rows, LOGS))])
    for i in range(1, rows):
        both[:, i] = rho * both[:, i - 1] + np.sqrt(1 - rho**2) * both[:, i]
    return SPREAD * both.transpose(0, 2, 1)


def verdicts(both, fixed=False):
    steps = 10.0 * np.arange(both.shape[2])
    sides = (both - 250).transpose(1, 0, 2)
    return [judge([Series(steps, side) for side in log], fixed=fixed, tolerance=0.0) for log in sides]


# Of 50 rows whose neighbours resemble each other by 0.9, hardly three are independent: one log in ten is misread.
@pytest.mark.parametrize(("rows", "rho"), [(50, 0.0), (50, 0.6), (150, 0.3), (600, 0.0), (600, 0.6), (600, 0.9)])
def test_without_a_trend_at_most_one_log_in_twenty_claims_any(rows, rho):
    found = verdicts(batches(rows, rho, seed=rows + int(10 * rho)))
    claims = sum(one.summary["case"] != "not_told_from_noise" for one in found)
    assert claims <= 0.05 * LOGS, claims


def test_evaluations_that_jitter_are_judged_as_carefully():
    found = verdicts(batches(60, 0.0, seed=60), fixed=True)
    claims = sum(one.summary["case"] != "not_told_from_noise" for one in found)
    assert claims <= 0.05 * LOGS, claims


@pytest.mark.parametrize(("rows", "fixed"), [(50, False), (600, False), (600, True)])
def test_a_fall_that_a_line_sees_at_six_standard_errors_is_told_in_one_stretch(rows, fixed):
    middled = np.arange(rows) - (rows - 1) / 2
    fall = 6 * SPREAD * middled / np.sqrt(middled @ middled)
    found = verdicts(batches(rows, 0.0, seed=rows) - fall, fixed)
    told = sum(one.summary["case"] == "both_down" and len(one.stretches) == 1 for one in found)
    assert told >= 0.99 * LOGS, told
