"""The comparison of remedies: from one fine-tuned policy, one remedy with one loss on every task of `TASKS`.

The setting is that of `sentiment`, with the long suffix: answers are cut for the shorter tasks, and for a smaller
overlap some words of the rejected answer are replaced. A row has arrays [tasks, …], means over evaluation pairs whose
prompts were in no training.

Every loss is divided by its mean d_l at the start, which does not change what Adam does and gives a remedy's strength
the same unit everywhere: weights are near 1 where training begins. Learning rate and strength, where they are left
out, are the best of the candidates that were tried on other seeds (`tuned`).
"""

import dataclasses
from dataclasses import dataclass
from functools import lru_cache, partial
from operator import itemgetter
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from toymodel import theory
from toymodel._checks import Domain
from toymodel._public import own_names
from toymodel._pytree import pytree
from toymodel.data import sentiment
from toymodel.data.pairs import PreferencePairs
from toymodel.data.sentiment import Task
from toymodel.experiments.experiment import (
    Columns,
    Experiment,
    Row,
    Rule,
    one_of,
    real,
    replace_default,
    setting,
    whole,
)
from toymodel.experiments.sentiment import (
    FINE_TUNING,
    RULES,
    SentimentSetting,
    label_accuracy,
    reference_policy,
)
from toymodel.experiments.tuned import tuned
from toymodel.gradients import pair_gram
from toymodel.losses import LOSSES
from toymodel.losses.catalogue import Loss
from toymodel.models.flat import Flat
from toymodel.models.logps import Model, Params, log_softmax_at, logps_of_logits, pair_logps
from toymodel.models.readout import readout
from toymodel.remedies import REMEDIES, fit_both
from toymodel.training.arguments import PairLoss
from toymodel.training.loop import train
from toymodel.training.step import Plain

__dir__ = own_names(globals())

MODELS = {"readout": "transformer", "ngram_mlp": "ngram_mlp", "transformer": "transformer"}  # and their networks
TASKS = {  # words after the label, and how many of eight the rejected answer keeps from the chosen one
    "single token": (0, 8),
    "short suffix": (2, 8),
    "long suffix": (8, 8),
    "half shared": (8, 4),
    "none shared": (8, 0),
}
COMPARED = ("dpo", "ipo_sum", "simpo", "cpo_nll_mean")  # losses
MOVES = theory.CASES[:4]  # of the true changes of both log-probabilities
CHECKPOINTS = 7  # states of training that are measured, the first and the last included
TUNED = Domain("> 0 and finite, or left out", lambda x: np.isnan(x) | ((x > 0) & np.isfinite(x)))
STRENGTH = Domain(">= 0 and finite, or left out", lambda x: np.isnan(x) | ((x >= 0) & np.isfinite(x)))
LEFT_OUT = float("nan")


@setting
class RemedySetting(SentimentSetting):
    """One remedy with one loss, from one reference policy."""

    task: Task = one_of(("long_suffix",), "long_suffix")
    model: str = one_of(MODELS, "transformer")
    optimizer: str = one_of(("adam",), "adam")
    pairs: int = replace_default(SentimentSetting, "pairs", 64)
    evaluation_pairs: int = replace_default(SentimentSetting, "evaluation_pairs", 24)
    steps: int = replace_default(SentimentSetting, "steps", 30)
    preference_batch: int = whole(8, low=1, compiled=True)
    remedy: str = one_of(REMEDIES, "none")
    loss: Any = one_of(COMPARED, "dpo", as_place=True)
    learning_rate: float = real(LEFT_OUT, TUNED)
    strength: float = real(LEFT_OUT, STRENGTH)


def measure(setting: RemedySetting, row: Row) -> Row:
    """The effect of the remedy: log-probabilities [tasks, states] in nats; all else [tasks], at the end."""
    network = dataclasses.replace(setting, model=MODELS[setting.model], remedy="none")  # the same for all remedies
    model, params, training, judged, accuracy = prepare(network, row["params"], setting.model == "readout")
    _forget_other_models(setting.model)
    _forget_other_remedies(setting.model, setting.remedy)
    found = []
    for task in range(len(TASKS)):
        pairs, unseen = jax.tree.map(itemgetter(task), (training, judged))
        checkpoints, stopped_at = _train(setting, model, params, pairs)
        found.append(_measure(model, params, unseen, checkpoints) | {"stopped_at": stopped_at})
    by_task = jax.tree.map(lambda *leaves: jnp.stack(leaves), *found)
    return by_task | {"label_accuracy": accuracy, "supervised_loss": row["supervised_loss"]}


@lru_cache(maxsize=1)
def _forget_other_remedies(*_: str) -> None:
    """Drop the training programs of earlier remedies: together they take gigabytes."""
    _train.clear_cache()  # type: ignore[attr-defined]


@lru_cache(maxsize=1)
def _forget_other_models(_: str) -> None:
    """Drop the cached programs that all remedies share."""
    prepare.clear_cache()  # type: ignore[attr-defined]
    _measure.clear_cache()  # type: ignore[attr-defined]


@partial(jax.jit, static_argnames="of_readout")
def prepare(
    setting: RemedySetting, tuned: Array, of_readout: bool
) -> tuple[Model, Params, PreferencePairs, PreferencePairs, Array]:
    """Model and parameters to train, the training and evaluation pairs of all tasks, and the label accuracy."""
    reference = reference_policy(setting, {"params": tuned})
    model: Model = reference.model
    params: Params = reference.params
    if of_readout:
        model, params = readout(reference.network, reference.model.unflatten(params))
    keys = jax.random.split(jax.random.fold_in(jax.random.key(setting.seed), 2))
    sides = (reference.training, reference.evaluation)
    training, judged = (_each_task(key, pairs) for key, pairs in zip(keys, sides, strict=True))
    return model, params, training, judged, label_accuracy(reference)


@jax.jit
def _train(setting: RemedySetting, model: Model, params: Params, pairs: PreferencePairs) -> tuple[Params, Array]:
    """The parameters at all checkpoints, and where training stopped."""
    arguments, options = arguments_of(setting, model, params, pairs)
    run = train(*arguments, **options, record="loss", checkpoint_every=setting.steps // (CHECKPOINTS - 1))
    return run.checkpoints, run.stopped_at


def arguments_of(
    setting: RemedySetting, model: Model, params: Params, pairs: PreferencePairs
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of `train` for the setting's remedy: from this reference policy, on these pairs or some of them."""
    remedy, start = REMEDIES[setting.remedy], params
    of_both, of_batches = jax.random.split(jax.random.fold_in(jax.random.key(setting.seed), 3))
    steps: dict[str, Any] = {"steps": setting.steps, "batch_size": setting.preference_batch}
    strength = jnp.asarray(setting.strength, jnp.float32)
    if remedy.fit_both:
        start = fit_both(model, params, pairs, optax.adam, strength, key=of_both, **steps)
    if remedy.pairs is not None:
        pairs = remedy.pairs(*_as_network(model, start), pairs)
    loss: PairLoss = _of_unit_weight(model, start, pairs, setting.loss)
    loss = loss if remedy.loss is None else remedy.loss(loss, strength)
    update = Plain() if remedy.update is None else remedy.update(strength)
    return (model, start, pairs, loss, optax.adam, setting.learning_rate), steps | {"key": of_batches, "update": update}


def _as_network(model: Model, params: Params) -> tuple[Model, Params]:
    """A model and its parameters in the form that measurements need."""
    return (model.network, model.unflatten(params)) if isinstance(model, Flat) else (model, params)


def _each_task(key: Array, pairs: PreferencePairs) -> PreferencePairs:
    """The pairs of each of `TASKS`, all of one width: arrays [tasks, n, …]."""
    different = sentiment.sharing_more(key, pairs.rejected[:, 1:])

    def of_task(suffix: int, kept: int) -> PreferencePairs:
        seen = jnp.broadcast_to(jnp.arange(pairs.chosen.shape[1]) <= suffix, pairs.chosen.shape)
        rejected = pairs.rejected.at[:, 1:].set(different[kept])
        return PreferencePairs(pairs.prompt, pairs.prompt_mask, pairs.chosen, seen, rejected, seen)

    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *(of_task(*task) for task in TASKS.values()))


@pytree
@dataclass(frozen=True)
class _WeightedSum:
    """Σ_i share_i · loss_i: one program trains with any of a few losses, by shares that are 0 except for one."""

    losses: list[Loss]
    shares: list[Array]

    def value(self, *inputs: Float[Array, " n"]) -> Float[Array, " n"]:
        """The loss of each pair."""
        parts = [share * loss.value(*inputs) for share, loss in zip(self.shares, self.losses, strict=True)]
        return jnp.stack(parts).sum(axis=0)

    def weights(self, *inputs: Float[Array, " n"]) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
        """(d_chosen, d_rejected) of each pair."""
        each = [loss.weights(*inputs) for loss in self.losses]
        d_chosen, d_rejected = (
            jnp.stack([share * d for share, d in zip(self.shares, side, strict=True)]).sum(axis=0)
            for side in zip(*each, strict=True)
        )
        return d_chosen, d_rejected


def _of_unit_weight(model: Model, start: Params, pairs: PreferencePairs, place: Array) -> _WeightedSum:
    """The loss at a place of `COMPARED`, with a mean d_l of 1 at the start."""
    losses = [LOSSES[name]() for name in COMPARED]
    logps = pair_logps(model, start, pairs)
    lengths = [mask.sum(axis=-1).astype(logps[0].dtype) for mask in (pairs.chosen_mask, pairs.rejected_mask)]
    scales = [1 / loss.weights(*logps, *logps, *lengths)[1].mean() for loss in losses]
    return _WeightedSum(losses, [jnp.where(place == i, scale, 0) for i, scale in enumerate(scales)])


@jax.jit
def _measure(model: Model, reference: Params, pairs: PreferencePairs, checkpoints: Params) -> dict[str, Array]:
    """The measurements of one run, in float64 if that is enabled."""
    model, (reference, checkpoints) = (
        _as_network(model, reference)[0],
        [_as_network(model, jax.tree.map(lambda leaf: leaf.astype(float), p))[1] for p in (reference, checkpoints)],
    )
    before, last = (jax.tree.map(itemgetter(which), checkpoints) for which in (slice(-1), -1))
    both = pairs.both_responses
    each = jax.vmap(jax.vmap(model.logits, in_axes=(None, 0)), in_axes=(None, 0))
    logits, ref_logits = each(last, both), each(reference, both)  # [2, n, T, V]
    logps_of = jax.vmap(jax.vmap(logps_of_logits))
    at_last, at_reference = logps_of(logits, both).sum(axis=-1), logps_of(ref_logits, both).sum(axis=-1)
    earlier = jax.lax.map(lambda params: jnp.stack(pair_logps(model, params, pairs)), before)  # [states, 2, n]
    logps = jnp.concatenate([earlier, at_last[None]]).swapaxes(0, 1)
    changes = at_last - at_reference
    columns = {"chosen_logps": logps[0].mean(axis=-1), "rejected_logps": logps[1].mean(axis=-1)}
    moves = theory.case_of_slopes(*changes)
    columns |= {move: (moves == index).mean(dtype=logps.dtype) for index, move in enumerate(MOVES)}
    at_label = jnp.exp(log_softmax_at(logits[:, :, 0], both.tokens[..., 0]))
    return columns | {
        "chosen_change": changes[0].mean(),
        "rejected_change": changes[1].mean(),
        "others": (1 - at_label.sum(axis=0)).mean(),  # mass of other words where the label stands
        "accuracy": (logps[0, -1] > logps[1, -1]).mean(dtype=logps.dtype),
        "kl": _kl(logits, ref_logits, both.mask).mean(),
        "cosine": theory.cosine(pair_gram(model, last, pairs)).mean(),
    }


def _kl(logits: Array, ref_logits: Array, mask: Array) -> Float[Array, "2 n"]:
    """KL(π ‖ π_ref) of the next word, summed over the places of each response."""
    logp, ref_logp = jax.nn.log_softmax(logits), jax.nn.log_softmax(ref_logits)
    return ((jnp.exp(logp) * (logp - ref_logp)).sum(axis=-1) * mask).sum(axis=-1)


def _with_tuned(columns: Columns) -> Columns:
    """The columns with the best learning rate or strength filled in where these are left out."""
    best = np.array([tuned(*row) for row in zip(columns["model"], columns["remedy"], columns["loss"], strict=True)])
    given = {name: np.where(np.isnan(columns[name]), best[:, i], columns[name]) for i, name in enumerate(BEST)}
    return columns | given


BEST = ("learning_rate", "strength")
#: `measure` as an experiment, "remedies" in a configuration.
REMEDY_COMPARISON = Experiment(
    "remedies",
    RemedySetting,
    measure,
    (
        *(rule for rule in RULES if rule.fields != ("batch_size", "pairs")),  # preference training has its own batches
        Rule(
            ("steps",), lambda steps: steps % (CHECKPOINTS - 1) == 0, f"`steps` must be a multiple of {CHECKPOINTS - 1}"
        ),
    ),
    complete=_with_tuned,
    needs=FINE_TUNING,
    whole=False,
    needed=lambda columns: (
        {name: columns[name] for name in FINE_TUNING.fields}
        | {"model": np.array([MODELS[name] for name in columns["model"]])}
    ),
    block=4,
    shard=40,
)
