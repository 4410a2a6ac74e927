"""`toymodel real`: the sentiment experiment on a pretrained language model, from a shell."""

import json as json_format
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from rich.console import Console
from rich.table import Table
from tyro.conf import UseAppendAction, arg

from toymodel.commands._environment import release_memory
from toymodel.commands._progress import progress_bar
from toymodel.commands._settings import parse_seeds, parse_setting

if TYPE_CHECKING:
    import numpy as np

    from toymodel.experiments.account import TaskAccount
    from toymodel.experiments.carry_over import Verdict

Columns = dict[str, "np.ndarray"]
FORMATS = ("one_token", "short_suffix", "long_suffix", "varied")


def run(
    *,
    seeds: Annotated[str, arg(metavar="SEED|FIRST:STOP")],
    format: Literal["one_token", "short_suffix", "long_suffix", "varied", "all"] = "all",
    out: Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="(default: keep nothing)")] = None,
    layers: Annotated[str, arg(metavar="all|last:K|lora:R")] = "all",
    steps: Annotated[int | None, arg(metavar="N", help_behavior_hint="(default: 15)")] = None,
    weights: Annotated[
        Path | None, arg(metavar="FILE.gguf|DIR", help_behavior_hint="(default: SmolLM2-135M-Instruct)")
    ] = None,
    pairs: Annotated[Path | None, arg(metavar="FILE.jsonl", help_behavior_hint="(default: rated tweets)")] = None,
    set: UseAppendAction[Annotated[tuple[str, ...], arg(metavar="NAME=VALUE")]] = (),
    skip_account: bool = False,
    json: bool = False,
) -> int:
    """Fine-tune a pretrained language model, train it by DPO, and say which
    predictions held.

    The design is the paper's on another model: a model of 135 million weights, and
    tweet-like texts that people rated. Both are downloaded once, 95 MB. A run of one
    format takes some minutes on two cores, and 6 GB of memory. It needs
    pip install 'toymodel[pretrained]'.

    for example:
      toymodel real --seeds 7 --format long_suffix
      toymodel real --seeds 0:3 --out results
      toymodel real --seeds 7 --layers lora:8 --set learning_rate=2e-4
      toymodel real --seeds 7 --pairs mine.jsonl --layers last:8
      toymodel real --seeds 7 --format varied --set remedy=rejected_mask

    Args:
      seeds: one, or from FIRST up to, not including, STOP
      format: what follows the label in an answer
      out: a folder to keep results in; call again to continue
      layers: which weights are trained
      steps: steps of DPO, a multiple of 5
      weights: another model of the Llama architecture
      pairs: your own, one JSON object a line: prompt, chosen, rejected
      set: another setting, any number of times
      skip_account: do not say which training tokens moved the answers
      json: print JSON instead of tables
    """
    from toymodel.experiments.carry_over import accounts as accounts_of
    from toymodel.experiments.carry_over import looks, verdicts
    from toymodel.experiments.language_model import REAL_TRAINING, name_file
    from toymodel.experiments.language_model_account import REAL_ACCOUNT

    settings: dict[str, Any] = dict(map(parse_setting, set)) | {"seed": parse_seeds(seeds, one=True)}
    learned = _learned(layers)
    if steps is not None:
        settings["steps"] = steps
    if weights is not None:
        settings["weights"] = name_file(weights)
    if pairs is None:
        settings["format"] = FORMATS if format == "all" else (format,)
    else:
        settings |= {"format": ("own",), "pairs": name_file(pairs)}
    wanted = {REAL_TRAINING: settings | learned}
    if not skip_account:
        wanted[REAL_ACCOUNT] = settings | ({} if learned["learned"] == "all" else learned)
    told, account = _run(wanted, out)
    found, states = verdicts(told), looks(told)
    accounts = accounts_of(account) if account else {}
    left_out = int(told["left_out"][0])
    if json:
        print(
            json_format.dumps(_as_json(states, found, accounts) | {"left_out": left_out}, indent=2, ensure_ascii=False)
        )
        return 0
    if left_out:
        longest = int(told["longest"][0])
        print(f"Pairs of more than {longest} tokens, left out: {left_out}; --set longest=N takes longer ones.\n")
    _print_training(states)
    _print_verdicts(found)
    for task, of_task in accounts.items():
        _print_account(task, of_task)
    return 0


def _learned(layers: str) -> dict[str, Any]:
    """--layers as settings."""
    kind, _, size = layers.partition(":")
    names = {"last": ("last_blocks", "blocks"), "lora": ("low_rank", "rank")}
    if layers == "all":
        return {"learned": "all"}
    if kind not in names or not size.isdecimal() or int(size) < 1:
        raise ValueError(f"--layers must be all, last:K or lora:R, such as last:8, got {layers!r}.")
    learned, field = names[kind]
    return {"learned": learned, field: int(size)}


def _run(wanted: dict[Any, dict[str, Any]], out: Path | None) -> tuple[Columns, Columns | None]:
    """The tables of the experiments, in their order."""
    import numpy as np

    from toymodel.experiments.language_model import AT
    from toymodel.sweep import make_sweep
    from toymodel.sweep import run as run_sweep

    sweeps = [make_sweep(experiment, settings, precision="float32") for experiment, settings in wanted.items()]
    tables = []
    with tempfile.TemporaryDirectory() as nowhere, progress_bar(sum(each.size for each in sweeps)) as advance:
        token = AT.set(lambda words: advance(0, words))
        try:
            for each in sweeps:
                folder = (out or Path(nowhere)) / each.experiment.name
                rows = run_sweep(each, folder, progress=advance).collect()
                tables.append({column.name: np.asarray(column.to_numpy()) for column in rows})
                release_memory()
        finally:
            AT.reset(token)
    return tables[0], tables[1] if len(tables) > 1 else None


def _print_training(states: Columns) -> None:
    table = Table("format", "cosine: start", "reference", "end", "pairs", "chosen rises", "median", "mean", "rejected")
    for format in dict.fromkeys(states["format"].tolist()):
        mine = {name: column[states["format"] == format] for name, column in states.items()}

        def mean(name: str, stage: str, last: bool, mine: Columns = mine) -> float:
            here = mine["stage"] == stage
            at = mine["step"][here].max() if last else 0
            return float(mine[name][here & (mine["step"] == at)].mean())

        for whose, words in (("", "held out"), ("trained_", "trained on")):
            cells = [f"{mean(f'{whose}chosen_rises', 'preference', True):.0%}"]
            cells += [
                f"{mean(f'{whose}{name}', 'preference', True):+.2f}"
                for name in ("chosen_median", "chosen_mean", "rejected_mean")
            ]
            cosines = [("supervised", False), ("preference", False), ("preference", True)]
            first = [format.replace("_", " "), *(f"{mean('cosine', *at):+.2f}" for at in cosines)]
            table.add_row(*(first if not whose else [""] * len(first)), words, *cells)
    _show(table)
    print(
        "cosine: of the gradients of chosen and rejected, mean over held-out pairs; at the start, after fine-tuning and"
    )
    print("after DPO. The other columns are the change of log π by DPO, in nats.\n")


def _print_verdicts(found: list["Verdict"]) -> None:
    formats = list(dict.fromkeys(verdict.format for verdict in found))
    table = Table("", "prediction", *(format.replace("_", " ") for format in formats))
    for claim in dict.fromkeys(verdict.claim for verdict in found):
        cells = [verdict for verdict in found if verdict.claim is claim]
        table.add_row(claim.label, claim.words, *(_cell(verdict) for verdict in cells))
    _show(table)
    print(
        "Shares of pairs, relative errors, and numbers that should be positive. 95% intervals are over seeds, or over"
    )
    print("the pairs of a single seed.\n")


def _cell(verdict: "Verdict") -> str:
    import math

    if not math.isfinite(verdict.mean):
        return "–"
    ends = f" [{verdict.low:.3g}, {verdict.high:.3g}]" if math.isfinite(verdict.low) else ""
    return f"{verdict.mean:.3g}{ends}\n{verdict.holds}"


def _print_account(format: str, account: "TaskAccount") -> None:
    parts = list(account.sources)
    table = Table(
        "contributed by",
        *(f"to the {part}" for part in parts),
        title=f"{format}, last blocks trained".replace("_", " "),
    )
    for source, brought in account.sources.items():
        table.add_row(source, *("{:+.3f} [{:+.3f}, {:+.3f}]".format(*brought[part]) for part in parts))
    _show(table)
    print(f"chosen answer: {account.first_order:+.4f} by all sources, true change {account.true_change:+.4f}.\n")


def _show(table: Table) -> None:
    Console(width=None if sys.stdout.isatty() else 150).print(table)


def _as_json(states: Columns, found: list["Verdict"], accounts: dict[str, "TaskAccount"]) -> dict[str, Any]:
    def plain(value: Any) -> Any:
        if isinstance(value, float):
            return None if value != value or value in (float("inf"), float("-inf")) else value
        return value

    rows = [
        dict(zip(states, map(plain, row), strict=True))
        for row in zip(*(c.tolist() for c in states.values()), strict=True)
    ]
    claims = [
        {"label": each.claim.label, "prediction": each.claim.words, "format": each.format, "runs": each.runs}
        | {name: plain(getattr(each, name)) for name in ("mean", "low", "high", "holds")}
        for each in found
    ]
    return {"states": rows, "claims": claims, "accounts": {name: each._asdict() for name, each in accounts.items()}}
