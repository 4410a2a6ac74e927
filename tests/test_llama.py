"""The Llama architecture: against an outside implementation, its own padding, and what it refuses.

That the factored gradients hold for it is in `test_factored`. With torch and transformers at hand (`make reference`)
the stored numbers of `data/llama_reference.npz` are computed anew and compared as well.
"""

import warnings
from dataclasses import replace
from functools import lru_cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import outside_models
import pytest
from data import make_llama_reference as outside
from hypothesis import given
from hypothesis import strategies as st
from neural import random_params
from outside_models import of_case

from toymodel import PreferencePairs, Response
from toymodel.models import checkpoint, llama
from toymodel.models.llama import Llama
from toymodel.models.logps import token_logps

MODELS = {case: Llama(**outside.SIZES, **sizes) for case, sizes in outside.CASES.items()}
RESPONSES = PreferencePairs.from_lists(
    outside.PROMPTS, outside.RESPONSES, outside.RESPONSES, vocab_size=outside.SIZES["vocab_size"]
).chosen_response
MODEL = Llama(vocab_size=5, layers=2, dim=8, heads=2, kv_heads=1, hidden=6)
PARAMS = random_params(0, MODEL)
RESPONSE = Response(np.array([3, 1]), np.ones(2, bool), np.array([0, 2, 4]), np.ones(3, bool))
logps_of = jax.jit(token_logps)


@lru_cache
def stored():
    with np.load(outside.FILE) as file:
        return dict(file)


@lru_cache
def measured(case):
    params = checkpoint.from_transformers(MODELS[case], of_case(stored(), case, "weight"))
    return outside_models.measure(MODELS[case], jax.tree.map(jnp.asarray, params), RESPONSES)


def assert_same(case, arrays):
    ours_of = partial(checkpoint.from_transformers, MODELS[case])
    outside_models.assert_same(MODELS[case], RESPONSES, measured(case), arrays, case, ours_of)


@pytest.mark.parametrize("case", MODELS)
def test_numbers_are_those_of_llama(case):
    assert_same(case, stored())


@pytest.mark.parametrize("case", MODELS)
def test_numbers_are_those_of_llama_as_installed(case):
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # theirs
        live = {f"{case}/{key}": array for key, array in outside.reference(case).items()}
    for key in (key for key in live if "/weight/" in key):
        np.testing.assert_array_equal(live[key], stored()[key])
    assert_same(case, live)


@pytest.mark.parametrize("case", MODELS)
def test_llama_cpp_names_and_turned_rows_are_the_same_parameters(case):
    model, arrays = MODELS[case], of_case(stored(), case, "weight")
    wanted = checkpoint.from_transformers(model, arrays)
    channels = model.dim // model.heads

    def renamed():
        others = {"embed_tokens": "token_embd", "norm": "output_norm", "lm_head": "output"}
        layers = {theirs: cpp for _, theirs, cpp in checkpoint.LAYERS}
        for name, array in arrays.items():
            name = name.removeprefix("model.").removesuffix(".weight")
            if not name.startswith("layers."):
                yield f"{others[name]}.weight", array
                continue
            _, number, layer = name.split(".", 2)
            if layer in ("self_attn.q_proj", "self_attn.k_proj"):  # as llama.cpp's converter writes them
                heads = array.shape[0] // channels
                array = array.reshape(heads, 2, channels // 2, -1).swapaxes(1, 2).reshape(array.shape)
            yield f"blk.{number}.{layers[layer]}.weight", array

    jax.tree.map(np.testing.assert_array_equal, checkpoint.from_gguf(model, dict(renamed())), wanted)


def test_arrays_that_do_not_fit_are_named():
    case, model = "3_tied", MODELS["3_tied"]
    arrays = of_case(stored(), case, "weight")
    key = "model.layers.1.mlp.up_proj.weight"
    with pytest.raises(ValueError, match=rf"`{key}` is missing from the weights of a Llama"):
        checkpoint.from_transformers(model, {name: array for name, array in arrays.items() if name != key})
    with pytest.raises(ValueError, match=rf"`{key}` must have shape \(5, 12\), got \(12, 5\)"):
        checkpoint.from_transformers(model, arrays | {key: arrays[key].T})
    with pytest.raises(ValueError, match=r"hold model.layers.0.self_attn.q_proj.bias, for which a Llama has no place"):
        checkpoint.from_transformers(model, arrays | {"model.layers.0.self_attn.q_proj.bias": np.zeros(12)})


def test_a_tied_head_that_is_repeated_is_no_other_parameter():
    arrays = of_case(stored(), "3_tied", "weight")
    again = checkpoint.from_transformers(
        MODELS["3_tied"], arrays | {"lm_head.weight": arrays["model.embed_tokens.weight"]}
    )
    jax.tree.map(np.testing.assert_array_equal, again, checkpoint.from_transformers(MODELS["3_tied"], arrays))


@given(st.integers(0, 4), st.integers(0, 4), st.integers(0, 2))
def test_what_padding_holds_and_how_much_of_it_there_is_changes_nothing(left, right, count):
    """Numbers are the same bit for bit where only ids change, and to round-off where shapes do."""
    before = logps_of(MODEL, PARAMS, RESPONSE)
    pad = {"prompt": (2, 0), "prompt_mask": (2, 0), "tokens": (0, 1), "mask": (0, 1)}
    wide = replace(RESPONSE, **{name: np.pad(getattr(RESPONSE, name), width) for name, width in pad.items()})
    other = replace(
        wide,
        prompt=np.where(wide.prompt_mask, wide.prompt, left),
        tokens=np.where(wide.mask, wide.tokens, right),
    )
    one, same = (logps_of(MODEL, PARAMS, response) for response in (wide, other))
    np.testing.assert_array_equal(one, same)
    assert not one[3:].any()
    np.testing.assert_allclose(one[:3], before, rtol=1e-12)  # sums of a few hundred terms of size 1, in another order
    changed = replace(RESPONSE, tokens=np.where(np.arange(3) == count, (RESPONSE.tokens + 1) % 5, RESPONSE.tokens))
    np.testing.assert_array_equal(logps_of(MODEL, PARAMS, changed)[:count], before[:count])


def test_parameters_have_the_scales_that_init_says():
    for tied in (True, False):
        model = Llama(300, layers=4, dim=32, heads=4, kv_heads=2, hidden=48, tied=tied)
        params = llama.init_params(jax.random.key(0), model, temperature=0.5)
        blocks = params["blocks"]
        variances = [(params["token_embedding"], 4 / 32 if tied else 1 / 32), (blocks["queries"]["weight"], 1 / 32)]
        variances += [(blocks["up"]["weight"], 1 / 32), (blocks["down"]["weight"], 1 / 48 / 8)]
        variances += [] if tied else [(params["head"], 4 / 32)]
        # Sample variances of N normal numbers: within five standard errors √(2/N) of their mean.
        for array, variance in variances:
            assert abs(np.asarray(array).var() / variance - 1) < 5 * (2 / array.size) ** 0.5
        assert all(np.all(blocks[norm]["gain"] == 1) for norm in ("attention_norm", "mlp_norm"))
        assert jax.tree.map(jnp.shape, params) == model.shapes


SIZES = {"vocab_size": 5, "layers": 1, "dim": 8, "heads": 2, "kv_heads": 1, "hidden": 3}
BAD = {
    "a head of odd width": (
        lambda: Llama(**SIZES | {"dim": 6}),
        "an even number of channels, got 2 heads and a dim of 6",
    ),
    "keys that are not shared evenly": (
        lambda: Llama(**SIZES | {"kv_heads": 3}),
        "`kv_heads` must divide `heads`, got 3",
    ),
    "no layer": (lambda: Llama(**SIZES | {"layers": 0}), "`layers` must be a whole number at least 1, got 0"),
    "epsilon zero": (lambda: Llama(**SIZES, epsilon=0.0), "`epsilon` must be > 0"),
    "no prompt": (
        lambda: MODEL.logits(PARAMS, replace(RESPONSE, prompt=np.zeros(0, int), prompt_mask=np.zeros(0, bool))),
        "must have a prompt",
    ),
    "another shape": (
        lambda: MODEL.logits(PARAMS | {"head": jnp.zeros((5, 8))}, RESPONSE),
        "`params` must have the shapes",
    ),
}


@pytest.mark.parametrize(("call", "message"), BAD.values(), ids=BAD)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
