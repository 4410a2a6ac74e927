"""A network whose parameters are one vector: a training loop over one array compiles in two thirds of the time."""

from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from toymodel._public import own_names
from toymodel._pytree import pytree
from toymodel.data.pairs import Response
from toymodel.models.logps import Params

__dir__ = own_names(globals())


@partial(pytree, static=["network", "structure", "shapes"])
@dataclass(frozen=True)
class Flat:
    """The same model as `network`, its parameters in one vector, in the order of `jax.tree.leaves`."""

    network: Any
    structure: Any
    shapes: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, network: Any, params: Params) -> tuple["Flat", Float[Array, " P"]]:
        """The flat model, and these parameters as a vector."""
        leaves, structure = jax.tree.flatten(params)
        return cls(network, structure, tuple(leaf.shape for leaf in leaves)), ravel_pytree(params)[0]

    @property
    def vocab_size(self) -> int:
        """V."""
        return int(self.network.vocab_size)

    def logits(self, params: Float[Array, " P"], response: Response) -> Float[Array, "T V"]:
        """Logits before each token of one response."""
        logits: Array = self.network.logits(self.unflatten(params), response)
        return logits

    def unflatten(self, params: Float[Array, "*states P"]) -> Params:
        """The parameters in the network's own tree, with the same leading axes."""
        sizes = [prod(shape) for shape in self.shapes]
        ends = [sum(sizes[: i + 1]) for i in range(len(sizes) - 1)]
        parts = jnp.split(params, ends, axis=-1)
        leaves = [part.reshape(*params.shape[:-1], *shape) for part, shape in zip(parts, self.shapes, strict=True)]
        return jax.tree.unflatten(self.structure, leaves)
