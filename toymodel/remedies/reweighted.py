"""Remedies that are losses around a loss: each changes the weights d_w and d_l of any loss of `toymodel.losses`.

Wrapper             d_w                          d_l                        Source
`WithLikelihood`    d_w + λ                      d_l                        CPO, RPO; T19
`WithPenalty`       d_w (1 + λ [π_w < π_ref,w])  d_l                        DPO-Positive (arXiv 2402.13228)
`Gated`             d_w                          d_l · σ(α (p_l − τ))       Gate-DPO

`training.train` takes each as its loss. In the table, d_w and d_l are the wrapped loss's weights at the same
log-probabilities; `WithPenalty` first lowers the chosen one by the penalty. All numbers are per pair.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from toymodel._public import own_names
from toymodel._pytree import pytree
from toymodel.training.arguments import PairLoss

__dir__ = own_names(globals())

Logps = Float[Array, " n"]
Number = float | Float[Array, "*runs"]


@pytree
@dataclass(frozen=True)
class WithLikelihood:
    """ℓ − λ log π_w: any loss plus λ times the negative log-likelihood of the chosen answer, in nats (T19)."""

    loss: PairLoss
    strength: Number  # λ

    def value(self, w: Logps, *others: Logps) -> Logps:
        """The loss of each pair."""
        return self.loss.value(w, *others) - self.strength * w

    def weights(self, w: Logps, *others: Logps) -> tuple[Logps, Logps]:
        """(d_w, d_l) of each pair."""
        d_chosen, d_rejected = self.loss.weights(w, *others)
        return d_chosen + self.strength, d_rejected


@pytree
@dataclass(frozen=True)
class WithPenalty:
    """Any loss, with log π_w − λ max(0, log π_ref,w − log π_w) for log π_w: it penalises a chosen answer that fell.

    Around DPO it is DPO-Positive. Around losses without a reference it is our reading.
    """

    loss: PairLoss
    strength: Number  # λ

    def value(self, w: Logps, l: Logps, ref_w: Logps, *others: Logps) -> Logps:  # noqa: E741
        """The loss of each pair."""
        return self.loss.value(self._penalise(w, ref_w), l, ref_w, *others)

    def weights(self, w: Logps, l: Logps, ref_w: Logps, *others: Logps) -> tuple[Logps, Logps]:  # noqa: E741
        """(d_w, d_l) of each pair."""
        d_chosen, d_rejected = self.loss.weights(self._penalise(w, ref_w), l, ref_w, *others)
        return d_chosen * (1 + self.strength * (w < ref_w)), d_rejected

    def _penalise(self, w: Logps, ref_w: Logps) -> Logps:
        return w - self.strength * jax.nn.relu(ref_w - w)


@pytree
@dataclass(frozen=True)
class Gated:
    """Any loss, whose push on the rejected answer fades where that answer is already unlikely.

    Its d_l is multiplied by σ(α (p_l − τ)), where p_l = exp(log π_l / tokens) is the geometric mean probability of the
    rejected tokens. No gradient flows through that factor, and the value is that of the wrapped loss.
    """

    loss: PairLoss
    threshold: Number = 0.1  # τ
    sharpness: Number = 20.0  # α

    def value(self, w: Logps, l: Logps, *others: Logps) -> Logps:  # noqa: E741
        """The loss of each pair, whose derivatives are the gated weights."""
        at_w, at_l = jax.lax.stop_gradient((w, l))
        d_chosen, d_rejected = jax.lax.stop_gradient(self.weights(w, l, *others))
        # What is added is 0, but its derivatives are the weights.
        return self.loss.value(at_w, at_l, *others) - d_chosen * (w - at_w) + d_rejected * (l - at_l)

    def weights(self, w: Logps, l: Logps, *others: Logps) -> tuple[Logps, Logps]:  # noqa: E741
        """(d_w, d_l) of each pair."""
        d_chosen, d_rejected = self.loss.weights(w, l, *others)
        probability = jnp.exp(l / others[-1])
        return d_chosen, d_rejected * jax.nn.sigmoid(self.sharpness * (probability - self.threshold))
