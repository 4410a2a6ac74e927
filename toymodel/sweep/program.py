"""Settings of one program, computed: blocks of them vectorised, a block for each local device at a time."""

import ctypes
import sys
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import jax
import numpy as np
import polars as pl
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array

from toymodel._public import own_names
from toymodel.experiments.experiment import Experiment, Row

__dir__ = own_names(globals())

SMALL = 32  # block size from which on settings are so small that filling a block up costs nothing

Report = Callable[[int], Any]  # called with the number of settings that were just computed


def table(
    experiment: Experiment,
    settings: pl.DataFrame,
    needed: dict[str, np.ndarray] | None = None,
    *,
    precision: str = "float64",
    report: Report = lambda _: None,
) -> pl.DataFrame:
    """The rows of settings that belong to one program, in their order: the fields, then the measurements.

    Args:
      needed: for an experiment that needs another, the results of that one for each of these settings.
    """
    if experiment.alone:
        return settings.hstack(pl.DataFrame(_one_by_one(experiment, settings, needed, precision, report)))
    compiled = tuple((name, settings[name][0]) for name in experiment.compiled)
    traced = (name for name in experiment.fields if name not in experiment.compiled)
    numbers = {name: places(settings[name], experiment.fields[name].options) for name in traced}
    rows = settings.height
    # The same whatever the number of devices, and so are the digits. A program of many small settings is compiled once.
    block = experiment.block if experiment.block >= SMALL else min(experiment.block, rows)
    devices = min(len(jax.local_devices()), -(-rows // block)) if experiment.whole else 1
    with jax.enable_x64(precision == "float64"):
        program, parts = _program(experiment, compiled, block, devices, precision), []
        for start in range(0, rows, devices * block):
            taken = np.resize(np.arange(start, min(start + devices * block, rows)), devices * block)  # filled up
            given = {name: column[taken] for name, column in numbers.items()}
            from_needed = None if needed is None else {name: column[taken] for name, column in needed.items()}
            found = jax.device_get(program(given, from_needed))
            parts.append({name: values[: rows - start] for name, values in found.items()})
            report(len(np.unique(taken)))
    measured = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    for name, words in experiment.names.items():
        measured[name] = np.asarray(words)[measured[name]]
    return settings.hstack(pl.DataFrame(measured))


def _one_by_one(
    experiment: Experiment,
    settings: pl.DataFrame,
    needed: dict[str, np.ndarray] | None,
    precision: str,
    report: Report,
) -> dict[str, np.ndarray]:
    """The result of `measure` for each setting, one at a time."""
    rows = []
    with jax.enable_x64(precision == "float64"):
        for number, values in enumerate(settings.iter_rows(named=True)):
            from_needed = () if needed is None else ({name: column[number] for name, column in needed.items()},)
            rows.append(jax.device_get(experiment.measure(experiment.setting(**values), *from_needed)))
            report(1)
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def places(column: pl.Series, words: Sequence[str]) -> np.ndarray:
    """A column as input of a program: words as indices of the known words, numbers unchanged."""
    if words:
        column = column.replace_strict(list(words), list(range(len(words))), return_dtype=pl.Int32)
    return column.to_numpy()


@lru_cache(maxsize=1)
def _program(
    experiment: Experiment, compiled: tuple[tuple[str, Any], ...], block: int, devices: int, precision: str
) -> Any:
    """The function from numbers [devices · block], and other inputs, to results; compiled when first called."""
    del block, precision  # a different object is a different program
    free_memory()

    def measure(numbers: dict[str, Array], needed: Row | None) -> Row:
        setting = experiment.setting(**dict(compiled), **numbers)
        return experiment.measure(setting) if needed is None else experiment.measure(setting, needed)

    vectorised = jax.vmap(measure)
    if not experiment.whole:
        return vectorised
    if devices == 1:
        return jax.jit(vectorised)
    mesh = Mesh(jax.local_devices()[:devices], "devices")
    split = PartitionSpec("devices")  # type: ignore[no-untyped-call]
    return jax.jit(jax.shard_map(vectorised, mesh=mesh, in_specs=split, out_specs=split, check_vma=False))


def free_memory() -> None:
    """Forget the last program, and return the memory that compiling it used."""
    _program.cache_clear()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # of glibc, which keeps some hundred megabytes otherwise
        if trim is not None:
            trim(0)
