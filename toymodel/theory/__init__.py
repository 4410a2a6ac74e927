"""Prediction: closed forms only, no automatic differentiation. `toymodel.gradients` measures the same quantities."""

from toymodel.gram import PairGram, cosine
from toymodel.theory.account import remainder_bounds, token_account
from toymodel.theory.condition import (
    CASES,
    Band,
    band,
    band_centre,
    case,
    case_index,
    case_of_slopes,
    in_band,
    margin_slope,
    slack,
    slopes,
)
from toymodel.theory.finite_step import (
    certified_step,
    change_bounds,
    exact_change,
    halving_bound,
    logit_directions,
    norm_shortfall,
    range_shortfall,
)
from toymodel.theory.flow import dpo_flow, flow_logps, ipo_flow
from toymodel.theory.groups import as_group, displaced, group_gram, group_slopes, normalised_advantages
from toymodel.theory.mass import ches, squeeze, squeeze_threshold, token_slopes
from toymodel.theory.overlap import (
    contrast_gram,
    kernel_token_gram,
    pair_gram,
    replacement_increment,
    residuals,
    single_token_gram,
    single_token_slopes,
    tabular_inner,
    token_gram,
    uniform_positional_cosine,
    uniform_positional_inner,
    uniform_unigram_inner,
)
from toymodel.theory.remedies import balanced_weights, likelihood_window, masked_gram, normalised_slopes
from toymodel.theory.suffix import (
    contrast_token_entry,
    peaked_suffix_slopes,
    suffix_slopes,
    suffix_token_bound,
    threshold_length,
)

__all__ = [
    "CASES",
    "Band",
    "PairGram",
    "as_group",
    "balanced_weights",
    "band",
    "band_centre",
    "case",
    "case_index",
    "case_of_slopes",
    "certified_step",
    "change_bounds",
    "ches",
    "contrast_gram",
    "contrast_token_entry",
    "cosine",
    "displaced",
    "dpo_flow",
    "exact_change",
    "flow_logps",
    "group_gram",
    "group_slopes",
    "halving_bound",
    "in_band",
    "ipo_flow",
    "kernel_token_gram",
    "likelihood_window",
    "logit_directions",
    "margin_slope",
    "masked_gram",
    "norm_shortfall",
    "normalised_advantages",
    "normalised_slopes",
    "pair_gram",
    "peaked_suffix_slopes",
    "range_shortfall",
    "remainder_bounds",
    "replacement_increment",
    "residuals",
    "single_token_gram",
    "single_token_slopes",
    "slack",
    "slopes",
    "squeeze",
    "squeeze_threshold",
    "suffix_slopes",
    "suffix_token_bound",
    "tabular_inner",
    "threshold_length",
    "token_account",
    "token_gram",
    "token_slopes",
    "uniform_positional_cosine",
    "uniform_positional_inner",
    "uniform_unigram_inner",
]


def __dir__() -> list[str]:
    return __all__
