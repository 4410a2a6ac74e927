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
    from toymodel.diagnosis.evidence import Evidence
    from toymodel.diagnosis.gradients import Diagnosis
    from toymodel.diagnosis.logs import LogDiagnosis, TokenDiagnosis

SHOWN = 40  # rows of a table; more is for scripts
POSITIONS = 10  # of a response, those that moved most
RIGHT = "chosen_up_rejected_down"
LOGS = (".csv", ".json", ".jsonl")


def run(
    file: Positional[Annotated[Path, arg(metavar="FILE")]],
    *,
    json: bool = False,
    tolerance: Annotated[float | None, arg(metavar="X", help_behavior_hint="")] = None,
    window: Annotated[int | None, arg(metavar="W", help_behavior_hint="")] = None,
    columns: Annotated[tuple[str, str] | None, arg(metavar="CHOSEN REJECTED", help_behavior_hint="")] = None,
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
      .npz, .safetensors: log-probabilities of tokens at S states of a run
          chosen_token_logps, rejected_token_logps [S, N, T]; optional are
          chosen_mask, rejected_mask [N, T] (1 at real tokens) and steps [S].
      .csv, .json, .jsonl: a training log
          step, chosen_logps, rejected_logps; or TRL's names, as in its
          trainer_state.json: logps/chosen and logps/rejected, else rewards/...;
          those of evaluations (eval_logps/chosen) are preferred.

    for example:
      toymodel diagnose gradients.npz --json
      toymodel diagnose checkpoint-500/trainer_state.json
      toymodel diagnose log.csv --window 5 --tolerance 0.01
      toymodel diagnose run.jsonl --columns rewards/chosen rewards/rejected

    Args:
      file: what to diagnose: see above
      json: print JSON instead of tables
      tolerance: of logs: changes from state to state up to X count as none
      window: of logs: take means over W states first, W odd: less noise
      columns: of a log: the two columns to read
    """
    from toymodel.diagnosis.evidence import load_log
    from toymodel.diagnosis.gradients import diagnose
    from toymodel.diagnosis.logs import diagnose_log, diagnose_tokens
    from toymodel.diagnosis.readers import ARCHIVES, TOKENS, load

    given = {"tolerance": tolerance, "window": window}
    reading: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if file.suffix.lower() not in ARCHIVES:
        log = load_log(file, columns).evidence[0]
        regimes = diagnose_log(log.chosen.values, log.rejected.values, steps=log.chosen.steps, **reading)
        regimes.summary.update(columns=log.columns, unit=log.unit)
        return _print_json(regimes._asdict()) if json else _print_log(regimes, log)
    arrays = load(file)
    if columns:
        raise ValueError(f"--columns is for logs ({', '.join(LOGS)}), got `{file}`.")
    if TOKENS[0] in arrays:
        tokens = diagnose_tokens(**arrays, **reading)
        as_json = {"mean": tokens.mean._asdict(), "pairs": [pair._asdict() for pair in tokens.pairs]}
        return _print_json(as_json) if json else _print_tokens(tokens)
    if reading:
        raise ValueError(f"--{next(iter(reading))} is for logs and token log-probabilities; `{file}` holds gradients.")
    diagnosis = diagnose(**arrays)
    return _print_json(diagnosis._asdict()) if json else _print_diagnosis(diagnosis)


def _print_json(value: dict[str, Any]) -> int:
    print(json_format.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))
    return 0


def _print_log(diagnosis: "LogDiagnosis", log: "Evidence") -> int:
    _print_stretches(diagnosis, log.unit)
    print(f"Read from `{log.columns[0]}` and `{log.columns[1]}`.")
    if log.columns[0].startswith("eval"):
        print("An evaluation: the same pairs at every state.")
    elif "/" in log.columns[0]:
        print("In training, states are means over different pairs, so changes are noisy: --window W smooths them.")
        if log.unit == "nats":
            print("Rewards, if logged, are less noisy: the reference's log-probability of the same pairs is taken off.")
    if log.unit == "reward":
        print("Rewards are β times a log-ratio: changes have the signs of those of log π; divide by β for nats.")
    return 0


def _print_tokens(diagnosis: "TokenDiagnosis") -> int:
    print("Means over pairs:")
    _print_stretches(diagnosis.mean, "nats")
    summary = diagnosis.mean.summary
    for side in ("chosen", "rejected"):
        moved = summary[f"{side}_positions"]
        first = sorted(range(len(moved)), key=lambda i: -abs(moved[i]))[:POSITIONS]
        listed = ", ".join(f"{i}: {_signed(moved[i])}" for i in first)
        print(f"The {side}'s {_signed(summary[f'{side}_change'])} nats by position, the largest first: {listed}.")
    cases = [pair.summary["case"] for pair in diagnosis.pairs]
    found = ", ".join(f"{cases.count(name)} {_words(name)}" for name in summary["cases"] if name in cases)
    print(f"Each pair from the first state to the last: {found}.")
    return 0


def _print_stretches(diagnosis: "LogDiagnosis", unit: str) -> None:
    stretches, summary = diagnosis
    table = Table("steps", "case", f"chosen, {unit}", f"rejected, {unit}", f"margin, {unit}")
    for stretch in stretches[:SHOWN]:
        name = _words(stretch["case"])
        shown = f"[bold]{name}" if stretch["case"] == "both_down" else name
        table.add_row(_steps(stretch), shown, *map(_signed, _changes(stretch)))
    _print_table(table)
    if len(stretches) > SHOWN:
        print(
            f"The first {SHOWN} of {len(stretches)} stretches; --json prints all, --window and --tolerance make fewer."
        )
    down = [stretch for stretch in stretches if stretch["case"] == "both_down"]
    whole, of_down = (_changes(entry) for entry in (summary, summary["both_down"]))
    print(
        f"Steps {_steps(summary)}, {summary['states']} states: chosen {_signed(whole[0])}, "
        f"rejected {_signed(whole[1])}, margin {_signed(whole[2])} {unit}: {_words(summary['case'])}."
    )
    if not down:
        print("Both down: never.")
        return
    longest = max(down, key=lambda stretch: stretch["last_step"] - stretch["first_step"])
    print(
        f"Both down: {len(down)} stretch(es), {summary['both_down']['steps']:g} of "
        f"{summary['last_step'] - summary['first_step']:g} steps, chosen {_signed(of_down[0])} and rejected "
        f"{_signed(of_down[1])} {unit} in them; the longest is steps {_steps(longest)}."
    )


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


def _steps(entry: dict[str, Any]) -> str:
    return f"{entry['first_step']} to {entry['last_step']}"


def _changes(entry: dict[str, Any]) -> tuple[float, float, float]:
    """Of chosen, rejected and margin."""
    chosen, rejected = entry["chosen_change"], entry["rejected_change"]
    return chosen, rejected, chosen - rejected


def _signed(value: float) -> str:
    return f"{value:+.4g}"


def _short(value: float) -> str:
    return f"{value:.4g}"
