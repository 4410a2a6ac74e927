"""Every loss trained on the same pairs, from the same models, with the same first step: one sweep, for three figures.

A seed is a pair (a contrast token, then a random suffix that both responses share up to the length that each has), a
linear softmax model with random features (hidden states after chosen and after rejected at cosine 0.95) and its
initial parameters. Each pair is trained alone, by gradient descent from the reference. A loss's learning rate makes
η · ‖(d_w, d_l)‖, averaged over the seeds, equal to `FIRST_STEP` at step 0: losses then differ in where they go and in
how their weights change, not in their scale.
"""

from dataclasses import replace
from types import SimpleNamespace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Int

from figures import style
from figures.sweeps import Swept
from toymodel import PreferencePairs, theory
from toymodel.data.families import contrast_pairs
from toymodel.experiments import any_loss
from toymodel.losses import LOSSES
from toymodel.models import linear
from toymodel.models.linear import LinearSoftmax
from toymodel.models.logps import pair_logps
from toymodel.sweep import POSITIVE, Experiment, make_sweep, real, whole
from toymodel.training import train

VOCAB, DIM, CORRELATION, TEMPERATURE = 7, 4, 0.95, 0.5
SHORTEST, LONGEST = 4, 14  # tokens in a response
FIRST_STEP = 0.05
STEPS = 200
STATES = np.array([*range(8), *range(8, STEPS + 1, 8)])  # that are recorded
SEEDS, QUICK_SEEDS = 32, 8
SEED = 0
SEEN = ("chosen_logp", "rejected_logp", "chosen_length", "rejected_length")

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


def at_the_start(setting: SimpleNamespace) -> dict[str, Array]:
    """Of one seed: what every loss sees, the reference being the model itself, and the Gram entries in closed form."""
    model, params, pairs = _drawn(setting.seed)
    lengths = (mask.sum(axis=-1).astype(float) for mask in (pairs.chosen_mask, pairs.rejected_mask))
    seen = dict(zip(SEEN, (*pair_logps(model, params, pairs), *lengths), strict=True))
    return {name: column[0] for name, column in (seen | theory.pair_gram(model, params, pairs)._asdict()).items()}


def one_run(setting: SimpleNamespace) -> dict[str, Array]:
    """One loss on one pair, at `STATES`: columns of a `Trajectory`, and the largest change in a step until then.

    What belongs to steps is of the step that starts at a state; at the last state, of the step that led there.
    """
    model, params, pairs = _drawn(setting.seed)
    run = train(model, params, pairs, any_loss.AnyLoss.of(setting), optax.sgd, setting.learning_rate, steps=STEPS)
    trajectory = run.trajectory
    assert trajectory is not None
    changes = jnp.maximum(abs(trajectory.chosen_change), abs(trajectory.rejected_change))
    of_states = {
        "chosen_logps": trajectory.chosen_logps,
        "rejected_logps": trajectory.rejected_logps,
        "largest_change": jnp.pad(jax.lax.cummax(changes), ((1, 0), (0, 0))),
    }
    names = ("chosen_sq", "rejected_sq", "cosine", "d_chosen", "d_rejected", "chosen_slope", "rejected_slope")
    of_steps = {name: getattr(trajectory, name) for name in names}
    return {
        **{name: column[STATES, 0] for name, column in of_states.items()},
        **{name: column[np.minimum(STATES, STEPS - 1), 0] for name, column in of_steps.items()},
    }


def _drawn(seed: Array) -> tuple[LinearSoftmax, Array, PreferencePairs]:
    """A model, its initial parameters, and the one pair that it is trained on."""
    pair_key, length_key, frozen, learned = jax.random.split(jax.random.fold_in(jax.random.key(SEED), seed), 4)
    pairs = contrast_pairs(pair_key, 1, vocab_size=VOCAB, length=LONGEST)
    lengths = jax.random.randint(length_key, (2, 1, 1), SHORTEST, LONGEST + 1)
    chosen_mask, rejected_mask = jnp.arange(LONGEST) < lengths
    pairs = replace(pairs, chosen_mask=chosen_mask, rejected_mask=rejected_mask)
    model = linear.random_features(frozen, VOCAB, pairs, dim=DIM, correlation=CORRELATION)
    return model, linear.init_params(learned, model, temperature=TEMPERATURE), pairs


LOSS_STARTS = Experiment("loss_starts", {"seed": whole(0, low=0)}, at_the_start)
LOSS_RUNS = Experiment(
    "loss_runs",
    {**any_loss.FIELDS, "learning_rate": real(None, POSITIVE), "seed": whole(0, low=0)},
    one_run,
    any_loss.RULES,
    complete=any_loss.with_defaults,
    block=8,
)


def starts(quick: bool, swept: Swept) -> style.Table:
    """A row per seed, in order."""
    return swept(make_sweep(LOSS_STARTS, {"seed": range(QUICK_SEEDS if quick else SEEDS)}))


def trained(quick: bool, swept: Swept) -> style.Table:
    """A row per loss and seed, the seeds of a loss in order, as in `starts`."""
    start = starts(quick, swept)
    rates = [FIRST_STEP / np.hypot(*LOSSES[name]().weights(*inputs(start))).mean() for name in LOSSES]
    losses = {"zip": {"loss": list(LOSSES), "learning_rate": rates}}
    return swept(make_sweep(LOSS_RUNS, losses | {"seed": start["seed"]}))


def inputs(start: style.Table) -> tuple[Array, ...]:
    """What a loss takes, of the pairs in `starts`."""
    chosen, rejected, *lengths = (jnp.asarray(start[name]) for name in SEEN)
    return chosen, rejected, chosen, rejected, *lengths


def cases(runs: style.Table) -> Int[np.ndarray, "rows states"]:
    """Place in `theory.CASES` by the signs of the measured slopes; "stationary" where the loss has let go."""
    slopes = (jnp.asarray(runs[f"{side}_slope"]) for side in ("chosen", "rejected"))
    return np.asarray(theory.case_of_slopes(*slopes))
