"""The tiny experiment made slow: a shard takes a twentieth of a second, asleep, so there is time to disturb it."""

import dataclasses
import time

import jax
import tiny_experiment


def measure(setting):
    wait = jax.pure_callback(wake_late, setting.scale, setting.scale, vmap_method="broadcast_all")
    return tiny_experiment.measure(setting) | {"wait": wait}


def wake_late(scales):
    time.sleep(0.05)
    return scales


SLOW = dataclasses.replace(tiny_experiment.TINY, name="slow", measure=measure)
