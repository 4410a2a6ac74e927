"""Compares gradient descent with the exact paths of DPO and IPO for one differing token."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array
from matplotlib.figure import Figure

from figures import style
from figures.sweeps import Swept
from toymodel import PreferencePairs, theory
from toymodel.experiments.experiment import POSITIVE, one_of, real, setting, whole
from toymodel.losses import LOSSES, Loss
from toymodel.models import linear
from toymodel.models.linear import LinearSoftmax
from toymodel.sweep import Experiment, make_sweep
from toymodel.training import train

VOCAB, CHOSEN, REJECTED = 5, 0, 1
BETA, TAU = 0.5, 0.5
FLOWS: dict[str, Callable[..., Array]] = {"DPO": theory.dpo_flow, "IPO": theory.ipo_flow}
HYPER = {"DPO": {"beta": BETA}, "IPO": {"tau": TAU}}
LOSS_OF = {"DPO": LOSSES["dpo"](**HYPER["DPO"]), "IPO": LOSSES["ipo_sum"](**HYPER["IPO"])}
TARGET = 1 / (2 * TAU)  # IPO's
TIMES = {"DPO": 16.0, "IPO": 0.4}  # at which the distance is taken; the paths are three times as long
SHOWN = {1: style.Look(style.RED, "v", "-"), 2: style.Look(style.GREEN, "s", "-"), 8: style.Look(style.BLUE, "o", "-")}
MOST, QUICK_MOST = 512, 64  # steps until then; powers of two
POINTS = 61
SEED = 0
DISTANCE_LOOKS = {"DPO": style.Look(style.BLACK, "D", "-"), "IPO": style.Look(style.PURPLE, "^", "--")}


@setting
class DescentSetting:
    """Gradient descent on one pair."""

    loss: str = one_of(LOSS_OF, None)
    learning_rate: float = real(None, POSITIVE)
    steps: int = whole(None, low=1, compiled=True)


def measure(setting: DescentSetting) -> dict[str, Array]:
    """Change of the margin since the start, at every state of gradient descent."""
    model, params = _start()
    pair = PreferencePairs.from_lists([[]], [[CHOSEN]], [[REJECTED]], vocab_size=VOCAB)
    run = train(model, params, pair, LOSS_OF[setting.loss], optax.sgd, setting.learning_rate, steps=setting.steps)
    assert run.trajectory is not None
    return {"margin": (run.trajectory.margin - run.trajectory.margin[0])[:, 0]}


def _start() -> tuple[LinearSoftmax, Array]:
    model = linear.unigram(VOCAB)
    return model, linear.init_params(jax.random.key(SEED), model)


EXPERIMENT = Experiment("flow", DescentSetting, measure, block=16)


def compute(quick: bool, swept: Swept) -> style.Table:
    steps = 2 ** np.arange(np.log2(QUICK_MOST if quick else MOST) + 1).astype(int)
    grids = ({"loss": name, "learning_rate": TIMES[name] / steps, "steps": steps[-1]} for name in LOSS_OF)
    runs = swept(make_sweep(EXPERIMENT, *grids))
    return style.stacked(*(table for name in FLOWS for table in _tables(name, steps, runs)))


def _tables(name: str, steps: np.ndarray, runs: style.Table) -> list[style.Table]:
    """The flow, descent at each of the learning rates TIMES/steps, and the distance between the two at TIMES."""
    margins, rates = (style.rows(runs, loss=name)[column] for column in ("margin", "learning_rate"))

    def flow(t: Array | np.ndarray | float) -> np.ndarray:
        return 2 * np.asarray(FLOWS[name](t, **HYPER[name]))

    line = np.linspace(0, 3 * TIMES[name], POINTS)
    tables = [_table("flow", name, 0.0, 0, line, flow(line), np.nan)]
    for count, rate, margin in zip(steps, rates, margins, strict=True):
        if count in SHOWN:
            t = rate * np.arange(3 * count + 1)
            tables.append(_table("descent", name, rate, count, t, flow(t), margin[: t.size]))
    reached = np.take_along_axis(margins, steps[:, None], axis=1)[:, 0]
    lead = rates * _euler_error(LOSS_OF[name], 0.5 * flow(TIMES[name]))
    return [*tables, _table("distance", name, rates, steps, 1 / steps, lead, reached - flow(TIMES[name]))]


def _euler_error(loss: Loss, u: np.ndarray) -> np.ndarray:
    """How far the margin 2u of descent is ahead, per unit of η: f(u) log(f(0)/f(u)), f = du/dt (to first order in η).

    Euler's error e obeys e′ = f′(u)e − ηf′(u)f(u)/2 along the flow; the solution is −(η/2) f(u) ∫ f′(u) dt.
    """
    _, params = _start()
    logps = theory.flow_logps(params[:, 0], CHOSEN, REJECTED, jnp.array([0.0, u]))
    start, now = np.asarray(loss.weights(*logps, *(logp[:1].repeat(2) for logp in logps))[0])
    return now * np.log(start / now)


def _table(curve: str, loss: str, *columns: Array | np.ndarray | float) -> style.Table:
    names = ("curve", "loss", "learning_rate", "steps", "x", "predicted", "measured")
    values = np.broadcast_arrays(curve, loss, *columns)
    return dict(zip(names, values, strict=True))


def draw(table: style.Table) -> Figure:
    figure = Figure(figsize=(style.PAGE, 2.6))
    *paths, distance = figure.subplots(1, 3)
    for ax, name in zip(paths, FLOWS, strict=True):
        flow = style.rows(table, curve="flow", loss=name)
        ax.plot(flow["x"], flow["predicted"], "-", color=style.BLACK, label="gradient flow")
        for steps, look in SHOWN.items():
            part = style.rows(table, curve="descent", loss=name, steps=steps)
            label = f"descent, η = {part['learning_rate'][0]:g}"
            ax.plot(part["x"], part["measured"], look.marker, color=look.colour, markerfacecolor="white", label=label)
        ax.set(title=name, xlabel="time t = η × steps", ylabel="logratio margin (nats)")
        ax.legend(loc="lower right")
    paths[1].axhline(TARGET, color=style.GREY, linewidth=0.8, linestyle=":", zorder=0)
    paths[1].annotate("target", (0, TARGET), va="bottom", color=style.GREY)
    for name, look in DISTANCE_LOOKS.items():
        part = style.rows(table, curve="distance", loss=name)
        style.curve(distance, part["x"], part["predicted"], part["measured"], look)
        distance.plot([], [], look.line, marker=look.marker, color=look.colour, markerfacecolor="white", label=name)
    distance.set(xscale="log", yscale="log", xlabel="learning rate η / t", title="distance at one time t")
    distance.set_ylabel("descent ahead of flow (nats)")
    distance.legend(loc="upper left")
    return figure
