"""Intervals of estimates from draws."""

import numpy as np

from toymodel.experiments.statistics import mean_interval

NORMAL_95 = 1.96

__all__ = ["mean_interval", "wilson"]


def wilson(fraction: np.ndarray, draws: int) -> tuple[np.ndarray, np.ndarray]:
    """Wilson's 95% interval of a binomial fraction: it stays inside [0, 1] and has width even at 0."""
    shrink = 1 + NORMAL_95**2 / draws
    centre = (fraction + NORMAL_95**2 / (2 * draws)) / shrink
    half = NORMAL_95 * np.sqrt(fraction * (1 - fraction) / draws + (NORMAL_95 / (2 * draws)) ** 2) / shrink
    return centre - half, centre + half
