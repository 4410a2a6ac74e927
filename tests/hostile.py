"""Hostile inputs: what a careless or a malicious caller passes, and whether he is told so in one line.

`python tests/hostile.py` feeds every one of them to the API and to the commands, and counts those that are not refused
as they should be. `test_domains.py` and `test_hostile.py` run the same tables. Root tries commands as nobody.

Of the API a violation is a call that returns, that raises another error than `ValueError` or `TypeError`, or whose
error does not name the argument. Of a command it is any exit code but 2, or more than one line on stderr.
"""

import functools
import importlib
import inspect
import pkgutil
import tempfile
import warnings
from dataclasses import replace
from pathlib import Path

import hostile_commands
import jax
import jax.numpy as jnp
import numpy as np
import optax

from toymodel import PairGram, PreferencePairs, theory
from toymodel.losses import LOSSES
from toymodel.models import linear
from toymodel.training import train
from toymodel.training.accounting import account, attribute
from toymodel.training.sources import by_side

PAIRS = PreferencePairs.from_lists([[0], [1]], [[0, 1], [1, 1]], [[2, 1], [2]], vocab_size=3)
GROUP = theory.as_group(PAIRS)[0]
MODEL = linear.positional(3, 2)
PARAMS = np.array([[0.1, 0.2], [0.3, -0.4], [0.5, 0.6]])
GRAM = PairGram(np.array([1.0, 2.0]), np.array([2.0, 1.0]), np.array([0.5, -0.5]))
MATRIX = np.array([[2.0, 0.5], [0.5, 1.0]])
PROBS, OTHER = np.array([0.2, 0.5, 0.3]), np.array([0.6, 0.1, 0.3])
LOGITS = np.array([0.0, 1.0, 2.0])
COSINES = theory.Cosines(0.2, 0.1, 0.3)
DIRECTIONS = np.array([[0.0, 1.0, 2.0], [1.0, 0.0, -1.0]])
CHANCE = {"p_chosen": 0.3, "p_rejected": 0.2}
SUFFIX = {"a": 0.9, "b": 0.5, "vocab_size": 20}
ON_PAIRS = {"model": MODEL, "params": PARAMS, "pairs": PAIRS}
WEIGHTED = {"d_chosen": 1.0, "d_rejected": np.array([1.0, 2.0])}
PUSH = {"logits": LOGITS, "token": 1, "eta": 0.5}
PATH = np.stack([PARAMS, 0.9 * PARAMS])

#: Arguments that every public function of theory takes, by its name.
CALLS = {
    "as_group": {"pairs": PAIRS, **WEIGHTED},
    "balanced_weights": {"gram": GRAM, **WEIGHTED},
    "band": {"gram": GRAM},
    "band_centre": {"gram": GRAM},
    "cancels": {"gram": MATRIX, "advantages": np.array([1.0, -1.0])},
    "case": {"gram": GRAM, **WEIGHTED},
    "case_index": {"gram": GRAM, **WEIGHTED},
    "case_of_slopes": {"chosen_slope": 1.0, "rejected_slope": -1.0},
    "certified_step": {"slope": 1.0, "shortfall": 0.5},
    "change_bounds": {"slope": 1.0, "shortfall": 0.5, "eta": 0.1},
    "check_gram": {"gram": MATRIX},
    "ches": {"chosen_hidden": DIRECTIONS, "rejected_hidden": DIRECTIONS},
    "common_weights": {"gram": MATRIX, "advantages": np.array([1.0, -1.0]), "damping": 0.0},
    "contrast_gram": ON_PAIRS,
    "contrast_token_entry": {"probs": PROBS, "chosen": 0, "rejected": 1, "feature_sq": 1.0},
    "cosine": {"gram": GRAM},
    "crowd_shares": {"cosines": COSINES, "batch_size": 4},
    "crowd_slopes": {**CHANCE, **SUFFIX, "suffix_length": 3, "cosines": COSINES, "batch_size": 4},
    "crowd_threshold": {**CHANCE, **SUFFIX, "cosines": COSINES, "batch_size": 4},
    "descent_field": {**ON_PAIRS, "h": 0.1, **WEIGHTED},
    "displaced": {"gram": MATRIX, "advantages": np.array([1.0, -1.0])},
    "dpo_flow": {"t": 1.0, "beta": 0.1, "feature_sq": 1.0},
    "exact_change": {**ON_PAIRS, "eta": 0.1, **WEIGHTED},
    "find_common_step": {"gram": MATRIX},
    "fisher_cosine": CHANCE,
    "fisher_gram": {"probs": PROBS, "chosen": 0, "rejected": 1},
    "fisher_inner": {"probs": PROBS, "one": 0, "other": 1},
    "flow_logps": {"logits": LOGITS, "chosen": 0, "rejected": 1, "u": 0.5},
    "group_gram": {"model": MODEL, "params": PARAMS, "responses": GROUP},
    "group_slopes": {"gram": MATRIX, "advantages": np.array([1.0, -1.0])},
    "group_token_slopes": {"model": MODEL, "params": PARAMS, "responses": GROUP, "advantages": np.ones(4)},
    "halving_bound": {"velocity": DIRECTIONS, "acceleration": DIRECTIONS, "eta": 0.1},
    "in_band": {"gram": GRAM, **WEIGHTED},
    "ipo_flow": {"t": 1.0, "tau": 0.1, "feature_sq": 1.0},
    "kernel_token_gram": {
        "kernel": np.ones((2, 2, 3, 3)),
        "chosen_residuals": DIRECTIONS,
        "rejected_residuals": DIRECTIONS,
    },
    "likelihood_window": {"gram": GRAM, "d": 1.0},
    "log_mean_exp": {"logits": LOGITS, "shift": LOGITS},
    "logit_directions": {**ON_PAIRS, **WEIGHTED},
    "margin_slope": {"gram": GRAM, "d": 1.0},
    "masked_gram": {**ON_PAIRS, "chosen_weights": np.ones((2, 2)), "rejected_weights": np.ones((2, 2))},
    "norm_shortfall": {"directions": DIRECTIONS},
    "normalised_advantages": {"rewards": np.array([0.0, 1.0])},
    "normalised_slopes": {"gram": GRAM},
    "pair_gram": ON_PAIRS,
    "peaked_suffix_slopes": SUFFIX,
    "per_pair": {"name": "value", "value": 1.0, "n": 2},
    "quadratic_rate": {"curvature": 1.0, "h": 0.1},
    "range_shortfall": {"directions": DIRECTIONS},
    "remainder_bounds": {"model": MODEL, "path": PATH, "judged": PAIRS, "at": "middle"},
    "replacement_increment": {"p_chosen": 0.3, "p_old": 0.2},
    "residuals": {"logits": DIRECTIONS, "tokens": np.array([0, 2])},
    "single_token_gram": {"probs": PROBS, "chosen": 0, "rejected": 1, "feature_sq": 1.0},
    "single_token_slopes": {**CHANCE, "feature_sq": 1.0},
    "slack": {"gram": GRAM, **WEIGHTED},
    "slopes": {"gram": GRAM, **WEIGHTED},
    "split_field": {**ON_PAIRS, "h": 0.1, **WEIGHTED},
    "squeeze": PUSH,
    "squeeze_threshold": PUSH,
    "step_price": {"gram": GRAM, "chosen_slope": 1.0, "rejected_fall": 1.0},
    "suffix_direction": {"p": PROBS, "q": OTHER, "token": 0},
    "suffix_slopes": {"p": PROBS, "q": OTHER, "token": 0, "feature_sq": 1.0},
    "suffix_token_bound": {"p_token": 0.5, "q_token": 0.4, "feature_sq": 1.0},
    "tabular_inner": ON_PAIRS,
    "threshold_length": {**CHANCE, **SUFFIX},
    "token_account": {
        **{"model": MODEL, "path": PATH, "pairs": PAIRS, "judged": PAIRS, "weights": np.ones((1, 2, 2))},
        **{"learning_rate": 0.1, "momentum": 0.9},
    },
    "token_credit": {"probs": PROBS, "tokens": np.array([0, 1]), "advantages": np.array([1.0, -1.0])},
    "token_gram": {"model": MODEL, "params": PARAMS, "pair": PAIRS[0]},
    "token_slopes": {"head": PARAMS, "hidden": np.array([1.0, 2.0]), "chosen": 0, "rejected": 1},
    "uniform_positional_cosine": {"matches": 2, "length": 8, "vocab_size": 3},
    "uniform_positional_inner": {"matches": 2, "length": 8, "vocab_size": 3},
    "uniform_unigram_inner": {"chosen_counts": np.array([1, 2, 0]), "rejected_counts": np.array([0, 1, 2])},
}

#: Of these modules but not for users: they take what a model has read, inside functions that have checked it.
INSIDE = {"masked_residuals", "pair_states", "response_inner"}

NOT_NUMBERS = (None, "a", 1j, [0.5], np.array(["a"]), np.array([1j]), np.nan, np.inf, -np.inf, np.array([0.5, np.nan]))
FROM_ZERO, ABOVE_ZERO = (-1.0, np.array([1.0, -1e-9])), (0.0, -1.0, np.array([1.0, 0.0]))
CHANCES = (-0.1, 1.1, 3, np.array([0.5, 1.5]))
TOKENS = (-1, 3, 0.5, np.array([0, 7]))
SPREADS = (0.5, np.array([1.0]), np.array([0.5, 0.6, 0.2]), np.array([1.5, -0.5, 0.0]), np.array([0.5, 0.5, np.nan]))
WHOLE = (0.5, -1)
MODELS = (MODEL.features, LOGITS, linear, linear.positional)
ANY_PAIRS = (
    *(GROUP, (PAIRS.chosen, PAIRS.rejected), replace(PAIRS, chosen=np.asarray(PAIRS.chosen, float))),
    replace(PAIRS, chosen_mask=np.asarray(PAIRS.chosen_mask, int)),
    replace(PAIRS, rejected=None),
)
IDS_BEYOND = replace(PAIRS, chosen=PAIRS.chosen + 3)
GRAMS = (
    *(MATRIX, (1.0, 1.0, 0.0), PairGram(-1.0, 1.0, 0.0), PairGram(1.0, -1.0, 0.0), PairGram(1.0, 1.0, 1.5)),
    *(PairGram(np.nan, 1.0, 0.0), PairGram(1.0, np.inf, 0.0), PairGram(1.0, 1.0, np.nan), PairGram("a", 1.0, 0.0)),
    *(PairGram(1.0, None, 0.0), PairGram(1.0, 1.0, 1j), PairGram(np.ones(2), np.ones(2), np.array([0.0, -1.5]))),
)
MATRICES = (
    *(GRAM, np.ones(2), np.ones((2, 3)), np.array([[1.0, 2.0], [2.0, 1.0]]), np.array([[-1.0, 0.0], [0.0, 1.0]])),
    *(np.array([[1.0, 0.5], [-0.5, 1.0]]), np.array([[1.0, np.nan], [np.nan, 1.0]])),
)
#: What each argument refuses beside all that is no finite number.
HOSTILE = {
    **dict.fromkeys(("a", "b", "p_token", "q_token", "p_old", "p_chosen", "p_rejected"), CHANCES),
    **dict.fromkeys(("eta", "feature_sq", "h", "shortfall", "suffix_length", "t", "damping"), FROM_ZERO),
    **dict.fromkeys(("beta", "learning_rate", "tau"), ABOVE_ZERO),
    **dict.fromkeys(("chosen", "rejected", "one", "other", "token", "tokens"), TOKENS),
    **dict.fromkeys(("p", "probs", "q"), SPREADS),
    **dict.fromkeys(("directions", "velocity", "acceleration"), (1.0, np.ones(3))),
    **dict.fromkeys(("logits", "shift"), (1.0, np.ones(1))),
    **dict.fromkeys(("chosen_slope", "curvature", "d", "rejected_fall", "rejected_slope", "slope", "u"), ()),
    **dict.fromkeys(("chosen_weights", "rejected_weights", "weights", "advantages"), (np.ones(7),)),
    **dict.fromkeys(("chosen_hidden", "rejected_hidden"), (1.0, np.ones((2, 5)), np.ones((5, 2, 3)))),
    **dict.fromkeys(("chosen_residuals", "rejected_residuals", "kernel"), (1.0, np.ones((4, 4)))),
    **dict.fromkeys(("chosen_counts", "rejected_counts"), (1, np.array([1, 2]), np.array([-1, 1, 1]), PROBS)),
    **dict.fromkeys(("d_chosen", "d_rejected", "value"), ()),
    **dict.fromkeys(("pairs", "judged"), (*ANY_PAIRS, PAIRS[0])),
    "pair": (*ANY_PAIRS, PAIRS, IDS_BEYOND[0]),
    "at": ("end", 0),
    "batch_size": (0, -2, 3, 2.0, "a"),
    "cosines": (None, (0.2, 0.1, 0.3), theory.Cosines(2.0, 0.1, 0.3), theory.Cosines(0.2, 0.1, np.nan)),
    "gram": GRAMS,
    "head": (1.0, np.ones(2), np.ones((1, 2)), np.ones((3, 3))),
    "hidden": (1.0, np.ones((2, 2)), np.ones(3)),
    "length": (*WHOLE, 0, 1),
    "matches": (*WHOLE, 9),
    "model": MODELS,
    "momentum": (-0.1, 1.0, 2.0),
    "params": (np.ones((3, 5)), np.ones(3), PARAMS.astype(int), {"W": PARAMS}),
    "path": (np.ones((2, 3, 5)), PARAMS, PATH[:1]),
    "responses": (PAIRS, jax.tree.map(lambda a: a[0], GROUP), replace(GROUP, tokens=GROUP.tokens + 3)),
    "rewards": (1.0, np.zeros((2, 0))),
    "vocab_size": (1, 0, -3, 2.5),
}
#: Where a name means something else, or has a narrower range.
SPECIAL = {
    **{(name, "gram"): MATRICES for name in ("cancels", "common_weights", "displaced", "group_slopes")},
    **{(name, "gram"): MATRICES for name in ("check_gram", "find_common_step")},
    **{(name, d): ABOVE_ZERO for name in ("balanced_weights", "in_band", "slack") for d in ("d_chosen", "d_rejected")},
    ("likelihood_window", "d"): ABOVE_ZERO,
    **{(name, "feature_sq"): ABOVE_ZERO for name in ("dpo_flow", "ipo_flow")},
    **{(name, p): (*CHANCES, 0.0) for name in ("fisher_cosine",) for p in ("p_chosen", "p_rejected")},
    **{(name, "probs"): (*SPREADS, np.array([0.0, 0.5, 0.5])) for name in ("fisher_gram", "fisher_inner")},
    **{(name, "eta"): ABOVE_ZERO for name in ("squeeze", "squeeze_threshold")},
    ("quadratic_rate", "h"): ABOVE_ZERO,
    ("quadratic_rate", "curvature"): (10.0, 11.0),
    ("single_token_gram", "rejected"): (*TOKENS, 0),
    ("contrast_token_entry", "rejected"): (*TOKENS, 0),
    ("fisher_gram", "rejected"): (*TOKENS, 0),
    ("flow_logps", "chosen"): (*TOKENS, 1),
    ("flow_logps", "logits"): (1.0, np.ones(1), np.ones((2, 3))),
    ("token_slopes", "chosen"): (*TOKENS, 1),
    ("token_credit", "tokens"): (*TOKENS, 0),
    ("residuals", "logits"): (1.0, np.ones((2, 1))),
    ("threshold_length", "p_chosen"): (*CHANCES, 0.81),
    ("crowd_threshold", "p_rejected"): (*CHANCES, 0.71),
    ("crowd_slopes", "p_rejected"): (*CHANCES, 0.71),
    ("single_token_slopes", "p_chosen"): (*CHANCES, 0.81),
    ("replacement_increment", "p_old"): (*CHANCES, 0.71),
}
#: What has another meaning than "no such value".
TAKEN = {"batch_size": (None,), "momentum": (), "name": (), "n": (), "allow_zero": ()}
#: Arguments that are no numbers: of these only what `HOSTILE` says, and None, is refused.
THINGS = {"at", "batch_size", "cosines", "gram", "judged", "model", "pair", "pairs", "params", "responses"}
#: Not the argument itself, but the entry that is wrong, or the other one of two that do not go together.
TOLD_AS = {
    "gram": ("gram", "chosen_sq", "rejected_sq", "inner"),
    **dict.fromkeys(("pair", "pairs", "judged"), ("pair", "pairs", "judged", "chosen", "rejected", "chosen_mask")),
    "responses": ("responses", "tokens"),
    **dict.fromkeys(
        ("kernel", "chosen_residuals", "rejected_residuals"),
        ("kernel", "chosen_residuals", "rejected_residuals"),
    ),
    "chosen_hidden": ("chosen_hidden",),
    "chosen_counts": ("chosen_counts", "rejected_counts"),
    "velocity": ("velocity", "acceleration"),
    "matches": ("matches",),
    "length": ("length",),
    "path": ("path", "params"),
    "cosines": ("cosines", "cosines.same", "cosines.suffix"),
    "logits": ("logits",),
    "probs": ("probs", "chosen", "rejected", "advantages"),
}


def public_functions():
    """Every public function of theory, with what its modules define beside it."""
    found = {name: getattr(theory, name) for name in theory.__all__}
    for module in pkgutil.iter_modules(theory.__path__):
        if not module.name.startswith("_"):
            loaded = importlib.import_module(f"toymodel.theory.{module.name}")
            found |= {name: getattr(loaded, name) for name in dir(loaded)}
    return {
        name: function
        for name, function in found.items()
        if callable(function) and not inspect.isclass(function) and hasattr(function, "__name__") and name not in INSIDE
    }


def of_theory():
    """(words, call, names that the error may tell) for every argument of every function, and all that it refuses."""
    for name, function in public_functions().items():
        for argument in CALLS[name]:
            refused = SPECIAL.get((name, argument), HOSTILE.get(argument, ()))
            if argument not in THINGS:
                refused = (*NOT_NUMBERS, *refused)
            elif argument not in TAKEN:
                refused = (None, "a", *refused)
            for value in refused if argument not in ("name", "n") else ():
                yield f"{name}({argument}={show(value)})", call(function, CALLS[name], argument, value), told(argument)


def show(value):
    return " ".join(repr(value).split())[:60]


def told(argument):
    return TOLD_AS.get(argument, (argument,))


def call(function, valid, argument, value):
    return functools.partial(function, **{**valid, argument: value})


TRAIN = {
    **{"model": MODEL, "params": jnp.asarray(PARAMS), "pairs": PAIRS, "loss": LOSSES["dpo"]()},
    **{"optimizer": optax.sgd, "learning_rate": 0.1, "steps": 2},
}
MINIBATCHES = TRAIN | {"key": jax.random.key(0), "batch_size": 1}
ACCOUNT = TRAIN | {"judged": PAIRS, "sources": by_side(PAIRS)}
NO_PARAMS = (None, {}, "W", 1.0, PARAMS.astype(int), PARAMS.astype(complex), PARAMS * np.nan, {"W": None}, [1.0])
TRAINING = {
    "model": (None, "a", 3, MODEL.features, linear.positional),
    "params": (*NO_PARAMS, np.ones((3, 5))),
    "pairs": (None, "a", 3, GROUP, (PAIRS,), PAIRS[0], IDS_BEYOND, *ANY_PAIRS[2:]),
    "loss": (None, "dpo", 3, LOSSES["dpo"], type(LOSSES["dpo"]())),
    "optimizer": (None, "sgd", 3, optax.sgd(0.1), lambda _: None, lambda rate: rate, dict),
    "learning_rate": (None, "a", 1j, [0.1], (0.1,), np.nan, np.inf, 0.0, -1.0, np.ones(2), np.array("a"), True, {}),
    "steps": (None, 0, -1, 1.5, "a", True, [2], np.inf),
    "batch_size": (0, 3, 1.5, "a", True, [1]),
    "key": (0, 1.5, "a", [0, 1], np.zeros(2), np.zeros(2, np.int64), jax.random.split(jax.random.key(0)), object()),
    "ref_params": ("W", 1.0, {"W": PARAMS}, np.ones((3, 5)), PARAMS.astype(int), PARAMS * np.inf, [PARAMS], {}),
    "update": ("plain", 3, dict, object(), lambda *_: None),
    "over": (None, 3, "loss", ("nothing",), (3,), ("pairs",), ("params",), ("key",), object()),
    "record": (None, "all", 3, []),
    "checkpoint_every": (0, -1, 1.5, "a", True),
    "progress": (3, "a", ()),
    "judged": (None, "a", GROUP, PAIRS[0], IDS_BEYOND),
    "sources": (None, {}, [1], {"decay": np.ones((2, 2, 2), bool)}, {"one": None}, {"one": np.ones((2, 2, 2))}),
    "at": (None, "end", 3, []),
}


def of_training():
    """The same for `train`, `account` and `attribute`."""
    for function, valid in ((train, TRAIN), (account, ACCOUNT), (attribute, ACCOUNT)):
        known = inspect.signature(function).parameters
        for argument, refused in TRAINING.items():
            given = MINIBATCHES if argument in ("key", "batch_size") else TRAIN
            given = {name: value for name, value in (valid | given).items() if name in known}
            for value in refused if argument in known else ():
                words = f"{function.__name__}({argument}={show(value)})"
                names = (*told(argument), *(("key", "pairs", "params") if argument == "over" else ()))
                yield words, call(function, given, argument, value), names


def of_losses():
    """The same for every hyperparameter of every loss, and for what losses are told of pairs."""
    logps = np.array([-1.0, -2.0])
    given = dict.fromkeys(("chosen_logps", "rejected_logps", "ref_chosen_logps", "ref_rejected_logps"), logps)
    for name, definition in LOSSES.items():
        for hyper in definition.defaults:
            for value in (None, "a", 1j, [0.1], np.nan, np.inf, np.array([0.1, np.nan])):
                yield (
                    f"LOSSES[{name!r}]({hyper}={show(value)})",
                    functools.partial(definition, **{hyper: value}),
                    (hyper,),
                )
    for argument in given:
        for value in ("a", 1j, np.array([1j, 1j]), np.nan, -np.inf, np.array([1.0, -1.0]), np.array([-1.0, np.nan])):
            words = f"dpo.value({argument}={show(value)})"
            yield words, call(LOSSES["dpo"]().value, given, argument, value), (argument, "all arrays")


def violation(run, names):
    """What is wrong with how the call ends, in words; None where it is refused as it should be."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            result = run()
    except (ValueError, TypeError) as error:
        said = str(error)
        if not any(f"`{name}`" in said for name in names) and "all arrays" not in names:
            return f"the error does not name the argument: {type(error).__name__}: {said[:200]}"
        return "the error has several lines" if "\n" in said else None
    except Exception as error:  # whatever it is, it should not be
        return f"{type(error).__name__}: {str(error)[:200]}"
    return f"no error, but {show(result)}"


def main():
    """Try everything, and say what was not refused."""
    total = wrong = 0
    for inputs in (of_theory, of_training, of_losses):
        tried = 0
        for words, run, names in inputs():
            tried += 1
            if found := violation(run, names):
                wrong += 1
                print(f"{words}: {found}")
        total += tried
        print(f"{inputs.__name__}: {tried} inputs")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o777)
        for inputs in (hostile_commands.of_files, hostile_commands.of_places):
            as_nobody, tried = inputs is hostile_commands.of_places, 0
            if as_nobody and not hostile_commands.can_be_ordinary():
                continue
            (folder / inputs.__name__).mkdir(mode=0o777)
            (folder / inputs.__name__).chmod(0o777)
            for words, arguments in inputs(folder / inputs.__name__):
                tried += 1
                if found := hostile_commands.violation(arguments, as_nobody=as_nobody):
                    wrong += 1
                    print(f"{words}: {' '.join(map(str, arguments))}: {found}")
            total += tried
            print(f"{inputs.__name__}: {tried} inputs")
    print(f"{total} inputs, {wrong} violations")
    return wrong > 0


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    raise SystemExit(main())
