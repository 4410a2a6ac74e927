"""What a stored result or a figure depends on: the modules it imports, transitively, as code and not as text.

Modules are read, not imported. Comments, docstrings and layout do not count. Of the catalogue of losses, a definition
counts when its name stands somewhere as a word: a loss that is added changes no result but its own.
"""

import ast
import hashlib
import inspect
import sys
from collections.abc import Callable, Iterable
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

PACKAGES = ("jax", "jaxlib", "numpy", "optax")  # besides our own code, what decides the digits
ROOT = Path(__file__).parents[2]  # the folder that holds `toymodel`
CATALOGUE = ROOT / "toymodel" / "losses"
RUNS = ROOT / "toymodel" / "sweep" / "program.py"  # runs every experiment


class Source(NamedTuple):
    """A module as code."""

    body: tuple[str, ...]  # its statements, without docstrings
    entries: dict[str, tuple[str, frozenset[str]]]  # losses it defines: their code, and the names they use
    words: frozenset[str]  # that stand in it as strings
    takes_all: bool  # it uses the catalogue of losses other than entry by entry
    imports: frozenset[Path]


def code_hash(measure: Callable[..., Any], words: Iterable[str] = (), also: str = "") -> str:
    """Hash of the code behind a function of an experiment, and of the packages underneath.

    Args:
      words: of the setting: a loss among them counts, another one does not.
      also: another hash that it depends on.
    """
    module = sys.modules[measure.__module__]
    file = getattr(module, "__file__", None)
    start = [Path(file).resolve()] if file and Path(file).is_file() else []
    text = "" if start else inspect.getsource(measure)  # of a notebook's cell
    modules = dependencies(*start, RUNS) if start else tuple(sorted((ROOT / "toymodel").rglob("*.py")))
    packages = repr([version(package) for package in PACKAGES])
    return hash_of(modules, words, packages + also + text)


def dependencies(*files: Path) -> tuple[Path, ...]:
    """The files of these modules and of all that they import, of this package and of the packages the files lie in."""
    found: set[Path] = set()
    waiting = [file.resolve() for file in files]
    while waiting:
        file = waiting.pop()
        if file not in found:
            found.add(file)
            waiting += read(file).imports
    return tuple(sorted(found))


def hash_of(
    modules: Iterable[Path], words: Iterable[str] = (), also: str = "", *, whole_catalogue: bool = False
) -> str:
    """Hash of modules: their code, and the losses that the modules or these words name.

    Args:
      whole_catalogue: every loss counts where a module outside this package takes the catalogue as a whole.
    """
    sources = {file: read(file) for file in modules}
    outside = [source for file, source in sources.items() if CATALOGUE not in file.parents]
    named = set(words).union(*(source.words for source in outside))
    if whole_catalogue and any(s.takes_all for f, s in sources.items() if ROOT / "toymodel" not in f.parents):
        named |= {entry for source in sources.values() for entry in source.entries}
    parts = sorted(_digest(source, named) for source in sources.values())  # in no order of folders
    return hashlib.sha256("\n".join([also, *parts]).encode()).hexdigest()


def _digest(source: Source, named: set[str]) -> str:
    """Hash of a module without the losses that are not named; those that a named one uses are."""
    waiting, taken = [entry for entry in source.entries if entry in named], set[str]()
    while waiting:
        entry = waiting.pop()
        if entry not in taken:
            taken.add(entry)
            waiting += source.entries[entry][1] & source.entries.keys()
    code = [*source.body, *(source.entries[entry][0] for entry in sorted(taken))]
    return hashlib.sha256("\n".join(code).encode()).hexdigest()


def read(file: Path) -> Source:
    """A module as code; read anew only when it has changed."""
    stat = file.stat()
    return _read(file, stat.st_mtime_ns, stat.st_size)


@cache
def _read(file: Path, _mtime: int, _size: int) -> Source:
    text = file.read_text(encoding="utf-8")
    if file.suffix != ".py":
        return Source((text,), {}, frozenset(), False, frozenset())
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(body := getattr(node, "body", None), list):
            node.body = [  # type: ignore[attr-defined]
                part for part in body if not (isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant))
            ]
    in_catalogue = CATALOGUE in file.parents
    entries = {
        node.name: (ast.dump(node), frozenset(n.id for n in ast.walk(node) if isinstance(n, ast.Name)))
        for node in tree.body
        if in_catalogue and isinstance(node, ast.FunctionDef) and any(map(_enters_a_loss, node.decorator_list))
    }
    body = tuple(ast.dump(node) for node in tree.body if getattr(node, "name", None) not in entries)
    nodes = list(ast.walk(tree))
    words = {n.value for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str)}
    words |= {alias.name for n in nodes if isinstance(n, ast.ImportFrom) for alias in n.names}
    by_entry = {id(n.value) for n in nodes if isinstance(n, ast.Subscript) and isinstance(n.slice, ast.Constant)}
    takes_all = any(isinstance(n, ast.Name) and n.id == "LOSSES" and id(n) not in by_entry for n in nodes)
    imports = frozenset((*_imports(nodes, file), *_data(words, file)))
    return Source(body, entries, frozenset(words), takes_all, imports)


def _enters_a_loss(decorator: ast.expr) -> bool:
    called = decorator.func if isinstance(decorator, ast.Call) else decorator
    return isinstance(called, ast.Name) and called.id == "loss"


def _imports(nodes: list[ast.AST], file: Path) -> Iterable[Path]:
    """The files of the modules that a module imports: of this package, of its own package, or beside it."""
    for name in _imported_names(nodes):
        parts = name.split(".")
        for folder in _folders(file, parts[0]):
            for depth in range(1, len(parts) + 1):  # a package's `__init__` runs before its modules
                place = folder.joinpath(*parts[:depth])
                candidates = (place.parent / f"{place.name}.py", place / "__init__.py")
                yield from (candidate.resolve() for candidate in candidates if candidate.is_file())
                stub = place / "__init__.pyi"  # of a package that loads its names when they are used
                if stub.is_file() and depth < len(parts):
                    yield from _behind_stub(stub, parts[depth])


def _imported_names(nodes: list[ast.AST]) -> set[str]:
    """Dotted names of what a module imports, with the attributes that it takes from a module it imports whole."""
    names, modules = set[str](), dict[str, str]()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
            modules |= {alias.asname or alias.name: alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    for node in nodes:
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules:
            names.add(f"{modules[node.value.id]}.{node.attr}")
    return names


@cache
def _behind_stub(stub: Path, name: str) -> tuple[Path, ...]:
    """The file that a name comes from, where a package's stub says so."""
    for node in ast.parse(stub.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom) and node.module and name in {alias.name for alias in node.names}:
            place = stub.parent.joinpath(*node.module.split("."))
            candidates = (place.parent / f"{place.name}.py", place / "__init__.py")
            return tuple(candidate.resolve() for candidate in candidates if candidate.is_file())
    return ()


@cache
def _folders(file: Path, package: str) -> tuple[Path, ...]:
    """Where to look for a package that a file imports; among installed packages only for this one and its own."""
    top = file.parent
    while (top / "__init__.py").is_file():
        top = top.parent
    own = {"toymodel": ROOT, file.relative_to(top).parts[0]: top}
    beside = (folder for folder in (ROOT, file.parent) if "site-packages" not in folder.parts)
    return tuple(dict.fromkeys((*([own[package]] if package in own else []), *beside)))


def _data(words: Iterable[str], file: Path) -> Iterable[Path]:
    """TOML files beside a module that it names."""
    return (file.parent / word for word in words if word.endswith(".toml") and (file.parent / word).is_file())
