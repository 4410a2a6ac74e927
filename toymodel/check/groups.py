"""What T20 and T21 say of one draw: several responses that take one step together."""

import jax.numpy as jnp
from jaxtyping import Array

from toymodel import gradients, theory
from toymodel._public import own_names
from toymodel.check.discrepancy import ROUNDOFF, checks, excess, relative, wrong
from toymodel.check.draws import OFFSET, Draw, two_pairs

__dir__ = own_names(globals())


@checks("T20", "Batches: slopes of every pair under the mean step, and never all reversed.", OFFSET)
def _t20(draw: Draw) -> Array:
    model, params, pairs, sizes = two_pairs(draw)
    weights = jnp.array([draw.d_chosen, draw.d_rejected])
    d_chosen, d_rejected = weights, weights[::-1]
    responses, advantages = theory.as_group(pairs, d_chosen, d_rejected)
    measured = gradients.group_slopes(model, params, responses, advantages)
    predicted = theory.group_slopes(theory.group_gram(model, params, responses), advantages)
    size = sizes * (sizes @ abs(advantages))
    chosen, rejected = gradients.pair_gradients(model, params, pairs)
    step = (d_chosen @ chosen - d_rejected @ rejected) / 2
    total = d_chosen @ measured[:2] - d_rejected @ measured[2:]
    total_size = jnp.concatenate([d_chosen, d_rejected]) @ size
    identities = relative(predicted - measured, size), relative(total - 2 * step @ step, total_size)
    reversed_ = (measured[:2] < -ROUNDOFF * size[:2]) & (measured[2:] > ROUNDOFF * size[2:])
    return jnp.array([*identities, excess(-total, jnp.zeros(()), total_size), wrong(reversed_.all())]).max()


@checks("T21", "Groups: slopes are G A, AᵀGA ≥ 0, and displacement is told from G.", OFFSET)
def _t21(draw: Draw) -> Array:
    """Four responses whose advantages sum to zero."""
    model, params, pairs, sizes = two_pairs(draw)
    responses, _ = theory.as_group(pairs)
    rewards = jnp.concatenate([jnp.asarray(draw.noise.uniform), jnp.round(draw.noise.uniform)])
    advantages = theory.normalised_advantages(rewards)
    gram, measured_gram = (f(model, params, responses) for f in (theory.group_gram, gradients.group_gram))
    measured = gradients.group_slopes(model, params, responses, advantages)
    size = sizes * (sizes @ abs(advantages))
    parts = (
        relative(gram - measured_gram, jnp.outer(sizes, sizes)),
        relative(theory.group_slopes(gram, advantages) - measured, size),
        excess(-advantages @ measured, jnp.zeros(()), abs(advantages) @ size),
        relative(advantages.sum(), 4 * jnp.ones(())),
    )
    falls = (advantages > 0) & (measured < 0)
    disagrees = (theory.displaced(gram, advantages) != falls) & (abs(measured) > ROUNDOFF * size)
    return jnp.maximum(jnp.array(parts).max(), wrong(disagrees))
