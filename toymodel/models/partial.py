"""Networks in which only a part is learned: the last blocks, or low-rank matrices added to the weights."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from toymodel._checks import require_int
from toymodel._public import own_names
from toymodel._pytree import pytree
from toymodel.data.pairs import Response
from toymodel.models.llama import Llama
from toymodel.models.logps import Params
from toymodel.models.stages import advance, embed
from toymodel.models.transformer import Transformer

__dir__ = own_names(globals())

Blocks = Transformer | Llama  # networks whose parameters have "blocks" and "final_norm"
ADAPTED = ("queries", "values")  # what Hu et al., "LoRA" (2021), adapt


@partial(pytree, static=["blocks"])
@dataclass(frozen=True)
class LastBlocks:
    """A network whose last blocks and last norm are learned; nothing is differentiated before them."""

    network: Blocks
    frozen: Params  # the network's
    blocks: int

    @property
    def vocab_size(self) -> int:
        """V, the number of token ids."""
        return self.network.vocab_size

    def logits(self, params: Params, response: Response) -> Float[Array, "T V"]:
        """Logits before each token of one response."""
        until = self.network.layers - self.blocks + 1  # the stage of all blocks but the last of these
        fixed = self.frozen | {"blocks": jax.tree.map(lambda leaf: leaf[:until], self.frozen["blocks"])}
        x, _ = advance(self.network.stages(fixed, response)[0], embed(self.network, self.frozen, response))
        for stage in self.network.stages(params, response):
            x, _ = advance(stage, x)
        return x[-response.tokens.shape[-1] :] @ self.network.head(self.frozen).weight.T

    def merged(self, params: Params) -> Params:
        """Parameters of the whole network."""
        kept = jax.tree.map(lambda leaf: leaf[: -self.blocks], self.frozen["blocks"])
        blocks = jax.tree.map(lambda *parts: jnp.concatenate(parts), kept, params["blocks"])
        return self.frozen | params | {"blocks": blocks}


def last_blocks(network: Blocks, params: Params, blocks: int) -> tuple[LastBlocks, Params]:
    """A network with all but its last blocks frozen, and the current parameters of these blocks.

    Raises:
      ValueError: the network has fewer blocks.
    """
    require_int("blocks", blocks, low=1, high=network.layers)
    tail = {"blocks": jax.tree.map(lambda leaf: leaf[-blocks:], params["blocks"]), "final_norm": params["final_norm"]}
    return LastBlocks(network, params, blocks), tail


@pytree
@dataclass(frozen=True)
class LowRank:
    """A network with frozen weights W plus products of two learned matrices: W + A B (LoRA)."""

    network: Llama
    frozen: Params  # the network's

    @property
    def vocab_size(self) -> int:
        """V, the number of token ids."""
        return self.network.vocab_size

    def logits(self, params: Params, response: Response) -> Float[Array, "T V"]:
        """Logits before each token of one response."""
        return self.network.logits(self.merged(params), response)

    def merged(self, params: Params) -> Params:
        """Parameters of the whole network."""
        blocks = dict(self.frozen["blocks"])
        for name, low_rank in params.items():
            blocks[name] = {"weight": blocks[name]["weight"] + low_rank["a"] @ low_rank["b"]}
        return self.frozen | {"blocks": blocks}


def low_rank(
    key: Array, network: Llama, params: Params, rank: int, *, layers: Sequence[str] = ADAPTED
) -> tuple[LowRank, Params]:
    """A frozen network, and matrices of this rank for some layers of each block: A normal of variance 1/rows, B = 0.

    Raises:
      ValueError: a rank that is not a positive whole number, or a layer that blocks do not have.
    """
    require_int("rank", rank, low=1)
    weights = {name: layer["weight"] for name, layer in params["blocks"].items() if "weight" in layer}
    unknown = [name for name in layers if name not in weights]
    if unknown:
        raise ValueError(f"`layers` must be among {', '.join(weights)}, got {', '.join(unknown)}.")

    def start(key: Array, weight: Array) -> dict[str, Any]:
        blocks, rows, columns = weight.shape
        a = jax.random.normal(key, (blocks, rows, rank), weight.dtype) / rows**0.5
        return {"a": a, "b": jnp.zeros((blocks, rank, columns), weight.dtype)}

    keys = jax.random.split(key, len(layers))
    learned = {name: start(k, weights[name]) for k, name in zip(keys, layers, strict=True)}
    return LowRank(network, params), learned
