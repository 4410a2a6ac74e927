"""Shows, label by label, which predictions hold in the toy and which in a pretrained language model."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures import account_runs, real_runs, sentiment_runs, style
from figures.real_runs import LOOKS, NAMES
from figures.sentiment_runs import QUICK, QUICK_SEEDS, SETTINGS
from figures.sweeps import Swept, swept_in_a_hurry
from toymodel.data.sentiment import TASKS
from toymodel.experiments.account import accounts
from toymodel.experiments.carry_over import account_verdicts, verdicts
from toymodel.experiments.toy_steps import TOY_STEPS
from toymodel.sweep import make_sweep

SEEDS = sentiment_runs.SEEDS[:4]
FORMAT_OF: dict[str, str] = dict(zip(TASKS, ("one_token", "short_suffix", "long_suffix"), strict=True))
KINDS = {"share": "share of pairs", "error": "relative error", "positive": "rank correlation, should be > 0"}


def compute(quick: bool, swept: Swept) -> style.Table:
    """A row for each model, format and claim: of the toy computed here, of the pretrained model as stored."""
    seeds, settings = (QUICK_SEEDS[:2], SETTINGS | QUICK) if quick else (SEEDS, SETTINGS)
    told = [
        verdict
        for task in TASKS  # a sweep for each, whose answers are of one length
        for verdict in verdicts(
            _as_format(task, swept_in_a_hurry(swept, make_sweep(TOY_STEPS, settings | {"task": task, "seed": seeds})))
        )
    ]
    brought, _ = accounts(account_runs.runs(quick, swept))
    told += account_verdicts({FORMAT_OF[task]: account for task, account in brought.items()})
    tables = {"toy": real_runs.of_verdicts(told), "real": real_runs.stored("claims")}
    return style.stacked(*({"model": np.full(len(table["label"]), name)} | table for name, table in tables.items()))


def _as_format(task: str, table: style.Table) -> style.Table:
    return table | {"format": np.full(len(table["seed"]), FORMAT_OF[task])}


def draw(table: style.Table) -> Figure:
    """Claims below one another, in a panel for each kind of number; hollow is the toy, filled the pretrained model."""
    of_kind = {kind: list(dict.fromkeys(style.rows(table, kind=kind)["words"].tolist())) for kind in KINDS}
    figure = Figure(figsize=(style.PAGE, 0.6 + 0.24 * sum(map(len, of_kind.values()))))
    axes = figure.subplots(len(KINDS), 1, height_ratios=[len(claims) for claims in of_kind.values()])
    for ax, (kind, claims) in zip(axes, of_kind.items(), strict=True):
        _panel(ax, style.rows(table, kind=kind), claims)
        ax.set_xlabel(KINDS[kind])
    axes[1].set_xscale("log", nonpositive="clip")  # an interval may reach 0
    axes[1].set_xlim(1e-17, 1)
    axes[0].set_xlim(-0.05, 1.05)
    axes[2].set_xlim(-1.05, 1.05)
    axes[2].axvline(0, color=style.GREY, linewidth=0.5)
    style.legend(figure, {NAMES[format]: look for format, look in LOOKS.items()}, ncols=len(LOOKS))
    return figure


def _panel(ax: Axes, table: style.Table, claims: list[str]) -> None:
    for place, words in enumerate(claims):
        for number, (format, look) in enumerate(LOOKS.items()):
            for model, fill in (("toy", "white"), ("real", look.colour)):
                part = style.rows(table, words=words, format=format, model=model)
                height = place + 0.16 * (number - 1.5)
                ax.hlines(
                    np.full(len(part["low"]), height), part["low"], part["high"], color=look.colour, linewidth=0.6
                )
                ax.plot(
                    part["measured"],
                    np.full(len(part["measured"]), height),
                    look.marker,
                    color=look.colour,
                    markerfacecolor=fill,
                    markersize=3,
                )
    labels = [style.rows(table, words=words)["label"][0] for words in claims]
    ax.set_yticks(range(len(claims)), [f"{label}: {words}" for label, words in zip(labels, claims, strict=True)])
    ax.set_ylim(len(claims) - 0.5, -0.5)
    ax.grid(axis="y", linewidth=0.3)
