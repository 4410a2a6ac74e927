"""The report of `toymodel diagnose` on gradients."""

import json as json_format
import math
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table

from toymodel._public import counted
from toymodel.commands._words import short, signed, words

if TYPE_CHECKING:
    from toymodel.diagnosis.gradients import Diagnosis

SHOWN = 40  # rows of a table; scripts get all
RIGHT = "chosen_up_rejected_down"
UNITS = {
    "lambda": "λ log π_w, a sum over tokens",
    "rpo_alpha": 'rpo_alpha (TRL; cpo_alpha, and "sft" beside "sigmoid", are the same)',
    "pref_ftx": "pref_ftx (LLaMA-Factory; nll_loss_coef of OpenRLHF is the same)",
    "dpop_lambda": "λ of DPOP, where the chosen fell below the reference",
}


def report(diagnosis: "Diagnosis", *, json: bool) -> int:
    """Print a diagnosis with what the losses of the catalogue would do, as tables or as JSON."""
    from toymodel.diagnosis.losses import diagnose_losses

    losses = diagnose_losses(diagnosis)
    if json:
        whole = diagnosis._asdict() | {"losses": losses}
        print(json_format.dumps(whole, indent=2, ensure_ascii=False, allow_nan=False))
        return 0
    summary = diagnosis.summary
    _print_pairs(diagnosis)
    found = [f"{count} {words(name)}" for name, count in summary["cases"].items() if count]
    print(f"{counted(summary['pairs'], 'pair')}: {', '.join(found)}. Slopes in nats per unit of learning rate.")
    if summary["undefined_cosines"]:
        print(f"{summary['undefined_cosines']} without a cosine: a gradient is zero.")
    if "layers" in summary:
        _print_layers(summary["layers"])
    if diagnosis.batch is not None and summary["pairs"] > 1:
        _print_batch(diagnosis.batch, [row["case"] for row in diagnosis.pairs])
    _print_likelihood(diagnosis)
    _print_losses(losses, summary["pairs"])
    return 0


def _print_pairs(diagnosis: "Diagnosis") -> None:
    rows = [(str(i), row) for i, row in enumerate(diagnosis.pairs[:SHOWN])]
    if diagnosis.summary["sum"] is not None:
        rows.append(("all", diagnosis.summary["sum"]))
    table = Table("pair", "‖g_w‖", "‖g_l‖", "⟨g_w, g_l⟩", "cosine", "slope w", "slope l", "case")
    units = [unit for unit in UNITS if unit in diagnosis.summary["likelihood"]]
    right = Table(
        "pair", "d_w/d_l", *("λ of DPOP" if u == "dpop_lambda" else "λ" if u == "lambda" else u for u in units)
    )
    for name, row in rows:
        table.add_row(
            name,
            *(short(value) for value in (math.sqrt(row["chosen_sq"]), math.sqrt(row["rejected_sq"]), row["inner"])),
            "undefined" if row["cosine"] is None else short(row["cosine"]),
            short(row["chosen_slope"]),
            short(row["rejected_slope"]),
            words(row["case"]),
        )
        if name != "all":
            any_ratio = row["cosine"] is not None and row["band"] is None
            windows = (_range(row["likelihood"][unit]) for unit in units)
            right.add_row(name, "any above 0" if any_ratio else _range(row["band"]), *windows)
    _print_table(table)
    print("These weights, or coefficients of an added likelihood term, separate each pair by its own step:")
    _print_table(right)
    if len(diagnosis.pairs) > SHOWN:
        print(f"The first {SHOWN} of {len(diagnosis.pairs)} pairs; --json prints all of them.")


def _print_likelihood(diagnosis: "Diagnosis") -> None:
    """Print T19's window for most pairs, in the units of libraries: for each pair's own step, and for the mean step."""
    own, pairs = diagnosis.summary["likelihood"], diagnosis.summary["pairs"]
    batch = diagnosis.batch["likelihood"] if diagnosis.batch is not None and pairs > 1 else None
    table = Table("an added likelihood term", "each by its own step", *(["by the mean step"] if batch else []))
    for unit, name in UNITS.items():
        told = [found[unit] for found in (own, batch) if found is not None and unit in found]
        cells = [f"{_range(one['window'])}: {one['pairs_right']} of {pairs} separated" for one in told]
        if cells:
            table.add_row(name, *cells)
    _print_table(table, wrapped=(0,))
    beta = own["beta"]
    print(
        "For the given weights."
        if beta is None
        else f"For DPO with β = {short(beta)} at its reference, where both weights are β/2; --beta changes β."
    )
    if "rpo_alpha" not in own:
        print("rpo_alpha, pref_ftx and nll_loss_coef weigh means over tokens; they need chosen_lengths [N].")


def _print_losses(losses: dict[str, Any], pairs: int) -> None:
    """Print which losses separate the pairs, the best first; losses with the same ratio and result share a row."""
    alike: dict[tuple[int, str], list[str]] = {}
    for name, right in losses["right"].items():
        ends = ["∞" if end is None else short(end) for end in losses["ratio"][name] or ()]
        ratio = " to ".join(dict.fromkeys(ends)) or "moves no pair"
        alike.setdefault((len(right), ratio), []).append(name)
    table = Table("separated", "d_w/d_l", "losses with default hyperparameters, at the reference")
    for (right, ratio), names in sorted(alike.items(), key=lambda item: -item[0][0]):
        table.add_row(f"{right} of {pairs}", ratio, ", ".join(names))
    _print_table(table, wrapped=(2,))
    if losses["negative"]:
        print(f"With a negative weight in some pair: {', '.join(losses['negative'])}.")
    for what, arrays in (
        ("lengths", "chosen_lengths and rejected_lengths"),
        ("logps", "chosen_logps and rejected_logps"),
    ):
        if names := [name for name, missing in losses["untold"].items() if missing == what]:
            print(f"These losses need {arrays} [N]: {', '.join(names)}.")


def _print_batch(batch: dict[str, Any], own: list[str]) -> None:
    """Print what the mean step of all pairs does, against each pair's own step (`own` has the cases)."""
    table = Table("pair", "slope w", "slope l", "case", "most harmful other answers, and the slope they add")
    for i, row in enumerate(batch["pairs"][:SHOWN]):
        worst = ", ".join(f"{side} {pair} ({signed(slope)})" for pair, side, slope in row["worst"])
        slopes = short(row["chosen_slope"]), short(row["rejected_slope"])
        table.add_row(str(i), *slopes, words(row["case"]), worst or "none")
    print("With the mean step of all pairs:")
    _print_table(table, wrapped=(3, 4))
    found = [f"{count} {words(name)}" for name, count in batch["cases"].items() if count]
    print(f"In the batch: {', '.join(found)}.")
    cases = [row["case"] for row in batch["pairs"]]
    lost = [str(i) for i, (alone, now) in enumerate(zip(own, cases, strict=True)) if alone == RIGHT != now]
    print(f"Separated alone but not in the batch: {_listed(lost, 'pair')}.")
    common = batch["common_step"]
    n = len(common["weights"]) // 2
    named = [f"{'chosen' if i < n else 'rejected'} {i % n}: {short(w)}" for i, w in enumerate(common["weights"]) if w]
    if common["exists"]:
        print(
            "A step exists that raises every chosen and lowers every rejected answer, each by "
            f"{short(common['least_slope'])} nats or more per unit of learning rate. Weights of the gradients: "
            f"{_listed(named, 'answer')}."
        )
    else:
        print(
            "No step raises every chosen and lowers every rejected answer: chosen minus rejected gradients, with "
            f"these weights, add up to 0: {_listed(named, 'answer')}."
        )


def _listed(names: list[str], what: str) -> str:
    """The first few names, and how many more there are."""
    rest = f" and {len(names) - SHOWN} more; --json has them all" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + rest if names else f"no {what}"


def _print_layers(layers: dict[str, Any]) -> None:
    """Print each layer's part; of many layers, those with the largest inner products."""
    table = Table("layer", "‖g_w‖²", "‖g_l‖²", "⟨g_w, g_l⟩", "cosine", "slope w", "slope l")
    largest = sorted(layers, key=lambda name: -abs(layers[name]["inner"]))[:SHOWN]
    for name in (name for name in layers if name in largest):
        numbers = [
            layers[name][entry]
            for entry in ("chosen_sq", "rejected_sq", "inner", "cosine", "chosen_slope", "rejected_slope")
        ]
        table.add_row(name, *("undefined" if number is None else short(number) for number in numbers))
    print("By layer, means over pairs; all columns but the cosine add up over layers:")
    _print_table(table)
    if len(layers) > SHOWN:
        print(f"The {SHOWN} of {len(layers)} layers with the largest inner products; --json has all of them.")


def _print_table(table: Table, wrapped: tuple[int, ...] = (-1,)) -> None:
    """Print a table whose words wrap in some columns and whose numbers are never cut, however narrow the terminal."""
    needed = 1
    for i, column in enumerate(table.columns):
        column.no_wrap = i not in {place % len(table.columns) for place in wrapped}
        cells = [str(cell) for cell in (column.header, *column.cells)]
        parts = cells if column.no_wrap else [word for cell in cells for word in cell.split()]
        column.min_width, column.overflow = max(map(cell_len, parts)), "fold"
        needed += 3 + column.min_width
    console = Console()
    Console(width=max(needed, console.width if console.is_terminal else 120)).print(table)


def _range(ends: list[float | None] | None) -> str:
    if ends is None:
        return "none"
    low, high = ("∞" if end is None else short(end) for end in ends)
    return f"{low} to {high}" if high != "∞" else f"above {low}"
