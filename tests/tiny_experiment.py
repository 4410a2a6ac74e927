"""Small experiments that compile in a moment, for tests of sweeps: together they have everything that one can have."""

import jax
import jax.numpy as jnp
import numpy as np

from toymodel._checks import Domain
from toymodel.experiments.experiment import POSITIVE, REAL, Experiment, Rule, one_of, real, setting, whole

OPERATIONS = {"sine": jnp.sin, "exponential": jnp.exp, "square": jnp.square}
UNSET = float("nan")


@setting
class TinySetting:
    size: int = whole(3, low=2, compiled=True)
    operation: str = one_of(OPERATIONS, "sine")
    scale: float = real(1.0, POSITIVE)
    limit: int = whole(100, low=0, high=1000)
    seed: int = whole(0, low=0)


def measure(setting):
    noise = jax.random.normal(jax.random.key(setting.seed), (setting.size,))
    values = OPERATIONS[setting.operation](noise * setting.scale)
    return {"total": values.sum(), "values": values[:2], "sign": jnp.where(values[0] > 0, 1, 0)}


FITS = Rule(("size", "limit"), lambda size, limit: size <= limit, "`size` must be at most `limit`")
TINY = Experiment("tiny", TinySetting, measure, (FITS,), names={"sign": ("minus", "plus")}, block=32)


@setting
class OddSetting:
    """A word that is traced, and a number that is left out unless it is given."""

    size: int = whole(3, low=2, compiled=True)
    operation: str = one_of(OPERATIONS, "sine", as_place=True)
    shift: float = real(UNSET, Domain("finite", lambda x: ~np.isinf(x)))
    seed: int = whole(0, low=0)


@jax.jit
def odd_noise(seed):
    return jax.random.normal(jax.random.key(seed), (2,))


def odd(setting):
    noise = odd_noise(setting.seed) * setting.size + jnp.nan_to_num(setting.shift)
    return {"value": jax.lax.switch(setting.operation, tuple(OPERATIONS.values()), noise).sum()}


def with_shift(columns):
    """Sines have a shift: 0.5, unless another one is given."""
    left_out = (columns["operation"] == "sine") & np.isnan(columns["shift"])
    return columns | {"shift": np.where(left_out, 0.5, columns["shift"])}


HAS_SHIFT = Rule(
    ("operation", "shift"),
    lambda operation, shift: (operation == "sine") | np.isnan(shift),
    "`shift` must be left out but for sines",
)
ODD = Experiment("odd", OddSetting, odd, (HAS_SHIFT,), complete=with_shift, whole=False, block=4, shard=8)


@setting
class GrownSetting(TinySetting):
    factor: float = real(1.0, REAL)


def of_tiny(columns):
    return {name: columns[name] for name in TINY.fields}


def grown(setting, tiny):
    return {"grown": tiny["values"] * setting.factor, "of": tiny["total"], "sign": tiny["sign"]}


def shrunk(setting, tiny):
    return {"shrunk": tiny["total"] / (1 + setting.factor**2)}


GROWN = Experiment("grown", GrownSetting, grown, names=TINY.names, needs=TINY, needed=of_tiny, block=32, shard=16)
SHRUNK = Experiment("shrunk", GrownSetting, shrunk, needs=TINY, needed=of_tiny, block=32, shard=16)


def wide(setting):
    return {"values": jax.random.normal(jax.random.key(setting.seed), (setting.size,))}


def summed(_, wide):
    return {"sum": wide["values"].sum()}


WIDE = Experiment("wide", TinySetting, wide, block=32)  # its columns have a shape for each size
SUMMED = Experiment("summed", TinySetting, summed, needs=WIDE, needed=of_tiny, block=32)
