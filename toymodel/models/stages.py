"""Neural language models as a sequence of stages, so that `gradients` can follow one through its layers.

    x = Σ_tables E[rows]  →  stage  →  stage  →  …  →  features of the last T positions  →  logits = features Uᵀ + b

Every layer of a stage is affine (x W + b) or a scaling (x ⊙ g + b), with or without its b. Its gradient is then a sum
over positions of the layer's input times the derivative in its output, two factors that are much smaller than the
gradient itself.
"""

from collections.abc import Callable
from typing import NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from toymodel._public import own_names
from toymodel.data.pairs import Response
from toymodel.models.logps import Model, Params

__dir__ = own_names(globals())

Layer = dict[str, Float[Array, "..."]]  # {"weight" [in, out], "bias" [out]} or {"gain" [d], "bias" [d]}; no bias: 0
Layers = dict[str, Layer]
Inputs = dict[str, Float[Array, "S in"]]  # by layer: what its weight or gain multiplies


class Stage(NamedTuple):
    """Some layers of a network, as a function of their weights and of their input."""

    layers: Layers
    apply: Callable[[Layers, Float[Array, "S a"]], tuple[Float[Array, "S b"], Inputs]]
    positionwise: bool = False  # row s of the output depends on row s of the input alone
    repeated: bool = False  # the layers' arrays have a leading axis, and the stage is applied once for each entry of it


class Head(NamedTuple):
    """logits = features Uᵀ + b."""

    weight: Float[Array, "V d"]
    bias: Float[Array, " V"] | None
    table: str | None  # the table whose first V rows are the weight as well, if one is


@runtime_checkable
class Network(Model, Protocol):
    """A `Model` that names its tables, stages and head."""

    def rows(self, response: Response) -> dict[str, Int[Array, "S k"]]:
        """Rows, side by side, that each table among the parameters adds at each position, by name of the table."""

    def stages(self, params: Params, response: Response) -> tuple[Stage, ...]:
        """The stages between tables and head."""

    def head(self, params: Params) -> Head:
        """The last layer."""


def embed(model: Network, params: Params, response: Response) -> Float[Array, "S a"]:
    """Input of the first stage. The tokens of the response are predicted at the last T of the S positions."""
    parts = [params[name][rows].reshape(len(rows), -1) for name, rows in model.rows(response).items()]
    return jnp.sum(jnp.stack(parts), axis=0)


def advance(stage: Stage, x: Float[Array, "S a"]) -> tuple[Float[Array, "S b"], Float[Array, "*L S a"]]:
    """`x` after a stage, and the stage's input: `x`, or one input for each repetition of a repeated stage.

    Repetitions are one compiled loop, so that compile time does not grow with depth.
    """
    if not stage.repeated:
        return stage.apply(stage.layers, x)[0], x
    return jax.lax.scan(lambda x, layers: (stage.apply(layers, x)[0], x), x, stage.layers)


def features(model: Network, params: Params, response: Response) -> Float[Array, "T d"]:
    """The hidden states that the head turns into logits, before each token of one response."""
    x = embed(model, params, response)
    for stage in model.stages(params, response):
        x, _ = advance(stage, x)
    return x[-response.tokens.shape[-1] :]


def logits(model: Network, params: Params, response: Response) -> Float[Array, "T V"]:
    """Logits before each token of one response."""
    weight, bias, _ = model.head(params)
    z = features(model, params, response) @ weight.T
    return z if bias is None else z + bias


def affine(layer: Layer, x: Float[Array, "S in"]) -> Float[Array, "S out"]:
    """X W + b."""
    return x @ layer["weight"] + layer.get("bias", 0)


def standardised(x: Float[Array, "S d"], epsilon: float) -> Float[Array, "S d"]:
    """Shift and scale every row to mean 0 and variance 1 (slightly less, by `epsilon`), as in layer normalisation."""
    centred = x - x.mean(axis=-1, keepdims=True)
    return centred * jax.lax.rsqrt((centred**2).mean(axis=-1, keepdims=True) + epsilon)


def scaled(layer: Layer, x: Float[Array, "S d"]) -> Float[Array, "S d"]:
    """X ⊙ g + b."""
    return x * layer["gain"] + layer.get("bias", 0)


def seen_places(real: Bool[Array, " S"]) -> Bool[Array, "S S"]:
    """Which places each place sees: all real ones up to itself. Padding sees itself, so its softmax is defined."""
    return (real & jnp.tri(len(real), dtype=bool)) | jnp.eye(len(real), dtype=bool)
