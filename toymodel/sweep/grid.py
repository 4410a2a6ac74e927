"""A grid of settings, never written out: axes, each of one field or of several that go together.

A setting is a place in the product of the axes. The compiled fields decide which program it belongs to; each program's
settings are cut into shards of equal size, and only a shard's columns are ever in memory.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from toymodel._public import own_names
from toymodel.experiments.experiment import Columns, Experiment

__dir__ = own_names(globals())


class Grid(NamedTuple):
    """Every combination of the rows of its axes; the last axis runs fastest."""

    axes: tuple[Columns, ...]

    @property
    def size(self) -> int:
        """The number of settings."""
        return math.prod(map(_length, self.axes))

    def rows(self, places: np.ndarray) -> Columns:
        """The columns of the settings at these places."""
        by_axis = np.unravel_index(places, [_length(axis) for axis in self.axes])
        found = zip(self.axes, by_axis, strict=True)
        return {name: column[at] for axis, at in found for name, column in axis.items()}

    def over(self, names: Sequence[str]) -> "Grid":
        """The product of only those axes that hold any of these fields."""
        return Grid(tuple(axis for axis in self.axes if set(names) & set(axis)))


class Program(NamedTuple):
    """The settings of one grid that one compiled program runs: places start + inner, of each of these starts."""

    grid: Grid
    compiled: dict[str, Any]
    starts: np.ndarray
    inner: int

    @property
    def size(self) -> int:
        """The number of settings."""
        return len(self.starts) * self.inner


class Shard(NamedTuple):
    """Settings that are computed and written together: of one program, the numbers from `start` to `stop`."""

    program: Program
    start: int
    stop: int


@dataclass(frozen=True, eq=False)
class Sweep:
    """An experiment with all the settings it is to be run for."""

    experiment: Experiment
    grids: tuple[Grid, ...]
    precision: str = "float64"
    shard_size: int = 4096

    @property
    def size(self) -> int:
        """The number of settings."""
        return sum(grid.size for grid in self.grids)

    @cached_property
    def programs(self) -> tuple[Program, ...]:
        """One for each grid and combination of compiled fields."""
        return tuple(program for grid in self.grids for program in _programs(self.experiment.compiled, grid))

    def shards(self) -> Iterator[Shard]:
        """All of them, in order."""
        for program in self.programs:
            for start in range(0, program.size, self.shard_size):
                yield Shard(program, start, min(start + self.shard_size, program.size))

    def settings(self, shard: Shard) -> Columns:
        """The columns of a shard's settings, in the order of the experiment's fields."""
        program, numbers = shard.program, np.arange(shard.start, shard.stop)
        rows = program.grid.rows(program.starts[numbers // program.inner] + numbers % program.inner)
        return completed(self.experiment, rows)


def completed(experiment: Experiment, columns: Columns) -> Columns:
    """The fields in their order, with what depends on other fields filled in."""
    if experiment.complete is not None:
        columns = experiment.complete(columns)
    return {name: columns[name] for name in experiment.fields}


def needed_sweep(sweep: Sweep, settings: Columns) -> tuple[Sweep, Columns]:
    """The settings of another experiment that these settings need: each once, and the columns for each of these."""
    experiment = sweep.experiment.needs
    assert experiment is not None
    columns = completed(experiment, sweep.experiment.needed(settings))
    _, first = np.unique(row_codes(columns), return_index=True)
    grid = Grid(({name: column[np.sort(first)] for name, column in columns.items()},))
    return Sweep(experiment, (grid,), sweep.precision, experiment.shard), columns


def _programs(compiled: tuple[str, ...], grid: Grid) -> Iterator[Program]:
    is_outer = [bool(set(axis) & set(compiled)) for axis in grid.axes]
    grid = Grid(tuple(grid.axes[i] for i in sorted(range(len(grid.axes)), key=lambda i: not is_outer[i])))
    outer, inner = Grid(grid.axes[: sum(is_outer)]), Grid(grid.axes[sum(is_outer) :])
    rows = outer.rows(np.arange(outer.size)) if compiled else {}
    codes = row_codes({name: rows[name] for name in compiled}) if compiled else np.zeros(1, int)
    for code in dict.fromkeys(codes.tolist()):
        members = np.flatnonzero(codes == code)
        values = {name: rows[name][members[0]].item() for name in compiled}
        yield Program(grid, values, members * inner.size, inner.size)


def _length(axis: Columns) -> int:
    return len(next(iter(axis.values())))


def row_codes(columns: Columns) -> np.ndarray:
    """0, 1, …: equal for equal rows, every number in use."""
    codes = np.zeros(_length(columns), int)
    for column in columns.values():
        _, code = np.unique(column, return_inverse=True)
        codes = np.unique(codes * (code.max() + 1) + code, return_inverse=True)[1]
    return codes
