"""Follows the probability that DPO takes from the rejected token."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures import style
from figures.intervals import mean_interval
from figures.sweeps import Swept
from toymodel import PreferencePairs, gradients, theory
from toymodel.experiments.experiment import POSITIVE, one_of, real, setting, whole
from toymodel.losses import LOSSES
from toymodel.models import linear
from toymodel.models.unconstrained import UnconstrainedParams, init_params, unconstrained
from toymodel.sweep import Experiment, make_sweep
from toymodel.training import train

VOCAB, DIM = 12, 8
CHOSEN, REJECTED = 0, 1  # token ids
SHRINK, NOISE, HIDDEN_NORM, TEMPERATURE = 0.8, 0.2, 0.5, 0.5
RUNS, QUICK_RUNS = 48, 24
STEPS, QUICK_STEPS = 80, 40
LEARNING_RATE = 0.05
SEED = 0
PUSHED = "0.3 (pushed down)"
PROBS = {"0.4 (largest other)": 0.4, PUSHED: 0.3, "0.15": 0.15, "0.1": 0.1, "0.05": 0.05}  # by their names
RATES, QUICK_RATES = np.geomspace(1e-1, 1e2, 16), np.geomspace(1e-1, 1e2, 7)
LOOKS = {
    "chosen": style.Look(style.BLUE, "o", "-"),
    "rejected": style.Look(style.RED, "s", "--"),
    "all others": style.Look(style.GREEN, "^", "-."),
}
SQUEEZE_LOOKS = dict(
    zip(
        PROBS,
        (
            style.Look(style.BLACK, "D", "-"),
            style.Look(style.RED, "s", "--"),
            style.Look(style.SKY, "^", "-."),
            style.Look(style.ORANGE, "v", ":"),
            style.Look(style.PURPLE, "P", ":"),
        ),
        strict=True,
    )
)
TRAINED = {"DPO": {"beta": 1.0}, "DPO + likelihood": {"beta": 1.0, "rpo_alpha": 1.0}}
LOSS_OF = {
    name: LOSSES[word](**TRAINED[name]) for name, word in {"DPO": "dpo", "DPO + likelihood": "dpo_nll_mean"}.items()
}


@setting
class TrainedSetting:
    """One run."""

    loss: str = one_of(TRAINED, None)
    steps: int = whole(None, low=1, compiled=True)
    seed: int = whole(None, low=0)


def measure(setting: TrainedSetting) -> dict[str, Array]:
    """Slopes of all tokens' log-probabilities at the start of one run, and the pair's probabilities at every state."""
    model, params = unconstrained(linear.unigram(VOCAB)), _start(setting.seed)
    head, (hidden,) = params["head"], params["hidden"]
    tokens = _pairs([*range(VOCAB)], [*range(VOCAB)], VOCAB).chosen_response
    towards = jnp.zeros(VOCAB).at[CHOSEN].set(1.0).at[REJECTED].set(-1.0)
    pair, loss = _pairs([CHOSEN], [REJECTED], VOCAB), LOSS_OF[setting.loss]
    run = train(model, params, pair, loss, optax.sgd, LEARNING_RATE, steps=setting.steps)
    assert run.trajectory is not None
    return {
        "leaning": head @ (head[CHOSEN] - head[REJECTED]),
        "slopes_predicted": theory.token_slopes(head, hidden, CHOSEN, REJECTED),
        "slopes_measured": gradients.group_slopes(model, params, tokens, towards),
        "chosen": jnp.exp(run.trajectory.chosen_logps[:, 0]),
        "rejected": jnp.exp(run.trajectory.rejected_logps[:, 0]),
    }


def _start(seed: int | Array) -> UnconstrainedParams:
    """Parameters in which the chosen token's row is a weaker copy of the rejected one's, along the hidden state."""
    key = jax.random.fold_in(jax.random.key(SEED), seed)
    params = init_params(key, unconstrained(linear.unigram(VOCAB)), dim=DIM, temperature=TEMPERATURE)
    head, (hidden,) = params["head"], params["hidden"]
    head = head.at[CHOSEN].set(SHRINK * head[REJECTED] + NOISE * head[CHOSEN])
    leaning = hidden + head[REJECTED] / jnp.linalg.norm(head[REJECTED])
    return {"head": head, "hidden": HIDDEN_NORM * leaning[None] / jnp.linalg.norm(leaning)}


@setting
class PushSetting:
    """One step."""

    learning_rate: float = real(None, POSITIVE)


def push(setting: PushSetting) -> dict[str, Array]:
    """Probabilities of all tokens after a step of ascent on the loss of one of them."""
    logits, down = jnp.log(jnp.array(list(PROBS.values()))), list(PROBS).index(PUSHED)
    pairs = _pairs([*range(len(PROBS))], [down] * len(PROBS), len(PROBS))
    step = optax.sgd(setting.learning_rate)
    # The rejected is pushed down alone; the chosen is the token that is looked at.
    changes, _ = gradients.step_change(linear.unigram(len(PROBS)), logits[:, None], pairs, step, 0.0, 1.0)
    return {
        "predicted": jnp.exp(theory.squeeze(logits, down, setting.learning_rate)),
        "measured": jnp.exp(logits + changes),
    }


def _pairs(chosen: list[int], rejected: list[int], vocab_size: int) -> PreferencePairs:
    empty: list[list[int]] = [[] for _ in chosen]
    return PreferencePairs.from_lists(
        empty, [[token] for token in chosen], [[token] for token in rejected], vocab_size=vocab_size
    )


MASS = Experiment("mass", TrainedSetting, measure, block=16)
SQUEEZE = Experiment("mass_squeeze", PushSetting, push, block=16)


def compute(quick: bool, swept: Swept) -> style.Table:
    runs, steps, rates = (QUICK_RUNS, QUICK_STEPS, QUICK_RATES) if quick else (RUNS, STEPS, RATES)
    trained = swept(make_sweep(MASS, {"loss": list(TRAINED), "steps": steps, "seed": range(runs)}))
    curves = [_curves(name, style.rows(trained, loss=name)) for name in TRAINED]
    return style.stacked(
        _slopes_at_the_start(trained), _squeezed(swept(make_sweep(SQUEEZE, {"learning_rate": rates}))), *curves
    )


def _slopes_at_the_start(trained: style.Table) -> style.Table:
    """The slope of every token's log-probability at the start, in the first run of DPO."""
    first = style.rows(trained, loss="DPO", seed=0)
    names = np.array(list(LOOKS))[[0, 1, *[2] * (VOCAB - 2)]]
    leaning, predicted, measured = (first[name][0] for name in ("leaning", "slopes_predicted", "slopes_measured"))
    constant = (predicted - leaning)[-1]  # of every third token
    ends = np.array([leaning.min(), leaning.max()])
    return style.stacked(
        _table("slope", names, leaning, predicted, measured),
        _table("line", "all others", ends, ends + constant, np.nan),
    )


def _squeezed(steps: style.Table) -> style.Table:
    """Probability of every token after a step up the loss of one, at each learning rate."""
    names = np.array(list(PROBS))[:, None]
    return _table("squeeze", names, steps["learning_rate"], steps["predicted"].T, steps["measured"].T)


def _curves(name: str, runs: style.Table) -> style.Table:
    """Mean probabilities over runs at every state, with 95% intervals."""
    probs = runs["chosen"], runs["rejected"], 1 - runs["chosen"] - runs["rejected"]
    steps = np.arange(probs[0].shape[1], dtype=float)
    return style.stacked(
        *(_table(name, token, steps, np.nan, *mean_interval(p.T)) for token, p in zip(LOOKS, probs, strict=True))
    )


def _table(
    panel: str,
    token: str | list[str] | np.ndarray,
    x: Array | np.ndarray,
    predicted: Array | np.ndarray | float,
    measured: Array | np.ndarray | float,
    low: np.ndarray | float = np.nan,
    high: np.ndarray | float = np.nan,
) -> style.Table:
    columns = {"panel": panel, "token": token, "x": x, "predicted": predicted, "measured": measured}
    arrays = np.broadcast_arrays(*columns.values(), low, high)
    return {name: array.ravel() for name, array in zip((*columns, "low", "high"), arrays, strict=True)}


def draw(table: style.Table) -> Figure:
    figure = Figure(figsize=(style.PAGE, 4.6))
    top, bottom = figure.subplots(2, 2)
    _slopes(top[0], table)
    for token, look in SQUEEZE_LOOKS.items():
        part = style.rows(table, panel="squeeze", token=token)
        style.curve(top[1], part["x"], part["predicted"], part["measured"], look)
        top[1].plot([], [], look.line, marker=look.marker, color=look.colour, markerfacecolor="white", label=token)
    top[1].set(xscale="log", ylim=(-0.03, 1.03), title="ascent on the loss of one token")
    top[1].set(xlabel="step size η", ylabel="probability after the step")
    top[1].legend(loc="center right", title="probability before")
    for ax, name in zip(bottom, TRAINED, strict=True):
        for token, look in LOOKS.items():
            part = style.rows(table, panel=name, token=token)
            ax.fill_between(part["x"], part["low"], part["high"], color=look.colour, alpha=0.2, linewidth=0)
            every = {"markevery": 8, "markerfacecolor": "white"}
            ax.plot(part["x"], part["measured"], look.line, marker=look.marker, color=look.colour, label=token, **every)
        ax.set(ylim=(-0.03, 1.03), title=name, xlabel="steps", ylabel="probability")
    bottom[0].legend(loc="center right")
    return figure


def _slopes(ax: Axes, table: style.Table) -> None:
    style.zero_line(ax)
    line = style.rows(table, panel="line")
    ax.plot(line["x"], line["predicted"], "-", color=style.GREY, linewidth=0.8)
    for token, look in LOOKS.items():
        part = style.rows(table, panel="slope", token=token)
        ax.plot(part["x"], part["measured"], look.marker, color=look.colour, markerfacecolor="white", label=token)
    ax.set(xlabel="⟨$W_z$, $W_w − W_l$⟩", ylabel="slope of log π(z)\n(nats per unit of learning rate)")
    ax.set(title="start of one run of DPO")
    ax.legend(loc="upper left")
