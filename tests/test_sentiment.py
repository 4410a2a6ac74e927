"""The sentiment task: what prompts say is read from their words, and what is drawn at random is counted.

Counts of n independent draws are held to Hoeffding's bound: they miss it with probability `FAILURE` at most, under keys
that are fixed, so that a test that passes once always does.
"""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import seeds

from toymodel.data import sentiment
from toymodel.data.sentiment import PROMPTS, TASKS, WORDS, annotated_pairs, draw_prompts, sentiment_pairs

GOOD, BAD = {"great", "fun", "warm"}, {"dull", "awful", "cold"}
PRAISE = ["bright", "clever", "gentle", "honest", "lively", "tender"]
BLAME = ["bland", "clumsy", "dreary", "empty", "harsh", "stale"]
SUFFIX_WORDS = {"single_token": 0, "short_suffix": 2, "long_suffix": 8}
KEY = jax.random.key(0)
N, FAILURE = 4096, 1e-9
MAKERS = {"sentiment": sentiment_pairs, "annotated": annotated_pairs}
makers = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
tasks = st.sampled_from(TASKS)
fits = st.floats(0, 1)


def words(tokens):
    return np.array(WORDS.tokens)[np.asarray(tokens)]


def says(text):
    """What a reader makes of a prompt: in each clause, the verdict, or its opposite after "not"; then the majority."""
    text = text.split()
    clauses = [text[i : i + 3] for i in range(0, len(text), 3)]
    good = [(verdict in GOOD) != (verb == "not") for _, verb, verdict in clauses]
    return sum(good) > len(good) / 2


def hoeffding(n):
    """How far a share of n draws may be from its probability."""
    return np.sqrt(np.log(2 / FAILURE) / (2 * n))


@cache
def every_prompt():
    return draw_prompts(KEY, PROMPTS)


@cache
def some_prompts(n=N):
    return draw_prompts(jax.random.key(1), n)


def suffixes(pairs):
    """The suffix's words as [n, s] places in their group, and whether they are praise: of chosen, then of rejected."""
    for answers in (pairs.chosen, pairs.rejected):
        found = words(answers[:, 1:])
        praised = np.isin(found, PRAISE)
        assert (praised | np.isin(found, BLAME)).all()
        yield (
            np.where(praised, *(np.argmax(found[..., None] == np.array(group), axis=-1) for group in (PRAISE, BLAME))),
            praised,
        )


# --- Prompts --------------------------------------------------------------------------------------------------------


def test_prompts_say_what_their_words_say():
    tokens, is_positive = some_prompts()
    assert tokens.shape == (N, sentiment.PROMPT_LENGTH)
    assert is_positive.tolist() == [says(" ".join(text)) for text in words(tokens)]
    assert WORDS.decode(tokens[0]).split() == words(tokens[0]).tolist()


def test_every_prompt_there_is_comes_once_and_half_of_them_are_positive():
    """Opposite verdicts in all three clauses are an opposite label, so that labels come in twos."""
    tokens, is_positive = every_prompt()
    subject, verb, verdict = words(tokens).reshape(-1, 3, 3).transpose(2, 0, 1)
    assert np.isin(subject, ["plot", "acting", "music", "ending"]).all()
    assert np.isin(verb, ["was", "seemed", "not"]).all()
    assert np.isin(verdict, [*GOOD, *BAD]).all()
    assert PROMPTS == (4 * 3 * 6) ** 3 == len(np.unique(tokens, axis=0))
    good = np.isin(verdict, [*GOOD]) ^ (verb == "not")
    np.testing.assert_array_equal(is_positive, good.sum(axis=1) >= 2)
    assert 2 * is_positive.sum() == PROMPTS


@settings(max_examples=4)  # each of which draws three times
@given(seeds)
def test_the_key_decides_the_prompts_and_their_number_only_cuts(seed):
    """No prompt comes twice, so that two parts of a drawing share none."""
    key = jax.random.key(seed)
    many, few = draw_prompts(key, 1000), draw_prompts(key, 7)
    assert len(np.unique(many.tokens, axis=0)) == 1000
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[:7], b), many, few)
    assert (few.tokens != draw_prompts(jax.random.fold_in(key, 1), 7).tokens).any()


def test_prompts_are_drawn_evenly():
    """Labels, and every word at every place where it can stand (drawn without replacement, which only helps)."""
    tokens, is_positive = some_prompts()
    assert abs(is_positive.mean() - 1 / 2) <= hoeffding(N)
    for place, number in enumerate((4, 3, 6) * 3):
        _, counts = np.unique(tokens[:, place], return_counts=True)
        assert len(counts) == number
        assert (abs(counts / N - 1 / number) <= hoeffding(N)).all()


# --- Pairs ----------------------------------------------------------------------------------------------------------


@makers
@settings(max_examples=20)
@given(seed=seeds, task=tasks, fit=fits)
def test_pairs_are_the_prompts_with_the_right_label_and_the_wrong_one(make, seed, task, fit):
    prompts = some_prompts(50)
    pairs = make(jax.random.key(seed), prompts, task, suffix_fit=fit)
    pairs.check(len(WORDS))
    np.testing.assert_array_equal(pairs.prompt, prompts.tokens)
    assert pairs.chosen.shape == pairs.rejected.shape == (50, 1 + SUFFIX_WORDS[task])
    assert all(mask.all() for mask in (pairs.prompt_mask, pairs.chosen_mask, pairs.rejected_mask))
    right = np.where(prompts.is_positive, "positive", "negative")
    wrong = np.where(prompts.is_positive, "negative", "positive")
    np.testing.assert_array_equal(words(pairs.chosen[:, 0]), right)
    np.testing.assert_array_equal(words(pairs.rejected[:, 0]), wrong)
    assert np.isin(words(pairs.chosen[:, 1:]), PRAISE + BLAME).all()


@makers
@pytest.mark.parametrize(("task", "length"), [("single_token", 0), ("short_suffix", 2), ("short_suffix", 5)])
def test_a_suffix_can_have_another_length(make, task, length):
    pairs = make(KEY, some_prompts(50), task, suffix_fit=0.5, suffix_length=length)
    assert pairs.chosen.shape == pairs.rejected.shape == (50, 1 + length)
    pairs.check(len(WORDS))
    if length == SUFFIX_WORDS[task]:
        usual = make(KEY, some_prompts(50), task, suffix_fit=0.5)
        jax.tree.map(np.testing.assert_array_equal, pairs, usual)


@settings(max_examples=20)
@given(seeds, tasks, fits)
def test_preference_pairs_differ_in_the_label_alone(seed, task, fit):
    pairs = sentiment_pairs(jax.random.key(seed), some_prompts(50), task, suffix_fit=fit)
    np.testing.assert_array_equal(pairs.chosen[:, 1:], pairs.rejected[:, 1:])
    assert (pairs.chosen[:, 0] != pairs.rejected[:, 0]).all()


@makers
@pytest.mark.parametrize("fit", [0, 0.0, 0.2, 0.5, 0.85, 1.0, 1])
def test_suffixes_go_with_the_right_label_as_often_as_they_are_said_to(make, fit):
    """Words one by one and two by two, which shows them to be independent; at 0 and 1 without exception."""
    prompts = some_prompts()
    pairs = make(KEY, prompts, "short_suffix", suffix_fit=fit)
    right = np.asarray(prompts.is_positive)
    # Of a preference pair both suffixes are told by the right label, of an annotated one each by its own.
    labels = (right, right) if make is sentiment_pairs else (right, ~right)
    for (_, praised), label in zip(suffixes(pairs), labels, strict=True):
        fitting = praised == label[:, None]
        exact = fit in (0, 1)
        assert (abs(fitting.mean(axis=0) - fit) <= (0 if exact else hoeffding(N))).all()
        assert abs(fitting.all(axis=1).mean() - fit**2) <= (0 if exact else hoeffding(N))
        assert abs(fitting[right].mean() - fit) <= (0 if exact else hoeffding(2 * right.sum()))  # for either label


@makers
def test_words_of_a_suffix_are_drawn_evenly(make):
    pairs = make(KEY, some_prompts(), "long_suffix", suffix_fit=0.7)
    for places, praised in suffixes(pairs):
        for group in (praised, ~praised):
            shares = np.bincount(places[group], minlength=6) / group.sum()
            assert (abs(shares - 1 / 6) <= hoeffding(group.sum())).all()
        same = (places[:, 1:] == places[:, :-1]).mean(axis=0)  # neighbours know nothing of each other
        assert (abs(same - 1 / 6) <= hoeffding(N)).all()


def test_annotators_answers_have_suffixes_of_their_own():
    """Were the two drawn alike, the same words or the same fits would stand on both sides."""
    prompts = some_prompts()
    (chosen, fit), (rejected, unfit) = suffixes(annotated_pairs(KEY, prompts, "short_suffix", suffix_fit=0.5))
    assert (abs((chosen == rejected).mean(axis=0) - 1 / 6) <= hoeffding(N)).all()
    assert (abs((fit == unfit).mean(axis=0) - 1 / 2) <= hoeffding(N)).all()


@makers
def test_the_key_decides_the_suffixes(make):
    prompts = some_prompts(50)
    one, again, other = (make(jax.random.key(k), prompts, "long_suffix", suffix_fit=0.5) for k in (0, 0, 1))
    jax.tree.map(np.testing.assert_array_equal, one, again)
    assert (one.chosen != other.chosen).any()


# --- Inside a trace -------------------------------------------------------------------------------------------------


def test_prompts_of_many_keys_at_once_are_those_of_each():
    keys = jax.random.split(KEY, 2)
    together = jax.jit(jax.vmap(lambda key: draw_prompts(key, 7)))(keys)
    for number, key in enumerate(keys):
        one = draw_prompts(key, 7)
        jax.tree.map(lambda a, b, i=number: np.testing.assert_array_equal(a[i], b), together, one)


@makers
def test_pairs_of_many_keys_and_fits_at_once_are_the_single_ones(make):
    keys, fits = jax.random.split(KEY, 4), jnp.array([0.0, 0.3, 0.9, 1.0])

    def drawn(key, fit):
        return make(key, some_prompts(50), "short_suffix", suffix_fit=fit)

    together = jax.jit(jax.vmap(drawn))(keys, fits)
    for number, key in enumerate(keys):
        one = drawn(key, float(fits[number]))
        jax.tree.map(lambda a, b, i=number: np.testing.assert_array_equal(a[i], b), together, one)


@makers
def test_what_is_known_inside_a_trace_is_checked_there(make):
    draw = partial(make, KEY, some_prompts(50), "short_suffix")
    with pytest.raises(ValueError, match="`suffix_fit` must be"):
        jax.jit(lambda: draw(suffix_fit=1.5).chosen)()
    jax.jit(lambda fit: draw(suffix_fit=fit).chosen)(1.5)  # unknown there


def test_a_few_prompts_are_drawn_evenly_and_the_first_are_the_same_for_every_number():
    """Labels of 64 prompts behind the first 4,096: their share varies by √(1/4 / 64), within 4 errors of 200 seeds."""
    draw = jax.jit(jax.vmap(lambda seed: sentiment.draw_prompts(jax.random.key(seed), 4160).is_positive[4096:]))
    spread = np.asarray(draw(np.arange(200))).mean(axis=1).std()
    assert abs(spread / (0.25 / 64) ** 0.5 - 1) < 4 / (2 * 200) ** 0.5
    few, many = (sentiment.draw_prompts(jax.random.key(5), n).tokens for n in (100, 4160))
    np.testing.assert_array_equal(few, many[:100])
