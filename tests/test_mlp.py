"""The n-gram MLP: what it looks at, its logits against a loop, and T9 for a model that is not linear."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from neural import LENGTH, MODEL, mlp_worlds, random_params
from oracles import assert_close, single, unpadded
from strategies import seeds, weights

from toymodel import PreferencePairs, gradients, theory
from toymodel.models import mlp
from toymodel.models.logps import pair_logps, token_logps
from toymodel.models.mlp import NGramMLP

# Compiled once: without `jit` each call traces anew.
logits = jax.jit(MODEL.logits)
logps = jax.jit(partial(token_logps, MODEL))


def with_token(tokens, place, token):
    changed = np.array(tokens)
    changed[place] = token
    return changed


def logits_by_loop(params, prompt, tokens):
    """Position by position, from lists of token ids."""
    p = {name: np.asarray(array) for name, array in params.items()}
    V, n = MODEL.vocab_size, MODEL.context_length
    rows = []
    for i in range(len(tokens)):
        before = [V] * n + prompt + tokens[:i]
        x = np.concatenate([p["embedding"][token] for token in before[-n:]])
        hidden = [
            np.tanh(sum(a * b for a, b in zip(row, x, strict=True)) + bias)
            for row, bias in zip(p["hidden_weight"], p["hidden_bias"], strict=True)
        ]
        rows.append(p["head_weight"] @ hidden + p["head_bias"])
    return np.array(rows)


@given(mlp_worlds())
def test_logits_are_those_of_a_loop_over_positions(w):
    [prompt] = unpadded(w.pairs.prompt, w.pairs.prompt_mask)
    [tokens] = unpadded(w.pairs.chosen, w.pairs.chosen_mask)
    ours = logits(w.params, w.pairs[0].chosen_response)[: len(tokens)]
    # Activations of tanh are at most 1, so a logit sums at most |U| 1 + |b|.
    size = abs(w.params["head_weight"]).sum(axis=1) + abs(w.params["head_bias"])
    inputs = abs(w.params["hidden_weight"]).sum() * abs(w.params["embedding"]).max()
    assert_close(ours, logits_by_loop(w.params, prompt, tokens), size * (1 + inputs), w.roundoff)


@given(mlp_worlds(), st.data())
def test_logits_depend_on_earlier_tokens_only(w, data):
    response = w.pairs[0].chosen_response
    place = data.draw(st.integers(0, LENGTH - 1))
    token = data.draw(st.integers(0, MODEL.vocab_size - 1))
    changed = replace(response, tokens=with_token(response.tokens, place, token))
    before, after = (logits(w.params, r)[: place + 1] for r in (response, changed))
    np.testing.assert_array_equal(before, after)


@given(mlp_worlds(temperature=st.just(1.0)), st.integers(1, MODEL.vocab_size - 1))
def test_logits_depend_on_the_last_tokens_only(w, shift):
    """The prompt's last token is seen from `context_length` positions, and from each of them."""
    response = replace(w.pairs[0].chosen_response, mask=np.ones(LENGTH, bool))
    other = (response.prompt[-1] + shift) % MODEL.vocab_size
    before, after = (
        logits(w.params, r) for r in (response, replace(response, prompt=with_token(response.prompt, -1, other)))
    )
    changed = (before != after).any(axis=1)
    np.testing.assert_array_equal(changed, np.arange(LENGTH) < MODEL.context_length)


@given(mlp_worlds(), seeds)
def test_padding_changes_nothing(w, seed):
    """Neither the tokens under a mask nor the amount of padding, left of the prompt or right of the response."""
    rng = np.random.default_rng(seed)

    def noisy(tokens, mask):
        return np.where(mask, tokens, rng.integers(0, MODEL.vocab_size, tokens.shape))

    response = w.pairs[0].chosen_response
    pad = {"prompt": (1, 0), "prompt_mask": (1, 0), "tokens": (0, 2), "mask": (0, 2)}
    wider = {name: np.pad(getattr(response, name), width) for name, width in pad.items()}
    wider = replace(response, **wider)
    wider = replace(wider, prompt=noisy(wider.prompt, wider.prompt_mask), tokens=noisy(wider.tokens, wider.mask))
    before, after = (logps(w.params, r) for r in (response, wider))
    np.testing.assert_array_equal(after[:LENGTH], before)
    np.testing.assert_array_equal(after[LENGTH:], 0)


@given(mlp_worlds(), weights, weights)
def test_t9_slopes_are_the_algebra_of_the_gram(w, d_chosen, d_rejected):
    gram = gradients.pair_gram(MODEL, w.params, w.pairs)
    predicted = single(theory.slopes(gram, d_chosen, d_rejected))
    measured = single(gradients.slopes(MODEL, w.params, w.pairs, d_chosen, d_rejected))
    assert_close(predicted, measured, (d_chosen + d_rejected) * w.gradient_size**2, w.roundoff)


@given(mlp_worlds(temperature=st.just(1.0)))
def test_the_bound_on_gradients_holds(w):
    """What the tolerances above rest on."""
    chosen, rejected = gradients.pair_gradients(MODEL, w.params, w.pairs)
    assert max(jnp.linalg.norm(chosen), jnp.linalg.norm(rejected)) <= w.gradient_size


def test_temperature_infinity_is_exactly_uniform():
    params = mlp.init_params(jax.random.key(0), MODEL, temperature=float("inf"))
    pairs = PreferencePairs.from_lists([[0]], [[1, 2]], [[3]], vocab_size=5)
    chosen, rejected = pair_logps(MODEL, params, pairs)
    assert_close([chosen[0], rejected[0]], [-2 * np.log(5), -np.log(5)], 4, 1e-15)  # a few unit round-offs


def test_parameters_have_the_sizes_and_the_dtype_asked_for():
    for sizes, count in (((16, 2, 4, 8), 284), ((64, 4, 16, 32), 5232)):
        model = NGramMLP(*sizes)
        params = mlp.init_params(jax.random.key(0), model, dtype=jnp.float32)
        assert sum(array.size for array in params.values()) == count
        assert {array.dtype for array in params.values()} == {jnp.dtype("float32")}
        assert pair_logps(model, params, PAIRS)[0].dtype == jnp.float32


def test_embeddings_scales_are_what_init_says():
    """Embeddings of variance 1 make hidden inputs of variance 1; the head's rows have norm 1/temperature."""
    model = NGramMLP(vocab_size=400, context_length=8, embedding_dim=16, hidden_dim=256)
    params = mlp.init_params(jax.random.key(0), model, temperature=0.5)
    # Sample variances of N normal numbers: within five standard errors √(2/N) of their mean.
    for name, variance in (("embedding", 1), ("hidden_weight", 1 / 128), ("head_weight", 4 / 256)):
        entries = np.asarray(params[name])
        assert abs(entries.var() / variance - 1) < 5 * (2 / entries.size) ** 0.5


PAIRS = PreferencePairs.from_lists([[0]], [[1, 2]], [[3]], vocab_size=5)
PARAMS = random_params(0, MODEL)
BAD = {
    "no context": (lambda: NGramMLP(5, 0, 2, 4), "`context_length` must be a whole number at least 1, got 0"),
    "vocabulary of one": (lambda: NGramMLP(1, 1, 2, 4), "`vocab_size` must be a whole number at least 2, got 1"),
    "half an embedding": (lambda: NGramMLP(5, 1, 0.5, 4), "`embedding_dim` must be a whole number"),
    "no hidden units": (lambda: NGramMLP(5, 1, 2, 0), "`hidden_dim` must be"),
    "temperature zero": (
        lambda: mlp.init_params(jax.random.key(0), MODEL, temperature=0.0),
        "`temperature` must be > 0",
    ),
    "parameters of another shape": (
        lambda: pair_logps(MODEL, PARAMS | {"head_bias": jnp.zeros(4)}, PAIRS),
        r"`params` must have the shapes .*'head_bias': \(5,\).* got .*'head_bias': \(4,\)",
    ),
    "a parameter missing": (
        lambda: pair_logps(MODEL, {"embedding": PARAMS["embedding"]}, PAIRS),
        "`params` must have the shapes",
    ),
    "parameters NaN": (
        lambda: pair_logps(MODEL, PARAMS | {"head_bias": jnp.full(5, jnp.nan)}, PAIRS),
        "`params` must be finite",
    ),
    "token outside": (lambda: pair_logps(MODEL, PARAMS, replace(PAIRS, chosen=PAIRS.chosen + 3)), r"ids in \[0, 5\)"),
}


@pytest.mark.parametrize(("call", "message"), BAD.values(), ids=BAD)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
