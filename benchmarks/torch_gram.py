"""Gram entries of a Hugging Face GPT-2 small, with and without gradients: CPU time and memory.

What is compared and how to read the table: benchmarks/README.md.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks import harness
from benchmarks.neural_gram import growth, status_megabytes

SHAPE = {"vocab_size": 50257, "n_positions": 1024, "n_embd": 768, "n_layer": 12, "n_head": 12}  # GPT-2 small
LORA = {"r": 8, "target_modules": ["c_attn"], "fan_in_fan_out": True, "task_type": "CAUSAL_LM"}
PROMPT, ANSWER = 32, 64  # tokens
ENTRIES = ("chosen_sq", "rejected_sq", "inner")
ROW = "{:<8} {:<16} {:>12} {:>8} {:>10} {:>12} {:>8}"


def measure(trained: str, contender: str, pairs: int) -> dict[str, Any]:
    """CPU seconds of a pair, MiB by which the process grows at most, and the entries, in this process."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    from examples import torch_gradients
    from toymodel.huggingface import measure_pairs

    torch.manual_seed(0)
    model: Any = GPT2LMHeadModel(GPT2Config(**SHAPE))
    if trained == "LoRA":
        import peft

        model = peft.get_peft_model(model, peft.LoraConfig(**LORA))
    rng = np.random.default_rng(0)
    lengths = (PROMPT, ANSWER, ANSWER)
    drawn = [tuple(rng.integers(0, SHAPE["vocab_size"], n).tolist() for n in lengths) for _ in range(pairs)]
    ways: dict[str, Callable[[], dict[str, Any]]] = {
        "measure_pairs": lambda: measure_pairs(model, drawn),
        "two gradients": lambda: torch_gradients.gram_entries(model, drawn),
    }
    kept: list[dict[str, Any]] = []
    loaded, grown = status_megabytes("VmRSS"), growth(lambda: kept.append(ways[contender]()))
    start = time.process_time()
    found = ways[contender]()
    took = (time.process_time() - start) / pairs
    whole = [sum(found[e].values()) if isinstance(found[e], dict) else found[e] for e in ENTRIES]
    return {"cpu_s": took, "grown_mb": grown, "peak_mb": loaded + grown, "entries": np.array(whole).tolist()}


def child(*arguments: Any) -> dict[str, Any]:
    """The same in a new process."""
    code = f"import json; from benchmarks import torch_gram; print(json.dumps(torch_gram.measure(*{arguments!r})))"
    printed = subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE, text=True).stdout
    found: dict[str, Any] = json.loads(printed.splitlines()[-1])
    return found


def main() -> None:
    options = harness.start(__doc__.splitlines()[0], "one pair instead of four")
    pairs = 1 if options.quick else 4
    print(f"\nGPT-2 small, {PROMPT} tokens of prompt, answers of {ANSWER}, {pairs} pair(s), float32")
    print(ROW.format("trained", "contender", "CPU s a pair", "ratio", "grows, MiB", "peak, MiB", "error"))
    for trained in ("all", "LoRA"):
        results = {name: child(trained, name, pairs) for name in ("measure_pairs", "two gradients")}
        ours, plain = results.values()
        norms = np.sqrt(np.outer(plain["entries"][0], plain["entries"][1]).diagonal())
        for name, r in results.items():
            error = np.max(np.abs(np.subtract(r["entries"], ours["entries"])) / norms)
            numbers = (
                f"{r['cpu_s']:.2f}",
                f"{r['cpu_s'] / ours['cpu_s']:.2f}",
                f"{r['grown_mb']:.0f}",
                f"{r['peak_mb']:.0f}",
            )
            print(ROW.format(trained, name, *numbers, f"{error:.0e}"), flush=True)
        harness.save(options, [{"trained": trained, "contender": name} | r for name, r in results.items()])


if __name__ == "__main__":
    main()
