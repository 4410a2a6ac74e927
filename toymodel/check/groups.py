"""What T20, T21, T24 and T25 say about one draw: several responses that take one step together."""

import jax
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


@checks(
    "T24", "The common step: every slope is at least ‖u‖², and equal where u has weight; the price of slopes.", OFFSET
)
def _t24(draw: Draw) -> Array:
    """Slopes of at least ‖u‖² for all, and this convex combination: together they prove that no step does better."""
    model, params, pairs, sizes = two_pairs(draw)
    responses, advantages = theory.as_group(pairs)
    gram, signs = theory.group_gram(model, params, responses), jnp.sign(advantages)
    weights = theory.common_weights(gram, advantages)
    least, total = (signs * weights) @ gram @ (signs * weights), weights @ sizes
    slopes = signs * gradients.group_slopes(model, params, responses, signs * weights)
    both = jnp.concatenate(gradients.pair_gradients(model, params, pairs))
    u = (signs * weights) @ both
    size = (sizes + total) * total
    bears = weights * sizes > ROUNDOFF**0.5 * total  # of a lighter one the slope is not known, nor does it matter
    parts = (
        relative(u @ u - least, total**2),
        excess(jnp.where(jnp.diagonal(gram) > 0, least, slopes), slopes, size),  # a gradient of zero takes no part
        relative(jnp.where(bears, slopes - least, 0), size),
        _miss_price(draw),
    )
    return jnp.array(parts).max()


def _miss_price(draw: Draw) -> Array:
    """The shortest step in the plane of both gradients that has slopes (s, −t), against its price."""
    s, t = draw.d_chosen, draw.d_rejected
    both = jnp.stack([tokens.sum(axis=0) for tokens in draw.tokens])
    lengths = jnp.sqrt(jnp.array(draw.gram[:2]))
    apart = (lengths**2 > ROUNDOFF**0.5 * jnp.array([one.sum() for one in draw.sizes]) ** 2).all()
    lengths = jnp.where(apart, lengths, 1)
    sine = 1 - (draw.gram.inner / lengths.prod()) ** 2
    apart &= sine > 0.01
    first, second = both / lengths[:, None]
    across = second - (first @ second) * first  # Gram–Schmidt; of length √sine
    wanted = jnp.array([s, -t]) / lengths
    step = wanted[0] * first + (wanted[1] - wanted[0] * first @ second) * across / jnp.where(apart, across @ across, 1)
    size = (abs(wanted).sum() / jnp.where(apart, sine, 1)) ** 2
    return relative(jnp.where(apart, theory.step_price(draw.predicted, s, t) - step @ step, 0), size)


@checks("T25", "Credit of a group's tokens is a covariance: none for a shared token in a shared context.", OFFSET)
def _t25(draw: Draw) -> Array:
    """As many responses as the draw has positions, with one learned offset of the logits they stand in."""
    logits, tokens = jnp.asarray(draw.noise.sharpness * draw.noise.logits[0]), draw.pair.chosen
    rewards, n = jnp.asarray(draw.noise.features[0, :, 0]), len(tokens)
    centred, lengths = theory.normalised_advantages(rewards), 1 + jnp.arange(n)

    def miss(logits: Array, tokens: Array, advantages: Array) -> Array:
        def objective(offset: Array) -> Array:
            return (advantages * jax.nn.log_softmax(logits + offset)[jnp.arange(n), tokens]).mean()

        measured = jax.grad(objective)(jnp.zeros(logits.shape[1]))
        return relative(
            theory.token_credit(jax.nn.softmax(logits), tokens, advantages) - measured, abs(advantages).mean()
        )

    model, params, pairs, sizes = two_pairs(draw)
    responses, of_pairs = theory.as_group(pairs, draw.d_chosen, draw.d_rejected)
    slopes = [route.group_token_slopes(model, params, responses, of_pairs) for route in (theory, gradients)]
    alike, same = jnp.broadcast_to(logits[0], logits.shape), jnp.broadcast_to(tokens[0], tokens.shape)
    nothing = theory.token_credit(jax.nn.softmax(logits[0]), same, centred)
    parts = (
        miss(logits, tokens, rewards),
        miss(logits, same, centred),  # a shared token after prefixes that differ
        miss(alike, same, centred / lengths),  # a shared prefix, weights 1/|y|
        relative(slopes[0] - slopes[1], sizes @ abs(of_pairs)),
        relative(nothing, abs(centred).mean()),
    )
    return jnp.array(parts).max()
