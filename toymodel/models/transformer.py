"""A decoder-only transformer of the GPT-2 architecture: learned positions, pre-norm blocks, GELU, tied or untied head.

Each block is x + attention(norm(x)), then x + MLP(norm(x)); a last norm comes before the head. Blocks are stacked
arrays in one compiled loop, so that compile time does not grow with depth. (Radford et al., "Language Models are
Unsupervised Multitask Learners", 2019; the numbers are those of the public implementation, see tests/data/README.md.)
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int

from toymodel._checks import require_int, require_positive
from toymodel._public import own_names
from toymodel._pytree import pytree
from toymodel.data.pairs import Response
from toymodel.models import stages
from toymodel.models.stages import Head, Inputs, Layers, Stage, affine, scaled, standardised

__dir__ = own_names(globals())

Key = Array
TransformerParams = dict[str, Any]
EPSILON = 1e-5  # in the layer norms
ATTENTION = ("attention_norm", "attention_in", "attention_out")
MLP = ("mlp_norm", "mlp_in", "mlp_out")


@partial(pytree, static=["vocab_size", "context_length", "layers", "dim", "heads", "tied"])
@dataclass(frozen=True)
class Transformer:
    """Sizes of the model; it has no frozen arrays.

    A sequence is a start symbol (row V of the token table), the prompt, and the response without its last token: at
    most `context_length` places, padding included. Padding of prompts comes before the start symbol; it is neither
    attended to nor counted as a position.

    Raises:
      ValueError: a size is not a positive whole number, or `heads` does not divide `dim`.
    """

    vocab_size: int
    context_length: int
    layers: int = 2
    dim: int = 32
    heads: int = 4
    tied: bool = True

    def __post_init__(self) -> None:
        require_int("vocab_size", self.vocab_size, low=2)
        for name in ("context_length", "layers", "dim", "heads"):
            require_int(name, getattr(self, name), low=1)
        if self.dim % self.heads:
            raise ValueError(f"`heads` must divide `dim`, got {self.heads} heads and a dim of {self.dim}.")

    @property
    def shapes(self) -> TransformerParams:
        """Shapes of the parameters, in a tree like theirs."""
        V, C, L, d = self.vocab_size, self.context_length, self.layers, self.dim
        sizes = {"attention_in": (d, 3 * d), "attention_out": (d, d), "mlp_in": (d, 4 * d), "mlp_out": (4 * d, d)}
        norm = {"gain": (d,), "bias": (d,)}
        blocks = {name: {"weight": (L, *size), "bias": (L, size[1])} for name, size in sizes.items()}
        blocks |= {name: dict.fromkeys(norm, (L, d)) for name in ("attention_norm", "mlp_norm")}
        head = {} if self.tied else {"head": (V, d)}
        tables = {"token_embedding": (V + 1, d), "position_embedding": (C, d)}
        return tables | {"blocks": blocks, "final_norm": norm} | head

    def logits(self, params: TransformerParams, response: Response) -> Float[Array, "T V"]:
        """Logits before each token of one response, in the dtype of `params`.

        Raises:
          ValueError: the sequence is longer than `context_length`, or `params` has other shapes.
        """
        shapes = jax.tree.map(jnp.shape, params)
        if shapes != self.shapes:
            raise ValueError(f"`params` must have the shapes {self.shapes}, got {shapes}.")
        return stages.logits(self, params, response)

    def rows(self, response: Response) -> dict[str, Int[Array, "S 1"]]:
        """Tokens and positions that the tables add up."""
        P, T = response.prompt.shape[-1], response.tokens.shape[-1]
        if self.context_length < P + T:
            raise ValueError(
                f"`response` must fit {self.context_length} positions (`context_length`), got {P + T}: "
                f"a prompt of {P} and a response of {T} tokens, padding included."
            )
        start = self.vocab_size
        prompt = jnp.where(response.prompt_mask, response.prompt, start)
        tokens = jnp.concatenate([jnp.full(1, start), prompt, response.tokens[:-1]])
        positions = jnp.maximum(jnp.cumsum(_find_real_places(response)) - 1, 0)
        return {"token_embedding": tokens[:, None], "position_embedding": positions[:, None]}

    def stages(self, params: TransformerParams, response: Response) -> tuple[Stage, ...]:
        """All blocks but the last, its two halves (the second one positionwise), and the last norm."""
        seen = stages.seen_places(_find_real_places(response))
        attention, block = partial(self._attend, seen), partial(self._apply_block, seen)
        earlier, last = (jax.tree.map(lambda leaf, at=at: leaf[at], params["blocks"]) for at in (slice(-1), -1))
        return (
            Stage(earlier, block, repeated=True),
            Stage({name: last[name] for name in ATTENTION}, attention),
            Stage({name: last[name] for name in MLP}, _apply_mlp, positionwise=True),
            Stage({"final_norm": params["final_norm"]}, _apply_final_norm, positionwise=True),
        )

    def head(self, params: TransformerParams) -> Head:
        """The token table's rows of real tokens, or a separate matrix."""
        if self.tied:
            return Head(params["token_embedding"][: self.vocab_size], None, "token_embedding")
        return Head(params["head"], None, None)

    def _apply_block(self, seen: Array, layers: Layers, x: Float[Array, "S d"]) -> tuple[Float[Array, "S d"], Inputs]:
        x, attention_inputs = self._attend(seen, layers, x)
        x, mlp_inputs = _apply_mlp(layers, x)
        return x, attention_inputs | mlp_inputs

    def _attend(self, seen: Array, layers: Layers, x: Float[Array, "S d"]) -> tuple[Float[Array, "S d"], Inputs]:
        """X + attention(norm(x)): `seen`[s, r] says whether position s looks at position r."""
        S, d = x.shape
        normal = standardised(x, EPSILON)
        rows = scaled(layers["attention_norm"], normal)
        queries, keys, values = jnp.moveaxis(affine(layers["attention_in"], rows).reshape(S, 3, self.heads, -1), 1, 0)
        scores = jnp.einsum("shc,rhc->hsr", queries, keys) * (d // self.heads) ** -0.5
        weights = jax.nn.softmax(jnp.where(seen, scores, -jnp.inf), axis=-1)
        mixed = jnp.einsum("hsr,rhc->shc", weights, values).reshape(S, d)
        inputs = {"attention_norm": normal, "attention_in": rows, "attention_out": mixed}
        return x + affine(layers["attention_out"], mixed), inputs


def _apply_mlp(layers: Layers, x: Float[Array, "S d"]) -> tuple[Float[Array, "S d"], Inputs]:
    """X + MLP(norm(x))."""
    normal = standardised(x, EPSILON)
    rows = scaled(layers["mlp_norm"], normal)
    hidden = jax.nn.gelu(affine(layers["mlp_in"], rows), approximate=True)
    return x + affine(layers["mlp_out"], hidden), {"mlp_norm": normal, "mlp_in": rows, "mlp_out": hidden}


def _apply_final_norm(layers: Layers, x: Float[Array, "S d"]) -> tuple[Float[Array, "S d"], Inputs]:
    normal = standardised(x, EPSILON)
    return scaled(layers["final_norm"], normal), {"final_norm": normal}


def _find_real_places(response: Response) -> Bool[Array, " S"]:
    """False at padding. The start symbol comes right before the prompt, so the prompt's mask is shifted by one."""
    return jnp.concatenate([response.prompt_mask, jnp.ones(1, bool), response.mask[:-1]])


def init_params(
    key: Key, model: Transformer, *, temperature: float | Float[Array, ""] = 1.0, dtype: DTypeLike | None = None
) -> TransformerParams:
    """Normal weights scaled by 1/√(inputs), those that end in the residual stream by 1/√(2 layers) more; biases zero.

    Tables and head have entries of standard deviation 1/√d, the head divided by `temperature`: untied, logits have
    standard deviation about 1/`temperature`, and infinity gives exactly uniform probabilities. A tied head is the
    token table, which is divided as a whole.
    """
    require_positive("temperature", temperature)
    dtype = dtype or float
    leaves, tree = jax.tree.flatten(model.shapes, is_leaf=lambda leaf: isinstance(leaf, tuple))
    normal = jax.tree.unflatten(
        tree,
        [
            jax.random.normal(k, shape, dtype)
            for k, shape in zip(jax.random.split(key, len(leaves)), leaves, strict=True)
        ],
    )
    ones, zeros = partial(jnp.ones_like, dtype=dtype), partial(jnp.zeros_like, dtype=dtype)

    def norm(like: dict[str, Array]) -> dict[str, Array]:
        return {"gain": ones(like["gain"]), "bias": zeros(like["bias"])}

    def scale(name: str, layer: dict[str, Array]) -> dict[str, Array]:
        if "gain" in layer:
            return norm(layer)
        inputs = layer["weight"].shape[1] * (2 * model.layers if name.endswith("_out") else 1)
        return {"weight": layer["weight"] / inputs**0.5, "bias": zeros(layer["bias"])}

    tables = {name: normal[name] / model.dim**0.5 for name in model.shapes if name not in ("blocks", "final_norm")}
    tables["token_embedding" if model.tied else "head"] /= jnp.asarray(temperature, dtype)
    blocks = {name: scale(name, layer) for name, layer in normal["blocks"].items()}
    return tables | {"blocks": blocks, "final_norm": norm(normal["final_norm"])}
