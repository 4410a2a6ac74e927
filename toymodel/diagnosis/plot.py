"""A picture of logs: the numbers that are used, the trend through them, and the stretches in which both fell."""

import os

from toymodel._public import own_names
from toymodel.diagnosis.evidence import Evidence
from toymodel.diagnosis.logs import diagnose_evidence
from toymodel.diagnosis.trend import Line, follow

__dir__ = own_names(globals())

COLOURS = {"chosen": "#0072B2", "rejected": "#D55E00"}


def plot_logs(logs: dict[str, Evidence], path: str | os.PathLike[str], *, tolerance: float = 0.0) -> None:
    """Draw each log in a separate panel, under its title, into a file (.png, .pdf, .svg).

    Raises:
      ValueError: matplotlib is not installed, or cannot write such a file.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise ValueError("a plot needs the package `matplotlib`: pip install 'toymodel[figures]'.") from None
    figure = Figure(figsize=(6.4, 3.2 * len(logs)), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (title, evidence) in zip(figure.subplots(len(logs), squeeze=False)[:, 0], logs.items(), strict=True):
        sides = {"chosen": evidence.chosen, "rejected": evidence.rejected}
        trends, _ = follow([*sides.values()], fixed=evidence.split == "evaluation", tolerance=tolerance)
        for (name, side), trend in zip(sides.items(), trends, strict=True):
            long = isinstance(trend, Line)
            axes.plot(side.steps, side.values, "." if long else ".-", color=COLOURS[name], alpha=0.4 if long else 1)
            if isinstance(trend, Line):
                axes.plot(trend.nodes, trend.heights, color=COLOURS[name])
            axes.annotate(name, (side.steps[-1], trend.at(float(side.steps[-1]))), color=COLOURS[name])
        fell = [s for s in diagnose_evidence(evidence, tolerance=tolerance).stretches if s["case"] == "both_down"]
        for stretch in fell:
            axes.axvspan(stretch["first_step"], stretch["last_step"], color="0.9", zorder=-1)
        axes.set(xlabel=evidence.step_kind, ylabel=evidence.unit, title=title + (" (grey: both down)" if fell else ""))
        axes.set_xmargin(0.1)
    try:
        figure.savefig(path)
    except (OSError, ValueError) as error:
        raise ValueError(f"cannot write `{path}`: {error}") from error
