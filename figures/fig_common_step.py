"""Counts how often one step separates all pairs of a batch, and how many pairs the usual steps separate."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from matplotlib.figure import Figure
from scipy.stats import binom

from figures import style
from figures.intervals import mean_interval, wilson
from figures.sweeps import Swept
from toymodel import PreferencePairs, gradients, theory
from toymodel.data.families import contrast_pairs
from toymodel.experiments.experiment import setting, whole
from toymodel.models import linear
from toymodel.sweep import Experiment, make_sweep

VOCAB, LENGTH, CORRELATION = 7, 8, 0.95
DIMS, QUICK_DIMS = (2, 4, 8), (2, 4)
PAIRS, QUICK_PAIRS = 48, 24
SEEDS, QUICK_SEEDS = range(60), range(12)
STEPS = ("plain", "normalised")
SHOWN = 4  # the dimension in the lower panel

LOOKS = {
    2: style.Look(style.ORANGE, "o", ":"),
    4: style.Look(style.BLUE, "s", "-"),
    8: style.Look(style.RED, "^", "--"),
}
STEP_LOOKS = {
    "plain": ("mean step", style.Look(style.GREY, "o", ":")),
    "normalised": ("normalised pairs", style.Look(style.PURPLE, "D", "--")),
}


@setting
class CommonStepSetting:
    """Random pairs in a random linear model."""

    dim: int = whole(None, low=2, compiled=True)
    pairs: int = whole(None, low=1, high=VOCAB**2, compiled=True)
    seed: int = whole(None, low=0)


def sizes(pairs: int) -> list[int]:
    """Sizes of batches: 1, 2, 3, 4, 6, 8, 12 and so on."""
    return sorted({size for power in range(pairs) for size in (2**power, 3 * 2**power) if size <= pairs})


def parameters(dim: int) -> int:
    """How many parameters matter: a residual's entries add up to zero, so the others determine one of the V rows."""
    return (VOCAB - 1) * dim


def measure(setting: CommonStepSetting) -> dict[str, Array]:
    """Whether a common step exists, and the share of pairs that each of `STEPS` separates, by `sizes` of batches."""
    key = jax.random.fold_in(jax.random.key(setting.dim), setting.seed)
    of_pairs, of_model, of_params = jax.random.split(key, 3)
    n = setting.pairs
    pairs = contrast_pairs(of_pairs, n, vocab_size=VOCAB, length=LENGTH, prompt_length=2)
    own = jnp.stack([jnp.arange(n) // VOCAB, jnp.arange(n) % VOCAB], axis=1)  # prompts, so that no context is shared
    pairs = PreferencePairs(
        own, pairs.prompt_mask, pairs.chosen, pairs.chosen_mask, pairs.rejected, pairs.rejected_mask
    )
    model = linear.random_features(of_model, VOCAB, pairs, dim=setting.dim, correlation=CORRELATION)
    params = linear.init_params(of_params, model)
    gram = gradients.group_gram(model, params, theory.as_group(pairs)[0])
    return jax.lax.map(lambda size: of_batch(gram, size), jnp.array(sizes(n)))


def of_batch(gram: Float[Array, "n n"], size: Array | int) -> dict[str, Array]:
    """The results of `measure` for the first pairs: answers of other pairs have no weight in their steps."""
    n = len(gram) // 2
    inside = jnp.arange(n) < size
    signs = jnp.concatenate([inside, -1.0 * inside])
    norms = jnp.sqrt(jnp.diagonal(gram))
    steps = {"plain": signs, "normalised": signs * jnp.sqrt(jnp.roll(norms, n) / norms)}
    right = {name: (signs * (gram @ step) > 0).reshape(2, n).all(axis=0).sum() / size for name, step in steps.items()}
    return {"exists": ~theory.cancels(gram, signs * theory.common_weights(gram, signs)), **right}


EXPERIMENT = Experiment("common_step", CommonStepSetting, measure, block=12)


def compute(quick: bool, swept: Swept) -> style.Table:
    dims, pairs, seeds = (QUICK_DIMS, QUICK_PAIRS, QUICK_SEEDS) if quick else (DIMS, PAIRS, SEEDS)
    found = swept(make_sweep(EXPERIMENT, {"dim": dims, "pairs": pairs, "seed": seeds}))
    return style.stacked(*(_rows(dim, sizes(pairs), style.rows(found, dim=dim)) for dim in dims))


def _rows(dim: int, batch_sizes: list[int], found: style.Table) -> style.Table:
    """One row for each size of batch."""
    B, draws = np.array(batch_sizes), len(found["seed"])
    exists = found["exists"].mean(axis=0)
    low, high = wilson(exists, draws)
    table = {
        "dim": np.full(B.shape, dim),
        "parameters": np.full(B.shape, parameters(dim)),
        "batch_size": B,
        "draws": np.full(B.shape, draws),
        "exists_predicted": share_of_random_directions(2 * B, parameters(dim)),
        "exists_measured": exists,
        "exists_low": low,
        "exists_high": high,
    }
    for step in STEPS:
        columns = mean_interval(found[step].T)
        table |= {f"{step}_{name}": column for name, column in zip(("measured", "low", "high"), columns, strict=True)}
    return table


def share_of_random_directions(gradients: np.ndarray | int, dimensions: int) -> np.ndarray | float:
    """How often some direction agrees with all of them: Wendel's formula (Math. Scand., 1962)."""
    return binom.cdf(dimensions - 1, gradients - 1, 0.5)


def draw(table: style.Table) -> Figure:
    figure = Figure(figsize=(style.COLUMN, 4.0))
    upper, lower = figure.subplots(2, 1, sharex=True)
    shown = {dim: look for dim, look in LOOKS.items() if dim in table["dim"]}
    for dim, look in shown.items():
        part = style.rows(table, dim=dim)
        upper.plot(part["batch_size"], part["exists_predicted"], look.line, color=style.GREY, linewidth=0.7, zorder=0)
        style.measured(upper, part["batch_size"], part, "exists", look)
    upper.set(ylabel="a common step exists\n(share of batches)")
    names = {f"{parameters(dim)} parameters": look for dim, look in shown.items()}
    upper.legend(handles=style.entries(names))
    part = style.rows(table, dim=SHOWN)
    for step, (_, look) in STEP_LOOKS.items():
        style.measured(lower, part["batch_size"], part, step, look)
    lower.legend(handles=style.entries(dict(STEP_LOOKS.values())))
    lower.set(ylim=(0, 1.05), ylabel=f"pairs separated\n(share, {parameters(SHOWN)} parameters)")
    lower.set_xscale("log", base=2)
    ticks = [size for size in part["batch_size"].tolist() if size & (size - 1) == 0]
    lower.set_xticks(ticks, map(str, ticks))
    lower.set_xlabel("pairs in the batch")
    return figure
