"""Shows which training tokens moved the chosen answers of a pretrained model, and for which settings they fall."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures import real_runs, style
from figures.real_runs import LOOKS, NAMES
from figures.sweeps import Swept

PARTS = ("chosen label", "chosen suffix")
BY = {"by labels": "label of both", "by suffixes": "suffix of both"}  # sources, of chosen and rejected answers
WIDTH = 0.36  # of a bar, between parts that are 1 apart
HATCHES = ("", "////")
FILLS = {2e-5: "white", 4e-5: ""}  # by the rate of DPO: hollow, or filled


def compute(_quick: bool, _swept: Swept) -> style.Table:
    """Rows of the account, then of the map of regimes."""
    account, regime = real_runs.stored("account"), real_runs.stored("regime")
    columns = (
        "source part measured low high first_order true_change spearman seed supervised_steps learning_rate cosine "
    )
    columns += "suffix_nats chosen_median chosen_rises chosen_mean label_mean suffix_mean"
    both = (("account", account), ("regime", regime))
    return style.stacked(*(_wide(name, table, columns.split()) for name, table in both))


def _wide(panel: str, table: style.Table, columns: list[str]) -> style.Table:
    count = len(table["format"])
    blank = {name: np.full(count, "" if name in ("source", "part") else np.nan) for name in columns}
    return (
        {"panel": np.full(count, panel), "format": table["format"]}
        | blank
        | {name: table[name] for name in columns if name in table}
    )


def draw(table: style.Table) -> Figure:
    """Left: contributions to the two parts of the chosen answer. Right: the settings for which the chosen falls."""
    figure = Figure(figsize=(style.PAGE, 2.7))
    left, right = figure.subplots(1, 2, width_ratios=(1.3, 1))
    _bars(left, style.rows(table, panel="account"))
    _regimes(right, style.rows(table, panel="regime"))
    return figure


def _bars(ax: Axes, table: style.Table) -> None:
    place, ticks = 0.0, []
    for format, name in NAMES.items():
        here, start = style.rows(table, format=format), place
        for part in PARTS:
            if part not in here["part"]:
                continue
            of_part = style.rows(here, part=part)
            for number, source in enumerate(BY.values()):
                if source not in of_part["source"]:
                    continue
                mine = style.rows(of_part, source=source)
                mean, low, high = (mine[name][0] for name in ("measured", "low", "high"))
                ax.bar(
                    place + 0.4 * number,
                    mean,
                    WIDTH,
                    yerr=[[mean - low], [high - mean]],
                    color=style.BLUE if part == PARTS[0] else style.ORANGE,
                    hatch=HATCHES[number],
                    edgecolor=style.BLACK,
                    linewidth=0.5,
                    error_kw={"linewidth": 0.8, "capsize": 1.5},
                )
            place += 1.0
        ax.plot((start + place - 0.6) / 2, here["true_change"][0], "x", color=style.BLACK, markersize=6)
        ax.plot((start + place - 0.6) / 2, here["first_order"][0], "_", color=style.BLACK, markersize=12)
        ticks.append(((start + place - 0.6) / 2, name))
        place += 0.6
    ax.set_xticks(*zip(*ticks, strict=True))
    style.zero_line(ax)
    ax.set_ylabel("contribution to the chosen answer (nats)")
    for part, colour in zip(PARTS, (style.BLUE, style.ORANGE), strict=True):
        for words, hatch in zip(BY, HATCHES, strict=True):
            ax.bar(
                0,
                0,
                color=colour,
                hatch=hatch,
                edgecolor=style.BLACK,
                linewidth=0.5,
                label=f"{part.split()[1]} {words}",
            )
    ax.plot([], [], "_", color=style.BLACK, markersize=10, label="sum")
    ax.plot([], [], "x", color=style.BLACK, label="true change")
    ax.legend(fontsize=6)


def _regimes(ax: Axes, table: style.Table) -> None:
    """Change of the chosen answers against how well the reference policy knows their suffix: one seed, two rates."""
    for format in dict.fromkeys(table["format"].tolist()):
        look = LOOKS[format]
        for rate, fill in FILLS.items():
            part = style.rows(table, format=format, learning_rate=rate)
            order = np.argsort(part["suffix_nats"])
            x, y = part["suffix_nats"][order], part["chosen_median"][order]
            ax.plot(x, y, look.line, marker=look.marker, color=look.colour, markerfacecolor=fill or look.colour)
    style.zero_line(ax)
    ax.set(xlabel="loss of a suffix token before DPO (nats)", ylabel="chosen, median change (nats)", xscale="log")
    shown = {NAMES[format]: LOOKS[format] for format in dict.fromkeys(table["format"].tolist())}
    ax.legend(handles=style.entries(shown), fontsize=6)
