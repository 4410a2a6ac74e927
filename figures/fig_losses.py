"""Losses of one family move the same pairs alike, whatever their m; families differ in how d_w and d_l compare.

Equal weights let the chosen fall again as the rejected falls; likelihood terms lift both; a term for each response
raises the one and lowers the other. Curves are the measured change of log π since the start, mean over 32 seeds with
its 95% interval, for every loss with its default hyperparameters. A seed is a pair and a linear softmax model (V = 7, 4
to 14 tokens that share their suffix, hidden states after chosen and after rejected at cosine 0.95), the same for all
losses. Each pair is trained alone by 200 steps of gradient descent from the reference. The same first step for every
loss: its learning rate makes η · ‖(d_w, d_l)‖, averaged over the seeds, 0.05 at step 0. The vertical axis is
logarithmic beyond ±1 nat and cut at ±60. A curve ends where the next step moves some seed by more than 100 nats: only
that of LSIF, whose d_w grows like the probability of the chosen. DPOP and BPO chatter around the kink where they
switch.
"""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures import loss_runs, style
from figures.intervals import mean_interval
from figures.loss_runs import GROUPS, STATES, STEPS
from figures.sweeps import Swept
from toymodel.losses import LOSSES
from toymodel.theory import CASES

TITLE = "What each loss does to the same pairs"
LABELS = ("T9", "T10")

JUMP = 100.0  # nats in one step
COLUMNS = 6
CUT = 60.0  # nats
TICKS = {-10: "−10", 0: "0", 10: "10"}
MARGINS = {"left": 0.075, "right": 0.985, "bottom": 0.05, "top": 0.975, "hspace": 0.42, "wspace": 0.12}
HEADING = 0.4  # height of a group's heading, in panels
CURVES = ("chosen", "rejected", "margin")
LOOKS = {
    "chosen": style.Look(style.BLUE, "", "-"),
    "rejected": style.Look(style.RED, "", "--"),
    "margin": style.Look(style.BLACK, "", ":"),
}
SHADES = {"chosen": 0.3, "rejected": 0.3, "margin": 0.15}  # opacity of the intervals


def compute(quick: bool, swept: Swept) -> style.Table:
    runs = loss_runs.trained(quick, swept)
    return style.stacked(*(_rows(name, style.rows(runs, loss=name)) for name in loss_runs.in_order()))


def _rows(name: str, runs: style.Table) -> style.Table:
    """What is shown of one loss: its states until any seed jumps."""
    jumped = runs["largest_change"] > JUMP  # [seeds, states]
    shown = ~jumped.any(axis=0)
    table = {"loss": np.full(shown.sum(), name), "step": STATES[shown]}
    logps = {side: runs[f"{side}_logps"] for side in ("chosen", "rejected")}
    logps["margin"] = logps["chosen"] - logps["rejected"]
    for curve in CURVES:
        mean, low, high = mean_interval((logps[curve] - logps[curve][:, :1]).T[shown])
        table |= {f"{curve}_measured": mean, f"{curve}_low": low, f"{curve}_high": high}
    table["jumping_seeds"] = np.full(shown.sum(), jumped.any(axis=1).sum())
    cases = loss_runs.cases(runs)[:, shown]
    return table | {f"{case}_measured": (cases == place).mean(axis=0) for place, case in enumerate(CASES)}


def draw(table: style.Table) -> Figure:
    figure = Figure(figsize=(style.PAGE, 8.0))
    figure.set_layout_engine("none")  # fifty panels of one size need no solver
    rows = {heading: np.array_split(group, range(COLUMNS, len(group), COLUMNS)) for heading, group in GROUPS.items()}
    heights = [height for lines in rows.values() for height in (HEADING, *(1 for _ in lines))]
    grid = figure.add_gridspec(len(heights), COLUMNS, height_ratios=heights, **MARGINS)
    row = 0
    for heading, lines in rows.items():
        label = figure.add_subplot(grid[row, :])
        label.set_axis_off()
        label.text(0, 0, heading, fontweight="bold")
        for line in lines:
            row += 1
            for column, name in enumerate(line):
                ax = figure.add_subplot(grid[row, column])
                _panel(ax, style.rows(table, loss=name), name)
                ax.tick_params(labelleft=column == 0, labelbottom=line is lines[-1])
        row += 1
    figure.supxlabel(f"step of training (of {STEPS})", fontsize=8, y=0.005)
    figure.supylabel("change of log π since the start (nats)", fontsize=8, x=0.005)
    style.legend(figure, LOOKS, ncols=3)
    return figure


def _panel(ax: Axes, part: style.Table, name: str) -> None:
    style.zero_line(ax)
    for curve, look in LOOKS.items():
        mean, low, high = (part[f"{curve}_{end}"] for end in ("measured", "low", "high"))
        ax.fill_between(part["step"], low, high, color=look.colour, alpha=SHADES[curve], linewidth=0)
        ax.plot(part["step"], mean, look.line, color=look.colour)
    if part["jumping_seeds"][0]:
        ax.text(STEPS / 2, 1, f"ends at step {part['step'][-1]}", fontsize=7, ha="center")
    ax.set_title(name, fontsize=7, pad=2)
    ax.set_yscale("symlog", linthresh=1.0)
    ax.set(xlim=(0, STEPS), ylim=(-CUT, CUT))
    ax.set_xticks((0, STEPS // 2, STEPS), ("0", str(STEPS // 2), ""))  # the next panel's 0 needs the room
    ax.set_yticks(list(TICKS), TICKS.values())
    ax.minorticks_off()


def table_markdown(table: style.Table) -> str:
    """The ends of all curves in numbers, as a Markdown table."""
    lines = [
        "| loss | d_w/d_l | Δ chosen | Δ rejected | Δ margin | chosen up and rejected down / both down / both up |",
        "|---|---|---|---|---|---|",
    ]
    for name in loss_runs.in_order():
        part = style.rows(table, loss=name)
        until = f" (until step {part['step'][-1]})" if part["jumping_seeds"][0] else ""
        changes = (_interval(*(part[f"{curve}_{end}"][-1] for end in ("measured", "low", "high"))) for curve in CURVES)
        cases = (_percentages([part[f"{case}_measured"][place] for case in CASES[:3]]) for place in (0, -1))
        lines.append(f"| `{name}`{until} | {LOSSES[name].ratio} | {' | '.join(changes)} | {' → '.join(cases)} |")
    return "\n".join(lines) + "\n"


def _interval(mean: float, low: float, high: float) -> str:
    return f"{mean:z.1f} [{low:z.1f}, {high:z.1f}]".replace("-", "−")


def _percentages(fractions: list[float]) -> str:
    return " / ".join(f"{100 * fraction:.0f}%" for fraction in fractions)
