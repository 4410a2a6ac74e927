"""An n-gram language model with one hidden layer: z = U tanh(A [E(y^{i−n}); …; E(y^{i−1})] + a) + b, all learned.

The smallest neural model here: it shares parameters between contexts, and its features move while it learns.
"""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from toymodel._checks import require_int, require_positive
from toymodel._public import own_names
from toymodel._pytree import pytree
from toymodel.data.pairs import Response
from toymodel.models import stages
from toymodel.models.stages import Head, Inputs, Layers, Stage, affine

__dir__ = own_names(globals())

Key = Array
MLPParams = dict[str, Float[Array, "..."]]


@partial(pytree, static=["vocab_size", "context_length", "embedding_dim", "hidden_dim"])
@dataclass(frozen=True)
class NGramMLP:
    """Sizes of the model; it has no frozen arrays.

    A context is the last `context_length` tokens before a position, the prompt's included. A missing token has its
    own embedding, row V of the table.
    """

    vocab_size: int
    context_length: int
    embedding_dim: int
    hidden_dim: int

    def __post_init__(self) -> None:
        require_int("vocab_size", self.vocab_size, low=2)
        for name in ("context_length", "embedding_dim", "hidden_dim"):
            require_int(name, getattr(self, name), low=1)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the parameters, by name."""
        V, n, d, h = self.vocab_size, self.context_length, self.embedding_dim, self.hidden_dim
        return {
            "embedding": (V + 1, d),
            "hidden_weight": (h, n * d),
            "hidden_bias": (h,),
            "head_weight": (V, h),
            "head_bias": (V,),
        }

    def contexts(self, response: Response) -> Int[Array, "T n"]:
        """The n tokens before each position, oldest first; V where there is nothing."""
        n, nothing = self.context_length, self.vocab_size
        tokens = jnp.concatenate(
            [
                jnp.full(n, nothing),
                jnp.where(response.prompt_mask, response.prompt, nothing),
                response.tokens,  # padding comes after every token that is used
            ]
        )
        T, P = response.tokens.shape[-1], response.prompt.shape[-1]
        return tokens[P + jnp.arange(T)[:, None] + jnp.arange(n)]

    def logits(self, params: MLPParams, response: Response) -> Float[Array, "T V"]:
        """Logits before each token of one response, in the dtype of `params`."""
        shapes = {name: array.shape for name, array in params.items()}
        if shapes != self.shapes:
            raise ValueError(f"`params` must have the shapes {self.shapes}, got {shapes}.")
        return stages.logits(self, params, response)

    def rows(self, response: Response) -> dict[str, Int[Array, "T n"]]:
        """The context of each position, side by side."""
        return {"embedding": self.contexts(response)}

    def stages(self, params: MLPParams, _response: Response) -> tuple[Stage, ...]:
        """The hidden layer."""
        hidden = {"weight": params["hidden_weight"].T, "bias": params["hidden_bias"]}
        return (Stage({"hidden": hidden}, _apply_hidden, positionwise=True),)

    def head(self, params: MLPParams) -> Head:
        """The last layer."""
        return Head(params["head_weight"], params["head_bias"], None)


def _apply_hidden(layers: Layers, x: Float[Array, "T a"]) -> tuple[Float[Array, "T h"], Inputs]:
    return jnp.tanh(affine(layers["hidden"], x)), {"hidden": x}


def init_params(
    key: Key, model: NGramMLP, *, temperature: float | Float[Array, ""] = 1.0, dtype: DTypeLike | None = None
) -> MLPParams:
    """Standard normal embeddings, weights scaled by 1/√(inputs), biases zero; the head is divided by `temperature`.

    Infinity gives exactly uniform probabilities. Logits have standard deviation below 1/`temperature`.
    """
    require_positive("temperature", temperature)
    keys = dict(zip(model.shapes, jax.random.split(key, len(model.shapes)), strict=True))

    def normal(name: str) -> Array:
        return jax.random.normal(keys[name], model.shapes[name], dtype or float)

    params = {name: jnp.zeros(shape, dtype or float) for name, shape in model.shapes.items()}
    params["embedding"] = normal("embedding")
    for name in ("hidden_weight", "head_weight"):
        params[name] = normal(name) / model.shapes[name][1] ** 0.5
    params["head_weight"] /= jnp.asarray(temperature, dtype or float)
    return params
