"""Pictures that notebooks and figures draw more than once, into given axes or into a new figure.

`logps` shows a run, `cases` shows pairs on the map of the gradient condition, `token_map` the tokens of one pair, and
`account` what training tokens contributed. Each returns its axes.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from toymodel._public import own_names
from toymodel.data.pairs import PreferencePairs
from toymodel.gram import PairGram, Scalars, cosine
from toymodel.theory.condition import CASES, band_centre, case
from toymodel.training.accounting import Account
from toymodel.training.trajectory import Trajectory

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__dir__ = own_names(globals())

# Okabe & Ito's palette, safe for colour-blind readers.
BLUE, RED, GREEN, BLACK, GREY = "#0072B2", "#D55E00", "#009E73", "#000000", "#666666"
SIDES = {"chosen": (BLUE, "o"), "rejected": (RED, "s")}
MARKERS = ((BLUE, "o"), (RED, "v"), (GREEN, "^"), (BLACK, "x"), (GREY, "."))  # of each of `CASES`
MARKS = 15  # markers on a curve, about
DARK = 0.6  # share of the largest entry beyond which a cell has light ink


def logps(trajectory: Trajectory, ax: "Axes | None" = None, *, margin: bool = False) -> "Axes":
    """Plot the change of both log-probabilities since the start of one run, averaged over its pairs.

    Args:
      trajectory: the record of one run.
      ax: axes to draw into (default: those of a new figure).
      margin: draw the margin too.

    Raises:
      ValueError: this is the trajectory of several runs, or matplotlib is not installed.
    """
    if trajectory.chosen_logps.ndim != 2:
        raise ValueError(f"`trajectory` must be that of one run, got shape {trajectory.chosen_logps.shape}.")
    ax = _axes(ax)
    curves = {side: (getattr(trajectory, f"{side}_logps"), *look) for side, look in SIDES.items()}
    if margin:
        curves["margin"] = (trajectory.margin, BLACK, "D")
    for name, (values, colour, marker) in curves.items():
        change = np.asarray((values - values[0]).mean(axis=-1))
        every = max(1, len(change) // MARKS)
        ax.plot(change, marker=marker, markevery=every, color=colour, markerfacecolor="white", label=name)
    ax.axhline(0, color=GREY, linewidth=0.5, zorder=0)
    ax.set(xlabel="step", ylabel="change of log π (nats)")
    ax.legend(frameon=False)
    return ax


def cases(gram: PairGram, d_chosen: Scalars = 1.0, d_rejected: Scalars = 1.0, ax: "Axes | None" = None) -> "Axes":
    """Plot every pair on the map of T10 and T11: its cosine, and d_w/d_l in units of r* = ‖g_l‖/‖g_w‖.

    Between the two lines, cos and 1/cos, a small step separates a pair; below, both fall; above, both rise.

    Raises:
      ValueError: a Gram entry is not finite, or a gradient is zero, or matplotlib is not installed.
    """
    ax = _axes(ax)
    cosines, ratios = np.atleast_1d(cosine(gram)), np.atleast_1d(d_chosen / d_rejected / band_centre(gram))
    cosines, ratios, found = np.broadcast_arrays(cosines, ratios, np.atleast_1d(case(gram, d_chosen, d_rejected)))
    edge = np.linspace(min(0.05, *(c for c in cosines.tolist() if c > 0), 1.0), 1, 200)
    for end, words in ((edge, "edges of the band"), (1 / edge, "_")):
        ax.plot(edge, end, color=BLACK, linewidth=0.8, label=words)
    for name, (colour, marker) in zip(CASES, MARKERS, strict=True):
        if (here := found == name).any():
            look: dict[str, Any] = {"color": colour, "markerfacecolor": "white", "linestyle": "none"}
            ax.plot(cosines[here], ratios[here], marker=marker, label=name.replace("_", " "), **look)
    low, high = min(0.5, ratios.min() / 1.2), max(2.0, ratios.max() * 1.2)
    ax.set(xlim=(min(-0.02, cosines.min() - 0.05), 1.02), ylim=(low, high), yscale="log")
    ax.set(xlabel="cosine of $g_w$ and $g_l$", ylabel="$d_w/d_l$ in units of r*")
    ax.legend(frameon=False)
    return ax


def token_map(
    entries: Float[Array | np.ndarray, "T_w T_l"],
    pair: PreferencePairs | tuple[Sequence[str], Sequence[str]],
    ax: "Axes | None" = None,
    *,
    limit: float | None = None,
    least: float = 0.0,
) -> "Axes":
    """Plot a number for each token of the chosen and each of the rejected answer, as colours and digits.

    Args:
      entries: such as `gradients.token_gram(model, params, pair)`, or `token_cosines`.
      pair: one pair, for the words at the axes and the frames around equal tokens (token ids if it has no vocabulary);
        or the words of both answers.
      limit: the number with the darkest colour (default: the largest in size).
      least: cells below it in size have a colour and no digits.

    Raises:
      ValueError: the shape of `entries` is not that of the tokens, or matplotlib is not installed.
    """
    if isinstance(pair, PreferencePairs):
        chosen, rejected = pair.words("chosen"), pair.words("rejected")
        wanted = (pair.chosen.shape[0], pair.rejected.shape[0])
    else:
        chosen, rejected = map(list, pair)
        wanted = (len(chosen), len(rejected))
    values = np.asarray(entries)
    if values.shape != wanted:
        raise ValueError(f"`entries` must have the shape {wanted} of the pair's tokens, got {values.shape}.")
    ax, values = _axes(ax), values[: len(chosen), : len(rejected)]
    limit = float(abs(values).max()) if limit is None else limit
    ax.imshow(values, cmap="RdBu_r", vmin=-limit, vmax=limit)
    for (i, j), value in np.ndenumerate(values):
        ink = "white" if abs(value) > DARK * limit else "black"
        digits = f"{value:z.1f}".replace("-", "−") if abs(value) >= least else ""
        ax.text(j, i, digits, color=ink, ha="center", va="center", fontsize=7)
        if chosen[i] == rejected[j]:
            x, y = np.array([-0.5, 0.5, 0.5, -0.5, -0.5]), np.array([-0.5, -0.5, 0.5, 0.5, -0.5])
            ax.plot(j + x, i + y, color=BLACK, linewidth=1, clip_on=False)
    ax.set_xticks(range(len(rejected)), rejected, rotation=90)
    ax.set_yticks(range(len(chosen)), chosen)
    ax.set(xlabel="token of the rejected answer", ylabel="token of the chosen answer")
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    return ax


def account(found: Account, ax: "Axes | None" = None) -> "Axes":
    """Plot what each source of an account contributed to the judged answers, in nats, as means over pairs.

    Below the sources are their sum and the true change.

    Raises:
      ValueError: this is the account of several runs, or matplotlib is not installed.
    """
    if found.true_change.ndim != 3:
        raise ValueError(
            f"`found` must be the account of one run, got true changes of shape {found.true_change.shape}."
        )
    ax = _axes(ax)
    rows = {**found.contributions, "all of them": found.first_order, "what happened": found.true_change}
    brought = np.stack([np.asarray(jnp.asarray(row).sum(axis=-1).mean(axis=-1)) for row in rows.values()], axis=1)
    places = np.arange(len(rows))
    for (side, (colour, _)), shift, nats in zip(SIDES.items(), (-0.2, 0.2), brought, strict=True):
        ax.barh(places + shift, nats, 0.36, color=colour, label=f"to the {side}")
    ax.axhline(len(found.contributions) - 0.5, color=GREY, linewidth=0.5)
    ax.axvline(0, color=GREY, linewidth=0.5)
    ax.set_yticks(places, rows)
    ax.invert_yaxis()
    ax.set(xlabel="brought (nats)")
    ax.legend(frameon=False)
    return ax


def _axes(ax: "Axes | None") -> "Axes":
    """The axes, or those of a new figure."""
    if ax is not None:
        return ax
    try:
        from matplotlib import pyplot
    except ImportError:
        raise ValueError("a plot needs the package `matplotlib`: pip install 'toymodel[figures]'.") from None
    return pyplot.subplots(figsize=(5, 3), layout="constrained")[1]
