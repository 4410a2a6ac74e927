"""Gradients of log-probabilities from a causal language model in torch.

Copy what you need: it takes torch and numpy. As a script it tries all three ways on a
small random GPT-2:

    python examples/torch_gradients.py    # needs torch and transformers; three files
    toymodel diagnose gram.npz            # likewise gradients.npz and layers.npz

A pair is three lists of token ids, (prompt, chosen, rejected). A prompt has at least
one token, because a token is predicted from those before it; the first may be the start
or end-of-text token. log π(y | x) is the sum over the tokens of the response, in nats.
Parameters are those that require a gradient: with LoRA only the adapters', and tied
weights count once. It is one response at a time (the gradients of a padded batch would
come summed), without dropout, in the precision of the model. float32 will do; in
bfloat16 norms and inner products have two digits or three.

`toymodel.huggingface` computes the three numbers of a pair without gradients, in a
third of the time; this is for the gradients themselves, and plain enough to check it
by. In JAX, `jax.grad` gives the same arrays: `toymodel.diagnose(chosen_grad=...,
rejected_grad=...)`, [N, P] each.
"""

import numpy as np
import torch


def response_logp(model, prompt, response):
    """log π(response | prompt) in nats, a tensor that can be differentiated."""
    device = next(model.parameters()).device
    tokens = torch.tensor([[*prompt, *response]], device=device)
    before = model(tokens[:, :-1]).logits[0, len(prompt) - 1 :]  # each token's logits
    logps = torch.log_softmax(before, -1)
    return logps.gather(-1, tokens[0, len(prompt) :, None]).sum()


def logp_and_gradient(model, prompt, response):
    """log π(response | prompt), and its gradient: name of the parameter → tensor."""
    trained = {
        name: parameter
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }
    logp = response_logp(model, prompt, response)
    parts = torch.autograd.grad(logp, [*trained.values()], materialize_grads=True)
    return logp.item(), dict(zip(trained, parts, strict=True))


def gram_entries(model, pairs):
    """The three numbers that decide a pair's case. It holds two gradients at a time."""
    model.eval()
    rows = []
    for prompt, chosen, rejected in pairs:
        logp_w, g_w = logp_and_gradient(model, prompt, chosen)
        logp_l, g_l = logp_and_gradient(model, prompt, rejected)
        rows.append(
            (
                logp_w,
                logp_l,
                inner_product(g_w, g_w),
                inner_product(g_l, g_l),
                inner_product(g_w, g_l),
            )
        )
    names = ("chosen_logps", "rejected_logps", "chosen_sq", "rejected_sq", "inner")
    return dict(zip(names, np.transpose(rows), strict=True))


def inner_product(gradient, other):
    """⟨gradient, other⟩, summed in float64."""
    return sum(
        (gradient[name].double() * other[name].double()).sum().item()
        for name in gradient
    )


def gradients_by_layer(model, pairs):
    """All gradients, [N, *shape] of each parameter: for layers, and for joint steps."""
    model.eval()
    arrays = {}
    for prompt, *responses in pairs:
        for side, response in zip(("chosen", "rejected"), responses, strict=True):
            logp, gradient = logp_and_gradient(model, prompt, response)
            arrays.setdefault(f"{side}_logps", []).append(logp)
            for name, part in gradient.items():
                wide = part.to(
                    "cpu", torch.promote_types(part.dtype, torch.float32)
                )  # numpy has no bfloat16
                arrays.setdefault(f"{side}_grad/{name}", []).append(wide.numpy())
    return {name: np.stack(rows) for name, rows in arrays.items()}


def whole_gradients(model, pairs):
    """The same in two arrays, `chosen_grad` and `rejected_grad` [N, P]."""
    arrays = gradients_by_layer(model, pairs)
    whole = {name: arrays.pop(name) for name in ("chosen_logps", "rejected_logps")}
    for side in ("chosen_grad", "rejected_grad"):
        parts = [
            part.reshape(len(part), -1)
            for name, part in arrays.items()
            if name.startswith(side)
        ]
        whole[side] = np.concatenate(parts, axis=1)
    return whole


if __name__ == "__main__":
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    sizes = {
        "vocab_size": 50,
        "n_positions": 16,
        "n_embd": 16,
        "n_layer": 2,
        "n_head": 4,
    }
    model = GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=0, eos_token_id=0))
    # Yours: AutoModelForCausalLM.from_pretrained(...), tokenizer(text)["input_ids"].
    pairs = [([0, 7, 3], [5, 9, 9, 2], [6, 9, 9, 2]), ([0, 4], [8, 1], [1, 8, 30])]
    np.savez("gram.npz", **gram_entries(model, pairs))
    np.savez("layers.npz", **gradients_by_layer(model, pairs))
    np.savez("gradients.npz", **whole_gradients(model, pairs))
