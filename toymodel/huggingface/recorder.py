"""Hooks that follow how each trained module of a torch model uses its parameters, forward and backward.

A module that is neither a linear layer nor an embedding, such as a layer norm, is run again by itself, and autograd
builds its gradient. It must return one tensor whose rows are the two answers.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import lazy_loader

from toymodel._public import own_names
from toymodel.huggingface.uses import Built, Places, Rows, multiply_uses

if TYPE_CHECKING:
    import torch
else:
    torch = lazy_loader.load("torch")

__dir__ = own_names(globals())


class Recorder:
    """Collects how each trained module uses its parameters, and reduces a parameter when all its uses are known."""

    def __init__(self, model: Any, trained: dict[str, Any]) -> None:
        self.names = {id(parameter): name for name, parameter in trained.items()}
        self.modules = {module: name for name, module in model.named_modules()}
        self.expected: Counter[int] = Counter()
        self.uses: dict[int, list[Any]] = defaultdict(list)
        self.entries: dict[str, list[float]] = {}
        self.silent = False

    def hook(self, modules: Iterable[Any]) -> list[Any]:
        """Record what these modules do, until the handles are removed."""
        mine = [module for module in modules if self.own(module)]
        return [module.register_forward_hook(self._record, with_kwargs=True) for module in mine]

    def own(self, module: Any) -> dict[str, Any]:
        """The module's own trained parameters, by their names in it."""
        return {name: p for name, p in module.named_parameters(recurse=False) if id(p) in self.names}

    def _record(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        if self.silent:
            return None
        if not isinstance(output, torch.Tensor) or output.shape[0] not in (1, 2):
            what = f"shape {[*output.shape]}" if isinstance(output, torch.Tensor) else type(output).__name__
            raise ValueError(
                f"cannot follow `{self.modules[module]}` ({type(module).__name__}), whose parameters are trained: it "
                f"must return one tensor with a row for each of the two answers, got {what}."
            )
        self.expect(module)
        if output.shape[0] == 1:  # one row for both, as position embeddings have: each answer gets its own derivative
            output = output.expand(2, *output.shape[1:])
        if not output.requires_grad:  # nothing before is trained; a copy, since a leaf must not be changed in place
            output = output.detach().requires_grad_().clone()
        args = tuple(x.detach() if isinstance(x, torch.Tensor) else x for x in args)
        output.register_hook(partial(self._arrive, module, args, kwargs, _versions(args)))
        return output

    def expect(self, module: Any) -> None:
        """Expect one more use of each of a module's own parameters."""
        self.expected.update(map(id, self.own(module).values()))

    def _arrive(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], were: list[int], deltas: Any) -> None:
        if _versions(args) != were:
            raise ValueError(f"cannot follow `{self.modules[module]}`: its input is overwritten later.")
        for parameter, use in self._follow(module, args, kwargs, deltas.detach()):
            self.take(parameter, use)

    def _follow(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], deltas: Any) -> Iterator[Any]:
        """Yield each trained parameter of a module with its use."""
        own, forward = self.own(module), type(module).forward
        if forward is torch.nn.Embedding.forward and module.max_norm is None and not module.scale_grad_by_freq:
            yield module.weight, Rows.of(args[0], deltas, module)
            return
        transposed = type(module).__name__ == "Conv1D" and type(module).__module__ == "transformers.pytorch_utils"
        if forward is not torch.nn.Linear.forward and not transposed:
            self.silent = True
            yield from zip(own.values(), _build(module, own, args, kwargs, deltas), strict=True)
            self.silent = False
            return
        inputs, deltas = (x.expand(2, *x.shape[1:]).reshape(2, -1, x.shape[-1]) for x in (args[0], deltas))
        if "weight" in own:
            yield own["weight"], Places(deltas, inputs) if transposed else Places(inputs, deltas)
        if "bias" in own:
            yield own["bias"], Built(deltas.sum(1))

    def take(self, parameter: Any, use: Any) -> None:
        """Add one more use of a parameter; do nothing if it is not trained."""
        if id(parameter) not in self.names:
            return
        uses = self.uses[id(parameter)]
        uses.append(use)
        if len(uses) == self.expected[id(parameter)]:
            self._reduce(id(parameter))

    def _reduce(self, parameter: int) -> None:
        self.entries[self.names[parameter]] = multiply_uses(self.uses.pop(parameter)).tolist()

    def finish(self) -> dict[str, list[float]]:
        """The three entries by name of the parameter, in the model's order."""
        for parameter in [*self.uses]:  # some of its uses affect no answer
            self._reduce(parameter)
        for parameter, name in self.names.items():
            if name not in self.entries and not self.expected[parameter]:
                raise ValueError(f"`{name}` is trained, but its module was not called; freeze it, or call it.")
        return {name: self.entries.get(name, [0.0] * 3) for name in self.names.values()}


def _versions(args: tuple[Any, ...]) -> list[int]:
    """How often each tensor has been written to."""
    return [x._version for x in args if isinstance(x, torch.Tensor)]


def _build(module: Any, own: dict[str, Any], args: tuple[Any, ...], kwargs: dict[str, Any], deltas: Any) -> list[Built]:
    """Each parameter's gradient of both answers, [2, *shape], from a second run of the module alone."""
    leaves = {name: parameter.detach().requires_grad_() for name, parameter in own.items()}
    with torch.enable_grad():
        output = torch.func.functional_call(module, leaves, args, kwargs).expand(deltas.shape)
        one = torch.eye(2, dtype=deltas.dtype, device=deltas.device).view(2, 2, *[1] * (deltas.ndim - 1))
        sides = [
            torch.autograd.grad(output, [*leaves.values()], side * deltas, retain_graph=True, materialize_grads=True)
            for side in one
        ]
    return [Built(torch.stack(both)) for both in zip(*sides, strict=True)]
