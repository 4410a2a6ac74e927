"""Maps the cosines between all tokens of the two responses in a fine-tuned transformer."""

from collections.abc import Sequence

import jax
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures import sentiment_runs, style
from figures.intervals import mean_interval
from figures.sentiment_runs import QUICK, QUICK_SEEDS, SETTINGS, taught
from figures.sweeps import Swept
from toymodel import gradients, plot
from toymodel.data.sentiment import WORDS
from toymodel.experiments.experiment import Row
from toymodel.experiments.sentiment import SentimentSetting, label_accuracy, reference_policy
from toymodel.sweep import make_sweep

PAPER = "Fig. 4b"

TASK = "long_suffix"
SEEDS = sentiment_runs.SEEDS[:8]
PAIRS = 32  # evaluation pairs of a seed, at most
EXAMPLE = 0  # the pair that is shown, of the first seed
AVERAGE, ONE_PAIR, KINDS = "average", "example", "kinds"  # panels
TITLES = {AVERAGE: "mean over pairs and seeds", ONE_PAIR: "one pair"}
FAINT = 0.05  # cosines below it in size have no number
TICKS = (-1, -0.5, 0, 0.5, 1)


def measure(setting: SentimentSetting, tuned: Row) -> Row:
    """Cosine of every chosen token's gradient with every rejected token's at the reference: [pairs, tokens, tokens]."""
    reference = reference_policy(setting, tuned)
    model, params = reference.network, reference.to_measure(reference.params)
    pairs = reference.evaluation[:PAIRS]
    return {
        "label_accuracy": label_accuracy(reference),
        "chosen": pairs.chosen,
        "rejected": pairs.rejected,
        "cosines": jax.lax.map(lambda pair: gradients.token_cosines(model, params, pair), pairs),
    }


EXPERIMENT = sentiment_runs.experiment("sentiment_tokens", measure, block=4)


def compute(quick: bool, swept: Swept) -> style.Table:
    seeds, settings = (QUICK_SEEDS, SETTINGS | QUICK) if quick else (SEEDS, SETTINGS)
    found = taught(swept(make_sweep(EXPERIMENT, settings | {"task": TASK, "seed": seeds})), TASK)
    chosen, rejected, cosines = (found[name] for name in ("chosen", "rejected", "cosines"))
    words = [f"word {i}" for i in range(1, cosines.shape[-1])]
    places = [np.array([f"{label} label", *words]) for label in ("right", "wrong")]
    average = mean_interval(np.moveaxis(cosines.mean(axis=1), 0, -1))
    example = [np.array(WORDS.tokens)[tokens[0, EXAMPLE]] for tokens in (chosen, rejected)]
    one_pair = (cosines[0, EXAMPLE], *np.full((2, *average[0].shape), np.nan))  # one pair has no interval
    return style.stacked(
        _cells(AVERAGE, places, average), _cells(ONE_PAIR, example, one_pair), _kinds(chosen, rejected, cosines)
    )


def _cells(panel: str, words: list[np.ndarray], cosines: Sequence[np.ndarray]) -> style.Table:
    """A row for every cell; `words` are those of both responses, `cosines` have the ends of their intervals."""
    i, j = np.meshgrid(*(np.arange(len(of_side)) for of_side in words), indexing="ij")
    return _table(panel, i, j, words[0][i], words[1][j], cosines)


def _kinds(chosen: np.ndarray, rejected: np.ndarray, cosines: np.ndarray) -> style.Table:
    """A row for every kind of cell: its mean over cells and pairs, then over seeds; arrays are [seeds, pairs, …]."""
    same = chosen[..., :, None] == rejected[..., None, :]
    i, j = np.ogrid[: same.shape[-2], : same.shape[-1]]
    has_label = np.minimum(i, j) == 0
    kinds = {
        "the two labels": (i == 0) & (j == 0),
        "same word at the same place": (i == j) & ~has_label,
        "same word at another place": same & (i != j),
        "two different words": ~same & ~has_label,
        "a label and a word": has_label & (i != j),
    }
    of_seeds = [cosines.mean(axis=(1, 2, 3), where=np.broadcast_to(cells, same.shape)) for cells in kinds.values()]
    names, place = np.array(list(kinds)), np.arange(len(kinds))
    return _table(KINDS, place, place, names, names, mean_interval(np.array(of_seeds)))


def _table(
    panel: str, i: np.ndarray, j: np.ndarray, chosen: np.ndarray, rejected: np.ndarray, cosines: Sequence[np.ndarray]
) -> style.Table:
    columns = {"panel": np.full(i.shape, panel), "chosen_position": i, "rejected_position": j}
    columns |= {"chosen_token": chosen, "rejected_token": rejected, "same_token": (chosen == rejected).astype(int)}
    columns |= dict(zip(("measured", "low", "high"), cosines, strict=True))
    return {name: np.ravel(column) for name, column in columns.items()}


def draw(table: style.Table) -> Figure:
    figure = Figure(figsize=(style.PAGE, 4.5))
    grid = figure.add_gridspec(2, 1, height_ratios=(3.5, 1))
    upper, lower = (figure.add_subfigure(grid[row]) for row in range(2))
    axes = upper.subplots(1, len(TITLES))
    for ax, (panel, title) in zip(axes, TITLES.items(), strict=True):
        _heatmap(ax, style.rows(table, panel=panel))
        ax.set_title(title)
    upper.align_xlabels(axes)
    axes[1].set_ylabel("")
    upper.colorbar(axes[0].images[0], ax=axes, label="cosine of the gradients", shrink=0.7, ticks=TICKS)
    _strip(lower.subplots(), style.rows(table, panel=KINDS))
    return figure


def _heatmap(ax: Axes, part: style.Table) -> None:
    """The cosines; frames around identical words."""
    size = part["chosen_position"].max() + 1
    words = part["chosen_token"][::size].tolist(), part["rejected_token"][:size].tolist()
    plot.token_map(part["measured"].reshape(size, size), words, ax, limit=1, least=FAINT)


def _strip(ax: Axes, kinds: style.Table) -> None:
    """Means over all cells of a kind."""
    ax.axvline(0, color=style.GREY, linewidth=0.5, zorder=0)
    ax.hlines(kinds["chosen_position"], kinds["low"], kinds["high"], color=style.BLACK, linewidth=0.8)
    ax.plot(kinds["measured"], kinds["chosen_position"], "o", color=style.BLACK, markerfacecolor="white")
    ax.set_yticks(kinds["chosen_position"], kinds["chosen_token"])
    ax.set(xlabel="cosine: mean over such cells, pairs and seeds", xlim=(-1.05, 1.05), xticks=TICKS)
    ax.margins(y=0.12)
    ax.invert_yaxis()
