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
from toymodel.diagnosis.columns import is_of_groups, read_name
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
    except ValueError as error:
        raise ValueError(f"`{path}`: {error}") from error
    if not evidence:
        raise ValueError(_explain_absence(path, table, columns))
    return LogFile(evidence, list(dict.fromkeys(findings)))


# --- Which numbers are believed -------------------------------------------------------------------------------------


def _best(table: Table) -> dict[Place, _Numbers]:
    """The evaluations, else the rows of training; of one run."""
    for split in ("evaluation", "training"):
        candidates = {place: _candidates(table, place) for place in table.places if place.split == split}
        found = {place: best for place, numbers in candidates.items() if (best := next(filter(_two_states, numbers), None))}
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
    numbers = {quantity: table.numbers(name) for quantity, name in table.places[place].items()}
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
    place = next((place for place, held in table.places.items() if names[0] in held.values()), Place("", "training", ""))
    of_rewards = column.quantity.endswith("rewards") if column else "reward" in names[0].lower()
    sides = table.numbers(names[0]), table.numbers(names[1])
    numbers = _Numbers("rewards" if of_rewards else "logps", (names[0], names[1]), sides)
    return {place: numbers} if _two_states(numbers) else {}


def _two_states(numbers: _Numbers) -> bool:
    return all(np.isfinite(side).sum() >= 2 for side in numbers.sides)


# --- What is known of them ------------------------------------------------------------------------------------------


def _weigh(table: Table, place: Place, believed: _Numbers, findings: list[Finding]) -> Evidence:
    """The evidence of one set of pairs; what is to be said of it is added to `findings`."""
    for name in believed.columns:
        table.check(name)
    names, numbers = table.places.get(place, {}), _quantities(table, place) if place in table.places else {}
    w, l = (np.isfinite(side) for side in believed.sides)  # noqa: E741
    held = {name: np.isfinite(table.numbers(name)) for held in table.places.values() for name in held.values()}
    mine = (w | l) | np.logical_or.reduce([held[name] for name in names.values()], axis=0)
    others = np.logical_or.reduce([there for name, there in held.items() if name not in names.values()], axis=0)
    named = table.holds(believed.columns[0]) | table.holds(believed.columns[1])
    mine |= named & ~others  # nothing else is in these rows
    steps = table.steps(w | l, mine)
    chosen, rejected = (_series(steps, side) for side in believed.sides)
    of = f" of `{place.set}`" if place.set else ""
    if steps.sorted:
        findings.append(Finding("sorted_rows", f"The rows{of} were not in the order of their {steps.kind}s: sorted."))
    again = [step for side in believed.sides if (step := _replaced(steps, side)) is not None]
    if again:
        text = f"Rows{of} repeat {steps.kind} {min(again):g} or later ones, as a resumed run does: the later row counts."
        findings.append(Finding("replaced_rows", text, min(again)))
    one_sided = int((w ^ l).sum())
    if one_sided:
        text = f"{one_sided} of {int((w | l).sum())} rows{of} hold one side only, as KTO and BCO log: each is read by itself."
        findings.append(Finding("one_sided", text))
    if believed.source == "logps" and place.split == "training":
        text = (
            f"`{believed.columns[0]}` and `{believed.columns[1]}` are of a different batch at every state, and jump for "
            "that reason alone, unless you logged fixed pairs: an evaluation would tell more."
        )
        findings.append(Finding("different_batches", text))
    average = _is_average(table, numbers, believed)
    if average:
        text = (
            "The log-probabilities are so small that they are means over tokens, as length-normalised losses (SimPO, "
            "ORPO, IPO) log them, or of answers of very few tokens: a sum over tokens may move the other way."
        )
        findings.append(Finding("average_logps", text))
    broke_at = _broke_at(steps, mine, [table.holds(name) for name in believed.columns], (w, l))
    if broke_at is not None:
        text = f"Not a number from {steps.kind} {broke_at:g} on{of}: the run broke there."
        findings.append(Finding("not_a_number", text, broke_at))
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
    values = np.concatenate([np.abs(side[np.isfinite(side)]) for side in sides]) if sides else np.array([])
    if not values.size:
        return False
    words = " ".join(table.names).lower().replace(" ", "_")
    said = any(name in words for name in ("odds_ratio", "log_odds", "simpo", "per_token"))
    said |= any(column.average for name in believed.columns if (column := read_name(name)))
    return bool(np.median(values) < (_RANDOM if said else _TRAINED))


def _broke_at(
    steps: Steps, mine: np.ndarray, named: list[np.ndarray], there: tuple[np.ndarray, np.ndarray]
) -> float | None:
    """The first step from which on a side has no number, though rows of its set go on.

    A gap is none where one as long came before: then the log leaves numbers out. Where rows hold one side each, a row
    has a number as soon as one side has.
    """
    w, l = there  # noqa: E741
    one_sided = (w ^ l)[: max(np.flatnonzero(w)[-1], np.flatnonzero(l)[-1]) + 1].mean()
    found = []
    for has, holds in zip(there, named, strict=True):
        ok = w | l if one_sided > 0.1 else has
        at = np.unique(steps.of_rows[ok & np.isfinite(steps.of_rows)])
        bad = np.setdiff1d(steps.of_rows[mine & holds & ~ok & np.isfinite(steps.of_rows)], at)
        after = bad[bad > at[-1]]
        gaps = np.unique(np.searchsorted(at, bad[bad < at[-1]]), return_counts=True)[1]
        if len(after) > gaps.max(initial=0):
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
            return f"`{path}` holds `{has[0]}` and nothing of the {other} answers: export both; its columns are {listed}."
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
