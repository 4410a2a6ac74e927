"""The arguments of `training.train`, checked, and which of them differ from run to run."""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from toymodel._checks import ABOVE_ZERO, describe, require, require_finite, require_int
from toymodel._public import own_names
from toymodel.models.logps import check_inputs, check_kinds, check_params

__dir__ = own_names(globals())

Key = Array
Both = tuple[Array, Array]  # for the chosen and for the rejected responses
NUMBERS = ("learning_rate", "loss", "update")  # arguments whose leaves are hyperparameters


class PairLoss(Protocol):
    """The interface that training needs of a loss: a pytree with these two methods, as in `toymodel.losses.Loss`.

    Both take, per pair, log-probabilities of chosen and rejected, the same under the reference, and both lengths.
    """

    def value(self, w: Array, l: Array, ref_w: Array, ref_l: Array, n_w: Array, n_l: Array, /) -> Array:  # noqa: E741
        """The loss of each pair."""

    def weights(self, w: Array, l: Array, ref_w: Array, ref_l: Array, n_w: Array, n_l: Array, /) -> Both:  # noqa: E741
        """(d_chosen, d_rejected) of each pair."""


class Setting(NamedTuple):
    """The arguments of `train` that `over` may name. A second one holds the axis of runs of each: 0, or None."""

    model: Any
    params: Any
    pairs: Any
    loss: Any
    learning_rate: Any
    key: Any
    ref_params: Any
    update: Any
    sources: Any = None  # of `account` alone, as the next
    judged: Any = None
    batches: Any = None  # made from the key: [*runs, steps, B]


def check_options(
    setting: Setting, optimizer: Any, record: str, steps: Any, checkpoint_every: Any, over: Any, progress: Any
) -> None:
    """Raise `ValueError` on an argument of the wrong kind."""
    if isinstance(over, str):
        raise ValueError(f"`over` must be a sequence of names, got {over!r}; ({over!r},) is one.")
    if not isinstance(over, Sequence) or not all(isinstance(name, str) for name in over):
        raise ValueError(f"`over` must be a sequence of names, got {describe(over)}.")
    check_kinds(setting.model, setting.params, pairs=setting.pairs)
    require(ABOVE_ZERO, learning_rate=setting.learning_rate)
    if setting.ref_params is not None:
        _check_reference(setting, "params" in over, "ref_params" in over)
    _check_key(setting.key, "key" in over)
    if progress is not None and not callable(progress):
        raise ValueError(f"`progress` must be called with a number of steps, got {describe(progress)}.")
    require_int("steps", steps, low=1)
    if not callable(optimizer):
        raise ValueError("`optimizer` must make an optimiser from a learning rate: `optax.sgd`, not `optax.sgd(0.1)`.")
    try:
        made = optimizer(1.0)
    except (TypeError, ValueError) as error:
        raise ValueError(f"`optimizer` must make an optimiser from a learning rate, but failed: {error}.") from error
    if not (hasattr(made, "init") and hasattr(made, "update")):
        raise ValueError(f"`optimizer` must make an optimiser, with `init` and `update`, but it made {describe(made)}.")
    if isinstance(setting.loss, type) or not (hasattr(setting.loss, "weights") and hasattr(setting.loss, "value")):
        wanted = '`LOSSES["dpo"](beta=0.1)`'
        raise ValueError(f"`loss` must be a loss with its hyperparameters, {wanted}, got {setting.loss!r}.")
    if record not in ("pairs", "loss"):
        raise ValueError(f'`record` must be "pairs" or "loss", got {record!r}.')
    if checkpoint_every is not None:
        require_int("checkpoint_every", checkpoint_every, low=1)
    update = setting.update
    if isinstance(update, type) or not (callable(update) and hasattr(update, "init")):
        raise ValueError(f"`update` must have `init` and be called with a batch, as `Plain()` is, got {update!r}.")


def _check_reference(setting: Setting, many: bool, many_references: bool) -> None:
    """Check that the reference's parameters have the arrays and shapes of the model's."""
    check_params("ref_params", setting.ref_params)

    def shapes(tree: Any, of_runs: bool) -> Any:
        return jax.tree.map(lambda leaf: leaf.shape[of_runs:], tree)

    wanted, got = shapes(setting.params, many), shapes(setting.ref_params, many_references)
    if wanted != got:
        raise ValueError(f"`ref_params` must have the shapes of `params`, {describe(wanted)}, got {describe(got)}.")


def _check_key(key: Any, many: bool) -> None:
    """Check a key from `jax.random.key` or `jax.random.PRNGKey`; several if `over` names it."""
    if key is None:
        return
    dtype = key.dtype if isinstance(key, np.ndarray | jax.Array) else np.dtype(object)
    typed = jnp.issubdtype(dtype, jax.dtypes.prng_key)
    plain = dtype == jnp.uint32 and key.shape[-1:] == (2,)
    if not (typed or plain) or key.ndim != many + plain:
        wanted = "a key for each run, `jax.random.split(key, runs)`" if many else "one key, `jax.random.key(0)`"
        raise ValueError(f"`key` must be {wanted}, got {describe(key)}.")


def prepare(
    setting: Setting, over: tuple[str, ...], steps: int, batch_size: int | None
) -> tuple[Setting, Setting, int | None]:
    """The checked arguments with their minibatches, which have an axis of runs, and the number of runs.

    Hyperparameters become arrays of the parameters' precision.
    """
    dtype = jnp.result_type(*jax.tree.leaves(setting.params))
    as_arrays = {name: jax.tree.map(lambda x: jnp.asarray(x, dtype), getattr(setting, name)) for name in NUMBERS}
    setting = setting._replace(**as_arrays)
    runs = _count_runs(setting, over)
    for name in NUMBERS:
        checked = _spread_numbers(name, getattr(setting, name), runs if name in over else None)
        setting = setting._replace(**{name: checked})
    check_pairs(setting, "pairs" in over)
    if setting.ref_params is None:
        setting = setting._replace(ref_params=setting.params)
        over = (*over, "ref_params") if "params" in over else over
    if (setting.key is None) != (batch_size is None):
        given = "key" if batch_size is None else "batch_size"
        raise ValueError(f"`key` and `batch_size` go together, got only `{given}`.")
    if batch_size is not None:
        n = setting.pairs.chosen.shape[-2]
        require_int("batch_size", batch_size, low=1, high=n)
        setting = setting._replace(batches=_draw_batches(setting.key, n, batch_size, steps, "key" in over))
    axes = Setting(*(0 if {"batches": "key"}.get(name, name) in over else None for name in Setting._fields))
    return setting, axes, runs


def _count_runs(setting: Setting, over: tuple[str, ...]) -> int | None:
    """The size of the leading axis of all named arguments; None if none is named."""
    runs: int | None = None
    left_out = [name for name in ("sources", "judged") if getattr(setting, name) is None]
    known = [name for name in Setting._fields[:-1] if name not in left_out]
    for name in over:
        if name not in known:
            raise ValueError(f"`over` must hold names among {', '.join(known)}, got {name!r}.")
        argument = getattr(setting, name)
        # A hyperparameter left at one number is the same in all runs.
        leaves = [leaf for leaf in jax.tree.leaves(argument) if name not in ("loss", "update") or leaf.ndim]
        if not leaves:
            raise ValueError(f"`{name}` must hold arrays when `over` names it, got {argument!r}.")
        for leaf in leaves:
            if not leaf.shape or leaf.shape[0] != (runs or leaf.shape[0]):
                raise ValueError(f"`{name}` must have a leading axis of {runs or 'all'} runs, got shape {leaf.shape}.")
            runs = leaf.shape[0]
    return runs


def _spread_numbers(name: str, numbers: Any, runs: int | None) -> Any:
    """Finite hyperparameters, each one number for each of so many runs, or one number where `runs` is None."""
    if runs is not None:
        numbers = jax.tree.map(lambda x: x if x.ndim else jnp.full(runs, x), numbers)
    require_finite(name, numbers)
    for leaf in jax.tree.leaves(numbers):
        if leaf.ndim != (runs is not None):
            wanted = "one number (or `over` must name it)" if runs is None else f"one number for each of {runs} runs"
            raise ValueError(f"`{name}` must hold {wanted}, got shape {leaf.shape}.")
    return numbers


def check_pairs(setting: Setting, many: bool) -> None:
    """Raise `ValueError` on malformed pairs, or on parameters that are not finite."""
    pairs = setting.pairs
    if many and pairs.chosen.ndim != 3:
        raise ValueError(f"`pairs` must hold a batch for each run, [runs, n, T], got shape {pairs.chosen.shape}.")
    if many:  # all runs in one batch; a size of −1 would fail for an empty prompt
        pairs = jax.tree.map(lambda a: a.reshape(a.shape[0] * a.shape[1], *a.shape[2:]), pairs)
    check_inputs(setting.model, setting.params, pairs)


@partial(jax.jit, static_argnums=(1, 2, 3, 4))
def _draw_batches(key: Key, n: int, batch_size: int, steps: int, many_keys: bool) -> Int[Array, "*runs steps B"]:
    """A permutation of the n pairs for each epoch, cut into batches."""
    in_epoch = n // batch_size

    def draw(key: Key) -> Array:
        keys = jax.random.split(key, math.ceil(steps / in_epoch))
        orders = jax.vmap(lambda key: jax.random.permutation(key, n))(keys)
        return orders[:, : in_epoch * batch_size].reshape(-1, batch_size)[:steps]

    return jax.vmap(draw)(key) if many_keys else draw(key)
