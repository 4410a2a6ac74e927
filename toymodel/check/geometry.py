"""What T27 says about one draw: inner products in Fisher's geometry."""

import jax
import jax.numpy as jnp
from jaxtyping import Array

from toymodel import gradients, theory
from toymodel._public import own_names
from toymodel.check.discrepancy import checks, relative, wrong
from toymodel.check.draws import OFFSET, Draw, first_tokens, of_one_pair
from toymodel.models import linear

__dir__ = own_names(globals())


@checks("T27", "One softmax, Fisher's geometry: inner products δ/p − 1, so two different tokens always oppose.", OFFSET)
def _t27(draw: Draw) -> Array:
    """Preconditioned by 1/p, which is the pseudo-inverse on vectors whose entries sum to zero."""
    logits, pair = jnp.asarray(draw.noise.sharpness * draw.noise.logits[0, 0]), first_tokens(draw)
    p, w, l = jax.nn.softmax(logits), pair.chosen[0], pair.rejected[0]  # noqa: E741
    model = linear.unigram(draw.model.vocab_size)
    measured = of_one_pair(gradients.preconditioned_pair_gram, model, logits[:, None], pair, 1 / p[:, None])
    predicted = theory.fisher_gram(p, w, l)
    sizes = jnp.array([1 / p[w], 1 / p[l], 1.0])
    doubt = 1 - jnp.maximum(p[w], p[l])  # what is left of the digits of 1/p − 1
    clear = doubt > 1e-6
    cosine = jnp.where(clear, theory.cosine(measured), theory.fisher_cosine(0.5, 0.5))
    foretold = jnp.where(clear, theory.fisher_cosine(p[w], p[l]), theory.fisher_cosine(0.5, 0.5))
    return jnp.array(
        [
            relative(jnp.array(predicted) - jnp.array(measured), sizes),
            relative(cosine - foretold, 1 / jnp.where(clear, doubt, 1)),
            wrong(clear & (cosine >= 0)),
        ]
    ).max()
