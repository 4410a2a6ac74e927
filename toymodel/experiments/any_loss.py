"""A loss chosen at run time, with its hyperparameters as fields of a setting: many losses are one compiled program."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace

import jax
import numpy as np
from jaxtyping import Array, Float

from toymodel._checks import Domain
from toymodel._pytree import pytree
from toymodel.experiments.experiment import Choice, Column, Columns, Field, Rule, one_of
from toymodel.losses import LOSSES

UNSET = float("nan")  # a hyperparameter that is left at the loss's own default
ANY = Domain("finite", lambda x: ~np.isinf(x))
HYPER = tuple(dict.fromkeys(hyper for loss in LOSSES.values() for hyper in loss.defaults))

FIELDS: dict[str, Field] = {"loss": one_of(LOSSES, "dpo"), **{hyper: Field(float, UNSET, ANY) for hyper in HYPER}}


def with_defaults(columns: Columns) -> Columns:
    """The columns of settings with every hyperparameter that their losses have; NaN where a loss has no such one."""
    columns = dict(columns)
    for name in np.unique(columns["loss"]).tolist():
        for hyper, default in LOSSES[name].defaults.items():
            left_out = (columns["loss"] == name) & np.isnan(columns[hyper])
            columns[hyper] = np.where(left_out, default, columns[hyper])
    return columns


def _fits(hyper: str) -> Callable[[Column, Column], Column]:
    """Whether each value of a hyperparameter is left out, or in the range that its loss gives it."""

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


@partial(pytree, static=["options"])
@dataclass(frozen=True)
class AnyLoss:
    """What training asks of a loss, for the loss at `place` among `options`.

    Its derivatives are the closed-form weights: otherwise every branch would be differentiated, and compiled twice.
    """

    place: Float[Array, ""]
    hyper: Mapping[str, Float[Array, ""]]
    options: tuple[str, ...]

    @classmethod
    def of(cls, setting: SimpleNamespace) -> "AnyLoss":
        """The loss of a setting."""
        hyper = {name: getattr(setting, name) for option in setting.loss.options for name in LOSSES[option].defaults}
        return cls(setting.loss.place, hyper, setting.loss.options)

    def value(self, *inputs: Float[Array, " n"]) -> Float[Array, " n"]:
        """As `Loss.value`."""
        here = jax.lax.stop_gradient(inputs)
        value, d_chosen, d_rejected = self._outcome(*here)
        return value - d_chosen * (inputs[0] - here[0]) + d_rejected * (inputs[1] - here[1])

    def weights(self, *inputs: Float[Array, " n"]) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
        """As `Loss.weights`."""
        _, d_chosen, d_rejected = self._outcome(*inputs)
        return d_chosen, d_rejected

    def _outcome(self, *inputs: Array) -> tuple[Array, Array, Array]:
        def branch(name: str, *inputs: Array) -> tuple[Array, Array, Array]:
            loss = LOSSES[name](**{hyper: self.hyper[hyper] for hyper in LOSSES[name].defaults})
            return loss.value(*inputs), *loss.weights(*inputs)

        branches = {name: partial(branch, name) for name in self.options}
        outcome: tuple[Array, Array, Array] = Choice(self.place.astype(int), self.options).switch(branches, *inputs)
        return outcome
