"""The tiny experiment made slow: a shard of 8 settings takes a tenth of a second, so there is time to disturb it."""

import dataclasses

import jax
from tiny_experiment import TINY

TURNS = 100_000


def measure(setting):
    row = TINY.measure(setting)
    wait = jax.lax.fori_loop(0, TURNS, lambda _, x: jax.numpy.sin(x), setting.scale)
    return row | {"wait": wait}


SLOW = dataclasses.replace(TINY, name="slow", measure=measure)
