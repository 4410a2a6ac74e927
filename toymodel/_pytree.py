"""`pytree` registers a frozen dataclass with JAX; every model, loss and update here is registered by it."""

from collections.abc import Collection
from dataclasses import fields
from typing import Any, TypeVar

import jax

T = TypeVar("T")


def pytree(cls: type[T], *, static: Collection[str] = ()) -> type[T]:
    """Make a frozen dataclass a pytree, in which the fields named `static` are compiled in and all others are data.

    Use it as `@pytree`, or as `@partial(pytree, static=["vocab_size"])`, above `@dataclass(frozen=True)`. Static values
    must be hashable. When JAX rebuilds an object, `__post_init__` does not run again.

    Raises:
      ValueError: `static` names something that is not a field.
    """
    # JAX's own `register_dataclass` (0.10) gives two classes with equally many fields tree structures that compare
    # equal, although their hashes differ; a collision in a cache then runs one class's program for the other. We know
    # of no report to JAX. kUPS met it too, for static fields: https://github.com/cusp-ai-oss/kUPS/pull/114.
    names = [field.name for field in fields(cls)]  # type: ignore[arg-type]
    if unknown := set(static) - set(names):
        raise ValueError(f"`static` must hold fields of {cls.__name__} ({', '.join(names)}), got {sorted(unknown)}.")
    data, static = [name for name in names if name not in static], tuple(static)

    def flatten(tree: T) -> tuple[list[Any], tuple[Any, ...]]:
        return [getattr(tree, name) for name in data], tuple(getattr(tree, name) for name in static)

    def flatten_with_keys(tree: T) -> tuple[list[tuple[Any, Any]], tuple[Any, ...]]:
        return [(jax.tree_util.GetAttrKey(name), getattr(tree, name)) for name in data], flatten(tree)[1]

    def unflatten(static_values: tuple[Any, ...], children: Any) -> T:
        tree = object.__new__(cls)
        for name, value in zip((*data, *static), (*children, *static_values), strict=True):
            object.__setattr__(tree, name, value)
        return tree

    jax.tree_util.register_pytree_with_keys(cls, flatten_with_keys, unflatten, flatten)
    return cls
