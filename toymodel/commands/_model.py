"""Gram entries of a model in a folder, for `toymodel diagnose --model`."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toymodel.commands._progress import progress_bar

if TYPE_CHECKING:
    from toymodel.huggingface import TokenPair


def measure(folder: Path, file: Path, *, eos: bool, out: Path | None) -> dict[str, Any]:
    """What `toymodel.diagnose` takes, of the pairs in a file; kept in another file, if wanted.

    Raises:
      ValueError: the model or the pairs cannot be read, or `out` cannot be written.
    """
    import numpy as np

    from toymodel.huggingface import load_model, measure_pairs, read_pairs

    if out is not None and (out.suffix != ".npz" or not out.parent.is_dir()):
        raise ValueError(f"--out must be the name of an .npz file in a folder that exists, got `{out}`.")
    with contextlib.suppress(ImportError):  # `load_model` says what is missing
        from transformers.utils import logging

        logging.set_verbosity_error()  # its messages would come between our lines
        logging.disable_progress_bar()
    model, tokenizer = load_model(folder)
    pairs = read_pairs(file, tokenizer, longest=getattr(model.config, "max_position_embeddings", None), eos=eos)
    with progress_bar(len(pairs)) as advance:

        def one_by_one() -> Iterator["TokenPair"]:
            for i, pair in enumerate(pairs):
                yield pair
                advance(1, f"pair {i}")

        arrays = measure_pairs(model, one_by_one())
    if out is not None:
        flat = {name: array for name, array in arrays.items() if not isinstance(array, dict)}
        layers = {name: array for name, array in arrays.items() if isinstance(array, dict)}
        flat |= {f"{entry}/{name}": part for entry, parts in layers.items() for name, part in parts.items()}
        try:
            np.savez(out, **flat)
        except OSError as error:
            raise ValueError(f"cannot write `{out}`: {error}") from error
    return arrays
