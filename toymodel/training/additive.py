"""An optimiser's step as a sum over parts of the gradient (T23).

For a given preconditioner, a step of SGD, momentum, Nesterov, Adam, AdamW or RMSProp is linear in the gradients seen so
far: m/(√v + ε) is linear in m for any v. So each part of the gradient has its own momentum and step, and they add up to
those of the optimiser.

No optax transformation says what it is linear in, and a list of known ones would miss chains of them. So this module
reads the program of `update`, operation by operation, and each number in it is of one kind:

ZERO    is 0 whatever the gradients are: a momentum before the first step
FREE    does not depend on gradients: hyperparameters, counts, the parameters before the step
LINEAR  a sum over the parts of the gradient, kept as [rows, …]
AFFINE  the same plus a part that comes from no gradient, such as decay: the last row
FROZEN  depends on gradients in another way; where it only multiplies or divides, it is a preconditioner, and held

An optimiser whose step comes out FROZEN is refused.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.extend.core import ClosedJaxpr, JaxprEqn, Literal
from jaxtyping import Array

from toymodel._public import own_names
from toymodel.models.logps import Params

__dir__ = own_names(globals())

ZERO, FREE, LINEAR, AFFINE, FROZEN = range(5)
SPLIT = (LINEAR, AFFINE)  # kinds that have parts
#: Operations that are linear in all their operands together.
SUMS = {"add", "add_any", "sub", "neg", "copy", "convert_element_type", "reshape", "broadcast_in_dim", "squeeze"}
SUMS |= {"transpose", "reduce_sum", "concatenate", "slice"}
PRODUCTS = {"mul", "dot_general"}  # linear in each of two operands
#: Operations that call a program, and the parameter that holds it.
CALLS = {"jit": "jaxpr", "pjit": "jaxpr", "custom_jvp_call": "call_jaxpr", "custom_vjp_call": "call_jaxpr"}
WORDS = {
    "sign": "the sign of gradients, as Lion's does",
    "select_n": "a choice that gradients decide, as in clipping by their norm",
    "clamp": "a bound on gradients, as in clipping",
    "max": "a bound on gradients, as in clipping",
    "min": "a bound on gradients, as in clipping",
}


class Additive(NamedTuple):
    """How the step and the state of an optimiser depend on gradients."""

    kinds: tuple[int, ...]  # of the leaves of its state
    decays: bool  # a part of its step is brought by no gradient


class _Value(NamedTuple):
    """A number of the program."""

    whole: Any
    kind: int = FREE
    parts: Any = None  # [rows, …] where LINEAR or AFFINE
    reason: str = ""  # where FROZEN: the first operation that was not linear


def check_additive(optimizer: Callable[[Any], optax.GradientTransformation], params: Params) -> Additive:
    """Read how an optimiser depends on gradients.

    Raises:
      ValueError: its step is not linear in gradients for a given preconditioner.
    """
    with jax.ensure_compile_time_eval():  # these are numbers inside a trace too
        params = jax.tree.map(lambda leaf: jnp.ones(leaf.shape, leaf.dtype), params)
        made = optimizer(1.0)
        leaves, structure = jax.tree.flatten(made.init(params))
        kept = starts = [_Value(None, FREE if bool(jnp.any(leaf != 0)) else ZERO) for leaf in leaves]
    while True:  # a step starts from what the step before left
        seen: list[_Value] = []

        def step(params: Params, leaves: list[Array], kept: list[_Value] = kept, seen: list[_Value] = seen) -> None:
            states = [
                value._replace(whole=leaf, parts=leaf[None] if value.kind in SPLIT else None)
                for leaf, value in zip(leaves, kept, strict=True)
            ]
            gradients = [_Value(leaf, LINEAR, leaf[None]) for leaf in jax.tree.leaves(params)]
            seen += _update(made, gradients, states, structure, params)

        jax.eval_shape(step, params, leaves)
        moved, after = seen[: -len(leaves) or None], seen[len(seen) - len(leaves) :]
        found = [max(pair, key=lambda value: value.kind) for pair in zip(kept, after, strict=True)]
        if [value.kind for value in found] == [value.kind for value in kept]:
            break
        kept = found
    wanted = (
        "`optimizer` must take steps that are linear in gradients while its preconditioner is held, as those of SGD, "
        "momentum, Nesterov, Adam, AdamW and RMSProp are; its step depends on"
    )
    for value in moved:
        if value.kind == FROZEN:
            raise ValueError(f"{wanted} {WORDS.get(value.reason, f'`{value.reason}` of gradients')}.")
    if any(start.kind == FREE and value.kind in SPLIT for start, value in zip(starts, kept, strict=True)):
        raise ValueError(f"{wanted} a sum that does not start at 0, such as schedule-free ones' of parameters.")
    return Additive(tuple(value.kind for value in kept), any(value.kind in (FREE, AFFINE) for value in moved))


def no_parts(additive: Additive, opt_state: Any, sources: int) -> list[Array | None]:
    """The parts of the optimiser's state before the first step, [rows, …] of each leaf that has any."""
    rows = sources + additive.decays
    return [
        jnp.zeros((rows, *leaf.shape), leaf.dtype) if kind in SPLIT else None
        for leaf, kind in zip(jax.tree.leaves(opt_state), additive.kinds, strict=True)
    ]


def split_step(
    optimizer: optax.GradientTransformation,
    additive: Additive,
    gradient: Params,
    of_sources: Params,
    opt_state: Any,
    parts: Sequence[Array | None],
    params: Params,
) -> tuple[Params, list[Array | None]]:
    """Each source's part of the optimiser's step, and of the state after it.

    Args:
      gradient: all of it.
      of_sources: each source's part of the gradient, [sources, …].
      opt_state: the optimiser's, before the step.
      parts: from the step before, or from `no_parts`.
      params: before the step.

    Returns:
      Steps [rows, …]: of the sources and, where the optimiser decays, of that.
    """

    def rows(part: Array) -> Array:
        return jnp.concatenate([part, jnp.zeros_like(part[:1])]) if additive.decays else part

    leaves, structure = jax.tree.flatten(opt_state)
    states = [_Value(*state) for state in zip(leaves, additive.kinds, parts, strict=True)]
    whole, tree = jax.tree.flatten(gradient)
    gradients = [
        _Value(leaf, LINEAR, rows(part)) for leaf, part in zip(whole, jax.tree.leaves(of_sources), strict=True)
    ]
    count = len(gradients[0].parts)
    found = _update(optimizer, gradients, states, structure, params)
    moved, after = found[: len(whole)], found[len(whole) :]
    kept = [
        _parts_of(value, count) if kind in SPLIT else None for value, kind in zip(after, additive.kinds, strict=True)
    ]
    return jax.tree.unflatten(tree, [_parts_of(value, count) for value in moved]), kept


def _update(
    optimizer: optax.GradientTransformation,
    gradients: list[_Value],
    states: list[_Value],
    structure: Any,
    params: Params,
) -> list[_Value]:
    """Leaves of the step, then of the state after it, as `optimizer.update` computes them."""
    of_params = jax.tree.structure(params)
    update = optax.with_extra_args_support(optimizer).update

    def program(gradient: list[Array], state: list[Array], params: list[Array]) -> list[Array]:
        moved, after = update(
            jax.tree.unflatten(of_params, gradient),
            jax.tree.unflatten(structure, state),
            jax.tree.unflatten(of_params, params),
        )
        return [*jax.tree.leaves(moved), *jax.tree.leaves(after)]

    free = [_Value(leaf) for leaf in jax.tree.leaves(params)]
    wholes = [[value.whole for value in values] for values in (gradients, states, free)]
    return _run(jax.make_jaxpr(program)(*wholes), [*gradients, *states, *free])


def _run(program: ClosedJaxpr, inputs: list[_Value]) -> list[_Value]:
    """What the program computes of these inputs."""
    jaxpr = program.jaxpr
    known = dict(zip(jaxpr.constvars, map(_Value, program.consts), strict=True))
    known |= dict(zip(jaxpr.invars, inputs, strict=True))

    def read(atom: Any) -> _Value:
        if isinstance(atom, Literal):
            return _Value(atom.val, FREE if atom.val else ZERO)
        return known[atom]

    for operation in jaxpr.eqns:
        operands = [read(atom) for atom in operation.invars]
        if operation.primitive.name in CALLS:
            results = _run(operation.params[CALLS[operation.primitive.name]], operands)
        else:
            results = _apply(operation, operands)
        known |= dict(zip(operation.outvars, results, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _apply(operation: JaxprEqn, operands: list[_Value]) -> list[_Value]:
    """The result of one operation on its operands, and on their parts."""
    name, primitive = operation.primitive.name, operation.primitive
    bind = partial(primitive.bind, **operation.params)
    results = bind(*(operand.whole for operand in operands))
    results = results if primitive.multiple_results else [results]
    kinds = [operand.kind for operand in operands]
    if max(kinds, default=FREE) <= FREE:
        zero = (name in SUMS and max(kinds) == ZERO) or (name in PRODUCTS and ZERO in kinds)
        return [_Value(result, ZERO if zero else FREE) for result in results]
    splits = [kind in SPLIT for kind in kinds]
    if _is_linear(operation, kinds, splits):
        together = [name in SUMS or (name == "select_n" and place > 0) for place in range(len(kinds))]
        mapped = [split or (joint and any(splits)) for split, joint in zip(splits, together, strict=True)]
        count = len(next(operand.parts for operand in operands if operand.parts is not None))
        arrays = [_parts_of(o, count) if axis else o.whole for o, axis in zip(operands, mapped, strict=True)]
        parts = jax.vmap(bind, in_axes=tuple(0 if axis else None for axis in mapped))(*arrays)
        mixed = any(joint and kind == FREE for joint, kind in zip(together, kinds, strict=True))
        kind = AFFINE if mixed else max(kind for kind, split in zip(kinds, splits, strict=True) if split)
        return [_Value(results[0], kind, parts)]
    reason = next((operand.reason for operand in operands if operand.kind == FROZEN and name != "select_n"), name)
    return [_Value(result, FROZEN, None, reason) for result in results]


def _is_linear(operation: JaxprEqn, kinds: list[int], splits: list[bool]) -> bool:
    """Whether the result is a sum over the parts of the operands that have any."""
    name = operation.primitive.name
    if name in SUMS:
        return FROZEN not in kinds
    if name == "select_n":
        return kinds[0] in (ZERO, FREE) and FROZEN not in kinds
    if name in PRODUCTS:
        return sum(splits) == 1
    if name == "div":
        return splits == [True, False]
    return name == "integer_pow" and operation.params["y"] == 1 and splits[0]


def _parts_of(value: _Value, rows: int) -> Array:
    """A number's parts; a number without parts is all in the last row."""
    if value.parts is not None:
        return value.parts
    whole = jnp.asarray(value.whole)
    return jnp.zeros((rows, *whole.shape), whole.dtype).at[-1].set(whole)
