"""`toymodel sentiment`: the signs of the sentiment experiment from a shell, on the user's seeds."""

import argparse
import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import shtab
from rich.console import Console
from rich.table import Table

from toymodel.commands.sweep import progress_bar, use_devices
from toymodel.data.sentiment import TASKS
from toymodel.experiments.sentiment import MODELS, SENTIMENT
from toymodel.experiments.signs import Outcome, signs
from toymodel.sweep import make_sweep
from toymodel.sweep import run as run_sweep

EPILOG = """Each seed is fine-tuned, and trained by DPO, on each of the three tasks. All is
kept in DIR: call it again to go on, or with more seeds. Settings were chosen on
seeds 0 to 2, and the figures show seeds 100 to 111.

examples:
  toymodel sentiment --seeds 200:212 --out results
  toymodel sentiment --seeds 0:4 --set learning_rate=1e-3 --out others
  toymodel sentiment --seeds 0:4 --model ngram_mlp --out others --json"""


def add_parser(commands: Any) -> None:
    """Add `sentiment` to the subcommands."""
    parser = commands.add_parser(
        "sentiment",
        help="the paper's sentiment experiment in small: do its signs hold?",
        description="Fine-tune small language models, train them by DPO, and say which way the\n"
        "log-probabilities of their answers went.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seeds", required=True, metavar="FIRST:STOP", help="from FIRST up to, not including, STOP")
    out = parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="the folder of the results")
    out.complete = shtab.DIRECTORY
    default = SENTIMENT.fields["model"].default
    parser.add_argument("--model", choices=MODELS, default=default, help=f"the kind of network (default {default})")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="another setting, any number of times"
    )
    parser.add_argument("--devices", type=int, metavar="N", help="CPU devices to share the work (default: all cores)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the subcommand; returns the exit code: 1 when a sign does not hold."""
    seeds = _seeds(options.seeds)
    settings = {"model": options.model, **dict(map(_assignment, options.set))}
    wanted = make_sweep(SENTIMENT, settings | {"task": TASKS, "seed": seeds})
    use_devices(options.devices)
    with progress_bar(wanted.size) as advance:
        rows = run_sweep(wanted, options.out, progress=advance).collect()
    outcome = signs({name: np.asarray(column.to_numpy()) for name, column in zip(rows.columns, rows, strict=True)})
    if options.json:
        print(json.dumps(_as_json(outcome), indent=2, ensure_ascii=False, allow_nan=False))
    else:
        _print(outcome)
    failed = [sign.claim for sign in outcome.signs if not sign.holds]
    if failed:
        print(f"toymodel sentiment: not shown by these seeds: {'; '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def _seeds(text: str) -> range:
    first, colon, stop = text.partition(":")
    if not (colon and first.isdecimal() and stop.isdecimal() and int(first) + 2 <= int(stop)):
        raise ValueError(f"--seeds must be FIRST:STOP with at least two seeds, such as 200:212, got {text!r}.")
    return range(int(first), int(stop))


def _assignment(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or name in ("task", "seed", "model"):
        raise ValueError(f"--set must be NAME=VALUE, and not of task, seed or model, got {text!r}.")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value


def _print(outcome: Outcome) -> None:
    for task, seeds in outcome.not_learnt.items():
        if seeds:
            print(f"Fine-tuning did not teach {task} its label in seeds {', '.join(map(str, seeds))}: left out.")
    table = Table("claim", "number", "mean", "95% interval", "seeds", "holds")
    for sign in outcome.signs:
        unit = "nats" if sign.quantity == "change" else ""
        interval = f"{sign.low:+.3f} to {sign.high:+.3f} {unit}" if math.isfinite(sign.mean) else "too few seeds"
        verdict = "[green]yes" if sign.holds else "[red]no"
        table.add_row(sign.claim, sign.quantity, f"{sign.mean:+.3f}", interval, str(sign.seeds), verdict)
    Console(width=None if sys.stdout.isatty() else 120).print(table)
    print(
        "cosine: between the gradients of chosen and rejected, at the reference. change: of log π of the chosen, from"
    )
    print("there to the end. Both are means over evaluation pairs; intervals are over seeds.")


def _as_json(outcome: Outcome) -> dict[str, Any]:
    rows = [
        {name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in row.items()}
        for row in (sign._asdict() for sign in outcome.signs)
    ]
    return {"signs": rows, "not_learnt": outcome.not_learnt}
