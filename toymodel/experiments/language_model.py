"""The sentiment experiment on a pretrained language model and on texts that people wrote.

It is the design of the paper's second experiment on another model, not a replication: fine-tune on the right answers to
some prompts, train by DPO on others, and evaluate on pairs whose prompts were in neither.
"""

import hashlib
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from toymodel import theory
from toymodel._public import own_names
from toymodel.data import answers, tweets
from toymodel.data.pairs import PreferencePairs, Response
from toymodel.experiments.contexts import Contexts, estimate
from toymodel.experiments.experiment import POSITIVE, Experiment, Row, Rule, one_of, real, setting, whole
from toymodel.experiments.one_step import AT_ONCE, map_tokens, mean_step, single_steps
from toymodel.gradients import layer_gram, pair_gram, token_cosines, token_gram
from toymodel.losses import LOSSES
from toymodel.losses.supervised import CrossEntropy
from toymodel.models import pretrained
from toymodel.models.llama import Llama
from toymodel.models.logps import Model, Params
from toymodel.models.partial import LastBlocks, LowRank, last_blocks, low_rank
from toymodel.models.readout import hidden_states
from toymodel.remedies import REMEDIES
from toymodel.training.arguments import PairLoss, Setting
from toymodel.training.loop import run_steps
from toymodel.training.step import Batch, Plain, State, Update
from toymodel.training.trajectory import Run

__dir__ = own_names(globals())

Learned = Llama | LastBlocks | LowRank

LOOKS = 6  # states at which a training is looked at: its start, its end, and evenly between
MAPPED = 8  # pairs whose tokens are compared
STEPPED = 4  # pairs of which single steps are taken, in float64
CROWD = 16  # pairs of the mean step
GRAMS_AT_ONCE = 4  # pairs whose Gram entries are measured at once, which divides the evaluation pairs
SIDES = ("chosen", "rejected")
OWN = "own"  # the format of a user's pairs
WIDE = 32  # tokens of an answer, beyond which they are not compared token by token
#: Those of `REMEDIES` that need no gradient of each pair; a large model leaves no memory for many.
REMEDIES_HERE = (
    "none",
    "likelihood",
    "penalty",
    "gate",
    "oracle_mask",
    "rejected_mask",
    "chosen_first",
    "rejected_first",
    "fair_coin",
)
#: The inputs of T22, as in `contexts.estimate`.
CONTEXTS = ("p_chosen", "p_rejected", "a", "b", "same", "different", "suffix", "between")


@setting
class RealSetting:
    """One run. Numbers are for SmolLM2-135M; they were chosen on other seeds than those shown."""

    format: str = one_of((*tweets.FORMATS, OWN), "long_suffix")
    seed: int = whole(None, low=0)
    weights: int = whole(0, low=0)  # as `name_file` names a file or folder; 0 is SmolLM2-135M-Instruct
    pairs: int = whole(0, low=0)  # likewise, of the format "own"
    longest: int = whole(192, low=2)  # tokens of such a pair; longer ones are left out, for want of memory
    learned: str = one_of(("all", "last_blocks", "low_rank"), "all")
    blocks: int = whole(8, low=1)  # learned, of "last_blocks", at most all
    rank: int = whole(8, low=1)  # of "low_rank"
    supervised_steps: int = whole(10, low=1)
    supervised_rate: float = real(2e-5, POSITIVE)
    steps: int = whole(15, low=1)
    learning_rate: float = real(5e-6, POSITIVE)
    beta: float = real(0.1, POSITIVE)
    batch_size: int = whole(8, low=1, high=tweets.TRAINING)
    evaluation_pairs: int = whole(32, low=CROWD, high=tweets.EVALUATION)
    remedy: str = one_of(REMEDIES_HERE, "none")
    strength: float = real(1.0, POSITIVE)  # of a remedy that has one


RULES = (Rule(("format", "pairs"), lambda format, pairs: (format == OWN) == (pairs > 0), "format 'own' needs `pairs`"),)
EVEN = (
    *(
        Rule((name,), lambda steps: steps % (LOOKS - 1) == 0, f"`{name}` must be a multiple of {LOOKS - 1}")
        for name in ("supervised_steps", "steps")
    ),
    Rule(
        ("evaluation_pairs",),
        lambda pairs: pairs % GRAMS_AT_ONCE == 0,
        f"`evaluation_pairs` must be a multiple of {GRAMS_AT_ONCE}",
    ),
)


def measure(setting: RealSetting) -> Row:
    """The effect of two trainings on pairs, at six states of each; the second starts at the reference policy.

    An axis of 2 is chosen, rejected. `supervised_…` and `preference_…`: `token_logps` [6, 2, n, 7] of the evaluation
    pairs, 0 at padding, and their Gram entries `chosen_sq`, `rejected_sq`, `inner` [6, n], over what is learned.
    `trained_token_logps`: the same of as many pairs that DPO trains on. The rest is of the reference policy:
    `token_gram` and `token_cosines` [8, 7, 7] of the first pairs, their Gram entries by block `block_gram`
    [3, 8, blocks], the effect of single and mean steps (`one_step`), the CHES score of the hidden states [n] (T16), and
    `contexts` [8]: the inputs of T22, in the order of `CONTEXTS`; `vocab_size`. `left_out`: the
    user's pairs that were too long.
    """
    model, params, parts = prepare(setting)
    count = min(setting.evaluation_pairs, len(parts.evaluation), len(parts.training)) // GRAMS_AT_ONCE * GRAMS_AT_ONCE
    judged = Judged(parts.evaluation[:count], parts.training[:count])
    params, looks = fine_tune(setting, model, params, parts.fine_tuning, judged)
    row = {f"supervised_{name}": values for name, values in looks.items() if not name.startswith("trained")}
    row |= _at_reference(setting, model, params, judged)
    run, looks = prefer(setting, model, params, parts.training, judged)
    row |= {name if name.startswith("trained") else f"preference_{name}": values for name, values in looks.items()}
    return row | {"stopped_at": run.stopped_at, "left_out": jnp.asarray(parts.left_out)}


#: A callback for long runs, called with a word about the current stage.
AT: ContextVar[Callable[[str], object]] = ContextVar("at", default=lambda _: None)
_FILES: dict[int, Path] = {}


def name_file(path: str | Path) -> int:
    """A number for a user's file or folder, computed from its content, which a setting can hold.

    Raises:
      ValueError: it cannot be read.
    """
    path, digest = Path(path), hashlib.sha256()
    try:
        for part in sorted(path.glob("*.*")) if path.is_dir() else [path]:
            with part.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    except OSError as error:
        raise ValueError(f"cannot read `{path}`: {error.strerror}.") from error
    number = int.from_bytes(digest.digest()[:6]) or 1
    _FILES[number] = path
    return number


def _file(name: str, number: int) -> Path | None:
    if number and number not in _FILES:
        raise ValueError(f"`{name}` must be 0 or a number that `name_file` gave in this process, got {number}.")
    return _FILES.get(number)


class Judged(NamedTuple):
    """Pairs that are measured: some were trained on."""

    evaluation: PreferencePairs
    trained: PreferencePairs


def prepare(setting: RealSetting) -> tuple[Learned, Params, tweets.Splits]:
    """The model with the parameters that are learned, and its pairs."""
    AT.get()("reading the model")
    loaded = pretrained.load(_file("weights", setting.weights))

    def encode(text: str) -> Sequence[int]:
        ids: Sequence[int] = loaded.tokenizer.encode(text).ids
        return ids

    own = _file("pairs", setting.pairs)
    if own is None:
        parts = jax.device_get(tweets.splits(tweets.read(), encode, setting.format, setting.seed))
    else:
        parts = answers.splits(own, encode, loaded.end, setting.seed, longest=setting.longest, drop_longer=True)
    params = jax.tree.map(jnp.asarray, loaded.params)
    if setting.learned == "last_blocks":
        return *last_blocks(loaded.model, params, min(setting.blocks, loaded.model.layers)), parts
    if setting.learned == "low_rank":
        return *low_rank(jax.random.key(setting.seed), loaded.model, params, setting.rank), parts
    return loaded.model, params, parts


def fine_tune(
    setting: RealSetting, model: Learned, params: Params, pairs: PreferencePairs, judged: "Judged | None" = None
) -> tuple[Params, Row]:
    """Train by cross-entropy on the chosen answers; also returns what was measured on the judged pairs."""
    rate, steps = setting.supervised_rate, setting.supervised_steps
    AT.get()(f"{setting.format}: fine-tuning")
    key, _ = _keys(setting)
    run, looks = _train(setting, model, params, pairs, (CrossEntropy(), Plain()), rate, steps, key, judged)
    return run.params, looks


def prefer(
    setting: RealSetting, model: Learned, params: Params, pairs: PreferencePairs, judged: "Judged | None" = None
) -> tuple[Run, Row]:
    """Train by DPO from these parameters, or with a remedy; also returns what was measured on the judged pairs."""
    AT.get()(f"{setting.format}: DPO")
    how, rate = loss_and_update(setting), setting.learning_rate
    return _train(setting, model, params, pairs, how, rate, setting.steps, preference_key(setting), judged)


def loss_and_update(setting: RealSetting) -> tuple[PairLoss, Update]:
    """The loss and the update: DPO, changed by the remedy."""
    remedy, dpo = REMEDIES[setting.remedy], LOSSES["dpo"](beta=setting.beta)
    loss = dpo if remedy.loss is None else remedy.loss(dpo, setting.strength)
    return loss, Plain() if remedy.update is None else remedy.update(setting.strength)


def preference_key(setting: RealSetting) -> Array:
    """The key of the minibatches of DPO."""
    return _keys(setting)[1]


def _keys(setting: RealSetting) -> Array:
    """The keys of the minibatches of fine-tuning, and of DPO."""
    return jax.random.split(jax.random.key(setting.seed))


def _train(
    setting: RealSetting,
    model: Learned,
    params: Params,
    pairs: PreferencePairs,
    how: tuple[PairLoss, Update],
    rate: float,
    steps: int,
    key: Array,
    judged: "Judged | None",
) -> tuple[Run, Row]:
    """Train by Adam, and measure the judged pairs on the way, if there are any."""
    loss, update = how
    return run_steps(
        Setting(model, params, pairs, loss, rate, key, None, update, None, judged),
        optax.adam,
        (),
        steps=steps,
        batch_size=setting.batch_size,
        record="loss",
        checkpoint_every=None,
        progress=None,
        ledger=None if judged is None else _Look(_look, steps // (LOOKS - 1)),
    )


class _Look(NamedTuple):
    """A ledger that measures the parameters at some states of a run: every so many steps, and at its end."""

    measure: Callable[[Model, Params, Any], Row]  # of the model, its parameters and the judged pairs
    every: int

    def open(self, setting: Setting, batch: Batch, before: State) -> Row:
        """Nothing was measured yet."""
        shapes = jax.eval_shape(partial(self.measure, batch.model), before.params, setting.judged)
        return jax.tree.map(lambda leaf: jnp.full((LOOKS, *leaf.shape), jnp.nan, leaf.dtype), shapes)

    def enter(self, setting: Setting, batch: Batch, before: State, entries: Row) -> Row:
        """Look at the state before the step, if its number is one of these."""
        row, rest = jnp.divmod(batch.number, self.every)
        return jax.lax.cond(rest == 0, lambda: self._fill(setting, batch, before.params, entries, row), lambda: entries)

    def close(self, setting: Setting, batch: Batch, after: State, entries: Row) -> Row:
        """Look at the last state."""
        return self._fill(setting, batch, after.params, entries, LOOKS - 1)

    def _fill(self, setting: Setting, batch: Batch, params: Params, entries: Row, row: Any) -> Row:
        found = self.measure(batch.model, params, setting.judged)
        filled: Row = jax.tree.map(lambda rows, leaf: rows.at[row].set(leaf), entries, found)
        return filled


def _look(model: Model, params: Params, judged: Judged) -> Row:
    logps = {"token_logps": judged.evaluation, "trained_token_logps": judged.trained}
    found = {name: map_tokens(model, params, pairs) for name, pairs in logps.items()}
    gram = jax.lax.map(lambda few: pair_gram(model, params, few), _in_parts(judged.evaluation, GRAMS_AT_ONCE))
    return found | {name: entry.reshape(-1) for name, entry in gram._asdict().items()}


def _in_parts(pairs: PreferencePairs, size: int) -> PreferencePairs:
    """[n / size, size, …], for code that holds all its pairs in memory at once."""
    parts: PreferencePairs = jax.tree.map(lambda leaf: leaf.reshape(-1, size, *leaf.shape[1:]), pairs)
    return parts


def _at_reference(setting: RealSetting, model: Learned, params: Params, judged: Judged) -> Row:
    """Measurements at the reference policy alone."""
    AT.get()("the reference policy")
    few = judged.evaluation[:MAPPED]
    row = _by_token_and_block(model, params, few)
    with jax.enable_x64(True):
        row |= {name: value.astype(jnp.float32) for name, value in single_steps(model, params, few[:STEPPED]).items()}
    row |= jax.jit(mean_step)(model, params, judged.trained[:CROWD], judged.evaluation[:CROWD])
    return row | _of_contexts(setting, model, params, judged)


def _by_token_and_block(model: Learned, params: Params, pairs: PreferencePairs) -> Row:
    """Gram entries token by token and block by block; NaN for long answers, and if only a part is learned."""
    n, width = pairs.chosen.shape
    if not isinstance(model, Llama) or width > WIDE:
        unknown = jnp.full((n, 1, 1), jnp.nan)
        return {"token_gram": unknown, "token_cosines": unknown, "block_gram": jnp.full((3, n, 1), jnp.nan)}
    blocks = [jnp.stack(gram) for gram in layer_gram(model, params, pairs).values() if gram.chosen_sq.ndim == 2]
    return {
        "token_gram": jnp.stack([token_gram(model, params, pairs[i]) for i in range(n)]),
        "token_cosines": jnp.stack([token_cosines(model, params, pairs[i]) for i in range(n)]),
        "block_gram": jnp.stack(blocks).sum(axis=0).swapaxes(1, 2),
    }


def _of_contexts(setting: RealSetting, model: Learned, params: Params, judged: Judged) -> Row:
    """The CHES scores of the evaluation pairs and, if all answers have one length, the inputs of T22."""
    network: Any = model if isinstance(model, Llama) else model.network
    whole_params = params if isinstance(model, Llama) else model.merged(params)
    evaluation, trained = judged
    sides = (evaluation.chosen_response, evaluation.rejected_response)
    row = {"ches": theory.ches(*(_hidden(network, whole_params, side) * side.mask[..., None] for side in sides))}
    found = jnp.full(len(CONTEXTS), jnp.nan)
    length = int(evaluation.chosen_mask[0].sum())
    if setting.format != OWN and length > 1:
        seen, met = (_contexts(network, whole_params, _cut(pairs[:CROWD], length)) for pairs in (evaluation, trained))
        estimates = estimate(seen, met)
        found = jnp.stack([*estimates[:4], *estimates.cosines, estimates.between])
    return row | {"contexts": found, "vocab_size": jnp.asarray(network.vocab_size)}


@jax.jit
def _hidden(network: Llama, params: Params, responses: Response) -> Float[Array, "n T d"]:
    """Hidden states, of a few responses at a time."""
    found: Array = jax.lax.map(partial(hidden_states, network, params), responses, batch_size=AT_ONCE)
    return found


def _contexts(network: Llama, params: Params, pairs: PreferencePairs) -> Contexts:
    """Read what `contexts.read_contexts` reads, with a single pass through an expensive network."""
    hidden = jnp.stack([_hidden(network, params, side) for side in (pairs.chosen_response, pairs.rejected_response)])
    probs = jax.nn.softmax(hidden @ network.head(params).weight.T)
    return Contexts(hidden, probs, jnp.stack([pairs.chosen, pairs.rejected]))


def _cut(pairs: PreferencePairs, length: int) -> PreferencePairs:
    sides = {f"{side}{kind}": getattr(pairs, f"{side}{kind}")[:, :length] for side in SIDES for kind in ("", "_mask")}
    return PreferencePairs(pairs.prompt, pairs.prompt_mask, **sides)


#: `measure` as an experiment, "real" in a configuration.
REAL_TRAINING = Experiment("real", RealSetting, measure, (*RULES, *EVEN), alone=True, shard=1)
