"""Makes `llama_reference.npz`: what `LlamaForCausalLM` of Hugging Face transformers says of three sequences.

All of it is in float64, norms and the angles of RoPE too, which that model computes in float32 whatever its weights
are: `torch.float32` is `torch.float64` while it runs.

    python tests/data/make_llama_reference.py     # needs torch and transformers: `make reference` installs them

Two models, tied and untied, of 1 and of 3 layers, every weight random, gains of norms too. Sequences are given one by
one, without padding. Attention is torch's own, as the one that model writes out takes softmaxes in float32.
"""

from pathlib import Path
from unittest import mock

import numpy as np

FILE = Path(__file__).with_name("llama_reference.npz")
SIZES = {"vocab_size": 7, "dim": 12, "heads": 3, "hidden": 5, "theta": 100.0, "epsilon": 1e-3}
CASES = {"1_untied": {"layers": 1, "kv_heads": 3, "tied": False}, "3_tied": {"layers": 3, "kv_heads": 1, "tied": True}}
PROMPTS = ((4,), (3, 0), (5, 5, 1))
RESPONSES = ((2, 6, 2, 4), (0,), (1, 1, 3))
T = max(map(len, RESPONSES))


def weight(name, shape, rng):
    """Normal, about 1 for the gain of a norm and about 0 for the rest; of half precision, which makes a small file."""
    gain = "norm" in name
    return ((0.3 if gain else shape[-1] ** -0.5) * rng.standard_normal(shape) + gain).astype(np.float16)


def reference(case):
    """By name: weights, gradients [sequences, …] of each response's log-probability, `logits`, `logps` (nats)."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = SIZES | CASES[case]
    config = LlamaConfig(
        vocab_size=sizes["vocab_size"],
        hidden_size=sizes["dim"],
        intermediate_size=sizes["hidden"],
        num_hidden_layers=sizes["layers"],
        num_attention_heads=sizes["heads"],
        num_key_value_heads=sizes["kv_heads"],
        rms_norm_eps=sizes["epsilon"],
        rope_parameters={"rope_type": "default", "rope_theta": sizes["theta"]},
        tie_word_embeddings=sizes["tied"],
        attn_implementation="sdpa",
        bos_token_id=None,
        eos_token_id=None,
    )
    model = LlamaForCausalLM(config).double().eval()
    channels = sizes["dim"] // sizes["heads"]
    turns = sizes["theta"] ** (-torch.arange(0, channels, 2, dtype=torch.float64) / channels)
    assert torch.equal(turns.float(), model.model.rotary_emb.inv_freq.float())

    def in_float64(_hidden, position_ids):
        angles = (position_ids[..., None] * turns).repeat(1, 1, 2)
        return angles.cos(), angles.sin()

    model.model.rotary_emb.forward = in_float64
    rng = np.random.default_rng([*CASES].index(case))
    parameters = dict(model.named_parameters())  # a tied head is not among them
    assert ("lm_head.weight" in parameters) is not sizes["tied"]
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(torch.from_numpy(weight(name, parameter.shape, rng)))

    logits, logps, gradients = [], [], []
    for prompt, response in zip(PROMPTS, RESPONSES, strict=True):
        with mock.patch.object(torch, "float32", torch.float64):
            outputs = model(input_ids=torch.tensor([[*prompt, *response]]), use_cache=False)
        z = outputs.logits[0, len(prompt) - 1 : -1]
        picked = torch.log_softmax(z, -1)[torch.arange(len(response)), torch.tensor(response)].sum()
        gradients.append(torch.autograd.grad(picked, list(parameters.values())))
        logits.append(np.pad(z.detach().numpy(), ((0, T - len(response)), (0, 0))))
        logps.append(picked.item())
    by_name = dict(zip(parameters, zip(*gradients, strict=True), strict=True))
    return (
        {f"weight/{name}": p.detach().numpy() for name, p in parameters.items()}
        | {f"gradient/{name}": np.stack([g.numpy() for g in grads]) for name, grads in by_name.items()}
        | {"logits": np.stack(logits), "logps": np.array(logps)}
    )


if __name__ == "__main__":
    numbers = {f"{case}/{name}": array for case in CASES for name, array in reference(case).items()}
    np.savez_compressed(FILE, **numbers)
