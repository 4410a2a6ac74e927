"""Shows which training tokens moved the chosen answers of a pretrained model, and for which settings they fall."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures import real_runs, style
from figures.real_runs import LOOKS, NAMES
from figures.sweeps import Swept

PARTS = ("chosen label", "chosen suffix")
BY = {"by labels": "label", "by suffixes": "suffix"}  # of chosen and of rejected answers together
WIDTH = 0.36  # of a bar, between parts that are 1 apart
HATCHES = ("", "////")
FILLS = {2e-5: "white", 4e-5: ""}  # by the rate of DPO: hollow, or filled


def compute(_quick: bool, _swept: Swept) -> style.Table:
    """Rows of the account, then of the map of regimes."""
    account, regime = real_runs.stored("account"), real_runs.stored("regime")
    columns = (
        "source part measured low high first_order true_change spearman seed supervised_steps learning_rate cosine "
    )
    columns += "chosen_median chosen_rises chosen_mean label_mean suffix_mean"
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
            for number, words in enumerate(BY.values()):
                mine = np.char.endswith(of_part["source"].astype(str), words)
                colour = style.BLUE if part == PARTS[0] else style.ORANGE
                ax.bar(
                    place + 0.4 * number,
                    of_part["measured"][mine].sum(),
                    WIDTH,
                    color=colour,
                    hatch=HATCHES[number],
                    edgecolor=style.BLACK,
                    linewidth=0.5,
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
    """Change of the chosen against the length of fine-tuning, for one seed and two rates of DPO."""
    first = style.rows(table, seed=0)
    for format in dict.fromkeys(first["format"].tolist()):
        look = LOOKS[format]
        for rate, fill in FILLS.items():
            part = style.rows(first, format=format, learning_rate=rate)
            order = np.argsort(part["supervised_steps"])
            x, y = part["supervised_steps"][order], part["chosen_median"][order]
            ax.plot(x, y, look.line, marker=look.marker, color=look.colour, markerfacecolor=fill or look.colour)
    style.zero_line(ax)
    ax.set(xlabel="steps of fine-tuning", ylabel="chosen, median change (nats)", xticks=(4, 10, 16))
    shown = {NAMES[format]: LOOKS[format] for format in dict.fromkeys(first["format"].tolist())}
    ax.legend(handles=style.entries(shown), fontsize=6)
