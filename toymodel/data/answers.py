"""A user's own preference pairs, from a file of JSON lines with the texts prompt, chosen and rejected.

Texts are used as they are; a model's chat format, if it has one, must be written in them. Each answer is joined to the
prompt and tokenized with it; then comes the token that ends a text.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from toymodel._public import counted, own_names
from toymodel._texts import SIDES, TokenPair, joined, read_rows, split_ids
from toymodel.data.pairs import PreferencePairs
from toymodel.data.tweets import Splits

__dir__ = own_names(globals())

LONGEST = 512  # tokens of a prompt and its longer answer, unless a caller says otherwise
FEWEST, MOST = 16, 64  # pairs that are judged: a quarter of all, within these

Encode = Callable[[str], Sequence[int]]


class Answers(NamedTuple):
    """The pairs of a file, in its order."""

    pairs: list[TokenPair]
    left_out: int  # pairs that were longer than wanted


def tokenize(row: dict[str, Any], encode: Encode, end: int) -> TokenPair:
    """A pair of texts as token ids; an empty prompt becomes `end`.

    Args:
      row: prompt, chosen and rejected.
      encode: token ids of a text.
      end: id of the token that ends a text.

    Raises:
      ValueError: one of them is not text, or the answers are empty or equal.
    """
    if any(isinstance(row[side], list | dict) for side in SIDES):
        raise ValueError("these are messages: write them as texts, as the model's chat template has them.")
    texts = joined(row)
    for side in SIDES:
        if not row[side].strip():
            raise ValueError(f"`{side}` has no text.")
    pair = split_ids(*map(encode, texts), end=end)
    return pair._replace(prompt=pair.prompt or [end])


def length(pair: TokenPair) -> int:
    """Tokens of the prompt and the longer answer."""
    return len(pair.prompt) + max(len(pair.chosen), len(pair.rejected))


def read(path: str | Path, encode: Encode, end: int, *, longest: int = LONGEST, drop_longer: bool = False) -> Answers:
    """Pairs of a file as token ids, each as `tokenize` makes it.

    Args:
      path: the file.
      encode: token ids of a text.
      end: id of the token that ends a text.
      longest: tokens of a prompt and its longer answer, at most.
      drop_longer: whether longer pairs are left out, and counted, instead of refused.

    Raises:
      ValueError: the file cannot be read, holds no pairs, or a pair is incomplete, too long, or has equal or empty
        answers; the message has its line.
    """

    def pair_of(row: dict[str, Any]) -> TokenPair | None:
        pair = tokenize(row, encode, end)
        if length(pair) <= longest:
            return pair
        if drop_longer:
            return None
        raise ValueError(
            f"prompt and longer answer are {length(pair)} tokens, more than {longest}: leave the pair out."
        )

    found = read_rows(path, pair_of)
    pairs = [pair for pair in found if pair is not None]
    return Answers(pairs, len(found) - len(pairs))


def splits(
    path: str | Path, encode: Encode, end: int, seed: int, *, longest: int = LONGEST, drop_longer: bool = False
) -> Splits:
    """The pairs of a file in random order: the last quarter, at most 64, for evaluation; all others for both trainings.

    No evaluation prompt is trained on. All arrays have the width of the longest pair.

    Raises:
      ValueError: as for `read`, or there are too few pairs, or too few prompts.
    """
    pairs, left_out = read(path, encode, end, longest=longest, drop_longer=drop_longer)
    prompts = [tuple(pair.prompt) for pair in pairs]
    different = list(dict.fromkeys(prompts))
    places = dict(zip(different, np.random.default_rng(seed).permutation(len(different)), strict=True))
    order = sorted(range(len(pairs)), key=lambda number: places[prompts[number]])
    size = min(max(len(pairs) // 4, 1), MOST)
    judged = order[-size:]
    training = [number for number in order[:-size] if prompts[number] != prompts[judged[0]]]
    if min(size, len(training)) < FEWEST:
        more = f", and {left_out:,} longer than {counted(longest, 'token')}" * bool(left_out)
        raise ValueError(
            f"`{path}` must have {4 * FEWEST} pairs at least, few of them of one prompt, to train on and to judge; got "
            f"{counted(len(pairs), 'pair')} of {counted(len(different), 'prompt')}{more}."
        )
    ids = [[getattr(pair, name) for pair in pairs] for name in TokenPair._fields]
    highest = max(max(tokens) for column in ids for tokens in column)
    arrays = jax.device_get(PreferencePairs.from_lists(*ids, vocab_size=highest + 1))
    trained = arrays[np.array(training)]
    return Splits(trained, trained, arrays[np.array(judged)], left_out)
