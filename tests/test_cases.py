"""Small logs as people have them: the verdict that is right for each, and what has to be said beside it."""

import json
from pathlib import Path

import pytest

from toymodel import cli

LOGS = Path(__file__).parent / "data" / "logs"
APPROX = 1e-9  # round-off of differences of numbers below 300

# Case, changes of chosen and rejected, unit, source, first and last step, kind of step; codes that must be among the
# warnings, and codes that must not.
CASES = {
    "a1_stuck_at_ln2.json": ("stationary", 0, 0, "reward", "rewards", 10, 40, "step", "nothing_moved", "noise"),
    "a2_logps_contradict_rewards.jsonl": (
        *("both_down", -0.15, -0.28, "reward", "rewards", 10, 30, "step"),
        *("logps_disagree", "different_batches"),
    ),
    "b1_noise_only.csv": (
        *("not_told_from_noise", 16.5, 15.3, "nats", "logps", 0, 590, "step"),
        *("noise different_batches", "logps_disagree"),
    ),
    "b3_tolerance_hides_a_fall.csv": (
        *("chosen_unchanged_rejected_down", 0.1, -30, "nats", "logps", 0, 300, "step"),
        *("", "noise different_batches"),
    ),
    "b5_tie_of_rounded_logs.jsonl": (
        *("chosen_up_rejected_unchanged", 8, 0, "nats", "logps", 10, 20, "step"),
        *("different_batches noise", "nothing_moved"),
    ),
    "c1_console.log": ("both_down", -0.11, -0.24, "reward", "rewards", 1, 3, "row", "noise", "not_a_number"),
    "c3_nan_from_step_40.json": (
        *("both_down", -0.2, -0.8, "reward", "rewards", 10, 30, "step"),
        *("not_a_number", "saturated"),
    ),
    "c4_nan_is_missing.csv": ("both_down", -1, -8, "nats", "logps", 20, 40, "step", "", "not_a_number noise"),
    "c5_capital_step.csv": ("both_down", -4.5, -10, "nats", "logps", 500, 1500, "step", "", "noise"),
    "c6_swift_steps.jsonl": (
        *("chosen_up_rejected_down", 0.06, -0.3, "reward", "rewards", 5, 20, "step"),
        *("", "logps_disagree"),
    ),
    "c7_model_card.md": ("both_down", -4.5, -10, "nats", "logps", 100, 300, "step", "", "different_batches"),
    "c11_kto_one_side_a_row.jsonl": (
        *("chosen_up_rejected_down", 0.2, -0.4, "reward", "rewards", 1, 6, "step"),
        *("one_sided", "not_a_number"),
    ),
    "c12_openrlhf.jsonl": (
        *("both_down", -0.3, -0.9, "reward", "rewards", 10, 40, "step"),
        *("", "accuracy_at_chance saturated nothing_moved"),
    ),
    "c13_wandb_panel.csv": ("both_down", -0.23, -0.68, "reward", "rewards", 10, 30, "step", "", "one_sided"),
    "c16_average_logps.jsonl": (
        *("both_down", -0.06, -0.15, "nats per token", "logps", 10, 40, "step"),
        *("average_logps", "reference_mismatch"),
    ),
    "c17_rewards_start_far_from_zero.csv": (
        *("both_up", 18, 16.6, "reward", "rewards", 10, 600, "step"),
        *("reference_mismatch", "saturated"),
    ),
}


def diagnosed(name, capsys, *options):
    assert cli.main(["diagnose", str(LOGS / name), "--json", *options]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("name", CASES)
def test_the_verdict_is_right(name, capsys):
    case, chosen, rejected, unit, source, first, last, kind, wanted, unwanted = CASES[name]
    found = diagnosed(name, capsys, *(["--tolerance", "0.5"] if "tolerance" in name else []))
    summary = found["summary"]
    assert summary["case"] == case
    near = 0.05 if name.startswith("b1") else APPROX  # of the slope, one decimal is known
    assert summary["chosen_change"] == pytest.approx(chosen, abs=near)
    assert summary["rejected_change"] == pytest.approx(rejected, abs=near)
    assert (summary["unit"], summary["source"]) == (unit, source)
    assert (summary["first_step"], summary["last_step"], summary["step_kind"]) == (first, last, kind)
    assert [stretch["case"] for stretch in found["stretches"]] == [case]
    codes = [warning["code"] for warning in found["warnings"]]
    assert {*wanted.split()} <= {*codes}, codes
    assert not {*unwanted.split()} & {*codes}, codes


def test_what_puts_the_verdict_in_doubt_comes_first(capsys):
    for name, code, step in [
        ("c3_nan_from_step_40.json", "not_a_number", 40),
        ("c17_rewards_start_far_from_zero.csv", "reference_mismatch", 10),
        ("a1_stuck_at_ln2.json", "nothing_moved", None),
    ]:
        first = diagnosed(name, capsys)["warnings"][0]
        assert (first["code"], first.get("step")) == (code, step)
        assert cli.main(["diagnose", str(LOGS / name)]) == 0
        assert capsys.readouterr().out.startswith(f"{code}: ")


def test_evaluation_sets_are_diagnosed_by_name(capsys):
    found = diagnosed("c10_named_eval_sets.json", capsys)
    assert found.keys() == {"sets", "warnings"}
    told = {name: [one["summary"][key] for key in ("case", "split")] for name, one in found["sets"].items()}
    assert told == {"easy": ["chosen_up_rejected_down", "evaluation"], "hard": ["both_down", "evaluation"]}
    easy = found["sets"]["easy"]["summary"]
    assert (easy["chosen_change"], easy["rejected_change"]) == pytest.approx((0.3, -3), abs=APPROX)
    assert cli.main(["diagnose", str(LOGS / "c10_named_eval_sets.json")]) == 0
    out = capsys.readouterr().out
    assert out.index("Evaluation set `easy`") < out.index("chosen up rejected down") < out.index("`hard`")


def test_a_log_of_groups_is_refused(capsys):
    assert cli.main(["diagnose", str(LOGS / "c18_grpo.json")]) == 2
    err = capsys.readouterr().err
    assert "no preference pairs" in err
    assert "T21" in err


def test_labels_are_a_mask(capsys):
    right, labels = (diagnosed(f"d1_{name}.npz", capsys) for name in ("right", "labels_as_mask"))
    assert right == labels
    assert right["mean"]["summary"]["chosen_change"] == pytest.approx(0.6, abs=APPROX)
    assert right["mean"]["summary"]["case"] == "chosen_up_rejected_down"
