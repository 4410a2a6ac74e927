"""Recognises from its name which number a column of a training log holds.

A name is read word by word, in any case and with any separators: `eval_rewards/chosen`,
`rewards_eval/chosen` and `Eval Chosen Reward` are the same. To teach it a name, add the word to `WORDS`, with the
meaning that `QUANTITIES` knows; to teach it a column of steps, add its whole name, in lower case, to `STEPS`.
"""

import re
from functools import lru_cache
from typing import NamedTuple

from toymodel._public import own_names

__dir__ = own_names(globals())

#: The meaning of each word; "" means nothing that matters here.
WORDS = {
    "chosen": "chosen",
    "preferred": "chosen",
    "winner": "chosen",
    "winning": "chosen",
    "desirable": "chosen",
    "positive": "chosen",
    "pos": "chosen",
    "rejected": "rejected",
    "reject": "rejected",  # OpenRLHF
    "dispreferred": "rejected",
    "unpreferred": "rejected",
    "loser": "rejected",
    "losing": "rejected",
    "undesirable": "rejected",
    "negative": "rejected",
    "neg": "rejected",
    "logps": "logps",
    "logp": "logps",
    "logpi": "logps",
    "logprobs": "logps",
    "logprob": "logps",
    "logprobability": "logps",
    "logprobabilities": "logps",
    "reward": "rewards",
    "rewards": "rewards",
    "ref": "ref",
    "reference": "ref",
    "sum": "sum",  # KTO: over the answers of a batch
    "count": "count",  # KTO: number of them
    "avg": "average",
    "average": "average",
    "normalized": "average",
    "normalised": "average",
    "loss": "loss",
    "accuracy": "accuracy",
    "accuracies": "accuracy",
    "acc": "accuracy",
    "margin": "margin",
    "margins": "margin",
    "lr": "learning_rate",
    "grad": "grad",
    "gradient": "grad",
    "norm": "norm",
    "learning": "learning",
    "rate": "rate",
    "train": "training",
    "training": "training",
    "eval": "evaluation",
    "evaluation": "evaluation",
    "val": "evaluation",
    "valid": "evaluation",
    "validation": "evaluation",
    "dev": "evaluation",
    "test": "evaluation",
    "policy": "",
    "actor": "",
    "model": "",
    "mean": "",  # over pairs
    "metrics": "",
    "metric": "",
    "stats": "",
    "logs": "",
    "dpo": "",
}

#: The quantity, by the meanings of all words of a name.
QUANTITIES = {
    frozenset(meanings.split()): quantity
    for meanings, quantity in {
        "loss": "loss",
        "accuracy": "accuracy",
        "rewards accuracy": "accuracy",
        "margin": "margin",
        "rewards margin": "margin",
        "learning_rate": "learning_rate",
        "learning rate": "learning_rate",
        "grad norm": "grad_norm",
        **{
            f"{side} {meanings}": f"{side}_{quantity}"
            for side in ("chosen", "rejected")
            for meanings, quantity in {
                "rewards": "rewards",
                "logps": "logps",
                "ref logps": "ref_logps",
                "rewards sum": "rewards_sum",
                "logps sum": "logps_sum",
                "count": "count",
            }.items()
        },
    }.items()
}

#: Columns of steps, best first: those of the trainer, then those of the logger, which counts its own calls.
STEPS = (
    "global_step/max_steps",  # ms-swift: "5/40"
    "train/global_step",
    "eval/global_step",
    "trainer/global_step",
    "global_step",
    "global_steps",
    "counters/updates",  # the reference implementation of DPO
    "current_steps",  # LLaMA-Factory
    "current_step",
    "step",
    "steps",
    "train_step",
    "train/step",
    "training_step",
    "iteration",
    "train/iteration",
    "iter",
    "_step",  # W&B
)
EXAMPLES = ("counters/examples", "examples")  # the only steps of its evaluations

_GROUPS = re.compile(
    r"reward_std|frac_reward_zero_std|advantages?$|rewards/.+/(mean|std)$|objective/|ppo/|critic/|actor/|completions?[/_]"
    r"|(policy/)?clip_?(ratio|frac)|(policy_|pg_)loss|(env/)?rewards?(/mean|_mean)?$|(policy/)?approx_?kl"
)


class Column(NamedTuple):
    """What a column holds: the run, the set of pairs, and the quantity."""

    run: str  # of an export of several runs; "" otherwise
    split: str  # "training" or "evaluation"
    set: str  # name of the evaluation set; "" where it has none
    quantity: str  # one of `QUANTITIES`
    average: bool  # the name says that it is a mean over tokens


# "log_probs" and its like are one word.
_WORD = re.compile(r"log[\W_]?p(?:s|i|robs?|robabilit(?:y|ies))?(?![a-z])|[a-z]+|\d+", re.IGNORECASE)
_AROUND = ("training", "evaluation", "average", "")  # words that do not belong to the number


@lru_cache(maxsize=4096)
def read_name(name: str) -> Column | None:
    """What a column holds; None if it is not a known quantity of preference pairs."""
    run, dash, metric = name.rpartition(" - ")  # W&B's panels: "run - metric"
    words = list(_WORD.finditer(metric))
    meanings = [WORDS.get(re.sub(r"[\W_]", "", word[0].lower())) for word in words]
    first, named = 0, ""
    if meanings and meanings[0] == "evaluation":  # words between this one and the number are the name of the set
        number = (i for i, part in enumerate(meanings) if part not in _AROUND and _quantity(meanings[i:]))
        first = next(number, 0)
        own = [i for i in range(1, first) if meanings[i] not in ("", "average") and words[i][0].lower() != "eval"]
        if own:
            start = 2 if words[1][0].lower() == "eval" else 1
            named = metric[words[start].start() : words[own[-1]].end()]
        elif words[0][0].lower() == "test":
            named = "test"
    quantity = _quantity(meanings[first:])
    if dash and not quantity:
        return read_name(name.replace(" - ", "/"))
    split = "evaluation" if "evaluation" in meanings else "training"
    return Column(run if dash else "", split, named, quantity, "average" in meanings) if quantity else None


def _quantity(meanings: list[str | None]) -> str | None:
    return QUANTITIES.get(frozenset(str(meaning) for meaning in meanings if meaning not in _AROUND))


def is_sided(name: str) -> bool:
    """Whether a column holds a reward or a log-probability of the chosen or of the rejected answers."""
    column = read_name(name)
    return column is not None and column.quantity.startswith(("chosen", "rejected"))


def is_of_groups(name: str) -> bool:
    """Whether a column belongs to GRPO, RLOO or PPO, where answers come in groups or alone."""
    metric = name.strip().lower().rpartition(" - ")[2]
    return _GROUPS.match(re.sub(r"^(train|eval)[/_]", "", metric)) is not None
