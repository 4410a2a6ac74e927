"""Inner products of token gradients, layer by layer along a `Network`, without building a gradient of all parameters.

The forward pass keeps the input of each stage. The backward pass takes the derivatives ("cotangents") of all tokens of
both responses at once. Each layer's inner products (`products`) are computed from its derivatives, which are then
freed. While stages are positionwise, the derivatives of token i are zero at all positions but its own, so one backward
pass serves all tokens. The gradients of a `Model` that is not a `Network` are built instead (`built`).
"""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from toymodel._public import own_names
from toymodel.data.pairs import PreferencePairs, Response
from toymodel.gradients.backward import pull_each
from toymodel.gradients.products import Products, of_affine, of_rows, of_scaling, of_shared_table
from toymodel.models.logps import Params, log_softmax_at
from toymodel.models.stages import Layer, Layers, Network, advance, embed

__dir__ = own_names(globals())

Cotangents = Float[Array, "2 m S d"] | Float[Array, "2 T d"]  # the latter: local, see `products`


def layer_products(model: Network, params: Params, pair: PreferencePairs, *, per_token: bool) -> dict[str, Products]:
    """Products of all token gradients of one pair, or of its two responses' (m = 1), by name of layer or table.

    Both responses are padded to the longer width. Layers of repeated stages have a leading axis of those stages; a
    later stage's layers of the same name follow in it. A tied head is part of its table.
    """
    responses = _stack_responses(pair)
    of_chosen, T = jax.tree.map(lambda leaf: leaf[0], responses), responses.tokens.shape[-1]
    jax.eval_shape(model.logits, params, of_chosen)  # the model's own checks of shapes
    features, inputs = jax.vmap(partial(_run_forward, model, params))(responses)
    weight, bias, tied = model.head(params)
    residuals = _residuals(features @ weight.T if bias is None else features @ weight.T + bias, responses)
    cotangents = residuals @ weight
    if not per_token:
        residuals, cotangents = residuals[:, None], cotangents[:, None]

    head = of_affine(features, residuals, bias=bias is not None)
    found: dict[str, list[Products]] = {}
    whole = False  # cotangents are those of the last T places alone
    for index, stage in reversed([*enumerate(model.stages(params, of_chosen))]):
        whole = whole or not stage.positionwise
        x = inputs[index] if whole else inputs[index][..., -T:, :]
        if whole:
            cotangents = _spread_to_all_places(cotangents, x.shape[-2])
        step = partial(_step_back, model, params, responses, index)
        if stage.repeated:
            cotangents, of_stage = jax.lax.scan(step, cotangents, (stage.layers, jnp.moveaxis(x, 1, 0)), reverse=True)
        else:
            cotangents, of_stage = step(cotangents, (stage.layers, x))
        for name, of_layer in of_stage.items():
            found.setdefault(name, []).insert(0, of_layer)

    grams = {name: _join_layers(of_layers) for name, of_layers in found.items()}
    if tied is not None:
        cotangents = _spread_to_all_places(cotangents, inputs[0].shape[-2])
    for name, rows in jax.vmap(model.rows)(responses).items():
        grams[name] = of_rows(rows[:, -cotangents.shape[-2] :], cotangents)
        if name == tied:
            cross = of_shared_table(rows, cotangents, features, residuals)
            grams[name] = jax.tree.map(lambda *parts: sum(parts), grams[name], cross, head)
    return grams if tied is not None else grams | {"head": head}


def _stack_responses(pair: PreferencePairs) -> Response:
    """Stack the two responses of one pair into a batch of two, padded to one width."""
    sides = pair.chosen_response, pair.rejected_response
    T = max(side.tokens.shape[-1] for side in sides)

    def wide(side: Response) -> Response:
        tokens, mask = (jnp.pad(leaf, (0, T - leaf.shape[-1])) for leaf in (side.tokens, side.mask))
        return Response(side.prompt, side.prompt_mask, tokens, mask)

    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *map(wide, sides))


def _run_forward(model: Network, params: Params, response: Response) -> tuple[Float[Array, "T d"], list[Array]]:
    """Compute the features of one response, and keep the input of each stage."""
    x, inputs = embed(model, params, response), []
    for stage in model.stages(params, response):
        x, flowed = advance(stage, x)
        inputs.append(flowed)
    return x[-response.tokens.shape[-1] :], inputs


def _residuals(logits: Float[Array, "2 T V"], responses: Response) -> Float[Array, "2 T V"]:
    """The derivative of each token's log-probability in its own logits; zero at padding."""
    return jax.grad(lambda z: jnp.where(responses.mask, log_softmax_at(z, responses.tokens), 0).sum())(logits)


def _spread_to_all_places(cotangents: Cotangents, S: int) -> Float[Array, "2 m S d"]:
    """Spread cotangents of the last T places over all S places, with zeros before; those of all S places stay."""
    if cotangents.ndim == 3:
        T = cotangents.shape[1]
        cotangents = jnp.eye(T, dtype=cotangents.dtype)[..., None] * cotangents[:, None]
    return jnp.pad(cotangents, ((0, 0), (0, 0), (S - cotangents.shape[2], 0), (0, 0)))


def _step_back(
    model: Network, params: Params, responses: Response, index: int, cotangents: Cotangents, given: tuple[Layers, Array]
) -> tuple[Cotangents, dict[str, Products]]:
    """Go back through one stage: from the cotangents of its output to those of its input, and its layers' products.

    Every position gets its own bias, even in layers without one: its derivative is that of the layer's output there.
    """
    layers, inputs = given

    def of_response(
        response: Response, x: Array, cotangents: Array
    ) -> tuple[Array, dict[str, Array], dict[str, Array]]:
        stage = model.stages(params, response)[index]

        def apply(x: Array, biases: dict[str, Array]) -> tuple[Array, dict[str, Array]]:
            return stage.apply({name: layer | {"bias": biases[name]} for name, layer in layers.items()}, x)

        biases = {name: jnp.broadcast_to(b := _bias(layer), (len(x), *b.shape)) for name, layer in layers.items()}
        _, pull, went_in = jax.vjp(apply, x, biases, has_aux=True)
        if cotangents.ndim == x.ndim:
            before, deltas = pull(cotangents)
        else:  # both responses are on their way at once
            before, deltas = pull_each(pull, cotangents, places=2 * len(x))
        return before, went_in, deltas

    before, went_in, deltas = jax.vmap(of_response)(responses, inputs, cotangents)
    return before, {name: _multiply_layer(layer, went_in[name], deltas[name]) for name, layer in layers.items()}


def _bias(layer: Layer) -> Float[Array, " out"]:
    """The bias of a layer: zeros if it has none."""
    weight = layer["gain" if "gain" in layer else "weight"]
    return layer.get("bias", jnp.zeros(weight.shape[-1], weight.dtype))


def _multiply_layer(layer: Layer, inputs: Array, deltas: Array) -> Products:
    return (of_scaling if "gain" in layer else of_affine)(inputs, deltas, bias="bias" in layer)


def _join_layers(of_layers: list[Products]) -> Products:
    """Join the products of layers of one name into one array over layers, if some have such an axis already."""
    if len(of_layers) == 1:
        return of_layers[0]
    full = max(of_layers, key=lambda p: p.inner.ndim).inner.ndim
    of_layers = [p if p.inner.ndim == full else jax.tree.map(lambda leaf: leaf[None], p) for p in of_layers]
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *of_layers)
