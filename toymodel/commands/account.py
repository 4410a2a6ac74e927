"""`toymodel account`: which training tokens moved the answers of the sentiment experiment, on the user's seeds."""

import json as json_format
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from rich.console import Console
from rich.table import Table
from tyro.conf import UseAppendAction, arg

from toymodel.commands._environment import use_devices
from toymodel.commands._progress import progress_bar
from toymodel.commands._settings import parse_seeds, parse_setting

if TYPE_CHECKING:
    from toymodel.experiments.account import TaskAccount


def run(
    *,
    seeds: Annotated[str, arg(metavar="FIRST:STOP")],
    out: Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="(default: keep nothing)")] = None,
    model: Literal["transformer", "ngram_mlp"] = "transformer",
    set: UseAppendAction[Annotated[tuple[str, ...], arg(metavar="NAME=VALUE")]] = (),
    devices: Annotated[int | None, arg(metavar="N", help_behavior_hint="(default: all cores)")] = None,
    json: bool = False,
) -> int:
    """Fine-tune small language models, train them by DPO, and say which training
    tokens moved the answers to prompts that they were not trained on.

    Training tokens are split into labels and suffixes of chosen and of rejected
    answers. Their contributions are summed over all steps of the optimiser. The
    sum over the four is compared with the true change.

    for example:
      toymodel account --seeds 500:510
      toymodel account --seeds 0:4 --set optimizer=sgd --set learning_rate=0.01
      toymodel account --seeds 0:4 --out results --json

    Args:
      seeds: from FIRST up to, not including, STOP
      out: a folder to keep results in; call again with more seeds to continue
      model: the kind of network
      set: another setting, any number of times
      devices: CPU devices to share the work
      json: print JSON instead of tables
    """
    import numpy as np

    from toymodel.data.sentiment import TASKS
    from toymodel.experiments.account import ACCOUNT, accounts
    from toymodel.sweep import make_sweep
    from toymodel.sweep import run as run_sweep

    settings = {"model": model, **dict(map(parse_setting, set))}
    wanted = make_sweep(ACCOUNT, settings | {"task": TASKS, "seed": parse_seeds(seeds)})
    use_devices(devices)
    with tempfile.TemporaryDirectory() as nowhere, progress_bar(wanted.size) as advance:
        rows = run_sweep(wanted, out or Path(nowhere), progress=advance).collect()
        table = {name: np.asarray(column.to_numpy()) for name, column in zip(rows.columns, rows, strict=True)}
    told, not_learnt = accounts(table)
    if json:
        tasks = {task: account._asdict() for task, account in told.items()}
        print(json_format.dumps({"tasks": tasks, "not_learnt": not_learnt}, indent=2, allow_nan=False))
        return 0
    for task, missing in not_learnt.items():
        if missing:
            print(f"Fine-tuning did not teach {task} its label in seeds {', '.join(map(str, missing))}: left out.")
    for task, account in told.items():
        _print(task, account)
    print("Nats, means over evaluation pairs and then over seeds, with 95% intervals over seeds.")
    return 0


def _print(task: str, account: "TaskAccount") -> None:
    parts = list(account.sources)
    table = Table("contributed by", *(f"to the {part}" for part in parts), title=task.replace("_", " "))
    for source, brought in account.sources.items():
        cells = ("{:+.3f} [{:+.3f}, {:+.3f}]".format(*brought[part]) for part in parts)
        table.add_row(source, *cells)
    Console(width=None if sys.stdout.isatty() else 140).print(table)
    print(
        f"chosen answer: {account.first_order:+.3f} by all sources, true change {account.true_change:+.3f}; rank "
        f"correlation over pairs {account.spearman:.3f} (of the pair's own slope: {account.own_slope_spearman:.2f})\n"
    )
