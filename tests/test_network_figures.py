"""Figures of networks from inside: sums add up, identities hold to round-off, and tables show what captions claim."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from quick_figures import quick, swept
from scipy.stats import spearmanr
from strategies import seeds

from figures import (
    account_runs,
    fig_layers,
    fig_network_overlap,
    fig_predictors,
    fig_sentiment_tokens,
    sentiment_runs,
    style,
)
from toymodel import PreferencePairs, gradients
from toymodel.data import sentiment
from toymodel.data.sentiment import BLAME, PRAISE, TASKS, WORDS
from toymodel.experiments.sentiment import PARTS
from toymodel.gram import PairGram, cosine
from toymodel.models import linear

# Sums of at most 1e3 terms of size about 1, in float64: 1e3 · 1.1e-16.
ROUNDOFF = {"rtol": 1e-12, "atol": 1e-12}
SUFFIX = 8


def part(name, **equal):
    table = style.rows(quick(name), **equal)
    assert len(next(iter(table.values()))) > 0
    return table


# --- fig_sentiment_tokens -------------------------------------------------------------------------------------------


def test_labels_point_apart_and_the_same_word_together_wherever_it_stands():
    kinds = part("fig_sentiment_tokens", panel=fig_sentiment_tokens.KINDS)
    by_kind = dict(zip(kinds["chosen_token"], zip(kinds["low"], kinds["high"], strict=True), strict=True))
    assert by_kind["the two labels"][1] < 0
    for place in ("the same", "another"):
        assert by_kind[f"same word at {place} place"][0] > 0
    assert by_kind["same word at another place"][0] > by_kind["two different words"][1]


def test_kinds_of_cells_are_means_of_the_cells():
    kinds = part("fig_sentiment_tokens", panel=fig_sentiment_tokens.KINDS)
    kinds = dict(zip(kinds["chosen_token"], kinds["measured"], strict=True))
    cells = part("fig_sentiment_tokens", panel=fig_sentiment_tokens.AVERAGE)["measured"].reshape(SUFFIX + 1, SUFFIX + 1)
    np.testing.assert_allclose(kinds["the two labels"], cells[0, 0], **ROUNDOFF)
    np.testing.assert_allclose(kinds["same word at the same place"], np.diagonal(cells)[1:].mean(), **ROUNDOFF)
    beside = np.concatenate([cells[0, 1:], cells[1:, 0]])
    np.testing.assert_allclose(kinds["a label and a word"], beside.mean(), **ROUNDOFF)


def test_frames_are_where_the_example_repeats_a_word():
    example = part("fig_sentiment_tokens", panel=fig_sentiment_tokens.ONE_PAIR)
    assert set(example["chosen_token"]) <= set(WORDS.tokens)
    np.testing.assert_array_equal(example["same_token"], example["chosen_token"] == example["rejected_token"])
    chosen, rejected, same = (
        example[name].reshape(SUFFIX + 1, SUFFIX + 1) for name in ("chosen_token", "rejected_token", "same_token")
    )
    assert (chosen == chosen[:, :1]).all()
    assert (rejected == rejected[:1]).all()
    np.testing.assert_array_equal(np.diagonal(same), [0] + [1] * SUFFIX)
    assert (abs(example["measured"]) <= 1 + 1e-12).all()


# --- fig_layers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("state", fig_layers.STATES)
def test_layers_sum_to_the_cosine_and_to_the_squared_norm(task, state):
    table = part("fig_layers", task=task, state=state)
    assert table["part"].tolist() == [*PARTS, fig_layers.ALL]
    for name in ("inner_measured", "square_measured"):
        *parts, total = table[name]
        np.testing.assert_allclose(sum(parts), total, **ROUNDOFF)
    np.testing.assert_allclose(table["square_measured"][-1], 1, **ROUNDOFF)
    assert (table["square_measured"] >= 0).all()
    assert abs(table["inner_measured"][-1]) <= 1 + 1e-12


@pytest.mark.parametrize("task", TASKS)
def test_the_cosines_are_those_before_and_after_training(task):
    runs = style.rows(sentiment_runs.runs(True, swept), task=task)
    cosines = cosine(PairGram(*(runs[name] for name in PairGram._fields)))  # [seeds, states, pairs]
    before, after = (part("fig_layers", task=task, state=state)["inner_measured"][-1] for state in fig_layers.STATES)
    np.testing.assert_allclose(before, cosines[:, 0].mean(), **ROUNDOFF)
    np.testing.assert_allclose(after, cosines[:, len(sentiment_runs.states(True)) - 1].mean(), **ROUNDOFF)
    assert before != after


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("state", fig_layers.STATES)
def test_the_head_has_the_sign_of_all_layers_and_the_largest_part(task, state):
    table = part("fig_layers", task=task, state=state)
    head, *others, total = table["inner_measured"]
    assert np.sign(head) == np.sign(total) == (-1 if task == "single_token" else 1)
    assert abs(head) > max(map(abs, others))
    assert table["sign_measured"][0] > 0.9


# --- fig_predictors -------------------------------------------------------------------------------------------------


@given(seeds, st.integers(3, 12), st.integers(2, 9))
def test_the_rank_correlation_is_spearman_s(seed, n, levels):
    """With ties, as long as not all are tied."""
    numbers = np.random.default_rng(seed).integers(levels, size=(2, n))
    numbers[:, :2] = [0, levels]
    found = fig_predictors.rank_correlation(numbers[0], numbers[1])
    np.testing.assert_allclose(found, spearmanr(*numbers).statistic, **ROUNDOFF)


@given(seeds)
def test_a_high_score_foretells_a_rise(seed):
    """A change that is each score in turn has rank correlation 1 with it, and −1 with its opposite."""
    rng = np.random.default_rng(seed)
    runs = {name: rng.uniform(1, 2, (2, 1, 9)) for name in ("chosen_sq", "rejected_sq", "inner", "ches", "logps")}
    runs["inner"] -= 1  # at most the product of the norms
    runs |= {name: rng.uniform(1, 2, (2, 1, len(PARTS), 9)) for name in ("parts_chosen_sq", "parts_inner")}
    head = (runs["parts_chosen_sq"] - runs["parts_inner"])[:, :, 0]
    cosines = cosine(PairGram(*(runs[name] for name in PairGram._fields)))
    wanted = {"slope": runs["chosen_sq"] - runs["inner"], "slope of the head": head, "−CHES": -runs["ches"]}
    wanted |= {"−cosine": -cosines, "log π of the chosen": runs["logps"]}
    assert set(wanted) == set(fig_predictors.LOOKS)
    for name, score in wanted.items():
        for sign in (1, -1):
            logps = np.concatenate([runs["logps"], runs["logps"] + sign * score], axis=1)
            table = fig_predictors._rows("long_suffix", np.array([1]), runs | {"chosen_logps": logps})
            found = style.rows(table, score=name)["rank_measured"]
            np.testing.assert_allclose(found, [sign], **ROUNDOFF)


def test_scores_that_rank_nothing_are_left_out():
    for task in TASKS:
        scores = set(part("fig_predictors", task=task)["score"])
        assert scores - set(fig_predictors.LOOKS) == {fig_predictors.ACCOUNT}
        assert set(fig_predictors.LOOKS) - scores == ({"−CHES"} if task == "single_token" else set())
    assert (abs(quick("fig_predictors")["rank_measured"]) <= 1 + 1e-12).all()


@pytest.mark.parametrize("task", TASKS)
def test_the_account_ranks_the_pairs_of_the_same_runs_at_their_end(task):
    """Its true changes are those of the other scores' runs, and its rank is of the sum over sources and both parts."""
    accounts = style.rows(account_runs.runs(True, swept), task=task)
    runs = style.rows(sentiment_runs.runs(True, swept), task=task)
    np.testing.assert_array_equal(accounts["seed"], runs["seed"])
    brought, true_change = account_runs.of_chosen(accounts)
    logps = runs["chosen_logps"]
    # One is a change of float32 log-probabilities of a few tens of nats, and training takes other programs.
    np.testing.assert_allclose(true_change, logps[:, -1] - logps[:, 0], rtol=0, atol=1e-3)
    rows = part("fig_predictors", task=task, score=fig_predictors.ACCOUNT)
    assert rows["step"].tolist() == [sentiment_runs.states(True)[-1]]
    ranks = [spearmanr(*pair).statistic for pair in zip(brought.sum(axis=1), true_change, strict=True)]
    np.testing.assert_allclose(rows["rank_measured"], [np.mean(ranks)], **ROUNDOFF)
    assert (rows["rank_low"] <= rows["rank_measured"]).all()
    assert rows["rank_measured"] > 0.95  # and no score of a single pair comes near


# --- fig_network_overlap --------------------------------------------------------------------------------------------


@given(seeds)
def test_responses_share_one_word_more_at_a_time(seed):
    kinds = np.array([[WORDS.tokens.index(word) for word in kind] for kind in (PRAISE, BLAME)])
    words = jax.random.choice(jax.random.key(seed), jnp.asarray(kinds.ravel()), (5, SUFFIX))
    found = np.asarray(sentiment.sharing_more(jax.random.key(seed + 1), words))
    same = found == np.asarray(words)
    np.testing.assert_array_equal(same.sum(axis=-1), np.arange(SUFFIX + 1)[:, None].repeat(5, axis=1))
    assert (same[:-1] <= same[1:]).all()  # what is shared stays shared
    np.testing.assert_array_equal(np.isin(found, kinds[0]), np.isin(words, kinds[0])[None].repeat(SUFFIX + 1, axis=0))
    np.testing.assert_array_equal(np.isin(found, kinds[1]), np.isin(words, kinds[1])[None].repeat(SUFFIX + 1, axis=0))


@given(seeds)
def test_the_unigram_line_is_that_of_a_unigram_model(seed):
    tokens = jax.random.randint(jax.random.key(seed), (2, 3, SUFFIX + 1), 0, len(WORDS))
    prompt = jnp.zeros((3, 1), int)
    pairs = PreferencePairs(prompt, prompt == 0, tokens[0], tokens[0] >= 0, tokens[1], tokens[1] >= 0)
    model = linear.unigram(len(WORDS))
    measured = gradients.pair_gram(model, jnp.zeros((len(WORDS), 1)), pairs)
    for counted, derived in zip(fig_network_overlap.unigram_gram(pairs), measured, strict=True):
        np.testing.assert_allclose(counted, derived, **ROUNDOFF)


@pytest.mark.parametrize("state", fig_network_overlap.STATES)
def test_every_shared_word_raises_the_cosine(state):
    table = part("fig_network_overlap", state=state)
    assert table["words"].tolist() == list(range(SUFFIX + 1))
    for name in ("cosine_measured", "positional_predicted", "unigram_predicted"):
        assert (np.diff(table[name]) > 0).all()
    assert table["cosine_low"][-1] > table["cosine_high"][0]
    share = 1 / len(WORDS)
    ends = [-share / (1 - share), (SUFFIX / (SUFFIX + 1) - share) / (1 - share)]
    np.testing.assert_allclose(table["positional_predicted"][[0, -1]], ends, **ROUNDOFF)
