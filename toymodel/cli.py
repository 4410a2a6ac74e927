"""`toymodel check`, `diagnose`, `sweep` and `sentiment`: the package from a shell.

Exit codes: 0 all is well; 1 a check failed, or a sign does not hold; 2 bad input, said in one line on stderr;
130 interrupted.
"""

import argparse
import json
import math
import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from toymodel import check
from toymodel.diagnose import Diagnosis, diagnose, load
from toymodel.experiments import command as sentiment_command
from toymodel.sweep import command as sweep_command

SHOWN = 40  # pairs in a table; more is for scripts


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand; returns the exit code."""
    options = _parser().parse_args(arguments)
    try:
        exit_code: int = options.run(options)
    except ValueError as error:
        print(f"toymodel {options.command}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"toymodel {options.command}: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader, `head` say, has seen enough
        sys.stderr.close()
        return 0
    return exit_code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="toymodel", description="The gradient-entanglement sandbox.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    checking = commands.add_parser(
        "check",
        help="prediction against measurement on fresh random draws, label by label",
        description="Compare every closed form with automatic differentiation on fresh random draws, in float64.",
        epilog="example: toymodel check --examples 2000 --seed 7",
    )
    checking.add_argument("--examples", type=int, default=500, metavar="N", help="draws per label (default 500)")
    checking.add_argument("--seed", type=int, default=0, metavar="S", help="seed of the draws (default 0)")
    checking.add_argument("--json", action="store_true", help="print JSON instead of a table")
    checking.set_defaults(run=_check)

    diagnosing = commands.add_parser(
        "diagnose",
        help="norms, cosine, case, band and slopes for gradients of your own",
        description="Say what one small step does to each preference pair, from its log-probability gradients.",
        epilog="The file holds chosen_grad and rejected_grad [N, P], or chosen_sq, rejected_sq and inner [N]; weights "
        "d_chosen and d_rejected [N] are optional (default 1). example: toymodel diagnose gradients.npz --json",
    )
    diagnosing.add_argument("file", metavar="FILE.npz", help="arrays written by numpy.savez")
    diagnosing.add_argument("--json", action="store_true", help="print JSON instead of a table")
    diagnosing.set_defaults(run=_diagnose)

    sweep_command.add_parser(commands)
    sentiment_command.add_parser(commands)
    return parser


def _check(options: argparse.Namespace) -> int:
    errors = Console(stderr=True)
    columns = (TextColumn("checking"), BarColumn(), TextColumn("{task.percentage:.0f} %"), TimeElapsedColumn())
    with Progress(*columns, console=errors, transient=True, disable=not errors.is_terminal) as bar:
        task = bar.add_task("", total=1.0)
        results = check.run(
            examples=options.examples, seed=options.seed, progress=lambda done: bar.update(task, completed=done)
        )
    failed = [result.label for result in results if not result.passed]
    if options.json:
        labels = [result._asdict() | {"worst": _number(result.worst)} for result in results]
        print(json.dumps({"labels": labels}, indent=2, ensure_ascii=False, allow_nan=False))
    else:
        table = Table("label", "what it says", "draws", "worst", "tolerance", "verdict")
        for r in results:
            verdict = "[green]passed" if r.passed else "[red]FAILED"
            table.add_row(r.label, r.statement, str(r.draws), f"{r.worst:.1e}", f"{r.tolerance:.0e}", verdict)
        Console().print(table)
        for reason in dict.fromkeys(result.reason for result in results):
            names = ", ".join(result.label for result in results if result.reason == reason)
            print(f"Tolerance of {names}: {reason}.")
    if failed:
        print(f"toymodel check: {', '.join(failed)} failed (seed {options.seed})", file=sys.stderr)
    return 1 if failed else 0


def _diagnose(options: argparse.Namespace) -> int:
    diagnosis = diagnose(**load(options.file))
    if options.json:
        print(json.dumps(diagnosis._asdict(), indent=2, allow_nan=False))
    else:
        _print_diagnosis(diagnosis)
    return 0


def _print_diagnosis(diagnosis: Diagnosis) -> None:
    summary = diagnosis.summary
    rows = [(str(i), row) for i, row in enumerate(diagnosis.pairs[:SHOWN])]
    if summary["sum"] is not None:
        rows.append(("all", summary["sum"]))
    table = Table("pair", "‖g_w‖", "‖g_l‖", "⟨g_w, g_l⟩", "cosine", "band of d_w/d_l", "slope w", "slope l", "case")
    for column in table.columns:
        column.no_wrap = True
    for name, row in rows:
        band = row.get("band")
        table.add_row(
            name,
            *(_short(value) for value in (math.sqrt(row["chosen_sq"]), math.sqrt(row["rejected_sq"]), row["inner"])),
            "undefined" if row["cosine"] is None else _short(row["cosine"]),
            "–" if band is None else f"{_short(band[0])} to {_short(band[1])}",
            _short(row["chosen_slope"]),
            _short(row["rejected_slope"]),
            row["case"].replace("_", " "),
        )
    Console(width=None if sys.stdout.isatty() else 140).print(table)
    if len(diagnosis.pairs) > SHOWN:
        print(f"The first {SHOWN} of {len(diagnosis.pairs)} pairs; --json prints all of them.")
    found = [f"{count} {name.replace('_', ' ')}" for name, count in summary["cases"].items() if count]
    print(f"{summary['pairs']} pair(s): {', '.join(found)}. Slopes in nats per unit of learning rate.")
    if summary["undefined_cosines"]:
        print(f"{summary['undefined_cosines']} without a cosine: a gradient is zero.")


def _short(value: float) -> str:
    return f"{value:.4g}"


def _number(value: float) -> Any:
    """JSON has no NaN or infinity; a string says which."""
    return value if math.isfinite(value) else str(value)


if __name__ == "__main__":
    sys.exit(main())
