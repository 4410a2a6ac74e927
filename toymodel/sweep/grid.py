"""A grid of settings, never written out: axes, each of one field or of several that go together.

A setting is a place in the product of the axes. The compiled fields decide which program it belongs to; the plan cuts
each program's settings into shards of equal size, and only a shard's columns are ever in memory.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from toymodel.experiments.experiment import Columns, Experiment

SHARD = 4096  # settings in a file, unless the configuration says otherwise


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

    def rows(self, numbers: np.ndarray) -> Columns:
        """The columns of the settings with these numbers, 0 … size − 1."""
        return self.grid.rows(self.starts[numbers // self.inner] + numbers % self.inner)


class Shard(NamedTuple):
    """Settings that are computed and written together: of one program, the numbers from `start` to `stop`."""

    program: int  # its place in `Sweep.programs`
    start: int
    stop: int


@dataclass(frozen=True, eq=False)
class Sweep:
    """An experiment with all the settings it is to be run for."""

    experiment: Experiment
    grids: tuple[Grid, ...]
    precision: str = "float64"
    shard_size: int = SHARD

    def __post_init__(self) -> None:
        object.__setattr__(self, "programs", tuple(program for grid in self.grids for program in self._programs(grid)))

    programs: tuple[Program, ...] = ()

    @property
    def size(self) -> int:
        """The number of settings."""
        return sum(grid.size for grid in self.grids)

    @property
    def options(self) -> dict[str, tuple[str, ...]]:
        """Of each choice, the options that are used, in the experiment's order."""
        used = {
            name: {word for grid in self.grids for axis in grid.axes if name in axis for word in axis[name]}
            for name in self.experiment.choices
        }
        return {
            name: tuple(o for o in self.experiment.fields[name].options if o in words) for name, words in used.items()
        }

    @property
    def compilations(self) -> int:
        """The number of different programs."""
        return len({tuple(program.compiled.items()) for program in self.programs})

    def shards(self) -> Iterator[Shard]:
        """All of them, in order."""
        for number, program in enumerate(self.programs):
            for start in range(0, program.size, self.shard_size):
                yield Shard(number, start, min(start + self.shard_size, program.size))

    @property
    def shard_count(self) -> int:
        """The number of shards."""
        return sum(-(-program.size // self.shard_size) for program in self.programs)

    def settings(self, shard: Shard) -> Columns:
        """The columns of a shard's settings, in the order of the experiment's fields."""
        rows = self.programs[shard.program].rows(np.arange(shard.start, shard.stop))
        columns = self.experiment.complete({name: rows[name] for name in self.experiment.fields})
        return {name: columns[name] for name in self.experiment.fields}

    def _programs(self, grid: Grid) -> Iterator[Program]:
        compiled = self.experiment.compiled
        is_outer = [bool(set(axis) & set(compiled)) for axis in grid.axes]
        # Compiled fields slowest, then choices: a shard then has few of them, and blocks are full.
        choices = [bool(set(axis) & set(self.experiment.choices)) for axis in grid.axes]
        order = sorted(range(len(grid.axes)), key=lambda i: (not is_outer[i], not choices[i]))
        grid = Grid(tuple(grid.axes[i] for i in order))
        outer, inner = Grid(grid.axes[: sum(is_outer)]), Grid(grid.axes[sum(is_outer) :])
        rows = outer.rows(np.arange(outer.size)) if compiled else {}
        codes = row_codes({name: rows[name] for name in compiled}) if compiled else np.zeros(1, int)
        for code in range(codes.max() + 1):
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
