"""Hostile files and places for the commands: each must end with exit code 2 and one line on stderr, as anyone's."""

import contextlib
import io
import os
import shutil
import traceback
import warnings
from pathlib import Path

import numpy as np

from toymodel import cli

NOBODY = 65534
CONFIG = 'experiment = "gram"\n[settings]\n'
DEEP = "[" * 100_000

SWEEP_JSON = (
    *("", "{}", "[]", "null", "3", '"a"', DEEP, '{"a":' * 50_000, "\x00", "{"),
    *('{"fields": {}}', '{"experiment": "gram", "precision": "float64"}'),
    *('{"fields": {}, "experiment": 3, "precision": "float64"}', '{"fields": {}, "experiment": "gram"}'),
    '{"fields": {"a": "nothing"}, "experiment": "gram", "precision": "float64"}',
    '{"fields": {"a": 3}, "experiment": "gram", "precision": "float64"}',
    '{"fields": {"a": []}, "experiment": "gram", "precision": "float64"}',
    '{"fields": ["a"], "experiment": "gram", "precision": "float64"}',
    '{"fields": null, "experiment": "gram", "precision": "float64"}',
)
RUNS = ("", "{}", "[]", "null", "3", DEEP, '{"started": 3}', '{"host": "a"}')

_LOGPS = -np.ones((3, 2, 2))
TOKENS = {"chosen_token_logps": _LOGPS, "rejected_token_logps": _LOGPS}
BAD_TOKENS = {
    "chosen_mask": (
        *(np.full((2, 2), np.nan), np.array([["a", "b"]] * 2), np.ones((2, 2), complex), np.full((2, 2), 0.5)),
        *(np.ones((2, 2), "m8[s]"), np.full((2, 2), 2), np.ones((2, 3), bool), np.ones((2, 2), "V8")),
    ),
    "chosen_token_logps": (
        *(1j * _LOGPS, np.full((3, 2, 2), "a"), np.ones((3, 2, 2), bool), -_LOGPS, _LOGPS * np.nan, _LOGPS * np.inf),
        *(np.ones((3, 2, 2), "M8[s]"), _LOGPS * 1e308, np.zeros((3, 2, 2), [("a", "f8")]), _LOGPS[:1], _LOGPS[:, :0]),
        *(_LOGPS * np.longdouble("1e400"), _LOGPS[0], np.zeros((3, 2, 2), "V8")),
    ),
    "steps": (
        *(np.array(list("abc")), 1j * np.ones(3), np.array([0, 1, np.nan]), np.zeros(3), np.ones((3, 1))),
        *(np.array([False, True, True]), np.array([2, 1, 0], np.uint64), np.array([0, 1, np.inf])),
        *(np.arange(3).astype("M8[s]"), np.arange(4)),
    ),
    "nonsense": (np.ones(3),),
}
GRAM = {"chosen_sq": np.ones(2), "rejected_sq": np.ones(2), "inner": np.zeros(2)}
BAD_GRAMS = {
    **dict.fromkeys(
        ("chosen_sq", "rejected_sq"),
        (-np.ones(2), np.ones(2) * np.nan, np.ones(3), 1j * np.ones(2), np.array(["a", "b"]), np.ones(2, bool)),
    ),
    "inner": (np.full(2, 2.0), np.full(2, -2.0), np.full(2, np.inf), np.zeros(2, [("a", "f8")]), np.ones((2, 2))),
    "d_chosen": (np.array(["a", "b"]), 1j * np.ones(2), np.full(2, np.nan), np.ones(3)),
    "chosen_lengths": (np.zeros(2), -np.ones(2), np.full(2, 0.5), np.full(2, np.nan), np.ones(3)),
    "chosen_logps": (np.ones(2), np.full(2, -np.inf), np.array(["a", "b"])),
    "chosen_mask": (np.ones((2, 2)),),
    "gram": (np.ones((2, 2)), np.ones(3)),
}


def run(arguments, *, as_nobody=False):
    """(exit code or traceback, stderr) of a command, in this process."""
    out, err = io.StringIO(), io.StringIO()
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        warnings.catch_warnings(),
        ordinary_user() if as_nobody else contextlib.nullcontext(),
    ):
        warnings.simplefilter("error")
        try:
            code = cli.main([str(argument) for argument in arguments])
        except Exception:  # whatever it is, it should not be
            code = traceback.format_exc()[-800:]
    return code, err.getvalue().strip()


def violation(arguments, *, as_nobody=False):
    """What is wrong with how a command ends; None for exit code 2 and one line."""
    code, err = run(arguments, as_nobody=as_nobody)
    if code != 2:
        return f"ended with {code}"
    return None if err and "\n" not in err else f"said {err[:500]!r}"


@contextlib.contextmanager
def ordinary_user():
    """Root may read and write everything, so that nothing is refused; an ordinary user may not."""
    if os.geteuid():
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def can_be_ordinary():
    """Whether this process is one of an ordinary user, or can become one."""
    try:
        with ordinary_user():
            return True
    except (AttributeError, OSError):
        return False


def of_files(folder):
    """(words, arguments) for every malformed file."""
    sweep, config = _make_sweep(folder)
    for number, text in enumerate(SWEEP_JSON):
        place = _copy(sweep, folder / f"sweep{number}")
        (place / "sweep.json").write_text(text)
        for arguments in (("--verify", place), (config, "--out", place, "--resume"), (config, "--out", place)):
            yield f"sweep.json {text[:60]!r}", ("sweep", *arguments)
    for number, text in enumerate(RUNS):
        place = _copy(sweep, folder / f"run{number}")
        next((place / "runs").iterdir()).write_text(text)
        yield f"a record {text[:60]!r}", ("sweep", "--verify", place)
    for kind, good, bad in (("tokens", TOKENS, BAD_TOKENS), ("gram", GRAM, BAD_GRAMS)):
        for name, values in bad.items():
            for number, value in enumerate(values):
                path = folder / f"{kind}-{name}{number}.npz"
                other = {"rejected_" + name.removeprefix("chosen_"): np.ones(2)} if name == "chosen_lengths" else {}
                np.savez(path, **good | other | {name: value})
                for json in ((), ("--json",)):
                    yield f"{kind} {name}={value.dtype}{value.shape}", ("diagnose", path, *json)


def of_places(folder):
    """(words, arguments) for every place that an ordinary user may not read or write."""
    sweep, config = _make_sweep(folder)
    for path in sweep.rglob("*"):
        path.chmod(0o777)
    sweep.chmod(0o777)
    closed, read_only = folder / "closed", folder / "read_only"
    closed.mkdir()
    read_only.mkdir()
    for name, mode in (("", 0), ("", 0o444), ("table", 0), ("sweep.json", 0)):
        place = _copy(sweep, folder / f"{name}{mode}")
        for path in (place / "table").iterdir():
            path.unlink()
        (place / name).chmod(mode)
        for arguments in (("--verify", place), (config, "--out", place, "--resume")):
            yield f"no permission {mode:o} on {name or 'the folder'}", ("sweep", *arguments)
    for name in (".claims", "runs"):
        place = _copy(sweep, folder / f"part-{name}")
        for path in (place / "table").iterdir():
            path.unlink()
        (place / name).chmod(0)
        yield f"no permission on {name}", ("sweep", config, "--out", place, "--resume")
    place = _copy(sweep, folder / "locks")
    for path in (place / "table").iterdir():
        (place / ".claims" / path.stem.rpartition("-")[0]).touch(mode=0)
        (place / ".claims" / path.stem.rpartition("-")[0]).chmod(0)
        path.unlink()
    yield "a lock that cannot be opened", ("sweep", config, "--out", place, "--resume")
    for part in ("table", "runs"):
        place = _copy(sweep, folder / f"file-{part}")
        next((place / part).iterdir()).chmod(0)
        yield f"a file in {part} that cannot be read", ("sweep", "--verify", place)
    for name in ("log.csv", "log.json", "g.npz", "g.safetensors", "c.toml"):
        (folder / name).write_text("step,logps/chosen,logps/rejected\n0,-1,-2\n1,-2,-3\n")
        (folder / name).chmod(0)
        command = ("sweep", folder / name, "--out", folder / "new") if name == "c.toml" else ("diagnose", folder / name)
        yield f"{name} that cannot be read", command
    (folder / "pairs.jsonl").write_text('{"prompt": "a", "chosen": "b", "rejected": "c"}\n')
    closed.chmod(0)
    read_only.chmod(0o555)
    for place in (closed, read_only):
        yield f"a new folder in {place.name}", ("sweep", config, "--out", place / "new")
        yield f"a model in {place.name}", ("diagnose", folder / "pairs.jsonl", "--model", place / "model")
    yield "no model", ("diagnose", folder / "pairs.jsonl", "--model", closed)
    for name in ("", "log.csv", "g.npz", "g.safetensors", "trainer_state.json"):
        yield f"{name} in a closed folder", ("diagnose", closed / name)
    yield "a configuration in a closed folder", ("sweep", closed / "c.toml", "--out", folder / "new")
    yield "a read-only folder", ("sweep", config, "--out", read_only)


def _make_sweep(folder):
    config = folder / "config.toml"
    config.write_text(CONFIG)
    assert run(("sweep", config, "--out", folder / "whole", "--devices", 1))[0] == 0
    assert run(("sweep", "--verify", folder / "whole"))[0] == 0
    return folder / "whole", config


def _copy(sweep: Path, place: Path) -> Path:
    shutil.copytree(sweep, place)
    for path in (place, *place.rglob("*")):
        path.chmod(0o777)
    return place
