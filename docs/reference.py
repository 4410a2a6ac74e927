"""The API reference: one page for each subpackage, made from the docstrings; and the check that nothing is missing.

The pages are made from what Python imports, the check reads the sources, so that each can find the other wrong.
"""

import ast
import importlib
import inspect
import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from published import ROOT
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.pycode import ModuleAnalyzer
from sphinx.util import logging

from toymodel._checks import Domain
from toymodel.losses.aliases import ALIASES
from toymodel.losses.catalogue import Definition

LOGGER = logging.getLogger(__name__)


def modules() -> list[str]:
    """Every module of the package that is not private."""
    paths = sorted((ROOT / "toymodel").rglob("*.py"))
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in paths]
    return [name for name in names if not re.search(r"\._", name)]


def definitions(module: str) -> Iterator[tuple[str, str | None]]:
    """Name and docstring of every public function and class that a module's source defines."""
    file = ROOT / f"{module.replace('.', '/')}.py"
    source = file if file.is_file() else ROOT / module.replace(".", "/") / "__init__.py"
    for node in ast.parse(source.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield node.name, ast.get_docstring(node)


# --- The pages ------------------------------------------------------------------------------------------------------


def write(folder: Path) -> None:
    """A page for each subpackage, and one for the modules beside them."""
    packages = [name for name in modules() if (ROOT / name.replace(".", "/")).is_dir()]
    for package in packages:
        inside = [
            name for name in modules() if name.startswith(f"{package}.") and name.count(".") == package.count(".") + 1
        ]
        sections = [_section(package, package)]
        sections += [_section(name, package) for name in inside if name not in packages]
        page = folder / f"api_{package.rpartition('.')[2]}.rst"
        page.write_text("\n".join([_heading(package, "="), *sections]), encoding="utf-8")


def _section(module: str, package: str) -> str:
    found = importlib.import_module(module)
    title = [] if module == package else [_heading(module, "-")]
    return "\n".join([*title, f".. automodule:: {module}", "", *_entries(found, importlib.import_module(package))])


def _entries(module: ModuleType, package: ModuleType) -> Iterator[str]:
    """What a module defines, under the name that a user imports it by."""
    found = ModuleAnalyzer.for_module(module.__name__).find_attr_docs()
    comments = {name: lines for (scope, name), lines in found.items() if not scope}
    named = {name: getattr(module, name) for name in getattr(module, "__all__", ())}  # some are loaded when used
    for name, value in (vars(module) | named).items():
        definer = value.form if isinstance(value, Definition) else value
        definer_module = str(getattr(definer, "__module__", ""))
        # What a private module defines is told of where it is offered.
        here = definer_module == module.__name__ or (name in named and "._" in definer_module)
        domain = _domain(value) if module is package and name in getattr(module, "__all__", ()) else None
        if name.startswith("_") or not (here or domain or name in comments):
            continue
        offered = [p for p in (package, importlib.import_module("toymodel")) if name in getattr(p, "__all__", ())]
        home = (offered or [module])[-1].__name__
        if f"{home}.{name}" in modules():  # `toymodel.diagnose` is a module as well
            home = module.__name__
        if domain:
            yield _described("data", name, home, [f"A number, {domain.words}."])
        elif name in comments:
            yield _described("data", name, home, comments[name])
        elif isinstance(value, Definition):
            # A loss is entered under its function's name: shown with the hyperparameters it is called with.
            call = ", ".join(f"{key}={default}" for key, default in value.defaults.items())
            words = [*(inspect.getdoc(value.form) or "").splitlines(), "", f"d_w/d_l = ``{value.ratio}``"]
            words += _other_names(name)
            yield _described("function", f"{name}({call})", home, words)
        elif inspect.isclass(value):
            yield f".. autoclass:: {home}.{name}\n   :members:\n"
        elif inspect.isroutine(value):
            yield f".. autofunction:: {home}.{name}\n"


def _other_names(loss: str) -> list[str]:
    """A paragraph of the names besides its own under which `LOSSES` finds a loss, or mentions it beside others."""
    also = []
    for alias, names in ALIASES.items():
        others = [f"`{other}`" for other in names.split() if other != loss]
        if loss in names.split():
            also.append(f"“{alias}”" + (f" (which may also mean {', '.join(others)})" if others else ""))
    return ["", f"Also called {', '.join(also)}."] if also else []


def _domain(value: Any) -> Domain | None:
    """The range that a name such as `Positive` stands for."""
    return next((part for part in (value, *getattr(value, "__metadata__", ())) if isinstance(part, Domain)), None)


def _described(kind: str, signature: str, module: str, words: Iterable[str]) -> str:
    """An entry whose words autodoc does not find."""
    return "\n".join(
        [f".. py:{kind}:: {signature}", f"   :module: {module}", "", *(f"   {line}" for line in words), ""]
    )


def _heading(text: str, line: str) -> str:
    return f"{text}\n{line * len(text)}\n"


# --- The check ------------------------------------------------------------------------------------------------------


def undocumented(objects: set[str]) -> Iterator[str]:
    """What is public and has no docstring, or no place among the documented `objects`."""
    homes = {_home(name) for name in objects}
    for module in modules():
        for name, words in definitions(module):
            if not words:
                yield f"{module}.{name} has no docstring"
            if f"{module}.{name}" not in homes:
                yield f"{module}.{name} is not in the API reference"
        for name in getattr(importlib.import_module(module), "__all__", ()):
            if not name.startswith("_") and _home(f"{module}.{name}") not in homes:
                yield f"{module}.{name} is in `__all__` and not in the API reference"


def _home(name: str) -> Any:
    """The one name of a function, class or module, wherever it was imported from; other values are themselves."""
    value = _imported(name)
    if isinstance(value, ModuleType):
        return value.__name__
    value = value.form if isinstance(value, Definition) else value
    if hasattr(value, "__qualname__"):
        return f"{value.__module__}.{value.__qualname__}"
    return id(value)


@cache
def _imported(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        parent, _, last = name.rpartition(".")
        return getattr(_imported(parent), last, None)


def _check(_app: Sphinx, env: BuildEnvironment) -> None:
    for complaint in undocumented(set(env.domains["py"].objects)):
        LOGGER.warning("%s", complaint)


# --- Docstrings -----------------------------------------------------------------------------------------------------


def _as_written(_app: Sphinx, _what: str, _name: str, _value: Any, _options: Any, lines: list[str]) -> None:
    """Paragraphs laid out in columns are shown as they stand; elsewhere a bar is a bar, as in |x|."""
    paragraphs = re.split(r"\n{2,}", "\n".join(lines))
    shown = []
    for paragraph in paragraphs:
        rows = paragraph.splitlines()
        columns = len(rows) > 1 and all(re.search(r"\S {2,}\S", row) for row in rows)
        shown.append("::\n\n" + "\n".join(f"   {row}" for row in rows) if columns else _escaped(paragraph))
    lines[:] = "\n\n".join(shown).splitlines()


def _escaped(text: str) -> str:
    return re.sub(r"(`[^`]*`)|\||(?<=\[)\*", lambda found: found[1] or f"\\{found[0]}", text)


def _signature(*event: Any) -> tuple[str | None, str | None]:
    """Arrays by the name they are imported by; a default that has no name is left out."""
    *_, arguments, returned = event
    if arguments:
        arguments = re.sub(r"<function (\w+)>", r"\1", arguments)
        arguments = re.sub(r"<[\w. ]+(<lambda>)?>", "...", arguments)
    arrays = re.compile(r"\b(jaxlib\._jax|numpy)\.(?=Array|ndarray)")
    return arguments and arrays.sub("", arguments), returned and arrays.sub("", returned)


def _skip(_app: Sphinx, _what: str, _name: str, value: Any, skip: bool, _options: Any) -> bool | None:
    """Fields of named tuples say no more than the signature does."""
    return True if str(getattr(value, "__doc__", "")).startswith("Alias for field number") else skip


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", _as_written)
    app.connect("autodoc-process-signature", _signature)
    app.connect("autodoc-skip-member", _skip)
    app.connect("env-check-consistency", _check)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
