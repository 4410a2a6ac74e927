"""Training on preference pairs: an optax optimiser inside a compiled loop that records what every step does.

The usual update is `jax.grad` of the mean loss through the model; remedies are other updates. The record is computed
separately: one gradient per response, hence each pair's Gram entries and, with the loss's closed-form weights d_w and
d_l, the slopes of all pairs along the joint step (T9, T20).

`train` checks its arguments, makes the state before the first step (`_start`) and takes the steps in compiled chunks
(`_take_chunk`), each step by `_step`.
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

from toymodel._checks import is_concrete
from toymodel._public import own_names
from toymodel.data.pairs import PreferencePairs
from toymodel.models.logps import Model, Params
from toymodel.training.arguments import Key, PairLoss, Setting, check_options, prepare
from toymodel.training.step import Batch, Ledger, Plain, State, Update
from toymodel.training.trajectory import Diverged, Run, Trajectory
from toymodel.training.vectorise import device_mesh, each_run

__dir__ = own_names(globals())

__all__ = ["Diverged", "Optimizer", "Run", "Trajectory", "train"]

#: A function from a learning rate to an optax optimiser, such as `optax.sgd`.
Optimizer = Callable[[Array], optax.GradientTransformation]
Record = Literal["pairs", "loss"]
#: The record of a step, NaN if it was not taken: the mean loss over the batch, and a row [n] over all pairs.
_Row = tuple[Float[Array, ""], Trajectory | None]

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
      batch_size: pairs in a minibatch, taken in turn from one permutation per epoch; the last n mod `batch_size` pairs
        of it are left out in that epoch. Default: all pairs at every step.
      key: for the permutations; needed exactly when `batch_size` is given.
      ref_params: parameters of the reference policy. Default: `params`; log-ratios are then exactly 0 at the start.
      update: what a step does, such as some of `toymodel.remedies`. Default: `Plain()`, the optimiser along the
        gradient of the mean loss.
      over: which of "model", "params", "pairs", "loss", "learning_rate", "key", "ref_params" and "update" have a
        leading axis of runs in all their arrays. The runs are one compiled program, and are divided among
        `jax.devices()` if the number of runs is a multiple of theirs.
      record: "pairs" for the `Trajectory`, "loss" for the mean losses alone, at no extra cost.
      checkpoint_every: keep the parameters of every state whose number it divides, the first included.
      progress: called with the number of steps done, now and then and at the end; never inside a trace.

    Outside a trace the loop runs in chunks of at most 1000 steps (fewer with `progress`). Between chunks Ctrl-C takes
    effect and `progress` may raise; neither leaves anything half done. Inside a trace it is one loop.

    Raises:
      Diverged: a single run, outside a trace, was no longer finite. Among several runs, or inside a trace, such a run
        stops (its parameters stay as before that step) and the others continue: see `Run.stopped_at`.
      ValueError: bad input.
    """
    update = Plain() if update is None else update
    setting = Setting(model, params, pairs, loss, learning_rate, key, ref_params, update)
    check_options(setting, optimizer, record, steps, checkpoint_every, over, progress)
    return run_steps(
        setting,
        optimizer,
        over,
        steps=steps,
        batch_size=batch_size,
        record=record,
        checkpoint_every=checkpoint_every,
        progress=progress,
    )[0]


def run_steps(
    setting: Setting,
    optimizer: Optimizer,
    over: Sequence[str],
    *,
    steps: int,
    batch_size: int | None,
    record: Record,
    checkpoint_every: int | None,
    progress: Callable[[int], Any] | None,
    ledger: Ledger | None = None,
) -> tuple[Run, Any]:
    """Take the steps of `train` after its checks; also returns the results of the ledger, [*runs, …]."""
    from_reference = setting.ref_params is None
    setting, axes, runs = prepare(setting, tuple(over), steps, batch_size)
    mesh = device_mesh(runs) if runs and is_concrete(setting) else None
    every, checkpoints = checkpoint_every or 1, steps // checkpoint_every + 1 if checkpoint_every else 0
    types = type(setting.model), type(setting.loss), type(setting.update)
    program = _Program(optimizer, record, from_reference, every, checkpoints, axes, runs, mesh, types, ledger)
    loop = _start(program, setting)
    eager = is_concrete(setting, loop)
    longest = steps if not eager else CHUNK if progress is None else min(CHUNK, math.ceil(steps / REPORTS))
    rows: list[_Row] = []
    for numbers in _cut_into_chunks(steps, longest, record):
        loop, row = (_chunk_in_place if eager else _chunk)(program, setting, loop, numbers, steps)
        rows.append(row)
        if eager:
            done, reached = min(int(numbers[-1]) + 1, steps), np.asarray(loop.number)  # waits for the chunk
            if runs is None and reached < done:
                raise Diverged(int(reached), _join(program, setting, loop, rows, int(reached)))
            if progress is not None:
                progress(done)
    return _join(program, setting, loop, rows, steps), ledger and _close(program, ledger, setting, loop)


class _Program(NamedTuple):
    """What is compiled in."""

    optimizer: Optimizer
    record: Record
    from_reference: bool  # the first state is the reference policy
    checkpoint_every: int
    checkpoints: int  # how many of them
    axes: Setting
    runs: int | None
    mesh: Mesh | None
    types: tuple[type, ...]  # of model, loss and update, for those that JAX's `register_dataclass` made: see `pytree`
    ledger: Ledger | None


class _References(NamedTuple):
    """Log-probabilities under the reference policy, for the update and for the record.

    If the run starts from the reference, each is computed by its own part of the first step: other compiled code may
    round differently, and a loss with a kink at a log-ratio of 0 would fall on either side of it.
    """

    update: Float[Array, "*runs 2 n"]
    record: Float[Array, "*runs 2 n"]


class _Loop(NamedTuple):
    """What one step passes to the next."""

    state: State
    number: Int[Array, "*runs"]  # of the state; stays behind from the first step that was not finite
    references: _References
    checkpoints: Params  # [*runs, checkpoints, …], or None
    entries: Any  # of the ledger


def _cut_into_chunks(steps: int, longest: int, record: Record) -> list[Int[np.ndarray, " length"]]:
    """The step numbers of each chunk. Chunks are equally long, so one program serves all; the last may exceed the end.

    A record of pairs has one more step, which is not taken: it records the last state.
    """
    visited = steps + (record == "pairs")
    length = math.ceil(visited / math.ceil(steps / longest))
    return [start + np.arange(length) for start in range(0, visited, length)]


@partial(jax.jit, static_argnames="program")
def _start(program: _Program, setting: Setting) -> _Loop:
    """Everything known before the first step."""

    def start(setting: Setting) -> _Loop:
        pairs = _all_pairs(program, setting)
        ref_logps = _reference_logps(program, setting, pairs)
        memory = setting.update.init(jnp.zeros(pairs.responses.tokens.shape, ref_logps.dtype))
        state = State(setting.params, pairs.optimizer.init(setting.params), memory)
        checkpoints = None
        if program.checkpoints:
            checkpoints = jax.tree.map(lambda leaf: _first_of(program.checkpoints, leaf), setting.params)
        entries = program.ledger and program.ledger.open(setting, pairs, state)
        return _Loop(state, jnp.zeros((), jnp.int32), _References(ref_logps, ref_logps), checkpoints, entries)

    return _vectorise(program, setting, start, (program.axes,))(setting)


def _reference_logps(program: _Program, setting: Setting, pairs: Batch) -> Float[Array, "2 n"]:
    """Log-probabilities under the reference policy, only of the pairs that the run uses; 0 for others."""
    visited = None if setting.batches is None else setting.batches.reshape(-1)
    if visited is None or program.record == "pairs" or len(visited) >= len(pairs.members):
        return pairs.logps(setting.ref_params)
    return pairs.ref_logps.at[:, visited].set(pairs.take(visited).logps(setting.ref_params))


def _take_chunk(
    program: _Program, setting: Setting, loop: _Loop, numbers: Int[np.ndarray, " length"], steps: int
) -> tuple[_Loop, _Row]:
    """Take the steps with these numbers; from number `steps` on, do nothing."""

    def chunk(setting: Setting, loop: _Loop, numbers: Array, steps: Array) -> tuple[_Loop, _Row]:
        pairs = _all_pairs(program, setting)
        return jax.lax.scan(partial(_step, program, setting, pairs, steps), loop, numbers)

    return _vectorise(program, setting, chunk, (program.axes, 0, None, None))(setting, loop, numbers, steps)


_chunk = jax.jit(_take_chunk, static_argnames="program")
_chunk_in_place = jax.jit(_take_chunk, static_argnames="program", donate_argnames="loop")  # a large model's memory


def _step(
    program: _Program, setting: Setting, pairs: Batch, steps: Array, loop: _Loop, number: Array
) -> tuple[_Loop, _Row]:
    """One step of one run: forward, backward, update, record."""
    state, references = loop.state, loop.references
    pairs = pairs._replace(number=number, ref_logps=references.update)
    batch = pairs if setting.batches is None else pairs.take(setting.batches[number])

    def forward(params: Params) -> tuple[Array, Array]:
        logps = batch.logps(params)
        ref_logps = _reference(program, number, logps, batch.ref_logps)
        return batch.value(logps, ref_logps), ref_logps

    (loss, ref_logps), gradient = jax.value_and_grad(forward, has_aux=True)(state.params)  # forward and backward

    batch = batch._replace(ref_logps=ref_logps, gradient=gradient)
    after, moved = setting.update(batch, state)
    entries = program.ledger and program.ledger.enter(setting, batch, state, loop.entries)

    # A step that is not finite, or is beyond the last one, changes nothing; nor does any step after it.
    reached = loop.number == number
    taken = reached & (number < steps) & jnp.isfinite(loss) & _all_finite(after.params)

    references = references._replace(update=references.update.at[:, batch.members].set(ref_logps))
    trajectory = None
    if program.record == "pairs":
        pairs = pairs._replace(ref_logps=references.record)
        ref_logps, trajectory = _measure(program, pairs, batch.members, state.params, moved)
        references = references._replace(record=ref_logps)
        trajectory = Trajectory(*_or_nan(reached, trajectory[:2]), *_or_nan(taken, trajectory[2:]))

    new, old = _Loop(after, loop.number + 1, references, None, entries), loop._replace(checkpoints=None)
    kept: _Loop = jax.tree.map(partial(jnp.where, taken), new, old)
    checkpoints = _keep(program, loop.checkpoints, taken, number + 1, after.params)
    return kept._replace(checkpoints=checkpoints), (_or_nan(taken, loss), trajectory)


def _measure(
    program: _Program, pairs: Batch, members: Int[Array, " B"], params: Params, moved: Params
) -> tuple[Float[Array, "2 n"], Trajectory]:
    """The reference of all pairs, and one row of the record: the effect of a step along `moved` on each of them.

    The step was taken for the pairs `members`. Everything is measured before it, at `params`.
    """
    logps, tree = pairs.logps_and_gradients(params)
    gradients = jax.vmap(jax.vmap(lambda gradient: ravel_pytree(gradient)[0]))(tree)  # [2, n, P]
    chosen, rejected = gradients
    ref_logps = _reference(program, pairs.number, logps, pairs.ref_logps)
    inputs = (*logps, *ref_logps, *pairs.lengths)
    d_chosen, d_rejected = pairs.loss.weights(*inputs)
    share = jnp.zeros_like(d_chosen).at[members].set(1 / len(members))
    plain_step = (share * d_chosen) @ chosen - (share * d_rejected) @ rejected
    gram = (chosen**2).sum(axis=-1), (rejected**2).sum(axis=-1), (chosen * rejected).sum(axis=-1)
    slopes, predicted = gradients @ plain_step, gradients @ ravel_pytree(moved)[0]
    columns = (*logps, pairs.loss.value(*inputs), *gram, d_chosen, d_rejected, *slopes, *predicted)
    return ref_logps, Trajectory(*columns)


def _reference(program: _Program, number: Array, logps: Array, ref_logps: Array) -> Array:
    """The reference's log-probabilities: at step 0 of a run from the reference, exactly the policy's own."""
    return jnp.where(number == 0, jax.lax.stop_gradient(logps), ref_logps) if program.from_reference else ref_logps


def _keep(program: _Program, checkpoints: Params, taken: Array, number: Array, params: Params) -> Params:
    """The checkpoints with the parameters of state `number` in their row, if they have one."""
    if checkpoints is None:
        return None
    row, rest = jnp.divmod(number, program.checkpoint_every)
    row = jnp.where(taken & (rest == 0), row, program.checkpoints)  # what lies beyond the last row is dropped
    return jax.tree.map(lambda rows, leaf: rows.at[row].set(leaf, mode="drop"), checkpoints, params)


@partial(jax.jit, static_argnames=("program", "ledger"))
def _close(program: _Program, ledger: Ledger, setting: Setting, loop: _Loop) -> Any:
    """The results of the ledger after the last step."""

    def close(setting: Setting, loop: _Loop) -> Any:
        return ledger.close(setting, _all_pairs(program, setting), loop.state, loop.entries)

    return _vectorise(program, setting, close, (program.axes, 0))(setting, loop)


def _join(program: _Program, setting: Setting, loop: _Loop, rows: list[_Row], steps: int) -> Run:
    """The record of all chunks, cut to this number of steps."""
    axis = 0 if program.runs is None else 1

    def cut(array: Array, length: int) -> Array:
        return jax.lax.slice_in_dim(array, 0, length, axis=axis)

    losses, trajectory = jax.tree.map(lambda *parts: jnp.concatenate(parts, axis), *rows)
    if trajectory is not None:
        trajectory = Trajectory(*(cut(column, steps + (i < 2)) for i, column in enumerate(trajectory)))
    batches = setting.batches
    if batches is not None:
        lead = () if program.runs is None else (program.runs,)
        batches = jnp.broadcast_to(batches, (*lead, *batches.shape[-2:]))[..., :steps, :]
    state = loop.state
    return Run(state.params, cut(losses, steps), loop.number, batches, trajectory, loop.checkpoints, state.memory)


def _vectorise(program: _Program, setting: Setting, function: Callable[..., Any], axes: tuple[Any, ...]) -> Any:
    """`function` over the runs, if there are many, in blocks of about `CACHE` numbers."""
    if program.runs is None:
        return function
    pairs = setting.pairs.chosen.shape[-2]
    logits = 2 * pairs * setting.pairs.chosen.shape[-1] * setting.model.vocab_size
    size = sum(leaf.size for leaf in jax.tree.leaves(setting.params)) // (program.runs if axes[0].params == 0 else 1)
    copies = 4 + (2 * pairs if program.record == "pairs" else 0)  # parameters, gradient, two moments; all gradients
    return each_run(function, axes, block=max(1, CACHE // (logits + copies * size)), mesh=program.mesh)


def _all_pairs(program: _Program, setting: Setting) -> Batch:
    """All n pairs of one run as one batch, whose reference and number each step fills in."""
    responses = setting.pairs.both_responses
    lengths = responses.mask.sum(axis=-1).astype(setting.learning_rate.dtype)
    return Batch(
        model=setting.model,
        loss=setting.loss,
        optimizer=program.optimizer(setting.learning_rate),
        learning_rate=setting.learning_rate,
        ref_params=setting.ref_params,
        responses=responses,
        lengths=lengths,
        members=jnp.arange(lengths.shape[1]),
        ref_logps=jnp.zeros_like(lengths),
        number=jnp.zeros((), jnp.int32),
    )


def _first_of(rows: int, leaf: Array) -> Array:
    """So many rows of NaN, the first filled in: [rows, …]."""
    return jnp.full((rows, *leaf.shape), jnp.nan, leaf.dtype).at[0].set(leaf)


def _all_finite(tree: Any) -> Bool[Array, ""]:
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)]).all()


def _or_nan(condition: Array, tree: Any) -> Any:
    return jax.tree.map(lambda a: jnp.where(condition, a, jnp.nan), tree)
