"""`toymodel diagnose`: gradients, token log-probabilities and training logs of a user, from a shell."""

import json as json_format
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from rich.console import Console
from rich.table import Table
from tyro.conf import Positional, arg

if TYPE_CHECKING:
    from toymodel.diagnosis.gradients import Diagnosis

SHOWN = 40  # rows of a table; more is for scripts
RIGHT = "chosen_up_rejected_down"


def run(
    file: Positional[Annotated[Path, arg(metavar="FILE")]],
    more: Positional[Annotated[tuple[Path, ...], arg(metavar="[FILE ...]", help_behavior_hint="")]] = (),
    *,
    json: bool = False,
    tolerance: Annotated[float | None, arg(metavar="X", help_behavior_hint="")] = None,
    columns: Annotated[tuple[str, str] | None, arg(metavar="CHOSEN REJECTED", help_behavior_hint="")] = None,
    plot: Annotated[Path | None, arg(metavar="FILE", help_behavior_hint="")] = None,
) -> int:
    """Say what one small step does to each preference pair, from its gradients; or
    in which steps of a training run chosen and rejected rose or fell, from a log.

    FILE holds one of
      .npz, .safetensors: gradients of log-probabilities, of N pairs
          chosen_grad, rejected_grad [N, P]; or by layer: chosen_grad/NAME,
          rejected_grad/NAME [N, ...]; or only chosen_sq, rejected_sq, inner [N];
          or gram [2N, 2N], inner products of all gradients, chosen first.
          Weights d_chosen, d_rejected [N] are optional (default 1).
          examples/torch_gradients.py takes them from a torch model.
      .npz, .safetensors: log-probabilities of the same pairs at S states of a run
          chosen_logps, rejected_logps [S, N]; or of tokens,
          chosen_token_logps, rejected_token_logps [S, N, T], with optional
          chosen_mask, rejected_mask [N, T] (1 at real tokens); optional steps [S].
      anything else: a training log, as trainers and loggers write it
          trainer_state.json, JSON lines, console output, CSV, Markdown tables;
          numbers of evaluations come first, then rewards of training. With a
          column `pair`: the same pairs at the states of a run. Several logs
          are compared at equal margin.

    for example:
      toymodel diagnose gradients.npz --json
      toymodel diagnose checkpoint-500/trainer_state.json --plot run.png
      toymodel diagnose log.csv --tolerance 0.5
      toymodel diagnose run.jsonl --columns rewards/chosen rewards/rejected
      toymodel diagnose one/trainer_state.json other/trainer_state.json

    Args:
      file: what to diagnose: see above
      more: logs of further runs
      json: print JSON instead of tables
      tolerance: of logs: a side that moved by up to X in a stretch is unchanged
      columns: of a log: the two columns to read
      plot: of logs: draw them into this file (.png, .pdf, .svg)
    """
    from toymodel.diagnosis.gradients import diagnose
    from toymodel.diagnosis.readers import ARCHIVES, LOGPS, TOKENS, load

    arrays_too = [path for path in (file, *more) if path.suffix.lower() in ARCHIVES]
    if not arrays_too:
        return _diagnose_logs([file, *more], columns, tolerance or 0.0, plot, json)
    if more:
        raise ValueError(f"several files are compared where all are logs; `{arrays_too[0]}` is none.")
    for name, value in {"columns": columns, "plot": plot}.items():
        if value:
            raise ValueError(f"--{name} is for logs; `{file}` holds arrays.")
    arrays = load(file)
    if TOKENS[0] in arrays or (LOGPS[0] in arrays and arrays.keys() <= {*LOGPS, "steps"}):
        return _diagnose_pairs(arrays, tolerance or 0.0, json)
    if tolerance is not None:
        raise ValueError(f"--tolerance is for logs and log-probabilities along a run; `{file}` holds gradients.")
    diagnosis = diagnose(**arrays)
    return _print_json(diagnosis._asdict()) if json else _print_diagnosis(diagnosis)


def _diagnose_logs(
    files: list[Path], columns: tuple[str, str] | None, tolerance: float, plot: Path | None, json: bool
) -> int:
    from toymodel.commands import _log_report
    from toymodel.diagnosis.checkpoints import load_pairs
    from toymodel.diagnosis.evidence import load_log
    from toymodel.diagnosis.plot import plot_logs
    from toymodel.diagnosis.report import report, report_runs

    pairs = load_pairs(files[0]) if len(files) == 1 else None
    if pairs is not None:
        return _diagnose_pairs(pairs, tolerance, json)
    logs = {str(file): load_log(file, columns) for file in files}
    if plot:
        panels = {f"{name} {e.name}".strip(): e for name, log in logs.items() for e in log.evidence}
        plot_logs(panels, plot, tolerance=tolerance)
    if len(files) > 1:
        found = report_runs(logs, tolerance)
        return _print_json(found) if json else _log_report.print_runs(found)
    found = report(logs[str(files[0])], tolerance)
    return _print_json(found) if json else _log_report.print_log(found)


def _diagnose_pairs(arrays: dict[str, Any], tolerance: float, json: bool) -> int:
    from toymodel.commands import _log_report
    from toymodel.diagnosis.checkpoints import diagnose_pairs, diagnose_tokens

    diagnosis = (diagnose_pairs if "chosen_logps" in arrays else diagnose_tokens)(**arrays, tolerance=tolerance)
    as_json = {
        "mean": diagnosis.mean._asdict(),
        "pairs": [pair._asdict() for pair in diagnosis.pairs],
        "falls": diagnosis.falls,
    }
    return _print_json(as_json) if json else _log_report.print_pairs(diagnosis)


def _print_json(value: dict[str, Any]) -> int:
    print(json_format.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))
    return 0


def _print_diagnosis(diagnosis: "Diagnosis") -> int:
    summary = diagnosis.summary
    rows = [(str(i), row) for i, row in enumerate(diagnosis.pairs[:SHOWN])]
    if summary["sum"] is not None:
        rows.append(("all", summary["sum"]))
    table = Table("pair", "‖g_w‖", "‖g_l‖", "⟨g_w, g_l⟩", "cosine", "band of d_w/d_l", "slope w", "slope l", "case")
    for name, row in rows:
        band = row.get("band")
        table.add_row(
            name,
            *(_short(value) for value in (math.sqrt(row["chosen_sq"]), math.sqrt(row["rejected_sq"]), row["inner"])),
            "undefined" if row["cosine"] is None else _short(row["cosine"]),
            "–" if band is None else f"{_short(band[0])} to {_short(band[1])}",
            _short(row["chosen_slope"]),
            _short(row["rejected_slope"]),
            _words(row["case"]),
        )
    _print_table(table)
    if len(diagnosis.pairs) > SHOWN:
        print(f"The first {SHOWN} of {len(diagnosis.pairs)} pairs; --json prints all of them.")
    found = [f"{count} {_words(name)}" for name, count in summary["cases"].items() if count]
    print(f"{summary['pairs']} pair(s): {', '.join(found)}. Slopes in nats per unit of learning rate.")
    if summary["undefined_cosines"]:
        print(f"{summary['undefined_cosines']} without a cosine: a gradient is zero.")
    if "layers" in summary:
        _print_layers(summary["layers"])
    if diagnosis.batch is not None and summary["pairs"] > 1:
        _print_batch(diagnosis.batch, [row["case"] for row in diagnosis.pairs])
    return 0


def _print_batch(batch: dict[str, Any], own: list[str]) -> None:
    """What the mean step of all pairs does, against each pair's own step (`own` has its case)."""
    table = Table("pair", "slope w", "slope l", "case", "most harmful of the others, and the slope they add")
    for i, row in enumerate(batch["pairs"][:SHOWN]):
        worst = ", ".join(f"{side} {pair} ({_signed(slope)})" for pair, side, slope in row["worst"])
        slopes = _short(row["chosen_slope"]), _short(row["rejected_slope"])
        table.add_row(str(i), *slopes, _words(row["case"]), worst or "none")
    print("Under the mean step of all pairs:")
    _print_table(table)
    found = [f"{count} {_words(name)}" for name, count in batch["cases"].items() if count]
    print(f"In the batch: {', '.join(found)}.")
    cases = [row["case"] for row in batch["pairs"]]
    lost = [str(i) for i, (alone, now) in enumerate(zip(own, cases, strict=True)) if alone == RIGHT != now]
    print(f"Right alone and not in the batch, through the others: {_listed(lost, 'pair')}.")
    common = batch["common_step"]
    n = len(common["weights"]) // 2
    named = [f"{'chosen' if i < n else 'rejected'} {i % n}: {_short(w)}" for i, w in enumerate(common["weights"]) if w]
    if common["exists"]:
        print(
            "A step exists that raises every chosen and lowers every rejected answer, each by "
            f"{_short(common['least_slope'])} nats or more per unit of learning rate. Weights of the gradients: "
            f"{_listed(named, 'answer')}."
        )
    else:
        print(
            "No step raises every chosen and lowers every rejected answer: chosen gradients less rejected ones, with "
            f"these weights, add up to 0: {_listed(named, 'answer')}."
        )


def _listed(names: list[str], what: str) -> str:
    """The first few names, and how many more there are."""
    rest = f" and {len(names) - SHOWN} more; --json has them all" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + rest if names else f"no {what}"


def _print_layers(layers: dict[str, Any]) -> None:
    table = Table("layer", "‖g_w‖²", "‖g_l‖²", "⟨g_w, g_l⟩", "cosine", "slope w", "slope l")
    for name, row in layers.items():
        numbers = [
            row[entry] for entry in ("chosen_sq", "rejected_sq", "inner", "cosine", "chosen_slope", "rejected_slope")
        ]
        table.add_row(name, *("undefined" if number is None else _short(number) for number in numbers))
    print("By layer, as means over pairs; the columns add up, but for the cosine:")
    _print_table(table)


def _print_table(table: Table) -> None:
    for column in table.columns:
        column.no_wrap = True
    Console(width=None if sys.stdout.isatty() else 140).print(table)


def _words(case: str) -> str:
    return case.replace("_", " ")


def _signed(value: float) -> str:
    return f"{value:+.4g}"


def _short(value: float) -> str:
    return f"{value:.4g}"
