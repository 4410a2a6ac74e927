"""Logs as people have them: each kind of file gives the numbers that are in it, and says what its reader must know."""

import csv
import gzip
import io
import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from toymodel.diagnosis import load_log

LOGS = Path(__file__).parent / "data" / "logs"
NAN = math.nan


def written(folder, name, content):
    if isinstance(content, bytes):
        (folder / name).write_bytes(content)
    else:
        (folder / name).write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return folder / name


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
histories = st.lists(st.tuples(quarters, quarters), min_size=2, max_size=6).flatmap(
    lambda pairs: st.lists(st.integers(2, 5000), min_size=len(pairs), max_size=len(pairs), unique=True).map(
        lambda steps: [(step, *pair) for step, pair in zip(sorted(steps), pairs, strict=True)]
    )
)


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
    text = "Loading checkpoint shards: 100%\n"
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
    return "\n".join(["==((====))==  Num GPUs = 1", " [120/120 05:58, Epoch 17/18]", head, *body])


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
    "torchtune": lambda rows: "\n".join(
        f"Step {t} | loss:0.5 val_log_probs/chosen:{w} val_log_probs/rejected:{v} " for t, w, v in evaluations(rows)
    ),
    "progress bar": lambda rows: "\r".join(
        f"Eval:  10%|# | 1/10 [00:01<00:09, step={t}, val_chosen_logps={w}, val_reject_logps={v}]"
        for t, w, v in evaluations(rows)
    ),
}


@pytest.mark.parametrize("form", FORMATS)
@given(history=histories)
def test_every_format_gives_what_was_written(form, history, tmp_path_factory):
    path = written(tmp_path_factory.mktemp("log"), "log.of_any_name", FORMATS[form](trl(history)))
    found, codes = only(path)
    assert states(found.chosen) == {step: w for step, w, _ in history}
    assert states(found.rejected) == {step: l for step, _, l in history}  # noqa: E741
    kind = "example" if form == "reference dpo's console" else "step"
    assert (found.split, found.source, found.unit, found.step_kind) == ("evaluation", "logps", "nats", kind)
    assert (codes, found.broke_at) == ([], None)
