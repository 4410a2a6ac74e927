"""A sweep written in TOML; errors give the file and the line."""

import re
import sys
import tomllib
from pathlib import Path
from typing import Any

from toymodel._public import own_names
from toymodel.experiments.catalogue import EXPERIMENTS, load_object
from toymodel.experiments.experiment import BadSetting, Experiment
from toymodel.sweep.grid import Sweep, make_sweep

__dir__ = own_names(globals())

KEYS = ("experiment", "precision", "shard_size", "settings", "grids")


def load(path: Path | str) -> Sweep:
    """The sweep of a configuration.

        experiment = "gram"         # a name in `toymodel.experiments`, or "module:OBJECT" of your own
        precision = "float64"       # optional
        shard_size = 4096           # optional: settings in a file

        [settings]                  # a grid as `make_sweep` takes it: a list is an axis
        overlap = [0, 2, 4]

        [[grids]]                   # optional, any number: each replaces some of the settings; all are run
        family = "bag"

    Raises:
      BadSetting: with `path:line:` in front where the line is known.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadSetting(f"cannot read {path}: {getattr(error, 'strerror', None) or 'it is not text'}.") from error
    try:
        return _sweep(tomllib.loads(text), path.parent)
    except tomllib.TOMLDecodeError as error:
        raise BadSetting(f"{path}: {error}.") from None
    except BadSetting as error:
        line = _line(text, error.key, error.grid)
        raise BadSetting(f"{path}:{line}: {error}" if line else f"{path}: {error}") from error


def _sweep(table: dict[str, Any], beside: Path) -> Sweep:
    for key in table:
        if key not in KEYS:
            raise BadSetting(f"there is no {key!r} here; known are {', '.join(KEYS)}.", key)
    settings, grids = table.get("settings", {}), table.get("grids", [{}])
    if not isinstance(settings, dict):
        raise BadSetting(f"`settings` must be a table, got {settings!r}.", "settings")
    if not isinstance(grids, list) or not grids or not all(isinstance(grid, dict) for grid in grids):
        raise BadSetting("`grids` must be tables: [[grids]].", "grids")
    return make_sweep(
        _experiment(table.get("experiment"), beside),
        *(settings | grid for grid in grids),
        precision=table.get("precision", "float64"),
        shard_size=table.get("shard_size"),
    )


def _experiment(name: Any, beside: Path) -> Experiment:
    known = f"one of {', '.join(EXPERIMENTS)}, or module:OBJECT"
    if not isinstance(name, str) or not (name in EXPERIMENTS or ":" in name):
        raise BadSetting(f"`experiment` must be {known}, got {name!r}.", "experiment")
    sys.path.insert(0, str(beside))  # a module beside the configuration is found as well as an installed one
    try:
        found = load_object(EXPERIMENTS.get(name, name))
    except (ImportError, AttributeError) as error:
        raise BadSetting(f"cannot import `experiment` {name!r}: {error}.", "experiment") from None
    finally:
        sys.path.remove(str(beside))
    if not isinstance(found, Experiment):
        raise BadSetting(f"`experiment` must be {known}, but {name!r} is {type(found).__name__}.", "experiment")
    return found


def _line(text: str, key: str, grid: int) -> int | None:
    """The line number of a key: in this grid if possible, else in the settings that all grids share."""
    gives = re.compile(rf"""(^|[\s{{,."'])({re.escape(key)})["']?\s*=|^\s*\[+\s*{re.escape(key)}\s*\]""")
    found, grids, at = [], -1, -1
    for number, line in enumerate(text.splitlines(), start=1):
        if header := re.match(r"\s*(\[+)\s*(\w+)", line):
            grids += header[1] == "[[" and header[2] == "grids"
            at = grids if header[2] == "grids" else -1
        if key and gives.search(line.partition("#")[0]):
            found.append((at != grid, at >= 0, number))
    return min(found)[-1] if found else None
