"""Compares the predicted and the measured suffix lengths beyond which unseen pairs fall in a network."""

import numpy as np
from matplotlib.figure import Figure

from figures import sentiment_runs, style
from figures.sentiment_runs import QUICK, QUICK_SEEDS, SETTINGS
from figures.sweeps import Swept
from toymodel.experiments.contexts import ASSUMPTIONS
from toymodel.experiments.crowd import CROWD, LENGTHS, SUFFIXES
from toymodel.experiments.sentiment import LEARNT
from toymodel.sweep import make_sweep

SEEDS = range(100, 108)
QUICK_MARK = {"mark_steps": 200, "mark_rate": 1e-2, "pairs": 256}
LENGTH = np.array(LENGTHS, float)
FORMULA = style.Look(style.BLACK, "", "-")
SLOPES = {"head alone": style.Look(style.BLUE, "o", ":"), "all parameters": style.Look(style.ORANGE, "s", ":")}
CHANGES = {"few steps": style.Look(style.GREEN, "^", ":"), "whole run": style.Look(style.RED, "v", ":")}
ROWS = {"all parameters": SLOPES["all parameters"], "few steps": CHANGES["few steps"]}  # the curve of each row
TITLES = {"marked": "one word marks right answers", "drawn": "words go with the label"}
HEIGHTS = ((-4, 1.8), (-0.15, 0.08))  # of each row


def compute(quick: bool, swept: Swept) -> style.Table:
    """Three kinds of rows: relative slopes and changes by length, means over seeds; where each curve turns, by seed."""
    seeds, settings = (QUICK_SEEDS, SETTINGS | QUICK | QUICK_MARK) if quick else (SEEDS, SETTINGS)
    found = swept(make_sweep(CROWD, settings | {"seed": seeds}))
    return style.stacked(*(_rows(place, name, found) for place, name in enumerate(SUFFIXES)))


def _rows(place: int, name: str, found: style.Table) -> style.Table:
    """Rows of one kind of suffix, over the seeds in which fine-tuning taught its labels.

    Raises:
      ValueError: there are fewer than two.
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
    """Slopes beside the formula, and the change in a few steps of DPO, for both kinds of suffix."""
    figure = Figure(figsize=(style.PAGE, 3.6))
    axes = figure.subplots(2, len(TITLES), sharex=True, sharey="row")
    for row, curve, height in zip(axes, ROWS, HEIGHTS, strict=True):
        for ax, suffix in zip(row, TITLES, strict=True):
            part = style.rows(table, suffix=suffix, seed=-1)
            style.zero_line(ax)
            if curve in SLOPES:
                formula = style.rows(part, curve=ASSUMPTIONS[0])
                ax.plot(formula["length"], formula["mean_measured"], FORMULA.line, color=FORMULA.colour)
            one = style.rows(part, curve=curve)
            style.measured(ax, one["length"], one, "mean", ROWS[curve])
        row[0].set_ylim(*height)
    for ax, title in zip(axes[0], TITLES.values(), strict=True):
        ax.set_title(title)
    axes[0][0].set_ylabel("slope of the chosen, relative\nto that without suffix")
    axes[1][0].set_ylabel("change of the chosen\nby few steps (nats)")
    axes[1][0].set_xticks(LENGTHS)
    figure.supxlabel("words of the suffix", fontsize=8)
    looks = {"T22": FORMULA, "measured slope": ROWS["all parameters"], "measured change": ROWS["few steps"]}
    style.legend(figure, looks, ncols=len(looks))
    return figure
