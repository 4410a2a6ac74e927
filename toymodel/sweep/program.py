"""Settings of one program, computed: blocks of them vectorised, the blocks shared out between all local devices.

The program takes up to `ROUND` blocks for each device and is told how many there are, so it is compiled once whatever
is left over. A block holds `Experiment.block` settings that agree in every choice: a choice is then a branch that is
taken, rather than all branches computed. Every block runs through the same code, whichever device it is on.
"""

import time
from collections.abc import Callable
from functools import lru_cache
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import polars as pl
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array

from toymodel.experiments.experiment import Choice, Column, Columns, Experiment
from toymodel.sweep.grid import Sweep

ROUND = 32  # blocks that a device is given at once, at most
PATIENCE = 0.5  # seconds that a round should take: Ctrl-C and the progress bar wait for it

Report = Callable[[int], Any]  # called with the number of settings that were just computed


def table(sweep: Sweep, settings: Columns, report: Report = lambda _: None) -> pl.DataFrame:
    """The rows of settings that belong to one program, in their order: the fields, then what was measured."""
    with jax.enable_x64(sweep.precision == "float64"):
        measured = _measured(sweep, settings, report)
    for name, words in sweep.experiment.names.items():
        measured[name] = np.asarray(words)[measured[name]]
    return pl.DataFrame({**settings, **measured})


def _measured(sweep: Sweep, settings: Columns, report: Report) -> dict[str, np.ndarray]:
    experiment, devices = sweep.experiment, len(jax.local_devices())
    program = _program(
        experiment,
        tuple((name, settings[name][0].item()) for name in experiment.compiled),
        tuple(sweep.options.items()),
        devices,
        sweep.precision,
    )
    places = {name: _places(options, settings[name]) for name, options in sweep.options.items()}
    numbers = {name: settings[name] for name in experiment.numbers}
    blocks = _blocks(places, len(next(iter(settings.values()))), experiment.block)
    at_once, start, results = 1, 0, []
    while start < len(blocks):
        taken = blocks[start : start + at_once * devices]
        start += len(taken)
        began = time.monotonic()
        results.append(_run(program, places, numbers, taken, devices, experiment.block))
        seconds = (time.monotonic() - began) / at_once
        at_once = int(np.clip(PATIENCE / seconds, 1, ROUND))
        report(sum(map(len, taken)))
    order = np.argsort(np.concatenate(blocks))
    return {name: np.concatenate([result[name] for result in results])[order] for name in results[0]}


def _places(options: tuple[str, ...], words: Column) -> np.ndarray:
    """The place of each word among the options."""
    order = np.argsort(options)
    return order[np.searchsorted(options, words, sorter=order)].astype(np.int32)


def _blocks(places: Columns, rows: int, size: int) -> list[np.ndarray]:
    """The numbers of all rows, in blocks of rows that agree in their choices."""
    codes = np.zeros(rows, int)
    for column in places.values():
        codes = codes * (column.max() + 1) + column
    groups = [np.flatnonzero(codes == code) for code in np.unique(codes)]
    return [group[start : start + size] for group in groups for start in range(0, len(group), size)]


def _run(
    program: Any, places: Columns, numbers: Columns, blocks: list[np.ndarray], devices: int, size: int
) -> dict[str, np.ndarray]:
    """The results of at most `ROUND` blocks a device, padding removed."""
    each = -(-len(blocks) // devices)  # device d takes the blocks d·each … (d + 1)·each − 1
    rows = np.full((devices, ROUND, size), blocks[0][0])
    where = [(number // each, number % each) for number in range(len(blocks))]
    for place, block in zip(where, blocks, strict=True):
        rows[place] = np.resize(block, size)  # over and over, to fill up
    counts = np.clip(len(blocks) - each * np.arange(devices), 0, each).astype(np.int32)
    choices = {name: column[rows[..., 0]] for name, column in places.items()}
    found = program(counts, choices, {name: column[rows] for name, column in numbers.items()})
    filled = [(*place, slice(len(block))) for place, block in zip(where, blocks, strict=True)]
    return {name: np.concatenate([values[part] for part in filled]) for name, values in jax.device_get(found).items()}


@lru_cache(maxsize=8)
def _program(
    experiment: Experiment,
    compiled: tuple[tuple[str, Any], ...],
    options: tuple[tuple[str, tuple[str, ...]], ...],
    devices: int,
    precision: str,
) -> Any:
    """Compiled when first called: from counts [D], choices [D, ROUND] and numbers [D, ROUND, block]."""
    del precision  # another one is another program

    def of_block(choices: dict[str, Array], numbers: dict[str, Array]) -> dict[str, Array]:
        chosen = {name: Choice(choices[name], words) for name, words in options}

        def one(numbers: dict[str, Array]) -> dict[str, Array]:
            return experiment.measure(SimpleNamespace(**dict(compiled), **chosen, **numbers))

        return jax.vmap(one, axis_size=experiment.block)(numbers)

    def on_one_device(counts: Array, choices: dict[str, Array], numbers: dict[str, Array]) -> dict[str, Array]:
        (count, given) = jax.tree.map(lambda leaf: leaf[0], (counts, (choices, numbers)))

        def block(i: Array | int) -> Any:
            return of_block(*jax.tree.map(lambda leaf: leaf[i], given))

        def step(i: Array, found: dict[str, Array]) -> dict[str, Array]:
            return jax.tree.map(lambda rows, here: rows.at[i].set(here), found, block(i))

        shapes = jax.eval_shape(block, 0)
        start = jax.tree.map(lambda shape: jnp.zeros((ROUND, *shape.shape), shape.dtype), shapes)
        return jax.tree.map(lambda leaf: leaf[None], jax.lax.fori_loop(0, count, step, start))

    mesh = Mesh(jax.local_devices()[:devices], "devices")
    split = PartitionSpec("devices")  # type: ignore[no-untyped-call]
    return jax.jit(jax.shard_map(on_one_device, mesh=mesh, in_specs=split, out_specs=split, check_vma=False))
