"""Gradients of a transformer's tokens and responses, compared in pairs: layer by layer against built gradients.

What is compared, how it is timed and how to read the tables: benchmarks/README.md.
"""

import ctypes
import json
import math
import re
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from timeit import timeit
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import torch

from benchmarks import harness, torch_gpt2
from toymodel import PreferencePairs, gradients, positional_pairs
from toymodel.models import transformer
from toymodel.models.transformer import Transformer

SIZES = {"nano": (2, 64, 4, 512), "mini": (4, 128, 4, 2048), "small": (12, 768, 12, 50257)}  # layers, dim, heads, V
PROMPT = 8  # tokens
LENGTHS = (16, 32, 64)  # of responses
SENTENCES = {"nano": (16, 64), "mini": (32, 32)}  # length, pairs
ROUNDS = 7
TURN = 0.05  # seconds: in its turn a contender makes as many calls as fill them, at least one
AGREEMENT = 1e-4  # largest difference allowed in any cosine; everything is float32
ROW = "{:<16} {:<22} {:>7} {:>9} {:>24} {:>13} {:>12}"
OURS, ROW_OF_GRAM, BUILT, LOOP, FUNC = "token_cosines", "token_row", "JAX, gradients built", "torch loop", "torch.func"

Inputs = tuple[Transformer, Any, PreferencePairs]
Call = Callable[[], Any]


class Bar(NamedTuple):
    """How many times `slow`'s time is meant to be that of `fast`, by model, on all cores and on one."""

    slow: str
    fast: str
    all_cores: dict[str, float]
    one_core: dict[str, float]


BARS = (
    Bar(
        LOOP,
        OURS,
        {"nano T=32": 6, "mini T=32": 6, "small T=4": 20},
        {"nano T=16": 7, "nano T=32": 5, "mini T=32": 4.5},
    ),
    Bar(BUILT, OURS, {}, {"nano T=16": 2.3, "nano T=32": 2.3, "mini T=32": 3}),
    Bar(FUNC, OURS, {"nano T=16": 3, "nano T=32": 3, "nano T=64": 3}, {}),
    Bar(LOOP, ROW_OF_GRAM, {"nano T=16": 25}, {"nano T=16": 25}),
    Bar(LOOP, "pair_gram", {"nano T=16, 64 pairs": 8, "mini T=32, 32 pairs": 4.5}, {}),
)


def make_inputs(size: str, T: int, pairs: int = 1) -> Inputs:
    layers, dim, heads, V = SIZES[size]
    model = Transformer(V, PROMPT + T, layers=layers, dim=dim, heads=heads)
    batch = positional_pairs(jax.random.key(0), pairs, vocab_size=V, length=T, matches=T // 2, prompt_length=PROMPT)
    return model, transformer.init_params(jax.random.key(2), model), batch


@jax.jit
def built_cosines(model: Transformer, params: Any, pair: PreferencePairs) -> jax.Array:
    sides = (gradients.token_gradients(model, params, r) for r in (pair.chosen_response, pair.rejected_response))
    chosen, rejected = (side / jnp.linalg.norm(side, axis=1, keepdims=True) for side in sides)
    return chosen @ rejected.T


@jax.jit
def built_grams(model: Transformer, params: Any, pairs: PreferencePairs) -> jax.Array:
    w, l = gradients.pair_gradients(model, params, pairs)  # noqa: E741
    return jnp.stack([(w * w).sum(axis=1), (l * l).sum(axis=1), (w * l).sum(axis=1)], axis=1)


def token_calls(inputs: Inputs, cores: int) -> dict[tuple[str, int], Call]:
    """By name and number of threads, ways to the cosines of one pair's tokens; and to one row of their Gram matrix."""
    model, params, pairs = inputs
    pair, gpt2 = pairs[0], torch_gpt2.GPT2(*inputs)
    calls: dict[tuple[str, int], Call] = {
        (OURS, cores): lambda: gradients.token_cosines(model, params, pair),
        (ROW_OF_GRAM, cores): lambda: gradients.token_row(model, params, pair),
        (BUILT, cores): lambda: built_cosines(model, params, pair),
    }
    for name, way in ((LOOP, torch_gpt2.loop_gradients), (FUNC, torch_gpt2.func_gradients)):
        calls |= threaded(name, cores, partial(torch_gpt2.cosines, gpt2, way))
    return calls


def sentence_calls(inputs: Inputs, cores: int) -> dict[tuple[str, int], Call]:
    """Ways to the norms and inner products of all pairs' two gradients, [pairs, 3]."""
    gpt2 = torch_gpt2.GPT2(*inputs)
    calls: dict[tuple[str, int], Call] = {
        ("pair_gram", cores): lambda: jnp.stack(gradients.pair_gram(*inputs), axis=1),
        (BUILT, cores): lambda: built_grams(*inputs),
    }
    return calls | threaded(LOOP, cores, partial(torch_gpt2.pair_grams, gpt2))


def threaded(name: str, cores: int, call: Call) -> dict[tuple[str, int], Call]:
    def with_threads(threads: int) -> Any:
        torch.set_num_threads(threads)
        return call()

    return {(name, threads): partial(with_threads, threads) for threads in sorted({1, cores})}


def seconds(call: Call, repeats: int = 1) -> float:
    """Time per call, until its numbers can be read."""
    return timeit(lambda: np.asarray(call()), number=repeats) / repeats


def measure(name: str, calls: dict[tuple[str, int], Call], cores: int, rounds: int) -> harness.Results:
    """First calls, agreement, warm-up, then the rounds, in each of which every contender has one turn."""
    first_calls = [seconds(call) for call in calls.values()]
    errors = relative_errors({key: np.asarray(call()) for key, call in calls.items()})
    turns = [(call, math.ceil(TURN / seconds(call))) for call in calls.values()]
    times = np.array([[seconds(*turn) for turn in turns] for _ in range(rounds)])
    return [
        {"model": name, "cores": cores, "contender": contender, "threads": threads, "first_call_s": first}
        | {"error": error, "rounds_s": rounds_s}
        for (contender, threads), first, error, rounds_s in zip(
            calls, first_calls, errors, times.T.tolist(), strict=True
        )
    ]


def relative_errors(values: dict[tuple[str, int], np.ndarray]) -> list[float]:
    """How far each is from the first one, in cosines or relative to the norms; a row of the matrix is not compared."""
    first = next(iter(values.values()))
    # Of [pairs, 3], the inner product is measured against the two norms.
    scale = (
        np.stack([first[:, 0], first[:, 1], np.sqrt(first[:, 0] * first[:, 1])], axis=1) if first.shape[1] == 3 else 1
    )
    errors = [float(np.max(abs(v - first) / scale)) if v.shape == first.shape else math.nan for v in values.values()]
    assert np.nanmax(errors) <= AGREEMENT, f"contenders differ by {np.nanmax(errors):.1e}, more than {AGREEMENT}"
    return errors


def show(results: harness.Results) -> None:
    """The table's rows for one model, and the bars it is held to."""
    print()
    for r in results:
        median, ratio = harness.claim(results, r)
        checks = f"{r['first_call_s']:.2f}", f"{r['error']:.0e}"
        print(ROW.format(r["model"], r["contender"], r["threads"], f"{1e3 * median:.3g}", ratio, *checks), flush=True)
    for bar in BARS:
        for_model = bar.one_core if results[0]["cores"] == 1 else bar.all_cores
        if (wanted := for_model.get(results[0]["model"])) is not None:
            slow, fast = (
                min((r["rounds_s"] for r in results if r["contender"] == name), key=np.median)
                for name in (bar.slow, bar.fast)
            )
            tell(f"{bar.slow} over {bar.fast}", float(np.median(np.divide(slow, fast))), wanted)


def tell(what: str, ratio: float, wanted: float) -> None:
    print(f"wanted: {wanted:g} times, {what}; {'met' if ratio >= wanted else 'NOT MET'} ({ratio:.3g})", flush=True)


# Memory, in processes of their own


def peak_megabytes(name: str, size: str, T: int) -> dict[str, float]:
    """By how much this process grows at most, during the first call and during a later one."""
    harness.configure()
    inputs = make_inputs(size, T)
    calls = {contender: call for (contender, threads), call in token_calls(inputs, 1).items() if threads == 1}
    first = growth(calls[name])
    seconds(calls[name])
    return {"first_mb": first, "warm_mb": growth(calls[name])}


def growth(call: Call) -> float:
    """Largest memory during a call beyond that before it, when the allocator has given back all it can."""
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # the peak is counted from here
    before = status_megabytes("VmRSS")
    np.asarray(call())
    return status_megabytes("VmHWM") - before


def status_megabytes(entry: str) -> float:
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(re.findall(rf"{entry}:\s*(\d+) kB", status)[0]) / 1024


def first_call(folder: str) -> float:
    """Seconds of the first matrix of a new process, compiled programs being kept in a folder."""
    harness.configure(
        enable_compilation_cache=True,
        compilation_cache_dir=folder,
        persistent_cache_min_compile_time_secs=0,
        persistent_cache_min_entry_size_bytes=-1,
    )
    model, params, pairs = make_inputs("nano", 16)
    pair = pairs[0]
    return seconds(lambda: gradients.token_cosines(model, params, pair))


def child(function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function of this module returns in a new process, through JSON."""
    call = f"neural_gram.{function.__name__}(*{arguments!r})"
    code = f"import json; from benchmarks import neural_gram; print(json.dumps({call}))"
    printed = subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(printed)


def show_memory(options: harness.Options, size: str, lengths: tuple[int, ...]) -> harness.Results:
    """A table of how far processes grow, by contender and length."""
    names = (OURS, BUILT, LOOP) if size != "small" else (OURS, LOOP)
    results: harness.Results = []
    print(f"\nmemory, {size}: MiB by which a process grows in a later call (in its first)")
    for T in lengths:
        found = {name: child(peak_megabytes, name, size, T) for name in names}
        told = "; ".join(f"{name} {m['warm_mb']:.0f} ({m['first_mb']:.0f})" for name, m in found.items())
        print(f"T={T}: {told}", flush=True)
        results += [{"model": f"{size} T={T}", "contender": name} | m for name, m in found.items()]
        for name, wanted in MEMORY_BARS.get(f"{size} T={T}", {}).items():
            tell(f"memory of {name} over {OURS}", found[name]["warm_mb"] / found[OURS]["warm_mb"], wanted)
    harness.save(options, results)
    return results


MEMORY_BARS: dict[str, dict[str, float]] = {"mini T=64": {LOOP: 10, BUILT: 2.5}, "small T=4": {LOOP: 50}}


def exponents(results: harness.Results, quantity: Callable[[dict[str, Any]], float]) -> None:
    """Powers by which a quantity grows: in T from 16 to 64, and in the number of parameters, nano to mini at T = 64."""
    at = {(r["contender"], r.get("threads"), r["model"]): quantity(r) for r in results}
    parameters = [sum(np.size(leaf) for leaf in jax.tree.leaves(make_inputs(size, 64)[1])) for size in ("nano", "mini")]
    for contender, threads in dict.fromkeys(key[:2] for key in at):
        of = partial(lambda contender, threads, model: at[contender, threads, model], contender, threads)
        in_T = [f"T^{math.log(of(f'{size} T=64') / of(f'{size} T=16'), 4):.2f} {size}" for size in ("nano", "mini")]
        in_P = math.log(of("mini T=64") / of("nano T=64")) / math.log(parameters[1] / parameters[0])
        print(f"{contender} ({threads or 1} threads): {', '.join(in_T)}; P^{in_P:.2f}", flush=True)


def main() -> None:
    small = "--small" in sys.argv  # only this benchmark has it: nine minutes and 12 GB
    sys.argv = [argument for argument in sys.argv if argument != "--small"]
    options = harness.start(
        "Token Gram matrices of a transformer, layer by layer, in one run; --small adds GPT-2 small, alone and last.",
        "3 rounds, T = 16 alone, no memory",
    )
    harness.configure()
    rounds = 3 if options.quick else ROUNDS
    harness.introduce(options, rounds)
    print(ROW.format("model", "contender", "threads", "ms", "ratio", "first call, s", "error"))
    tokens: harness.Results = []
    for size in ("nano", "mini"):
        for T in LENGTHS[:1] if options.quick else LENGTHS:
            results = measure(f"{size} T={T}", token_calls(make_inputs(size, T), options.cores), options.cores, rounds)
            show(results)
            harness.save(options, results)
            tokens += results
    for size, (T, n) in SENTENCES.items():
        name = f"{size} T={T}, {n} pairs"
        results = measure(name, sentence_calls(make_inputs(size, T, n), options.cores), options.cores, rounds)
        show(results)
        harness.save(options, results)
    if not options.quick:
        print("\ngrowth of time")
        exponents(tokens, lambda r: float(np.median(r["rounds_s"])))
    if not options.one_core:
        beyond_time(options, small=small)
    harness.finish(options, "benchmarks.neural_gram")


def beyond_time(options: harness.Options, *, small: bool) -> None:
    """First calls and memory, each in a process of its own; and GPT-2 small, if wanted."""
    with TemporaryDirectory() as folder:
        for label, wanted in (("nothing compiled yet", 5), ("what it compiles kept on disk", 1.2)):
            took = child(first_call, folder)
            print(f"\nfirst call in a new process, nano T=16, {label}: {took:.2f} s (wanted: {wanted})", flush=True)
    if not options.quick:
        memory = [r for size in ("nano", "mini") for r in show_memory(options, size, (16, 64))]
        print("growth of memory")
        exponents(memory, lambda r: r["warm_mb"])
    if small:
        calls = token_calls(make_inputs("small", 4), options.cores)
        kept = {key: call for key, call in calls.items() if key[0] in (OURS, LOOP)}
        show(measure("small T=4", kept, options.cores, rounds=3))
        show_memory(options, "small", (4,))


if __name__ == "__main__":
    main()
