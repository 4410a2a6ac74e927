"""What T23 says about one draw: a few steps on two pairs, as a sum over training tokens."""

from typing import Literal

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from toymodel import theory
from toymodel._public import own_names
from toymodel.check.discrepancy import checks, excess, relative
from toymodel.check.draws import OFFSET, Draw, two_pairs
from toymodel.losses import LOSSES
from toymodel.models.logps import pair_logps
from toymodel.training import account, by_position, by_side, crossed

__dir__ = own_names(globals())

STEPS, MOMENTUM = 3, 0.5
PLACES: tuple[Literal["start", "middle"], ...] = ("start", "middle")


def _momentum(learning_rate: Array) -> optax.GradientTransformation:
    return optax.sgd(learning_rate, momentum=MOMENTUM)


@checks("T23", "Training: what each part of the tokens brought adds up, but for what T12 allows at each step.", OFFSET)
def _t23(draw: Draw) -> Array:
    model, params, pairs, _ = two_pairs(draw)
    judged = pairs.swapped()
    loss = LOSSES["dpo"](beta=1.0)
    rate = 10 ** (-2 * draw.noise.uniform[0])
    sources = crossed(by_side(pairs), by_position(pairs))
    accounts = {
        at: account(
            model,
            params,
            pairs,
            loss,
            _momentum,
            rate,
            judged=judged,
            sources=sources,
            steps=STEPS,
            at=at,
            checkpoint_every=1,
        )
        for at in PLACES
    }
    found = accounts["start"]
    path = found.run.checkpoints
    assert path is not None
    at_start = pair_logps(model, params, pairs)
    lengths = [mask.sum(axis=-1).astype(float) for mask in (pairs.chosen_mask, pairs.rejected_mask)]

    def weights(params: Array) -> Array:
        d_chosen, d_rejected = loss.weights(*pair_logps(model, params, pairs), *at_start, *lengths)
        return jnp.stack([d_chosen, -d_rejected]) / 2

    predicted = theory.token_account(model, path, pairs, judged, jax.vmap(weights)(path[:-1]), rate, MOMENTUM)
    # A training token moves another's log-probability by at most ‖s‖‖s′‖ ≤ 2 per unit of weight, which is at most 1/2.
    size = 2 * rate * STEPS / (1 - MOMENTUM) * predicted[:, :, :, 0, 0, 0].size
    misses = [
        relative(brought - jnp.einsum("snt...,snt->...", predicted, jnp.asarray(mask)), size)
        for brought, mask in zip(found.contributions.values(), sources.values(), strict=True)
    ]
    scale = size + abs(jnp.stack(at_start[::-1])) + abs(found.true_change).sum(axis=-1)
    for at in PLACES:
        low, high = theory.remainder_bounds(model, path, judged, at)
        remainder = accounts[at].remainder.sum(axis=-1)
        misses += [excess(remainder, high, scale).max(), excess(low, remainder, scale - low).max()]
    return jnp.array(misses).max()
