"""Prediction against measurement on fresh random draws, label by label: `toymodel check`, where the two routes meet.

`draws` makes random instances. The other modules, one for each subject as in `theory`, compute by how much a draw
misses the claim of each label.
"""

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial
from typing import NamedTuple

import jax
import numpy as np
from jax.stages import Lowered
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
      progress: called with the fraction done, whenever it has grown.

    Raises:
      ValueError: `examples` < 1 or `seed` < 0.
    """
    require_int("examples", examples, low=1)
    require_int("seed", seed, low=0)
    # Two programs for each shape. What one model checks is apart from the rest: it takes more batches of that model.
    programs = [tuple(c for c in CHECKS if len(c.models) > 1), tuple(c for c in CHECKS if len(c.models) == 1)]
    jobs = [(shape, program) for shape in sorted(shapes, reverse=True) for program in programs if program]
    found: dict[str, list[np.ndarray]] = {check.label: [] for check in CHECKS}
    with ThreadPoolExecutor() as pool, jax.enable_x64(True):  # one program is traced while another compiles and runs
        runs = []
        for done, (shape, program) in enumerate(jobs, start=1):
            lowered = _discrepancies.lower(program, 0, draw_noise(np.random.default_rng(seed), *shape))
            fewest = min(len(check.models) for check in program) * len(shapes)
            batches = math.ceil(examples / fewest / CHUNK)
            runs.append(pool.submit(_run, lowered, program, shape, seed, batches))
            progress(done / len(jobs) / 2)
        for done, run in enumerate(as_completed(runs), start=1):
            for label, values in run.result().items():
                found[label] += values
            progress((1 + done / len(jobs)) / 2)
    return [_result(check, np.concatenate(found[check.label])) for check in CHECKS]


def _run(
    lowered: Lowered, checks: Sequence[Check], shape: tuple[int, int], seed: int, batches: int
) -> dict[str, list[np.ndarray]]:
    """What each check finds on draws of one shape, so many batches of every model that it is for."""
    found: dict[str, list[np.ndarray]] = {check.label: [] for check in checks}
    program = lowered.compile()
    for number, kind in enumerate(MODELS):
        wanted = [check.label for check in checks if kind in check.models]
        rng = np.random.default_rng([seed, number, *shape])
        for _ in range(batches if wanted else 0):
            with jax.enable_x64(True):
                values = program(number, draw_noise(rng, *shape))
            for label in wanted:
                found[label].append(np.asarray(values[label]))
    return found


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
