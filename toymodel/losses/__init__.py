"""Preference losses: their values, and their weights on the two gradients in closed form and by autodiff.

`LOSSES[name](**hyper)` gives a `Loss`, under its name here or an alias of `ALIASES`; `loss` adds your own. `form`
defines a loss, and `pieces` has the functions that most losses consist of. `margins`, `reference_free` and
`per_response` are the entries of the `catalogue`.
"""

from toymodel.losses import margins, per_response, reference_free
from toymodel.losses.aliases import ALIASES
from toymodel.losses.catalogue import LOSSES, FlipRate, Fraction, Loss, NonNegative, Positive, Real, loss
from toymodel.losses.form import Form, Jet, Margin, Outcome, Side, autodiff
from toymodel.losses.pieces import log_sigmoid, logp, logratio, mean_logp, mean_logratio, scaled

__all__ = [
    "ALIASES",
    "LOSSES",
    "FlipRate",
    "Form",
    "Fraction",
    "Jet",
    "Loss",
    "Margin",
    "NonNegative",
    "Outcome",
    "Positive",
    "Real",
    "Side",
    "autodiff",
    "log_sigmoid",
    "logp",
    "logratio",
    "loss",
    "margins",
    "mean_logp",
    "mean_logratio",
    "per_response",
    "reference_free",
    "scaled",
]


def __dir__() -> list[str]:
    return __all__
