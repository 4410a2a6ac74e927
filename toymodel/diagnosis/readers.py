"""Reads a user's arrays from .npz and .safetensors."""

import os
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool

from toymodel._public import own_names
from toymodel.diagnosis.files import KINDS, explain_kind

__dir__ = own_names(globals())

ARCHIVES = (".npz", ".safetensors")  # endings of names; other files are logs

GRADIENTS = ("chosen_grad", "rejected_grad")
GRAMS = ("chosen_sq", "rejected_sq", "inner")
GRAM = "gram"  # of all pairs
WEIGHTS = ("d_chosen", "d_rejected")
LOGPS = ("chosen_logps", "rejected_logps")
LENGTHS = ("chosen_lengths", "rejected_lengths")
TOKENS = ("chosen_token_logps", "rejected_token_logps")
MASKS = ("chosen_mask", "rejected_mask")
ARRAYS = (*GRADIENTS, *GRAMS, GRAM, *WEIGHTS, *LOGPS, *LENGTHS, *TOKENS, *MASKS, "steps")

IGNORED = -100  # in Hugging Face's labels: no token of the response


def load(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The arrays of an .npz or .safetensors file, by name: gradients, or log-probabilities along a run.

    The names `chosen_grad/LAYER` and `rejected_grad/LAYER` give dictionaries by layer. Gradients in a .safetensors file
    stay there until they are sliced. Pickled objects are refused, never loaded. Masks may be Hugging Face's labels.

    Raises:
      ValueError: the file is missing, unreadable, of another kind, or has an unknown array; or the package
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
    if not {*GRADIENTS, *GRAMS, GRAM, *WEIGHTS} & found.keys():  # of a run
        names = LOGPS if found.keys() & {*LOGPS} else TOKENS
        if found and not found.keys() <= {*names, "steps", *(MASKS if names == TOKENS else ())}:
            raise ValueError(f"`{path}` must hold log-probabilities of answers or of tokens, got {', '.join(found)}.")
        for name in names:
            if name not in found:
                raise ValueError(f"`{name}` is missing from `{path}`; `{'`, `'.join(names)}` go together.")
    elif found.keys() & {*TOKENS, *MASKS, "steps"}:
        raise ValueError(f"`{path}` must hold gradients or log-probabilities along a run, got {', '.join(found)}.")
    of_labels = any(_has_ignored(np.asarray(found[name])) for name in MASKS if name in found)
    return found | {name: read_mask(name, found[name], of_labels) for name in MASKS if name in found}


def read_mask(name: str, mask: Any, of_labels: bool = False) -> Bool[np.ndarray, "N T"]:
    """Which tokens are real, from a mask of 0 and 1, or from Hugging Face's labels, which are −100 elsewhere.

    Args:
      of_labels: accept labels without any −100 too; then all tokens are real.

    Raises:
      ValueError: it holds other numbers, such as the ids of all tokens.
    """
    array = np.asarray(mask)
    if array.dtype == bool:
        return array
    numbers = array.dtype.kind in "iuf"
    if _has_ignored(array) or (of_labels and numbers):
        return array != IGNORED
    odd = array[(array != 0) & (array != 1)] if numbers else array.ravel()
    if odd.size or not numbers:
        got = odd[0] if numbers else array.dtype
        raise ValueError(f"`{name}` must hold 1 at real tokens and 0 elsewhere (or labels, −100 elsewhere), got {got}.")
    return array.astype(bool)


def _has_ignored(array: np.ndarray) -> bool:
    return array.dtype.kind in "iuf" and bool((array == IGNORED).any())


def _load_npz(path: str | os.PathLike[str]) -> dict[str, Any]:
    try:
        if not zipfile.is_zipfile(path):
            with Path(path).open("rb") as file:  # raises the reason when the file cannot be read at all
                why = explain_kind(Path(path), file.read(4096))
            raise ValueError(f"{why or 'it is not an .npz archive, as numpy.savez writes one'}. {KINDS}")
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except MemoryError as error:
        raise ValueError(
            f"`{path}` does not fit into memory ({error}); a .safetensors file is read in slices."
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
    """An array in a .safetensors file that is read in slices."""

    def __init__(self, file: Any, name: str) -> None:
        self._slice = file.get_slice(name)
        self.shape = tuple(self._slice.get_shape())

    def __getitem__(self, index: Any) -> Any:
        return self._slice[index]
