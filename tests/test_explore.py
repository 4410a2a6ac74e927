"""The explorer's numbers: padding changes nothing, and each is what the package says of the same pair elsewhere."""

import re
from types import SimpleNamespace
from xml.etree import ElementTree

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import toymodel as tm
from notebooks import explorer as explore
from notebooks.explorer import pictures
from notebooks.explorer.scenes import DRAWN_DIM
from toymodel import gradients, theory
from toymodel.losses import LOSSES
from toymodel.models import linear

# Sums of up to 41 × 41 products of numbers up to 4 in float64; closed forms and autodiff add them up in other orders.
ROUNDOFF = {"rtol": 1e-9, "atol": 1e-10}
EVEN = explore.FixedWeights(1.0, 1.0)

PROB = st.floats(0.02, 0.98)
SUFFIX = st.builds(
    explore.suffix_pair,
    st.integers(0, explore.LENGTH - 1),
    PROB,
    PROB,
    st.integers(3, explore.WIDEST),
    st.floats(-1, 1),
)
FAMILY = st.builds(
    explore.family_pair,
    st.sampled_from(explore.FAMILIES),
    st.integers(0, explore.LENGTH - 1),
    st.sampled_from(explore.MODELS),
    st.sampled_from((2, 7, explore.WIDEST)),  # "bag" and "edit" pairs compile for each
    correlation=st.floats(-1, 1),
    seed=st.integers(0, 99),
)
SCENE = SUFFIX | FAMILY
WEIGHT = st.floats(-3, 3)


@given(st.integers(0, explore.LENGTH - 1), PROB, PROB, st.integers(3, explore.WIDEST))
def test_a_suffix_pair_is_the_one_of_the_theory(n, a, b, vocab_size):
    seen = explore.look(explore.suffix_pair(n, a, b, vocab_size), EVEN)
    contrast = theory.single_token_slopes(1 / vocab_size, 1 / vocab_size)
    each = theory.peaked_suffix_slopes(a, b, vocab_size)
    np.testing.assert_allclose(
        seen.slopes, [one + n * more for one, more in zip(contrast, each, strict=True)], **ROUNDOFF
    )


@pytest.mark.parametrize(("n", "case"), [(7, "chosen_up_rejected_down"), (8, "both_down")])
def test_the_case_turns_at_the_predicted_length(n, case):
    assert 7 < theory.threshold_length(1 / 20, 1 / 20, 0.6, 0.3, 20) < 8
    assert explore.look(explore.suffix_pair(n, 0.6, 0.3, 20), EVEN).case == case


@pytest.mark.parametrize("correlation", [-1, -0.3, 0.5, 1])
@pytest.mark.parametrize(("n", "a", "b", "vocab_size"), [(0, 0.5, 0.5, 3), (7, 0.6, 0.3, 20), (40, 0.1, 0.9, 40)])
def test_correlation_scales_what_the_suffix_adds_to_the_inner_product(n, a, b, vocab_size, correlation):
    none, some, full = (
        explore.look(explore.suffix_pair(n, a, b, vocab_size, rho), EVEN) for rho in (0, correlation, 1)
    )
    contrast = theory.single_token_gram(jnp.full(vocab_size, 1 / vocab_size), 0, 1)
    np.testing.assert_allclose(none.gram.inner, contrast.inner, **ROUNDOFF)
    between = contrast.inner + correlation * (full.gram.inner - contrast.inner)
    np.testing.assert_allclose(some.gram.inner, between, **ROUNDOFF)


@given(SCENE, WEIGHT, WEIGHT, st.sampled_from(["sgd", "momentum"]))
def test_the_numbers_are_those_of_diagnose(scene, d_chosen, d_rejected, optimizer):
    seen = explore.look(scene, explore.FixedWeights(d_chosen, d_rejected), optimizer)
    chosen, rejected = gradients.pair_gradients(*scene)
    (row,) = tm.diagnose(chosen_grad=chosen, rejected_grad=rejected, d_chosen=d_chosen, d_rejected=d_rejected).pairs
    np.testing.assert_allclose(seen.gram, [row["chosen_sq"], row["rejected_sq"], row["inner"]], **ROUNDOFF)
    np.testing.assert_allclose(seen.slopes, [row["chosen_slope"], row["rejected_slope"]], **ROUNDOFF)
    np.testing.assert_allclose(seen.token_map.sum(), seen.gram.inner, **ROUNDOFF)
    if row["cosine"] is not None and min(seen.gram.chosen_sq, seen.gram.rejected_sq) > 1e-6:
        np.testing.assert_allclose(seen.cosine, row["cosine"], **ROUNDOFF)
    if min(map(abs, seen.slopes)) > 1e-8:  # else its sign is round-off
        assert seen.case == row["case"]


@given(SCENE, WEIGHT, WEIGHT, st.floats(1e-3, 10))
def test_the_true_change_is_exact(scene, d_chosen, d_rejected, eta):
    seen = explore.look(scene, explore.FixedWeights(d_chosen, d_rejected), learning_rate=eta)
    exact = theory.exact_change(*scene, eta, d_chosen, d_rejected)
    # Log-probabilities up to 41 tokens × (30 + the change) nats are subtracted.
    size = 1 + max(map(abs, seen.change))
    np.testing.assert_allclose(seen.change, np.ravel(exact), rtol=1e-9, atol=1e-11 * size)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("name", ["dpo", "simpo"])  # SimPO's weights change with the length
def test_slopes_along_every_length_are_those_of_each_pair(name, optimizer):
    pair, loss = {"a": 0.7, "b": 0.4, "vocab_size": 15, "correlation": 0.8}, LOSSES[name]()
    scenes = explore.every_length(explore.suffix_pair(explore.LENGTH - 1, **pair))
    slopes = explore.slopes_along(scenes, loss, optimizer)
    assert slopes.shape == (2, explore.LENGTH)
    for n in (0, 1, 13, explore.LENGTH - 1):
        own = explore.look(explore.suffix_pair(n, **pair), loss, optimizer)
        # Adam divides entries of the gradient that cancel by 1e-8: that much of the round-off of a sum is left.
        np.testing.assert_allclose(slopes[:, n], own.slopes, **(ROUNDOFF if optimizer == "sgd" else {"rtol": 1e-6}))


@given(SCENE, st.floats(0.1, 3), st.floats(0.1, 3))
def test_adams_numbers_are_those_of_its_own_gram(scene, d_chosen, d_rejected):
    seen = explore.look(scene, explore.FixedWeights(d_chosen, d_rejected), "adam", 1e-6)
    gram = gradients.first_adam_gram(*scene, d_chosen, d_rejected)
    np.testing.assert_array_equal(seen.slopes, np.ravel(theory.slopes(gram, d_chosen, d_rejected)))
    # Entries of the loss's gradient that cancel are divided by 1e-8: that much of the round-off of a sum is left.
    np.testing.assert_allclose(seen.token_map.sum(), seen.gram.inner, rtol=1e-6, atol=1e-6)


def test_adams_true_change_is_its_slope_for_a_small_step():
    scene = explore.suffix_pair(4, 0.6, 0.3, 20, 0.5)
    seen = explore.look(scene, EVEN, "adam", 1e-6)
    np.testing.assert_allclose(
        seen.change, np.multiply(1e-6, seen.slopes), rtol=1e-4
    )  # the error is of order η = 1e-6, times a curvature


@pytest.mark.parametrize("model", explore.MODELS)
def test_padding_to_one_width_changes_nothing(model):
    """The same W in a model that has only the ids and features it needs."""
    scene = explore.family_pair("positional", 5, model, 7, correlation=0.4, seed=3)
    _, frozen, _ = jax.random.split(jax.random.key(3), 3)
    pairs = scene.pairs
    narrow = linear.MODELS[model](frozen, 7, pairs, dim=DRAWN_DIM, correlation=0.4)
    params = scene.params[:7, : narrow.features.shape[1]]
    if model == "bigram":  # its row for "nothing before" is the last, and is not used after a prompt
        params = params.at[:, 7].set(0.0)
    seen = explore.look(scene, LOSSES["dpo"]())
    np.testing.assert_allclose(seen.gram, np.ravel(gradients.pair_gram(narrow, params, pairs)), **ROUNDOFF)


@pytest.mark.parametrize(("name", "optimizer"), [("dpo", "sgd"), ("ipo_sum", "momentum"), ("cpo_nll_mean", "adam")])
def test_one_step_of_training_is_the_step_that_was_shown(name, optimizer):
    scene = explore.suffix_pair(6, 0.7, 0.2, 20, 0.8)
    seen = explore.look(scene, LOSSES[name](), optimizer, 0.05)
    path = explore.follow(scene, LOSSES[name](), optimizer, 0.05, 2).trajectory
    np.testing.assert_allclose(seen.d_chosen, path.d_chosen[0, 0], **ROUNDOFF)
    np.testing.assert_allclose(seen.d_rejected, path.d_rejected[0, 0], **ROUNDOFF)
    # Two programs; Adam divides the gradient by its size, and so magnifies the round-off of entries that cancel.
    np.testing.assert_allclose(seen.change, [path.chosen_change[0, 0], path.rejected_change[0, 0]], rtol=1e-7)


@pytest.mark.parametrize("name", LOSSES)
def test_every_hyperparameter_has_steps_in_its_range_with_the_default_among_them(name):
    steps = explore.hyper_steps(name)
    assert steps.keys() == LOSSES[name].defaults.keys()
    for hyper, values in steps.items():
        assert LOSSES[name].defaults[hyper] in values
        assert values == sorted(values)
        assert len(values) >= 4
        for value in values:
            LOSSES[name](**{hyper: value})  # raises out of its range


def test_fixed_weights_are_the_slopes_of_their_value():
    loss = explore.FixedWeights(0.7, -1.3)
    logps = jnp.asarray([-3.0, -5.0]), jnp.asarray([-2.0, -4.0])
    slopes = jax.grad(lambda chosen, rejected: loss.value(chosen, rejected).sum(), (0, 1))(*logps)
    d_chosen, d_rejected = loss.weights(*logps)
    np.testing.assert_array_equal(-slopes[0], d_chosen)
    np.testing.assert_array_equal(slopes[1], d_rejected)


def test_a_run_that_diverges_is_kept_up_to_there():
    run = explore.follow(explore.suffix_pair(20, 0.9, 0.1, 20), explore.FixedWeights(1e308, 1e308), "sgd", 1e10, 5)
    assert run.stopped_at < 5
    assert len(run.trajectory.chosen_logps) == run.stopped_at + 1
    assert pictures.curves(run.trajectory.chosen_logps[:, 0], run.trajectory.rejected_logps[:, 0])


@pytest.fixture
def lowered():
    """Programs that jax lowers while the test runs, from a cache on the disk or not."""
    events = []

    def listener(event, _seconds, **_):
        if event.endswith("jaxpr_to_mlir_module_duration"):
            events.append(event)

    jax.monitoring.register_event_duration_secs_listener(listener)
    yield events
    jax.monitoring.unregister_event_duration_listener(listener)


def test_no_slider_compiles_anything(lowered):
    jax.clear_caches()  # of other tests
    suffix = {"suffix_length": 3, "a": 0.5, "b": 0.4, "vocab_size": 10, "correlation": 0.9}
    family = {"family": "positional", "model": "random_features", "shared": 3, "vocab_size": 10, "seed": 0}
    explore.look(explore.suffix_pair(**suffix), EVEN)
    longest = {**suffix, "suffix_length": explore.LENGTH - 1}
    explore.slopes_along(explore.every_length(explore.suffix_pair(**longest)), EVEN)
    drawn = explore.family_pair(**family)
    jax.jit(lambda x: x + 1)(1.0)
    assert lowered, "the listener hears nothing"
    lowered.clear()
    explore.look(drawn, EVEN)  # by the program of the suffix pair
    for moved in ({"suffix_length": 9}, {"a": 0.8}, {"b": 0.1}, {"vocab_size": 40}, {"correlation": 0.2}):
        explore.look(explore.suffix_pair(**{**suffix, **moved}), explore.FixedWeights(2.0, 1.0), "sgd", 0.3)
        explore.slopes_along(explore.every_length(explore.suffix_pair(**{**longest, **moved})), EVEN)
    for moved in ({"shared": 9}, {"vocab_size": 30}, {"correlation": 0.1}, {"seed": 5}):
        explore.look(explore.family_pair(**{**family, **moved}), explore.FixedWeights(0.5, 1.0), "sgd", 1.0)
    assert not lowered


@pytest.mark.parametrize(
    ("slopes", "change", "words"),
    [
        ((1.0, -1.0), (0.1, -0.1), "To first order: chosen up, rejected down."),
        ((1.0, -1.0), (-0.1, -0.1), "To first order: chosen up, rejected down. This step is too long for that: "
         "the chosen falls, with a slope > 0."),
    ],
)  # fmt: skip
def test_words_name_the_case_and_where_the_step_departs_from_it(slopes, change, words):
    view = SimpleNamespace(slopes=slopes, change=change, case="chosen_up_rejected_down")
    assert explore.in_words(view) == words


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: explore.suffix_pair(41, 0.5, 0.5, 20), "`suffix_length` must be a whole number between 0 and 40"),
        (lambda: explore.suffix_pair(2, 1.0, 0.5, 20), r"`a` must be a probability in \(0, 1\), got 1.0"),
        (lambda: explore.suffix_pair(2, 0.5, 0.0, 20), r"`b` must be a probability in \(0, 1\), got 0.0"),
        (lambda: explore.suffix_pair(2, 0.5, 0.5, 2), "`vocab_size` must be a whole number between 3 and 40"),
        (lambda: explore.suffix_pair(2, 0.5, 0.5, 20, 1.1), r"`correlation` must be in \[-1, 1\], got 1.1"),
        (lambda: explore.family_pair("edits", 2, "unigram", 20), "`family` must be one of .*, got 'edits'"),
        (lambda: explore.family_pair("edit", 2, "ngram", 20), "`model` must be one of .*, got 'ngram'"),
        (lambda: explore.family_pair("contrast", 41, "unigram", 20), "`shared` must be .* between 0 and 40"),
        (lambda: explore.look(explore.suffix_pair(2, 0.5, 0.5, 20), EVEN, "lion"), "`optimizer` must be one of sgd,"),
        (lambda: explore.look(explore.suffix_pair(2, 0.5, 0.5, 20), explore.FixedWeights(np.inf, 1.0)), "must be fin"),
        (lambda: explore.look(explore.suffix_pair(2, 0.5, 0.5, 20), EVEN, "sgd", 0), "`learning_rate` must be > 0"),
    ],
)  # fmt: skip
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


INFINITE = float("inf")
PICTURES = {
    "changes": pictures.changes((0.5, -0.2), (0.4, -0.3)),
    "nothing moves": pictures.changes((0.0, 0.0), (0.0, 0.0)),
    "too far": pictures.changes((50.0, -0.2), (-40.0, INFINITE)),
    "along": pictures.along(np.linspace(1, -1, 41), np.linspace(-1, -9, 41), 30, 23.75, np.linspace(0.3, -1, 41)),
    "along, no L*": pictures.along(np.linspace(1, 9, 41), np.linspace(-1, 1, 41), 40, INFINITE),
    "a band": pictures.band(0.7, 2.7, 1.0),
    "a half-line": pictures.band(0.0, INFINITE, 500.0),
    "no band": pictures.band(float("nan"), float("nan"), -1.0),
    "a wide map": pictures.token_map(np.ones((41, 41)), ["good", *"s" * 40], ["bad", *"s" * 40]),
    "map": pictures.token_map(np.asarray([[1.0, -0.5], [0.0, 2.0]]), "wa", "l<"),
    "one entry": pictures.token_map(np.zeros((1, 1)), "w", "l"),
    "curves": pictures.curves(np.linspace(-3, -2, 300), np.linspace(-3, -8, 300)),
    "flat": pictures.curves(np.full(3, -1.0), np.full(3, -1.0)),
}


@pytest.mark.parametrize("svg", PICTURES.values(), ids=PICTURES)
def test_a_picture_is_well_formed_inside_its_frame_and_can_be_read_out(svg):
    root = ElementTree.fromstring(svg)
    assert root.get("role") == "img"
    assert root.get("aria-label").endswith(".")
    assert not re.search("nan|inf(?!inity)", svg)
    width, height = (float(number) for number in root.get("viewBox").split()[2:])
    for part in root.iter():
        for name, largest in (("x", width), ("cx", width), ("cy", height), ("x2", width), ("y2", height)):
            if part.get(name) and part.get("transform") is None and float(part.get(name)) >= 0:
                assert float(part.get(name)) <= largest + 1


def test_signs_have_shapes_besides_colours():
    squares = pictures.token_map(np.eye(3), "abc", "abc").count(f'fill="{pictures.BLUE}"')
    assert squares == 3
    assert pictures.token_map(-np.eye(3), "abc", "abc").count("<circle") == 3
    assert "stroke-dasharray" in PICTURES["curves"]


def test_scales_are_fixed():
    """A slope has one place whatever the others are, and what is out of the scale stands at its edge."""
    near, far = (
        re.findall(r'<(?:rect|circle) c?x="([\d.]+)"', pictures.changes((0.5, -0.2), (1.0, value)))
        for value in (-1, -9)
    )
    assert near[:3] == far[:3]
    assert float(near[3]) == 140
    assert float(far[3]) == 70
    steep, steeper = (pictures.along(np.linspace(1, -1, 41), np.full(41, slope), 30, 23.75) for slope in (-2, -9))
    assert re.search("<polyline.*?>", steep)[0] == re.search("<polyline.*?>", steeper)[0]  # the chosen's
    assert re.findall("<circle.*?>", steep) == re.findall("<circle.*?>", steeper)
