"""`REMEDIES` lists every remedy of the comparison, with its source, the strengths to try and its cost.

To add one: an entry here, or `REMEDIES["name"] = Remedy(...)` before the comparison runs (see CONTRIBUTING.md).
"""

from collections.abc import Callable
from dataclasses import dataclass

import jax
from jaxtyping import Array, Float

from toymodel import theory
from toymodel._public import own_names
from toymodel.data.pairs import PreferencePairs, Response
from toymodel.models.logps import Model, Params
from toymodel.models.readout import hidden_states
from toymodel.remedies.balanced import Calibrated, NormalisedPairs, NormalisedSides
from toymodel.remedies.beforehand import keep_lowest
from toymodel.remedies.common_step import CommonStep
from toymodel.remedies.masks import LearnedMask, OracleMask, RejectedMask
from toymodel.remedies.reweighted import Gated, WithLikelihood, WithPenalty
from toymodel.remedies.split import Split, VirtualSplit
from toymodel.training.arguments import PairLoss
from toymodel.training.step import Update

__dir__ = own_names(globals())

Strength = float | Float[Array, "*runs"]


@dataclass(frozen=True)
class Remedy:
    """What a remedy changes in ordinary training: whichever of the last four attributes are given.

    Attributes:
      source: where it comes from; "our reading" where that source gives no formula, or not all of it.
      strengths: values to try of its one hyperparameter; empty if it has none.
      extra: number of gradients of a batch that a step computes besides the ordinary one.
      loss: makes another loss from a loss and the strength.
      update: makes an `Update` from the strength.
      pairs: chooses the pairs to train on, from model, parameters and pairs.
      fit_both: whether to fine-tune on both answers first, with the strength as learning rate.
    """

    source: str
    strengths: tuple[float, ...] = ()
    extra: float = 0
    loss: Callable[[PairLoss, Strength], PairLoss] | None = None
    update: Callable[[Strength], Update] | None = None
    pairs: Callable[[Model, Params, PreferencePairs], PreferencePairs] | None = None
    fit_both: bool = False


def half_by_ches(model: Model, params: Params, pairs: PreferencePairs) -> PreferencePairs:
    """The half of the pairs with the lowest CHES scores under a `Network` or a `Readout`."""

    def compute_hidden(responses: Response) -> Float[Array, "n T d"]:
        return jax.vmap(lambda r: hidden_states(model, params, r) * r.mask[:, None])(responses)

    scores = theory.ches(compute_hidden(pairs.chosen_response), compute_hidden(pairs.rejected_response))
    return keep_lowest(pairs, scores, len(pairs) // 2)


#: Every remedy of the comparison, by name.
REMEDIES: dict[str, Remedy] = {
    "none": Remedy("the loss alone"),
    "likelihood": Remedy("CPO, RPO", (0.3, 1.0, 3.0), loss=WithLikelihood),
    "penalty": Remedy("DPO-Positive, arXiv 2402.13228", (1.0, 5.0, 50.0), loss=WithPenalty),
    "gate": Remedy("Gate-DPO", (0.05, 0.1, 0.2), loss=Gated),
    "normalised_pairs": Remedy("arXiv 2410.13828, our reading", update=lambda _: NormalisedPairs()),
    "normalised_sides": Remedy("ours", update=lambda _: NormalisedSides()),
    "calibration": Remedy("arXiv 2604.18239, our reading", (0.0, 0.9, 0.98), update=Calibrated),
    "common_step": Remedy("ours", update=lambda _: CommonStep()),
    "damped_common_step": Remedy("ours", (0.1, 1.0, 10.0), update=CommonStep),
    "learned_mask": Remedy("arXiv 2410.13828, our reading", (0.01, 0.03, 0.1), update=LearnedMask),
    "oracle_mask": Remedy("knows the contrast tokens", update=lambda _: OracleMask()),
    "rejected_mask": Remedy("ours; knows what both share", (0.3, 0.9, 1.0), update=RejectedMask),
    "chosen_first": Remedy("split update", update=lambda _: Split("chosen")),
    "rejected_first": Remedy("split update", update=lambda _: Split("rejected")),
    "fair_coin": Remedy("split update", update=lambda _: Split("coin")),
    "virtual_split": Remedy("split update", (1.0, 10.0, 100.0), extra=1, update=VirtualSplit),
    "ches_filter": Remedy("arXiv 2410.08847", pairs=half_by_ches),
    "both_first": Remedy("arXiv 2407.10490", (1e-4, 3e-4, 1e-3), fit_both=True),
}
