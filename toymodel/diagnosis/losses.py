"""Which losses of the catalogue separate a pair with its defaults at the reference, where training starts."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from toymodel._public import own_names
from toymodel.diagnosis.gradients import Diagnosis
from toymodel.gram import PairGram
from toymodel.losses import LOSSES
from toymodel.theory.condition import CASES, case_index

__dir__ = own_names(globals())

RIGHT = CASES[0]
Weights = Float[np.ndarray, "2 N"]  # d_w and d_l
# Log-probabilities of the reference to try where they are not known. A loss that only compares with the reference
# has the same weights at all of them; one that compares the two answers with each other has not.
TRIED = ((-1.0, -1.0), (-3.0, -99.0), (-99.0, -3.0))


def diagnose_losses(diagnosis: Diagnosis) -> dict[str, Any]:
    """Which losses separate which pairs at the reference, where policy and reference agree; ready for JSON.

    `right`: by loss, the numbers (0, 1, …) of the pairs that its small step on the pair alone separates.
    `ratio`: by loss, the least and the greatest d_w/d_l of the pairs (None for ∞), or None if it moves no pair.
    `negative`: losses with a weight below 0 in some pair. `untold`: by loss, what it needs and `diagnosis` lacks,
    `lengths` or `logps` of both answers.
    """
    rows = diagnosis.pairs
    entries = (np.array([row[name] for row in rows]) for name in PairGram._fields)
    logps, lengths = (
        [np.array([row[f"{side}_{kind}"] for row in rows]) for side in ("chosen", "rejected")]
        if all(f"{side}_{kind}" in rows[0] for side in ("chosen", "rejected"))
        else None
        for kind in ("logps", "lengths")
    )
    right: dict[str, list[int]] = {}
    ratio: dict[str, list[float | None] | None] = {}
    negative: list[str] = []
    untold: dict[str, str] = {}
    with jax.enable_x64(True):
        gram = PairGram(*entries)
        for name in LOSSES:
            references = [logps] if logps else [[np.full(len(rows), x) for x in tried] for tried in TRIED]
            try:
                found = [_weigh(name, reference, lengths) for reference in references]
            except ValueError:  # its values are valid, so a length is missing
                untold[name] = "lengths"
                continue
            if any(not np.allclose(_direction(other), _direction(found[0]), rtol=1e-9) for other in found[1:]):
                untold[name] = "logps"
                continue
            d_w, d_l = found[0]
            right[name] = np.flatnonzero(np.asarray(case_index(gram, d_w, d_l)) == CASES.index(RIGHT)).tolist()
            ratio[name] = _ends(d_w, d_l)
            if (found[0] < 0).any():
                negative.append(name)
    return {"right": right, "ratio": ratio, "negative": negative, "untold": untold}


def _weigh(name: str, reference: Sequence[np.ndarray], lengths: Sequence[np.ndarray] | None) -> Weights:
    """The weights of a loss with its defaults, when the policy is the reference."""
    w, l = map(jnp.asarray, reference)  # noqa: E741
    n = map(jnp.asarray, lengths) if lengths else (None, None)
    return np.stack([np.asarray(d) for d in LOSSES[name]().weights(w, l, w, l, *n)])


def _direction(weights: Weights) -> Weights:
    """The weights without their size, which does not affect the case."""
    size = np.abs(weights).sum(axis=0)
    return weights / np.where(size > 0, size, 1)


def _ends(d_w: np.ndarray, d_l: np.ndarray) -> list[float | None] | None:
    moved = (d_w != 0) | (d_l != 0)
    if not moved.any():
        return None
    with np.errstate(divide="ignore"):
        ratios = d_w[moved] / d_l[moved]
    return [float(end) if np.isfinite(end) else None for end in (ratios.min(), ratios.max())]
