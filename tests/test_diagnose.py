"""`diagnose` says of a user's gradients what `theory` says of ours."""

import sys
import tracemalloc

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import assert_close, single
from strategies import worlds

from toymodel import PairGram, cosine, diagnose, gradients, positional_pairs, theory
from toymodel.diagnosis.likelihood import find_windows
from toymodel.diagnosis.readers import load
from toymodel.models import linear


def gradients_of(n, P, seed):
    return np.random.default_rng(seed).standard_normal((2, n, P))


hundredths = st.integers(-200, 200).map(lambda k: k / 100)  # any sign, zero too, but no subnormals: XLA flushes them


@given(worlds(), hundredths, hundredths)
def test_says_what_theory_says(w, d_chosen, d_rejected):
    chosen, rejected = gradients.pair_gradients(w.model, w.params, w.pairs)
    ((row,), *_) = diagnose(chosen_grad=chosen, rejected_grad=rejected, d_chosen=d_chosen, d_rejected=d_rejected)
    gram = PairGram(np.array(row["chosen_sq"]), np.array(row["rejected_sq"]), np.array(row["inner"]))
    assert_close([row[name] for name in gram._fields], single(gradients.pair_gram(*w[1:])), max(gram), 1e-12)
    assert [row["chosen_slope"], row["rejected_slope"]] == [float(s) for s in theory.slopes(gram, d_chosen, d_rejected)]
    assert row["case"] == theory.case(gram, d_chosen, d_rejected)
    if row["inner"] > 0:
        assert row["band"] == [float(end) for end in theory.band(gram)]
    if row["cosine"] is not None:
        assert_close(row["cosine"], cosine(gram), 1, 1e-15)  # clipped to [-1, 1]


@given(st.integers(0, 2**32 - 1))
def test_gram_entries_give_the_same_verdicts_as_gradients(seed):
    chosen, rejected = gradients_of(5, 7, seed)
    entries = {
        "chosen_sq": (chosen**2).sum(axis=1),
        "rejected_sq": (rejected**2).sum(axis=1),
        "inner": (chosen * rejected).sum(axis=1),
    }
    from_gradients = diagnose(chosen_grad=chosen, rejected_grad=rejected)
    from_entries = diagnose(**entries)
    assert from_gradients.pairs == from_entries.pairs
    assert from_entries.summary["sum"] is None
    assert sum(from_gradients.summary["cases"].values()) == 5


@given(st.integers(0, 2**32 - 1))
def test_the_sum_is_one_joint_step(seed):
    chosen, rejected = gradients_of(4, 6, seed)
    d_w, d_l = np.random.default_rng(seed).uniform(-1, 2, (2, 4))
    total = diagnose(chosen_grad=chosen, rejected_grad=rejected, d_chosen=d_w, d_rejected=d_l).summary["sum"]
    step = sum(d_w[i] * chosen[i] - d_l[i] * rejected[i] for i in range(4))
    slopes = [sum(chosen[i] @ step for i in range(4)), sum(rejected[i] @ step for i in range(4))]
    assert_close([total["chosen_slope"], total["rejected_slope"]], slopes, 1e3, 1e-14)  # 4·4·6 products of size < 10
    assert total["case"] == theory.CASES[int(theory.case_of_slopes(*slopes))]


def test_a_single_pair_sums_to_itself():
    chosen, rejected = gradients_of(1, 6, 0)
    diagnosis = diagnose(chosen_grad=chosen, rejected_grad=rejected)
    total, pair = diagnosis.summary["sum"], diagnosis.pairs[0]
    assert total["case"] == pair["case"]
    for name in set(total) - {"case"}:
        assert_close(total[name], pair[name], pair["chosen_sq"] + pair["rejected_sq"], 1e-15)


def test_zero_gradients_have_no_cosine_and_say_so():
    diagnosis = diagnose(chosen_grad=np.zeros((1, 3)), rejected_grad=np.ones((1, 3)))
    assert diagnosis.pairs[0]["cosine"] is None
    assert diagnosis.pairs[0]["band"] is None
    assert diagnosis.pairs[0]["case"] == "stationary"
    assert diagnosis.summary["undefined_cosines"] == 1
    assert diagnosis.summary["mean_cosine"] is None


def test_negative_weights_reach_the_fourth_case():
    entries = {"chosen_sq": np.ones(1), "rejected_sq": np.ones(1), "inner": np.full(1, 0.5)}
    assert diagnose(**entries).pairs[0]["case"] == "chosen_up_rejected_down"
    assert diagnose(**entries, d_chosen=-1.0, d_rejected=-1.0).pairs[0]["case"] == "chosen_down_rejected_up"


def test_float64_whatever_the_callers_setting():
    tiny = {"chosen_sq": np.full(1, 1e-60), "rejected_sq": np.full(1, 1e-60), "inner": np.full(1, 5e-61)}
    with jax.enable_x64(False):
        row = diagnose(**tiny).pairs[0]
    assert row["case"] == "chosen_up_rejected_down"
    assert_close(row["cosine"], 0.5, 1, 1e-15)


def test_works_on_exported_gradients(tmp_path):
    """The way a user's gradients arrive: through a file."""
    safetensors = pytest.importorskip("safetensors.numpy")
    pairs = positional_pairs(jax.random.key(0), 6, vocab_size=5, length=4, matches=2)
    model = linear.positional(5, 4)
    chosen, rejected = gradients.pair_gradients(model, linear.init_params(jax.random.key(1), model), pairs)
    arrays = {"chosen_grad": np.asarray(chosen), "rejected_grad": np.asarray(rejected), "d_chosen": np.arange(6.0)}
    np.savez(tmp_path / "gradients.npz", **arrays)
    safetensors.save_file(arrays, tmp_path / "gradients.safetensors")
    for name in ("gradients.npz", "gradients.safetensors"):
        assert diagnose(**load(tmp_path / name)) == diagnose(**arrays), name


def by_layer(n, seed):
    """Both gradients as dictionaries of three layers, and as one array each."""
    shapes = {"wte": (5, 3), "h.0/weight": (2, 3, 4), "bias": (1,)}
    rng = np.random.default_rng(seed)
    layers = [{name: rng.standard_normal((n, *shape)) for name, shape in shapes.items()} for _ in range(2)]
    return layers, [np.concatenate([part.reshape(n, -1) for part in side.values()], axis=1) for side in layers]


@given(st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_layers_add_up_to_the_whole(n, seed):
    (chosen, rejected), (whole_w, whole_l) = by_layer(n, seed)
    d_w, d_l = np.random.default_rng(seed).uniform(-1, 2, (2, n))
    weights = {"d_chosen": d_w, "d_rejected": d_l}
    layered = diagnose(chosen_grad=chosen, rejected_grad=rejected, **weights)
    whole = diagnose(chosen_grad=whole_w, rejected_grad=whole_l, **weights)
    numbers = ("chosen_sq", "rejected_sq", "inner", "chosen_slope", "rejected_slope")
    size = 40 * 5**2 * 2 * n**2  # 40 parameters below 5, weights below 2, and products between n pairs in the sum
    for ours, theirs in zip(
        (*layered.pairs, layered.summary["sum"]), (*whole.pairs, whole.summary["sum"]), strict=True
    ):
        assert_close([ours[name] for name in numbers], [theirs[name] for name in numbers], size, 1e-15)
    for name in numbers:
        mean = np.mean([row[name] for row in whole.pairs])
        assert_close(sum(row[name] for row in layered.summary["layers"].values()), mean, size, 1e-15)
    alone = diagnose(chosen_grad=chosen["wte"].reshape(n, -1), rejected_grad=rejected["wte"].reshape(n, -1), **weights)
    wte = layered.summary["layers"]["wte"]
    for name in numbers:
        assert_close(wte[name], np.mean([row[name] for row in alone.pairs]), size, 1e-15)
    assert "layers" not in whole.summary
    assert wte["case"] == theory.CASES[int(theory.case_of_slopes(wte["chosen_slope"], wte["rejected_slope"]))]


@pytest.mark.parametrize("kind", ["npz", "safetensors"])
def test_layers_from_a_file(tmp_path, kind):
    (chosen, rejected), _ = by_layer(3, seed=0)
    arrays = {f"chosen_grad/{name}": part for name, part in chosen.items()}
    arrays |= {f"rejected_grad/{name}": part for name, part in rejected.items()}
    if kind == "npz":
        np.savez(tmp_path / "layers.npz", **arrays)
    else:
        pytest.importorskip("safetensors.numpy").save_file(arrays, tmp_path / "layers.safetensors")
    found, expected = (
        diagnose(**load(tmp_path / f"layers.{kind}")),
        diagnose(chosen_grad=chosen, rejected_grad=rejected),
    )
    assert found.summary["layers"] == expected.summary["layers"]  # the file may have another order of its own
    for ours, theirs in zip(found.pairs, expected.pairs, strict=True):
        assert_close(ours["inner"], theirs["inner"], 40 * 5**2, 1e-15)


@given(st.integers(1, 30), st.integers(0, 2**32 - 1))
def test_slices_of_any_size_give_the_same(at_once, seed):
    (chosen, rejected), _ = by_layer(3, seed)
    whole = diagnose(chosen_grad=chosen, rejected_grad=rejected)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules["toymodel.diagnosis.gradients"], "AT_ONCE", at_once)
        sliced = diagnose(chosen_grad=chosen, rejected_grad=rejected)
    for ours, theirs in zip((*sliced.pairs, sliced.summary["sum"]), (*whole.pairs, whole.summary["sum"]), strict=True):
        for name in ("chosen_sq", "rejected_sq", "inner", "chosen_slope", "rejected_slope"):
            assert_close(ours[name], theirs[name], 40 * 5**2 * 2 * 9, 1e-15)


def test_large_gradients_stay_in_their_file(tmp_path, monkeypatch):
    """16 MB of them here: memory holds a slice at a time."""
    safetensors = pytest.importorskip("safetensors.numpy")
    monkeypatch.setattr(sys.modules["toymodel.diagnosis.gradients"], "AT_ONCE", 2**17)
    path, gradient = tmp_path / "large.safetensors", np.ones((20, 10**5), np.float32)
    safetensors.save_file({"chosen_grad": gradient, "rejected_grad": gradient}, path)
    del gradient
    tracemalloc.start()
    diagnosis = diagnose(**load(path))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert diagnosis.pairs[7]["inner"] == 10**5
    assert diagnosis.summary["sum"]["chosen_sq"] == 20**2 * 10**5
    # A slice of either side in float64, of 1 MiB, as it was read, and its products: six of them at most.
    assert peak < 6 * 2**20


def test_a_number_that_is_not_finite_is_named_where_it_is(monkeypatch):
    monkeypatch.setattr(sys.modules["toymodel.diagnosis.gradients"], "AT_ONCE", 4)
    chosen = np.ones((2, 9))
    chosen[1, 7] = np.inf
    with pytest.raises(ValueError, match=r"`chosen_grad\[:, 6:\]` must be finite, got inf at index \(1, 1\)"):
        diagnose(chosen_grad=chosen, rejected_grad=chosen)


def test_bfloat16_is_read_as_it_is(tmp_path):
    safetensors = pytest.importorskip("safetensors.numpy")
    gradient = np.asarray(jnp.arange(6, dtype=jnp.bfloat16).reshape(2, 3))
    safetensors.save_file({"chosen_grad": gradient, "rejected_grad": gradient}, tmp_path / "half.safetensors")
    assert [row["inner"] for row in diagnose(**load(tmp_path / "half.safetensors")).pairs] == [5, 50]


def test_log_probabilities_come_along():
    entries = {"chosen_sq": np.ones(2), "rejected_sq": np.ones(2), "inner": np.zeros(2)}
    rows = diagnose(**entries, chosen_logps=np.array([-1, -2]), rejected_logps=np.array([-3, -4.5])).pairs
    assert [(row["chosen_logps"], row["rejected_logps"]) for row in rows] == [(-1, -3), (-2, -4.5)]
    assert "chosen_logps" not in diagnose(**entries).pairs[0]


# --- all pairs in one step ------------------------------------------------------------------------------------------


def matrix_of(chosen, rejected):
    both = np.concatenate([chosen, rejected])
    return both @ both.T


@given(st.integers(1, 5), st.integers(1, 12), st.integers(0, 2**32 - 1))
def test_the_batch_is_told_from_gradients_and_from_their_gram_matrix_alike(n, P, seed):
    chosen, rejected = gradients_of(n, P, seed)
    d_w, d_l = np.random.default_rng(seed).uniform(-1, 2, (2, n))
    weights = {"d_chosen": d_w, "d_rejected": d_l}
    whole = diagnose(chosen_grad=chosen, rejected_grad=rejected, **weights)
    alone = diagnose(gram=matrix_of(chosen, rejected), **weights)
    step = (d_w @ chosen - d_l @ rejected) / n
    size = 2 * 12 * 5**2 * 4  # 2N gradients of P numbers below 5, and weights below 2; their mean
    for batch in (whole.batch, alone.batch):
        assert_close([pair["chosen_slope"] for pair in batch["pairs"]], chosen @ step, size, 1e-14)
        assert_close([pair["rejected_slope"] for pair in batch["pairs"]], rejected @ step, size, 1e-14)
        for pair in batch["pairs"]:
            assert (
                pair["case"] == theory.CASES[int(theory.case_of_slopes(pair["chosen_slope"], pair["rejected_slope"]))]
            )
        assert sum(batch["cases"].values()) == n
        exists, least, w = theory.find_common_step(matrix_of(chosen, rejected))
        assert batch["common_step"]["exists"] == exists
        assert_close(batch["common_step"]["least_slope"], least, 12 * 5**2, 1e-14)
        assert_close(batch["common_step"]["weights"], w, 1, 1e-6)  # two Gram matrices that differ by round-off
    for ours, theirs in zip((*whole.pairs, whole.summary["sum"]), (*alone.pairs, alone.summary["sum"]), strict=True):
        numbers = ("chosen_sq", "rejected_sq", "inner", "chosen_slope", "rejected_slope")
        assert_close([ours[name] for name in numbers], [theirs[name] for name in numbers], size * n**2, 1e-14)


@given(st.integers(2, 6), st.integers(0, 2**32 - 1))
def test_the_most_harmful_answers_are_those_without_which_the_slope_recovers_most(n, seed):
    """Left out of the mean step one by one: without the worst, the chosen rises most, or the rejected falls most."""
    chosen, rejected = gradients_of(n, 3, seed)
    batch = diagnose(chosen_grad=chosen, rejected_grad=rejected).batch
    both = np.concatenate([chosen, -rejected])
    for i, pair in enumerate(batch["pairs"]):
        side, wrong = (rejected, -1) if pair["case"] == "both_up" else (chosen, 1)
        with_all = side[i] @ both.sum(axis=0) / n
        without = np.array([side[i] @ np.delete(both, place, axis=0).sum(axis=0) / n for place in range(2 * n)])
        harm = wrong * (without - with_all)  # > 0: better without
        harm[[i, n + i]] = -np.inf
        best = [place for place in np.argsort(-harm) if harm[place] > 1e-12][:3]
        assert [(j, name) for j, name, _ in pair["worst"]] == [(p % n, ("chosen", "rejected")[p // n]) for p in best]
        assert_close([slope for *_, slope in pair["worst"]], -wrong * harm[best], 1, 1e-12)


def reversed_pair():
    """T20's example: the second pair, three times as long, turns the first one round."""
    return np.array([[1.0, 0], [-3, 0]]), np.array([[0.0, 1], [0, -3]])


def test_a_pair_that_others_reverse_is_named_with_them():
    chosen, rejected = reversed_pair()
    found = diagnose(chosen_grad=chosen, rejected_grad=rejected)
    assert [pair["case"] for pair in found.pairs] == ["chosen_up_rejected_down"] * 2
    first, second = found.batch["pairs"]
    assert first == {
        "case": "chosen_down_rejected_up",
        "chosen_slope": -1.0,
        "rejected_slope": 1.0,
        "worst": [[1, "chosen", -1.5]],
    }
    assert (second["case"], second["chosen_slope"], second["rejected_slope"]) == ("chosen_up_rejected_down", 3, -3)
    assert found.batch["cases"]["chosen_down_rejected_up"] == 1
    common = found.batch["common_step"]  # g_w^1 and g_w^2 are opposite
    assert not common["exists"]
    assert_close(np.concatenate([chosen, -rejected]).T @ common["weights"], 0, 3, 1e-7)  # the root of round-off
    assert_close(sum(common["weights"]), 1, 1, 1e-14)


def test_a_single_pair_is_its_own_batch():
    chosen, rejected = gradients_of(1, 6, 0)
    ((pair,), _, batch) = diagnose(chosen_grad=chosen, rejected_grad=rejected)
    assert batch["pairs"][0]["worst"] == []
    assert batch["pairs"][0]["case"] == pair["case"]


def test_products_across_pairs_may_be_unknown_or_too_many(monkeypatch):
    entries = {"chosen_sq": np.ones(2), "rejected_sq": np.ones(2), "inner": np.zeros(2)}
    assert diagnose(**entries).batch is None
    chosen, rejected = gradients_of(3, 4, 0)
    monkeypatch.setattr(sys.modules["toymodel.diagnosis.gradients"], "BATCH", 2)
    whole = diagnose(chosen_grad=chosen, rejected_grad=rejected)
    assert whole.batch is None
    assert whole.summary["sum"] is not None
    assert diagnose(gram=matrix_of(chosen, rejected)).batch is not None  # these products are there


def test_gradients_too_short_for_their_squares_are_no_error():
    chosen, rejected = 1e-161 * gradients_of(5, 3, 0)
    assert len(diagnose(chosen_grad=chosen, rejected_grad=rejected).batch["pairs"]) == 5


BAD_GRAMS = {
    "of an odd number": (np.eye(3), r"`gram` must have shape \[2N, 2N\] for N >= 1 pairs, chosen first, got shape"),
    "of no pairs": (np.zeros((0, 0)), r"`gram` must have shape \[2N, 2N\]"),
    "a vector": (np.ones(4), r"`gram` must have shape \[2N, 2N\]"),
    "not symmetric": (np.array([[1.0, 0.5], [0, 1]]), "`gram` must be symmetric"),
    "of no gradients": (np.array([[1.0, 2], [2, 1]]), "`gram` must be positive semidefinite"),
    "not finite": (np.full((2, 2), np.inf), "`gram` must be finite, got inf"),
    "of words": (np.array([["a", "b"], ["b", "a"]]), "`gram` must hold real numbers"),
}


@pytest.mark.parametrize(("gram", "message"), BAD_GRAMS.values(), ids=BAD_GRAMS)
def test_bad_gram_matrices(gram, message):
    with pytest.raises(ValueError, match=message):
        diagnose(gram=gram)


def test_a_gram_matrix_and_gradients_are_one_too_many():
    with pytest.raises(ValueError, match="got several of them"):
        diagnose(gram=np.eye(2), chosen_grad=np.ones((1, 2)), rejected_grad=np.ones((1, 2)))


BAD_LAYERS = {
    "one side by layer": ({"a": np.ones((1, 2))}, np.ones((1, 2)), "must have the same layers, got a and none"),
    "other layers": ({"a": np.ones((1, 2))}, {"b": np.ones((1, 2))}, "must have the same layers, got a and b"),
    "no layers": ({}, {}, "must have the same layers, got none and none"),
    "numbers of pairs": (
        {"a": np.ones((1, 2)), "b": np.ones((2, 2))},
        {"a": np.ones((1, 2)), "b": np.ones((2, 2))},
        r"`chosen_grad/b`, `rejected_grad/b` must share one shape \[N, …\] with N = 1",
    ),
    "no parameters": ({"a": np.ones((2, 0))}, {"a": np.ones((2, 0))}, "not be empty"),
}


@pytest.mark.parametrize(("chosen", "rejected", "message"), BAD_LAYERS.values(), ids=BAD_LAYERS)
def test_bad_layers(chosen, rejected, message):
    with pytest.raises(ValueError, match=message):
        diagnose(chosen_grad=chosen, rejected_grad=rejected)


def test_a_side_that_the_term_does_not_move_leaves_the_window_to_the_other():
    """Chosen: 0.5 + 0 λ > 0 for every λ, and −0.5 + 0 λ for none. Rejected: 1 − 2 λ < 0 beyond a half."""
    slopes, along = np.array([[0.5, -0.5], [1.0, 1.0]]), np.array([[0.0, 0.0], [-2.0, -2.0]])
    np.testing.assert_array_equal(find_windows(slopes, along), [[0.5, np.inf], [np.nan, np.nan]])
