"""From a training log to evidence: the numbers that are used, and warnings about them."""

import csv
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from toymodel._public import counted, own_names
from toymodel.diagnosis.belief import SIDES, Believed, best, candidates, named, quantities, ratio, rows_of
from toymodel.diagnosis.columns import is_of_groups, is_sided, read_name
from toymodel.diagnosis.files import read_rows
from toymodel.diagnosis.readers import LOGPS
from toymodel.diagnosis.table import Place, Steps, Table, by_step

__dir__ = own_names(globals())


class Series(NamedTuple):
    """One number at each of S states."""

    steps: Float[np.ndarray, " S"]  # increasing
    values: Float[np.ndarray, " S"]  # finite


class Finding(NamedTuple):
    """A warning to a reader of the verdict: a code for programs, a plain sentence, and its step if it has one."""

    code: str
    text: str
    step: float | None = None


class Evidence(NamedTuple):
    """What a log says of one set of pairs.

    `others` holds further columns of the same rows under the names of `columns.QUANTITIES`. The two sides may have
    different steps: KTO logs one side in each row.
    """

    name: str  # of the evaluation set ("easy"); "" if there is only one
    split: str  # "evaluation" or "training"
    source: str  # "rewards", "logps_minus_reference" or "logps"
    columns: tuple[str, str]  # the names of the used columns in the file
    unit: str  # "nats", "nats per token" or "reward"
    step_kind: str  # "step", "epoch" or "row"
    chosen: Series
    rejected: Series
    others: dict[str, Series]
    broke_at: float | None  # from this step on a used column holds no number


class LogFile(NamedTuple):
    """The content of a file: one `Evidence` for each named evaluation set, or one in all; and what was repaired."""

    evidence: list[Evidence]
    findings: list[Finding]


_ONE_SIDED = 0.1  # from this share of steps with one side on, the log is taken as one-sided
_SHOWN = 30  # names of columns in a message
_RUNS = ("run", "run_id", "run_name", "loss_type")
# A trained language model's mean log-probability of a token is above −3, and even a random one's above −ln V ≈ −12.
_TRAINED, _RANDOM = -3.0, -12.0
_OF_AVERAGES = re.compile(r"odds_ratio|log_odds|per_token|(^|[^a-z])(ipo|orpo|simpo)([^a-z]|$)")  # names of columns


def load_log(path: str | os.PathLike[str], columns: tuple[str, str] | None = None) -> LogFile:
    """Read a training log of any format that `files` knows, and choose which of its numbers to use.

    If several rows have the same step, the last number counts.

    Args:
      path: the file; its content decides its format, not its name.
      columns: names of the chosen and of the rejected numbers, to use only these.

    Raises:
      ValueError: the file is missing, malformed, not a log, or a log of something else; or its columns do not hold two
        states of each side.
    """
    try:
        found = read_rows(Path(path), columns or ())
    except (OSError, ValueError, csv.Error) as error:
        raise ValueError(f"cannot read `{path}`: {error}") from error
    findings = []
    if found.cut_off:
        findings.append(Finding("cut_off", "The file ends in the middle of a row, which is left out."))
    if found.unread:
        findings.append(Finding("unread_rows", f"Left out: {counted(found.unread, 'broken line')}."))
    table = Table(found.rows)
    try:
        _require_one_run(table)
        believed = named(table, columns) if columns else best(table)
        if not believed:
            raise ValueError(_explain_absence(table, columns))
        evidence = {place: _weigh(table, place, numbers) for place, numbers in believed.items()}
        for place, numbers in believed.items():
            findings += _findings(table, place, numbers, evidence[place])
        broken = {place for place, found in evidence.items() if found.broke_at is not None}
        findings += _broken_elsewhere(table, believed, broken)
    except ValueError as error:
        raise ValueError(f"`{path}` {error}") from error
    return LogFile(list(evidence.values()), list(dict.fromkeys(findings)))


def _require_one_run(table: Table) -> None:
    name = next((name for name in table.names if name.strip().lower().replace(" ", "_") in _RUNS), None)
    runs = list(dict.fromkeys(str(row[name]) for row in table.rows if row.get(name))) if name else []
    if len(runs) > 1:
        raise ValueError(f"holds {len(runs)} runs in `{name}`, {', '.join(runs[:_SHOWN])}: give one of them at a time.")


def _weigh(table: Table, place: Place, believed: Believed) -> Evidence:
    """The evidence of one set of pairs."""
    for name in believed.columns:
        table.check(name)
    mine = rows_of(table, place, believed.columns)
    steps = table.steps(believed.used, mine)
    numbers = quantities(table, place)
    unit = "reward" if believed.source == "rewards" else "nats"
    if unit == "nats" and _is_average(table, place, believed):
        unit = "nats per token"
    return Evidence(
        name=place.set,
        split=place.split,
        source=believed.source,
        columns=believed.columns,
        unit=unit,
        step_kind=steps.kind,
        chosen=Series(*by_step(steps, believed.sides[0])),
        rejected=Series(*by_step(steps, believed.sides[1])),
        others={name: Series(*by_step(steps, side)) for name, side in numbers.items() if np.isfinite(side).any()},
        broke_at=_broke_at(table, steps, mine, believed),
    )


def _findings(table: Table, place: Place, believed: Believed, evidence: Evidence) -> Iterator[Finding]:
    """Warnings about the evidence of one set."""
    kind, broke_at = evidence.step_kind, evidence.broke_at
    of = f" of `{place.set}`" if place.set else ""
    steps = table.steps(believed.used, rows_of(table, place, believed.columns))
    stepless = int((believed.used & ~np.isfinite(steps.of_rows)).sum())
    if stepless:
        yield Finding("unread_rows", f"Left out: {counted(stepless, 'row')}{of} without a {kind}.")
    again = [step for side in believed.sides if (step := _replaced(steps, side)) is not None]
    if again:
        text = f"Rows{of} repeat {kind} {min(again):g} or later ones, as a resumed run does: the later row counts."
        yield Finding("replaced_rows", text, min(again))
    elif steps.sorted:
        order = "epochs" if kind == "row" else f"{kind}s"
        yield Finding("sorted_rows", f"The rows{of} were not in the order of their {order}: they were sorted.")
    alone = np.setxor1d(evidence.chosen.steps, evidence.rejected.steps)
    alone = alone if broke_at is None else alone[alone < broke_at]
    all_steps = np.union1d(evidence.chosen.steps, evidence.rejected.steps)
    if alone.size > _ONE_SIDED * all_steps.size:
        text = f"{alone.size} of {all_steps.size} {kind}s{of} have one side only: each side is read by itself."
        yield Finding("one_sided", text)
    if believed.source == "logps" and place.split == "training" and read_name(believed.columns[0]):
        text = (
            f"`{believed.columns[0]}` and `{believed.columns[1]}` are of a different batch at every state and jump for "
            "that reason alone, unless you logged fixed pairs: an evaluation would say more."
        )
        yield Finding("different_batches", text)
    if _is_average(table, place, believed):
        text = (
            f"The log-probabilities{of} are so small that they are means over tokens, as length-normalised losses "
            "(SimPO, ORPO, IPO) log them, or of very short answers: sums over tokens may move differently."
        )
        yield Finding("average_logps", text)
    if broke_at is not None:
        yield Finding("not_a_number", f"Not a number from {kind} {broke_at:g} on{of}: the run broke there.", broke_at)


def _replaced(steps: Steps, numbers: np.ndarray) -> float | None:
    """The first step at which a later row says something else."""
    there = np.isfinite(numbers) & np.isfinite(steps.of_rows)
    at, values = steps.of_rows[there], numbers[there]
    distinct, last = by_step(steps, numbers)
    differs = values != last[np.searchsorted(distinct, at)]
    return float(at[differs].min()) if differs.any() else None


def _is_average(table: Table, place: Place, believed: Believed) -> bool:
    """Whether log-probabilities are means over tokens, by their size and by columns that only averaging losses log."""
    names = " ".join(table.names).lower().replace(" ", "_")
    columns = [column for name in believed.columns if (column := read_name(name))]
    if not columns:
        return False  # the user named them, and we do not know what they are
    numbers = quantities(table, place)
    sides = [numbers[f"{side}_logps"] for side in SIDES if f"{side}_logps" in numbers]
    if believed.source == "logps":
        sides = list(believed.sides)
    values = np.concatenate([side[np.isfinite(side)] for side in sides]) if sides else np.array([])
    said = _OF_AVERAGES.search(names) is not None or any(column.average for column in columns)
    said |= (ratio(numbers) or 0) >= 1  # β of SimPO; of losses that sum, it is well below
    if believed.columns == LOGPS and not said:
        return False  # the names that we document, for sums
    return bool(values.size) and bool((_RANDOM if said else _TRAINED) < np.median(values) <= 0)


# --- Runs that broke ------------------------------------------------------------------------------------------------


def _broke_at(table: Table, steps: Steps, mine: np.ndarray, numbers: Believed) -> float | None:
    """The first step from which on a side has no number, although rows of its set go on.

    A gap does not count if one as long came before: then the log leaves numbers out. If each row holds one side, both
    sides must break.
    """
    chosen, rejected = (by_step(steps, side)[0] for side in numbers.sides)
    alone = np.setxor1d(chosen, rejected)
    if (alone <= min(chosen[-1], rejected[-1])).sum() > _ONE_SIDED * len(chosen):
        chosen = rejected = np.union1d(chosen, rejected)
    found = []
    for has, name in zip((chosen, rejected), numbers.columns, strict=True):
        rows = steps.of_rows[mine & table.holds(name)]
        gone = np.setdiff1d(rows[np.isfinite(rows)], has)
        longest = np.unique(np.searchsorted(has, gone[gone < has[-1]]), return_counts=True)[1].max(initial=0)
        after = gone[gone > has[-1]]
        if len(after) > longest:
            found.append(float(after[0]))
    return min(found, default=None)


def _broken_elsewhere(table: Table, believed: dict[Place, Believed], broken: set[Place]) -> Iterator[Finding]:
    """Other numbers of the same run that break where the used ones do not, and columns without any number."""
    runs = {place.run for place in believed}
    for place, names in table.places.items():
        if place.run not in runs or place in broken:
            continue
        for other in candidates(table, place):
            mine = rows_of(table, place, other.columns)
            steps = table.steps(other.used, mine)
            broke_at = _broke_at(table, steps, mine, other)
            if broke_at is not None:
                text = f"`{other.columns[0]}` is not a number from {steps.kind} {broke_at:g} on: the run broke there."
                yield Finding("not_a_number", text, broke_at)
                break
        for name in filter(is_sided, names.values()):
            if table.holds(name).sum() > 1 and not np.isfinite(table.numbers(name)).any():
                yield Finding("not_a_number", f"`{name}` is not a number in any row.")


# --- What is said where nothing is believed -------------------------------------------------------------------------


def _explain_absence(table: Table, columns: tuple[str, str] | None) -> str:
    known = sorted(table.names, key=lambda name: not is_sided(name))  # the likeliest columns first
    more = f" and {len(known) - _SHOWN} more" if len(known) > _SHOWN else ""
    listed = f"its columns are {', '.join(known[:_SHOWN]) or 'none'}{more}."
    if columns:
        return f"must have two rows or more with `{columns[0]}` and `{columns[1]}`; {listed}"
    sided = {name: str(read_name(name)) for name in filter(is_sided, known)}
    if not sided and any(map(is_of_groups, known)):
        return (
            "is a log of sampled answers (GRPO, RLOO, PPO) and holds no preference pairs; for which answers fall in "
            "such groups see T21: `toymodel.theory.displaced`."
        )
    for side, other in (SIDES, SIDES[::-1]):
        if sided and not any(f"'{other}_" in column for column in sided.values()):
            return f"holds `{next(iter(sided))}` ({side}) and nothing of the {other} answers: export both; {listed}"
    for name in sided:
        if table.holds(name).sum() > 1 and np.isfinite(table.numbers(name)).sum() < 2:
            return (
                f"has fewer than two numbers in `{name}`, and other values are NaN: the run broke at its start "
                "(a loss in half precision, or an empty answer after truncation)."
            )
    hint = ""
    if "current_steps" in known:
        hint = " LLaMA-Factory writes both sides into `trainer_state.json`, beside this file."
    return (
        "must have two rows or more with `chosen_logps` and `rejected_logps` (or other names of them, as TRL's "
        f"`logps/chosen` and `logps/rejected`, or of rewards); {listed}{hint}"
    )
