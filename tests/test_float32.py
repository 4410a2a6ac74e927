"""The same identities in single precision: `World.roundoff` with float32's unit round-off, nothing else loosened."""

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from oracles import assert_close, gram_sizes, single, slope_sizes, token_sizes
from strategies import worlds

from toymodel import gradients, theory
from toymodel.models import linear
from toymodel.models.logps import pair_logps

# Logits up to 150 (temperature 0.03) times 6e-8 is 1e-5; exp turns it into a relative error of the probabilities.
single_precision = worlds(temperature=st.sampled_from([float("inf"), 3.0, 1.0, 0.3, 0.1]))


def in_float32(w):
    return w._replace(
        model=jax.tree.map(lambda a: np.asarray(a, np.float32) if a.dtype == np.float64 else a, w.model),
        params=np.asarray(w.params, np.float32),
    )


@given(single_precision)
def test_prediction_meets_measurement_in_float32(w):
    w = in_float32(w)
    predicted = theory.pair_gram(w.model, w.params, w.pairs)
    measured = gradients.pair_gram(w.model, w.params, w.pairs)
    assert all(entry.dtype == jnp.float32 for entry in (*predicted, *measured))
    assert_close(single(predicted), single(measured), gram_sizes(w), w.roundoff)
    entries = theory.token_gram(w.model, w.params, w.pairs[0]), gradients.token_gram(w.model, w.params, w.pairs[0])
    assert_close(*entries, np.outer(*token_sizes(w)), w.roundoff)
    slopes = single(theory.slopes(predicted)), single(gradients.slopes(w.model, w.params, w.pairs))
    assert_close(*slopes, slope_sizes(w), w.roundoff)


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
