"""The same identities in single precision: `World.roundoff` with float32's unit round-off, nothing else loosened."""

import runpy
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import assert_close, gram_sizes, single, slope_sizes, token_sizes
from strategies import worlds

from toymodel import gradients, positional_pairs, theory
from toymodel.losses import LOSSES
from toymodel.models import linear, transformer
from toymodel.models.logps import pair_logps
from toymodel.models.transformer import Transformer
from toymodel.training import train

# Logits up to 150 (temperature 0.03) times 6e-8 is 1e-5; exp turns it into a relative error of the probabilities.
single_precision = worlds(temperature=st.sampled_from([float("inf"), 3.0, 1.0, 0.3, 0.1]))


def in_float32(w):
    return w._replace(
        model=jax.tree.map(lambda a: np.asarray(a, np.float32) if a.dtype == np.float64 else a, w.model),
        params=np.asarray(w.params, np.float32),
    )


@jax.jit
def predict(model, params, pairs):
    gram = theory.pair_gram(model, params, pairs)
    return gram, theory.token_gram(model, params, pairs[0]), theory.slopes(gram)


@jax.jit
def measure(model, params, pairs):
    """Gram entries are measured alone: the next test has the same program for them."""
    return gradients.token_gram(model, params, pairs[0]), gradients.slopes(model, params, pairs)


@given(single_precision)
def test_prediction_meets_measurement_in_float32(w):
    w = in_float32(w)
    predicted, predicted_tokens, predicted_slopes = predict(w.model, w.params, w.pairs)
    measured = gradients.pair_gram(w.model, w.params, w.pairs)
    measured_tokens, measured_slopes = measure(w.model, w.params, w.pairs)
    assert all(entry.dtype == jnp.float32 for entry in (*predicted, *measured))
    assert_close(single(predicted), single(measured), gram_sizes(w), w.roundoff)
    assert_close(predicted_tokens, measured_tokens, np.outer(*token_sizes(w)), w.roundoff)
    assert_close(single(predicted_slopes), single(measured_slopes), slope_sizes(w), w.roundoff)


@given(single_precision)
def test_float32_agrees_with_float64(w):
    exact, rounded = measured = [gradients.pair_gram(v.model, v.params, v.pairs) for v in (w, in_float32(w))]
    assert measured[1].inner.dtype == jnp.float32
    assert_close(single(rounded), single(exact), gram_sizes(w), in_float32(w).roundoff)
    logps = [pair_logps(v.model, v.params, v.pairs)[0] for v in (w, in_float32(w))]
    assert_close(logps[1], logps[0], 1 + abs(np.asarray(logps[0])), in_float32(w).roundoff)


def test_parameters_can_be_drawn_in_float32():
    params = linear.init_params(jax.random.key(0), linear.positional(3, 2), temperature=0.5, dtype=jnp.float32)
    assert params.dtype == jnp.float32


def long_pairs(n, length):
    """Float32 parameters and these pairs, so that all places have more numbers than XLA keeps in one part."""
    model = Transformer(16, context_length=length + 8, layers=1, dim=16, heads=2)
    pairs = positional_pairs(jax.random.key(0), n, vocab_size=16, length=length, matches=8, prompt_length=8)
    return model, transformer.init_params(jax.random.key(1), model, dtype=np.float32), pairs


def assert_single(measured, exact):
    """About √(64 · 64) roundings of 6e-8, in inner sums of 64 terms over places and rows; wrong code is off by 0.4."""
    assert measured.dtype == np.float32
    np.testing.assert_allclose(measured, exact, rtol=0, atol=2e-5 * abs(exact).max())


def test_float32_kernel_of_many_logits_is_that_of_float64():
    """256 logits of 24 places: all at once, compiled code was seen to be off by 0.4."""
    model, params, pairs = long_pairs(1, length=16)
    exact = gradients.tangent_kernel(model, jax.tree.map(np.float64, params), pairs[0])
    assert_single(gradients.tangent_kernel(model, params, pairs[0]), exact)


def test_float32_training_on_many_places_is_that_of_float64():
    """A step on 96 pairs of 2 · 32 places: each place has a derivative of its own, so that no part is wrong."""
    model, params, pairs = long_pairs(96, length=24)
    moved = [
        jax.tree.map(np.subtract, train(model, start, pairs, LOSSES["dpo"](), optax.sgd, 1.0, steps=1).params, start)
        for start in (params, jax.tree.map(np.float64, params))
    ]
    jax.tree.map(assert_single, *moved)


@pytest.mark.xfail(
    jax.default_backend() == "cpu", reason="XLA for CPUs is wrong here: gone?", strict=jax.__version__ == "0.10.2"
)
def test_compiled_sums_are_right():
    """Where it passes, `gradients.backward` need not take few places at once any more."""
    report = runpy.run_path(str(Path(__file__).parents[1] / "docs" / "reports" / "float32_sums.py"))
    assert report["errors"](33).max() < 1e-5
