"""`toymodel check`: the verdict on every label, from a shell."""

import json as json_format
import math
import sys
from typing import Annotated, Any

from rich.console import Console
from rich.table import Table
from tyro.conf import arg

from toymodel.commands._progress import progress_bar

QUICK = 64  # draws per label of a first look


def run(
    *,
    examples: Annotated[int, arg(metavar="N")] = 500,
    seed: Annotated[int, arg(metavar="S")] = 0,
    quick: bool = False,
    json: bool = False,
) -> int:
    """Compare every closed form with automatic differentiation on fresh random
    draws, in float64.

    for example:
      toymodel check --quick
      toymodel check --examples 2000 --seed 7
      toymodel check --json | jq '.labels[] | select(.passed | not)'

    Args:
      examples: draws per label
      seed: seed of the draws
      quick: a first look: fewer draws, short responses over two tokens only
      json: print JSON instead of a table
    """
    from toymodel import check

    how = {"examples": min(examples, QUICK), "shapes": check.SHAPES[:1]} if quick else {"examples": examples}
    with progress_bar(100) as advance:
        shown = 0.0

        def show(done: float) -> None:
            nonlocal shown
            advance(100 * (done - shown), "checking")
            shown = done

        results = check.run(**how, seed=seed, progress=show)
    failed = [result.label for result in results if not result.passed]
    if json:
        labels = [result._asdict() | {"worst": _number(result.worst)} for result in results]
        print(json_format.dumps({"labels": labels}, indent=2, ensure_ascii=False, allow_nan=False))
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
        print(f"toymodel check: {', '.join(failed)} failed (seed {seed})", file=sys.stderr)
    return 1 if failed else 0


def _number(value: float) -> Any:
    """JSON has no NaN or infinity; a string says which."""
    return value if math.isfinite(value) else str(value)
