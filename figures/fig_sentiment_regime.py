"""Maps the change of the chosen over fine-tuning, learning rate and optimiser."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from figures import sentiment_runs, style
from figures.sentiment_runs import NAMES, QUICK, SETTINGS, over_seeds
from figures.sweeps import Swept
from toymodel.data.sentiment import TASKS
from toymodel.experiments.experiment import Row
from toymodel.experiments.sentiment import LEARNT, SentimentSetting, label_accuracy, prefer, reference_policy
from toymodel.models.logps import pair_logps
from toymodel.sweep import make_sweep

STAGES = (2, 3, 4, 8)  # eighths of fine-tuning
RATES = {"sgd": (1e-2, 3e-2, 1e-1, 3e-1), "adam": (1e-4, 3e-4, 1e-3, 3e-3)}
STEPS = 30
SEEDS, QUICK_SEEDS = range(100, 105), range(100, 102)
NAMES_OF = {"sgd": "SGD", "adam": "Adam"}
EDGE: dict[str, Any] = {"edgecolor": "white", "linewidth": 1.5}
CELLS: dict[str, dict[str, Any]] = {
    "rises": {"facecolor": "#BBD9EE", **EDGE},
    "falls": {"facecolor": "#F2C9AE", **EDGE, "hatch": "...."},
    "unclear": {"facecolor": "0.95", **EDGE},
    "untaught": {"facecolor": "white", "edgecolor": "0.8", "linewidth": 0, "hatch": "////"},
}
MEANINGS = {
    "rises": "chosen rises",
    "falls": "chosen falls",
    "unclear": "interval includes 0",
    "untaught": "label not learnt",
}
KEY = {sign: Patch(**CELLS[sign], label=words) for sign, words in MEANINGS.items()}


def measure(setting: SentimentSetting, tuned: Row) -> Row:
    """Change of both log-probabilities (nats, mean over evaluation pairs) from each stage of fine-tuning, by each rate.

    Columns: `sgd_chosen_change` and its like [stages, rates], `label_accuracy` [stages].
    """
    starts = [reference_policy(setting, tuned, stage) for stage in STAGES]
    params = jnp.stack([start.params for start in starts])
    row = {"label_accuracy": jax.lax.map(lambda start: label_accuracy(starts[0]._replace(params=start)), params)}
    for optimizer, rates in RATES.items():

        def change(start: Array, rate: Any, optimizer: str = optimizer) -> tuple[Array, Array]:
            """Mean change of (log π_w, log π_l) of the evaluation pairs."""
            dpo = replace(setting, optimizer=optimizer, learning_rate=rate, steps=STEPS, checkpoint_every=STEPS)
            reference = starts[0]._replace(params=start)
            states = (reference.to_measure(params) for params in (start, prefer(dpo, reference).params))
            before, after = (pair_logps(reference.network, params, reference.evaluation) for params in states)
            return after[0].mean() - before[0].mean(), after[1].mean() - before[1].mean()

        of_rates = jax.vmap(change, in_axes=(None, 0))
        found = jax.lax.map(lambda start, of=of_rates, rates=rates: of(start, jnp.array(rates)), params)
        row[f"{optimizer}_chosen_change"], row[f"{optimizer}_rejected_change"] = found
    return row


# A setting is one task and one seed. Both optimisers go on from one fine-tuning.
# One process takes all seeds of a task, whose program takes longer to compile than to run.
EXPERIMENT = sentiment_runs.experiment("sentiment_regime", measure, block=1, shard=len(SEEDS))


def compute(quick: bool, swept: Swept) -> style.Table:
    seeds, settings = (QUICK_SEEDS, SETTINGS | QUICK) if quick else (SEEDS, SETTINGS)
    runs = swept(make_sweep(EXPERIMENT, settings | {"task": TASKS, "seed": seeds}))
    stages = np.array(STAGES) * (int(settings["supervised_steps"]) // STAGES[-1])
    maps = ((optimizer, task) for optimizer in RATES for task in TASKS)
    return style.stacked(*(_map(*place, style.rows(runs, task=place[1]), stages) for place in maps))


def _map(optimizer: str, task: str, runs: style.Table, stages: np.ndarray) -> style.Table:
    """Cells of one map, over its seeds."""
    stage, rate = np.meshgrid(stages, RATES[optimizer], indexing="ij")
    accuracy = np.broadcast_to(runs["label_accuracy"].mean(axis=0)[:, None], stage.shape)
    table = {"optimizer": np.full(stage.shape, optimizer), "task": np.full(stage.shape, task)}
    table |= {"fine_tuning_steps": stage, "learning_rate": rate, "label_accuracy": accuracy}
    for side in ("chosen", "rejected"):
        table |= over_seeds(side, runs[f"{optimizer}_{side}_change"])
    low, high = table["chosen_low"], table["chosen_high"]
    table["sign"] = np.select([accuracy < LEARNT, low > 0, high < 0], ["untaught", "rises", "falls"], "unclear")
    return {name: column.ravel() for name, column in table.items()}


def draw(table: style.Table) -> Figure:
    figure = Figure(figsize=(style.PAGE, 4.0))
    axes = figure.subplots(len(RATES), len(TASKS), sharex="col", sharey="row")
    for row, optimizer in zip(axes, RATES, strict=True):
        for ax, task in zip(row, TASKS, strict=True):
            _cells(ax, style.rows(table, optimizer=optimizer, task=task))
        row[0].set_ylabel(f"learning rate of {NAMES_OF[optimizer]}")
    for ax, task in zip(axes[0], TASKS, strict=True):
        ax.set_title(NAMES[task])
    axes[-1][1].set_xlabel("steps of fine-tuning; below them, right labels of the reference")
    figure.legend(handles=list(KEY.values()), loc="outside upper center", ncols=len(KEY))
    return figure


def _cells(ax: Axes, part: style.Table) -> None:
    stages, rates = (list(dict.fromkeys(part[name].tolist())) for name in ("fine_tuning_steps", "learning_rate"))
    for stage, rate, sign, change in zip(
        *(part[name].tolist() for name in ("fine_tuning_steps", "learning_rate", "sign", "chosen_measured")),
        strict=True,
    ):
        x, y = stages.index(stage), rates.index(rate)
        ax.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, **CELLS[sign]))
        ink = style.GREY if sign in ("unclear", "untaught") else style.BLACK
        label = f"{change:+z.2f}"
        ax.text(x, y, label.replace("-", "−"), ha="center", va="center", fontsize=7, color=ink)
    accuracy = [style.rows(part, fine_tuning_steps=stage)["label_accuracy"][0] for stage in stages]
    ax.set_xticks(range(len(stages)), [f"{s}\n{a:.0%}" for s, a in zip(stages, accuracy, strict=True)])
    ax.set_yticks(range(len(rates)), [f"{rate:g}" for rate in rates])
    ax.set(xlim=(-0.5, len(stages) - 0.5), ylim=(-0.5, len(rates) - 0.5))
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
