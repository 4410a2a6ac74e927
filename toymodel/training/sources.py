"""Sources: parts of the training data, as masks [2, n, T] over the tokens of both sides of n pairs.

`training.account` computes what each contributed. Every token is in exactly one source; padding may be in any.

    crossed(by_side(pairs), by_position(pairs))   # "chosen label", "chosen suffix", "rejected label", "rejected suffix"
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from toymodel._checks import describe, is_boolean, is_concrete
from toymodel._public import own_names
from toymodel.data.pairs import PreferencePairs

__dir__ = own_names(globals())

Mask = Any  # Bool[*runs 2 n T], of numpy or jax
Sources = Mapping[str, Mask]
DECAY = "decay"  # what no source brings: the optimiser's weight decay


def by_side(pairs: PreferencePairs) -> dict[str, Mask]:
    """Sources by side: the tokens of the chosen answers, and those of the rejected ones."""
    side, _, _ = np.indices(_shape(pairs))
    return {"chosen": side == 0, "rejected": side == 1}


def by_position(pairs: PreferencePairs, names: Sequence[str] = ("label", "suffix")) -> dict[str, Mask]:
    """Sources by position: the first token of each answer, the second, and so on; the last has all later tokens."""
    _, _, place = np.indices(_shape(pairs))
    return {name: np.minimum(place, len(names) - 1) == number for number, name in enumerate(names)}


def by_group(pairs: PreferencePairs, groups: Int[Array, " n"], names: Sequence[str]) -> dict[str, Mask]:
    """Sources by group of pairs, for instance by label. `groups` are indices of the names."""
    return {
        name: jnp.broadcast_to((jnp.asarray(groups) == number)[:, None], _shape(pairs))
        for number, name in enumerate(names)
    }


def crossed(one: Sources, other: Sources) -> dict[str, Mask]:
    """All intersections of two families of sources, named "one other"."""
    return {f"{a} {b}": one[a] & other[b] for a in one for b in other}


def same_or_other(
    contributions: Mapping[str, Float[Array, "*runs 2 m T"]], groups: Int[Array, " m"], names: Sequence[str]
) -> dict[str, Float[Array, "*runs 2 m T"]]:
    """Merge sources "group part" into "same part" and "other part", for judged pairs of these groups.

    Args:
      contributions: of an `Account`, whose sources `by_group` made with these names, alone or crossed with others.
      groups: of the judged pairs, as indices of the names.
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
            told = f"{word} {part}".rstrip()
            found[told] = found.get(told, jnp.zeros_like(contribution)) + jnp.where(mine, contribution, 0)
    return found


def number_sources(
    sources: Sources, pairs: PreferencePairs
) -> tuple[Int[Array, "*runs 2 n T"], tuple[tuple[int, ...], ...]]:
    """The number of each token's source, and the numbers of those that may have tokens on either side.

    Raises:
      ValueError: a mask of another shape; a token in several sources or in none, where the masks are not traced.
    """
    if not isinstance(sources, Mapping) or not sources or DECAY in sources:
        got = list(sources) if isinstance(sources, Mapping) else type(sources).__name__
        raise ValueError(f"`sources` must be masks by name, none of them {DECAY!r}, got {got}.")
    shape = _shape(pairs)
    for name, source in sources.items():
        if not is_boolean(source) or source.shape[-3:] != shape:
            what = f"{source.dtype}{source.shape}" if hasattr(source, "dtype") else describe(source)
            raise ValueError(f"`sources` must be Boolean masks of shape {shape}, got {name!r} of {what}.")
    everywhere = tuple(range(len(sources)))
    if not is_concrete(list(sources.values())):
        return jnp.argmax(jnp.stack(list(sources.values())), axis=0), (everywhere, everywhere)
    masks = np.stack([np.asarray(source) for source in sources.values()])
    count = masks.sum(axis=0)
    if is_concrete(pairs):
        with jax.ensure_compile_time_eval():  # the pairs may be known inside a trace too
            real = np.moveaxis(np.asarray(pairs.both_responses.mask), 0, -3)  # after the runs
        count = np.where(real, count, 1)
    several, none = (count > 1).sum(), (count == 0).sum()
    if several or none:
        raise ValueError(f"`sources` must hold every token once, got {several} tokens in several and {none} in none.")
    sides = tuple(tuple(number for number in everywhere if masks[number, ..., side, :, :].any()) for side in range(2))
    return jnp.asarray(masks.argmax(axis=0)), sides


def _shape(pairs: PreferencePairs) -> tuple[int, int, int]:
    """(2, n, T)."""
    return 2, pairs.chosen.shape[-2], max(pairs.chosen.shape[-1], pairs.rejected.shape[-1])
