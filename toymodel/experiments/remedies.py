"""Remedies side by side: from one fine-tuned policy, every remedy around every loss on every task of `TASKS`.

The world is that of `sentiment`, with the long suffix: answers are cut for the shorter tasks, and for a smaller overlap
some of the rejected answer's words become others. One setting is one model and one seed; its row has arrays
[remedies, tasks, losses, …], means over evaluation pairs whose prompts were in no training.

Every loss is divided by its mean d_l at the start, which does not change what Adam does and gives a remedy's strength
the same unit everywhere: weights are near 1 where training begins. Learning rate and strength are one of `CANDIDATES`,
equally many for each remedy, or what was found best among these on other seeds (`tuned_remedies`).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from toymodel import theory
from toymodel._pytree import pytree
from toymodel.data import sentiment
from toymodel.data.pairs import PreferencePairs, Response
from toymodel.experiments.any_loss import AnyLoss
from toymodel.experiments.experiment import Experiment, Rule, one_of, whole
from toymodel.experiments.sentiment import RULES, SENTIMENT, fine_tune, first_token_logps
from toymodel.experiments.tuned_remedies import TUNED
from toymodel.gradients import pair_gram
from toymodel.losses import LOSSES as ALL_LOSSES
from toymodel.models.logps import Model, Params, pair_logps
from toymodel.models.readout import readout
from toymodel.remedies import REMEDIES, Remedy, fit_both
from toymodel.training import train
from toymodel.training.arguments import PairLoss
from toymodel.training.step import Batch, Plain, State, Update

MODELS = {"readout": "transformer", "ngram_mlp": "ngram_mlp", "transformer": "transformer"}  # and their networks
TASKS = {  # words after the label, and how many of eight the rejected answer keeps from the chosen one
    "single token": (0, 8),
    "short suffix": (2, 8),
    "long suffix": (8, 8),
    "half shared": (8, 4),
    "none shared": (8, 0),
}
LOSSES = ("dpo", "ipo_sum", "simpo", "cpo_nll_mean")
RATES = (2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2)
SMALLER = {"readout": 1.0, "ngram_mlp": 1.0, "transformer": 0.1}  # factors of these rates, of Adam
CANDIDATES = len(RATES)
MOVES = theory.CASES[:4]  # of the true changes of both log-probabilities
CHECKPOINTS = 7  # states of training that are measured, the first and the last included


def candidates(remedy: Remedy, model: str) -> np.ndarray:
    """The `CANDIDATES` pairs (learning rate, strength) that a remedy is tried with, [6, 2].

    All rates; or the two largest, which ordinary training does best with, and every strength.
    """
    rates = SMALLER[model] * np.array(RATES)
    if not remedy.strengths:
        return np.array([(rate, np.nan) for rate in rates])
    if len(remedy.strengths) != CANDIDATES // 2:
        raise ValueError(f"a remedy must have no strength or {CANDIDATES // 2} to try, got {remedy.strengths}.")
    return np.array([(rate, strength) for rate in rates[-2:] for strength in remedy.strengths])


def tuned(model: str) -> dict[str, np.ndarray]:
    """By remedy: the candidate that was found best for each of `LOSSES`; where none was sought, the third one."""
    found = TUNED.get(model, {})
    return {name: np.array(found.get(name, [2] * len(LOSSES))) for name in REMEDIES}


def measure(setting: SimpleNamespace) -> dict[str, Array]:
    """What every remedy did: log-probabilities [remedies, tasks, losses, states] in nats; all else at the end."""
    wanted = vars(setting) | {"task": "long_suffix", "short_suffix": None, "model": MODELS[setting.model]}
    reference, supervised = fine_tune(SimpleNamespace(**wanted))
    model: Model = reference.model
    params = reference.params
    chosen, rejected = (first_token_logps(model, params, side) for side in _sides(reference.evaluation))
    if setting.model == "readout":
        model, params = readout(reference.model, params)
    key = jax.random.fold_in(jax.random.key(setting.seed), 2)
    training, evaluation = (
        _each_task(of_side, pairs)
        for of_side, pairs in zip(jax.random.split(key), (reference.training, reference.evaluation), strict=True)
    )
    best, floating = tuned(setting.model), jax.tree.leaves(params)[0].dtype

    def of_group(names: tuple[str, ...]) -> dict[str, Array]:
        """[remedies, tasks, losses, …] of remedies that one program can run."""
        choice = jnp.where(setting.candidate < 0, jnp.array([best[name] for name in names]), setting.candidate)
        tried = jnp.array([candidates(REMEDIES[name], setting.model) for name in names], floating)
        trials = jnp.take_along_axis(tried, choice[:, :, None], axis=1)  # [remedies, losses, 2]
        sizes = len(names), len(TASKS), len(LOSSES)

        def of_run(number: Array) -> dict[str, Array]:
            place, task, which = jnp.unravel_index(number, sizes)
            pairs, judged = jax.tree.map(lambda leaf: leaf[task], (training, evaluation))
            rate, strength = trials[place, which]
            return _run(setting, names, place, model, params, pairs, judged, which, rate, strength)

        columns = jax.lax.map(of_run, jnp.arange(np.prod(sizes)))
        return jax.tree.map(lambda leaf: leaf.reshape(*sizes, *leaf.shape[1:]), columns)

    groups: dict[Any, list[str]] = {}
    for name, remedy in REMEDIES.items():  # what comes beforehand changes shapes, all else is a branch
        groups.setdefault(name if remedy.pairs or remedy.fit_both else None, []).append(name)
    parts = [of_group(tuple(group)) for group in groups.values()]
    found = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *parts)
    order = [name for group in groups.values() for name in group]
    places = np.array([order.index(name) for name in REMEDIES])
    return jax.tree.map(lambda leaf: leaf[places], found) | {
        "supervised_loss": supervised.losses[-10:].mean(),
        "label_accuracy": (chosen > rejected).mean(dtype=chosen.dtype),
    }


def _each_task(key: Array, pairs: PreferencePairs) -> PreferencePairs:
    """The pairs as each of `TASKS` has them, all of one width: arrays [tasks, n, …]."""
    different = sentiment.sharing_more(key, pairs.rejected[:, 1:])

    def of_task(suffix: int, kept: int) -> PreferencePairs:
        seen = jnp.broadcast_to(jnp.arange(pairs.chosen.shape[1]) <= suffix, pairs.chosen.shape)
        rejected = pairs.rejected.at[:, 1:].set(different[kept])
        return PreferencePairs(pairs.prompt, pairs.prompt_mask, pairs.chosen, seen, rejected, seen)

    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *(of_task(*task) for task in TASKS.values()))


def _run(
    setting: SimpleNamespace,
    names: tuple[str, ...],
    place: Array,
    model: Model,
    params: Params,
    pairs: PreferencePairs,
    evaluation: PreferencePairs,
    which: Array,
    rate: Array,
    strength: Array,
) -> dict[str, Array]:
    """One remedy around one loss on one task."""
    of_both, of_batches = jax.random.split(jax.random.fold_in(jax.random.key(setting.seed), 3))
    options: dict[str, Any] = {"steps": setting.steps, "batch_size": setting.preference_batch}
    remedy, start = REMEDIES[names[0]], params
    if remedy.fit_both:
        start = fit_both(model, params, pairs, optax.adam, strength, key=of_both, **options)
    if remedy.pairs is not None:
        pairs = remedy.pairs(model, start, pairs)
    run = train(
        model,
        start,
        pairs,
        _AnyRemedy(_of_unit_weight(model, start, pairs, which), place, strength, names),
        optax.adam,
        rate,
        key=of_batches,
        update=_AnyUpdate(place, strength, names),
        record="loss",
        checkpoint_every=setting.steps // (CHECKPOINTS - 1),
        **options,
    )
    return _measured(model, params, evaluation, run.checkpoints) | {"stopped_at": run.stopped_at}


@partial(pytree, static=["names"])
@dataclass(frozen=True)
class _AnyUpdate:
    """The `Update` of the remedy at `place` among `names`, known at run time."""

    place: Array
    strength: Array
    names: tuple[str, ...]

    @property
    def _rules(self) -> list[Update]:
        makers = _different([REMEDIES[name].update for name in self.names])[0]
        return [Plain() if make is None else make(self.strength) for make in makers]

    def init(self, token_logps: Float[Array, "2 n T"]) -> Any:
        return [rule.init(token_logps) for rule in self._rules]

    def __call__(self, batch: Batch, before: State) -> tuple[State, Params]:
        def branch(number: int, rule: Update) -> tuple[State, Params]:
            after, moved = rule(batch, before._replace(memory=before.memory[number]))
            memory = [*before.memory[:number], after.memory, *before.memory[number + 1 :]]
            return after._replace(memory=memory), moved

        number = _different([REMEDIES[name].update for name in self.names])[1][jnp.asarray(self.place, int)]
        after: tuple[State, Params] = jax.lax.switch(
            number, [partial(branch, *numbered) for numbered in enumerate(self._rules)]
        )
        return after


@partial(pytree, static=["names"])
@dataclass(frozen=True)
class _AnyRemedy:
    """A loss with the remedy at `place` around it, if that is a loss; its derivatives are the closed-form weights."""

    loss: PairLoss
    place: Array
    strength: Array
    names: tuple[str, ...]

    def value(self, *inputs: Float[Array, " n"]) -> Float[Array, " n"]:
        here = jax.lax.stop_gradient(inputs)
        value, d_chosen, d_rejected = self._outcome(*here)
        return value - d_chosen * (inputs[0] - here[0]) + d_rejected * (inputs[1] - here[1])

    def weights(self, *inputs: Float[Array, " n"]) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
        return self._outcome(*inputs)[1:]

    def _outcome(self, *inputs: Array) -> tuple[Array, Array, Array]:
        wrappers, numbers = _different([REMEDIES[name].loss for name in self.names])

        def branch(wrap: Callable[[PairLoss, Any], PairLoss] | None) -> tuple[Array, Array, Array]:
            loss = self.loss if wrap is None else wrap(self.loss, self.strength)
            return loss.value(*inputs), *loss.weights(*inputs)

        outcome: tuple[Array, Array, Array] = jax.lax.switch(
            numbers[jnp.asarray(self.place, int)], [partial(branch, wrap) for wrap in wrappers]
        )
        return outcome


def _different(parts: list[Any]) -> tuple[list[Any], Array]:
    """Each part once, and where among them every one is: fewer branches to trace and to compile."""
    once = list(dict.fromkeys(parts))
    return once, jnp.array([once.index(part) for part in parts])


@pytree
@dataclass(frozen=True)
class _Scaled:
    """A loss times a number."""

    loss: PairLoss
    scale: Array

    def value(self, *inputs: Float[Array, " n"]) -> Float[Array, " n"]:
        return self.scale * self.loss.value(*inputs)

    def weights(self, *inputs: Float[Array, " n"]) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
        d_chosen, d_rejected = self.loss.weights(*inputs)
        return self.scale * d_chosen, self.scale * d_rejected


def _of_unit_weight(model: Model, start: Params, pairs: PreferencePairs, which: Array) -> _Scaled:
    """One of `LOSSES`, with a mean d_l of 1 at the start."""
    names = sorted({hyper for loss in LOSSES for hyper in ALL_LOSSES[loss].defaults})
    hyper = {name: jnp.array([ALL_LOSSES[loss].defaults.get(name, 0.0) for loss in LOSSES])[which] for name in names}
    loss = AnyLoss(which.astype(float), hyper, LOSSES)
    logps = pair_logps(model, start, pairs)
    lengths = (mask.sum(axis=-1).astype(logps[0].dtype) for mask in (pairs.chosen_mask, pairs.rejected_mask))
    return _Scaled(loss, 1 / loss.weights(*logps, *logps, *lengths)[1].mean())


def _measured(model: Model, reference: Params, pairs: PreferencePairs, checkpoints: Params) -> dict[str, Array]:
    """Of one run: what `measure` tells."""
    logps = jnp.stack(jax.lax.map(lambda params: pair_logps(model, params, pairs), checkpoints))  # [2, states, n]
    last = jax.tree.map(lambda leaf: leaf[-1], checkpoints)
    changes = logps[:, -1] - jnp.stack(pair_logps(model, reference, pairs))
    columns = {"chosen_logps": logps[0].mean(axis=-1), "rejected_logps": logps[1].mean(axis=-1)}
    moves = theory.case_of_slopes(*changes)
    columns |= {move: (moves == index).mean(dtype=logps.dtype) for index, move in enumerate(MOVES)}
    at_label = jnp.stack([jnp.exp(first_token_logps(model, last, side)) for side in _sides(pairs)])
    return columns | {
        "chosen_change": changes[0].mean(),
        "rejected_change": changes[1].mean(),
        "others": (1 - at_label.sum(axis=0)).mean(),  # mass of other words where the label stands
        "accuracy": (logps[0, -1] > logps[1, -1]).mean(dtype=logps.dtype),
        "kl": jnp.stack([_kl(model, last, reference, side) for side in _sides(pairs)]).mean(),
        "cosine": theory.cosine(pair_gram(model, last, pairs)).mean(),
    }


def _sides(pairs: PreferencePairs) -> tuple[Response, Response]:
    return pairs.chosen_response, pairs.rejected_response


def _kl(model: Model, params: Params, reference: Params, responses: Response) -> Float[Array, " n"]:
    """KL(π ‖ π_ref) of the next word, summed over the places of each response."""

    def of_response(response: Response) -> Array:
        logp, ref_logp = (jax.nn.log_softmax(model.logits(p, response)) for p in (params, reference))
        return ((jnp.exp(logp) * (logp - ref_logp)).sum(axis=-1) * response.mask).sum()

    return jax.vmap(of_response)(responses)


UNUSED = ("task", "short_suffix", "beta", "learning_rate", "optimizer", "checkpoint_every")
FIELDS = {name: field for name, field in SENTIMENT.fields.items() if name not in UNUSED} | {
    name: replace(SENTIMENT.fields[name], default=default)
    for name, default in {"pairs": 64, "evaluation_pairs": 24, "steps": 30}.items()
}
#: `measure` as an experiment, "remedies" in a configuration.
REMEDY_COMPARISON = Experiment(
    "remedies",
    FIELDS
    | {
        "model": one_of(MODELS, "transformer", compiled=True),
        "preference_batch": whole(8, low=1, compiled=True),
        "candidate": whole(-1, low=-1, high=CANDIDATES - 1),  # −1: the best one
    },
    measure,
    (
        *(rule for rule in RULES if not set(rule.fields) & set(UNUSED)),
        Rule(
            ("steps",), lambda steps: steps % (CHECKPOINTS - 1) == 0, f"`steps` must be a multiple of {CHECKPOINTS - 1}"
        ),
    ),
    block=1,
)
