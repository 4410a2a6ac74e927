"""Training: the ordinary gradient route against the recorded Gram-and-weights route, and what a run promises.

Round-off is `MLPWorld.roundoff`, relative to the bound on the gradients' norms, unless a test says otherwise.
"""

import os
import subprocess
import sys
from dataclasses import dataclass, replace
from functools import cache, partial
from operator import itemgetter
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from jax.extend.core import jaxprs_in_params
from jax.flatten_util import ravel_pytree
from neural import MODEL, mlp_world, mlp_worlds
from oracles import assert_close
from strategies import as_numpy, pairs_of, seeds, world

from toymodel import PreferencePairs, gradients, theory
from toymodel.data.families import contrast_pairs
from toymodel.losses import LOSSES
from toymodel.losses.supervised import CrossEntropy
from toymodel.models import linear, transformer
from toymodel.models.logps import pair_logps
from toymodel.remedies import Calibrated, LearnedMask, NormalisedPairs, NormalisedSides, WithLikelihood
from toymodel.training import Diverged, loop, step, train
from toymodel.training.step import Plain, descend
from toymodel.training.vectorise import each_run

N, STEPS = 3, 4
# Equal weights, length-averaged, with a likelihood term, both, weights of either sign.
SOME_LOSSES = ("dpo", "simpo", "dpo_nll_mean", "cpo_simpo", "ipo_sum")
ADAM = partial(optax.adam, b1=0.8)
rates = st.floats(-3, -0.5).map(lambda exponent: 10.0**exponent)
PAIRS = PreferencePairs.from_lists(
    [[0], [1], [2]], [[0, 1, 2], [1, 1], [4]], [[0, 3], [2, 1, 0, 4], [3, 3]], vocab_size=5, length=4
)
DPO = LOSSES["dpo"](beta=0.5)
BIGRAM = linear.bigram(5)  # compiles faster than the MLP


def start_of(seed):
    """Parameters of `BIGRAM`."""
    return jax.device_put(np.random.default_rng(seed).standard_normal((5, BIGRAM.features.shape[1])))


START = start_of(0)
KEY = jax.random.key(0)


def run(params=START, pairs=PAIRS, loss=DPO, optimizer=optax.sgd, rate=0.1, *, model=BIGRAM, steps=STEPS, **options):
    return train(model, params, pairs, loss, optimizer, rate, steps=steps, **options)


def mlp_run(w, loss=DPO, rate=0.1):
    return run(*w, loss, rate=rate, model=MODEL, steps=1)


def assert_same(actual, expected, roundoff):
    """Equal up to round-off relative to each array's largest entry, NaN where the other is."""
    for ours, theirs in zip(*(jax.tree.leaves(as_numpy(tree)) for tree in (actual, expected)), strict=True):
        np.testing.assert_array_equal(np.isnan(ours), np.isnan(theirs))
        size = np.nanmax(abs(theirs), initial=1e-300)
        assert_close(np.nan_to_num(ours), np.nan_to_num(theirs), size, roundoff)


def at(tree, *index):
    return jax.tree.map(lambda a: np.asarray(a)[index], tree)


# --- One step: two routes to the same numbers -----------------------------------------------------------------------


@pytest.mark.parametrize("loss", SOME_LOSSES)
@settings(max_examples=20)
@given(w=mlp_worlds(N), rate=rates)
def test_sgd_moves_along_the_weighted_gradients(loss, w, rate):
    """Ordinary route ⟨g, Δθ⟩ = learning rate × slope from one gradient per response and the loss's closed form."""
    t = as_numpy(mlp_run(w, LOSSES[loss](), rate).trajectory)
    size = w.gradient_size**2 * (abs(t.d_chosen) + abs(t.d_rejected))[0].mean()
    predicted, slopes = (t.chosen_predicted, t.rejected_predicted), (t.chosen_slope, t.rejected_slope)
    assert_close(at(predicted, 0), rate * np.array(at(slopes, 0)), rate * size, w.roundoff)


@pytest.mark.parametrize("loss", SOME_LOSSES)
@settings(max_examples=20)
@given(w=mlp_worlds(N), rate=rates)
def test_what_is_recorded_is_what_is_measured(loss, w, rate):
    loss = LOSSES[loss]()
    t = as_numpy(mlp_run(w, loss, rate).trajectory)
    logps = as_numpy(pair_logps(MODEL, *w))
    lengths = [mask.sum(axis=1).astype(float) for mask in (w.pairs.chosen_mask, w.pairs.rejected_mask)]
    given = (*logps, *logps, *lengths)
    # Log-probabilities round by the terms they sum; the losses and weights here amplify that by 1/(2τ) = 5 at most.
    amplified = 10 * (1 + max(float(abs(x).max()) for x in logps))
    assert_close((t.chosen_logps[0], t.rejected_logps[0]), logps, amplified, w.roundoff)
    assert_close(t.loss[0], loss.value(*given), amplified**2, w.roundoff)
    assert_close((t.d_chosen[0], t.d_rejected[0]), loss.weights(*given), amplified, w.roundoff)
    assert_close(at(t.gram, 0), gradients.pair_gram(MODEL, *w), w.gradient_size**2, w.roundoff)


@settings(max_examples=30)
@given(seeds, rates)
def test_losses_and_log_probabilities_belong_to_the_states_they_name(seed, rate):
    """Run on from the last state, with the same reference: plain gradient descent has no other memory."""
    params = start_of(seed)
    whole = run(params, rate=rate)
    first = run(params, rate=rate, steps=2)
    second = run(first.params, rate=rate, steps=2, ref_params=params)
    parts = zip((first.losses, *first.trajectory[2:]), (second.losses, *second.trajectory[2:]), strict=True)
    # One loop body; a compiler may still sum in another order, relative to sums of at most 15 terms of size one.
    assert_same((whole.losses, *whole.trajectory[2:]), [np.concatenate(part) for part in parts], 1e-12)
    assert_same(at(whole.trajectory[:2], 2), at(first.trajectory[:2], -1), 1e-13)
    assert_same(at(whole.trajectory[:2], -1), pair_logps(BIGRAM, whole.params, PAIRS), 1e-13)
    assert_same(whole.losses, whole.trajectory.loss.mean(axis=1), 1e-13)


@given(mlp_worlds(N), rates)
def test_t20_the_weighted_slopes_of_a_batch_are_never_negative_in_sum(w, rate):
    """Σ (d_w slope_w − d_l slope_l) = n ‖u‖² for the mean step u of n pairs, although one pair's part may be."""
    t = as_numpy(mlp_run(w, rate=rate).trajectory)
    sums = (t.d_chosen * t.chosen_slope - t.d_rejected * t.rejected_slope).sum(axis=1)
    assert (sums[0] >= -w.roundoff * N * (w.gradient_size * (t.d_chosen + t.d_rejected)[0].max()) ** 2).all()


@jax.jit
def derivatives(params, step, pairs, distances):
    """Second and third derivatives of the 2n log-probabilities along a step, at each of these distances."""

    def logps(distance):
        moved = jax.tree.map(lambda p, s: p + distance * s, params, step)
        return jnp.concatenate(pair_logps(MODEL, moved, pairs))

    second = jax.jacfwd(jax.jacfwd(logps))
    return jax.vmap(second)(distances), jax.vmap(jax.jacfwd(second))(distances)


@settings(max_examples=30)
@given(mlp_worlds(N, temperature=st.sampled_from([3.0, 1.0, 0.3])))
def test_t13_the_error_of_the_prediction_falls_fourfold_when_the_rate_halves(w):
    """f(η) − f(0) − ηf′(0) = η²f″(0)/2 + η³f‴(ξ)/6, so the ratio is 4 up to δ = η max|f‴| / (3|f″(0)|) either way."""
    unit = mlp_run(w, rate=1.0)
    step = jax.tree.map(np.subtract, unit.params, w.params)
    second, third = (np.asarray(d) for d in derivatives(w.params, step, w.pairs, np.linspace(0, 0.2, 21)))
    bent = np.argmax(abs(second[0]))  # the response with the strongest curvature
    third = 1.5 * abs(third[:, bent]).max()  # between the places where it was looked at
    rate = min(0.2, 0.3 * abs(second[0, bent]) / third)

    def error(rate):
        t = as_numpy(mlp_run(w, rate=rate).trajectory)
        errors = (t.chosen_change - t.chosen_predicted, t.rejected_change - t.rejected_predicted)
        return np.concatenate(errors, axis=1)[0, bent]

    delta = rate * third / (3 * abs(second[0, bent]))
    # Log-probabilities round; what is left after subtraction is the error at half the rate.
    noise = 100 * np.finfo(float).eps * (1 + abs(np.array(pair_logps(MODEL, *w))).max()) / abs(error(rate / 2))
    assume(noise < 1e-3)
    ratio = error(rate) / error(rate / 2)
    assert 4 * (1 - delta) / (1 + delta / 2) - 4 * noise <= ratio <= 4 * (1 + delta) / (1 - delta / 2) + 4 * noise


@pytest.mark.parametrize("kind", ["bigram", "positional_offset"])
@settings(max_examples=30)
@given(pairs=pairs_of(5, 4), seed=seeds, rate=rates)
def test_t12_linear_models_never_rise_by_more_than_predicted(kind, pairs, seed, rate):
    """log π is concave in W; the reference is another policy, so that the first step is not like every first step."""
    w = world(kind, pairs, 5, seed=seed)
    t = run(w.params, pairs, rate=rate, model=w.model, steps=2, ref_params=np.add(w.params, 0.5)).trajectory
    t = as_numpy(t)
    for change, predicted, logps in (
        (t.chosen_change, t.chosen_predicted, t.chosen_logps),
        (t.rejected_change, t.rejected_predicted, t.rejected_logps),
    ):
        assert (change <= predicted + w.roundoff * (1 + abs(predicted) + abs(logps[:1]) + abs(logps[1:]).max())).all()


# --- Optimisers, minibatches, many steps ----------------------------------------------------------------------------


def test_a_run_is_a_plain_loop_over_steps():
    """Parameters, losses and predictions against optax called step by step: Adam, in minibatches."""
    start = mlp_world(PAIRS).params
    result = run(start, model=MODEL, optimizer=ADAM, rate=0.05, batch_size=2, key=KEY)
    reference = pair_logps(MODEL, start, PAIRS)
    optimise = ADAM(0.05)

    @jax.jit
    def step(params, state, batch):
        def mean_loss(params):
            logps = pair_logps(MODEL, params, jax.tree.map(lambda a: a[batch], PAIRS))
            return DPO.value(*logps, *(r[batch] for r in reference)).mean()

        value, gradient = jax.value_and_grad(mean_loss)(params)
        update, state = optimise.update(gradient, state, params)
        return optax.apply_updates(params, update), state, value, ravel_pytree(update)[0]

    params, state = start, optimise.init(start)
    for number, batch in enumerate(result.batches):
        chosen, rejected = gradients.pair_gradients(MODEL, params, PAIRS)
        params, state, value, update = step(params, state, batch)
        row = at(result.trajectory, number)
        recorded = result.losses[number], row.chosen_predicted, row.rejected_predicted
        # Two programs for sums of a hundred terms of size one. Adam's first steps are signs of gradients, and divide
        # their round-off by gradients of 1e-4 or more.
        for ours, theirs in zip(recorded, (value, chosen @ update, rejected @ update), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-10)
    assert_same(result.params, params, 1e-9)


def test_minibatches_use_each_pair_once_in_an_epoch():
    even = run(steps=6, batch_size=1, key=KEY, record="loss").batches
    assert even.shape == (6, 1)
    np.testing.assert_array_equal(np.sort(even.reshape(2, 3), axis=1), [[0, 1, 2]] * 2)
    rest = np.sort(run(steps=5, batch_size=2, key=KEY).batches, axis=1)  # one pair sits out
    assert (rest[:, 0] < rest[:, 1]).all()
    assert len(np.unique(rest, axis=0)) > 1  # and not always the same one


def test_minibatch_slopes_are_those_of_the_batch_for_every_pair():
    result = run(steps=5, batch_size=2, key=KEY)
    t = result.trajectory
    assert_same((t.chosen_predicted, t.rejected_predicted), (0.1 * t.chosen_slope, 0.1 * t.rejected_slope), 1e-13)
    assert_same(result.losses, np.take_along_axis(t.loss, result.batches, axis=1).mean(axis=1), 1e-13)


def test_the_key_decides_the_run():
    one, again, other = (run(steps=5, batch_size=2, key=jax.random.key(k)) for k in (0, 0, 1))
    jax.tree.map(np.testing.assert_array_equal, one, again)
    assert np.any(one.batches != other.batches)
    assert np.any(one.losses != other.losses)


# --- Many runs ------------------------------------------------------------------------------------------------------

KEYS = jax.random.split(jax.random.key(5), 3)
BATCHED = {
    "loss": LOSSES["dpo"](beta=np.array([0.1, 0.5, 2.0])),
    "learning_rate": np.array([0.01, 0.1, 0.3]),
    "params": np.multiply.outer([1, 0.5, -1], START),
    "ref_params": np.multiply.outer([-1, 1, 0.5], START),
    "pairs": jax.tree.map(lambda a: np.stack([a, a[::-1], a[[1, 0, 0]]]), as_numpy(PAIRS)),
    "key": KEYS,
}
SINGLE = {"params": START, "pairs": PAIRS, "loss": DPO, "learning_rate": 0.1, "ref_params": None}


OVER = [("loss", "learning_rate"), ("params",), tuple(BATCHED)]


@pytest.mark.parametrize("over", OVER, ids="+".join)
def test_many_runs_at_once_are_the_single_runs(over):
    def arguments(number):
        chosen = {name: BATCHED[name] for name in over}
        if number is not None:
            chosen = jax.tree.map(itemgetter(number), chosen)
        batch = {"batch_size": 2, "key": KEYS[1]} if "key" in over else {}
        return {"model": BIGRAM, "optimizer": ADAM, "steps": STEPS} | SINGLE | batch | chosen

    together = train(**arguments(None), over=over)
    for number in range(3):
        # Sums in another order; four steps and Adam's division by small roots amplify that.
        assert_same(at(together, number), train(**arguments(number)), 1e-9)


def test_models_can_differ_between_runs():
    pairs = PreferencePairs.from_lists([[0]], [[0, 1]], [[2, 1]], vocab_size=3)

    def one(correlation):
        return linear.random_features(jax.random.key(0), 3, pairs, dim=3, correlation=correlation)

    models = jax.tree.map(lambda *leaves: jnp.stack(leaves), *map(one, (0.9, -0.3)))
    params = linear.init_params(jax.random.key(1), one(0.0))
    both = run(params, pairs, model=models, over=("model",), record="loss")
    for number, correlation in enumerate((0.9, -0.3)):
        assert_same(at(both, number), run(params, pairs, model=one(correlation), record="loss"), 1e-12)


def test_a_hyperparameter_left_alone_is_shared_by_all_runs():
    both = run(loss=LOSSES["simpo"](beta=jnp.array([1.0, 2.0])), over=("loss",), record="loss")
    assert_same(at(both, 1), run(loss=LOSSES["simpo"](beta=2.0), record="loss"), 1e-12)


@pytest.mark.parametrize(("runs", "block"), [(6, 2), (6, 4), (7, 3), (7, 8), (1, 1)])
def test_runs_in_blocks_are_the_same_runs(runs, block):
    """Blocks that divide the runs, a divisor below, none but 1, all at once."""
    a, shared = np.arange(runs * 2.0).reshape(runs, 2), np.array([1.0, -1.0])
    mapped = jax.jit(each_run(lambda a, shared: (a @ shared, a + shared), (0, None), block=block))(a, shared)
    np.testing.assert_array_equal(mapped[0], a @ shared)
    np.testing.assert_array_equal(mapped[1], a + shared)


SHARDED = """
import jax, jax.numpy as jnp, numpy as np, optax
from toymodel import positional_pairs
from toymodel.losses import LOSSES
from toymodel.losses.supervised import CrossEntropy
from toymodel.models import linear, transformer
from toymodel.training import train
pairs = positional_pairs(jax.random.key(0), 2, vocab_size=4, length=3, matches=1)
model = linear.positional(4, 3)
params = linear.init_params(jax.random.key(1), model)
def losses(rates, **options):
    return train(model, params, pairs, LOSSES["dpo"](), optax.adam, rates, steps=3, record="loss", **options).losses
rates = jnp.array([0.1, 0.2, 0.3, 0.4])
four = losses(rates, over=("learning_rate",))
assert len(jax.devices()) == 2 and len(four.sharding.device_set) == 2, four.sharding
assert [s.data.shape for s in four.addressable_shards] == [(2, 3)] * 2
three = losses(rates[:3], over=("learning_rate",))
assert len(three.sharding.device_set) == 1, three.sharding
np.testing.assert_allclose(four[:3], three, rtol=1e-5)
keys = jax.random.split(jax.random.key(0), 2)
minibatch = losses(0.1, over=("key",), key=keys, batch_size=1)
np.testing.assert_allclose(minibatch[1], losses(0.1, key=keys[1], batch_size=1), rtol=1e-5)
"""


def test_runs_are_shared_out_between_devices_that_divide_them():
    """In a process of its own, since a process cannot change its number of devices."""
    flags = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=2"
    environment = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", SHARDED], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# --- Chunks, progress, traces ---------------------------------------------------------------------------------------


def test_the_reference_of_the_pairs_that_are_visited_is_that_of_all():
    """Two of three pairs; a record of all pairs asks the reference of all."""
    other = start_of(9)
    few, every = (run(steps=2, batch_size=1, key=KEY, ref_params=other, record=record) for record in ("loss", "pairs"))
    assert_same((few.params, few.losses), (every.params, every.losses), 1e-13)  # a step is some hundred terms
    own = run(steps=2, batch_size=1, key=KEY, record="loss")
    assert abs(few.losses - own.losses).min() > 1e-3  # the reference matters


def test_log_probabilities_taken_in_parts_are_the_same(monkeypatch):
    """As those of many answers in a large vocabulary are: here of four answers at once, and the last two."""
    whole = run(steps=2)
    monkeypatch.setattr(step, "LOGITS", 4 * PAIRS.chosen.shape[1] * BIGRAM.vocab_size)
    jax.clear_caches()
    assert_same(run(steps=2), whole, 1e-13)
    jax.clear_caches()


def test_chunks_are_one_program_and_change_nothing(monkeypatch):
    whole = run(steps=5, batch_size=2, key=KEY)
    monkeypatch.setattr(loop, "CHUNK", 4)
    before = loop._chunk_in_place._cache_size()
    chunked = run(steps=5, batch_size=2, key=KEY)  # 3 + 2 steps, the last of which idles once
    assert loop._chunk_in_place._cache_size() == before + 1
    assert_same(chunked, whole, 1e-13)  # one loop body, compiled twice
    both = run(rate=np.array([0.1, 0.2]), steps=5, batch_size=2, key=KEY, over=("learning_rate",))
    assert_same(at(both, 0), whole, 1e-12)


def test_the_learning_rate_and_the_hyperparameters_are_data():
    run()
    before = loop._chunk_in_place._cache_size()
    run(rate=0.2, loss=LOSSES["dpo"](beta=1))
    assert loop._chunk_in_place._cache_size() == before


def test_updates_registered_with_jax_itself_are_told_apart():
    """JAX 0.10 compares the structures of those that have as many fields as equal, and may mistake one for another."""

    def scaled(factor):
        class Scaled(Plain):
            def __call__(self, batch, before):
                return descend(batch, jax.tree.map(lambda leaf: factor * leaf, batch.gradient), before)

        return jax.tree_util.register_dataclass(dataclass(frozen=True)(Scaled))()

    model, pairs = linear.unigram(3), PreferencePairs.from_lists([[]], [[0]], [[1]], vocab_size=3)
    before = loop._chunk_in_place._cache_size()
    for factor in range(1, 13):
        run = train(model, jnp.zeros((3, 1)), pairs, LOSSES["dpo"](), optax.sgd, 1.0, steps=1, update=scaled(factor))
        np.testing.assert_allclose(run.params[0], factor * 0.05, rtol=1e-12)  # d_w = β/2; one product more
    assert loop._chunk_in_place._cache_size() == before + 12


def test_progress_is_reported_and_may_stop_a_run(monkeypatch):
    monkeypatch.setattr(loop, "REPORTS", 3)
    calls = []
    reported = run(steps=10, record="loss", progress=calls.append)
    assert calls == [4, 8, 10]
    assert_same(reported, run(steps=10, record="loss"), 1e-13)

    def interrupt(done):
        calls.append(done)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(steps=10, record="loss", progress=interrupt)
    assert calls[3:] == [4]


def test_inside_a_trace_a_run_is_one_loop(monkeypatch):
    plain = run()
    losses = plain._replace(trajectory=None)
    monkeypatch.setattr(loop, "CHUNK", 3)
    calls = []
    assert_same(jax.jit(lambda rate: run(rate=rate, progress=calls.append))(0.1), plain, 1e-12)
    assert_same(jax.jit(lambda: run(record="loss"))(), losses, 1e-12)  # nothing traced goes in
    mapped = jax.vmap(lambda rate: run(rate=rate, record="loss"))(jnp.array([0.1, 0.2]))
    assert_same(at(mapped, 0), losses, 1e-12)
    assert not calls


# --- Runs that end early --------------------------------------------------------------------------------------------

IPO = LOSSES["ipo_sum"]()


def first_step_that_is_not_finite(rate):
    """By a plain loop: the number of the first step whose loss, or whose outcome, is not finite."""
    reference = pair_logps(BIGRAM, START, PAIRS)

    @jax.jit
    def step(params):
        def mean_loss(params):
            return IPO.value(*pair_logps(BIGRAM, params, PAIRS), *reference).mean()

        value, gradient = jax.value_and_grad(mean_loss)(params)
        return value, params - rate * gradient

    params = START
    for number in range(100):
        value, params = step(params)
        if not (np.isfinite(value) and np.isfinite(params).all()):
            return number
    return None


@pytest.mark.parametrize("rate", [1e40, 1e120])
def test_a_run_that_is_no_longer_finite_says_at_which_step(rate):
    wrong = first_step_that_is_not_finite(rate)
    assert 0 < wrong < 8  # so that there is something before it
    with pytest.raises(Diverged, match=f"^step {wrong}: the loss") as caught:
        run(loss=IPO, rate=rate, steps=8)
    assert isinstance(caught.value, FloatingPointError)
    assert caught.value.step == wrong
    kept = caught.value.run
    assert kept.stopped_at == wrong
    assert all(leaf.shape[0] == wrong + (i < 2) for i, leaf in enumerate(kept.trajectory))
    assert all(np.isfinite(leaf).all() for leaf in (kept.losses, *kept.trajectory, kept.params))


def test_parameters_that_overflow_are_not_kept():
    """The first loss is finite, and the step it leads to is not."""
    with pytest.raises(Diverged, match=r"^step 0: ") as caught:
        run(loss=IPO, rate=1e308, steps=8)
    kept = caught.value.run
    np.testing.assert_array_equal(kept.params, START)
    assert kept.losses.shape == (0,)
    assert_same(at(kept.trajectory[:2], 0), pair_logps(BIGRAM, START, PAIRS), 1e-13)


def test_one_run_that_diverges_does_not_stop_the_others():
    rates = np.array([1e-3, 1e120, 1e-2])
    together = run(loss=IPO, rate=rates, steps=8, over=("learning_rate",))
    wrong = first_step_that_is_not_finite(1e120)
    assert together.stopped_at.tolist() == [8, wrong, 8]
    for number in (0, 2):
        assert_same(at(together, number), run(loss=IPO, rate=rates[number], steps=8), 1e-11)
    with pytest.raises(Diverged) as caught:
        run(loss=IPO, rate=1e120, steps=8)
    stopped = at(together, 1)
    assert_same(stopped.params, caught.value.run.params, 1e-12)  # those before the step
    rows = stopped.trajectory
    assert np.isfinite(rows.chosen_logps[wrong]).all()  # a state that was reached
    assert np.isnan(rows.chosen_logps[wrong + 1 :]).all()
    steps = stopped.losses, *rows[2:], rows.chosen_change, rows.rejected_change, rows.cosine
    assert all(np.isnan(column[wrong:]).all() for column in steps)
    assert (rows.case[wrong:] == "").all()
    assert np.isin(rows.case[:wrong], theory.CASES).all()


def test_inside_a_trace_nothing_is_raised():
    stopped = jax.jit(lambda rate: run(loss=IPO, rate=rate, steps=8))(1e120)
    assert stopped.stopped_at == first_step_that_is_not_finite(1e120)
    assert np.isnan(stopped.losses[-1])


# --- What is derived from the record --------------------------------------------------------------------------------


def test_margin_cosine_and_case_are_those_of_the_record():
    t = run().trajectory
    np.testing.assert_array_equal(t.margin, t.chosen_logps - t.rejected_logps)
    np.testing.assert_allclose(t.cosine, theory.cosine(t.gram), rtol=1e-15)
    np.testing.assert_array_equal(t.case, theory.case(t.gram, t.d_chosen, t.d_rejected))
    np.testing.assert_array_equal(t.chosen_change, t.chosen_logps[1:] - t.chosen_logps[:-1])


def test_responses_of_different_width_are_padded():
    narrow = replace(PAIRS, chosen=PAIRS.chosen[:, :3], chosen_mask=PAIRS.chosen_mask[:, :3])
    assert_same(run(pairs=narrow), run(), 1e-13)


def test_float32_stays_float32():
    result = run(START.astype(jnp.float32), loss=LOSSES["dpo"](beta=jnp.float64(0.5)), rate=jnp.float64(0.1))
    floating = [leaf for leaf in jax.tree.leaves(result) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    assert {leaf.dtype for leaf in floating} == {jnp.dtype("float32")}
    # Four steps of sums of a hundred terms of size one: a hundred times float32's unit round-off of 6e-8.
    np.testing.assert_allclose(result.losses, run().losses, rtol=1e-5)


def precisions(jaxpr, in_loop=False):
    """Types of the floating-point arrays (not of single numbers) that are computed inside a loop."""
    for equation in jaxpr.eqns:
        for result in equation.outvars if in_loop else ():
            if jnp.issubdtype(result.aval.dtype, jnp.floating) and result.aval.shape:
                yield str(result.aval.dtype)
        for inner in jaxprs_in_params(equation.params):
            yield from precisions(inner, in_loop or equation.primitive.name == "scan")


@pytest.mark.parametrize(
    ("loss", "update", "record"),
    [
        (CrossEntropy(0.05), None, "loss"),
        (LOSSES["dpo"](beta=0.1), None, "pairs"),
        (LOSSES["dpo"](beta=0.1), NormalisedPairs(), "loss"),
        (LOSSES["dpo"](beta=0.1), NormalisedSides(), "loss"),
        (LOSSES["dpo"](beta=0.1), Calibrated(0.9), "loss"),
        (WithLikelihood(LOSSES["dpo"](beta=0.1), 0.5), LearnedMask(0.01), "loss"),
    ],
    ids=["fine-tuning", "dpo", "pairs", "sides", "calibrated", "masks"],
)
def test_a_step_in_float32_is_in_float32_throughout(loss, update, record):
    """Python floats as hyperparameters, and float64 allowed: Adam's bias correction makes numbers of it, no arrays."""
    model = transformer.Transformer(5, 6, 1, 4, 2)
    start = jax.eval_shape(lambda: transformer.init_params(KEY, model))
    start = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, jnp.float32), start)
    options = {"batch_size": 2, "key": KEY, "checkpoint_every": 2, "steps": 3, "record": record, "update": update}
    jaxpr = jax.make_jaxpr(lambda params: train(model, params, PAIRS, loss, optax.adam, 1e-3, **options))(start)
    assert set(precisions(jaxpr.jaxpr)) == {"float32"}


# --- Bad input ------------------------------------------------------------------------------------------------------

BAD = {
    "no steps": (lambda: run(steps=0), "`steps` must be a whole number at least 1, got 0"),
    "half a step": (lambda: run(steps=1.5), "`steps` must be a whole number"),
    "empty batch": (lambda: run(batch_size=0, key=KEY), "`batch_size` must be a whole number between 1 and 3"),
    "batch too large": (lambda: run(batch_size=4, key=KEY), "`batch_size` must be .*, got 4"),
    "batch without a key": (lambda: run(batch_size=2), "`key` and `batch_size` go together, got only `batch_size`"),
    "key without a batch": (lambda: run(key=KEY), "`key` and `batch_size` go together, got only `key`"),
    "unknown name in over": (lambda: run(over=("beta",)), "`over` must hold names among model, .*, got 'beta'"),
    "nothing to go over": (lambda: run(over=("model",), model=MODEL), "`model` must hold arrays when `over` names it"),
    "no reference to go over": (lambda: run(over=("ref_params",)), "`ref_params` must hold arrays .* got None"),
    "rate without an axis": (lambda: run(over=("learning_rate",)), r"`learning_rate` must have a leading axis .* \(\)"),
    "loss without an axis": (lambda: run(over=("loss",)), "`loss` must hold arrays when `over` names it"),
    "axes disagree": (
        lambda: run(rate=jnp.ones(2), loss=LOSSES["dpo"](beta=jnp.ones(3)), over=("learning_rate", "loss")),
        r"`loss` must have a leading axis of 2 runs, got shape \(3,\)",
    ),
    "rates not in over": (lambda: run(rate=jnp.ones(2)), r"`learning_rate` must hold one number .* shape \(2,\)"),
    "hyperparameters not in over": (
        lambda: run(loss=LOSSES["dpo"](beta=jnp.ones(3))),
        r"`loss` must hold one number .* got shape \(3,\)",
    ),
    "two axes of rates": (
        lambda: run(rate=jnp.ones((2, 2)), over=("learning_rate",)),
        r"`learning_rate` must hold one number for each of 2 runs, got shape \(2, 2\)",
    ),
    "pairs without a batch": (lambda: run(over=("pairs",)), r"`pairs` must hold a batch for each run"),
    "rate zero": (lambda: run(rate=0.0), "`learning_rate` must be > 0, got 0.0"),
    "rate negative": (lambda: run(rate=jnp.array([0.1, -1.0]), over=("learning_rate",)), "`learning_rate` must be > 0"),
    "rate infinite": (lambda: run(rate=np.inf), "`learning_rate` must be finite, got inf"),
    "unknown record": (lambda: run(record="all"), '`record` must be "pairs" or "loss"'),
    "parameters NaN": (lambda: run(START * jnp.nan), "`params` must be finite"),
    "reference infinite": (lambda: run(ref_params=START / 0), "`ref_params` must be finite"),
    "one name in over": (lambda: run(over="params"), r"`over` must be a sequence of names, got 'params'"),
    "optimiser already made": (
        lambda: run(optimizer=optax.sgd(0.1)),
        "`optimizer` must make an optimiser from a learn",
    ),
    "loss by its name": (lambda: run(loss="dpo"), "`loss` must be a loss with its hyperparameters, .*, got 'dpo'"),
    "loss without hyperparameters": (lambda: run(loss=LOSSES["dpo"]), "`loss` must be a loss with its hyperparameters"),
    "loss without weights": (lambda: run(loss=SimpleNamespace(value=abs)), "`loss` must be a loss with its hyperparam"),
    "loss without a value": (lambda: run(loss=SimpleNamespace(weights=abs)), "`loss` must be a loss with its hyperpar"),
    "one pair": (lambda: run(pairs=PAIRS[0]), "`pairs` must be a batch"),
}


@pytest.mark.parametrize(("call", "message"), BAD.values(), ids=BAD)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_runs_over_pairs_without_prompts():
    pairs = PreferencePairs.from_lists([[]], [[0, 1]], [[1, 1]], vocab_size=3)
    twice = jax.tree.map(lambda a: np.stack([a, a]), pairs)
    arguments = (LOSSES["dpo"](), optax.sgd, 0.1)
    run = train(linear.positional(3, 2), jnp.zeros((3, 2)), twice, *arguments, steps=2, over=("pairs",))
    alone = train(linear.positional(3, 2), jnp.zeros((3, 2)), pairs, *arguments, steps=2)
    np.testing.assert_allclose(run.losses, [alone.losses] * 2, rtol=1e-14)  # the same operations, vectorised


@cache
def correlated_worlds():
    """32 models with a start and a pair for each, stacked."""

    def build(key, pair):
        pairs = jax.tree.map(lambda leaf: leaf[None], pair)
        model = linear.random_features(key, 7, pairs, dim=4, correlation=0.95)
        return model, linear.init_params(key, model, temperature=0.5), pairs

    pairs = contrast_pairs(jax.random.key(0), 32, vocab_size=7, length=14)
    return as_numpy(jax.jit(jax.vmap(build))(jax.random.split(jax.random.key(1), 32), pairs))


@pytest.mark.parametrize("level", [0, 1, 3])
def test_a_run_from_the_reference_starts_at_log_ratios_of_exactly_zero(level):
    """However the loop is compiled: DPOP has a kink there, and beyond it d_w is 51 times as large."""

    def first_step(model, params, pairs):
        run = train(model, params, pairs, LOSSES["dpop"](), optax.sgd, 0.5, steps=2)
        return run.trajectory.d_chosen[0], run.trajectory.d_rejected[0], run.trajectory.chosen_predicted[0]

    compiled = jax.jit(jax.vmap(first_step), compiler_options={"xla_backend_optimization_level": level})
    worlds = correlated_worlds()
    d_chosen, d_rejected, predicted = as_numpy(compiled(*worlds))
    np.testing.assert_array_equal(d_chosen, d_rejected)
    # The update took the same side: its size is that of d_w = d_l = β/2, not of 51 times that.
    for i in range(4):
        slope, _ = gradients.slopes(*jax.tree.map(itemgetter(i), worlds))
        # Sums of 14 tokens × 7 logits × 4 features, added in another order.
        np.testing.assert_allclose(predicted[i], 0.5 * d_chosen[i] * slope, rtol=1e-10, atol=1e-12)


# --- Checkpoints ----------------------------------------------------------------------------------------------------


def test_checkpoints_are_the_parameters_of_shorter_runs(monkeypatch):
    """Steps 4, 8 and 12 of 15, in chunks of 5, whose borders they do not meet."""
    monkeypatch.setattr(loop, "CHUNK", 7)
    long = run(steps=15, record="loss", checkpoint_every=4)
    assert long.checkpoints.shape == (4, *START.shape)
    np.testing.assert_array_equal(long.checkpoints[0], START)
    for number in (1, 2, 3):
        # One loop body, compiled for loops of other lengths.
        assert_same(long.checkpoints[number], run(steps=4 * number, record="loss").params, 1e-13)
    assert_same(long._replace(checkpoints=None), run(steps=15, record="loss"), 1e-13)  # and nothing else changes


def test_checkpoints_belong_to_the_states_they_name(monkeypatch):
    """A tree of parameters, Adam in minibatches, chunks of 4 that idle once: as recorded, and as the last state is."""
    monkeypatch.setattr(loop, "CHUNK", 5)
    start = mlp_world(PAIRS).params
    options = {"model": MODEL, "optimizer": ADAM, "batch_size": 2, "key": KEY, "steps": 7}
    every = as_numpy(run(start, **options, checkpoint_every=1))
    assert jax.tree.map(jnp.shape, every.checkpoints) == jax.tree.map(lambda leaf: (8, *leaf.shape), start)
    logps = jax.jit(jax.vmap(lambda params: jnp.stack(pair_logps(MODEL, params, PAIRS))))(every.checkpoints)
    recorded = np.stack(every.trajectory[:2], axis=1)
    assert_same(logps, recorded, 1e-13)  # sums of a hundred terms of size one, in another order
    assert (abs(np.diff(recorded, axis=0)).max(axis=(1, 2)) > 1e-6).all()  # by which the states can be told apart
    for k, rows in ((7, 2), (3, 3), (8, 1)):
        some = run(start, **options, checkpoint_every=k, record="loss")
        jax.tree.map(np.testing.assert_array_equal, at(some.checkpoints, 0), start)
        assert_same(some.checkpoints, at(every.checkpoints, slice(None, None, k)), 1e-9)  # Adam, as above
        assert {len(leaf) for leaf in jax.tree.leaves(some.checkpoints)} == {rows}
        if k == 7:
            assert_same(at(some.checkpoints, -1), some.params, 1e-15)  # the compiler may compute a state twice


def test_checkpoints_of_runs_of_which_one_diverges(monkeypatch):
    monkeypatch.setattr(loop, "CHUNK", 3)
    rates = np.array([1e-3, 1e120, 1e-2])
    options = {"loss": IPO, "steps": 8, "record": "loss", "checkpoint_every": 1}
    together = run(rate=rates, over=("learning_rate",), **options)
    assert together.checkpoints.shape == (3, 9, *START.shape)
    for number in (0, 2):
        assert_same(together.checkpoints[number], run(rate=rates[number], **options).checkpoints, 1e-11)
    wrong = int(together.stopped_at[1])
    assert 0 < wrong < 8
    stopped = together.checkpoints[1]
    assert np.isfinite(stopped[: wrong + 1]).all()
    assert np.isnan(stopped[wrong + 1 :]).all()
    np.testing.assert_array_equal(together.checkpoints[:, 0], [START] * 3)
    np.testing.assert_array_equal(stopped[wrong], together.params[1])
    np.testing.assert_array_equal(together.checkpoints[::2, -1], together.params[::2])
    with pytest.raises(Diverged) as caught:
        run(rate=1e120, **options)
    assert_same(stopped, caught.value.run.checkpoints, 1e-12)


def test_checkpoints_inside_a_trace_are_those_outside():
    options = {"record": "loss", "checkpoint_every": 2}
    plain = run(**options)
    assert_same(jax.jit(lambda rate: run(rate=rate, **options))(0.1), plain, 1e-12)
    mapped = jax.vmap(lambda rate: run(rate=rate, **options))(jnp.array([0.1, 0.2]))
    assert_same(at(mapped, 0), plain, 1e-12)
    stopped = jax.jit(lambda rate: run(loss=IPO, rate=rate, steps=8, **options))(1e120)
    reached = np.isfinite(stopped.checkpoints).all(axis=(1, 2))
    assert reached.tolist() == [2 * row <= stopped.stopped_at for row in range(5)]


def test_checkpoints_are_kept_when_asked_for_and_in_the_precision_of_the_parameters():
    assert run(record="loss").checkpoints is None
    single = run(START.astype(jnp.float32), record="loss", checkpoint_every=np.int64(2))
    assert single.checkpoints.dtype == single.params.dtype == jnp.float32


@pytest.mark.parametrize("every", [0, -1, 1.5, 2.0, True, "2"])
def test_checkpoints_come_every_so_many_whole_steps(every):
    with pytest.raises(ValueError, match="`checkpoint_every` must be a whole number at least 1, got"):
        run(checkpoint_every=every)
