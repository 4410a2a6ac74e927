"""What a preference loss is: a function of two responses that returns its value and its weights on the two gradients.

Paper (Eq. 1)                 Here
log π_w, log π_l, references  `Side`: one response as a loss sees it
m, h_w, h_l, Λ                pieces of `Margin`, each a function that returns a `Jet`: its value and its slope
d_w = m′h_w′ + Λ′, d_l = m′h_l′  `Outcome`, from the slopes alone

ℓ = −[m(h_w(log π_w) − h_l(log π_l)) + Λ(log π_w)]. A loss without this form is any other function of the two sides that
returns an `Outcome`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from toymodel._public import own_names
from toymodel.gram import Scalars

__dir__ = own_names(globals())


class Jet(NamedTuple):
    """A function at one point: its value and its slope."""

    value: Scalars
    slope: Scalars


class Outcome(NamedTuple):
    """A loss at one pair: its value in nats, and its weights d_w = −∂ℓ/∂log π_w and d_l = ∂ℓ/∂log π_l."""

    value: Scalars
    d_chosen: Scalars
    d_rejected: Scalars


class Side(NamedTuple):
    """One response as a loss sees it: summed log-probabilities in nats, under the policy and the reference."""

    name: str
    logp: Array
    ref_logp: Array | None
    length: Array | None

    @property
    def logratio(self) -> Array:
        """log π(y|x) − log π_ref(y|x)."""
        if self.ref_logp is None:
            raise ValueError(f"`ref_{self.name}_logps` is missing; this loss compares with a reference.")
        return self.logp - self.ref_logp

    @property
    def tokens(self) -> Array:
        """Number of tokens."""
        if self.length is None:
            raise ValueError(f"`{self.name}_lengths` is missing; this loss divides by the number of tokens.")
        return self.length

    @property
    def mean_logp(self) -> Array:
        """log π(y|x) per token."""
        return self.logp / self.tokens

    @property
    def mean_logratio(self) -> Array:
        """`logratio` per token."""
        return self.logratio / self.tokens


#: A loss with its hyperparameters: a function from the two sides to value and weights.
Form = Callable[[Side, Side], Outcome]
Piece = Callable[[Side], Jet]


def nothing(_side: Side) -> Jet:
    """Λ = 0, or a side that the loss ignores."""
    return Jet(0.0, 0.0)


@dataclass(frozen=True)
class Margin:
    """The paper's form, ℓ = −[m(h_w − h_l) + Λ(log π_w)] with d_w = m′h_w′ + Λ′ and d_l = m′h_l′ (Eq. 1).

    Args:
      m: outer function of the margin h_w − h_l.
      h_chosen: h_w, a function of the chosen side; its slope is with respect to the summed log-probability.
      h_rejected: h_l, a function of the rejected side (default: the same as h_w).
      likelihood: Λ, a function of the chosen side (default: none).
      order: a number with the sign of h_w − h_l, for exponentials that may both overflow; only the sign is known then.
    """

    m: Callable[[Scalars], Jet]
    h_chosen: Piece
    h_rejected: Piece | None = None
    likelihood: Piece = nothing
    order: Callable[[Side, Side], Array] | None = None

    def __call__(self, chosen: Side, rejected: Side) -> Outcome:
        """Value and weights of each pair."""
        h_w, h_l = self.h_chosen(chosen), (self.h_rejected or self.h_chosen)(rejected)
        margin = h_w.value - h_l.value
        if self.order is not None:
            ahead = self.order(chosen, rejected)
            beyond = jnp.where(ahead == 0, 0.0, jnp.where(ahead > 0, jnp.inf, -jnp.inf))
            margin = jnp.where(jnp.isinf(h_w.value) & jnp.isinf(h_l.value), beyond, margin)
        m = self.m(margin)
        likelihood = self.likelihood(chosen)
        return Outcome(
            -(m.value + likelihood.value), _product(m.slope, h_w.slope) + likelihood.slope, _product(m.slope, h_l.slope)
        )


def _product(x: Scalars, y: Scalars) -> Scalars:
    """x · y, where a slope that has vanished beats one that has overflowed."""
    return jnp.where((jnp.asarray(x) == 0) | (jnp.asarray(y) == 0), 0.0, x * jnp.asarray(y))


def autodiff(function: Callable[[Scalars], Scalars]) -> Callable[[Scalars], Jet]:
    """Make a piece from an elementwise function, with its slope by automatic differentiation."""

    def jet(x: Scalars) -> Jet:
        x = jnp.asarray(x)
        return Jet(*jax.jvp(function, (x,), (jnp.ones_like(x),)))

    return jet
