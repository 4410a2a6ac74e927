"""Which numbers of a training log are believed, and what its reader has to know of them."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from toymodel._public import own_names

__dir__ = own_names(globals())


class Series(NamedTuple):
    """One number at each of S states."""

    steps: Float[np.ndarray, " S"]  # increasing
    values: Float[np.ndarray, " S"]  # finite


class Finding(NamedTuple):
    """Something that a reader of the verdict has to know: a code for programs, a plain sentence, the step it is of."""

    code: str
    text: str
    step: float | None = None


class Evidence(NamedTuple):
    """What a log says of one set of pairs.

    `others` holds further columns of the same rows under the names of `columns.QUANTITIES`. The two sides may have
    other steps than each other: KTO logs one of them in a row.
    """

    name: str  # of the evaluation set ("easy"); "" where there is one
    split: str  # "evaluation" or "training"
    source: str  # "rewards", "logps_minus_reference" or "logps"
    columns: tuple[str, str]  # the names of the believed numbers in the file
    unit: str  # "nats", "nats per token" or "reward"
    step_kind: str  # "step", "epoch" or "row"
    chosen: Series
    rejected: Series
    others: dict[str, Series]
    broke_at: float | None  # from this step on a believed column holds no number any more


class LogFile(NamedTuple):
    """All that a file says: one `Evidence` for each named evaluation set, else one; and what was mended or missed."""

    evidence: list[Evidence]
    findings: list[Finding]
