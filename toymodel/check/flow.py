"""What T14 says about one draw: the path of gradient flow."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array

from toymodel import theory
from toymodel._public import own_names
from toymodel.check.discrepancy import checks, relative
from toymodel.check.draws import OFFSET, Draw, first_tokens, logps, step_size
from toymodel.models.linear import LinearSoftmax

__dir__ = own_names(globals())


@checks("T14", "Gradient flow of DPO and IPO on one differing token follows its closed path.", OFFSET)
def _t14(draw: Draw) -> Array:
    """Flow of DPO and IPO in one context with features φ and logits Wφ."""
    features = jnp.asarray(draw.noise.features[0, 0]) * (0.3 + draw.noise.uniform[1])
    model = LinearSoftmax("unigram", draw.model.vocab_size, features[None], tabular=False)
    params = jnp.asarray(draw.noise.sharpness * draw.noise.params[:, : features.size])
    pair, sq = first_tokens(draw), (features**2).sum()
    towards = jnp.zeros(len(params)).at[pair.chosen[0]].add(1.0).at[pair.rejected[0]].add(-1.0)
    time, hyper = step_size(draw), 10 ** (3 * draw.noise.uniform[1] - 2)
    reference = logps(model, params, pair)

    def along(flow: Callable[..., Array], loss: Callable[[Array], Array], weight: Callable[[Array], Array]) -> Array:
        u, velocity = jax.jvp(lambda t: flow(t, hyper, sq), (time,), (jnp.ones(()),))
        here = params + u * jnp.outer(towards, features) / sq

        def value(params: Array) -> Array:
            ratios = logps(model, params, pair) - reference
            return loss(ratios[0] - ratios[1])

        step = -jax.grad(value)(here) - velocity * jnp.outer(towards, features) / sq
        scale = abs(params @ features).max() + u  # of the logits; times the loss's curvature, how well it knows d
        after = jnp.array(theory.flow_logps(params @ features, pair.chosen[0], pair.rejected[0], u))
        path = relative(after - logps(model, here, pair), 1 + abs(after) + scale)
        return jnp.maximum(relative(step, weight(scale) * jnp.sqrt(sq)), path)

    return jnp.maximum(
        along(theory.dpo_flow, lambda m: jax.nn.softplus(-hyper * m), lambda scale: hyper * (1 + hyper * scale)),
        along(theory.ipo_flow, lambda m: (m - 1 / (2 * hyper)) ** 2, lambda scale: 1 / hyper + 2 * scale),
    )
