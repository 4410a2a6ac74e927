"""What `training` returns: every step of a run and its effect on every pair.

States are numbered 0 … steps, and step t leads from state t to state t + 1. Log-probabilities belong to states;
everything else belongs to steps.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from toymodel._public import own_names, short_repr
from toymodel.gram import PairGram, cosine
from toymodel.models.logps import Params
from toymodel.theory.condition import CASES, case_index

__dir__ = own_names(globals())


class Trajectory(NamedTuple):
    """What each step did to each pair: [*runs, steps, n], measured before it, and [*runs, steps + 1, n] at all states.

    Log-probabilities, losses and predictions are in nats, slopes in nats per unit of learning rate. In minibatch
    training every pair is recorded at every step, in the batch or not. NaN from where a run stopped (`Run.stopped_at`).
    """

    chosen_logps: Float[Array, "*runs steps+1 n"]  # log π_w at every state, the last one included
    rejected_logps: Float[Array, "*runs steps+1 n"]
    loss: Float[Array, "*runs steps n"]
    chosen_sq: Float[Array, "*runs steps n"]  # ‖∇ log π_w‖²
    rejected_sq: Float[Array, "*runs steps n"]
    inner: Float[Array, "*runs steps n"]  # ⟨∇ log π_w, ∇ log π_l⟩
    d_chosen: Float[Array, "*runs steps n"]  # the loss's weights, not yet divided by the size of the batch
    d_rejected: Float[Array, "*runs steps n"]
    chosen_slope: Float[Array, "*runs steps n"]  # along the batch's plain step, the mean of d_w g_w − d_l g_l
    rejected_slope: Float[Array, "*runs steps n"]
    chosen_predicted: Float[Array, "*runs steps n"]  # ⟨g_w, Δθ⟩ for the optimiser's update Δθ: change to first order
    rejected_predicted: Float[Array, "*runs steps n"]

    def __repr__(self) -> str:
        return short_repr(self, ("chosen_logps", "rejected_logps", "loss"))[:-1] + ", …)"

    @property
    def margin(self) -> Float[Array, "*runs steps+1 n"]:
        """log π_w − log π_l at every state; the reference is not subtracted."""
        return self.chosen_logps - self.rejected_logps

    @property
    def chosen_change(self) -> Float[Array, "*runs steps n"]:
        """True change of log π_w over each step."""
        return jnp.diff(self.chosen_logps, axis=-2)

    @property
    def rejected_change(self) -> Float[Array, "*runs steps n"]:
        """True change of log π_l over each step."""
        return jnp.diff(self.rejected_logps, axis=-2)

    @property
    def gram(self) -> PairGram:
        """The Gram entries of each pair before each step."""
        return PairGram(self.chosen_sq, self.rejected_sq, self.inner)

    @property
    def cosine(self) -> Float[Array, "*runs steps n"]:
        """Cosine between a pair's gradients; NaN where one is zero, and from where a run stopped."""
        return cosine(self.gram, allow_zero=True)

    @property
    def case_index(self) -> Int[Array, "*runs steps n"]:
        """Index in `theory.CASES` of the effect of a small plain step on the pair alone; −1 after a run stopped."""
        stopped = jnp.isnan(self.loss)
        *gram, d_chosen, d_rejected = (jnp.where(stopped, 0, x) for x in (*self.gram, self.d_chosen, self.d_rejected))
        return jnp.where(stopped, -1, case_index(PairGram(*gram), d_chosen, d_rejected))

    @property
    def case(self) -> np.ndarray:
        """The names of `case_index`: one of `theory.CASES`, or an empty string after a run stopped."""
        return np.asarray((*CASES, ""))[np.asarray(self.case_index)]


class Run(NamedTuple):
    """What `train` returns; every array has a leading axis of runs when `over` names anything."""

    params: Params  # at the last state
    losses: Float[Array, "*runs steps"]  # mean over the batch before each step, in nats; NaN from where a run stopped
    stopped_at: Int[Array, "*runs"]  # the last state: `steps`, or the number of the first step that was not finite
    batches: Int[Array, "*runs steps B"] | None  # the pairs in each minibatch
    trajectory: Trajectory | None  # record="pairs"
    checkpoints: Params | None  # [*runs, k, …]: the parameters at k states; NaN from where a run stopped
    memory: Any = None  # what the update remembers at the last state: masks, averages

    def __repr__(self) -> str:
        return short_repr(self, self._fields)


class Diverged(FloatingPointError):
    """The loss, or the parameters it led to, were not finite at step `step`; `run` holds all before it."""

    def __init__(self, step: int, run: Run) -> None:
        super().__init__(f"step {step}: the loss, or the parameters after it, are not finite; `run` holds all before.")
        self.step, self.run = step, run
