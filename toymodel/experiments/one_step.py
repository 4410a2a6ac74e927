"""The effect of one small step on pairs of a large network, beside the prediction from Gram entries (T9–T13, T17–T20).

A step is θ + ηv. The slopes ⟨∇ log π, v⟩ of both answers are predicted; the true change of their log-probabilities is
measured. All steps are those of single pairs, except in `mean_step`. If float64 is enabled, the moved parameters have
it, whatever the model's precision: rounded to float32, a small step is wrong by percents.
"""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from toymodel import theory
from toymodel._public import own_names
from toymodel.data.pairs import PreferencePairs, Response
from toymodel.experiments.experiment import Row
from toymodel.gradients import adam_preconditioner, pair_gram
from toymodel.models.logps import Model, Params, response_logp, token_logps

__dir__ = own_names(globals())

#: Directions of a step, all with d_w = d_l = 1. "half" is half a step along the first.
DIRECTIONS = (
    "plain",  # g_w − g_l
    "half",
    "adam",  # (g_w − g_l)/(|g_w − g_l| + ε) entry by entry: Adam's first
    "normalised",  # g_w/‖g_w‖ − g_l/‖g_l‖
    "likelihood",  # (1 + λ) g_w − g_l, with λ from the window
    "first_token",  # g_w − g_l of the first tokens alone
)
SIZE = 0.02  # nats: how far a step is to move the answer that it moves most; curvature is then a few per cent
AT_ONCE = 16  # responses in a forward pass


def single_steps(model: Model, params: Params, pairs: PreferencePairs) -> Row:
    """Each pair's own step, in every one of `DIRECTIONS`.

    `step_predicted` [6, 2, n]: slopes of chosen and rejected, by the theory from Gram entries; of "adam" and
    "first_token" by inner products of gradients. `step_measured` [6, 2, n]: true changes, divided by the step's size.
    `step_gram` [3, n]: Gram entries from two plain gradients a pair, which the engine's are compared with.
    """
    gram = pair_gram(model, params, pairs)
    low, high = theory.likelihood_window(gram)
    low = jnp.maximum(low, 0)
    term = jnp.where(jnp.isfinite(high), (low + high) / 2, low + 1)
    known = {
        "plain": theory.slopes(gram),
        "half": theory.slopes(gram),
        "normalised": theory.normalised_slopes(gram),
        "likelihood": theory.slopes(gram, 1 + term, 1.0),
    }
    found = [_of_pair(model, params, pairs[i], term[i]) for i in range(len(pairs))]
    predicted, measured, built = (jnp.stack(column, axis=-1) for column in zip(*found, strict=True))
    for name, slopes in known.items():
        predicted = predicted.at[DIRECTIONS.index(name)].set(jnp.stack(slopes))
    return {"step_predicted": predicted, "step_measured": measured, "step_gram": built, "likelihood_term": term}


def _of_pair(model: Model, params: Params, pair: PreferencePairs, term: Array) -> tuple[Array, Array, Array]:
    """Slopes by inner products [6, 2], true changes [6, 2], Gram entries [3]. One direction is kept at a time."""
    sides = pair.chosen_response, pair.rejected_response
    both = g_w, g_l = [_gradient(model, params, side) for side in sides]
    gram = jnp.stack([_inner(g_w, g_w), _inner(g_l, g_l), _inner(g_w, g_l)])
    w, l = jnp.sqrt(gram[:2])  # noqa: E741
    before = _logps(model, params, g_w, jnp.zeros(()), sides)
    slopes, changes = [], []
    for name in DIRECTIONS:
        gradients = both if name != "first_token" else [_first_gradient(model, params, side) for side in sides]
        step = _direction(*gradients, name, w, l, term)
        del gradients  # of the first tokens: there is no room for them beside the moved parameters
        along = jnp.stack([_inner(g_w, step), _inner(g_l, step)])
        rate = SIZE / jnp.abs(along).max() * (0.5 if name == "half" else 1.0)
        slopes.append(along)
        changes.append((_logps(model, params, step, rate, sides) - before) / rate)
    return jnp.stack(slopes), jnp.stack(changes), gram


@partial(jax.jit, static_argnames="name")
def _direction(one: Params, other: Params, name: str, w: Array, l: Array, term: Array) -> Params:  # noqa: E741
    def of(a: Array, b: Array) -> Array:
        match name:
            case "adam":
                return (a - b) * adam_preconditioner(a - b)
            case "normalised":
                return a / w - b / l
            case "likelihood":
                return (1 + term) * a - b
        return a - b

    step: Params = jax.tree.map(of, one, other)
    return step


_gradient = jax.jit(jax.grad(response_logp, argnums=1))
_first_gradient = jax.jit(jax.grad(lambda model, params, response: token_logps(model, params, response)[0], argnums=1))


@jax.jit
def _logps(model: Model, params: Params, step: Params, rate: Array, sides: Sequence[Response]) -> Float[Array, " 2"]:
    """Log-probabilities of both answers after a step."""
    model = jax.tree.map(lambda leaf: leaf.astype(float), model)  # what of it is frozen
    moved = jax.tree.map(lambda leaf, move: leaf.astype(float) + rate * move, params, step)
    return jnp.stack([response_logp(model, moved, side) for side in sides])


@jax.jit
def _inner(one: Params, other: Params) -> Float[Array, ""]:
    return jnp.stack(jax.tree.leaves(jax.tree.map(jnp.vdot, one, other))).sum()


def mean_step(model: Model, params: Params, batch: PreferencePairs, unseen: PreferencePairs) -> Row:
    """Slopes along the mean of g_w − g_l over a batch, for its own pairs and for as many unseen ones, both [2, n]."""

    def margin(params: Params) -> Array:
        chosen, rejected = logps_of(params, batch)
        return (chosen - rejected).mean()

    def logps_of(params: Params, pairs: PreferencePairs) -> Float[Array, "2 n"]:
        return map_tokens(model, params, pairs).sum(axis=-1)

    step = jax.grad(margin)(params)

    def along(pairs: PreferencePairs) -> Float[Array, "2 n"]:
        found: Array = jax.jvp(lambda params: logps_of(params, pairs), (params,), (step,))[1]
        return found

    return {"batch_slopes": along(batch), "unseen_slopes": along(unseen)}


def map_tokens(model: Model, params: Params, pairs: PreferencePairs) -> Float[Array, "2 n T"]:
    """Log-probabilities of all tokens, a few responses at a time."""
    each = partial(jax.lax.map, partial(token_logps, model, params), batch_size=AT_ONCE)
    found: Array = jax.lax.map(each, pairs.both_responses)
    return found
