"""Compares the suffix length at which the crowd's formula has unseen pairs fall in a network with where they fall."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures import sentiment_runs, style
from figures.sentiment_runs import QUICK, QUICK_SEEDS, SETTINGS
from figures.sweeps import Swept
from toymodel.experiments.contexts import ASSUMPTIONS
from toymodel.experiments.crowd import CROWD, LENGTHS, SUFFIXES
from toymodel.experiments.sentiment import LEARNT
from toymodel.sweep import make_sweep

SEEDS = range(100, 108)
QUICK_MARK = {"mark_steps": 200, "mark_rate": 1e-2}
LENGTH = np.array(LENGTHS, float)
# Of the first two of `ASSUMPTIONS`.
FORMULAS = {"T22": style.Look(style.BLACK, "", "-"), "T22, positions alike": style.Look(style.GREY, "", "--")}
SLOPES = {"head alone": style.Look(style.BLUE, "o", ":"), "all parameters": style.Look(style.ORANGE, "s", ":")}
CHANGES = {"few steps": style.Look(style.GREEN, "^", ":"), "whole run": style.Look(style.RED, "v", ":")}
TITLES = {"marked": "one word marks right answers", "drawn": "words go with the label"}
TICKS = {-1: "−1", -0.1: "−0.1", 0: "0", 0.1: "0.1"}
BEYOND = 11.0  # where a turn beyond the longest suffix is drawn


def compute(quick: bool, swept: Swept) -> style.Table:
    """Three kinds of rows: relative slopes and changes by length, means over seeds; where each curve turns, by seed."""
    seeds, settings = (QUICK_SEEDS, SETTINGS | QUICK | QUICK_MARK) if quick else (SEEDS, SETTINGS)
    found = swept(make_sweep(CROWD, settings | {"seed": seeds}))
    return style.stacked(*(_rows(place, name, found) for place, name in enumerate(SUFFIXES)))


def _rows(place: int, name: str, found: style.Table) -> style.Table:
    """Rows of one kind of suffix, over the seeds in which fine-tuning taught its labels.

    Raises:
      ValueError: fewer than two are.
    """
    taught = found["label_accuracy"][:, place] >= LEARNT
    if taught.sum() < 2:
        raise ValueError(f"fine-tuning did not teach {name} suffixes: {found['label_accuracy'][:, place]}.")
    one = {column: values[taught][:, place] for column, values in found.items() if values.ndim > 1}
    seeds, threshold = found["seed"][taught], one["threshold"]
    curves = dict(zip(ASSUMPTIONS, np.moveaxis(one["predicted"], 1, 0), strict=True))
    curves |= {"head alone": one["head_slope"], "all parameters": one["slope"]}
    curves = {curve: slopes / slopes[:, :1] for curve, slopes in curves.items()}
    curves |= dict(zip(CHANGES, np.moveaxis(one["changes"], 1, 0), strict=True))
    tables = []
    for curve, values in curves.items():
        by_length = _table(name, curve, LENGTH, seeds=len(seeds)) | sentiment_runs.over_seeds("mean", values)
        tables += [by_length]
        if curve in SLOPES | CHANGES:
            turns = _table(name, curve, np.full(len(seeds), np.nan), seeds=len(seeds))
            turns |= {"seed": seeds, "threshold_predicted": threshold, "turn_measured": _turns(values)}
            tables += [turns]
    return style.stacked(*tables)


def _table(suffix: str, curve: str, length: np.ndarray, seeds: int) -> style.Table:
    words = {"suffix": np.full(len(length), suffix), "curve": np.full(len(length), curve)}
    numbers = ("mean_measured", "mean_low", "mean_high", "threshold_predicted", "turn_measured")
    missing = {name: np.full(len(length), np.nan) for name in numbers}
    return words | {"seeds": np.full(len(length), seeds), "seed": np.full(len(length), -1), "length": length} | missing


def _turns(values: np.ndarray) -> np.ndarray:
    """The length at which each row falls below zero, linear between lengths: 0 if it begins there, else infinite."""
    below = values < 0
    beyond = np.maximum(below.argmax(axis=1), 1)
    row = np.arange(len(values))
    before, after = values[row, beyond - 1], values[row, beyond]
    share = before / np.where(before > after, before - after, 1)
    crossed = LENGTH[beyond - 1] + share * (LENGTH[beyond] - LENGTH[beyond - 1])
    return np.select([below[:, 0], below.any(axis=1)], [0, crossed], np.inf)


def draw(table: style.Table) -> Figure:
    figure = Figure(figsize=(style.PAGE, 4.0))
    axes = figure.subplots(2, 3, sharex="col")
    for row, looks in zip(axes, (SLOPES, CHANGES), strict=True):
        for ax, suffix in zip(row, TITLES, strict=False):
            _by_length(ax, style.rows(table, suffix=suffix, seed=-1), looks)
        row[1].sharey(row[0])
        row[1].tick_params(labelleft=False)
        _by_seed(row[2], table, looks)
    for ax, title in zip(axes[0], (*TITLES.values(), "where each seed turns"), strict=True):
        ax.set_title(title)
    axes[0][0].set(ylabel="slope of the chosen, relative\nto that without suffix", ylim=(-6, 2.5))
    axes[1][0].set(ylabel="change of the chosen\nby DPO (nats)")
    axes[1][0].set_yscale("symlog", linthresh=0.1)
    axes[1][0].set_ylim(-4, 0.3)
    axes[1][0].set_yticks(list(TICKS), TICKS.values())
    axes[1][0].minorticks_off()
    for ax in axes[1][:2]:
        ax.set_xlabel("words of the suffix")
    axes[1][2].set_xlabel(r"$L^*_\infty$ (T22)")
    handles = style.entries(FORMULAS | SLOPES | CHANGES)
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles))
    return figure


def _by_length(ax: Axes, table: style.Table, looks: dict[str, style.Look]) -> None:
    style.zero_line(ax)
    if looks is SLOPES:
        for curve, look in zip(ASSUMPTIONS, FORMULAS.values(), strict=False):
            part = style.rows(table, curve=curve)
            ax.plot(part["length"], part["mean_measured"], look.line, color=look.colour)
    for curve, look in looks.items():
        part = style.rows(table, curve=curve)
        style.measured(ax, part["length"], part, "mean", look)
    ax.set_xticks(LENGTHS)


def _by_seed(ax: Axes, table: style.Table, looks: dict[str, style.Look]) -> None:
    """Where each curve turns against where T22 has it: hollow for the mark, filled for words that go with the label."""
    ax.plot([0, LENGTHS[-1]], [0, LENGTHS[-1]], "-", color=style.BLACK)
    for curve, look in looks.items():
        for suffix, face in zip(TITLES, ("white", look.colour), strict=True):
            part = style.rows(table, suffix=suffix, curve=curve)
            turn = np.minimum(part["turn_measured"], BEYOND)
            ax.plot(part["threshold_predicted"], turn, look.marker, color=look.colour, markerfacecolor=face)
    ax.set(ylim=(-0.6, BEYOND + 1), ylabel="turns, measured")
    ax.set_xticks(LENGTHS)
    ax.set_yticks([*LENGTHS, BEYOND], [*map(str, LENGTHS), "later"])
