"""`pytree`: dataclasses as trees that are never taken for one another, and that do all that JAX does with trees."""

from dataclasses import FrozenInstanceError, dataclass, replace
from functools import partial

import jax
import jax.numpy as jnp
import pytest

from toymodel import pytree


@pytree
@dataclass(frozen=True)
class Line:
    slope: float
    offset: float = 0.0

    def __call__(self, x):
        return self.slope * x + self.offset


@pytree
@dataclass(frozen=True)
class Parabola:
    slope: float
    offset: float = 0.0

    def __call__(self, x):
        return self.slope * x**2 + self.offset


@pytree
@dataclass(frozen=True)
class Nothing:
    pass


@pytree
@dataclass(frozen=True)
class Nil:
    pass


@partial(pytree, static=["name"])
@dataclass(frozen=True)
class Named:
    name: str  # static, and not the last field
    value: object


@pytest.mark.parametrize(
    "trees",
    [
        (Line(1.0), Parabola(1.0)),
        (Nothing(), Nil()),
        ([Line(1.0)], [Parabola(1.0)]),
        (Named("a", Line(1.0)), Named("a", Parabola(1.0))),
        (Named("a", 1.0), Named("b", 1.0)),
    ],
)
def test_structures_are_equal_only_for_one_type_and_one_static_value(trees):
    one, other = map(jax.tree.structure, trees)
    assert one != other
    if not isinstance(trees[0], Named):  # JAX's hash does not look at static values
        assert hash(one) != hash(other)
    for tree, structure in zip(trees, (one, other), strict=True):
        again = jax.tree.structure(jax.tree.map(lambda leaf: leaf + 1, tree))
        assert again == structure
        assert hash(again) == hash(structure)


def test_two_types_share_no_program():
    """Asked of the key itself: a cache that went by equality alone would run one's program for the other."""

    class Structure:
        def __init__(self, tree):
            self.structure = jax.tree.structure(tree)

        def __hash__(self):
            return 0  # every two collide

        def __eq__(self, other):
            return self.structure == other.structure

    programs = {Structure(tree): type(tree) for tree in (Line(1.0), Parabola(1.0))}
    assert [programs[Structure(tree)] for tree in (Line(2.0), Parabola(2.0))] == [Line, Parabola]
    traces = []

    @jax.jit
    def evaluate(curve, x):
        traces.append(type(curve))
        return curve(x)

    for _ in range(2):
        assert (evaluate(Line(3.0), 2.0), evaluate(Parabola(3.0), 2.0)) == (6.0, 12.0)
    assert traces == [Line, Parabola]


def test_transformations_take_them():
    lines = Line(jnp.array([1.0, 2.0]), jnp.array([0.0, -1.0]))
    assert jax.vmap(lambda line: line(3.0))(lines).tolist() == [3.0, 5.0]
    assert jax.grad(lambda line: line(3.0))(Line(1.0, 2.0)) == Line(3.0, 1.0)
    assert jax.jit(lambda line: line)(Line(1.0, 2.0)) == Line(1.0, 2.0)
    last, seen = jax.lax.scan(lambda line, x: (Line(line(x), line.offset), line), Line(1.0, 1.0), jnp.array([2.0, 3.0]))
    assert last == Line(10.0, 1.0)
    assert seen.slope.tolist() == [1.0, 3.0]
    assert jax.tree.map(jnp.add, Line(1.0, 2.0), Line(3.0, 4.0)) == Line(4.0, 6.0)


def test_static_fields_are_compiled_in():
    named = Named("double", 2.0)
    assert jax.tree.leaves(named) == [2.0]
    assert jax.jit(lambda named: named.value if named.name == "double" else -1.0)(named) == 2.0
    assert jax.tree.map(lambda value: 2 * value, named) == Named("double", 4.0)


def test_paths_are_names_of_fields():
    leaves, _ = jax.tree_util.tree_flatten_with_path(Named("a", Line(1.0, 2.0)))
    assert [(jax.tree_util.keystr(path), leaf) for path, leaf in leaves] == [
        (".value.slope", 1.0),
        (".value.offset", 2.0),
    ]


def test_they_stay_frozen_dataclasses():
    mapped = jax.tree.map(lambda leaf: leaf, Line(1.0, 2.0))
    assert replace(mapped, slope=5.0) == Line(5.0, 2.0)
    assert hash(mapped) == hash(Line(1.0, 2.0))
    with pytest.raises(FrozenInstanceError):
        mapped.slope = 3.0


def test_static_must_name_fields():
    with pytest.raises(ValueError, match=r"`static` must hold fields of Other \(value\), got \['vocab_size'\]"):

        @partial(pytree, static=["vocab_size"])
        @dataclass(frozen=True)
        class Other:
            value: float
