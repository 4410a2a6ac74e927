"""The transformer of `toymodel.models.transformer` in torch, and what people compute with it, each in the usual ways.

Parameters keep their names and shapes; blocks are a list. One response at a time, without padding.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from toymodel.data.pairs import PreferencePairs, Response
from toymodel.models.transformer import EPSILON, Transformer

Tensors = dict[str, torch.Tensor]
Logps = Callable[..., torch.Tensor]  # of a tuple of parameters


class GPT2:
    """A tied transformer with given parameters, and the responses of some pairs."""

    def __init__(self, model: Transformer, params: Any, pairs: PreferencePairs) -> None:
        self.model = model
        arrays = {name: params[name] for name in ("token_embedding", "position_embedding")}
        arrays |= {f"final_norm.{name}": array for name, array in params["final_norm"].items()}
        for layer, leaves in params["blocks"].items():
            for name, stacked in leaves.items():
                arrays |= {f"{layer}.{name}.{depth}": array for depth, array in enumerate(np.asarray(stacked))}
        self.names = tuple(arrays)
        self.params = tuple(torch.tensor(np.asarray(array), requires_grad=True) for array in arrays.values())
        self.pairs = [
            tuple(self._tokens(response) for response in (pair.chosen_response, pair.rejected_response))
            for pair in (pairs[i] for i in range(len(pairs)))
        ]

    def _tokens(self, response: Response) -> tuple[torch.Tensor, torch.Tensor]:
        """What the model reads, and what it predicts at the last of these places."""
        start, tokens = np.full(1, self.model.vocab_size), np.asarray(response.tokens)
        read = np.concatenate([start, np.asarray(response.prompt), tokens[:-1]])
        return torch.tensor(read, dtype=torch.long), torch.tensor(tokens, dtype=torch.long)

    def logps(self, params: tuple[torch.Tensor, ...], read: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """The log-probability of each token of one response, in nats, [T]."""
        p, (S, d) = dict(zip(self.names, params, strict=True)), (len(read), self.model.dim)

        def norm(x: torch.Tensor, name: str, at: str = "") -> torch.Tensor:
            return F.layer_norm(x, (d,), p[f"{name}.gain{at}"], p[f"{name}.bias{at}"], EPSILON)

        def affine(x: torch.Tensor, name: str, at: str) -> torch.Tensor:
            return torch.addmm(p[f"{name}.bias{at}"], x, p[f"{name}.weight{at}"])

        x = p["token_embedding"][read] + p["position_embedding"][:S]
        future = torch.ones(S, S, dtype=torch.bool).triu(1)
        for depth in range(self.model.layers):
            at = f".{depth}"
            joint = affine(norm(x, "attention_norm", at), "attention_in", at)
            queries, keys, values = joint.view(S, 3, self.model.heads, -1).permute(1, 2, 0, 3)
            scores = queries @ keys.transpose(1, 2) / (d // self.model.heads) ** 0.5
            mixed = scores.masked_fill(future, -torch.inf).softmax(-1) @ values
            x = x + affine(mixed.transpose(0, 1).reshape(S, d), "attention_out", at)
            hidden = F.gelu(affine(norm(x, "mlp_norm", at), "mlp_in", at), approximate="tanh")
            x = x + affine(hidden, "mlp_out", at)
        logits = norm(x[-len(tokens) :], "final_norm") @ p["token_embedding"][:-1].T
        return logits.log_softmax(-1).gather(1, tokens[:, None])[:, 0]


def loop_gradients(gpt2: GPT2, read: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """[T, parameters]: a backward pass per token, every gradient flattened and kept."""
    logps = gpt2.logps(gpt2.params, read, tokens)
    rows = [torch.autograd.grad(logp, gpt2.params, retain_graph=True) for logp in logps]
    return torch.stack([torch.cat([leaf.flatten() for leaf in row]) for row in rows])


def func_gradients(gpt2: GPT2, read: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """[T, parameters]: all backward passes at once, by `torch.func`."""
    _, pull = torch.func.vjp(lambda params: gpt2.logps(params, read, tokens), gpt2.params)
    (rows,) = torch.func.vmap(pull)(torch.eye(len(tokens)))
    return torch.cat([leaf.flatten(1) for leaf in rows], dim=1)


def cosines(gpt2: GPT2, token_gradients: Callable[..., torch.Tensor]) -> torch.Tensor:
    """[T, T] of the first pair."""
    chosen, rejected = (F.normalize(token_gradients(gpt2, *response).detach()) for response in gpt2.pairs[0])
    return chosen @ rejected.T


def pair_grams(gpt2: GPT2) -> torch.Tensor:
    """[pairs, 3]: ‖g_w‖², ‖g_l‖² and ⟨g_w, g_l⟩, one pair after the other."""

    def gradient(read: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        leaves = torch.autograd.grad(gpt2.logps(gpt2.params, read, tokens).sum(), gpt2.params)
        return torch.cat([leaf.flatten() for leaf in leaves])

    pairs = ((gradient(*chosen), gradient(*rejected)) for chosen, rejected in gpt2.pairs)
    return torch.stack([torch.stack([w @ w, l @ l, w @ l]) for w, l in pairs])  # noqa: E741
