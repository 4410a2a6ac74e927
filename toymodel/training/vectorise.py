"""Many runs of one function as one compiled program: vectorised in blocks, and shared out between devices."""

from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

AXIS = "runs"
Axes = Any  # a tree of 0 (a leading axis of runs in every array below) and None (the same for all runs)


def device_mesh(runs: int) -> Mesh | None:
    """All devices in a row, when there are several and they divide the runs."""
    devices = jax.devices()
    return Mesh(devices, AXIS) if len(devices) > 1 and runs % len(devices) == 0 else None


def spread(mesh: Mesh, axes: Axes, tree: Any) -> Any:
    """The arrays on the devices: a share of the runs on each, or all of what they have in common."""
    return _map(lambda axis, part: jax.device_put(part, NamedSharding(mesh, _spec(axis))), axes, tree)


def each_run(
    function: Callable[..., Any], axes: tuple[Axes, ...], *, block: int, mesh: Mesh | None = None
) -> Callable[..., Any]:
    """`function` over the runs, about `block` at once on each device, so that what they work on stays in a cache.

    `axes` has an entry per argument. Every array that is returned has a leading axis of runs.
    """

    def on_one_device(*arguments: Any) -> Any:
        vectorised = jax.vmap(function, in_axes=axes)
        runs = next(leaf.shape[0] for leaf in jax.tree.leaves(_map(_where_mapped, axes, arguments)))
        size = _block_size(runs, block)
        if size == runs:
            return vectorised(*arguments)
        blocks = _map(lambda axis, part: _cut(part, size) if axis == 0 else None, axes, arguments)

        def of_block(block: Any) -> Any:
            return vectorised(*_map(lambda axis, mine, shared: mine if axis == 0 else shared, axes, block, arguments))

        return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), jax.lax.map(of_block, blocks))

    if mesh is None:
        return on_one_device
    return jax.shard_map(on_one_device, mesh=mesh, in_specs=_map(_spec, axes), out_specs=_spec(0))


def _block_size(runs: int, block: int) -> int:
    """The largest divisor of `runs` up to `block`; everything at once rather than in blocks a quarter as large."""
    return next((size for size in range(min(runs, block), block // 4, -1) if runs % size == 0), runs)


def _cut(tree: Any, size: int) -> Any:
    return jax.tree.map(lambda leaf: leaf.reshape(-1, size, *leaf.shape[1:]), tree)


def _where_mapped(axis: int | None, part: Any) -> Any:
    return part if axis == 0 else None


def _spec(axis: int | None) -> PartitionSpec:
    return PartitionSpec() if axis is None else PartitionSpec(AXIS)  # type: ignore[no-untyped-call]


def _map(function: Callable[..., Any], axes: Axes, *trees: Any) -> Any:
    return jax.tree.map(function, axes, *trees, is_leaf=lambda axis: axis is None)
