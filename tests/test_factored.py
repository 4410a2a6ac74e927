"""Gram matrices that follow a network's layers, against gradients that are built: whole, by token, by layer.

Both ways go through the same sums in another order. Round-off in a gradient is what a change of every weight by as many
unit round-offs as those sums have terms does to it (a few random ones are tried), and as many of its own norm.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import neural
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.flatten_util import ravel_pytree
from oracles import assert_close, gram_sizes, token_sizes
from strategies import seeds, worlds

from toymodel import PairGram, PreferencePairs, gradients, positional_pairs, pytree, theory
from toymodel.gradients import factored, inner_products, products
from toymodel.models import linear, llama, mlp, transformer, unconstrained
from toymodel.models.llama import Llama
from toymodel.models.logps import token_logps
from toymodel.models.mlp import NGramMLP
from toymodel.models.stages import Head, Stage, affine, logits
from toymodel.models.transformer import Transformer

V, P, T_W, T_L = 5, 2, 3, 4  # widths of prompts and responses, padding included


@pytree
@dataclass(frozen=True)
class TiedBigram:
    """z = E (W [E(y^{i−2}); E(y^{i−1})] + b): positionwise from the table up to a head that is the table."""

    vocab_size = V

    def logits(self, params, response):
        return logits(self, params, response)

    def rows(self, response):
        before = jnp.concatenate([jnp.full(2, V), response.tokens])  # row V: nothing
        return {"embedding": before[jnp.arange(response.tokens.size)[:, None] + jnp.arange(2)]}

    def stages(self, params, _response):
        return (
            Stage(
                {"joined": params["joined"]}, lambda w, x: (affine(w["joined"], x), {"joined": x}), positionwise=True
            ),
        )

    def head(self, params):
        return Head(params["embedding"][:V], None, "embedding")


MODELS = {
    "mlp": NGramMLP(V, context_length=3, embedding_dim=2, hidden_dim=4),
    "tied bigram": TiedBigram(),
    "1 layer, untied": Transformer(V, P + T_L, layers=1, dim=4, heads=1, tied=False),
    "2 layers, untied": Transformer(V, P + T_L, layers=2, dim=4, heads=2, tied=False),
    "3 layers, tied": Transformer(V, P + T_L, layers=3, dim=6, heads=3),
    "no biases, tied": Llama(V, layers=2, dim=8, heads=4, kv_heads=2, hidden=6),
    "no biases, untied": Llama(V, layers=1, dim=4, heads=1, kv_heads=1, hidden=3, tied=False),
}
INIT = {NGramMLP: mlp.init_params, Transformer: transformer.init_params, Llama: llama.init_params}
BY_WEIGHT = {"mlp": True, "tied bigram": False, "1 layer, untied": True, "3 layers, tied": False}
TERMS = 200  # more than the terms of all sums between a table and a log-probability in any of these models


@partial(jax.jit, static_argnums=0)
def random_params(model, key, temperature):
    """As the model's own, but biases and gains are random as well."""
    if isinstance(model, TiedBigram):
        shapes = {"embedding": (V + 1, 3), "joined": {"weight": (6, 3), "bias": (3,)}}
        params = jax.tree.map(lambda shape: jnp.zeros(shape), shapes, is_leaf=lambda node: isinstance(node, tuple))
    else:
        params = INIT[type(model)](key, model, temperature=temperature)
    flat, unravel = ravel_pytree(params)
    return unravel(flat + 0.3 * jax.random.normal(jax.random.fold_in(key, 1), flat.shape))


@st.composite
def pairs_of_any_length(draw):
    """One pair of arrays of fixed widths; prompts may be empty, responses have from one token to all."""
    tokens = st.integers(0, V - 1)
    prompt = draw(st.lists(tokens, max_size=P))
    chosen, rejected = (draw(st.lists(tokens, min_size=1, max_size=T)) for T in (T_W, T_L))
    return pair_of(prompt, chosen, rejected)


def pair_of(prompt, chosen, rejected):
    def padded(tokens, width, *, left=False):
        place = slice(width - len(tokens), width) if left else slice(len(tokens))
        array, mask = np.full(width, V - 1), np.zeros(width, bool)
        array[place], mask[place] = tokens, True
        return array, mask

    return PreferencePairs(*padded(prompt, P, left=True), *padded(chosen, T_W), *padded(rejected, T_L))


temperatures = st.sampled_from([float("inf"), 3.0, 1.0, 0.3, 0.1])


@partial(jax.jit, static_argnums=0)
def by_layer(model, params, pair):
    """Products of all tokens, and of the two responses."""
    return tuple(factored.layer_products(model, params, pair, per_token=per_token) for per_token in (True, False))


@partial(jax.jit, static_argnums=0)
def token_gradients(model, params, response):
    return jax.jacrev(lambda params: token_logps(model, params, response))(params)


def built(model, params, pair):
    """By layer, the gradients of every token of both responses: [T, …] each, T the greater width."""
    tokens, mask = (np.pad(leaf, (0, T_L - T_W)) for leaf in (pair.chosen, pair.chosen_mask))
    responses = replace(pair.rejected_response, tokens=tokens, mask=mask), pair.rejected_response
    return [layers_of(token_gradients(model, params, response)) for response in responses]


def layers_of(gradients):
    """By name of a layer: [T, parameters], or [L, T, parameters] if it is one of L blocks'."""
    tree = jax.tree.map(np.asarray, dict(gradients))
    of_blocks = {*tree.get("blocks", {})}
    layers = {name: jax.tree.leaves(layer) for name, layer in tree.pop("blocks", {}).items()}
    layers = {name: [np.moveaxis(leaf, 0, 1) for leaf in leaves] for name, leaves in layers.items()}
    for name in [*tree]:
        layer = name.removesuffix("_weight").removesuffix("_bias")
        layers.setdefault(layer, []).extend(leaf[None] for leaf in jax.tree.leaves(tree[name]))
    joined = {
        name: np.concatenate([leaf.reshape(*leaf.shape[:2], -1) for leaf in leaves], axis=-1)
        for name, leaves in layers.items()
    }
    return {name: layer if name in of_blocks else layer[0] for name, layer in joined.items()}


def whole(layers):
    """[T, parameters]."""
    return np.concatenate(
        [layer if layer.ndim == 2 else np.concatenate([*layer], axis=-1) for layer in layers.values()], axis=-1
    )


class Roundoff(NamedTuple):
    """Errors of the norms of the gradients of all chosen and rejected tokens, and these norms."""

    errors: list[np.ndarray]
    norms: list[np.ndarray]

    @property
    def tokens(self):
        """Errors of all products of tokens."""
        return Roundoff.products(*self.errors, *self.norms)

    @property
    def gram(self):
        """Errors of a `PairGram`."""
        (e, f), (g, h) = ((a.sum(), b.sum()) for a, b in self)
        return PairGram(*(Roundoff.products(*of) for of in ((e, e, g, g), (f, f, h, h), (e, f, g, h))))

    @staticmethod
    def products(e, f, g, h):
        return np.multiply.outer(e, h) + np.multiply.outer(g, f) + np.multiply.outer(e, f)


def roundoff(model, params, pair, gradients, eps=2.0**-52):
    """See above."""
    here, change, moved = [whole(layers) for layers in gradients], 2.0**-26, []
    for seed in range(3):
        rng = np.random.default_rng(seed)
        signs = jax.tree.map(lambda leaf: rng.choice([-1.0, 1.0], leaf.shape), params)  # noqa: B023
        there = jax.tree.map(lambda leaf, sign: leaf * (1 + change * sign), params, signs)
        sides = zip(built(model, there, pair), here, strict=True)
        moved.append([np.linalg.norm(whole(g) - h, axis=1) / change for g, h in sides])
    norms = [np.linalg.norm(h, axis=1) for h in here]
    return Roundoff(
        [TERMS * eps * (size + norm) for size, norm in zip(np.max(moved, axis=0), norms, strict=True)], norms
    )


@pytest.mark.parametrize(("name", "by_weight"), BY_WEIGHT.items())
def test_products_of_layers_are_those_of_gradients_that_are_built(monkeypatch, name, by_weight):
    """Whether a layer's weight is built or goes by pairs of places: here both are made to happen."""
    model = MODELS[name]
    monkeypatch.setattr(products, "weight_is_cheaper", lambda *_: by_weight)

    @given(pairs_of_any_length(), seeds, temperatures)
    def check(pair, seed, temperature):
        params = random_params(model, jax.random.key(seed), temperature)
        sides = built(model, params, pair)
        allowed = roundoff(model, params, pair, sides)
        for layers, per_token in zip(by_layer(model, params, pair), (True, False), strict=True):
            assert set(layers) == set(sides[0]) == set(sides[1])
            for layer, product in layers.items():
                check_layer(product, *(side[layer] for side in sides), allowed, per_token)

    check()


def check_layer(product, g, h, allowed, per_token):
    """Products of a layer, with g and h [T, parameters] or [L, T, parameters]. Its errors are part of all layers'."""
    if per_token:
        (e, f), (n, m) = allowed
        errors = PairGram(2 * e * n + e**2, 2 * f * m + f**2, allowed.tokens)
    else:
        g, h, errors = g.sum(axis=-2, keepdims=True), h.sum(axis=-2, keepdims=True), allowed.gram
    expected = PairGram((g**2).sum(axis=-1), (h**2).sum(axis=-1), g @ np.swapaxes(h, -1, -2))
    for entry, value, error in zip(product, expected, errors, strict=True):
        assert entry.shape == value.shape
        assert_close(entry, value, error, 1)


@pytest.mark.parametrize("name", ["mlp", "tied bigram"])
def test_public_functions_are_sums_over_layers(name):
    """As users call them, with the widths of the pair's own arrays, and then inside `jit` and `vmap`."""
    model = MODELS[name]
    params = random_params(model, jax.random.key(0), 0.5)
    pair = pair_of([1], [1, 2], [1, 4, 4])
    pairs = jax.tree.map(lambda a, b: np.stack([a, b]), pair, pair_of([], [3, 0, 2], [4]))
    sides = built(model, params, pair)
    allowed = roundoff(model, params, pair, sides)
    g, h = whole(sides[0])[:T_W], whole(sides[1])

    tokens = gradients.token_gram(model, params, pair)
    assert_close(tokens, g @ h.T, allowed.tokens[:T_W], 1)
    np.testing.assert_array_equal(tokens != 0, np.outer(pair.chosen_mask, pair.rejected_mask))

    layers = gradients.layer_gram(model, params, pairs)
    expected = PairGram((g.sum(axis=0) ** 2).sum(), (h.sum(axis=0) ** 2).sum(), tokens.sum())
    for entry, summed, *parts, error in zip(
        gradients.pair_gram(model, params, pairs), expected, *layers.values(), allowed.gram, strict=True
    ):
        assert_close(entry[0], summed, error, 1)
        assert_close(sum(part[..., 0].sum() for part in parts), summed, error, 1)
    assert_close(gradients.token_row(model, params, pair), tokens.sum(axis=0), allowed.tokens.sum(axis=0), 1)

    inside = jax.jit(jax.vmap(partial(gradients.token_cosines, model, params)))(pairs)[0]
    cosines = tokens / np.outer(*(np.where(n > 0, n, np.nan) for n in (allowed.norms[0][:T_W], allowed.norms[1])))
    sizes = np.outer(allowed.norms[0][:T_W], allowed.norms[1])
    error = 2 * allowed.tokens[:T_W] / np.where(sizes > 0, sizes, 1)  # half of it from the two norms
    np.testing.assert_array_equal(np.isnan(inside), np.isnan(cosines))
    assert_close(*(np.nan_to_num(c) for c in (inside, cosines)), error, 1)


def test_the_cheaper_way_through_a_layer():
    """Long responses in small layers: build the weight. Few places and wide layers: go by pairs of them."""
    assert products.weight_is_cheaper(64, 72, 64, 64)
    assert not products.weight_is_cheaper(4, 12, 768, 3072)
    assert products.weight_is_cheaper(1, 24, 8, 8)
    assert not products.weight_is_cheaper(1, 24, 128, 512)


@given(pairs_of_any_length(), seeds)
def test_swapped_pairs_have_the_transposed_gram(pair, seed):
    model = MODELS["mlp"]
    params = random_params(model, jax.random.key(seed), 1.0)
    tokens, swapped = (gradients.token_gram(model, params, p) for p in (pair, pair.swapped()))
    assert_close(swapped, tokens.T, roundoff(model, params, pair, built(model, params, pair)).tokens[:T_W].T, 1)


@given(worlds(models=("random_features",)))
@settings(max_examples=10)
def test_linear_models_have_their_gradients_built(w):
    size = token_sizes(w)
    [(name, gram)] = gradients.layer_gram(w.model, w.params, w.pairs).items()
    assert name == "params"
    for entry, expected, error in zip(gram, theory.pair_gram(*w[1:]), gram_sizes(w), strict=True):
        assert_close(entry, expected, error, w.roundoff)
    tokens = theory.token_gram(w.model, w.params, w.pairs[0])
    row = gradients.token_row(w.model, w.params, w.pairs[0])
    assert_close(row, tokens.sum(axis=0), size[0].sum() * size[1], w.roundoff)


@given(worlds(models=("random_features",), temperature=st.just(1.0)))
@settings(max_examples=10)
def test_gradients_of_large_models_are_built_one_at_a_time(w):
    pair, (g, h) = w.pairs[0], token_sizes(w)
    row_by_row = jax.jit(inner_products._row_by_row)(w.model, w.params, pair)
    expected = g**2, h**2, theory.token_gram(w.model, w.params, pair)
    for entry, value, size in zip(row_by_row, expected, (g**2, h**2, np.outer(g, h)), strict=True):
        assert_close(entry, value, size, w.roundoff)


def test_large_models_are_those_of_many_parameters(monkeypatch):
    model, pair = linear.bigram(V), pair_of([1], [1, 2], [1, 4, 4])
    params = linear.init_params(jax.random.key(0), model)

    def program():
        return jax.jit(lambda *given: inner_products._token_products(model, *given)).lower(params, pair).as_text()

    at_once = program()
    monkeypatch.setattr(inner_products, "BUILT_NUMBERS", (T_W + T_L) * params.size)
    assert program() == at_once
    monkeypatch.setattr(inner_products, "BUILT_NUMBERS", (T_W + T_L) * params.size - 1)
    assert program() != at_once


def test_layers_of_other_models_are_leaves_of_their_parameters():
    model = unconstrained.unconstrained(linear.bigram(V))
    params = unconstrained.init_params(jax.random.key(0), model, dim=3)
    pairs = jax.tree.map(lambda leaf: leaf[None], pair_of([1], [1, 2], [1, 4, 4]))
    layers, total = (f(model, params, pairs) for f in (gradients.layer_gram, gradients.pair_gram))
    assert set(layers) == {"head", "hidden"}
    # Two sums of at most 18 products each, in two programs: 2 · 18 roundings of 1.1e-16, and the two do not cancel.
    np.testing.assert_allclose(layers["head"].inner + layers["hidden"].inner, total.inner, rtol=1e-14)


@partial(jax.jit, static_argnums=0)
def residuals_of(model, params, response):
    return theory.residuals(model.logits(params, response), response.tokens)


@pytest.mark.parametrize("name", ["mlp", "1 layer, untied"])
def test_t2_residuals_through_the_tangent_kernel_are_the_token_gram(name):
    """The responses have no prompt at all."""
    model, pair = MODELS[name], pair_of([], [1, 2], [1, 4, 4])
    pair = replace(pair, prompt=pair.prompt[:0], prompt_mask=pair.prompt_mask[:0])
    params = random_params(model, jax.random.key(2), 1.0)
    kernel = np.asarray(gradients.tangent_kernel(model, params, pair))
    assert kernel.shape == (T_W, T_L, V, V)
    residuals = [
        np.asarray(residuals_of(model, params, r)) * r.mask[:, None]
        for r in (pair.chosen_response, pair.rejected_response)
    ]
    # Residuals share a token's error with its gradient; the kernel is a sum over V × V logits' gradients.
    size = np.outer(*(np.linalg.norm(s, axis=1) for s in residuals)) * np.linalg.norm(kernel, axis=(2, 3))
    predicted = theory.kernel_token_gram(kernel, *residuals)
    assert_close(predicted, gradients.token_gram(model, params, pair), size, TERMS * 2.0**-52)


def test_float32_stays_float32():
    """With the round-off of float32; and blocks of a transformer keep their order."""
    model, pair = MODELS["2 layers, untied"], pair_of([1], [1, 2], [1, 4, 4])
    params = random_params(model, jax.random.key(3), 1.0)
    sides = built(model, params, pair)
    allowed = roundoff(model, params, pair, sides, eps=2.0**-23)
    half = jax.tree.map(np.float32, params)
    tokens = gradients.token_gram(model, half, pair)
    assert tokens.dtype == jnp.float32
    assert_close(tokens, whole(sides[0])[:T_W] @ whole(sides[1]).T, allowed.tokens[:T_W], 1)
    layers = gradients.layer_gram(model, half, jax.tree.map(lambda leaf: leaf[None], pair))
    for name, gram in layers.items():
        g, h = (side[name].sum(axis=-2) for side in sides)
        assert gram.inner.dtype == jnp.float32
        assert gram.inner.shape == (*g.shape[:-1], 1)
        assert_close(gram.inner[..., 0], (g * h).sum(axis=-1), allowed.gram.inner, 1)


PAIR = pair_of([1], [1, 2], [1, 4, 4])
PAIRS = jax.tree.map(lambda leaf: leaf[None], PAIR)
BIGRAM = linear.bigram(V)
W = linear.init_params(jax.random.key(0), BIGRAM)
MLP = MODELS["mlp"]
SHORT = Transformer(V, context_length=5, layers=1, dim=2, heads=1)
MLP_PARAMS = neural.random_params(0, MLP)
ONE_PAIR = ("token_gram", "token_cosines", "token_row", "tangent_kernel")
BAD = {
    **{f"{name} of a batch": (name, (BIGRAM, W, PAIRS), "`pair` must be one pair") for name in ONE_PAIR},
    **{
        f"{name} of one pair": (name, (BIGRAM, W, PAIR), "`pairs` must be a batch")
        for name in ("pair_gram", "layer_gram")
    },
    "token outside": ("token_cosines", (BIGRAM, W, replace(PAIR, chosen=PAIR.chosen + 3)), r"ids in \[0, 5\)"),
    "parameters NaN": ("layer_gram", (BIGRAM, W * jnp.nan, PAIRS), "`params` must be finite"),
    "parameters of another shape": (
        "token_gram",
        (MLP, MLP_PARAMS | {"head_bias": jnp.zeros(V - 1)}, PAIR),
        "`params` must have the shapes",
    ),
    "too long": (
        "pair_gram",
        (
            SHORT,
            neural.random_params(0, SHORT),
            PAIRS,
        ),
        "`response` must fit 5 positions",
    ),
}


@pytest.mark.parametrize(("name", "arguments", "message"), BAD.values(), ids=BAD)
def test_bad_input(name, arguments, message):
    with pytest.raises(ValueError, match=message):
        getattr(gradients, name)(*arguments)


def test_kernel_of_another_shape():
    with pytest.raises(ValueError, match=r"`kernel` must have the shape \(2, 3, 5, 5\) .* got \(2, 2, 5, 5\)"):
        theory.kernel_token_gram(jnp.zeros((2, 2, 5, 5)), jnp.zeros((2, 5)), jnp.zeros((3, 5)))


def test_float32_gradients_of_many_tokens_are_those_of_float64():
    """64 tokens of 72 places: all at once, compiled code was seen to be off by 0.18, in both ways to the cosines."""
    model = Transformer(16, context_length=72, layers=2, dim=16, heads=2)
    pair = positional_pairs(jax.random.key(0), 1, vocab_size=16, length=64, matches=32, prompt_length=8)[0]
    params = jax.device_get(transformer.init_params(jax.random.key(1), model, dtype=np.float32))
    exact = gradients.token_cosines(model, jax.tree.map(lambda leaf: leaf.astype(np.float64), params), pair)
    chosen, rejected = (
        gradient / np.linalg.norm(gradient, axis=1, keepdims=True)
        for response in (pair.chosen_response, pair.rejected_response)
        for gradient in [np.asarray(gradients.token_gradients(model, params, response))]
    )
    # Each gradient is a sum over 72 places, in layers whose inner sums have 64 terms: about √(72 · 64) roundings of
    # 6e-8, in each of 2 layers and 2 gradients.
    np.testing.assert_allclose(gradients.token_cosines(model, params, pair), exact, rtol=0, atol=2e-5)
    np.testing.assert_allclose(chosen @ rejected.T, exact, rtol=0, atol=2e-5)
