"""What T12 and T13 say about one draw: steps of any size, with frozen features and with learned hidden states."""

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from toymodel import gradients, theory
from toymodel._public import own_names
from toymodel.check.discrepancy import ROUNDOFF, checks, excess, relative, wrong
from toymodel.check.draws import OFFSET, Draw, logps, of_one_pair, step_size
from toymodel.data.pairs import PreferencePairs
from toymodel.models import linear
from toymodel.models.logps import Model, Params
from toymodel.models.unconstrained import UnconstrainedFeatures, UnconstrainedParams, unconstrained

__dir__ = own_names(globals())


def _changes(
    model: Model, params: Params, pair: PreferencePairs, etas: Float[Array, " k"], *weights: Array
) -> Float[Array, "k 2"]:
    """Measured changes of both log-probabilities at each of k learning rates."""

    def changes(eta: Array) -> Array:
        return jnp.array(of_one_pair(gradients.step_change, model, params, pair, optax.sgd(eta), *weights))

    return jax.vmap(changes)(etas)


@checks(
    "T12",
    "Linear softmax, every step size: the change is exact, at most η · slope, and bounded below; certified steps.",
    ("frozen_features", "positional_offset"),
)
def _t12(draw: Draw) -> Array:
    return miss_at_every_step(draw, draw.d_chosen, draw.d_rejected)


def miss_at_every_step(draw: Draw, d_chosen: Array, d_rejected: Array) -> Array:
    """By how much the draw misses T12 with these weights, at one random step and at half the certified one."""
    weights, arguments = (d_chosen, d_rejected), (draw.model, draw.params, draw.pair)
    slope = jnp.array(theory.slopes(draw.predicted, *weights))
    directions = of_one_pair(theory.logit_directions, *arguments, *weights)
    shortfall = jnp.array([theory.range_shortfall(v) for v in directions])
    loose = jnp.array([theory.norm_shortfall(v) for v in directions])
    moves = d_chosen * draw.sizes[0].sum() + d_rejected * draw.sizes[1].sum()
    features = jnp.array([(jnp.linalg.norm(s.features, axis=1) * s.mask).sum() for s in draw.states])
    still = abs(logps(*arguments)) + jnp.array([s.mask.sum() for s in draw.states])

    # Half the certified step, at which the chosen gains at least a quarter of that step times its slope.
    half = theory.certified_step(slope[0], shortfall[0]) / 2
    half = jnp.where(jnp.isfinite(half), half, 0)
    clear = half * slope[0] / 2 > ROUNDOFF * (still[0] + half * moves * features[0])

    eta = step_size(draw)
    size = still + eta * moves * features
    measured, certified = _changes(*arguments, jnp.array([eta, half]), *weights)
    low, high = theory.change_bounds(slope, shortfall, eta)
    exact = jnp.array(of_one_pair(theory.exact_change, *arguments, eta, *weights))
    bounds = jnp.maximum(excess(measured, high, size), excess(low, measured, size + eta**2 * shortfall))
    falls = (slope <= 0) & (-eta * slope > ROUNDOFF * size)
    parts = (bounds, relative(exact - measured, size), excess(shortfall, loose, loose))
    signs = jnp.maximum(wrong(falls & (measured >= 0)), wrong(clear & ~(certified[0] > 0)))
    return jnp.maximum(jnp.array(parts).max(), signs)


def _free(draw: Draw) -> tuple[UnconstrainedFeatures, UnconstrainedParams]:
    """Unconstrained features on the pair's prefixes: unit vectors h, and W as sharp as the draw."""
    hidden = draw.noise.features.reshape(-1, draw.noise.features.shape[-1])
    params: UnconstrainedParams = {
        "head": jnp.asarray(draw.noise.sharpness * draw.noise.params[:, : hidden.shape[1]]),
        "hidden": hidden / jnp.linalg.norm(hidden, axis=1, keepdims=True),
    }
    return unconstrained(linear.prefix(draw.model.vocab_size, draw.pair)), params


@checks(
    "T13",
    "Learned hidden states: halving the step quarters the error of η · slope, but for a bound of order η³.",
    OFFSET,
)
def _t13(draw: Draw) -> Array:
    model, params = _free(draw)
    pair = draw.pair
    slope = jnp.array(theory.slopes(of_one_pair(gradients.pair_gram, model, params, pair)))
    chosen, rejected = of_one_pair(gradients.pair_gradients, model, params, pair)
    flat, unravel = jax.flatten_util.ravel_pytree(params)
    responses = pair.both_responses

    def logits(eta: Array) -> Float[Array, "2 T V"]:
        moved = unravel(flat + eta * (chosen - rejected))
        return jax.vmap(model.logits, in_axes=(None, 0))(moved, responses) * responses.mask[..., None]

    back, here, ahead = jax.vmap(logits)(jnp.arange(-1.0, 2.0))
    velocity, acceleration = (ahead - back) / 2, (ahead + back) / 2 - here  # exact: the logits are quadratic in η
    fastest = jnp.maximum(abs(velocity).max(), jnp.sqrt(abs(acceleration).max()))
    eta = 10 ** (-3 * draw.noise.uniform[1]) / (1 + fastest)  # moves no logit by more than about 1
    etas = jnp.array([eta, eta / 2])
    whole, halved = _changes(model, params, pair, etas) - etas[:, None] * slope
    bound = theory.halving_bound(velocity, acceleration, eta)
    size = abs(logps(model, params, pair)) + pair.chosen.size
    return excess(abs(whole - 4 * halved), bound, size)
