"""Chooses learning rate and strength of every remedy: `python -m figures.tune_remedies` writes tuned.toml.

Each remedy has the same number of candidates. They are tried on seeds 0 to 2, with each loss and on all tasks. The best
candidate has the likeliest chosen answers when the margin reaches `TUNED_AT` of the model, both averaged over
evaluation pairs, tasks and seeds; if none reaches it, the largest margin at the end. A candidate with a diverged run is
not taken.
"""

import sys
import tempfile
from functools import partial
from pathlib import Path

import numpy as np

from figures.remedy_runs import LOSSES, TUNED_AT, at_margin, changes, in_cube, settings_of
from figures.style import Table
from figures.sweeps import Swept, swept
from toymodel._files import write_whole
from toymodel.experiments import tuned
from toymodel.experiments.remedies import MODELS, REMEDY_COMPARISON
from toymodel.experiments.tuned import CANDIDATES, Trial, candidates
from toymodel.remedies import REMEDIES
from toymodel.sweep import make_sweep

SEEDS = range(3)
FILE = Path(tuned.__file__).with_name("tuned.toml")
HEAD = """# Learning rates (of Adam) and strengths of the comparison of remedies, by model, remedy and loss.
#
# Written by `python -m figures.tune_remedies`, which says how they are found: the best of six candidates for each, on
# seeds 0 to 2 and on all tasks together, by the chosen answers when the margin reaches the same size.
"""


def try_all(model: str, swept: Swept) -> list[Table]:
    """The runs of each candidate of every remedy, [seeds, remedies, tasks, losses, …], by candidate."""
    places = {
        (name, *np.nan_to_num(trial, nan=-1).tolist()): place
        for name, remedy in REMEDIES.items()
        for place, trial in enumerate(candidates(remedy, model))
    }
    remedies, rates, strengths = zip(*places, strict=True)
    no_strength_is_nan = [np.nan if strength == -1 else strength for strength in strengths]
    together = {"remedy": list(remedies), "learning_rate": list(rates), "strength": no_strength_is_nan}
    grid = {name: value for name, value in settings_of(model).items() if name != "remedy"}
    rows = swept(make_sweep(REMEDY_COMPARISON, grid | {"zip": together, "seed": SEEDS}))
    trials = zip(
        rows["remedy"].tolist(),
        rows["learning_rate"].tolist(),
        np.nan_to_num(rows["strength"], nan=-1).tolist(),
        strict=True,
    )
    of_row = np.array([places[trial] for trial in trials])
    return [
        in_cube({name: column[of_row == place] for name, column in rows.items()}, model) for place in range(CANDIDATES)
    ]


def best(tried: list[Table], nats: float) -> dict[str, list[int]]:
    """By remedy, the index of the best candidate for each loss."""
    paid, margin = [], []  # [candidates, remedies, losses]
    for table in tried:
        chosen, rejected = changes(table)  # [seeds, remedies, tasks, losses, states]
        paid.append(at_margin(nats, chosen, rejected, over=(0, 2)).mean(axis=(0, 2)))
        margin.append((chosen - rejected)[..., -1].mean(axis=(0, 2)))
    by_margin = np.nan_to_num(np.stack(margin), nan=-np.inf)
    score = np.where(np.isnan(paid).all(axis=0), by_margin, np.nan_to_num(np.stack(paid), nan=-np.inf))
    return dict(zip(REMEDIES, score.argmax(axis=0).tolist(), strict=True))


def as_toml(found: dict[str, dict[str, list[int]]]) -> str:
    """The text of the file, from the indices of the best candidates by model and remedy."""
    parts = [HEAD]
    for model, by_remedy in found.items():
        for name, places in by_remedy.items():
            trials = [candidates(REMEDIES[name], model)[place] for place in places]
            lines = (f"{loss} = {{ {_entry(trial)} }}\n" for loss, trial in zip(LOSSES, trials, strict=True))
            parts.append(f"\n[{model}.{name}]\n{''.join(lines)}")
    return "".join(parts)


def _entry(trial: Trial) -> str:
    rate, strength = trial
    return f"learning_rate = {rate:.6g}" + ("" if np.isnan(strength) else f", strength = {strength:.6g}")


def main() -> None:
    """Tune every model, into the folder given or a temporary one, and write the file."""
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(tempfile.mkdtemp())
    found = {model: best(try_all(model, partial(swept, out)), TUNED_AT[model]) for model in MODELS}
    write_whole(FILE, as_toml(found).encode())


if __name__ == "__main__":
    main()
