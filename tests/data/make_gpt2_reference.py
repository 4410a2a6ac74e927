"""Makes `gpt2_reference.npz`: what `GPT2LMHeadModel` of Hugging Face transformers says of three sequences, in float64.

    python tests/data/make_gpt2_reference.py     # needs torch and transformers: `make reference` installs them

Two models, tied and untied, each of 1 and of 3 layers, every weight random, biases and norms' gains too. Token V is the
start symbol, so the outside vocabulary has V + 1 tokens, of which the first V are predicted. Sequences are padded the
customary way, [padding, start, prompt, response, padding], with an attention mask and position ids to say so.
"""

from pathlib import Path

import numpy as np

FILE = Path(__file__).with_name("gpt2_reference.npz")
V, CONTEXT, DIM, HEADS = 7, 10, 6, 3
CASES = {f"{layers}_{kind}": (layers, kind == "tied") for layers in (1, 3) for kind in ("tied", "untied")}
PROMPTS = ((), (3, 0), (5, 5, 1))
RESPONSES = ((2, 6, 2, 4), (0,), (1, 1, 3))
P, T = (max(map(len, rows)) for rows in (PROMPTS, RESPONSES))
SPREAD = {"wte": 1.0, "wpe": 0.5, "ln_": 0.3, "bias": 0.3}  # by part of the name; other weights: 1/√(inputs)


def weight(name, shape, rng):
    """Normal, about 1 for the gain of a norm and about 0 for the rest; of half precision, which makes a small file."""
    spread = next((s for part, s in SPREAD.items() if part in name), DIM**-0.5 if "head" in name else shape[0] ** -0.5)
    return (spread * rng.standard_normal(shape) + ("ln_" in name and "weight" in name)).astype(np.float16)


def places(row):
    """Tokens of one sequence and which of them are real."""
    prompt, response = PROMPTS[row], RESPONSES[row]
    left, right = P - len(prompt), T - len(response)
    tokens = [0] * left + [V, *prompt, *response] + [0] * right
    return tokens, [0] * left + [1] * (1 + len(prompt) + len(response)) + [0] * right


def reference(layers, tied, seed=0):
    """By name: weights, gradients [sequences, …] of each response's log-probability, `logits`, `logps` (nats)."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=V + 1,
        n_positions=CONTEXT,
        n_embd=DIM,
        n_layer=layers,
        n_head=HEADS,
        tie_word_embeddings=tied,
        attn_implementation="eager",
        bos_token_id=V,
        eos_token_id=V,
    )
    model = GPT2LMHeadModel(config).double().eval()  # eval: no dropout
    rng = np.random.default_rng(seed)
    parameters = dict(model.named_parameters())  # a tied head is not among them
    assert ("lm_head.weight" in parameters) is not tied
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(torch.from_numpy(weight(name, parameter.shape, rng)))

    logits, logps, gradients = [], [], []
    for row, response in enumerate(RESPONSES):
        tokens, real = (torch.tensor(a)[None] for a in places(row))
        positions = (real.cumsum(-1) - 1).clamp(min=0)
        outputs = model(input_ids=tokens, attention_mask=real, position_ids=positions, use_cache=False)
        z = outputs.logits[0, P : P + T, :V]
        picked = torch.log_softmax(z, -1)[torch.arange(len(response)), torch.tensor(response)].sum()
        gradients.append(torch.autograd.grad(picked, list(parameters.values())))
        logits.append(z.detach().numpy())
        logps.append(picked.item())
    by_name = dict(zip(parameters, zip(*gradients, strict=True), strict=True))
    return (
        {f"weight/{name}": p.detach().numpy() for name, p in parameters.items()}
        | {f"gradient/{name}": np.stack([g.numpy() for g in grads]) for name, grads in by_name.items()}
        | {"logits": np.stack(logits), "logps": np.array(logps)}
    )


def every_case():
    """All cases in one flat dictionary, `case/name`, with the sequences they all share."""
    tokens, real = np.swapaxes([places(row) for row in range(len(RESPONSES))], 0, 1)
    return {"tokens": tokens, "real": real} | {
        f"{case}/{name}": array
        for seed, (case, sizes) in enumerate(CASES.items())
        for name, array in reference(*sizes, seed=seed).items()
    }


if __name__ == "__main__":
    np.savez_compressed(FILE, **every_case())
