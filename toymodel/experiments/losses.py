"""A loss by its name, with its hyperparameters, as fields of a setting."""

from collections.abc import Callable
from dataclasses import make_dataclass
from typing import Any

import numpy as np

from toymodel._checks import Domain
from toymodel._public import own_names
from toymodel.experiments.experiment import Column, Columns, Rule, one_of, real
from toymodel.losses import LOSSES
from toymodel.losses.catalogue import Loss

__dir__ = own_names(globals())

UNSET = float("nan")  # a hyperparameter that is left at the loss's own default, or that the loss does not have
ANY = Domain("finite", lambda x: ~np.isinf(x))
HYPER = tuple(dict.fromkeys(hyper for loss in LOSSES.values() for hyper in loss.defaults))

#: A loss and the hyperparameters of all losses.
LossSetting: Any = make_dataclass(
    "LossSetting",
    [("loss", str, one_of(LOSSES, "dpo")), *((hyper, float, real(UNSET, ANY)) for hyper in HYPER)],
    frozen=True,
    kw_only=True,
)


def loss_of(setting: Any) -> Loss:
    """The loss of a setting."""
    definition = LOSSES[setting.loss]
    return definition(**{hyper: getattr(setting, hyper) for hyper in definition.defaults})


def with_defaults(columns: Columns) -> Columns:
    """The columns of settings with every hyperparameter of their losses; NaN if a loss does not have it."""
    columns = dict(columns)
    for name in np.unique(columns["loss"]).tolist():
        for hyper, default in LOSSES[name].defaults.items():
            left_out = (columns["loss"] == name) & np.isnan(columns[hyper])
            columns[hyper] = np.where(left_out, default, columns[hyper])
    return columns


def _fits(hyper: str) -> Callable[[Column, Column], Column]:
    """Whether each value of a hyperparameter is left out, or in the range of its loss."""

    def holds(values: Column, losses: Column) -> Column:
        fits = np.isnan(values)
        for name in np.unique(losses[~fits]).tolist():
            if hyper in LOSSES[name].defaults:
                fits |= (losses == name) & LOSSES[name].domain(hyper).holds(values)
        return fits

    return holds


RULES = tuple(
    Rule(
        (hyper, "loss"),
        _fits(hyper),
        f"`{hyper}` must be in the range that its loss gives it, and left out for a loss that has none (in a grid of "
        "its own)",
    )
    for hyper in HYPER
)
