"""A small experiment with a field of every kind, for tests of sweeps: it compiles in a moment."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp

from toymodel.sweep import POSITIVE, Experiment, Rule, one_of, real, whole

OPERATIONS = {"sine": jnp.sin, "exponential": jnp.exp, "square": jnp.square}


def measure(setting: SimpleNamespace) -> dict[str, jax.Array]:
    noise = jax.random.normal(jax.random.key(setting.seed), (setting.size,))
    values = setting.operation.switch(OPERATIONS, noise * setting.scale)
    return {"total": values.sum(), "values": values[:2], "sign": jnp.where(values[0] > 0, 1, 0)}


TINY = Experiment(
    "tiny",
    {
        "size": whole(3, low=2, compiled=True),
        "operation": one_of(OPERATIONS, "sine"),
        "scale": real(1.0, POSITIVE),
        "limit": whole(100, low=0, high=1000),
        "seed": whole(0, low=0),
    },
    measure,
    (Rule(("size", "limit"), lambda size, limit: size <= limit, "`size` must be at most `limit`"),),
    names={"sign": ("minus", "plus")},
    block=8,
)
