"""The smallest pair that DPO can lower: one contrast token, then the same suffix token n times in both answers.

Position  Chosen  Rejected  Probabilities
0         good    bad       1/V each, as of every token
1 … n     s       s         a after "good", b after "bad", the rest even

Logits are frozen, and the model learns an offset for each position, which both answers share (T7, T8).
"""

from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from toymodel._checks import require_counts, require_int, require_probability
from toymodel._public import own_names, short_repr
from toymodel.data.pairs import PreferencePairs
from toymodel.data.vocabulary import Vocabulary
from toymodel.gram import Scalars
from toymodel.models.linear import LinearSoftmax, positional_offset

__dir__ = own_names(globals())

GOOD, BAD, SUFFIX = range(3)  # token ids
WORDS = ("good", "bad", "s")


class SuffixPair(NamedTuple):
    """A model, its parameters and a batch of pairs: `theory.pair_gram(*suffix_pair(…))`, and so for `gradients`."""

    model: LinearSoftmax
    params: Float[Array, "V T"]
    pairs: PreferencePairs

    def __repr__(self) -> str:
        return short_repr(self, self._fields)


def suffix_pair(
    suffix_length: Int[Array, "*n"] | int, a: Scalars, b: Scalars, *, vocab_size: int = 20, longest: int | None = None
) -> SuffixPair:
    """The chosen "good s s … s" against the rejected "bad s s … s", with `suffix_length` times s.

    DPO lowers both beyond `theory.threshold_length(1 / V, 1 / V, a, b, V)` tokens (T8).

    Args:
      suffix_length: one number for a batch of one pair, or several for one pair of each length in the same model.
      a: probability of each suffix token after "good"; b after "bad".
      vocab_size: V, at least 3.
      longest: answers are padded to 1 + `longest` tokens (default: as few as they need). With it, `suffix_length` may
        be traced.

    Raises:
      ValueError: a length or a size is out of range, or a probability is outside (0, 1).
    """
    require_int("vocab_size", vocab_size, low=len(WORDS))
    require_counts("suffix_length", suffix_length, jnp.size(suffix_length), low=0, high=longest)
    longest = int(jnp.max(jnp.asarray(suffix_length))) if longest is None else longest
    for name, prob in (("a", a), ("b", b)):
        require_probability(name, prob, inside=True)
    others = [f"t{i}" for i in range(len(WORDS), vocab_size)]
    vocabulary = Vocabulary.of_roles(contrast=WORDS[:2], suffix=WORDS[2:], neutral=others)
    answers = ([[label] + [SUFFIX] * longest] for label in (GOOD, BAD))
    whole = PreferencePairs.from_lists([[]], *answers, vocab_size=vocab_size)
    model = positional_offset(vocab_size, whole, *(_peaked_logits(prob, vocab_size, longest)[None] for prob in (a, b)))
    # A shorter answer is the beginning of the longest one: the same model, the same tokens, a shorter mask.
    mask = jnp.arange(1 + longest) <= jnp.atleast_1d(suffix_length)[:, None]
    repeated = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (len(mask), leaf.shape[1])), whole)
    pairs = replace(repeated, chosen_mask=mask, rejected_mask=mask, vocabulary=vocabulary)
    return SuffixPair(model, jnp.zeros((vocab_size, 1 + longest)), pairs)


def _peaked_logits(prob: Scalars, vocab_size: int, longest: int) -> Float[Array, "T V"]:
    """Uniform at the contrast token; later, `prob` for the suffix token and the rest spread evenly."""
    suffix = jnp.arange(vocab_size) == SUFFIX
    peaked = jnp.where(suffix, jnp.log(prob), jnp.log((1 - jnp.asarray(prob)) / (vocab_size - 1)))
    return jnp.tile(peaked, (1 + longest, 1)).at[0].set(0.0)
