"""Chooses learning rate and strength of every remedy: `python -m figures.tune_remedies` rewrites `tuned_remedies.py`.

Each remedy has the same number of candidates. They are tried on seeds 0 to 2, around each loss and on all tasks. Taken
is the one whose chosen answers are likeliest when the margin reaches `MARGINS` of the model, both in the mean over
evaluation pairs, tasks and seeds; if none reaches it, the one that ends with the largest margin. A candidate of which
a run diverged is not taken.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np

from figures.remedy_runs import MARGINS, at_margin, changes, settings_of
from figures.style import Table
from figures.sweeps import swept
from toymodel.commands._environment import use_devices
from toymodel.experiments import tuned_remedies
from toymodel.experiments.remedies import CANDIDATES, MODELS, REMEDY_COMPARISON
from toymodel.remedies import REMEDIES
from toymodel.sweep import make_sweep

SEEDS = range(3)


def best(found: Table, nats: float) -> dict[str, list[int]]:
    """By remedy, the candidate for each loss, from the columns of all candidates and seeds."""
    chosen, rejected = changes(found)  # [candidates · seeds, remedies, tasks, losses, states]
    paid, margin = [], []  # [candidates, remedies, losses]
    for candidate in range(CANDIDATES):
        sides = [side[found["candidate"] == candidate] for side in (chosen, rejected)]
        paid.append(at_margin(nats, sides[0], sides[1], over=(0, 2)).mean(axis=(0, 2)))
        margin.append((sides[0] - sides[1])[..., -1].mean(axis=(0, 2)))
    by_margin = np.nan_to_num(np.stack(margin), nan=-np.inf)
    score = np.where(np.isnan(paid).all(axis=0), by_margin, np.nan_to_num(np.stack(paid), nan=-np.inf))
    return dict(zip(REMEDIES, score.argmax(axis=0).tolist(), strict=True))


def main() -> None:
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(tempfile.mkdtemp())
    tuned = {}
    for model in MODELS:
        grid = settings_of(model) | {"candidate": range(CANDIDATES), "seed": SEEDS}
        tuned[model] = best(swept(out, make_sweep(REMEDY_COMPARISON, grid)), MARGINS[model])
        print(f"{model}: {tuned[model]}", flush=True)
    path = Path(tuned_remedies.__file__)
    head, _ = path.read_text(encoding="utf-8").split("TUNED:")
    body = ""
    for model, found in tuned.items():
        lines = "".join(f'        "{name}": {places},\n' for name, places in found.items())
        body += f'    "{model}": {{\n{lines}    }},\n'
    path.write_text(f"{head}TUNED: dict[str, dict[str, list[int]]] = {{\n{body}}}\n", encoding="utf-8")


if __name__ == "__main__":
    use_devices(None)
    main()
