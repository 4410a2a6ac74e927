"""What the chosen pays for the same margin, by task and by the loss that the remedy is put around.

Change of the mean log-probability (nats) of chosen answers of the transformer since the reference, read when the margin
reaches 2 nats, by remedy, task and loss: mean over ten seeds, over 24 evaluation pairs whose prompts were in no
training. In brackets where the 95% interval includes 0; blue where it rises, orange where it falls; grey where the
margin was not reached within 30 steps. Answers are the label alone, or the label and 2 or 8 words that both share, or 8
words of which the rejected answer keeps four or none. All is measured. The table has the other two models too (the MLP
at ½ nat), both changes at the end, and what a remedy spares the chosen against none, seed by seed, with its interval.

Learning rates and strengths were chosen for each model, remedy and loss on all tasks together, on seeds 0 to 2. CPO is
with the mean negative log-likelihood that belongs to it. For losses without a reference the penalty is our reading, as
are normalised pairs, calibration and learned mask. With words that are not shared (half shared, none shared) there is
more than one contrast token: the oracle mask then keeps several.

The likelihood term, the penalty, the gate and the three split steps never cost the chosen more than training without
them by the interval of a cell, in any model, and often less in the readout and the MLP. Normalising, calibration and
the virtual split go either way: less in some tasks, more in others. Learned masks cost more nearly everywhere, and
fine-tuning on both answers first helps in few.
"""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, SymLogNorm
from matplotlib.figure import Figure

from figures import remedy_runs, style
from figures.remedy_runs import LOSS_NAMES, LOSSES, MODEL_NAMES, NAMES, TASK_NAMES, over_seeds
from figures.sweeps import Swept

TITLE = "Remedies on five tasks, around four losses"
LABELS = ("T4", "T8", "T17", "T18", "T19", "T20")

# Light at both ends, so that black numbers are read on all of it.
COLOURS = "#EE9B6B", "white", "#7DB8E2"
FALLS_OR_RISES = LinearSegmentedColormap.from_list("falls or rises", COLOURS).with_extremes(bad="0.85")
LINEAR, LARGEST = 0.1, 3.0  # nats: colours are linear up to the one, and alike beyond the other


def compute(quick: bool, swept: Swept) -> style.Table:
    return style.stacked(*(_rows(model, runs) for model, runs in remedy_runs.runs(quick, swept).items()))


def _rows(model: str, runs: style.Table) -> style.Table:
    """Of one model: a row per remedy, task and loss."""
    chosen, rejected = (remedy_runs.finished(runs, f"{side}_change") for side in ("chosen", "rejected"))
    remedy, task, loss = np.meshgrid(list(NAMES), TASK_NAMES, LOSSES, indexing="ij")
    table = {"model": np.full(remedy.shape, model), "remedy": remedy, "task": task, "loss": loss}
    table |= {"seeds": np.full(remedy.shape, len(chosen)), "diverged": remedy_runs.diverged(runs)}
    paid = remedy_runs.at_margin(remedy_runs.MARGINS[model], *remedy_runs.changes(runs))
    table |= {"reached": np.isfinite(paid).sum(axis=0)}
    spared = paid - paid[:, remedy_runs.places(NAMES, "none")]  # seed by seed
    table |= over_seeds("paid", paid) | over_seeds("spared", spared)
    table |= over_seeds("chosen", chosen) | over_seeds("margin", chosen - rejected)
    return {name: column.ravel() for name, column in table.items()}


def draw(table: style.Table) -> Figure:
    """Of the last model."""
    table = style.rows(table, model=table["model"][-1])
    figure = Figure(figsize=(style.PAGE, 6.6))
    axes = figure.subplots(2, 2, sharex=True, sharey=True)
    for ax, loss in zip(axes.ravel(), LOSSES, strict=True):
        _cells(ax, style.rows(table, loss=loss))
        ax.set_title(LOSS_NAMES[loss])
    for ax in axes[-1]:
        ax.set_xticks(range(len(TASK_NAMES)), [name.replace(" ", "\n") for name in TASK_NAMES])
    axes[0][0].set_yticks(range(len(NAMES)), list(NAMES.values()))
    return figure


def _cells(ax: Axes, part: style.Table) -> None:
    shape = len(NAMES), len(TASK_NAMES)
    norm = SymLogNorm(LINEAR, vmin=-LARGEST, vmax=LARGEST)
    ax.imshow(part["paid_measured"].reshape(shape), cmap=FALLS_OR_RISES, norm=norm, aspect="auto")
    numbers = (part[f"paid_{end}"].reshape(shape) for end in ("measured", "low", "high"))
    for (row, column), change, low, high in zip(np.ndindex(shape), *map(np.ravel, numbers), strict=True):
        ax.text(column, row, told(change, low, high), ha="center", va="center", fontsize=7)
    ax.set_xticks(np.arange(0.5, len(TASK_NAMES) - 1), minor=True)
    ax.set_yticks(np.arange(0.5, len(NAMES) - 1), minor=True)
    ax.grid(which="minor", color="white", linewidth=1.0)
    ax.tick_params(which="both", length=0)
    ax.spines[:].set_visible(False)


def told(change: float, low: float, high: float) -> str:
    """A cell's number: in brackets where its interval includes 0; a word where there is none."""
    if not np.isfinite(change):
        return "–"
    number = f"{change:+z.2f}" if abs(change) < 9.995 else f"{change:+.1f}"
    number = number.replace("-", "−")
    return f"({number})" if low <= 0 <= high else number


def table_markdown(table: style.Table) -> str:
    """How often a remedy spares the chosen something, and how often it costs more, over all tasks and losses."""
    models = [model for model in MODEL_NAMES if model in table["model"]]
    tried = len(TASK_NAMES) * len(LOSSES)
    lines = [
        f"Reached: the margin, in so many of {tried} cells. Less / more: of the cells that training without a remedy",
        "reaches too, those in which the chosen pays less or more than there, by a paired 95% interval;",
        "in brackets the mean of all, in nats.",
        "",
        f"| | {' | '.join(f'{MODEL_NAMES[model]}: reached | less / more' for model in models)} |",
        "|---" * (1 + 2 * len(models)) + "|",
    ]
    for remedy, name in NAMES.items():
        cells = [_counts(style.rows(table, model=model, remedy=remedy)) for model in models]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _counts(part: style.Table) -> str:
    reached = f"{(part['reached'] > 0).sum()} | "
    both = np.isfinite(part["spared_measured"])
    if part["remedy"][0] == "none" or not both.any():
        return f"{reached}–"
    less, more = (part["spared_low"] > 0).sum(), (part["spared_high"] < 0).sum()
    return f"{reached}{less} / {more} of {both.sum()} ({part['spared_measured'][both].mean():+.2f})".replace("-", "−")
