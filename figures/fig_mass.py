"""DPO can move the mass it takes from the rejected token to third tokens, and some of the chosen's with it.

One softmax W h whose head W and hidden state h both learn (V = 12, 8 features, ‖h‖ = 0.5). The chosen token is like the
rejected one, only less so: its row of W is 0.8 of the other's plus noise. Top left: slopes of all log-probabilities
along g_w − g_l at the start of one run; markers are measured, the line is ⟨W_z, W_w − W_l⟩ plus a constant, and the
pair is off it by ±‖h‖². Top right: ascent on the loss of one token of a softmax; at every step size it falls and the
largest other one rises (lines: closed form). Bottom: measured probabilities while training with DPO (β = 1),
and with a likelihood term on the chosen besides (α = 1): means of 48 runs with their 95% intervals.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures import style
from figures.ensemble import mean_interval
from toymodel import PreferencePairs, gradients, theory
from toymodel.losses import LOSSES, Loss
from toymodel.models import linear
from toymodel.models.unconstrained import UnconstrainedParams, init_params, unconstrained
from toymodel.training import train

TITLE = "Where the probability goes"
LABELS = ("T15", "T16")

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
TRAINED = ("DPO", "DPO + likelihood")


def compute(quick: bool) -> style.Table:
    runs, steps, rates = (QUICK_RUNS, QUICK_STEPS, QUICK_RATES) if quick else (RUNS, STEPS, RATES)
    params = _start(jax.random.split(jax.random.key(SEED), RUNS)[:runs])
    losses = LOSSES["dpo"](beta=1.0), LOSSES["dpo_nll_mean"](beta=1.0, rpo_alpha=1.0)
    trained = [_trained(name, loss, params, steps) for name, loss in zip(TRAINED, losses, strict=True)]
    return style.stacked(_first_slopes(jax.tree.map(lambda a: a[0], params)), _squeezed(rates), *trained)


@jax.jit
@jax.vmap
def _start(key: Array) -> UnconstrainedParams:
    """Parameters in which the chosen token is a weaker rejected one, which the hidden state leans towards."""
    params = init_params(key, unconstrained(linear.unigram(VOCAB)), dim=DIM, temperature=TEMPERATURE)
    head, (hidden,) = params["head"], params["hidden"]
    head = head.at[CHOSEN].set(SHRINK * head[REJECTED] + NOISE * head[CHOSEN])
    leaning = hidden + head[REJECTED] / jnp.linalg.norm(head[REJECTED])
    return {"head": head, "hidden": HIDDEN_NORM * leaning[None] / jnp.linalg.norm(leaning)}


def _pairs(chosen: list[int], rejected: list[int], vocab_size: int) -> PreferencePairs:
    empty: list[list[int]] = [[] for _ in chosen]
    return PreferencePairs.from_lists(
        empty, [[token] for token in chosen], [[token] for token in rejected], vocab_size=vocab_size
    )


def _first_slopes(params: UnconstrainedParams) -> style.Table:
    """Of every token's log-probability, for one run."""
    model = unconstrained(linear.unigram(VOCAB))
    responses = _pairs([*range(VOCAB)], [*range(VOCAB)], VOCAB).chosen_response
    towards = jnp.zeros(VOCAB).at[CHOSEN].set(1.0).at[REJECTED].set(-1.0)
    head, (hidden,) = params["head"], params["hidden"]
    names = np.array(list(LOOKS))[[0, 1, *[2] * (VOCAB - 2)]]
    leaning = np.asarray(head @ (head[CHOSEN] - head[REJECTED]))
    predicted = np.asarray(theory.token_slopes(head, hidden, CHOSEN, REJECTED))
    measured = gradients.group_slopes(model, params, responses, towards)
    constant = (predicted - leaning)[-1]  # of every third token
    ends = np.array([leaning.min(), leaning.max()])
    return style.stacked(
        _table("slope", names, leaning, predicted, measured),
        _table("line", "all others", ends, ends + constant, np.nan),
    )


def _squeezed(rates: np.ndarray) -> style.Table:
    """Probability of every token after a step up the loss of one, at each learning rate."""
    names, logits = list(PROBS), jnp.log(jnp.array(list(PROBS.values())))
    down = names.index(PUSHED)
    pairs = _pairs(list(range(len(names))), [down] * len(names), len(names))
    predicted = jax.vmap(lambda eta: theory.squeeze(logits, down, eta))(rates)
    measured = logits + _changes_of_chosen(pairs, logits[:, None], jnp.asarray(rates))
    columns = (np.exp(x).T for x in (predicted, measured))
    return _table("squeeze", np.array(names)[:, None], rates, *columns)


@jax.jit
def _changes_of_chosen(pairs: PreferencePairs, params: Array, rates: Array) -> Array:
    """True changes [rates, n] when a step lowers the rejected alone."""
    model = linear.unigram(params.shape[0])
    return jax.vmap(lambda eta: gradients.step_change(model, params, pairs, optax.sgd(eta), 0.0, 1.0)[0])(rates)


def _trained(name: str, loss: Loss, params: UnconstrainedParams, steps: int) -> style.Table:
    """Mean probabilities over runs at every state, with 95% intervals."""
    model, pair = unconstrained(linear.unigram(VOCAB)), _pairs([CHOSEN], [REJECTED], VOCAB)
    run = train(model, params, pair, loss, optax.sgd, LEARNING_RATE, steps=steps, over=("params",))
    assert run.trajectory is not None
    chosen, rejected = (np.exp(x)[..., 0] for x in (run.trajectory.chosen_logps, run.trajectory.rejected_logps))
    tables = []
    for token, probs in zip(LOOKS, (chosen, rejected, 1 - chosen - rejected), strict=True):
        tables.append(_table(name, token, np.arange(steps + 1.0), np.nan, *mean_interval(probs.T)))
    return style.stacked(*tables)


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
