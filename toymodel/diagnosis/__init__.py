"""Diagnosis of a user's data: `diagnose` reads gradients of pairs, `diagnose_log` a log, `diagnose_tokens` a run."""

from toymodel.diagnosis.gradients import Diagnosis, diagnose
from toymodel.diagnosis.logs import LogDiagnosis, TokenDiagnosis, diagnose_log, diagnose_tokens
from toymodel.diagnosis.losses import diagnose_losses
from toymodel.diagnosis.readers import load, load_log

__all__ = [
    "Diagnosis",
    "LogDiagnosis",
    "TokenDiagnosis",
    "diagnose",
    "diagnose_log",
    "diagnose_losses",
    "diagnose_tokens",
    "load",
    "load_log",
]


def __dir__() -> list[str]:
    return __all__
