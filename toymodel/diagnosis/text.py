"""Finds rows of a log in text: dictionaries of console output, `name=value` of progress bars, and tables."""

import ast
import csv
import io
import json
import re
import warnings
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

from toymodel._public import own_names
from toymodel.diagnosis.columns import is_sided

__dir__ = own_names(globals())

Row = dict[str, Any]

_SEARCHED = 200  # lines in which the head of a table is looked for
_LONGEST = 50_000  # of these: its letters
_FLAT = re.compile(r"\{[^{}]*\}")
_NUMBER = r"[-+]?(?:\d+\.?\d*(?:[eE][-+]?\d+)?|nan|inf)\b"
_NUMERAL = re.compile(rf"{_NUMBER}$")
# Possessive, and from the start of a word on, so that a long line takes no longer than its length.
_ASSIGNMENT = re.compile(rf"(?<![\w/.])([A-Za-z_][\w/.]*+(?: [A-Za-z_][\w/.]*+){{0,3}})\s?[=: ]\s?({_NUMBER})")
_AFTER = re.compile(r"\bafter (\d+)(?: examples)?: *$")
_STEP = re.compile(r"\b(?:step|iteration|iter)[ :=#]+(\d+)\b(?!/)", re.IGNORECASE)


class Rows(NamedTuple):
    """The rows of a log, in the order of the file."""

    rows: list[Row]
    cut_off: bool = False  # the file ends within a row, which is left out
    unread: int = 0  # other lines that begin like a row but are not


def count_known(rows: list[Row], wanted: tuple[str, ...] = ()) -> int:
    """How many rows have a column of either side."""
    return sum(any(is_sided(name) or name in wanted for name in row) for row in rows)


def read_dictionaries(text: str) -> Rows:
    """One dictionary of JSON or Python on each line, also after other text; or dictionaries over several lines."""
    rows: list[Row] = []
    unread: list[int] = []
    lines = text.replace("\r", "\n").rstrip().split("\n")
    for i, line in enumerate(lines):
        if "{" not in line:
            continue
        before, brace, rest = line.strip().rstrip(",").partition("{")
        whole = _read_dictionary(brace + rest) if rest[-1:] == "}" else None
        parts = _FLAT.findall(brace + rest) if before.strip() or _FLAT.match(brace + rest) else []
        found = [whole] if whole else [row for part in parts if (row := _read_dictionary(part))]
        if len(found) == 1:
            found[0] = _count_before(before) | found[0]
        rows += found
        if not found and not before:
            unread.append(i)
    cut_off = "{" in text[text.rfind("}") + 1 :] or unread[-1:] == [len(lines) - 1]
    if unread or not rows:
        wrapped = [row for part in _FLAT.findall(text) if (row := _read_dictionary(part))]
        if not rows or count_known(wrapped) > count_known(rows):
            return Rows(wrapped, cut_off)
    return Rows(rows, cut_off, sum(i < len(lines) - 1 for i in unread))


def _count_before(text: str) -> Row:
    """`Step 10: {…}` is of this step, `train stats after 32 examples: {…}` of so many examples."""
    step, examples = _STEP.search(text), _AFTER.search(text)
    return {"step": step[1]} if step else {"counters/examples": examples[1]} if examples else {}


def _read_dictionary(text: str) -> Row | None:
    try:
        value = json.loads(text)
        return flatten(value) if value and isinstance(value, dict) else None
    except (ValueError, RecursionError):
        pass
    try:
        with warnings.catch_warnings(action="ignore"):  # other text in braces, with invalid escapes
            node = ast.parse(text.replace("\n", ""), mode="eval").body  # a terminal may have wrapped within a number
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    if not isinstance(node, ast.Dict) or not all(isinstance(key, ast.Constant) for key in node.keys):
        return None
    return {str(key.value): _constant(item) for key, item in zip(node.keys, node.values, strict=True)} or None  # type: ignore[union-attr]


def _constant(node: ast.expr) -> Any:
    """A number, word, nan or inf as Python prints them, also within `tensor(…)` or `np.float64(…)`; else None."""
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        inner = _constant(node.operand)
        return -inner if isinstance(inner, int | float) else None
    if isinstance(node, ast.Call) and node.args:
        return _constant(node.args[0])
    if isinstance(node, ast.Name) and node.id.lower() in ("nan", "inf"):
        return float(node.id)
    return node.value if isinstance(node, ast.Constant) else None


def read_assignments(text: str) -> Iterator[Row]:
    """`loss=0.69, chosen_reward=0.1`, `loss:0.69 rewards/chosen:0.1` or `Train loss 0.69, Chosen reward 0.1`."""
    for line in text.replace("\r", "\n").split("\n"):
        row: Row = dict(_ASSIGNMENT.findall(line))
        if any(map(is_sided, row)):
            yield _count_before(line) | row


def flatten(row: Row) -> Row:
    """{"rewards": {"chosen": 1}} as {"rewards/chosen": 1}."""
    if not any(isinstance(value, dict) for value in row.values()):
        return row
    flat: Row = {}
    for name, value in row.items():
        if isinstance(value, dict):
            flat |= {f"{name}/{inner}": part for inner, part in flatten(value).items()}
        else:
            flat[name] = value
    return flat


# --- Tables ---------------------------------------------------------------------------------------------------------


def read_table(text: str, wanted: tuple[str, ...]) -> Rows | None:
    """The table below the first line that names a known column, if there is one."""
    head = text[: 1 << 20].splitlines()
    first = next((i for i, line in enumerate(head) if line.strip()), 0)
    for i, line in enumerate(head if "|" in text else head[:_SEARCHED]):
        if len(line) > _LONGEST:
            continue
        delimiter = _delimiter(line)
        below = next(iter(head[i + 1 : i + 2]), "")[:_LONGEST]
        if delimiter == "|" and i > first:  # within a page, which may have other text with bars
            is_head = "-" in below and not below.strip("|:- \t")
        else:
            is_head = "{" not in line and len(_split(below, delimiter)) > 1 and re.search(r"\d|\|", below) is not None
        fields = _split(line, delimiter) if is_head else []
        if any(is_sided(name) or name in wanted for name in fields) and not any(map(_NUMERAL.match, fields)):
            return read_delimited(text.splitlines(), i)
    return None


def _delimiter(line: str) -> str | None:
    """What separates fields; None: two spaces or more."""
    best = max(",\t;|", key=line.count)
    return best if best in line else None


def _split(line: str, delimiter: str | None) -> list[str]:
    if delimiter is None:
        return re.split(r"\s{2,}", line.strip())
    if delimiter == "|":
        return [field.strip() for field in line.strip().strip("|").split("|")]
    return [field.strip() for field in next(csv.reader([line], delimiter=delimiter), [])]


def read_delimited(lines: list[str], first: int) -> Rows:
    """The table whose head is line `first`; no rows if that has only one field.

    Raises:
      ValueError: two columns of either side have the same name.
    """
    head = lines[first]
    delimiter = _delimiter(head)
    names = _split(head, delimiter)
    if len(names) < 2:
        return Rows([])
    twice = next((name for name, times in Counter(names).items() if times > 1 and is_sided(name)), None)
    if twice:
        raise ValueError(f"it has two columns named `{twice}`")
    body = lines[first + 1 :]
    if delimiter in ("|", "\t"):  # within a page, the table ends; a last line without delimiters is cut off
        end = next((i for i, line in enumerate(body) if delimiter not in line), len(body))
        body = body if not any(map(str.strip, body[end + 1 :])) else body[:end]
    if delimiter in (None, "|"):
        fields = [_split(line, delimiter) for line in body if line.strip("|:- \t")]
        fields = [row[1:] if delimiter is None and len(row) > len(names) else row for row in fields]  # pandas' index
    else:
        fields = [row for row in csv.reader(io.StringIO("\n".join(body)), delimiter=delimiter) if any(row)]
    decimal_comma = delimiter == ";"
    rows = [
        {name: value.replace(",", ".") if decimal_comma else value for name, value in zip(names, row, strict=False)}
        for row in fields
        if row != names  # a resumed run may have written its head again
    ]
    cut_off = len(rows) > 1 and len(rows[-1]) < len(names) == len(rows[-2])
    return Rows(rows[:-1] if cut_off else rows, cut_off)
