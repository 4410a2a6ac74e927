"""The experiments that a configuration calls by name, each imported when it is needed."""

import importlib
from typing import Any

from toymodel._public import own_names

__dir__ = own_names(globals())

#: Name in a configuration: module and object.
EXPERIMENTS = {
    "account": "toymodel.experiments.account:ACCOUNT",
    "gram": "toymodel.experiments.gram:GRAM",
    "real": "toymodel.experiments.language_model:REAL_TRAINING",
    "real_account": "toymodel.experiments.language_model_account:REAL_ACCOUNT",
    "real_regime": "toymodel.experiments.language_model_account:REAL_REGIME",
    "remedies": "toymodel.experiments.remedies:REMEDY_COMPARISON",
    "fine_tuning": "toymodel.experiments.sentiment:FINE_TUNING",
    "sentiment": "toymodel.experiments.sentiment:SENTIMENT",
    "toy_steps": "toymodel.experiments.toy_steps:TOY_STEPS",
    "training": "toymodel.experiments.training:TRAINING",
}


def load_object(place: str) -> Any:
    """The object at "module:OBJECT"."""
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)
