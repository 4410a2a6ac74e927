"""The change of a series of numbers between two steps, and whether it can be told from noise.

Rows        Change                 Told from noise if
below 5     last minus first       it is more than half of the sum of all moves; so few rows give no error
below 20    last minus first       the rank test says so, or it is far larger than differences of neighbours
more        of a fitted line       it is large against its error, which accounts for autocorrelation

Ranks: Kendall's exact test, which allows any bend and takes rows as independent.

Evaluations of fixed pairs have no sampling noise: any change is what happened to these pairs, but from 5 states on it
must exceed the differences of neighbouring states; otherwise, from 20 on, a fitted line may show it.

A line may bend at nodes. Its error is that of least squares under first-order autoregressive noise; ρ comes from the
residuals, is corrected for bias, and is then raised by most of its own standard error, because it is uncertain.
"""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from toymodel._public import own_names
from toymodel.diagnosis.evidence import Series

__dir__ = own_names(globals())

LEVEL = 0.025  # false-positive rate for one side: 5 % for both sides together
BEND_LEVEL = 1e-5  # likewise for a bend, at the best of up to 100 places
TOO_FEW, FEW = 5, 20  # rows
CAUTION = 0.75  # standard errors added to ρ; tests/test_log_rates.py measures its cost and benefit
JITTER = 2.75  # standard errors, in evaluations; normal noise is as large in one of 170
CLEAR = 8  # standard errors, in training, where the error itself may be of three rows
BLOCKS = 100  # longer series are averaged in blocks, this many to twice as many
BENDS = 8  # at most


class Change(NamedTuple):
    """`error` is one standard error, None if unknown; both in the unit of the series."""

    size: float
    error: float | None
    told: bool


class Rows(NamedTuple):
    """A short series, taken as it is."""

    steps: Float[np.ndarray, " S"]
    values: Float[np.ndarray, " S"]
    fixed: bool

    def at(self, step: float) -> float:
        """The value at a step, linear between rows."""
        return float(np.interp(step, self.steps, self.values))

    def change(self, first: float, last: float) -> Change:
        """What happened between two steps."""
        size, error = self.at(last) - self.at(first), self.error()
        if self.fixed:
            told = abs(size) > JITTER * (error or 0)
        elif error is None:
            told = abs(size) > abs(np.diff(self.values)).sum() / 2
        else:
            told = abs(size) > CLEAR * error or (size != 0 and _kendall(self.values * np.sign(size)) < LEVEL)
        return Change(size, error, bool(told))

    def error(self) -> float | None:
        """Standard error of a difference of two rows, from second differences: a smooth bend adds little to them."""
        if len(self.values) < TOO_FEW:
            return None
        seconds = np.diff(self.values, 2)
        return math.sqrt(2 * (seconds**2).mean() / 6)

    def turns(self, least: float) -> list[float]:
        """The steps from which on the series goes back by more than `least`."""
        if not self.fixed or len(self.values) < TOO_FEW:
            return []
        n = len(self.values)
        least = max(least, 2 * math.sqrt(math.log(n)) * (self.error() or 0))  # the range of n normal numbers
        turns: list[float] = []
        low = high = 0  # places of the extremes since the last turn
        way = 0
        for i, value in enumerate(self.values):
            low, high = (i if value < self.values[low] else low), (i if value > self.values[high] else high)
            if way >= 0 and value < self.values[high] - least:
                turns += [self.steps[high].item()] if way else []
                way, low = -1, i
            elif way <= 0 and value > self.values[low] + least:
                turns += [self.steps[low].item()] if way else []
                way, high = 1, i
        return turns


class Line(NamedTuple):
    """A line through nodes: its heights there, their covariance, and degrees of freedom."""

    nodes: Float[np.ndarray, " K"]
    heights: Float[np.ndarray, " K"]
    covariance: Float[np.ndarray, "K K"]
    freedom: int

    def at(self, step: float) -> float:
        """The height at a step."""
        return float(np.interp(step, self.nodes, self.heights))

    def change(self, first: float, last: float) -> Change:
        """What happened between two steps."""
        at_first, at_last = _hats(np.array([first, last]), self.nodes)
        return self._along(at_last - at_first, LEVEL)

    def bend(self, i: int) -> float:
        """How many times its error the slope changes by at node i, in size; 0 where that cannot be told from noise."""
        before, after = 1 / np.diff(self.nodes)[i - 1 : i + 1]
        direction = np.zeros(len(self.nodes))
        direction[i - 1 : i + 2] = before, -before - after, after
        size, error, told = self._along(direction, BEND_LEVEL)
        return (abs(size) / error if error else math.inf) if told else 0.0

    def _along(self, direction: np.ndarray, level: float) -> Change:
        size = float(direction @ self.heights)
        error = math.sqrt(max(0.0, direction @ self.covariance @ direction))
        return Change(size, error, _two_sided(size, error, self.freedom) < level)


Trend = Rows | Line


def follow(sides: list[Series], *, fixed: bool, tolerance: float = 0.0) -> tuple[list[Trend], list[float]]:
    """The trend of each side, and the steps at which their stretches begin and end, the same for all sides.

    Args:
      sides: series of one run, usually of chosen and of rejected answers.
      fixed: the same pairs at every state.
      tolerance: in evaluations, how far a turn must go back to be one.
    """
    first, last = min(side.steps[0] for side in sides), max(side.steps[-1] for side in sides)
    nodes = {float(first), float(last)}
    every = [Rows(*side, fixed) for side in sides]
    rows = [one if len(one.values) < FEW or (fixed and one.change(first, last).told) else None for one in every]
    nodes.update(turn for short in rows if short for turn in short.turns(tolerance))
    long = [_in_blocks(side) for side, short in zip(sides, rows, strict=True) if not short]
    for _ in range(BENDS):
        size, step = max((_best_bend(side, np.array(sorted(nodes))) for side in long), default=(0.0, 0.0))
        if not size:
            break
        nodes.add(step)
    at = np.array(sorted(nodes))
    lines = iter([_fit(side, at) for side in long])
    return [short or next(lines) for short in rows], at.tolist()


def _in_blocks(side: Series) -> Series:
    """Means of neighbours, of at least `BLOCKS` blocks."""
    groups = len(side.values) // max(1, len(side.values) // BLOCKS)
    parts = np.linspace(0, len(side.values), groups + 1).astype(int)[:-1]
    sizes = np.diff(np.append(parts, len(side.values)))
    return Series(*(np.add.reduceat(column, parts) / sizes for column in side))


def _hats(steps: np.ndarray, nodes: np.ndarray) -> np.ndarray:
    """The part of each node's height in a line at each step, [steps, nodes]."""
    return np.stack([np.interp(steps, nodes, one) for one in np.eye(len(nodes))], axis=1)


def _fit(side: Series, nodes: np.ndarray) -> Line:
    """Least squares, and its covariance under autoregressive noise."""
    n, k = len(side.values), len(nodes)
    q, r = np.linalg.qr(_hats(side.steps, nodes))
    start = side.values[0]
    along = q.T @ (side.values - start)
    residuals = side.values - start - q @ along
    square = residuals @ residuals
    neighbours = residuals[1:] @ residuals[:-1] / square if square > 0 else 0.0
    unbiased = min(0.97, (n * neighbours + k) / (n - k - 2))  # E ≈ ρ − (k + (k + 2)ρ)/n
    rho = min(0.97, max(0.0, unbiased + CAUTION * math.sqrt(max(0.0, 1 - unbiased**2) / n)))
    correlations = (rho ** np.arange(n))[abs(np.subtract.outer(np.arange(n), np.arange(n)))]
    news = residuals[1:] - rho * residuals[:-1]
    variance = news @ news / (n - 1 - k) / (1 - rho**2)
    inverse = np.linalg.pinv(r)  # a side may have no row between two nodes
    covariance = variance * inverse @ (q.T @ correlations @ q) @ inverse.T
    return Line(nodes, start + inverse @ along, covariance, n - k)


def _best_bend(side: Series, nodes: np.ndarray) -> tuple[float, float]:
    """The size of the best further bend in units of its error, 0 if none can be told from noise; and its step."""
    gap = max(4, len(side.values) // 12)
    places = np.searchsorted(side.steps, nodes)
    free = np.arange(len(side.steps) - gap + 1)
    free = free[(abs(np.subtract.outer(free, places)) >= gap).all(axis=1)]
    if not free.size:
        return 0.0, 0.0
    q, _ = np.linalg.qr(_hats(side.steps, nodes))
    hinges = np.maximum(0, side.steps[:, None] - side.steps[free])
    hinges -= q @ (q.T @ hinges)
    gains = (side.values @ hinges) ** 2 / (hinges**2).sum(axis=0)
    best = side.steps[free[int(gains.argmax())]].item()
    more = np.sort(np.append(nodes, best))
    return _fit(side, more).bend(int(np.searchsorted(more, best))), best


def _two_sided(size: float, error: float, freedom: int) -> float:
    """Chance that Student's t is this large (Wallace's approximation; from two degrees on it is right to 0.004)."""
    if error == 0:
        return 1.0 if size == 0 else 0.0
    grown = math.sqrt(freedom * math.log1p((size / error) ** 2 / freedom))
    return math.erfc(grown * (8 * freedom + 1) / (8 * freedom + 3) / math.sqrt(2))


def _kendall(values: np.ndarray) -> float:
    """Chance, both ways, that rows in any order rise as often as these do; ties count half."""
    n = len(values)
    falls = sum((values[:-i] > values[i:]).sum() + (values[:-i] == values[i:]).sum() / 2 for i in range(1, n))
    orders = np.ones(1)  # how many orders of so many rows have 0, 1, 2, … falls
    for rows in range(2, n + 1):
        orders = np.convolve(orders, np.ones(rows))
    return float(min(1.0, 2 * orders[: math.ceil(falls) + 1].sum() / orders.sum()))
