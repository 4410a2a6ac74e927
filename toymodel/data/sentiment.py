"""A synthetic sentiment task: prompts whose label can be learnt, and answers of a label word and a suffix.

A prompt is three clauses of a subject, a verb and a verdict: "plot was great acting not cold music seemed dull". The
word "not" reverses a verdict, and the label is the verdict of most clauses. An answer is the label word, then
words of praise or of blame. A pair's answers share these words and differ in the label alone, as in the sentiment
experiment of arXiv 2410.13828 (Figs. 3 and 4), whose data are tweets.
"""

from functools import partial
from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from toymodel._checks import Domain, is_concrete, require_int
from toymodel._public import own_names
from toymodel.data.pairs import PreferencePairs
from toymodel.data.vocabulary import Vocabulary

__dir__ = own_names(globals())

Key = Array
Task = Literal["single_token", "short_suffix", "long_suffix"]
TASKS: tuple[Task, ...] = get_args(Task)
SUFFIX_LENGTH: dict[Task, int] = {"single_token": 0, "short_suffix": 2, "long_suffix": 8}

POSITIVE, NEGATIVE = "positive", "negative"
PRAISE, BLAME = (
    ("bright", "clever", "gentle", "honest", "lively", "tender"),
    ("bland", "clumsy", "dreary", "empty", "harsh", "stale"),
)
GOOD, BAD = ("great", "fun", "warm"), ("dull", "awful", "cold")
SUBJECTS, VERBS, NOT = ("plot", "acting", "music", "ending"), ("was", "seemed"), "not"

WORDS = Vocabulary.of_roles(
    contrast=(POSITIVE, NEGATIVE),
    suffix=(*PRAISE, *BLAME),
    sentiment=(*GOOD, *BAD),
    neutral=(*SUBJECTS, *VERBS, NOT),
)
CLAUSES = 3
PROMPT_LENGTH = 3 * CLAUSES
PROBABILITY = Domain("in [0, 1]", lambda x: (x >= 0) & (x <= 1))

_IDS = {word: i for i, word in enumerate(WORDS.tokens)}
_CLAUSES = np.array(
    [[_IDS[s], _IDS[v], _IDS[w]] for s in SUBJECTS for v in (*VERBS, NOT) for w in (*GOOD, *BAD)], np.int32
)
_VERDICTS = np.array(
    [(1 if w in GOOD else -1) * (-1 if v == NOT else 1) for _ in SUBJECTS for v in (*VERBS, NOT) for w in (*GOOD, *BAD)]
)
PROMPTS = len(_CLAUSES) ** CLAUSES  # different prompts in all
FEW = PROMPTS // 16  # up to so many, a draw of fewer prompts is the beginning of a draw of more


class Prompts(NamedTuple):
    """Prompts and their labels."""

    tokens: Int[Array, "n 9"]
    is_positive: Bool[Array, " n"]


def draw_prompts(key: Key, n: int) -> Prompts:
    """Draw `n` different prompts uniformly from all 373,248; cut in two, they are a training and an evaluation set.

    Raises:
      ValueError: `n` is not a whole number from 1 to the number of prompts.
    """
    require_int("n", n, low=1, high=PROMPTS)
    return _draw_prompts(key, n)


@partial(jax.jit, static_argnames="n")
def _draw_prompts(key: Key, n: int) -> Prompts:
    places = _draw_numbers(key, n)[:, None] // len(_CLAUSES) ** np.arange(CLAUSES) % len(_CLAUSES)
    return Prompts(jnp.asarray(_CLAUSES)[places].reshape(n, -1), jnp.asarray(_VERDICTS)[places].sum(axis=1) > 0)


def _draw_numbers(key: Key, n: int) -> Int[Array, " n"]:
    """Draw `n` different numbers of prompts; up to `FEW`, the first of them are the same for every `n`.

    They are the first n that differ in a sequence of independent draws, in its order: as in a shuffle of all 373,248,
    which would sort them all. Of so many draws more than n differ, but for a chance below 1e-50.
    """
    if n > FEW:
        return jax.random.permutation(key, PROMPTS)[:n]
    drawn = jnp.arange(n + n**2 // PROMPTS + 64)
    numbers = jax.vmap(lambda i: jax.random.randint(jax.random.fold_in(key, i), (), 0, PROMPTS))(drawn)
    order = jnp.argsort(numbers, stable=True)
    again = jnp.concatenate([jnp.zeros(1, bool), jnp.diff(numbers[order]) == 0])
    kept = jnp.argsort(jnp.zeros_like(again).at[order].set(again), stable=True)[:n]
    return numbers[kept]


def suffix_length_of(task: Task, suffix_length: int | None = None) -> int:
    """Number of words in the suffixes of a task: the usual number, or `suffix_length` if it is given.

    Raises:
      ValueError: an unknown task, an empty suffix for a task that has one, or a suffix for a task that has none.
    """
    if task not in TASKS:
        raise ValueError(f"`task` must be among {', '.join(TASKS)}, got {task!r}.")
    if suffix_length is None:
        return SUFFIX_LENGTH[task]
    if task == "single_token":
        require_int("suffix_length", suffix_length, low=0, high=0)
    else:
        require_int("suffix_length", suffix_length, low=1)
    return suffix_length


def sentiment_pairs(
    key: Key, prompts: Prompts, task: Task, *, suffix_fit: float | Float[Array, ""], suffix_length: int | None = None
) -> PreferencePairs:
    """Pairs of answers: the right label and a suffix (chosen), the wrong label and the same suffix (rejected).

    Args:
      suffix_fit: probability that a word of the suffix goes with the right label (praise with "positive"). At 0.5 the
        suffix says nothing about the label. Above, a model that knows the language finds it likelier after the chosen
        label than after the rejected one.
      suffix_length: words in the suffix, if not the task's usual number.

    Raises:
      ValueError: an unknown task, a `suffix_fit` outside [0, 1], or an empty suffix for a task that has one.
    """
    length = suffix_length_of(task, suffix_length)
    _require_probability("suffix_fit", suffix_fit)
    suffix = _draw_suffix(key, prompts.is_positive, length, suffix_fit)
    chosen, rejected = (_write_answers(label, suffix) for label in (prompts.is_positive, ~prompts.is_positive))
    return _make_pairs(prompts, chosen, rejected)


def annotated_pairs(
    key: Key, prompts: Prompts, task: Task, *, suffix_fit: float | Float[Array, ""], suffix_length: int | None = None
) -> PreferencePairs:
    """Data for supervised fine-tuning: both labels, each with its own suffix that goes with it.

    `supervised.CrossEntropy` sets how often annotators prefer the wrong one.

    Raises:
      ValueError: as for `sentiment_pairs`.
    """
    length, labels = suffix_length_of(task, suffix_length), (prompts.is_positive, ~prompts.is_positive)
    _require_probability("suffix_fit", suffix_fit)
    answers = (
        _write_answers(label, _draw_suffix(one, label, length, suffix_fit))
        for one, label in zip(jax.random.split(key), labels, strict=True)
    )
    return _make_pairs(prompts, *answers)


def sharing_more(key: Key, suffix: Int[Array, "n s"]) -> Int[Array, "s+1 n s"]:
    """Versions of `suffix` that keep 0, 1, … s of its words; the others become other words of the same kind."""
    of_order, of_word = jax.random.split(key)
    kind, first = len(PRAISE), _IDS[PRAISE[0]]
    first_of_kind = first + (suffix - first) // kind * kind
    step = jax.random.randint(of_word, suffix.shape, 1, kind, suffix.dtype)
    another = first_of_kind + (suffix - first_of_kind + step) % kind
    order = jnp.argsort(jax.random.uniform(of_order, suffix.shape), axis=-1)
    return jnp.where(order < jnp.arange(suffix.shape[-1] + 1)[:, None, None], suffix, another)


def _make_pairs(prompts: Prompts, chosen: Int[Array, "n T"], rejected: Int[Array, "n T"]) -> PreferencePairs:
    of_prompt, of_answer = jnp.ones_like(prompts.tokens, bool), jnp.ones_like(chosen, bool)
    return PreferencePairs(prompts.tokens, of_prompt, chosen, of_answer, rejected, of_answer, vocabulary=WORDS)


@jax.jit
def _write_answers(is_positive: Bool[Array, " n"], suffix: Int[Array, "n s"]) -> Int[Array, "n 1+s"]:
    label = jnp.where(is_positive, _IDS[POSITIVE], _IDS[NEGATIVE])
    return jnp.concatenate([label[:, None], suffix], axis=1, dtype=jnp.int32)


@partial(jax.jit, static_argnames="length")
def _draw_suffix(
    key: Key, is_positive: Bool[Array, " n"], length: int, fit: float | Float[Array, ""]
) -> Int[Array, "n s"]:
    """Draw words that go with the label with probability `fit`, uniformly among those of praise or of blame."""
    shape = len(is_positive), length
    of_fit, of_word = jax.random.split(key)
    fits = jax.random.bernoulli(of_fit, jnp.asarray(fit, float), shape)  # wants a float, and 0 and 1 are whole
    praised = is_positive[:, None] ^ ~fits
    words = jnp.array([[_IDS[word] for word in group] for group in (BLAME, PRAISE)])
    return words[praised.astype(int), jax.random.randint(of_word, shape, 0, len(PRAISE))]


def _require_probability(name: str, value: float | Float[Array, ""]) -> None:
    if is_concrete(value) and not PROBABILITY.holds(np.asarray(value)).all():
        raise ValueError(f"`{name}` must be {PROBABILITY.words}, got {value!r}.")
