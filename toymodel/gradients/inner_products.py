"""Gram matrices of gradients: whole, token by token, layer by layer.

A `Network` is measured layer by layer (`factored`), without building gradients. The gradients of any other `Model` are
built, all at once if they fit `BUILT_NUMBERS`.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from toymodel._public import own_names
from toymodel.data.pairs import PreferencePairs, Response
from toymodel.gradients.built import token_gradients
from toymodel.gradients.factored import layer_products
from toymodel.gradients.products import Products
from toymodel.gram import PairGram, cosine
from toymodel.models.logps import Model, Params, check_inputs, response_logp, token_logps
from toymodel.models.stages import Network

__dir__ = own_names(globals())

BUILT_NUMBERS = 2**26  # gradients of more numbers than that are built one after the other
PAIRS_AT_ONCE = 8  # pairs of a `Network` measured at once, so that memory does not grow with the number of pairs


def pair_gram(model: Model, params: Params, pairs: PreferencePairs) -> PairGram:
    """‖∇ log π_w‖², ‖∇ log π_l‖² and ⟨∇ log π_w, ∇ log π_l⟩ of each pair.

    Raises:
      ValueError: malformed pairs, tokens outside the model's vocabulary, non-finite parameters.
    """
    check_inputs(model, params, pairs)
    return _pair_gram(model, params, pairs)


def layer_gram(model: Model, params: Params, pairs: PreferencePairs) -> dict[str, PairGram]:
    """Gram entries by layer, weight and bias together; they sum to `pair_gram`.

    Keys are names of layers and tables, and "head"; a tied head has no separate key. With L > 1 blocks, their layers
    have arrays [L, n], including the last block; all others have [n]. A `Model` that is not a `Network` has a key for
    each leaf of its parameters.

    Raises:
      ValueError: as for `pair_gram`.
    """
    check_inputs(model, params, pairs)
    return _layer_gram(model, params, pairs)


def token_gram(model: Model, params: Params, pair: PreferencePairs) -> Float[Array, "T_w T_l"]:
    """⟨∇ log p(y_w^i), ∇ log p(y_l^j)⟩ for every token i of the chosen and j of the rejected response of one pair.

    Its sum is `pair_gram(...).inner`; rows and columns of padding are zero.

    Raises:
      ValueError: as for `pair_gram`, or a batch of pairs.
    """
    check_inputs(model, params, pair, one_pair=True)
    return _token_gram(model, params, pair)


def token_cosines(model: Model, params: Params, pair: PreferencePairs) -> Float[Array, "T_w T_l"]:
    """Cosines between the gradients of `token_gram`; NaN at padding, and where a gradient is zero.

    Raises:
      ValueError: as for `token_gram`.
    """
    check_inputs(model, params, pair, one_pair=True)
    return _token_cosines(model, params, pair)


def token_row(model: Model, params: Params, pair: PreferencePairs) -> Float[Array, " T_l"]:
    """⟨∇ log π_w, ∇ log p(y_l^j)⟩ for every token j of the rejected response of one pair: `token_gram` summed over i.

    It costs one gradient, and one forward derivative along it.

    Raises:
      ValueError: as for `token_gram`.
    """
    check_inputs(model, params, pair, one_pair=True)
    return _token_row(model, params, pair)


@jax.jit
def _pair_gram(model: Model, params: Params, pairs: PreferencePairs) -> PairGram:
    return _sum_layers(_layer_gram(model, params, pairs))


@jax.jit
def _layer_gram(model: Model, params: Params, pairs: PreferencePairs) -> dict[str, PairGram]:
    if not isinstance(model, Network):
        size = 2 * sum(jnp.size(leaf) for leaf in jax.tree.leaves(params))
        measure = partial(_leaf_gram, model, params)
        if len(pairs) * size <= BUILT_NUMBERS:
            return jax.vmap(measure)(pairs)
        return jax.lax.map(measure, pairs, batch_size=max(1, BUILT_NUMBERS // size))

    def measure_pair(pair: PreferencePairs) -> dict[str, PairGram]:
        grams = layer_products(model, params, pair, per_token=False)
        return {
            name: PairGram(chosen_sq[..., 0], rejected_sq[..., 0], inner[..., 0, 0])
            for name, (chosen_sq, rejected_sq, inner) in grams.items()
        }

    grams = (
        jax.vmap(measure_pair)(pairs)
        if len(pairs) <= PAIRS_AT_ONCE
        else jax.lax.map(measure_pair, pairs, batch_size=PAIRS_AT_ONCE)
    )
    return jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 0, -1), grams)


@jax.jit
def _token_gram(model: Model, params: Params, pair: PreferencePairs) -> Array:
    return _token_products(model, params, pair).inner


@jax.jit
def _token_cosines(model: Model, params: Params, pair: PreferencePairs) -> Array:
    chosen_sq, rejected_sq, inner = _token_products(model, params, pair)
    return cosine(PairGram(chosen_sq[:, None], rejected_sq, inner))


@jax.jit
def _token_row(model: Model, params: Params, pair: PreferencePairs) -> Array:
    gradient = jax.grad(response_logp, argnums=1)(model, params, pair.chosen_response)
    return jax.jvp(lambda params: token_logps(model, params, pair.rejected_response), (params,), (gradient,))[1]


def _token_products(model: Model, params: Params, pair: PreferencePairs) -> Products:
    """Squared norms and inner products of the gradients of all T_w and T_l tokens."""
    T_w, T_l = pair.chosen.shape[-1], pair.rejected.shape[-1]
    if isinstance(model, Network):
        chosen_sq, rejected_sq, inner = _sum_layers(layer_products(model, params, pair, per_token=True))
        return Products(chosen_sq[:T_w], rejected_sq[:T_l], inner[:T_w, :T_l])
    if (T_w + T_l) * sum(jnp.size(leaf) for leaf in jax.tree.leaves(params)) > BUILT_NUMBERS:
        return _row_by_row(model, params, pair)
    chosen, rejected = (token_gradients(model, params, r) for r in (pair.chosen_response, pair.rejected_response))
    return Products((chosen**2).sum(axis=-1), (rejected**2).sum(axis=-1), chosen @ rejected.T)


def _row_by_row(model: Model, params: Params, pair: PreferencePairs) -> Products:
    """Token products from one gradient at a time, with forward derivatives along the chosen ones."""
    _, along = jax.linearize(lambda params: token_logps(model, params, pair.rejected_response), params)

    def each_gradient(response: Response, measure: Callable[[Params], Any]) -> Any:
        logps, pull = jax.vjp(lambda params: token_logps(model, params, response), params)
        return jax.lax.map(lambda one: measure(*pull(one)), jnp.eye(len(logps), dtype=logps.dtype))

    chosen_sq, inner = each_gradient(pair.chosen_response, lambda gradient: (_squared_norm(gradient), along(gradient)))
    return Products(chosen_sq, each_gradient(pair.rejected_response, _squared_norm), inner)


def _squared_norm(gradient: Params) -> Float[Array, ""]:
    return jnp.stack([jnp.vdot(leaf, leaf) for leaf in jax.tree.leaves(gradient)]).sum()


def _leaf_gram(model: Model, params: Params, pair: PreferencePairs) -> dict[str, PairGram]:
    """Gram entries of one pair by leaf of the parameters, from materialised gradients."""
    gradient = jax.grad(response_logp, argnums=1)
    chosen, rejected = (gradient(model, params, r) for r in (pair.chosen_response, pair.rejected_response))
    grams = jax.tree.map(lambda g, h: PairGram(jnp.vdot(g, g), jnp.vdot(h, h), jnp.vdot(g, h)), chosen, rejected)
    leaves = jax.tree_util.tree_leaves_with_path(grams, is_leaf=lambda node: isinstance(node, PairGram))
    return {jax.tree_util.keystr(path, simple=True, separator=".") or "params": gram for path, gram in leaves}


def _sum_layers(grams: dict[str, PairGram]) -> PairGram:
    """Sum the Gram entries over all layers."""
    summed = [jax.tree.map(lambda a: a.sum(axis=0), g) if g.chosen_sq.ndim == 2 else g for g in grams.values()]
    return jax.tree.map(lambda *parts: sum(parts), *summed)
