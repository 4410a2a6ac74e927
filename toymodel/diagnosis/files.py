"""From the bytes of any log to its rows, dictionaries by column.

The content of a file decides its format, not its name: JSON (a list of rows, by column, or either inside other
objects), JSON lines, dictionaries in console output, `name=value` of progress bars, CSV of any delimiter, tables of
Markdown and of aligned text. Values stay as they are: numbers, words or None.
"""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from toymodel._public import own_names
from toymodel.diagnosis.columns import is_sided
from toymodel.diagnosis.text import (
    Row,
    Rows,
    count_known,
    flatten,
    read_assignments,
    read_delimited,
    read_dictionaries,
    read_table,
)

__dir__ = own_names(globals())

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


def explain_kind(path: Path, head: bytes) -> str | None:
    """Why a file is not a log, and how to make one from it, by its first bytes and its name; None if it is text."""
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
      wanted: names of columns that also mark the head of a table, beside the known ones.

    Raises:
      OSError: the file cannot be read.
      ValueError: it is empty or not a log; the message says what it is.
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
    if table := read_table(text, wanted):
        return table
    found = read_dictionaries(text)
    found = found._replace(cut_off=found.cut_off or ends_early)
    if count_known(found.rows, wanted):
        return found
    rows = list(read_assignments(text))
    if not rows and found.rows:
        return found
    if not rows and start[0] not in "[{":
        rows = read_delimited(text.strip().splitlines(), 0).rows
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
    return max(found, key=lambda rows: count_known(rows, wanted))


def _find_rows(value: Any, depth: int = 0) -> Iterator[list[Row]]:
    if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        yield [flatten(item) for item in value]
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
        yield [({} if counted else {"step": name}) | flatten(item) for name, item in items]
    columns = {name: list(item.values()) if isinstance(item, dict) else item for name, item in items}
    columns = {name: item for name, item in columns.items() if isinstance(item, list) and not _has_parts(item)}
    if len({len(column) for column in columns.values()}) == 1 and any(map(is_sided, columns)):
        yield [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    elif not all(isinstance(item, list | dict) for item in value.values()):
        yield [flatten(value)]


def _has_parts(values: list[Any]) -> bool:
    return any(isinstance(item, list | dict) for item in values)
