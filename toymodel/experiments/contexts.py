"""What T22 needs from a network: the contexts of its pairs, their cosines and probabilities; and T22's assumptions.

A context is the last hidden state before a token, chosen answers first. Pairs have a label, then a suffix that both
answers share, and no padding.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from toymodel import theory
from toymodel._public import own_names
from toymodel.data.pairs import PreferencePairs, Response
from toymodel.models.crowd import Cosines
from toymodel.models.logps import Params
from toymodel.models.readout import hidden_states
from toymodel.models.stages import Network

__dir__ = own_names(globals())

AT_ONCE = 64  # responses in a forward pass, of a thousand or more

#: The assumptions that `drop_assumptions` drops in turn, each replaced by the network's own values.
ASSUMPTIONS = (
    "T22",
    "orthogonal positions",
    "unit norms",
    "peaked probabilities",
    "the same in all pairs",
    "one context in both answers",
)


class Contexts(NamedTuple):
    """Input and output of the last layer before every token of pairs, chosen answers first."""

    hidden: Float[Array, "2 n T d"]
    probs: Float[Array, "2 n T V"]
    tokens: Int[Array, "2 n T"]

    @property
    def residuals(self) -> Float[Array, "2 n T V"]:
        """e_y − p before every token y."""
        return jax.nn.one_hot(self.tokens, self.probs.shape[-1], dtype=self.probs.dtype) - self.probs

    def probs_of(self, tokens: Int[Array, "n T"]) -> Float[Array, "2 n T"]:
        """Probabilities of these tokens in either answer."""
        return jnp.take_along_axis(self.probs, jnp.stack([tokens, tokens])[..., None], axis=-1)[..., 0]


class Estimates(NamedTuple):
    """The inputs of T22, as means over pairs and positions."""

    p_chosen: Float[Array, ""]
    p_rejected: Float[Array, ""]
    a: Float[Array, ""]  # probability of a suffix token after the chosen label
    b: Float[Array, ""]  # and after the rejected one
    cosines: Cosines
    between: Float[Array, ""]  # κ: cosine of suffix contexts of two positions, over that at one position


def read_contexts(network: Network, params: Params, pairs: PreferencePairs) -> Contexts:
    """The contexts of pairs whose answers have no padding."""

    def of_response(response: Response) -> tuple[Array, Array]:
        return hidden_states(network, params, response), jax.nn.softmax(network.logits(params, response))

    each = partial(jax.lax.map, of_response, batch_size=AT_ONCE)
    hidden, probs = jax.lax.map(each, pairs.both_responses)
    return Contexts(hidden, probs, jnp.stack([pairs.chosen, pairs.rejected]))


def estimate(judged: Contexts, training: Contexts) -> Estimates:
    """Cosines between judged and training pairs, and probabilities in the judged ones.

    It needs labels of both words and at least one suffix token; cosines are between contexts of the chosen answers.
    """
    same, different, suffix = _products(judged, training, normalised=True)
    n = len(suffix)
    aligned = jnp.trace(suffix) / n
    crossed = (suffix.sum() - jnp.trace(suffix)) / max(n * (n - 1), 1)
    label, word = judged.probs_of(judged.tokens[0])[0, :, 0], judged.probs_of(judged.tokens[1])[0, :, 0]
    a, b = judged.probs_of(judged.tokens[0])[:, :, 1:].mean(axis=(1, 2))
    return Estimates(label.mean(), word.mean(), a, b, Cosines(same, different, aligned), crossed / aligned)


def drop_assumptions(judged: Contexts, training: Contexts, lengths: Float[Array, " k"]) -> Float[Array, "6 k"]:
    """Slope of the mean chosen along the training pairs' mean step through the head, by T22 and with fewer assumptions.

    `ASSUMPTIONS` are dropped one after the other; the last row is the network's own. In nats per unit of learning rate.
    """
    found, V = estimate(judged, training), judged.probs.shape[-1]
    scale = jnp.prod(jnp.stack([jnp.linalg.norm(c.hidden[0, :, 0], axis=-1).mean() for c in (judged, training)]))
    counted = lengths * (1 + (lengths - 1) * found.between)  # each suffix token meets those of other positions

    def formula(n: Array) -> Array:
        return scale * theory.crowd_slopes(*found[:4], V, n, found.cosines)[0]

    same, different, suffix = _products(judged, training, normalised=False)
    label = (1 - found.p_chosen + found.p_rejected) * (same - different) / 2
    token = theory.peaked_suffix_slopes(found.a, found.b, V)[0]

    residuals, hidden = judged.residuals[0], judged.hidden[0]
    mean_context = training.hidden[0].mean(axis=0)
    own = (residuals * (judged.probs[1] - judged.probs[0])).sum(axis=-1)
    own_words = jnp.einsum("it,itd,sd->ts", own, hidden, mean_context)[1:, 1:] / len(own)

    def met(step: Float[Array, "T V d"]) -> Float[Array, "T T"]:
        return jnp.einsum("itv,itd,svd->ts", residuals, hidden, step) / len(own)

    chosen, rejected = training.residuals
    count = len(chosen)
    one_context = met(jnp.einsum("btv,btd->tvd", chosen - rejected, training.hidden[0]) / count)
    exact = met(
        (
            jnp.einsum("btv,btd->tvd", chosen, training.hidden[0])
            - jnp.einsum("btv,btd->tvd", rejected, training.hidden[1])
        )
        / count
    )
    return jnp.stack(
        [
            formula(lengths),
            formula(counted),
            label + token * _up_to(lengths, suffix),
            label + _up_to(lengths, own_words),
            one_context[0, 0] + _up_to(lengths, one_context[1:, 1:]),
            _up_to(lengths + 1, exact),
        ]
    )


def _products(judged: Contexts, training: Contexts, *, normalised: bool) -> tuple[Array, Array, Float[Array, "n n"]]:
    """Mean products of contexts of judged and training pairs: labels of one word, of two, suffixes by position."""
    one, other = (
        c.hidden[0] / (jnp.linalg.norm(c.hidden[0], axis=-1, keepdims=True) if normalised else 1)
        for c in (judged, training)
    )
    label = one[:, 0] @ other[:, 0].T
    same = judged.tokens[0, :, 0][:, None] == training.tokens[0, :, 0]
    suffix = one[:, 1:].mean(axis=0) @ other[:, 1:].mean(axis=0).swapaxes(0, 1)
    return label.mean(where=same), label.mean(where=~same), suffix


def _up_to(lengths: Float[Array, " k"], table: Float[Array, "T T"]) -> Float[Array, " k"]:
    """Sums over the first positions, for each length."""
    kept = jnp.arange(len(table)) < lengths[:, None]
    return jnp.einsum("kt,ks,ts->k", kept, kept, table)
