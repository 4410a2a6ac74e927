"""The account of training: which training tokens moved the log-probability of an answer, and by how much (T23).

The gradient of a step's mean loss is a sum over training tokens, and so is the optimiser's step with its preconditioner
held (`training.additive`). Hence the change of any log-probability over a run,

    log π(θ_T) − log π(θ_0) = Σ_sources Σ_t ⟨∇ log π(θ_t), Δθ_t of the source⟩ + remainder,

where the remainder is the curvature of each step. With ∇ log π at the midpoint of each step instead of its start, the
remainder is of third order, at no extra cost. `train` takes the steps; an account only watches, and keeps what each
source has contributed so far. A remedy may replace the plain step, if it says which weights it puts on the tokens;
weights that depend on the state are held fixed, as those of losses are.

`account` splits the training tokens into a few sources, and computes what each contributed to every token of the judged
pairs. `attribute` takes single pairs as sources, and computes what each contributed to both answers of them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from toymodel._public import own_names, short_repr
from toymodel.data.pairs import PreferencePairs, Response
from toymodel.gradients.backward import pull_each
from toymodel.models.logps import Model, Params, check_kinds, token_logps
from toymodel.training.additive import Additive, check_additive, no_parts, split_step
from toymodel.training.arguments import Key, PairLoss, Setting, check_options, check_pairs
from toymodel.training.loop import Optimizer, run_steps
from toymodel.training.sources import DECAY, Sources, number_sources
from toymodel.training.step import Batch, Plain, State, Update, Weighted, descend
from toymodel.training.trajectory import Run

__dir__ = own_names(globals())


class Account(NamedTuple):
    """What each source contributed to each token of the judged pairs, in nats; 0 at padding.

    An axis of 2 is chosen, rejected. A part of an answer is a sum over its tokens. If the optimiser decays its
    parameters, "decay" is a source too.
    """

    contributions: dict[str, Float[Array, "*runs 2 m T"]]
    true_change: Float[Array, "*runs 2 m T"]  # of the tokens' log-probabilities over the run
    run: Run

    def __repr__(self) -> str:
        return short_repr(self, self._fields)

    @property
    def first_order(self) -> Float[Array, "*runs 2 m T"]:
        """The sum over the sources: ⟨∇ log π, Δθ⟩ summed over the steps."""
        return jnp.stack(list(self.contributions.values())).sum(axis=0)

    @property
    def remainder(self) -> Float[Array, "*runs 2 m T"]:
        """True change − first order: the curvature. For linear models, from the start of steps, it is never above 0
        (T12, T23).
        """
        return self.true_change - self.first_order


class Attribution(NamedTuple):
    """What each training pair contributed to both answers of the judged pairs, in nats (an axis of 2)."""

    contributions: Float[Array, "*runs n 2 m"]
    decay: Float[Array, "*runs 2 m"]  # what no pair brought; 0 unless the optimiser decays its parameters
    true_change: Float[Array, "*runs 2 m"]
    run: Run

    def __repr__(self) -> str:
        return short_repr(self, self._fields)

    @property
    def first_order(self) -> Float[Array, "*runs 2 m"]:
        """The sum over the training pairs, and decay."""
        return self.contributions.sum(axis=-3) + self.decay

    @property
    def remainder(self) -> Float[Array, "*runs 2 m"]:
        """True change − first order."""
        return self.true_change - self.first_order


def account(
    model: Model,
    params: Params,
    pairs: PreferencePairs,
    loss: PairLoss,
    optimizer: Optimizer,
    learning_rate: float | Float[Array, "*runs"],
    *,
    judged: PreferencePairs,
    sources: Sources,
    steps: int,
    at: Literal["start", "middle"] = "start",
    batch_size: int | None = None,
    key: Key | None = None,
    ref_params: Params | None = None,
    update: Update | None = None,
    over: Sequence[str] = (),
    checkpoint_every: int | None = None,
    progress: Callable[[int], Any] | None = None,
) -> Account:
    """Train as `train` does with the same arguments, and compute what each source contributed to the judged pairs.

    Memory does not depend on the number of steps. Each source costs about as much as training alone.

    Args:
      judged: m pairs, trained on or not.
      sources: masks of training tokens by name, as those of `toymodel.training.sources`; every token is in one.
      at: where on each step ∇ log π is taken. At the start, T12 bounds the remainder; in the middle it is smaller.
      update: as in `train`, if it is a `Weighted` one, as most of `toymodel.remedies` are.
      over: as in `train`; "judged" and "sources" may be named too.

    Raises:
      Diverged: as in `train`.
      ValueError: sources that overlap or leave tokens out, an optimiser whose steps are not sums over gradients, an
        update that is not `Weighted`, or other bad input.
    """
    update = Plain() if update is None else update
    setting = Setting(model, params, pairs, loss, learning_rate, key, ref_params, update, None, judged)
    additive = _check(setting, optimizer, steps, checkpoint_every, over, progress)
    if at not in ("start", "middle"):
        raise ValueError(f'`at` must be "start" or "middle", got {at!r}.')
    numbers, on_sides = number_sources(sources, pairs)
    ledger = _Tokens(additive, len(sources), at == "middle", on_sides)
    setting = setting._replace(sources=numbers)
    run, (found, true_change) = _keep(setting, optimizer, over, steps, batch_size, checkpoint_every, progress, ledger)
    names = [*sources, DECAY] if additive.decays else sources
    contributions = {name: found[..., row, :, :, :] for row, name in enumerate(names)}
    return Account(contributions, true_change, run)


def attribute(
    model: Model,
    params: Params,
    pairs: PreferencePairs,
    loss: PairLoss,
    optimizer: Optimizer,
    learning_rate: float | Float[Array, "*runs"],
    *,
    judged: PreferencePairs,
    steps: int,
    batch_size: int | None = None,
    key: Key | None = None,
    ref_params: Params | None = None,
    update: Update | None = None,
    over: Sequence[str] = (),
    checkpoint_every: int | None = None,
    progress: Callable[[int], Any] | None = None,
) -> Attribution:
    """Train as `train` does with the same arguments, and compute what each pair contributed to the judged pairs.

    It takes inner products with the gradients of the judged answers, which later steps do not need. With momentum, each
    of the n pairs has its own, as large as the parameters.

    Args:
      judged: m pairs, trained on or not.
      update: as in `train`, if it is a `Weighted` one, as most of `toymodel.remedies` are.
      over: as in `train`; "judged" may be named too.

    Raises:
      Diverged: as in `train`.
      ValueError: an optimiser whose steps are not sums over gradients, an update that is not `Weighted`, or other bad
        input.
    """
    update = Plain() if update is None else update
    setting = Setting(model, params, pairs, loss, learning_rate, key, ref_params, update, None, judged)
    additive = _check(setting, optimizer, steps, checkpoint_every, over, progress)
    n = pairs.chosen.shape[-2]
    ledger = _Pairs(additive, n)
    run, (found, true_change) = _keep(setting, optimizer, over, steps, batch_size, checkpoint_every, progress, ledger)
    return Attribution(found[..., :n, :, :], found[..., n:, :, :].sum(axis=-3), true_change, run)


def _check(
    setting: Setting, optimizer: Optimizer, steps: Any, checkpoint_every: Any, over: Sequence[str], progress: Any
) -> Additive:
    """Check the arguments of `train`, the judged pairs, the update, and the optimiser."""
    check_options(setting, optimizer, "loss", steps, checkpoint_every, over, progress)
    check_kinds(setting.model, setting.params, judged=setting.judged)
    if not isinstance(setting.update, Weighted):
        raise ValueError(
            "`update` must be a `Weighted` one, which says what weight its step puts on each training token, got "
            f"{setting.update!r}."
        )
    check_pairs(setting, "pairs" in over)
    check_pairs(setting._replace(pairs=setting.judged), "judged" in over)
    params = setting.params
    return check_additive(optimizer, jax.tree.map(lambda leaf: leaf[0], params) if "params" in over else params)


def _keep(
    setting: Setting,
    optimizer: Optimizer,
    over: Sequence[str],
    steps: int,
    batch_size: int | None,
    checkpoint_every: int | None,
    progress: Callable[[int], Any] | None,
    ledger: "_Ledger",
) -> tuple[Run, tuple[Array, Array]]:
    """Train, and keep the ledger."""
    return run_steps(
        setting,
        optimizer,
        over,
        steps=steps,
        batch_size=batch_size,
        record="loss",
        checkpoint_every=checkpoint_every,
        progress=progress,
        ledger=ledger,
    )


class _Entries(NamedTuple):
    at_start: Array  # log-probabilities of the judged pairs
    parts: list[Array | None]  # of the optimiser's state
    contributions: Array  # [rows, …], the last of decay if there is any


@dataclass(frozen=True)
class _Ledger:
    """What an account keeps from step to step."""

    additive: Additive
    sources: int
    middle: bool = False  # of each step: where gradients of what is judged are taken

    def open(self, setting: Setting, batch: Batch, before: State) -> _Entries:
        """The ledger before the first step: nothing contributed yet."""
        logps = self.logps(_judged(setting, batch), before.params)
        zeros = jnp.zeros((self.sources + self.additive.decays, *logps.shape), logps.dtype)
        return _Entries(logps, no_parts(self.additive, before.opt_state, self.sources), zeros)

    def enter(self, setting: Setting, batch: Batch, before: State, entries: _Entries) -> _Entries:
        """Split the step that the batch takes, and add what each part contributes."""
        state, parts, moved = before, entries.parts, None
        for update in setting.update.in_turn(batch):
            gradient, weights, memory = update.direction(batch, state)
            of_sources = self.split_gradient(setting.sources, batch, state.params, weights)
            step, parts = split_step(
                batch.optimizer, self.additive, gradient, of_sources, state.opt_state, parts, state.params
            )
            moved = step if moved is None else jax.tree.map(jnp.add, moved, step)
            state, _ = descend(batch, gradient, state, memory)
        at = before.params
        if self.middle:
            at = jax.tree.map(lambda one, other: (one + other) / 2, before.params, state.params)
        brought = self.changes(_judged(setting, batch), at, moved)
        return entries._replace(parts=parts, contributions=entries.contributions + brought)

    def close(self, setting: Setting, batch: Batch, after: State, entries: _Entries) -> tuple[Array, Array]:
        """Contributions and true changes."""
        return entries.contributions, self.logps(_judged(setting, batch), after.params) - entries.at_start

    def logps(self, judged: Batch, params: Params) -> Array:
        """Log-probabilities of the judged answers or tokens."""
        raise NotImplementedError

    def split_gradient(self, sources: Any, batch: Batch, params: Params, weights: Array) -> Params:
        """Each source's part of Σ weight · ∇ log p over the tokens, [sources, …]."""
        raise NotImplementedError

    def changes(self, judged: Batch, params: Params, moved: Params) -> Array:
        """⟨∇ log π, Δθ⟩ of the judged answers or tokens, for each of the steps [rows, …]."""
        raise NotImplementedError


@dataclass(frozen=True)
class _Tokens(_Ledger):
    """Few sources, judged token by token: a derivative along each source's step, [rows, 2, m, T]."""

    on_sides: tuple[tuple[int, ...], ...] = ()  # the sources that may have tokens on each side

    def logps(self, judged: Batch, params: Params) -> Float[Array, "2 m T"]:
        return judged.token_logps(params)

    def split_gradient(self, sources: Int[Array, "2 n T"], batch: Batch, params: Params, weights: Array) -> Params:
        places = batch.responses.prompt[0].size + batch.responses.tokens[0].size
        found = jax.tree.map(lambda leaf: jnp.zeros((self.sources, *leaf.shape), leaf.dtype), params)
        for side, numbers in enumerate(self.on_sides):
            here = jnp.array(numbers, int)
            responses = jax.tree.map(lambda leaf, side=side: leaf[side][None], batch.responses)
            _, pull = jax.vjp(batch._replace(responses=responses).token_logps, params)
            mine = sources[side, batch.members] == here[:, None, None]
            parts = pull_each(pull, (mine * weights[side])[:, None], places=places)[0]
            found = jax.tree.map(lambda leaf, part, here=here: leaf.at[here].add(part), found, parts)
        return found

    def changes(self, judged: Batch, params: Params, moved: Params) -> Float[Array, "rows 2 m T"]:
        _, push = jax.linearize(judged.token_logps, params)
        rows = range(self.sources + self.additive.decays)  # one by one is faster than vectorised
        return jnp.stack([push(jax.tree.map(lambda leaf, row=row: leaf[row], moved)) for row in rows])


@dataclass(frozen=True)
class _Pairs(_Ledger):
    """Single pairs as sources, answers judged whole: inner products of gradients and steps, [rows, 2, m]."""

    def logps(self, judged: Batch, params: Params) -> Float[Array, "2 m"]:
        return judged.logps(params)

    def split_gradient(self, _sources: None, batch: Batch, params: Params, weights: Array) -> Params:
        def weighted(params: Params, pair: Response, weights: Float[Array, "2 T"]) -> Array:
            return (weights * jax.vmap(partial(token_logps, batch.model, params))(pair)).sum()

        of_pair = jax.vmap(jax.grad(weighted), in_axes=(None, 1, 1))(params, batch.responses, weights)
        return jax.tree.map(
            lambda leaf: jnp.zeros((self.sources, *leaf.shape[1:]), leaf.dtype).at[batch.members].set(leaf), of_pair
        )

    def changes(self, judged: Batch, params: Params, moved: Params) -> Float[Array, "rows 2 m"]:
        _, gradients = judged.logps_and_gradients(params)
        products = jax.tree.map(
            lambda step, g: jnp.einsum("rp,smp->rsm", step.reshape(len(step), -1), g.reshape(*g.shape[:2], -1)),
            moved,
            gradients,
        )
        return jnp.stack(jax.tree.leaves(products)).sum(axis=0)


def _judged(setting: Setting, batch: Batch) -> Batch:
    """The judged pairs in place of the batch's, only for log-probabilities and their gradients."""
    return batch._replace(responses=setting.judged.both_responses)
