"""What a sweep's folder holds, for `--status` and `--verify`."""

import json
from pathlib import Path

import numpy as np
import polars as pl

from toymodel.experiments.experiment import BadSetting, Columns
from toymodel.sweep.config import load
from toymodel.sweep.runner import tasks
from toymodel.sweep.store import NAME, State, Store, address

Report = tuple[list[str], bool]  # lines to print, and whether all is well


def status(folder: Path) -> Report:
    """How far the sweep has come: settings, files and bytes, what is left, and what is not as it should be."""
    store = Store.open(folder)
    state = store.state()
    files = list(state.whole.values())
    rows = sum(pl.scan_parquet(path, glob=False).select(pl.len()).collect().item() for path in files)
    size = sum(path.stat().st_size for path in files)
    lines = [
        f"{folder}: {store.identity['experiment']}, {store.identity['precision']}",
        f"{rows:,} settings in {len(files):,} files, {size / 1e6:,.1f} MB",
        *_last_run(store, state),
        *_problems(state),
    ]
    return lines, not _problems(state)


def verify(folder: Path) -> Report:
    """Every file compared with its name, in its bytes, its settings and hence its rows; and no setting found twice."""
    store = Store.open(folder)
    state = store.state()
    fields, rows, wrong = store.identity["fields"], 0, _problems(state)
    for path in sorted(state.whole.values()):
        settings = _settings(path, fields)
        rows += len(next(iter(settings.values())))
        match = NAME.fullmatch(path.name)
        if match is None or address(settings) != match["settings"]:
            wrong.append(f"foreign: {path} (its settings are not those that its name tells)")
    if not wrong and rows:
        table = pl.scan_parquet(sorted(state.whole.values()), glob=False)
        different = table.select(pl.struct(fields).n_unique()).collect().item()
        if different < rows:
            wrong.append(f"{rows - different:,} settings are there more than once")
    lines = [f"{len(state.whole):,} files with {rows:,} settings are as they were written.", *wrong]
    return lines, not wrong


def _last_run(store: Store, state: State) -> list[str]:
    runs = sorted(store.folder.glob("runs/*.json"))
    if not runs:
        return []
    record = json.loads(runs[-1].read_text(encoding="utf-8"))
    end = f"ended {record['ended']}" if "ended" in record else "has not ended, or was stopped"
    lines = [f"last run: begun {record['started']} on {record['host']}, {end}"]
    try:
        sweep = load(store.folder / "configs" / record["config"])
    except (KeyError, BadSetting):
        return lines  # not run from a configuration, or its experiment cannot be imported here
    left = sum(task.size for task in tasks(sweep, state))
    lines.append(f"its grid: {sweep.size:,} settings, {left:,} of them left")
    if sweep.experiment.code != store.identity["code"]:
        lines.append("the code or the packages here are not those it ran with: it cannot go on with these")
    return lines


def _settings(path: Path, fields: list[str]) -> Columns:
    frame = pl.read_parquet(path, glob=False, columns=fields)
    columns = {name: frame[name].to_numpy() for name in fields}
    return {name: c.astype(np.str_) if c.dtype.kind == "O" else c for name, c in columns.items()}


def _problems(state: State) -> list[str]:
    damaged = [f"damaged: {path} (cut short or changed; --resume computes it anew)" for path in state.damaged]
    repeated = [f"repeated: {path} (another file has its settings; --resume sets it aside)" for path in state.repeated]
    foreign = [f"foreign: {path} (not written by this sweep; move it elsewhere)" for path in state.foreign]
    return [*damaged, *repeated, *foreign]
