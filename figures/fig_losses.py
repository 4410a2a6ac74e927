"""Trains the same pairs by one loss of each family and follows both log-probabilities."""

from matplotlib.figure import Figure

from figures import loss_curves, loss_runs, style
from figures.loss_curves import LOOKS
from figures.sweeps import Swept

PAPER = "Fig. 2"

SHOWN = {  # one loss of each family of `loss_groups`, and what its weights do
    "dpo": "equal weights",
    "simpo": "equal weights per token",
    "orpo": "with a likelihood term",
    "sppo_half": "a term for each response",
    "fdpo_alpha": "an f-divergence",
    "npo": "against the rejected alone",
}


def compute(quick: bool, swept: Swept) -> style.Table:
    runs = loss_runs.trained(quick, swept)
    return style.stacked(*(loss_curves.rows(name, style.rows(runs, loss=name)) for name in SHOWN))


def draw(table: style.Table) -> Figure:
    figure = Figure(figsize=(style.PAGE, 3.8))
    axes = figure.subplots(2, len(SHOWN) // 2, sharex=True, sharey=True)
    for ax, (name, weights) in zip(axes.flat, SHOWN.items(), strict=True):
        loss_curves.panel(ax, style.rows(table, loss=name))
        ax.set_title(f"{name}: {weights}")
    figure.supxlabel("step of training", fontsize=8)
    figure.supylabel("change of log π since the start (nats)", fontsize=8)
    style.legend(figure, LOOKS, ncols=len(LOOKS))
    return figure
