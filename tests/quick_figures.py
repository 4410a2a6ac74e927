"""Tables of the figures with fewer points: each is computed once in a process, and so is a sweep that figures share."""

import atexit
import functools
import importlib
import tempfile
from pathlib import Path

from figures import style, sweeps

_FOLDER = tempfile.TemporaryDirectory()
atexit.register(_FOLDER.cleanup)

swept = functools.partial(sweeps.swept, Path(_FOLDER.name))


@functools.cache
def quick(name: str) -> style.Table:
    """The table of the figure figures/`name`.py."""
    table: style.Table = importlib.import_module(f"figures.{name}").compute(True, swept)
    return table
