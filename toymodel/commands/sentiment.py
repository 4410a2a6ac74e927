"""`toymodel sentiment`: the signs of the sentiment experiment from a shell, on the user's seeds."""

import json as json_format
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from rich.console import Console
from rich.table import Table
from tyro.conf import UseAppendAction, arg

from toymodel.commands._environment import use_devices
from toymodel.commands._progress import progress_bar
from toymodel.commands._settings import parse_seeds, parse_setting

if TYPE_CHECKING:
    from toymodel.experiments.signs import Outcome


def run(
    *,
    seeds: Annotated[str, arg(metavar="FIRST:STOP")],
    out: Annotated[Path, arg(metavar="DIR")],
    model: Literal["transformer", "ngram_mlp"] = "transformer",
    set: UseAppendAction[Annotated[tuple[str, ...], arg(metavar="NAME=VALUE")]] = (),
    devices: Annotated[int | None, arg(metavar="N", help_behavior_hint="(default: all cores)")] = None,
    json: bool = False,
) -> int:
    """Fine-tune small language models, train them by DPO, and say in which
    direction the log-probabilities of their answers moved.

    Each seed is fine-tuned, and trained by DPO, on each of the three tasks. Results
    are kept in DIR: call again to continue, or with more seeds. Settings were chosen
    on seeds 0 to 2, and the figures show seeds 100 to 111.

    for example:
      toymodel sentiment --seeds 200:212 --out results
      toymodel sentiment --seeds 0:4 --set learning_rate=1e-3 --out others
      toymodel sentiment --seeds 0:4 --model ngram_mlp --out others --json

    Args:
      seeds: from FIRST up to, not including, STOP
      out: a folder for the results
      model: the kind of network
      set: another setting, any number of times
      devices: CPU devices to share the work
      json: print JSON instead of a table
    """
    import numpy as np

    from toymodel.data.sentiment import TASKS
    from toymodel.experiments.sentiment import SENTIMENT
    from toymodel.experiments.signs import signs
    from toymodel.sweep import make_sweep
    from toymodel.sweep import run as run_sweep

    settings = {"model": model, **dict(map(parse_setting, set))}
    wanted = make_sweep(SENTIMENT, settings | {"task": TASKS, "seed": parse_seeds(seeds)})
    use_devices(devices)
    with progress_bar(wanted.size) as advance:
        rows = run_sweep(wanted, out, progress=advance).collect()
    outcome = signs({name: np.asarray(column.to_numpy()) for name, column in zip(rows.columns, rows, strict=True)})
    if json:
        print(json_format.dumps(_as_json(outcome), indent=2, ensure_ascii=False, allow_nan=False))
    else:
        _print(outcome)
    failed = [sign.claim for sign in outcome.signs if not sign.holds]
    if failed:
        print(f"toymodel sentiment: not shown by these seeds: {'; '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def _print(outcome: "Outcome") -> None:
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


def _as_json(outcome: "Outcome") -> dict[str, Any]:
    rows = [
        {name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in row.items()}
        for row in (sign._asdict() for sign in outcome.signs)
    ]
    return {"signs": rows, "not_learnt": outcome.not_learnt}
