"""Sources: parts of what is trained on, as masks of tokens [2, n, T] over the chosen and the rejected side of n pairs.

`training.account` says what each brought. They must hold every token once. Those here do, and so do their crossings:

    crossed(by_side(pairs), by_position(pairs))   # "chosen label", "chosen suffix", "rejected label", …
"""

from collections.abc import Mapping, Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from toymodel._checks import is_concrete
from toymodel._public import own_names
from toymodel.data.pairs import PreferencePairs
from toymodel.training.step import CHOSEN, REJECTED, both_sides

__dir__ = own_names(globals())

Sources = Mapping[str, Bool[Array, "*runs 2 n T"]]
DECAY = "decay"  # what no source brings: the optimiser's weight decay


def by_side(pairs: PreferencePairs) -> dict[str, Bool[Array, "2 n T"]]:
    """The tokens of the chosen answers, and those of the rejected ones."""
    mask = both_sides(pairs).mask
    side = jnp.arange(2)[:, None, None]
    return {"chosen": mask & (side == CHOSEN), "rejected": mask & (side == REJECTED)}


def by_position(pairs: PreferencePairs, names: Sequence[str] = ("label", "suffix")) -> dict[str, Bool[Array, "2 n T"]]:
    """The first token of each answer, the second, and so on; the last name is of all that are left."""
    mask = both_sides(pairs).mask
    place = jnp.minimum(jnp.arange(mask.shape[-1]), len(names) - 1)
    return {name: mask & (place == number) for number, name in enumerate(names)}


def by_group(pairs: PreferencePairs, groups: Int[Array, " n"], names: Sequence[str]) -> dict[str, Bool[Array, "2 n T"]]:
    """The tokens of the pairs of each group: their labels, say. `groups` are places among the names."""
    mask = both_sides(pairs).mask
    return {name: mask & (jnp.asarray(groups) == number)[:, None] for number, name in enumerate(names)}


def crossed(one: Sources, other: Sources) -> dict[str, Bool[Array, "*runs 2 n T"]]:
    """The tokens that are in a source of each, as "one other"."""
    return {f"{a} {b}": mask & other[b] for a, mask in one.items() for b in other}


def same_or_other(
    contributions: Mapping[str, Float[Array, "*runs 2 m T"]], groups: Int[Array, " m"], names: Sequence[str]
) -> dict[str, Float[Array, "*runs 2 m T"]]:
    """Sources "group part" told as "same part" and "other part", for judged pairs of these groups.

    Args:
      contributions: of an `Account` whose sources were crossed from `by_group` with these names and any others.
      groups: of the judged pairs, as places among the names.
      names: of the groups.
    """
    found: dict[str, Array] = {}
    for source, contribution in contributions.items():
        name, _, part = source.partition(" ")
        if name not in names:  # decay
            found[source] = contribution
            continue
        same = (jnp.asarray(groups) == list(names).index(name))[:, None]
        for word, mine in (("same", same), ("other", ~same)):
            key = f"{word} {part}".rstrip()
            found[key] = found.get(key, 0) + jnp.where(mine, contribution, 0)
    return found


def check_sources(sources: Sources, mask: Bool[Array, "*runs 2 n T"]) -> Int[Array, "*runs 2 n T"]:
    """The number of each token's source.

    Raises:
      ValueError: a mask of another shape, a token in several sources or in none (told outside a trace alone).
    """
    if not isinstance(sources, Mapping) or not sources or DECAY in sources:
        raise ValueError(f"`sources` must be masks by name, and not by the name {DECAY!r}, got {sources!r}.")
    masks = [jnp.asarray(source) for source in sources.values()]
    for name, source in zip(sources, masks, strict=True):
        if source.dtype != bool or source.shape not in (mask.shape, mask.shape[-3:]):
            raise ValueError(
                f"`sources` must be Boolean masks of shape {mask.shape}, got {name!r} of {source.dtype}{source.shape}."
            )
    stacked = jnp.stack(jnp.broadcast_arrays(*masks))
    if is_concrete(stacked, mask):
        count = np.where(np.asarray(mask), np.asarray(stacked).sum(axis=0), 1)
        several, none = (count > 1).sum(), (count == 0).sum()
        if several or none:
            raise ValueError(
                f"`sources` must hold every training token once, got {several} tokens in several and {none} in none."
            )
    return jnp.argmax(stacked, axis=0)
