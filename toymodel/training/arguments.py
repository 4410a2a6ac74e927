"""The arguments of `training.train`, checked, with what says which of them differ from run to run."""

import math
from functools import partial
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from toymodel._checks import require_finite, require_positive
from toymodel.data.pairs import PreferencePairs
from toymodel.models.logps import Model, Params, check_inputs

Key = Array


class PairLoss(Protocol):
    """What training asks of a loss: a pytree with these two, as `toymodel.losses.Loss` has them.

    Both take, per pair, log-probabilities of chosen and rejected, the same under the reference, and both lengths.
    """

    def value(self, w: Array, l: Array, ref_w: Array, ref_l: Array, n_w: Array, n_l: Array, /) -> Array:  # noqa: E741
        """The loss of each pair."""

    def weights(
        self,
        w: Array,
        l: Array,  # noqa: E741
        ref_w: Array,
        ref_l: Array,
        n_w: Array,
        n_l: Array,
        /,
    ) -> tuple[Array, Array]:
        """(d_chosen, d_rejected) of each pair."""


class Setting(NamedTuple):
    """What may differ from run to run. A second one, of 0 and None, says what does and has a leading axis of runs."""

    model: Any
    params: Any
    pairs: Any
    loss: Any
    learning_rate: Any
    ref_params: Any
    update: Any
    batches: Any


def make_setting(
    model: Model,
    params: Params,
    pairs: PreferencePairs,
    loss: PairLoss,
    learning_rate: float | Array,
    ref_params: Params | None,
    key: Key | None,
    update: Any,
    over: tuple[str, ...],
) -> tuple[Setting, Setting, int | None]:
    """The arguments after their checks, which have an axis of runs, and the number of runs."""
    require_positive("learning_rate", learning_rate)
    dtype = jnp.result_type(*jax.tree.leaves(params))
    loss, learning_rate, update = jax.tree.map(lambda number: jnp.asarray(number, dtype), (loss, learning_rate, update))
    given = {
        "model": model,
        "params": params,
        "pairs": pairs,
        "loss": loss,
        "learning_rate": learning_rate,
        "ref_params": ref_params,
        "key": key,
        "update": update,
    }
    runs = _number_of_runs(given, over)
    # Hyperparameters left at one number are the same in all runs.
    loss, update = (
        jax.tree.map(lambda number: number if number.ndim else jnp.full(runs, number), value) if name in over else value
        for name, value in (("loss", loss), ("update", update))
    )
    for name, value in (("learning_rate", learning_rate), ("loss", loss), ("update", update)):
        require_finite(name, value)
        for leaf in jax.tree.leaves(value):
            if leaf.ndim != (name in over):
                wanted = (
                    f"one number for each of {runs} runs" if name in over else "one number (or `over` must name it)"
                )
                raise ValueError(f"`{name}` must hold {wanted}, got shape {leaf.shape}.")
    if "pairs" in over and pairs.chosen.ndim != 3:
        raise ValueError(f"`pairs` must hold a batch for each run, [runs, n, T], got shape {pairs.chosen.shape}.")
    if "pairs" in over:
        runs_joined = jax.tree.map(lambda a: a.reshape(a.shape[0] * a.shape[1], *a.shape[2:]), pairs)  # -1 fails at 0
        check_inputs(model, params, runs_joined)
    else:
        check_inputs(model, params, pairs)
    if ref_params is None:
        ref_params, over = params, (*over, *(["ref_params"] if "params" in over else []))
    require_finite("ref_params", ref_params)
    axes = Setting(*(0 if {"batches": "key"}.get(name, name) in over else None for name in Setting._fields))
    return Setting(model, params, pairs, loss, learning_rate, ref_params, update, None), axes, runs


def _number_of_runs(given: dict[str, Any], over: tuple[str, ...]) -> int | None:
    """The size of the leading axis of everything named; None when nothing is."""
    runs: int | None = None
    for name in over:
        if name not in given:
            raise ValueError(f"`over` must hold names among {', '.join(given)}, got {name!r}.")
        leaves = [leaf for leaf in jax.tree.leaves(given[name]) if name not in ("loss", "update") or leaf.ndim]
        if not leaves:
            raise ValueError(f"`{name}` must hold arrays when `over` names it, got {given[name]!r}.")
        for leaf in leaves:
            if not leaf.shape or leaf.shape[0] != (runs or leaf.shape[0]):
                raise ValueError(f"`{name}` must have a leading axis of {runs or 'all'} runs, got shape {leaf.shape}.")
            runs = leaf.shape[0]
    return runs


@partial(jax.jit, static_argnums=(1, 2, 3, 4))
def make_batches(key: Key, n: int, batch_size: int, steps: int, many_keys: bool) -> Int[Array, "*runs steps B"]:
    """A permutation of the n pairs for each epoch, cut into batches."""
    in_epoch = n // batch_size

    def of_key(key: Key) -> Array:
        keys = jax.random.split(key, math.ceil(steps / in_epoch))
        orders = jax.vmap(lambda key: jax.random.permutation(key, n))(keys)
        return orders[:, : in_epoch * batch_size].reshape(-1, batch_size)[:steps]

    return jax.vmap(of_key)(key) if many_keys else of_key(key)
