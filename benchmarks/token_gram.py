"""Token × token Gram matrix of one pair's gradients: the closed form against gradients that are built, in one run.

What is compared, how it is timed and how to read the table: benchmarks/README.md.
"""

import argparse
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from timeit import timeit
from typing import Any

import jax
import numpy as np
import torch

from toymodel import PreferencePairs, gradients, positional_pairs, theory
from toymodel.models import linear

SHAPES = (("tabular", 512, 32), ("head", 512, 32), ("head", 8192, 32), ("head", 50257, 16))  # model, V, T
DIM = 64  # width of the frozen hidden states below a head
ROUNDS = 7
TURN = 0.05  # seconds: in its turn a contender makes as many calls as fill them, at least one
AGREEMENT = 1e-4  # largest difference allowed in any cosine; everything is float32
ROW = "{:<20} {:<23} {:>7} {:>8} {:>24} {:>14} {:>13}"

Inputs = tuple[linear.LinearSoftmax, jax.Array, PreferencePairs]
Call = Callable[[], Any]  # returns the Gram matrix, [T, T]


def make_inputs(kind: str, V: int, T: int) -> Inputs:
    pair = positional_pairs(jax.random.key(0), 1, vocab_size=V, length=T, matches=T // 2)[0]
    head = linear.random_features(jax.random.key(1), V, pair, dim=DIM, correlation=0.5)
    model = linear.bigram(V) if kind == "tabular" else head
    return model, linear.init_params(jax.random.key(2), model), pair


def contenders(kind: str, inputs: Inputs, cores: int) -> dict[tuple[str, int], Call]:
    """By name and number of threads, the closed form first. Torch joins for heads: it would look tables up."""
    inside_jit = jax.jit(theory.token_gram)
    calls: dict[tuple[str, int], Call] = {
        ("closed form", cores): lambda: theory.token_gram(*inputs),
        ("closed form, in jit", cores): lambda: inside_jit(*inputs),
        ("JAX, gradients built", cores): lambda: gradients.token_gram(*inputs),
    }
    if kind == "head":
        for name, chunk in (("torch loop", inputs[2].chosen.size), ("torch loop, T forwards", 1)):
            calls |= {(name, threads): torch_loop(inputs, threads, chunk) for threads in sorted({1, cores})}
    return calls


def torch_loop(inputs: Inputs, threads: int, chunk: int) -> Call:
    """A backward pass per token, every gradient flattened and kept; a forward pass per `chunk` tokens."""
    model, params, pair = inputs
    weight = torch.tensor(np.asarray(params), requires_grad=True)
    sides = []
    for response in (pair.chosen_response, pair.rejected_response):
        features = torch.tensor(np.asarray(model.states(params, response).features))
        sides.append((features, torch.tensor(np.asarray(response.tokens), dtype=torch.long)))

    def token_gradients(features: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        rows = []
        for hidden, targets in zip(features.split(chunk), tokens.split(chunk), strict=True):
            for logp in torch.log_softmax(hidden @ weight.T, dim=-1).gather(1, targets[:, None]):
                weight.grad = None
                logp.backward(retain_graph=True)
                rows.append(weight.grad.flatten())
        return torch.stack(rows)

    def gram() -> torch.Tensor:
        torch.set_num_threads(threads)
        return token_gradients(*sides[0]) @ token_gradients(*sides[1]).T

    return gram


def seconds(call: Call, repeats: int = 1) -> float:
    """Time per call, until its numbers can be read."""
    return timeit(lambda: np.asarray(call()), number=repeats) / repeats


def measure(kind: str, V: int, T: int, cores: int, rounds: int) -> list[dict[str, Any]]:
    """First calls, agreement, warm-up, then the rounds, in each of which every contender has one turn."""
    inputs = make_inputs(kind, V, T)
    calls = contenders(kind, inputs, cores)
    first_calls = [seconds(call) for call in calls.values()]
    errors = cosine_errors(inputs, [np.asarray(call()) for call in calls.values()])
    turns = [(call, math.ceil(TURN / seconds(call))) for call in calls.values()]
    times = np.array([[seconds(*turn) for turn in turns] for _ in range(rounds)])
    common = {"model": f"{kind} V={V} T={T}", "cores": cores}
    return [
        common | {"contender": name, "threads": n, "first_call_s": first, "cosine_error": error, "rounds_s": rounds_s}
        for (name, n), first, error, rounds_s in zip(calls, first_calls, errors, times.T.tolist(), strict=True)
    ]


def cosine_errors(inputs: Inputs, grams: list[np.ndarray]) -> list[float]:
    """How far each Gram matrix is from the first one, relative to the gradients' norms."""
    model, params, pair = inputs
    responses = pair.chosen_response, pair.rejected_response
    norms = [np.linalg.norm(gradients.token_gradients(model, params, r), axis=1) for r in responses]
    errors = [float(np.max(abs(gram - grams[0]) / np.outer(*norms))) for gram in grams]
    assert max(errors) <= AGREEMENT, f"cosines differ by {max(errors):.1e}, more than {AGREEMENT}"
    return errors


def show(results: list[dict[str, Any]]) -> None:
    """A ratio to the closed form (median over rounds [least, greatest]) for each contender's fastest setting alone."""
    print()
    for r in results:
        medians = [np.median(other["rounds_s"]) for other in results if other["contender"] == r["contender"]]
        median, ratios = np.median(r["rounds_s"]), np.divide(r["rounds_s"], results[0]["rounds_s"])
        claim = f"{np.median(ratios):.3g} [{ratios.min():.3g}, {ratios.max():.3g}]"
        texts = f"{1e3 * median:.3g}", claim if median == min(medians) else "(slower setting)"
        checks = f"{r['first_call_s']:.2f}", f"{r['cosine_error']:.0e}"
        print(ROW.format(r["model"], r["contender"], r["threads"], *texts, *checks), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Closed form against gradients that are built, in one run.")
    parser.add_argument("--quick", action="store_true", help="3 rounds, without the largest vocabulary")
    parser.add_argument("--one-core", action="store_true", help="the second table alone: everything on one core")
    parser.add_argument("--json", type=Path, metavar="FILE", help="append every round's times, a line for each model")
    args = parser.parse_args()
    if args.one_core:  # before JAX and torch start their threads
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    for name, value in {"platforms": "cpu", "enable_x64": False, "enable_compilation_cache": False}.items():
        jax.config.update(f"jax_{name}", value)  # type: ignore[no-untyped-call]

    cores, rounds = len(os.sched_getaffinity(0)), 3 if args.quick else ROUNDS
    versions = f"Python {sys.version.split()[0]}, jax {jax.__version__}, torch {torch.__version__}"
    print(f"\n{cores} of {os.cpu_count()} CPUs, {rounds} rounds; {versions}")
    print(ROW.format("model", "contender", "threads", "ms", "ratio", "first call, s", "cosine error"))
    for shape in SHAPES[:-1] if args.quick else SHAPES:
        results = measure(*shape, cores, rounds)
        show(results)
        if args.json:
            with args.json.open("a") as file:
                print(json.dumps(results), file=file)
    if cores > 1:
        subprocess.run([sys.executable, *sys.argv, "--one-core"], check=True)


if __name__ == "__main__":
    main()
