"""The transformer: what it looks at, against an outside implementation, its sizes, and that it learns.

The stored numbers of `data/gpt2_reference.npz` are always compared; with torch and transformers at hand (`make
reference`) they are computed anew and compared as well.
"""

import warnings
from dataclasses import replace
from functools import lru_cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import outside_models
import pytest
from data import make_gpt2_reference as outside
from gpt2 import ours_of
from hypothesis import given
from hypothesis import strategies as st
from jax.flatten_util import ravel_pytree
from neural import LENGTH, TRANSFORMERS, longest_sum, network_worlds, random_params
from oracles import assert_close
from outside_models import of_case
from strategies import seeds

from toymodel import PreferencePairs, Response
from toymodel.losses import LOSSES
from toymodel.models import stages, transformer
from toymodel.models.logps import pair_logps, response_logp, token_logps
from toymodel.models.transformer import Transformer
from toymodel.training import train

EPS = float(jnp.finfo(jnp.float64).eps)
worlds = network_worlds(tuple(TRANSFORMERS))
logits = jax.jit(lambda model, params, response: model.logits(params, response))


# --- Against GPT2LMHeadModel ----------------------------------------------------------------------------------------


@lru_cache
def stored():
    with np.load(outside.FILE) as file:
        return dict(file)


RESPONSES = PreferencePairs.from_lists(
    outside.PROMPTS, outside.RESPONSES, outside.RESPONSES, vocab_size=outside.V
).chosen_response


@pytest.fixture(scope="module", params=outside.CASES)
def case(request):
    """Name, model, and what is measured of it."""
    layers, tied = outside.CASES[request.param]
    sizes = {"vocab_size": outside.V, "context_length": outside.CONTEXT, "dim": outside.DIM, "heads": outside.HEADS}
    model = Transformer(**sizes, layers=layers, tied=tied)
    params = jax.device_get(ours_of(of_case(stored(), request.param, "weight"), model))
    return request.param, model, outside_models.measure(model, params, RESPONSES)


def assert_same(case, arrays):
    name, model, numbers = case
    outside_models.assert_same(model, RESPONSES, numbers, arrays, name, lambda arrays: ours_of(arrays, model))


def test_numbers_are_those_of_gpt2(case):
    assert_same(case, stored())


def test_stored_sequences_are_those_compared():
    for row in range(len(outside.RESPONSES)):
        np.testing.assert_array_equal(outside.places(row), (stored()["tokens"][row], stored()["real"][row]))


def test_numbers_are_those_of_gpt2_as_installed(case):
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    name, *_ = case
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # theirs
        live = outside.reference(*outside.CASES[name], seed=list(outside.CASES).index(name))
    live = {f"{name}/{key}": array for key, array in live.items()}
    for key in (key for key in live if "/weight/" in key):
        np.testing.assert_array_equal(live[key], stored()[key])
    assert_same(case, live)


# --- What it looks at -----------------------------------------------------------------------------------------------


@given(network_worlds(("tied",)), st.data())
def test_logits_depend_on_earlier_tokens_only(w, data):
    response = w.pairs[0].chosen_response
    place = data.draw(st.integers(0, LENGTH - 1))
    tokens = np.array(response.tokens)
    tokens[place] = data.draw(st.integers(0, w.model.vocab_size - 1))
    both = (np.asarray(logits(w.model, w.params, r)) for r in (response, replace(response, tokens=tokens)))
    before, after = (z[: place + 1] for z in both)
    np.testing.assert_array_equal(before, after)


@given(network_worlds(("tied",), st.just(1.0)), st.integers(1, 4), st.integers(0, 1))
def test_logits_depend_on_every_earlier_token(w, shift, place):
    """Each token of the prompt is seen from every position of the response, and from the one before it on."""
    response = w.pairs[0].chosen_response
    prompt = np.array(response.prompt)
    prompt[place] = (prompt[place] + shift) % w.model.vocab_size
    real = replace(response, mask=np.ones(LENGTH, bool))
    before, after = (logits(w.model, w.params, r) for r in (real, replace(real, prompt=prompt)))
    assert np.all((before != after).any(axis=1))


@partial(jax.jit, static_argnums=0)
def logps_and_gradient(model, params, response):
    flat, unravel = ravel_pytree(params)

    def logps(flat):
        return token_logps(model, unravel(flat), response)

    return logps(flat), jax.grad(lambda flat: logps(flat).sum())(flat)


@given(network_worlds(("tied",)), seeds)
def test_ids_inside_padding_change_nothing(w, seed):
    """Bit for bit, and neither in the gradient: left of the prompt, and right of the response."""
    rng = np.random.default_rng(seed)
    response = replace(w.pairs[0].chosen_response, prompt_mask=np.arange(2) >= rng.integers(0, 3))

    def noisy(tokens, mask):
        return np.where(mask, tokens, rng.integers(0, w.model.vocab_size, tokens.shape))

    other = replace(
        response,
        prompt=noisy(response.prompt, response.prompt_mask),
        tokens=noisy(response.tokens, response.mask),
    )
    before, after = (logps_and_gradient(w.model, w.params, r) for r in (response, other))
    jax.tree.map(np.testing.assert_array_equal, before, after)
    assert not np.asarray(before[0])[~response.mask].any()


@given(network_worlds(("tied",)), st.integers(0, 1))
def test_more_padding_changes_nothing(w, length):
    """A prompt of two places, one or both of them padding, against the same with more padding, and with none.

    To round-off, as sums have other shapes. Without padding an empty prompt is the start symbol alone.
    """
    response = w.pairs[0].chosen_response
    response = replace(response, prompt_mask=np.arange(2) >= 2 - length)
    before, gradient = logps_and_gradient(w.model, w.params, response)
    pad = {"prompt": (1, 0), "prompt_mask": (1, 0), "tokens": (0, 1), "mask": (0, 1)}
    wider = replace(response, **{name: np.pad(getattr(response, name), width) for name, width in pad.items()})
    bare = replace(response, prompt=response.prompt[2 - length :], prompt_mask=np.ones(length, bool))
    size = abs(ravel_pytree(w.params)[0]) @ abs(gradient) + abs(before).sum() + LENGTH
    for other in (wider, bare):
        assert_close(np.asarray(logps_of(w.model, w.params, other))[:LENGTH], before, size, w.unit)


logps_of = jax.jit(token_logps)


def test_the_start_symbol_matters():
    moved = PARAMS | {"token_embedding": PARAMS["token_embedding"].at[MODEL.vocab_size, 0].add(1.0)}
    response = replace(PAIRS[0].chosen_response, prompt_mask=np.zeros(2, bool))
    assert np.all(logits(MODEL, moved, response)[:3] != logits(MODEL, PARAMS, response)[:3])


@given(worlds)
def test_head_times_features_are_the_logits(w):
    response = w.pairs[0].chosen_response
    weight, bias, table = w.model.head(w.params)
    assert bias is None
    assert (table == "token_embedding") == w.model.tied
    if w.model.tied:
        np.testing.assert_array_equal(weight, w.params[table][: w.model.vocab_size])
    hidden = features(w.model, w.params, response)
    assert hidden.shape == (LENGTH, w.model.dim)
    z = logits(w.model, w.params, response)
    assert_close(hidden @ weight.T, z, abs(hidden) @ abs(weight).T, 2 * w.model.dim * EPS)


features = jax.jit(stages.features)


@given(network_worlds(("untied",), st.just(float("inf"))))
def test_temperature_infinity_is_exactly_uniform(w):
    assert not logits(w.model, w.params, w.pairs[0].chosen_response).any()
    chosen = w.pairs[0].chosen_response
    logps = np.asarray(logps_of(w.model, w.params, chosen))
    assert_close(logps[chosen.mask], -np.log(w.model.vocab_size), 2, EPS)


# --- Sizes, scales, compilation -------------------------------------------------------------------------------------


def test_parameters_have_the_scales_that_init_says():
    for tied in (True, False):
        model = Transformer(300, 200, layers=8, dim=32, heads=4, tied=tied)
        params = transformer.init_params(jax.random.key(0), model, temperature=0.5)
        blocks, residual = params["blocks"], 2 * model.layers
        table, head = (0.5, None) if tied else (1.0, 0.5)
        variances = [
            (params["token_embedding"], 1 / 32 / table**2),
            (params["position_embedding"], 1 / 32),
            (blocks["attention_in"]["weight"], 1 / 32),
            (blocks["attention_out"]["weight"], 1 / 32 / residual),
            (blocks["mlp_in"]["weight"], 1 / 32),
            (blocks["mlp_out"]["weight"], 1 / 128 / residual),
        ] + ([] if tied else [(params["head"], 1 / 32 / head**2)])
        # Sample variances of N normal numbers: within five standard errors √(2/N) of their mean.
        for array, variance in variances:
            assert abs(np.asarray(array).var() / variance - 1) < 5 * (2 / array.size) ** 0.5
        for layer in (*blocks.values(), params["final_norm"]):
            assert not layer["bias"].any()
            assert "gain" not in layer or np.all(layer["gain"] == 1)
        assert jax.tree.map(jnp.shape, params) == model.shapes
    # Untied: the last norm has variance 1, so that logits have standard deviation √d · 1/√d / temperature.
    response = Response(np.zeros(0, int), np.zeros(0, bool), np.arange(100), np.ones(100, bool))
    z = logits(model, params, response)
    assert abs(z.std() / 2 - 1) < 5 * (2 / params["head"].size) ** 0.5


def equations(jaxpr):
    """How many there are, in inner programs too."""
    inner = [sub for eqn in jaxpr.eqns for value in eqn.params.values() for sub in programs(value)]
    return len(jaxpr.eqns) + sum(map(equations, inner))


def programs(value):
    if isinstance(value, tuple | list):
        return [program for entry in value for program in programs(entry)]
    program = getattr(value, "jaxpr", value)
    return [program] if hasattr(program, "eqns") else []


def test_the_program_does_not_grow_with_depth():
    response = Response(np.zeros(2, int), np.ones(2, bool), np.zeros(4, int), np.ones(4, bool))

    def sizes(layers):
        model = Transformer(5, 8, layers, dim=4, heads=2)
        params = jax.tree.map(jnp.zeros, model.shapes, is_leaf=lambda shape: isinstance(shape, tuple))
        logp = partial(response_logp, model, response=response)
        return [equations(jax.make_jaxpr(f)(params).jaxpr) for f in (logp, jax.grad(logp))]

    assert sizes(2) == sizes(12)
    assert all(one < two for one, two in zip(sizes(1), sizes(2), strict=True))  # the counting sees inner programs


def close_to(model, params, response, logps, eps):
    """Log-probabilities of one response's tokens, to so many round-offs of `eps` as their sums have terms."""
    exact, gradient = logps_and_gradient(model, params, response)
    size = abs(ravel_pytree(params)[0]) @ abs(gradient) + abs(exact).sum() + LENGTH
    assert_close(logps, exact, size, 8 * eps * longest_sum(model, 2 + LENGTH))


def test_float32():
    params = jax.tree.map(np.float32, random_params(0, MODEL))
    response = PAIRS[0].chosen_response
    rounded = logps_of(MODEL, params, response)
    assert rounded.dtype == jnp.float32
    double = jax.tree.map(np.float64, params)
    close_to(MODEL, double, response, rounded, float(jnp.finfo(jnp.float32).eps))
    drawn = transformer.init_params(jax.random.key(0), MODEL, dtype=jnp.float32, temperature=2.0)
    assert {leaf.dtype for leaf in jax.tree.leaves(drawn)} == {jnp.dtype("float32")}


def test_vmapped_over_parameters():
    every = [random_params(seed, MODEL) for seed in range(3)]
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *every)
    response = PAIRS[0].chosen_response
    together = np.asarray(jax.jit(jax.vmap(lambda params: token_logps(MODEL, params, response)))(stacked))
    for params, logps in zip(every, together, strict=True):
        close_to(MODEL, params, response, logps, EPS)


def test_learns():
    """A small step of DPO raises the sum of all margins (T20), and some of them do."""
    run = train(MODEL, PARAMS, PAIRS, LOSSES["dpo"](beta=0.1), optax.sgd, learning_rate=0.03, steps=5, record="loss")
    before, after = (np.subtract(*pair_logps(MODEL, params, PAIRS)).sum() for params in (PARAMS, run.params))
    assert after > before
    assert jax.tree.map(jnp.shape, run.params) == MODEL.shapes


# --- Bad input ------------------------------------------------------------------------------------------------------

PAIRS = PreferencePairs.from_lists([[1, 4], [2]], [[0, 2, 3], [1]], [[1, 2], [0, 3]], vocab_size=5, length=4)
MODEL = TRANSFORMERS["tied"]
PARAMS = transformer.init_params(jax.random.key(0), MODEL)


def sized(**sizes):
    return lambda: Transformer(**{"vocab_size": 5, "context_length": 8} | sizes)


BAD = {
    "vocabulary of one": (sized(vocab_size=1), "`vocab_size` must be a whole number at least 2, got 1"),
    "no context": (sized(context_length=0), "`context_length` must be a whole number at least 1, got 0"),
    "no layers": (sized(layers=0), "`layers` must be a whole number at least 1, got 0"),
    "half a dimension": (sized(dim=4.5), "`dim` must be a whole number at least 1, got 4.5"),
    "no heads": (sized(heads=0), "`heads` must be a whole number at least 1, got 0"),
    "layers a truth value": (sized(layers=True), "`layers` must be a whole number"),
    "heads that do not divide": (sized(dim=6, heads=4), "`heads` must divide `dim`, got 4 heads and a dim of 6"),
    "temperature zero": (
        lambda: transformer.init_params(jax.random.key(0), MODEL, temperature=0.0),
        "`temperature` must be > 0",
    ),
    "sequence too long": (
        lambda: MODEL.logits(PARAMS, Response(np.zeros(5, int), np.ones(5, bool), np.zeros(4, int), np.ones(4, bool))),
        r"`response` must fit 8 positions \(`context_length`\), got 9: a prompt of 5 and a response of 4 tokens",
    ),
    "a parameter of another shape": (
        lambda: pair_logps(MODEL, PARAMS | {"position_embedding": jnp.zeros((7, 4))}, PAIRS),
        r"`params` must have the shapes .*'position_embedding': \(8, 4\).* got .*'position_embedding': \(7, 4\)",
    ),
    "a head where there is none": (
        lambda: pair_logps(MODEL, PARAMS | {"head": jnp.zeros((5, 4))}, PAIRS),
        "`params` must have the shapes",
    ),
    "parameters NaN": (
        lambda: pair_logps(MODEL, PARAMS | {"position_embedding": jnp.full((8, 4), jnp.nan)}, PAIRS),
        "`params` must be finite",
    ),
    "token outside": (lambda: pair_logps(MODEL, PARAMS, replace(PAIRS, chosen=PAIRS.chosen + 3)), r"ids in \[0, 5\)"),
}


@pytest.mark.parametrize(("call", "message"), BAD.values(), ids=BAD)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_sequence_as_long_as_the_table_fits():
    long = Response(np.zeros(4, int), np.ones(4, bool), np.zeros(4, int), np.ones(4, bool))
    assert np.all(np.isfinite(logits(MODEL, PARAMS, long)))
