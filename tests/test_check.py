"""`check` passes on the real code, and fails when a closed form is broken: one broken term per label."""

import math
from functools import partial
from typing import Any, NamedTuple

import jax
import pytest

from toymodel import check, theory
from toymodel.check.discrepancy import checks

FAST = {"xla_backend_optimization_level": 0}  # to compile, as in the check itself
# By label, a closed form and the factor that breaks it.
BROKEN = [
    ("T1", "residuals", 1 + 1e-9),
    ("T2", "token_gram", -1),
    ("T3", "tabular_inner", 2),
    ("T3", "replacement_increment", 1 + 1e-9),
    ("T4", "single_token_gram", 1 + 1e-9),
    ("T4", "single_token_slopes", 2),
    ("T5", "contrast_gram", 2),
    ("T6", "suffix_token_bound", 2 + 1e-9),  # twice the bound is attained, as V = 2
    ("T7", "suffix_slopes", -1),
    ("T8", "threshold_length", 1.2),
    ("T9", "slopes", 1 + 1e-9),
    ("T10", "case_index", 2),
    ("T11", "band", 1.01),
    ("T11", "in_band", False),
    ("T12", "exact_change", 1 + 1e-6),
    ("T12", "change_bounds", 0.5),
    ("T12", "certified_step", 100),
    ("T13", "slopes", 1.01),
    ("T13", "halving_bound", 0.1),
    ("T14", "dpo_flow", 1 + 1e-6),
    ("T14", "ipo_flow", 1 + 1e-6),
    ("T14", "flow_logps", 1 + 1e-9),
    ("T15", "squeeze", 1 + 1e-9),
    ("T15", "squeeze_threshold", 1 + 1e-6),
    ("T16", "token_slopes", 1 + 1e-9),
    ("T16", "ches", 1 + 1e-9),
    ("T17", "normalised_slopes", 1 + 1e-9),
    ("T17", "balanced_weights", 1 + 1e-9),
    ("T17", "certified_step", 100),
    ("T17", "in_band", False),
    ("T18", "masked_gram", 1 + 1e-9),
    ("T18", "single_token_gram", 1 + 1e-9),
    ("T19", "likelihood_window", 1 + 1e-9),
    ("T20", "group_slopes", 1 + 1e-9),
    ("T21", "group_gram", 1 + 1e-9),
    ("T21", "displaced", False),
    ("T7", "suffix_direction", -1),
    ("T22", "crowd_slopes", 1 + 1e-9),
    ("T22", "crowd_threshold", 2),
    ("T25", "token_credit", 1 + 1e-9),
    ("T25", "group_token_slopes", 1 + 1e-9),
    ("T26", "descent_field", 1 + 1e-9),
    ("T26", "split_field", 1 + 1e-9),
    ("T26", "quadratic_rate", 1 + 1e-9),
    ("T27", "fisher_gram", 1 + 1e-9),
    ("T27", "fisher_cosine", 1 + 1e-9),
    ("T24", "common_weights", 1.01),
    ("T24", "step_price", 1 + 1e-9),
]
ALL, discrepancies = check.CHECKS, check._discrepancies.__wrapped__
RIGHT = {name: type(factor)(1) for _, name, factor in BROKEN}


def scaled(function, factor):
    """The function with its first result, or first entry, off by a factor."""

    def broken(*arguments):
        value = function(*arguments)
        if isinstance(value, theory.PairGram):
            return value._replace(chosen_sq=factor * value.chosen_sq)
        return (factor * value[0], *value[1:]) if isinstance(value, tuple) else factor * value

    return broken


@partial(jax.jit, static_argnums=0, compiler_options=FAST)
def find_discrepancies(several, number, noise, factors):
    """Run all checks for several models, or all for one; factors of closed forms are numbers of the program."""
    together = tuple(each for each in ALL if (len(each.models) > 1) == several)
    with pytest.MonkeyPatch.context() as patch:
        for name, factor in factors.items():
            patch.setattr(theory, name, scaled(getattr(theory, name), factor))
        return discrepancies(together, number, noise)


class Scaled(NamedTuple):
    """In place of the function that the check compiles, which takes a minute: right and broken forms share programs."""

    factors: dict[str, Any]
    lowered: Any = None

    def lower(self, checks, number, noise):
        return self._replace(lowered=find_discrepancies.lower(len(checks[0].models) > 1, number, noise, self.factors))

    def compile(self):
        program = self.lowered.compile()
        return lambda number, noise: program(number, noise, self.factors)


def run_scaled(factors, **options):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(check, "_discrepancies", Scaled(RIGHT | factors))
        return check.run(examples=1, **options)


@pytest.fixture(scope="module")
def results():
    """With all factors 1, by which every number stays exactly what it is."""
    return run_scaled({}, seed=20)


def test_every_label_passes(results):
    assert [result.label for result in results] == [f"T{i}" for i in range(1, 28)]
    for result in results:
        assert result.passed, result
        assert result.draws >= 64
        assert result.tolerance <= 1e-10


def test_the_seed_alone_decides(results):
    assert run_scaled({}, seed=20) == results
    assert run_scaled({}, seed=21) != results


def test_every_model_takes_part(monkeypatch):
    """With the model's number as the discrepancy, in place of two labels: of any model, and of one."""
    number = checks("T1", "", tolerance=1.0)(lambda draw: draw.model.number * 1.0)
    models = check.MODELS
    alone = number._replace(label="T2", models=models[2:3])
    monkeypatch.setattr(check, "CHECKS", (number, alone))
    any_model, one = check.run(examples=1, seed=0, shapes=((3, 4),))
    assert (any_model.worst, any_model.draws, any_model.passed) == (len(models) - 1, 64 * len(models), False)
    assert (one.worst, one.draws) == (2, 64)


@pytest.mark.parametrize(("label", "name", "factor"), BROKEN)
def test_a_broken_closed_form_fails_its_label(monkeypatch, label, name, factor):
    only = tuple(c._replace(models=c.models[:2]) for c in ALL if c.label == label)
    monkeypatch.setattr(check, "CHECKS", only)
    (result,) = run_scaled({name: factor}, seed=0, shapes=check.SHAPES[:1])
    assert not result.passed
    assert result.worst > result.tolerance or math.isnan(result.worst)
