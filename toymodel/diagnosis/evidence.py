"""Which numbers of a training log are believed, and what its reader has to know of them.

Evaluations come first, because they are of the same pairs at every state: their log-probabilities, else their rewards,
which are β times these, less what the reference gives. Rows of training are of other pairs at every state, so that
log-probabilities jump. There, rewards come first: the reference's log-probability of the same pairs is taken off; then
log-probabilities less the reference's; and log-probabilities alone only where nothing else is logged.
"""

import csv
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from toymodel._public import own_names
from toymodel.diagnosis.columns import is_of_groups, is_sided, read_name
from toymodel.diagnosis.files import KINDS, read_rows
from toymodel.diagnosis.table import Place, Steps, Table

__dir__ = own_names(globals())


class Series(NamedTuple):
    """One number at each of S states."""

    steps: Float[np.ndarray, " S"]  # increasing
    values: Float[np.ndarray, " S"]  # finite


class Finding(NamedTuple):
    """Something that a reader of the verdict has to know: a code for programs, a plain sentence, the step it is of."""

    code: str
    text: str
    step: float | None = None


class Evidence(NamedTuple):
    """What a log says of one set of pairs.

    `others` holds further columns of the same rows under the names of `columns.QUANTITIES`. The two sides may have
    other steps than each other: KTO logs one of them in a row.
    """

    name: str  # of the evaluation set ("easy"); "" where there is one
    split: str  # "evaluation" or "training"
    source: str  # "rewards", "logps_minus_reference" or "logps"
    columns: tuple[str, str]  # the names of the believed numbers in the file
    unit: str  # "nats", "nats per token" or "reward"
    step_kind: str  # "step", "epoch" or "row"
    chosen: Series
    rejected: Series
    others: dict[str, Series]
    broke_at: float | None  # from this step on a believed column holds no number any more


class LogFile(NamedTuple):
    """All that a file says: one `Evidence` for each named evaluation set, else one; and what was mended or missed."""

    evidence: list[Evidence]
    findings: list[Finding]


SIDES = ("chosen", "rejected")
_SHOWN = 30  # names of columns in a message
# The mean of a language model's log-probabilities over tokens is above −3 once it is trained, and above −ln V ≈ −12
# even at random.
_TRAINED, _RANDOM = 3.0, 12.0


class _Numbers(NamedTuple):
    """Numbers of both sides, one for each of R rows, NaN where there is none."""

    source: str
    columns: tuple[str, str]
    sides: tuple[np.ndarray, np.ndarray]


def load_log(path: str | os.PathLike[str], columns: tuple[str, str] | None = None) -> LogFile:
    """Read a training log of any format that `files` knows, and say which of its numbers are believed.

    Where several rows have the same step, the last number counts.

    Args:
      path: the file; what it holds tells its format, not its name.
      columns: names of the chosen and of the rejected numbers, to believe these and no others.

    Raises:
      ValueError: the file is missing, malformed, no log, or a log of something else; or its columns do not hold two
        states of either side.
    """
    try:
        found = read_rows(Path(path), columns or ())
    except (OSError, ValueError, csv.Error) as error:
        raise ValueError(f"cannot read `{path}`: {error}") from error
    table = Table(found.rows)
    findings = []
    if found.cut_off:
        findings.append(Finding("cut_off", "The file ends within a row, which is left out."))
    if found.unread:
        findings.append(Finding("unread_rows", f"{found.unread} broken lines were left out."))
    try:
        believed = _named(table, columns) if columns else _best(table)
        evidence = [_weigh(table, place, numbers, findings) for place, numbers in believed.items()]
        findings += _broken_elsewhere(table, believed)
    except ValueError as error:
        raise ValueError(f"`{path}`: {error}") from error
    if not evidence:
        raise ValueError(_explain_absence(path, table, columns))
    return LogFile(evidence, list(dict.fromkeys(findings)))


# --- Which numbers are believed -------------------------------------------------------------------------------------


def _best(table: Table) -> dict[Place, _Numbers]:
    """The evaluations, else the rows of training; of one run."""
    for split in ("evaluation", "training"):
        places = [place for place in table.places if place.split == split]
        found = {place: numbers for place in places if (numbers := _first(table, place))}
        runs = list(dict.fromkeys(place.run for place in found))
        if len(runs) > 1:
            raise ValueError(f"it holds {len(runs)} runs, {', '.join(runs)}; name the two columns of one of them.")
        if found:
            return found
    return {}


def _candidates(table: Table, place: Place) -> Iterator[_Numbers]:
    """What may be believed of a set of pairs, best first."""
    names = table.places[place]
    numbers = _quantities(table, place)

    def both(source: str, quantity: str) -> Iterator[_Numbers]:
        wanted = [f"{side}_{quantity}" for side in SIDES]
        if all(name in numbers for name in wanted):
            held = [names.get(name, names.get(f"{name}_sum", "")) for name in wanted]
            yield _Numbers(source, (held[0], held[1]), (numbers[wanted[0]], numbers[wanted[1]]))

    logps, rewards = list(both("logps", "logps")), list(both("rewards", "rewards"))
    if place.split == "evaluation" or _are_multiples(rewards, logps):
        yield from logps
    yield from rewards
    for policy, reference in zip(logps, both("", "ref_logps"), strict=False):
        w, l = (a - b for a, b in zip(policy.sides, reference.sides, strict=True))  # noqa: E741
        yield policy._replace(source="logps_minus_reference", sides=(w, l))
    yield from logps


def _quantities(table: Table, place: Place) -> dict[str, np.ndarray]:
    """All numbers of a set of pairs by quantity; sums over answers as means, where their number is known."""
    numbers = {quantity: table.numbers(name) for quantity, name in table.places.get(place, {}).items()}
    for side in SIDES:
        count = numbers.pop(f"{side}_count", None)
        for quantity in ("rewards", "logps"):
            total = numbers.pop(f"{side}_{quantity}_sum", None)
            if total is not None and count is not None:
                mean = np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)
                numbers.setdefault(f"{side}_{quantity}", mean)
    return numbers


def _are_multiples(rewards: list[_Numbers], logps: list[_Numbers]) -> bool:
    """Whether rewards are β log π: without a reference, they say no more than log-probabilities do."""
    if not rewards or not logps:
        return False
    r, l = np.concatenate(rewards[0].sides), np.concatenate(logps[0].sides)  # noqa: E741
    there = np.isfinite(r) & np.isfinite(l)
    if there.sum() < 4 or not (r[there] * l[there]).all():
        return False
    beta = (r[there] @ l[there]) / (l[there] @ l[there])
    # bfloat16 rounds by 0.4 %.
    return bool(beta > 0 and (abs(r[there] - beta * l[there]) < 0.01 * abs(r[there])).all())


def _named(table: Table, columns: tuple[str, str]) -> dict[Place, _Numbers]:
    """The two columns that the user named, whatever the case."""
    known = {name.lower(): name for name in reversed(table.names)} | {name: name for name in table.names}
    names = [known.get(name, known.get(name.lower())) for name in columns]
    if names[0] is None or names[1] is None:
        return {}
    column = read_name(names[0])
    place = next(
        (place for place, held in table.places.items() if names[0] in held.values()), Place("", "training", "")
    )
    of_rewards = column.quantity.endswith("rewards") if column else "reward" in names[0].lower()
    sides = table.numbers(names[0]), table.numbers(names[1])
    numbers = _Numbers("rewards" if of_rewards else "logps", (names[0], names[1]), sides)
    return {place: numbers} if _two_states(table, place, numbers) else {}


def _two_states(table: Table, place: Place, numbers: _Numbers) -> bool:
    """Whether each side has a number at two steps or more."""
    if any(np.isfinite(side).sum() < 2 for side in numbers.sides):
        return False
    steps, _ = _place_rows(table, place, numbers)
    return all(len(_series(steps, side).steps) >= 2 for side in numbers.sides)


def _first(table: Table, place: Place) -> _Numbers | None:
    """What is believed of a set of pairs, if anything is."""
    return next((numbers for numbers in _candidates(table, place) if _two_states(table, place, numbers)), None)


# --- What is known of them ------------------------------------------------------------------------------------------


def _weigh(table: Table, place: Place, believed: _Numbers, findings: list[Finding]) -> Evidence:
    """The evidence of one set of pairs; what is to be said of it is added to `findings`."""

    def say(code: str, text: str, step: float | None = None) -> None:
        findings.append(Finding(code, text, step))

    for name in believed.columns:
        table.check(name)
    steps, mine = _place_rows(table, place, believed)
    numbers = _quantities(table, place)
    chosen, rejected = (_series(steps, side) for side in believed.sides)
    known = read_name(believed.columns[0]) is not None
    of = f" of `{place.set}`" if place.set else ""
    again = [step for side in believed.sides if (step := _replaced(steps, side)) is not None]
    if again:
        text = (
            f"Rows{of} repeat {steps.kind} {min(again):g} or later ones, as a resumed run does: the later row counts."
        )
        say("replaced_rows", text, min(again))
    elif steps.sorted:
        order = "epochs" if steps.kind == "row" else f"{steps.kind}s"
        say("sorted_rows", f"The rows{of} were not in the order of their {order}: they were sorted.")
    alone, both = np.setxor1d(chosen.steps, rejected.steps), np.union1d(chosen.steps, rejected.steps)
    if alone.size:
        say("one_sided", f"{alone.size} of {both.size} {steps.kind}s{of} hold one side only: each is read by itself.")
    if believed.source == "logps" and place.split == "training" and known:
        text = (
            f"`{believed.columns[0]}` and `{believed.columns[1]}` are of a different batch at every state, and jump for "
            "that reason alone, unless you logged fixed pairs: an evaluation would tell more."
        )
        say("different_batches", text)
    average = known and _is_average(table, numbers, believed)
    if average:
        text = (
            f"The log-probabilities{of} are so small that they are means over tokens, as length-normalised losses "
            "(SimPO, ORPO, IPO) log them, or of answers of very few tokens: sums over tokens may move otherwise."
        )
        say("average_logps", text)
    broke_at = _broke_at(table, steps, mine, believed)
    if broke_at is not None:
        say("not_a_number", f"Not a number from {steps.kind} {broke_at:g} on{of}: the run broke there.", broke_at)
    return Evidence(
        name=place.set,
        split=place.split,
        source=believed.source,
        columns=believed.columns,
        unit="reward" if believed.source == "rewards" else "nats per token" if average else "nats",
        step_kind=steps.kind,
        chosen=chosen,
        rejected=rejected,
        others={name: series for name, column in numbers.items() if len((series := _series(steps, column)).steps)},
        broke_at=broke_at,
    )


def _broken_elsewhere(table: Table, believed: dict[Place, _Numbers]) -> Iterator[Finding]:
    """Numbers that are not believed, and yet say that the run broke: in training, or in a column without any number."""
    for place, names in table.places.items():
        if place.run not in {used.run for used in believed}:
            continue
        used = believed.get(place) or _first(table, place)
        if used is None:
            continue
        steps, mine = _place_rows(table, place, used)
        broke_at = None if place in believed else _broke_at(table, steps, mine, used)
        if broke_at is not None:
            text = f"`{used.columns[0]}` is not a number from {steps.kind} {broke_at:g} on: the run broke there."
            yield Finding("not_a_number", text, broke_at)
        for name in names.values():
            gone = table.holds(name) & mine
            if is_sided(name) and gone.sum() > 1 and not np.isfinite(table.numbers(name)).any():
                text = f"`{name}` is not a number in any row."
                yield Finding("not_a_number", text, float(np.nanmin(steps.of_rows[gone])))


def _place_rows(table: Table, place: Place, numbers: _Numbers) -> tuple[Steps, np.ndarray]:
    """The steps of the rows, and which rows are of this set of pairs: they hold a number of it, or none of any other."""
    used = np.isfinite(numbers.sides[0]) | np.isfinite(numbers.sides[1])
    mine, others = used.copy(), np.zeros_like(used)
    for other, names in table.places.items():
        for name in names.values():
            (mine if other == place else others)[np.isfinite(table.numbers(name))] = True
    mine |= (table.holds(numbers.columns[0]) | table.holds(numbers.columns[1])) & ~others
    return table.steps(used, mine), mine


def _series(steps: Steps, numbers: np.ndarray) -> Series:
    """The last number of each step."""
    there = np.isfinite(numbers) & np.isfinite(steps.of_rows)
    at, first = np.unique(steps.of_rows[there][::-1], return_index=True)
    return Series(at, numbers[there][::-1][first])


def _replaced(steps: Steps, numbers: np.ndarray) -> float | None:
    """The first step at which a later row says something else."""
    there = np.isfinite(numbers) & np.isfinite(steps.of_rows)
    at, values = steps.of_rows[there], numbers[there]
    last = _series(steps, numbers)
    differs = values != last.values[np.searchsorted(last.steps, at)]
    return float(at[differs].min()) if differs.any() else None


def _is_average(table: Table, numbers: dict[str, np.ndarray], believed: _Numbers) -> bool:
    """Whether log-probabilities are means over tokens: by their size, and by names that only such losses log."""
    sides = [numbers[f"{side}_logps"] for side in SIDES if f"{side}_logps" in numbers]
    if believed.source == "logps":
        sides = list(believed.sides)
    values = np.concatenate([side[np.isfinite(side)] for side in sides]) if sides else np.array([])
    names = " ".join(table.names).lower().replace(" ", "_")
    said = any(name in names for name in ("odds_ratio", "log_odds", "simpo", "per_token"))
    said |= any(column.average for name in believed.columns if (column := read_name(name)))
    return bool(values.size) and bool(-(_RANDOM if said else _TRAINED) < np.median(values) <= 0)


def _broke_at(table: Table, steps: Steps, mine: np.ndarray, numbers: _Numbers) -> float | None:
    """The first step from which on a side has no number, though rows of its set go on.

    A gap is none where one as long came before: then the log leaves numbers out. Where rows hold one side each, it
    takes both sides to break.
    """
    there = [np.isfinite(side) for side in numbers.sides]
    last = min(np.flatnonzero(has)[-1] for has in there)
    if (there[0] ^ there[1])[: last + 1].any():
        there = [there[0] | there[1]] * 2
    found = []
    for has, name in zip(there, numbers.columns, strict=True):
        at = np.unique(steps.of_rows[has])
        gone = steps.of_rows[mine & table.holds(name) & ~has]
        gone = np.setdiff1d(gone[np.isfinite(gone)], at)
        longest = np.unique(np.searchsorted(at, gone[gone < at[-1]]), return_counts=True)[1].max(initial=0)
        after = gone[gone > at[-1]]
        if len(after) > longest:
            found.append(float(after[0]))
    return min(found, default=None)


# --- What is said where nothing is believed -------------------------------------------------------------------------


def _explain_absence(path: str | os.PathLike[str], table: Table, columns: tuple[str, str] | None) -> str:
    known = list(table.names)
    listed = ", ".join(known[:_SHOWN]) + (f" and {len(known) - _SHOWN} more" if len(known) > _SHOWN else "") or "none"
    if columns:
        return f"`{path}` must have two rows or more with `{columns[0]}` and `{columns[1]}`; its columns are {listed}."
    sided = {quantity: name for names in table.places.values() for quantity, name in names.items() if "_" in quantity}
    for side, other in (SIDES, SIDES[::-1]):
        has = [name for quantity, name in sided.items() if quantity.startswith(side)]
        if has and not any(quantity.startswith(other) for quantity in sided):
            return (
                f"`{path}` holds `{has[0]}` and nothing of the {other} answers: export both; its columns are {listed}."
            )
    broken = [name for name in sided.values() if name.lower() and table.holds(name).sum() >= 2]
    broken = [name for name in broken if np.isfinite(table.numbers(name)).sum() < 2 and read_name(name)]
    if not any(quantity.startswith(SIDES) for quantity in sided) and any(map(is_of_groups, known)):
        return (
            f"`{path}` is a log of sampled answers (GRPO, RLOO, PPO) and holds no preference pairs; which answers such "
            "groups displace is T21: `toymodel.theory.displaced`."
        )
    if broken:
        return (
            f"`{path}` has fewer than two numbers in `{broken[0]}`, the other rows are not a number: the run broke at its "
            "start (a loss in half precision, or an empty answer after truncation)."
        )
    hint = ""
    if "current_steps" in known:
        hint = " LLaMA-Factory writes both sides into `trainer_state.json`, beside this file."
    return (
        f"`{path}` must have two rows or more with `chosen_logps` and `rejected_logps` (or other names of them, such as "
        f"TRL's `logps/chosen` and `logps/rejected`, or of rewards); its columns are {listed}.{hint}"
    )
