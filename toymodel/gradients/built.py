"""Gradients as arrays, for any `Model` with few parameters."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from toymodel._checks import is_concrete, note_single_precision, require_finite
from toymodel._public import own_names
from toymodel.data.pairs import PreferencePairs, Response
from toymodel.gradients.backward import pull_each
from toymodel.gram import Scalars
from toymodel.models.logps import Model, Params, check_group, check_inputs, response_logp, token_logps

__dir__ = own_names(globals())


def pair_gradients(
    model: Model, params: Params, pairs: PreferencePairs
) -> tuple[Float[Array, "n P"], Float[Array, "n P"]]:
    """∇ log π_w and ∇ log π_l of each pair, flattened over all P parameters (nats per parameter unit)."""
    check_inputs(model, params, pairs)
    return _pair_gradients(model, params, pairs)


def token_gradients(model: Model, params: Params, response: Response) -> Float[Array, "T P"]:
    """∇ log p(y^i) of every token of one response, flattened over all P parameters; zero at padding.

    Materialised: T × P numbers.
    """
    return _token_gradients(model, params, response)


def tangent_kernel(model: Model, params: Params, pair: PreferencePairs) -> Float[Array, "T_w T_l V V"]:
    """K = J J′ᵀ, the empirical tangent kernel of the logits before each token of the two responses of one pair (T2).

    Entry [i, j, v, u] is ⟨∇ z_v, ∇ z′_u⟩. Padding is not masked, because residuals are zero there. J has
    T × V × P numbers, so this is for small models.

    Raises:
      ValueError: malformed pairs or a batch of them, tokens outside the model's vocabulary, non-finite parameters.
    """
    check_inputs(model, params, pair, one_pair=True)
    return _tangent_kernel(model, params, pair)


def slopes(
    model: Model, params: Params, pairs: PreferencePairs, d_chosen: Scalars = 1.0, d_rejected: Scalars = 1.0
) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
    """d/dη of (log π_w, log π_l) of each pair along its own step d_w g_w − d_l g_l, at η = 0.

    A forward derivative of the model along the step: nats per unit of learning rate.
    """
    check_inputs(model, params, pairs)
    return _slopes(model, params, pairs, *_weights(pairs, params, d_chosen, d_rejected))


def step_change(
    model: Model,
    params: Params,
    pairs: PreferencePairs,
    optimizer: optax.GradientTransformation,
    d_chosen: Scalars = 1.0,
    d_rejected: Scalars = 1.0,
) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
    """True change of (log π_w, log π_l), in nats, when each pair alone takes one step of a new optimiser.

    `optax.sgd(eta)` is the step θ + η(d_w g_w − d_l g_l) of the theory; any other optax optimiser may be given.
    """
    check_inputs(model, params, pairs)
    if is_concrete(params):
        note_single_precision()

    def change(pair: PreferencePairs, d_w: Array, d_l: Array) -> tuple[Array, Array]:
        logps = _logps(model, params, pair)
        updates, _ = optimizer.update(_loss_gradient(model, params, pair, d_w, d_l), optimizer.init(params), params)
        return jax.tree.map(jnp.subtract, _logps(model, optax.apply_updates(params, updates), pair), logps)

    return jax.vmap(change)(pairs, *_weights(pairs, params, d_chosen, d_rejected))


def group_gram(model: Model, params: Params, responses: Response) -> Float[Array, "n n"]:
    """⟨∇ log π(y_i), ∇ log π(y_j)⟩ of n responses, each to its own prompt. Materialised: n × P numbers.

    Raises:
      ValueError: malformed responses, tokens outside the model's vocabulary, non-finite parameters.
    """
    check_group(model, params, responses)
    return _group_gram(model, params, responses)


def group_slopes(
    model: Model, params: Params, responses: Response, advantages: Float[Array, " n"]
) -> Float[Array, " n"]:
    """d/dη of log π(y_j) of each of n responses along their common step Σ_i A_i ∇ log π(y_i), at η = 0.

    The sums of `group_token_slopes`, in nats per unit of learning rate.

    Raises:
      ValueError: as for `group_gram`, or `advantages` is not finite or not one number per response.
    """
    return group_token_slopes(model, params, responses, advantages).sum(axis=-1)


def group_token_slopes(
    model: Model, params: Params, responses: Response, advantages: Float[Array, " n"]
) -> Float[Array, "n T"]:
    """d/dη of log p of every token of n responses along their common step Σ_i A_i ∇ log π(y_i), at η = 0; 0 at padding.

    A forward derivative of the model along the step: nats per unit of learning rate.

    Raises:
      ValueError: as for `group_slopes`.
    """
    check_group(model, params, responses)
    require_finite("advantages", advantages)
    if jnp.shape(advantages) != (n := responses.tokens.shape[:1]):
        raise ValueError(f"`advantages` must be one number per response {n}, got shape {jnp.shape(advantages)}.")
    return _group_token_slopes(model, params, responses, advantages)


@jax.jit
def _pair_gradients(model: Model, params: Params, pairs: PreferencePairs) -> tuple[Array, Array]:
    return (
        _group_gradients(model, params, pairs.chosen_response),
        _group_gradients(model, params, pairs.rejected_response),
    )


@jax.jit
def _group_gram(model: Model, params: Params, responses: Response) -> Array:
    gradients = _group_gradients(model, params, responses)
    return gradients @ gradients.T


@jax.jit
def _group_token_slopes(model: Model, params: Params, responses: Response, advantages: Array) -> Array:
    def logps(params: Params) -> Array:
        return jax.vmap(token_logps, in_axes=(None, None, 0))(model, params, responses)

    step = jax.grad(lambda params: advantages @ logps(params).sum(axis=-1))(params)
    return jax.jvp(logps, (params,), (step,))[1]


@jax.jit
def _token_gradients(model: Model, params: Params, response: Response) -> Array:
    flat, unravel = ravel_pytree(params)
    return _jacobian(lambda flat: token_logps(model, unravel(flat), response), flat, response)


def _jacobian(
    function: Callable[[Array], Array], flat: Float[Array, " P"], response: Response
) -> Float[Array, "... P"]:
    """Derivatives of all that the function says of a response: `jax.jacrev` in parts."""
    value, pull = jax.vjp(function, flat)
    cotangents = jnp.eye(value.size, dtype=value.dtype).reshape(-1, *value.shape)
    places = len(response.prompt) + len(response.tokens)
    return pull_each(lambda one: pull(one)[0], cotangents, places=places).reshape(*value.shape, -1)


@jax.jit
def _tangent_kernel(model: Model, params: Params, pair: PreferencePairs) -> Array:
    flat, unravel = ravel_pytree(params)

    def of_logits(response: Response) -> Array:
        return _jacobian(lambda flat: model.logits(unravel(flat), response), flat, response)

    chosen, rejected = of_logits(pair.chosen_response), of_logits(pair.rejected_response)
    return jnp.einsum("ivp,jup->ijvu", chosen, rejected)


@jax.jit
def _slopes(
    model: Model, params: Params, pairs: PreferencePairs, d_chosen: Array, d_rejected: Array
) -> tuple[Array, Array]:
    def along_step(pair: PreferencePairs, d_w: Array, d_l: Array) -> tuple[Array, Array]:
        step = jax.tree.map(jnp.negative, _loss_gradient(model, params, pair, d_w, d_l))
        return jax.jvp(lambda params: _logps(model, params, pair), (params,), (step,))[1]

    return jax.vmap(along_step)(pairs, d_chosen, d_rejected)


def _logps(model: Model, params: Params, pair: PreferencePairs) -> tuple[Array, Array]:
    return response_logp(model, params, pair.chosen_response), response_logp(model, params, pair.rejected_response)


def _group_gradients(model: Model, params: Params, responses: Response) -> Float[Array, "n P"]:
    def gradient(response: Response) -> Array:
        return ravel_pytree(jax.grad(response_logp, argnums=1)(model, params, response))[0]

    return jax.vmap(gradient)(responses)


def _loss_gradient(model: Model, params: Params, pair: PreferencePairs, d_w: Array, d_l: Array) -> Params:
    """−(d_w g_w − d_l g_l): the gradient of a loss that puts these weights on the two log-probabilities."""

    def loss(params: Params) -> Array:
        chosen, rejected = _logps(model, params, pair)
        return d_l * rejected - d_w * chosen

    return jax.grad(loss)(params)


def _weights(pairs: PreferencePairs, params: Params, d_chosen: Scalars, d_rejected: Scalars) -> tuple[Array, Array]:
    """The two weights as arrays over pairs, in the parameters' dtype."""

    def weight(name: str, d: Scalars) -> Array:
        require_finite(name, d)
        array = jnp.asarray(d, jnp.result_type(*jax.tree.leaves(params)))
        if array.shape not in ((), (len(pairs),)):
            raise ValueError(f"`{name}` must be one number or one per pair ({len(pairs)}), got shape {array.shape}.")
        return jnp.broadcast_to(array, len(pairs))

    return weight("d_chosen", d_chosen), weight("d_rejected", d_rejected)
