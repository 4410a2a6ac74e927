"""Shows where each loss moves pairs on the map of the three cases."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures import loss_groups, loss_runs, style
from figures.loss_groups import BLOCKS, ROWS, Block
from figures.sweeps import Swept
from toymodel import PairGram, theory

SHOWN = ("dpo", "orpo", "fdpo_alpha", "sppo_half")  # on a map of their own
TIMES = {"start": 0, "end": -1}  # states
EDGE_POINTS = 61
LOWEST = -0.6  # cosine
ANGLES = {0: "0", np.degrees(np.arctan(0.5)): "½", 45: "1", np.degrees(np.arctan(2)): "2", 90: "∞"}
PLACES = {-10: "−10", -1: "−1", 0: "0", 1: "1", 10: "10"}
REGION: dict[str, Any] = {"facecolor": "0.95", "edgecolor": "0.75", "linewidth": 0}
REGION_LABELS = {"both\ndown": (0.03, 0.98, "left"), "both\nup": (0.97, 0.98, "right")}
LOOKS: dict[str, dict[str, Any]] = {
    "start": {"color": style.RED, "marker": "o"},
    "end": {"color": style.BLUE, "marker": "D"},
}
COLUMNS = ("cosine_measured", "angle_measured", "place_measured", "first_decile_measured", "last_decile_measured")


def compute(quick: bool, swept: Swept) -> style.Table:
    runs = loss_runs.trained(quick, swept)
    pairs = [_pairs(name, time, style.rows(runs, loss=name)) for name in SHOWN for time in TIMES]
    losses = [_loss(name, time, style.rows(runs, loss=name)) for name in loss_groups.in_order() for time in TIMES]
    medians = [_median(part) for part in pairs]
    return style.stacked(_edges(), *pairs, *medians, *losses)


def _edges() -> style.Table:
    """The band of gradients of equal length, r* = 1."""
    cosines, ones = jnp.linspace(LOWEST, 1.0, EDGE_POINTS), jnp.ones(EDGE_POINTS)
    low, high = (np.degrees(np.arctan(end)) for end in theory.band(PairGram(ones, ones, cosines)))
    return _table("edges", "", "", cosine_measured=cosines, low_predicted=low, high_predicted=high)


def _pairs(name: str, time: str, runs: style.Table) -> style.Table:
    angles, _, _ = positions(runs, time)
    return _table("pair", name, time, cosine_measured=runs["cosine"][:, TIMES[time]], angle_measured=angles)


def _median(pairs: style.Table) -> style.Table:
    """The median of the pairs of a loss at a time, along each axis."""
    middle = {name: [np.median(pairs[name])] for name in COLUMNS[:2]}
    return _table("median", pairs["loss"][0], pairs["time"][0], **middle)


def _loss(name: str, time: str, runs: style.Table) -> style.Table:
    _, places, on_map = positions(runs, time)
    middle = np.quantile(places[on_map], (0.5, 0.1, 0.9)) if on_map.mean() >= 0.5 else [np.nan] * 3
    return _table("loss", name, time, **{name: [x] for name, x in zip(COLUMNS[2:], middle, strict=True)})


def positions(runs: style.Table, time: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The arctangent of each pair's d_w/d_l in units of r*, in degrees; its place in the band; whether it is shown.

    The arctangent's quadrant is right for weights of any sign. On the map: neither is negative, and not both are zero.
    """
    names = ("d_chosen", "d_rejected", "chosen_sq", "rejected_sq", "cosine")
    d_chosen, d_rejected, chosen_sq, rejected_sq, cosine = (runs[name][:, TIMES[time]] for name in names)
    angles = np.degrees(np.arctan2(d_chosen * np.sqrt(chosen_sq), d_rejected * np.sqrt(rejected_sq)))
    half_width = 45 - np.degrees(np.arctan(np.maximum(cosine, 0)))
    on_map = (d_chosen >= 0) & (d_rejected >= 0) & ((d_chosen > 0) | (d_rejected > 0))
    return angles, (angles - 45) / half_width, on_map


def _table(kind: str, loss: str, time: str, **columns: Any) -> style.Table:
    rows = len(next(iter(columns.values())))
    table = {name: np.full(rows, value) for name, value in (("kind", kind), ("loss", loss), ("time", time))}
    for name in (*COLUMNS, "low_predicted", "high_predicted"):
        table[name] = np.asarray(columns.get(name, np.full(rows, np.nan)), float)
    return table


def draw(table: style.Table) -> Figure:
    figure = Figure(figsize=(style.PAGE, 7.2))
    grid = figure.add_gridspec(2, 1, height_ratios=(1, 2.3))
    above, below = figure.add_subfigure(grid[0]), figure.add_subfigure(grid[1])
    for ax, name in zip(above.subplots(1, len(SHOWN), sharey=True), SHOWN, strict=True):
        _map(ax, style.rows(table, kind="edges"))
        _moves(ax, style.rows(table, loss=name))
        ax.set_title(name)
    for label, (x, y, side) in REGION_LABELS.items():
        above.axes[0].annotate(label, (x, y), xycoords="axes fraction", fontsize=7, ha=side, va="top")
    above.axes[0].set_ylabel("cosine of $g_w$ and $g_l$")
    above.supxlabel("$d_w/d_l$ in units of r* = $‖g_l‖/‖g_w‖$", fontsize=8)
    for ax, block in zip(below.subplots(1, len(BLOCKS)), BLOCKS, strict=True):
        _places(ax, style.rows(table, kind="loss"), block)
    below.axes[-1].legend(loc="lower right")
    below.supxlabel("distance from the centre of the band (half-widths; logarithmic beyond the edges)", fontsize=8)
    return figure


def _map(ax: Axes, edges: style.Table) -> None:
    y, low, high = (edges[name] for name in ("cosine_measured", "low_predicted", "high_predicted"))
    ax.fill_betweenx(y, 0, low, hatch="\\\\\\\\", **REGION)
    ax.fill_betweenx(y, high, 90, hatch="////", **REGION)
    ax.plot(low, y, "-", high, y, "--", color=style.BLACK, linewidth=0.8)
    ax.set(xlim=(0, 90), ylim=(LOWEST, 1))
    ax.set_xticks(list(ANGLES), ANGLES.values())


def _moves(ax: Axes, table: style.Table) -> None:
    """The pairs, faint, and one arrow from their median at the start to their median at the end."""
    for time, look in LOOKS.items():
        pairs = style.rows(table, kind="pair", time=time)
        points = pairs["angle_measured"], pairs["cosine_measured"]
        ax.plot(*points, linestyle="", markersize=2.5, clip_on=False, markerfacecolor=_fill(time), alpha=0.3, **look)
    start, end = (style.rows(table, kind="median", time=time) for time in TIMES)
    tail, tip = ((part["angle_measured"][0], part["cosine_measured"][0]) for part in (start, end))
    ax.annotate("", tip, tail, arrowprops={"arrowstyle": "-|>", "color": style.BLACK, "linewidth": 1.5})


def _places(ax: Axes, part: style.Table, block: Block) -> None:
    """A dumbbell for each loss: where its median pair starts and ends."""
    ax.axvspan(-1, 1, facecolor="0.9", edgecolor="0.6", linewidth=0.5, label="the band")
    ax.axvline(0, color=style.GREY, linewidth=0.5, linestyle=":")
    places = {}
    for time in LOOKS:
        at_time = style.rows(part, time=time)
        rows = [list(at_time["loss"]).index(name) for name in block.losses]
        places[time] = at_time["place_measured"][rows]
    start, end = places.values()
    ax.hlines(block.heights, start, end, color=style.GREY, linewidth=1.2, zorder=1)
    for time, look in LOOKS.items():
        dots: dict[str, Any] = {
            "linestyle": "",
            "markersize": 4.5,
            "label": f"at the {time}",
            "markerfacecolor": _fill(time),
        }
        ax.plot(places[time], block.heights, **dots, **look)
    for heading, height in block.headings.items():
        ax.text(-35, height, heading, fontweight="bold", fontsize=7, va="center")
    ax.set_xscale("symlog", linthresh=1.0)
    ax.set_xticks(list(PLACES), PLACES.values())
    ax.set_yticks(block.heights, block.losses)
    ax.tick_params(axis="y", length=0)
    ax.set(xlim=(-40, 40), ylim=(ROWS, -0.6))
    ax.minorticks_off()


def _fill(time: str) -> str:
    return "white" if time == "start" else LOOKS[time]["color"]
