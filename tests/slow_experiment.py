"""The tiny experiment made slow: a shard of 8 settings takes a tenth of a second, so there is time to disturb it."""

import dataclasses

import jax
import tiny_experiment

TURNS = 100_000


def measure(setting):
    row = tiny_experiment.measure(setting)
    wait = jax.lax.fori_loop(0, TURNS, lambda _, x: jax.numpy.sin(x), setting.scale)
    return row | {"wait": wait}


SLOW = dataclasses.replace(tiny_experiment.TINY, name="slow", measure=measure)
