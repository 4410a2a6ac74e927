"""How a module uses a parameter, and the three inner products that follow without building the gradient.

A gradient is a sum over positions: Σ_s δ_s a_sᵀ for a weight, where a is the input of the module and δ the derivative
of log π in its output. Inner products of two of them are Σ_{s,s′} (a_s·a′_{s′})(δ_s·δ′_{s′}). Arrays have a leading
axis of 2, the chosen and the rejected answer; the three numbers are ‖g_w‖², ‖g_l‖², ⟨g_w, g_l⟩, in float64.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import lazy_loader

from toymodel._public import own_names

if TYPE_CHECKING:
    import torch
else:
    torch = lazy_loader.load("torch")

__dir__ = own_names(globals())

AT_ONCE = 2**24  # logits that are held at a time: 64 MiB in float32


def three(product: Callable[[int, int], Any]) -> Any:
    """Three numbers from a product of the sides (0: chosen, 1: rejected)."""
    return torch.stack([product(0, 0), product(1, 1), product(0, 1)])


def _sum(products: Any) -> Any:
    return products.sum(dtype=torch.float64)


def _widen(array: Any) -> Any:
    return array.to(torch.promote_types(array.dtype, torch.float32))


@dataclass
class Built:
    """A materialised gradient, [2, …]."""

    gradient: Any

    def products(self) -> Any:
        """The three numbers."""
        g = _widen(self.gradient)
        return three(lambda i, j: _sum(g[i] * g[j]))

    def build(self) -> Any:
        """The gradient."""
        return self.gradient


@dataclass
class Places:
    """The weight [out, in] of a linear layer: its `inputs` [2, S, in], and `deltas` [2, S, out]."""

    inputs: Any
    deltas: Any

    def products(self) -> Any:
        """The three numbers, by pairs of places or from the built weight, whichever takes fewer multiplications."""
        (_, S, width), out = self.inputs.shape, self.deltas.shape[-1]
        if 2 * S * width * out + 3 * width * out < 3 * S**2 * (width + out):
            return Built(self.build()).products()
        a, d = _widen(self.inputs), _widen(self.deltas)
        return three(lambda i, j: _sum((a[i] @ a[j].mT) * (d[i] @ d[j].mT)))

    def build(self) -> Any:
        """The gradient, [2, out, in]."""
        return _widen(self.deltas).mT @ _widen(self.inputs)

    @property
    def features(self) -> Any:
        """The inputs, under the name that `Head` uses."""
        return self.inputs

    def columns(self, side: int, rows: Any) -> Any:
        """Derivatives of some outputs at each place, [S, rows]."""
        return self.deltas[side][:, rows]


@dataclass
class Rows:
    """A table [V, d] whose rows are looked up: `indices` [2, S], and `deltas` [2, S, d] (0 where a row stays fixed)."""

    indices: Any
    deltas: Any
    size: int

    @classmethod
    def of(cls, indices: Any, deltas: Any, module: Any) -> "Rows":
        """The use of a `torch.nn.Embedding`, whose padding row, if it has one, gets no gradient from look-ups."""
        indices = indices.expand(2, *indices.shape[1:]).reshape(2, -1)
        deltas = deltas.reshape(*indices.shape, -1)
        if module.padding_idx is not None:
            deltas = deltas * (indices != module.padding_idx)[..., None]
        return cls(indices, deltas, module.num_embeddings)

    def products(self) -> Any:
        """The three numbers."""
        n, d = self.indices, _widen(self.deltas)
        return three(lambda i, j: _sum((n[i][:, None] == n[j]) * (d[i] @ d[j].mT)))

    def build(self) -> Any:
        """The gradient, [2, V, d]."""
        d = _widen(self.deltas)
        table = d.new_zeros(2, self.size, d.shape[-1])
        return torch.stack([table[side].index_add(0, self.indices[side], d[side]) for side in (0, 1)])


class Head:
    """The last layer [V, d] of a language model, followed by log-softmax.

    Its residuals, the derivatives of log π in the logits, are e_y − p, computed a part of the vocabulary at a time.

    Args:
      features: the inputs at the T positions that predict an answer's tokens, [2, T, d].
      weight: [V, d].
      bias: [V], or none.
      tokens: of the answers, [2, T].
      mask: 1 where they are real, [2, T].
    """

    def __init__(self, features: Any, weight: Any, bias: Any, tokens: Any, mask: Any) -> None:
        self.features, self.weight, self.bias, self.tokens, self.mask = _widen(features), weight, bias, tokens, mask
        self.dtype = features.dtype
        some = max(1, AT_ONCE // tokens.numel())
        self.parts = [slice(i, i + some) for i in range(0, len(weight), some)]
        self.log_sum, self.last = -torch.inf, None
        for part in self.parts:
            self.last = self._logits(part)
            partial = self.last.logsumexp(-1)
            self.log_sum = partial if part.start == 0 else torch.logaddexp(self.log_sum, partial)
        picked = (self.features * _widen(weight[tokens])).sum(-1)
        picked = picked if bias is None else picked + _widen(bias[tokens])
        self.logps = ((picked - self.log_sum) * mask).sum(1)

    def _logits(self, rows: Any, side: int | slice = slice(None)) -> Any:
        logits = self.features[side] @ _widen(self.weight[rows]).mT
        return logits if self.bias is None else logits + _widen(self.bias[rows])

    def _residuals(self, logits: Any, rows: Any, side: int | slice = slice(None)) -> Any:
        """Residuals at some rows of the vocabulary, in the place of their logits."""
        logits.sub_(self.log_sum[side][..., None]).exp_().neg_()
        logits.add_(self.tokens[side][..., None] == rows)
        return logits.mul_(self.mask[side][..., None])

    def columns(self, side: int, rows: Any) -> Any:
        """Residuals of one answer at some rows of the vocabulary, [T, rows]."""
        return self._residuals(self._logits(rows, side), rows, side)

    def go_back(self, of_weight: bool, of_bias: bool) -> Any:
        """The derivatives of log π in the features, [2, T, d]; and keep the three numbers and the bias's gradient."""
        back = torch.zeros_like(self.features)
        self.numbers = back.new_zeros(3, dtype=torch.float64)
        biases: list[Any] = []
        every = torch.arange(len(self.weight), device=self.weight.device)
        for part in reversed(self.parts):
            logits = (
                self._logits(part) if self.last is None else self.last
            )  # those of the last part are still in memory
            self.last = None
            residuals = self._residuals(logits, every[part])
            back += residuals @ _widen(self.weight[part])
            if of_weight:
                self.numbers += Places(self.features, residuals).products()
            if of_bias:
                biases.insert(0, residuals.sum(1))
        self.bias_gradient = torch.cat(biases, dim=1) if biases else None
        return back.to(self.dtype)

    def products(self) -> Any:
        """The three numbers of the weight, once `go_back` has been called."""
        return self.numbers

    def build(self) -> Any:
        """The weight's gradient, [2, V, d]."""
        every = torch.arange(len(self.weight), device=self.weight.device)
        return torch.stack([self.columns(side, every).mT @ self.features[side] for side in (0, 1)])


def multiply_uses(uses: list[Any]) -> Any:
    """The three numbers of a parameter from all of its uses, whose gradients add up."""
    if len(uses) == 1:
        return uses[0].products()
    table = [use for use in uses if isinstance(use, Rows)]
    heads = [use for use in uses if isinstance(use, Head | Places)]
    if len(uses) == 2 and len(table) == len(heads) == 1:
        return table[0].products() + heads[0].products() + multiply_tied(table[0], heads[0])
    return Built(sum(use.build() for use in uses)).products()


def multiply_tied(table: Rows, head: Head | Places) -> Any:
    """The products between the two uses of a tied table, to be added to those of each.

    Row v of the head's gradient is Σ_t δ_t[v] h_t, so its product with the table's is Σ_{s,t} δ_t[v_s] (h_t·ε_s).
    """

    def between(i: int, j: int) -> Any:
        columns = _widen(head.columns(i, table.indices[j]))
        return _sum(columns * (_widen(head.features[i]) @ _widen(table.deltas[j]).mT))

    return three(lambda i, j: between(i, j) + between(j, i))
