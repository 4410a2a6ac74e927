"""What T12–T16, T20 and T21 say of one draw: steps of any size, whole paths, learned hidden states, several responses.

All but T12 build what they need from a draw's noise, whatever its kind, and so run on one kind only.
"""

from collections.abc import Callable
from dataclasses import replace

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from toymodel import gradients, theory
from toymodel.check.discrepancy import ROUNDOFF, Check, excess, relative, wrong
from toymodel.check.draws import OFFSET, Draw, of_one_pair
from toymodel.data.pairs import PreferencePairs, Response
from toymodel.models import linear
from toymodel.models.linear import LinearSoftmax
from toymodel.models.logps import Model, Params, log_softmax_at, response_logp
from toymodel.models.unconstrained import UnconstrainedFeatures, UnconstrainedParams, unconstrained


def _step_size(draw: Draw) -> Array:
    """From 1e-4 to 1e4."""
    return 10 ** (8 * draw.noise.uniform[0] - 4)


def _changes(model: Model, params: Params, pair: PreferencePairs, eta: Array, *weights: Array) -> Array:
    """[2] measured changes of both log-probabilities."""
    return jnp.array(of_one_pair(gradients.step_change, model, params, pair, optax.sgd(eta), *weights))


def _logps(model: Model, params: Params, pair: PreferencePairs) -> Array:
    return jnp.array([response_logp(model, params, r) for r in (pair.chosen_response, pair.rejected_response)])


def _t12(draw: Draw) -> Array:
    weights, arguments = (draw.d_chosen, draw.d_rejected), (draw.model, draw.params, draw.pair)
    slope = jnp.array(theory.slopes(draw.predicted, *weights))
    directions = of_one_pair(theory.logit_directions, *arguments, *weights)
    shortfall = jnp.array([theory.range_shortfall(v) for v in directions])
    loose = jnp.array([theory.norm_shortfall(v) for v in directions])
    moves = draw.d_chosen * draw.sizes[0].sum() + draw.d_rejected * draw.sizes[1].sum()
    features = jnp.array([(jnp.linalg.norm(s.features, axis=1) * s.mask).sum() for s in draw.states])
    still = abs(_logps(*arguments)) + jnp.array([s.mask.sum() for s in draw.states])

    eta = _step_size(draw)
    size = still + eta * moves * features
    measured = _changes(*arguments, eta, *weights)
    low, high = theory.change_bounds(slope, shortfall, eta)
    exact = jnp.array(of_one_pair(theory.exact_change, *arguments, eta, *weights))
    bounds = jnp.maximum(excess(measured, high, size), excess(low, measured, size + eta**2 * shortfall))
    falls = (slope <= 0) & (-eta * slope > ROUNDOFF * size)

    # Half the certified step, at which the chosen gains at least a quarter of that step times its slope.
    half = theory.certified_step(slope[0], shortfall[0]) / 2
    half = jnp.where(jnp.isfinite(half), half, 0)
    clear = half * slope[0] / 2 > ROUNDOFF * (still[0] + half * moves * features[0])
    rises = _changes(*arguments, half, *weights)[0] > 0
    parts = (bounds, relative(exact - measured, size), excess(shortfall, loose, loose))
    signs = jnp.maximum(wrong(falls & (measured >= 0)), wrong(clear & ~rises))
    return jnp.maximum(jnp.array(parts).max(), signs)


def _free(draw: Draw) -> tuple[UnconstrainedFeatures, UnconstrainedParams]:
    """Unconstrained features on the pair's prefixes: unit vectors h, and W as sharp as the draw."""
    hidden = draw.noise.features.reshape(-1, draw.noise.features.shape[-1])
    params: UnconstrainedParams = {
        "head": jnp.asarray(draw.noise.sharpness * draw.noise.params[:, : hidden.shape[1]]),
        "hidden": hidden / jnp.linalg.norm(hidden, axis=1, keepdims=True),
    }
    return unconstrained(linear.prefix(draw.model.vocab_size, draw.pair)), params


def _t13(draw: Draw) -> Array:
    model, params = _free(draw)
    pair = draw.pair
    slope = jnp.array(theory.slopes(of_one_pair(gradients.pair_gram, model, params, pair)))
    chosen, rejected = of_one_pair(gradients.pair_gradients, model, params, pair)
    flat, unravel = jax.flatten_util.ravel_pytree(params)

    def logits(eta: float, response: Response) -> Array:
        moved = model.logits(unravel(flat + eta * (chosen - rejected)), response)
        return moved * response.mask[:, None]

    def velocity_and_acceleration(response: Response) -> tuple[Array, Array]:
        back, here, ahead = (logits(eta, response) for eta in (-1.0, 0.0, 1.0))
        return (ahead - back) / 2, (ahead + back) / 2 - here  # exact: the logits are quadratic in η

    paths = [velocity_and_acceleration(r) for r in (pair.chosen_response, pair.rejected_response)]
    fastest = jnp.array([jnp.maximum(abs(v).max(), jnp.sqrt(abs(q).max())) for v, q in paths]).max()
    eta = 10 ** (-3 * draw.noise.uniform[1]) / (1 + fastest)  # moves no logit by more than about 1
    whole, halved = (_changes(model, params, pair, e) - e * slope for e in (eta, eta / 2))
    bound = jnp.array([theory.halving_bound(v, q, eta) for v, q in paths])
    size = abs(_logps(model, params, pair)) + pair.chosen.size
    return excess(abs(whole - 4 * halved), bound, size)


def _t14(draw: Draw) -> Array:
    """Flow of DPO and IPO in one context with features φ and logits Wφ."""
    features = jnp.asarray(draw.noise.features[0, 0]) * (0.3 + draw.noise.uniform[1])
    model = LinearSoftmax("unigram", draw.model.vocab_size, features[None], tabular=False)
    params = jnp.asarray(draw.noise.sharpness * draw.noise.params[:, : features.size])
    pair, sq = _first_tokens(draw), (features**2).sum()
    towards = jnp.zeros(len(params)).at[pair.chosen[0]].add(1.0).at[pair.rejected[0]].add(-1.0)
    time, hyper = _step_size(draw), 10 ** (3 * draw.noise.uniform[1] - 2)
    reference = _logps(model, params, pair)

    def along(flow: Callable[..., Array], loss: Callable[[Array], Array], weight: Callable[[Array], Array]) -> Array:
        u, velocity = jax.jvp(lambda t: flow(t, hyper, sq), (time,), (jnp.ones(()),))
        here = params + u * jnp.outer(towards, features) / sq

        def value(params: Array) -> Array:
            ratios = _logps(model, params, pair) - reference
            return loss(ratios[0] - ratios[1])

        step = -jax.grad(value)(here) - velocity * jnp.outer(towards, features) / sq
        scale = abs(params @ features).max() + u  # of the logits; times the loss's curvature, how well it knows d
        logps = jnp.array(theory.flow_logps(params @ features, pair.chosen[0], pair.rejected[0], u))
        path = relative(logps - _logps(model, here, pair), 1 + abs(logps) + scale)
        return jnp.maximum(relative(step, weight(scale) * jnp.sqrt(sq)), path)

    return jnp.maximum(
        along(theory.dpo_flow, lambda m: jax.nn.softplus(-hyper * m), lambda scale: hyper * (1 + hyper * scale)),
        along(theory.ipo_flow, lambda m: (m - 1 / (2 * hyper)) ** 2, lambda scale: 1 / hyper + 2 * scale),
    )


def _first_tokens(draw: Draw) -> PreferencePairs:
    """One token each after the prompt, made to differ."""
    chosen, one = draw.pair.chosen[:1], jnp.ones(1, bool)
    rejected = (chosen + draw.noise.shift) % draw.model.vocab_size
    return PreferencePairs(draw.pair.prompt, draw.pair.prompt_mask, chosen, one, rejected, one)


def _t15(draw: Draw) -> Array:
    logits = jnp.asarray(draw.noise.sharpness * draw.noise.logits[0, 0])
    token, eta = draw.pair.chosen[0], _step_size(draw)
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


def _t16(draw: Draw) -> Array:
    V, pair = draw.model.vocab_size, _first_tokens(draw)
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


def _two_pairs(draw: Draw) -> tuple[LinearSoftmax, Array, PreferencePairs, Float[Array, " 4"]]:
    """A bigram model, the draw's pair, and the same with all tokens shifted; and the four responses' Σ‖s‖‖φ‖."""
    V, pair = draw.model.vocab_size, draw.pair

    shift = jnp.asarray(draw.noise.shift)

    def shifted(tokens: Array) -> Array:
        return jnp.stack([tokens, (tokens + shift) % V])

    pairs = PreferencePairs(
        jnp.stack([pair.prompt] * 2),
        jnp.stack([pair.prompt_mask] * 2),
        shifted(pair.chosen),
        jnp.stack([pair.chosen_mask] * 2),
        shifted(pair.rejected),
        jnp.stack([pair.rejected_mask] * 2),
    )
    model, params = linear.bigram(V), jnp.asarray(draw.noise.sharpness * draw.noise.params[:, : V + 1])
    states = jax.vmap(model.states, in_axes=(None, 0))(params, theory.as_group(pairs)[0])
    s = theory.residuals(states.logits, states.tokens) * states.mask[..., None]
    return model, params, pairs, jnp.linalg.norm(s, axis=-1).sum(axis=-1)


def _t20(draw: Draw) -> Array:
    model, params, pairs, sizes = _two_pairs(draw)
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


def _t21(draw: Draw) -> Array:
    """Four responses whose advantages sum to zero."""
    model, params, pairs, sizes = _two_pairs(draw)
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


CHECKS = (
    Check(
        "T12",
        "Linear softmax, every step size: the change is exact, at most η · slope, and bounded below; certified steps.",
        _t12,
        ("frozen_features", "positional_offset"),
    ),
    Check(
        "T13",
        "Learned hidden states: halving the step quarters the error of η · slope, but for a bound of order η³.",
        _t13,
        OFFSET,
    ),
    Check("T14", "Gradient flow of DPO and IPO on one differing token follows its closed path.", _t14, OFFSET),
    Check("T15", "Ascent on one token's loss: it falls, the likeliest other rises, at every step size.", _t15, OFFSET),
    Check("T16", "Head and hidden state learned: the slope of every token; CHES where residuals agree.", _t16, OFFSET),
    Check("T20", "Batches: slopes of every pair under the mean step, and never all reversed.", _t20, OFFSET),
    Check("T21", "Groups: slopes are G A, AᵀGA ≥ 0, and displacement is told from G.", _t21, OFFSET),
)
