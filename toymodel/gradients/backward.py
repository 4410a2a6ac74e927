"""One backward pass for the derivatives of many tokens, in parts small enough for compiled code to be correct."""

from collections.abc import Callable
from typing import Any

import jax
from jaxtyping import Array, Float

from toymodel._public import own_names

__dir__ = own_names(globals())

# XLA for CPUs (jaxlib 0.10) gives wrong float32 derivatives where many cotangents meet one layer norm, from 4096 places
# on: docs/reports/float32_sums.py. Training is safe, where every cotangent has a place of its own.
PLACES = 2048


def pull_each(pull: Callable[[Array], Any], cotangents: Float[Array, "m ..."], *, places: int) -> Any:
    """Apply `pull` to each of m cotangents over `places` positions, at most `PLACES` positions at once."""
    at_once = max(1, PLACES // places)
    return (
        jax.vmap(pull)(cotangents) if len(cotangents) <= at_once else jax.lax.map(pull, cotangents, batch_size=at_once)
    )
