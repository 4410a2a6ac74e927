"""What T1–T5 say about one draw: inner products of gradients, from the tokens and contexts that two responses share."""

from dataclasses import replace

import jax
import jax.numpy as jnp
from jaxtyping import Array

from toymodel import gradients, theory
from toymodel._public import own_names
from toymodel.check.discrepancy import checks, relative, wrong
from toymodel.check.draws import ORTHOGONAL, TABULAR, Draw, of_one_pair, slope_sizes
from toymodel.models.linear import LinearStates

__dir__ = own_names(globals())


@checks("T1", "The gradient of a response is the sum over its tokens of residual ⊗ features.")
def _t1(draw: Draw) -> Array:
    def against_outer_product(measured: Array, states: LinearStates, size: Array) -> Array:
        s = theory.residuals(states.logits, states.tokens) * states.mask[:, None]
        predicted = (s[:, :, None] * states.features[:, None, :]).reshape(len(s), -1)
        return relative(jnp.linalg.norm(measured - predicted, axis=1), size)

    return jnp.maximum(*map(against_outer_product, draw.tokens, draw.states, draw.sizes))


@checks("T2", "⟨g_w, g_l⟩ and both norms are sums of ⟨φ_i, φ′_j⟩⟨s_i, s′_j⟩ over tokens.")
def _t2(draw: Draw) -> Array:
    chosen, rejected = draw.sizes
    measured = draw.tokens[0] @ draw.tokens[1].T
    entries = relative(measured - theory.token_gram(draw.model, draw.params, draw.pair), chosen[:, None] * rejected)
    sums = jnp.array(draw.gram) - jnp.array(draw.predicted)
    sizes = jnp.array([chosen.sum() ** 2, rejected.sum() ** 2, chosen.sum() * rejected.sum()])
    return jnp.maximum(entries, relative(sums, sizes))


@checks("T3", "Tabular models: ⟨g_w, g_l⟩ counts shared tokens over shared contexts.", TABULAR)
def _t3(draw: Draw) -> Array:
    chosen, rejected = draw.states
    shared = (chosen.contexts[:, None] == rejected.contexts) & chosen.mask[:, None] & rejected.mask
    size = 4.0 * shared.sum()  # each summand is made of four terms of at most 1
    V, zeros = draw.model.vocab_size, jnp.zeros_like(draw.params)
    uniform = of_one_pair(gradients.pair_gram, draw.model, zeros, draw.pair).inner
    length = jnp.minimum(chosen.mask.sum(), rejected.mask.sum())
    matches = (jnp.diagonal(shared) & (chosen.tokens == rejected.tokens)).sum()
    positional = (
        relative(uniform - theory.uniform_positional_inner(matches, length, V), size),
        relative(*_first_token_increment(draw)),
    )
    counts = [(jax.nn.one_hot(r.tokens, V) * r.mask[:, None]).sum(axis=0) for r in (chosen, rejected)]
    unigram = relative(uniform - theory.uniform_unigram_inner(*counts), size)
    parts = (
        relative(draw.gram.inner - of_one_pair(theory.tabular_inner, draw.model, draw.params, draw.pair), size),
        jnp.where(draw.is_one_of(("positional",)), jnp.array(positional).max(), 0),
        jnp.where(draw.is_one_of(("unigram",)), unigram, 0),
    )
    return jnp.array(parts).max()


def _first_token_increment(draw: Draw) -> tuple[Array, Array]:
    """Error and size of T3's increment when the first rejected token becomes the chosen one."""
    w, old = draw.pair.chosen[0], draw.pair.rejected[0]
    pair = replace(draw.pair, rejected=draw.pair.rejected.at[0].set(w))
    after = of_one_pair(gradients.pair_gram, draw.model, draw.params, pair)
    p = jax.nn.softmax(draw.states[0].logits[0])
    predicted = jnp.where(w == old, 0.0, theory.replacement_increment(p[w], p[old]))
    return after.inner - draw.gram.inner - predicted, jnp.asarray(2.0 * draw.pair.chosen.size)


@checks("T4", "One differing token, same features: closed Gram entries, and DPO always separates.")
def _t4(draw: Draw) -> Array:
    """The pair's first tokens alone, made to differ."""
    V, first = draw.model.vocab_size, jnp.arange(draw.pair.chosen.size) == 0
    chosen = draw.pair.chosen[0]
    rejected = (chosen + draw.noise.shift) % V
    pair = replace(draw.pair, rejected=draw.pair.rejected.at[0].set(rejected), chosen_mask=first, rejected_mask=first)
    arguments = (draw.model, draw.params, pair)
    first_state = draw.states[0]  # both responses begin in the same context
    p, sq = jax.nn.softmax(first_state.logits[0]), (first_state.features[0] ** 2).sum()
    predicted_gram = theory.single_token_gram(p, chosen, rejected, sq)
    gram = jnp.array(of_one_pair(gradients.pair_gram, *arguments)) - jnp.array(predicted_gram)
    measured = jnp.array(of_one_pair(gradients.slopes, *arguments))
    predicted = jnp.array(theory.single_token_slopes(p[chosen], p[rejected], sq))
    separates = (measured[0] > 0) & (measured[1] < 0)
    identities = jnp.maximum(relative(gram, 4 * sq), relative(measured - predicted, 4 * sq))
    return jnp.maximum(identities, wrong(~separates))


@checks("T5", "Shared tokens in shared contexts drop out of g_w − g_l.")
def _t5(draw: Draw) -> Array:
    size = jnp.concatenate(draw.sizes).sum()
    arguments = (draw.model, draw.params, draw.pair)
    contrast = of_one_pair(theory.contrast_gram, *arguments)
    margin = relative(theory.margin_slope(draw.gram) - theory.margin_slope(contrast), size**2)
    slopes = jnp.array(of_one_pair(gradients.slopes, *arguments)) - jnp.array(theory.slopes(contrast))
    # In other models a shared context also meets the positions where the tokens differ.
    both_slopes = jnp.where(draw.is_one_of(ORTHOGONAL), relative(slopes, slope_sizes(draw, 1.0, 1.0)), 0)
    return jnp.maximum(margin, both_slopes)
