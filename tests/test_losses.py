"""Every loss: two routes to its weights, the ratio it claims, its signs and kinks, and what it does to pairs."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from oracles import assert_close, single, slope_sizes
from strategies import worlds

from toymodel import gradients, theory
from toymodel.losses import ALIASES, LOSSES, Fraction, Jet, Margin, Side, autodiff, logratio, loss
from toymodel.losses.aliases import plain
from toymodel.losses.pieces import of_logratio
from toymodel.models.logps import pair_logps

NAMES = sorted(LOSSES)
EPS = 2.0**-52

HYPER = {  # ranges in which the field uses them; `LOSSES[name].defaults` says which a loss has
    "beta": st.floats(0.01, 3.0),
    "tau": st.floats(0.05, 3.0),
    "gamma": st.floats(0.1, 3.0),
    "lam": st.floats(0.05, 0.95),
    "alpha": st.floats(0.05, 1.0),
    "label_smoothing": st.floats(0.001, 0.45),
    "rpo_alpha": st.floats(0.005, 5.0),
    "cpo_alpha": st.floats(0.1, 2.0),
    "f_lambda": st.floats(0.5, 1.0),
    "offset": st.floats(0.0, 3.0),
    "delta": st.floats(-2.0, 4.0),
    "kl": st.floats(-2.0, 20.0),
    "desirable_weight": st.floats(0.5, 1.5),
    "undesirable_weight": st.floats(0.5, 1.5),
    "p_win": st.floats(0.55, 1.0),
    "log_eps": st.floats(-20.0, -1.0),
    "eta1": st.floats(0.5, 1.5),
    "eta2": st.floats(0.1, 0.5),
}


@st.composite
def losses(draw, names=NAMES):
    """A loss with drawn hyperparameters."""
    definition = LOSSES[draw(st.sampled_from(names))]
    return definition(**{name: draw(HYPER[name]) for name in definition.defaults})


@st.composite
def batches(draw, n=8):
    """Six arrays: responses of 1 … 60 tokens, 0.01 … 8 nats per token, logratios of a few nats."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    lengths = rng.integers(1, 61, (2, n)).astype(float)
    logps = -lengths * 10 ** rng.uniform(-2, 0.9, (2, n))
    refs = np.minimum(logps + rng.normal(0, draw(st.sampled_from([0.1, 1.0, 3.0])), (2, n)), -1e-3)
    return (*logps, *refs, *lengths)


def notation(batch, **hyper):
    """A batch and hyperparameters in the notation of the catalogue's ratios."""
    w, l, ref_w, ref_l, n_w, n_l = batch  # noqa: E741
    r_w, r_l = w - ref_w, l - ref_l
    return SimpleNamespace(D=r_w - r_l, r_w=r_w, r_l=r_l, a_w=w / n_w, a_l=l / n_l, n_w=n_w, n_l=n_l, **hyper)


def sensitivity(of_loss, batch):
    """How much a weight can differ by round-off: what it changes when its inputs do by a few units in the last place.

    Both routes see the same rounded inputs, and round their own intermediate results: logratios and margins of up to
    the size of the log-probabilities. A weight's relative slope in those is at most its hyperparameters' largest rate.
    """
    scale = max(float(np.max(abs(np.asarray(x)))) for x in batch[:4])
    rate = max([1.0, *(abs(float(h)) for h in of_loss.hyper.values())], default=1.0)
    if "tau" in of_loss.hyper and of_loss.name == "discopop":
        rate /= float(of_loss.hyper["tau"])
    return 64 * EPS * (1 + scale * rate)


# Batches of eight, for each loss in turn: fewer examples than elsewhere see as many cases.
EACH = settings(max_examples=max(3, settings().max_examples // 25))


@pytest.mark.parametrize("name", NAMES)
@EACH
@given(data=st.data(), batch=batches())
def test_closed_weights_are_the_derivatives_of_the_value(name, data, batch):
    of_loss = data.draw(losses([name]))
    closed, automatic = (np.array(of_loss.weights(*batch)), np.array(of_loss.autodiff_weights(*batch)))
    # Relative to the larger weight of the pair: differences such as S′(βD) − S′(βr_w) cancel.
    size = np.maximum(abs(closed).max(axis=0), abs(automatic).max(axis=0)) + np.array(of_loss.hyper.get("beta", 1.0))
    assert_close(closed, automatic, size, sensitivity(of_loss, batch))


@pytest.mark.parametrize("name", NAMES)
@EACH
@given(data=st.data(), batch=batches())
def test_single_precision_is_as_good_as_its_round_off(name, data, batch):
    of_loss = data.draw(losses([name]))
    single = [np.asarray(x, np.float32) for x in batch]
    exact = np.array([of_loss.value(*map(np.float64, single)), *of_loss.weights(*map(np.float64, single))])
    ours = np.array([of_loss.value(*single), *of_loss.weights(*single)])
    assert ours.dtype == np.float32
    size = abs(exact) + abs(exact[1:]).max(axis=0) + np.array(of_loss.hyper.get("beta", 1.0))
    assert_close(ours, exact, size, sensitivity(of_loss, batch) * float(np.finfo(np.float32).eps) / EPS)


def S(x):
    return jax.nn.sigmoid(x)


def dS(x):
    return S(x) * S(-x)


RATIOS = {
    "alphapo": lambda x: x.n_l / x.n_w * jnp.exp(x.alpha * (x.a_l - x.a_w)),
    "fdpo_js": lambda x: S(-x.r_w) / S(-x.r_l),
    "fdpo_forward_kl": lambda x: jnp.exp(-x.D),
    "fdpo_alpha": lambda x: jnp.exp(-x.alpha * x.D),
    "chi_po": lambda x: (1 + jnp.exp(x.r_w)) / (1 + jnp.exp(x.r_l)),
    "dpo_nll_mean": lambda x: 1 + x.rpo_alpha / (x.n_w * x.beta * S(-x.beta * x.D)),
    "cpo_nll_sum": lambda x: 1 + x.lam / (x.beta * S(-x.beta * (x.n_w * x.a_w - x.n_l * x.a_l))),
    "cpo_nll_mean": lambda x: 1 + x.cpo_alpha / (x.n_w * x.beta * S(-x.beta * (x.n_w * x.a_w - x.n_l * x.a_l))),
    "cpo_simpo": lambda x: x.n_l / x.n_w * (1 + x.cpo_alpha / (x.beta * S(x.gamma - x.beta * (x.a_w - x.a_l)))),
    "dpop": lambda x: 1 + x.lam * (x.r_w < 0),
    "dpo_shift": lambda x: 1 / x.f_lambda * jnp.ones(8),
    "bdpo": lambda x: 1 + (1 - x.lam) / x.lam * jnp.exp(-x.r_l),
    "apo_down": lambda x: 1 - dS(x.beta * x.r_w) / dS(x.beta * x.D),
    "apo_zero": lambda x: x.desirable_weight / x.undesirable_weight * dS(x.beta * x.r_w) / dS(x.beta * x.r_l),
    "kto_pair": lambda x: (
        x.desirable_weight
        / x.undesirable_weight
        * dS(x.beta * (x.r_w - max(x.kl, 0)))
        / dS(x.beta * (max(x.kl, 0) - x.r_l))
    ),
    "nca_pair": lambda x: (2 * S(-x.beta * x.r_w) - S(x.beta * x.r_w)) / S(x.beta * x.r_l),
    "bco_pair": lambda x: S(x.delta - x.beta * x.r_w) / S(x.beta * x.r_l - x.delta),
    "bce": lambda x: S(-x.r_w) / S(x.r_l),
    "ukl": lambda x: jnp.exp(-x.r_l),
    "lsif": lambda x: jnp.exp(x.r_w - 2 * x.r_l),
    "sppo_hard": lambda x: (0.5 / x.beta - x.r_w) / (0.5 / x.beta + x.r_l),
    "sppo_half": lambda x: (0.5 / x.beta - x.r_w) / (0.5 / x.beta + x.r_l),
    "sppo_soft_half": lambda x: ((x.p_win - 0.5) / x.beta - x.r_w) / ((x.p_win - 0.5) / x.beta + x.r_l),
    "cal_dpo": lambda x: (S(-x.D) + 0.5 / x.beta - x.r_w) / (S(-x.D) + 0.5 / x.beta + x.r_l),
    "orpo_or_only": lambda x: x.n_l / x.n_w * jnp.expm1(x.a_l) / jnp.expm1(x.a_w),
}
BY_SWITCH = {
    "ddro",
    "bpo_logistic",
    "bpo_hinge",
    "arpo_pref_only",
    "slic_hf",
    "npo",
    "sft_mean",
    "orpo",
    "orpo_sumodds",
}


def test_every_ratio_is_covered():
    simple = {name for name in NAMES if LOSSES[name].ratio in ("1", "n_l/n_w")}
    assert simple | set(RATIOS) | BY_SWITCH == set(NAMES)
    assert not simple & set(RATIOS)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in BY_SWITCH])
@EACH
@given(data=st.data(), batch=batches())
def test_the_ratio_of_the_weights_is_the_one_in_the_catalogue(name, data, batch):
    of_loss = data.draw(losses([name]))
    simple = {"1": lambda x: jnp.ones_like(x.D), "n_l/n_w": lambda x: x.n_l / x.n_w}
    ratio = simple.get(LOSSES[of_loss.name].ratio) or RATIOS[of_loss.name]
    d_chosen, d_rejected = of_loss.weights(*batch)
    some = abs(np.asarray(d_rejected)) > 1e-250  # elsewhere a ratio such as 1 + λ/(β S(−z)) overflows
    expected = np.where(some, ratio(notation(batch, **of_loss.hyper)), 0) * d_rejected
    size = abs(d_chosen) + abs(expected) + np.asarray(of_loss.hyper.get("beta", 1.0))
    assert_close(d_chosen[some], expected[some], size[some], sensitivity(of_loss, batch))


@given(batches())
def test_switches_by_their_definition(batch):
    x = notation(batch)
    chosen, rejected = LOSSES["bpo_logistic"](alpha=0.7).weights(*batch)
    np.testing.assert_array_equal(chosen > 0, x.r_w < -0.7 * x.r_l)
    np.testing.assert_array_equal(rejected > 0, x.r_w > -0.7 * x.r_l)
    chosen, rejected = LOSSES["slic_hf"](gamma=1.0, lam=0.25).weights(*batch)
    inside = x.n_w * x.a_w - x.n_l * x.a_l <= 1.0
    np.testing.assert_array_equal((chosen, rejected), (inside + 0.25, inside))
    np.testing.assert_array_equal(LOSSES["sft_mean"]().weights(*batch), (1 / x.n_w, 0 * x.n_w))
    chosen, rejected = LOSSES["npo"](beta=0.3).weights(*batch)
    assert (chosen == 0).all()
    assert_close(rejected, 2 * S(0.3 * x.r_l), rejected, 1e-14)  # one sigmoid, rounded at few places
    odds = np.exp(x.r_l)
    inside = odds < 1.99  # the tangent starts at 2 − 1e-6, where 2 − x has lost six of its digits
    chosen, rejected = LOSSES["ddro"]().weights(*batch)
    assert_close(rejected[inside], (odds / (2 - odds))[inside], rejected[inside], 1e-12)
    assert (chosen == 1).all()


@given(losses([name for name in NAMES if LOSSES[name].ratio == "1"]), batches())
def test_the_shape_of_m_never_changes_the_direction(of_loss, batch):
    """Whatever the outer function does to the margin, d_w = d_l: the pair's step is ± that of DPO."""
    d_chosen, d_rejected = of_loss.weights(*batch)
    np.testing.assert_array_equal(d_chosen, d_rejected)


@pytest.mark.parametrize("name", ["cpo_nll_sum", "cpo_nll_mean", "dpo_nll_mean", "slic_hf", "dpo_shift", "bdpo"])
@given(data=st.data(), batch=batches())
def test_likelihood_terms_and_bounded_rejections_favour_the_chosen(name, data, batch):
    d_chosen, d_rejected = data.draw(losses([name])).weights(*batch)
    assert (d_chosen >= d_rejected).all()


SIGNS = {  # which weights can turn negative
    "cdpo": (True, True),
    "ipo_sum": (True, True),
    "ipo_lennorm": (True, True),
    "exo_pair": (True, True),
    "exo_pair_unnorm": (True, True),
    "sppo_hard": (True, True),
    "sppo_half": (True, True),
    "sppo_soft_half": (True, True),
    "cal_dpo": (True, True),
    "discopop": (True, True),
    "arpo_pref_only": (True, True),
    "apo_down": (True, False),
    "nca_pair": (True, False),
}


@pytest.mark.parametrize("name", NAMES)
def test_which_weights_can_be_negative(name):
    """On a grid of logratios of ±60 nats, with lengths that differ: the catalogue's word on signs, both ways."""
    r_w, r_l, n_w, n_l = (x.ravel() for x in np.meshgrid(*[np.linspace(-60, 60, 25)] * 2, [3.0, 20.0], [3.0, 20.0]))
    batch = (-70 + r_w, -70 + r_l, np.full(r_w.shape, -70.0), np.full(r_w.shape, -70.0), n_w, n_l)
    found = [bool((d < 0).any()) for d in LOSSES[name]().weights(*batch)]
    assert tuple(found) == SIGNS.get(name, (False, False))


def at_reference(name, n=10.0, **hyper):
    logp = np.float64(-20.0)
    return [float(d) for d in LOSSES[name](**hyper).weights(logp, logp, logp, logp, n, n)]


def test_weights_at_the_reference():
    """Where training starts from the reference, and several losses have their kink."""
    beta = 0.2
    assert at_reference("dpo", beta=beta) == [beta / 2] * 2
    assert at_reference("dpop", beta=beta, lam=50.0) == [beta / 2] * 2  # relu′(0) = 0: the penalty sleeps
    assert at_reference("apo_down", beta=beta)[0] == 0
    np.testing.assert_allclose(at_reference("nca_pair", beta=beta), [beta / 4] * 2, rtol=1e-15)
    np.testing.assert_allclose(at_reference("bdpo", beta=beta, lam=0.5), [beta / 2, beta / 4], rtol=1e-15)
    np.testing.assert_allclose(at_reference("bpo_logistic", beta=beta, alpha=0.5), [beta / 4, beta / 8], rtol=1e-15)
    assert at_reference("arpo_pref_only", beta=beta)[1] < 0  # the rejected is pushed up
    np.testing.assert_allclose(at_reference("ipo_sum", tau=0.1), [10, 10], rtol=1e-15)


@pytest.mark.parametrize(
    ("name", "hyper", "inputs", "expected"),
    [
        ("hinge", {"beta": 0.5}, (-10.0, -12.0, -11.0, -11.0), (0.0, 0.0)),  # torch.relu: 0 at the kink
        ("cpo_hinge", {"beta": 0.5}, (-10.0, -12.0), (0.0, 0.0)),
        ("slic_hf", {"gamma": 2.0, "lam": 0.25}, (-10.0, -12.0), (1.25, 1.0)),  # torch.clamp: 1 at the kink
        ("rrhf_rank", {}, (-10.0, -10.0, None, None, 5.0, 5.0), (0.0, 0.0)),
        ("bpo_hinge", {"beta": 0.5, "alpha": 1.0}, (-10.0, -10.0, -10.0, -10.0), (0.25, 0.25)),  # ties share
    ],
)
def test_kinks_are_where_the_field_puts_them(name, hyper, inputs, expected):
    made = LOSSES[name](**hyper)
    np.testing.assert_array_equal(made.weights(*inputs), expected)
    if name != "bpo_hinge":
        np.testing.assert_array_equal(made.autodiff_weights(*inputs), expected)


def test_discopop_is_finite_where_a_product_of_its_factors_is_not():
    made = LOSSES["discopop"](beta=1.0)
    far = np.array([-1000.0, -800.0, -20.0]), np.array([-1.0, -1.0, -1000.0])
    for d in (made.value(*far, *far[::-1]), *made.weights(*far, *far[::-1])):
        assert np.isfinite(d).all()


NEEDS_REFERENCE = set(NAMES) - {
    *("simpo", "alphapo", "cpo_nll_sum", "cpo_nll_mean", "cpo_pref_only", "cpo_hinge", "cpo_simpo", "slic_hf"),
    *("rrhf_rank", "orpo", "orpo_or_only", "orpo_sumodds", "arpo_pref_only", "sft_mean"),
}

NEEDS_LENGTHS = {
    *("rdpo", "ipo_lennorm", "dpo_sigmoid_norm", "dpo_nll_mean", "simpo", "alphapo", "cpo_nll_mean", "cpo_simpo"),
    *("rrhf_rank", "orpo", "orpo_or_only", "orpo_sumodds", "arpo_pref_only", "sft_mean"),
}


@pytest.mark.parametrize("name", NAMES)
def test_what_is_not_used_may_be_left_out_and_is_ignored(name):
    made = LOSSES[name]()
    w, l, ref_w, ref_l, n_w, n_l = (np.array([x]) for x in (-12.0, -9.5, -11.0, -10.0, 4.0, 7.0))  # noqa: E741
    if name in NEEDS_REFERENCE:
        with pytest.raises(ValueError, match=r"`ref_(chosen|rejected)_logps` is missing"):
            made.value(w, l, None, None, n_w, n_l)
    else:
        np.testing.assert_array_equal(made.value(w, l, None, None, n_w, n_l), made.value(w, l, ref_w, ref_l, n_w, n_l))
    if name in NEEDS_LENGTHS:
        with pytest.raises(ValueError, match=r"`(chosen|rejected)_lengths` is missing"):
            made.value(w, l, ref_w, ref_l)
    else:
        alone = made.value(w, l, ref_w, ref_l)
        np.testing.assert_array_equal(alone, made.value(w, l, ref_w, ref_l, 3 * n_w, 5 * n_l))


@given(batches())
def test_slopes_may_be_left_to_autodiff(batch):
    """DPO and its reward as one would write them without slopes."""
    by_hand, beta = LOSSES["dpo"](beta=0.3), 0.3
    w, l, ref_w, ref_l = (jnp.asarray(x) for x in batch[:4])  # noqa: E741
    sides = Side("chosen", w, ref_w, None), Side("rejected", l, ref_l, None)
    found = Margin(autodiff(jax.nn.log_sigmoid), of_logratio(autodiff(jnp.asarray), beta))(*sides)
    # A difference of log-probabilities of up to 1e3 nats, rounded, in the exponent of the same sigmoid.
    np.testing.assert_allclose(found, (by_hand.value(*batch), *by_hand.weights(*batch)), rtol=1e-12)


def test_a_loss_is_a_pytree_of_its_hyperparameters():
    batch = [np.full(3, x) for x in (-12.0, -9.5, -11.0, -10.0)]
    betas = jnp.array([0.1, 0.5, 2.0])
    swept = jax.vmap(lambda made: made.value(*batch))(LOSSES["dpo"](beta=betas))
    one_by_one = [LOSSES["dpo"](beta=float(beta)).value(*batch) for beta in betas]
    np.testing.assert_allclose(swept, one_by_one, rtol=1e-15)  # the same operations, in another order of loops
    slope = jax.grad(lambda made: made.value(*batch).sum())(LOSSES["dpo"](beta=0.5)).hyper["beta"]
    D = (-12.0 + 11.0) - (-9.5 + 10.0)
    np.testing.assert_allclose(slope, -3 * D * S(-0.5 * D), rtol=1e-14)  # ∂(−log S(βD))/∂β, three pairs


@given(worlds(), losses(), st.integers(0, 2**32 - 1))
def test_case_tells_the_truth_for_every_loss(world, of_loss, seed):
    """Whatever the signs of a loss's weights, the named case is the one that the measured slopes show (T9, T10)."""
    rng = np.random.default_rng(seed)
    logps = [float(x[0]) for x in pair_logps(world.model, world.params, world.pairs)]
    refs = [min(0.0, x + 10 ** rng.uniform(-1, 1.5) * rng.choice([-1, 1])) for x in logps]
    assume(min(abs(x) for x in logps) > 1e-8)  # log-odds of a certain response are infinite
    lengths = [float(mask.sum()) for mask in (world.pairs.chosen_mask, world.pairs.rejected_mask)]
    d_chosen, d_rejected = (float(d) for d in of_loss.weights(*logps, *refs, *lengths))
    assume(all(d == 0 or 1e-100 < abs(d) < 1e100 for d in (d_chosen, d_rejected)))
    measured = single(gradients.slopes(world.model, world.params, world.pairs, d_chosen, d_rejected))
    predicted = single(theory.slopes(theory.pair_gram(world.model, world.params, world.pairs), d_chosen, d_rejected))
    sizes = slope_sizes(world, abs(d_chosen), abs(d_rejected))
    assert_close(measured, predicted, sizes, world.roundoff)
    if np.all(abs(measured) > world.roundoff * sizes):
        gram = theory.pair_gram(world.model, world.params, world.pairs)
        assert theory.case(gram, d_chosen, d_rejected)[0] == theory.CASES[int(theory.case_of_slopes(*measured))]


@pytest.mark.parametrize(
    ("names", "loss"),
    [
        (("dpo", "DPO", "sigmoid", "reverse-KL"), "dpo"),
        (("rpo", "RPO", "DPO+NLL", "dpo-sft"), "dpo_nll_mean"),
        (("DPOP", "DPO-Positive", "pdpo"), "dpop"),
        (("SFT", "nll"), "sft_mean"),
        (("SimPO", "sim-po", "sim_po"), "simpo"),
        (("ORPO",), "orpo"),
        (("SLiC", "SLiC-HF"), "slic_hf"),
        (("hinge", "RSO"), "hinge"),
        (("robust", "Robust-DPO"), "robust_dpo"),
        (("KTO", "kto-pair"), "kto_pair"),
        (("EXO", "exo_pair"), "exo_pair"),
        (("NCA",), "nca_pair"),
        (("BCO",), "bco_pair"),
        (("sigmoid_norm",), "dpo_sigmoid_norm"),
        (("R-DPO",), "rdpo"),
        (("χPO", "chiPO"), "chi_po"),
    ],
)
def test_people_find_a_loss_under_the_name_they_use(names, loss):
    for name in names:
        assert LOSSES[name] is LOSSES[loss]


@pytest.mark.parametrize(
    ("name", "candidates"),
    [
        ("IPO", ["ipo_sum", "ipo_lennorm"]),
        ("cpo", ["cpo_nll_sum", "cpo_nll_mean", "cpo_pref_only"]),
        ("SPPO", ["sppo_half", "sppo_hard", "sppo_soft_half"]),
        ("f-DPO", ["fdpo_js", "fdpo_forward_kl", "fdpo_alpha"]),
    ],
)
def test_a_name_of_several_losses_says_which(name, candidates):
    with pytest.raises(
        ValueError, match=f"'{name}' is the name of several losses; .*{' or '.join(map(repr, candidates))}"
    ):
        LOSSES[name]


def test_other_names_lead_to_losses_and_take_none_away():
    for alias, losses in ALIASES.items():
        assert alias not in LOSSES
        assert set(losses.split()) <= set(LOSSES), alias
    spelt = [plain(name) for name in (*LOSSES, *ALIASES)]
    assert len(set(spelt)) == len(spelt)
    assert not set(LOSSES) & set(ALIASES)
    assert sorted(LOSSES) == sorted(LOSSES[name].name for name in LOSSES)
    with pytest.raises(ValueError, match=r"there is no loss 'rppo'; did you mean .*'rpo'"):
        LOSSES["rppo"]


def test_a_loss_cannot_be_entered_twice_or_without_ranges():
    with pytest.raises(ValueError, match="there is a loss 'dpo' already"):
        loss(ratio="1")(LOSSES["dpo"].form)

    for form in (_without_range, _without_default):
        with pytest.raises(ValueError, match=r"'beta' of .* needs a range and a default"):
            loss(ratio="1")(form)
    assert sorted(LOSSES) == NAMES


def _without_range(beta=0.1):
    return Margin(lambda a: Jet(a, beta), logratio)


def _without_default(beta: Fraction):
    return Margin(lambda a: Jet(a, beta), logratio)


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("dpo", {"beta": 0.1}),  # TRL, HALOs, torchtune
        ("hinge", {"beta": 0.1}),  # TRL
        ("ipo_sum", {"tau": 0.1}),  # TRL, HALOs
        ("ipo_lennorm", {"tau": 0.1}),  # TRL
        ("dpo_nll_mean", {"beta": 0.1, "rpo_alpha": 1.0}),  # TRL
        ("dpop", {"beta": 0.1, "lam": 50.0}),  # its authors' code
        ("exo_pair", {"beta": 0.1, "label_smoothing": 1e-3}),  # TRL
        ("discopop", {"beta": 0.05, "tau": 0.05}),  # its paper and TRL
        ("kto_pair", {"beta": 0.1, "kl": 0.0, "desirable_weight": 1.0, "undesirable_weight": 1.0}),  # TRL, HALOs
        ("simpo", {"beta": 2.0, "gamma": 0.5}),  # where its authors' README says to start
        ("cpo_nll_mean", {"beta": 0.1, "cpo_alpha": 1.0}),  # TRL
        ("slic_hf", {"gamma": 1.0, "lam": 0.1}),  # HALOs
        ("orpo", {"lam": 0.1}),  # TRL
        # Of these no source gives one number, or TRL's β of 0.1 for all losses: a change must be meant.
        ("cdpo", {"beta": 0.1, "label_smoothing": 0.1}),
        ("robust_dpo", {"beta": 0.1, "label_smoothing": 0.1}),
        ("rdpo", {"beta": 0.1, "alpha": 0.2}),
        ("odpo", {"beta": 0.1, "offset": 1.0}),
        ("dpo_sigmoid_norm", {"beta": 0.1}),
        ("fdpo_js", {"beta": 0.1}),
        ("fdpo_forward_kl", {"beta": 0.1}),
        ("fdpo_alpha", {"beta": 0.1, "alpha": 0.5}),
        ("chi_po", {"beta": 0.1}),
        ("dpo_shift", {"beta": 0.1, "f_lambda": 0.75}),
        ("bdpo", {"beta": 0.1, "lam": 0.5}),
        ("exo_pair_unnorm", {"beta": 0.1, "log_eps": -10.0}),
        ("apo_down", {"beta": 0.1}),
        ("npo", {"beta": 0.1}),
        ("sppo_hard", {"beta": 0.1}),
        ("sppo_half", {"beta": 0.1}),
        ("sppo_soft_half", {"beta": 0.1, "p_win": 0.9}),
        ("apo_zero", {"beta": 0.1, "desirable_weight": 1.0, "undesirable_weight": 1.0}),
        ("nca_pair", {"beta": 0.1}),
        ("bco_pair", {"beta": 0.1, "delta": 0.0}),
        ("cal_dpo", {"beta": 0.1}),
        ("bpo_logistic", {"beta": 0.1, "alpha": 1.0}),
        ("bpo_hinge", {"beta": 0.1, "alpha": 0.3}),
        ("alphapo", {"beta": 2.0, "gamma": 0.5, "alpha": 0.25}),
        ("cpo_nll_sum", {"beta": 0.1, "lam": 1.0}),
        ("cpo_pref_only", {"beta": 0.1}),
        ("cpo_hinge", {"beta": 0.1}),
        ("cpo_simpo", {"beta": 0.1, "gamma": 0.5, "cpo_alpha": 1.0}),
        ("orpo_or_only", {"lam": 0.1}),
        ("orpo_sumodds", {"lam": 0.1}),
        ("arpo_pref_only", {"beta": 0.1, "eta1": 0.9, "eta2": 0.4}),
    ],
)
def test_defaults_are_those_of_public_implementations(name, published):
    assert LOSSES[name].defaults == published


def test_where_both_exponentials_overflow_the_order_of_log_ratios_decides():
    """Forward KL: h = −β exp(−r), −∞ on both sides here. A larger log-ratio of the chosen is a margin of +∞."""
    logps = np.array([-1000.0, -2000.0, -1500.0])
    given = dict.fromkeys(("ref_chosen_logps", "ref_rejected_logps"), np.zeros(3))
    loss = LOSSES["fdpo_forward_kl"](beta=0.1)
    assert loss.value(logps, logps[[1, 0, 2]], **given).tolist() == [0, np.inf, pytest.approx(np.log(2))]
    # χPO: h = β(r + exp r), +∞ on both sides.
    given = dict.fromkeys(("ref_chosen_logps", "ref_rejected_logps"), np.array([-3000.0] * 3))
    found = LOSSES["chi_po"](beta=0.1).value(logps, logps[[1, 0, 2]], **given)
    assert found.tolist() == [0, np.inf, pytest.approx(np.log(2))]
    close = LOSSES["chi_po"](beta=0.1).value(
        logps, logps - [0.5, -0.5, 0], **given
    )  # a small difference decides as well
    assert close.tolist() == [0, np.inf, pytest.approx(np.log(2))]
