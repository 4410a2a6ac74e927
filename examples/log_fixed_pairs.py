"""Log-probabilities of the same pairs along a run of the Hugging Face trainer.

    # or lists of token ids
    pairs = toymodel.huggingface.read_pairs("pairs.jsonl", tokenizer, longest=1024)
    # or any other trainer
    trainer = DPOTrainer(..., callbacks=[LogFixedPairs(pairs, "fixed_pairs.csv")])
    trainer.train()

    toymodel diagnose fixed_pairs.csv

TRL's own logps/chosen are means over whatever batch came; these are of the same pairs
at every step, so that a change is a change of the model. A hundred pairs are many. With
`grams`, the Gram entries of every state are kept as well, a file each: `toymodel
diagnose fixed_pairs-100.npz` says what one more step would do. Copy what you need; it
takes `pip install 'toymodel[torch]'`. Not for models that are sharded over processes
(FSDP, ZeRO-3).
"""

import csv
from pathlib import Path

import numpy as np
from transformers import TrainerCallback

from toymodel.huggingface import measure_pairs, pair_logps


class LogFixedPairs(TrainerCallback):
    """Writes a row for each pair before the first step, and at each logging."""

    def __init__(self, pairs, path, *, grams=False):
        self.pairs, self.path, self.grams = list(pairs), Path(path), grams
        self.last_step = None

    def on_train_begin(self, _args, state, _control, model=None, **_others):
        """Begin the file anew, or go on with it where the run does."""
        if state.is_world_process_zero and state.global_step == 0:
            self.path.write_text(
                "step,pair,chosen_logps,rejected_logps\n", encoding="utf-8"
            )
        self.record(state, model)

    def on_log(self, _args, state, _control, model=None, **_others):
        """At every logging."""
        self.record(state, model)

    on_evaluate = on_log

    def record(self, state, model):
        """Rows of this step, once, by one process."""
        if not state.is_world_process_zero or state.global_step == self.last_step:
            return
        self.last_step = state.global_step
        logps = pair_logps(model, self.pairs)
        with self.path.open("a", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows(
                [state.global_step, i, *row] for i, row in enumerate(logps.tolist())
            )
        if self.grams:
            arrays = measure_pairs(model, self.pairs)
            whole = {
                n: sum(a.values()) if isinstance(a, dict) else a
                for n, a in arrays.items()
            }
            np.savez(
                self.path.with_name(f"{self.path.stem}-{state.global_step}.npz"),
                **whole,
            )
