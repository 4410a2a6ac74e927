"""The layout of figures of all losses: families of losses, in two columns.

`loss_runs` does not import this module: what it trains must not depend on the losses that are named here.
"""

from typing import NamedTuple

from toymodel.losses import LOSSES

# By what their ratio d_w/d_l does.
GROUPS = {
    "equal weights: $d_w/d_l$ = 1, whatever the shape of m": (
        *("dpo", "cdpo", "robust_dpo", "rdpo", "odpo", "exo_pair", "exo_pair_unnorm", "cpo_pref_only", "ipo_sum"),
        *("hinge", "cpo_hinge", "discopop"),
    ),
    "per token: $d_w/d_l$ = $n_l/n_w$, or near it": (
        *("dpo_sigmoid_norm", "ipo_lennorm", "simpo", "alphapo", "orpo_or_only", "rrhf_rank"),
    ),
    "favouring the chosen: a likelihood term, a penalty on its fall, or a weaker pull on the rejected": (
        *("dpo_nll_mean", "cpo_nll_mean", "cpo_nll_sum", "cpo_simpo", "orpo", "orpo_sumodds", "slic_hf", "sft_mean"),
        *("dpo_shift", "dpop", "bdpo"),
    ),
    "a term for each response: $d_w$ falls as the chosen rises, $d_l$ as the rejected falls": (
        *("sppo_hard", "sppo_half", "sppo_soft_half", "cal_dpo", "kto_pair", "apo_zero", "nca_pair", "bco_pair"),
        *("bce", "ukl", "ddro", "lsif"),
    ),
    "f-divergences: $d_w/d_l$ moves with the logratios": ("fdpo_js", "fdpo_alpha", "fdpo_forward_kl", "chi_po"),
    "one-sided: a switch between the sides, or a push against one": (
        "apo_down",
        "npo",
        "bpo_logistic",
        "bpo_hinge",
        "arpo_pref_only",
    ),
}
placed = {name for group in GROUPS.values() for name in group}
if others := tuple(name for name in LOSSES if name not in placed):
    GROUPS["other losses"] = others


class Block(NamedTuple):
    """One half of a page: losses and headings, each at its height in rows from the top."""

    losses: list[str]
    heights: list[int]
    headings: dict[str, int]


def _block(headings: list[str]) -> Block:
    rows = [row for heading in headings for row in (heading, *GROUPS[heading])]
    at = {row: height for height, row in enumerate(rows)}
    losses = [row for row in rows if row not in GROUPS]
    return Block(losses, [at[name] for name in losses], {h.partition(":")[0]: at[h] for h in headings})


BLOCKS = (_block(list(GROUPS)[:3]), _block(list(GROUPS)[3:]))

ROWS = max(height for block in BLOCKS for height in block.heights) + 0.6


def in_order() -> tuple[str, ...]:
    """Every loss, group by group."""
    return tuple(name for group in GROUPS.values() for name in group)
