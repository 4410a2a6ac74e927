"""The settings of a sweep, from values as people write them: all combinations of lists, ranges and draws."""

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from toymodel._public import own_names
from toymodel.experiments.experiment import BadSetting, Columns, Experiment, Rule

__dir__ = own_names(globals())

Values = Mapping[str, Any]
MOST = 10**8  # settings, some 10 GB of them


@dataclass(frozen=True, eq=False)
class Sweep:
    """An experiment with all settings to run: one row for each, one column for each field."""

    experiment: Experiment
    settings: pl.DataFrame
    precision: str = "float64"
    shard_size: int = 4096

    @property
    def size(self) -> int:
        """The number of settings."""
        return self.settings.height

    def programs(self) -> list[pl.DataFrame]:
        """The settings of each compiled program: those that agree in the compiled fields."""
        compiled = self.experiment.compiled
        parts = self.settings.partition_by(compiled, maintain_order=True) if compiled else [self.settings]
        return [part for part in parts if part.height]


def make_sweep(
    experiment: Experiment, *parts: Values, precision: str = "float64", shard_size: int | None = None
) -> Sweep:
    """The settings of one or several grids, in their order; in each grid the last field runs fastest.

    Args:
      parts: each a grid: for fields, one value, or a sequence of values, every combination of which is run. "zip" holds
        fields whose values go together, one by one. "random" holds `draws`, optionally `key`, and for fields the
        values to draw from. A sequence may be given as {"range": n} (or [start, stop], or with a step), or as
        {"linear": [low, high], "count": n} or {"log": …}; under "random", without the count, these are intervals.
        A draw that repeats an earlier one is dropped.

    Raises:
      BadSetting: an unknown field, a value out of range, a repeated setting.
    """
    if precision not in ("float64", "float32"):
        raise BadSetting(f'`precision` must be "float64" or "float32", got {precision!r}.', "precision")
    shard_size = experiment.shard if shard_size is None else shard_size
    if not isinstance(shard_size, int) or isinstance(shard_size, bool) or shard_size < 1:
        raise BadSetting(f"`shard_size` must be a whole number of at least 1, got {shard_size!r}.", "shard_size")
    grids: list[pl.DataFrame] = []
    for number, part in enumerate(parts or ({},)):
        try:
            grids.append(_grid(experiment, part))
            if number or experiment.complete:  # the axes of one grid hold nothing twice
                _check_unique(pl.concat(grids), "grids")
        except BadSetting as error:
            error.grid = number
            raise
    return Sweep(experiment, pl.concat(grids), precision, shard_size)


def completed(experiment: Experiment, columns: Columns) -> pl.DataFrame:
    """The settings with fields that depend on others filled in."""
    if experiment.complete is not None:
        columns = experiment.complete(columns)
    return pl.DataFrame({name: columns[name] for name in experiment.fields})


def columns_of(settings: pl.DataFrame) -> Columns:
    """The columns as arrays, which experiments work with."""
    return {c.name: c.to_numpy().astype(np.str_) if c.dtype == pl.String else c.to_numpy() for c in settings}


def _grid(experiment: Experiment, part: Values) -> pl.DataFrame:
    """Every combination of the rows of a grid's axes."""
    axes = [_axis(experiment, name, values) for name, values in part.items()]
    given = [name for axis in axes for name in axis.columns]
    for name in given:
        if given.count(name) > 1:
            raise BadSetting(f"`{name}` is given twice in one grid.", name)
    for name, field in experiment.fields.items():
        if name not in given:
            if field.default is None:
                raise BadSetting(f"`{name}` must be given for `{experiment.name}`.")
            axes.insert(0, pl.DataFrame({name: field.column(name, [field.default])}))
    if (size := math.prod(axis.height for axis in axes)) > MOST:
        raise BadSetting(f"there are {size:,} settings here; at most {MOST:,} fit into one sweep.")
    rows = functools.reduce(lambda left, right: left.join(right, how="cross", maintain_order="left_right"), axes)
    settings = completed(experiment, columns_of(rows)) if experiment.complete else rows.select(*experiment.fields)
    for rule in experiment.rules:
        _check_rule(rule, settings, given)
    return settings


def _axis(experiment: Experiment, name: str, values: Any) -> pl.DataFrame:
    """The axis of one name in a grid: a field, or several fields whose values go together."""
    if name == "random":
        return _drawn(experiment, values)
    if name == "zip" and (not isinstance(values, Mapping) or not values):
        raise BadSetting(f"`zip` must be a table of fields, got {values!r}.", "zip")
    columns = {
        one: _values(experiment, one, given) for one, given in (values if name == "zip" else {name: values}).items()
    }
    if len({len(column) for column in columns.values()}) > 1:
        told = ", ".join(f"{one} {len(column)}" for one, column in columns.items())
        raise BadSetting(f"fields in `zip` must have equally many values, got {told}.", next(iter(columns)))
    axis = pl.DataFrame(columns)
    _check_unique(axis, axis.columns[0])
    return axis


def _values(experiment: Experiment, name: str, values: Any) -> np.ndarray:
    """One value, a sequence, or a table that stands for one."""
    field = experiment.field(name)
    if isinstance(values, Mapping):
        values = _spelt_out(name, values)
    elif isinstance(values, range):
        values = np.arange(values.start, values.stop, values.step)
    elif isinstance(values, str) or not isinstance(values, Sequence | np.ndarray):
        values = [values]
    if len(values) == 0:
        raise BadSetting(f"`{name}` must have at least one value.", name)
    return field.column(name, values)


def _spelt_out(name: str, table: Values) -> Any:
    match dict(table), len(table):
        case {"range": bounds}, 1:
            bounds = bounds if isinstance(bounds, list | tuple) else [bounds]
            if 1 <= len(bounds) <= 3 and all(isinstance(bound, int) for bound in bounds) and bounds[2:] != [0]:
                return np.arange(*bounds)
        case {"linear": ends, "count": int(count)}, 2 if count >= 1:
            return np.linspace(*_interval(name, ends, "linear"), count)
        case {"log": ends, "count": int(count)}, 2 if count >= 1:
            return np.geomspace(*_interval(name, ends, "log"), count)
    raise BadSetting(
        f"`{name}` must be values, {{range = n}}, {{linear = [low, high], count = n}} or {{log = …, count = n}}, "
        f"got {dict(table)!r}.",
        name,
    )


def _interval(name: str, ends: Any, scale: str) -> tuple[float, float]:
    numbers = isinstance(ends, list | tuple) and len(ends) == 2 and all(isinstance(end, int | float) for end in ends)
    if not numbers or not ends[0] <= ends[1] or (scale == "log" and not ends[0] > 0):
        positive = ", both positive" if scale == "log" else ""
        raise BadSetting(f"`{name}`: `{scale}` must be [low, high]{positive}, got {ends!r}.", name)
    return ends[0], ends[1]


def _drawn(experiment: Experiment, values: Any) -> pl.DataFrame:
    """Fields drawn independently: draw i depends neither on other fields nor on the number of draws."""
    if not isinstance(values, Mapping) or not isinstance(values.get("draws"), int) or values["draws"] < 1:
        raise BadSetting("`random` must be a table with `draws`, a whole number of at least 1.", "random")
    key, draws = values.get("key", 0), values["draws"]
    if not isinstance(key, int) or key < 0:
        raise BadSetting(f"`key` of `random` must be a whole number of at least 0, got {key!r}.", "key")
    columns: Columns = {}
    for name, source in values.items():
        if name not in ("draws", "key"):
            uniform: Any = np.random.default_rng([key, *name.encode()]).random(draws)
            columns[name] = experiment.field(name).column(name, _draw(experiment, name, source, uniform))
    return pl.DataFrame(columns).unique(maintain_order=True)


def _draw(experiment: Experiment, name: str, source: Any, uniform: np.ndarray) -> np.ndarray:
    """Values of a field for numbers that are uniform between 0 and 1."""
    is_real = experiment.field(name).kind is float
    match source:
        case {"linear": ends} if is_real and len(source) == 1:
            low, high = _interval(name, ends, "linear")
            return low + (high - low) * uniform
        case {"log": ends} if is_real and len(source) == 1:
            low, high = _interval(name, ends, "log")
            return low * (high / low) ** uniform
        case list() | tuple() | range() | {"range": _}:
            options = _values(experiment, name, source)
            return options[(uniform * len(options)).astype(int)]
    raise BadSetting(
        f"`{name}` under `random` must be a list, {{range = n}}, or for real numbers {{linear = [low, high]}} "
        f"or {{log = [low, high]}}, got {source!r}.",
        name,
    )


def _check_unique(rows: pl.DataFrame, key: str) -> None:
    """Raise `BadSetting` when two rows are the same."""
    twice = rows.filter(rows.is_duplicated())
    if twice.height:
        raise BadSetting(f"{_told(twice)} occurs twice; every setting must occur once.", key)


def _check_rule(rule: Rule, settings: pl.DataFrame, given: Sequence[str]) -> None:
    """Raise `BadSetting` when a setting breaks a rule; a field that was given is to blame."""
    rows = settings.select(rule.fields).unique(maintain_order=True)
    broken = rows.filter(~np.asarray(rule.holds(*columns_of(rows).values()), bool))
    if broken.height:
        to_blame = next((name for name in rule.fields if name in given), "")
        raise BadSetting(f"{rule.words}, got {_told(broken)}.", to_blame)


def _told(rows: pl.DataFrame) -> str:
    return ", ".join(f"{name} = {value!r}" for name, value in rows.row(0, named=True).items())
