"""One SGD step at many learning rates, measured, and how large the terms of a change are."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from hypothesis import strategies as st
from oracles import single, token_sizes

from toymodel import gradients
from toymodel.models.logps import pair_logps

# Nine step sizes from 1e-4 to 1e4, one in each decade but for the last.
step_sizes = st.floats(0, 1).map(lambda shift: 10.0 ** np.minimum(np.arange(-4, 5) + shift, 4))


def sgd_changes(model, params, pairs, etas, d_chosen=1.0, d_rejected=1.0):
    """[2, etas]: true changes of (log π_w, log π_l) of the only pair at each learning rate."""
    return np.asarray(_sgd_changes(model, params, pairs, etas, d_chosen, d_rejected))


@jax.jit
def _sgd_changes(model, params, pairs, etas, d_chosen, d_rejected):
    def change(eta):
        return jnp.array(gradients.step_change(model, params, pairs, optax.sgd(eta), d_chosen, d_rejected))[:, 0]

    return jax.vmap(change)(etas).T


def change_sizes(w, etas, d_chosen=1.0, d_rejected=1.0):
    """Sizes of the terms in a change: the log-probabilities, and η‖φ_i‖ Σ_j |A_j|‖s_j‖‖φ_j‖ for each position i."""
    moves = sum(d * size.sum() for d, size in zip((d_chosen, d_rejected), token_sizes(w), strict=True))
    features = np.array([(np.linalg.norm(s.features, axis=1) * s.mask).sum() for s in w.states])
    lengths = np.array([s.mask.sum() for s in w.states])
    logps = abs(single(pair_logps(w.model, w.params, w.pairs)))
    return (lengths + logps)[:, None] + moves * features[:, None] * np.asarray(etas)
