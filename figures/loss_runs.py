"""Every loss trained on the same pairs, from the same models, with the same first step: once, for three figures.

A seed is a pair (a contrast token, then a random suffix that both responses share up to the length that each has), a
linear softmax model with random features (hidden states after chosen and after rejected at cosine 0.95) and its
initial parameters. Each pair is trained alone, by gradient descent from the reference. A loss's learning rate makes
η · ‖(d_w, d_l)‖, averaged over the seeds, equal to `FIRST_STEP` at step 0: losses then differ in where they go and in
how their weights change, not in their scale.
"""

from dataclasses import dataclass, replace
from functools import cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from figures import ensemble
from toymodel import PairGram, PreferencePairs, theory
from toymodel.families import contrast_pairs
from toymodel.losses import LOSSES
from toymodel.models import linear
from toymodel.models.linear import LinearSoftmax
from toymodel.models.logps import pair_logps
from toymodel.training import train
from toymodel.trajectory import Trajectory

VOCAB, DIM, CORRELATION, TEMPERATURE = 7, 4, 0.95, 0.5
SHORTEST, LONGEST = 4, 14  # tokens in a response
FIRST_STEP = 0.05
STEPS = 200
SEEDS, QUICK_SEEDS = 32, 8
SEED = 0
FEW_OPTIMISATIONS = {"xla_backend_optimization_level": 0}  # fifty losses compile for longer than they run

# By what their ratio d_w/d_l does.
GROUPS = {
    "equal weights: $d_w/d_l$ = 1, whatever the shape of m": (
        *("dpo", "cdpo", "robust_dpo", "rdpo", "odpo", "exo_pair", "exo_pair_unnorm", "cpo_pref_only", "ipo_sum"),
        *("hinge", "cpo_hinge", "discopop"),
    ),
    "per token: $d_w/d_l$ = $n_l/n_w$, or near it": (
        *("dpo_sigmoid_norm", "ipo_lennorm", "simpo", "alphapo", "orpo_or_only", "rrhf_rank"),
    ),
    "favouring the chosen: a likelihood term, a penalty on its fall, or a weaker pull on the rejected": (
        *("dpo_nll_mean", "cpo_nll_mean", "cpo_nll_sum", "cpo_simpo", "orpo", "orpo_sumodds", "slic_hf", "sft_mean"),
        *("dpo_shift", "dpop", "bdpo"),
    ),
    "a term for each response: $d_w$ falls as the chosen rises, $d_l$ as the rejected falls": (
        *("sppo_hard", "sppo_half", "sppo_soft_half", "cal_dpo", "kto_pair", "apo_zero", "nca_pair", "bco_pair"),
        *("bce", "ukl", "ddro", "lsif"),
    ),
    "f-divergences: $d_w/d_l$ moves with the logratios": ("fdpo_js", "fdpo_alpha", "fdpo_forward_kl", "chi_po"),
    "one-sided: a switch between the sides, or a push against one": (
        "apo_down",
        "npo",
        "bpo_logistic",
        "bpo_hinge",
        "arpo_pref_only",
    ),
}
placed = {name for group in GROUPS.values() for name in group}
if others := tuple(name for name in LOSSES if name not in placed):
    GROUPS["other losses"] = others
NAMES = tuple(LOSSES)
DEFAULTS = tuple(LOSSES[name]() for name in NAMES)


class LossRuns(NamedTuple):
    """What became of every pair under every loss, losses in the order of `NAMES`."""

    learning_rate: Float[np.ndarray, " losses"]
    predicted_gram: PairGram  # of each seed at the start, in closed form: [seeds]
    trajectories: Trajectory  # [losses, seeds, steps, 1] and [losses, seeds, steps + 1, 1]

    def of(self, name: str) -> Trajectory:
        """The trajectory of one loss, the seeds in place of a batch's pairs: [steps, seeds], [steps + 1, seeds]."""
        return jax.tree.map(lambda leaf: leaf[NAMES.index(name), ..., 0].T, self.trajectories)

    def cases(self, name: str) -> Int[np.ndarray, "steps seeds"]:
        """Place in `theory.CASES` by the signs of the measured slopes; "stationary" where the loss has let go."""
        trajectory = self.of(name)
        return np.asarray(theory.case_of_slopes(trajectory.chosen_slope, trajectory.rejected_slope))


@partial(jax.tree_util.register_dataclass, data_fields=["index"], meta_fields=[])
@dataclass(frozen=True)
class AnyLoss:
    """The loss at a place in `DEFAULTS`, chosen at run time: so all of them are one compiled program.

    Its derivatives are the closed-form weights: differentiating fifty branches would be compiled as well.
    """

    index: Float[Array, ""]

    def value(self, *inputs: Float[Array, " n"]) -> Float[Array, " n"]:
        """As `Loss.value`."""
        here = jax.lax.stop_gradient(inputs)
        value, d_chosen, d_rejected = _outcome(self.index, *here)
        return value - d_chosen * (inputs[0] - here[0]) + d_rejected * (inputs[1] - here[1])

    def weights(self, *inputs: Float[Array, " n"]) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
        """As `Loss.weights`."""
        _, d_chosen, d_rejected = _outcome(self.index, *inputs)
        return d_chosen, d_rejected


@jax.jit
def _outcome(index: Array, *inputs: Array) -> tuple[Array, Array, Array]:
    branches = [lambda *inputs, loss=loss: (loss.value(*inputs), *loss.weights(*inputs)) for loss in DEFAULTS]
    return jax.lax.switch(index.astype(int), branches, *inputs)


class Block(NamedTuple):
    """What stands in one half of a page: losses and headings, each at its height in rows from the top."""

    losses: list[str]
    heights: list[int]
    headings: dict[str, int]


def _block(headings: list[str]) -> Block:
    rows = [row for heading in headings for row in (heading, *GROUPS[heading])]
    at = {row: height for height, row in enumerate(rows)}
    losses = [row for row in rows if row not in GROUPS]
    return Block(losses, [at[name] for name in losses], {h.partition(":")[0]: at[h] for h in headings})


BLOCKS = (_block(list(GROUPS)[:3]), _block(list(GROUPS)[3:]))

ROWS = max(height for block in BLOCKS for height in block.heights) + 0.6


def in_order() -> tuple[str, ...]:
    """Every loss, group by group."""
    return tuple(name for group in GROUPS.values() for name in group)


@cache
def trained(quick: bool) -> LossRuns:
    """All runs; the first call takes about twenty seconds, most of them to compile."""
    model, params, pairs = _setting(QUICK_SEEDS if quick else SEEDS)
    gram = ensemble.each(theory.pair_gram, model, params, pairs)
    learning_rate, trajectory = _train_all(model, params, pairs)
    return jax.tree.map(np.asarray, LossRuns(learning_rate, gram, trajectory))


@partial(jax.jit, static_argnums=0, compiler_options=FEW_OPTIMISATIONS)
def _setting(seeds: int) -> tuple[LinearSoftmax, Array, PreferencePairs]:
    pair_key, length_key, model_key = jax.random.split(jax.random.key(SEED), 3)
    pairs = contrast_pairs(pair_key, seeds, vocab_size=VOCAB, length=LONGEST)
    lengths = jax.random.randint(length_key, (2, seeds, 1), SHORTEST, LONGEST + 1)
    chosen_mask, rejected_mask = jnp.arange(LONGEST) < lengths
    pairs = replace(pairs, chosen_mask=chosen_mask, rejected_mask=rejected_mask)
    return *ensemble.models(_random_features, jax.random.split(model_key, seeds), pairs, TEMPERATURE), pairs


def _random_features(key: Array, pair: PreferencePairs) -> LinearSoftmax:
    return linear.random_features(key, VOCAB, pair, dim=DIM, correlation=CORRELATION)


@partial(jax.jit, compiler_options=FEW_OPTIMISATIONS)
def _train_all(model: LinearSoftmax, params: Array, pairs: PreferencePairs) -> tuple[Array, Trajectory]:
    logps = ensemble.each(pair_logps, model, params, pairs)
    lengths = [mask.sum(axis=-1).astype(float) for mask in (pairs.chosen_mask, pairs.rejected_mask)]
    alone = jax.tree.map(lambda leaf: leaf[:, None], pairs)

    def one(index: Array) -> tuple[Array, Trajectory]:
        loss = AnyLoss(index)
        weights = jnp.stack(loss.weights(*logps, *logps, *lengths))
        rate = FIRST_STEP / jnp.linalg.norm(weights, axis=0).mean()
        run = train(model, params, alone, loss, optax.sgd, rate, steps=STEPS, over=("model", "params", "pairs"))
        assert run.trajectory is not None
        return rate, run.trajectory

    return jax.lax.map(one, jnp.arange(len(DEFAULTS), dtype=float))
