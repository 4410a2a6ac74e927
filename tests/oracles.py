"""Independent, slow and obvious implementations to test against."""

from functools import lru_cache

import numpy as np

from toymodel import gradients


def unpadded(tokens, mask):
    """The real tokens of each row, as lists."""
    return [np.asarray(row)[np.asarray(keep)].tolist() for row, keep in zip(tokens, mask, strict=True)]


def indel_distance(a, b):
    """Fewest insertions and deletions that turn one sequence into the other, by plain recursion."""

    @lru_cache(None)
    def distance(i, j):
        if i == len(a) or j == len(b):
            return len(a) - i + len(b) - j
        if a[i] == b[j]:
            return distance(i + 1, j + 1)
        return 1 + min(distance(i + 1, j), distance(i, j + 1))

    return distance(0, 0)


def token_sizes(world):
    """Norms of the measured token gradients of chosen and rejected: the scale of round-off in everything summed."""
    pair = world.pairs[0]
    return [
        np.linalg.norm(gradients.token_gradients(world.model, world.params, r), axis=1)
        for r in (pair.chosen_response, pair.rejected_response)
    ]


def gram_sizes(world):
    """Sizes of the terms summed in ‖g_w‖², ‖g_l‖² and ⟨g_w, g_l⟩."""
    w, l = (size.sum() for size in token_sizes(world))  # noqa: E741
    return np.array([w * w, l * l, w * l])


def slope_sizes(world, d_chosen=1.0, d_rejected=1.0):
    """Sizes of the terms summed in the two slopes."""
    ww, ll, wl = gram_sizes(world)
    return np.array([d_chosen * ww + d_rejected * wl, d_chosen * wl + d_rejected * ll])


def single(tree):
    """The only entry of a batch of one, as an array of numbers."""
    return np.array([np.asarray(leaf)[0] for leaf in tree])


def assert_close(actual, expected, size, roundoff):
    """|actual − expected| ≤ roundoff · size, entry by entry; a NaN fails."""
    error = abs(np.asarray(actual) - np.asarray(expected))
    assert np.all(error <= roundoff * np.asarray(size)), f"error {error} exceeds {roundoff} of {size}"
