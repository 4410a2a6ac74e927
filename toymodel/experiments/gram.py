"""The inner products of one random pair in one random model, predicted and measured, and the effect of a small step."""

from toymodel import gradients, theory
from toymodel._public import own_names
from toymodel.experiments.experiment import POSITIVE, Experiment, Row, real, setting
from toymodel.experiments.pairs import RULES, PairSetting, draw_model, draw_pairs
from toymodel.gram import cosine

__dir__ = own_names(globals())


@setting
class GramSetting(PairSetting):
    """A random pair, and the weights that a loss puts on its gradients."""

    d_chosen: float = real(1.0, POSITIVE)
    d_rejected: float = real(1.0, POSITIVE)


def measure(setting: GramSetting) -> Row:
    """Gram entries in nats² per squared parameter unit, slopes in nats per unit of learning rate, cosine and case."""
    pairs = draw_pairs(setting)
    model, params = draw_model(setting, pairs)
    weights = setting.d_chosen, setting.d_rejected
    row: Row = {}
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
    GramSetting,
    measure,
    RULES,
    names={f"case_{route}": theory.CASES for route in ("predicted", "measured")},
    whole=False,  # of 30 families and models, each is then compiled by itself, not each combination
    block=256,
)
