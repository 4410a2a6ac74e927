"""Compares one step of a network with its first-order prediction, over learning rates."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures import sentiment_runs, style
from figures.sentiment_runs import QUICK, SETTINGS
from figures.sweeps import Swept
from toymodel import gradients, theory
from toymodel.experiments.experiment import Row
from toymodel.experiments.sentiment import STAGES, SentimentSetting, label_accuracy, learnt, reference_policy
from toymodel.models.logps import Params
from toymodel.sweep import make_sweep

TASK = "long_suffix"
PAIRS = 32  # evaluation pairs of a seed, at most
SEEDS, QUICK_SEEDS = range(100, 104), range(100, 103)
RATES = {"SGD": np.geomspace(1e-6, 1, 13), "Adam": np.geomspace(1e-7, 1e-1, 13)}  # factors of √10
OPTIMIZERS = {"SGD": optax.sgd, "Adam": optax.adam}
STATES = ("random", "fine-tuned")  # the network before its fine-tuning, and after it
LOOKS = {"random": style.Look(style.GREY, "o", "--"), "fine-tuned": style.Look(style.BLUE, "s", "-")}
NAMES = {
    "SGD": "a step of SGD",
    "Adam": "Adam's first step",
    "random": "at its random start",
    "fine-tuned": "fine-tuned",
}
PREDICTED = ("rises", "falls", "either")
FEWEST = 5  # pairs of whose sign a share is told


def measure(setting: SentimentSetting, tuned: Row) -> Row:
    """Slopes (nats per unit of learning rate) and true changes (nats) of each pair when it takes a step alone.

    Columns: `SGD_chosen_slope` and its like [states, pairs], `SGD_chosen_change` [states, rates, pairs].
    """
    reference = reference_policy(setting, tuned)
    model, pairs = reference.network, reference.evaluation[:PAIRS]

    def at(params: Params) -> Row:
        plain, adam = gradients.pair_gram(model, params, pairs), gradients.first_adam_gram(model, params, pairs)
        grams = {"SGD": plain, "Adam": adam}
        row: Row = {}
        for name, optimizer in OPTIMIZERS.items():
            slopes = theory.slopes(grams[name])
            changes = jax.vmap(
                lambda rate, optimizer=optimizer: gradients.step_change(model, params, pairs, optimizer(rate))
            )(jnp.asarray(RATES[name]))
            for side, slope, change in zip(("chosen", "rejected"), slopes, changes, strict=True):
                row |= {f"{name}_{side}_slope": slope, f"{name}_{side}_change": change}
        return row

    states = reference.to_measure(tuned["params"][np.array([0, STAGES])])
    return {"label_accuracy": label_accuracy(reference)} | jax.lax.map(at, states)


EXPERIMENT = sentiment_runs.experiment("network_step", measure, block=1)


def compute(quick: bool, swept: Swept) -> style.Table:
    seeds, settings = (QUICK_SEEDS, SETTINGS | QUICK) if quick else (SEEDS, SETTINGS)
    runs = swept(make_sweep(EXPERIMENT, settings | {"task": TASK, "seed": seeds}))
    kept = learnt(runs, TASK, fewest=1)
    runs = {name: column[kept] for name, column in runs.items()}
    curves = ((name, state, way) for name in RATES for state in STATES for way in PREDICTED)
    return style.stacked(*(_curve(*curve, runs) for curve in curves))


def _curve(name: str, state: str, predicted: str, runs: style.Table) -> style.Table:
    """Errors and signs over the pairs of all seeds that are predicted to go this way; no rows where they are few."""
    place, rates = STATES.index(state), RATES[name]
    slopes = runs[f"{name}_chosen_slope"][:, place].ravel()
    changes = np.moveaxis(runs[f"{name}_chosen_change"][:, place], 1, 0).reshape(len(rates), -1)
    members = {"rises": slopes > 0, "falls": slopes < 0, "either": slopes != 0}[predicted]
    first_order, true = rates[:, None] * slopes[members], changes[:, members]
    shown = slice(None) if members.sum() >= FEWEST else slice(0)
    quartiles = (25, 50, 75)
    error = (
        np.percentile(abs(true / first_order - 1), quartiles, axis=-1) if members.any() else np.ones((3, len(rates)))
    )
    table = {
        "optimizer": np.full(len(rates), name),
        "state": np.full(len(rates), state),
        "predicted": np.full(len(rates), predicted),
        "pairs": np.full(len(rates), members.sum()),
        "learning_rate": rates,
        "error_lower_quartile": error[0],
        "error_measured": error[1],
        "error_upper_quartile": error[2],
        "error_predicted": error[1, 0] * rates / rates[0],
        "right_measured": (np.sign(true) == np.sign(first_order)).sum(axis=-1) / max(members.sum(), 1),
    }
    return {column: values[shown] for column, values in table.items()}


def draw(table: style.Table) -> Figure:
    figure = Figure(figsize=(style.PAGE, 3.6))
    axes = figure.subplots(2, len(RATES), sharex="col", sharey="row")
    for column, name in zip(axes.T, RATES, strict=True):
        part = style.rows(table, optimizer=name)
        _errors(column[0], style.rows(part, predicted="either"))
        _signs(column[1], part)
        column[0].set_title(NAMES[name])
        column[1].set_xlabel("learning rate η")
    axes[1][0].text(RATES["SGD"][0], 0.0, "hollow: predicted to rise\nfilled: predicted to fall", fontsize=7)
    axes[0][0].set_ylabel("relative error\nof η · slope")
    axes[1][0].set_ylabel("share of pairs with\nthe predicted sign")
    style.legend(figure, {f"network {NAMES[state]}": look for state, look in LOOKS.items()}, ncols=len(LOOKS))
    return figure


def _errors(ax: Axes, part: style.Table) -> None:
    for state, look in LOOKS.items():
        one = style.rows(part, state=state)
        x = one["learning_rate"]
        ax.plot(x, one["error_predicted"], ":", color=look.colour, linewidth=0.8)
        style.intervals(ax, x, one["error_lower_quartile"], one["error_upper_quartile"], look)
        ax.plot(x, one["error_measured"], look.marker, color=look.colour, markerfacecolor="white")
    ax.axhline(1, color=style.GREY, linewidth=0.5, zorder=0)
    ax.set(xscale="log", yscale="log")
    ax.minorticks_off()


def _signs(ax: Axes, part: style.Table) -> None:
    """Filled markers: pairs that are predicted to fall."""
    for state, look in LOOKS.items():
        for predicted, face in (("rises", "white"), ("falls", look.colour)):
            one = style.rows(part, state=state, predicted=predicted)
            ax.plot(
                one["learning_rate"],
                one["right_measured"],
                look.line,
                marker=look.marker,
                color=look.colour,
                markerfacecolor=face,
            )
    ax.set(ylim=(-0.05, 1.05))
    ax.minorticks_off()
