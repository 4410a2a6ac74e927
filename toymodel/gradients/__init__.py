"""Measurement: the gradients of log-probabilities, by automatic differentiation alone.

No function here uses a closed form; `theory` predicts the same numbers without differentiating and is never imported.
Every function takes a batch of pairs unless its docstring says one pair, one response or a group of responses.
"""

from toymodel.gradients.built import (
    group_gram,
    group_slopes,
    group_token_slopes,
    pair_gradients,
    slopes,
    step_change,
    tangent_kernel,
    token_gradients,
)
from toymodel.gradients.inner_products import layer_gram, pair_gram, token_cosines, token_gram, token_row
from toymodel.gradients.preconditioned import adam_preconditioner, first_adam_gram, preconditioned_pair_gram

__all__ = [
    "adam_preconditioner",
    "first_adam_gram",
    "group_gram",
    "group_slopes",
    "group_token_slopes",
    "layer_gram",
    "pair_gradients",
    "pair_gram",
    "preconditioned_pair_gram",
    "slopes",
    "step_change",
    "tangent_kernel",
    "token_cosines",
    "token_gradients",
    "token_gram",
    "token_row",
]


def __dir__() -> list[str]:
    return __all__
