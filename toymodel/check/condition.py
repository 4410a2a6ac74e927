"""What T9–T11 say about one draw: slopes from inner products and weights, the three cases, the band of ratios."""

import jax
import jax.numpy as jnp
from jaxtyping import Array

from toymodel import gradients, theory
from toymodel._public import own_names
from toymodel.check.discrepancy import BY_SIGN, ROUNDOFF, checks, relative, wrong
from toymodel.check.draws import MODELS, Draw, of_one_pair, slope_sizes

__dir__ = own_names(globals())

IMPOSSIBLE = theory.CASES.index("chosen_down_rejected_up")


@checks("T9", "Slopes of both log-probabilities from three inner products and two weights.")
def _t9(draw: Draw) -> Array:
    weights = (draw.d_chosen, draw.d_rejected)
    measured = jnp.array(of_one_pair(gradients.slopes, draw.model, draw.params, draw.pair, *weights))
    predicted = jnp.array(theory.slopes(draw.predicted, *weights))
    return relative(measured - predicted, slope_sizes(draw, *weights))


def _measured_case(draw: Draw, d_chosen: Array, d_rejected: Array) -> tuple[Array, Array]:
    """The case that the measured slopes show, and whether both are clear of round-off."""
    slopes = jnp.array(of_one_pair(gradients.slopes, draw.model, draw.params, draw.pair, d_chosen, d_rejected))
    clear = (abs(slopes) > ROUNDOFF * slope_sizes(draw, d_chosen, d_rejected)).all()
    return theory.case_of_slopes(*slopes), clear


@checks(
    "T10", "The gradient condition names the case; chosen down with rejected up never occurs.", MODELS, 0.0, BY_SIGN
)
def _t10(draw: Draw) -> Array:
    measured, clear = _measured_case(draw, draw.d_chosen, draw.d_rejected)
    predicted = theory.case_index(draw.predicted, draw.d_chosen, draw.d_rejected)
    return wrong(clear & ((measured != predicted) | (measured == IMPOSSIBLE)))


@checks("T11", "Chosen up and rejected down exactly for d_w/d_l inside the band, centred at r*.")
def _t11(draw: Draw) -> Array:
    """Ratios a thousandth inside and outside each end of the band, and its centre."""
    gram = draw.predicted
    low, high = theory.band(gram)
    finite = jnp.isfinite(low) & (low > 0) & jnp.isfinite(high)
    centre = jnp.where(
        finite, relative(jnp.sqrt(low) * jnp.sqrt(high) - theory.band_centre(gram), theory.band_centre(gram)), 0
    )

    def disagrees(ratio: Array) -> Array:
        measured, clear = _measured_case(draw, ratio, jnp.ones(()))
        return clear & (theory.in_band(gram, ratio, 1.0) != (measured == 0))

    ends = jnp.where(finite, jnp.array([low, low, high, high]), draw.d_chosen / draw.d_rejected)
    ratios = ends * jnp.array([0.999, 1.001, 0.999, 1.001])
    return jnp.maximum(centre, wrong(jax.vmap(disagrees)(ratios)))
