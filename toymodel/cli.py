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

import shtab
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from toymodel import __version__, check
from toymodel.commands import diagnose as diagnose_command
from toymodel.commands import sentiment as sentiment_command
from toymodel.commands import sweep as sweep_command

EPILOG = """examples:
  toymodel check                         do all predictions hold on new draws?
  toymodel diagnose gradients.npz        your gradients: what one step would do
  toymodel diagnose trainer_state.json   your training run: when both fell
  toymodel sweep examples/overlap.toml --out results
  toymodel sentiment --seeds 200:212 --out signs
`toymodel COMMAND --help` has the options, and more examples.

tab completion in bash, from the next shell on (zsh, tcsh: likewise):
  mkdir -p ~/.local/share/bash-completion/completions
  toymodel --print-completion bash \\
    > ~/.local/share/bash-completion/completions/toymodel

exit codes: 0 all is well; 1 a check failed, or a sign does not hold;
2 bad input, said in one line; 130 interrupted."""
CHECK_EPILOG = """examples:
  toymodel check --examples 2000 --seed 7
  toymodel check --json | jq '.labels[] | select(.passed | not)'"""


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
    parser = argparse.ArgumentParser(
        prog="toymodel",
        description="When does preference optimisation lower the probability of the preferred\n"
        "answer, and why? In language models small enough to solve, and in your own.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"toymodel {__version__}")
    shtab.add_argument_to(parser, "--print-completion", help="print a script for tab completion (see below)")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", title="commands")

    checking = commands.add_parser(
        "check",
        help="prediction against measurement on fresh random draws",
        description="Compare every closed form with automatic differentiation on fresh random\ndraws, in float64.",
        epilog=CHECK_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    checking.add_argument("--examples", type=int, default=500, metavar="N", help="draws per label (default 500)")
    checking.add_argument("--seed", type=int, default=0, metavar="S", help="seed of the draws (default 0)")
    checking.add_argument("--json", action="store_true", help="print JSON instead of a table")
    checking.set_defaults(run=_check)

    diagnose_command.add_parser(commands)
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


def _number(value: float) -> Any:
    """JSON has no NaN or infinity; a string says which."""
    return value if math.isfinite(value) else str(value)


if __name__ == "__main__":
    sys.exit(main())
