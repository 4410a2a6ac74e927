"""T15, T16: where the probability goes, against steps and derivatives of the models; and the model with learned h.

Round-off is relative to the size of the terms summed; a softmax loses as many unit round-offs as its largest logit.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import event, given
from hypothesis import strategies as st
from oracles import assert_close, single
from strategies import one_token_pair, seeds, temperatures, world, worlds

from toymodel import PreferencePairs, Response, gradients, theory
from toymodel.models import linear
from toymodel.models.logps import response_logp
from toymodel.models.unconstrained import init_params, unconstrained

EPS = float(jnp.finfo(jnp.float64).eps)
VOCABULARIES = (2, 3, 64)
step_sizes = st.floats(0, 1).map(lambda shift: 10.0 ** np.minimum(np.arange(-4, 5) + shift, 4))


# --- T15: squeezing -------------------------------------------------------------------------------------------------


@st.composite
def softmaxes(draw):
    """Logits, from uniform to nearly deterministic, and a token."""
    V = draw(st.sampled_from(VOCABULARIES))
    logits = jnp.asarray(np.random.default_rng(draw(seeds)).standard_normal(V) / draw(temperatures))
    return logits, draw(st.integers(0, V - 1))


def one_token_response(tokens):
    """Responses of one token after an empty prompt, one for each of the tokens."""
    tokens = jnp.asarray(tokens)[..., None]
    empty = jnp.zeros((*tokens.shape[:-1], 0), int)
    return Response(empty, empty.astype(bool), tokens, jnp.ones(tokens.shape, bool))


@jax.jit
def after_ascent(logits, token, etas):
    """[etas, V] log-probabilities of the unigram model after a step *up* the loss −log π(token)."""
    model, response = linear.unigram(logits.size), one_token_response(token)
    loss_gradient = jax.grad(lambda params: -response_logp(model, params, response))(logits[:, None])
    return jax.vmap(lambda eta: jax.nn.log_softmax((logits[:, None] + eta * loss_gradient)[:, 0]))(etas)


@jax.jit
def squeezed(logits, token, etas):
    return (
        jax.vmap(theory.squeeze, in_axes=(None, None, 0))(logits, token, etas),
        jax.vmap(theory.squeeze_threshold, in_axes=(None, None, 0))(logits, token, etas),
    )


def softmax_roundoff(logits, etas=0.0):
    """Round-off of a log-probability after a step: the residuals enter η times, and move no logit by more than η."""
    return 4 * EPS * (logits.size + 2 * float(abs(logits).max())) * (1 + np.asarray(etas))


@given(softmaxes(), step_sizes)
def test_t15_the_token_falls_and_the_largest_other_rises_at_every_step_size(case, etas):
    logits, token = case
    measured = np.asarray(after_ascent(logits, token, etas))
    predicted, thresholds = squeezed(logits, token, etas)
    slip = softmax_roundoff(logits, etas)[:, None]
    assert_close(predicted, measured, 1, slip)
    p = np.asarray(jax.nn.softmax(logits))
    change = measured - np.asarray(jax.nn.log_softmax(logits))
    largest = np.argmax(np.where(np.arange(p.size) == token, -1, p))
    # By how much at least: log π(y) is concave in the logits, with gradient s; and of the others none gains more than
    # the largest, so that E e^{−η(s + p_max)} ≤ 1 − p_y + p_y e^{−η(1 − p_y + p_max)}, which is exact for V = 2.
    s = np.asarray(theory.residuals(logits, jnp.asarray(token)))
    rise = -np.log1p(p[token] * np.expm1(-etas * (s[token] + p[largest])))
    assert np.all(change[:, token] <= -etas * (s @ s) + slip[:, 0])
    assert np.all(change[:, largest] >= rise - slip[:, 0])
    if p.size == 2:
        assert_close(change[:, largest], rise, 1 + rise, slip[:, 0])
    # log π(v) changes by η(p_v − threshold).
    others = np.arange(p.size) != token
    gap = etas[:, None] * (p - np.asarray(thresholds)[:, None])
    assert_close(change[:, others], gap[:, others], 1, 2 * slip)
    event(f"some other token falls: {bool((change[:, others] < -slip).any())}")


@given(softmaxes(), step_sizes)
def test_t15_larger_steps_lift_fewer_tokens(case, etas):
    logits, token = case
    thresholds = np.asarray(squeezed(logits, token, etas)[1])
    p = np.asarray(jax.nn.softmax(logits))
    largest = np.where(np.arange(p.size) == token, 0, p).max()
    slip = softmax_roundoff(logits) * (1 + 1 / np.maximum(etas, 1))
    assert np.all(np.diff(thresholds) >= -slip[1:])
    assert np.all((p @ p - p[token] - slip <= thresholds) & (thresholds <= largest + slip))
    # Both ends are reached: the variance of e_y − p is at most 1/2, and log p_max ≤ log E e^{...} − η p_max ≤ 0.
    assert thresholds[0] <= p @ p - p[token] + etas[0] / 4 + slip[0]
    assert thresholds[-1] >= largest + np.log(largest) / etas[-1] - slip[-1]


def test_t15_other_tokens_than_the_largest_may_fall_or_rise():
    """p = (.2, .7, .1), the first pushed down: the last rises while p_y > ‖p‖² − p_v …, and falls when it is not."""
    p = jnp.array([0.2, 0.7, 0.1])
    change = squeezed(jnp.log(p), 0, np.array([0.01] * 9))[0][0] - jnp.log(p)
    assert change[0] < 0 < change[1]
    assert change[2] < 0  # p_v = 0.1 < 0.54 − 0.2
    q = jnp.array([0.8, 0.15, 0.05])
    change = squeezed(jnp.log(q), 0, np.array([0.01] * 9))[0][0] - jnp.log(q)
    assert np.all(change[1:] > 0)  # 0.665 − 0.8 < 0


def test_t15_needs_a_step_up_the_loss():
    """Down the loss the token rises, and every other one cannot."""
    logits = jnp.log(jnp.array([0.2, 0.7, 0.1]))
    down = after_ascent(logits, 0, jnp.array([-0.1] * 9))[0]
    assert down[0] > logits[0]
    assert down[1] < logits[1]


@pytest.mark.parametrize("eta", [0.0, -1.0, float("nan")])
def test_t15_bad_input(eta):
    for call in (theory.squeeze, theory.squeeze_threshold):
        with pytest.raises(ValueError, match="`eta` must be > 0"):
            call(jnp.zeros(3), 0, eta)


# --- T16: head and hidden state both learned ------------------------------------------------------------------------


class FreeToken(NamedTuple):
    """Unconstrained features with a single context, W [V, 3] and h [3], and two different tokens."""

    head: jax.Array
    hidden: jax.Array
    chosen: int
    rejected: int

    @property
    def slopes(self):
        return np.asarray(_token_slopes(self.head, self.hidden, self.chosen, self.rejected))

    @property
    def measured(self):
        """The derivative of every token's log-probability along g_w − g_l."""
        V = self.head.shape[0]
        model = unconstrained(linear.unigram(V))
        advantages = jnp.zeros(V).at[self.chosen].set(1.0).at[self.rejected].set(-1.0)
        params = {"head": self.head, "hidden": self.hidden[None]}
        return np.asarray(gradients.group_slopes(model, params, one_token_response(np.arange(V)), advantages))

    @property
    def roundoff(self):
        """Round-off of sums of V·3 terms, after a softmax that loses as many units of it as its largest logit."""
        return 4 * EPS * (self.head.size + 2 * float(abs(self.head @ self.hidden).max()))

    @property
    def size(self):
        """Size of the terms summed: ‖h‖² and ⟨W_z, W_w − W_l⟩."""
        rows = jnp.linalg.norm(self.head, axis=1)
        return float((self.hidden**2).sum() + rows.max() * (rows[self.chosen] + rows[self.rejected]))


_token_slopes = jax.jit(theory.token_slopes)


@st.composite
def free_tokens(draw):
    V = draw(st.sampled_from(VOCABULARIES))
    key = jax.random.key(draw(seeds))
    params = _free_params(V, key, draw(temperatures))
    chosen = draw(st.integers(0, V - 1))
    hidden = params["hidden"][0] * draw(st.sampled_from([0.1, 1.0, 10.0]))
    return FreeToken(params["head"], hidden, chosen, (chosen + draw(st.integers(1, V - 1))) % V)


@partial(jax.jit, static_argnums=0)
def _free_params(V, key, temperature):
    return init_params(key, unconstrained(linear.unigram(V)), dim=3, temperature=temperature)


@given(free_tokens())
def test_t16_slopes_of_every_token(token):
    measured = token.measured
    assert_close(token.slopes, measured, token.size, token.roundoff)
    p = np.asarray(jax.nn.softmax(token.head @ token.hidden))
    towards = np.asarray(token.head[token.chosen] - token.head[token.rejected])
    head, sq = np.asarray(token.head), float((token.hidden**2).sum())
    w, l = token.chosen, token.rejected  # noqa: E741
    mean = p @ head
    # For the two tokens, and up to one constant for the others.
    assert_close(measured[w], (head[w] - mean) @ towards + (1 - p[w] + p[l]) * sq, token.size, token.roundoff)
    assert_close(measured[l], (head[l] - mean) @ towards - (1 - p[l] + p[w]) * sq, token.size, token.roundoff)
    others = np.delete(measured - head @ towards, [w, l])
    if others.size:
        assert_close(others, others[0], token.size, 2 * token.roundoff)
    event(f"single token displaced: {bool(measured[w] < -token.roundoff * token.size)}")


@given(free_tokens())
def test_t16_margin_rises_and_with_the_head_alone_the_chosen_does(token):
    w, l = token.chosen, token.rejected  # noqa: E741
    measured = token.measured
    towards = token.head[w] - token.head[l]
    margin = float(2 * (token.hidden**2).sum() + towards @ towards)
    assert_close(measured[w] - measured[l], margin, token.size, 2 * token.roundoff)
    # The same logits with h frozen are a linear softmax model: T4, and no displacement.
    V = token.head.shape[0]
    frozen = world("unigram", pair := one_token_pair(V, w, l), V)
    frozen = frozen._replace(model=linear.LinearSoftmax("unigram", V, token.hidden[None], tabular=False))
    chosen, rejected = single(gradients.slopes(frozen.model, token.head, pair))
    assert chosen >= 0 >= rejected  # strictly, where e^{−gap} does not underflow: T4's own test


def test_t16_a_single_token_is_displaced_when_h_learns_too():
    """W = (1, ½, 10), h = 0.01, almost uniform: 10 · (1 − ½) pulls the third token up, the chosen and rejected fall.

    T4 promises that DPO separates one differing token; it needs frozen features.
    """
    token = FreeToken(jnp.array([[1.0], [0.5], [10.0]]), jnp.array([0.01]), 0, 1)
    slopes = token.measured
    assert slopes[2] > 0 > slopes[0] > slopes[1]
    frozen = linear.LinearSoftmax("unigram", 3, token.hidden[None], tabular=False)
    assert single(gradients.slopes(frozen, token.head, one_token_pair(3, 0, 1)))[0] > 0


@given(seeds, st.integers(1, 4), st.integers(1, 3), st.sampled_from([2, 64]))
def test_t16_ches_is_the_fall_of_the_chosen_when_all_residuals_agree(seed, length, more, V):
    """One token repeated under uniform probabilities: every ⟨s_i, s_j⟩ is 1 − 1/V, and the slope (1 − 1/V)(−CHES)."""
    other = 1 + (length - 1 + more) % 4  # another length: equal responses have CHES = 0
    pairs = PreferencePairs.from_lists([[0]], [[1] * length], [[1] * other], vocab_size=V, length=4)
    w = world("random_features", pairs, V, seed=seed, temperature=float("inf"))
    hidden = [states.features * states.mask[:, None] for states in w.states]
    slope = single(gradients.slopes(w.model, w.params, pairs))[0]
    assert_close(slope, -(1 - 1 / V) * theory.ches(*hidden), length * (length + other), w.roundoff)


def test_t16_ches_of_a_batch():
    hidden = np.random.default_rng(0).standard_normal((2, 3, 5, 4))
    batch = theory.ches(*hidden)
    for b in range(3):
        w, l = (h[b].sum(axis=0) for h in hidden)  # noqa: E741
        assert_close(batch[b], w @ l - w @ w, 5 * 5 * 16, 40 * EPS)


# --- the model ------------------------------------------------------------------------------------------------------


@given(worlds(("prefix",)), seeds)
def test_unconstrained_features_are_a_linear_model_at_its_own_hidden_states(w, seed):
    model, params = _free(w.model, jax.random.key(seed))
    response = w.pairs[0].chosen_response
    states = w.states[0]
    frozen = linear.LinearSoftmax(w.kind, w.model.vocab_size, params["hidden"], known=w.model.known, tabular=False)
    gap = np.asarray(logits_of(model, params, response)) - logits_of(frozen, params["head"], response)
    assert_close(np.where(states.mask[:, None], gap, 0), 0, 1, 64 * EPS)
    assert_close(np.linalg.norm(hidden_of(model, params, response), axis=1), states.mask, 1, 4 * EPS)


logits_of = jax.jit(lambda model, params, response: model.logits(params, response))
hidden_of = jax.jit(lambda model, params, response: model.hidden(params, response))


@jax.jit
def _free(table, key):
    model = unconstrained(table)
    return model, init_params(key, model, dim=4)


def test_unconstrained_features_ask_for_what_they_need():
    model = unconstrained(linear.unigram(3))
    response = one_token_response(0)
    for shapes in (((3, 2), (2, 2)), ((2, 2), (1, 2)), ((3, 2), (1, 3)), ((3,), (1,))):
        params = {name: jnp.zeros(shape) for name, shape in zip(("head", "hidden"), shapes, strict=True)}
        with pytest.raises(ValueError, match=r"`params` must be a head \(3, d\) and hidden states \(1, d\)"):
            model.logits(params, response)
    with pytest.raises(ValueError, match="`table` must be tabular"):
        unconstrained(world("random_features", one_token_pair(3, 0, 1), 3).model)
    with pytest.raises(ValueError, match="`dim` must be a whole number at least 1, got 0"):
        init_params(jax.random.key(0), model, dim=0)
    with pytest.raises(ValueError, match="`temperature` must be > 0"):
        init_params(jax.random.key(0), model, dim=1, temperature=0.0)
    assert init_params(jax.random.key(0), model, dim=2, dtype=jnp.float32)["head"].dtype == jnp.float32
