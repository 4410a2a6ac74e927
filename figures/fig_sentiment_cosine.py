"""Follows the cosine of the two gradients, and the share of pairs whose own step lowers both, in both trainings."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from figures import sentiment_runs, style
from figures.sentiment_runs import LOOKS, NAMES, QUICK, QUICK_SEEDS, SEEDS, SETTINGS
from figures.sweeps import Swept
from toymodel import theory
from toymodel.data.sentiment import TASKS
from toymodel.experiments.experiment import Row
from toymodel.experiments.sentiment import STAGES, SentimentSetting, fine_tune, label_accuracy, reference_policy
from toymodel.gradients import pair_gram
from toymodel.models.logps import Params
from toymodel.sweep import make_sweep

PAPER = "Fig. 4a"

EARLY = 40  # steps of fine-tuning that are followed closely
LINEAR, TICKS = 10, (0, 10, 100, 1000)  # steps of fine-tuning: the axis is linear up to 10, and logarithmic beyond
PANELS = {"cosine": "cosine of $g_w$ and $g_l$", "both_down": "pairs whose own step\nlowers both"}
HEIGHT = {"cosine": (-1.1, 1), "both_down": (-0.01, 0.2)}
BOTH_DOWN = theory.CASES.index("both_down")
FORMULA = style.Look(style.BLACK, "", ":")


def measure(setting: SentimentSetting, tuned: Row) -> Row:
    """Gram entries of the evaluation pairs along fine-tuning, and T4's cosine of the label alone: all [states, n].

    Fine-tuning is repeated up to `EARLY` steps, with the same minibatches, to see its first states.
    """
    reference = reference_policy(setting, tuned)
    network, pairs = reference.network, reference.evaluation
    early = fine_tune(replace(setting, supervised_steps=EARLY))["params"]

    def at(params: Params) -> Row:
        logits = jax.vmap(network.logits, in_axes=(None, 0))(params, pairs.chosen_response)[:, 0]
        label = jax.vmap(theory.single_token_gram)(jax.nn.softmax(logits), pairs.chosen[:, 0], pairs.rejected[:, 0])
        return pair_gram(network, params, pairs)._asdict() | {"label_cosine": theory.cosine(label)}

    states = jnp.concatenate([early, tuned["params"][1:].astype(early.dtype)])
    return {"label_accuracy": label_accuracy(reference)} | jax.lax.map(at, reference.to_measure(states))


EXPERIMENT = sentiment_runs.experiment("cosine_in_fine_tuning", measure, block=4)


def compute(quick: bool, swept: Swept) -> style.Table:
    """A row for each run, task and state."""
    seeds, settings = (QUICK_SEEDS, SETTINGS | QUICK) if quick else (SEEDS, SETTINGS)
    tuning = swept(make_sweep(EXPERIMENT, settings | {"task": TASKS, "seed": seeds}))
    steps = np.arange(1, STAGES + 1)
    tuning_steps = np.concatenate(
        [[0], steps * (EARLY // STAGES), steps * (int(settings["supervised_steps"]) // STAGES)]
    )
    preference, preference_steps = sentiment_runs.runs(quick, swept), sentiment_runs.states(quick)
    return style.stacked(
        *(
            _rows(run, task, sentiment_runs.taught(style.rows(found, task=task), task), steps)
            for run, found, steps in (("fine-tuning", tuning, tuning_steps), ("DPO", preference, preference_steps))
            for task in TASKS
        )
    )


def _rows(run: str, task: str, found: style.Table, steps: np.ndarray) -> style.Table:
    """A row for each state of one task, over its seeds: means over evaluation pairs, each alone with d_w = d_l."""
    table = {"run": np.full(len(steps), run), "task": np.full(len(steps), task)}
    table |= {"seeds": np.full(len(steps), len(found["seed"])), "step": steps}
    gram = theory.PairGram(*(jnp.asarray(found[name]) for name in theory.PairGram._fields))
    of_pairs = {
        "cosine": np.asarray(theory.cosine(gram)),
        "both_down": np.asarray(theory.case_index(gram)) == BOTH_DOWN,
    }
    for name, values in of_pairs.items():
        table |= sentiment_runs.over_seeds(name, values.mean(axis=-1))
    known = task == "single_token" and "label_cosine" in found
    predicted = found["label_cosine"].mean(axis=(0, -1)) if known else np.full(len(steps), np.nan)
    return table | {"cosine_predicted": predicted}


def draw(table: style.Table) -> Figure:
    figure = Figure(figsize=(style.PAGE, 3.6))
    runs = dict.fromkeys(table["run"].tolist())
    axes = figure.subplots(len(PANELS), len(runs), sharex="col", sharey="row")
    for column, run in zip(axes.T, runs, strict=True):
        for ax, name in zip(column, PANELS, strict=True):
            for task, look in LOOKS.items():
                part = style.rows(table, run=run, task=task)
                style.measured(ax, part["step"], part, name, look)
                if name == "cosine":
                    ax.plot(part["step"], part["cosine_predicted"], FORMULA.line, color=FORMULA.colour, zorder=3)
            style.zero_line(ax)
            ax.set_ylim(*HEIGHT[name])
        column[-1].set_xlabel(f"step of {run}")
    for ax, title in zip(axes[:, 0], PANELS.values(), strict=True):
        ax.set_ylabel(title)
    axes[0][0].set_xscale("symlog", linthresh=LINEAR)
    axes[0][0].set_xticks(TICKS, map(str, TICKS))
    axes[0][0].set_xlim(-LINEAR / 10, TICKS[-1] * 1.2)
    axes[0][0].minorticks_off()
    looks = {NAMES[task]: look for task, look in LOOKS.items()} | {"label alone (T4)": FORMULA}
    style.legend(figure, looks, ncols=len(looks))
    return figure
