"""Preference training of one small model on a few random pairs: changes of both log-probabilities, and the cases."""

from functools import partial
from typing import Any

import jax.numpy as jnp
import optax

from toymodel._public import own_names
from toymodel.experiments import losses, pairs
from toymodel.experiments.experiment import POSITIVE, Experiment, Row, one_of, real, setting, whole
from toymodel.models import mlp
from toymodel.models.linear import MODELS
from toymodel.theory.condition import CASES
from toymodel.training.loop import train

__dir__ = own_names(globals())

OPTIMIZERS = {
    "sgd": optax.sgd,
    "momentum": partial(optax.sgd, momentum=0.9),
    "adam": optax.adam,
    "rmsprop": optax.rmsprop,
}


@setting
class TrainingSetting(pairs.PairSetting, losses.LossSetting):  # type: ignore[misc]
    """A few random pairs, a model, a loss and an optimiser."""

    model: str = one_of((*MODELS, "ngram_mlp"), "positional")
    context_length: int = whole(2, low=1, compiled=True)  # of the n-gram MLP, whose embeddings have `dim` entries
    hidden_dim: int = whole(8, low=1, compiled=True)
    pairs: int = whole(1, low=1, compiled=True)
    optimizer: str = one_of(OPTIMIZERS, "sgd")
    learning_rate: float = real(0.1, POSITIVE)
    steps: int = whole(100, low=1, compiled=True)


def measure(setting: TrainingSetting) -> Row:
    """Means over the pairs: log-probabilities in nats, from the start to the last state; shares of the cases of T10."""
    batch = pairs.draw_pairs(setting, setting.pairs)
    model: Any = None
    if setting.model == "ngram_mlp":
        model = mlp.NGramMLP(setting.vocab_size, setting.context_length, setting.dim, setting.hidden_dim)
        params = mlp.init_params(pairs.keys_of_model(setting)[1], model)
    else:
        model, params = pairs.draw_model(setting, batch)
    optimizer = OPTIMIZERS[setting.optimizer]
    run = train(model, params, batch, losses.loss_of(setting), optimizer, setting.learning_rate, steps=setting.steps)
    trajectory = run.trajectory
    assert trajectory is not None
    row = {"stopped_at": run.stopped_at, "loss_start": run.losses[0], "loss_end": run.losses[-1]}
    for side in ("chosen", "rejected"):
        logps = getattr(trajectory, f"{side}_logps").mean(axis=-1)
        row |= {f"{side}_start": logps[0], f"{side}_change": logps[-1] - logps[0], f"{side}_lowest": logps.min()}
        row |= {f"{side}_predicted": getattr(trajectory, f"{side}_predicted")[0].mean()}  # of the first step
    for name, step in (("start", 0), ("end", -1)):
        row |= {f"cosine_{name}": trajectory.cosine[step].mean()}
        shares = (trajectory.case_index[step][:, None] == jnp.arange(len(CASES))).mean(axis=0, dtype=run.losses.dtype)
        row |= {f"{case}_{name}": share for case, share in zip(CASES, shares, strict=True)}
    return row


#: `measure` as an experiment, "training" in a configuration.
TRAINING = Experiment(
    "training",
    TrainingSetting,
    measure,
    (*pairs.RULES, *losses.RULES),
    complete=losses.with_defaults,
    block=32,
)
