"""Pictures show the numbers that they are given."""

import sys
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from matplotlib.figure import Figure

import toymodel as tm
from toymodel import PairGram, PreferencePairs, gradients, plot, theory
from toymodel.losses import LOSSES
from toymodel.models import linear
from toymodel.training import account, by_side, train

MODEL = linear.unigram(4)
PARAMS = jnp.array([[0.3], [-1.2], [0.7], [0.1]])
PAIRS = PreferencePairs.from_texts(["a", "a"], ["b c", "b"], ["c d", "c c"])
OPTIONS = (LOSSES["dpo"](), optax.sgd, 0.5)


@cache
def run():
    return train(MODEL, PARAMS, PAIRS, *OPTIONS, steps=5).trajectory


@pytest.fixture
def ax():
    return Figure().subplots()


def lines(ax):
    return {line.get_label(): line for line in ax.get_lines() if not line.get_label().startswith("_")}


def test_a_run_is_its_mean_change_since_the_start(ax):
    found = run()
    assert plot.logps(found, ax, margin=True) is ax
    for name, values in (("chosen", found.chosen_logps), ("rejected", found.rejected_logps), ("margin", found.margin)):
        np.testing.assert_allclose(lines(ax)[name].get_ydata(), (values - values[0]).mean(axis=1), rtol=1e-14)
    bare = plot.logps(run(), Figure().subplots())
    assert set(lines(bare)) == {"chosen", "rejected"}
    assert "nats" in ax.get_ylabel()


def test_every_pair_is_on_the_map_once_under_its_case(ax):
    gram = PairGram(jnp.array([1.0, 1.0, 4.0]), jnp.array([1.0, 4.0, 1.0]), jnp.array([0.2, 1.5, 1.5]))
    plot.cases(gram, 1.0, 1.0, ax)
    at = {name.replace("_", " "): i for i, name in enumerate(theory.case(gram))}
    assert set(at) == {"chosen up rejected down", "both down", "both up"}
    for name, i in at.items():
        marks = lines(ax)[name]
        np.testing.assert_allclose(marks.get_xdata(), [tm.cosine(gram)[i]], rtol=1e-14)
        np.testing.assert_allclose(marks.get_ydata(), [1 / theory.band_centre(gram)[i]], rtol=1e-14)
    # What a small step does agrees with the side of the edges on which the pair is drawn.
    x, edge = lines(ax)["edges of the band"].get_data()
    for name, i in at.items():
        cosine, ratio = float(tm.cosine(gram)[i]), 1 / float(theory.band_centre(gram)[i])
        low = np.interp(cosine, x, edge)
        assert (ratio < low, ratio > 1 / low) == (name == "both down", name == "both up")


def test_the_other_weights_move_the_pairs(ax):
    plot.cases(PairGram(1.0, 1.0, 0.5), 3.0, 1.0, ax)
    assert lines(ax)["both up"].get_ydata().tolist() == [3.0]


def test_a_token_map_shows_real_tokens_their_words_and_frames(ax):
    pair = PAIRS[0]
    entries = gradients.token_gram(MODEL, PARAMS, pair)
    plot.token_map(entries, pair, ax)
    (image,) = ax.get_images()
    np.testing.assert_array_equal(image.get_array(), entries)
    assert image.get_clim() == (-abs(entries).max(), abs(entries).max())
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["b", "c"]
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["c", "d"]
    assert [text.get_text() for text in ax.texts] == [f"{v:z.1f}".replace("-", "−") for v in entries.ravel()]
    (frame,) = ax.get_lines()  # around c and c, row 1, column 0
    assert (frame.get_xdata().mean().round(), frame.get_ydata().mean().round()) == (0, 1)
    short = PAIRS[1]  # the chosen answer has one token, and a place of padding
    short_ax = plot.token_map(gradients.token_gram(MODEL, PARAMS, short), short, Figure().subplots(), limit=2.0)
    assert short_ax.get_images()[0].get_array().shape == (1, 2)
    assert short_ax.get_images()[0].get_clim() == (-2, 2)


def test_a_token_map_takes_words_and_leaves_small_entries_without_digits(ax):
    plot.token_map(np.array([[0.04, -0.05, 1.0]]), (["a"], ["b", "c", "a"]), ax, limit=1.0, least=0.05)
    assert [text.get_text() for text in ax.texts] == ["", "−0.1", "1.0"]
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["b", "c", "a"]
    (frame,) = ax.get_lines()
    assert (frame.get_xdata().mean().round(), frame.get_ydata().mean().round()) == (2, 0)
    with pytest.raises(ValueError, match=r"`entries` must have the shape \(1, 1\) .* got \(1, 3\)"):
        plot.token_map(np.zeros((1, 3)), (["a"], ["b"]), ax)


def test_an_account_is_a_bar_for_each_source_the_sum_and_the_truth(ax):
    found = account(MODEL, PARAMS, PAIRS, *OPTIONS, judged=PAIRS, sources=by_side(PAIRS), steps=3)
    plot.account(found, ax)
    rows = [tick.get_text() for tick in ax.get_yticklabels()]
    assert rows == [*found.contributions, "all of them", "what happened"]
    brought = [*found.contributions.values(), found.first_order, found.true_change]
    for side, bars in enumerate(ax.containers):
        wanted = [row[side].sum(axis=-1).mean() for row in brought]
        np.testing.assert_allclose([bar.get_width() for bar in bars], wanted, rtol=1e-13)
    assert ax.yaxis_inverted()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plot.token_map(jnp.zeros((2, 3)), PAIRS[0]), r"`entries` must have the shape \(2, 2\)"),
        (lambda: plot.token_map(jnp.zeros((2, 2)), PAIRS), "`words` are those of one pair"),
        (lambda: plot.logps(jax.tree.map(lambda leaf: leaf[None], run())), "`trajectory` must be that of one run"),
    ],
)
def test_what_does_not_fit_is_said(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_an_account_of_several_runs_is_refused():
    leaf = jnp.zeros((2, 2, 2, 2))
    with pytest.raises(ValueError, match="`found` must be the account of one run"):
        plot.account(tm.training.Account({"a": leaf}, leaf, None))


def test_without_axes_they_are_made(monkeypatch):
    from matplotlib import pyplot

    monkeypatch.setattr(pyplot, "subplots", lambda **_: (None, Figure().subplots()))
    assert set(lines(plot.logps(run()))) == {"chosen", "rejected"}


def test_without_matplotlib_it_is_asked_for(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ValueError, match="needs the package `matplotlib`"):
        plot.logps(run())
