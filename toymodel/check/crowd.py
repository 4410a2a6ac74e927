"""What T22 says about one draw: many pairs in one step, and one that is not in it."""

from dataclasses import replace

import jax
import jax.numpy as jnp
from jaxtyping import Array

from toymodel import gradients, theory
from toymodel._public import own_names
from toymodel.check.discrepancy import ROUNDOFF, checks, relative, wrong
from toymodel.check.draws import OFFSET, Draw
from toymodel.models.crowd import Cosines, crowd

__dir__ = own_names(globals())

PAIRS, BATCH, LONGEST = 6, 4, 3


@checks("T22", "A batch: slopes inside it and of an unseen pair, and the chosen falls exactly beyond L*_B.", OFFSET)
def _t22(draw: Draw) -> Array:
    V = draw.model.vocab_size
    unit = jax.nn.sigmoid(2 * jnp.asarray(draw.noise.features[:, 0]))  # [2, 5], between 0 and 1
    cosines = Cosines(unit[0, 0], unit[0, 0] * (2 * unit[0, 1] - 1), unit[0, 2])
    p_chosen, a, b = 0.02 + 0.96 * unit[1, :3]
    p_rejected = (1 - p_chosen) * (1 if V == 2 else 0.02 + 0.96 * unit[1, 3])
    length = jnp.floor((LONGEST + 1) * draw.noise.uniform[0])
    probs = {"p_chosen": p_chosen, "p_rejected": p_rejected, "a": a, "b": b}
    pairs, model = crowd(PAIRS, LONGEST, cosines, vocab_size=V, **probs)
    params = jnp.zeros((V, model.features.shape[1]))
    d = jnp.where(jnp.arange(PAIRS) < BATCH, PAIRS / BATCH, 0)  # the mean over the batch
    mask = jnp.broadcast_to(jnp.arange(LONGEST + 1) <= length, pairs.chosen.shape)
    responses, advantages = theory.as_group(replace(pairs, chosen_mask=mask, rejected_mask=mask), d, d)
    measured = gradients.group_slopes(model, params, responses, advantages).reshape(2, PAIRS)
    misses = []
    for batch_size, judged in ((BATCH, measured[:, :BATCH]), (None, measured[:, BATCH:])):
        predicted = jnp.array(theory.crowd_slopes(p_chosen, p_rejected, a, b, V, length, cosines, batch_size))
        threshold = theory.crowd_threshold(p_chosen, p_rejected, a, b, V, cosines, batch_size)
        clear = abs(judged[0]) > ROUNDOFF
        misses.append(relative(judged - predicted[:, None], 4 * (1 + length)))
        misses.append(wrong(clear & ((judged[0] < 0) != (length > threshold))))
    return jnp.array(misses).max()
