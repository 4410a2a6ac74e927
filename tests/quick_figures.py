"""Tables of the figures with fewer points. A sweep is computed once in a session, by the workers that need it first."""

import functools
import importlib
import os
from pathlib import Path

from figures import style, sweeps
from toymodel.sweep import Sweep


def swept(wanted: Sweep) -> style.Table:
    """The rows of a sweep, kept in the folder that tests/conftest.py names."""
    return sweeps.swept(Path(os.environ["TOYMODEL_TEST_SWEEPS"]), wanted)


@functools.cache
def quick(name: str) -> style.Table:
    """The table of the figure figures/`name`.py."""
    table: style.Table = importlib.import_module(f"figures.{name}").compute(True, swept)
    return table
