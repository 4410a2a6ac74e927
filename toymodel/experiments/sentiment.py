"""The paper's sentiment experiment in small: supervised fine-tuning, then DPO from there, on the tasks of `sentiment`.

One setting is one seed of one task: its own prompts, words, initial network and minibatches. Everything is measured on
pairs whose prompts were in neither training.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from toymodel import theory
from toymodel._public import own_names
from toymodel.data import sentiment
from toymodel.data.pairs import PreferencePairs, Response
from toymodel.data.sentiment import PROMPT_LENGTH, TASKS, WORDS, Prompts, Task
from toymodel.experiments.experiment import POSITIVE, Columns, Experiment, Row, Rule, one_of, real, setting, whole
from toymodel.experiments.training import OPTIMIZERS
from toymodel.gradients import layer_gram
from toymodel.gram import PairGram
from toymodel.losses import LOSSES
from toymodel.losses.supervised import SHARE, CrossEntropy
from toymodel.models import mlp, transformer
from toymodel.models.flat import Flat
from toymodel.models.logps import Model, Params, pair_logps
from toymodel.models.stages import Network, features
from toymodel.training.loop import train
from toymodel.training.trajectory import Run

__dir__ = own_names(globals())

MODELS = ("transformer", "ngram_mlp")
PARTS = ("head", "last block", "earlier blocks", "embeddings")  # of a network, in which its Gram entries are told
LEARNT = 0.8  # share of right labels on evaluation prompts from which fine-tuning has taught a task
STAGES = 8  # of fine-tuning: its states after 0, 1/8, … 1 of the steps are kept


@setting
class ReferenceSetting:
    """A network and its fine-tuning, on which a reference policy depends."""

    task: Task = one_of(TASKS, "single_token")
    short_suffix: int = whole(2, low=1, compiled=True)  # words after the label
    long_suffix: int = whole(8, low=1, compiled=True)
    model: str = one_of(MODELS, "transformer")
    layers: int = whole(2, low=1, compiled=True)
    dim: int = whole(16, low=1, compiled=True)
    heads: int = whole(2, low=1, compiled=True)
    head: str = one_of(("untied", "tied"), "untied")
    hidden_dim: int = whole(64, low=1, compiled=True)  # of the n-gram MLP
    supervised_prompts: int = whole(4096, low=1, compiled=True)
    supervised_optimizer: str = one_of(OPTIMIZERS, "adam")
    supervised_steps: int = whole(800, low=STAGES, compiled=True)
    batch_size: int = whole(32, low=1, compiled=True)
    suffix_fit: float = real(0.65, SHARE)  # how often a word of the suffix goes with the right label
    label_noise: float = real(0.05, SHARE)  # how often annotators take the wrong label
    supervised_rate: float = real(3e-3, POSITIVE)
    seed: int = whole(0, low=0)


@setting
class SentimentSetting(ReferenceSetting):
    """A reference policy, and DPO from there."""

    pairs: int = whole(1024, low=1, compiled=True)
    evaluation_pairs: int = whole(64, low=1, compiled=True)
    optimizer: str = one_of(OPTIMIZERS, "adam")
    steps: int = whole(150, low=1, compiled=True)
    checkpoint_every: int = whole(15, low=1, compiled=True)
    beta: float = real(0.1, POSITIVE)
    learning_rate: float = real(1e-4, POSITIVE)


class Reference(NamedTuple):
    """A fine-tuned network, and the pairs for DPO and evaluation."""

    model: Flat  # of the network, to train
    params: Float[Array, " P"]  # float32, as it was trained
    training: PreferencePairs
    evaluation: PreferencePairs

    @property
    def network(self) -> Network:
        """The network, to measure."""
        network: Network = self.model.network
        return network

    @property
    def weights(self) -> Params:
        """The network's parameters, to measure: `gradients.pair_gram(reference.network, reference.weights, …)`."""
        return self.to_measure(self.params)

    def to_measure(self, params: Float[Array, "*states P"]) -> Params:
        """Parameters in the network's own tree, in float64 if that is enabled."""
        return self.model.unflatten(params.astype(float))


def reference(task: Task, key: Array, **settings: Any) -> Reference:
    """A network fine-tuned on a task of `TASKS`, and the pairs for DPO and evaluation.

    Args:
      task: which answers the pairs have.
      key: for prompts, words, initial network and minibatches.
      settings: values of `SentimentSetting` other than its defaults, such as `pairs=64` or `model="ngram_mlp"`.

    Raises:
      ValueError: an unknown task, or a setting that is unknown, out of range or inconsistent with another.
    """
    seed = int(jax.random.randint(key, (), 0, 2**31 - 1))
    return _reference(SENTIMENT.one(task=task, seed=seed, **settings))


@jax.jit
def _reference(setting: SentimentSetting) -> Reference:
    return reference_policy(setting, fine_tune(setting))


def fine_tune(setting: ReferenceSetting) -> Row:
    """Train from random parameters to the reference policy, on separate prompts.

    `params` [stages + 1, P], float32: all parameters in one row, at the start, after each stage and at the end.
    """
    of_model, of_prompts, of_words, of_batches = jax.random.split(jax.random.key(setting.seed), 4)
    model, params = draw_network(setting, of_model)
    prompts = sentiment.draw_prompts(of_prompts, setting.supervised_prompts)
    run = train(
        model,
        params,
        sentiment.annotated_pairs(jax.random.split(of_words, 3)[0], prompts, setting.task, **_answers_of(setting)),
        CrossEntropy(setting.label_noise),
        OPTIMIZERS[setting.supervised_optimizer],
        setting.supervised_rate,
        steps=setting.supervised_steps,
        batch_size=setting.batch_size,
        key=of_batches,
        record="loss",
        checkpoint_every=setting.supervised_steps // STAGES,
    )
    assert run.checkpoints is not None
    return {
        "params": run.checkpoints,
        "supervised_loss": run.losses[-10:].mean(),
    }


def draw_network(setting: ReferenceSetting, key: Array) -> tuple[Flat, Float[Array, " P"]]:
    """The setting's network, as large as its task needs, and initial parameters in float32."""
    longest = PROMPT_LENGTH + 1 + suffix_length(setting)
    model: Network
    if setting.model == "transformer":
        model = transformer.Transformer(
            len(WORDS), longest, setting.layers, setting.dim, setting.heads, tied=setting.head == "tied"
        )
        params = transformer.init_params(key, model)
    else:
        model = mlp.NGramMLP(len(WORDS), longest - 1, setting.dim, setting.hidden_dim)
        params = mlp.init_params(key, model)
    return Flat.of(model, jax.tree.map(lambda leaf: leaf.astype(jnp.float32), params))


def reference_policy(setting: SentimentSetting, tuned: Row, stage: int = STAGES) -> Reference:
    """The result of `fine_tune` after some of its stages, and the pairs for training and evaluation.

    No prompt is in two of fine-tuning, training and evaluation.
    """
    of_model, of_prompts, of_words, _ = jax.random.split(jax.random.key(setting.seed), 4)
    model, _ = draw_network(setting, of_model)
    params = tuned["params"][stage].astype(jnp.float32)
    supervised, pairs, evaluation = setting.supervised_prompts, setting.pairs, setting.evaluation_pairs
    prompts = sentiment.draw_prompts(of_prompts, supervised + pairs + evaluation)
    words = jax.random.split(of_words, 3)
    sides = (slice(supervised, supervised + pairs), slice(supervised + pairs, None))
    training, judged = (
        sentiment.sentiment_pairs(key, Prompts(*(leaf[side] for leaf in prompts)), setting.task, **_answers_of(setting))
        for key, side in zip(words[1:], sides, strict=True)
    )
    return Reference(model, params, training, judged)


def suffix_length(setting: ReferenceSetting) -> int:
    """Words after the label in the setting's task."""
    return {"single_token": 0, "short_suffix": setting.short_suffix, "long_suffix": setting.long_suffix}[setting.task]


def _answers_of(setting: ReferenceSetting) -> dict[str, Any]:
    return {"suffix_fit": setting.suffix_fit, "suffix_length": suffix_length(setting)}


def preference_key(setting: SentimentSetting) -> Array:
    """The key of the minibatches of DPO."""
    return jax.random.fold_in(jax.random.key(setting.seed), 1)


def prefer(setting: SentimentSetting, reference: Reference) -> Run:
    """Train by DPO from the reference policy, with checkpoints."""
    return train(
        reference.model,
        reference.params,
        reference.training,
        LOSSES["dpo"](beta=setting.beta),
        OPTIMIZERS[setting.optimizer],
        setting.learning_rate,
        steps=setting.steps,
        batch_size=setting.batch_size,
        key=preference_key(setting),
        record="loss",
        checkpoint_every=setting.checkpoint_every,
    )


def measure(setting: SentimentSetting, tuned: Row) -> Row:
    """At every checkpoint: log-probabilities of the evaluation pairs, Gram entries and CHES scores, [k, n].

    Gram entries are those of all parameters, and of each of `PARTS`, [k, parts, n], which add up to them. Also how
    often the reference's label is right.
    """
    reference = reference_policy(setting, tuned)
    run = prefer(setting, reference)
    assert run.checkpoints is not None
    row = {
        "stopped_at": run.stopped_at,
        "supervised_loss": tuned["supervised_loss"],
        "label_accuracy": label_accuracy(reference),
    }
    checkpoints = reference.to_measure(run.checkpoints)
    return row | jax.lax.map(lambda params: _at(reference.network, params, reference.evaluation), checkpoints)


def label_accuracy(reference: Reference) -> Float[Array, ""]:
    """Share of evaluation prompts at which the right label is the likelier one."""
    model, params, pairs = reference.network, reference.to_measure(reference.params), reference.evaluation
    chosen, rejected = jax.vmap(partial(first_token_logps, model, params))(pairs.both_responses)
    return (chosen > rejected).mean(dtype=chosen.dtype)


def learnt(table: Mapping[str, np.ndarray], what: str, fewest: int = 2) -> Bool[np.ndarray, " settings"]:
    """Which settings learnt their labels in fine-tuning; only these enter a figure or a verdict.

    Raises:
      ValueError: fewer than `fewest` did.
    """
    found = table["label_accuracy"] >= LEARNT
    if found.sum() < fewest:
        raise ValueError(f"fine-tuning did not teach {what}: right labels in {table['label_accuracy']} of cases.")
    return np.asarray(found)


def _at(model: Network, params: Params, pairs: PreferencePairs) -> dict[str, Array]:
    chosen_logps, rejected_logps = pair_logps(model, params, pairs)
    parts = in_parts(layer_gram(model, params, pairs))
    columns = {"chosen_logps": chosen_logps, "rejected_logps": rejected_logps, "ches": _ches(model, params, pairs)}
    columns |= {f"parts_{name}": entry for name, entry in parts._asdict().items()}
    return columns | {name: entry.sum(axis=0) for name, entry in parts._asdict().items()}


def in_parts(grams: dict[str, PairGram]) -> PairGram:
    """Gram entries by layer summed over each of `PARTS`: [parts, n]. The last norm counts with the last block.

    An n-gram MLP has one block, its hidden layer; a tied head counts with the embeddings.
    """
    n = next(iter(grams.values())).inner.shape[-1]
    zero = jnp.zeros(n, next(iter(grams.values())).inner.dtype)
    parts = {part: PairGram(zero, zero, zero) for part in PARTS}

    def add(part: str, gram: PairGram) -> None:
        parts[part] = PairGram(*(a + b for a, b in zip(parts[part], gram, strict=True)))

    for name, gram in grams.items():
        if "embedding" in name:
            add("embeddings", gram)
        elif name == "head":
            add("head", gram)
        elif gram.inner.ndim == 1:
            add("last block", gram)
        else:
            add("last block", PairGram(*(entry[-1] for entry in gram)))
            add("earlier blocks", PairGram(*(entry[:-1].sum(axis=0) for entry in gram)))
    return PairGram(*(jnp.stack(entries) for entries in zip(*parts.values(), strict=True)))


def first_token_logps(model: Model, params: Params, responses: Response) -> Float[Array, " n"]:
    """Log-probability of each response's first token: the label."""
    logits = jax.vmap(model.logits, in_axes=(None, 0))(params, responses)[:, 0]
    return jnp.take_along_axis(jax.nn.log_softmax(logits), responses.tokens[:, :1], axis=-1)[:, 0]


def _ches(model: Network, params: Params, pairs: PreferencePairs) -> Float[Array, " n"]:
    def hidden(responses: Response) -> Float[Array, "n T d"]:
        return jax.vmap(lambda r: features(model, params, r) * r.mask[:, None])(responses)

    return theory.ches(hidden(pairs.chosen_response), hidden(pairs.rejected_response))


IN_STAGES = Rule(
    ("supervised_steps",),
    lambda steps: steps % STAGES == 0,
    f"`supervised_steps` must be a multiple of {STAGES}",
)
REFERENCE_RULES = (
    IN_STAGES,
    Rule(
        ("short_suffix", "long_suffix"),
        lambda short, long: short < long,
        "`long_suffix` must be longer than `short_suffix`",
    ),
    Rule(("dim", "heads"), lambda dim, heads: dim % heads == 0, "`heads` must divide `dim`"),
    Rule(
        ("batch_size", "supervised_prompts"),
        lambda batch, prompts: batch <= prompts,
        "`batch_size` must be at most `supervised_prompts`",
    ),
)
#: `fine_tune` as an experiment, "fine_tuning" in a configuration.
FINE_TUNING = Experiment("fine_tuning", ReferenceSetting, fine_tune, REFERENCE_RULES, block=12, shard=12)


def reference_columns(columns: Columns) -> Columns:
    """The settings of fine-tuning, from those of an experiment that starts there."""
    return {name: columns[name] for name in FINE_TUNING.fields}


RULES = (
    *REFERENCE_RULES,
    Rule(("batch_size", "pairs"), lambda batch, pairs: batch <= pairs, "`batch_size` must be at most `pairs`"),
    Rule(
        ("supervised_prompts", "pairs", "evaluation_pairs"),
        lambda a, b, c: a + b + c <= sentiment.FEW,
        f"`supervised_prompts`, `pairs` and `evaluation_pairs` must be at most {sentiment.FEW} prompts together",
    ),
)
#: `measure` as an experiment, "sentiment" in a configuration.
SENTIMENT = Experiment(
    "sentiment",
    SentimentSetting,
    measure,
    RULES,
    needs=FINE_TUNING,
    needed=reference_columns,
    block=4,
    shard=12,
)
