"""Logs as people have them: each kind of file gives the numbers that are in it, and says what its reader must know."""

import csv
import gzip
import io
import json
import math
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from toymodel.diagnosis import load, load_log
from toymodel.diagnosis.columns import read_name
from toymodel.diagnosis.readers import read_mask

LOGS = Path(__file__).parent / "data" / "logs"
NAN = math.nan


def written(folder, name, content):
    if isinstance(content, bytes):
        (folder / name).write_bytes(content)
    else:
        (folder / name).write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return folder / name


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One for all examples of a property."""
    return tmp_path_factory.mktemp("logs")


def lines(rows):
    return "\n".join(map(json.dumps, rows)) + "\n"


def as_csv(rows, delimiter=","):
    out = io.StringIO()
    names = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(out, names, delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def states(series):
    return dict(zip(series.steps.tolist(), series.values.tolist(), strict=True))


def only(path, columns=None):
    """The one piece of evidence in a file, and the codes of its findings."""
    (evidence,), findings = load_log(path, columns)
    return evidence, [finding.code for finding in findings]


def change(series):
    return (series.steps[0], series.steps[-1], round(series.values[-1] - series.values[0], 9))


# --- Cases that real files stand for --------------------------------------------------------------------------------

# File: set, split, source, unit, kind of step, first and last step and change of chosen, of rejected; codes.
STEPS = {
    "a1_stuck_at_ln2.json": ["", "training", "rewards", "reward", "step", (10, 40, 0), (10, 40, 0), []],
    "a2_logps_contradict_rewards.jsonl": [
        "",
        "training",
        "rewards",
        "reward",
        "step",
        (10, 30, -0.15),
        (10, 30, -0.28),
        [],
    ],
    "b1_noise_only.csv": [
        "",
        "training",
        "logps",
        "nats",
        "step",
        (0, 590, -16.3),
        (0, 590, -13.5),
        ["different_batches"],
    ],
    "b3_tolerance_hides_a_fall.csv": ["", "evaluation", "logps", "nats", "step", (0, 300, 0.1), (0, 300, -30), []],
    "b5_tie_of_rounded_logs.jsonl": [
        "",
        "training",
        "logps",
        "nats",
        "step",
        (10, 20, 8),
        (10, 20, 0),
        ["different_batches"],
    ],
    "c1_console.log": ["", "training", "rewards", "reward", "row", (1, 3, -0.11), (1, 3, -0.24), []],
    "c3_nan_from_step_40.json": [
        "",
        "training",
        "rewards",
        "reward",
        "step",
        (10, 30, -0.2),
        (10, 30, -0.8),
        ["not_a_number"],
    ],
    "c4_nan_is_missing.csv": ["", "evaluation", "logps", "nats", "step", (20, 40, -1), (20, 40, -8), []],
    "c5_capital_step.csv": ["", "evaluation", "logps", "nats", "step", (500, 1500, -4.5), (500, 1500, -10), []],
    "c6_swift_steps.jsonl": ["", "training", "rewards", "reward", "step", (5, 20, 0.06), (5, 20, -0.3), []],
    "c7_model_card.md": ["", "evaluation", "logps", "nats", "step", (100, 300, -4.5), (100, 300, -10), []],
    "c11_kto_one_side_a_row.jsonl": [
        "",
        "training",
        "rewards",
        "reward",
        "step",
        (1, 5, 0.2),
        (2, 6, -0.4),
        ["one_sided"],
    ],
    "c12_openrlhf.jsonl": ["", "training", "rewards", "reward", "step", (10, 40, -0.3), (10, 40, -0.9), []],
    "c13_wandb_panel.csv": ["", "training", "rewards", "reward", "step", (10, 30, -0.23), (10, 30, -0.68), []],
    "c16_average_logps.jsonl": [
        *("", "training", "logps", "nats per token", "step", (10, 40, -0.06), (10, 40, -0.15)),
        ["different_batches", "average_logps"],
    ],
    "c17_rewards_start_far_from_zero.csv": [
        "",
        "training",
        "rewards",
        "reward",
        "step",
        (10, 600, 18),
        (10, 600, 16.6),
        [],
    ],
}


@pytest.mark.parametrize("name", STEPS)
def test_cases(name):
    found, codes = only(LOGS / name)
    told = [
        found.name,
        found.split,
        found.source,
        found.unit,
        found.step_kind,
        change(found.chosen),
        change(found.rejected),
    ]
    assert [*told, codes] == STEPS[name]


def test_named_evaluation_sets():
    (easy, hard), findings = load_log(LOGS / "c10_named_eval_sets.json")
    assert (easy.name, change(easy.chosen), change(easy.rejected)) == ("easy", (10, 40, 0.3), (10, 40, -3))
    assert (hard.name, change(hard.chosen), change(hard.rejected)) == ("hard", (10, 40, -6), (10, 40, -9))
    assert findings == []


def test_groups_of_answers_are_refused_with_a_pointer():
    with pytest.raises(ValueError, match=r"holds no preference pairs.*T21: `toymodel\.theory\.displaced`"):
        load_log(LOGS / "c18_grpo.json")


def test_other_columns_come_along():
    found, _ = only(LOGS / "a1_stuck_at_ln2.json")
    assert set(found.others) == {
        *(
            "loss",
            "grad_norm",
            "accuracy",
            "margin",
            "chosen_rewards",
            "rejected_rewards",
            "chosen_logps",
            "rejected_logps",
        )
    }
    assert states(found.others["chosen_logps"]) == {10: -61, 20: -60, 30: -59, 40: -58.5}
    found, _ = only(LOGS / "a2_logps_contradict_rewards.jsonl")
    assert states(found.others["rejected_ref_logps"]) == {10: -60.7, 20: -59, 30: -57.1}
    found, _ = only(LOGS / "c7_model_card.md")
    assert states(found.others["loss"]) == {100: 0.62, 200: 0.57, 300: 0.55}  # of the validation, not of training


def test_where_it_broke():
    (found,), (finding,) = load_log(LOGS / "c3_nan_from_step_40.json")
    assert (found.broke_at, finding.step) == (40, 40)
    assert finding.text == "Not a number from step 40 on: the run broke there."


# --- One history in every format ------------------------------------------------------------------------------------

quarters = st.integers(-4000, -40).map(lambda k: k / 4)  # exact in any number of decimals that a writer keeps
histories = st.lists(
    st.tuples(st.integers(2, 5000), quarters, quarters), min_size=2, max_size=6, unique_by=lambda row: row[0]
).map(sorted)


def trl(history):
    """Rows as the trainer of TRL keeps them: evaluations, and between them training rows that say something else."""
    rows = []
    for step, w, l in history:  # noqa: E741
        rows.append({"step": step, "epoch": step / 8, "loss": 0.5, "rewards/chosen": 1.5, "logps/chosen": -1.25})
        rows[-1] |= {"rewards/rejected": 2.5, "logps/rejected": -2.25}
        rows.append({"step": step, "epoch": step / 8, "eval_loss": 0.25, "eval_runtime": 1.5})
        rows[-1] |= {"eval_logps/chosen": w, "eval_logps/rejected": l}
    return [*rows, {"step": history[-1][0], "train_runtime": 9.5, "train_loss": 0.75}]


def strings(rows):
    return [{name: str(value) for name, value in row.items()} for row in rows]


def frame(rows):
    """As a DataFrame has it: every column in every row."""
    names = dict.fromkeys(name for row in rows for name in row)
    return [{name: row.get(name, NAN) for name in names} for row in rows]


def renamed(rows, names):
    return [{names(name): value for name, value in row.items()} for row in rows]


def by_wandb(name):
    return {"step": "train/global_step"}.get(name, f"eval/{name[5:]}" if name.startswith("eval_") else f"train/{name}")


def by_reference_dpo(name):
    return {"step": "counters/updates", "eval_loss": "loss/eval"}.get(name, name.replace("eval_logps", "logps_eval"))


def evaluations(rows):
    """Step, chosen and rejected of the evaluations."""
    return [(row["step"], row["eval_logps/chosen"], row["eval_logps/rejected"]) for row in rows if "eval_loss" in row]


def console(rows):
    text = "Loading checkpoint shards: 100%, tokens {'a\\d': {1}}\n"
    for i, row in enumerate(rows):
        text += f" {i}%|##5       | {i}/40 [00:30<01:30,  3.01s/it]\r" + "\n" * (i % 2) + f"{row}\n"
    return text


def markdown(rows):
    rows = [row for row in rows if "eval_loss" in row]
    names = {
        "eval_loss": "Validation Loss",
        "eval_logps/chosen": "Logps/chosen",
        "eval_logps/rejected": "Logps/rejected",
    }
    head = ["Step", "Epoch", *names.values()]
    body = [[row["step"], row["epoch"], *(row[name] for name in names)] for row in rows]
    table = [head, [":---:"] * len(head), *body]
    text = "---\nlicense: mit\n---\n# A model\n\n| Metric | Value |\n|---|---|\n| Rewards/chosen | 4 |\n\nIt is\n\n"
    return text + "\n".join("| " + " | ".join(map(str, row)) + " |" for row in table) + "\n\n### Versions\n"


def notebook(rows):
    rows = [row for row in rows if "eval_loss" in row]
    head = "Step\tTraining Loss\tValidation Loss\tlogps / chosen\tlogps / rejected"
    body = [f"{r['step']}\tNo log\t0.25\t{r['eval_logps/chosen']}\t{r['eval_logps/rejected']}" for r in rows]
    return "\n".join([" [120/120 05:58, Epoch 17/18]", "==((====))==  Num GPUs | 1", head, *body])


def panel(rows):
    rows = [row for row in rows if "eval_loss" in row]
    table = []
    for row in rows:
        table.append({"Step": row["step"]})
        for side in ("chosen", "rejected"):
            value = row[f"eval_logps/{side}"]
            names = ("", "__MIN", "__MAX")
            table[-1] |= {f"run - 1 - eval/logps/{side}{name}": value + i for i, name in enumerate(names)}
    return as_csv(table)


def columns_of(rows):
    rows = frame(rows)
    return {name: [row[name] for row in rows] for name in rows[0]}


FORMATS = {
    "trainer_state": lambda rows: {"global_step": 7, "best_metric": None, "log_history": rows},
    "list": lambda rows: rows,
    "history": lambda rows: {"args": {"beta": 0.1, "tags": ["a"]}, "history": rows},
    "data": lambda rows: {"run": {"data": rows}},
    "nested": lambda rows: [{"step": row["step"], "metrics": row} for row in rows],
    "by column": columns_of,
    "by column and row": lambda rows: {n: dict(enumerate(c)) for n, c in columns_of(rows).items()},
    "split": lambda rows: {"columns": list(frame(rows)[0]), "data": [list(row.values()) for row in frame(rows)]},
    "lines": lines,
    "lines with blanks": lambda rows: lines(rows).replace("\n", "\n\n"),
    "lines of strings": lambda rows: lines(strings(rows)),
    "lines of objects": lambda rows: lines([{**row, "_wandb": {"runtime": 1, "x": {"y": 2}}} for row in rows]),
    "lines of a frame": lambda rows: lines(frame(rows)),
    "nulls": lambda rows: lines(frame(rows)).replace("NaN", "null"),
    "console": console,
    "console of strings": lambda rows: console(strings(rows)),
    "console of arrays": lambda rows: "\n".join(str({n: np.float64(v) for n, v in row.items()}) for row in rows),
    "console with tensors": lambda rows: "\n".join(
        "{" + ", ".join(f"'{n}': tensor({v}, device='cuda:0')" for n, v in row.items()) + "}" for row in rows
    ),
    "wrapped console": lambda rows: "Start\n" + "\n".join(str(row).replace(", ", ",\n ") for row in rows),
    "json in a log": lambda rows: "\n".join(f"INFO 12:00 {json.dumps(row)} done" for row in rows),
    "csv": as_csv,
    "csv of a frame": lambda rows: as_csv(frame(rows)),
    "csv with an index": lambda rows: as_csv([{"": i, **row} for i, row in enumerate(frame(rows))]),
    "tsv": lambda rows: as_csv(rows, "\t"),
    "semicolons": lambda rows: as_csv(rows, ";").replace(".", ","),
    "csv twice begun": lambda rows: (
        as_csv(frame(rows[:3])) + as_csv(frame(rows))[len(as_csv(frame(rows[:3]))) :]
        if list(frame(rows)[0]) == list(frame(rows[:3])[0])
        else as_csv(rows)
    ),
    "windows": lambda rows: as_csv(rows).replace("\r\n", "\n").replace("\n", "\r\n"),
    "byte order mark": lambda rows: ("\ufeff" + as_csv(rows)).encode(),
    "utf-16": lambda rows: console(rows).encode("utf-16"),
    "gzip": lambda rows: gzip.compress(lines(rows).encode()),
    "capitals": lambda rows: as_csv(renamed(rows, str.title)),
    "wandb history": lambda rows: lines([{"_step": 2 * i, **renamed([r], by_wandb)[0]} for i, r in enumerate(rows)]),
    "model card": markdown,
    "notebook": notebook,
    "wandb panel": panel,
    "llama-factory": lambda rows: lines(renamed(rows, lambda n: {"step": "current_steps"}.get(n, n))),
    "swift": lambda rows: lines([{**row, "global_step/max_steps": f"{row['step']}/9000"} for row in rows]).replace(
        '"step"', '"n"'
    ),
    "reference dpo": lambda rows: lines(renamed(rows, by_reference_dpo)),
    "reference dpo's console": lambda rows: "\n".join(
        f"eval after {row.pop('step')}: {renamed(strings([row]), by_reference_dpo)[0]}"
        for row in rows
        if "eval_loss" in row
    ),
    "own names": lambda rows: as_csv(
        [{"iteration": t, "Val Policy_Chosen_Log_Probs": w, "Val_Log_Prob/Reject": v} for t, w, v in evaluations(rows)]
    ),
    "long": lambda rows: as_csv(
        [
            {"step": t, "tag": f"eval/{side}_logps", "value": x}
            for t, w, v in evaluations(rows)
            for side, x in (("chosen", w), ("rejected", v))
        ]
    ),
    "by step": lambda rows: {t: {"eval_logps": {"chosen": w, "rejected": v}} for t, w, v in evaluations(rows)},
    "printed frame": lambda rows: "\n".join(
        [f"{'':5}{'step':>8}  {'eval_logps/chosen':>20}  {'eval_logps/rejected':>20}"]
        + [f"{i:5}{t:8}  {w:20}  {v:20}" for i, (t, w, v) in enumerate(evaluations(rows))]
    ),
    "console wrapped anywhere": lambda rows: (
        "Start\n" + "\n".join(str(row)[i : i + 79] for row in rows for i in range(0, len(str(row)), 79))
    ),
    "comments": lambda rows: "\n".join(f"# {row}" for row in rows),
    "mlx": lambda rows: (
        "Starting, iters: 500\n"
        + "\n".join(
            f"Iter {t}: Val loss 0.055, Val chosen logps {w}, Val rejected logps {v}, Val took 0.645s\n"
            f"Iter {t}: Train loss 0.061, Chosen reward -0.206, Rejected reward -0.227, It/sec 0.103"
            for t, w, v in evaluations(rows)
        )
    ),
    "torchtune": lambda rows: "\n".join(
        f"Step {t} | loss:0.5 val_log_probs/chosen:{w} val_log_probs/rejected:{v} " for t, w, v in evaluations(rows)
    ),
    "progress bar": lambda rows: "\r".join(
        f"Eval:  10%|# | 1/10 [00:01<00:09, step={t}, val_chosen_logps={w}, val_reject_logps={v}]"
        for t, w, v in evaluations(rows)
    ),
}


@given(history=histories)
def test_every_format_gives_what_was_written(history, folder):
    for form, write in FORMATS.items():
        found, codes = only(written(folder, "log.of_any_name", write(trl(history))))
        assert states(found.chosen) == {step: w for step, w, _ in history}, form
        assert states(found.rejected) == {step: l for step, _, l in history}, form  # noqa: E741
        kind = "example" if form == "reference dpo's console" else "step"
        assert (found.split, found.source, found.unit, found.step_kind) == ("evaluation", "logps", "nats", kind), form
        assert (codes, found.broke_at) == ([], None), form


# --- What is said of a log ------------------------------------------------------------------------------------------

ROWS = [{"step": 10 * i, "loss": 0.5, "rewards/chosen": -0.1 * i, "rewards/rejected": -0.3 * i} for i in (1, 2, 3)]
CHOSEN = {10: -0.1, 20: -0.2, 30: pytest.approx(-0.3)}


@given(history=histories, data=st.data())
def test_the_order_of_rows_does_not_matter(history, data, folder):
    rows = data.draw(st.permutations(trl(history)))
    found, codes = only(written(folder, "log.json", rows))
    assert states(found.chosen) == {step: w for step, w, _ in history}
    steps = [row["step"] for row in rows if "eval_loss" in row]
    assert codes == ([] if steps == sorted(steps) else ["sorted_rows"])


def test_a_resumed_run_replaces_its_rows(tmp_path):
    again = [{"step": 20, "rewards/chosen": -0.5, "rewards/rejected": -0.6}, {**ROWS[2], "step": 40}]
    found, findings = load_log(written(tmp_path, "log.jsonl", lines([*ROWS, *again])))
    assert states(found[0].chosen) == {**CHOSEN, 20: -0.5, 40: CHOSEN[30]}
    assert [(finding.code, finding.step) for finding in findings] == [("replaced_rows", 20)]
    assert only(written(tmp_path, "log.jsonl", lines([*ROWS, ROWS[2]])))[1] == []  # two processes that say the same


CUT = {
    "lines": (lines(ROWS) + '{"step": 40, "rewards/cho', 3),
    "nested lines": (lines(ROWS) + '{"step": 40, "_wandb": {"runtime": 1}, "rew', 3),
    "json": (json.dumps({"log_history": ROWS}, indent=2)[:-60], 2),
    "json after a row": (json.dumps({"log_history": ROWS})[:-2], 3),
    "console": (console(ROWS) + "{'step': 40, 'rewards/cho", 3),
    "after a progress bar": (console(ROWS) + " 9%|# | 1/9 {'step': 40, 'rewards/cho", 3),
    "printed json after a row": (json.dumps({"log_history": ROWS}, indent=2)[: -len("\n  ]\n}")], 3),
    "csv": (as_csv(ROWS) + "40,0.5,-0.4", 3),
}


@pytest.mark.parametrize("form", CUT)
def test_a_file_that_is_cut_off(tmp_path, form):
    content, rows = CUT[form]
    found, codes = only(written(tmp_path, "log", content))
    assert states(found.chosen) == dict(list(CHOSEN.items())[:rows])
    assert codes == ["cut_off"]


def test_a_broken_line_is_told(tmp_path):
    found, codes = only(written(tmp_path, "log", lines(ROWS[:2]) + '{"step": 25, "rew{"step": 26}\n' + lines(ROWS[2:])))
    assert (states(found.chosen), codes) == (CHOSEN, ["unread_rows"])


def test_a_row_without_a_step_is_left_out(tmp_path):
    last = {name: value for name, value in ROWS[0].items() if name != "step"}
    found, codes = only(written(tmp_path, "log.jsonl", lines([*ROWS, last])))
    assert (states(found.chosen), codes) == (CHOSEN, ["unread_rows"])


def broken(*steps, **numbers):
    return [{"step": step, "loss": 0.0, "rewards/chosen": NAN, "rewards/rejected": NAN} | numbers for step in steps]


EVALS = [{"step": 10 * i, "eval_logps/chosen": -70.0 - i, "eval_logps/rejected": -80.0 - 2 * i} for i in (1, 2, 3)]
ENDS = {
    "both sides": (ROWS + broken(40, 50), 40),
    "one row": (ROWS + broken(40), 40),
    "with the loss": (ROWS + broken(40, 50, loss=NAN), 40),
    "in words": (ROWS + broken(40, **{"rewards/chosen": "-inf", "rewards/rejected": "nan"}), 40),
    "null": (ROWS + broken(40, **{"rewards/chosen": None, "rewards/rejected": None}), 40),
    "one side": (ROWS + [{**broken(t)[0], "rewards/chosen": -0.4} for t in (40, 50)], 40),
    "a longer gap than before": (ROWS[:1] + broken(15) + ROWS[1:] + broken(40, 50), 40),
    "a gap as before": (ROWS[:1] + broken(12, 15) + ROWS[1:] + broken(40, 50), None),
    "a gap inside": (ROWS[:1] + broken(15) + ROWS[1:], None),
    "evaluations": ([*EVALS, {"step": 40, "eval_logps/chosen": NAN, "eval_logps/rejected": NAN}], 40),
    "training goes on": ([*EVALS, *ROWS, {**ROWS[0], "step": 40}], None),
    "one side a row": ([{"step": t, f"rewards/{('chosen', 'rejected')[t % 3 > 0]}": 0.1 * t} for t in range(9)], None),
    "one side a row, then none": (
        [{"step": t, f"rewards/{('chosen', 'rejected')[t % 2]}": 0.1 * t} for t in range(8)] + broken(8, 9),
        8,
    ),
    "the row after training": ([*ROWS, {"step": 33, "train_runtime": 9.5, "train_loss": 0.5}], None),
}


@pytest.mark.parametrize("form", [lambda rows: rows, frame, lambda rows: as_csv(frame(rows)), as_csv])
@pytest.mark.parametrize("name", ENDS)
def test_where_numbers_end(tmp_path, name, form):
    rows, broke_at = ENDS[name]
    (found,), findings = load_log(written(tmp_path, "log", form(rows)))
    assert found.broke_at == broke_at
    told = [finding.step for finding in findings if finding.code == "not_a_number"]
    assert told == ([] if broke_at is None else [broke_at])
    assert np.isfinite(found.chosen.values).all()
    assert np.isfinite(found.rejected.values).all()


@pytest.mark.parametrize("loss", ["Validation Loss", "Val Loss", "eval_loss"])
def test_rows_of_an_evaluation_with_names_as_in_training(tmp_path, loss):
    """And the row of dashes with which such a table may end: nothing was logged there, and nothing broke."""
    rows = [
        {"Step": step, "Train Loss": 0.7, loss: 0.6, "logps/chosen": -50 - step, "logps/rejected": -60}
        for step in (1, 2)
    ]
    rows.append({"Step": "Train Summary", "Train Loss": 0.7, loss: "-", "logps/chosen": "-", "logps/rejected": "-"})
    found, findings = only(written(tmp_path, "log.csv", as_csv(rows)))
    assert found.split == "evaluation"
    assert states(found.chosen) == {1: -51, 2: -52}
    assert not findings
    assert found.broke_at is None
    apart = rows[:2] + [{"Step": 3, "Train Loss": 0.7, loss: "", "logps/chosen": -1, "logps/rejected": -2}] * 3
    assert only(written(tmp_path, "other.csv", as_csv(apart)))[0].split == "training"  # few of its rows are evaluations


def test_training_that_breaks_is_told_beside_the_evaluations(tmp_path):
    (found,), (finding,) = load_log(written(tmp_path, "log.json", [*ROWS, *EVALS, *broken(40, 50)]))
    assert (found.split, found.broke_at) == ("evaluation", None)
    assert (finding.code, finding.step) == ("not_a_number", 40)


def test_log_probabilities_that_break_are_told_beside_rewards(tmp_path):
    rows = [row | {"logps/chosen": -50.0, "logps/rejected": -60.0} for row in ROWS]
    rows += [ROWS[0] | {"step": 40, "logps/chosen": NAN, "logps/rejected": NAN}]
    (found,), (finding,) = load_log(written(tmp_path, "log.json", rows))
    assert (found.source, found.broke_at) == ("rewards", None)
    assert (finding.code, finding.step) == ("not_a_number", 40)


def test_rewards_that_are_never_a_number_leave_log_probabilities(tmp_path):
    rows = [row | {"logps/chosen": -50.0, "logps/rejected": -60.0} for row in broken(10, 20)]
    found, codes = only(written(tmp_path, "log.json", rows))
    assert found.source == "logps"
    assert codes == ["different_batches", "not_a_number", "not_a_number"]


# --- Which numbers are believed -------------------------------------------------------------------------------------


def log_of(*quantities, split="", size=50.0, beta=None):
    """Four states with these quantities, each with changes of its own; rewards are β log π where β is given."""
    rows = [{"step": t} for t in range(4)]
    for row in rows:
        for k, quantity in enumerate(quantities):
            for i, side in enumerate(("chosen", "rejected")):
                wiggle = ((row["step"] + 1) * (k + 2) * (i + 3) % 7) / 100
                of_logps = quantity != "rewards" or beta is not None
                row[f"{split}{quantity}/{side}"] = -size * (1 + wiggle) if of_logps else wiggle
        if beta is not None:
            row |= {f"{split}rewards/{side}": beta * row[f"{split}logps/{side}"] for side in ("chosen", "rejected")}
    return rows


def merged(*logs):
    return [dict(pair for row in rows for pair in row.items()) for rows in zip(*logs, strict=True)]


BELIEVED = {
    "evaluations of log-probabilities": (
        merged(log_of("logps", "rewards"), log_of("logps", "rewards", split="eval_")),
        ("evaluation", "logps", "nats"),
    ),
    "evaluations of rewards": (
        merged(log_of("logps", "rewards"), log_of("rewards", split="eval_")),
        ("evaluation", "rewards", "reward"),
    ),
    "one evaluation": (log_of("rewards") + log_of("logps", split="eval_")[:1], ("training", "rewards", "reward")),
    "evaluations of one step": (
        log_of("rewards") + [row | {"step": 9} for row in log_of("logps", split="eval_")],
        ("training", "rewards", "reward"),
    ),
    "rewards of training": (log_of("logps", "rewards", "ref_logps"), ("training", "rewards", "reward")),
    "log-ratios of training": (log_of("logps", "ref_logps"), ("training", "logps_minus_reference", "nats")),
    "log-probabilities of training": (log_of("logps"), ("training", "logps", "nats")),
    "rewards without a reference": (log_of("logps", beta=0.1), ("training", "logps", "nats")),
    "SimPO": (log_of("logps", beta=2.0, size=5.0), ("training", "logps", "nats per token")),
    "CPO on short answers": (log_of("logps", beta=0.1, size=5.0), ("training", "logps", "nats")),
    "means over tokens": (log_of("logps", size=1.5), ("training", "logps", "nats per token")),
    "means by name": (log_of("avg_logps", size=8.0), ("training", "logps", "nats per token")),
    "ORPO": (
        [row | {"log_odds_ratio": -0.5} for row in log_of("logps", size=8.0)],
        ("training", "logps", "nats per token"),
    ),
}


@pytest.mark.parametrize("name", BELIEVED)
def test_what_is_believed(tmp_path, name):
    rows, expected = BELIEVED[name]
    found, codes = only(written(tmp_path, "log.json", rows))
    assert (found.split, found.source, found.unit) == expected
    assert ("different_batches" in codes) == (expected[:2] == ("training", "logps"))
    assert ("average_logps" in codes) == (expected[2] == "nats per token")


def test_the_names_that_we_ask_for_are_of_sums_however_small(tmp_path):
    """As short answers of small models have; a word that only losses of means log says otherwise."""
    rows = [{"step": step, "chosen_logps": -0.5 - step, "rejected_logps": -0.6} for step in (0, 1)]
    assert only(written(tmp_path, "log.json", rows))[0].unit == "nats"
    averaged = [row | {"simpo/gamma": 0.5} for row in rows]
    assert only(written(tmp_path, "other.json", averaged))[0].unit == "nats per token"


def test_sums_go_before_means_over_tokens(tmp_path):
    found, _ = only(written(tmp_path, "log.json", log_of("avg_logps", "logps")))
    assert found.columns == ("logps/chosen", "logps/rejected")


def test_log_ratios_are_differences(tmp_path):
    rows = log_of("logps", "ref_logps")
    found, _ = only(written(tmp_path, "log.json", rows))
    expected = [row["logps/chosen"] - row["ref_logps/chosen"] for row in rows]
    np.testing.assert_array_equal(found.chosen.values, expected)


def test_length_normalised_rewards_are_told(tmp_path):
    """IPO of TRL: there is a reference, and both log-probabilities are means over tokens."""
    found, codes = only(written(tmp_path, "log.json", log_of("logps", "rewards", size=1.5)))
    assert (found.source, found.unit, codes) == ("rewards", "reward", ["average_logps"])


def test_sums_over_a_batch_become_means(tmp_path):
    rows = [
        {"step": 1, "count/chosen": 4, "rewards/chosen_sum": 2.0, "count/rejected": 0, "rewards/rejected_sum": 0.0},
        {"step": 2, "count/chosen": 1, "rewards/chosen_sum": 0.75, "count/rejected": 3, "rewards/rejected_sum": -3.0},
        {"step": 3, "count/rejected": 2, "rewards/rejected_sum": -3.0},
    ]
    found, codes = only(written(tmp_path, "log.json", rows))
    assert (states(found.chosen), states(found.rejected)) == ({1: 0.5, 2: 0.75}, {2: -1, 3: -1.5})
    assert codes == ["one_sided"]


def test_sides_in_rows_of_one_step_are_not_one_sided(tmp_path):
    rows = [{"step": t, f"rewards/{side}": 0.1 * t} for t in range(3) for side in ("chosen", "rejected")]
    assert only(written(tmp_path, "log.json", rows))[1] == []


def test_rows_without_a_step_go_by_their_epochs(tmp_path):
    by_row = dict(zip((1, 2, 3), CHOSEN.values(), strict=True))
    rows = [{"epoch": 0.1 * row["step"], **{n: v for n, v in row.items() if n != "step"}} for row in ROWS]
    found, codes = only(written(tmp_path, "log.json", rows))
    assert (found.step_kind, states(found.chosen), codes) == ("row", by_row, [])
    found, codes = only(written(tmp_path, "log.json", rows[::-1]))
    assert (found.step_kind, states(found.chosen), codes) == (
        "row",
        by_row,
        ["sorted_rows"],
    )
    found, codes = only(written(tmp_path, "log.json", [*rows, {**rows[1], "rewards/chosen": 7.0}]))
    assert (states(found.chosen)[2], codes) == (7, ["replaced_rows"])


def test_rows_that_share_an_epoch_within_a_run_stay_rows_of_their_own(tmp_path):
    """Epochs that are rounded, in a log that a resumed run begins again: only the order can be told."""
    rows = [{"epoch": epoch, "rewards/chosen": 1.0, "rewards/rejected": 0.0} for epoch in (0.1, 0.1, 0.2, 0.2) * 2]
    assert list(only(written(tmp_path, "log.json", rows))[0].chosen.steps) == list(range(1, 9))


STEP_NAMES = [
    "step",
    "Step",
    "_step",
    "global_step",
    "train/global_step",
    "current_steps",
    "iteration",
    "counters/updates",
]


@pytest.mark.parametrize("name", STEP_NAMES)
def test_columns_of_steps(tmp_path, name):
    rows = [{"n": 7, name: f"{row['step']},000" if name == "Step" else row["step"], **row} for row in ROWS]
    rows = [{n: v for n, v in row.items() if n != "step" or name == "step"} for row in rows]
    found, _ = only(written(tmp_path, "log.json", rows))
    scale = 1000 if name == "Step" else 1
    assert (found.step_kind, list(found.chosen.steps)) == ("step", [10 * scale, 20 * scale, 30 * scale])


def test_the_trainers_steps_go_before_the_loggers(tmp_path):
    rows = [{"_step": 2 * row["step"], "train/global_step": row["step"], **row} for row in ROWS]
    rows = [{n: v for n, v in row.items() if n != "step"} for row in rows]
    assert list(only(written(tmp_path, "log.json", rows))[0].chosen.steps) == [10, 20, 30]


def test_the_user_names_the_columns(tmp_path):
    rows = [{"Step": 5 * t, "W": -50.0 - t, "l": -60.0, "x": 1.0, "My reward": 0.5} for t in range(3)]
    path = written(tmp_path, "log.csv", as_csv(rows))
    found, codes = only(path, ("w", "L"))
    assert (found.columns, found.source, found.unit, codes) == (("W", "l"), "logps", "nats", [])
    assert states(found.chosen) == {0: -50, 5: -51, 10: -52}
    assert only(path, ("my reward", "x"))[0].unit == "reward"
    found, codes = only(LOGS / "a1_stuck_at_ln2.json", ("logps/chosen", "logps/rejected"))
    assert (found.source, codes, "loss" in found.others) == ("logps", ["different_batches"], True)
    with pytest.raises(ValueError, match="must have two rows or more with `w` and `y`; its columns are Step, W, l, x"):
        load_log(path, ("w", "y"))


RUNS = "Step,a - logps/chosen,a - logps/rejected,b - logps/chosen,b - logps/rejected\n1,-9,-9,-8,-8\n2,-8,-9,-9,-9\n"


def test_one_of_several_runs(tmp_path):
    path = written(tmp_path, "panel.csv", RUNS)
    with pytest.raises(ValueError, match="holds 2 runs, a, b; name the two columns of one of them"):
        load_log(path)
    found, _ = only(path, ("b - logps/chosen", "b - logps/rejected"))
    assert states(found.chosen) == {1: -8, 2: -9}
    assert set(found.others) == {"chosen_logps", "rejected_logps"}
    rows = [row | {"run": name} for name in ("a", "b") for row in ROWS]
    with pytest.raises(ValueError, match="holds 2 runs in `run`, a, b: give one of them at a time"):
        load_log(written(tmp_path, "log.json", rows))
    other = RUNS.replace("b - logps/rejected", "b - rewards/margins")
    assert only(written(tmp_path, "panel.csv", other))[0].columns == ("a - logps/chosen", "a - logps/rejected")


# --- Names ----------------------------------------------------------------------------------------------------------

NAMES = {
    "rewards/chosen": ("training", "", "chosen_rewards"),
    "Rewards / Rejected": ("training", "", "rejected_rewards"),
    "train/reject_reward": ("training", "", "rejected_rewards"),
    "rewards_train/chosen_rewards": ("training", "", "chosen_rewards"),
    "policy_chosen_log_probs": ("training", "", "chosen_logps"),
    "log_probs/rejected": ("training", "", "rejected_logps"),
    "logps/chosen_ref": ("training", "", "chosen_ref_logps"),
    "reference_rejected_logps": ("training", "", "rejected_ref_logps"),
    "chosen_logps_mean": ("training", "", "chosen_logps"),
    "logps_eval/chosen": ("evaluation", "", "chosen_logps"),
    "val_rewards_chosen_mean": ("evaluation", "", "chosen_rewards"),
    "eval/eval_loss": ("evaluation", "", "loss"),
    "Validation Loss": ("evaluation", "", "loss"),
    "loss/train": ("training", "", "loss"),
    "eval_easy_rewards/chosen": ("evaluation", "easy", "chosen_rewards"),
    "eval/Set-2_logps/rejected": ("evaluation", "Set-2", "rejected_logps"),
    "eval_dpo_zh_demo_rewards/accuracies": ("evaluation", "dpo_zh_demo", "accuracy"),
    "eval_reward_bench_logps/chosen": ("evaluation", "reward_bench", "chosen_logps"),
    "eval_train_logps/chosen": ("evaluation", "train", "chosen_logps"),
    "test_logps/chosen": ("evaluation", "test", "chosen_logps"),
    "rewards/margins": ("training", "", "margin"),
    "acc": ("training", "", "accuracy"),
    "lr": ("training", "", "learning_rate"),
    "grad_norm": ("training", "", "grad_norm"),
}
NO_NAMES = [
    "logits/chosen",
    "rewards/chosen_std",
    "train/rewards/chosen__MIN",
    "rewards",
    "chosen",
    "epoch",
    "nll_loss",
    "kl",
]


@pytest.mark.parametrize("name", NAMES)
def test_names(name):
    column = read_name(name)
    assert (column.run, column.split, column.set, column.quantity) == ("", *NAMES[name])
    assert read_name(f"my - run - {name}") == column._replace(run="my - run")
    assert read_name(name.upper())[3] == column.quantity


@pytest.mark.parametrize("name", NO_NAMES)
def test_names_of_other_numbers(name):
    assert read_name(name) is None


# --- Refusals -------------------------------------------------------------------------------------------------------

TABLE = "step,chosen_logps,rejected_logps\n0,-10,-12\n5,-9.5,-13\n10,-11,-14.5\n"
GROUPS = {
    "trl": {"reward": 0.5, "kl": 0.1},
    "trl's ppo": {"objective/kl": 0.1, "objective/scores": 0.5},
    "verl": {"actor/pg_loss": 0.1, "critic/score/mean": 0.5},
    "openrlhf": {"policy_loss": 0.1, "reward": 0.5},
    "wandb": {"run - train/reward_std": 0.1},
}
KINDS = "Logs are read as JSON, JSON lines, console output, CSV and Markdown; gradients"
BAD = {
    "missing.csv": (None, "cannot read .*No such file"),
    "empty.csv": ("", "it is empty"),
    "heads.csv": (2 * TABLE[: TABLE.index("0,")], "it holds no row of a log"),
    "blank.jsonl": ("\n \n", "it is empty"),
    "page.json": ("<!DOCTYPE html><html></html>", "it is a web page, not the log that it shows"),
    "pointer.json": ("version https://git-lfs.github.com/spec/v1\noid sha256:1", "it is a pointer of Git LFS"),
    "other.csv": ("step,loss\n1,2\n2,3\n", "must have two rows or more .*its columns are step, loss"),
    "short.csv": (TABLE[: TABLE.index("5,")], "must have two rows or more with `chosen_logps` and `rejected_logps`"),
    "word.csv": (TABLE.replace("-9.5", "x"), "must hold a finite number as `chosen_logps` in row 2, got 'x'"),
    "comma.tsv": (TABLE.replace(",", "\t").replace("-9.5", "-9,500"), "as `chosen_logps` in row 2, got '-9,500'"),
    "stepless.csv": (TABLE.replace("5,-9.5", ",-9.5"), "must hold a finite number as `step` in row 2, got ''"),
    "twice.csv": (TABLE.replace("rejected_logps", "chosen_logps"), "it has two columns named `chosen_logps`"),
    "broken.json": ('[{"step": 1', "cannot read .*it holds no row of a log"),
    "deep.json": ("[" * 10**5, "its JSON is nested too deeply"),
    "number.json": ("3", "it holds no row of a log"),
    "numbers.jsonl": ("1\n2\n", "it holds no row of a log"),
    "list.json": ([1, 2], "it must be a `log_history`, a list of objects, or one object a line"),
    "hollow.json": ({"log_history": []}, "it must be a `log_history`"),
    "prose.txt": ("Training starts.\nIt ends.", f"it holds no row of a log. {KINDS}"),
    "half.json": ([{"step": t, "logps/chosen": -t} for t in (1, 2)], "holds `logps/chosen` .*nothing of the rejected"),
    "nan.json": (broken(10, 20), "fewer than two numbers in `rewards/chosen`, .*the run broke at its start"),
    "trainer_log.jsonl": (
        lines([{"current_steps": t, "accuracy": 0.5} for t in (5, 9)]),
        "sides into `trainer_state.json`",
    ),
    "model.pt": (b"PK\x03\x04 archive/data.pkl \0", "torch or pickle file: .*`x.float\\(\\).numpy\\(\\)`"),
    "array.npy": (b"\x93NUMPY\x01\0", r"one array without a name: save both by numpy\.savez"),
    "arrays.log": (b"PK\x03\x04 chosen_grad.npy \0", "let its name end in .npz"),
    "sheet.xlsx": (b"PK\x03\x04 xl/workbook.xml \0", "save it as CSV"),
    "table.parquet": (b"PAR1\0\0", "write_csv"),
    "events.out.tfevents.1": (b"\0\0\0\1", "it is a TensorBoard log"),
    "log.gz": (b"\x1f\x8b\x08\0", "it is a broken gzip file"),
    "log.dat": (b"\0\1\2", f"it is not text. {KINDS}"),
    **{
        f"{name}.json": ([{"step": t, **row} for t in (1, 2)], "holds no preference pairs")
        for name, row in GROUPS.items()
    },
}


@pytest.mark.parametrize("name", BAD)
def test_refusals(tmp_path, name):
    content, message = BAD[name]
    path = tmp_path / name if content is None else written(tmp_path, name, content)
    with pytest.raises(ValueError, match=message) as error:
        load_log(path)
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)


def test_commas_are_decimal_between_semicolons(tmp_path):
    path = written(tmp_path, "log.csv", TABLE.replace(",", ";").replace("-9.5", "-9,500"))
    assert states(only(path)[0].chosen) == {0: -10, 5: -9.5, 10: -11}


@pytest.mark.parametrize("unit", ["a", "a ", "ab, ", 'a"b,', "{", "{'", "a=", "  ", "a|"])
def test_long_lines_take_no_longer_than_their_length(tmp_path, unit):
    text = 2 * (unit * 100_000 + "\n") + console(ROWS)
    before = time.process_time()
    assert states(only(written(tmp_path, "log", text))[0].chosen) == CHOSEN
    assert time.process_time() - before < 30  # here 0.5 s at most; squares of these lengths take minutes
    with pytest.raises(ValueError, match="log"):
        load_log(written(tmp_path, "log", unit * 100_000))


def test_a_folder_is_no_log(tmp_path):
    with pytest.raises(ValueError, match=r"Is a directory: give the log in it, such as trainer_state\.json"):
        load_log(tmp_path)


# --- Masks ----------------------------------------------------------------------------------------------------------


def test_labels_are_masks():
    """−100 and ids, as Hugging Face has them, say the same as 0 and 1."""
    labels, right = (load(LOGS / name) for name in ("d1_labels_as_mask.npz", "d1_right.npz"))
    np.testing.assert_array_equal(labels["chosen_mask"], right["chosen_mask"])
    assert labels["chosen_mask"].dtype == bool


def test_which_masks_are_understood():
    assert read_mask("m", np.array([[0, 1]])).tolist() == [[False, True]]
    assert read_mask("m", np.array([[0.0, 1.0]])).tolist() == [[False, True]]
    assert read_mask("m", np.array([[-100, 0, 17]])).tolist() == [[False, True, True]]
    assert read_mask("m", np.array([[5, 0, 17]]), of_labels=True).tolist() == [[True] * 3]
    with pytest.raises(ValueError, match=r"`m` must hold 1 at real tokens and 0 elsewhere .*got 17"):
        read_mask("m", np.array([[1, 17]]))


def test_labels_of_one_side_are_labels_of_both(tmp_path):
    arrays = {name: -np.ones((2, 1, 3)) for name in ("chosen_token_logps", "rejected_token_logps")}
    masks = {"chosen_mask": [[17, 18, 19]], "rejected_mask": [[17, 18, -100]]}
    np.savez(tmp_path / "tokens.npz", **arrays, **masks)
    found = load(tmp_path / "tokens.npz")
    assert (found["chosen_mask"].tolist(), found["rejected_mask"].tolist()) == ([[True] * 3], [[True, True, False]])
