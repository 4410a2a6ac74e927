"""Every public function of theory, and the training of models, refuses what lies outside its domain: see `hostile`."""

import inspect

import jax
import numpy as np
import pytest
from hostile import CALLS, HOSTILE, TAKEN, of_losses, of_theory, of_training, public_functions, violation

from toymodel import PairGram, theory
from toymodel.gram import cosine

FUNCTIONS = public_functions()
#: What is no array, so that it is the same inside a trace.
STATIC = {"at", "batch_size", "n", "name", "vocab_size"}
OUTSIDE_JAX = {"check_gram", "find_common_step", "case"}  # they return NumPy arrays, or words


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_argument_of_every_function_has_hostile_values(name):
    """A new function fails here until the table knows it, and then below until it checks its arguments."""
    assert name in CALLS, f"write down arguments that {name} takes, in tests/hostile.py"
    parameters = inspect.signature(FUNCTIONS[name]).parameters
    assert set(CALLS[name]) == {argument for argument in parameters if argument != "allow_zero"}
    assert all(argument in HOSTILE or argument in TAKEN for argument in CALLS[name])


@pytest.mark.parametrize("name", FUNCTIONS)
def test_what_lies_inside_is_taken(name):
    result = FUNCTIONS[name](**CALLS[name])
    # A band may be without end.
    assert not any(np.isnan(leaf).any() for leaf in jax.tree.leaves(result) if np.asarray(leaf).dtype.kind == "f")


@pytest.mark.parametrize("name", sorted(set(FUNCTIONS) - OUTSIDE_JAX))
def test_inside_a_trace_values_are_not_looked_at(name):
    fixed = {argument: value for argument, value in CALLS[name].items() if argument in STATIC}
    traced = {argument: value for argument, value in CALLS[name].items() if argument not in STATIC}
    inside = jax.eval_shape(lambda traced: FUNCTIONS[name](**fixed, **traced), traced)
    outside = FUNCTIONS[name](**CALLS[name])
    assert [leaf.shape for leaf in jax.tree.leaves(inside)] == [np.shape(leaf) for leaf in jax.tree.leaves(outside)]


@pytest.mark.parametrize("inputs", [of_theory, of_training, of_losses])
def test_what_lies_outside_is_refused_by_name(inputs, capsys):
    found = {words: violation(run, names) for words, run, names in inputs()}
    with capsys.disabled():
        print(f" {len(found)} hostile inputs")
    assert len(found) > 300
    assert not {words: wrong for words, wrong in found.items() if wrong}


@pytest.mark.parametrize(
    ("run", "told"),
    [
        (lambda: 3.0, "no error, but 3.0"),
        (lambda: [][0], "IndexError"),
        (lambda: np.float64("a"), "does not name the argument"),
    ],
)
def test_a_violation_is_found(run, told):
    assert told in violation(run, ("p",))


def test_round_off_below_zero_is_no_violation():
    """Token Grams of gradients that vanish sum to about 0, also to −2e-16 with an inner product of 1e-16."""
    left = PairGram(np.array([-2e-16, 1.0]), np.array([0.0, 1e-20]), np.array([1e-16, 1e-9]))
    assert theory.case_index(left).shape == (2,)
    single = PairGram(np.float32(-1e-6), np.float32(2.0), np.float32(1e-4))
    assert theory.slopes(single)
    with pytest.raises(ValueError, match=r"`chosen_sq` must be >= 0, got -1e-10"):
        theory.slopes(PairGram(-1e-10, 1e-10, 0.0))
    with pytest.raises(
        ValueError, match=r"`inner` must be at most the product of the norms, got 1\.03 at index \(1,\)"
    ):
        cosine(PairGram(np.ones(2), np.ones(2), np.array([1.005, 1.03])))


def test_a_batch_of_distributions_takes_a_token_each():
    """Not the outer product of rows and tokens."""
    probs = np.array([[0.2, 0.5, 0.3], [0.6, 0.1, 0.3]])
    both = theory.single_token_gram(probs, np.array([0, 1]), np.array([1, 2]))
    each = [theory.single_token_gram(p, w, other) for p, w, other in zip(probs, (0, 1), (1, 2), strict=True)]
    np.testing.assert_array_equal(np.array(both), np.array(each).T)
    slopes = theory.suffix_slopes(probs, probs[::-1], np.array([0, 2]))
    each = [theory.suffix_slopes(p, q, t) for p, q, t in zip(probs, probs[::-1], (0, 2), strict=True)]
    np.testing.assert_array_equal(np.array(slopes), np.array(each).T)
