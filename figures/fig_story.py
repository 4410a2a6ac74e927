"""Tells the pitfall in three panels: inner products, slopes, training."""

from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures import sentiment_runs, style, suffix_runs
from figures.sentiment_runs import LOOKS as TASK_LOOKS
from figures.sentiment_runs import NAMES
from figures.sweeps import Swept
from toymodel.data.sentiment import TASKS
from toymodel.sweep import make_sweep

A, B = 0.9, 0.5
Corner = Literal["upper left", "lower left"]  # where a panel names its curves
LINEAR = 0.05  # nats: the right axis is linear up to here, and logarithmic beyond
TICKS = {-0.5: "−0.5", -0.1: "−0.1", 0: "0", 0.05: "0.05"}
ENTRIES = {"inner": style.Look(style.PURPLE, "D", "-"), "chosen_sq": style.Look(style.BLACK, "^", "--")}
SIDES = {"chosen": style.Look(style.BLUE, "o", "-"), "rejected": style.Look(style.RED, "s", "--")}
CURVES = NAMES | {"inner": "⟨$g_w$, $g_l$⟩", "chosen_sq": "‖$g_w$‖²", "chosen": "chosen", "rejected": "rejected"}


def compute(quick: bool, swept: Swept) -> style.Table:
    """A row per curve and point on it: `x` is a suffix length or a step of training."""
    pairs = swept(make_sweep(suffix_runs.EXPERIMENT, {"a": A, "b": B, "suffix_length": suffix_runs.lengths(quick)}))
    lengths, nothing = pairs["suffix_length"], np.full(len(pairs["suffix_length"]), np.nan)
    tables = [
        _rows(name, lengths, pairs[f"{name}_predicted"], pairs[f"{name}_measured"], nothing, nothing)
        for name in (*ENTRIES, *SIDES)
    ]
    tables.append(_rows("threshold", pairs["threshold_predicted"][:1], *(np.full(1, np.nan) for _ in range(4))))
    runs, steps = sentiment_runs.runs(quick, swept), sentiment_runs.states(quick)
    for task in TASKS:
        logps = style.rows(runs, task=task)["chosen_logps"].mean(axis=-1)
        found = sentiment_runs.over_seeds("chosen", logps - logps[:, :1])
        tables.append(_rows(task, steps, np.full(len(steps), np.nan), *found.values()))
    return style.stacked(*tables)


def _rows(curve: str, x: np.ndarray, *columns: np.ndarray) -> style.Table:
    names = ("x", "predicted", "measured", "low", "high")
    return {"curve": np.full(len(x), curve)} | {
        name: column.astype(float) for name, column in zip(names, (x, *columns), strict=True)
    }


def draw(table: style.Table) -> Figure:
    figure = Figure(figsize=(style.PAGE, 2.6))
    entangled, slopes, training = figure.subplots(1, 3)
    threshold = style.rows(table, curve="threshold")["x"][0]
    _panel(entangled, table, ENTRIES, "upper left")
    _panel(slopes, table, SIDES, "lower left")
    _panel(training, table, TASK_LOOKS, "lower left")
    for ax in (entangled, slopes):
        longest = style.rows(table, curve="inner")["x"].max()
        ax.axvline(threshold, color=style.BLACK, linewidth=0.8, linestyle=":")
        ax.axvspan(threshold, longest, facecolor="0.95", edgecolor="0.8", hatch="\\\\\\", linewidth=0, zorder=-1)
        ax.set_xlabel("shared suffix (tokens)")
    entangled.set_title("shared tokens entangle")
    entangled.set_ylabel("Gram entries (nats² / param.²)")
    slopes.set_title("beyond L*, one step lowers both")
    slopes.set_ylabel("slope (nats / unit of learning rate)")
    training.set_yscale("symlog", linthresh=LINEAR)
    training.set_yticks(list(TICKS), TICKS.values())
    training.minorticks_off()
    training.set_xlabel("step of DPO")
    training.set_ylabel("change of log π of chosen (nats)")
    training.set_title("so does training")
    return figure


def _panel(ax: Axes, table: style.Table, looks: dict[str, style.Look], names_at: Corner) -> None:
    """Curves that are predicted have a line; of those that are only measured the line joins the markers."""
    style.zero_line(ax)
    for name, look in looks.items():
        part = style.rows(table, curve=name)
        style.intervals(ax, part["x"], part["low"], part["high"], look)
        line = np.where(np.isnan(part["predicted"]), part["measured"], part["predicted"])
        style.curve(ax, part["x"], line, part["measured"], look)
    ax.legend(handles=style.entries({CURVES[name]: look for name, look in looks.items()}), loc=names_at)
