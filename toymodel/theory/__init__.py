"""Prediction: closed forms only, no automatic differentiation. `toymodel.gradients` measures the same quantities."""

from toymodel.gram import PairGram, cosine
from toymodel.models.crowd import Cosines
from toymodel.theory.account import remainder_bounds, token_account
from toymodel.theory.common_step import CommonStep, cancels, common_weights, find_common_step, step_price
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
from toymodel.theory.crowd import crowd_shares, crowd_slopes, crowd_threshold
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
from toymodel.theory.geometry import fisher_cosine, fisher_gram, fisher_inner
from toymodel.theory.groups import (
    as_group,
    displaced,
    group_gram,
    group_slopes,
    group_token_slopes,
    normalised_advantages,
    token_credit,
)
from toymodel.theory.mass import ches, squeeze, squeeze_threshold, token_slopes
from toymodel.theory.modified import descent_field, quadratic_rate, split_field
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
    suffix_direction,
    suffix_slopes,
    suffix_token_bound,
    threshold_length,
)

__all__ = [
    "CASES",
    "Band",
    "CommonStep",
    "Cosines",
    "PairGram",
    "as_group",
    "balanced_weights",
    "band",
    "band_centre",
    "cancels",
    "case",
    "case_index",
    "case_of_slopes",
    "certified_step",
    "change_bounds",
    "ches",
    "common_weights",
    "contrast_gram",
    "contrast_token_entry",
    "cosine",
    "crowd_shares",
    "crowd_slopes",
    "crowd_threshold",
    "descent_field",
    "displaced",
    "dpo_flow",
    "exact_change",
    "find_common_step",
    "fisher_cosine",
    "fisher_gram",
    "fisher_inner",
    "flow_logps",
    "group_gram",
    "group_slopes",
    "group_token_slopes",
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
    "quadratic_rate",
    "range_shortfall",
    "remainder_bounds",
    "replacement_increment",
    "residuals",
    "single_token_gram",
    "single_token_slopes",
    "slack",
    "slopes",
    "split_field",
    "squeeze",
    "squeeze_threshold",
    "step_price",
    "suffix_direction",
    "suffix_slopes",
    "suffix_token_bound",
    "tabular_inner",
    "threshold_length",
    "token_account",
    "token_credit",
    "token_gram",
    "token_slopes",
    "uniform_positional_cosine",
    "uniform_positional_inner",
    "uniform_unigram_inner",
]


def __dir__() -> list[str]:
    return __all__
