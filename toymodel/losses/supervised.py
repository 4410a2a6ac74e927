"""Supervised fine-tuning as a loss for `training.train`, with label noise."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from toymodel._checks import Domain, is_concrete
from toymodel._public import own_names
from toymodel._pytree import pytree

__dir__ = own_names(globals())

Logps = Float[Array, " n"]
SHARE = Domain("in [0, 1]", lambda x: (x >= 0) & (x <= 1))


@pytree
@dataclass(frozen=True)
class CrossEntropy:
    """Cross-entropy with label noise, in nats: −((1 − s) log π_w + s log π_l), where a share s of annotators errs.

    Then they give the rejected answer. d_w = 1 − s and d_l = −s. At s = 0 it is the usual negative log-likelihood of
    the chosen answers, at 1/2 that of both alike. At its minimum, the two answers have probabilities 1 − s and s.

    Raises:
      ValueError: `rejected_share` is not in [0, 1].
    """

    rejected_share: float | Float[Array, "*runs"] = 0.0

    def __post_init__(self) -> None:
        share = self.rejected_share
        known = isinstance(share, float | int | np.generic | np.ndarray | jax.Array) and is_concrete(share)
        if known and not SHARE.holds(np.asarray(share)).all():
            raise ValueError(f"`rejected_share` must be {SHARE.words}, got {share!r}.")

    def value(self, chosen_logps: Logps, rejected_logps: Logps, *_others: Logps) -> Logps:
        """The loss of each pair."""
        return -((1 - self.rejected_share) * chosen_logps + self.rejected_share * rejected_logps)

    def weights(self, chosen_logps: Logps, *_others: Logps) -> tuple[Logps, Logps]:
        """(d_chosen, d_rejected) of each pair."""
        same = jnp.ones_like(chosen_logps)
        return (1 - self.rejected_share) * same, -self.rejected_share * same
