"""Inner products between the gradients of m log-probabilities of each of two responses, layer by layer.

A layer's gradient is a sum over positions: Σ_s a_s δ^i_sᵀ for a weight, where a is the layer's input and δ^i the
derivative of log-probability i in its output. The inner product of two of them is therefore Σ_{s,s′} (a_s·a′_{s′})
(δ^i_s·δ^j_{s′}), and neither is built. Every array has a leading axis of 2, the chosen and the rejected response.
Derivatives are [2, m, S, out], or [2, T, out] when they are local: those of token i are zero at all places but its own,
and row i holds them.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from toymodel._public import own_names
from toymodel.gram import PairGram

__dir__ = own_names(globals())

Deltas = Float[Array, "2 m S out"] | Float[Array, "2 T out"]
Products = PairGram  # chosen_sq [m], rejected_sq [m] and inner [m, m] of all log-probabilities, in one layer


def of_affine(inputs: Float[Array, "2 S in"], deltas: Deltas, *, bias: bool = True) -> Products:
    """Products of the gradients of W, and of b where there is `bias`, in x W + b."""
    (_, S, width), (_, m, *_, outputs) = inputs.shape, deltas.shape
    if deltas.ndim == 4 and weight_is_cheaper(m, S, width, outputs):
        if bias:  # an input that is always 1
            inputs = jnp.pad(inputs, ((0, 0), (0, 0), (0, 1)), constant_values=1)
        return _multiply_built(_multiply_each(jnp.swapaxes(inputs, 1, 2), deltas))
    return _sum_over_places(lambda a, b: a @ b.T + bias, inputs, deltas)


def weight_is_cheaper(m: int, S: int, inputs: int, outputs: int) -> bool:
    """Whether building a layer's m weight gradients takes fewer multiplications than summing over pairs of positions.

    Multiplications, for both squared norms and the inner products:
      pairs: 3 S² (in + m out) for similarities and their sums over s, then m (m + 2) S out;
      built: 2 m S in out for the gradients, then m (m + 2) in out.
    """
    pairs = 3 * S**2 * (inputs + m * outputs) + m * (m + 2) * S * outputs
    built = 2 * m * S * inputs * outputs + m * (m + 2) * inputs * outputs
    return built < pairs


def of_scaling(inputs: Float[Array, "2 S d"], deltas: Deltas, *, bias: bool = True) -> Products:
    """Products of the gradients of g, and of b where there is `bias`, in x ⊙ g + b: Σ_s a_s ⊙ δ_s and Σ_s δ_s."""
    if deltas.ndim == 3:
        gains, biases = inputs * deltas, deltas
    else:
        gains, biases = (inputs[:, None] * deltas).sum(axis=2), deltas.sum(axis=2)
    return _multiply_built(jnp.concatenate([gains, biases], axis=-1) if bias else gains)


def of_rows(indices: Int[Array, "2 S k"], deltas: Deltas) -> Products:
    """Products of the gradients of a table that puts k rows side by side at each place."""
    if deltas.ndim == 4:
        return _sum_over_places(lambda a, b: a[:, None] == b, *_split_rows(indices, deltas))
    deltas = deltas.reshape(*indices.shape, -1)

    def gram(one: int, other: int) -> Float[Array, "T T"]:
        same = indices[one][:, :, None, None] == indices[other]
        return (same * jnp.tensordot(deltas[one], deltas[other], (-1, -1))).sum(axis=(1, 3))

    return Products(jnp.diagonal(gram(0, 0)), jnp.diagonal(gram(1, 1)), gram(0, 1))


def of_shared_table(
    indices: Int[Array, "2 S k"],
    deltas: Float[Array, "2 m S out"],
    features: Float[Array, "2 T d"],
    residuals: Float[Array, "2 m T V"] | Float[Array, "2 T V"],
) -> Products:
    """Products between the two uses of a tied table, which `of_rows` and the head's `of_affine` leave out.

    Row r of the head's gradient is Σ_t s_t[r] h_t, for residuals s and features h (zero from row V on).
    """
    indices, deltas = _split_rows(indices, deltas)

    def between(table: int, head: int) -> tuple[Array, Array]:
        """Gradients [m, S k, d] of one response's table, and of the other's head at the same rows."""
        h, s = features[head], residuals[head].at[..., indices[table]].get(mode="fill", fill_value=0)
        return deltas[table], s[..., None] * h[:, None] if s.ndim == 2 else jnp.einsum("mtq,td->mqd", s, h)

    def inner(table: int, head: int) -> Array:
        return _inner_products(*between(table, head))

    def sq(side: int) -> Array:
        one, other = between(side, side)
        return 2 * (one * other).sum(axis=(1, 2))

    return Products(sq(0), sq(1), inner(0, 1) + inner(1, 0).T)


def _split_rows(
    indices: Int[Array, "2 S k"], deltas: Float[Array, "2 m S k*d"]
) -> tuple[Int[Array, "2 S*k"], Float[Array, "2 m S*k d"]]:
    """Split k rows at a place into k places of one row."""
    two, m, S, _ = deltas.shape
    return indices.reshape(two, -1), deltas.reshape(two, m, S * indices.shape[-1], -1)


def _sum_over_places(similarity: Callable[[Array, Array], Array], inputs: Array, deltas: Deltas) -> Products:
    """Σ_{s,s′} similarity(a_s, a′_{s′}) (δ^i_s·δ^j_{s′})."""
    own, between = jax.vmap(similarity)(inputs, inputs), similarity(*inputs)
    if deltas.ndim == 3:
        sq = jnp.diagonal(own, axis1=1, axis2=2) * (deltas**2).sum(axis=-1)
        return Products(sq[0], sq[1], between * (deltas[0] @ deltas[1].T))
    own, between = own.astype(deltas.dtype), between.astype(deltas.dtype)
    sq = (_multiply_each(own, deltas) * deltas).sum(axis=(2, 3))
    return Products(sq[0], sq[1], _inner_products(_multiply_each(between.T, deltas[0]), deltas[1]))


def _multiply_each(matrix: Float[Array, "*n r s"], deltas: Float[Array, "*n m s o"]) -> Float[Array, "*n m r o"]:
    """Multiply for each of m. As one product they would have to be transposed, which took twice as long."""
    return jnp.broadcast_to(matrix[..., None, :, :], (*deltas.shape[:-2], *matrix.shape[-2:])) @ deltas


def _inner_products(one: Float[Array, "i ..."], other: Float[Array, "j ..."]) -> Float[Array, "i j"]:
    return one.reshape(len(one), -1) @ other.reshape(len(other), -1).T


def _multiply_built(gradients: Float[Array, "2 m *P"]) -> Products:
    """Products of materialised gradients [2, m, *P]."""
    sq = (gradients**2).sum(axis=tuple(range(2, gradients.ndim)))
    return Products(sq[0], sq[1], _inner_products(gradients[0], gradients[1]))
