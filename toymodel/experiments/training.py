"""Preference training of one small model on a few random pairs: where both log-probabilities go, and by which case."""

from functools import partial
from types import SimpleNamespace

import jax.numpy as jnp
import optax
from jaxtyping import Array

from toymodel.data.pairs import PreferencePairs
from toymodel.experiments.any_loss import FIELDS as LOSS_FIELDS
from toymodel.experiments.any_loss import RULES as LOSS_RULES
from toymodel.experiments.any_loss import AnyLoss, with_defaults
from toymodel.experiments.experiment import POSITIVE, Experiment, one_of, real, whole
from toymodel.experiments.pairs import FIELDS, MODELS, RULES, in_random_model, random_pairs
from toymodel.models import mlp
from toymodel.models.logps import Model, Params
from toymodel.theory.condition import CASES
from toymodel.training import train

OPTIMIZERS = {
    "sgd": optax.sgd,
    "momentum": partial(optax.sgd, momentum=0.9),
    "adam": optax.adam,
    "rmsprop": optax.rmsprop,
}


def measure(setting: SimpleNamespace) -> dict[str, Array]:
    """Means over the pairs: log-probabilities in nats, from the start to the last state; shares of the cases of T10."""
    pairs = random_pairs(setting, setting.pairs)
    network = mlp.NGramMLP(setting.vocab_size, setting.context_length, setting.dim, setting.hidden_dim)
    others = {"ngram_mlp": lambda key: (network, mlp.init_params(key, network))}
    return in_random_model(setting, pairs, partial(_row, setting, pairs), others)


def _row(setting: SimpleNamespace, pairs: PreferencePairs, model: Model, params: Params) -> dict[str, Array]:
    loss, optimizer = AnyLoss.of(setting), OPTIMIZERS[setting.optimizer]
    run = train(model, params, pairs, loss, optimizer, setting.learning_rate, steps=setting.steps)
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
    {
        **FIELDS,
        "model": one_of((*MODELS, "ngram_mlp"), "positional"),
        "context_length": whole(2, low=1, compiled=True),  # of the n-gram MLP, whose embeddings have `dim` entries
        "hidden_dim": whole(8, low=1, compiled=True),
        "pairs": whole(1, low=1, compiled=True),
        **LOSS_FIELDS,
        "optimizer": one_of(OPTIMIZERS, "sgd", compiled=True),
        "learning_rate": real(0.1, POSITIVE),
        "steps": whole(100, low=1, compiled=True),
    },
    measure,
    (*RULES, *LOSS_RULES),
    complete=with_defaults,
    block=32,
)
