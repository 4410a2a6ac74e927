"""The sweeps behind the figures, kept below the folder of the pictures, so that none is run twice."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from figures.style import Table
from toymodel import sweep
from toymodel.sweep import Sweep

Swept = Callable[[Sweep], Table]  # what a figure is given: all rows of a sweep, in the order of its settings


def swept(out: Path, wanted: Sweep) -> Table:
    """The table of a sweep; only what is not yet in `out`/sweeps is computed, and changed code has another folder.

    A result that is an array is a column [settings, …].
    """
    folder = out / "sweeps"
    place = folder / f"{wanted.experiment.name}-{wanted.experiment.code()[:12]}"
    rows = sweep.run(wanted, place, needed_in=folder).collect()
    return {name: np.asarray(column.to_numpy()) for name, column in zip(rows.columns, rows, strict=True)}


def swept_in_a_hurry(swept: Swept, wanted: Sweep) -> Table:
    """`swept`, for few settings that need many programs: these are compiled with few optimisations, and then freed."""
    untyped: Any = jax
    option = "jax_disable_most_optimizations"
    before = untyped.config.read(option)
    untyped.config.update(option, True)
    try:
        return swept(wanted)
    finally:
        untyped.config.update(option, before)
        untyped.clear_caches()
