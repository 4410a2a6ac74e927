"""The paper's sentiment experiment in small: supervised fine-tuning, then DPO from there, on the tasks of `sentiment`.

One setting is one seed of one task: its own prompts, words, initial network and minibatches. What is told of it is
measured on pairs whose prompts were in neither training.
"""

from types import SimpleNamespace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from toymodel import theory
from toymodel.data import sentiment
from toymodel.data.pairs import PreferencePairs, Response
from toymodel.data.sentiment import PROMPT_LENGTH, TASKS, WORDS, Prompts, Task
from toymodel.experiments.experiment import POSITIVE, Experiment, Rule, one_of, real, whole
from toymodel.experiments.training import OPTIMIZERS
from toymodel.gradients import layer_gram
from toymodel.gram import PairGram
from toymodel.losses import LOSSES
from toymodel.losses.supervised import SHARE, CrossEntropy
from toymodel.models import mlp, transformer
from toymodel.models.logps import Model, Params, pair_logps
from toymodel.models.stages import Network, features
from toymodel.training import Run, train

MODELS = ("transformer", "ngram_mlp")
PARTS = ("head", "last block", "earlier blocks", "embeddings")  # of a network, in which its Gram entries are told
LEARNT = 0.8  # right labels, of evaluation prompts, from which on a task counts as learnt by fine-tuning


class Reference(NamedTuple):
    """A fine-tuned network, and the pairs that it goes on with."""

    model: Network
    params: Params
    training: PreferencePairs
    evaluation: PreferencePairs


def suffix_length(setting: SimpleNamespace) -> int:
    """Words after the label in the setting's task."""
    return {"single_token": 0, "short_suffix": setting.short_suffix, "long_suffix": setting.long_suffix}[setting.task]


def network(setting: SimpleNamespace, key: Array) -> tuple[Network, Params]:
    """The setting's model, as large as its task asks, and initial parameters."""
    longest = PROMPT_LENGTH + 1 + suffix_length(setting)
    if setting.model == "transformer":
        model = transformer.Transformer(
            len(WORDS), longest, setting.layers, setting.dim, setting.heads, tied=setting.head == "tied"
        )
        return model, transformer.init_params(key, model)
    ngram = mlp.NGramMLP(len(WORDS), longest - 1, setting.dim, setting.hidden_dim)
    return ngram, mlp.init_params(key, ngram)


def fine_tune(setting: SimpleNamespace, *, checkpoint_every: int | None = None) -> tuple[Reference, Run]:
    """From random parameters to the reference policy, on prompts of its own; and the run that led there."""
    of_model, of_prompts, of_words, of_batches = jax.random.split(jax.random.key(setting.seed), 4)
    model, params = network(setting, of_model)
    sizes = setting.supervised_prompts, setting.pairs, setting.evaluation_pairs
    supervised, training, evaluation = _split(sentiment.draw_prompts(of_prompts, sum(sizes)), sizes)
    words = jax.random.split(of_words, 3)
    task: Task = setting.task
    wanted = {"suffix_fit": setting.suffix_fit, "suffix_length": suffix_length(setting)}
    run = train(
        model,
        params,
        sentiment.annotated_pairs(words[0], supervised, task, **wanted),
        CrossEntropy(setting.label_noise),
        OPTIMIZERS[setting.supervised_optimizer],
        setting.supervised_rate,
        steps=setting.supervised_steps,
        batch_size=setting.batch_size,
        key=of_batches,
        record="loss",
        checkpoint_every=checkpoint_every,
    )
    training_pairs = sentiment.sentiment_pairs(words[1], training, task, **wanted)
    evaluation_pairs = sentiment.sentiment_pairs(words[2], evaluation, task, **wanted)
    return Reference(model, run.params, training_pairs, evaluation_pairs), run


def _split(prompts: Prompts, sizes: tuple[int, ...]) -> list[Prompts]:
    ends = [sum(sizes[: i + 1]) for i in range(len(sizes))]
    return [
        jax.tree.map(lambda leaf, part=slice(end - size, end): leaf[part], prompts)
        for size, end in zip(sizes, ends, strict=True)
    ]


def prefer(setting: SimpleNamespace, reference: Reference) -> Run:
    """DPO from the reference policy, with checkpoints."""
    return train(
        reference.model,
        reference.params,
        reference.training,
        LOSSES["dpo"](beta=setting.beta),
        OPTIMIZERS[setting.optimizer],
        setting.learning_rate,
        steps=setting.steps,
        batch_size=setting.batch_size,
        key=jax.random.fold_in(jax.random.key(setting.seed), 1),
        record="loss",
        checkpoint_every=setting.checkpoint_every,
    )


def measure(setting: SimpleNamespace) -> dict[str, Array]:
    """At every checkpoint k of the training with preferences, for each of the n evaluation pairs.

    Columns: log-probabilities in nats, Gram entries in nats² per squared parameter unit, [k, n]; those of `PARTS`,
    which sum to them, [k, parts, n]; the CHES score [k, n]. Before it: how often the label is right.
    """
    reference, supervised = fine_tune(setting)
    run = prefer(setting, reference)
    model, pairs = reference.model, reference.evaluation
    chosen, rejected = (
        first_token_logps(model, reference.params, side) for side in (pairs.chosen_response, pairs.rejected_response)
    )
    row = {
        "stopped_at": run.stopped_at,
        "supervised_loss": supervised.losses[-10:].mean(),
        "label_accuracy": (chosen > rejected).mean(dtype=chosen.dtype),
    }
    return row | jax.lax.map(lambda params: _at(model, params, pairs), run.checkpoints)


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


SHAPES: dict[str, Any] = {
    "task": one_of(TASKS, "single_token", compiled=True),
    "short_suffix": whole(2, low=1, compiled=True),  # words after the label
    "long_suffix": whole(8, low=1, compiled=True),
    "model": one_of(MODELS, "transformer", compiled=True),
    "layers": whole(2, low=1, compiled=True),
    "dim": whole(16, low=1, compiled=True),
    "heads": whole(2, low=1, compiled=True),
    "head": one_of(("untied", "tied"), "untied", compiled=True),
    "hidden_dim": whole(64, low=1, compiled=True),  # of the n-gram MLP
    "supervised_prompts": whole(4096, low=1, compiled=True),
    "supervised_optimizer": one_of(OPTIMIZERS, "adam", compiled=True),
    "supervised_steps": whole(800, low=1, compiled=True),
    "pairs": whole(1024, low=1, compiled=True),
    "evaluation_pairs": whole(64, low=1, compiled=True),
    "batch_size": whole(32, low=1, compiled=True),
    "optimizer": one_of(OPTIMIZERS, "adam", compiled=True),
    "steps": whole(150, low=1, compiled=True),
    "checkpoint_every": whole(15, low=1, compiled=True),
}
NUMBERS: dict[str, Any] = {
    "suffix_fit": real(0.65, SHARE),  # how often a word of the suffix goes with the right label
    "label_noise": real(0.05, SHARE),  # how often annotators take the wrong label
    "supervised_rate": real(3e-3, POSITIVE),
    "beta": real(0.1, POSITIVE),
    "learning_rate": real(1e-4, POSITIVE),
    "seed": whole(0, low=0),
}
RULES = (
    Rule(
        ("short_suffix", "long_suffix"),
        lambda short, long: short < long,
        "`long_suffix` must be longer than `short_suffix`",
    ),
    Rule(("dim", "heads"), lambda dim, heads: dim % heads == 0, "`heads` must divide `dim`"),
    Rule(("batch_size", "pairs"), lambda batch, pairs: batch <= pairs, "`batch_size` must be at most `pairs`"),
    Rule(
        ("batch_size", "supervised_prompts"),
        lambda batch, prompts: batch <= prompts,
        "`batch_size` must be at most `supervised_prompts`",
    ),
    Rule(
        ("supervised_prompts", "pairs", "evaluation_pairs"),
        lambda a, b, c: a + b + c <= sentiment.PROMPTS,
        f"there are {sentiment.PROMPTS} prompts for `supervised_prompts`, `pairs` and `evaluation_pairs` together",
    ),
)
#: `measure` as an experiment, "sentiment" in a configuration.
SENTIMENT = Experiment("sentiment", SHAPES | NUMBERS, measure, RULES, block=1)
