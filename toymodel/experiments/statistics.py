"""Intervals of estimates from draws, and the rank correlation of two scores."""

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


def rank_correlation(one: Float[np.ndarray, "... n"], other: Float[np.ndarray, "... n"]) -> Float[np.ndarray, "..."]:
    """Spearman's rank correlation over the last axis."""
    from scipy.stats import rankdata, zscore  # takes a second to import

    ranks = (zscore(rankdata(values, axis=-1), axis=-1) for values in (one, other))
    return np.asarray(np.prod(np.broadcast_arrays(*ranks), axis=0).mean(axis=-1))
