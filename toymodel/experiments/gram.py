"""The inner products of one random pair in one random model: predicted, measured, and what a small step then does."""

from types import SimpleNamespace

from jaxtyping import Array

from toymodel import gradients, theory
from toymodel.data.pairs import PreferencePairs
from toymodel.experiments.experiment import POSITIVE, Experiment, real
from toymodel.experiments.pairs import FIELDS, RULES, in_random_model, random_pairs
from toymodel.gram import cosine
from toymodel.models.linear import LinearSoftmax


def measure(setting: SimpleNamespace) -> dict[str, Array]:
    """Gram entries in nats² per squared parameter unit, slopes in nats per unit of learning rate, cosine and case."""
    pairs = random_pairs(setting)
    return in_random_model(setting, pairs, lambda model, params: _row(setting, model, params, pairs))


def _row(setting: SimpleNamespace, model: LinearSoftmax, params: Array, pairs: PreferencePairs) -> dict[str, Array]:
    weights = setting.d_chosen, setting.d_rejected
    row: dict[str, Array] = {}
    for route, gram in (
        ("predicted", theory.pair_gram(model, params, pairs)),
        ("measured", gradients.pair_gram(model, params, pairs)),
    ):
        chosen_slope, rejected_slope = theory.slopes(gram, *weights)
        columns = {
            **gram._asdict(),
            "cosine": cosine(gram),
            "chosen_slope": chosen_slope,
            "rejected_slope": rejected_slope,
            "case": theory.case_index(gram, *weights),
        }
        row |= {f"{name}_{route}": column[0] for name, column in columns.items()}
    return row


#: `measure` as an experiment, "gram" in a configuration.
GRAM = Experiment(
    "gram",
    {**FIELDS, "d_chosen": real(1.0, POSITIVE), "d_rejected": real(1.0, POSITIVE)},
    measure,
    RULES,
    names={f"case_{route}": theory.CASES for route in ("predicted", "measured")},
)
