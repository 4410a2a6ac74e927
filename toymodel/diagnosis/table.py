"""The rows of a log as columns of numbers, and their steps."""

import math
import re
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from toymodel._public import own_names
from toymodel.diagnosis.columns import EXAMPLES, STEPS, is_sided, read_name
from toymodel.diagnosis.text import Row

__dir__ = own_names(globals())

_NOT_LOGGED = {"-", "--", "–", "—", "no log"}  # "No log": Hugging Face's notebook table
_MISSING = {"", "na", "n/a", "nan", "none", "null"} | _NOT_LOGGED
_END = ("train_runtime", "train/train_runtime", "total_flos", "train/total_flos")  # of the row after training

_DECIMAL_COMMA = re.compile(r"[-+]?(0,\d+|\d+,(?!\d{3}$)\d+)")  # "1,234" may be a thousand


class Place(NamedTuple):
    """The set of pairs that a column belongs to."""

    run: str
    split: str
    set: str


class Steps(NamedTuple):
    """The step of each of R rows, NaN if it has none, and the kind of step."""

    of_rows: Float[np.ndarray, " R"]
    kind: str  # "step", "example" or "row"
    sorted: bool  # the file had them in another order


class Table:
    """R rows of a log: names of columns by set of pairs and quantity, and their numbers."""

    def __init__(self, rows: list[Row]) -> None:
        self.names = list(dict.fromkeys(name for row in rows for name in row))
        sided = [name for name in self.names if is_sided(name)]
        self.rows = [{} if _any_number(row, _END) and not _any_number(row, sided) else row for row in rows]
        self._numbers: dict[str, np.ndarray] = {}
        self._steps: dict[str, np.ndarray] = {}
        of_evaluation = self._rows_are_evaluations(sided)
        self.places: dict[Place, dict[str, str]] = {}
        for name in self.names:
            column = read_name(name)
            if column is None:
                continue
            moved = of_evaluation and column.quantity.startswith(("chosen", "rejected", "accuracy", "margin"))
            place = Place(column.run, "evaluation" if moved else column.split, column.set)
            named = self.places.setdefault(place, {})
            held = named.get(column.quantity)
            if held is None or self._is_worse(held):
                named[column.quantity] = name

    def _rows_are_evaluations(self, sided: list[str]) -> bool:
        """Whether this is a table of the Hugging Face trainer, one row an evaluation, with names as in training."""
        columns = {name: read_name(name) for name in self.names}
        losses = (name for name, of in columns.items() if of and (of.quantity, of.split) == ("loss", "evaluation"))
        loss = next(losses, None)
        if loss is None or not sided:
            return False
        used = np.isfinite([self.numbers(name) for name in sided]).any(axis=0)
        return bool(np.isfinite(self.numbers(loss))[used].mean() > 0.5) if used.any() else False

    def numbers(self, name: str) -> Float[np.ndarray, " R"]:
        """A column, NaN where it holds no number."""
        if name not in self._numbers:
            self._numbers[name] = np.array([_to_number(row.get(name)) for row in self.rows], dtype=np.float64)
        return self._numbers[name]

    def _is_worse(self, name: str) -> bool:
        column = read_name(name)
        return not np.isfinite(self.numbers(name)).any() or (column is not None and column.average)

    def check(self, name: str) -> None:
        """Refuse a word where a number was expected."""
        for i, row in enumerate(self.rows, 1):
            if _to_number(row.get(name)) is None:
                raise ValueError(f"must hold a finite number as `{name}` in row {i}, got {row[name]!r}.")

    def holds(self, name: str) -> Bool[np.ndarray, " R"]:
        """Which rows have the column, with a number or not; a dash means that they do not."""
        return np.array(
            [name in row and str(row[name]).strip().lower() not in _NOT_LOGGED for row in self.rows], dtype=bool
        )

    def steps(self, used: Bool[np.ndarray, " R"], of_set: Bool[np.ndarray, " R"]) -> Steps:
        """The steps of the rows: from the best column that all used rows have, or some row has; else the row number.

        Args:
          used: rows that hold the numbers; `of_set`: all rows of their set of pairs.

        Raises:
          ValueError: the best column of steps holds something else in a row.
        """
        known = {name.strip().lower(): name for name in reversed(self.names)}
        names = [known[name] for name in (*STEPS, *EXAMPLES) if name in known]
        columns = {name: self._steps_in(name) for name in names}
        filled = {name: column for name, column in columns.items() if np.isfinite(column[used]).any()}
        whole = (name for name, column in filled.items() if np.isfinite(column[used]).all())
        name = next(whole, next(iter(filled), None))
        if name is not None:
            at = columns[name]
            for i in np.flatnonzero(used & ~np.isfinite(at) & self.holds(name)):
                raise ValueError(f"must hold a finite number as `{name}` in row {i + 1}, got {self.rows[i][name]!r}.")
            kind = "example" if name.strip().lower() in EXAMPLES else "step"
            return Steps(at, kind, _falls(_last_of_each(at[used & np.isfinite(at)])))
        return self._row_numbers(of_set, known.get("epoch", known.get("train/epoch")))

    def _steps_in(self, name: str) -> np.ndarray:
        def first(value: Any) -> Any:
            return value.partition("/")[0].replace(",", "") if isinstance(value, str) else value  # "5/40", "1,000"

        if name not in self._steps:
            self._steps[name] = np.array([_to_number(first(row.get(name))) for row in self.rows], dtype=np.float64)
        return self._steps[name]

    def _row_numbers(self, of_set: np.ndarray, epoch: str | None) -> Steps:
        """1, 2, … in the order of the file; or of epochs, where they fall. A resumed run repeats epochs."""
        keys = np.arange(of_set.sum(), dtype=np.float64)
        epochs = self.numbers(epoch)[of_set] if epoch else np.array([np.nan])
        falls = bool(np.isfinite(epochs).all()) and _falls(epochs)
        if falls:
            run = np.cumsum(np.diff(epochs, prepend=epochs[:1]) < 0)
            repeated = len(np.unique(np.stack([run, epochs]), axis=1).T) == len(epochs)
            keys = epochs if repeated else np.argsort(np.argsort(epochs, kind="stable")).astype(np.float64)
        of_rows = np.full(len(self.rows), np.nan)
        of_rows[of_set] = np.unique(keys, return_inverse=True)[1] + 1
        return Steps(of_rows, "row", falls and _falls(_last_of_each(keys)))


def by_step(steps: Steps, numbers: Float[np.ndarray, " R"]) -> tuple[Float[np.ndarray, " S"], Float[np.ndarray, " S"]]:
    """The steps at which a column has a number, increasing, and the last number of each."""
    there = np.isfinite(numbers) & np.isfinite(steps.of_rows)
    at, first = np.unique(steps.of_rows[there][::-1], return_index=True)
    return at, numbers[there][::-1][first]


def _to_number(value: Any) -> float | None:
    """A number; NaN for what stands for none; None for a word."""
    if isinstance(value, str):
        value = value.strip().replace("−", "-")
        if value.lower() in _MISSING:
            return math.nan
        if _DECIMAL_COMMA.fullmatch(value):
            value = value.replace(",", ".")
    if value is None or isinstance(value, bool):
        return math.nan
    try:
        number = float(np.mean(value) if isinstance(value, list) and value else value)  # a list is of pairs
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else math.nan


def _any_number(row: Row, names: Iterable[str]) -> bool:
    return any(math.isfinite(_to_number(row.get(name)) or math.nan) for name in names if name in row)


def _last_of_each(keys: Iterable[float]) -> np.ndarray:
    """Keys in their order, each only where it stands last."""
    return np.array(list(dict.fromkeys(reversed(list(keys))))[::-1])


def _falls(keys: np.ndarray) -> bool:
    return bool((np.diff(keys) < 0).any())
