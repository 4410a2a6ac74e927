"""A decoder-only transformer of the Llama architecture, as in pretrained models.

Each block is x + attention(norm(x)), then x + MLP(norm(x)), as in `transformer`; but norms only scale (RMSNorm),
positions rotate queries and keys (RoPE), a few queries share a key and a value, the MLP is gated (SwiGLU), and no layer
has a bias. (Touvron et al., "LLaMA: Open and Efficient Foundation Language Models", 2023; the numbers are those of the
public implementation, see tests/data/README.md.)
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from toymodel._checks import require_int, require_positive
from toymodel._public import own_names
from toymodel._pytree import pytree
from toymodel.data.pairs import Response
from toymodel.models import stages
from toymodel.models.stages import Head, Inputs, Layers, Stage, affine, scaled

__dir__ = own_names(globals())

LlamaParams = dict[str, Any]
ATTENTION = ("attention_norm", "queries", "keys", "values", "attention_out")
MLP = ("mlp_norm", "gate", "up", "down")
#: What a block keeps for its derivative: products of matrices. All else is quicker to compute again than to read.
MEMORY = jax.checkpoint_policies.dots_saveable
SIZES = ("vocab_size", "layers", "dim", "heads", "kv_heads", "hidden")


@partial(pytree, static=[*SIZES, "tied", "epsilon", "theta"])
@dataclass(frozen=True)
class Llama:
    """Sizes of the model; it has no frozen arrays.

    A sequence is the prompt and the response without its last token. There is no start symbol: a prompt has at least
    one real token, and includes the tokenizer's start symbol if one is wanted. Padding of prompts comes first; it
    is neither attended to nor counted as a position.

    Raises:
      ValueError: a size is not a positive whole number, `heads` does not divide `dim` into an even number of channels,
        or `kv_heads` does not divide `heads`; `epsilon` or `theta` is not positive.
    """

    vocab_size: int
    layers: int
    dim: int
    heads: int  # of queries
    kv_heads: int  # of keys and values
    hidden: int  # width of the MLP
    tied: bool = True
    epsilon: float = 1e-5  # in the norms
    theta: float = 1e4  # of RoPE: the slowest channel turns by about 1/θ a position

    def __post_init__(self) -> None:
        for name in SIZES:
            require_int(name, getattr(self, name), low=2 if name == "vocab_size" else 1)
        for name in ("epsilon", "theta"):
            require_positive(name, getattr(self, name))
        if self.dim % (2 * self.heads):
            raise ValueError(
                f"`heads` must divide `dim` into an even number of channels, got {self.heads} heads and a dim of "
                f"{self.dim}."
            )
        if self.heads % self.kv_heads:
            raise ValueError(f"`kv_heads` must divide `heads`, got {self.kv_heads} and {self.heads}.")

    @property
    def shapes(self) -> LlamaParams:
        """Shapes of the parameters, in a tree like theirs."""
        V, L, d, m = self.vocab_size, self.layers, self.dim, self.hidden
        shared = d // self.heads * self.kv_heads
        weights = {"queries": (d, d), "keys": (d, shared), "values": (d, shared), "attention_out": (d, d)}
        weights |= {"gate": (d, m), "up": (d, m), "down": (m, d)}
        blocks: LlamaParams = {name: {"weight": (L, *size)} for name, size in weights.items()}
        blocks |= {name: {"gain": (L, d)} for name in ("attention_norm", "mlp_norm")}
        head = {} if self.tied else {"head": (V, d)}
        return {"token_embedding": (V, d), "blocks": blocks, "final_norm": {"gain": (d,)}} | head

    def logits(self, params: LlamaParams, response: Response) -> Float[Array, "T V"]:
        """Logits before each token of one response, in the dtype of `params`.

        Raises:
          ValueError: the prompt is empty, or `params` has other shapes.
        """
        shapes = jax.tree.map(jnp.shape, params)
        if shapes != self.shapes:
            raise ValueError(f"`params` must have the shapes {self.shapes}, got {shapes}.")
        return stages.logits(self, params, response)

    def rows(self, response: Response) -> dict[str, Int[Array, "S 1"]]:
        """The token at each position."""
        if not response.prompt.shape[-1]:
            raise ValueError("`response` must have a prompt: this model has no start symbol of its own.")
        prompt = jnp.where(response.prompt_mask, response.prompt, 0)
        return {"token_embedding": jnp.concatenate([prompt, response.tokens[:-1]])[:, None]}

    def stages(self, params: LlamaParams, response: Response) -> tuple[Stage, ...]:
        """All blocks but the last, its two halves (the second one positionwise), and the last norm."""
        real = jnp.concatenate([response.prompt_mask, response.mask[:-1]])
        attention = partial(self._attend, real)
        block = jax.checkpoint(partial(self._apply_block, real), policy=MEMORY)
        earlier, last = (jax.tree.map(lambda leaf, at=at: leaf[at], params["blocks"]) for at in (slice(-1), -1))
        return (
            Stage(earlier, block, repeated=True),
            Stage({name: last[name] for name in ATTENTION}, attention),
            Stage({name: last[name] for name in MLP}, self._apply_mlp, positionwise=True),
            Stage({"final_norm": params["final_norm"]}, self._apply_final_norm, positionwise=True),
        )

    def head(self, params: LlamaParams) -> Head:
        """The token table, or a separate matrix."""
        if self.tied:
            return Head(params["token_embedding"], None, "token_embedding")
        return Head(params["head"], None, None)

    def _apply_block(self, real: Array, layers: Layers, x: Float[Array, "S d"]) -> tuple[Float[Array, "S d"], Inputs]:
        x, attention_inputs = self._attend(real, layers, x)
        x, mlp_inputs = self._apply_mlp(layers, x)
        return x, attention_inputs | mlp_inputs

    def _attend(self, real: Array, layers: Layers, x: Float[Array, "S d"]) -> tuple[Float[Array, "S d"], Inputs]:
        """X + attention(norm(x))."""
        S, d = x.shape
        normal = self._normalise(x)
        rows = scaled(layers["attention_norm"], normal)
        positions = jnp.maximum(jnp.cumsum(real) - 1, 0)
        queries = self._turn(affine(layers["queries"], rows), positions)
        queries = queries.reshape(S, self.kv_heads, -1, d // self.heads)  # the g queries of each key and value
        keys = self._turn(affine(layers["keys"], rows), positions)
        values = affine(layers["values"], rows).reshape(S, self.kv_heads, -1)
        scores = jnp.einsum("skgc,rkc->kgsr", queries, keys) * (d // self.heads) ** -0.5
        weights = jax.nn.softmax(jnp.where(stages.seen_places(real), scores, -jnp.inf), axis=-1)
        mixed = jnp.einsum("kgsr,rkc->skgc", weights, values).reshape(S, d)
        inputs = dict.fromkeys(("queries", "keys", "values"), rows) | {"attention_norm": normal, "attention_out": mixed}
        return x + affine(layers["attention_out"], mixed), inputs

    def _turn(self, x: Float[Array, "S h*c"], positions: Int[Array, " S"]) -> Float[Array, "S h c"]:
        """RoPE: channels j and j + c/2 of each head are rotated by position · θ^(−2j/c)."""
        channels = self.dim // self.heads
        angles = positions[:, None] * self.theta ** (-jnp.arange(0, channels, 2, dtype=x.dtype) / channels)
        cos, sin = jnp.cos(angles)[:, None], jnp.sin(angles)[:, None]
        one, other = jnp.split(x.reshape(len(x), -1, channels), 2, axis=-1)
        return jnp.concatenate([one * cos - other * sin, other * cos + one * sin], axis=-1)

    def _apply_mlp(self, layers: Layers, x: Float[Array, "S d"]) -> tuple[Float[Array, "S d"], Inputs]:
        """X + MLP(norm(x)), gated by SiLU."""
        normal = self._normalise(x)
        rows = scaled(layers["mlp_norm"], normal)
        hidden = jax.nn.silu(affine(layers["gate"], rows)) * affine(layers["up"], rows)
        return x + affine(layers["down"], hidden), {"mlp_norm": normal, "gate": rows, "up": rows, "down": hidden}

    def _apply_final_norm(self, layers: Layers, x: Float[Array, "S d"]) -> tuple[Float[Array, "S d"], Inputs]:
        normal = self._normalise(x)
        return scaled(layers["final_norm"], normal), {"final_norm": normal}

    def _normalise(self, x: Float[Array, "S d"]) -> Float[Array, "S d"]:
        """Scale every row to a mean square of 1 (slightly less, by ε)."""
        return x * jax.lax.rsqrt((x**2).mean(axis=-1, keepdims=True) + self.epsilon)


def init_params(
    key: Array, model: Llama, *, temperature: float | Float[Array, ""] = 1.0, dtype: DTypeLike | None = None
) -> LlamaParams:
    """Normal weights scaled by 1/√(inputs), those that end in the residual stream by 1/√(2 layers) more; gains 1.

    Table and head have entries of standard deviation 1/√d; the one that makes logits is divided by `temperature`.
    """
    require_positive("temperature", temperature)
    leaves, tree = jax.tree.flatten_with_path(model.shapes, is_leaf=lambda leaf: isinstance(leaf, tuple))

    def draw(key: Array, path: Any, shape: tuple[int, ...]) -> Array:
        if path[-1].key == "gain":
            return jnp.ones(shape, dtype or float)
        outward = path[-2].key in ("attention_out", "down") if len(path) > 1 else False
        inputs = (shape[-2] if len(path) > 1 else model.dim) * (2 * model.layers if outward else 1)
        return jax.random.normal(key, shape, dtype or float) / inputs**0.5

    keys = jax.random.split(key, len(leaves))
    params: LlamaParams = jax.tree.unflatten(tree, [draw(k, *leaf) for k, leaf in zip(keys, leaves, strict=True)])
    params["token_embedding" if model.tied else "head"] /= jnp.asarray(temperature, dtype or float)
    return params
