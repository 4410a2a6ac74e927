"""Measurement: what the gradients of log-probabilities are, by automatic differentiation alone.

Nothing here knows a closed form; `theory` predicts the same numbers without differentiating and is never imported.
Every function takes a batch of pairs unless it says "one pair", "one response" or a group of responses.
"""

from toymodel.gradients.built import (
    group_gram,
    group_slopes,
    pair_gradients,
    pair_gram,
    slopes,
    step_change,
    token_gradients,
    token_gram,
)

__all__ = [
    "group_gram",
    "group_slopes",
    "pair_gradients",
    "pair_gram",
    "slopes",
    "step_change",
    "token_gradients",
    "token_gram",
]
