"""The whole report on a log, as one dictionary, ready for JSON."""

import os
from typing import Any

from toymodel._public import own_names
from toymodel.diagnosis.evidence import Evidence, Finding, LogFile, load_log
from toymodel.diagnosis.health import ANSWERS, FAQ, FIRST, advise, warn
from toymodel.diagnosis.logs import diagnose_evidence
from toymodel.diagnosis.runs import compare_runs

__dir__ = own_names(globals())


def diagnose_log_file(
    path: str | os.PathLike[str], columns: tuple[str, str] | None = None, *, tolerance: float = 0.0
) -> dict[str, Any]:
    """Diagnose a training log; plain numbers, ready for JSON.

    `summary` and `stretches` are those of `LogDiagnosis`; `warnings` have `code`, `text`, `see` (where it is explained)
    and, if they have one, `step`; `to_do` has `text` and `see`. If the log has several evaluation sets, `sets` has such
    a dictionary for each by name, beside the `warnings` on the whole file.

    Raises:
      ValueError: as for `load_log` and `diagnose_log`.
    """
    return report(load_log(path, columns), tolerance)


def report(log: LogFile, tolerance: float = 0.0) -> dict[str, Any]:
    """Diagnose a log that has been read, as `diagnose_log_file` does."""
    if len(log.evidence) == 1:
        return _report_set(log.evidence[0], log.findings, tolerance)
    sets = {evidence.name: _report_set(evidence, [], tolerance) for evidence in log.evidence}
    return {"sets": sets, "warnings": [_plain(finding) for finding in log.findings]}


def report_runs(logs: dict[str, LogFile], tolerance: float = 0.0) -> dict[str, Any]:
    """Compare the logs of several runs, by name, as `compare_runs` does, for each evaluation set that all have.

    Raises:
      ValueError: as for `compare_runs`, or they have no evaluation set in common.
    """
    sets = [{evidence.name: evidence for evidence in log.evidence} for log in logs.values()]
    shared = [name for name in sets[0] if all(name in found for found in sets)]
    if not shared:
        raise ValueError(f"{', '.join(logs)} have no evaluation set in common.")
    found = {
        name: compare_runs(dict(zip(logs, (found[name] for found in sets), strict=True)), tolerance=tolerance)
        for name in shared
    }
    return found[shared[0]] if len(shared) == 1 else {"sets": found}


def _report_set(evidence: Evidence, findings: list[Finding], tolerance: float) -> dict[str, Any]:
    found = diagnose_evidence(evidence, tolerance=tolerance)
    warnings = sorted([*warn(evidence, found), *findings], key=lambda finding: finding.code not in FIRST)
    codes = {finding.code for finding in warnings}
    return {
        "summary": found.summary,
        "stretches": found.stretches,
        "warnings": [_plain(finding) for finding in warnings],
        "to_do": [advice._asdict() for advice in advise(found.summary["case"], codes)],
    }


def _plain(finding: Finding) -> dict[str, Any]:
    said: dict[str, Any] = {"code": finding.code, "text": finding.text}
    if finding.code in ANSWERS:
        said["see"] = f"{FAQ}: {ANSWERS[finding.code]}"
    if finding.step is not None:
        said["step"] = int(finding.step) if finding.step == int(finding.step) else finding.step
    return said
