"""The measurements of `language_model`, on the toy: the small transformers of the sentiment experiment.

Names and code are the same, so that both can be compared.
"""

from functools import partial

import jax
import jax.numpy as jnp

from toymodel import theory
from toymodel._public import own_names
from toymodel.experiments.contexts import Contexts, estimate, read_contexts
from toymodel.experiments.experiment import Experiment, Row
from toymodel.experiments.language_model import CONTEXTS, CROWD, MAPPED, STEPPED
from toymodel.experiments.one_step import map_tokens, mean_step, single_steps
from toymodel.experiments.sentiment import (
    FINE_TUNING,
    RULES,
    SentimentSetting,
    label_accuracy,
    prefer,
    reference_columns,
    reference_policy,
)
from toymodel.gradients import pair_gram, token_cosines, token_gram

__dir__ = own_names(globals())


def measure(setting: SentimentSetting, tuned: Row) -> Row:
    """Results as of `language_model.measure`: the reference policy, and evaluation pairs before and after DPO."""
    reference = reference_policy(setting, tuned)
    network, params = reference.network, reference.to_measure(reference.params)
    evaluation, trained = reference.evaluation, reference.training
    few = evaluation[:MAPPED]
    after = reference.to_measure(prefer(setting, reference).params)
    gram = pair_gram(network, params, evaluation)
    seen, met = (read_contexts(network, params, pairs) for pairs in (evaluation, trained[:CROWD]))
    contexts = jnp.full(len(CONTEXTS), jnp.nan)
    if evaluation.chosen.shape[-1] > 1:
        found = estimate(Contexts(*(field[:, :CROWD] for field in seen)), met)
        contexts = jnp.stack([*found[:4], *found.cosines, found.between])
    return {
        "label_accuracy": label_accuracy(reference),
        "preference_token_logps": jnp.stack([map_tokens(network, each, evaluation) for each in (params, after)]),
        **{f"preference_{name}": entry[None] for name, entry in gram._asdict().items()},
        "token_gram": jax.vmap(partial(token_gram, network, params))(few),
        "token_cosines": jax.vmap(partial(token_cosines, network, params))(few),
        **single_steps(network, params, few[:STEPPED]),
        **jax.jit(mean_step)(network, params, trained[:CROWD], evaluation[:CROWD]),
        "ches": theory.ches(*seen.hidden),
        "contexts": contexts,
        "vocab_size": jnp.asarray(network.vocab_size),
    }


#: `measure` as an experiment, "toy_steps" in a configuration.
TOY_STEPS = Experiment(
    "toy_steps",
    SentimentSetting,
    measure,
    RULES,
    needs=FINE_TUNING,
    needed=reference_columns,
    whole=False,
    block=4,
    shard=12,
)
