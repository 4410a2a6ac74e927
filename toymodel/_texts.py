"""Preference pairs from a file of JSON lines, as token ids."""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

SIDES = ("chosen", "rejected")
KEYS = ("prompt", *SIDES)

Of = TypeVar("Of")


class TokenPair(NamedTuple):
    """Token ids of a prompt, which has at least one, and of its two answers."""

    prompt: Sequence[int]
    chosen: Sequence[int]
    rejected: Sequence[int]


def read_rows(path: str | os.PathLike[str], encode: Callable[[dict[str, Any]], Of]) -> list[Of]:
    """The result of `encode` for each JSON object of a file with one object on each line.

    Raises:
      ValueError: the file cannot be read, has no pairs, or has a pair that is incomplete or that `encode` refuses; the
        message has its line.
    """
    found = []
    for line, row in _parse(path):
        try:
            found.append(encode(row))
        except ValueError as error:
            raise ValueError(f"`{path}`, line {line}: {error}") from error
    if not found:
        raise ValueError(f"`{path}` holds no pairs.")
    return found


def _parse(path: str | os.PathLike[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise ValueError(f"cannot read `{path}`: {error}") from error
    for line, words in enumerate(text.split("\n"), 1):
        if not words.strip():
            continue
        try:
            row = json.loads(words)
        except (json.JSONDecodeError, RecursionError) as error:
            raise ValueError(f"`{path}`, line {line}: it must be a JSON object ({error}).") from error
        missing = [key for key in SIDES if not (isinstance(row, dict) and row.get(key))]
        if missing:
            raise ValueError(f"`{path}`, line {line}: `{missing[0]}` is missing or empty.")
        yield line, row


def joined(row: dict[str, Any]) -> tuple[str, str, str]:
    """The prompt, and the prompt with each answer.

    Raises:
      ValueError: one of them is not text.
    """
    for key in KEYS:
        if not isinstance(row.get(key), str):
            found = type(row.get(key)).__name__
            raise ValueError(f"`{key}` must be text, or all three lists of messages, got {found}.")
    return row["prompt"], row["prompt"] + row["chosen"], row["prompt"] + row["rejected"]


def split_ids(prompt: Sequence[int], chosen: Sequence[int], rejected: Sequence[int], *, end: int | None) -> TokenPair:
    """Split the ids of a prompt, and of the prompt with each answer. The common beginning of all three is the prompt.

    So a token that reaches from the prompt into an answer belongs to the answer. `end`, if there is one, is appended to
    an answer that does not end with it.

    Raises:
      ValueError: both answers have the same tokens, or one has none.
    """
    alike = [len({*tokens}) == 1 for tokens in zip(prompt, chosen, rejected, strict=False)]
    shared = (*alike, False).index(False)
    answers = [[*side[shared:]] for side in (chosen, rejected)]
    if end is not None:
        answers = [answer if answer[-1:] == [end] else [*answer, end] for answer in answers]
    if answers[0] == answers[1]:
        raise ValueError("both answers have the same tokens; nothing tells them apart.")
    for side, answer in zip(SIDES, answers, strict=True):
        if not answer:
            raise ValueError(f"`{side}` has no tokens of its own.")
    return TokenPair([*prompt[:shared]], *answers)
