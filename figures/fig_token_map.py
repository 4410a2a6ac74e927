"""Maps the cosines between all tokens of the two responses in a linear softmax model."""

from collections.abc import Callable
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures import style
from figures.sweeps import Swept
from toymodel import PreferencePairs, Vocabulary, gradients, plot, theory
from toymodel.experiments.experiment import setting, whole
from toymodel.models import linear
from toymodel.models.linear import LinearSoftmax
from toymodel.sweep import Experiment, make_sweep

WORDS = Vocabulary.of_roles(
    contrast=("positive", "negative"),
    suffix=("sentiment", "based", "on", "the", "overall", "tone"),
    sentiment=("great", "awful"),
    neutral=("movie", "very"),
)
PROMPT = "very great movie"
CHOSEN, REJECTED = (f"{contrast} sentiment based on the overall tone" for contrast in ("positive", "negative"))
SUFFIXES = {"short": 1, "long": 6}  # tokens that follow the contrast token
LONGEST = max(SUFFIXES.values())
CORRELATION, DIM = 0.9, 12
SUPERVISED_RATE = 3.0
TokenGram = Callable[[LinearSoftmax, Array, PreferencePairs], Array]


@setting
class MapSetting:
    """The length of a suffix in a random model."""

    suffix_length: int = whole(None, low=0, high=LONGEST)
    seed: int = whole(0, low=0)


def measure(setting: MapSetting) -> dict[str, Array]:
    """Cosine of every chosen token's gradient with every rejected token's; a short suffix fills a corner of them."""
    words = ([WORDS.encode(text)] for text in (PROMPT, CHOSEN, REJECTED))
    longest = PreferencePairs.from_lists(*words, vocab_size=len(WORDS))
    mask = (jnp.arange(LONGEST + 1) <= setting.suffix_length)[None]
    pairs = replace(longest, chosen_mask=mask, rejected_mask=mask)
    frozen, learned = jax.random.split(jax.random.key(setting.seed))
    model = linear.random_features(frozen, len(WORDS), longest, dim=DIM, correlation=CORRELATION)
    start = linear.init_params(learned, model)
    chosen, rejected = gradients.pair_gradients(model, start, pairs)
    params = start + SUPERVISED_RATE * jnp.reshape(chosen + rejected, start.shape)
    return {
        "predicted": _cosines(theory.token_gram, model, params, pairs[0]),
        "measured": _cosines(gradients.token_gram, model, params, pairs[0]),
    }


def _cosines(token_gram: TokenGram, model: LinearSoftmax, params: Array, pair: PreferencePairs) -> Array:
    """Cosine of every chosen token's gradient with every rejected token's, by one of the two routes."""
    twins = (
        replace(pair, rejected=pair.chosen, rejected_mask=pair.chosen_mask),
        replace(pair, chosen=pair.rejected, chosen_mask=pair.rejected_mask),
    )
    chosen, rejected = (jnp.sqrt(jnp.diagonal(token_gram(model, params, twin))) for twin in twins)
    return token_gram(model, params, pair) / (chosen[:, None] * rejected)


EXPERIMENT = Experiment("token_map", MapSetting, measure)


def compute(_quick: bool, swept: Swept) -> style.Table:
    table = swept(make_sweep(EXPERIMENT, {"suffix_length": tuple(SUFFIXES.values())}))
    return style.stacked(*(_map(name, style.rows(table, suffix_length=n)) for name, n in SUFFIXES.items()))


def _map(name: str, setting: style.Table) -> style.Table:
    """A row for every cell."""
    size = setting["suffix_length"][0] + 1
    i, j = np.indices((size, size))
    chosen, rejected = np.array(CHOSEN.split())[i], np.array(REJECTED.split())[j]
    columns = {
        "suffix": np.full(i.shape, name),
        "chosen_position": i,
        "rejected_position": j,
        "chosen_token": chosen,
        "rejected_token": rejected,
        "same_token": (chosen == rejected).astype(int),
        "predicted": setting["predicted"][0, :size, :size],
        "measured": setting["measured"][0, :size, :size],
    }
    return {name: np.ravel(column) for name, column in columns.items()}


def draw(table: style.Table) -> Figure:
    figure = Figure(figsize=(style.COLUMN, 4.4))
    parts = [style.rows(table, suffix=name) for name in SUFFIXES]
    sizes = [len(np.unique(part["chosen_position"])) for part in parts]
    grid = figure.add_gridspec(2, 2, height_ratios=sizes, width_ratios=(sizes[0], sizes[1] - sizes[0]))
    axes = (figure.add_subplot(grid[0, 0]), figure.add_subplot(grid[1, :]))
    for ax, part, name, size in zip(axes, parts, SUFFIXES, sizes, strict=True):
        _heatmap(ax, part, size)
        ax.set_title(f"{name} suffix", loc="left")
    axes[1].set(xlabel="token of the rejected response", ylabel="token of the chosen response")
    corner = figure.add_subplot(grid[0, 1])
    corner.set_axis_off()
    scale = corner.inset_axes((0.2, 0.5, 0.75, 0.15))
    figure.colorbar(axes[0].images[0], cax=scale, orientation="horizontal", label="cosine of the gradients")
    return figure


def _heatmap(ax: Axes, part: style.Table, size: int) -> None:
    """The measured cosines; frames around identical tokens."""
    words = part["chosen_token"][::size].tolist(), part["rejected_token"][:size].tolist()
    plot.token_map(part["measured"].reshape(size, size), words, ax, limit=1).set(xlabel="", ylabel="")
    ax.set_anchor("NW")
