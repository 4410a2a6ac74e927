"""Token × token Gram matrix of one pair's gradients: the closed form against gradients that are built, in one run.

What is compared, how it is timed and how to read the table: benchmarks/README.md.
"""

import math
from collections.abc import Callable
from timeit import timeit
from typing import Any

import jax
import numpy as np
import torch

from benchmarks import harness
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


def measure(kind: str, V: int, T: int, cores: int, rounds: int) -> harness.Results:
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


def show(results: harness.Results) -> None:
    """The table's rows for one model."""
    print()
    for r in results:
        median, ratio = harness.claim(results, r)
        checks = f"{r['first_call_s']:.2f}", f"{r['cosine_error']:.0e}"
        print(ROW.format(r["model"], r["contender"], r["threads"], f"{1e3 * median:.3g}", ratio, *checks), flush=True)


def main() -> None:
    options = harness.start(
        "Closed form against gradients that are built, in one run.", "3 rounds, without the largest vocabulary"
    )
    harness.configure()
    rounds = 3 if options.quick else ROUNDS
    harness.introduce(options, rounds)
    print(ROW.format("model", "contender", "threads", "ms", "ratio", "first call, s", "cosine error"))
    for shape in SHAPES[:-1] if options.quick else SHAPES:
        results = measure(*shape, options.cores, rounds)
        show(results)
        harness.save(options, results)
    harness.finish(options, "benchmarks.token_gram")


if __name__ == "__main__":
    main()
