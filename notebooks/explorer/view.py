"""What one step of a loss, and then many, do to the pair of a scene: every number that the explorer shows."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from notebooks.explorer.scenes import Scene
from toymodel import gradients, pytree, theory
from toymodel._checks import require_finite, require_positive
from toymodel.data.pairs import PreferencePairs
from toymodel.experiments.training import OPTIMIZERS as ALL_OPTIMIZERS
from toymodel.gram import PairGram, Scalars, cosine
from toymodel.losses import LOSSES
from toymodel.models.linear import LinearSoftmax
from toymodel.models.logps import pair_logps
from toymodel.theory import Band
from toymodel.training import Diverged, Run, train
from toymodel.training.arguments import PairLoss

FACTORS = (0.01, 0.03, 0.1, 0.3, 0.5, 1.0, 2.0, 3.0, 10.0, 30.0, 100.0)
#: Optimisers by name: those whose first step has a Gram.
OPTIMIZERS = {name: ALL_OPTIMIZERS[name] for name in ("sgd", "momentum", "adam")}
#: The cases in words.
CASE_WORDS: Mapping[str, str] = MappingProxyType(
    {
        "chosen_up_rejected_down": "chosen up, rejected down",
        "both_down": "both down",
        "both_up": "both up",
        "chosen_down_rejected_up": "chosen down, rejected up",
        "stationary": "a slope is zero",
    }
)


class View(NamedTuple):
    """What one step does to the pair: log-probabilities in nats, slopes in nats per unit of learning rate."""

    d_chosen: float
    d_rejected: float
    gram: PairGram  # predicted in closed form; under Adam measured, ⟨u, P v⟩ of its first step
    slopes: tuple[float, float]  # of log π_w and log π_l, from the Gram entries (T9)
    change: tuple[float, float]  # measured: what the step really does
    case: str
    band: Band
    token_map: Float[np.ndarray, "T_w T_l"]  # its sum is `gram.inner`

    @property
    def cosine(self) -> float:
        """Between the two gradients; NaN where one is zero."""
        return float(cosine(self.gram, allow_zero=True))


@pytree
@dataclass(frozen=True)
class FixedWeights:
    """A loss that puts the same weights on the two gradients wherever it is: d_l log π_l − d_w log π_w."""

    d_chosen: Scalars
    d_rejected: Scalars

    def value(self, chosen_logps: Array, rejected_logps: Array, *_rest: Array) -> Array:
        """The loss of each pair, in nats; unbounded below."""
        return self.d_rejected * rejected_logps - self.d_chosen * chosen_logps

    def weights(self, chosen_logps: Array, rejected_logps: Array, *_rest: Array) -> tuple[Array, Array]:
        """(d_chosen, d_rejected) of each pair."""
        return jnp.full_like(chosen_logps, self.d_chosen), jnp.full_like(rejected_logps, self.d_rejected)


def hyper_steps(loss: str) -> dict[str, list[float]]:
    """Values to try for each hyperparameter of a loss in `LOSSES`: its default, a hundredth to a hundred times that.

    In order, and within its range. For a default of zero: 0.01 to 100, of both signs.
    """
    definition = LOSSES[loss]
    steps = {}
    for name, default in definition.defaults.items():
        units = [default] if default else [-1.0, 1.0]
        tried = {0.0, default, *(float(f"{unit * factor:.3g}") for unit in units for factor in FACTORS)}
        steps[name] = sorted(value for value in tried if definition.domain(name).holds(value))
    return steps


def look(scene: Scene, loss: PairLoss, optimizer: str = "sgd", learning_rate: float = 0.1) -> View:
    """What the first step of an optimiser does to the pair; the parameters before it are the reference policy.

    Raises:
      ValueError: the optimiser is not one of `OPTIMIZERS`, the learning rate is not positive and finite, or the loss
        gives a weight that is not finite.
    """
    require_positive("learning_rate", learning_rate)
    require_finite("learning_rate", learning_rate)
    model, params, pairs = scene
    gram, d_chosen, d_rejected = _gram(scene, loss, optimizer)
    if optimizer == "adam":
        token_map = _adam_token_gram(model, params, pairs, d_chosen, d_rejected)
    else:
        token_map = theory.token_gram(model, params, pairs[0])
    gram = jax.tree.map(lambda entry: np.asarray(entry)[0], gram)
    weights = float(d_chosen[0]), float(d_rejected[0])
    chosen, rejected = pairs.chosen_mask[0].sum(), pairs.rejected_mask[0].sum()
    return View(
        *weights,
        gram,
        _floats(theory.slopes(gram, *weights)),
        _floats(_step_change(scene, d_chosen, d_rejected, learning_rate, optimizer)),
        str(theory.case(gram, *weights)),
        jax.tree.map(float, theory.band(gram)),
        np.asarray(token_map)[:chosen, :rejected],
    )


def slopes_along(scenes: Scene, loss: PairLoss, optimizer: str = "sgd") -> Float[np.ndarray, "2 n"]:
    """Slopes of (log π_w, log π_l) under each pair's own first step, of `every_length` of pair."""
    gram, d_chosen, d_rejected = _gram(scenes, loss, optimizer)
    return np.asarray(theory.slopes(gram, d_chosen, d_rejected))


def in_words(view: View) -> str:
    """One or two sentences: the case that the slopes give, and where the true step departs from it."""
    verdict = f"To first order: {CASE_WORDS[view.case]}."
    sides = [
        f"the {side} {'falls, with a slope > 0' if change < 0 else 'rises, with a slope < 0'}"
        for side, slope, change in zip(("chosen", "rejected"), view.slopes, view.change, strict=True)
        if slope * change < 0
    ]
    return f"{verdict} This step is too long for that: {' and '.join(sides)}." if sides else verdict


def follow(scene: Scene, loss: PairLoss, optimizer: str, learning_rate: float, steps: int) -> Run:
    """Train on the pair alone, and record every step; a run that diverges is returned up to where it did.

    Raises:
      ValueError: as for `training.train`, or the optimiser is not one of `OPTIMIZERS`.
    """
    _require_optimizer(optimizer)
    try:
        return train(*scene, loss, OPTIMIZERS[optimizer], learning_rate, steps=steps)
    except Diverged as stopped:
        return stopped.run


def _gram(scene: Scene, loss: PairLoss, optimizer: str) -> tuple[PairGram, Array, Array]:
    """That of each pair's first step, and the weights that the loss has there."""
    _require_optimizer(optimizer)
    model, params, pairs = scene
    logps = pair_logps(model, params, pairs)
    lengths = (mask.sum(axis=-1).astype(float) for mask in (pairs.chosen_mask, pairs.rejected_mask))
    d_chosen, d_rejected = loss.weights(*logps, *logps, *lengths)
    if optimizer == "adam":
        return gradients.first_adam_gram(model, params, pairs, d_chosen, d_rejected), d_chosen, d_rejected
    return theory.pair_gram(model, params, pairs), d_chosen, d_rejected  # the first step with momentum is SGD's


@partial(jax.jit, static_argnames="optimizer")
def _step_change(scene: Scene, d_chosen: Array, d_rejected: Array, learning_rate: Scalars, optimizer: str) -> Any:
    return gradients.step_change(*scene, OPTIMIZERS[optimizer](learning_rate), d_chosen, d_rejected)


@jax.jit
def _adam_token_gram(
    model: LinearSoftmax, params: Array, pairs: PreferencePairs, d_chosen: Array, d_rejected: Array
) -> Array:
    """⟨u_i, P v_j⟩ of the tokens' gradients, P that of Adam's first step on the pair."""
    pair = pairs[0]
    chosen, rejected = (
        gradients.token_gradients(model, params, response)
        for response in (pair.chosen_response, pair.rejected_response)
    )
    loss_gradient = d_rejected * rejected.sum(axis=0) - d_chosen * chosen.sum(axis=0)
    return (chosen * gradients.adam_preconditioner(loss_gradient)) @ rejected.T


def _floats(both: tuple[Any, Any]) -> tuple[float, float]:
    chosen, rejected = (float(np.asarray(value).squeeze()) for value in both)
    return chosen, rejected


def _require_optimizer(optimizer: str) -> None:
    if optimizer not in OPTIMIZERS:
        raise ValueError(f"`optimizer` must be one of {', '.join(OPTIMIZERS)}, got {optimizer!r}.")
