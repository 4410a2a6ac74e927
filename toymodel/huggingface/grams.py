"""Gram entries of preference pairs for a torch language model, parameter by parameter, without building its gradient.

Both answers of a pair go through the model as one batch of two, and back in one pass. Parameters are frozen meanwhile,
so their gradients are not built: hooks (`recorder`) keep the input of each trained module, and when the derivative of
its output arrives, that module is reduced to three numbers (`uses`) and freed. A parameter that several modules share,
such as a tied table, waits for all of them. The last layer is cut along the vocabulary, so the derivatives of many
logits, [tokens, V], are never in memory at once.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import lazy_loader
import numpy as np

from toymodel._public import own_names
from toymodel._texts import TokenPair
from toymodel.huggingface.recorder import Recorder
from toymodel.huggingface.uses import Built, Head

if TYPE_CHECKING:
    import torch
else:
    torch = lazy_loader.load("torch")

__dir__ = own_names(globals())

ENTRIES = ("chosen_sq", "rejected_sq", "inner")


def measure_pairs(model: Any, pairs: Iterable[tuple[Sequence[int], ...]]) -> dict[str, Any]:
    """Log-probabilities, lengths and Gram entries of N pairs for a torch model: the input of `toymodel.diagnose`.

    The entries equal the products of two gradients, up to round-off, in the precision of the model; sums are in
    float64. The gradients are those of log π(answer | prompt), summed over the answer's tokens, with respect to the
    parameters that require one: with LoRA, the adapters'. Dropout is off. The model is left as it was.

    Args:
      model: a causal language model of Hugging Face transformers, or a peft model around one.
      pairs: (prompt, chosen, rejected), three lists of token ids for each pair; none may be empty.

    Returns:
      `chosen_logps`, `rejected_logps` (nats), `chosen_lengths`, `rejected_lengths` (tokens), [N] each; `chosen_sq`,
      `rejected_sq` and `inner` by name of the parameter, [N] each. Tied parameters have one name.

    Raises:
      ValueError: a prompt or an answer is empty or has an unknown token, no parameter is trained, or a trained
        parameter is in a module that cannot be followed; the message names it.
    """
    rows, found = [], []
    with _frozen(model) as trained:
        if not trained:
            raise ValueError("the model has no parameter that requires a gradient.")
        for pair in map(TokenPair._make, pairs):
            logps, entries = _measure(model, trained, pair)
            rows.append((*logps, len(pair.chosen), len(pair.rejected)))
            found.append(entries)
    names = ("chosen_logps", "rejected_logps", "chosen_lengths", "rejected_lengths")
    arrays: dict[str, Any] = dict(zip(names, np.array(rows).reshape(-1, 4).T, strict=True))
    for i, entry in enumerate(ENTRIES):
        arrays[entry] = {name: np.array([entries[name][i] for entries in found]) for name in (found or [{}])[0]}
    return arrays


def pair_logps(model: Any, pairs: Iterable[tuple[Sequence[int], ...]]) -> np.ndarray:
    """log π of both answers of N pairs in nats, summed over their tokens, [N, 2]: chosen first. No gradients.

    Raises:
      ValueError: as for `measure_pairs`, except about trained parameters.
    """
    with _frozen(model), torch.no_grad():
        passes = (_Forward(model, pair) for pair in map(TokenPair._make, pairs))
        rows = [(p.last_layer().logps if p.plain else p.logps()).tolist() for p in passes]
    return np.array(rows).reshape(-1, 2)


@contextmanager
def _frozen(model: Any) -> Iterator[dict[str, Any]]:
    """The trained parameters by name, none of which requires a gradient here, and no dropout."""
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    training = [module for module in model.modules() if module.training]
    model.eval()
    for parameter in trained.values():
        parameter.requires_grad_(False)
    try:
        yield trained
    finally:
        for parameter in trained.values():
            parameter.requires_grad_(True)
        for module in training:
            module.training = True


def _measure(model: Any, trained: dict[str, Any], pair: TokenPair) -> tuple[list[float], dict[str, list[float]]]:
    """Both log-probabilities of a pair, and the three entries of each trained parameter."""
    recorder = Recorder(model, trained)
    with torch.enable_grad():
        forward = _Forward(model, pair, recorder)
        head, features = forward.head, forward.features
        if not forward.plain:
            with _hooked(recorder.hook(head.modules())):
                logps = forward.logps()
            logps.sum().backward()
        else:
            last = forward.last_layer()
            logps, back = last.logps, last.go_back(*(id(p) in recorder.names for p in (head.weight, head.bias)))
            recorder.expect(head)
            recorder.take(head.weight, last)
            recorder.take(head.bias, Built(last.bias_gradient))
            if features.requires_grad:
                features.backward(back)
    return logps.tolist(), recorder.finish()


class _Forward:
    """Both answers of a pair on their way through a model, up to its last layer.

    Padding is on the right, where it cannot affect real tokens in a causal model.

    `features` [2, T, d] are the inputs of the last layer that predict the answers' tokens; `plain` says whether a
    single linear layer turns them into logits.
    """

    def __init__(self, model: Any, pair: TokenPair, recorder: Recorder | None = None) -> None:
        for name, ids in pair._asdict().items():
            if not len(ids):
                raise ValueError(f"a {name} has no tokens; prompt and answers need at least one.")
        largest, known = max(map(max, pair)), model.get_input_embeddings().weight.shape[0]
        if largest >= known:
            raise ValueError(
                f"token {largest} is not among the model's {known}; does the tokenizer belong to another model?"
            )
        self.model, self.head = model, model.get_output_embeddings()
        device, T = self.head.weight.device, max(len(pair.chosen), len(pair.rejected))
        sides = [[*side, *[0] * (T - len(side))] for side in (pair.chosen, pair.rejected)]
        self.answers = torch.tensor(sides, device=device)
        self.mask = torch.tensor([[i < len(side) for i in range(T)] for side in pair[1:]], device=device)
        prompts = torch.tensor([[*pair.prompt]] * 2, device=device)
        self.tokens = torch.cat([prompts, self.answers[:, :-1]], dim=1)  # the last token predicts nothing
        went_in = []

        def cut(_module: Any, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
            went_in.append(inputs[0])
            return (inputs[0][:, :1].detach(),)  # logits of one position are enough here

        handles = recorder.hook(set(model.modules()) - set(self.head.modules())) if recorder else []
        with _hooked([*handles, self.head.register_forward_pre_hook(cut)]):
            shown = model(input_ids=self.tokens, use_cache=False).logits
        self.features = went_in[0][:, len(pair.prompt) - 1 :]
        # Some models scale or cap the output of their last layer, which is detected here.
        linear = type(self.head).forward is torch.nn.Linear.forward
        self.plain = linear and torch.equal(shown, self.head(went_in[0][:, :1].detach()).to(shown))

    def last_layer(self) -> Head:
        """The last layer by itself, if it is plain."""
        return Head(self.features.detach(), self.head.weight, self.head.bias, self.answers, self.mask)

    def logps(self) -> Any:
        """Both log-probabilities [2], with whatever the model does to its last layer's output.

        The model's own code runs on a single token, whose features are replaced by these.
        """
        with _hooked([self.head.register_forward_pre_hook(lambda *_: (self.features,))]):
            logits = self.model(input_ids=self.tokens[:1, :1], use_cache=False).logits
        wide = torch.promote_types(logits.dtype, torch.float32)
        picked = torch.log_softmax(logits.to(wide), -1).gather(-1, self.answers[..., None])[..., 0]
        return (picked * self.mask).sum(1)


@contextmanager
def _hooked(handles: list[Any]) -> Iterator[None]:
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
