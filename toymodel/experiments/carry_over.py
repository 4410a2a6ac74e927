"""Which predictions carry over from toys to a pretrained language model: one number for each label, computed alike.

`CLAIMS` are computed from rows of both `real` and `toy_steps`: one number for each pair of a run, whose mean and
interval say whether the claim holds. An interval is over runs, or over the pairs of a single run.
"""

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float

from toymodel._public import own_names
from toymodel.data.tweets import FORMATS
from toymodel.experiments.account import CHOSEN, TOKENS, TaskAccount
from toymodel.experiments.language_model import CONTEXTS, OWN
from toymodel.experiments.one_step import DIRECTIONS
from toymodel.experiments.statistics import mean_interval, rank_correlation
from toymodel.gram import PairGram, cosine
from toymodel.models.crowd import Cosines
from toymodel.theory import CASES, case_of_slopes, crowd_threshold, in_band

__dir__ = own_names(globals())

Table = Mapping[str, np.ndarray]
Run = Mapping[str, np.ndarray]  # one row of a table
#: Kinds of number of a claim: a share that should be 1, a relative error that should be 0, or a positive number.
Kind = Literal["share", "error", "positive"]
GOOD, FAIR = {"share": 0.95, "error": 0.05}, {"share": 0.5, "error": 0.5}  # up to where a claim holds, or holds roughly
SEPARATED, IMPOSSIBLE = CASES.index("chosen_up_rejected_down"), CASES.index("chosen_down_rejected_up")


class Claim(NamedTuple):
    """A prediction, and the number that says how well it holds."""

    label: str
    words: str
    kind: Kind
    of: Callable[[Run], Float[np.ndarray, " n"]] | None = None  # of a run; NaN where it says nothing about a pair


class Verdict(NamedTuple):
    """A claim in one format: the mean over runs, with its 95% interval, and the verdict."""

    claim: Claim
    format: str
    runs: int
    mean: float
    low: float
    high: float

    @property
    def holds(self) -> str:
        """The verdict in words."""
        if not np.isfinite(self.mean):
            return "says nothing"
        if self.claim.kind == "positive":
            return "holds" if self.low > 0 else "does not hold" if self.high < 0 else "undecided"
        good, fair = GOOD[self.claim.kind], FAIR[self.claim.kind]
        if self.claim.kind == "share":
            return "holds" if self.mean >= good else f"in {self.mean:.0%}" if self.mean >= fair else "does not hold"
        return "holds" if self.mean <= good else f"error {self.mean:.0%}" if self.mean <= fair else "does not hold"


def verdicts(table: Table) -> list[Verdict]:
    """Each claim for each format of a table."""
    found = []
    for format in dict.fromkeys(table["format"].tolist()):
        mine = np.flatnonzero(table["format"] == format)
        runs = [{name: column[row] for name, column in table.items()} for row in mine]
        for claim in CLAIMS:
            assert claim.of is not None
            numbers = [np.atleast_1d(claim.of(run)) for run in runs]
            found.append(Verdict(claim, format, len(runs), *_interval(numbers)))
    return found


def account_verdicts(told: Mapping[str, TaskAccount]) -> list[Verdict]:
    """Whether the sources of each account add up to the true change on average, and rank the pairs as it does."""
    found = []
    for format, account in told.items():
        error, ranks = abs(account.first_order / account.true_change - 1), account.spearman
        for claim, number in ((ADDS_UP, error), (RANKS, ranks)):
            found.append(Verdict(claim, format, len(account.seeds), number, number, number))
    return found


def _interval(numbers: list[Float[np.ndarray, " n"]]) -> tuple[float, float, float]:
    """The interval over the means of runs, or over the pairs of one run; NaN if there are too few."""
    told = [of_pairs[np.isfinite(of_pairs)] for of_pairs in numbers]
    told = [of_pairs for of_pairs in told if len(of_pairs)]
    drawn = np.array([of_pairs.mean() for of_pairs in told]) if len(told) > 1 else np.concatenate([*told, []])
    if len(drawn) < 2:
        return float(drawn.mean()) if len(drawn) else float("nan"), float("nan"), float("nan")
    mean, low, high = mean_interval(drawn)
    return float(mean), float(low), float(high)


def _step(run: Run, name: str) -> tuple[np.ndarray, np.ndarray]:
    place = DIRECTIONS.index(name)
    return run["step_predicted"][place], run["step_measured"][place]


def _error_of_step(name: str) -> Callable[[Run], np.ndarray]:
    """|measured − predicted| of the answer that moves most, relative to its change."""

    def error(run: Run) -> np.ndarray:
        predicted, measured = _step(run, name)
        most = abs(predicted).argmax(axis=0)[None]
        return (abs(measured - predicted) / abs(predicted))[most, np.arange(most.size)][0]

    return error


def _same_case(name: str) -> Callable[[Run], np.ndarray]:
    def same(run: Run) -> np.ndarray:
        predicted, measured = (np.asarray(case_of_slopes(*slopes)) for slopes in _step(run, name))
        return (predicted == measured).astype(float)

    return same


def _separates(name: str) -> Callable[[Run], np.ndarray]:
    def separates(run: Run) -> np.ndarray:
        return (np.asarray(case_of_slopes(*_step(run, name)[1])) == SEPARATED).astype(float)

    return separates


def _in_band(run: Run) -> np.ndarray:
    """Whether a step separates exactly the pairs whose band contains d_w = d_l."""
    inside = np.asarray(in_band(PairGram(*run["step_gram"]), 1.0, 1.0))
    return (inside == (_separates("plain")(run) > 0)).astype(float)


def _possible(run: Run) -> np.ndarray:
    cases = np.array([case_of_slopes(*_step(run, name)[1]) for name in ("plain", "adam")])
    return (cases != IMPOSSIBLE).mean(axis=0)


def _halving(run: Run) -> np.ndarray:
    """How far the ratio of errors in the change, for a step and for half of it, is from 4."""
    (predicted, whole), (_, half) = _step(run, "plain"), _step(run, "half")
    ratio = 2 * abs(whole - predicted) / abs(half - predicted)
    return np.median(abs(ratio / 4 - 1), axis=0)


def _token_sum(run: Run) -> np.ndarray:
    gram = run["token_gram"]
    n = len(gram)
    scale = np.sqrt(run["preference_chosen_sq"][0, :n] * run["preference_rejected_sq"][0, :n])
    return abs(gram.sum(axis=(1, 2)) - run["preference_inner"][0, :n]) / scale


def _suffix_signs(run: Run) -> np.ndarray:
    """For each pair, the share of positive entries among equal suffix tokens at the same position."""
    entries = np.diagonal(run["token_cosines"], axis1=1, axis2=2)[:, 1:]
    known = np.isfinite(entries)
    shares = (entries > 0).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
    return np.where(known.any(axis=1), shares, np.nan)


def _label_signs(run: Run) -> np.ndarray:
    """Where p_w + p_l > 1/2, whether the contrast tokens' entry is negative."""
    entries = run["token_cosines"][:, 0, 0]
    certain = np.exp(run["preference_token_logps"][0, :, : len(entries), 0]).sum(axis=0) > 0.5
    return np.where(certain & np.isfinite(entries), entries < 0, np.nan)


def _change(run: Run) -> np.ndarray:
    logps = run["preference_token_logps"].sum(axis=-1)
    changed: np.ndarray = logps[-1] - logps[0]
    return changed


def _ches(run: Run) -> np.ndarray:
    """NaN for answers of one token, whose hidden states are the same: all scores are 0."""
    return np.asarray(-rank_correlation(run["ches"], _change(run)[0]) if run["ches"].any() else np.nan)


def _margins(run: Run) -> np.ndarray:
    chosen, rejected = run["batch_slopes"].mean(axis=-1)
    return np.asarray(float(chosen > rejected))


def _crowd(run: Run) -> np.ndarray:
    """Whether the mean unseen chosen falls under the mean step where T22 says so, and rises where not."""
    if run["format"] == OWN:
        return np.asarray(np.nan)
    falls = run["unseen_slopes"][0].mean() < 0
    return np.asarray(float(falls == (suffix_words(run) > limit_of_crowd(run))))


def suffix_words(run: Run) -> int:
    """Tokens after the first, of all answers of a format."""
    return int((run["preference_token_logps"][0, 0, 0] != 0).sum()) - 1


def limit_of_crowd(run: Run) -> float:
    """L*_∞ = L*(ρ_s − ρ_d)/(2ρ_ψ): with more suffix tokens, unseen chosen answers fall (T22); infinite without any.

    0 if labels of two words are as similar as those of one: then they cancel, and any suffix is too long.
    """
    found = dict(zip(CONTEXTS, run["contexts"].astype(float).tolist(), strict=True))
    if not np.isfinite(found["a"]) or found["suffix"] <= 0:
        return float("inf")
    if found["different"] >= found["same"]:
        return 0.0
    cosines = Cosines(*(np.clip(found[name], 0, 1) for name in ("same", "different", "suffix")))
    p_chosen, p_rejected, a, b = (found[name] for name in CONTEXTS[:4])
    return float(crowd_threshold(p_chosen, p_rejected, a, b, int(run["vocab_size"]), cosines))


#: Each prediction that can be tested on a language model, in the order of labels.
CLAIMS = (
    Claim("T2", "token entries sum to the inner product", "error", _token_sum),
    Claim("T6", "equal suffix tokens: positive entries", "share", _suffix_signs),
    Claim("T6", "labels with p_w + p_l > 1/2: negative entries", "share", _label_signs),
    Claim("T9", "slopes of a pair's own step", "error", _error_of_step("plain")),
    Claim("T10", "the case of a pair's own step", "share", _same_case("plain")),
    Claim("T10", "slopes of Adam's first step", "error", _error_of_step("adam")),
    Claim("T10", "the case of Adam's first step", "share", _same_case("adam")),
    Claim("T10", "never chosen down and rejected up", "share", _possible),
    Claim("T11", "in the band of weights: separated", "share", _in_band),
    Claim("T13", "half a step: a quarter of the error", "error", _halving),
    Claim("T16", "a high CHES score: the chosen falls more", "positive", _ches),
    Claim("T17", "normalised pair: separated", "share", _separates("normalised")),
    Claim("T18", "first token alone: separated", "share", _separates("first_token")),
    Claim("T19", "likelihood term in the window: separated", "share", _separates("likelihood")),
    Claim("T20", "mean step: the margins grow on average", "share", _margins),
    Claim("T22", "unseen chosen falls beyond L*", "share", _crowd),
)


ADDS_UP = Claim("T23", "the account's sources add up to the change", "error")
RANKS = Claim("T23", "the account ranks pairs as the change does", "positive")


def looks(table: Table) -> dict[str, np.ndarray]:
    """A row for each run and state of its two trainings: cosines, and changes since the start of the training.

    Means, medians and shares are over the pairs; `trained_…` are for pairs that DPO trains on.
    """
    rows: list[dict[str, object]] = []
    for number, (format, seed) in enumerate(zip(table["format"].tolist(), table["seed"].tolist(), strict=True)):
        for stage in ("supervised", "preference"):
            steps = int(table["supervised_steps" if stage == "supervised" else "steps"][number])
            gram = PairGram(*(table[f"{stage}_{name}"][number] for name in PairGram._fields))
            of = {"": table[f"{stage}_token_logps"][number].sum(axis=-1)}
            if stage == "preference":
                of["trained_"] = table["trained_token_logps"][number].sum(axis=-1)
            for state in range(len(gram.inner)):
                now = PairGram(*(entry[state] for entry in gram))
                row: dict[str, object] = {"format": format, "seed": seed, "stage": stage}
                row["step"] = state * steps // (len(gram.inner) - 1)
                row["cosine"] = np.nanmean(cosine(now, allow_zero=True))
                row["own_falls"] = (now.inner > now.chosen_sq).mean()
                for whose in ("", "trained_"):
                    logps = of.get(whose, np.full_like(of[""], np.nan))
                    for side, change in zip(("chosen", "rejected"), logps[state] - logps[0], strict=True):
                        row[f"{whose}{side}_mean"] = change.mean()
                        row[f"{whose}{side}_median"] = np.median(change)
                        row[f"{whose}{side}_rises"] = (change > 0).mean() if np.isfinite(change).all() else np.nan
                now_and_first = table[f"{stage}_token_logps"][number][[state, 0], 0]  # of the chosen, by token
                row["label_mean"] = np.subtract(*now_and_first[..., 0]).mean()
                row["suffix_mean"] = np.subtract(*now_and_first[..., 1:].sum(axis=-1)).mean()
                row["label_right"] = _label_right(table[f"{stage}_token_logps"][number][state])
                rows.append(row)
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def _label_right(token_logps: np.ndarray) -> float:
    """Share of pairs whose first chosen token is the likelier one."""
    return float((token_logps[0, :, 0] > token_logps[1, :, 0]).mean())


def accounts(table: Table) -> dict[str, TaskAccount]:
    """The account of each format, with intervals over seeds, or over the pairs of a single seed."""
    told = {}
    for format in dict.fromkeys(table["format"].tolist()):
        mine = {name: column[table["format"] == format] for name, column in table.items()}
        contributions, parts = mine["contributions"], mine["true_change"]
        first_order, true_change = contributions[:, :, CHOSEN].sum(axis=(1, 2)), parts[:, CHOSEN].sum(axis=1)
        own_slope = mine["chosen_sq"] - mine["inner"]
        drawn = np.moveaxis(contributions.mean(axis=-1), 0, -1) if len(parts) > 1 else contributions[0]
        interval = np.stack(mean_interval(drawn), axis=-1).tolist()
        kept = [place for place, part in enumerate(TOKENS) if format != FORMATS[0] or "label" in part]
        told[format] = TaskAccount(
            sorted(mine["seed"].tolist()),
            float(true_change.mean()),
            float(first_order.mean()),
            float(rank_correlation(first_order, true_change).mean()),
            float(rank_correlation(own_slope, true_change).mean()),
            {TOKENS[source]: {TOKENS[part]: tuple(interval[source][part]) for part in kept} for source in kept},
        )
    return told
