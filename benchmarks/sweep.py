"""Sweeps: settings per second against loops and vectorised torch, then what devices, shards, memory and disk cost.

What is compared, how it is timed and how to read the tables: benchmarks/README.md.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from copy import copy
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any, NamedTuple

import distributed
import jax
import numpy as np
import optax
from jaxtyping import Array

from benchmarks import harness
from toymodel import PreferencePairs, positional_pairs
from toymodel._files import write_whole
from toymodel.experiments import GRAM, TRAINING, setting
from toymodel.losses import LOSSES
from toymodel.models import mlp
from toymodel.sweep import POSITIVE, Experiment, Sweep, cluster, make_sweep, real, run, whole
from toymodel.sweep.config import load
from toymodel.sweep.grid import columns_of
from toymodel.sweep.program import table
from toymodel.sweep.runner import results
from toymodel.sweep.store import Store
from toymodel.training import train

STEPS = 100
ROUNDS = 5
AGREEMENT = 1e-5  # largest difference allowed in any loss, in nats; everything trained here is float32
B1, B2, EPS = 0.9, 0.999, 1e-8  # Adam's usual constants
SIDE = 4  # values of β, and of the learning rate; a grid has SIDE² settings for every seed
SCALING_SHARD = 16  # settings: a shard for every seed, several shards for every worker
ROW = "{:<20} {:<22} {:>7} {:>14} {:>24} {:>14} {:>11}"
SCALING_ROW = "{:<20} {:<22} {:>14} {:>24}"

Losses = np.ndarray  # [settings, steps]
Columns = dict[str, np.ndarray]


class Size(NamedTuple):
    """A model with its pairs, and how many settings a contender is given."""

    name: str
    model: mlp.NGramMLP
    pairs: int
    length: int
    block: int  # settings that a sweep vectorises at once, `Experiment.block`
    stacked: int  # settings that torch vectorises at once
    seeds: int  # in a sweep
    bars: dict[str, float]  # by contender, the ratio that is wanted


class Contender(NamedTuple):
    """`run` trains so many settings: the sweep all there are, its peers some that are spread over it."""

    name: str
    threads: int
    settings: int
    run: Callable[[], Losses]


SIZES = (
    Size(
        "V=16 MLP, 4 pairs",
        mlp.NGramMLP(16, 2, 4, 8),
        pairs=4,
        length=4,
        block=64,
        stacked=1024,
        seeds=256,
        bars={"torch.func.vmap": 3, "torch loop": 120},
    ),
    Size(
        "V=64 MLP, 16 pairs",
        mlp.NGramMLP(64, 4, 16, 32),
        pairs=16,
        length=8,
        block=4,
        stacked=64,
        seeds=16,
        bars={"torch.func.vmap": 2.5, "torch loop": 7},
    ),
)


def draw(size: Size, seed: int | Array | np.ndarray) -> tuple[PreferencePairs, mlp.MLPParams]:
    """Pairs and initial weights of a seed: everybody trains with these."""
    of_pairs, of_weights = jax.random.split(jax.random.key(seed))
    shape = {"vocab_size": size.model.vocab_size, "length": size.length, "matches": size.length // 2}
    return positional_pairs(of_pairs, size.pairs, **shape), mlp.init_params(of_weights, size.model)


@setting
class DpoSetting:
    """Hyperparameters, and the seed of pairs and weights."""

    beta: float = real(0.1, POSITIVE)
    learning_rate: float = real(1e-3, POSITIVE)
    seed: int = whole(0, low=0)


@setting
class Seed:
    """A number to be squared."""

    seed: int = whole(0, low=0)


def dpo_training(size: Size) -> Experiment:
    def measure(setting: DpoSetting) -> dict[str, Array]:
        pairs, params = draw(size, setting.seed)
        loss, rate = LOSSES["dpo"](beta=setting.beta), setting.learning_rate
        return {"losses": train(size.model, params, pairs, loss, optax.adam, rate, steps=STEPS, record="loss").losses}

    return Experiment(size.name, DpoSetting, measure, block=size.block)


TINY, MIDDLING = map(dpo_training, SIZES)
CHEAP = Experiment("cheap", Seed, lambda setting: {"square": setting.seed**2})
SHARD = CHEAP.shard

SCALING_CONFIG = f"""
experiment = "benchmarks.sweep:MIDDLING"
precision = "float32"
shard_size = {SCALING_SHARD}
[settings]
beta = {{ log = [0.05, 1.0], count = {SIDE} }}
learning_rate = {{ log = [1e-4, 1e-2], count = {SIDE} }}
seed = {{ range = %s }}
"""


def sweep_over(experiment: Experiment, seeds: list[int]) -> Sweep:
    """β × learning rate × the seeds from the first to below the second."""
    grid = {
        "beta": {"log": [0.05, 1.0], "count": SIDE},
        "learning_rate": {"log": [1e-4, 1e-2], "count": SIDE},
        "seed": {"range": seeds},
    }
    return make_sweep(experiment, grid, precision="float32")


def seconds(call: Callable[[], Any]) -> tuple[float, Any]:
    """Time of a call that ends when its numbers can be read, and what it returns."""
    start = perf_counter()
    found = call()
    return perf_counter() - start, found


# Settings per second, against its peers


def ours(sweep: Sweep) -> Losses:
    """The sweep as users run it, into a new folder, and its losses read from there."""
    with TemporaryDirectory() as folder:
        return run(sweep, folder).select("losses").collect()["losses"].to_numpy()


def jax_loop(experiment: Experiment, settings: Columns) -> Callable[[], Losses]:
    """`measure`, jitted, for one setting after the other: the numbers are data, so it is compiled once."""
    measure = jax.jit(lambda setting: experiment.measure(DpoSetting(**setting))["losses"])
    rows = [dict(zip(settings, row, strict=True)) for row in zip(*settings.values(), strict=True)]
    return lambda: np.array([np.asarray(measure(row)) for row in rows])


# Torch is imported in functions: the processes in which only the sweep is measured start without it.


def torch_loop(size: Size, settings: Columns, threads: int) -> Callable[[], Losses]:
    """The loop of benchmarks/training.py, over settings with pairs and weights of their own."""
    from benchmarks import training

    runs = [training.torch_loop(grid, threads) for grid in torch_grids(size, settings)]
    return lambda: np.concatenate([run(1) for run in runs])


def torch_vmap(size: Size, settings: Columns, threads: int) -> Callable[[], Losses]:
    """The vectorised training of benchmarks/training.py, with pairs and weights stacked as well."""
    import torch

    from benchmarks import training

    models = [training.TorchMLP(grid) for grid in torch_grids(size, settings)]
    pairs = [torch.stack([getattr(model, name) for model in models]) for name in ("windows", "tokens", "reference")]
    starts = {name: torch.stack([model.params[name] for model in models]) for name in models[0].params}
    betas, rates = torch.tensor(settings["beta"]), torch.tensor(settings["learning_rate"])

    def loss(params: Any, beta: Any, windows: Any, tokens: Any, reference: Any) -> Any:
        model = copy(models[0])
        model.windows, model.tokens, model.reference = windows, tokens, reference
        return model.loss(params, beta)

    gradient = torch.func.vmap(torch.func.grad_and_value(loss))

    def run() -> Losses:
        torch.set_num_threads(threads)
        params = {name: array.clone() for name, array in starts.items()}
        mean = {name: torch.zeros_like(array) for name, array in params.items()}
        square = {name: torch.zeros_like(array) for name, array in params.items()}
        rows = []
        for step in range(1, STEPS + 1):
            gradients, losses = gradient(params, betas, *pairs)
            for name, g in gradients.items():
                mean[name].lerp_(g, 1 - B1)
                square[name].mul_(B2).addcmul_(g, g, value=1 - B2)
                root = (square[name] / (1 - B2**step)).sqrt_().add_(EPS)
                scaled = (rates / (1 - B1**step)).view(-1, *[1] * (g.ndim - 1))
                params[name].sub_(scaled * mean[name] / root)
            rows.append(losses)
        return torch.stack(rows, dim=1).numpy()

    return run


def torch_grids(size: Size, settings: Columns) -> list[Any]:
    """For benchmarks/training.py: each setting as a grid of its own, its pairs and weights drawn by JAX."""
    from benchmarks import training

    drawn = jax.device_get(jax.jit(jax.vmap(partial(draw, size)))(settings["seed"]))
    grids = []
    for i in range(len(settings["seed"])):
        pairs, params = jax.tree.map(lambda array, i=i: array[i], drawn)
        axes = (jax.numpy.asarray(settings[name][i : i + 1]) for name in ("beta", "learning_rate"))
        grids.append(training.Grid(size.name, size.model, params, pairs, *axes))
    return grids


def contenders(size: Size, experiment: Experiment, sweep: Sweep, cores: int, quick: bool) -> list[Contender]:
    """Ours first. Loops cost the same for every setting, so a few settings of them are timed."""
    few, some = (2, 8) if quick else (4, 32)

    def spread(count: int) -> Columns:
        columns = columns_of(sweep.settings[places(sweep, count)])
        return {name: column.astype("i4" if column.dtype.kind == "i" else "f4") for name, column in columns.items()}

    found = [
        Contender("sweep.run", cores, sweep.size, partial(ours, sweep)),
        Contender("JAX measure in a loop", cores, some, jax_loop(experiment, spread(some))),
    ]
    for threads in sorted({1, cores}):
        found.append(Contender("torch loop", threads, few, torch_loop(size, spread(few), threads)))
    for threads in sorted({1, cores}):
        stacked = min(size.stacked, sweep.size)
        found.append(Contender("torch.func.vmap", threads, stacked, torch_vmap(size, spread(stacked), threads)))
    return found


def places(sweep: Sweep, count: int) -> np.ndarray:
    """So many of the sweep's settings, from the first to the last."""
    return np.linspace(0, sweep.size - 1, count).astype(int)


def compare(size: Size, experiment: Experiment, cores: int, quick: bool) -> harness.Results:
    """First calls and agreement, then the rounds, in each of which every contender has one turn."""
    sweep = sweep_over(experiment, [0, size.seeds // 4 if quick else size.seeds])
    found = contenders(size, experiment, sweep, cores, quick)
    firsts = [seconds(contender.run) for contender in found]
    everything = firsts[0][1]
    errors = [float(abs(losses - everything[places(sweep, len(losses))]).max()) for _, losses in firsts]
    assert max(errors) <= AGREEMENT, f"losses differ by {max(errors):.1e}, more than {AGREEMENT}"
    rounds = 2 if quick else ROUNDS
    times = np.array([[seconds(contender.run)[0] / contender.settings for contender in found] for _ in range(rounds)])
    return [
        {
            "size": size.name,
            "settings": contender.settings,
            "cores": cores,
            "contender": contender.name,
            "threads": contender.threads,
            "first_call_s": first,
            "loss_error": error,
            "rounds_s": rounds_s,  # per setting
        }
        for contender, (first, _), error, rounds_s in zip(found, firsts, errors, times.T.tolist(), strict=True)
    ]


def show_comparison(options: harness.Options) -> None:
    harness.configure(num_cpu_devices=options.cores)
    harness.introduce(options, 2 if options.quick else ROUNDS)
    print(ROW.format("model", "contender", "threads", "settings/s", "ratio", "first call, s", "loss error"))
    for size, experiment in zip(SIZES, (TINY, MIDDLING), strict=True):
        results = compare(size, experiment, options.cores, options.quick)
        print()
        for r in results:
            median, ratio = harness.claim(results, r)
            checks = f"{r['first_call_s']:.2f}", f"{r['loss_error']:.0e}"
            print(ROW.format(r["size"], r["contender"], r["threads"], f"{1 / median:,.1f}", ratio, *checks), flush=True)
        for name, bar in size.bars.items():
            of_peer = [np.divide(r["rounds_s"], results[0]["rounds_s"]) for r in results if r["contender"] == name]
            ratio = min(map(np.median, of_peer))
            print(f"wanted: {bar:g} times {name}; {'met' if ratio >= bar else 'NOT MET'} ({ratio:.3g})", flush=True)
        harness.save(options, results)


# Processes of their own, for what must be settled before JAX starts


def child(function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function of this module returns in a new process, through JSON."""
    call = f"sweep.{function.__name__}(*{arguments!r})"
    code = f"import json; from benchmarks import sweep; print(json.dumps({call}))"
    printed = subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(printed)


def start_child(devices: int) -> None:
    """Nothing is timed that compiles in a child: each may use what an earlier one has compiled."""
    harness.configure(num_cpu_devices=devices, enable_compilation_cache=True)


def spread_told(values: list[float], digits: str = ".3g") -> str:
    """Median [least, greatest]."""
    return f"{np.median(values):{digits}} [{min(values):{digits}}, {max(values):{digits}}]"


# Devices and workers


def on_devices(devices: int, seeds: int, rounds: int) -> list[float]:
    """Seconds of the rounds' sweeps in one process, after one to warm up; each has new seeds."""
    start_child(devices)

    def compute(sweep: Sweep, out: Path) -> None:
        run(sweep, out).collect()

    times = []
    with TemporaryDirectory() as folder:
        for number in range(rounds + 1):
            sweep, _ = configured(Path(folder), number, seeds)
            times.append(seconds(partial(compute, sweep, Path(folder) / str(number)))[0])
    return times[1:]


def on_workers(workers: int, seeds: int, rounds: int) -> list[float]:
    """The same on a Dask cluster of processes with a device each."""
    start_child(1)
    times = []
    local = distributed.LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None)
    with TemporaryDirectory() as folder, local as dask:

        def compute(sweep: Sweep, store: Store, config: Path) -> None:
            cluster.run_on_cluster(sweep, store, config, dask)
            results(sweep, store).collect()

        for number in range(rounds + 1):
            sweep, config = configured(Path(folder), number, seeds)
            store = Store.create(Path(folder) / str(number), sweep)
            saved = write_whole(store.folder / "configs" / config.name, config.read_bytes())
            times.append(seconds(partial(compute, sweep, store, saved))[0])
    return times[1:]


def configured(folder: Path, number: int, seeds: int) -> tuple[Sweep, Path]:
    """The sweep of a round, and its configuration, which workers read."""
    config = write_whole(folder / f"{number}.toml", (SCALING_CONFIG % [number * seeds, (number + 1) * seeds]).encode())
    return load(config), config


def show_scaling(options: harness.Options) -> None:
    seeds, rounds = (8, 1) if options.quick else (SIZES[1].seeds, 3)
    count = seeds * SIDE**2
    print(f"\n{count} settings in shards of {SCALING_SHARD}, {options.cores} cores, {rounds} rounds")
    print(SCALING_ROW.format("model", "where", "settings/s", "times 1 device") + "\n")
    ways: tuple[tuple[str, Callable[..., Any], tuple[int, ...]], ...] = (
        ("devices", on_devices, (1, 2)),
        ("Dask workers", on_workers, (1, 2, 4)),
    )
    found: harness.Results = []
    for name, function, numbers in ways:
        for number in numbers:
            times = child(function, number, seeds, rounds)
            found.append({"where": f"{number} {name}", "settings": count, "cores": options.cores, "rounds_s": times})
            rates, base = np.divide(count, times), np.median(found[0]["rounds_s"])
            speedup = spread_told([base / time for time in times])
            print(
                SCALING_ROW.format(SIZES[1].name, f"{number} {name}", f"{np.median(rates):,.1f}", speedup), flush=True
            )
    harness.save(options, found)


# A shard, besides its table


def around_tables(shards: int, rounds: int) -> list[list[float]]:
    """Seconds per shard of whole sweeps, and of their tables alone, by round."""
    start_child(1)
    sweep = make_sweep(CHEAP, {"seed": {"range": shards * SHARD}})
    settings = list(sweep.settings.iter_slices(SHARD))
    times = []
    for _ in range(rounds + 1):
        with TemporaryDirectory() as folder:
            whole, _ = seconds(partial(run, sweep, folder))
        tables, _ = seconds(lambda: [table(CHEAP, shard) for shard in settings])
        times.append([whole / shards, tables / shards])
    return times[1:]  # the first compiles


def show_shards(options: harness.Options) -> None:
    shards, rounds = (25, 2) if options.quick else (100, ROUNDS)
    times = child(around_tables, shards, rounds)
    added = [1e3 * (whole - tables) for whole, tables in times]
    alone = spread_told([1e3 * tables for _, tables in times])
    print(f"\n{shards} shards of {SHARD} settings, {rounds} rounds")
    print(f"a shard costs {spread_told(added)} ms besides its table (here {alone} ms)", flush=True)
    harness.save(options, [{"shards": shards, "added_ms": added, "rounds_s": times}])


# Memory


def peak_megabytes(devices: int, count: int) -> float:
    """The largest memory that this process has had, after a sweep of so many settings.

    Not `resource.getrusage`: on Linux its peak begins at what the parent process had.
    """
    start_child(devices)
    sweep = make_sweep(GRAM, {"temperature": {"linear": [0.5, 2.0], "count": 100}, "seed": {"range": count // 100}})
    with TemporaryDirectory() as folder:
        run(sweep, folder)
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(re.findall(r"VmHWM:\s*(\d+) kB", status)[0]) / 1000


def show_memory(options: harness.Options) -> None:
    least = 2_000 if options.quick else 10_000
    counts = [least, 10 * least, 100 * least]
    child(peak_megabytes, options.cores, least)  # compiles, which takes memory of its own
    peaks = [child(peak_megabytes, options.cores, count) for count in counts]
    print(f"\npeak memory of gram sweeps, shards of {SHARD}")
    for count, peak in zip(counts, peaks, strict=True):
        each = f", {1e6 * (peak - peaks[0]) / (count - least):,.0f} bytes a setting more" if count > least else ""
        print(f"{count:>9,} settings: {peak:,.0f} MB{each}", flush=True)
    harness.save(options, [{"settings": count, "peak_mb": peak} for count, peak in zip(counts, peaks, strict=True)])


# The cost of a setting


def on_one_core(name: str, count: int, rounds: int) -> tuple[list[float], float]:
    """Seconds of the rounds' sweeps, after one to warm up, and bytes in the folder; each round has new seeds."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    start_child(1)
    experiment = {"gram": GRAM, "training": TRAINING}[name]
    times = []
    for number in range(rounds + 1):
        sweep = make_sweep(experiment, {"seed": {"range": [number * count, (number + 1) * count]}})
        with TemporaryDirectory() as folder:
            times.append(seconds(partial(run, sweep, folder))[0])
            size = sum(path.stat().st_size for path in Path(folder).rglob("*.parquet"))
    return times[1:], size


def show_cost(options: harness.Options) -> None:
    rounds = 1 if options.quick else 3
    print(f"\none core, float64, default fields, {rounds} rounds")
    found: harness.Results = []
    counts = {"gram": SHARD, "training": SHARD // 8} if options.quick else {"gram": 8 * SHARD, "training": SHARD}
    for name, count in counts.items():
        times, size = child(on_one_core, name, count, rounds)
        each, on_disk = [1e6 * time / count for time in times], size / count
        found.append({"experiment": name, "settings": count, "rounds_s": times, "bytes": size})
        billion = f"10⁹ of them: {np.median(each) * 1e3 / 86400:.3g} days of a core, {on_disk:.0f} GB"
        print(f"{name:<9} {spread_told(each)} µs and {on_disk:.0f} bytes a setting; {billion}", flush=True)
    harness.save(options, found)


def main() -> None:
    options = harness.start(
        "Sweeps against torch, and what they cost, in one run.", "2 rounds, fewer settings everywhere, no second table"
    )
    show_comparison(options)
    if not options.quick:
        harness.finish(options, "benchmarks.sweep")
    if options.one_core:
        return
    with TemporaryDirectory() as cache:
        os.environ["JAX_COMPILATION_CACHE_DIR"] = cache
        os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
        os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"
        for show in (show_scaling, show_shards, show_cost, show_memory):
            show(options)


if __name__ == "__main__":
    main()
