"""Every loss trained on the same pairs, from the same models, with the same first step: one sweep, for three figures.

A seed is a pair (a contrast token, then a random suffix that both responses share up to the length that each has), a
linear softmax model with random features (hidden states after chosen and after rejected at cosine 0.95) and its
initial parameters. Each pair is trained alone, by gradient descent from the reference. A loss's learning rate makes
η · ‖(d_w, d_l)‖, averaged over the seeds, equal to `FIRST_STEP` at step 0: losses then differ in where they go and in
how their weights change, not in their scale.
"""

from dataclasses import replace
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from figures import style
from figures.sweeps import Swept
from toymodel import PairGram, PreferencePairs, cosine, theory
from toymodel.data.families import contrast_pairs
from toymodel.experiments.experiment import POSITIVE, Experiment, one_of, real, setting, whole
from toymodel.losses import LOSSES, Loss
from toymodel.models import linear
from toymodel.models.linear import LinearSoftmax
from toymodel.models.logps import pair_logps, response_logp
from toymodel.sweep import make_sweep

VOCAB, DIM, CORRELATION, TEMPERATURE = 7, 4, 0.95, 0.5
SHORTEST, LONGEST = 4, 14  # tokens in a response
FIRST_STEP = 0.05
STEPS = 200
STATES = np.array([*range(8), *range(8, STEPS + 1, 8)])  # that are recorded
SEEDS, QUICK_SEEDS = 32, 8
SEED = 0
SEEN = ("chosen_logp", "rejected_logp", "chosen_length", "rejected_length")


@setting
class StartSetting:
    """A seed."""

    seed: int = whole(0, low=0)


@setting
class RunSetting(StartSetting):
    """A loss with its default hyperparameters, and a seed."""

    loss: str = one_of(LOSSES, None)
    learning_rate: float = real(None, POSITIVE)


class _State(NamedTuple):
    """A model in training, and its outputs on its one pair: for the chosen response, then for the rejected one."""

    params: Float[Array, "V d"]
    logps: Float[Array, " 2"]
    gradients: Float[Array, "2 V d"]


def at_the_start(setting: StartSetting) -> dict[str, Array]:
    """The inputs of every loss for one seed, with the model itself as reference, and the closed-form Gram entries."""
    model, params, pairs = _drawn(setting.seed)
    seen = dict(zip(SEEN, (*pair_logps(model, params, pairs), *_lengths(pairs)), strict=True))
    return {name: column[0] for name, column in (seen | theory.pair_gram(model, params, pairs)._asdict()).items()}


def one_run(setting: RunSetting) -> dict[str, Array]:
    """One loss on one pair, at `STATES`: the result of `_record`.

    A loss only gives its weights. So the loop is not compiled: its steps are compiled once for all losses, and the
    weights of a loss are a small separate program.
    """
    loss, (model, params, pairs) = LOSSES[setting.loss](), _drawn(setting.seed)
    state = _look(model, params, pairs)
    references, lengths = state.logps, jnp.concatenate(_lengths(pairs))
    states, weights = [state], []
    for _ in range(STEPS):
        weights.append(_weights(loss, state.logps, references, lengths))
        state = _descend(model, pairs, state, weights[-1], setting.learning_rate)
        states.append(state)
    taken = np.minimum(STATES, STEPS - 1)
    return _record([s.logps for s in states], [states[n].gradients for n in taken], [weights[n] for n in taken])


@jax.jit
def _look(model: LinearSoftmax, params: Array, pairs: PreferencePairs) -> _State:
    both = jax.tree.map(lambda *sides: jnp.concatenate(sides), pairs.chosen_response, pairs.rejected_response)
    differentiated = jax.value_and_grad(response_logp, argnums=1)
    return _State(params, *jax.vmap(partial(differentiated, model, params))(both))


@jax.jit
def _weights(loss: Loss, logps: Array, references: Array, lengths: Array) -> Array:
    return jnp.stack(loss.weights(*logps, *references, *lengths))


@jax.jit
def _descend(model: LinearSoftmax, pairs: PreferencePairs, state: _State, weights: Array, rate: float) -> _State:
    return _look(model, state.params + rate * _step(weights, state.gradients), pairs)


def _step(weights: Float[Array, "*n 2"], gradients: Float[Array, "*n 2 V d"]) -> Float[Array, "*n V d"]:
    """d_w ∇log π_w − d_l ∇log π_l."""
    chosen, rejected = jnp.moveaxis(weights[..., None, None] * gradients, -3, 0)
    return chosen - rejected


@jax.jit
def _record(logps: list[Array], gradients: list[Array], weights: list[Array]) -> dict[str, Array]:
    """At `STATES`: log-probabilities and the largest change in a step until then, from those at all states.

    Also inner products, weights and slopes of the steps that start there (at the last state, of the step that led
    there), from gradients and weights at the start of those steps.
    """
    every, gradient, d = jnp.stack(logps), jnp.stack(gradients), jnp.stack(weights)
    changes = abs(jnp.diff(every, axis=0)).max(axis=1)
    chosen, rejected = jnp.moveaxis(gradient, 1, 0)
    products = partial(jnp.einsum, "nvd,nvd->n")
    gram = PairGram(products(chosen, chosen), products(rejected, rejected), products(chosen, rejected))
    step = _step(d, gradient)
    return {
        "chosen_logps": every[STATES, 0],
        "rejected_logps": every[STATES, 1],
        "largest_change": jnp.pad(jax.lax.cummax(changes), (1, 0))[STATES],
        "chosen_sq": gram.chosen_sq,
        "rejected_sq": gram.rejected_sq,
        "cosine": cosine(gram),
        "d_chosen": d[:, 0],
        "d_rejected": d[:, 1],
        "chosen_slope": products(chosen, step),
        "rejected_slope": products(rejected, step),
    }


@jax.jit
def _drawn(seed: int | Array) -> tuple[LinearSoftmax, Array, PreferencePairs]:
    """A model, its initial parameters, and the one pair that it is trained on."""
    pair_key, length_key, frozen, learned = jax.random.split(jax.random.fold_in(jax.random.key(SEED), seed), 4)
    pairs = contrast_pairs(pair_key, 1, vocab_size=VOCAB, length=LONGEST)
    lengths = jax.random.randint(length_key, (2, 1, 1), SHORTEST, LONGEST + 1)
    chosen_mask, rejected_mask = jnp.arange(LONGEST) < lengths
    pairs = replace(pairs, chosen_mask=chosen_mask, rejected_mask=rejected_mask)
    model = linear.random_features(frozen, VOCAB, pairs, dim=DIM, correlation=CORRELATION)
    return model, linear.init_params(learned, model, temperature=TEMPERATURE), pairs


def _lengths(pairs: PreferencePairs) -> tuple[Array, ...]:
    return tuple(mask.sum(axis=-1).astype(float) for mask in (pairs.chosen_mask, pairs.rejected_mask))


LOSS_STARTS = Experiment("loss_starts", StartSetting, at_the_start)
LOSS_RUNS = Experiment("loss_runs", RunSetting, one_run, whole=False, block=32)


def starts(quick: bool, swept: Swept) -> style.Table:
    """A row per seed, in order."""
    return swept(make_sweep(LOSS_STARTS, {"seed": range(QUICK_SEEDS if quick else SEEDS)}))


def trained(quick: bool, swept: Swept) -> style.Table:
    """A row per loss and seed, the seeds of a loss in order, as in `starts`."""
    start = starts(quick, swept)
    logps, lengths = (jnp.stack([start[name] for name in names]) for names in (SEEN[:2], SEEN[2:]))
    rates = [FIRST_STEP / np.hypot(*_weights(LOSSES[name](), logps, logps, lengths)).mean() for name in LOSSES]
    losses = {"zip": {"loss": list(LOSSES), "learning_rate": rates}}
    return swept(make_sweep(LOSS_RUNS, losses | {"seed": start["seed"]}))


def cases(runs: style.Table) -> Int[np.ndarray, "rows states"]:
    """Index in `theory.CASES` by the signs of the measured slopes; "stationary" if both weights are zero."""
    slopes = (jnp.asarray(runs[f"{side}_slope"]) for side in ("chosen", "rejected"))
    return np.asarray(theory.case_of_slopes(*slopes))
