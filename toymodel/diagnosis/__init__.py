"""Diagnosis of a user's data: gradients of pairs, training logs, and the same pairs at the states of a run."""

from toymodel.diagnosis.checkpoints import PairsDiagnosis, diagnose_pairs, diagnose_tokens
from toymodel.diagnosis.evidence import load_log
from toymodel.diagnosis.gradients import Diagnosis, diagnose
from toymodel.diagnosis.logs import LogDiagnosis, diagnose_log
from toymodel.diagnosis.losses import diagnose_losses
from toymodel.diagnosis.readers import load
from toymodel.diagnosis.report import diagnose_log_file

__all__ = [
    "Diagnosis",
    "LogDiagnosis",
    "PairsDiagnosis",
    "diagnose",
    "diagnose_log",
    "diagnose_log_file",
    "diagnose_losses",
    "diagnose_pairs",
    "diagnose_tokens",
    "load",
    "load_log",
]


def __dir__() -> list[str]:
    return __all__
