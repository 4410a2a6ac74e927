"""`toymodel diagnose`: gradients, token log-probabilities and training logs of a user, from a shell."""

import json as json_format
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from rich.console import Console
from rich.table import Table
from tyro.conf import Positional, arg

from toymodel.commands import _gradient_report, _model

if TYPE_CHECKING:
    from toymodel.diagnosis.logs import LogDiagnosis, TokenDiagnosis
    from toymodel.diagnosis.readers import Log

SHOWN = 40  # rows of a table; more is for scripts
POSITIONS = 10  # of a response, those that moved most
LOGS = (".csv", ".json", ".jsonl")


def run(
    file: Positional[Annotated[Path, arg(metavar="FILE")]],
    *,
    json: bool = False,
    tolerance: Annotated[float | None, arg(metavar="X", help_behavior_hint="")] = None,
    window: Annotated[int | None, arg(metavar="W", help_behavior_hint="")] = None,
    columns: Annotated[tuple[str, str] | None, arg(metavar="CHOSEN REJECTED", help_behavior_hint="")] = None,
    beta: Annotated[float | None, arg(metavar="B", help_behavior_hint="")] = None,
    model: Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="")] = None,
    out: Annotated[Path | None, arg(metavar="FILE.npz", help_behavior_hint="")] = None,
    no_eos: bool = False,
) -> int:
    """Say what one small step does to each preference pair, from its gradients; or
    in which steps of a training run chosen and rejected rose or fell, from a log.

    FILE holds one of
      .npz, .safetensors: gradients of log-probabilities, of N pairs
          chosen_grad, rejected_grad [N, P]; or only chosen_sq, rejected_sq,
          inner [N]; either by layer: chosen_grad/NAME [N, ...], and so on; or
          gram [2N, 2N], inner products of all gradients, chosen first.
          Optional, [N] each: weights d_chosen, d_rejected (default 1);
          chosen_lengths, rejected_lengths (tokens), chosen_logps, rejected_logps:
          rpo_alpha and some losses are told with them only.
      .jsonl, with --model: preference pairs, an object a line
          prompt, chosen, rejected: text, or lists of messages for the chat
          template. The model's gradients are diagnosed without building them.
      .npz, .safetensors: log-probabilities of tokens at S states of a run
          chosen_token_logps, rejected_token_logps [S, N, T]; optional are
          chosen_mask, rejected_mask [N, T] (1 at real tokens) and steps [S].
      .csv, .json, .jsonl: a training log
          step, chosen_logps, rejected_logps; or TRL's names, as in its
          trainer_state.json: logps/chosen and logps/rejected, else rewards/...;
          those of evaluations (eval_logps/chosen) are preferred.

    for example:
      toymodel diagnose gradients.npz --json
      toymodel diagnose --model checkpoint-500 pairs.jsonl --out gram.npz
      toymodel diagnose checkpoint-500/trainer_state.json
      toymodel diagnose log.csv --window 5 --tolerance 0.01
      toymodel diagnose run.jsonl --columns rewards/chosen rewards/rejected

    Args:
      file: what to diagnose: see above
      json: print JSON instead of tables
      tolerance: of logs: changes from state to state up to X count as none
      window: of logs: take means over W states first, W odd: less noise
      columns: of a log: the two columns to read
      beta: of gradients without weights: β of DPO (0.1), for rpo_alpha and others
      model: a folder of Hugging Face transformers, or of a peft adapter
      out: with --model: keep its Gram entries, for diagnose without the model
      no_eos: with --model: append no end-of-text token to answers that are text
    """
    from toymodel.diagnosis.gradients import diagnose
    from toymodel.diagnosis.logs import diagnose_log, diagnose_tokens
    from toymodel.diagnosis.readers import TOKENS, load, load_log

    if model is None and (out is not None or no_eos):
        raise ValueError("--out and --no-eos go with --model.")
    if model is not None:
        if tolerance is not None or window is not None or columns is not None:
            raise ValueError("--tolerance, --window and --columns are for logs, not for --model.")
        arrays = _model.measure(model, file, eos=not no_eos, out=out)
        return _gradient_report.report(diagnose(**arrays, beta=beta), json=json)
    given = {"tolerance": tolerance, "window": window}
    reading: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if file.suffix.lower() in LOGS:
        if beta is not None:
            raise ValueError("--beta is for gradients, not for logs.")
        log = load_log(file, columns)
        regimes = diagnose_log(log.chosen, log.rejected, steps=log.steps, **reading)
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
    return _gradient_report.report(diagnose(**arrays, beta=beta), json=json)


def _print_json(value: dict[str, Any]) -> int:
    print(json_format.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))
    return 0


def _print_log(diagnosis: "LogDiagnosis", log: "Log") -> int:
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
