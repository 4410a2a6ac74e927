"""Chooses learning rate and strength of every remedy: `python -m figures.tune_remedies` rewrites `tuned_remedies.py`.

Each remedy has the same number of candidates. They are tried on seeds 0 to 2, around each loss and on all tasks, and
the one is taken that lowers the chosen answers' log-probability least, among those that raise the margin by half a nat
in the mean over evaluation pairs, tasks and seeds; if none does, the one that raises it most.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np

from figures.remedy_runs import settings_of
from figures.style import Table, rows
from figures.sweeps import swept
from toymodel.experiments import tuned_remedies
from toymodel.experiments.remedies import CANDIDATES, MODELS, REMEDY_COMPARISON
from toymodel.remedies import REMEDIES
from toymodel.sweep import make_sweep
from toymodel.sweep.command import use_devices

SEEDS = range(3)
MARGIN = 0.5  # nats


def best(found: Table) -> dict[str, list[int]]:
    """By remedy, the candidate for each loss, from columns [candidates · seeds, remedies, tasks, losses]."""
    chosen, rejected = (
        np.stack([rows(found, candidate=c)[f"{side}_change"].mean(axis=(0, 2)) for c in range(CANDIDATES)])
        for side in ("chosen", "rejected")
    )  # [candidates, remedies, losses]; NaN where a run diverged
    margin = chosen - rejected
    good = margin >= MARGIN
    score = np.where(good.any(axis=0), np.where(good, chosen, -np.inf), np.nan_to_num(margin, nan=-np.inf))
    return dict(zip(REMEDIES, score.argmax(axis=0).tolist(), strict=True))


def main() -> None:
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(tempfile.mkdtemp())
    tuned = {}
    for model in MODELS:
        grid = settings_of(model) | {"candidate": range(CANDIDATES), "seed": SEEDS}
        tuned[model] = best(swept(out, make_sweep(REMEDY_COMPARISON, grid)))
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
