"""Measures which training tokens moved the chosen answers under each remedy, at the same margin."""

import dataclasses
from operator import itemgetter

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures import remedy_runs, style
from figures.remedy_runs import LOOKS, LOSSES, MODEL_NAMES, NAMES, QUICK, QUICK_SEEDS, SEEDS, SETTINGS, TASK_NAMES
from figures.sentiment_runs import taught
from figures.sweeps import Swept, swept_in_a_hurry
from toymodel.experiments import setting
from toymodel.experiments.account import CHOSEN, TOKENS, by_part
from toymodel.experiments.experiment import Row, whole
from toymodel.experiments.remedies import MODELS, REMEDY_COMPARISON, RemedySetting, arguments_of, prepare
from toymodel.remedies import REMEDIES
from toymodel.sweep import make_sweep
from toymodel.training import Weighted, account, by_position, by_side, crossed

TASK, LOSS = "long suffix", "dpo"
ACCOUNTED = [  # remedies whose step is a sum over training tokens
    name for name, remedy in REMEDIES.items() if remedy.update is None or isinstance(remedy.update(1.0), Weighted)
]
LINEAR = 0.1  # nats: axes are linear up to here, and logarithmic beyond
TICKS = {-10: "−10", -1: "", -0.1: "−.1", 0: "0", 0.1: ".1", 1: "", 10: "10"}
QUICK_REMEDIES = ["none", "oracle_mask", "rejected_mask"]
IN_TRANSFORMER = ["none", "penalty"]  # of others the true change is hardly told apart from none's
# Both labels follow the same prompt. Of one pair their gradients cancel, in rows of other words, to what Adam takes for
# nothing and divides by; so they are told together. Where other sources cancel by chance, single seeds are far away:
# hence medians over seeds.
BOTH_LABELS, BOTH_SUFFIXES, SUM, TRUTH = "both labels", "both suffixes", "all sources", "true change"
SOURCES = (*TOKENS, BOTH_LABELS, BOTH_SUFFIXES, SUM, TRUTH)  # rows of the table
PANELS = (BOTH_LABELS, "chosen suffix", "rejected suffix", BOTH_SUFFIXES, TRUTH)
APART = 0.3  # between models, in rows


@setting
class AccountSetting(RemedySetting):
    """A remedy, and the step at which its account ends."""

    stop: int = whole(1, low=1, compiled=True)


def measure(setting: AccountSetting, row: Row) -> Row:
    """What each of `TOKENS` in training contributed to the parts of unseen pairs, in nats: [sources, parts, n]."""
    network = dataclasses.replace(setting, model=MODELS[setting.model], remedy="none")
    model, params, training, judged, accuracy = prepare(network, row["params"], setting.model == "readout")
    pairs, unseen = jax.tree.map(itemgetter(TASK_NAMES.index(TASK)), (training, judged))
    arguments, options = arguments_of(setting, model, params, pairs)
    sources = crossed(by_side(arguments[2]), by_position(arguments[2]))
    found = account(*arguments, **options | {"steps": setting.stop}, judged=unseen, sources=sources, at="middle")
    return {
        "stopped_at": found.run.stopped_at,
        "label_accuracy": accuracy,
        "contributions": jnp.stack([by_part(found.contributions[source]) for source in TOKENS]),
        "true_change": by_part(found.true_change),
    }


EXPERIMENT = dataclasses.replace(
    REMEDY_COMPARISON, name="remedy_account", setting=AccountSetting, measure=measure, whole=True, block=5, shard=10
)


def compute(quick: bool, swept: Swept) -> style.Table:
    """A row for each model, remedy and source, at the step nearest to where the mean margin reaches one size."""
    models = ("ngram_mlp",) if quick else ("readout", "transformer")
    runs = remedy_runs.runs(quick, swept)
    return style.stacked(*(_accounts(model, runs[model], quick, swept) for model in models))


def _accounts(model: str, runs: style.Table, quick: bool, swept: Swept) -> style.Table:
    settings, seeds, names = (SETTINGS | QUICK, QUICK_SEEDS, QUICK_REMEDIES) if quick else (SETTINGS, SEEDS, ACCOUNTED)
    if model == "transformer":
        names = IN_TRANSFORMER
    stops = _stops(runs, remedy_runs.states(quick), remedy_runs.MARGINS[model])
    each = {"zip": {"remedy": names, "stop": [stops[name] for name in names]}, "seed": seeds}
    found = swept_in_a_hurry(swept, make_sweep(EXPERIMENT, settings | {"model": model, "loss": LOSS} | each))
    brought = {name: _brought(taught(style.rows(found, remedy=name), name)) for name in names}
    table = style.stacked(*(_rows(name, stops[name], brought) for name in names))
    return {"model": np.full(len(table["remedy"]), model)} | table


def _stops(runs: style.Table, states: np.ndarray, nats: float) -> dict[str, int]:
    """By remedy, the step at which the mean margin over seeds first reaches `nats`; the last if it never does."""
    chosen, rejected = (
        change[:, :, TASK_NAMES.index(TASK), LOSSES.index(LOSS)] for change in remedy_runs.changes(runs)
    )
    stops = {}
    for name, margin in zip(NAMES, (chosen - rejected).mean(axis=0), strict=True):
        after = int((margin >= nats).argmax()) or len(states) - 1
        between = slice(after - 1, after + 1)
        stops[name] = max(1, round(float(np.interp(nats, margin[between], states[between]))))
    return stops


def _brought(found: style.Table) -> style.Table:
    """Means over pairs for one remedy, [seeds]: what each source contributed to the chosen answer; and the margin."""
    parts, change = found["contributions"].mean(axis=-1), found["true_change"].mean(axis=-1)
    of_chosen = dict(zip(TOKENS, parts[:, :, CHOSEN].sum(axis=-1).T, strict=True))
    true_change = change[:, CHOSEN].sum(axis=1)
    return of_chosen | {
        BOTH_LABELS: of_chosen["chosen label"] + of_chosen["rejected label"],
        BOTH_SUFFIXES: of_chosen["chosen suffix"] + of_chosen["rejected suffix"],
        SUM: sum(of_chosen.values()),
        TRUTH: true_change,
        "margin": 2 * true_change - change.sum(axis=1),
    }


def _rows(name: str, stop: int, brought: dict[str, style.Table]) -> style.Table:
    """Medians over seeds; `more` is the paired difference from a source's contribution without a remedy."""
    mine, without = (np.stack([brought[which][source] for source in SOURCES], axis=-1) for which in (name, "none"))
    margin = np.broadcast_to(brought[name]["margin"][:, None], mine.shape)
    same = {"remedy": name, "step": stop, "seeds": len(mine)}
    table = {"source": np.array(SOURCES)} | {column: np.full(len(SOURCES), value) for column, value in same.items()}
    for column, of_seeds in {"brought": mine, "more": mine - without, "margin": margin}.items():
        in_order = np.sort(of_seeds, axis=0)
        ends = {"low": in_order[1], "measured": np.median(of_seeds, axis=0), "high": in_order[-2]}
        table |= {f"{column}_{end}": value for end, value in ends.items()}
    return table


def draw(table: style.Table) -> Figure:
    figure = Figure(figsize=(style.PAGE, 4.6))
    axes = figure.subplots(1, len(PANELS), sharey=True)
    names, models = (list(dict.fromkeys(table[column].tolist())) for column in ("remedy", "model"))
    for ax, source in zip(axes, PANELS, strict=True):
        for row in range(0, len(names), 2):
            ax.axhspan(row - 0.5, row + 0.5, color="0.95", zorder=-1, linewidth=0)
        ax.axvline(0, color=style.GREY, linewidth=0.5, zorder=0)
        for place, model in enumerate(models):
            offset = (place - (len(models) - 1) / 2) * APART
            part = style.rows(table, model=model, source=source)
            _markers(ax, part, np.array([names.index(name) for name in part["remedy"]]) + offset, LOOKS[model])
        ax.set_xscale("symlog", linthresh=LINEAR)
        ax.set_xticks(list(TICKS), TICKS.values())
        ax.minorticks_off()
        ax.set(title=source, xlabel="nats")
        ax.tick_params(axis="y", length=0)
        ax.spines["left"].set_visible(False)
    axes[0].set_yticks(range(len(names)), [NAMES[name] for name in names])
    axes[0].set_ylim(len(names) - 0.5, -0.5)
    style.legend(figure, {MODEL_NAMES[model]: LOOKS[model] for model in models}, ncols=len(models))
    return figure


def _markers(ax: Axes, part: style.Table, rows: np.ndarray, look: style.Look) -> None:
    """Markers in the rows of the remedies; the dotted line is the source's contribution without one."""
    ax.axvline(style.rows(part, remedy="none")["brought_measured"][0], color=look.colour, linewidth=0.6, linestyle=":")
    ax.hlines(rows, part["brought_low"], part["brought_high"], color=look.colour, linewidth=0.8)
    ax.plot(part["brought_measured"], rows, look.marker, color=look.colour, markerfacecolor="white")
