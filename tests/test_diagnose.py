"""`diagnose` says of a user's gradients what `theory` says of ours."""

import jax
import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from oracles import assert_close
from strategies import worlds

from toymodel import PairGram, cosine, diagnose, gradients, positional_pairs, theory
from toymodel.models import linear


def gradients_of(n, P, seed):
    return np.random.default_rng(seed).standard_normal((2, n, P))


hundredths = st.integers(-200, 200).map(lambda k: k / 100)  # any sign, zero too, but no subnormals: XLA flushes them


@given(worlds(), hundredths, hundredths)
def test_says_what_theory_says(w, d_chosen, d_rejected):
    chosen, rejected = gradients.pair_gradients(w.model, w.params, w.pairs)
    ((row,), _) = diagnose(chosen_grad=chosen, rejected_grad=rejected, d_chosen=d_chosen, d_rejected=d_rejected)
    gram = PairGram(np.array(row["chosen_sq"]), np.array(row["rejected_sq"]), np.array(row["inner"]))
    assert_close(
        [row[name] for name in gram._fields], [leaf[0] for leaf in gradients.pair_gram(*w[1:])], max(gram), 1e-12
    )
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
    """The way a user's gradients arrive: through an .npz file."""
    from toymodel.diagnose import load

    pairs = positional_pairs(jax.random.key(0), 6, vocab_size=5, length=4, matches=2)
    model = linear.positional(5, 4)
    chosen, rejected = gradients.pair_gradients(model, linear.init_params(jax.random.key(1), model), pairs)
    np.savez(tmp_path / "gradients.npz", chosen_grad=chosen, rejected_grad=rejected)
    assert diagnose(**load(tmp_path / "gradients.npz")) == diagnose(chosen_grad=chosen, rejected_grad=rejected)
