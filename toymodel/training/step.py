"""What `training.train` does with a batch of pairs in one step; remedies for training plug in here.

An `Update` is a pytree whose numbers are its hyperparameters. `Plain` is the usual one: the optimiser, given the
gradient of the mean loss. Others are in `toymodel.remedies`. A `Weighted` update says which weight it puts on each
token, so that `training.account` can compute the effect of each.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from toymodel._public import own_names
from toymodel._pytree import pytree
from toymodel.data.pairs import Response
from toymodel.models.logps import Model, Params, response_logp, token_logps

__dir__ = own_names(globals())

#: Index of the chosen responses in arrays of both sides.
CHOSEN = 0
#: Index of the rejected responses.
REJECTED = 1
LOGITS = 2**25  # numbers in the logits of responses whose log-probabilities are taken at once


class State(NamedTuple):
    """What a step starts from and returns."""

    params: Params
    opt_state: Any
    memory: Any  # the update's own


class Batch(NamedTuple):
    """The B pairs of one step, and all that an update may need to know. An axis of 2 is chosen, then rejected."""

    model: Model
    loss: Any  # a `PairLoss`
    optimizer: optax.GradientTransformation
    learning_rate: Float[Array, ""]
    ref_params: Params
    responses: Response  # arrays [2, B, …]
    lengths: Float[Array, "2 B"]
    members: Int[Array, " B"]  # which of the n pairs they are
    ref_logps: Float[Array, "2 B"]
    number: Int[Array, ""]  # of the step
    gradient: Params = None  # of the mean loss, at the parameters before the step

    def take(self, members: Int[Array, " B"]) -> "Batch":
        """The batch of these pairs only, out of all n."""
        columns = self.responses, self.lengths, self.ref_logps
        responses, lengths, ref_logps = jax.tree.map(lambda leaf: leaf[:, members], columns)
        return self._replace(responses=responses, lengths=lengths, ref_logps=ref_logps, members=members)

    def logps(self, params: Params) -> Float[Array, "2 B"]:
        """Log-probabilities of all responses, in nats."""
        logp = partial(response_logp, self.model, params)
        at_once = max(1, LOGITS // (self.responses.tokens.shape[-1] * self.model.vocab_size))
        if self.responses.tokens[..., 0].size <= at_once:
            return jax.vmap(jax.vmap(logp))(self.responses)
        flat = jax.tree.map(lambda leaf: leaf.reshape(-1, leaf.shape[-1]), self.responses)
        return jax.lax.map(logp, flat, batch_size=at_once).reshape(self.responses.tokens.shape[:2])

    def token_logps(self, params: Params) -> Float[Array, "2 B T"]:
        """Log-probabilities of every token, in nats; 0 at padding."""
        return jax.vmap(jax.vmap(partial(token_logps, self.model, params)))(self.responses)

    def value(self, logps: Float[Array, "2 B"], ref_logps: Float[Array, "2 B"]) -> Float[Array, ""]:
        """The mean loss at these log-probabilities, in nats."""
        return self.loss.value(*logps, *ref_logps, *self.lengths).mean()

    def weights(self, params: Params) -> Float[Array, "2 B"]:
        """(d_w, d_l) of every pair."""
        return jnp.stack(self.loss.weights(*self.logps(params), *self.ref_logps, *self.lengths))

    def loss_gradients(self, params: Params) -> Float[Array, "2 B"]:
        """Derivatives of the mean loss in the log-probabilities: −d_w/B and d_l/B."""
        d_chosen, d_rejected = self.weights(params)
        return jnp.stack([-d_chosen, d_rejected]) / len(self.members)

    def pull(self, params: Params, weights: Float[Array, "2 B T"]) -> Params:
        """The sum over all tokens of weight · ∇ log p."""
        pulled: Params = jax.vjp(self.token_logps, params)[1](weights)[0]
        return pulled

    def ascent(self, params: Params, side: int | Array, weights: Float[Array, " B"]) -> Params:
        """The mean over the pairs of weight · ∇ log π, on the chosen or on the rejected side."""
        responses = jax.tree.map(lambda leaf: leaf[side], self.responses)

        def mean(params: Params) -> Array:
            return (weights * jax.vmap(partial(response_logp, self.model, params))(responses)).mean()

        return jax.grad(mean)(params)

    def logps_and_gradients(self, params: Params) -> tuple[Float[Array, "2 B"], Params]:
        """log π and ∇ log π of every response; the gradients have the parameters' arrays, [2, B, …]."""
        differentiated = jax.value_and_grad(response_logp, argnums=1)
        both: tuple[Array, Params] = jax.vmap(jax.vmap(partial(differentiated, self.model, params)))(self.responses)
        return both


class Update(Protocol):
    """One step of training."""

    def init(self, token_logps: Float[Array, "2 n T"], /) -> Any:
        """Its memory before the first step, a pytree of arrays. `token_logps` only gives shape and dtype."""

    def __call__(self, batch: Batch, before: State) -> tuple[State, Params]:
        """The state after the step, and by how much the parameters moved."""


class Direction(NamedTuple):
    """What an optimiser descends: Σ weight · ∇ log p over the batch's tokens. A negative weight raises its token."""

    gradient: Params
    weights: Float[Array, "2 B T"] | Float[Array, "2 B 1"]
    memory: Any = None  # the update's, after the step


class Weighted:
    """Base class of updates whose step is the optimiser's along its `direction`, or several such steps in turn.

    A subclass defines `direction`, and `init` if it has a memory.
    """

    def init(self, _token_logps: Float[Array, "2 n T"]) -> Any:
        """Return None: nothing is remembered from step to step."""

    def direction(self, batch: Batch, before: State) -> Direction:
        """The gradient for the optimiser, and the weights by which it is a sum over tokens."""
        raise NotImplementedError

    def in_turn(self, _batch: Batch) -> "tuple[Weighted, ...]":
        """The updates that the step consists of: this one alone."""
        return (self,)

    def __call__(self, batch: Batch, before: State) -> tuple[State, Params]:
        """Return the state after the step, and by how much the parameters moved."""
        state, steps = before, []
        for update in self.in_turn(batch):
            gradient, _, memory = update.direction(batch, state)
            state, moved = descend(batch, gradient, state, memory)
            steps.append(moved)
        return state, jax.tree.map(lambda *parts: sum(parts[1:], start=parts[0]), *steps)


@pytree
@dataclass(frozen=True)
class Plain(Weighted):
    """The optimiser's step along the gradient of the mean loss."""

    def direction(self, batch: Batch, before: State) -> Direction:
        """The gradient, and the loss's weights."""
        return Direction(batch.gradient, batch.loss_gradients(before.params)[..., None])


class Ledger(Protocol):
    """A record kept beside a run without changing it, as by `training.account`; hashable, because it is compiled in."""

    def open(self, setting: Any, batch: Batch, before: State) -> Any:
        """The entries before the first step, a pytree of arrays. `batch` holds all pairs."""

    def enter(self, setting: Any, batch: Batch, before: State, entries: Any) -> Any:
        """The entries after the step that the batch is about to take."""

    def close(self, setting: Any, batch: Batch, after: State, entries: Any) -> Any:
        """The result after the last step."""


def descend(batch: Batch, gradient: Params, before: State, memory: Any = None, **extra: Any) -> tuple[State, Params]:
    """The optimiser's step along any gradient; `extra` is for an optimiser that takes more.

    Returns the state after it, with this `memory`, and by how much the parameters moved.
    """
    optimizer = optax.with_extra_args_support(batch.optimizer)
    moved, opt_state = optimizer.update(gradient, before.opt_state, before.params, **extra)
    return State(optax.apply_updates(before.params, moved), opt_state, memory), moved
