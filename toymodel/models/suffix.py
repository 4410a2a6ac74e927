"""The smallest pair that DPO can lower: one contrast token, then the same suffix token n times in both answers.

Position  Chosen  Rejected  Probabilities
0         good    bad       1/V each, as of every token
1 … n     s       s         a after "good", b after "bad", the rest even

Logits are frozen, and the model learns an offset for each position, which both answers share (T7, T8).
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from toymodel._checks import require_counts, require_int, require_probability
from toymodel._public import own_names, short_repr
from toymodel.data.pairs import PreferencePairs
from toymodel.data.vocabulary import Vocabulary
from toymodel.gram import Ints, Scalars
from toymodel.models.linear import LinearSoftmax, positional_offset

__dir__ = own_names(globals())

GOOD, BAD, SUFFIX = range(3)  # token ids
WORDS = ("good", "bad", "s")


class SuffixPair(NamedTuple):
    """A model, its parameters and a batch of one pair: `theory.pair_gram(*suffix_pair(…))`, and so for `gradients`."""

    model: LinearSoftmax
    params: Float[Array, "V T"]
    pairs: PreferencePairs

    def __repr__(self) -> str:
        return short_repr(self, self._fields)


def suffix_pair(
    suffix_length: Ints, a: Scalars, b: Scalars, *, vocab_size: int = 20, longest: int | None = None
) -> SuffixPair:
    """The chosen "good s s … s" against the rejected "bad s s … s", with as many s as `suffix_length`.

    DPO lowers both from `theory.threshold_length(1 / V, 1 / V, a, b, V)` tokens on.

    Args:
      suffix_length: may be traced, where `longest` is given.
      a: probability of each suffix token after "good"; b after "bad".
      vocab_size: V, at least 3.
      longest: answers are padded to 1 + `longest` tokens (default: not at all).

    Raises:
      ValueError: a length or a size is out of its range, or a probability outside (0, 1).
    """
    require_int("vocab_size", vocab_size, low=len(WORDS))
    if longest is None:
        require_int("suffix_length", suffix_length, low=0)
        longest = int(suffix_length)
    require_int("longest", longest, low=0)
    require_counts("suffix_length", suffix_length, 1, low=0, high=longest)
    for name, prob in (("a", a), ("b", b)):
        require_probability(name, prob, inside=True)
    others = [f"t{i}" for i in range(len(WORDS), vocab_size)]
    vocabulary = Vocabulary.of_roles(contrast=WORDS[:2], suffix=WORDS[2:], neutral=others)
    chosen, rejected = (jnp.full((1, 1 + longest), SUFFIX).at[:, 0].set(label) for label in (GOOD, BAD))
    mask, prompt = (jnp.arange(1 + longest) <= suffix_length)[None], jnp.zeros((1, 0), int)
    pairs = PreferencePairs(prompt, prompt.astype(bool), chosen, mask, rejected, mask, vocabulary=vocabulary)
    model = positional_offset(vocab_size, pairs, *(_peaked_logits(prob, vocab_size, longest)[None] for prob in (a, b)))
    return SuffixPair(model, jnp.zeros((vocab_size, 1 + longest)), pairs)


def _peaked_logits(prob: Scalars, vocab_size: int, longest: int) -> Float[Array, "T V"]:
    """Uniform at the contrast token; later, `prob` for the suffix token and the rest spread evenly."""
    suffix = jnp.arange(vocab_size) == SUFFIX
    peaked = jnp.where(suffix, jnp.log(prob), jnp.log((1 - jnp.asarray(prob)) / (vocab_size - 1)))
    return jnp.tile(peaked, (1 + longest, 1)).at[0].set(0.0)
