"""What T17–T19 say about one draw: the normalised pair, weights on single tokens, an added likelihood term."""

from dataclasses import replace

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from toymodel import gradients, theory
from toymodel._public import own_names
from toymodel.check.discrepancy import ROUNDOFF, checks, excess, relative, wrong
from toymodel.check.draws import Draw, of_one_pair
from toymodel.check.finite_step import miss_at_every_step
from toymodel.gram import PairGram

__dir__ = own_names(globals())

KINDS = ("unigram", "frozen_features", "positional_offset")  # features all the same, correlated, orthogonal
SEPARATED = theory.CASES.index("chosen_up_rejected_down")


def _sums(draw: Draw) -> Float[Array, " 2"]:
    """Σ_i ‖s_i‖‖φ_i‖ of both responses."""
    return jnp.array([size.sum() for size in draw.sizes])


def _has_directions(draw: Draw) -> Array:
    """Whether both gradients are clear of round-off, so that their directions are known."""
    return (jnp.array(draw.gram[:2]) > ROUNDOFF * _sums(draw) ** 2).all()


def _slopes(draw: Draw, d_chosen: Float[Array, " k"], d_rejected: Float[Array, " k"]) -> Float[Array, "k 2"]:
    """Measured slopes for each of k pairs of weights."""

    def slopes(d_w: Array, d_l: Array) -> Array:
        return jnp.array(of_one_pair(gradients.slopes, draw.model, draw.params, draw.pair, d_w, d_l))

    return jax.vmap(slopes)(d_chosen, d_rejected)


@checks(
    "T17",
    "Normalised pair: slopes ‖g_w‖(1 − cos), −‖g_l‖(1 − cos), the band's centre; the rejected falls at any step.",
    KINDS,
)
def _t17(draw: Draw) -> Array:
    some = _has_directions(draw)
    norms = jnp.where(some, jnp.sqrt(jnp.array(draw.gram[:2])), 1)
    # Slopes are sums over tokens and divide by norms that are, too: each cancels by (Σ‖s‖‖φ‖/‖g‖)².
    size = 2 * norms * ((_sums(draw) / norms) ** 2).sum()
    predicted = jnp.array(theory.normalised_slopes(draw.predicted))
    product, centre = draw.d_chosen * draw.d_rejected, theory.band_centre(draw.predicted)
    d_chosen, d_rejected = theory.balanced_weights(draw.predicted, draw.d_chosen, draw.d_rejected)
    scale = jnp.sqrt(product * norms.prod())
    measured, balanced = _slopes(draw, jnp.array([1 / norms[0], d_chosen]), jnp.array([1 / norms[1], d_rejected]))
    # At every step size the rejected falls; half the certified one raises the chosen.
    steps = miss_at_every_step(draw, 1 / norms[0], 1 / norms[1])
    clear = (abs(balanced) > ROUNDOFF * scale * size).all()
    parts = (
        relative(measured - predicted, size),
        excess(measured * jnp.array([-1, 1]), jnp.zeros(2), size),
        steps,
        relative(d_chosen * d_rejected - product, product),
        relative(d_chosen / d_rejected - centre, centre),
        relative(balanced - scale * predicted, scale * size),
        wrong(clear & ~theory.in_band(draw.predicted, d_chosen, d_rejected)),
    )
    return jnp.where(some, jnp.array(parts).max(), 0)


def _weighted(tokens: tuple[Array, Array], weights: Array) -> tuple[Array, Array]:
    """Σ_i u_i ∇ log p(y^i) of both responses, from measured token gradients."""
    return weights[0] @ tokens[0], weights[1] @ tokens[1]


def _gram(chosen: Array, rejected: Array) -> PairGram:
    return PairGram(chosen @ chosen, rejected @ rejected, chosen @ rejected)


def _difference(one: PairGram, other: PairGram) -> Float[Array, " 3"]:
    return jnp.array(one) - jnp.array(other)


@checks("T18", "Weights on tokens: Gram entries of the weighted sums; a contrast token alone is T4's pair.", KINDS)
def _t18(draw: Draw) -> Array:
    """Weights between 0 and 1 on all tokens; and one differing token after a shared beginning, kept alone."""
    model, params, pair = draw.model, draw.params, draw.pair
    u = jax.nn.sigmoid(draw.noise.logits[:, :, 0])
    chosen, rejected = (u * jnp.array(draw.sizes)).sum(axis=1)
    soft = _difference(
        _gram(*_weighted(draw.tokens, u)), of_one_pair(theory.masked_gram, model, params, pair, u[:1], u[1:])
    )

    places = jnp.arange(pair.chosen.size)
    place = jnp.floor(draw.noise.uniform[0] * (pair.chosen_mask & pair.rejected_mask).sum()).astype(int)
    w = pair.chosen[place]
    other = (w + draw.noise.shift) % model.vocab_size
    shared = jnp.where(places < place, pair.chosen, pair.rejected).at[place].set(other)
    pair = replace(pair, rejected=shared)
    alone = jnp.where(places == place, jnp.ones((2, 1)), 0)
    tokens = draw.tokens[0], gradients.token_gradients(model, params, pair.rejected_response)
    state = draw.states[0]
    p, sq = jax.nn.softmax(state.logits[place]), (state.features[place] ** 2).sum()
    g_w, g_l = _weighted(tokens, alone)
    predicted = of_one_pair(theory.masked_gram, model, params, pair, alone[:1], alone[1:])
    parts = (
        relative(soft, jnp.array([chosen**2, rejected**2, chosen * rejected])),
        relative(_difference(_gram(g_w, g_l), predicted), 4 * sq),
        relative(_difference(predicted, theory.single_token_gram(p, w, other, sq)), 4 * sq),
        wrong((g_w @ (g_w - g_l) <= 0) | (g_l @ (g_w - g_l) >= 0)),
    )
    return jnp.array(parts).max()


@checks("T19", "An added λ log π_w separates the pair exactly for λ inside the window.", KINDS)
def _t19(draw: Draw) -> Array:
    """λ at both ends of the window, and where the chosen's weight d + λ is a thousandth to either side of them."""
    d, sums = draw.d_rejected, _sums(draw)
    low, end = theory.likelihood_window(draw.predicted, d)
    ends = jnp.isfinite(end)
    high = jnp.where(ends, end, draw.d_chosen)  # or any λ

    sides = (d + jnp.array([low, low, high, high])) * jnp.array([0.999, 1.001, 0.999, 1.001]) - d
    lam = jnp.concatenate([jnp.array([low, high]), sides])
    measured = _slopes(draw, d + lam, jnp.broadcast_to(d, lam.shape))
    # d + λ is a sum of two terms, and λ a quotient by a norm, in which tokens cancel.
    cancels = sums[0] / jnp.sqrt(draw.gram.chosen_sq)
    size = cancels * ((d + abs(lam)) * sums[0] + d * sums[1])[:, None] * sums

    inside = (low < lam) & (lam < end)
    separated = theory.case_of_slopes(*measured.T) == SEPARATED
    clear = (abs(measured) > ROUNDOFF * size).all(axis=1)
    parts = (
        relative(measured[0, 0], size[0, 0]),
        relative(jnp.where(ends, measured[1, 1], 0), size[1, 1]),
        wrong((clear & (inside != separated))[2:]),
    )
    return jnp.where(_has_directions(draw), jnp.array(parts).max(), 0)
