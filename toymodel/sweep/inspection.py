"""What a sweep's folder holds, for `--status` and `--verify`."""

import json
from pathlib import Path

import polars as pl

from toymodel._public import own_names
from toymodel.sweep.store import Store, scan

__dir__ = own_names(globals())


def status(folder: Path) -> tuple[list[str], bool]:
    """Lines to print: settings, files, bytes and the last run; and whether no file is damaged."""
    store = Store.open(folder)
    found, damaged = store.files()
    whole = list(found.values())
    rows = pl.scan_parquet(whole, glob=False).select(pl.len()).collect().item() if whole else 0
    size = sum(path.stat().st_size for path in whole)
    lines = [
        f"{folder}: {store.identity.get('experiment')}, {store.identity.get('precision')}",
        f"{rows:,} settings in {len(whole):,} files, {size / 1e6:,.1f} MB",
    ]
    if runs := sorted(folder.glob("runs/*.json")):
        record = json.loads(runs[-1].read_text(encoding="utf-8"))
        end = f"ended {record['ended']}" if "ended" in record else "has not ended, or was stopped"
        lines.append(f"last run: begun {record.get('started')} on {record.get('host')}, {end}")
    return [*lines, *_told(damaged)], not damaged


def verify(folder: Path) -> tuple[list[str], bool]:
    """Lines to print: whether every file has the bytes that its name tells, and every setting is there once."""
    store = Store.open(folder)
    whole, damaged = store.files()
    wrong, rows = _told(damaged), 0
    if whole:
        fields = store.identity["fields"]
        settings = scan(list(whole.values()), fields).select(fields).collect()
        rows = settings.height
        if repeated := rows - settings.n_unique():
            wrong.append(f"{repeated:,} settings are there more than once")
    return [f"{len(whole):,} files with {rows:,} settings are as they were written.", *wrong], not wrong


def _told(damaged: list[Path]) -> list[str]:
    return [f"damaged: {path} (cut short or changed; --resume computes it anew)" for path in damaged]
