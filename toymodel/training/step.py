"""What `training.train` does with a batch of pairs in one step: the place where a remedy for training comes in.

An `Update` is a pytree whose numbers are its hyperparameters. `Plain` is the usual one: the optimiser, given the
gradient of the mean loss. Others are in `toymodel.remedies`.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from toymodel._pytree import pytree
from toymodel.data.pairs import Response
from toymodel.models.logps import Model, Params, response_logp, token_logps

CHOSEN, REJECTED = 0, 1


class Batch(NamedTuple):
    """The B pairs of one step, and all that an update may want to know of it. Axis 2 is chosen, then rejected."""

    model: Model
    loss: Any  # a `PairLoss`
    responses: Response  # arrays [2, B, …]
    lengths: Float[Array, "2 B"]
    ref_params: Params
    ref_logps: Float[Array, "2 B"]
    members: Int[Array, " B"]  # which of the n pairs they are
    number: Int[Array, ""]  # of the step
    learning_rate: Float[Array, ""]
    optimizer: optax.GradientTransformation
    gradient: Params  # of the mean loss, at the parameters before the step

    def logps(self, params: Params) -> Float[Array, "2 B"]:
        """Log-probabilities of all responses, in nats."""
        return jax.vmap(jax.vmap(lambda response: response_logp(self.model, params, response)))(self.responses)

    def token_logps(self, params: Params) -> Float[Array, "2 B T"]:
        """Those of all their tokens; 0 at padding."""
        return jax.vmap(jax.vmap(lambda response: token_logps(self.model, params, response)))(self.responses)

    def value(self, logps: Float[Array, "2 B"], ref_logps: Float[Array, "2 B"]) -> Float[Array, ""]:
        """The mean loss at these log-probabilities."""
        return self.loss.value(*logps, *ref_logps, *self.lengths).mean()

    def weights(self, params: Params) -> Float[Array, "2 B"]:
        """(d_w, d_l) of every pair."""
        return jnp.stack(self.loss.weights(*self.logps(params), *self.ref_logps, *self.lengths))

    def ascent(self, params: Params, side: int | Array, weights: Float[Array, " B"]) -> Params:
        """The mean over the pairs of weight · ∇ log π, on the chosen or on the rejected side."""
        responses = jax.tree.map(lambda leaf: leaf[side], self.responses)

        def mean(params: Params) -> Array:
            logps = jax.vmap(lambda response: response_logp(self.model, params, response))(responses)
            return (weights * logps).mean()

        return jax.grad(mean)(params)

    def response_gradients(self, params: Params) -> Params:
        """∇ log π of every response: arrays [2, B, …]."""
        gradient = partial(jax.grad(response_logp, argnums=1), self.model, params)
        return jax.vmap(jax.vmap(gradient))(self.responses)


class State(NamedTuple):
    """What a step starts from and returns."""

    params: Params
    opt_state: Any
    memory: Any  # the update's own


class Update(Protocol):
    """One step of training."""

    def init(self, token_logps: Float[Array, "2 n T"], /) -> Any:
        """What it remembers before the first step: a pytree of arrays. Of `token_logps` shape and dtype may be used."""

    def __call__(self, batch: Batch, before: State) -> tuple[State, Params]:
        """The state after the step, and by how much the parameters moved."""


@pytree
@dataclass(frozen=True)
class Plain:
    """The optimiser's step along the gradient of the mean loss."""

    def init(self, _token_logps: Float[Array, "2 n T"]) -> Any:
        """Nothing."""

    def __call__(self, batch: Batch, before: State) -> tuple[State, Params]:
        """As `Update` has it."""
        return descend(batch, batch.gradient, before)


def descend(batch: Batch, gradient: Params, before: State, memory: Any = None, **extra: Any) -> tuple[State, Params]:
    """The optimiser's step along a gradient, whatever it is one of; `extra` is for an optimiser that takes more."""
    optimizer = optax.with_extra_args_support(batch.optimizer)
    moved, opt_state = optimizer.update(gradient, before.opt_state, before.params, **extra)
    return State(optax.apply_updates(before.params, moved), opt_state, memory), moved


def squared_norm(tree: Params) -> Float[Array, ""]:
    """‖·‖² over all entries."""
    return sum((jnp.vdot(leaf, leaf) for leaf in jax.tree.leaves(tree)), start=jnp.zeros(()))
