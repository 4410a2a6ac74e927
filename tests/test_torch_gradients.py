"""Gradients that `examples/torch_gradients.py` takes from GPT-2 get the diagnosis that our own engine gives.

The numbers in `data/torch_gradients.npz` are always compared; with torch and transformers at hand (`make reference`)
they are computed anew and compared as well.
"""

import subprocess
import sys
import warnings
from functools import lru_cache, partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from data import make_gpt2_reference as outside
from data import make_torch_gradients as recorded
from gpt2 import ours_of
from jax.flatten_util import ravel_pytree
from neural import NetworkWorld
from oracles import assert_close
from outside_models import of_case

from toymodel import PairGram, PreferencePairs, cli, diagnose, gradients, theory
from toymodel.diagnosis.readers import load
from toymodel.models.logps import response_logp
from toymodel.models.transformer import Transformer

EXAMPLE = Path(__file__).parents[1] / "examples" / "torch_gradients.py"
GRAM = ("chosen_sq", "rejected_sq", "inner")


def start_row_of(params):
    """GPT-2 reads its first token from the same row as everywhere; our model has a last row for the start symbol."""
    table = params["token_embedding"]
    return params | {"token_embedding": jnp.concatenate([table, table[-1:]])}


class Ours:
    """Our engine on the stored weights of a case: Gram entries, log-probabilities, and how far round-off may go."""

    def __init__(self, case):
        start_is_predicted = case != "tied_without_start"
        self.model = Transformer(
            outside.V + start_is_predicted, outside.CONTEXT, 1, outside.DIM, outside.HEADS, tied=case != "untied"
        )
        with np.load(outside.FILE) as file:
            theirs = ours_of(of_case(dict(file), recorded.CASES[case], "weight"), self.model)
        theirs = jax.tree.map(jnp.asarray, theirs)
        self.params = start_row_of(theirs) if start_is_predicted else theirs
        self.pairs = PreferencePairs.from_lists(
            outside.PROMPTS, recorded.CHOSEN, recorded.REJECTED, vocab_size=self.model.vocab_size
        )
        sides = (self.pairs.chosen_response, self.pairs.rejected_response)
        flat, unravel = ravel_pytree(theirs)

        @jax.jit
        @partial(jax.vmap, in_axes=(None, 0))
        @jax.value_and_grad
        def logps_and_gradients(flat, response):
            params = start_row_of(unravel(flat)) if start_is_predicted else unravel(flat)
            return response_logp(self.model, params, response)

        (self.logps, self.gradients) = zip(*(logps_and_gradients(flat, side) for side in sides), strict=True)
        worlds = [NetworkWorld(self.model, self.params, self.pairs[i : i + 1]) for i in range(len(self.pairs))]
        # Twice: in a tied table two rows of ours, the start symbol's and a token's, are one of theirs.
        self.errors = 2 * np.transpose([world.gradient_errors for world in worlds])
        self.logp_sizes = [abs(g) @ abs(flat) + abs(logp) for g, logp in zip(self.gradients, self.logps, strict=True)]
        self.unit = worlds[0].unit
        if case == "tied":  # one row of theirs is two of ours: their derivatives add up before they are multiplied
            w, l = self.gradients  # noqa: E741
            self.gram = PairGram((w * w).sum(axis=1), (l * l).sum(axis=1), (w * l).sum(axis=1))
        else:
            self.gram = gradients.pair_gram(self.model, self.params, self.pairs)

    @property
    def gram_errors(self):
        """An inner product is off by the error of one gradient times the norm of the other, and the reverse."""
        (e_w, e_l), (n_w, n_l) = self.errors, np.sqrt([self.gram.chosen_sq, self.gram.rejected_sq])
        return np.stack([2 * e_w * n_w, 2 * e_l * n_l, e_w * n_l + e_l * n_w])


ours = lru_cache(Ours)


def stored(case):
    with np.load(recorded.FILE) as file:
        return {name.removeprefix(f"{case}/"): a for name, a in file.items() if name.startswith(f"{case}/")}


def assert_same(case, arrays):
    """Both ways of the example against our engine: log-probabilities, norms, inner products, cosines, cases."""
    engine = ours(case)
    for name, logps, sizes in zip(("chosen_logps", "rejected_logps"), engine.logps, engine.logp_sizes, strict=True):
        assert_close(arrays[name], logps, sizes, engine.unit)
    entries = [arrays[name] for name in GRAM]
    assert_close(entries, engine.gram, engine.gram_errors, 1)
    for names in (GRAM, ("chosen_grad", "rejected_grad")):
        rows = diagnose(**{name: arrays[name] for name in names}).pairs
        assert_close([[row[name] for row in rows] for name in GRAM], engine.gram, engine.gram_errors, 1)
        norms = np.sqrt(engine.gram.chosen_sq * engine.gram.rejected_sq)
        # A quotient: relative errors of numerator and norms add up, and the numerator is no larger than the norms.
        relative = engine.gram_errors / np.stack([engine.gram.chosen_sq, engine.gram.rejected_sq, norms])
        assert_close([row["cosine"] for row in rows], engine.gram.inner / norms, relative.sum(axis=0), 1)
        slopes = np.abs(theory.slopes(engine.gram))
        assert (slopes > 4 * engine.gram_errors.max(axis=0)).all()  # so that round-off cannot decide a case
        assert [row["case"] for row in rows] == list(theory.case(engine.gram))
    assert arrays["chosen_grad"].shape == arrays["rejected_grad"].shape == engine.gradients[0].shape


@pytest.mark.parametrize("case", recorded.CASES)
def test_recorded_gradients_are_those_of_our_engine(case):
    assert_same(case, stored(case))


def test_recorded_cases_differ():
    assert len({str(name) for case in recorded.CASES for name in theory.case(ours(case).gram)}) >= 2


@pytest.mark.parametrize("case", recorded.CASES)
def test_gradients_as_installed_are_those_of_our_engine(case):
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # theirs
        assert_same(case, recorded.arrays(case))


def test_parameters_that_are_not_trained_do_not_count():
    torch = pytest.importorskip("torch")
    pytest.importorskip("transformers")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # theirs
        from examples import torch_gradients

        model = recorded.gpt2("tied")
        every = torch_gradients.gradients_by_layer(model, recorded.PAIRS)
        model.transformer.wte.requires_grad_(False)
        model.transformer.wpe.to(torch.bfloat16)
        some = torch_gradients.gradients_by_layer(model, recorded.PAIRS)
    frozen = {name for name in every if name.endswith("wte.weight")}
    assert len(frozen) == 2
    assert every.keys() - frozen == some.keys()
    assert {array.dtype for array in some.values()} == {np.dtype("float32"), np.dtype("float64")}


def test_the_example_runs_as_its_first_lines_say(tmp_path, capsys):
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    subprocess.run([sys.executable, EXAMPLE], cwd=tmp_path, check=True, capture_output=True)
    whole, by_layer = (diagnose(**load(tmp_path / name)) for name in ("gradients.npz", "layers.npz"))
    assert by_layer.summary["layers"].keys() == load(tmp_path / "layers.npz")["chosen_grad"].keys()
    for file in ("gram.npz", "gradients.npz", "layers.npz"):
        assert cli.main(["diagnose", str(tmp_path / file)]) == 0
        assert "2 pairs: 2 chosen up rejected down" in capsys.readouterr().out
    for row, other in zip(whole.pairs, by_layer.pairs, strict=True):
        # The same products, added up in another order: fewer than 8,000 terms, each below the norms' product.
        assert_close([row[n] for n in GRAM], [other[n] for n in GRAM], row["chosen_sq"] + row["rejected_sq"], 1e-12)
