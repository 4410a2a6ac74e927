"""Compares the slopes at every suffix length with the predicted threshold."""

from matplotlib.figure import Figure

from figures import style, suffix_runs
from figures.sweeps import Swept
from toymodel.sweep import make_sweep

SUFFIX_PROBS = ((0.9, 0.5), (0.3, 0.1), (0.5, 0.7))  # (a, b): of the suffix token after chosen and after rejected
LOOKS = {"chosen": style.Look(style.BLUE, "o", "-"), "rejected": style.Look(style.RED, "s", "--")}


def compute(quick: bool, swept: Swept) -> style.Table:
    a, b = zip(*SUFFIX_PROBS, strict=True)
    grid = {"zip": {"a": a, "b": b}, "suffix_length": suffix_runs.lengths(quick)}
    return swept(make_sweep(suffix_runs.EXPERIMENT, grid))


def draw(table: style.Table) -> Figure:
    figure = Figure(figsize=(style.COLUMN, 4.2))
    axes = figure.subplots(len(SUFFIX_PROBS), sharex=True)
    for ax, (a, b) in zip(axes, SUFFIX_PROBS, strict=True):
        part = style.rows(table, a=a, b=b)
        x, threshold = part["suffix_length"], part["threshold_predicted"][0]
        move, hatch = ("fall", "\\\\\\") if a > b else ("rise", "///")
        style.zero_line(ax)
        for side, look in LOOKS.items():
            style.curve(ax, x, part[f"{side}_predicted"], part[f"{side}_measured"], look)
        ax.axvline(threshold, color=style.BLACK, linewidth=0.8, linestyle=":")
        ax.axvspan(threshold, x.max(), facecolor="0.95", edgecolor="0.8", hatch=hatch, linewidth=0, zorder=-1)
        ax.set_title(f"a = {a}, b = {b}: both {move} beyond L* = {threshold:.2f}")
    axes[-1].set_xlabel("suffix length n (tokens)")
    figure.supylabel("slope (nats per unit of learning rate)", fontsize=8)
    style.legend(figure, LOOKS, ncols=2)
    return figure
