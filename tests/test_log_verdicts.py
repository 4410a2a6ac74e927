"""Verdicts on logs: which side moved, in which stretches, what else is said, and what cannot be told."""

import csv
import itertools
import json
import math
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import assert_close
from scipy import stats

from toymodel import cli
from toymodel.diagnosis import diagnose_log, diagnose_pairs, diagnose_tokens, load
from toymodel.diagnosis.checkpoints import load_pairs
from toymodel.diagnosis.evidence import Evidence, LogFile, Series
from toymodel.diagnosis.health import ANSWERS, FAQ, advise
from toymodel.diagnosis.plot import plot_logs
from toymodel.diagnosis.report import report, report_runs
from toymodel.diagnosis.runs import compare_runs, difference
from toymodel.diagnosis.trend import TOO_FEW, Line, _kendall, _two_sided, follow
from toymodel.theory import CASES, case_of_slopes

EPS = np.finfo(float).eps
# Whole numbers of nats, so that sums and differences are exact; few of them, so that states repeat.
states = st.lists(st.tuples(st.integers(-4, 4), st.integers(-4, 4)), min_size=2, max_size=12).map(np.array)
tolerances = st.sampled_from([0.0, 0.5, 1.0, 2.0])


def series(values, steps=None):
    values = np.asarray(values, float)
    return Series(np.arange(1.0, len(values) + 1) * 10 if steps is None else np.asarray(steps, float), values)


def evidence(chosen, rejected, *, split="training", source="rewards", unit="reward", broke_at=None, **others):
    chosen, rejected = (side if isinstance(side, Series) else series(side) for side in (chosen, rejected))
    others = {name: series(values) for name, values in others.items()}
    return Evidence("", split, source, ("w", "l"), unit, "step", chosen, rejected, others, broke_at)


def found(*args, tolerance=0.0, **kwargs):
    return report(LogFile([evidence(*args, **kwargs)], []), tolerance)


def codes(*args, **kwargs):
    return [warning["code"] for warning in found(*args, **kwargs)["warnings"]]


# --- What can be told -----------------------------------------------------------------------------------------------


@given(st.lists(st.integers(-3, 3), min_size=5, max_size=6))
def test_kendalls_chance_is_that_of_all_orders(values):
    def falls(order):
        return sum((a > b) + (a == b) / 2 for a, b in itertools.combinations(order, 2))

    ranks = list(itertools.permutations(range(len(values))))
    as_few = sum(falls(order) <= math.ceil(falls(values)) for order in ranks)
    assert _kendall(np.array(values)) == pytest.approx(min(1, 2 * as_few / len(ranks)), rel=1e-12)


@pytest.mark.parametrize("freedom", [2, 3, 5, 18, 98])
def test_wallaces_approximation_of_students_t(freedom):
    for size in np.linspace(0, 15, 61):
        assert_close(_two_sided(size, 1, freedom), 2 * stats.t.sf(size, freedom), 1, 0.004)


@given(states, tolerances)
def test_few_states_of_fixed_pairs_are_what_happened(log, tolerance):
    log = log[: TOO_FEW - 1]
    _, stretches = diagnosis = diagnose_log(*log.T, tolerance=tolerance, fixed_pairs=True)
    changes = log[-1] - log[0]
    w, l = np.where(abs(changes) > tolerance, np.sign(changes), 0)  # noqa: E741
    words = {1: "up", -1: "down", 0: "unchanged"}
    one_sided = f"chosen_{words[int(w)]}_rejected_{words[int(l)]}"
    wanted = one_sided if (w == 0) != (l == 0) else CASES[int(case_of_slopes(w, l))]
    assert diagnosis.summary["case"] == wanted
    assert [stretch["case"] for stretch in stretches] == [wanted]
    assert [diagnosis.summary[f"{side}_change"] for side in ("chosen", "rejected")] == changes.tolist()


@given(states, st.booleans(), st.integers(1, 8), st.integers(-50, 50), st.integers(-50, 50))
def test_rewards_have_the_verdicts_of_log_probabilities(log, fixed, beta, shift_w, shift_l):
    """β(log π − log π_ref): the reference, which differs by side, drops out of changes, and β scales them."""
    plain = diagnose_log(*log.T, tolerance=1, fixed_pairs=fixed)
    rewards = diagnose_log(*(2.0**beta * log + [shift_w, shift_l]).T, tolerance=2.0**beta, fixed_pairs=fixed)
    assert [s["case"] for s in plain.stretches] == [s["case"] for s in rewards.stretches]
    assert [2.0**beta * s["chosen_change"] for s in plain.stretches] == [s["chosen_change"] for s in rewards.stretches]


@given(states, st.booleans())
def test_exchanging_the_sides_exchanges_the_verdict(log, fixed):
    swap = {"chosen": "rejected", "rejected": "chosen"}
    ours = diagnose_log(*log.T, fixed_pairs=fixed).stretches
    theirs = diagnose_log(*log.T[::-1], fixed_pairs=fixed).stretches
    for mine, other in zip(ours, theirs, strict=True):
        swapped = re.sub(r"(chosen|rejected)_(\w+?)_(chosen|rejected)_(\w+)", r"\1_\4_\3_\2", mine["case"])
        assert other["case"] == swapped
        for side in swap:
            assert mine[f"{side}_change"] == other[f"{swap[side]}_change"]


@given(states, st.booleans(), tolerances)
def test_stretches_follow_each_other_and_their_changes_add_up(log, fixed, tolerance):
    long = np.repeat(log, 3, axis=0)  # up to 36 rows: short and long rules alike
    summary, stretches = diagnose_log(*long.T, fixed_pairs=fixed, tolerance=tolerance)
    assert [s["last_step"] for s in stretches[:-1]] == [s["first_step"] for s in stretches[1:]]
    assert (stretches[0]["first_step"], stretches[-1]["last_step"]) == (0, len(long) - 1)
    assert all(a["case"] != b["case"] for a, b in itertools.pairwise(stretches))
    for side in ("chosen_change", "rejected_change"):
        assert_close(sum(s[side] for s in stretches), summary[side], 8, 1e-13 * len(stretches))


def test_rows_that_jump_tell_nothing_and_rows_that_part_do():
    assert diagnose_log([-104.0, -108, -101, -105], [-106.0, -101, -107, -102]).summary["case"] == "not_told_from_noise"
    assert diagnose_log([-0.01, -0.05, -0.12], [-0.01, -0.10, -0.25]).summary["case"] == "both_down"


@pytest.mark.parametrize("rows", [6, 12, 40, 200])
def test_a_curve_is_told_whatever_its_bend(rows):
    """Training that slows down, with noise of a hundredth of what it does."""
    time = np.linspace(0, 1, rows)
    noise = 0.02 * np.random.default_rng(rows).standard_normal((2, rows))
    chosen, rejected = [[-2], [-5]] * (1 - np.exp(-4 * time)) + noise
    assert diagnose_log(chosen, rejected).summary["case"] == "both_down"
    assert {s["case"] for s in diagnose_log(chosen, rejected, fixed_pairs=True).stretches} == {"both_down"}


def test_stretches_of_one_case_are_one():
    time = np.linspace(0, 1, 200)
    noise = 0.02 * np.random.default_rng(0).standard_normal((2, 200))
    chosen, rejected = [[-2], [-5]] * (1 - np.exp(-2 * time)) + noise
    (_, _), cuts = follow([series(chosen), series(rejected)], fixed=False)
    assert len(cuts) > 2  # there is a bend
    assert [s["case"] for s in diagnose_log(chosen, rejected).stretches] == ["both_down"]


def test_an_evaluation_that_only_wanders_has_not_moved():
    wandering = 0.1 * np.random.default_rng(0).standard_normal((100, 2, 8)) - 80
    cases = [diagnose_log(*log, fixed_pairs=True).summary["case"] for log in wandering]
    assert cases.count("not_told_from_noise") > 85


def hump(rows, spread, seed=0):
    """Both sides of a run: the chosen rises for the first third and falls twice as far, the rejected falls."""
    time = np.linspace(0, 1, rows)
    chosen = np.where(time < 1 / 3, 3 * time, 1 - 3 * (time - 1 / 3)) * 10
    return [chosen, -20 * time] + spread * np.random.default_rng(seed).standard_normal((2, rows))


@pytest.mark.parametrize(("rows", "fixed", "spread"), [(10, True, 0.05), (40, True, 0.2), (100, False, 2.0)])
def test_a_turn_is_found(rows, fixed, spread):
    steps = 10 * np.arange(rows)
    stretches = diagnose_log(*hump(rows, spread), steps=steps, fixed_pairs=fixed).stretches
    assert [s["case"] for s in stretches] == ["chosen_up_rejected_down", "both_down"]
    assert abs(stretches[0]["last_step"] - steps[-1] / 3) <= max(10, 0.1 * steps[-1])


def test_a_turn_within_the_tolerance_is_none():
    found = diagnose_log(*hump(10, 0.0), fixed_pairs=True, tolerance=11)
    assert [s["case"] for s in found.stretches] == ["chosen_unchanged_rejected_down"]


@pytest.mark.parametrize("fixed", [True, False])
@pytest.mark.parametrize("rows", [4, 11, 60])
def test_a_jitter_is_no_stretch_and_slow_steps_add_up(rows, fixed):
    jitter = np.arange(rows) % 2 * 0.1 - 80
    slow = -0.4 * np.arange(rows)
    found = diagnose_log(jitter, slow, tolerance=0.5, fixed_pairs=fixed)
    assert [s["case"] for s in found.stretches] == ["chosen_unchanged_rejected_down"]
    assert found.summary["rejected_change"] == pytest.approx(-0.4 * (rows - 1))


def test_a_constant_is_unchanged_and_a_perfect_line_has_no_error():
    found = diagnose_log(np.full(40, -61.3), -0.1 * np.arange(40))
    assert found.summary["case"] == "chosen_unchanged_rejected_down"
    assert found.summary["chosen_change"] == 0
    assert found.summary["rejected_error"] < 1e-12


def test_the_error_is_that_of_least_squares_where_noise_is_independent():
    """Little autocorrelation is left, and the error is raised for what is not known of it: by a tenth of 600 rows."""
    rows = 600
    noise = np.random.default_rng(5).standard_normal(rows)
    (trend,), (first, last) = follow([series(noise)], fixed=False)
    steps = np.arange(rows) * 10.0
    line = stats.linregress(steps, noise)
    assert isinstance(trend, Line)
    assert line.stderr * np.ptp(steps) < trend.change(first, last).error < 1.4 * line.stderr * np.ptp(steps)
    assert trend.change(first, last).size == pytest.approx(line.slope * np.ptp(steps), abs=0.1)


def test_sides_with_rows_of_their_own():
    chosen, rejected = series([0, 0.1, 0.2], [1, 3, 5]), series([0, -0.2, -0.4], [2, 4, 6])
    summary = found(chosen, rejected)["summary"]
    assert (summary["case"], summary["rows"]) == ("chosen_up_rejected_down", 6)
    assert (summary["first_step"], summary["last_step"]) == (1, 6)
    half = np.arange(40.0)
    apart = found(series(-half, half), series(-2 * np.arange(80.0), np.arange(80.0)))
    assert apart["summary"]["case"] == "both_down"


# --- What else is said ----------------------------------------------------------------------------------------------

FALL, STEEPER = [-0.1, -0.2, -0.3, -0.4, -0.5], [-0.2, -0.5, -0.8, -1.1, -1.4]
LOGPS = {"chosen_logps": [-60.0, -61, -62, -63, -64], "rejected_logps": [-70.0, -73, -76, -79, -82]}


def test_a_sound_log_has_no_warnings():
    assert codes(FALL, STEEPER, loss=[0.68, 0.6, 0.5, 0.4, 0.35], accuracy=[0.5, 0.7, 0.8, 0.8, 0.9], **LOGPS) == []
    assert codes(FALL, STEEPER, split="evaluation", source="logps", unit="nats") == []


WARNINGS = {
    "nothing_moved": (
        {"chosen": [0.0] * 5, "rejected": [0.0] * 5, "loss": [0.6931] * 5},
        {"chosen": [0.0] * 4 + [1e-3], "rejected": [0.0] * 4 + [-1e-3], "loss": [0.6931] * 4 + [0.692]},
    ),
    "nothing_moved but by round-off": (
        {"chosen": [1e-4, -2e-4, 3e-4, 1e-4, 0], "rejected": [0, 1e-4, 1e-4, -1e-4, 2e-4], "loss": [0.6931] * 5},
        {"chosen": [1e-4, -2e-4, 3e-4, 1e-4, 0], "rejected": [0, 1e-4, 1e-4, -1e-4, 2e-4], "loss": [0.69, 0.5] * 2},
    ),
    "nothing_moved by the loss": (
        {"source": "logps", "unit": "nats", "loss": [math.log(2)] * 5},
        {"source": "logps", "unit": "nats", "loss": [0.6931, 0.69, 0.68, 0.67, 0.66]},
    ),
    "nothing_moved in evaluations": (
        {"split": "evaluation", "chosen": [-3.0] * 3, "rejected": [-4.0] * 3, "source": "logps"},
        {"split": "evaluation", "chosen": [-3.0] * 3, "rejected": [-4.0, -4, -4.1], "source": "logps"},
    ),
    "reference_mismatch": (
        {"chosen": [-22.0, -13, -7, -5, -4], "rejected": [-21.8, -13, -7.6, -6, -5.2]},
        {"chosen": [-2.0, -3, -3.5, -4, -4.2], "rejected": [-4.0, -6, -8, -9, -10]},
    ),
    "reference_mismatch beside log-probabilities": (
        {"chosen": [9.0, 8, 7, 6, 5], "rejected": [9.5, 8, 6, 5, 4], **LOGPS},
        {"chosen": -0.1 * np.array([70, 69, 68, 67, 66]), "rejected": -0.1 * np.array([75.0, 75, 75, 76, 77])}
        | {"chosen_logps": [-70.0, -69, -68, -67, -66], "rejected_logps": [-75.0, -75, -75, -76, -77]},
    ),
    "saturated": (
        {"loss": [0.6, 0.1, 0.001, 0.0, 0.0], "accuracy": [0.6, 0.9, 1, 1, 1]},
        {"loss": [0.6, 0.1, 0.001, 0.2, 0.1], "accuracy": [0.6, 0.9, 1, 0.9, 1]},
    ),
    "accuracy_at_chance": ({"accuracy": [0.4, 0.5, 0.52, 0.49, 0.5]}, {"accuracy": [0.5, 0.5, 0.6, 0.6, 0.7]}),
    "noise": ({"chosen": FALL[:4], "rejected": STEEPER[:4]}, {"chosen": FALL, "rejected": STEEPER}),
    "noise of a side": ({"chosen": [-0.1, 0.2, -0.3, 0.2, 0.0]}, {"chosen": FALL}),
    "logps_disagree": (
        {"rejected_logps": [-90.0, -85, -84, -80, -79], "chosen_logps": LOGPS["chosen_logps"]},
        {"rejected_logps": [-90.0, -85, -94, -80, -89], "chosen_logps": LOGPS["chosen_logps"]},
    ),
    "logps_disagree in an evaluation": (
        {"split": "evaluation", "source": "logps", "chosen_rewards": [0.1, 0.2, 0.3], "rejected_rewards": [0, 0, 0]},
        {"split": "evaluation", "source": "logps", "chosen_rewards": [0.3, 0.2, 0.1], "rejected_rewards": [0, 0, 0]},
    ),
}


@pytest.mark.parametrize("name", WARNINGS)
def test_a_warning_is_given_where_it_is_due(name):
    wrong, sound = ({"chosen": FALL, "rejected": STEEPER} | columns for columns in WARNINGS[name])
    code = name.split(" ")[0]
    assert code in codes(**wrong)
    assert code not in codes(**sound)


def test_rows_after_the_run_broke_are_no_evidence():
    """A loss of 0 beside NaN is no saturated loss."""
    after = {"loss": [0.6, 0.5, 0.4, 0.0, 0.0, 0.0, 0.0, 0.0]}
    assert "saturated" in codes(FALL, STEEPER, **after)
    assert "saturated" not in codes(FALL, STEEPER, broke_at=40.0, **after)


def test_noise_is_told_with_its_size():
    rng = np.random.default_rng(0)
    (warning,) = found(*rng.standard_normal((2, 30)))["warnings"]
    assert re.fullmatch(
        r"Not told from noise: the chosen's \S+ ± \S+ and the rejected's \S+ ± \S+ reward\.", warning["text"]
    )


def test_every_warning_points_to_an_answer():
    faq = (Path(__file__).parents[1] / "docs" / "faq.md").read_text(encoding="utf-8")
    for code, heading in ANSWERS.items():
        assert f"\n## {heading}\n" in faq or f"\n### {heading}\n" in faq, code
    for warning in found(*np.zeros((2, 30)))["warnings"]:
        heading = ANSWERS.get(warning["code"])
        assert warning.get("see") == (heading and f"{FAQ}: {heading}")


def test_what_to_do_fits_the_verdict():
    for case in (*CASES, "not_told_from_noise", "chosen_unchanged_rejected_down", "chosen_down_rejected_unchanged"):
        for code in ("", *ANSWERS):
            assert len(advise(case, {code})) <= 3
    assert advise("chosen_up_rejected_down", set()) == []
    assert advise("both_down", set()) == advise("chosen_down_rejected_unchanged", set()) != []
    assert advise("both_down", {"nothing_moved"}) == advise("stationary", {"nothing_moved"}) != []
    assert all("toy models" in advice.text for advice in advise("both_down", set()))
    root = Path(__file__).parents[1]
    assert all((root / advice.see).is_file() for advice in advise("both_down", {""}) + advise("both_up", set()))


# --- Several runs, the same pairs, pictures -------------------------------------------------------------------------


def test_runs_are_read_at_equal_margin():
    """The margin of one grows by 1, that of the other by 2 a state; either pays a nat a state."""
    time = np.arange(6.0)
    one = evidence(-time, -2 * time, split="evaluation", source="logps", unit="nats")
    other = evidence(-time, -3 * time, split="evaluation", source="logps", unit="nats")
    compared = compare_runs({"one": one, "other": other})
    assert compared["margin"] == 5
    assert [run["at_margin"]["step"] for run in compared["runs"].values()] == [60, 35]
    assert [run["at_margin"]["chosen_change"] for run in compared["runs"].values()] == [-5, -2.5]
    assert difference(compared["runs"]["other"], compared["runs"]["one"])[0] == 2.5
    back = compare_runs({"one": evidence(time, 2 * time), "other": evidence(-time, -3 * time)})
    assert (back["margin"], back["runs"]["one"]["at_margin"]) == (None, None)


def test_noisy_runs_are_compared_with_an_error():
    rng = np.random.default_rng(1)
    time = np.arange(200) / 200
    runs = {
        name: evidence(-pay * time + rng.standard_normal(200), -20 * time + rng.standard_normal(200))
        for name, pay in (("cheap", 5), ("dear", 10))
    }
    compared = compare_runs(runs)
    assert compared["margin"] == pytest.approx(10, abs=1)
    size, error = difference(compared["runs"]["cheap"], compared["runs"]["dear"])
    true = 5 * compared["margin"] / -15 + 10 * compared["margin"] / 10
    assert abs(size - true) < 3 * error < 3


def test_runs_of_other_numbers_are_not_compared():
    nats = evidence(FALL, STEEPER, source="logps", unit="nats")
    with pytest.raises(ValueError, match="one has rewards of training in reward; other has logps of training in nats"):
        compare_runs({"one": evidence(FALL, STEEPER), "other": nats})
    logs = {name: LogFile([nats._replace(name=name)], []) for name in ("easy", "hard")}
    with pytest.raises(ValueError, match="easy, hard have no evaluation set in common"):
        report_runs(logs)


PAIRS = [[[-10, -20, -30], [-11, -19, -33]], [[-10, -20, -30], [-14, -22, -39]]]  # chosen, rejected


def test_pairs_over_checkpoints():
    found = diagnose_pairs(*np.array(PAIRS, float), steps=[0, 500])
    assert [pair.summary["case"] for pair in found.pairs] == ["both_down", "chosen_up_rejected_down", "both_down"]
    assert found.falls == [2, 0]
    summary = found.mean.summary
    assert (summary["case"], summary["chosen_change"], summary["rejected_change"]) == ("both_down", -1, -5)
    assert summary["chosen_error"] == pytest.approx(stats.sem([-1, 1, -3]))
    assert summary["rejected_error"] == pytest.approx(stats.sem([-4, -2, -9]))
    assert diagnose_pairs(*np.array(PAIRS, float), tolerance=2).falls == [2]
    assert diagnose_pairs(*np.zeros((2, 2, 3))).falls == []  # what does not move does not fall


def test_pairs_from_files(tmp_path, capsys):
    arrays = {
        f"{side}_logps": np.array(logps, float) for side, logps in zip(("chosen", "rejected"), PAIRS, strict=True)
    }
    np.savez(tmp_path / "pairs.npz", **arrays, steps=[0, 500])
    with (tmp_path / "pairs.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["pair", "step", "chosen_logps", "rejected_logps"])
        rows.writerows(
            [f"p{i}", step, PAIRS[0][s][i], PAIRS[1][s][i]] for i in range(3) for s, step in enumerate((0, 500))
        )
    printed = []
    for name in ("pairs.npz", "pairs.csv"):
        assert cli.main(["diagnose", str(tmp_path / name), "--json"]) == 0
        printed.append(json.loads(capsys.readouterr().out))
    assert printed[0] == printed[1]
    assert printed[0]["falls"] == [2, 0]
    assert cli.main(["diagnose", str(tmp_path / "pairs.csv")]) == 0
    out = capsys.readouterr().out
    assert "Pairs whose chosen fell, the largest fall first: 2 (-3), 0 (-1)." in out
    assert "chosen -1 ± 1.2, rejected -5 ± 2.1, margin +4 nats: both down." in out
    with (tmp_path / "pairs.csv").open("a") as file:
        file.write("p0,1000,-20,-20\n")  # the run goes on
    assert load_pairs(tmp_path / "pairs.csv")["steps"].tolist() == [0, 500]
    (tmp_path / "pairs.csv").write_text((tmp_path / "pairs.csv").read_text().rsplit("p2", 1)[0])
    assert cli.main(["diagnose", str(tmp_path / "pairs.csv")]) == 2
    assert "lacks pair p2 at step 500" in capsys.readouterr().err


@given(st.integers(2, 5), st.integers(1, 4), st.integers(1, 4), st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_tokens_are_the_log_of_their_sums_and_positions_add_up(S, N, T_w, T_l, seed):
    rng = np.random.default_rng(seed)
    tokens = [rng.integers(-4, 1, (S, N, T)).astype(np.float32) for T in (T_w, T_l)]
    masks = [rng.random((N, T)) < 0.7 for T in (T_w, T_l)]
    arrays = dict(zip(("chosen_token_logps", "rejected_token_logps"), tokens, strict=True))
    padded = {name: np.where(m, a, np.nan) for (name, a), m in zip(arrays.items(), masks, strict=True)}
    named = dict(zip(("chosen_mask", "rejected_mask"), masks, strict=True))
    found = diagnose_tokens(**padded, **named, steps=np.arange(S) * 10)
    sums = [np.where(m, a, 0).sum(axis=2) for a, m in zip(tokens, masks, strict=True)]
    assert len(found.pairs) == N
    for i, pair in enumerate(found.pairs):
        plain = diagnose_log(*(side[:, i] for side in sums), steps=np.arange(S) * 10, fixed_pairs=True)
        for ours, theirs in zip((*pair.stretches, pair.summary), (*plain.stretches, plain.summary), strict=True):
            assert {name: ours[name] for name in theirs} == theirs
            for side, mask in zip(("chosen", "rejected"), masks, strict=True):
                positions = np.array(ours[f"{side}_positions"])
                assert positions.sum() == ours[f"{side}_change"]  # whole numbers: exact
                assert not positions[~mask[i]].any()
    for side in ("chosen", "rejected"):
        each = np.mean([pair.summary[f"{side}_positions"] for pair in found.pairs], axis=0)
        assert_close(found.mean.summary[f"{side}_positions"], each, 4, 4 * EPS)  # means of at most four numbers
        mean = np.mean([pair.summary[f"{side}_change"] for pair in found.pairs])
        assert_close(found.mean.summary[f"{side}_change"], mean, 16, 8 * EPS)


def test_tokens_from_a_file(tmp_path):
    arrays = {name: -np.ones((2, 1, 3), np.float32) for name in ("chosen_token_logps", "rejected_token_logps")}
    np.savez(tmp_path / "tokens.npz", **arrays, steps=[0, 100], chosen_mask=np.ones((1, 3), bool))
    (stretch,) = diagnose_tokens(**load(tmp_path / "tokens.npz")).pairs[0].stretches
    assert (stretch["case"], stretch["last_step"]) == ("stationary", 100)


@pytest.mark.parametrize("kind", ["png", "pdf", "svg"])
def test_a_plot(tmp_path, kind):
    logs = {"short": evidence(FALL, STEEPER), "long": evidence(*hump(100, 2.0))}
    plot_logs(logs, tmp_path / f"log.{kind}")
    assert (tmp_path / f"log.{kind}").stat().st_size > 5000
    if kind == "svg":
        assert (tmp_path / "log.svg").read_text().count("both down") == 2


def test_a_plot_that_cannot_be_made_says_why(tmp_path, monkeypatch):
    logs = {"": evidence(FALL, STEEPER)}
    with pytest.raises(ValueError, match=r"cannot write `.*xyz`"):
        plot_logs(logs, tmp_path / "log.xyz")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ValueError, match="needs the package `matplotlib`: pip install"):
        plot_logs(logs, tmp_path / "log.png")


ONE, TWO = np.zeros(1), np.zeros(2)
TOKENS = np.zeros((2, 1, 3))
BAD = {
    "one state": (lambda: diagnose_log(ONE, ONE), r"`chosen_logps` must hold real numbers \[S\] at two states or more"),
    "words": (lambda: diagnose_log(TWO, ["a", "b"]), "`rejected_logps` must hold real numbers"),
    "two lengths": (lambda: diagnose_log(TWO, np.zeros(3)), "must have one length, got 2 and 3"),
    "not a number": (lambda: diagnose_log(np.array([0, np.nan]), TWO), "`chosen_logps` must be finite, got nan"),
    "negative tolerance": (lambda: diagnose_log(TWO, TWO, tolerance=-1), "`tolerance` must be >= 0 and finite"),
    "tolerance NaN": (lambda: diagnose_log(TWO, TWO, tolerance=math.nan), "`tolerance` must be >= 0 and finite"),
    "steps of another run": (lambda: diagnose_log(TWO, TWO, steps=[3]), "`steps` must hold 2 numbers"),
    "steps back": (lambda: diagnose_log(TWO, TWO, steps=[3, 1]), "`steps` must increase, got 1 after 3"),
    "pairs of a mean": (lambda: diagnose_pairs(TWO, TWO), r"`chosen_logps` must hold real numbers \[S, N\]"),
    "other pairs": (lambda: diagnose_pairs(np.zeros((2, 3)), np.zeros((2, 4))), "must share the axes"),
    "tokens without pairs": (
        lambda: diagnose_tokens(chosen_token_logps=TOKENS[0], rejected_token_logps=TOKENS),
        r"`chosen_token_logps` must hold real numbers \[S, N, T\]",
    ),
    "tokens of other pairs": (
        lambda: diagnose_tokens(chosen_token_logps=TOKENS, rejected_token_logps=np.zeros((2, 2, 3))),
        "must share the axes",
    ),
    "mask of other tokens": (
        lambda: diagnose_tokens(chosen_token_logps=TOKENS, rejected_token_logps=TOKENS, rejected_mask=np.ones((1, 2))),
        r"`rejected_mask` must have shape \(1, 3\), got \(1, 2\)",
    ),
    "padding NaN without a mask": (
        lambda: diagnose_tokens(chosen_token_logps=TOKENS * np.nan, rejected_token_logps=TOKENS),
        "`chosen_token_logps` must be finite",
    ),
}


@pytest.mark.parametrize(("call", "message"), BAD.values(), ids=BAD)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
