"""Networks of which a part is learned: the same logits, and the derivatives of the whole in that part alone."""

import jax
import numpy as np
import pytest
from neural import LENGTH, TRANSFORMERS, random_params
from oracles import assert_close

from toymodel import PreferencePairs
from toymodel.models.llama import Llama
from toymodel.models.logps import token_logps
from toymodel.models.partial import LastBlocks, last_blocks, low_rank

EPS = float(np.finfo(np.float64).eps)
PAIRS = PreferencePairs.from_lists([[1, 4], [2]], [[0, 2, 3], [1]], [[1, 2], [0, 3]], vocab_size=5, length=LENGTH)
LLAMA = Llama(vocab_size=5, layers=3, dim=8, heads=2, kv_heads=1, hidden=6)
OF = {"llama": (LLAMA, random_params(0, LLAMA))}
OF["transformer"] = TRANSFORMERS["tied"], random_params(0, TRANSFORMERS["tied"])


def logps(model, params, response):
    return token_logps(model, params, response).sum()


@jax.jit
def logits(model, params, response):
    return model.logits(params, response)


value_and_gradient = jax.jit(jax.value_and_grad(logps, argnums=1))


@pytest.mark.parametrize(("kind", "blocks"), [("llama", 1), ("llama", 2), ("llama", 3), ("transformer", 1)])
def test_last_blocks_have_the_derivatives_of_the_whole(kind, blocks):
    """Sums of a few hundred terms of size 1, in another order where loops are cut otherwise."""
    network, params = OF[kind]
    model, learned = last_blocks(network, params, blocks)
    for response in (PAIRS[0].chosen_response, PAIRS[1].rejected_response):
        whole, gradient = jax.device_get(value_and_gradient(network, params, response))
        part, of_part = jax.device_get(value_and_gradient(model, learned, response))
        assert_close(part, whole, 1 + abs(whole), 1000 * EPS)
        wanted = {"blocks": jax.tree.map(lambda leaf: leaf[-blocks:], gradient["blocks"])}
        wanted["final_norm"] = gradient["final_norm"]
        jax.tree.map(lambda a, b: assert_close(a, b, 1 + abs(b).max(), 1000 * EPS), of_part, wanted)


def test_low_rank_matrices_begin_as_the_network_and_move_it_as_their_product_does():
    network, params = OF["llama"]
    model, learned = low_rank(jax.random.key(1), network, params, 2)
    response = PAIRS[0].chosen_response
    np.testing.assert_array_equal(logits(model, learned, response), logits(network, params, response))
    for layer in learned.values():
        assert layer["a"].shape[-1] == layer["b"].shape[1] == 2
    moved = jax.tree.map(lambda leaf: leaf + 0.1, jax.device_get(learned))
    blocks = dict(params["blocks"])
    for name, layer in moved.items():
        blocks[name] = {"weight": blocks[name]["weight"] + np.einsum("lir,lro->lio", layer["a"], layer["b"])}
    wanted = logits(network, params | {"blocks": blocks}, response)
    assert_close(logits(model, moved, response), wanted, 1 + abs(wanted), 1000 * EPS)
    assert not np.allclose(wanted, logits(network, params, response))


def test_the_gradient_of_b_is_that_of_the_weight_times_a():
    network, params = OF["llama"]
    model, learned = low_rank(jax.random.key(1), network, params, 3, layers=("down",))
    response = PAIRS[0].chosen_response
    _, of_weight = jax.device_get(value_and_gradient(network, params, response))
    _, found = jax.device_get(value_and_gradient(model, learned, response))
    found = found["down"]
    wanted = np.einsum("lir,lio->lro", learned["down"]["a"], of_weight["blocks"]["down"]["weight"])
    assert_close(found["b"], wanted, 1 + abs(wanted).max(), 1000 * EPS)
    assert not found["a"].any()  # B is 0


def test_bad_input():
    network, params = OF["llama"]
    with pytest.raises(ValueError, match=r"`blocks` must be a whole number between 1 and 3, got 4"):
        last_blocks(network, params, 4)
    with pytest.raises(ValueError, match=r"`rank` must be a whole number at least 1, got 0"):
        low_rank(jax.random.key(0), network, params, 0)
    with pytest.raises(ValueError, match=r"`layers` must be among .*queries.*, got attention_norm"):
        low_rank(jax.random.key(0), network, params, 2, layers=("attention_norm",))
    assert isinstance(last_blocks(network, params, 3)[0], LastBlocks)
