"""Numbers of our models against those that an outside implementation found for the same weights, to round-off."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from neural import longest_sum
from oracles import assert_close

from toymodel.models.logps import response_logp

EPS = float(jnp.finfo(jnp.float64).eps)


def of_case(arrays, case, kind):
    """The arrays of one kind, `weight` or `gradient`, of one case, by the outside names."""
    start = f"{case}/{kind}/"
    return {name.removeprefix(start): array for name, array in arrays.items() if name.startswith(start)}


def measure(model, params, responses):
    """Per sequence: logits, log-probability and its gradient; and how far a relative change of all parameters by ±1
    moves each of them, to first order (root mean square over draws of the signs)."""
    return jax.tree.map(np.asarray, _measure(model, params, responses))


@partial(jax.jit, static_argnums=0)
def _measure(model, params, responses):
    flat, unravel = ravel_pytree(params)
    signs = jax.random.rademacher(jax.random.key(0), (16, flat.size), flat.dtype)

    def of(response):
        def numbers(flat):
            logp, gradient = jax.value_and_grad(lambda flat: response_logp(model, unravel(flat), response))(flat)
            return model.logits(unravel(flat), response), logp, unravel(gradient)

        here, moves = jax.vmap(lambda sign: jax.jvp(numbers, (flat,), (sign * flat,)), out_axes=(None, 0))(signs)
        return here, jax.tree.map(lambda move: jnp.sqrt((move**2).mean(axis=0)), moves)

    return jax.vmap(of)(responses)


def assert_same(model, responses, measured, arrays, case, ours_of):
    """Ours against the arrays of one case of the outside implementation; `ours_of` puts its parameters into our tree.

    What a layer rounds is what a relative change of its parameters does, by one unit round-off per term summed on the
    longest way through the model, on both sides, forward and back. So numbers may differ by that often what a relative
    change of all parameters by ±1 moves them by; in a gradient or in logits, by what it moves the array's largest entry
    by (the gradient of the keys' biases is zero, but for round-off).
    """
    (z, logps, gradients), (z_size, logps_size, sizes) = measured
    unit = 4 * EPS * longest_sum(model, responses.prompt.shape[-1] + responses.tokens.shape[-1])
    real = responses.mask[..., None]
    assert_close(np.where(real, z - arrays[f"{case}/logits"], 0), 0, (z_size + abs(z)).max(), unit)
    assert_close(logps, arrays[f"{case}/logps"], logps_size + abs(logps), unit)
    of_sequences = of_case(arrays, case, "gradient")
    each = [ours_of({name: array[row] for name, array in of_sequences.items()}) for row in range(len(logps))]
    theirs = jax.tree.map(lambda *leaves: np.stack(leaves), *each)
    jax.tree.map(lambda a, b, size: assert_close(a, b, (size + abs(a)).max(), unit), gradients, theirs, sizes)
