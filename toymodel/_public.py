"""What a shell shows: the names of a module in `dir()`, the shapes of large objects, and counts of things."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any


def own_names(namespace: dict[str, Any]) -> Callable[[], list[str]]:
    """A `__dir__` for a module, made right after its imports: the public names that are defined later."""
    imported = frozenset(namespace)
    return lambda: sorted(name for name in namespace if name not in imported and not name.startswith("_"))


SHOWN = 8  # words, where there is one line for them


def counted(number: int, name: str) -> str:
    """A count with its noun: "1 row", "1,200 rows"."""
    return f"{number:,} {name}" + "s" * (number != 1)


def shortened(words: Sequence[str]) -> str:
    """The first of several words, for one line."""
    return " ".join([*words[:SHOWN], "…"] if len(words) > SHOWN else words)


def short_repr(value: Any, names: Iterable[str]) -> str:
    """A short repr: the type and some attributes, arrays by their shapes."""
    return f"{type(value).__name__}({', '.join(f'{name}={_shape(getattr(value, name))}' for name in names)})"


def _shape(value: Any) -> str:
    if isinstance(value, dict):
        return f"{{{', '.join(f'{name!r}: {_shape(part)}' for name, part in value.items())}}}"
    return str(list(value.shape)) if hasattr(value, "shape") else repr(value)
