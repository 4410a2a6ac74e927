"""What T1–T11 say of one draw, and by how much it misses it: inner products, and the first order in the step."""

from dataclasses import replace

import jax
import jax.numpy as jnp
from jaxtyping import Array

from toymodel import gradients, theory
from toymodel.check.discrepancy import BY_SIGN, ROUNDOFF, Check, relative, wrong
from toymodel.check.draws import MODELS, OFFSET, ORTHOGONAL, TABULAR, Draw, of_one_pair
from toymodel.data.pairs import PreferencePairs
from toymodel.gram import Scalars
from toymodel.models import linear
from toymodel.models.linear import LinearStates
from toymodel.models.logps import token_logps

IMPOSSIBLE = theory.CASES.index("chosen_down_rejected_up")


def _slope_sizes(draw: Draw, d_chosen: Scalars, d_rejected: Scalars) -> Array:
    """Sizes of the terms summed in the two slopes."""
    chosen, rejected = (size.sum() for size in draw.sizes)
    return (d_chosen * chosen + d_rejected * rejected) * jnp.array([chosen, rejected])


def _t1(draw: Draw) -> Array:
    def against_outer_product(measured: Array, states: LinearStates, size: Array) -> Array:
        s = theory.residuals(states.logits, states.tokens) * states.mask[:, None]
        predicted = (s[:, :, None] * states.features[:, None, :]).reshape(len(s), -1)
        return relative(jnp.linalg.norm(measured - predicted, axis=1), size)

    return jnp.maximum(*map(against_outer_product, draw.tokens, draw.states, draw.sizes))


def _t2(draw: Draw) -> Array:
    chosen, rejected = draw.sizes
    measured = draw.tokens[0] @ draw.tokens[1].T
    entries = relative(measured - theory.token_gram(draw.model, draw.params, draw.pair), chosen[:, None] * rejected)
    sums = jnp.array(draw.gram) - jnp.array(draw.predicted)
    sizes = jnp.array([chosen.sum() ** 2, rejected.sum() ** 2, chosen.sum() * rejected.sum()])
    return jnp.maximum(entries, relative(sums, sizes))


def _t3(draw: Draw) -> Array:
    chosen, rejected = draw.states
    shared = (chosen.contexts[:, None] == rejected.contexts) & chosen.mask[:, None] & rejected.mask
    size = 4.0 * shared.sum()  # each summand is made of four terms of at most 1
    parts = [relative(draw.gram.inner - of_one_pair(theory.tabular_inner, draw.model, draw.params, draw.pair), size)]
    V, zeros = draw.model.vocab_size, jnp.zeros_like(draw.params)
    uniform = of_one_pair(gradients.pair_gram, draw.model, zeros, draw.pair).inner
    if draw.kind == "positional":
        length = jnp.minimum(chosen.mask.sum(), rejected.mask.sum())
        matches = (jnp.diagonal(shared) & (chosen.tokens == rejected.tokens)).sum()
        parts.append(relative(uniform - theory.uniform_positional_inner(matches, length, V), size))
        parts.append(relative(*_first_token_increment(draw)))
    if draw.kind == "unigram":
        counts = [(jax.nn.one_hot(r.tokens, V) * r.mask[:, None]).sum(axis=0) for r in (chosen, rejected)]
        parts.append(relative(uniform - theory.uniform_unigram_inner(*counts), size))
    return jnp.array(parts).max()


def _first_token_increment(draw: Draw) -> tuple[Array, Array]:
    """Error and size of T3's increment when the first rejected token becomes the chosen one."""
    w, old = draw.pair.chosen[0], draw.pair.rejected[0]
    pair = replace(draw.pair, rejected=draw.pair.rejected.at[0].set(w))
    after = of_one_pair(gradients.pair_gram, draw.model, draw.params, pair)
    p = jax.nn.softmax(draw.states[0].logits[0])
    predicted = jnp.where(w == old, 0.0, theory.replacement_increment(p[w], p[old]))
    return after.inner - draw.gram.inner - predicted, jnp.asarray(2.0 * draw.pair.chosen.size)


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


def _t5(draw: Draw) -> Array:
    size = jnp.concatenate(draw.sizes).sum()
    arguments = (draw.model, draw.params, draw.pair)
    contrast = of_one_pair(theory.contrast_gram, *arguments)
    margin = relative(theory.margin_slope(draw.gram) - theory.margin_slope(contrast), size**2)
    if draw.kind not in ORTHOGONAL:  # there, a shared context also meets the positions where the tokens differ
        return margin
    slopes = jnp.array(of_one_pair(gradients.slopes, *arguments)) - jnp.array(theory.slopes(contrast))
    return jnp.maximum(margin, relative(slopes, _slope_sizes(draw, 1.0, 1.0)))


def _same_token_positions(draw: Draw) -> Array:
    pair = draw.pair
    return (pair.chosen == pair.rejected) & pair.chosen_mask & pair.rejected_mask


def _t6(draw: Draw) -> Array:
    """A positional offset shares φ between the contexts at one position: the diagonal of the token Gram."""
    entries = (draw.tokens[0] * draw.tokens[1]).sum(axis=1)
    p, q = (
        jnp.exp(token_logps(draw.model, draw.params, response))
        for response in (draw.pair.chosen_response, draw.pair.rejected_response)
    )
    shortfall = jnp.maximum(theory.suffix_token_bound(p, q) - entries, 0)
    return relative(jnp.where(_same_token_positions(draw), shortfall, 0), jnp.ones(()))


def _t7(draw: Draw) -> Array:
    chosen, rejected = draw.tokens
    measured = jnp.stack([(chosen * (chosen - rejected)).sum(axis=1), (rejected * (chosen - rejected)).sum(axis=1)])
    p, q = (jax.nn.softmax(states.logits) for states in draw.states)
    predicted = jnp.stack(jax.vmap(theory.suffix_slopes)(p, q, draw.pair.chosen))
    return relative(jnp.where(_same_token_positions(draw), measured - predicted, 0), jnp.full((), 4.0))


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
    return wrong(clear & ((chosen_slope(below) <= 0) | (chosen_slope(below + 1) >= 0)))


def _t9(draw: Draw) -> Array:
    weights = (draw.d_chosen, draw.d_rejected)
    measured = jnp.array(of_one_pair(gradients.slopes, draw.model, draw.params, draw.pair, *weights))
    predicted = jnp.array(theory.slopes(draw.predicted, *weights))
    return relative(measured - predicted, _slope_sizes(draw, *weights))


def _measured_case(draw: Draw, d_chosen: Array, d_rejected: Array) -> tuple[Array, Array]:
    """The case that the measured slopes show, and whether both are clear of round-off."""
    slopes = jnp.array(of_one_pair(gradients.slopes, draw.model, draw.params, draw.pair, d_chosen, d_rejected))
    clear = (abs(slopes) > ROUNDOFF * _slope_sizes(draw, d_chosen, d_rejected)).all()
    return theory.case_of_slopes(*slopes), clear


def _t10(draw: Draw) -> Array:
    measured, clear = _measured_case(draw, draw.d_chosen, draw.d_rejected)
    predicted = theory.case_index(draw.predicted, draw.d_chosen, draw.d_rejected)
    return wrong(clear & ((measured != predicted) | (measured == IMPOSSIBLE)))


def _t11(draw: Draw) -> Array:
    """Ratios a thousandth inside and outside each end of the band, and its centre."""
    gram = draw.predicted
    low, high = theory.band(gram)
    finite = jnp.isfinite(low) & (low > 0) & jnp.isfinite(high)
    centre = jnp.where(
        finite, relative(jnp.sqrt(low) * jnp.sqrt(high) - theory.band_centre(gram), theory.band_centre(gram)), 0
    )

    def disagrees(ratio: Array) -> Array:
        measured, clear = _measured_case(draw, ratio, jnp.ones(()))
        return clear & (theory.in_band(gram, ratio, 1.0) != (measured == 0))

    ends = jnp.where(finite, jnp.array([low, low, high, high]), draw.d_chosen / draw.d_rejected)
    ratios = ends * jnp.array([0.999, 1.001, 0.999, 1.001])
    return jnp.maximum(centre, wrong(jax.vmap(disagrees)(ratios)))


CHECKS = (
    Check("T1", "The gradient of a response is the sum over its tokens of residual ⊗ features.", _t1),
    Check("T2", "⟨g_w, g_l⟩ and both norms are sums of ⟨φ_i, φ′_j⟩⟨s_i, s′_j⟩ over tokens.", _t2),
    Check("T3", "Tabular models: ⟨g_w, g_l⟩ counts shared tokens over shared contexts.", _t3, TABULAR),
    Check("T4", "One differing token, same features: closed Gram entries, and DPO always separates.", _t4),
    Check("T5", "Shared tokens in shared contexts drop out of g_w − g_l.", _t5),
    Check("T6", "Identical suffix tokens have a token inner product of at least (1−p)(1−q).", _t6, OFFSET),
    Check("T7", "What each suffix token adds to the two slopes.", _t7, OFFSET),
    Check("T8", "DPO lowers the chosen response exactly beyond the threshold length L*.", _t8, OFFSET, 0.0, BY_SIGN),
    Check("T9", "Slopes of both log-probabilities from three inner products and two weights.", _t9),
    Check(
        "T10",
        "The gradient condition names the case; chosen down with rejected up never occurs.",
        _t10,
        MODELS,
        0.0,
        BY_SIGN,
    ),
    Check("T11", "Chosen up and rejected down exactly for d_w/d_l inside the band, centred at r*.", _t11),
)
