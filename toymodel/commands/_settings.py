"""Seeds and settings as commands take them."""

import json
from typing import Any


def parse_seeds(text: str, *, one: bool = False) -> range:
    """FIRST:STOP, at least two of them; or a single one, where that will do."""
    first, colon, stop = text.partition(":")
    if one:
        if not (first.isdecimal() and (not colon or (stop.isdecimal() and int(first) < int(stop)))):
            raise ValueError(f"--seeds must be a seed or FIRST:STOP, such as 7 or 200:203, got {text!r}.")
        return range(int(first), int(stop) if colon else int(first) + 1)
    if not (colon and first.isdecimal() and stop.isdecimal() and int(first) + 2 <= int(stop)):
        raise ValueError(f"--seeds must be FIRST:STOP with at least two seeds, such as 200:212, got {text!r}.")
    return range(int(first), int(stop))


def parse_setting(text: str) -> tuple[str, Any]:
    """NAME=VALUE, of a setting that the command does not choose itself."""
    name, equals, value = text.partition("=")
    if not equals or name in ("task", "seed", "model"):
        raise ValueError(f"--set must be NAME=VALUE, and not of task, seed or model, got {text!r}.")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value
