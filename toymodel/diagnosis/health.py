"""Further warnings from a log, each with its evidence, and advice.

Every check reads columns that are logged anyway, and points to an answer in docs/faq.md. The advice is what helped in
the gallery: on toy models, at the same margin.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from toymodel._public import own_names
from toymodel.diagnosis.evidence import Evidence, Finding, Series
from toymodel.diagnosis.logs import NOT_TOLD, LogDiagnosis, judge
from toymodel.diagnosis.trend import TOO_FEW

__dir__ = own_names(globals())

FAQ, REMEDIES = "docs/faq.md", "toymodel/remedies/README.md"
#: Headings of docs/faq.md, by the code of a warning.
ANSWERS = {
    "not_a_number": "My log says NaN from some step on.",
    "nothing_moved": "The rewards are exactly 0 and nothing moves.",
    "reference_mismatch": "The rewards do not start at 0.",
    "saturated": "The loss is 0 and the accuracy is 1.",
    "accuracy_at_chance": "The accuracy stays at 0.5.",
    "noise": "What does “not told from noise” mean?",
    "different_batches": "What does “not told from noise” mean?",
    "logps_disagree": "The log-probabilities rise and the rewards fall.",
    "average_logps": "Sums or means over tokens? Are the prompt and the end counted?",
    "replaced_rows": "How is my log read?",
    "cut_off": "How is my log read?",
    "sorted_rows": "How is my log read?",
    "one_sided": "KTO, BCO and APO?",
}
FIRST = ("not_a_number", "nothing_moved", "reference_mismatch")  # these put the verdict in doubt
_EXACT, _TINY = 1e-6, 1e-3  # rewards up to this size count as 0; the second if the loss never leaves ln 2
_SATURATED = 0.01  # a loss
_CHANCE = 0.45, 0.55  # accuracies
_FAR = 1.0  # rewards, β nats


class Advice(NamedTuple):
    """One thing to do, and where the reason for it is shown."""

    text: str
    see: str


def warn(evidence: Evidence, diagnosis: LogDiagnosis) -> Iterator[Finding]:
    """Warnings about the verdict, from the other columns of the log and from its noise."""
    others = {name: _until(series, evidence.broke_at) for name, series in evidence.others.items()}
    rewards = _rewards(evidence, others)
    stuck = _nothing_moved(evidence, rewards, others)
    if stuck:
        yield Finding("nothing_moved", stuck)
    elif rewards and not _without_reference(rewards, others):
        yield from _reference_mismatch(*rewards)
    if not stuck:
        yield from _by_loss_and_accuracy(others)
    yield from _disagreement(evidence, diagnosis, others)
    yield from _noise(evidence, diagnosis, known=bool(stuck))


def _noise(evidence: Evidence, diagnosis: LogDiagnosis, known: bool) -> Iterator[Finding]:
    """Changes that cannot be told from noise, or that have too few rows to tell; none if the cause is `known`."""
    summary, rows = diagnosis.summary, min(len(evidence.chosen.steps), len(evidence.rejected.steps))
    if evidence.split == "training" and rows < TOO_FEW and not known:
        yield Finding("noise", f"{rows} rows are too few to know their noise: the changes hold for these rows alone.")
    doubtful = [
        f"the {side}'s {summary[f'{side}_change']:+.4g} ± {summary[f'{side}_error']:.2g}"
        for side in ("chosen", "rejected")
        if summary[f"{side}_error"] and summary[f"{side}_change"] and _unmoved(summary["case"], side)
    ]
    if doubtful:
        yield Finding("noise", f"Not told from noise: {' and '.join(doubtful)} {evidence.unit}.")


def _until(series: Series, step: float | None) -> Series:
    kept = np.full(len(series.steps), True) if step is None else series.steps < step
    return Series(series.steps[kept], series.values[kept])


def _rewards(evidence: Evidence, others: dict[str, Series]) -> tuple[Series, Series] | None:
    if evidence.source == "rewards":
        return evidence.chosen, evidence.rejected
    found = [others[name] for name in ("chosen_rewards", "rejected_rewards") if name in others]
    return (found[0], found[1]) if len(found) == 2 and all(len(side.values) for side in found) else None


def _nothing_moved(evidence: Evidence, rewards: tuple[Series, Series] | None, others: dict[str, Series]) -> str | None:
    causes = (
        "no gradient reaches the weights (a frozen adapter, a learning rate of 0), the reference is the same object as "
        "the policy, or the answers are equal, for instance after truncation."
    )
    loss = others.get("loss")
    at_start = loss is not None and len(loss.values) > 1 and bool((abs(loss.values - math.log(2)) < 5e-4).all())
    if rewards:
        largest = max(float(abs(side.values).max()) for side in rewards)
        still = largest <= (_TINY if at_start else _EXACT)
        said = "the rewards are 0 in every row" if largest <= _EXACT else f"no reward exceeds {largest:.2g}"
        said += " and the loss is ln 2" if at_start else ""
    elif evidence.split == "evaluation":
        still = all(len(side.values) > 2 and np.ptp(side.values) == 0 for side in (evidence.chosen, evidence.rejected))
        said = "the same numbers in every row"
    else:
        still, said = at_start, "the loss is ln 2 in every row"
    return f"Nothing moved: {said}, so the policy is still the reference. Causes: {causes}" if still else None


def _without_reference(rewards: tuple[Series, Series], others: dict[str, Series]) -> bool:
    """Whether rewards are β log π, as losses without a reference log them: these do not start at 0."""
    ratios = []
    for side, reward in zip(("chosen", "rejected"), rewards, strict=True):
        logps = others.get(f"{side}_logps")
        if logps is None or len(logps.values) != len(reward.values) or not logps.values.all():
            return False
        ratios.append(reward.values / logps.values)
    every = np.concatenate(ratios)
    return bool(np.ptp(every) < 0.02 * abs(every).max())


def _reference_mismatch(chosen: Series, rejected: Series) -> Iterator[Finding]:
    """Rewards far from 0 before much was trained: early in the run, or coming back, or absurdly far."""
    w, l = chosen.values, rejected.values  # noqa: E741
    first, last = (w[0] + l[0]) / 2, (w[-1] + l[-1]) / 2
    step = chosen.steps[0]
    early = step <= chosen.steps[-1] / 10
    if abs(first) > _FAR and abs(first) > 3 * abs(w[0] - l[0]) and (early or abs(last) < abs(first) or abs(first) > 10):
        yield Finding(
            "reference_mismatch",
            f"Rewards start at {w[0]:.4g} and {l[0]:.4g}, not near 0: the reference is not the policy that training "
            "started from (a wrong adapter, merged weights, another chat template), or the loss has no reference.",
            float(step),
        )


def _by_loss_and_accuracy(others: dict[str, Series]) -> Iterator[Finding]:
    loss, accuracy = others.get("loss"), others.get("accuracy")
    if loss is not None and len(loss.values):
        above = np.flatnonzero(loss.values >= _SATURATED)
        first = above[-1] + 1 if len(above) else 0
        right = 1.0 if accuracy is None or not len(accuracy.values) else float(accuracy.values[-1])
        if first <= 0.75 * len(loss.values) and first < len(loss.values) and right > 0.99:
            step = float(loss.steps[first])
            text = f"The loss is below {_SATURATED} from step {step:g} on: hardly any gradient is left there."
            yield Finding("saturated", text, step)
    if accuracy is not None and len(accuracy.values) > 1:
        late = float(accuracy.values[len(accuracy.values) // 2 :].mean())
        if _CHANCE[0] <= late <= _CHANCE[1]:
            text = f"The accuracy in the second half is {late:.3f}, that of chance: no preference was learned yet."
            yield Finding("accuracy_at_chance", text)


def _disagreement(evidence: Evidence, diagnosis: LogDiagnosis, others: dict[str, Series]) -> Iterator[Finding]:
    """Rewards that contradict the log-probabilities that are used, or the reverse."""
    kind = "rewards" if evidence.source == "logps" else "logps"
    sides = [others[name] for name in (f"chosen_{kind}", f"rejected_{kind}") if name in others]
    if len(sides) < 2 or min(len(side.values) for side in sides) < 2:
        return
    believed = diagnosis.summary
    beside = judge(sides, fixed=evidence.split == "evaluation", tolerance=0.0).summary
    apart = []
    for side in ("chosen", "rejected"):
        ours, theirs = believed[f"{side}_change"], beside[f"{side}_change"]
        told = not _unmoved(beside["case"], side) and (ours == 0 or not _unmoved(believed["case"], side))
        if told and np.sign(ours) != np.sign(theirs):
            apart.append(f"the {side} {theirs:+.4g} there, {ours:+.4g} here")
    if apart:
        other, why = {
            ("logps", "training"): ("Log-probabilities", "they are of different pairs at every state"),
            ("logps", "evaluation"): ("Log-probabilities", "the reference changed at some states"),
        }.get((kind, evidence.split), ("Rewards", "the reference changed at some states"))
        yield Finding("logps_disagree", f"{other} say otherwise ({'; '.join(apart)}): {why}.")


def _unmoved(case: str, side: str) -> bool:
    return case in (NOT_TOLD, "stationary") or f"{side}_unchanged" in case


def advise(case: str, codes: set[str]) -> list[Advice]:
    """At most three things to do about a verdict with these warnings."""
    for code in (*FIRST, "saturated", "accuracy_at_chance"):
        if code in codes and code in _BY_CODE:
            return _BY_CODE[code]
    return _BY_CASE.get("chosen falls" if "chosen_down" in case or case == "both_down" else case, [])


_BY_CODE = {
    "not_a_number": [
        Advice("Train in bfloat16 or float32, not in float16; clip the gradient.", FAQ),
        Advice("Drop pairs with an answer that is empty after truncation: its mean over tokens is 0/0.", FAQ),
    ],
    "nothing_moved": [
        Advice("Check that some parameter gets a gradient, and check the learning rate and its warm-up.", FAQ),
        Advice("Check that the reference is a copy of the policy, not the same object.", FAQ),
        Advice("Count the pairs whose answers are equal after truncation.", FAQ),
    ],
    "reference_mismatch": [
        Advice("Evaluate before the first step: every reward must be 0 there.", FAQ),
        Advice("Load the reference from the start of training: same adapter, template and precision.", FAQ),
    ],
    "saturated": [
        Advice("Stop before that step, or take fewer epochs: the loss does not ask for any later change.", FAQ),
    ],
    "accuracy_at_chance": [
        Advice("Check that chosen and rejected still differ after truncation, and are not swapped.", FAQ),
        Advice("Train longer or at a larger rate before you conclude anything.", FAQ),
    ],
}
_BY_CASE = {
    NOT_TOLD: [
        Advice("Log an evaluation on a fixed set of pairs: it has no noise of batches.", FAQ),
        Advice("If rewards can be logged, read them: the reference removes most differences between batches.", FAQ),
    ],
    "chosen falls": [
        Advice(
            "On toy models, a penalty on a chosen answer that falls below the reference (DPO-Positive) kept the chosen "
            "highest at the same margin.",
            REMEDIES,
        ),
        Advice(
            "On toy models, a likelihood (NLL) term helped within a window of strengths, which `toymodel diagnose` "
            "computes from gradients: below it the chosen still falls, above it the rejected rises.",
            REMEDIES,
        ),
        Advice(
            "Look at what the answers share after they first differ: on toy models a long common suffix pulls the "
            "chosen down, and a smaller learning rate is no remedy.",
            FAQ,
        ),
    ],
    "both_up": [
        Advice(
            "On toy models both rise if a shared suffix is likelier after the rejected answer; a likelihood term "
            "does not help there.",
            FAQ,
        ),
    ],
}
