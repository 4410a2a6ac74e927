"""Many runs of one function as one compiled program: vectorised in blocks, and divided among devices."""

from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import Mesh, PartitionSpec

from toymodel._public import own_names

__dir__ = own_names(globals())

AXIS = "runs"
Axes = Any  # a tree of 0 (a leading axis of runs in every array below) and None (the same for all runs)


def device_mesh(runs: int) -> Mesh | None:
    """All devices in a row, if there are several and the number of runs is a multiple of theirs."""
    devices = jax.devices()
    return Mesh(devices, AXIS) if len(devices) > 1 and runs % len(devices) == 0 else None


def each_run(
    function: Callable[..., Any], axes: tuple[Axes, ...], *, block: int, mesh: Mesh | None = None
) -> Callable[..., Any]:
    """Map `function` over the runs, about `block` at once on each device, so that their data stay in a cache.

    `axes` has an entry per argument. Every array that is returned has a leading axis of runs.
    """

    def on_one_device(*arguments: Any) -> Any:
        mapped = _map(lambda axis, part: part if axis == 0 else None, axes, arguments)
        runs = jax.tree.leaves(mapped)[0].shape[0]

        def one(mine: Any) -> Any:
            return function(*_map(lambda axis, mine, all_: mine if axis == 0 else all_, axes, mine, arguments))

        # The largest divisor up to `block`; all at once rather than in blocks a quarter as large.
        size = next((size for size in range(min(runs, block), block // 4, -1) if runs % size == 0), runs)
        return jax.vmap(one)(mapped) if size == runs else jax.lax.map(one, mapped, batch_size=size)

    if mesh is None:
        return on_one_device
    return jax.shard_map(on_one_device, mesh=mesh, in_specs=_map(_spec, axes), out_specs=_spec(0))


def _spec(axis: int | None) -> PartitionSpec:
    return PartitionSpec() if axis is None else PartitionSpec(AXIS)  # type: ignore[no-untyped-call]


def _map(function: Callable[..., Any], axes: Axes, *trees: Any) -> Any:
    return jax.tree.map(function, axes, *trees, is_leaf=lambda axis: axis is None)
