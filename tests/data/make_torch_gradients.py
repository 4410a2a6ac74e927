"""Makes `torch_gradients.npz`: what `examples/torch_gradients.py` finds in a random tiny GPT-2, in float64.

    PYTHONPATH=.:tests python -m data.make_torch_gradients     # needs torch and transformers

The models are `1_tied` and `1_untied` of `gpt2_reference.npz`, with the weights that are stored there. Token V starts
every prompt. To GPT-2 it is a token like others; `tied_without_start` never predicts it, and neither does our model.
"""

from pathlib import Path

import numpy as np
from data import make_gpt2_reference as outside

FILE = Path(__file__).with_name("torch_gradients.npz")
CHOSEN = ((2, 6, 2, 4), (0,), (1, 1, 3))
REJECTED = ((3, 6, 2, 4), (5, 2), (1, 1, 2))
PAIRS = [([outside.V, *x], w, l) for x, w, l in zip(outside.PROMPTS, CHOSEN, REJECTED, strict=True)]  # noqa: E741
CASES = {"untied": "1_untied", "tied": "1_tied", "tied_without_start": "1_tied"}


def gpt2(case):
    """The outside model of a case, with the stored weights."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    sizes = {"vocab_size": outside.V + 1, "n_positions": outside.CONTEXT, "n_embd": outside.DIM, "n_layer": 1}
    ids = {"bos_token_id": outside.V, "eos_token_id": outside.V}
    config = GPT2Config(**sizes, **ids, n_head=outside.HEADS, tie_word_embeddings=case != "untied")
    model = GPT2LMHeadModel(config).double()
    with np.load(outside.FILE) as file, torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(torch.from_numpy(file[f"{CASES[case]}/weight/{name}"]))
    if case == "tied_without_start":
        model.register_forward_hook(_without_start)
    return model


def _without_start(_model, _inputs, outputs):
    outputs.logits = outputs.logits[..., : outside.V]
    return outputs


def arrays(case):
    """By name: both ways of the example, which share their log-probabilities."""
    from examples import torch_gradients

    model = gpt2(case)
    return torch_gradients.gram_entries(model, PAIRS) | torch_gradients.whole_gradients(model, PAIRS)


if __name__ == "__main__":
    np.savez_compressed(FILE, **{f"{case}/{name}": a for case in CASES for name, a in arrays(case).items()})
