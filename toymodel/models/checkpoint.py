"""Converts arrays of pretrained Llama models, under the names of other libraries, to a `Llama` and its parameters."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from toymodel._public import own_names
from toymodel.models.llama import Llama, LlamaParams

__dir__ = own_names(globals())

Arrays = Mapping[str, Float[np.ndarray, "..."]]
#: Layers of a block: our name, that of Hugging Face transformers, that of llama.cpp.
LAYERS = (
    ("attention_norm", "input_layernorm", "attn_norm"),
    ("queries", "self_attn.q_proj", "attn_q"),
    ("keys", "self_attn.k_proj", "attn_k"),
    ("values", "self_attn.v_proj", "attn_v"),
    ("attention_out", "self_attn.o_proj", "attn_output"),
    ("mlp_norm", "post_attention_layernorm", "ffn_norm"),
    ("gate", "mlp.gate_proj", "ffn_gate"),
    ("up", "mlp.up_proj", "ffn_up"),
    ("down", "mlp.down_proj", "ffn_down"),
)


def from_transformers(model: Llama, arrays: Arrays) -> LlamaParams:
    """Parameters from arrays named as `LlamaForCausalLM` of Hugging Face transformers names them.

    Raises:
      ValueError: an array is missing, has the wrong shape, is not finite, or is not in the model, such as a bias.
    """
    names = {ours: theirs for ours, theirs, _ in LAYERS}
    tables = {
        "token_embedding": "model.embed_tokens.weight",
        "final_norm": "model.norm.weight",
        "head": "lm_head.weight",
    }
    return _collect(model, arrays, lambda name, block: f"model.layers.{block}.{names[name]}.weight", tables)


def from_gguf(model: Llama, arrays: Arrays) -> LlamaParams:
    """Parameters from arrays named as in llama.cpp, which stores the two channels of a rotation next to each other.

    Raises:
      ValueError: as for `from_transformers`.
    """
    names = {ours: theirs for ours, _, theirs in LAYERS}
    tables = {"token_embedding": "token_embd.weight", "final_norm": "output_norm.weight", "head": "output.weight"}
    channels = model.dim // model.heads

    def in_halves(name: str, array: np.ndarray) -> np.ndarray:
        if not name.endswith(("attn_q.weight", "attn_k.weight")):
            return array
        return array.reshape(-1, channels // 2, 2, array.shape[-1]).swapaxes(1, 2).reshape(array.shape)

    turned = {name: in_halves(name, array) for name, array in arrays.items()}
    return _collect(model, turned, lambda name, block: f"blk.{block}.{names[name]}.weight", tables)


def _collect(
    model: Llama, arrays: Arrays, of_block: Callable[[str, int], str], tables: Mapping[str, str]
) -> LlamaParams:
    """The model's parameters, each weight as [in, out] where others have [out, in]."""
    left = dict(arrays)

    def take(name: str, shape: tuple[int, ...]) -> np.ndarray:
        if name not in left:
            raise ValueError(f"`{name}` is missing from the weights of a {model}.")
        array = left.pop(name)
        if array.shape != shape:
            raise ValueError(f"`{name}` must have shape {shape}, got {array.shape}.")
        if not np.isfinite(array).all():
            raise ValueError(f"`{name}` must hold finite numbers; the file is damaged.")
        return array

    def block(name: str, shape: dict[str, tuple[int, ...]]) -> dict[str, Any]:
        ((kind, (_, *size)),) = shape.items()
        each = (take(of_block(name, number), tuple(reversed(size))).T for number in range(model.layers))
        return {kind: np.stack(list(each))}

    shapes = model.shapes
    params: LlamaParams = {"blocks": {name: block(name, shape) for name, shape in shapes["blocks"].items()}}
    params["final_norm"] = {"gain": take(tables["final_norm"], shapes["final_norm"]["gain"])}
    params |= {name: take(tables[name], shapes[name]) for name in ("token_embedding", "head") if name in shapes}
    if model.tied:
        left.pop(tables["head"], None)  # some files repeat it
    if left:
        raise ValueError(f"the weights hold {', '.join(left)}, for which a {type(model).__name__} has no place.")
    return params
