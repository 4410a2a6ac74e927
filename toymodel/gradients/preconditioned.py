"""Inner products ⟨u, P v⟩ for steps that rescale each parameter, such as Adam's first step.

The step θ ← θ + ηP(d_w g_w − d_l g_l), P diagonal and positive, changes the two log-probabilities at the slopes that
`theory.slopes` gives for these inner products in place of the plain ones, so that T9–T11 hold for it as well (T10).
Adam's first step from fresh state is −ηg/(|g| + ε), whatever b1 and b2: it is such a step, with P from the loss's
own gradient g = d_l g_l − d_w g_w. Nothing follows for later steps, because momentum adds directions other than P g.
"""

from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from toymodel._checks import POSITIVE, is_concrete, require_finite
from toymodel._public import own_names
from toymodel.data.pairs import PreferencePairs
from toymodel.gradients.built import pair_gradients
from toymodel.gram import PairGram, Scalars
from toymodel.models.logps import Model, Params

__dir__ = own_names(globals())

Tree = TypeVar("Tree")


def preconditioned_pair_gram(model: Model, params: Params, pairs: PreferencePairs, preconditioner: Params) -> PairGram:
    """⟨g_w, P g_w⟩, ⟨g_l, P g_l⟩ and ⟨g_w, P g_l⟩ of each pair; P is diagonal, a tree of numbers like `params`.

    P = 1 everywhere gives `pair_gram`. It materialises two gradients per pair.

    Raises:
      ValueError: as for `pair_gram`, or `preconditioner` has other shapes than `params` or is not positive everywhere.
    """
    wanted, got = (jax.tree.map(jnp.shape, tree) for tree in (params, preconditioner))
    if wanted != got:
        raise ValueError(f"`preconditioner` must have the shapes of `params`, {wanted}, got {got}.")
    scale, _ = ravel_pytree(preconditioner)
    _require_positive("preconditioner", scale)
    return _gram(*pair_gradients(model, params, pairs), scale)


def adam_preconditioner(gradient: Tree, epsilon: Scalars = 1e-8) -> Tree:
    """P = 1/(|g| + ε) entry by entry: Adam's first step along the gradient g of a loss is −η P g.

    Where |g| ≫ ε that is −η sign(g), so entries of g that are only round-off must lie below ε to have no effect.

    Raises:
      ValueError: `epsilon` is not positive and finite.
    """
    _require_positive("epsilon", epsilon)
    return jax.tree.map(lambda g: 1 / (abs(g) + epsilon), gradient)


def first_adam_gram(
    model: Model,
    params: Params,
    pairs: PreferencePairs,
    d_chosen: Scalars = 1.0,
    d_rejected: Scalars = 1.0,
    *,
    epsilon: Scalars = 1e-8,
) -> PairGram:
    """Preconditioned Gram entries of each pair for its own first step of Adam, alone, with weights d_w and d_l.

    `theory.slopes(gram, d_chosen, d_rejected)` with the same weights are then the slopes of that step, in nats per
    unit of learning rate. Unlike the plain Gram this one depends on the weights: P is 1/(|d_w g_w − d_l g_l| + ε).

    Raises:
      ValueError: as for `pair_gram`; a weight is not finite, or not one number or one per pair; `epsilon` is not
        positive and finite.
    """
    chosen, rejected = pair_gradients(model, params, pairs)
    d_w, d_l = _column("d_chosen", d_chosen, chosen), _column("d_rejected", d_rejected, chosen)
    return _gram(chosen, rejected, adam_preconditioner(d_l * rejected - d_w * chosen, epsilon))


@jax.jit
def _gram(chosen: Float[Array, "n P"], rejected: Float[Array, "n P"], scale: Float[Array, "*n P"]) -> PairGram:
    def inner(u: Array, v: Array) -> Array:
        return (u * scale * v).sum(axis=-1)

    return PairGram(inner(chosen, chosen), inner(rejected, rejected), inner(chosen, rejected))


def _column(name: str, d: Scalars, like: Float[Array, "n P"]) -> Float[Array, "n 1"]:
    require_finite(name, d)
    if jnp.shape(d) not in ((), like.shape[:1]):
        raise ValueError(f"`{name}` must be one number or one per pair {like.shape[:1]}, got shape {jnp.shape(d)}.")
    return jnp.broadcast_to(jnp.asarray(d, like.dtype), like.shape[:1])[:, None]


def _require_positive(name: str, values: Scalars) -> None:
    if is_concrete(values) and not (allowed := POSITIVE.holds(np.asarray(values))).all():
        raise ValueError(f"`{name}` must be {POSITIVE.words}, got {np.asarray(values)[~allowed].ravel()[0]}.")
