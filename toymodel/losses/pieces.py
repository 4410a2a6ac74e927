"""The functions that losses are made of: outer ones take the margin, inner ones take one side.

Each returns a `Jet`, its value and its slope, written so that neither vanishes nor overflows early.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array

from toymodel._public import own_names
from toymodel.gram import Scalars
from toymodel.losses.form import Jet, Piece, Side

__dir__ = own_names(globals())


def sigmoid(a: Scalars) -> Array:
    """S(a) as exp(log S(a)), so that autodiff gives S(a)S(−a) and not S(a)(1 − S(a)), which is 0 from a = 37 on."""
    return jnp.exp(-jax.nn.softplus(-a))


def log_sigmoid(a: Scalars) -> Jet:
    """log S(a), slope S(−a): the m of DPO."""
    return Jet(-jax.nn.softplus(-a), sigmoid(-a))


def identity(a: Scalars) -> Jet:
    """a, slope 1: the m of losses that are a sum of one term per side."""
    return Jet(a, 1.0)


def hinge_below(target: Scalars) -> Callable[[Scalars], Jet]:
    """−max(target − a, 0), slope 1 below the target and 0 at it."""
    return lambda a: Jet(-jax.nn.relu(target - a), jnp.where(a < target, 1.0, 0.0))


def square(target: Scalars) -> Callable[[Scalars], Jet]:
    """−(a − target)²."""
    return lambda a: Jet(-((a - target) ** 2), -2 * (a - target))


def shifted(m: Callable[[Scalars], Jet], target: Scalars) -> Callable[[Scalars], Jet]:
    """m(a − target)."""
    return lambda a: m(a - target)


def scaled(piece: Callable[..., Jet], factor: Scalars) -> Callable[..., Jet]:
    """factor · piece."""

    def jet(x: Scalars | Side) -> Jet:
        value, slope = piece(x)
        return Jet(factor * value, factor * slope)

    return jet


def logp(side: Side) -> Jet:
    """log π(y|x)."""
    return Jet(side.logp, 1.0)


def mean_logp(side: Side) -> Jet:
    """log π(y|x) per token."""
    return Jet(side.mean_logp, 1 / side.tokens)


def logratio(side: Side) -> Jet:
    """log π(y|x)/π_ref(y|x)."""
    return Jet(side.logratio, 1.0)


def mean_logratio(side: Side) -> Jet:
    """log π(y|x)/π_ref(y|x) per token."""
    return Jet(side.mean_logratio, 1 / side.tokens)


def of_logratio(function: Callable[[Array], Jet], beta: Scalars = 1.0) -> Piece:
    """A function of β · `logratio`."""

    def jet(side: Side) -> Jet:
        value, slope = function(beta * side.logratio)
        return Jet(value, beta * slope)

    return jet
