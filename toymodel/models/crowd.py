"""A crowd: many pairs of one contrast token and one shared suffix, in a linear model whose contexts have given cosines.

Position  Token                       Probabilities                        Cosine between contexts of two pairs
0         word 0 or 1, as preferred   p_w, p_l, the rest evenly            `same` or `different`, as both prefer
1 … n     the last id, in every pair  a after chosen, b after rejected     `suffix`

Even pairs prefer word 0, odd ones word 1: labels are balanced. Chosen and rejected of one pair have the same features
at each position, and features of different positions are orthogonal.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from toymodel._checks import is_concrete, require_int, require_probability
from toymodel._public import own_names
from toymodel.data.pairs import PreferencePairs
from toymodel.gram import Scalars
from toymodel.models.linear import LinearSoftmax, frozen_features

__dir__ = own_names(globals())


class Cosines(NamedTuple):
    """Cosines between the contexts of any two different pairs."""

    same: Scalars  # ρ_s: label contexts of pairs that prefer the same word
    different: Scalars  # ρ_d: label contexts of pairs that prefer different words
    suffix: Scalars  # ρ_ψ: suffix contexts at one position

    def check(self, pairs: int | None) -> None:
        """Raise `ValueError` unless this number of pairs can have these cosines, half of them of each word.

        One pair has no cosines, and None means any number of pairs. Labels: the Gram matrix of unit features has the
        eigenvalues 1 − ρ_s and 1 + ρ_s(B/2 − 1) ± ρ_d B/2, suffix: 1 − ρ_ψ and 1 + ρ_ψ(B − 1). None may be negative.
        """
        if pairs == 1 or not is_concrete(self):
            return
        same, different = np.asarray(self.same), np.asarray(self.different)
        if pairs is None:
            words, lowest, room = "many pairs", (0.0, 0.0), same
        else:
            # Below −1/(n − 1), n vectors can no longer all point away from one another.
            half = pairs // 2
            words, lowest = f"{pairs} pairs", (-1 / max(half - 1, 1), -1 / (pairs - 1))
            room = (1 + same * (half - 1)) / half
        for name, low in zip(("same", "suffix"), lowest, strict=True):
            value = np.asarray(getattr(self, name))
            if not np.all((value >= low) & (value <= 1)):
                raise ValueError(f"`cosines.{name}` must be in [{low:.3g}, 1] for {words}, got {value}.")
        if not np.all(abs(different) <= room):
            raise ValueError(
                f"`cosines.different` must be at most {room} in size for {words} with same={same}, got {different}."
            )


def crowd(
    pairs: int,
    suffix_length: int,
    cosines: Cosines,
    *,
    vocab_size: int,
    p_chosen: Scalars,
    p_rejected: Scalars,
    a: Scalars,
    b: Scalars,
) -> tuple[PreferencePairs, LinearSoftmax]:
    """Make `pairs` pairs, and the model in which they have these cosines and, at W = 0, these probabilities.

    W is [V, d], with one feature for each pair and position: d = `pairs` · (1 + `suffix_length`). Some of the pairs may
    be the batch, and the others unseen.

    Raises:
      ValueError: `pairs` is odd, cosines that this number of pairs cannot have, a probability outside (0, 1), or labels
        whose probabilities do not sum to less than 1 (for V = 2, to 1).
    """
    require_int("pairs", pairs, low=2)
    if pairs % 2:
        raise ValueError(f"`pairs` must be even, as half of them prefer each word, got {pairs}.")
    require_int("suffix_length", suffix_length, low=0)
    require_int("vocab_size", vocab_size, low=2)
    cosines.check(pairs)
    for name, value in (("p_chosen", p_chosen), ("p_rejected", p_rejected), ("a", a), ("b", b)):
        require_probability(name, value, inside=True)
    rest = 1 - jnp.asarray(p_chosen) - p_rejected
    if is_concrete(rest) and not jnp.all(abs(rest) < 1e-6 if vocab_size == 2 else rest > 0):
        wanted = "be 1" if vocab_size == 2 else "be below 1"
        raise ValueError(f"`p_chosen` + `p_rejected` must {wanted} for {vocab_size} tokens, got {1 - rest}.")
    made = _make_pairs(pairs, suffix_length, vocab_size)
    features = _place_features(pairs, suffix_length, cosines)
    words = jnp.arange(vocab_size)
    labels = jnp.where(
        words == made.chosen[:, :1],
        jnp.log(p_chosen),
        jnp.where(words == made.rejected[:, :1], jnp.log(p_rejected), jnp.log(rest / max(vocab_size - 2, 1))),
    )
    logits = [
        jnp.broadcast_to(
            jnp.where(words == vocab_size - 1, jnp.log(prob), jnp.log((1 - prob) / (vocab_size - 1))),
            (pairs, 1 + suffix_length, vocab_size),
        )
        .at[:, 0]
        .set(labels)
        for prob in (jnp.asarray(a), jnp.asarray(b))
    ]
    return made, frozen_features(vocab_size, made, features, features, *logits)


def _make_pairs(pairs: int, suffix_length: int, vocab_size: int) -> PreferencePairs:
    """Every pair's prompt is its number, in base V."""
    digits = 1
    while vocab_size**digits < pairs:
        digits += 1
    number = jnp.arange(pairs)[:, None]
    prompt = number // vocab_size ** jnp.arange(digits) % vocab_size
    suffix = jnp.full((pairs, suffix_length), vocab_size - 1)
    chosen, rejected = (jnp.concatenate([label, suffix], axis=1) for label in (number % 2, 1 - number % 2))
    mask = jnp.ones(chosen.shape, bool)
    return PreferencePairs(prompt, jnp.ones(prompt.shape, bool), chosen, mask, rejected, mask)


def _place_features(pairs: int, suffix_length: int, cosines: Cosines) -> Float[Array, "n T d"]:
    """Unit vectors, the rows of the square root of their Gram matrix; each position has its own coordinates."""
    ones, words = jnp.ones(pairs), 1.0 - 2 * (jnp.arange(pairs) % 2)
    both, apart = (jnp.asarray(cosines.same + sign * cosines.different) / 2 for sign in (1, -1))
    label = _root(1 - jnp.asarray(cosines.same), (both, ones), (apart, words))
    suffix = _root(1 - jnp.asarray(cosines.suffix), (jnp.asarray(cosines.suffix), ones))
    blocks = jnp.stack([label] + [suffix] * suffix_length, axis=1)  # [n, T, n]
    T = 1 + suffix_length
    return (blocks[:, :, None] * jnp.eye(T)[:, :, None]).reshape(pairs, T, T * pairs)


def _root(own: Array, *shared: tuple[Array, Array]) -> Float[Array, "n n"]:
    """The square root of own·I + Σ share·vvᵀ, for orthogonal v of entries ±1: it has the same form."""
    n = len(shared[0][1])
    root = jnp.sqrt(own)
    eigenvalues = [(jnp.maximum(own + n * share, 0), v) for share, v in shared]
    return root * jnp.eye(n) + sum(((jnp.sqrt(value) - root) / n * jnp.outer(v, v) for value, v in eigenvalues))
