"""Families of token overlap between chosen and rejected responses, and the numbers that describe any pair's overlap.

Family              Shared by chosen and rejected                       Exact in every pair
`positional_pairs`  the tokens at `matches` random positions            `Overlap.matches`
`prefix_pairs`      the first `shared` tokens                           `Overlap.prefix` (= matches)
`contrast_pairs`    all but the token at `contrast_position`            `Overlap.prefix`, `Overlap.suffix`
`bag_pairs`         `shared` tokens, in another order                   `Overlap.bag`
`edit_pairs`        what is left after `deletions` and `insertions`     `Overlap.edit_distance`

Every family draws `n` pairs from an explicit key, with random prompts; tokens that are not shared differ. How much is
shared is one number, or one for each pair; inside a `jit` it may be traced, so that a sweep over it is one program.

`FAMILIES` offers them by name with the same arguments, of which `overlap` says how much is shared:

Name           `overlap` counts                                Largest
`positional`   matching positions                              length
`prefix`       tokens of the shared prefix                     length
`contrast`     tokens of the suffix after the contrast token   length − 1
`bag`          shared tokens, in another order                 length
`edit`         tokens that both keep, in order                 length
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from toymodel._checks import require_counts, require_int
from toymodel._public import own_names
from toymodel.data.pairs import PreferencePairs
from toymodel.gram import Ints

__dir__ = own_names(globals())

Key = Array


class Overlap(NamedTuple):
    """How much two responses have in common, per pair; all counted in tokens."""

    matches: Int[np.ndarray, " n"]  # positions that hold the same token in both
    prefix: Int[np.ndarray, " n"]  # longest common beginning
    suffix: Int[np.ndarray, " n"]  # longest common end
    bag: Int[np.ndarray, " n"]  # common tokens, counted with multiplicity, wherever they stand
    edit_distance: Int[np.ndarray, " n"]  # fewest insertions and deletions that turn one into the other


def overlap(pairs: PreferencePairs) -> Overlap:
    """The overlap numbers of a batch of pairs, counted from the tokens alone."""
    # Padding becomes -1 in one and -2 in the other, so that it never agrees.
    chosen = np.where(pairs.chosen_mask, pairs.chosen, -1)
    rejected = np.where(pairs.rejected_mask, pairs.rejected, -2)
    width = max(chosen.shape[1], rejected.shape[1])
    chosen = np.pad(chosen, ((0, 0), (0, width - chosen.shape[1])), constant_values=-1)
    rejected = np.pad(rejected, ((0, 0), (0, width - rejected.shape[1])), constant_values=-2)
    return Overlap(
        matches=(chosen == rejected).sum(axis=1),
        prefix=_count_common_start(chosen, rejected),
        suffix=_count_common_start(_reverse_tokens(chosen), _reverse_tokens(rejected)),
        bag=_count_common(chosen, rejected),
        edit_distance=(chosen >= 0).sum(axis=1) + (rejected >= 0).sum(axis=1) - 2 * _lcs_length(chosen, rejected),
    )


def positional_pairs(
    key: Key, n: int, *, vocab_size: int, length: int, matches: Ints, prompt_length: int = 1
) -> PreferencePairs:
    """Responses of `length` tokens that agree at exactly `matches` random positions."""
    require_counts("matches", matches, n, low=0, high=length)
    key, place = jax.random.split(key)
    order = jnp.argsort(jax.random.uniform(place, (n, length)), axis=1)
    return _draw_agreeing_pairs(key, n, vocab_size, order < _as_column(matches), prompt_length)


def prefix_pairs(
    key: Key, n: int, *, vocab_size: int, length: int, shared: Ints, prompt_length: int = 1
) -> PreferencePairs:
    """Responses of `length` tokens with the first `shared` tokens in common and every later one different."""
    require_counts("shared", shared, n, low=0, high=length)
    return _draw_agreeing_pairs(key, n, vocab_size, jnp.arange(length) < _as_column(shared), prompt_length)


def contrast_pairs(
    key: Key, n: int, *, vocab_size: int, length: int, contrast_position: Ints = 0, prompt_length: int = 1
) -> PreferencePairs:
    """Responses that differ in the token at `contrast_position` alone: shared prefix, contrast token, shared suffix."""
    require_counts("contrast_position", contrast_position, n, low=0, high=length - 1)
    return _draw_agreeing_pairs(key, n, vocab_size, jnp.arange(length) != _as_column(contrast_position), prompt_length)


def bag_pairs(
    key: Key, n: int, *, vocab_size: int, length: int, shared: Ints, prompt_length: int = 1
) -> PreferencePairs:
    """Responses with exactly `shared` tokens in common as multisets, in another order.

    The vocabulary is split in two at random; tokens found in only one response come from that response's half.
    """
    require_int("vocab_size", vocab_size, low=2)
    require_int("length", length, low=2)  # one token has no other order
    require_counts("shared", shared, n, low=0, high=length)
    keys = jax.random.split(key, 7)
    ids = jax.vmap(lambda k: jax.random.permutation(k, vocab_size))(jax.random.split(keys[0], n))
    half = vocab_size // 2
    common = jax.random.randint(keys[1], (n, length), 0, vocab_size)
    # Two different tokens to begin with: a constant response would have no other order.
    common = common.at[:, 1].set((common[:, 0] + jax.random.randint(keys[6], (n,), 1, vocab_size)) % vocab_size)
    only_chosen = jnp.take_along_axis(ids, jax.random.randint(keys[2], (n, length), 0, half), axis=1)
    only_rejected = jnp.take_along_axis(ids, jax.random.randint(keys[3], (n, length), half, vocab_size), axis=1)
    is_common = jnp.arange(length) < _as_column(shared)
    chosen = jax.random.permutation(keys[4], jnp.where(is_common, common, only_chosen), axis=1, independent=True)
    rejected = jax.random.permutation(keys[5], jnp.where(is_common, common, only_rejected), axis=1, independent=True)
    unchanged = (chosen == rejected).all(axis=1, keepdims=True)
    rejected = jnp.where(unchanged, jnp.roll(rejected, 1, axis=1), rejected)
    return _make_pairs(key, vocab_size, chosen, rejected, prompt_length)


def edit_pairs(
    key: Key,
    n: int,
    *,
    vocab_size: int,
    length: int,
    deletions: Ints,
    insertions: int | None = None,
    prompt_length: int = 1,
) -> PreferencePairs:
    """Rejected = chosen (of `length` tokens) after `deletions` and `insertions` at random places.

    Inserted tokens do not occur in the chosen response, so no cheaper edit exists: the distance is exactly
    `deletions + insertions`. The chosen response uses a random half of the vocabulary only, so that such tokens exist.
    `insertions` sets the length of the rejected response; by default there are as many as deletions.
    """
    require_int("vocab_size", vocab_size, low=2)
    require_int("length", length, low=1)
    final = length
    if insertions is not None:
        require_int("insertions", insertions, low=0)
        require_int("deletions", deletions, low=0, high=length if insertions else length - 1)  # rejected is not empty
        assert isinstance(deletions, int | np.integer)
        final = length - int(deletions) + insertions
    require_counts("deletions", deletions, n, low=0, high=length)
    keys = jax.random.split(key, 5)
    ids = jax.vmap(lambda k: jax.random.permutation(k, vocab_size))(jax.random.split(keys[0], n))
    half = vocab_size // 2
    chosen = jnp.take_along_axis(ids, jax.random.randint(keys[1], (n, length), 0, half), axis=1)
    inserted = jnp.take_along_axis(ids, jax.random.randint(keys[2], (n, final), half, vocab_size), axis=1)
    # The places of the kept tokens, in chosen and in rejected: random subsets of equal size, in order.
    kept = length - jnp.broadcast_to(jnp.asarray(deletions), n)
    from_place = _draw_subsets(keys[3], length, kept)
    to_place = _draw_subsets(keys[4], final, kept)[:, :length]
    rows = jnp.arange(n)[:, None]
    tokens = jnp.take_along_axis(chosen, from_place[:, : to_place.shape[1]], axis=1, mode="clip")
    rejected = inserted.at[rows, to_place].set(tokens, mode="drop")
    return _make_pairs(key, vocab_size, chosen, rejected, prompt_length)


def _adapt(
    draw: Callable[..., PreferencePairs], arguments: Callable[[Ints, int], dict[str, Any]], spare: int = 0
) -> Callable[..., PreferencePairs]:
    """Give a family the arguments of `FAMILIES`; `arguments` turns overlap and length into the family's own."""

    def family(key: Key, n: int, *, vocab_size: int, length: int, overlap: Ints) -> PreferencePairs:
        require_counts("overlap", overlap, n, low=0, high=length - spare)
        return draw(key, n, vocab_size=vocab_size, length=length, **arguments(overlap, length))

    return family


#: Every family by name; all take the same arguments: `FAMILIES[name](key, n, vocab_size=20, length=12, overlap=6)`.
FAMILIES: Mapping[str, Callable[..., PreferencePairs]] = MappingProxyType(
    {
        "positional": _adapt(positional_pairs, lambda overlap, _: {"matches": overlap}),
        "prefix": _adapt(prefix_pairs, lambda overlap, _: {"shared": overlap}),
        "contrast": _adapt(
            contrast_pairs, lambda overlap, length: {"contrast_position": length - 1 - overlap}, spare=1
        ),
        "bag": _adapt(bag_pairs, lambda overlap, _: {"shared": overlap}),
        "edit": _adapt(edit_pairs, lambda overlap, length: {"deletions": length - overlap}),
    }
)


def _draw_agreeing_pairs(
    key: Key, n: int, vocab_size: int, agree: Bool[Array, "*n length"], prompt_length: int
) -> PreferencePairs:
    require_int("n", n, low=1)
    require_int("vocab_size", vocab_size, low=2)
    require_int("length", agree.shape[-1], low=1)
    draw, differ = jax.random.split(jax.random.fold_in(key, 1))
    shape = (n, agree.shape[-1])
    chosen = jax.random.randint(draw, shape, 0, vocab_size)
    other = (chosen + jax.random.randint(differ, shape, 1, vocab_size)) % vocab_size
    return _make_pairs(key, vocab_size, chosen, jnp.where(agree, chosen, other), prompt_length)


def _make_pairs(
    key: Key, vocab_size: int, chosen: Int[Array, "n T_w"], rejected: Int[Array, "n T_l"], prompt_length: int
) -> PreferencePairs:
    """Make pairs without padding, with random prompts."""
    require_int("prompt_length", prompt_length, low=0)
    shape = (chosen.shape[0], prompt_length)
    prompt = jax.random.randint(jax.random.fold_in(key, 0), shape, 0, vocab_size)
    arrays = [a for tokens in (prompt, chosen, rejected) for a in (tokens, jnp.ones(tokens.shape, bool))]
    return PreferencePairs(*arrays)


def _draw_subsets(key: Key, size: int, counts: Int[Array, " n"]) -> Int[Array, "n size"]:
    """Draw `counts` different numbers below `size` for each row, in order; `size` fills the places after them."""
    order = jnp.argsort(jax.random.uniform(key, (*counts.shape, size)), axis=1)
    return jnp.sort(jnp.where(jnp.arange(size) < counts[:, None], order, size), axis=1)


def _as_column(count: Ints) -> Int[Array, "*n 1"]:
    """Add an axis, for comparing counts with positions."""
    return jnp.asarray(count)[..., None]


def _count_common_start(chosen: np.ndarray, rejected: np.ndarray) -> np.ndarray:
    return np.cumprod(chosen == rejected, axis=1).sum(axis=1)


def _reverse_tokens(tokens: np.ndarray) -> np.ndarray:
    """Reverse each row's real tokens (>= 0), with padding after them."""
    order = np.argsort(np.where(tokens >= 0, -np.arange(tokens.shape[1]), 1), axis=1)
    return np.take_along_axis(tokens, order, axis=1)


def _count_common(chosen: np.ndarray, rejected: np.ndarray) -> np.ndarray:
    ids = np.arange(max(chosen.max(), rejected.max()) + 1)
    counts = [(tokens[:, :, None] == ids).sum(axis=1) for tokens in (chosen, rejected)]
    return np.minimum(*counts).sum(axis=1)


def _lcs_length(chosen: np.ndarray, rejected: np.ndarray) -> np.ndarray:
    """Length of the longest common subsequence, by the usual recurrence, for all pairs at once."""
    row = np.zeros((chosen.shape[0], rejected.shape[1] + 1), int)
    for i in range(chosen.shape[1]):
        above = row.copy()
        for j in range(rejected.shape[1]):
            same = chosen[:, i] == rejected[:, j]
            row[:, j + 1] = np.where(same, above[:, j] + 1, np.maximum(above[:, j + 1], row[:, j]))
    return row[:, -1]
