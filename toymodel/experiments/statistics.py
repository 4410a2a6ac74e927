"""Intervals of what is estimated from draws."""

import numpy as np
from jaxtyping import Float
from scipy.special import stdtrit

from toymodel._public import own_names

__dir__ = own_names(globals())


def mean_interval(of_seeds: Float[np.ndarray, "... seeds"]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The mean over the last axis, and Student's 95% interval of that mean: (mean, low, high)."""
    seeds = of_seeds.shape[-1]
    mean = of_seeds.mean(axis=-1)
    half = stdtrit(seeds - 1, 0.975) * of_seeds.std(axis=-1, ddof=1) / seeds**0.5
    return mean, mean - half, mean + half
