"""What T6–T8 say about one draw: tokens that both responses end with."""

import jax
import jax.numpy as jnp
from jaxtyping import Array

from toymodel import gradients, theory
from toymodel._public import own_names
from toymodel.check.discrepancy import BY_SIGN, ROUNDOFF, checks, relative, wrong
from toymodel.check.draws import OFFSET, Draw, of_one_pair
from toymodel.data.pairs import PreferencePairs
from toymodel.models import linear
from toymodel.models.logps import token_logps

__dir__ = own_names(globals())


@checks("T6", "Identical suffix tokens have a token inner product of at least (1−p)(1−q).", OFFSET)
def _t6(draw: Draw) -> Array:
    """A positional offset shares φ between the contexts at one position: the diagonal of the token Gram."""
    entries = (draw.tokens[0] * draw.tokens[1]).sum(axis=1)
    p, q = jnp.exp(jax.vmap(token_logps, in_axes=(None, None, 0))(draw.model, draw.params, draw.pair.both_responses))
    shortfall = jnp.maximum(theory.suffix_token_bound(p, q) - entries, 0)
    return relative(jnp.where(_same_token_positions(draw), shortfall, 0), jnp.ones(()))


@checks("T7", "What each suffix token adds to the two slopes, and its sign where p and q tell it.", OFFSET)
def _t7(draw: Draw) -> Array:
    return jnp.maximum(_miss_of_suffix_slopes(draw), _miss_of_suffix_direction(draw))


def _miss_of_suffix_direction(draw: Draw) -> Array:
    """A token whose mass goes to others, or comes from them, in one position that both answers share."""
    V, token = draw.model.vocab_size, draw.pair.chosen[0]
    logits = jnp.asarray(draw.noise.sharpness * draw.noise.logits[0, :2])
    p, target = jax.nn.softmax(logits[0]), jax.nn.softmax(logits[1].at[token].set(-jnp.inf))
    moved = p + draw.noise.uniform[0] * p[token] * (target - (jnp.arange(V) == token))

    def slopes(p: Array, q: Array) -> Array:
        both_logits = jnp.log(jnp.stack([p, q]))

        def logps(offset: Array) -> Array:
            return jax.nn.log_softmax(both_logits + offset)[:, token]

        gradients_of_both = jax.jacrev(logps)(jnp.zeros(V))
        return gradients_of_both @ (gradients_of_both[0] - gradients_of_both[1])

    out, back = slopes(p, moved), slopes(moved, p)
    told = (theory.suffix_direction(p, moved, token) == -1) & (theory.suffix_direction(moved, p, token) == 1)
    differ = (p != moved).any()
    return jnp.maximum(jnp.maximum(out, -back).max(), wrong(differ & ~told))


def _miss_of_suffix_slopes(draw: Draw) -> Array:
    chosen, rejected = draw.tokens
    measured = jnp.stack([(chosen * (chosen - rejected)).sum(axis=1), (rejected * (chosen - rejected)).sum(axis=1)])
    p, q = (jax.nn.softmax(states.logits) for states in draw.states)
    predicted = jnp.stack(jax.vmap(theory.suffix_slopes)(p, q, draw.pair.chosen))
    return relative(jnp.where(_same_token_positions(draw), measured - predicted, 0), jnp.full((), 4.0))


def _same_token_positions(draw: Draw) -> Array:
    pair = draw.pair
    return (pair.chosen == pair.rejected) & pair.chosen_mask & pair.rejected_mask


@checks("T8", "DPO lowers the chosen response exactly beyond the threshold length L*.", OFFSET, 0.0, BY_SIGN)
def _t8(draw: Draw) -> Array:
    """One contrast token, then n suffix tokens of probability a after the chosen and b < a after the rejected one."""
    V, T = draw.model.vocab_size, 27  # (a, b) below keep L* under 26
    a = 0.2 + 0.6 * draw.noise.uniform[0]
    b = a * draw.noise.uniform[1] / 2
    w = suffix = draw.pair.chosen[0]  # the suffix token may be any token, the chosen one included
    other = (w + draw.noise.shift) % V
    contrast = draw.noise.sharpness * draw.noise.logits[0, 0]
    p = jax.nn.softmax(contrast)
    chosen, rejected = (jnp.full(T, suffix).at[0].set(first) for first in (w, other))
    threshold = theory.threshold_length(p[w], p[other], a, b, V)

    def chosen_slope(n: Array) -> Array:
        mask = jnp.arange(T) <= n
        pair = PreferencePairs(chosen[:0], mask[:0], chosen, mask, rejected, mask)
        peaked = [jnp.where(jnp.arange(V) == suffix, jnp.log(prob), jnp.log((1 - prob) / (V - 1))) for prob in (a, b)]
        logits = [jnp.tile(row, (T, 1)).at[0].set(contrast) for row in peaked]
        model = linear.positional_offset(V, pair, *logits)
        return of_one_pair(gradients.slopes, model, jnp.zeros((V, T)), pair)[0]

    below = jnp.floor(threshold)
    clear = (threshold - below > ROUNDOFF) & (below + 1 - threshold > ROUNDOFF)
    before, beyond = jax.vmap(chosen_slope)(below + jnp.arange(2))
    return wrong(clear & ((before <= 0) | (beyond >= 0)))
