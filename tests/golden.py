"""What public implementations computed (data/golden_losses.csv), by our names; hyperparameters in their ranges."""

import csv
import json
import tomllib
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

from hypothesis import Phase, settings
from hypothesis import strategies as st

DATA = Path(__file__).parent / "data"
NAMES = tomllib.loads((DATA / "golden_names.toml").read_text(encoding="utf-8"))
PAIR = ("chosen_logps", "rejected_logps", "ref_chosen_logps", "ref_rejected_logps", "len_chosen", "len_rejected")
REFERENCE_FREE = {
    "simpo", "alphapo", "rrhf_rank", "cpo_pref_only", "cpo_hinge", "cpo_nll_sum", "cpo_nll_mean", "cpo_simpo",
    "slic_hf", "orpo", "orpo_or_only", "orpo_sumodds", "arpo_pref_only", "sft_mean",
}  # fmt: skip

# Times fifty losses. Nothing is shrunk: the numbers are readable as drawn, and the oracle takes its time.
few = settings(max_examples=settings().max_examples // 5, phases=(Phase.explicit, Phase.reuse, Phase.generate))


class Row(NamedTuple):
    hyper: dict[str, float]
    pair: list[float]
    numbers: list[float]  # loss, d_chosen, d_rejected
    rtol: float
    saturated: bool


def read_golden():
    rows = defaultdict(list)
    with (DATA / "golden_losses.csv").open(encoding="utf-8", newline="") as file:
        for line in csv.DictReader(file):
            names = NAMES[line["loss"]]
            hyper = {names.get("hyper", {}).get(key, key): x for key, x in json.loads(line["hyper"]).items()}
            numbers = [float(line[key]) for key in ("loss_value", "d_chosen", "d_rejected")]
            row = Row(hyper, [float(line[key]) for key in PAIR], numbers, float(line["rtol"]), line["saturated"] == "1")
            rows[names["name"]].append(row)
    return dict(rows)


GOLDEN = read_golden()
UNRECORDED = {"odpo": {"beta": (0.01, 2), "offset": (0, 2)}, "chi_po": {"beta": (0.01, 2)}, "npo": {"beta": (0.01, 2)}}


def ranges(name):
    """(least, largest) of every hyperparameter in the golden rows."""
    if name in UNRECORDED:
        return UNRECORDED[name]
    keys = set().union(*(row.hyper for row in GOLDEN[name]))
    given = {key: [row.hyper[key] for row in GOLDEN[name] if key in row.hyper] for key in sorted(keys)}
    return {key: (min(numbers), max(numbers)) for key, numbers in given.items()}


def hypers(name):
    drawn = {key: st.floats(*ends, allow_subnormal=False) for key, ends in ranges(name).items()}
    # α = 0 is a limit, with its own test; below 1e-300 its product with a log-probability may be flushed to zero.
    return st.fixed_dictionaries(drawn).filter(lambda hyper: abs(hyper.get("alpha", 1)) > 1e-300)
