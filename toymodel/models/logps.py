"""The interface of every language model here, and its log-probabilities of responses."""

from functools import partial
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from toymodel._checks import describe, require_finite
from toymodel._public import own_names
from toymodel.data.pairs import PreferencePairs, Response

__dir__ = own_names(globals())

Params = Any  # a pytree of floating-point arrays


class Model(Protocol):
    """An autoregressive softmax language model: a pytree of frozen arrays, with its learned parameters kept apart."""

    @property
    def vocab_size(self) -> int:
        """V, the number of token ids."""

    def logits(self, params: Params, response: Response) -> Float[Array, "T V"]:
        """Logits before each token of one response; row i depends on the prompt and on tokens before i only."""


@jax.jit  # traced once a shape: most programs contain it many times
def log_softmax_at(logits: Float[Array, "*T V"], tokens: Int[Array, "*T"]) -> Float[Array, "*T"]:
    """log softmax(z)[y], in nats, written as −log(1 + Σ_{v≠y} exp(z_v − z_y)).

    The same number as `jax.nn.log_softmax`, but its derivative in z_y is the *sum* Σ_{v≠y} p_v rather than the
    difference 1 − p_y, which loses its digits when the model is nearly certain (p_y → 1).
    """
    here = tokens[..., None] == jnp.arange(logits.shape[-1])
    target = jnp.take_along_axis(logits, tokens[..., None], axis=-1)
    return -jax.nn.softplus(jax.nn.logsumexp(jnp.where(here, -jnp.inf, logits - target), axis=-1))


def token_logps(model: Model, params: Params, response: Response) -> Float[Array, " T"]:
    """Log p(y^i | x, y^{<i}) of each token of one response, in nats; 0 at padding."""
    return logps_of_logits(model.logits(params, response), response)


def logps_of_logits(logits: Float[Array, "T V"], response: Response) -> Float[Array, " T"]:
    """Log-probability of each token of one response, from the logits before it; 0 at padding."""
    tokens = jnp.where(response.mask, response.tokens, 0)  # padding may hold any id
    return jnp.where(response.mask, log_softmax_at(logits, tokens), 0)


def response_logp(model: Model, params: Params, response: Response) -> Float[Array, ""]:
    """log π(y | x) of one response: the sum of `token_logps`, in nats."""
    return token_logps(model, params, response).sum()


def pair_logps(model: Model, params: Params, pairs: PreferencePairs) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
    """(`chosen_logps`, `rejected_logps`) of a batch of pairs: sums over the response, in nats.

    Raises:
      ValueError: malformed pairs, tokens outside the model's vocabulary, non-finite parameters.
    """
    check_inputs(model, params, pairs)
    return _pair_logps(model, params, pairs)


@jax.jit
def _pair_logps(model: Model, params: Params, pairs: PreferencePairs) -> tuple[Array, Array]:
    chosen, rejected = jax.vmap(jax.vmap(partial(response_logp, model, params)))(pairs.both_responses)
    return chosen, rejected


def check_inputs(model: Model, params: Params, pairs: PreferencePairs, *, one_pair: bool = False) -> None:
    """Check a model, its parameters and a batch of pairs (or one pair); raise `ValueError`."""
    check_kinds(model, params, **{"pair" if one_pair else "pairs": pairs})
    if pairs.chosen.ndim != (1 if one_pair else 2):
        wanted = (
            "`pair` must be one pair (`pairs[i]`)" if one_pair else "`pairs` must be a batch (`pairs[i:i + 1]` for one)"
        )
        raise ValueError(f"{wanted}, got chosen tokens of shape {pairs.chosen.shape}.")
    pairs.check(model.vocab_size)
    check_params("params", params)
    require_finite("model", model)


def check_group(model: Model, params: Params, responses: Response) -> None:
    """Check a model, its parameters and a group of responses; raise `ValueError`."""
    check_kinds(model, params)
    if not isinstance(responses, Response):
        raise ValueError(f"`responses` must be a `Response`, got {describe(responses)}.")
    if responses.tokens.ndim != 2:
        raise ValueError(f"`responses` must have one leading axis, got tokens of shape {responses.tokens.shape}.")
    responses.check(model.vocab_size)
    check_params("params", params)
    require_finite("model", model)


def check_kinds(model: Any, params: Any, **batches: Any) -> None:
    """Raise `ValueError` unless these are a model, floating-point parameters, and named preference pairs."""
    if isinstance(model, type) or not (hasattr(model, "vocab_size") and hasattr(model, "logits")):
        raise ValueError(
            f"`model` must have `vocab_size` and `logits`, as `Model` says, got {describe(model)}; the order is model, "
            "params, then data."
        )
    for name, pairs in batches.items():
        if not isinstance(pairs, PreferencePairs):
            raise ValueError(
                f"`{name}` must be `PreferencePairs`, got {describe(pairs)}; the order is model, params, {name}."
            )
    _check_floating("params", params)


def check_params(name: str, params: Params) -> None:
    """Raise `ValueError` unless this is a pytree of finite floating-point arrays, with at least one."""
    _check_floating(name, params)
    require_finite(name, params)


def _check_floating(name: str, params: Any) -> None:
    for leaf in jax.tree.leaves(params) or [params]:
        if not (hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.floating)):
            raise ValueError(f"`{name}` must hold floating-point arrays, got {describe(leaf)}.")
