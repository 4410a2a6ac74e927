"""Training on preference pairs: an optax optimiser inside a compiled loop, with everything that a step does recorded.

The usual update takes the ordinary route, `jax.grad` of the mean loss through the model; remedies are other ones. The
record takes another: one gradient per response, hence each pair's Gram entries and, with the loss's closed-form weights
d_w and d_l, the slopes of all pairs along the joint step (T9, T20).
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int

from toymodel._checks import is_concrete, require_int
from toymodel.data.pairs import PreferencePairs, Response
from toymodel.models.logps import Model, Params, response_logp
from toymodel.training.arguments import Key, PairLoss, Setting, make_batches, make_setting
from toymodel.training.step import Batch, Plain, State, Update
from toymodel.training.trajectory import Diverged, Run, Trajectory
from toymodel.training.vectorise import device_mesh, each_run, spread

__all__ = ["Diverged", "Optimizer", "Run", "Trajectory", "train"]

#: From a learning rate to an optax optimiser, as `optax.sgd` is.
Optimizer = Callable[[Array], optax.GradientTransformation]
Record = Literal["pairs", "loss"]

CHUNK = 1000  # steps in one compiled loop, at most
REPORTS = 50  # about how often a run calls `progress`; at least once a chunk
CACHE = 2**17  # floating-point numbers that runs advanced together may work on: they should stay in a core's cache


def train(
    model: Model,
    params: Params,
    pairs: PreferencePairs,
    loss: PairLoss,
    optimizer: Optimizer,
    learning_rate: float | Float[Array, "*runs"],
    *,
    steps: int,
    batch_size: int | None = None,
    key: Key | None = None,
    ref_params: Params | None = None,
    update: Update | None = None,
    over: Sequence[str] = (),
    record: Record = "pairs",
    checkpoint_every: int | None = None,
    progress: Callable[[int], Any] | None = None,
) -> Run:
    """Minimise the mean loss of the pairs, and record what every step does to every pair.

    Args:
      loss: from `toymodel.losses.LOSSES`; its hyperparameters are numbers (when `over` names it: some of them [runs]).
      optimizer: makes an optax optimiser from a learning rate: `optax.sgd`, `functools.partial(optax.adam, b1=0.8)`.
        Code is compiled per object: make a `partial` or a `lambda` once, not in a loop.
      batch_size: pairs in a minibatch, taken in turn from one permutation per epoch; the n mod `batch_size` pairs at
        its end sit that epoch out. Default: all pairs at every step.
      key: for the permutations; wanted exactly when `batch_size` is given.
      ref_params: parameters of the reference policy. Default: `params`; log-ratios are then exactly 0 at the start.
      update: what a step does, such as some of `toymodel.remedies`. Default: `updates.Plain()`, the optimiser along the
        gradient of the mean loss.
      over: which of "model", "params", "pairs", "loss", "learning_rate", "key", "ref_params" and "update" have a
        leading axis of runs in all their arrays. The runs are one compiled program, and are shared out between
        `jax.devices()` when there are several and they divide the runs.
      record: "pairs" for the `Trajectory`, "loss" for the mean losses alone, at no other cost than training.
      checkpoint_every: keep the parameters of every state whose number it divides, the first included.
      progress: called with the number of steps done, now and then and at the end; never inside a trace.

    Outside a trace the loop runs in chunks of at most 1000 steps (fewer with `progress`). Between them Ctrl-C is heard
    and `progress` may raise, and neither leaves anything half done. Inside a trace it is one loop.

    Raises:
      Diverged: a single run, outside a trace, was no longer finite. Of several runs, or inside a trace, the one that
        was not stops (its parameters stay as they were before that step) and the others go on: see `Run.stopped_at`.
      ValueError: bad input.
    """
    if isinstance(over, str):
        raise ValueError(f"`over` must be a sequence of names, got {over!r}; ({over!r},) is one.")
    over = tuple(over)
    require_int("steps", steps, low=1)
    if not callable(optimizer):
        raise ValueError("`optimizer` must make an optimiser from a learning rate: `optax.sgd`, not `optax.sgd(0.1)`.")
    if not hasattr(loss, "weights"):
        raise ValueError(f'`loss` must be a loss with its hyperparameters, `LOSSES["dpo"](beta=0.1)`, got {loss!r}.')
    if record not in ("pairs", "loss"):
        raise ValueError(f'`record` must be "pairs" or "loss", got {record!r}.')
    if checkpoint_every is not None:
        require_int("checkpoint_every", checkpoint_every, low=1)
    rule = Plain() if update is None else update
    if isinstance(rule, type) or not (callable(rule) and hasattr(rule, "init")):
        raise ValueError(f"`update` must have `init` and be called with a batch, as `Plain()` is, got {rule!r}.")
    setting, axes, runs = make_setting(model, params, pairs, loss, learning_rate, ref_params, key, rule, over)
    if (key is None) != (batch_size is None):
        raise ValueError(
            f"`key` and `batch_size` go together, got only `{'key' if batch_size is None else 'batch_size'}`."
        )
    if batch_size is not None:
        n = pairs.chosen.shape[-2]
        require_int("batch_size", batch_size, low=1, high=n)
        setting = setting._replace(batches=make_batches(key, n, batch_size, steps, "key" in over))
    mesh = device_mesh(runs) if runs and is_concrete(setting) else None
    if mesh is not None:
        setting = spread(mesh, axes, setting)
    rows = steps // checkpoint_every + 1 if checkpoint_every else 0
    types = _types(jax.tree.structure((setting.model, setting.loss, setting.update)))
    static = _Static(optimizer, record, ref_params is None, checkpoint_every or 1, rows, axes, runs, mesh, types)
    state = _start(setting, static)

    eager = is_concrete(setting, state)
    longest = steps if not eager else CHUNK if progress is None else min(CHUNK, math.ceil(steps / REPORTS))
    length = math.ceil(steps / math.ceil(steps / longest))  # all alike: one program, and a few idle steps at the end
    parts: list[_Part] = []
    for start in range(0, steps, length):
        state, part = _chunk(setting, state, start + np.arange(length), steps, static)
        parts.append(part)
        done = min(start + length, steps)
        if eager:
            reached = np.asarray(state.number)  # waits for the chunk
            if runs is None and reached < done:
                raise Diverged(int(reached), _run(setting, state, parts, int(reached), static))
            if progress is not None:
                progress(done)
    return _run(setting, state, parts, steps, static)


class _Static(NamedTuple):
    """What is compiled in."""

    optimizer: Optimizer
    record: Record
    from_reference: bool  # the first state is the reference policy
    checkpoint_every: int
    checkpoints: int  # how many of them
    axes: Setting
    runs: int | None
    mesh: Mesh | None
    # Of model, loss and update. JAX tells two dataclasses with as many fields apart by their hash alone (0.10: their
    # tree structures compare equal), so that now and then one would be given the other's program.
    types: tuple[type, ...]


def _types(structure: Any) -> tuple[type, ...]:
    """Of all nodes, root first."""
    node = structure.node_data()
    return () if node is None else (node[0], *(one for child in structure.children() for one in _types(child)))


class _References(NamedTuple):
    """Log-probabilities under the reference policy, for the update and for the record.

    Where the run starts from the reference, each is what its own part of the first step computes: compiled code may
    round otherwise elsewhere, and a loss with a kink at a log-ratio of 0 would fall on either side of it.
    """

    update: Float[Array, "*runs 2 n"]
    record: Float[Array, "*runs 2 n"]


class _State(NamedTuple):
    params: Params
    opt_state: Any
    memory: Any  # the update's
    number: Int[Array, "*runs"]  # stays behind from the first step that was not finite
    ref_logps: "_References"
    checkpoints: Params  # [*runs, checkpoints, …], or None


class _Part(NamedTuple):
    """The record of some steps."""

    losses: Float[Array, "*runs length"]
    logps: tuple[Float[Array, "*runs length+1 n"], ...]  # chosen and rejected, or nothing
    columns: tuple[Float[Array, "*runs length n"], ...]  # the other fields of a `Trajectory`, or nothing


class _Pairs(NamedTuple):
    """Chosen, then rejected responses of n pairs, with what else the loss wants to know."""

    responses: Response  # arrays [2, n, …]
    lengths: Float[Array, "2 n"]

    def loss_arguments(
        self, logps: Float[Array, "2 n"], ref_logps: Float[Array, "2 n"]
    ) -> tuple[Float[Array, " n"], ...]:
        return (*logps, *ref_logps, *self.lengths)


@partial(jax.jit, static_argnames="static")
def _start(setting: Setting, static: _Static) -> _State:
    def start(setting: Setting) -> _State:
        opt_state = static.optimizer(setting.learning_rate).init(setting.params)
        responses = _responses(setting)
        ref_logps = _logps(setting.model, setting.ref_params, responses)
        memory = setting.update.init(jnp.zeros(responses.tokens.shape, ref_logps.dtype))
        kept = _first_of(static.checkpoints, setting.params) if static.checkpoints else None
        refs = _References(ref_logps, ref_logps)
        return _State(setting.params, opt_state, memory, jnp.zeros((), jnp.int32), refs, kept)

    return _each_run(start, (static.axes,), setting, static)(setting)


@partial(jax.jit, static_argnames="static")
def _chunk(
    setting: Setting, state: _State, numbers: Int[np.ndarray, " length"], steps: int, static: _Static
) -> tuple[_State, _Part]:
    """The steps with these numbers, idling from number `steps` on."""
    chunk = partial(_chunk_of_one_run, static)
    return _each_run(chunk, (static.axes, 0, None, None), setting, static)(setting, state, numbers, steps)


def _each_run(function: Callable[..., Any], axes: tuple[Any, ...], setting: Setting, static: _Static) -> Any:
    if static.runs is None:
        return function
    pairs = setting.pairs.chosen.shape[-2]
    logits = 2 * pairs * setting.pairs.chosen.shape[-1] * setting.model.vocab_size
    size = sum(leaf.size for leaf in jax.tree.leaves(setting.params)) // (static.runs if static.axes.params == 0 else 1)
    copies = 4 + (2 * pairs if static.record == "pairs" else 0)  # parameters, gradient, two moments; all gradients
    return each_run(function, axes, block=max(1, CACHE // (logits + copies * size)), mesh=static.mesh)


def _chunk_of_one_run(
    static: _Static,
    setting: Setting,
    state: _State,
    numbers: Array,
    steps: Array,
) -> tuple[_State, _Part]:
    model, loss, optimise = setting.model, setting.loss, static.optimizer(setting.learning_rate)
    responses = _responses(setting)
    pairs = _Pairs(responses, responses.mask.sum(axis=-1).astype(state.ref_logps.update.dtype))

    def reference(number: Array, logps: Array, ref_logps: Array) -> Array:
        return jnp.where(number == 0, jax.lax.stop_gradient(logps), ref_logps) if static.from_reference else ref_logps

    def kept(checkpoints: Params, finite: Array, number: Array, params: Params) -> Params:
        """With the parameters of state `number` written into their row, if they have one."""
        if not static.checkpoints:
            return None
        row, rest = jnp.divmod(number, static.checkpoint_every)
        row = jnp.where(finite & (rest == 0), row, static.checkpoints)  # what lies beyond the last row is dropped
        return jax.tree.map(lambda rows, leaf: rows.at[row].set(leaf, mode="drop"), checkpoints, params)

    def mean_loss(params: Params, batch: _Pairs, number: Array, ref_logps: Array) -> tuple[Array, Array]:
        logps = _logps(model, params, batch.responses)
        ref_logps = reference(number, logps, ref_logps)
        return loss.value(*batch.loss_arguments(logps, ref_logps)).mean(), ref_logps

    def step(state: _State, number: Array) -> tuple[_State, _Part]:
        members = jnp.arange(pairs.lengths.shape[1]) if setting.batches is None else setting.batches[number]
        batch = pairs if setting.batches is None else jax.tree.map(lambda a: a[:, members], pairs)
        update_refs, record_refs = state.ref_logps
        (value, batch_refs), gradient = jax.value_and_grad(mean_loss, has_aux=True)(
            state.params, batch, number, update_refs[:, members]
        )
        given = Batch(
            model=model,
            loss=loss,
            responses=batch.responses,
            lengths=batch.lengths,
            ref_params=setting.ref_params,
            ref_logps=batch_refs,
            members=members,
            number=number,
            learning_rate=setting.learning_rate,
            optimizer=optimise,
            gradient=gradient,
        )
        before = State(state.params, state.opt_state, state.memory)
        (params, opt_state, memory), update = setting.update(given, before)
        reached = state.number == number
        finite = reached & (number < steps) & jnp.isfinite(value) & _all_finite(params)
        logps: tuple[Array, ...] = ()
        columns: tuple[Array, ...] = ()
        if static.record == "pairs":
            both, gradients = _logps_and_gradients(model, state.params, pairs)
            record_refs = reference(number, both, record_refs)
            arguments = pairs.loss_arguments(both, record_refs)
            columns = _or_nan(finite, _measured(loss, arguments, gradients, members, update))
            logps = _or_nan(reached, tuple(both))
        refs = _References(update_refs.at[:, members].set(batch_refs), record_refs)
        moved = _State(params, opt_state, memory, state.number + 1, refs, ())
        moved = jax.tree.map(partial(jnp.where, finite), moved, state._replace(checkpoints=()))
        after = moved._replace(checkpoints=kept(state.checkpoints, finite, number + 1, params))
        return after, _Part(_or_nan(finite, value), logps, columns)

    state, part = jax.lax.scan(step, state, numbers)
    if static.record == "pairs":
        last = _or_nan(state.number == numbers[-1] + 1, tuple(_logps(model, state.params, responses)))
        part = part._replace(logps=jax.tree.map(lambda rows, row: jnp.concatenate([rows, row[None]]), part.logps, last))
    return state, part


def _logps_and_gradients(
    model: Model, params: Params, pairs: _Pairs
) -> tuple[Float[Array, "2 n"], Float[Array, "2 n P"]]:
    """Of every response."""

    def one(response: Response) -> tuple[Array, Array]:
        logp, gradient = jax.value_and_grad(response_logp, argnums=1)(model, params, response)
        return logp, ravel_pytree(gradient)[0]

    return jax.vmap(jax.vmap(one))(pairs.responses)


def _measured(
    loss: PairLoss,
    given: tuple[Float[Array, " n"], ...],
    gradients: Float[Array, "2 n P"],
    members: Int[Array, " B"],
    update: Params,
) -> tuple[Float[Array, " n"], ...]:
    """The columns of a `Trajectory` that belong to a step, from what the loss is given and all gradients."""
    chosen, rejected = gradients
    d_chosen, d_rejected = loss.weights(*given)
    share = jnp.zeros_like(d_chosen).at[members].set(1 / len(members))
    plain_step = (share * d_chosen) @ chosen - (share * d_rejected) @ rejected
    gram = (chosen**2).sum(axis=-1), (rejected**2).sum(axis=-1), (chosen * rejected).sum(axis=-1)
    slopes, predicted = gradients @ plain_step, gradients @ ravel_pytree(update)[0]
    return (loss.value(*given), *gram, d_chosen, d_rejected, *slopes, *predicted)


def _run(setting: Setting, state: _State, parts: list[_Part], steps: int, static: _Static) -> Run:
    """The record of all chunks, cut to this number of steps."""
    axis = 0 if static.runs is None else 1

    def joined(rows: int, *arrays: Array) -> Array:
        whole = arrays[0] if len(arrays) == 1 else jnp.concatenate(arrays, axis)
        return jax.lax.slice_in_dim(whole, 0, rows, axis=axis)

    losses, logps, columns = zip(*parts, strict=True)
    trajectory = None
    if static.record == "pairs":  # the last state of a chunk is the first of the next
        heads = jax.tree.map(lambda a: jax.lax.slice_in_dim(a, 0, -1, axis=axis), logps[:-1])
        trajectory = Trajectory(
            *jax.tree.map(partial(joined, steps + 1), *heads, logps[-1]),
            *jax.tree.map(partial(joined, steps), *columns),
        )
    batches = setting.batches
    if batches is not None:
        lead = () if static.runs is None else (static.runs,)
        batches = jnp.broadcast_to(batches, (*lead, *batches.shape[-2:]))[..., :steps, :]
    return Run(state.params, joined(steps, *losses), state.number, batches, trajectory, state.checkpoints, state.memory)


def _stacked(chosen: Array, rejected: Array) -> Array:
    """Both in one array [2, …], padded on the right to one width (with token 0 and a mask of False)."""
    width = max(chosen.shape[-1], rejected.shape[-1])
    return jnp.stack([jnp.pad(a, ((0, 0), (0, width - a.shape[-1]))) for a in (chosen, rejected)])


def _responses(setting: Setting) -> Response:
    """Chosen, then rejected."""
    responses: Response = jax.tree.map(_stacked, setting.pairs.chosen_response, setting.pairs.rejected_response)
    return responses


def _logps(model: Model, params: Params, responses: Response) -> Float[Array, "2 n"]:
    return jax.vmap(jax.vmap(lambda response: response_logp(model, params, response)))(responses)


def _first_of(rows: int, params: Params) -> Params:
    """Room for parameters at many states, the first filled in."""
    return jax.tree.map(lambda leaf: jnp.full((rows, *leaf.shape), jnp.nan, leaf.dtype).at[0].set(leaf), params)


def _all_finite(tree: Any) -> Bool[Array, ""]:
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)]).all()


def _or_nan(condition: Array, tree: Any) -> Any:
    return jax.tree.map(lambda a: jnp.where(condition, a, jnp.nan), tree)
