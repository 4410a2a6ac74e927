"""The catalogue finds a loss by name, checks its hyperparameters, and returns a `Loss`."""

import difflib
import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, NamedTuple, get_type_hints

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from toymodel._checks import POSITIVE, REAL, Domain, is_concrete, require_finite
from toymodel._public import own_names
from toymodel._pytree import pytree
from toymodel.gram import Scalars
from toymodel.losses.aliases import ALIASES, plain
from toymodel.losses.form import Form, Side

__dir__ = own_names(globals())

INPUTS = (
    "chosen_logps",
    "rejected_logps",
    "ref_chosen_logps",
    "ref_rejected_logps",
    "chosen_lengths",
    "rejected_lengths",
)


Real = Annotated[float, REAL]
Positive = Annotated[float, POSITIVE]
NonNegative = Annotated[float, Domain(">= 0 and finite", lambda x: (x >= 0) & np.isfinite(x))]
Fraction = Annotated[float, Domain("in (0, 1]", lambda x: (x > 0) & (x <= 1))]
FlipRate = Annotated[float, Domain("in [0, 0.5)", lambda x: (x >= 0) & (x < 0.5))]
PositiveFlipRate = Annotated[float, Domain("in (0, 0.5)", lambda x: (x > 0) & (x < 0.5))]


@partial(pytree, static=["definition"])
@dataclass(frozen=True)
class Loss:
    """A preference loss with its hyperparameters. It is a pytree of these: `jax.vmap` over losses sweeps them.

    Everything is elementwise over pairs, nothing is reduced. Log-probabilities are sums over the response in nats, so
    the weights of a length-averaged loss carry its 1/length. Arguments that a loss does not use may be left out, and
    are ignored.
    """

    definition: "Definition"
    hyper: dict[str, Scalars]

    @property
    def name(self) -> str:
        """The loss's name in `LOSSES`."""
        return self.definition.name

    def value(
        self,
        chosen_logps: Float[Array, "*n"],
        rejected_logps: Float[Array, "*n"],
        ref_chosen_logps: Float[Array, "*n"] | None = None,
        ref_rejected_logps: Float[Array, "*n"] | None = None,
        chosen_lengths: Float[Array, "*n"] | None = None,
        rejected_lengths: Float[Array, "*n"] | None = None,
    ) -> Float[Array, "*n"]:
        """The loss of each pair, in nats.

        Raises:
          ValueError: shapes differ, a log-probability is positive or not finite, a length is below 1, or an argument
            that this loss needs is missing.
        """
        return self._evaluate(
            chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps, chosen_lengths, rejected_lengths
        ).value

    def weights(
        self,
        chosen_logps: Float[Array, "*n"],
        rejected_logps: Float[Array, "*n"],
        ref_chosen_logps: Float[Array, "*n"] | None = None,
        ref_rejected_logps: Float[Array, "*n"] | None = None,
        chosen_lengths: Float[Array, "*n"] | None = None,
        rejected_lengths: Float[Array, "*n"] | None = None,
    ) -> tuple[Float[Array, "*n"], Float[Array, "*n"]]:
        """(d_chosen, d_rejected) in closed form: descent moves the parameters by η(d_w ∇log π_w − d_l ∇log π_l).

        Raises:
          ValueError: as for `value`.
        """
        outcome = self._evaluate(
            chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps, chosen_lengths, rejected_lengths
        )
        return outcome.d_chosen, outcome.d_rejected

    def autodiff_weights(
        self, chosen_logps: Float[Array, "*n"], rejected_logps: Float[Array, "*n"], *rest: Float[Array, "*n"] | None
    ) -> tuple[Float[Array, "*n"], Float[Array, "*n"]]:
        """(d_chosen, d_rejected) from `value` by automatic differentiation: equal up to round-off, but at extremes."""
        chosen, rejected = (jnp.asarray(x, float) for x in (chosen_logps, rejected_logps))
        one, zero = jnp.ones_like(chosen), jnp.zeros_like(chosen)

        def slope(*along: Array) -> Array:
            return jax.jvp(lambda *logps: self.value(*logps, *rest), (chosen, rejected), along)[1]

        return slope(-one, zero), slope(zero, one)

    def _evaluate(self, *given: Any) -> "_Evaluated":
        arrays = {
            name: _to_array(name, x)
            for name, x in zip(INPUTS, given, strict=True)
            if x is not None or name in INPUTS[:2]
        }
        _check_inputs(arrays)
        chosen, rejected = (
            Side(side, arrays[f"{side}_logps"], arrays.get(f"ref_{side}_logps"), arrays.get(f"{side}_lengths"))
            for side in ("chosen", "rejected")
        )
        for name, value in self.hyper.items():
            if jnp.shape(value) not in ((), chosen.logp.shape):
                raise ValueError(
                    f"`{name}` must be one number, or one per pair {chosen.logp.shape}, got shape {jnp.shape(value)}; "
                    "use `jax.vmap` over the loss to sweep it."
                )
        outcome = self.definition.form(**self.hyper)(chosen, rejected)
        dtype = jnp.result_type(chosen.logp, rejected.logp, *self.hyper.values())
        return _Evaluated(*(jnp.broadcast_to(jnp.asarray(part, dtype), chosen.logp.shape) for part in outcome))

    def __repr__(self) -> str:
        return f"{self.name}({', '.join(f'{name}={value}' for name, value in self.hyper.items())})"


class _Evaluated(NamedTuple):
    """An `Outcome` as arrays over pairs."""

    value: Array
    d_chosen: Array
    d_rejected: Array


def _to_array(name: str, value: Any) -> Array:
    if not isinstance(value, jax.Array):
        value = np.asarray(value)
    if not jnp.issubdtype(value.dtype, jnp.floating) and not jnp.issubdtype(value.dtype, jnp.integer):
        raise ValueError(f"`{name}` must hold real numbers, got dtype {value.dtype}.")
    return jnp.asarray(value)


def _check_inputs(arrays: dict[str, Array]) -> None:
    if len({x.shape for x in arrays.values()}) > 1:
        shapes = ", ".join(f"{name} {x.shape}" for name, x in arrays.items())
        raise ValueError(f"all arrays must share one shape, got {shapes}.")
    for name, x in arrays.items():
        if not is_concrete(x):
            continue
        require_finite(name, x)
        values = np.asarray(x)
        if name.endswith("logps") and (values > 0).any():
            raise ValueError(f"`{name}` must be <= 0 (log-probabilities in nats), got {values.max()}.")
        if name.endswith("lengths") and (values < 1).any():
            raise ValueError(f"`{name}` must be >= 1 (tokens), got {values.min()}.")


@dataclass(frozen=True)
class Definition:
    """A loss without values for its hyperparameters: `LOSSES[name](beta=0.1)` gives a `Loss`."""

    name: str
    form: Callable[..., Form]
    ratio: str  # d_w/d_l, in the notation of the catalogue

    def __post_init__(self) -> None:
        """Let `help` and `?` describe this loss rather than the class."""
        hyper = inspect.signature(self.form).parameters.values()
        parameters = [p.replace(kind=p.KEYWORD_ONLY, annotation=p.empty) for p in hyper]
        about = {
            "__doc__": f"{inspect.getdoc(self.form) or self.name}\n\nd_w/d_l = {self.ratio}",
            "__signature__": inspect.Signature(parameters, return_annotation=Loss),
        }
        for name, value in about.items():
            object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        return f"{self.name}({', '.join(f'{name}={value}' for name, value in self.defaults.items())})"

    @property
    def defaults(self) -> dict[str, float]:
        """Every hyperparameter with its default value."""
        return {name: p.default for name, p in inspect.signature(self.form).parameters.items()}

    def domain(self, name: str) -> Domain:
        """The range of a hyperparameter."""
        found: Domain = get_type_hints(self.form, include_extras=True)[name].__metadata__[0]
        return found

    def __call__(self, **hyper: Scalars) -> Loss:
        """The loss with these hyperparameters, defaults elsewhere; arrays are for `jax.vmap`.

        Raises:
          ValueError: a hyperparameter is unknown or out of range.
        """
        for name in hyper:
            if name not in self.defaults:
                raise ValueError(f"`{self.name}` has no hyperparameter {name!r}; {_suggest_names(name, self.defaults)}")
        values: dict[str, Scalars] = {**self.defaults, **hyper}
        for name, value in values.items():
            domain = self.domain(name)
            if is_concrete(value) and not np.all(domain.holds(_to_number(name, value))):
                raise ValueError(f"`{name}` of `{self.name}` must be {domain.words}, got {value!r}.")
        return Loss(self, values)


def _to_number(name: str, value: Scalars) -> np.ndarray:
    array = np.asarray(value)
    if array.dtype.kind not in "fiu" or isinstance(value, list | tuple):
        raise ValueError(f"`{name}` must be a number, got {value!r}.")
    return array


class Catalogue(dict[str, Definition]):
    """Losses by name. Looking one up also takes its `ALIASES`; iterating gives each loss once."""

    def __missing__(self, name: str) -> Definition:
        """The loss with this alias or spelling.

        Raises:
          ValueError: the name is unknown, or is that of several losses; the message lists these, or similar names.
        """
        names = {plain(known): known for known in self}
        names = {plain(alias): losses for alias, losses in ALIASES.items()} | names
        found = names.get(plain(str(name)), "").split()
        if len(found) == 1:
            return self[found[0]]
        if found:
            raise ValueError(f"{name!r} is the name of several losses; did you mean {_list_names(found)}?")
        raise ValueError(f"there is no loss {name!r}; {_suggest_names(name, self, ALIASES)}")


def _suggest_names(name: Any, known: Iterable[str], aliases: Iterable[str] = ()) -> str:
    """Suggest the names that contain it, or similar ones, or all names that are not aliases."""
    name, names = str(name).lower(), list(known)
    every = [*names, *aliases]
    nearest = [other for other in names if name in other] or difflib.get_close_matches(name, every)
    if nearest:
        return f"did you mean {_list_names(nearest)}?"
    return f"known are {', '.join(names)}." if names else "it takes none."


def _list_names(names: Iterable[str]) -> str:
    return " or ".join(map(repr, names))


#: Every loss by name, as in `LOSSES["dpo"](beta=0.1)`. Other names find it too: `LOSSES["RPO"]`, `LOSSES["sigmoid"]`.
LOSSES = Catalogue()


def loss(*, ratio: str) -> Callable[[Callable[..., Form]], Definition]:
    """Add a loss to `LOSSES` under its function's name.

    The function takes the hyperparameters by name, each annotated with its range (`Positive`, `Fraction`, …) and with
    the field's default, and returns a `Margin` or another function of the two sides.

    Args:
      ratio: d_w/d_l, for tables.

    Raises:
      ValueError: the name is taken, or a hyperparameter lacks a range or a default.
    """

    def enter(form: Callable[..., Form]) -> Definition:
        name = form.__name__
        if name in LOSSES:
            raise ValueError(f"there is a loss {name!r} already.")
        hints = get_type_hints(form, include_extras=True)
        for hyper, parameter in inspect.signature(form).parameters.items():
            metadata = getattr(hints.get(hyper), "__metadata__", ())
            if parameter.default is parameter.empty or not any(isinstance(m, Domain) for m in metadata):
                raise ValueError(
                    f"hyperparameter {hyper!r} of {name!r} needs a range and a default: `beta: Positive = 0.1`."
                )
        LOSSES[name] = Definition(name, form, ratio)
        return LOSSES[name]

    return enter
