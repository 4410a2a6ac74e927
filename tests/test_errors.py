"""Bad input: one clear `ValueError` each, with the argument's name, what was wanted and what came."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from neural import random_params

from toymodel import (
    PairGram,
    PreferencePairs,
    Vocabulary,
    bag_pairs,
    contrast_pairs,
    cosine,
    diagnose,
    edit_pairs,
    gradients,
    positional_pairs,
    prefix_pairs,
    theory,
    train,
)
from toymodel.data import sentiment
from toymodel.losses import LOSSES
from toymodel.losses.supervised import CrossEntropy
from toymodel.models import linear, transformer
from toymodel.models.logps import pair_logps

KEY = jax.random.key(0)
PAIRS = PreferencePairs.from_lists([[0], [1]], [[0, 1], [1, 1]], [[2, 1], [2]], vocab_size=3)
MODEL = linear.positional(3, 2)
PARAMS = linear.init_params(KEY, MODEL)
LOGPS = np.array([-1.0, -2.0])
GRAM = PairGram(jnp.ones(2), jnp.ones(2), jnp.zeros(2))


def pairs(prompt=((0,),), chosen=((1,),), rejected=((2,),), **options):
    return PreferencePairs.from_lists(prompt, chosen, rejected, **{"vocab_size": 3, **options})


def dpo(**changed):
    inputs = dict.fromkeys(("chosen_logps", "rejected_logps", "ref_chosen_logps", "ref_rejected_logps"), LOGPS)
    return LOSSES["dpo"]().value(**inputs | changed)


def sentiment_of(make=sentiment.sentiment_pairs, task="short_suffix", fit=0.5, length=None):
    return make(KEY, sentiment.draw_prompts(KEY, 2), task, suffix_fit=fit, suffix_length=length)


def gram_of(params=PARAMS, of=PAIRS, model=MODEL):
    return gradients.pair_gram(model, params, of)


CASES = {
    # pairs
    "empty chosen response": (lambda: pairs(chosen=((),)), "`chosen` must hold at least one token per response"),
    "empty rejected response": (lambda: pairs(rejected=((),)), "`rejected` must hold at least one token"),
    "no pairs": (lambda: pairs((), (), ()), "at least one response, got none"),
    "token too large": (lambda: pairs(chosen=((3,),)), "`chosen token` must be a whole number between 0 and 2, got 3"),
    "token negative": (lambda: pairs(prompt=((-1,),)), "`prompt token` must be a whole number between 0 and 2, got -1"),
    "token not whole": (lambda: pairs(rejected=((0.5,),)), "`rejected token` must be a whole number"),
    "numbers of pairs differ": (lambda: pairs(prompt=()), "one entry per pair, got 0, 1 and 1"),
    "vocabulary of one": (lambda: pairs(vocab_size=1), "`vocab_size` must be a whole number at least 2, got 1"),
    "a text where texts are wanted": (
        lambda: PreferencePairs.from_texts("a", ["b"], ["c"]),
        r"`prompt` must be a list with one text per pair, got 'a'; \['a'\] is one",
    ),
    "numbers of texts differ": (
        lambda: PreferencePairs.from_texts([], ["b"], ["c"]),
        "one entry per pair, got 0, 1 and 1",
    ),
    "text outside the vocabulary": (
        lambda: PreferencePairs.from_texts(["t0"], ["t1"], ["t2"], vocabulary=Vocabulary.numbered(2)),
        "got 't2'",
    ),
    "words of a batch": (lambda: PAIRS.words("chosen"), r"`words` are those of one pair .* shape \(2, 2\)"),
    "length too short": (
        lambda: pairs(chosen=((1, 1),), length=1),
        "`length` must be a whole number at least 2, got 1",
    ),
    "gap in a mask": (
        lambda: gram_of(of=replace(PAIRS, chosen_mask=jnp.array([[False, True], [True, True]]))),
        "`chosen_mask` must be False only in the padding, on the right",
    ),
    "gap in the prompt": (
        lambda: replace(
            PAIRS, prompt=jnp.zeros((2, 2), int), prompt_mask=jnp.array([[True, False], [True, True]])
        ).check(3),
        "`prompt_mask` must be False only in the padding, on the left",
    ),
    "mask of another shape": (
        lambda: gram_of(of=replace(PAIRS, chosen_mask=jnp.ones((2, 3), bool))),
        "`chosen` and `chosen_mask` must share one shape",
    ),
    "one pair where a batch is wanted": (lambda: gram_of(of=PAIRS[0]), r"`pairs` must be a batch .* shape \(2,\)"),
    "a batch where one pair is wanted": (
        lambda: theory.token_gram(MODEL, PARAMS, PAIRS),
        r"`pair` must be one pair .* shape \(2, 2\)",
    ),
    "a batch where one pair is measured": (
        lambda: gradients.token_gram(MODEL, PARAMS, PAIRS),
        r"`pair` must be one pair",
    ),
    "batches of different size": (lambda: gram_of(of=replace(PAIRS, prompt=PAIRS.prompt[:1])), "must share one shape"),
    "tokens outside the model's vocabulary": (
        lambda: gram_of(of=replace(PAIRS, rejected=PAIRS.rejected + 2)),
        r"`rejected` must hold token ids in \[0, 3\), got 4",
    ),
    # families
    "matches beyond the length": (
        lambda: positional_pairs(KEY, 2, vocab_size=3, length=4, matches=5),
        "`matches` must be a whole number between 0 and 4, got 5",
    ),
    "negative matches": (lambda: positional_pairs(KEY, 2, vocab_size=3, length=4, matches=-1), "`matches` must be"),
    "prefix beyond the length": (lambda: prefix_pairs(KEY, 2, vocab_size=3, length=4, shared=5), "`shared` must be"),
    "contrast outside": (
        lambda: contrast_pairs(KEY, 2, vocab_size=3, length=4, contrast_position=4),
        "`contrast_position` must be a whole number between 0 and 3, got 4",
    ),
    "bag beyond the length": (lambda: bag_pairs(KEY, 2, vocab_size=3, length=4, shared=5), "`shared` must be"),
    "bag of one token": (lambda: bag_pairs(KEY, 2, vocab_size=3, length=1, shared=0), "`length` must be"),
    "everything deleted": (
        lambda: edit_pairs(KEY, 2, vocab_size=3, length=4, deletions=4, insertions=0),
        "`deletions` must be a whole number between 0 and 3, got 4",
    ),
    "family with V = 1": (lambda: prefix_pairs(KEY, 2, vocab_size=1, length=4, shared=1), "`vocab_size` must be"),
    "no length": (lambda: prefix_pairs(KEY, 2, vocab_size=3, length=0, shared=0), "`length` must be"),
    "no pairs of a family": (lambda: prefix_pairs(KEY, 0, vocab_size=3, length=2, shared=0), "`n` must be"),
    "negative prompt": (
        lambda: prefix_pairs(KEY, 2, vocab_size=3, length=2, shared=0, prompt_length=-1),
        "`prompt_length` must be",
    ),
    # sentiment
    "no prompts": (lambda: sentiment.draw_prompts(KEY, 0), "`n` must be a whole number between 1 and 373248, got 0"),
    "more prompts than there are": (lambda: sentiment.draw_prompts(KEY, 72**3 + 1), "`n` must be .*, got 373249"),
    "half a prompt": (lambda: sentiment.draw_prompts(KEY, 1.5), "`n` must be a whole number"),
    "unknown task": (lambda: sentiment_of(task="suffix"), "`task` must be among single_token, .*, got 'suffix'"),
    "unknown task of annotators": (
        lambda: sentiment_of(sentiment.annotated_pairs, task="suffix"),
        "`task` must be among single_token, short_suffix, long_suffix, got 'suffix'",
    ),
    "suffixes fit too well": (lambda: sentiment_of(fit=1.1), r"`suffix_fit` must be in \[0, 1\], got 1.1"),
    "suffixes fit too badly": (lambda: sentiment_of(fit=jnp.array(-0.1)), "`suffix_fit` must be in"),
    "suffixes fit without a number": (lambda: sentiment_of(fit=np.nan), r"`suffix_fit` must be in \[0, 1\], got nan"),
    "annotators' suffixes fit too well": (
        lambda: sentiment_of(sentiment.annotated_pairs, fit=2),
        r"`suffix_fit` must be in \[0, 1\], got 2",
    ),
    "suffix without words": (
        lambda: sentiment_of(length=0),
        "`suffix_length` must be a whole number at least 1, got 0",
    ),
    "suffix of half a word": (
        lambda: sentiment_of(sentiment.annotated_pairs, length=0.5),
        "`suffix_length` must be a whole number at least 1, got 0.5",
    ),
    "suffix where there is none": (
        lambda: sentiment_of(task="single_token", length=2),
        "`suffix_length` must be a whole number between 0 and 0, got 2",
    ),
    # vocabulary
    "vocabulary of one word": (lambda: Vocabulary.numbered(1), "`size` must be a whole number at least 2, got 1"),
    "one token": (lambda: Vocabulary(("a",), ("neutral",)), "`tokens` must hold at least 2 tokens, got 1"),
    "a token twice": (lambda: Vocabulary(("a", "a"), ("neutral",) * 2), "different words without white space, got 'a'"),
    "white space": (lambda: Vocabulary(("a b", "c"), ("neutral",) * 2), "without white space, got 'a b'"),
    "no white space in a token, told once": (lambda: Vocabulary(("a b", "c"), ("neutral",) * 2), "got 'a b' once."),
    "a token three times": (lambda: Vocabulary(("a",) * 3, ("neutral",) * 3), "got 'a' 3 times."),
    "texts of one word": (lambda: Vocabulary.from_words("a a"), "`tokens` must hold at least 2 tokens, got 1"),
    "unknown role": (lambda: Vocabulary(("a", "b"), ("noun",) * 2), "`roles` must be among sentiment"),
    "roles missing": (lambda: Vocabulary(("a", "b"), ("neutral",)), "one role per token, got 1 for 2"),
    "unknown role asked for": (lambda: Vocabulary.numbered(2).with_role("noun"), "`role` must be among"),
    "unknown word": (lambda: Vocabulary.numbered(2).encode("t0 t9"), "got 't9'"),
    "unknown id": (lambda: Vocabulary.numbered(2).decode([2]), "`ids` must be a whole number between 0 and 1, got 2"),
    # models
    "model with V = 1": (lambda: linear.unigram(1), "`vocab_size` must be a whole number at least 2, got 1"),
    "no positions": (lambda: linear.positional(3, 0), "`length` must be"),
    "response longer than the model": (
        lambda: gram_of(of=PAIRS, model=linear.positional(3, 1), params=jnp.zeros((3, 1))),
        "at most 1 positions, got 2",
    ),
    "response longer than the prefix table": (
        lambda: gram_of(model=linear.prefix(3, pairs()), params=jnp.zeros((3, 2))),
        "at most 1 tokens after a prompt of at most 1, got 2 after 1",
    ),
    "temperature zero": (lambda: linear.init_params(KEY, MODEL, temperature=0.0), "`temperature` must be > 0, got 0.0"),
    "temperature NaN": (lambda: linear.init_params(KEY, MODEL, temperature=np.nan), "`temperature` must be > 0"),
    "offset temperature": (lambda: linear.random_offset(KEY, 3, PAIRS, temperature=-1.0), "`temperature` must be > 0"),
    "correlation beyond one": (
        lambda: linear.random_features(KEY, 3, PAIRS, dim=4, correlation=1.5),
        r"`correlation` must be in \[-1, 1\], got 1.5",
    ),
    "correlation NaN": (
        lambda: linear.random_features(KEY, 3, PAIRS, dim=4, correlation=float("nan")),
        "`correlation` must be in",
    ),
    "one feature": (lambda: linear.random_features(KEY, 3, PAIRS, dim=1, correlation=0.5), "`dim` must be"),
    "features of another shape": (
        lambda: linear.frozen_features(3, PAIRS, jnp.ones((2, 3, 4)), jnp.ones((2, 2, 4))),
        r"`chosen_features` must have leading axes \(2, 2\), got shape \(2, 3, 4\)",
    ),
    "features of different widths": (
        lambda: linear.frozen_features(3, PAIRS, jnp.ones((2, 2, 4)), jnp.ones((2, 2, 5))),
        "equally wide, got 4 and 5",
    ),
    "features not finite": (
        lambda: linear.frozen_features(3, PAIRS, jnp.full((2, 2, 4), jnp.inf), jnp.ones((2, 2, 4))),
        r"`chosen_features` must be finite, got inf at index \(0, 0, 0\)",
    ),
    "logits not finite": (
        lambda: linear.positional_offset(3, PAIRS, jnp.full((2, 2, 3), jnp.nan), jnp.ones((2, 2, 3))),
        "`chosen_logits` must be finite, got nan",
    ),
    "logits of another vocabulary": (
        lambda: linear.positional_offset(3, PAIRS, jnp.ones((2, 2, 4)), jnp.ones((2, 2, 4))),
        "3 entries per token, got 4",
    ),
    # measurement and prediction
    "parameters NaN": (
        lambda: gram_of(params=PARAMS.at[1, 0].set(jnp.nan)),
        r"`params` must be finite, got nan at index \(1, 0\)",
    ),
    "parameters infinite": (
        lambda: pair_logps(MODEL, PARAMS.at[0, 0].set(jnp.inf), PAIRS),
        "`params` must be finite, got inf",
    ),
    "prediction from NaN": (lambda: theory.pair_gram(MODEL, PARAMS * jnp.nan, PAIRS), "`params` must be finite"),
    "parameters of another shape": (
        lambda: gram_of(params=jnp.zeros((3, 4))),
        r"`params` must be W of shape \(3, 2\), got shape \(3, 4\)",
    ),
    "parameters and model swapped": (
        lambda: gram_of(params=MODEL, model=PARAMS),
        r"`model` must have `vocab_size` and `logits`, .* the order is model, params",
    ),
    "parameters and pairs swapped": (
        lambda: gradients.slopes(MODEL, PAIRS, PARAMS),
        r"`pairs` must be `PreferencePairs`, got .*; the order is model, params, pairs",
    ),
    "pairs where responses are wanted": (
        lambda: gradients.group_gram(MODEL, PARAMS, PAIRS),
        "`responses` must be a `Response`, got",
    ),
    "swapped in training": (
        lambda: train(PARAMS, MODEL, PAIRS, LOSSES["dpo"](), optax.sgd, 0.1, steps=1),
        "`model` must have `vocab_size` and `logits`",
    ),
    "weight and Gram entries swapped": (
        lambda: theory.case(1.0, GRAM),
        "`gram` must be a `PairGram`, got",
    ),
    "slopes of a number": (lambda: theory.slopes(1.0, GRAM), "`gram` must be a `PairGram`, got"),
    "weight NaN": (lambda: gradients.slopes(MODEL, PARAMS, PAIRS, jnp.nan), "`d_chosen` must be finite"),
    "weights of another shape": (
        lambda: gradients.step_change(MODEL, PARAMS, PAIRS, optax.sgd(1.0), jnp.ones(3)),
        r"`d_chosen` must be one number or one per pair \(2\), got shape \(3,\)",
    ),
    "zero gradient has no cosine": (
        lambda: cosine(PairGram(jnp.array([1.0, 0.0]), jnp.ones(2), jnp.zeros(2))),
        "undefined where a gradient is zero: pair 1",
    ),
    "case of NaN": (lambda: theory.case(PairGram(jnp.nan, 1.0, 0.0)), "`chosen_sq` must be finite"),
    "slack with d = 0": (lambda: theory.slack(GRAM, 0.0, 1.0), "`d_chosen` must be > 0, got 0.0"),
    "slack with d < 0": (lambda: theory.slack(GRAM, 1.0, -2.0), "`d_rejected` must be > 0, got -2.0"),
    "in_band with d = 0": (lambda: theory.in_band(GRAM, 0.0, 1.0), "`d_chosen` must be > 0"),
    "probability beyond one": (
        lambda: theory.threshold_length(0.1, 0.1, 1.2, 0.5, 20),
        r"`a` must be a probability in",
    ),
    "threshold with V = 1": (lambda: theory.threshold_length(0.1, 0.1, 0.9, 0.5, 1), "`vocab_size` must be"),
    # diagnose
    "nothing to diagnose": (lambda: diagnose(), "got none of them"),
    "two kinds of input": (
        lambda: diagnose(
            chosen_grad=np.ones((1, 2)),
            rejected_grad=np.ones((1, 2)),
            chosen_sq=np.ones(1),
            rejected_sq=np.ones(1),
            inner=np.ones(1),
        ),
        "got several of them",
    ),
    "one gradient only": (lambda: diagnose(chosen_grad=np.ones((1, 2))), "`rejected_grad` is missing"),
    "gradients without a batch": (
        lambda: diagnose(chosen_grad=np.ones(2), rejected_grad=np.ones(2)),
        r"one shape \[N, P\]",
    ),
    "no gradients": (lambda: diagnose(chosen_grad=np.ones((0, 2)), rejected_grad=np.ones((0, 2))), "not be empty"),
    "gradient infinite": (
        lambda: diagnose(chosen_grad=np.full((1, 2), np.inf), rejected_grad=np.ones((1, 2))),
        "`chosen_grad` must be finite, got inf",
    ),
    "gradient of words": (
        lambda: diagnose(chosen_grad=np.array([["a"]]), rejected_grad=np.array([["b"]])),
        "`chosen_grad` must hold real numbers",
    ),
    "gradient overflows": (
        lambda: diagnose(chosen_grad=np.full((1, 2), 1e200), rejected_grad=np.ones((1, 2))),
        "`chosen_sq` overflows float64",
    ),
    "negative square": (
        lambda: diagnose(chosen_sq=-np.ones(1), rejected_sq=np.ones(1), inner=np.zeros(1)),
        "`chosen_sq` must be >= 0, got -1.0",
    ),
    "weights per pair": (
        lambda: diagnose(chosen_sq=np.ones(2), rejected_sq=np.ones(2), inner=np.zeros(2), d_chosen=np.ones(3)),
        r"`d_chosen` must have shape \(2,\), got \(3,\)",
    ),
    # losses
    "misspelt loss": (lambda: LOSSES["dpoo"], "there is no loss 'dpoo'; did you mean 'dpo'"),
    "loss by a part of its name": (lambda: LOSSES["ipo_"], "did you mean 'ipo_sum' or 'ipo_lennorm'?"),
    "loss like no other": (lambda: LOSSES["?"], r"there is no loss '\?'; known are dpo, cdpo, "),
    "misspelt hyperparameter": (
        lambda: LOSSES["dpo"](bta=1),
        "`dpo` has no hyperparameter 'bta'; did you mean 'beta'?",
    ),
    "hyperparameter of another loss": (lambda: LOSSES["ipo_sum"](beta=0.1), "no hyperparameter 'beta'; known are tau"),
    "hyperparameter where there is none": (lambda: LOSSES["bce"](beta=1), "no hyperparameter 'beta'; it takes none"),
    "beta zero": (lambda: LOSSES["dpo"](beta=0), "`beta` of `dpo` must be > 0 and finite, got 0"),
    "beta negative in a sweep": (lambda: LOSSES["dpo"](beta=jnp.array([1.0, -1.0])), "`beta` of `dpo` must be > 0"),
    "beta not a number": (lambda: LOSSES["dpo"](beta="0.1"), "`beta` must be a number, got '0.1'"),
    "tau negative": (lambda: LOSSES["ipo_sum"](tau=-1.0), "`tau` of `ipo_sum` must be > 0"),
    "label smoothing of a half": (lambda: LOSSES["cdpo"](label_smoothing=0.5), r"must be in \[0, 0.5\), got 0.5"),
    "label smoothing of zero": (lambda: LOSSES["exo_pair"](label_smoothing=0), r"must be in \(0, 0.5\), got 0"),
    "fraction above one": (lambda: LOSSES["bdpo"](lam=1.5), r"`lam` of `bdpo` must be in \(0, 1\], got 1.5"),
    "hyperparameters per something else": (
        lambda: LOSSES["dpo"](beta=np.ones(3)).value(LOGPS, LOGPS, LOGPS, LOGPS),
        r"`beta` must be one number, or one per pair \(2,\), got shape \(3,\)",
    ),
    "positive log-probability": (lambda: dpo(chosen_logps=-LOGPS), r"`chosen_logps` must be <= 0 .* got 2.0"),
    "positive reference": (lambda: dpo(ref_rejected_logps=-LOGPS), "`ref_rejected_logps` must be <= 0"),
    "log-probability of words": (lambda: dpo(chosen_logps=["a", "b"]), "`chosen_logps` must hold real numbers"),
    "log-probability missing": (
        lambda: dpo(rejected_logps=None),
        "`rejected_logps` must hold real numbers, got dtype obj",
    ),
    "share negative": (lambda: CrossEntropy(-0.1), r"`rejected_share` must be in \[0, 1\], got -0.1"),
    "share beyond one": (lambda: CrossEntropy(2), r"`rejected_share` must be in \[0, 1\], got 2"),
    "share NaN": (lambda: CrossEntropy(np.float32("nan")), "`rejected_share` must be in"),
    "share beyond one in a sweep": (lambda: CrossEntropy(jnp.array([0.5, 1.5])), "`rejected_share` must be in"),
    "log-probability infinite": (lambda: dpo(chosen_logps=LOGPS * np.inf), "`chosen_logps` must be finite, got -inf"),
    "mismatched log-probabilities": (lambda: dpo(rejected_logps=LOGPS[:1]), r"share one shape, got .* \(1,\)"),
    "reference missing": (lambda: dpo(ref_rejected_logps=None), "`ref_rejected_logps` is missing"),
    "lengths missing": (lambda: LOSSES["simpo"]().weights(LOGPS, LOGPS), "`chosen_lengths` is missing"),
    "length zero": (lambda: dpo(chosen_lengths=np.array([3, 0])), r"`chosen_lengths` must be >= 1 \(tokens\), got 0"),
}


@pytest.mark.parametrize(("call", "message"), CASES.values(), ids=CASES)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()


NETWORK = transformer.Transformer(vocab_size=3, context_length=4, layers=1, dim=2, heads=1)
WEIGHTS = random_params(0, NETWORK)
CLOSED = {
    "pair_gram": (PAIRS,),
    "token_gram": (PAIRS[0],),
    "tabular_inner": (PAIRS,),
    "contrast_gram": (PAIRS,),
    "masked_gram": (PAIRS, jnp.ones((2, 2)), jnp.ones((2, 2))),
    "exact_change": (PAIRS, 0.1),
    "logit_directions": (PAIRS,),
    "token_account": (PAIRS, PAIRS, jnp.zeros((1, 2, 2)), 0.1),
    "remainder_bounds": (PAIRS,),
    "group_gram": (PAIRS.chosen_response,),
    "group_token_slopes": (PAIRS.chosen_response, jnp.ones(2)),
}


def params_of(name):
    """An account wants the parameters at every state; one vector of them will do here."""
    return jnp.zeros((2, 5)) if name in ("token_account", "remainder_bounds") else WEIGHTS


@pytest.mark.parametrize("name", CLOSED)
def test_a_network_has_no_closed_form(name):
    with pytest.raises(
        ValueError, match=r"`model` must be a linear softmax model .* Transformer.*; `toymodel.gradients`"
    ):
        getattr(theory, name)(NETWORK, params_of(name), *CLOSED[name])


def test_inside_a_trace_shapes_are_checked_and_values_are_not():
    """Values are unknown there; NaN goes through, a wrong shape does not."""
    gram = jax.jit(lambda params: gradients.pair_gram(MODEL, params, PAIRS))(PARAMS * jnp.nan)
    assert np.isnan(gram.inner).all()
    with pytest.raises(ValueError, match="must share one shape"):
        jax.jit(lambda of: gradients.pair_gram(MODEL, PARAMS, of))(replace(PAIRS, prompt=PAIRS.prompt[:1]))
