"""Shows the pitfall in three panels: inner products, slopes, and contributions of training tokens."""

from dataclasses import replace
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures import account_runs, style, suffix_runs
from figures.sentiment_runs import SETTINGS, over_seeds
from figures.suffix_runs import CONTRAST_PROB, LONGEST, VOCAB
from figures.sweeps import Swept
from toymodel import gradients, theory
from toymodel.data.sentiment import TASKS
from toymodel.experiments.account import TOKENS
from toymodel.experiments.experiment import Row, real, setting, whole
from toymodel.models.crowd import Cosines, crowd
from toymodel.sweep import Experiment, make_sweep

A, B = 0.9, 0.5
PROBS = {"p_chosen": CONTRAST_PROB, "p_rejected": CONTRAST_PROB, "a": A, "b": B}
PAIRS, COSINES = 8, Cosines(0.6, 0.1, 1.0)  # that take a step together: of label contexts (same, other), of suffixes
WORDS = {"single_token": 0, "short_suffix": SETTINGS["short_suffix"], "long_suffix": SETTINGS["long_suffix"]}
SLOPES = (-3.2, 1.6)  # of the middle panel: the rejected leaves it, so that one sees where the chosen crosses zero
ARROW = {"arrowstyle": "-", "linewidth": 0.6, "color": style.GREY}
ROOM = 0.8  # nats above the curves, for their names
Corner = Literal["upper left", "lower right"]  # where a panel names its curves
ENTRIES = {"inner": style.Look(style.PURPLE, "D", "-"), "chosen_sq": style.Look(style.BLACK, "^", "--")}
SIDES = {
    "chosen": style.Look(style.BLUE, "o", "-"),
    "crowd": style.Look(style.GREEN, "^", "-."),
    "rejected": style.Look(style.RED, "s", "--"),
}
SOURCES = {
    "chosen suffix": style.Look(style.BLUE, "s", "--"),
    "labels": style.Look(style.ORANGE, "^", "-."),
    "rejected suffix": style.Look(style.RED, "v", ":"),
}
CHANGE = {"change": style.Look(style.BLACK, "o", "-")}  # its line: the sum of what the sources brought
CURVES = {
    "inner": "⟨$g_w$, $g_l$⟩",
    "chosen_sq": "‖$g_w$‖²",
    "chosen": "chosen, alone",
    "crowd": f"chosen, {PAIRS} pairs",
    "rejected": "rejected, alone",
    "chosen suffix": "chosen suffixes",
    "labels": "labels",
    "rejected suffix": "rejected suffixes",
    "change": "sum and change",
}


@setting
class CrowdSetting:
    """`PAIRS` pairs that take a step together: the length of their suffix, and the cosines of their contexts."""

    suffix_length: int = whole(None, low=0, high=LONGEST)
    same: float = real(None)
    different: float = real(None)
    suffix: float = real(None)


def measure(setting: CrowdSetting) -> Row:
    """Slope of the first chosen under the mean step, in nats per unit of learning rate."""
    cosines = Cosines(setting.same, setting.different, setting.suffix)
    pairs, model = crowd(PAIRS, LONGEST, cosines, vocab_size=VOCAB, **PROBS)
    mask = jnp.broadcast_to(jnp.arange(LONGEST + 1) <= setting.suffix_length, pairs.chosen.shape)
    group = theory.as_group(replace(pairs, chosen_mask=mask, rejected_mask=mask), 1.0, 1.0)
    slopes = gradients.group_slopes(model, jnp.zeros((VOCAB, model.features.shape[1])), *group)
    return {"chosen_measured": slopes[0]}


CROWD = Experiment("story_crowd", CrowdSetting, measure, block=3)


def compute(quick: bool, swept: Swept) -> style.Table:
    """A row per curve and point on it: `x` is a suffix length."""
    pairs = swept(make_sweep(suffix_runs.EXPERIMENT, {"a": A, "b": B, "suffix_length": suffix_runs.lengths(quick)}))
    together = swept(make_sweep(CROWD, {"suffix_length": suffix_runs.lengths(quick), **COSINES._asdict()}))
    lengths = pairs["suffix_length"]
    curves = {
        name: (pairs[f"{name}_predicted"], pairs[f"{name}_measured"]) for name in (*ENTRIES, "chosen", "rejected")
    }
    known: dict[str, Any] = {**PROBS, "vocab_size": VOCAB, "cosines": COSINES, "batch_size": PAIRS}
    slopes, _ = theory.crowd_slopes(**known, suffix_length=jnp.asarray(lengths))
    curves["crowd"] = (np.asarray(slopes), together["chosen_measured"])
    tables = [_rows(name, lengths, *values, *_none(2, len(lengths))) for name, values in curves.items()]
    thresholds = {
        "threshold": pairs["threshold_predicted"][:1],
        "threshold of the crowd": np.atleast_1d(theory.crowd_threshold(**known)),
    }
    tables += [_rows(name, x, *_none(4, 1)) for name, x in thresholds.items()]
    accounts = account_runs.runs(quick, swept)
    tables += [_brought(WORDS[task], style.rows(accounts, task=task)) for task in TASKS]
    return style.stacked(*tables)


def _brought(words: float, accounts: style.Table) -> style.Table:
    """What sources contributed to the chosen answers of a task, and their change: means over pairs, then over seeds."""
    of_pairs, true_change = account_runs.of_chosen(accounts)
    brought = dict(zip(TOKENS, np.moveaxis(of_pairs.mean(axis=-1), 1, 0), strict=True))  # [seeds] each
    brought["labels"] = brought["chosen label"] + brought["rejected label"]
    x = np.array([words])
    tables = [_rows(name, x, *_none(1, 1), *over_seeds("", brought[name][:, None]).values()) for name in SOURCES]
    total, change = of_pairs.sum(axis=1).mean(keepdims=True), over_seeds("", true_change.mean(axis=-1)[:, None])
    return style.stacked(*tables, _rows("change", x, total[0], *change.values()))


def _none(columns: int, rows: int) -> list[np.ndarray]:
    return [np.full(rows, np.nan)] * columns


def _rows(curve: str, x: np.ndarray, *columns: np.ndarray) -> style.Table:
    names = ("x", "predicted", "measured", "low", "high")
    return {"curve": np.full(len(x), curve)} | {
        name: column.astype(float) for name, column in zip(names, (x, *columns), strict=True)
    }


def draw(table: style.Table) -> Figure:
    figure = Figure(figsize=(style.PAGE, 2.7))
    entangled, slopes, training = figure.subplots(1, 3)
    threshold, together = (style.rows(table, curve=f"threshold{of}")["x"][0] for of in ("", " of the crowd"))
    _panel(entangled, table, ENTRIES, "upper left")
    _panel(slopes, table, SIDES, "lower right")
    _panel(training, table, SOURCES | CHANGE, "upper left")
    for ax in (entangled, slopes):
        ax.axvline(threshold, color=style.BLACK, linewidth=0.8, linestyle=":")
        ax.axvspan(threshold, LONGEST, facecolor="0.95", linewidth=0, zorder=-1)
    slopes.set_ylim(*SLOPES)
    inner = style.rows(table, curve="inner")
    meeting = np.interp(threshold, inner["x"], inner["predicted"])
    written: dict[str, Any] = {"ha": "center", "fontsize": 7}
    middle = (threshold + LONGEST) / 2
    entangled.text(middle, 0.5, "$‖g_w‖^2$ is\nthe smaller:\nboth fall", va="center", **written)
    slopes.text(middle, SLOPES[1] - 0.1, "alone:\nboth fall", va="top", **written)
    entangled.annotate("L*", (threshold, meeting), (threshold - 7, meeting + 0.35), arrowprops=ARROW, fontsize=8)
    slopes.annotate("L*", (threshold, 0), (threshold + 2.5, 0.45), arrowprops=ARROW, fontsize=8)
    slopes.annotate(
        f"L*$_{PAIRS}$",
        (together, 0),
        (together + 2.5, -1.1),
        arrowprops=ARROW,
        fontsize=8,
        color=SIDES["crowd"].colour,
    )
    for ax in (entangled, slopes, training):
        ax.set_xlabel("shared suffix (tokens)")
    entangled.set_title("shared tokens entangle")
    entangled.set_ylabel("Gram entries (nats² / param.²)")
    slopes.set_title("beyond L* one step lowers both")
    slopes.set_ylabel("slope (nats / unit of learning rate)")
    training.set_xticks(list(WORDS.values()))
    training.set_ylim(top=training.get_ylim()[1] + ROOM)
    training.set_ylabel("change of log π of chosen (nats)")
    training.set_title("rejected suffixes lower it")
    return figure


def _panel(ax: Axes, table: style.Table, looks: dict[str, style.Look], names_at: Corner) -> None:
    """Predicted curves are lines; for curves that are only measured, the line joins the markers."""
    style.zero_line(ax)
    for name, look in looks.items():
        part = style.rows(table, curve=name)
        style.intervals(ax, part["x"], part["low"], part["high"], look)
        line = np.where(np.isnan(part["predicted"]), part["measured"], part["predicted"])
        style.curve(ax, part["x"], line, part["measured"], look)
    entries = style.entries({CURVES[name]: look for name, look in looks.items()})
    ax.legend(handles=entries, loc=names_at, frameon=True, framealpha=0.9, edgecolor="none")
