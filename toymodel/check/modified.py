"""What T26 says about one draw: the flows that a finite step follows."""

import jax
import jax.numpy as jnp
from jaxtyping import Array

from toymodel import theory
from toymodel._public import own_names
from toymodel.check.discrepancy import checks, relative
from toymodel.check.draws import OFFSET, Draw, logps, step_size

__dir__ = own_names(globals())


@checks("T26", "To second order, descent and split steps follow flows of L + (h/4)‖∇L‖² and L + (h/4)Σ‖∇L±‖².", OFFSET)
def _t26(draw: Draw) -> Array:
    """A flow of f₀ + h f₁ leads to θ + h f₀ + h²(f₁ + f₀′f₀/2), f₀ = −(g₊ + g₋) and f₀′ = −(H₊ + H₋).

    A joint step has no term in h², and the mean split step (H₊g₋ + H₋g₊)/2. So f₁ is −(H₊ + H₋)(g₊ + g₋)/2 for the
    one, and −(H₊g₊ + H₋g₋)/2 for the other.
    """
    h, weights = step_size(draw), jnp.array([-draw.d_chosen, draw.d_rejected])

    def halves(params: Array) -> Array:
        return weights * logps(draw.model, params, draw.pair)

    gradient, curve = jax.linearize(jax.jacrev(halves), draw.params)
    ahead = jnp.stack([curve(gradient[0]), curve(gradient[1])])  # [along, of, V, d]
    bends = ahead.sum(axis=(0, 1)), ahead[0, 0] + ahead[1, 1]
    pairs = jax.tree.map(lambda a: a[None], draw.pair)
    fields = [
        field(draw.model, draw.params, pairs, h, draw.d_chosen, draw.d_rejected)
        for field in (theory.descent_field, theory.split_field)
    ]
    sizes = abs(weights) @ jnp.array([size.sum() for size in draw.sizes])
    # A token's Hessian is at most ‖φ‖²/2, with unit features here.
    size = sizes * (1 + h / 2 * abs(weights) @ jnp.array([size.size for size in draw.sizes]) / 2)
    misses = [
        relative(field + gradient.sum(axis=0) + h / 2 * bend, size) for field, bend in zip(fields, bends, strict=True)
    ]
    curvature = draw.noise.uniform[1] / h  # of a quadratic loss: one step multiplies by 1 − hλ
    decay = jnp.exp(-h * theory.quadratic_rate(curvature, h)) - (1 - h * curvature)
    return jnp.array([*misses, relative(decay, jnp.ones(()))]).max()
