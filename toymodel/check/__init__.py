"""Prediction against measurement on fresh random draws, label by label: `toymodel check`, where the two routes meet.

`draws` makes random instances. The other modules, one for each subject as in `theory`, compute by how much a draw
misses the claim of each label.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, Int

from toymodel._checks import require_int
from toymodel.check import (
    account,
    condition,
    crowd,
    finite_step,
    flow,
    geometry,
    groups,
    mass,
    modified,
    overlap,
    remedies,
    suffix,
)
from toymodel.check.discrepancy import Check
from toymodel.check.draws import CHUNK, MODELS, SHAPES, Noise, build_draw, draw_noise

SUBJECTS = (overlap, suffix, condition, finite_step, flow, mass, remedies, groups, crowd, account, modified, geometry)
#: The check of every label, in order.
CHECKS = tuple(
    sorted(
        (value for subject in SUBJECTS for value in vars(subject).values() if isinstance(value, Check)),
        key=lambda check: int(check.label.removeprefix("T")),
    )
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


def run(
    *,
    examples: int,
    seed: int,
    shapes: Sequence[tuple[int, int]] = SHAPES,
    progress: Callable[[float], None] = lambda _fraction: None,
) -> list[Result]:
    """Check every label on at least `examples` fresh draws from `seed`, in float64.

    Args:
      examples: draws per label, spread evenly over models and shapes.
      seed: any whole number ≥ 0; the draws depend on nothing else.
      shapes: vocabulary sizes and longest responses. Compiling for each shape takes most of the time.
      progress: called with the fraction done after each batch.

    Raises:
      ValueError: `examples` < 1 or `seed` < 0.
    """
    require_int("examples", examples, low=1)
    require_int("seed", seed, low=0)
    # Two programs for each shape. What one model checks is apart from the rest: it takes more batches of that model.
    programs = [[c for c in CHECKS if len(c.models) > 1], [c for c in CHECKS if len(c.models) == 1]]
    kinds = [kind for kind in MODELS if any(kind in check.models for check in CHECKS)]
    worlds = [(kind, *shape) for kind in kinds for shape in shapes]
    found: dict[str, list[np.ndarray]] = {check.label: [] for check in CHECKS}
    for number, (kind, V, T) in enumerate(worlds):
        fewest = min(len(check.models) for check in CHECKS if kind in check.models) * len(shapes)
        rng = np.random.default_rng([seed, number])
        for _ in range(math.ceil(examples / fewest / CHUNK)):
            with jax.enable_x64(True):
                noise = draw_noise(rng, V, T)
                for program in programs:
                    wanted = [check.label for check in program if kind in check.models]
                    if wanted:
                        values = _discrepancies(tuple(program), MODELS.index(kind), noise)
                        for label in wanted:
                            found[label].append(np.asarray(values[label]))
        progress((number + 1) / len(worlds))
    return [_result(check, np.concatenate(found[check.label])) for check in CHECKS]


def _result(check: Check, values: np.ndarray) -> Result:
    worst = float(values.max())  # NaN stays NaN, and fails: no comparison with it is true
    return Result(
        check.label, check.statement, len(values), worst, check.tolerance, check.reason, worst <= check.tolerance
    )


# The programs run for a second: a compiler that optimises less takes half the time.
@partial(jax.jit, static_argnums=0, compiler_options={"xla_backend_optimization_level": 0})
def _discrepancies(checks: tuple[Check, ...], number: Int[Array, ""] | int, noise: Noise) -> dict[str, Array]:
    """[n] of each check, for models with these numbers in `MODELS`; meaningless if a check is not for that model."""

    def of_one(noise: Noise) -> dict[str, Float[Array, ""]]:
        draw = build_draw(jax.numpy.asarray(number), noise)
        return {check.label: check.discrepancy(draw) for check in checks}

    return jax.vmap(of_one)(noise)


__all__ = ["CHECKS", "SHAPES", "Check", "Result", "run"]


def __dir__() -> list[str]:
    return __all__
