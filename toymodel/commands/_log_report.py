"""The reports on logs, on the same pairs over checkpoints, and on several runs, within 80 columns."""

import json as json_format
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from toymodel.commands._words import short, signed, words

if TYPE_CHECKING:
    from toymodel.diagnosis.checkpoints import PairsDiagnosis

SHOWN = 40  # rows of a table; scripts get all
POSITIONS = 10  # positions of a response that moved most
DOUBTS = ("not_a_number", "nothing_moved", "reference_mismatch")  # warnings that come before the verdict
SOURCES = {
    "rewards": "rewards, β times log-ratios to the reference: divide by β for nats",
    "logps_minus_reference": "log-probabilities minus the reference's",
    "logps": "log-probabilities",
}


def report_logs(
    files: list[Path], columns: tuple[str, str] | None, *, tolerance: float, plot: Path | None, json: bool
) -> int:
    """Read and diagnose one log, or compare several; print it as tables or as JSON."""
    from toymodel.diagnosis.checkpoints import load_pairs
    from toymodel.diagnosis.evidence import load_log
    from toymodel.diagnosis.plot import plot_logs
    from toymodel.diagnosis.report import report, report_runs

    pairs = load_pairs(files[0]) if len(files) == 1 else None
    if pairs is not None:
        return report_pairs(pairs, tolerance=tolerance, json=json)
    logs = {str(file): load_log(file, columns) for file in files}
    if plot:
        panels = {f"{name} {e.name}".strip(): e for name, log in logs.items() for e in log.evidence}
        plot_logs(panels, plot, tolerance=tolerance)
    several = len(logs) > 1
    found = report_runs(logs, tolerance) if several else report(logs[str(files[0])], tolerance)
    if json:
        return _print_json(found)
    return _print_runs(found) if several else _print_log(found)


def report_pairs(arrays: dict[str, Any], *, tolerance: float, json: bool) -> int:
    """Diagnose log-probabilities of fixed pairs along a run; print it as tables or as JSON."""
    from toymodel.diagnosis.checkpoints import diagnose_pairs, diagnose_tokens

    diagnosis = (diagnose_pairs if "chosen_logps" in arrays else diagnose_tokens)(**arrays, tolerance=tolerance)
    if not json:
        return _print_pairs(diagnosis)
    pairs = [pair._asdict() for pair in diagnosis.pairs]
    return _print_json({"mean": diagnosis.mean._asdict(), "pairs": pairs, "falls": diagnosis.falls})


def _print_json(value: dict[str, Any]) -> int:
    print(json_format.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))
    return 0


def _print_log(report: dict[str, Any]) -> int:
    """Print what `report` says about a log, set by set."""
    for name, found in report.get("sets", {"": report}).items():
        if name:
            print(f"\nEvaluation set `{name}`:")
        _print_set(found)
    if "sets" in report:
        _print_warnings(report["warnings"])
    return 0


def _print_pairs(diagnosis: "PairsDiagnosis") -> int:
    """Print the mean over pairs, which pairs fall, and which positions carry the fall."""
    summary = diagnosis.mean.summary
    print("Means over pairs, and their standard errors over pairs:")
    _print_stretches(diagnosis.mean.stretches)
    _print_verdict(summary, "nats")
    for side in ("chosen", "rejected"):
        moved = summary.get(f"{side}_positions", [])
        first = sorted(range(len(moved)), key=lambda i: -abs(moved[i]))[:POSITIONS]
        listed = ", ".join(f"{i}: {signed(moved[i])}" for i in first)
        if listed:
            whole = signed(summary[f"{side}_change"])
            print(f"Change of the {side} by position, {whole} nats in all, largest first: {listed}.")
    cases = [pair.summary["case"] for pair in diagnosis.pairs]
    found = ", ".join(f"{cases.count(name)} {words(name)}" for name in dict.fromkeys(cases))
    print(f"Each pair from the first state to the last: {found}.")
    changes = [f"{i} ({signed(diagnosis.pairs[i].summary['chosen_change'])})" for i in diagnosis.falls[:SHOWN]]
    rest = f" and {len(diagnosis.falls) - SHOWN} more; --json has them all" if len(diagnosis.falls) > SHOWN else ""
    print(f"Pairs whose chosen fell, the largest fall first: {', '.join(changes) + rest or 'none'}.")
    return 0


def _print_runs(found: dict[str, Any]) -> int:
    """Print several runs at equal margin."""
    from toymodel.diagnosis.runs import difference

    for name, comparison in found.get("sets", {"": found}).items():
        if name:
            print(f"\nEvaluation set `{name}`:")
        runs, unit = comparison["runs"], comparison["unit"]
        if comparison["margin"] is None:
            print("In one of the runs the margin never grew, so there is no equal margin to compare at:")
        else:
            print(
                f"When the margin had grown by {short(comparison['margin'])} {unit}, the largest that all runs reached:"
            )
        table = _table("run", "step", "chosen", "rejected")
        for run, one in runs.items():
            at = one["at_margin"] or {"step": one["summary"]["last_step"], **one["summary"]}
            table.add_row(run, short(at["step"]), _with_error(at, "chosen"), _with_error(at, "rejected"))
        _print_table(table)
        if comparison["margin"] is None:
            continue
        ranked = sorted(runs, key=lambda run: -runs[run]["at_margin"]["chosen_change"])
        size, error = difference(runs[ranked[0]], runs[ranked[-1]])
        doubt = "" if error is None or abs(size) > 2 * error else ": not told from noise"
        print(
            f"The chosen is highest in {ranked[0]} and lowest in {ranked[-1]}, {short(size)}"
            f"{_plus_minus(error)} {unit} apart{doubt}."
        )
        if unit == "reward":
            print("Rewards of runs with different β are not comparable: compare log-probabilities, with --columns.")
    return 0


def _print_set(found: dict[str, Any]) -> None:
    summary = found["summary"]
    _print_warnings([warning for warning in found["warnings"] if warning["code"] in DOUBTS])
    if len(found["stretches"]) > 1:
        _print_stretches(found["stretches"])
    _print_verdict(summary, summary["unit"])
    pairs = (
        "the same pairs at every state"
        if summary["split"] == "evaluation"
        else "training, different pairs in every row"
    )
    print(f"Read from `{summary['columns'][0]}` and `{summary['columns'][1]}`: {SOURCES[summary['source']]}; {pairs}.")
    _print_warnings([warning for warning in found["warnings"] if warning["code"] not in DOUBTS])
    for i, advice in enumerate(found["to_do"], 1):
        print(f"{'To do:' if i == 1 else '      '} {i}. {advice['text']} ({advice['see']})")


def _print_warnings(warnings: list[dict[str, Any]]) -> None:
    for warning in warnings:
        see = f" ({warning['see']})" if "see" in warning else ""
        print(f"{warning['code']}: {warning['text']}{see}")


def _print_verdict(summary: dict[str, Any], unit: str) -> None:
    margin = summary["chosen_change"] - summary["rejected_change"]
    kind = summary.get("step_kind", "step").capitalize()
    print(
        f"{kind}s {_steps(summary)}, {summary['rows']} states: chosen {_with_error(summary, 'chosen')}, rejected "
        f"{_with_error(summary, 'rejected')}, margin {signed(margin)} {unit}: {words(summary['case'])}."
    )


def _print_stretches(stretches: list[dict[str, Any]]) -> None:
    table = _table("steps", "case", "chosen", "rejected")
    for stretch in stretches[:SHOWN]:
        name = words(stretch["case"])
        shown = f"[bold]{name}" if stretch["case"] == "both_down" else name
        table.add_row(_steps(stretch), shown, _with_error(stretch, "chosen"), _with_error(stretch, "rejected"))
    _print_table(table)
    if len(stretches) > SHOWN:
        print(f"The first {SHOWN} of {len(stretches)} stretches; --json prints all, --tolerance makes fewer.")


def _table(*names: str) -> Table:
    table = Table(*names)
    for column in table.columns:
        column.no_wrap = column.header not in ("case", "run")  # words may break, numbers may not
    return table


def _print_table(table: Table) -> None:
    Console(width=max(80, Console().width if sys.stdout.isatty() else 0)).print(table)


def _with_error(entry: dict[str, Any], side: str) -> str:
    error = entry[f"{side}_error"]
    return signed(entry[f"{side}_change"]) + _plus_minus(error)


def _plus_minus(error: float | None) -> str:
    return "" if error is None else f" ± {error:.0f}" if error >= 10 else f" ± {error:.2g}"


def _steps(entry: dict[str, Any]) -> str:
    return f"{entry['first_step']:.10g} to {entry['last_step']:.10g}"
