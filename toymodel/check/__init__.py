"""Prediction against measurement on fresh random draws, label by label: `toymodel check`, where the two routes meet.

`draws` makes random instances; `labels` (T1–T11), `remedies` (T17–T19) and `beyond` (the rest) say what each label of
the theory claims of one and by how much it misses.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float

from toymodel._checks import require_int
from toymodel.check import beyond, labels, remedies
from toymodel.check.discrepancy import Check
from toymodel.check.draws import CHUNK, MODELS, SHAPES, Noise, build_draw, draw_noise

CHECKS = tuple(
    sorted((*labels.CHECKS, *beyond.CHECKS, *remedies.CHECKS), key=lambda check: int(check.label.removeprefix("T")))
)


class Result(NamedTuple):
    """The verdict on one label of the theory."""

    label: str
    statement: str
    draws: int
    worst: float
    tolerance: float
    reason: str
    passed: bool


def run(*, examples: int, seed: int, progress: Callable[[float], None] = lambda _fraction: None) -> list[Result]:
    """Check every label on at least `examples` fresh draws from `seed`, in float64.

    Args:
      examples: draws per label, spread evenly over models, vocabulary sizes and lengths.
      seed: any whole number ≥ 0; the draws depend on nothing else.
      progress: called with the fraction done after each batch.

    Raises:
      ValueError: `examples` < 1 or `seed` < 0.
    """
    require_int("examples", examples, low=1)
    require_int("seed", seed, low=0)
    kinds = [kind for kind in MODELS if any(kind in check.models for check in CHECKS)]
    worlds = [(kind, *shape) for kind in kinds for shape in SHAPES]
    found: dict[str, list[np.ndarray]] = {check.label: [] for check in CHECKS}
    for number, (kind, V, T) in enumerate(worlds):
        names = tuple(check.label for check in CHECKS if kind in check.models)
        fewest = min(len(check.models) for check in CHECKS if kind in check.models) * len(SHAPES)
        rng = np.random.default_rng([seed, number])
        for _ in range(math.ceil(examples / fewest / CHUNK)):
            with jax.enable_x64(True):
                for label, values in _discrepancies(names, kind, draw_noise(rng, V, T)).items():
                    found[label].append(np.asarray(values))
        progress((number + 1) / len(worlds))
    return [_result(check, np.concatenate(found[check.label])) for check in CHECKS]


def _result(check: Check, values: np.ndarray) -> Result:
    worst = float(values.max())  # NaN stays NaN, and fails: no comparison with it is true
    return Result(
        check.label, check.statement, len(values), worst, check.tolerance, check.reason, worst <= check.tolerance
    )


@partial(jax.jit, static_argnums=(0, 1))
def _discrepancies(names: tuple[str, ...], kind: str, noise: Noise) -> dict[str, Float[Array, " n"]]:
    def of_one(noise: Noise) -> dict[str, Array]:
        draw = build_draw(kind, noise)
        return {check.label: check.discrepancy(draw) for check in CHECKS if check.label in names}

    return jax.vmap(of_one)(noise)


__all__ = ["CHECKS", "Check", "Result", "run"]


def __dir__() -> list[str]:
    return __all__
