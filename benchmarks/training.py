"""DPO training over a grid of settings: `train` as users call it, against loops and vectorised torch, in one run.

What is compared, how it is timed and how to read the table: benchmarks/README.md.
"""

from collections.abc import Callable
from functools import partial
from time import perf_counter
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from torch.nn import functional

from benchmarks import harness
from toymodel import PreferencePairs, positional_pairs
from toymodel.losses import LOSSES
from toymodel.models import mlp
from toymodel.models.logps import pair_logps
from toymodel.training import train

STEPS = 100
ROUNDS = 5
AGREEMENT = 1e-5  # largest difference allowed in any loss, in nats; everything is float32
B1, B2, EPS = 0.9, 0.999, 1e-8  # Adam's usual constants
ROW = "{:<20} {:<22} {:>7} {:>14} {:>24} {:>14} {:>11}"

Losses = np.ndarray  # [settings, steps]


class Grid(NamedTuple):
    """A model, its weights, pairs, and settings of β × learning rate."""

    name: str
    model: mlp.NGramMLP
    params: mlp.MLPParams
    pairs: PreferencePairs
    betas: jax.Array
    rates: jax.Array


class Contender(NamedTuple):
    """`run` trains the first so many settings; a loop takes them one by one, so `settings` of them are enough."""

    name: str
    threads: int
    settings: int
    run: Callable[[int], Losses]


def grid(name: str, model: mlp.NGramMLP, n: int, length: int, side: int) -> Grid:
    pairs = positional_pairs(jax.random.key(0), n, vocab_size=model.vocab_size, length=length, matches=length // 2)
    betas, rates = np.meshgrid(np.geomspace(0.05, 1, side), np.geomspace(1e-4, 1e-2, side))
    params = mlp.init_params(jax.random.key(1), model)
    return Grid(name, model, params, pairs, *(jnp.float32(axis.ravel()) for axis in (betas, rates)))


def tiny() -> Grid:
    return grid("V=16 MLP, 4 pairs", mlp.NGramMLP(16, 2, 4, 8), n=4, length=4, side=16)


def middling() -> Grid:
    return grid("V=64 MLP, 16 pairs", mlp.NGramMLP(64, 4, 16, 32), n=16, length=8, side=8)


def ours(grid: Grid, count: int) -> Losses:
    loss, rates = LOSSES["dpo"](beta=grid.betas[:count]), grid.rates[:count]
    over = ("loss", "learning_rate")
    run = train(grid.model, grid.params, grid.pairs, loss, optax.adam, rates, steps=STEPS, over=over, record="loss")
    return np.asarray(run.losses)


def jax_loop(grid: Grid) -> Callable[[int], Losses]:
    """A jitted step, called from a Python loop: β and the learning rate are data, so it is compiled once."""
    reference = pair_logps(grid.model, grid.params, grid.pairs)

    @jax.jit
    def step(params: Any, state: Any, beta: jax.Array, rate: jax.Array) -> tuple[Any, Any, jax.Array]:
        def mean_loss(params: Any) -> jax.Array:
            return LOSSES["dpo"](beta=beta).value(*pair_logps(grid.model, params, grid.pairs), *reference).mean()

        loss, gradient = jax.value_and_grad(mean_loss)(params)
        update, state = optax.adam(rate).update(gradient, state, params)
        return optax.apply_updates(params, update), state, loss

    def run(count: int) -> Losses:
        rows = []
        for beta, rate in zip(grid.betas[:count], grid.rates[:count], strict=True):
            params, state, losses = grid.params, optax.adam(rate).init(grid.params), []
            for _ in range(STEPS):
                params, state, loss = step(params, state, beta, rate)
                losses.append(loss)
            rows.append(np.array(losses))
        return np.array(rows)

    return run


class TorchMLP:
    """The same model and DPO loss in torch."""

    def __init__(self, grid: Grid) -> None:
        V, n = grid.model.vocab_size, grid.model.context_length
        pairs = grid.pairs
        tokens = np.concatenate([pairs.chosen, pairs.rejected])  # [2n, T], no padding in these pairs
        prompts = np.concatenate([pairs.prompt, pairs.prompt])
        before = np.concatenate([np.full((len(tokens), n), V), prompts, tokens], axis=1)
        start = prompts.shape[1]
        windows = np.stack([before[:, start + i : start + i + n] for i in range(tokens.shape[1])], axis=1)
        self.windows, self.tokens = torch.tensor(windows), torch.tensor(tokens, dtype=torch.long)
        self.params = {name: torch.tensor(np.asarray(array)) for name, array in grid.params.items()}
        with torch.no_grad():
            self.reference = self.margin(self.params)

    def margin(self, params: dict[str, torch.Tensor]) -> torch.Tensor:
        """log π_w − log π_l of each pair."""
        inputs = functional.embedding(self.windows, params["embedding"]).flatten(start_dim=-2)
        hidden = torch.tanh(functional.linear(inputs, params["hidden_weight"], params["hidden_bias"]))
        logits = functional.linear(hidden, params["head_weight"], params["head_bias"])
        logps = torch.log_softmax(logits, dim=-1).gather(-1, self.tokens[..., None]).sum(dim=(-2, -1))
        chosen, rejected = logps.chunk(2)
        return chosen - rejected

    def loss(self, params: dict[str, torch.Tensor], beta: torch.Tensor | float) -> torch.Tensor:
        """Mean DPO loss of the pairs."""
        return -functional.logsigmoid(beta * (self.margin(params) - self.reference)).mean()


def torch_loop(grid: Grid, threads: int) -> Callable[[int], Losses]:
    """Eager torch with `torch.optim.Adam`, one setting after the other."""
    torch_mlp = TorchMLP(grid)

    def run(count: int) -> Losses:
        torch.set_num_threads(threads)
        rows = []
        for beta, rate in zip(grid.betas[:count].tolist(), grid.rates[:count].tolist(), strict=True):
            params = {name: array.clone().requires_grad_() for name, array in torch_mlp.params.items()}
            optimizer = torch.optim.Adam(params.values(), lr=rate)
            losses = []
            for _ in range(STEPS):
                optimizer.zero_grad()
                loss = torch_mlp.loss(params, beta)
                loss.backward()
                optimizer.step()
                losses.append(loss.detach())
            rows.append(torch.stack(losses).numpy())
        return np.array(rows)

    return run


def torch_vmap(grid: Grid, threads: int) -> Callable[[int], Losses]:
    """`torch.func.vmap` over all settings, with Adam written out on the stacked parameters."""
    torch_mlp = TorchMLP(grid)
    gradient = torch.func.vmap(torch.func.grad_and_value(torch_mlp.loss))

    def run(count: int) -> Losses:
        torch.set_num_threads(threads)
        betas, rates = (torch.tensor(np.asarray(axis[:count])) for axis in (grid.betas, grid.rates))
        params = {name: array.expand(count, *array.shape).clone() for name, array in torch_mlp.params.items()}
        mean = {name: torch.zeros_like(array) for name, array in params.items()}
        square = {name: torch.zeros_like(array) for name, array in params.items()}
        rows = []
        for step in range(1, STEPS + 1):
            gradients, losses = gradient(params, betas)
            for name, g in gradients.items():
                mean[name].lerp_(g, 1 - B1)
                square[name].mul_(B2).addcmul_(g, g, value=1 - B2)
                size = (square[name] / (1 - B2**step)).sqrt_().add_(EPS)
                scaled = (rates / (1 - B1**step)).view(-1, *[1] * (g.ndim - 1))
                params[name].sub_(scaled * mean[name] / size)
            rows.append(losses)
        return torch.stack(rows, dim=1).numpy()

    return run


def contenders(grid: Grid, cores: int, sample: int) -> list[Contender]:
    """Ours first. Loops do the same work for every setting, so a sample of them is timed."""
    count = len(grid.betas)
    found = [
        Contender("train", cores, count, partial(ours, grid)),
        Contender("JAX step in a loop", cores, sample, jax_loop(grid)),
    ]
    for threads in sorted({1, cores}):
        found.append(Contender("torch loop", threads, sample, torch_loop(grid, threads)))
        found.append(Contender("torch.func.vmap", threads, count, torch_vmap(grid, threads)))
    return sorted(found, key=lambda contender: contender.name == "torch.func.vmap")


def seconds(contender: Contender) -> tuple[float, Losses]:
    """Time of all steps of one setting, until the losses can be read."""
    start = perf_counter()
    losses = contender.run(contender.settings)
    return (perf_counter() - start) / contender.settings, losses


def measure(grid: Grid, cores: int, rounds: int, sample: int) -> harness.Results:
    """First calls and agreement, then the rounds, in each of which every contender has one turn."""
    found = contenders(grid, cores, sample)
    # What a first call takes beyond a later one is compilation; every loss of every setting is compared.
    firsts = [seconds(contender) for contender in found]
    everything = ours(grid, len(grid.betas))
    errors = [float(abs(losses - everything[: len(losses)]).max()) for _, losses in firsts]
    assert max(errors) <= AGREEMENT, f"losses differ by {max(errors):.1e}, more than {AGREEMENT}"
    times = np.array([[seconds(contender)[0] for contender in found] for _ in range(rounds)])
    return [
        {
            "grid": grid.name,
            "settings": len(grid.betas),
            "cores": cores,
            "contender": contender.name,
            "threads": contender.threads,
            "first_call_s": first * contender.settings,
            "loss_error": error,
            "rounds_s": rounds_s,  # per setting
        }
        for contender, (first, _), error, rounds_s in zip(found, firsts, errors, times.T.tolist(), strict=True)
    ]


def show(results: harness.Results) -> None:
    """The table's rows for one model."""
    print()
    for r in results:
        median, ratio = harness.claim(results, r)
        checks = f"{r['first_call_s']:.2f}", f"{r['loss_error']:.0e}"
        print(ROW.format(r["grid"], r["contender"], r["threads"], f"{STEPS / median:,.0f}", ratio, *checks), flush=True)


def main() -> None:
    options = harness.start(
        "DPO training over a grid of settings, against torch, in one run.", "2 rounds, and 2 settings for the loops"
    )
    harness.configure(num_cpu_devices=options.cores)
    rounds, sample = (2, 2) if options.quick else (ROUNDS, 4)
    harness.introduce(options, rounds)
    print(ROW.format("model", "contender", "threads", "steps/s", "ratio", "first call, s", "loss error"))
    for make in (tiny, middling):
        results = measure(make(), options.cores, rounds, sample)
        show(results)
        harness.save(options, results)
    harness.finish(options, "benchmarks.training")


if __name__ == "__main__":
    main()
