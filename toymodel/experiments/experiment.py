"""What a sweep runs: the fields of a setting with their ranges, and a function that measures one setting.

Every field is of one of three kinds, by what it asks of the compiler:

Kind                          Such as                      In one compiled program
compiled (`compiled=True`)    vocabulary size, length      one value; another value is another program
choice (`one_of`)             model, family, loss          any in use, but settings vectorised together share it
number (`whole`, `real`)      overlap, temperature, seed   any, a value for each setting
"""

import difflib
import hashlib
import inspect
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Int

import toymodel
from toymodel._checks import POSITIVE, REAL, Domain

PACKAGES = ("jax", "jaxlib", "numpy", "optax")  # besides our own code, what decides the digits
Column = np.ndarray  # [settings]: int64, float64 or str
Columns = dict[str, Column]


class Choice(NamedTuple):
    """What `measure` sees of a choice: which option it is, known at run time, among those that the sweep uses."""

    place: Int[Array, ""]
    options: tuple[str, ...]

    def switch(self, branches: Mapping[str, Callable[..., Any]], *operands: Any) -> Any:
        """The branch of that option, on the operands; a branch that the sweep does not use is not compiled."""
        used = [branches[option] for option in self.options]
        return used[0](*operands) if len(used) == 1 else jax.lax.switch(self.place, used, *operands)


class BadSetting(ValueError):
    """A setting that cannot be run: `key` says which, `grid` in which of several grids."""

    def __init__(self, message: str, key: str = "") -> None:
        super().__init__(message)
        self.key = key
        self.grid = 0


@dataclass(frozen=True)
class Field:
    """One number or word of a setting."""

    kind: type  # int, float or str
    default: Any  # None: must be given
    domain: Domain
    compiled: bool = False
    options: tuple[str, ...] = ()  # of a word

    @property
    def is_choice(self) -> bool:
        """A word that the program takes as the place of its option."""
        return self.kind is str and not self.compiled

    def column(self, name: str, values: Sequence[Any] | np.ndarray) -> Column:
        """The values as an array.

        Raises:
          BadSetting: one is of another kind or outside the range.
        """
        for value in values if isinstance(values, list | tuple) else ():
            if not _is(self.kind, value):
                raise BadSetting(f"`{name}` must be {_WORDS[self.kind]} {self.domain.words}, got {value!r}.", name)
        array = np.asarray(values)
        if array.dtype.kind not in _KINDS[self.kind]:
            raise BadSetting(f"`{name}` must be {_WORDS[self.kind]}, got {array.dtype}.", name)
        array = array.astype({int: np.int64, float: np.float64, str: np.str_}[self.kind])
        bad = array[~np.asarray(self.domain.holds(array), bool)]
        if bad.size:
            value = bad[0].item()
            hint = _suggestion(value, self.options) if self.kind is str else ""
            raise BadSetting(f"`{name}` must be {_WORDS[self.kind]} {self.domain.words}, got {value!r}.{hint}", name)
        return array


def whole(default: int | None, *, low: int, high: int | None = None, compiled: bool = False) -> Field:
    """A whole number in [low, high]."""
    words = f"of at least {low}" if high is None else f"between {low} and {high}"
    return Field(
        int, default, Domain(words, lambda x: (x >= low) & (x <= (np.inf if high is None else high))), compiled
    )


def real(default: float | None, domain: Domain = REAL) -> Field:
    """A number in a domain, such as `POSITIVE`."""
    return Field(float, default, domain)


def one_of(options: Iterable[str], default: str | None, *, compiled: bool = False) -> Field:
    """One of these words."""
    known = tuple(options)
    return Field(str, default, Domain(f"among {', '.join(known)}", lambda x: np.isin(x, known)), compiled, known)


@dataclass(frozen=True)
class Rule:
    """What must hold between fields: `holds` takes their columns and says for which settings it does."""

    fields: tuple[str, ...]
    holds: Callable[..., Any]
    words: str


@dataclass(frozen=True, eq=False)
class Experiment:
    """A function of one setting, and all that a sweep has to know to run it for many.

    Attributes:
      measure: takes a setting, a namespace with every field: Python values for compiled ones, a `Choice` for choices,
        traced numbers for the others. Returns arrays of fixed shapes by name; with the fields they
        are a row of the table.
      rules: what must hold between fields.
      names: for columns of whole numbers, the names that stand for 0, 1, … in the table.
      complete: fills in what depends on other fields, in the columns of settings of one program.
      block: settings vectorised together: enough to fill vector units, few enough for what they work on to stay in a
        cache.
    """

    name: str
    fields: Mapping[str, Field]
    measure: Callable[[SimpleNamespace], dict[str, Array]]
    rules: tuple[Rule, ...] = ()
    names: Mapping[str, Sequence[str]] = field(default_factory=dict)
    complete: Callable[[Columns], Columns] = lambda columns: columns
    block: int = 64

    @property
    def compiled(self) -> tuple[str, ...]:
        """The fields that decide which program a setting needs."""
        return tuple(name for name, field in self.fields.items() if field.compiled)

    @property
    def choices(self) -> tuple[str, ...]:
        """The fields that settings vectorised together share."""
        return tuple(name for name, field in self.fields.items() if field.is_choice)

    @property
    def numbers(self) -> tuple[str, ...]:
        """All other fields."""
        return tuple(name for name in self.fields if name not in (*self.compiled, *self.choices))

    def field(self, name: str) -> Field:
        """A field by name; an unknown one is a `BadSetting` that suggests the nearest."""
        if name not in self.fields:
            raise BadSetting(f"`{self.name}` has no field {name!r}.{_suggestion(name, self.fields)}", name)
        return self.fields[name]

    def __post_init__(self) -> None:
        if not inspect.isfunction(self.measure):  # `code` follows it to its source, which a `partial` hides
            raise ValueError(f"`measure` of {self.name!r} must be a function, got {self.measure!r}.")

    @property
    def code(self) -> str:
        """Hash of the sources that `measure` comes from, this package's among them, and of the packages underneath."""
        return _code(self.measure)


@cache
def _code(measure: Callable[..., Any]) -> str:
    digest = hashlib.sha256(repr([version(package) for package in PACKAGES]).encode())
    for path in sorted({*Path(toymodel.__file__).parent.rglob("*.py"), *_sources(measure.__module__, set())}):
        digest.update(path.name.encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _sources(module: str, seen: set[str]) -> Iterable[Path]:
    """The files of a module and of all it takes from the same package."""
    seen.add(module)
    here = sys.modules[module]
    if here.__spec__ is not None or module == "__main__":
        file = inspect.getsourcefile(here)
        yield from [Path(file)] if file and Path(file).is_file() else []
    for value in vars(here).values():
        other = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)
        if isinstance(other, str) and other not in seen and other.partition(".")[0] == module.partition(".")[0]:
            yield from _sources(other, seen)


_WORDS = {int: "a whole number", float: "a number", str: "a word"}
_KINDS = {int: "iu", float: "fiu", str: "U"}


def _is(kind: type, value: Any) -> bool:
    if isinstance(value, bool):
        return False
    wanted = {int: (int, np.integer), float: (int, float, np.integer, np.floating), str: (str,)}
    return isinstance(value, wanted[kind])


def _suggestion(name: str, known: Iterable[str]) -> str:
    nearest = difflib.get_close_matches(str(name), list(known), n=1)
    return f" Did you mean {nearest[0]!r}?" if nearest else f" Known are {', '.join(known)}."


__all__ = ["POSITIVE", "REAL", "BadSetting", "Choice", "Experiment", "Field", "Rule", "one_of", "real", "whole"]
