"""What a shell shows: a module's names by `dir()`, large objects by their shapes, and numbers of things."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any


def own_names(namespace: dict[str, Any]) -> Callable[[], list[str]]:
    """A module's `__dir__`, made right after its imports: the public names that are defined from there on."""
    imported = frozenset(namespace)
    return lambda: sorted(name for name in namespace if name not in imported and not name.startswith("_"))


SHOWN = 8  # words, where there is one line for them


def counted(number: int, name: str) -> str:
    """A number of things: "1 row", "1,200 rows"."""
    return f"{number:,} {name}" + "s" * (number != 1)


def shortened(words: Sequence[str]) -> str:
    """The first words of several, for a line."""
    return " ".join([*words[:SHOWN], "…"] if len(words) > SHOWN else words)


def short_repr(value: Any, names: Iterable[str]) -> str:
    """Name a type and some attributes: of arrays the shape, of anything else what it shows of itself."""
    return f"{type(value).__name__}({', '.join(f'{name}={_shape(getattr(value, name))}' for name in names)})"


def _shape(value: Any) -> str:
    if isinstance(value, dict):
        return f"{{{', '.join(f'{name!r}: {_shape(part)}' for name, part in value.items())}}}"
    return str(list(value.shape)) if hasattr(value, "shape") else repr(value)
