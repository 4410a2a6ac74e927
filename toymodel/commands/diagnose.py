"""`toymodel diagnose`: gradients, log-probabilities and training logs of a user, from a shell."""

from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from toymodel.commands import _gradient_report, _log_report, _model


def run(
    file: Positional[Annotated[Path, arg(metavar="FILE")]],
    more: Positional[Annotated[tuple[Path, ...], arg(metavar="[FILE ...]", help_behavior_hint="")]] = (),
    *,
    json: bool = False,
    tolerance: Annotated[float | None, arg(metavar="X", help_behavior_hint="")] = None,
    columns: Annotated[tuple[str, str] | None, arg(metavar="CHOSEN REJECTED", help_behavior_hint="")] = None,
    plot: Annotated[Path | None, arg(metavar="FILE", help_behavior_hint="")] = None,
    beta: Annotated[float | None, arg(metavar="B", help_behavior_hint="")] = None,
    model: Annotated[Path | None, arg(metavar="DIR|FILE.gguf", help_behavior_hint="")] = None,
    out: Annotated[Path | None, arg(metavar="FILE.npz", help_behavior_hint="")] = None,
    no_eos: bool = False,
) -> int:
    """Say what one small step does to each preference pair, from its gradients; or
    at which steps of a training run chosen and rejected rose or fell, from a log.

    FILE holds one of
      .npz, .safetensors: gradients of the log-probabilities of N pairs
          chosen_grad, rejected_grad [N, P]; or only chosen_sq, rejected_sq,
          inner [N]; either by layer: chosen_grad/NAME [N, ...], and so on; or
          gram [2N, 2N], inner products of all gradients, chosen first.
          Optional, [N] each: weights d_chosen, d_rejected (default 1);
          chosen_lengths, rejected_lengths (tokens), chosen_logps, rejected_logps:
          rpo_alpha and some losses need them.
      .jsonl, with --model: preference pairs, one object on each line
          prompt, chosen, rejected: text, or lists of messages for the chat
          template. The model's gradients are diagnosed without building them.
      .npz, .safetensors: log-probabilities of the same pairs at S states of a run
          chosen_logps, rejected_logps [S, N]; or of tokens,
          chosen_token_logps, rejected_token_logps [S, N, T], with optional
          chosen_mask, rejected_mask [N, T] (1 at real tokens); optional steps [S].
      anything else: a training log, as trainers and loggers write it
          trainer_state.json, JSON lines, console output, CSV, Markdown tables.
          Evaluations are used first, then rewards of training. A table with
          a column `pair` has the same pairs at the states of a run. Several
          logs are compared at equal margin.

    for example:
      toymodel diagnose gradients.npz --json
      toymodel diagnose --model checkpoint-500 pairs.jsonl --out gram.npz
      toymodel diagnose checkpoint-500/trainer_state.json --plot run.png
      toymodel diagnose log.csv --tolerance 0.5
      toymodel diagnose run.jsonl --columns rewards/chosen rewards/rejected
      toymodel diagnose one/trainer_state.json other/trainer_state.json

    Args:
      file: what to diagnose: see above
      more: logs of further runs
      json: print JSON instead of tables
      tolerance: for logs: a side that moved by up to X in a stretch is unchanged
      columns: for a log: the two columns to read
      plot: for logs: draw them into this file (.png, .pdf, .svg)
      beta: for gradients without weights: β of DPO (0.1), for rpo_alpha and others
      model: a folder of Hugging Face transformers or of a peft adapter, or a .gguf file
      out: with --model: keep the Gram entries, to diagnose without the model
      no_eos: with --model: append no end-of-text token to answers that are text
    """
    from toymodel.diagnosis.gradients import diagnose
    from toymodel.diagnosis.readers import ARCHIVES, LOGPS, TOKENS, load

    if model is None and (out is not None or no_eos):
        raise ValueError("--out and --no-eos need --model.")
    if model is not None:
        if more or tolerance is not None or columns is not None or plot is not None:
            raise ValueError("further files, --tolerance, --columns and --plot are for logs, not for --model.")
        arrays = _model.measure(model, file, eos=not no_eos, out=out)
        return _gradient_report.report(diagnose(**arrays, beta=beta), json=json)
    archives = [path for path in (file, *more) if path.suffix.lower() in ARCHIVES]
    if beta is not None and not archives:
        raise ValueError("--beta is for gradients, not for logs.")
    if not archives:
        return _log_report.report_logs([file, *more], columns, tolerance=tolerance or 0.0, plot=plot, json=json)
    if more:
        raise ValueError(f"several files are compared only if all are logs; `{archives[0]}` is not.")
    for name, value in {"columns": columns, "plot": plot}.items():
        if value:
            raise ValueError(f"--{name} is for logs; `{file}` holds arrays.")
    arrays = load(file)
    if TOKENS[0] in arrays or (LOGPS[0] in arrays and arrays.keys() <= {*LOGPS, "steps"}):
        return _log_report.report_pairs(arrays, tolerance=tolerance or 0.0, json=json)
    if tolerance is not None:
        raise ValueError(f"--tolerance is for logs and log-probabilities along a run; `{file}` holds gradients.")
    return _gradient_report.report(diagnose(**arrays, beta=beta), json=json)
