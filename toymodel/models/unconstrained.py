"""Unconstrained features: z(c) = W h(c) with the hidden state of every context learned along with the head W.

It stands for a network deep enough to place each hidden state freely ("layer-peeled" model), and is the smallest
model in which log π is not concave in the parameters. `linear.frozen_features` is the same with h frozen.
"""

from dataclasses import dataclass
from typing import TypedDict

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from toymodel._checks import require_int, require_positive
from toymodel._public import own_names
from toymodel._pytree import pytree
from toymodel.data.pairs import Response
from toymodel.models.linear import Key, LinearSoftmax

__dir__ = own_names(globals())


class UnconstrainedParams(TypedDict):
    """Hidden states and head, both learned."""

    head: Float[Array, "V d"]
    hidden: Float[Array, "rows d"]


@pytree
@dataclass(frozen=True)
class UnconstrainedFeatures:
    """z(c) = W h(c), one hidden state for each context of a tabular model. Unknown contexts have h = 0."""

    table: LinearSoftmax

    @property
    def vocab_size(self) -> int:
        """V, the number of token ids."""
        return self.table.vocab_size

    def hidden(self, params: UnconstrainedParams, response: Response) -> Float[Array, "T d"]:
        """h before each token of one response; zero at padding."""
        head, hidden = params["head"], params["hidden"]
        rows = self.table.features.shape[0]
        if hidden.ndim != 2 or hidden.shape[0] != rows or head.shape != (self.vocab_size, hidden.shape[1]):
            raise ValueError(
                f"`params` must be a head ({self.vocab_size}, d) and hidden states ({rows}, d), "
                f"got shapes {head.shape} and {hidden.shape}."
            )
        contexts = self.table.contexts(response)
        return hidden.at[contexts].get(mode="fill", fill_value=0) * response.mask[:, None]

    def logits(self, params: UnconstrainedParams, response: Response) -> Float[Array, "T V"]:
        """W h before each token of one response."""
        return self.hidden(params, response) @ params["head"].T


def unconstrained(table: LinearSoftmax) -> UnconstrainedFeatures:
    """The model with a hidden state for each context of a tabular one: `unigram`, `positional`, `bigram` or `prefix`.

    Raises:
      ValueError: `table` is not tabular.
    """
    if not table.tabular:
        raise ValueError("`table` must be tabular (unigram, positional, bigram or prefix): its features are not used.")
    return UnconstrainedFeatures(table)


def init_params(
    key: Key,
    model: UnconstrainedFeatures,
    *,
    dim: int,
    temperature: float | Float[Array, ""] = 1.0,
    dtype: DTypeLike | None = None,
) -> UnconstrainedParams:
    """Random unit vectors h, and W with standard normal entries / `temperature`, like the logits (infinity: uniform).

    Raises:
      ValueError: `dim` < 1, or `temperature` is not positive.
    """
    require_int("dim", dim, low=1)
    require_positive("temperature", temperature)
    of_head, of_hidden = jax.random.split(key)
    hidden = jax.random.normal(of_hidden, (model.table.features.shape[0], dim), dtype or float)
    return {
        "head": jax.random.normal(of_head, (model.vocab_size, dim), dtype or float) / jnp.asarray(temperature, dtype),
        "hidden": hidden / jnp.linalg.norm(hidden, axis=-1, keepdims=True),
    }
