"""Preference pairs: a prompt, a chosen and a rejected response, as arrays with masks.

Prompts are padded on the left (their last token is always in the last column), responses on the right. Padded
places hold id 0 and a mask of False; nothing depends on the id found there.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from toymodel._checks import describe, is_concrete, require_int
from toymodel._public import own_names, short_repr, shortened
from toymodel._pytree import pytree
from toymodel.data.vocabulary import Vocabulary

__dir__ = own_names(globals())


@pytree
@dataclass(frozen=True)
class Response:
    """One response to one prompt (or a batch of them, with leading axes): the input of a model."""

    prompt: Int[Array, "*batch P"]
    prompt_mask: Bool[Array, "*batch P"]
    tokens: Int[Array, "*batch T"]
    mask: Bool[Array, "*batch T"]

    def check(self, vocab_size: int) -> None:
        """Raise `ValueError` unless shapes agree, no response is empty, padding is at its side and ids are in range."""
        _check_side("prompt", self.prompt, self.prompt_mask, self.prompt.shape[:-1], vocab_size)
        _check_side("tokens", self.tokens, self.mask, self.prompt.shape[:-1], vocab_size)

    def __repr__(self) -> str:
        return short_repr(self, ("prompt", "tokens"))


@partial(pytree, static=["vocabulary"])
@dataclass(frozen=True)
class PreferencePairs:
    """A batch of preference pairs (or a single one, without the leading axis). A pytree of arrays.

    Fields: `prompt` [n, P], `chosen` [n, T_w], `rejected` [n, T_l], token ids; each with its mask, True on real tokens.
    Pairs made from texts have a `vocabulary`, and their repr shows its words.
    """

    prompt: Int[Array, "*n P"]
    prompt_mask: Bool[Array, "*n P"]
    chosen: Int[Array, "*n T_w"]
    chosen_mask: Bool[Array, "*n T_w"]
    rejected: Int[Array, "*n T_l"]
    rejected_mask: Bool[Array, "*n T_l"]
    vocabulary: Vocabulary | None = field(default=None, kw_only=True)

    @classmethod
    def from_lists(
        cls,
        prompt: Sequence[Sequence[int]],
        chosen: Sequence[Sequence[int]],
        rejected: Sequence[Sequence[int]],
        *,
        vocab_size: int,
        length: int | None = None,
    ) -> Self:
        """Pad lists of token ids to arrays. `length` fixes the padded width of the responses (default: the longest).

        Raises:
          ValueError: numbers of pairs differ, a response is empty or longer than `length`, an id is out of range.
        """
        require_int("vocab_size", vocab_size, low=2)
        if not len(prompt) == len(chosen) == len(rejected):
            raise ValueError(
                "`prompt`, `chosen` and `rejected` must have one entry per pair, "
                f"got {len(prompt)}, {len(chosen)} and {len(rejected)}."
            )
        if not chosen:
            raise ValueError("`chosen` must hold at least one response, got none.")
        longest = max(len(r) for r in (*chosen, *rejected))
        if length is not None:
            require_int("length", length, low=longest)
        width = longest if length is None else length
        pairs = cls(
            *_pad("prompt", prompt, max(map(len, prompt)), vocab_size, left=True),
            *_pad("chosen", chosen, width, vocab_size),
            *_pad("rejected", rejected, width, vocab_size),
        )
        pairs.check(vocab_size)
        return pairs

    @classmethod
    def from_texts(
        cls,
        prompt: Sequence[str],
        chosen: Sequence[str],
        rejected: Sequence[str],
        *,
        vocabulary: Vocabulary | None = None,
        length: int | None = None,
    ) -> Self:
        """Make pairs from texts, split into words at white space; `length` is that of `from_lists`.

        Args:
          vocabulary: gives each word its id. By default it holds the words of these texts, answers first.

        Raises:
          ValueError: a text instead of a list of texts, a word outside the vocabulary, or as for `from_lists`.
        """
        texts = {"chosen": chosen, "rejected": rejected, "prompt": prompt}
        for name, given in texts.items():
            if isinstance(given, str):
                raise ValueError(f"`{name}` must be a list with one text per pair, got {given!r}; [{given!r}] is one.")
        if vocabulary is None:
            vocabulary = Vocabulary.from_words(text for given in texts.values() for text in given)
        ids = {name: [vocabulary.encode(text) for text in given] for name, given in texts.items()}
        pairs = cls.from_lists(**ids, vocab_size=len(vocabulary), length=length)
        return replace(pairs, vocabulary=vocabulary)

    @property
    def chosen_response(self) -> Response:
        """The chosen responses with their prompts, for a model to read."""
        return Response(self.prompt, self.prompt_mask, self.chosen, self.chosen_mask)

    @property
    def rejected_response(self) -> Response:
        """The rejected responses with their prompts, for a model to read."""
        return Response(self.prompt, self.prompt_mask, self.rejected, self.rejected_mask)

    @property
    def both_responses(self) -> Response:
        """Chosen and rejected along a new first axis of 2, padded to one width: a model reads them in one pass."""
        width = max(self.chosen.shape[-1], self.rejected.shape[-1])

        def stack(*sides: Array) -> Array:
            return jnp.stack([jnp.pad(a, [(0, 0)] * (a.ndim - 1) + [(0, width - a.shape[-1])]) for a in sides])

        return Response(
            jnp.stack([self.prompt] * 2),
            jnp.stack([self.prompt_mask] * 2),
            stack(self.chosen, self.rejected),
            stack(self.chosen_mask, self.rejected_mask),
        )

    def swapped(self) -> "PreferencePairs":
        """The same pairs with chosen and rejected exchanged."""
        return replace(
            self,
            chosen=self.rejected,
            chosen_mask=self.rejected_mask,
            rejected=self.chosen,
            rejected_mask=self.chosen_mask,
        )

    def __len__(self) -> int:
        if self.chosen.ndim < 2:
            raise TypeError("a single pair has no length; `pairs[i:i + 1]` is a batch of one.")
        return int(self.chosen.shape[0])

    def __getitem__(self, index: Any) -> "PreferencePairs":
        """One pair (an integer) or some of them (a slice or an array of indices)."""
        if isinstance(index, int) and not -len(self) <= index < len(self):
            raise IndexError(f"pair {index} of {len(self)}")  # jax would silently clamp it to the last pair
        return jax.tree.map(lambda a: a[index], self)

    def check(self, vocab_size: int) -> None:
        """Raise `ValueError` unless shapes agree, no response is empty, padding is at its side and ids are in range."""
        for name in ("prompt", "chosen", "rejected"):
            _check_side(name, getattr(self, name), getattr(self, f"{name}_mask"), self.prompt.shape[:-1], vocab_size)

    def words(self, name: str) -> list[str]:
        """The real tokens of `prompt`, `chosen` or `rejected` of one pair: words, or ids if there is no vocabulary.

        Raises:
          ValueError: this is a batch; `pairs[i]` is one pair.
        """
        tokens, mask = np.asarray(getattr(self, name)), np.asarray(getattr(self, f"{name}_mask"))
        if tokens.ndim != 1:
            raise ValueError(f"`words` are those of one pair (`pairs[i]`), got tokens of shape {tokens.shape}.")
        ids = tokens[mask].tolist()
        return [str(i) if self.vocabulary is None else self.vocabulary.tokens[i] for i in ids]

    def __repr__(self) -> str:
        shapes = short_repr(self, ("prompt", "chosen", "rejected"))
        if not all(isinstance(leaf, jax.Array | np.ndarray) and leaf.size for leaf in (self.chosen, self.rejected)):
            return shapes
        if not is_concrete(self) or self.chosen.ndim > 2:
            return shapes
        first = self if self.chosen.ndim == 1 else self[0]
        prompt, chosen, rejected = (shortened(first.words(name)) for name in ("prompt", "chosen", "rejected"))
        return f"{shapes[:-1]}: {prompt and f'{prompt} → '}{chosen} over {rejected})"


def _check_side(name: str, tokens: Array, mask: Array, batch: tuple[int, ...], vocab_size: int) -> None:
    if not (hasattr(tokens, "dtype") and hasattr(mask, "dtype")):
        raise ValueError(f"`{name}` and `{name}_mask` must be arrays, got {describe(tokens)} and {describe(mask)}.")
    if tokens.shape != mask.shape or tokens.shape[:-1] != batch:
        raise ValueError(
            f"`{name}` and `{name}_mask` must share one shape with leading axes {batch}, "
            f"got {tokens.shape} and {mask.shape}."
        )
    for kind, array, wanted in (
        (np.integer, tokens, "`{}` must hold token ids"),
        (bool, mask, "`{}_mask` must hold bools"),
    ):
        if not jnp.issubdtype(array.dtype, kind):
            raise ValueError(f"{wanted.format(name)}, got {array.dtype}.")
    if is_concrete(tokens, mask):
        _check_tokens(name, np.asarray(tokens), np.asarray(mask), vocab_size)


def _check_tokens(name: str, tokens: np.ndarray, mask: np.ndarray, vocab_size: int) -> None:
    if name == "prompt":
        tokens, mask = tokens[..., ::-1], mask[..., ::-1]
    elif not mask.any(axis=-1).all():
        raise ValueError(f"`{name}` must hold at least one token per response, got an empty response.")
    if (mask[..., 1:] & ~mask[..., :-1]).any():
        side = "left" if name == "prompt" else "right"
        raise ValueError(f"`{name}_mask` must be False only in the padding, on the {side}; got a gap.")
    wrong = mask & ((tokens < 0) | (tokens >= vocab_size))
    if wrong.any():
        raise ValueError(f"`{name}` must hold token ids in [0, {vocab_size}), got {int(tokens[wrong][0])}.")


def _pad(
    name: str, rows: Sequence[Sequence[int]], width: int, vocab_size: int, *, left: bool = False
) -> tuple[Array, Array]:
    tokens = np.zeros((len(rows), width), np.int32)
    mask = np.zeros((len(rows), width), bool)
    for i, row in enumerate(rows):
        for token in row:
            require_int(f"{name} token", token, low=0, high=vocab_size - 1)
        place = slice(width - len(row), width) if left else slice(0, len(row))
        tokens[i, place], mask[i, place] = row, True
    return jax.device_put((tokens, mask))  # which compiles nothing, unlike `jnp.asarray`
