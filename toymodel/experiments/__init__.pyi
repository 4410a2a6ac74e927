from .account import ACCOUNT
from .catalogue import EXPERIMENTS
from .experiment import POSITIVE, REAL, BadSetting, Experiment, Field, Rule, one_of, real, setting, whole
from .gram import GRAM
from .remedies import REMEDY_COMPARISON
from .sentiment import FINE_TUNING, SENTIMENT
from .training import TRAINING

__all__ = [
    "ACCOUNT",
    "EXPERIMENTS",
    "FINE_TUNING",
    "GRAM",
    "POSITIVE",
    "REAL",
    "REMEDY_COMPARISON",
    "SENTIMENT",
    "TRAINING",
    "BadSetting",
    "Experiment",
    "Field",
    "Rule",
    "one_of",
    "real",
    "setting",
    "whole",
]
