"""Remedies for entangled gradients, each a small piece that `training.train` takes.

Module        What it changes                        How it is used
`reweighted`  the weights on the two gradients       train(loss=WithLikelihood(dpo, 0.1))
`balanced`    their ratio, by the gradients' norms   train(update=NormalisedPairs())
`common_step` weights that are right for all pairs   train(update=CommonStep())
`masks`       which tokens count                     train(update=LearnedMask(strength=0.01))
`split`       the order of the two gradients         train(update=Split("coin"))
`beforehand`  the pairs and the starting point       train(pairs=keep_lowest(pairs, scores, 100))

Their theory is in `toymodel.theory.remedies`; `REMEDIES` lists them for the comparison.
"""

from toymodel.remedies.balanced import Calibrated, NormalisedPairs, NormalisedSides
from toymodel.remedies.beforehand import fit_both, keep_lowest
from toymodel.remedies.catalogue import REMEDIES, Remedy
from toymodel.remedies.common_step import CommonStep
from toymodel.remedies.masks import LearnedMask, OracleMask, RejectedMask
from toymodel.remedies.reweighted import Gated, WithLikelihood, WithPenalty
from toymodel.remedies.split import Split, VirtualSplit, split_adam

__all__ = [
    "REMEDIES",
    "Calibrated",
    "CommonStep",
    "Gated",
    "LearnedMask",
    "NormalisedPairs",
    "NormalisedSides",
    "OracleMask",
    "RejectedMask",
    "Remedy",
    "Split",
    "VirtualSplit",
    "WithLikelihood",
    "WithPenalty",
    "fit_both",
    "keep_lowest",
    "split_adam",
]


def __dir__() -> list[str]:
    return __all__
