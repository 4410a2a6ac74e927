"""GPT-2's arrays under the names of Hugging Face transformers, as parameters of ours."""

import jax
import numpy as np


def ours_of(arrays, model):
    """Arrays by the outside names (with any leading axes), as a tree like our parameters."""

    def layer(name):
        weight = "gain" if "ln_" in name else "weight"
        return {weight: arrays[f"transformer.{name}.weight"], "bias": arrays[f"transformer.{name}.bias"]}

    names = {
        "attention_norm": "ln_1",
        "attention_in": "attn.c_attn",
        "attention_out": "attn.c_proj",
        "mlp_norm": "ln_2",
        "mlp_in": "mlp.c_fc",
        "mlp_out": "mlp.c_proj",
    }
    blocks = {
        ours: jax.tree.map(lambda *b: np.stack(b), *(layer(f"h.{i}.{theirs}") for i in range(model.layers)))
        for ours, theirs in names.items()
    }
    head = {} if model.tied else {"head": arrays["lm_head.weight"][: model.vocab_size]}
    tables = {
        "token_embedding": arrays["transformer.wte.weight"],
        "position_embedding": arrays["transformer.wpe.weight"],
    }
    return tables | {"blocks": blocks, "final_norm": layer("ln_f")} | head
