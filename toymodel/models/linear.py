"""Linear softmax models: logits z(c) = z⁰(c) + W φ(c), with features φ and logits z⁰ frozen and W [V, d] learned.

A model looks at some part of the context c = (prompt, earlier tokens) and keeps one row of φ and z⁰ for each value:

Constructor          Row chosen by                 φ(c)                    z⁰(c)
`unigram`            nothing                       1                       0
`positional`         position i                    e_i                     0
`bigram`             previous token                e_{previous token}      0
`prefix`             everything before             one-hot                 0
`random_features`    everything before             unit vectors, cosine ρ  0
`positional_offset`  everything before             e_i                     given (or random)

The first four are the tabular models. In the last, W is a positional offset b_i added to frozen logits: the smallest
model in which different contexts share parameters while their probabilities differ.

`MODELS` offers them by name with the same arguments; what is frozen is then random.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int

from toymodel._checks import is_concrete, require_finite, require_int, require_positive
from toymodel._public import own_names, short_repr
from toymodel._pytree import pytree
from toymodel.data.pairs import PreferencePairs, Response

__dir__ = own_names(globals())

Key = Array
ContextKind = Literal["unigram", "positional", "bigram", "prefix"]
PADDING = -1  # in place of a token id


class LinearStates(NamedTuple):
    """What a linear softmax model computes for one response; the closed forms need nothing else."""

    features: Float[Array, "T d"]
    logits: Float[Array, "T V"]
    contexts: Int[Array, " T"]
    tokens: Int[Array, " T"]
    mask: Bool[Array, " T"]


@partial(pytree, static=["kind", "vocab_size", "tabular"])
@dataclass(frozen=True)
class LinearSoftmax:
    """z(c) = z⁰(c) + W φ(c). A context in no row (a prefix never seen) has φ = 0 and z⁰ = 0: uniform for every W."""

    kind: ContextKind
    vocab_size: int
    features: Float[Array, "rows d"]
    frozen_logits: Float[Array, "rows V"] | None = None
    known: Int[Array, "R P+T"] | None = None  # "prefix": prompts and responses whose prefixes have rows, R·T in all
    tabular: bool = True  # every row of `features` one-hot in a column of its own, and no frozen logits

    def __repr__(self) -> str:
        return short_repr(self, ("kind", "vocab_size", "features", "frozen_logits"))

    def contexts(self, response: Response) -> Int[Array, " T"]:
        """The row of each token's context. Equal rows have equal features and equal probabilities."""
        T = response.tokens.shape[-1]
        if self.kind == "unigram":
            return jnp.zeros(T, jnp.int32)
        if self.kind == "positional":
            if self.features.shape[0] < T:
                raise ValueError(f"`response` must have at most {self.features.shape[0]} positions, got {T}.")
            return jnp.arange(T)
        if self.kind == "bigram":  # the row after the last token stands for "nothing before"
            prompt = jnp.where(response.prompt_mask, response.prompt, self.vocab_size)[-1:]
            start = prompt if prompt.size else jnp.full(1, self.vocab_size)
            return jnp.concatenate([start, response.tokens[:-1]])
        return self._find_prefix(response)

    def _find_prefix(self, response: Response) -> Int[Array, " T"]:
        """Row r·T + i of the first known response r that agrees before position i; beyond the last row if none does."""
        assert self.known is not None
        T_known = self.features.shape[0] // self.known.shape[0]
        P_known, T = self.known.shape[1] - T_known, response.tokens.shape[-1]
        here = _join_prompt_and_tokens(response, P_known, T_known)
        agrees = jnp.cumprod(here == self.known, axis=1, dtype=bool)
        agrees_before = jnp.pad(agrees, ((0, 0), (1, 0)), constant_values=True)[:, P_known : P_known + T]
        found = agrees_before & (self.known[:, P_known : P_known + T] != PADDING)
        rows = jnp.argmax(found, axis=0) * T_known + jnp.arange(T)
        return jnp.where(found.any(axis=0), rows, self.features.shape[0])

    def logits(self, params: Float[Array, "V d"], response: Response) -> Float[Array, "T V"]:
        """z⁰ + W φ before each token of one response, in the dtype of `params`."""
        return self.states(params, response).logits

    def states(self, params: Float[Array, "V d"], response: Response) -> LinearStates:
        """Features, logits and contexts at each position of one response."""
        wanted = (self.vocab_size, self.features.shape[1])
        if params.shape != wanted:
            raise ValueError(f"`params` must be W of shape {wanted}, got shape {params.shape}.")
        contexts = self.contexts(response)
        features = self.features.at[contexts].get(mode="fill", fill_value=0).astype(params.dtype)
        logits = features @ params.T
        if self.frozen_logits is not None:
            logits += self.frozen_logits.at[contexts].get(mode="fill", fill_value=0).astype(params.dtype)
        return LinearStates(features, logits, contexts, response.tokens, response.mask)


def unigram(vocab_size: int) -> LinearSoftmax:
    """One distribution for every context."""
    return LinearSoftmax("unigram", _check_vocab_size(vocab_size), jnp.ones((1, 1)))


def positional(vocab_size: int, length: int) -> LinearSoftmax:
    """One distribution per position of the response, up to `length` ("learnable logits")."""
    require_int("length", length, low=1)
    return LinearSoftmax("positional", _check_vocab_size(vocab_size), jnp.eye(length))


def bigram(vocab_size: int) -> LinearSoftmax:
    """One distribution per previous token, the prompt's last token included; one more for an empty prompt."""
    return LinearSoftmax("bigram", _check_vocab_size(vocab_size), jnp.eye(vocab_size + 1))


def prefix(vocab_size: int, pairs: PreferencePairs) -> LinearSoftmax:
    """One distribution per distinct (prompt, earlier tokens) that occurs in `pairs`."""
    known = _known_responses(vocab_size, pairs)
    rows = known.shape[0] * max(pairs.chosen.shape[-1], pairs.rejected.shape[-1])
    return LinearSoftmax("prefix", vocab_size, jnp.eye(rows), known=known)


def frozen_features(
    vocab_size: int,
    pairs: PreferencePairs,
    chosen_features: Float[Array, "*n T_w d"],
    rejected_features: Float[Array, "*n T_l d"],
    chosen_logits: Float[Array, "*n T_w V"] | None = None,
    rejected_logits: Float[Array, "*n T_l V"] | None = None,
) -> LinearSoftmax:
    """Features φ are given for each context of each response ("learnable last linear layer"), from any source.

    Logits z⁰ may be given as well, for both responses or for none. A context found more than once keeps the features
    and logits of its first occurrence, chosen responses first.
    """
    features = _stack_rows(pairs, "features", chosen_features, rejected_features)
    known, frozen = _known_responses(vocab_size, pairs), None
    if (chosen_logits is None) != (rejected_logits is None):
        raise ValueError("`chosen_logits` and `rejected_logits` must both be given, or neither.")
    if chosen_logits is not None and rejected_logits is not None:
        frozen = _stack_rows(pairs, "logits", chosen_logits, rejected_logits)
        if frozen.shape[1] != vocab_size:
            raise ValueError(f"`chosen_logits` must have {vocab_size} entries per token, got {frozen.shape[1]}.")
    return LinearSoftmax("prefix", vocab_size, features, frozen, known, tabular=False)


def random_features(
    key: Key, vocab_size: int, pairs: PreferencePairs, *, dim: int, correlation: float | Float[Array, ""]
) -> LinearSoftmax:
    """Random unit vectors with ⟨φ(c_i), φ(c′_i)⟩ = `correlation` exactly, c_i ≠ c′_i the pair's contexts at position i.

    Raises:
      ValueError: |correlation| > 1, `dim` < 2, or a pair's contexts also belong to another pair, so that the
        correlation of both cannot be set (give the pairs different prompts, or build one model per pair).
    """
    require_int("dim", dim, low=2)
    if is_concrete(correlation) and not -1 <= float(correlation) <= 1:
        raise ValueError(f"`correlation` must be in [-1, 1], got {correlation!r}.")
    T_w, T_l = pairs.chosen.shape[-1], pairs.rejected.shape[-1]
    u, v = jax.random.normal(key, (2, *pairs.chosen.shape[:-1], max(T_w, T_l), dim))
    u = _normalise(u)
    v = _normalise(v - (u * v).sum(axis=-1, keepdims=True) * u)
    after_rejected = correlation * u + jnp.sqrt(1 - jnp.square(correlation)) * v
    model = frozen_features(vocab_size, pairs, u[..., :T_w, :], after_rejected[..., :T_l, :])
    _check_own_contexts(model, pairs, correlation)
    return model


def positional_offset(
    vocab_size: int,
    pairs: PreferencePairs,
    chosen_logits: Float[Array, "*n T_w V"],
    rejected_logits: Float[Array, "*n T_l V"],
) -> LinearSoftmax:
    """Frozen logits z⁰, given for each context of each response, plus a learned offset: z = z⁰(c_i) + b_i."""
    T_w, T_l = pairs.chosen.shape[-1], pairs.rejected.shape[-1]
    width = max(T_w, T_l)
    return frozen_features(
        vocab_size,
        pairs,
        jnp.broadcast_to(jnp.eye(T_w, width), (*pairs.chosen.shape, width)),
        jnp.broadcast_to(jnp.eye(T_l, width), (*pairs.rejected.shape, width)),
        chosen_logits,
        rejected_logits,
    )


def random_offset(
    key: Key, vocab_size: int, pairs: PreferencePairs, *, temperature: float | Float[Array, ""]
) -> LinearSoftmax:
    """`positional_offset` with independent standard normal z⁰ / `temperature` (infinity: exactly uniform)."""
    require_positive("temperature", temperature)
    chosen, rejected = jax.random.split(key)
    return positional_offset(
        vocab_size,
        pairs,
        jax.random.normal(chosen, (*pairs.chosen.shape, vocab_size)) / temperature,
        jax.random.normal(rejected, (*pairs.rejected.shape, vocab_size)) / temperature,
    )


def _adapt(constructor: Callable[..., LinearSoftmax], *takes: str) -> Callable[..., LinearSoftmax]:
    """Give a constructor the arguments of `MODELS`; `takes` names those it needs besides the size of the vocabulary."""

    def build(
        key: Key,
        vocab_size: int,
        pairs: PreferencePairs,
        *,
        dim: int = 16,
        correlation: float | Float[Array, ""] = 0.9,
        temperature: float | Float[Array, ""] = 1.0,
    ) -> LinearSoftmax:
        given = {"key": key, "pairs": pairs, "dim": dim, "correlation": correlation, "temperature": temperature}
        given["length"] = max(pairs.chosen.shape[-1], pairs.rejected.shape[-1])
        return constructor(vocab_size=vocab_size, **{name: given[name] for name in takes})

    return build


#: Every model by name; all take the same arguments: `MODELS[name](key, vocab_size, pairs, dim=16, correlation=0.9,
#: temperature=1.0)`. `dim` and `correlation` are those of random features, `temperature` is that of frozen logits.
MODELS: Mapping[str, Callable[..., LinearSoftmax]] = MappingProxyType(
    {
        "unigram": _adapt(unigram),
        "positional": _adapt(positional, "length"),
        "bigram": _adapt(bigram),
        "prefix": _adapt(prefix, "pairs"),
        "random_features": _adapt(random_features, "key", "pairs", "dim", "correlation"),
        "positional_offset": _adapt(random_offset, "key", "pairs", "temperature"),
    }
)


def init_params(
    key: Key, model: LinearSoftmax, *, temperature: float | Float[Array, ""] = 1.0, dtype: DTypeLike | None = None
) -> Float[Array, "V d"]:
    """W with standard normal entries / `temperature`; zero where the model has frozen logits of its own.

    The temperature sets how sure the model is: infinity gives uniform probabilities, 0.03 nearly deterministic ones.
    """
    require_positive("temperature", temperature)
    shape = (model.vocab_size, model.features.shape[1])
    if model.frozen_logits is not None:
        return jnp.zeros(shape, dtype)
    return jax.random.normal(key, shape, dtype or float) / jnp.asarray(temperature, dtype)


def _check_vocab_size(vocab_size: int) -> int:
    require_int("vocab_size", vocab_size, low=2)
    return vocab_size


def _known_responses(vocab_size: int, pairs: PreferencePairs) -> Int[Array, "R P+T"]:
    """Prompt and tokens of all chosen, then of all rejected responses, padded to one width."""
    pairs.check(_check_vocab_size(vocab_size))
    P, T = pairs.prompt.shape[-1], max(pairs.chosen.shape[-1], pairs.rejected.shape[-1])
    both = [_join_prompt_and_tokens(r, P, T) for r in (pairs.chosen_response, pairs.rejected_response)]
    return jnp.concatenate([tokens.reshape(-1, P + T) for tokens in both])


def _join_prompt_and_tokens(response: Response, P: int, T: int) -> Int[Array, "*batch P+T"]:
    """Join the prompt, padded on the left to P tokens, and the response, padded on the right to T."""
    missing = P - response.prompt.shape[-1], T - response.tokens.shape[-1]
    if min(missing) < 0:
        raise ValueError(
            f"`response` must have at most {T} tokens after a prompt of at most {P}, "
            f"got {response.tokens.shape[-1]} after {response.prompt.shape[-1]}."
        )
    tokens = (
        jnp.where(response.prompt_mask, response.prompt, PADDING),
        jnp.where(response.mask, response.tokens, PADDING),
    )
    before = [(0, 0)] * (response.tokens.ndim - 1)
    return jnp.pad(jnp.concatenate(tokens, axis=-1), [*before, missing], constant_values=PADDING)


def _stack_rows(pairs: PreferencePairs, name: str, chosen: Array, rejected: Array) -> Float[Array, "rows size"]:
    """Stack one row per context: T for each of the responses, in the order of `_known_responses`."""
    for side, tokens, values in (("chosen", pairs.chosen, chosen), ("rejected", pairs.rejected, rejected)):
        if values.shape[:-1] != tokens.shape:
            raise ValueError(f"`{side}_{name}` must have leading axes {tokens.shape}, got shape {values.shape}.")
        require_finite(f"{side}_{name}", values)
    if chosen.shape[-1] != rejected.shape[-1]:
        raise ValueError(
            f"`chosen_{name}` and `rejected_{name}` must be equally wide, "
            f"got {chosen.shape[-1]} and {rejected.shape[-1]}."
        )
    T, size = max(chosen.shape[-2], rejected.shape[-2]), chosen.shape[-1]
    by_response = [values.reshape(-1, *values.shape[-2:]) for values in (chosen, rejected)]
    padded = [jnp.pad(values, ((0, 0), (0, T - values.shape[1]), (0, 0))) for values in by_response]
    return jnp.concatenate(padded).reshape(-1, size)


def _normalise(vectors: Float[Array, "*n d"]) -> Float[Array, "*n d"]:
    """Scale vectors to unit length."""
    return vectors / jnp.linalg.norm(vectors, axis=-1, keepdims=True)


def _check_own_contexts(model: LinearSoftmax, pairs: PreferencePairs, correlation: float | Array) -> None:
    """Raise `ValueError` when some pair's hidden states do not have the requested cosine."""
    if not is_concrete(model, pairs, correlation):
        return
    batch = jax.tree.map(jnp.atleast_2d, pairs)
    T = min(batch.chosen.shape[-1], batch.rejected.shape[-1])
    rows = [jax.vmap(model.contexts)(r)[:, :T] for r in (batch.chosen_response, batch.rejected_response)]
    apart = (rows[0] != rows[1]) & batch.chosen_mask[:, :T] & batch.rejected_mask[:, :T]
    cosines = (model.features[rows[0]] * model.features[rows[1]]).sum(axis=-1)
    missed = np.asarray(apart & (abs(cosines - correlation) > 1e-4))  # float32 round-off stays far below 1e-4
    if missed.any():
        pair, position = np.argwhere(missed)[0]
        raise ValueError(
            f"`pairs` must not share contexts after they branch: pair {pair}, position {position}; "
            "give the pairs different prompts, or build one model per pair."
        )
