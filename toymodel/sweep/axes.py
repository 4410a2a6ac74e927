"""From values as people write them to a sweep: lists, ranges and draws become axes, and what is wrong is named."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from toymodel._public import own_names
from toymodel.experiments.experiment import BadSetting, Columns, Experiment, Rule
from toymodel.sweep.grid import Grid, Sweep, row_codes

__dir__ = own_names(globals())

Values = Mapping[str, Any]


def make_sweep(
    experiment: Experiment, *parts: Values, precision: str = "float64", shard_size: int | None = None
) -> Sweep:
    """The settings of one or several grids.

    Args:
      parts: each a grid: for fields, one value, or a sequence of values, every combination of which is run. "zip" holds
        fields whose values go together, one by one. "random" holds `draws`, optionally `key`, and for fields the
        values to draw from. Instead of a sequence stand {"range": n} (or [start, stop], or with a step), and
        {"linear": [low, high], "count": n} or {"log": …}; under "random", without the count, these are intervals.
        A draw that repeats an earlier one is dropped.

    Raises:
      BadSetting: an unknown field, a value out of its range, a setting that occurs twice.
    """
    if precision not in ("float64", "float32"):
        raise BadSetting(f'`precision` must be "float64" or "float32", got {precision!r}.', "precision")
    shard_size = experiment.shard if shard_size is None else shard_size
    if not isinstance(shard_size, int) or isinstance(shard_size, bool) or shard_size < 1:
        raise BadSetting(f"`shard_size` must be a whole number of at least 1, got {shard_size!r}.", "shard_size")
    grids: list[Grid] = []
    for number, part in enumerate(parts or ({},)):
        try:
            grids.append(_grid(experiment, part))
            for earlier in range(number):
                _check_apart(experiment, grids, earlier, number)
        except BadSetting as error:
            error.grid = number
            raise
    sweep = Sweep(experiment, tuple(grids), precision, shard_size)
    if experiment.complete is not None:  # what it fills in may be what another setting gives
        shards = [sweep.settings(shard) for shard in sweep.shards()]
        columns = {name: np.concatenate([shard[name] for shard in shards]) for name in experiment.fields}
        _check_unique(columns)
        for rule in experiment.rules:
            _check_rule(rule, columns, [])
    return sweep


def _grid(experiment: Experiment, part: Values) -> Grid:
    axes = []
    for name, values in part.items():
        if name == "zip":
            axes.append(_zipped(experiment, values))
        elif name == "random":
            axes.append(_drawn(experiment, values))
        else:
            axes.append({name: _values(experiment, name, values)})
    given = [name for axis in axes for name in axis]
    for name in given:
        if given.count(name) > 1:
            raise BadSetting(f"`{name}` is given twice in one grid.", name)
    for name, field in experiment.fields.items():
        if name not in given:
            if field.default is None:
                raise BadSetting(f"`{name}` must be given for `{experiment.name}`.")
            axes.append({name: field.column(name, [field.default])})
    for axis in axes:
        _check_unique(axis)
    grid = Grid(tuple(axes))
    for rule in experiment.rules:
        product = grid.over(rule.fields)
        _check_rule(rule, product.rows(np.arange(product.size)), given)
    return grid


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
    keys = set(table)
    if keys == {"range"}:
        bounds = table["range"] if isinstance(table["range"], list | tuple) else [table["range"]]
        if 1 <= len(bounds) <= 3 and all(isinstance(bound, int) for bound in bounds) and bounds[2:] != [0]:
            return np.arange(*bounds)
    elif keys in ({"linear", "count"}, {"log", "count"}):
        scale = "log" if "log" in table else "linear"
        low, high = _interval(name, table[scale], scale)
        if isinstance(table["count"], int) and table["count"] >= 1:
            return (np.geomspace if scale == "log" else np.linspace)(low, high, table["count"])
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


def _zipped(experiment: Experiment, values: Any) -> Columns:
    if not isinstance(values, Mapping) or not values:
        raise BadSetting(f"`zip` must be a table of fields, got {values!r}.", "zip")
    axis = {name: _values(experiment, name, of_field) for name, of_field in values.items()}
    lengths = {name: len(column) for name, column in axis.items()}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise BadSetting(f"fields in `zip` must have equally many values, got {told}.", next(iter(lengths)))
    return axis


def _drawn(experiment: Experiment, values: Any) -> Columns:
    """Fields drawn independently: draw i is the same whatever else is drawn, and however many draws there are."""
    if not isinstance(values, Mapping) or not isinstance(values.get("draws"), int) or values["draws"] < 1:
        raise BadSetting("`random` must be a table with `draws`, a whole number of at least 1.", "random")
    key, draws = values.get("key", 0), values["draws"]
    if not isinstance(key, int) or key < 0:
        raise BadSetting(f"`key` of `random` must be a whole number of at least 0, got {key!r}.", "key")
    axis: Columns = {}
    for name, source in values.items():
        if name in ("draws", "key"):
            continue
        field = experiment.field(name)
        uniform: Any = np.random.default_rng([key, *name.encode()]).random(draws)
        if isinstance(source, Mapping) and set(source) in ({"linear"}, {"log"}) and field.kind is float:
            ((scale, ends),) = source.items()
            low, high = _interval(name, ends, scale)
            drawn = low * (high / low) ** uniform if scale == "log" else low + (high - low) * uniform
        elif isinstance(source, list | tuple | range) or (isinstance(source, Mapping) and set(source) == {"range"}):
            options = _values(experiment, name, source)
            drawn = options[(uniform * len(options)).astype(int)]
        else:
            raise BadSetting(
                f"`{name}` under `random` must be a list, {{range = n}}, or for real numbers {{linear = [low, high]}} "
                f"or {{log = [low, high]}}, got {source!r}.",
                name,
            )
        axis[name] = field.column(name, drawn)
    _, first = np.unique(row_codes(axis), return_index=True)
    return {name: column[np.sort(first)] for name, column in axis.items()}


def _check_unique(axis: Columns) -> None:
    """Raise `BadSetting` when two rows of an axis are the same."""
    codes = row_codes(axis)
    if codes.max() + 1 < len(codes):
        place = np.flatnonzero(np.bincount(codes)[codes] > 1)[0]
        row = ", ".join(f"{name} = {column[place].item()!r}" for name, column in axis.items())
        raise BadSetting(f"{row} occurs twice; every setting must occur once.", next(iter(axis)))


def _check_rule(rule: Rule, rows: Columns, given: Sequence[str]) -> None:
    """Raise `BadSetting` when a setting breaks a rule; a field that was given is to blame."""
    columns = [rows[name] for name in rule.fields]
    broken = np.flatnonzero(~np.asarray(rule.holds(*columns), bool))
    if broken.size:
        pairs = zip(rule.fields, columns, strict=True)
        values = ", ".join(f"{name} = {column[broken[0]].item()!r}" for name, column in pairs)
        to_blame = next((name for name in rule.fields if name in given), "")
        raise BadSetting(f"{rule.words}, got {values}.", to_blame)


def _check_apart(experiment: Experiment, grids: list[Grid], first: int, second: int) -> None:
    """Raise `BadSetting` unless some field, compared alone, keeps two grids from holding one setting in common."""
    for name in experiment.fields:
        columns = [np.unique(next(axis[name] for axis in grids[i].axes if name in axis)) for i in (first, second)]
        if np.unique(np.concatenate(columns)).size == sum(column.size for column in columns):
            return
    raise BadSetting(
        f"grids {first + 1} and {second + 1} may hold the same setting: no field keeps them apart. Merge them, or give "
        "them different values of some field."
    )
