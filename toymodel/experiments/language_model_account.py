"""Why the chosen answers of a pretrained model fell, and for which settings they fall: account (T23) and change.

For an account only the last blocks are trained, because each source has a momentum as large as the learned parameters.
"""

import jax
import jax.numpy as jnp
import optax

from toymodel._public import own_names
from toymodel.experiments.account import TOKENS, by_part
from toymodel.experiments.experiment import Experiment, Row, Rule, replace_default, setting
from toymodel.experiments.language_model import (
    AT,
    CROWD,
    RULES,
    RealSetting,
    fine_tune,
    loss_and_update,
    prefer,
    preference_key,
    prepare,
)
from toymodel.experiments.one_step import map_tokens
from toymodel.gradients import pair_gram
from toymodel.training.accounting import account
from toymodel.training.sources import by_position, by_side, crossed

__dir__ = own_names(globals())


@setting
class PartialSetting(RealSetting):
    """The last blocks alone, at rates at which they move as far as the whole model; chosen on another seed."""

    learned: str = replace_default(RealSetting, "learned", "last_blocks")
    evaluation_pairs: int = replace_default(RealSetting, "evaluation_pairs", CROWD)
    supervised_rate: float = replace_default(RealSetting, "supervised_rate", 4e-5)
    learning_rate: float = replace_default(RealSetting, "learning_rate", 4e-5)


PARTIAL = Rule(
    ("learned",),
    lambda learned: learned != "all",
    "`learned` must be 'last_blocks' or 'low_rank' in an account: all weights would need a momentum for each source",
)


def measure(setting: PartialSetting) -> Row:
    """What each of `TOKENS` in training contributed to each in the evaluation pairs, in nats: [4 sources, 4 parts, n].

    Also the true change of each part [4, n], and Gram entries of the pairs at the reference policy [n].
    """
    model, params, parts = prepare(setting)
    evaluation = parts.evaluation[: setting.evaluation_pairs]
    params, _ = fine_tune(setting, model, params, parts.fine_tuning)
    gram = pair_gram(model, params, evaluation)
    loss, update = loss_and_update(setting)
    AT.get()(f"{setting.format}: the account of DPO")
    found = account(
        model,
        params,
        parts.training,
        loss,
        optax.adam,
        setting.learning_rate,
        judged=evaluation,
        sources=crossed(by_side(parts.training), by_position(parts.training)),
        steps=setting.steps,
        at="middle",
        batch_size=setting.batch_size,
        key=preference_key(setting),
        update=update,
    )
    return {
        "contributions": jnp.stack([by_part(found.contributions[source]) for source in TOKENS]),
        "true_change": by_part(found.true_change),
        "stopped_at": found.run.stopped_at,
    } | gram._asdict()


def measure_change(setting: PartialSetting) -> Row:
    """Log-probabilities of evaluation pairs before and after DPO, [2, 2, n, 7], and their Gram entries before [n]."""
    model, params, parts = prepare(setting)
    evaluation = parts.evaluation[: setting.evaluation_pairs]
    params, _ = fine_tune(setting, model, params, parts.fine_tuning)
    run, _ = prefer(setting, model, params, parts.training)
    states = [jax.jit(map_tokens)(model, each, evaluation) for each in (params, run.params)]
    return {"token_logps": jnp.stack(states)} | pair_gram(model, params, evaluation)._asdict()


#: `measure` and `measure_change` as experiments, "real_account" and "real_regime" in a configuration.
REAL_ACCOUNT = Experiment("real_account", PartialSetting, measure, (*RULES, PARTIAL), alone=True, shard=1)
REAL_REGIME = Experiment("real_regime", PartialSetting, measure_change, RULES, alone=True, shard=1)
