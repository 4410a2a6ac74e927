"""The step that is right for all pairs of a batch, if there is one: every chosen rises, every rejected falls (T24).

Such a step exists, to first order, iff 0 is not in the convex hull of all g_w and −g_l (Gordan). Then the hull's
point u of least norm is one: along it every chosen rises and every rejected falls with a slope of at least ‖u‖², and no
step of that length has a larger least slope. The Gram matrix of the gradients is enough to compute all of this.

Function            Solver                                     For
`find_common_step`  `scipy.optimize.nnls`, exact               one Gram matrix, checked, outside of JAX
`common_weights`    an active set of fixed size, under `jit`   the remedy, which may also be damped

Both scale gradients to unit length first, so that sizes do not matter: slopes are exact to a few n unit round-offs of
‖g_i‖ Σ_j w_j ‖g_j‖, for n gradients with weights w.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from toymodel._checks import FROM_ZERO, REAL, is_concrete, require, require_finite
from toymodel._public import own_names
from toymodel.gram import PairGram, Scalars, require_gram
from toymodel.theory._domains import require_gram_matrix

__dir__ = own_names(globals())

ROUNDOFF = 16  # of an entry of a Gram matrix, in units of n ε ‖g_i‖ ‖g_j‖: sums of products are taken in blocks
SWEEPS = 4  # iterations of the active set, for each gradient; 1.3 is the most that random draws took


class CommonStep(NamedTuple):
    """The point u = Σ_b (w_b g_w^b − w_{N+b} g_l^b) of least norm in the hull of N pairs' gradients."""

    exists: bool  # whether u raises every chosen and lowers every rejected answer
    least_slope: float  # ‖u‖²: what each of them is moved by at least, in nats per unit of learning rate
    weights: Float[np.ndarray, " 2*N"]  # w ≥ 0 of sum 1, chosen first; with no such step, a proof of it: u is 0


def find_common_step(gram: Float[np.ndarray, "2*N 2*N"]) -> CommonStep:
    """Decide whether one step is right for all N pairs, and find the best one (T24).

    `cancels` decides whether u is 0, in the precision of `gram`.

    Args:
      gram: ⟨g_i, g_j⟩ of the gradients of log π of N chosen answers, then of the rejected ones in the same order.
        It may be singular, as it is for more gradients than parameters.

    Raises:
      ValueError: no pair, a matrix of another shape, one that is not finite, not symmetric, or not positive
        semidefinite.
    """
    from scipy.optimize import nnls  # takes a second to import

    entries, cosines, norms = check_gram(gram)
    n = len(norms)
    up = np.where(np.arange(n) < n // 2, 1, -1)
    # min ‖Σ y_i ĝ_i‖² over y ≥ 0 with Σ y_i/‖g_i‖ = 1. Non-negative least squares with that sum as one more equation
    # finds the same direction, whatever the equation's weight: for y = s·w the best s shrinks all directions w alike.
    values, vectors = np.linalg.eigh(cosines * np.outer(up, up))
    factor = (vectors * np.sqrt(np.maximum(values, 0))).T
    sizes = norms / norms.min()
    scaled, _ = nnls(np.vstack([factor, 1 / sizes]), np.append(np.zeros(n), 1), maxiter=100 * n)
    weights = scaled / sizes
    step = up * weights / weights.sum()
    return CommonStep(not cancels(entries, step), max(float(step @ entries @ step), 0.0), abs(step))


def check_gram(gram: Float[np.ndarray, "n n"]) -> tuple[np.ndarray, np.ndarray, Float[np.ndarray, " n"]]:
    """The Gram matrix of N pairs' gradients, its cosines in float64, and the norms; 1 for a norm whose square is 0.

    Raises:
      ValueError: as for `find_common_step`.
    """
    given = np.asarray(gram)
    if given.ndim != 2 or given.shape[0] != given.shape[1] or given.shape[0] % 2 or not given.size:
        raise ValueError(f"`gram` must have shape [2N, 2N] for N >= 1 pairs, chosen first, got shape {given.shape}.")
    require_finite("gram", given)
    if given.dtype != np.float32:
        given = given.astype(float)
    roundoff = ROUNDOFF * len(given) * _epsilon(given)
    squares = np.diagonal(given).astype(float)
    if (squares < 0).any():
        raise ValueError(f"`gram` must have squared norms >= 0 on its diagonal, got {squares.min()}.")
    underflow = np.finfo(float).smallest_normal / np.finfo(float).eps  # a square below it is not known
    norms = np.where(squares > underflow, np.sqrt(squares), 1)
    cosines = given / norms / norms[:, None]
    asymmetry = abs(cosines - cosines.T)
    if (asymmetry > roundoff).any():
        i, j = np.unravel_index(asymmetry.argmax(), asymmetry.shape)
        raise ValueError(f"`gram` must be symmetric, got {given[i, j]} at ({i}, {j}) and {given[j, i]} at ({j}, {i}).")
    lowest = np.linalg.eigvalsh(cosines)[0]
    if lowest < -len(given) * roundoff:
        raise ValueError(f"`gram` must be positive semidefinite, got cosines with an eigenvalue of {lowest:.3g}.")
    return given, cosines, norms


def common_weights(
    gram: Float[Array, "n n"], advantages: Float[Array, " n"], damping: Scalars = 0.0
) -> Float[Array, " n"]:
    """The weights w of the step Σ_i w_i sign(A_i) g_i that is right for all responses, w ≥ 0 of sum 1 (T24). For `jit`.

    With `damping` λ they minimise ‖Σ_i w_i sign(A_i) g_i‖² + λ Σ_i ‖g_i‖²(w_i − |A_i|/Σ|A|)²: from the common step
    (λ = 0) to the plain one, Σ_i A_i g_i (λ → ∞). Where no common step exists, the weights for λ = 0 are those of a sum
    that vanishes; λ > 0 chooses weights near those of the loss, and they change continuously with the gradients.

    Responses with A_i = 0 or a gradient of zero get no weight, and nothing is guaranteed for them.

    Args:
      gram: ⟨g_i, g_j⟩ of the gradients of log π of n responses.
      advantages: of each response, as in `group_slopes`; only signs matter for λ = 0.
      damping: λ ≥ 0, without unit.

    Raises:
      ValueError: outside a trace, no Gram matrix, an advantage that is not finite, or λ < 0.
    """
    require_gram_matrix(gram, advantages=advantages)
    require(FROM_ZERO, damping=damping)
    n, eps = len(advantages), _epsilon(gram)
    up, norms = jnp.sign(advantages), jnp.sqrt(jnp.diagonal(gram))
    taking = (up != 0) & (norms > 0)
    norms = jnp.where(taking, norms, 1)
    # The ridge of 8 n ε makes every system regular, and moves slopes by no more than the round-off of `gram`.
    matrix = gram * jnp.outer(up / norms, up / norms) + (8 * n * eps + damping) * jnp.eye(n, dtype=gram.dtype)
    sizes = norms / jnp.where(taking, norms, jnp.inf).min()
    wanted = abs(advantages) / jnp.where(taking.any(), (abs(advantages) * taking).sum(), 1)
    weights = _minimise(matrix, damping * sizes * wanted, 1 / sizes, taking) / sizes * taking
    return weights / jnp.where(taking.any(), weights.sum(), 1)


def cancels(gram: Float[Any, "n n"], advantages: Float[Any, " n"]) -> Any:
    """Whether Σ_i A_i g_i is 0 to round-off: its square is at most 16 n ε (Σ_i |A_i| ‖g_i‖)² (T24). Works under `jit`.

    An entry of a Gram matrix is a sum of products that is known to a few unit round-offs ε of ‖g_i‖ ‖g_j‖, and solvers
    add n of them. So a sum shorter than √(16 n ε) of its terms cannot be told from 0.

    Raises:
      ValueError: outside a trace, no Gram matrix, or an advantage that is not finite.
    """
    require_gram_matrix(gram, advantages=advantages)
    roundoff = ROUNDOFF * len(advantages) * _epsilon(gram)
    return advantages @ gram @ advantages <= roundoff * (abs(advantages) @ gram.diagonal() ** 0.5) ** 2


def step_price(gram: PairGram, chosen_slope: Scalars, rejected_fall: Scalars) -> Float[Array, "*n"]:
    """‖u‖² of the shortest step u with slopes (s, −t) of (log π_w, log π_l), for each pair alone (T24).

    (s²‖g_l‖² + 2st⟨g_w, g_l⟩ + t²‖g_w‖²) / (‖g_w‖²‖g_l‖² − ⟨g_w, g_l⟩²): entanglement costs length of step.

    Raises:
      ValueError: the two gradients of a pair are parallel to round-off, so that slopes cannot be chosen freely; no two
        vectors have this `gram`, or a slope is not finite.
    """
    require_gram(gram)
    require(REAL, chosen_slope=chosen_slope, rejected_fall=rejected_fall)
    s, t = chosen_slope, rejected_fall
    determinant = jnp.asarray(gram.chosen_sq * gram.rejected_sq - gram.inner**2)
    roundoff = ROUNDOFF * _epsilon(determinant) * gram.chosen_sq * gram.rejected_sq
    if is_concrete(determinant) and not jnp.all(determinant > roundoff):
        raise ValueError(f"`gram` must be that of gradients that are not parallel, got {gram}.")
    return (s**2 * gram.rejected_sq + 2 * s * t * gram.inner + t**2 * gram.chosen_sq) / determinant


def _epsilon(array: Any) -> float:
    """The unit round-off ε of an array's precision, of NumPy or JAX."""
    return float(np.finfo(array.dtype).eps)


@jax.jit
def _minimise(
    matrix: Float[Array, "n n"], linear: Float[Array, " n"], total: Float[Array, " n"], taking: Bool[Array, " n"]
) -> Float[Array, " n"]:
    """Minimise ½yᵀMy − cᵀy over y ≥ 0 with totalᵀy = 1, by an active set (Wolfe's, with a linear term).

    One iteration finds the minimum over the active set, ignoring signs. If it has no negative entry, the gradient that
    pulls most enters the set; otherwise y moves towards it until an entry is 0, which leaves the set.
    """
    n = len(linear)
    roundoff = 4 * n * _epsilon(matrix)

    def iterate(state: tuple[Array, Array, Array, Array]) -> tuple[Array, Array, Array, Array]:
        y, inside, _, count = state
        system = jnp.where(inside[:, None] & inside, matrix, jnp.eye(n, dtype=matrix.dtype))
        held, along = jnp.linalg.solve(system, jnp.stack([linear, total], axis=1) * inside[:, None]).T
        level = (1 - total @ held) / (total @ along)
        target = held + level * along
        leaving = inside & (target <= 0)
        blocked = leaving.any()
        rest = jnp.where(leaving, y, jnp.inf) / jnp.where(leaving & (y > 0), y - target, 1)
        out = jnp.argmin(rest)
        slack = jnp.where(taking & ~inside, matrix @ target - linear - level * total, jnp.inf)
        best = jnp.argmin(slack)
        done = ~blocked & (slack[best] >= -roundoff * (target.sum() + linear.max()))
        moved = (y + rest[out] * (target - y)).at[out].set(0)
        inside = jnp.where(blocked, inside.at[out].set(False), inside.at[best].set(inside[best] | ~done))
        return jnp.where(blocked, jnp.maximum(moved, 0), target), inside, done, count + 1

    first = jnp.arange(n) == jnp.argmax(jnp.where(taking, total, -jnp.inf))
    start = jnp.where(first, 1 / total, 0), first, jnp.zeros((), bool), jnp.zeros((), int)
    return jax.lax.while_loop(lambda state: ~state[2] & (state[3] < SWEEPS * n), iterate, start)[0]
