"""The last layer of a network alone: z = U h + b with frozen hidden states h, a linear softmax model for any prompt."""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from toymodel._public import own_names
from toymodel._pytree import pytree
from toymodel.data.pairs import Response
from toymodel.models.logps import Params
from toymodel.models.stages import Network, features

__dir__ = own_names(globals())

ReadoutParams = dict[str, Float[Array, "..."]]


@pytree
@dataclass(frozen=True)
class Readout:
    """A network's frozen hidden states, with a separate head as parameters: {"weight" [V, d], "bias" [V]}."""

    network: Network
    frozen: Params  # the network's

    @property
    def vocab_size(self) -> int:
        """V, the number of token ids."""
        return self.network.vocab_size

    def features(self, response: Response) -> Float[Array, "T d"]:
        """The frozen hidden states before each token of one response."""
        return features(self.network, self.frozen, response)

    def logits(self, params: ReadoutParams, response: Response) -> Float[Array, "T V"]:
        """Logits before each token of one response."""
        return self.features(response) @ params["weight"].T + params["bias"]


def readout(network: Network, params: Params) -> tuple[Readout, ReadoutParams]:
    """A network's last layer, and its current parameters (a bias of zeros if it has none)."""
    head = network.head(params)
    bias = jnp.zeros(len(head.weight), head.weight.dtype) if head.bias is None else head.bias
    return Readout(network, params), {"weight": head.weight, "bias": bias}


def hidden_states(model: Any, params: Params, response: Response) -> Float[Array, "T d"]:
    """Hidden states before each token of one response, as the last layer of a `Network` or a `Readout` sees them."""
    return model.features(response) if isinstance(model, Readout) else features(model, params, response)
