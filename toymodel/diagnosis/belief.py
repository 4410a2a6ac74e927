"""Which numbers of a training log are used.

Evaluations come first, because they are of the same pairs at every state: their log-probabilities, which are in nats,
or else their rewards. Training rows are of different pairs at every state, so log-probabilities jump. There, rewards (β
times a log-ratio) come first, because they subtract the reference's log-probability of the same pairs; then
log-probabilities minus the reference's. Log-probabilities alone are used only if nothing else is logged, or if rewards
are only β times them.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from toymodel._public import own_names
from toymodel.diagnosis.columns import read_name
from toymodel.diagnosis.table import Place, Table, by_step

__dir__ = own_names(globals())

SIDES = ("chosen", "rejected")


class Believed(NamedTuple):
    """The numbers of both sides that are used, one for each of R rows, NaN where there is none."""

    source: str  # "rewards", "logps_minus_reference" or "logps"
    columns: tuple[str, str]
    sides: tuple[Float[np.ndarray, " R"], Float[np.ndarray, " R"]]

    @property
    def used(self) -> Bool[np.ndarray, " R"]:
        """Rows with a number of either side."""
        return np.isfinite(self.sides[0]) | np.isfinite(self.sides[1])


def best(table: Table) -> dict[Place, Believed]:
    """The numbers used of each evaluation set, or else of the training rows; empty if there are none.

    Raises:
      ValueError: they are from several runs.
    """
    for split in ("evaluation", "training"):
        places = [place for place in table.places if place.split == split]
        found = {place: numbers for place in places if (numbers := next(candidates(table, place), None))}
        runs = list(dict.fromkeys(place.run for place in found))
        if len(runs) > 1:
            raise ValueError(f"holds {len(runs)} runs, {', '.join(runs)}; name the two columns of one of them.")
        if found:
            return found
    return {}


def named(table: Table, columns: tuple[str, str]) -> dict[Place, Believed]:
    """The two columns that the user named, in any case; empty if they do not hold two states."""
    known = {name.lower(): name for name in reversed(table.names)} | {name: name for name in table.names}
    names = [name for name in (known.get(name, known.get(name.lower())) for name in columns) if name is not None]
    if len(names) < 2:
        return {}
    column = read_name(names[0])
    of_rewards = "rewards" in column.quantity if column else "reward" in names[0].lower()
    places = (place for place, held in table.places.items() if names[0] in held.values())
    place = next(places, Place("", "training", ""))
    sides = table.numbers(names[0]), table.numbers(names[1])
    numbers = Believed("rewards" if of_rewards else "logps", (names[0], names[1]), sides)
    return {place: numbers} if _has_two_states(table, place, numbers) else {}


def candidates(table: Table, place: Place) -> Iterator[Believed]:
    """The usable numbers of one set of pairs, best first: numbers of both sides at two steps or more."""
    names, numbers = table.places[place], quantities(table, place)

    def both(source: str, quantity: str) -> list[Believed]:
        wanted = [f"{side}_{quantity}" for side in SIDES]
        if not all(name in numbers for name in wanted):
            return []
        held = [names[name] if name in names else names[f"{name}_sum"] for name in wanted]
        return [Believed(source, (held[0], held[1]), (numbers[wanted[0]], numbers[wanted[1]]))]

    logps, rewards = both("logps", "logps"), both("rewards", "rewards")
    ratios = [
        ours._replace(
            source="logps_minus_reference",
            sides=(ours.sides[0] - reference.sides[0], ours.sides[1] - reference.sides[1]),
        )
        for ours, reference in zip(logps, both("", "ref_logps"), strict=False)
    ]
    if place.split == "evaluation" or ratio(numbers) is not None:
        order = [*logps, *rewards]
    else:
        order = [*rewards, *ratios, *logps]
    return (numbers for numbers in order if _has_two_states(table, place, numbers))


def rows_of(table: Table, place: Place, columns: tuple[str, str]) -> Bool[np.ndarray, " R"]:
    """The rows of one set of pairs: they hold a number of it, or one of its two columns and no number of another set.

    So rows where its columns are NaN belong to it, but rows of another set in a table with all columns do not.
    """
    mine, others = np.zeros((2, len(table.rows)), dtype=bool)
    for other, names in table.places.items():
        for name in names.values():
            (mine if other == place else others)[np.isfinite(table.numbers(name))] = True
    holds = table.holds(columns[0]) | table.holds(columns[1])
    return mine | (holds & ~others)


def quantities(table: Table, place: Place) -> dict[str, Float[np.ndarray, " R"]]:
    """All numbers of a set of pairs by quantity; sums over answers become means if the number of answers is known."""
    numbers = {quantity: table.numbers(name) for quantity, name in table.places.get(place, {}).items()}
    for side in SIDES:
        count = numbers.pop(f"{side}_count", None)
        for quantity in ("rewards", "logps"):
            total = numbers.pop(f"{side}_{quantity}_sum", None)
            if total is not None and count is not None:
                mean = np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)
                numbers.setdefault(f"{side}_{quantity}", mean)
    return numbers


def ratio(numbers: dict[str, np.ndarray]) -> float | None:
    """β, if rewards are β log π: then there is no reference, and they say no more than log-probabilities."""
    if not all(f"{side}_{quantity}" in numbers for side in SIDES for quantity in ("rewards", "logps")):
        return None
    rewards, logps = (np.concatenate([numbers[f"{side}_{name}"] for side in SIDES]) for name in ("rewards", "logps"))
    there = np.isfinite(rewards) & np.isfinite(logps)
    rewards, logps = rewards[there], logps[there]
    if len(logps) < 4 or not (rewards * logps > 0).all():
        return None
    beta = float(rewards @ logps / (logps @ logps))
    return beta if (abs(rewards - beta * logps) < 0.01 * abs(rewards)).all() else None  # bfloat16 rounds by 0.4 %


def _has_two_states(table: Table, place: Place, numbers: Believed) -> bool:
    """Whether each side has a number at two steps or more."""
    if any(np.isfinite(side).sum() < 2 for side in numbers.sides):
        return False
    steps = table.steps(numbers.used, rows_of(table, place, numbers.columns))
    return all(len(by_step(steps, side)[0]) >= 2 for side in numbers.sides)
