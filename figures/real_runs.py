"""The runs on a pretrained language model behind fig_real_*: `make real` makes them in about 90 minutes.

Their tables are kept in figures/real, so `make figures` can draw them on any machine. Seeds and settings were chosen
before: settings are the defaults, which were tried on seed 900.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from figures import style
from figures.sentiment_runs import over_seeds as intervals
from toymodel._files import git_revision, write_whole
from toymodel.commands._environment import prepare, release_memory
from toymodel.data.tweets import FORMATS

if TYPE_CHECKING:
    from toymodel.experiments.carry_over import Verdict

FOLDER = Path(__file__).parent / "real"
SEEDS = range(3)
REGIME: dict[str, Any] = {"format": ("short_suffix", "long_suffix", "varied"), "seed": (0,)}
REGIME |= {"supervised_steps": (4, 10, 16), "learning_rate": (2e-5, 4e-5)}
LOOKS = {
    "one_token": style.Look(style.BLUE, "o", "-"),
    "short_suffix": style.Look(style.ORANGE, "s", "--"),
    "long_suffix": style.Look(style.RED, "^", "-."),
    "varied": style.Look(style.GREEN, "D", ":"),
}
NAMES = {name: name.replace("_", " ") for name in FORMATS}
WORDS = ("label", "sentiment", "based", "on", "my", "judgement")  # tokens of the long suffix
assert tuple(LOOKS) == FORMATS


def stored(name: str) -> style.Table:
    """One of the tables in figures/real."""
    return style.read_table(FOLDER / f"{name}.csv")


def over_seeds(stage: str, names: Sequence[str]) -> style.Table:
    """The stored states of fine-tuning or of DPO: a row for each format and state, with intervals over seeds."""
    found = style.rows(stored("states"), stage=stage)
    parts = []
    for format in FORMATS:
        mine = style.rows(found, format=format)
        steps, seeds = np.unique(mine["step"]), np.unique(mine["seed"])
        part = {"format": np.full(len(steps), format), "stage": np.full(len(steps), stage), "step": steps}
        part |= {"seeds": np.full(len(steps), len(seeds))}
        for name in names:
            part |= intervals(name, np.array([style.rows(mine, seed=seed)[name] for seed in seeds]))
        parts.append(part)
    return style.stacked(*parts)


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the runs that are missing in a folder, and their tables."""
    parser = argparse.ArgumentParser(prog="python -m figures.real_runs", description=main.__doc__)
    parser.add_argument("--out", type=Path, default=FOLDER.parent / "out" / "real", metavar="DIR", help="of the runs")
    out = parser.parse_args(arguments).out
    prepare()
    try:
        tables = told(*_runs(out))
    except ValueError as error:
        print(f"real_runs.py: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Interrupted: every run that ended is kept; call again to go on.", file=sys.stderr)
        return 130
    write(tables)
    return 0


def write(tables: dict[str, style.Table]) -> None:
    """The tables, and where they come from, into figures/real."""
    for name, table in tables.items():
        style.write_table(table, FOLDER / f"{name}.csv")
    from toymodel.data.tweets import VADER
    from toymodel.models.pretrained import SMOLLM2

    provenance = {
        "made_by": "make real",
        "git_revision": git_revision(),
        "seeds": list(SEEDS),
        "packages": {
            package.name: {"version": package.version, "sha256": package.sha256} for package in (SMOLLM2, VADER)
        },
    }
    write_whole(FOLDER / "provenance.json", (json.dumps(provenance, indent=2) + "\n").encode())


def _runs(out: Path) -> list[style.Table]:
    """The runs of training, of the account, and of the map of regimes."""
    from toymodel.commands._progress import progress_bar
    from toymodel.experiments.language_model import AT, REAL_TRAINING
    from toymodel.experiments.language_model_account import REAL_ACCOUNT, REAL_REGIME
    from toymodel.sweep import make_sweep, run

    main = {"format": FORMATS, "seed": SEEDS}
    wanted = ((REAL_TRAINING, main), (REAL_ACCOUNT, main), (REAL_REGIME, REGIME))
    sweeps = [make_sweep(experiment, settings, precision="float32") for experiment, settings in wanted]
    tables = []
    with progress_bar(sum(each.size for each in sweeps)) as advance:
        AT.set(lambda words: advance(0, words))
        for each in sweeps:
            rows = run(each, out / each.experiment.name, progress=advance).collect()
            tables.append({column.name: np.asarray(column.to_numpy()) for column in rows})
            release_memory()
    return tables


def told(real: style.Table, account: style.Table, regime: style.Table) -> dict[str, style.Table]:
    """The seeds and settings of the figures."""
    from toymodel.experiments.carry_over import account_verdicts, accounts, looks, verdicts

    brought = accounts(account)
    of_accounts = [
        {"format": format, "source": source, "part": part, "measured": mean, "low": low, "high": high}
        | {"first_order": one.first_order, "true_change": one.true_change, "spearman": one.spearman}
        | {"own_slope_spearman": one.own_slope_spearman}
        for format, one in brought.items()
        for source, parts in (one.sources | _of_both_sides(account, format)).items()
        for part, (mean, low, high) in parts.items()
        if part in one.sources
    ]
    return {
        "states": looks(real),
        "claims": of_verdicts(verdicts(real) + account_verdicts(brought)),
        "account": _columns(of_accounts),
        "tokens": _columns(_tokens(real)),
        "blocks": _columns(_blocks(real)),
        "regime": _columns(_regimes(regime)),
    }


def _of_both_sides(account: style.Table, format: str) -> dict[str, dict[str, tuple[float, float, float]]]:
    """What labels and suffixes brought, those of chosen and rejected answers together, with intervals over seeds."""
    from toymodel.experiments.account import TOKENS
    from toymodel.experiments.statistics import mean_interval

    of_seeds = np.moveaxis(account["contributions"][account["format"] == format].mean(axis=-1), 0, -1)
    told = {}
    for kind in ("label", "suffix"):
        sources = [place for place, source in enumerate(TOKENS) if source.endswith(kind)]
        ends = np.stack(mean_interval(of_seeds[sources].sum(axis=0)), axis=-1).tolist()
        told[f"{kind} of both"] = dict(zip(TOKENS, map(tuple, ends), strict=True))
    return told


def of_verdicts(verdicts: "Sequence[Verdict]") -> style.Table:
    """A row for each of them."""
    return _columns(
        [
            {"label": each.claim.label, "words": each.claim.words, "kind": each.claim.kind, "format": each.format}
            | {"runs": each.runs, "measured": each.mean, "low": each.low, "high": each.high, "holds": each.holds}
            for each in verdicts
        ]
    )


def _tokens(real: style.Table) -> list[dict[str, Any]]:
    """Mean cosines over pairs and seeds, of all tokens of both answers."""
    rows = []
    for format in FORMATS:
        cosines = real["token_cosines"][real["format"] == format]
        size = int(np.isfinite(cosines[0, 0, 0]).sum())
        mean = cosines[:, :, :size, :size].mean(axis=(0, 1))
        rows += [
            {"format": format, "chosen_position": i, "rejected_position": j, "measured": float(mean[i, j])}
            for i in range(size)
            for j in range(size)
        ]
    return rows


def _blocks(real: style.Table) -> list[dict[str, Any]]:
    """Cosines by block of the network at the reference, over pairs and seeds."""
    rows = []
    for format in FORMATS:
        chosen_sq, rejected_sq, inner = np.moveaxis(real["block_gram"][real["format"] == format], 1, 0)
        cosines = (inner / np.sqrt(chosen_sq * rejected_sq)).mean(axis=(0, 1))
        rows += [{"format": format, "block": block + 1, "measured": float(each)} for block, each in enumerate(cosines)]
    return rows


def _regimes(regime: style.Table) -> list[dict[str, Any]]:
    """What DPO did to the chosen answers in each setting of the map, and how well their suffix was known before."""
    before, after = np.moveaxis(regime["token_logps"][:, :, 0], 1, 0)  # of the chosen answers [runs, n, T]
    change, cosines = after - before, regime["inner"] / np.sqrt(regime["chosen_sq"] * regime["rejected_sq"])
    rows = []
    for row, (label, suffix) in enumerate(zip(change[..., 0], change[..., 1:].sum(axis=-1), strict=True)):
        told = {name: regime[name][row] for name in ("format", "seed", "supervised_steps", "learning_rate")}
        tokens, chosen = before[row, :, 1:], label + suffix
        told |= {"suffix_nats": -tokens[:, tokens.any(axis=0)].mean(), "cosine": cosines[row].mean()}
        told |= {"chosen_mean": chosen.mean(), "chosen_median": np.median(chosen), "chosen_rises": (chosen > 0).mean()}
        rows.append(told | {"label_mean": label.mean(), "suffix_mean": suffix.mean()})
    return rows


def _columns(rows: list[dict[str, Any]]) -> style.Table:
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


if __name__ == "__main__":
    sys.exit(main())
