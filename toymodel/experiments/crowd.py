"""The effect of many pairs on unseen pairs of a fine-tuned network, by the length of their suffix, beside T22.

The sentiment experiment's network is used unchanged ("drawn") and fine-tuned further ("marked"):

Suffix    Fine-tuning                                              Training and evaluation pairs
drawn     words that go with the label (`data.sentiment`)          words drawn in the same way
marked    the mark, or any other word of praise or blame           the mark alone, as in T22

The mark has probability a in right answers and b in wrong ones. Suffixes are cut after 0, 1, … of their words. A causal
network does not see later tokens, so one reference serves all lengths. The formula takes cosines and probabilities from
the last hidden states; `drop_assumptions` says which of its assumptions the network violates.
"""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from toymodel import theory
from toymodel._public import own_names
from toymodel.data import sentiment
from toymodel.data.pairs import PreferencePairs
from toymodel.data.sentiment import BLAME, PRAISE, WORDS, Task
from toymodel.experiments.contexts import drop_assumptions, estimate, read_contexts
from toymodel.experiments.experiment import POSITIVE, Experiment, Row, Rule, real, replace_default, setting, whole
from toymodel.experiments.sentiment import (
    FINE_TUNING,
    RULES,
    Reference,
    SentimentSetting,
    label_accuracy,
    prefer,
    reference_columns,
    reference_policy,
)
from toymodel.experiments.training import OPTIMIZERS
from toymodel.losses.supervised import SHARE, CrossEntropy
from toymodel.models.logps import Params, response_logp
from toymodel.models.stages import Network
from toymodel.training.loop import train

__dir__ = own_names(globals())

SUFFIXES = ("drawn", "marked")
LENGTHS = (0, 1, 2, 4, 8)  # words of the suffix that are kept
PAIRS_AT_ONCE = 32
MARK = WORDS.tokens.index(PRAISE[0])  # followed by the ids of all other words of praise and blame
HEAD = ("head", "head_weight")  # the last layer's matrix, among the parameters of a network


@setting
class CrowdSetting(SentimentSetting):
    """The sentiment experiment with the long suffix, and a second fine-tuning with the mark."""

    task: Task = replace_default(SentimentSetting, "task", "long_suffix")
    mark_chosen: float = real(0.97, SHARE)  # a: how often a word of a right answer's suffix is the mark
    mark_rejected: float = real(0.3, SHARE)  # b: of a wrong answer's
    mark_noise: float = real(0.3, SHARE)  # how often annotators take the wrong answer
    mark_rate: float = real(3e-3, POSITIVE)
    mark_steps: int = whole(800, low=1, compiled=True)


def mean_chosen(network: Network, params: Params, pairs: PreferencePairs) -> Float[Array, ""]:
    """The mean log-probability of the chosen answers."""
    return jax.vmap(partial(response_logp, network, params))(pairs.chosen_response).mean()


def mean_slopes(
    network: Network, params: Params, judged: PreferencePairs, training: PreferencePairs
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """d/dη of the mean chosen of the judged pairs along Σ (g_w − g_l)/B of the training pairs, by autodiff.

    First through the matrix of the last layer alone, then through all parameters.
    """

    def margin(params: Params, pair: PreferencePairs) -> Float[Array, ""]:
        chosen, rejected = jax.vmap(partial(response_logp, network, params))(pair.both_responses)
        return chosen - rejected

    def along(step: Params) -> Float[Array, ""]:
        return jax.jvp(lambda params: mean_chosen(network, params, judged), (params,), (step,))[1]

    # Not of all pairs at once: what a backward pass keeps of a thousand would be gigabytes.
    of_pairs = jax.lax.map(lambda pair: jax.grad(margin)(params, pair), training, batch_size=PAIRS_AT_ONCE)
    step = jax.tree.map(lambda leaf: leaf.mean(axis=0), of_pairs)
    of_head = {name: part if name in HEAD else jax.tree.map(jnp.zeros_like, part) for name, part in step.items()}
    return along(of_head), along(step)


def keep_words(pairs: PreferencePairs, length: int | Array) -> PreferencePairs:
    """The pairs with only the first words of their suffixes; the others become padding."""
    mask = jnp.broadcast_to(jnp.arange(pairs.chosen.shape[-1]) <= length, pairs.chosen.shape)
    return replace(pairs, chosen_mask=mask, rejected_mask=mask)


def mark(setting: CrowdSetting, reference: Reference) -> Reference:
    """The reference fine-tuned further on marked answers to its prompts, and pairs whose suffix is the mark alone."""
    of_prompts = jax.random.split(jax.random.key(setting.seed), 4)[1]  # as in `reference_policy`
    prompts = sentiment.draw_prompts(of_prompts, setting.supervised_prompts)
    of_chosen, of_rejected, of_batches = jax.random.split(jax.random.fold_in(jax.random.key(setting.seed), 2), 3)
    answers = sentiment.sentiment_pairs(of_chosen, prompts, setting.task, suffix_fit=0.5)
    shape = (setting.supervised_prompts, setting.long_suffix)
    run = train(
        reference.model,
        reference.params,
        _with_suffixes(
            answers,
            _draw_suffixes(of_chosen, shape, setting.mark_chosen),
            _draw_suffixes(of_rejected, shape, setting.mark_rejected),
        ),
        CrossEntropy(setting.mark_noise),
        OPTIMIZERS[setting.supervised_optimizer],
        setting.mark_rate,
        steps=setting.mark_steps,
        batch_size=setting.batch_size,
        key=of_batches,
        record="loss",
    )

    def marked(pairs: PreferencePairs) -> PreferencePairs:
        suffix = jnp.full_like(pairs.chosen[:, 1:], MARK)
        return _with_suffixes(pairs, suffix, suffix)

    return reference._replace(
        params=run.params, training=marked(reference.training), evaluation=marked(reference.evaluation)
    )


def _draw_suffixes(key: Array, shape: tuple[int, int], share: float | Array) -> Int[Array, "n s"]:
    of_mark, of_word = jax.random.split(key)
    others = MARK + jax.random.randint(of_word, shape, 1, len(PRAISE) + len(BLAME), jnp.int32)
    return jnp.where(jax.random.bernoulli(of_mark, jnp.asarray(share, float), shape), MARK, others)


def _with_suffixes(pairs: PreferencePairs, chosen: Array, rejected: Array) -> PreferencePairs:
    def answer(side: Array, suffix: Array) -> Array:
        return jnp.concatenate([side[:, :1], suffix], axis=1, dtype=side.dtype)

    return replace(pairs, chosen=answer(pairs.chosen, chosen), rejected=answer(pairs.rejected, rejected))


def measure(setting: CrowdSetting, tuned: Row) -> Row:
    """For both `SUFFIXES`, by `LENGTHS`: T22's threshold, slopes of the mean chosen of unseen pairs, changes by DPO.

    `predicted` [suffixes, assumptions, lengths] is from `drop_assumptions`; `changes` [suffixes, 2, lengths], in nats,
    are up to the first checkpoint and in the whole run.
    """
    drawn = reference_policy(setting, tuned)
    both = jax.tree.map(lambda *leaves: jnp.stack(leaves), drawn, mark(setting, drawn))
    return jax.lax.map(lambda reference: _measure_one(setting, reference), both)


def _measure_one(setting: CrowdSetting, reference: Reference) -> Row:
    network, params, lengths = reference.network, reference.to_measure(reference.params), jnp.array(LENGTHS)
    sides = (reference.evaluation, reference.training)
    judged, training = (read_contexts(network, params, pairs) for pairs in sides)
    found = estimate(judged, training)

    def at(length: Array) -> tuple[Array, Array, Array]:
        kept = reference._replace(training=keep_words(reference.training, length))
        unseen = keep_words(reference.evaluation, length)
        checkpoints = prefer(setting, kept).checkpoints
        assert checkpoints is not None
        states = reference.to_measure(checkpoints[jnp.array([0, 1, -1])])
        logps = jax.lax.map(lambda state: mean_chosen(network, state, unseen), states)
        return *mean_slopes(network, params, unseen, kept.training), logps[1:] - logps[0]

    head_slope, slope, changes = jax.lax.map(at, lengths)
    return {
        "label_accuracy": label_accuracy(reference),
        "threshold": theory.crowd_threshold(*found[:4], network.vocab_size, found.cosines),
        "predicted": drop_assumptions(judged, training, lengths.astype(float)),
        "head_slope": head_slope,
        "slope": slope,
        "changes": changes.T,
        **found.cosines._asdict(),
        **{name: getattr(found, name) for name in ("p_chosen", "p_rejected", "a", "b", "between")},
    }


#: `measure` as an experiment.
CROWD = Experiment(
    "crowd",
    CrowdSetting,
    measure,
    (
        *RULES,
        Rule(("task",), lambda task: task == "long_suffix", "`task` must be long_suffix, whose suffixes are cut"),
        Rule(("head",), lambda head: head == "untied", "`head` must be untied, as steps are taken through it alone"),
        Rule(("long_suffix",), lambda n: n >= max(LENGTHS), f"`long_suffix` must be at least {max(LENGTHS)}"),
    ),
    needs=FINE_TUNING,
    needed=reference_columns,
    block=2,
    shard=8,
)
