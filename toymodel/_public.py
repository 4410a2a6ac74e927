"""What `dir()` says of a module: its own names, and none that it imports."""

from collections.abc import Callable
from typing import Any


def own_names(namespace: dict[str, Any]) -> Callable[[], list[str]]:
    """A module's `__dir__`, made right after its imports: the public names that are defined from there on."""
    imported = frozenset(namespace)
    return lambda: sorted(name for name in namespace if name not in imported and not name.startswith("_"))
