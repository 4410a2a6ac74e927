"""What T15 and T16 say about one draw: where probability mass goes."""

from dataclasses import replace

import jax
import jax.numpy as jnp
from jaxtyping import Array

from toymodel import gradients, theory
from toymodel._public import own_names
from toymodel.check.discrepancy import checks, excess, relative
from toymodel.check.draws import OFFSET, Draw, first_tokens, of_one_pair, step_size
from toymodel.data.pairs import Response
from toymodel.models import linear
from toymodel.models.logps import log_softmax_at
from toymodel.models.unconstrained import unconstrained

__dir__ = own_names(globals())


@checks("T15", "Ascent on one token's loss: it falls, the likeliest other rises, at every step size.", OFFSET)
def _t15(draw: Draw) -> Array:
    logits = jnp.asarray(draw.noise.sharpness * draw.noise.logits[0, 0])
    token, eta = draw.pair.chosen[0], step_size(draw)
    before, p = jax.nn.log_softmax(logits), jax.nn.softmax(logits)
    slope = jax.grad(log_softmax_at)(logits, token)
    measured = jax.nn.log_softmax(logits - eta * slope)
    size = 1 + abs(logits).max() + eta
    predicted = relative(theory.squeeze(logits, token, eta) - measured, size)
    # The token falls by at least η‖s‖² and the likeliest other rises: log π(v) changes by η(p_v − threshold).
    others = jnp.arange(logits.size) != token
    largest = jnp.argmax(jnp.where(others, p, -1))
    falls = excess(measured[token] - before[token], -eta * (slope @ slope), size)
    rises = excess(before[largest], measured[largest], size)
    gap = eta * (p - theory.squeeze_threshold(logits, token, eta))
    sides = relative(jnp.where(others, measured - before - gap, 0), size)
    return jnp.array([predicted, falls, rises, sides]).max()


@checks("T16", "Head and hidden state learned: the slope of every token; CHES where residuals agree.", OFFSET)
def _t16(draw: Draw) -> Array:
    V, pair = draw.model.vocab_size, first_tokens(draw)
    head, hidden = jnp.asarray(draw.noise.sharpness * draw.noise.params[:, :5]), jnp.asarray(draw.noise.features[0, 0])
    w, l = pair.chosen[0], pair.rejected[0]  # noqa: E741
    none = jnp.zeros((V, 0), int)
    every_token = Response(none, none.astype(bool), jnp.arange(V)[:, None], jnp.ones((V, 1), bool))
    advantages = jnp.zeros(V).at[w].add(1.0).at[l].add(-1.0)
    free = unconstrained(linear.unigram(V))
    measured = gradients.group_slopes(free, {"head": head, "hidden": hidden[None]}, every_token, advantages)
    rows = jnp.linalg.norm(head, axis=1)
    size = (hidden**2).sum() + rows.max() * (rows[w] + rows[l])
    tokens = relative(theory.token_slopes(head, hidden, w, l) - measured, size)

    # One token throughout, uniform: every residual is the same, and the chosen falls by (1 − 1/V) CHES.
    same = replace(draw.pair, chosen=jnp.full_like(draw.pair.chosen, w), rejected=jnp.full_like(draw.pair.rejected, w))
    model = linear.frozen_features(V, same, *draw.noise.features)
    uniform = jnp.zeros((V, 5))
    states = [model.states(uniform, r) for r in (same.chosen_response, same.rejected_response)]
    chosen, rejected = (s.features * s.mask[:, None] for s in states)
    slope = of_one_pair(gradients.slopes, model, uniform, same)[0]
    lengths = [jnp.linalg.norm(h, axis=1).sum() for h in (chosen, rejected)]
    score = relative(slope + (1 - 1 / V) * theory.ches(chosen, rejected), lengths[0] * (lengths[0] + lengths[1]))
    return jnp.maximum(tokens, score)
