"""An experiment: a typed setting, the range of each of its fields, and a function that measures one setting.

For example::

    @setting
    class Setting:
        loss: str = one_of(LOSSES, "dpo")
        length: int = whole(12, low=1, compiled=True)
        temperature: float = real(1.0, POSITIVE)

Words and `compiled` numbers are Python values inside `measure`: each combination of them is compiled separately. All
other numbers are traced, and a program runs many settings at once.
"""

import dataclasses
import difflib
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any, TypeVar, dataclass_transform

import numpy as np
from jaxtyping import Array

from toymodel._checks import POSITIVE, REAL, Domain
from toymodel._public import own_names
from toymodel._pytree import pytree
from toymodel.experiments.code import Source, code_hash, sources_of

__dir__ = own_names(globals())

Column = np.ndarray  # [settings]: int64, float64 or str
Columns = dict[str, Column]
T = TypeVar("T")
Row = dict[str, Array]  # what a setting gave, by name: arrays of fixed shapes


class BadSetting(ValueError):
    """A setting that cannot be run: `key` says which field, `grid` in which of several grids."""

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
    as_place: bool = False  # a word that `measure` gets as its place among the options

    def column(self, name: str, values: Sequence[Any] | np.ndarray) -> Column:
        """The values as an array.

        Raises:
          BadSetting: a value is of another kind or outside the range.
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


def whole(default: int | None, *, low: int, high: int | None = None, compiled: bool = False) -> Any:
    """A whole number in [low, high], as the default of a dataclass field."""
    words = f"of at least {low}" if high is None else f"between {low} and {high}"
    domain = Domain(words, lambda x: (x >= low) & (x <= (np.inf if high is None else high)))
    return _declare(Field(int, default, domain, compiled))


def real(default: float | None, domain: Domain = REAL) -> Any:
    """A number in a domain, such as `POSITIVE`."""
    return _declare(Field(float, default, domain))


def one_of(options: Iterable[str], default: str | None, *, as_place: bool = False) -> Any:
    """One of these words. With `as_place`, `measure` gets the index of the word, traced, in one program for all."""
    known = tuple(options)
    domain = Domain(f"among {', '.join(known)}", lambda x: np.isin(x, known))
    return _declare(Field(str, default, domain, not as_place, known, as_place))


def replace_default(of: Any, name: str, default: Any) -> Any:
    """The field `name` of a setting's class with another default, for a class that inherits from it."""
    return _declare(dataclasses.replace(fields_of(of)[name], default=default))


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(whole, real, one_of))
def setting(cls: type[T]) -> type[T]:
    """Make a class of such fields a frozen dataclass, and a pytree whose numbers are traced and whose rest is not."""
    made = dataclass(frozen=True, kw_only=True)(cls)
    return pytree(made, static=[name for name, field in fields_of(made).items() if field.compiled])


def fields_of(setting: Any) -> dict[str, Field]:
    """The fields of a setting's class, by name."""
    return {f.name: f.metadata["field"] for f in dataclasses.fields(setting)}


@dataclass(frozen=True)
class Rule:
    """A rule between fields: `holds` takes their columns and says for which settings it holds."""

    fields: tuple[str, ...]
    holds: Callable[..., Any]
    words: str


@dataclass(frozen=True, eq=False)
class Experiment:
    """A function of one setting, and all that a sweep needs to run it for many.

    Attributes:
      setting: a class made by `setting`, whose fields are declared by `whole`, `real` and `one_of`.
      measure: from a setting, arrays of fixed shapes by name; with the fields they are a row of the table. With
        `needs`, it is also given the row of the experiment that this one needs.
      rules: what must hold between fields.
      names: for columns of whole numbers, the names that stand for 0, 1, … in the table.
      complete: fills in what depends on other fields, in the columns of settings.
      needs: another experiment, whose row for the same fields `measure` starts from; it is run first and kept as well.
      needed: the columns of the settings of that experiment, from this one's.
      whole: `measure` is compiled as one program; else it is a sequence of jitted stages, and those that do not depend
        on a word are compiled once for all its values.
      alone: `measure` is called for one setting after the other, with Python numbers: for settings that fill a machine.
      block: settings vectorised together: enough to fill vector units, few enough for their data to stay in a cache.
      shard: settings in a file, unless a sweep says otherwise.
    """

    name: str
    setting: type[Any]
    measure: Callable[..., Row]
    rules: tuple[Rule, ...] = ()
    names: Mapping[str, Sequence[str]] = field(default_factory=dict)
    complete: Callable[[Columns], Columns] | None = None
    needs: "Experiment | None" = None
    needed: Callable[[Columns], Columns] = lambda columns: columns
    whole: bool = True
    alone: bool = False
    block: int = 64
    shard: int = 4096

    def __post_init__(self) -> None:
        if not inspect.isfunction(self.measure):  # `code` follows it to its source, which a `partial` hides
            raise ValueError(f"`measure` of {self.name!r} must be a function, got {self.measure!r}.")

    @cached_property
    def fields(self) -> dict[str, Field]:
        """The fields of a setting, by name."""
        return fields_of(self.setting)

    @cached_property
    def compiled(self) -> tuple[str, ...]:
        """The fields that decide which program a setting needs."""
        return tuple(name for name, field in self.fields.items() if field.compiled)

    def field(self, name: str) -> Field:
        """A field by name; an unknown one is a `BadSetting` that suggests the nearest."""
        if name not in self.fields:
            raise BadSetting(f"`{self.name}` has no field {name!r}.{_suggestion(name, self.fields)}", name)
        return self.fields[name]

    def one(self, **given: Any) -> Any:
        """One setting, with defaults for what is not given.

        Raises:
          BadSetting: an unknown field, a value out of range, or a broken rule.
        """
        for name in given:
            self.field(name)
        columns = {name: field.column(name, [given.get(name, field.default)]) for name, field in self.fields.items()}
        for rule in self.rules:
            if not np.all(rule.holds(*(columns[name] for name in rule.fields))):
                raise BadSetting(f"{rule.words}, got {', '.join(f'{n} = {columns[n][0]}' for n in rule.fields)}.")
        return self.setting(**{name: column[0].item() for name, column in columns.items()})

    def code(self, words: Iterable[str] = ()) -> str:
        """Hash of the code that measures: the modules that it imports, and the losses that these words name.

        It never changes within a process, because a process runs what it has imported even if files change later.
        """
        return _code(self, frozenset(words))


@cache
def _code(experiment: Experiment, words: frozenset[str]) -> str:
    words |= {word for field in experiment.fields.values() if field.as_place for word in field.options}
    mine = code_hash(_sources(experiment), words)
    return mine if experiment.needs is None else code_hash(_sources(experiment.needs), words, also=mine)


@cache
def _sources(experiment: Experiment) -> dict[Path, Source]:
    """As they were when first asked for: other words are hashed later, when a file may be another."""
    return sources_of(experiment.measure)


_WORDS = {int: "a whole number", float: "a number", str: "a word"}
_KINDS = {int: "iu", float: "fiu", str: "U"}


def _declare(declared: Field) -> Any:
    return field(default=declared.default, metadata={"field": declared})


def _is(kind: type, value: Any) -> bool:
    if isinstance(value, bool):
        return False
    wanted = {int: (int, np.integer), float: (int, float, np.integer, np.floating), str: (str,)}
    return isinstance(value, wanted[kind])


def _suggestion(name: str, known: Iterable[str]) -> str:
    nearest = difflib.get_close_matches(str(name), list(known), n=1)
    return f" Did you mean {nearest[0]!r}?" if nearest else f" Known are {', '.join(known)}."


__all__ = ["POSITIVE", "REAL", "BadSetting", "Experiment", "Field", "Rule", "one_of", "real", "setting", "whole"]
