"""Reading a user's files: arrays from .npz and .safetensors, and training logs from CSV, JSON and JSON lines."""

import csv
import io
import json
import math
import os
import zipfile
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from toymodel._public import own_names

__dir__ = own_names(globals())

GRADIENTS = ("chosen_grad", "rejected_grad")
GRAMS = ("chosen_sq", "rejected_sq", "inner")
GRAM = "gram"  # of all pairs
WEIGHTS = ("d_chosen", "d_rejected")
LOGPS = ("chosen_logps", "rejected_logps")
LENGTHS = ("chosen_lengths", "rejected_lengths")
TOKENS = ("chosen_token_logps", "rejected_token_logps")
MASKS = ("chosen_mask", "rejected_mask")
ARRAYS = (*GRADIENTS, *GRAMS, GRAM, *WEIGHTS, *LOGPS, *LENGTHS, *TOKENS, *MASKS, "steps")

# Names of the two numbers in logs, best first: those of an evaluation, which sees the same pairs at every state, then
# those of training. TRL writes "eval_" or no prefix into `log_history`; "eval/" and "train/" are what W&B makes of
# them.
PREFIXES = ("eval_", "eval/", "", "train/")
TRL = [(f"{p}{kind}/chosen", f"{p}{kind}/rejected") for p in PREFIXES for kind in ("logps", "rewards")]
COLUMNS = [LOGPS, *TRL]
STEPS = ("step", "train/global_step")


def load(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The arrays of an .npz or .safetensors file, by name: of gradients, or of token log-probabilities along a run.

    The names `chosen_grad/LAYER` and `rejected_grad/LAYER` give dictionaries by layer. Gradients in a .safetensors file
    stay there until they are sliced. Pickled objects are refused, never loaded.

    Raises:
      ValueError: the file is missing, unreadable or of another kind, or holds an array we do not know; or the package
        `safetensors` is needed and not installed.
    """
    arrays = _load_safetensors(path) if Path(path).suffix.lower() == ".safetensors" else _load_npz(path)
    found: dict[str, Any] = {}
    for name, array in arrays.items():
        kind, slash, layer = name.partition("/")
        if kind not in ((*GRADIENTS, *GRAMS) if slash else ARRAYS):
            raise ValueError(f"`{path}` holds an unknown array {name!r}; known are {', '.join(ARRAYS)}.")
        if kind in found and not (slash and isinstance(found[kind], dict)):
            raise ValueError(f"`{path}` must hold `{kind}` whole or by layer, got both.")
        if slash:
            found.setdefault(kind, {})[layer] = array
        else:
            found[kind] = array
    of_tokens = [name for name in (*TOKENS, *MASKS, "steps") if name in found]
    if of_tokens and len(of_tokens) < len(found):
        raise ValueError(f"`{path}` must hold gradients or token log-probabilities, got {', '.join(found)}.")
    for name in TOKENS if of_tokens else ():
        if name not in found:
            raise ValueError(f"`{name}` is missing from `{path}`; `{'`, `'.join(TOKENS)}` go together.")
    return found


def _load_npz(path: str | os.PathLike[str]) -> dict[str, Any]:
    try:
        if not zipfile.is_zipfile(path):
            Path(path).open("rb").close()  # raises the reason when the file cannot be read at all
            raise ValueError("it is not an .npz archive, as numpy.savez writes one")
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except MemoryError as error:
        raise ValueError(
            f"`{path}` does not fit into memory ({error}); of .safetensors only slices are read."
        ) from error
    except (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"cannot read `{path}`: {error}") from error


def _load_safetensors(path: str | os.PathLike[str]) -> dict[str, Any]:
    try:
        import safetensors
    except ImportError:
        raise ValueError(f"`{path}` needs the package `safetensors`: pip install 'toymodel[safetensors]'.") from None
    try:
        Path(path).open("rb").close()  # raises the reason in the words of every other file
        file: Any = safetensors.safe_open(path, "np")
        names = file.keys()
        return {name: _Stored(file, name) if name.startswith(GRADIENTS) else file.get_tensor(name) for name in names}
    except (OSError, safetensors.SafetensorError) as error:
        raise ValueError(f"cannot read `{path}`: {error}") from error


class _Stored:
    """An array in a .safetensors file, of which only slices are read."""

    def __init__(self, file: Any, name: str) -> None:
        self._slice = file.get_slice(name)
        self.shape = tuple(self._slice.get_shape())

    def __getitem__(self, index: Any) -> Any:
        return self._slice[index]


class Log(NamedTuple):
    """S states of a run, in the order of their steps, and the names its two columns of numbers have in the file."""

    steps: np.ndarray
    chosen: np.ndarray
    rejected: np.ndarray
    columns: tuple[str, str]

    @property
    def unit(self) -> str:
        """Unit of the two numbers.

        Rewards are β(log π − log π_ref) or β log π: their changes have the signs of those of log π, and β times their
        size.
        """
        return "reward" if "reward" in self.columns[0] else "nats"


def load_log(path: str | os.PathLike[str], columns: tuple[str, str] | None = None) -> Log:
    """Read a training log: CSV, JSON (TRL's `trainer_state.json`, or its `log_history` alone) or JSON lines.

    Rows that lack either number are skipped. Where several rows have the same step, the last one counts.

    Args:
      path: a file whose name ends in .csv, .json or .jsonl.
      columns: names of the chosen and of the rejected numbers (default: the first of `COLUMNS` found in two rows).

    Raises:
      ValueError: the file is missing or malformed, or has no such columns.
    """
    try:
        rows = _read_rows(Path(path))
    except (OSError, ValueError, csv.Error) as error:
        raise ValueError(f"cannot read `{path}`: {error}") from error
    for names in [columns] if columns else COLUMNS:
        used = [(i, row) for i, row in enumerate(rows, 1) if all(row.get(name) not in (None, "") for name in names)]
        if len(used) >= 2:
            break
    else:
        wanted = " and ".join(f"`{name}`" for name in columns or LOGPS)
        or_trl = "" if columns else " (or TRL's `logps/chosen` and `logps/rejected`)"
        known = ", ".join(dict.fromkeys(str(name) for row in rows for name in row)) or "none"
        raise ValueError(f"`{path}` must have two rows or more with {wanted}{or_trl}; its columns are {known}.")
    step = next((name for name in STEPS if any(name in row for _, row in used)), None)
    states: list[list[float]] = []
    for i, row in used:
        place = len(states) if step is None else _read_number(path, i, row, step)
        if states and states[-1][0] == place:
            del states[-1]
        states.append([place, *(_read_number(path, i, row, name) for name in names)])
    steps, chosen, rejected = np.array(states).T
    return Log(steps, chosen, rejected, names)


def _read_rows(path: Path) -> list[dict[str, Any]]:
    text = path.read_text(encoding="utf-8-sig")  # a spreadsheet may have put a byte order mark in front
    if path.suffix.lower() == ".csv":
        return list(csv.DictReader(io.StringIO(text)))
    try:
        whole = json.loads(text)
    except json.JSONDecodeError:
        whole = [json.loads(line) for line in text.splitlines() if line.strip()]
    rows = whole.get("log_history", [whole]) if isinstance(whole, dict) else whole
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError("it must be a `log_history`, a list of objects, or one object a line")
    return rows


def _read_number(path: str | os.PathLike[str], i: int, row: dict[str, Any], name: str) -> float:
    try:
        number = float(row[name])
    except (KeyError, TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"`{name}` in row {i} of `{path}` must be a finite number, got {row.get(name)!r}.")
    return number
