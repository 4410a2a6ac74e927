"""From the bytes of any log to its rows, dictionaries by column.

The format is told by what a file holds, not by its name: JSON (a list of rows, by column, or either inside other
objects), JSON lines, dictionaries in console output, `name=value` of progress bars, CSV of any delimiter, tables of
Markdown and of aligned text. Values stay as they are: numbers, words or None.
"""

import ast
import csv
import gzip
import io
import json
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from toymodel._public import own_names
from toymodel.diagnosis.columns import is_sided

__dir__ = own_names(globals())

Row = dict[str, Any]

KINDS = (
    "Logs are read as JSON, JSON lines, console output, CSV and Markdown; gradients and token log-probabilities as "
    ".npz and .safetensors"
)
_SAVE = "numpy.savez('FILE.npz', chosen_grad=…, rejected_grad=…)"
_OTHER = {  # by the ending of the name, which the first bytes overrule
    ".pt": f"it is a torch or pickle file: load it there, and save its arrays by {_SAVE}, each as `x.float().numpy()`",
    ".npy": f"it is not an .npz archive but one array without a name: save both by {_SAVE}, each as `numpy.load(FILE)`",
    ".npz": "it is an archive of arrays: let its name end in .npz",
    ".xlsx": "it is a spreadsheet: save it as CSV",
    ".parquet": "it is a Parquet table: save it as CSV by `polars.read_parquet(FILE).write_csv('log.csv')`",
    ".tfevents": "it is a TensorBoard log: write its scalars as CSV with the columns step, tag and value",
}
_SEARCHED = 200  # lines in which the head of a table is looked for


class Rows(NamedTuple):
    """The rows of a log, in the order of the file."""

    rows: list[Row]
    cut_off: bool = False  # the file ends within a row, which is left out
    unread: int = 0  # other lines that begin like a row and are none


def explain_kind(path: Path, head: bytes) -> str | None:
    """Why a file is no log, and how to make one of it, by its first bytes and its name; None where it is text."""
    head = head[:4096]
    if head.startswith(b"PK\x03\x04"):
        inside = (b"xl/", ".xlsx"), (b"data.pkl", ".pt"), (b".npy", ".npz")
        ending = next((kind for name, kind in inside if name in head), path.suffix.lower())
    elif head.startswith((b"\x93NUMPY", b"PAR1", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")):
        ending = {b"\x93N": ".npy", b"PA": ".parquet"}.get(head[:2], ".pt")
    elif b"\0" not in head:
        return None
    else:
        ending = ".tfevents" if ".tfevents" in path.name else path.suffix.lower()
    return _OTHER.get(".pt" if ending in (".pth", ".bin", ".ckpt") else ending)


def read_rows(path: Path, wanted: tuple[str, ...] = ()) -> Rows:
    """The rows of a log.

    Args:
      path: the file; gzip is unpacked, and any Unicode encoding with a byte order mark is read, else UTF-8.
      wanted: names of columns that also tell the head of a table, beside those we know.

    Raises:
      OSError: the file cannot be read.
      ValueError: it is empty or no log; the message says what else it is.
    """
    if path.is_dir():
        raise ValueError("Is a directory: give the log in it, such as trainer_state.json")
    found = _read(_decode(path, path.read_bytes()), wanted)
    return found._replace(rows=_widen(found.rows))


def _read(text: str, wanted: tuple[str, ...]) -> Rows:
    start = text.lstrip()[:100].lower()
    if not start:
        raise ValueError("it is empty")
    if start.startswith(("<!doctype", "<html", "<?xml")):
        raise ValueError("it is a web page, not the log that it shows: fetch the raw file")
    if start.startswith("version https://git-lfs"):
        raise ValueError("it is a pointer of Git LFS, not the file itself: run `git lfs pull`")
    ends_early = False
    if start[0] in "[{":
        try:
            return Rows(_rows_of(json.loads(text), wanted))
        except json.JSONDecodeError as error:
            ends_early = error.pos >= len(text.rstrip())
        except RecursionError:
            raise ValueError("its JSON is nested too deeply") from None
    if table := _read_table(text, wanted):
        return table
    found = _read_dictionaries(text)
    found = found._replace(cut_off=found.cut_off or ends_early)
    if _known(found.rows, wanted):
        return found
    rows = list(_read_assignments(text))
    if not rows and found.rows:
        return found
    if not rows and start[0] not in "[{":
        rows = _read_delimited(text.strip().splitlines(), 0).rows
    if not rows:
        raise ValueError(f"it holds no row of a log. {KINDS}")
    return Rows(rows)


def _widen(rows: list[Row]) -> list[Row]:
    """Rows of one number each, `step, tag, value` as exports of TensorBoard have them, with the tag as column."""
    known = {name.strip().lower(): name for name in rows[0]} if rows else {}
    tag = next((known[name] for name in ("tag", "metric", "key", "name", "variable") if name in known), None)
    if tag is None or "value" not in known:
        return rows
    rest = [{name: row[name] for name in row if name not in (tag, known["value"])} for row in rows]
    return [others | {str(row.get(tag)): row.get(known["value"])} for others, row in zip(rest, rows, strict=True)]


def _decode(path: Path, content: bytes) -> str:
    if content.startswith(b"\x1f\x8b"):
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError) as error:
            raise ValueError(f"it is a broken gzip file ({error})") from error
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):  # as PowerShell writes what it redirects
        return content.decode("utf-16", errors="replace")
    why = explain_kind(path, content)
    if why or b"\0" in content[:4096]:
        raise ValueError(f"{why or 'it is not text'}. {KINDS}")
    return content.decode("utf-8-sig", errors="replace")  # a progress bar may hold anything


# --- JSON -----------------------------------------------------------------------------------------------------------


def _rows_of(value: Any, wanted: tuple[str, ...]) -> list[Row]:
    """The rows in a JSON value: of all lists in it, the one with the most rows that have columns we know."""
    found = list(_find_rows(value))
    if not found:
        raise ValueError("it must be a `log_history`, a list of objects, or one object a line")
    return max(found, key=lambda rows: _known(rows, wanted))


def _known(rows: list[Row], wanted: tuple[str, ...] = ()) -> int:
    """How many rows have a column of either side."""
    return sum(any(is_sided(name) or name in wanted for name in row) for row in rows)


def _find_rows(value: Any, depth: int = 0) -> Iterator[list[Row]]:
    if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        yield [_flat(item) for item in value]
    if not isinstance(value, dict) or depth > 4:
        return
    names, table = value.get("columns"), value.get("data")
    if isinstance(names, list) and isinstance(table, list) and all(isinstance(item, list) for item in table):
        yield [dict(zip(map(str, names), item, strict=False)) for item in table]
        return
    for item in value.values():
        yield from _find_rows(item, depth + 1)
    items = list(value.items())
    if items and all(name.isdigit() and isinstance(item, dict) for name, item in items):
        counted = [int(name) for name, _ in items] == list(range(len(items)))  # the index of a frame; else steps
        yield [({} if counted else {"step": name}) | _flat(item) for name, item in items]
    columns = {name: list(item.values()) if isinstance(item, dict) else item for name, item in items}
    columns = {name: item for name, item in columns.items() if isinstance(item, list) and not _has_parts(item)}
    if len({len(column) for column in columns.values()}) == 1 and any(map(is_sided, columns)):
        yield [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    elif not all(isinstance(item, list | dict) for item in value.values()):
        yield [_flat(value)]


def _has_parts(values: list[Any]) -> bool:
    return any(isinstance(item, list | dict) for item in values)


def _flat(row: Row) -> Row:
    """{"rewards": {"chosen": 1}} as {"rewards/chosen": 1}."""
    if not any(isinstance(value, dict) for value in row.values()):
        return row
    flat: Row = {}
    for name, value in row.items():
        if isinstance(value, dict):
            flat |= {f"{name}/{inner}": part for inner, part in _flat(value).items()}
        else:
            flat[name] = value
    return flat


# --- Rows within text -----------------------------------------------------------------------------------------------

_FLAT = re.compile(r"\{[^{}]*\}")
_NUMBER = r"[-+]?(?:\d+\.?\d*(?:[eE][-+]?\d+)?|nan|inf)\b"
_NUMERAL = re.compile(rf"{_NUMBER}$")
_ASSIGNMENT = re.compile(rf"([A-Za-z_][\w/.]*(?: [A-Za-z_][\w/.]*){{0,3}})\s?[=: ]\s?({_NUMBER})")
_AFTER = re.compile(r"\bafter (\d+)(?: examples)?: *$")
_STEP = re.compile(r"\b(?:step|iteration|iter)[ :=#]+(\d+)\b(?!/)", re.IGNORECASE)


def _read_dictionaries(text: str) -> Rows:
    """One dictionary a line of JSON or Python, also after other text; or dictionaries over several lines."""
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
        if not rows or _known(wrapped) > _known(rows):
            return Rows(wrapped, cut_off)
    return Rows(rows, cut_off, sum(i < len(lines) - 1 for i in unread))


def _count_before(text: str) -> Row:
    """`Step 10: {…}` is of this step, `train stats after 32 examples: {…}` of so many examples."""
    step, examples = _STEP.search(text), _AFTER.search(text)
    return {"step": step[1]} if step else {"counters/examples": examples[1]} if examples else {}


def _read_dictionary(text: str) -> Row | None:
    try:
        value = json.loads(text)
        return _flat(value) if value and isinstance(value, dict) else None
    except (ValueError, RecursionError):
        pass
    try:
        with warnings.catch_warnings(action="ignore"):  # of other text in braces, with escapes that are none
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


def _read_assignments(text: str) -> Iterator[Row]:
    """`loss=0.69, chosen_reward=0.1`, `loss:0.69 rewards/chosen:0.1` or `Train loss 0.69, Chosen reward 0.1`."""
    for line in text.replace("\r", "\n").split("\n"):
        row: Row = dict(_ASSIGNMENT.findall(line))
        if any(map(is_sided, row)):
            yield _count_before(line) | row


# --- Tables ---------------------------------------------------------------------------------------------------------


def _read_table(text: str, wanted: tuple[str, ...]) -> Rows | None:
    """The table below the first line that names a column we know, if there is one."""
    head = text[: 1 << 20].splitlines()
    first = next((i for i, line in enumerate(head) if line.strip()), 0)
    for i, line in enumerate(head if "|" in text else head[:_SEARCHED]):
        delimiter = _delimiter(line)
        below = next(iter(head[i + 1 : i + 2]), "")
        if delimiter == "|" and i > first:  # within a page, that may say more with bars
            is_head = "-" in below and not below.strip("|:- \t")
        else:
            is_head = "{" not in line and len(_split(below, delimiter)) > 1 and re.search(r"\d|\|", below) is not None
        fields = _split(line, delimiter) if is_head else []
        if any(is_sided(name) or name in wanted for name in fields) and not any(map(_NUMERAL.match, fields)):
            return _read_delimited(text.splitlines(), i)
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


def _read_delimited(lines: list[str], first: int) -> Rows:
    head = lines[first]
    delimiter = _delimiter(head)
    names = _split(head, delimiter)
    if len(names) < 2:
        return Rows([])
    twice = next((name for i, name in enumerate(names) if name in names[:i] and is_sided(name)), None)
    if twice:
        raise ValueError(f"it has two columns named `{twice}`")
    body = lines[first + 1 :]
    if delimiter in ("|", "\t"):  # within a page, the table ends; a last line that has none of them is cut off
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
