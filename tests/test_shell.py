"""What a shell shows: short representations, help on each loss, and one note on precision."""

import inspect
import pydoc
import warnings

import jax
import optax
import pytest

import toymodel as tm
from toymodel import _checks, gradients, theory
from toymodel.losses import LOSSES
from toymodel.models import linear

TEXTS = (["the film was"] * 2, ["good indeed", "good"], ["bad indeed", "bad"])
PAIRS = tm.PreferencePairs.from_texts(*TEXTS)
SHAPES = "prompt=[2, 3], chosen=[2, 2], rejected=[2, 2]"


def test_pairs_show_shapes_and_the_first_of_them_in_words():
    assert repr(PAIRS) == f"PreferencePairs({SHAPES}: the film was → good indeed over bad indeed)"
    assert repr(PAIRS.swapped()).endswith("→ bad indeed over good indeed)")
    assert repr(PAIRS[1]) == "PreferencePairs(prompt=[3], chosen=[2], rejected=[2]: the film was → good over bad)"


def test_without_a_vocabulary_they_show_ids_and_no_more_of_them_than_fit_a_line():
    pairs = tm.PreferencePairs.from_lists([[]], [list(range(20))], [[3]], vocab_size=20)
    assert repr(pairs) == "PreferencePairs(prompt=[1, 0], chosen=[1, 20], rejected=[1, 20]: 0 1 2 3 4 5 6 7 … over 3)"


def test_inside_a_trace_there_are_shapes_only():
    seen = []
    jax.jit(jax.vmap(lambda pair: seen.append(repr(pair))))(PAIRS)
    assert seen == ["PreferencePairs(prompt=[3], chosen=[2], rejected=[2])"]
    assert repr(jax.tree.map(lambda _: 0, PAIRS)) == "PreferencePairs(prompt=0, chosen=0, rejected=0)"


def test_models_and_runs_show_shapes():
    model = linear.positional(5, 2)
    assert repr(model) == "LinearSoftmax(kind='positional', vocab_size=5, features=[2, 2], frozen_logits=None)"
    assert repr(tm.suffix_pair(1, 0.9, 0.5, vocab_size=3)).startswith("SuffixPair(model=LinearSoftmax(kind='prefix', ")
    assert repr(PAIRS.chosen_response) == "Response(prompt=[2, 3], tokens=[2, 2])"
    pairs = tm.PreferencePairs.from_lists([[]], [[0]], [[1]], vocab_size=5)
    run = tm.train(model, linear.init_params(jax.random.key(0), model), pairs, LOSSES["dpo"](), optax.sgd, 0.1, steps=3)
    shown = "params=[5, 2], losses=[3], stopped_at=[], batches=None, trajectory=Trajectory(chosen_logps=[4, 1], "
    assert repr(run).startswith(f"Run({shown}rejected_logps=[4, 1], loss=[3, 1], …)")
    assert len(repr(tm.Vocabulary.numbered(100))) < 60


@pytest.mark.parametrize("name", LOSSES)
def test_help_on_a_loss_is_of_this_loss(name):
    loss = LOSSES[name]
    words = inspect.getdoc(loss)
    assert words.startswith(inspect.getdoc(loss.form))
    assert words.endswith(f"d_w/d_l = {loss.ratio}")
    parameters = inspect.signature(loss).parameters
    assert {name: p.default for name, p in parameters.items()} == loss.defaults
    assert repr(loss) == f"{name}({', '.join(f'{key}={value}' for key, value in loss.defaults.items())})"
    assert words.splitlines()[0] in pydoc.render_doc(loss, renderer=pydoc.plaintext)


def test_a_question_mark_after_a_loss_tells_of_it():
    """IPython shows this after `LOSSES["simpo"]?`."""
    oinspect = pytest.importorskip("IPython.core.oinspect")
    info = oinspect.Inspector(theme_name="nocolor").info(LOSSES["simpo"], 'LOSSES["simpo"]')
    assert info["docstring"].startswith("SimPO (arXiv 2405.14734)")
    assert info["string_form"] == "simpo(beta=2.0, gamma=0.5)"


def test_single_precision_is_noted_once_where_a_sign_is_told():
    gram = tm.PairGram(1.0, 1.0, 0.5)
    _checks._warn_once.cache_clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert theory.case(gram) == "chosen_up_rejected_down"  # in double precision there is nothing to note
    with jax.enable_x64(False), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        theory.slopes(gram)
        assert not caught
        for _ in range(2):
            theory.case(gram)
        pair = tm.suffix_pair(1, 0.9, 0.5)
        gradients.step_change(*pair, optax.sgd(0.1))
    assert [(note.category, note.filename) for note in caught] == [(_checks.SinglePrecision, __file__)]
    assert "jax_enable_x64" in str(caught[0].message)


def test_a_step_is_noted_too():
    _checks._warn_once.cache_clear()
    with jax.enable_x64(False), pytest.warns(_checks.SinglePrecision, match="float32"):
        gradients.step_change(*tm.suffix_pair(1, 0.9, 0.5), optax.sgd(0.1))
