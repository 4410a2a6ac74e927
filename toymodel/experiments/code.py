"""What a stored result or a figure depends on: the code of the modules it imports, transitively.

Modules are read, not imported. Comments, docstrings and layout do not count. A definition in the catalogue of losses
counts only if its name occurs as a word: adding a loss changes no result but its own.
"""

import ast
import hashlib
import inspect
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from toymodel._public import own_names

__dir__ = own_names(globals())

PACKAGES = ("jax", "jaxlib", "numpy", "optax")  # besides our own code, what decides the digits
ROOT = Path(__file__).parents[2]  # the folder that holds `toymodel`
CATALOGUE = ROOT / "toymodel" / "losses"
RUNS = ROOT / "toymodel" / "sweep" / "program.py"  # runs every experiment


class Entry(NamedTuple):
    """A loss of the catalogue, or another name of one."""

    code: str
    uses: frozenset[str]  # names that it uses, among them those of other entries
    is_loss: bool


class Source(NamedTuple):
    """A module as code."""

    body: str  # hash of its statements, without docstrings and entries
    entries: dict[str, Entry]
    words: frozenset[str]  # outside the catalogue: that stand in it as strings or are imported, as `_plain` has them
    takes_all: bool  # outside this package: it uses the catalogue of losses other than entry by entry
    imports: frozenset[Path]


def sources_of(measure: Callable[..., Any]) -> dict[Path, Source]:
    """The code behind a function of an experiment, as its files are now."""
    file = getattr(sys.modules[measure.__module__], "__file__", None)
    if file and Path(file).is_file():
        return dependencies(Path(file), RUNS)
    cell = Source(_hash(inspect.getsource(measure)), {}, frozenset(), False, frozenset())  # of a notebook
    return {path: read(path) for path in sorted((ROOT / "toymodel").rglob("*.py"))} | {Path(): cell}


def code_hash(sources: Mapping[Path, Source], words: Iterable[str] = (), also: str = "") -> str:
    """Hash of the code behind an experiment, and of the packages underneath.

    Args:
      words: of the setting; only losses that are named among them count.
      also: another hash that it depends on.
    """
    return hash_of(sources, words, repr([version(package) for package in PACKAGES]) + also)


def dependencies(*files: Path) -> dict[Path, Source]:
    """These modules and all that they import from this package and from the packages of these files."""
    found: dict[Path, Source] = {}
    waiting = [file.resolve() for file in files]
    while waiting:
        file = waiting.pop()
        if file not in found:
            found[file] = read(file)
            waiting += found[file].imports
    return found


def hash_of(
    sources: Mapping[Path, Source], words: Iterable[str] = (), also: str = "", *, whole_catalogue: bool = False
) -> str:
    """Hash of modules: their code, and the losses that the modules or these words name.

    Args:
      whole_catalogue: every loss counts if a module outside this package uses the whole catalogue.
    """
    entries = {name: entry for source in sources.values() for name, entry in source.entries.items()}
    named = set(map(_plain, words)).union(*(source.words for source in sources.values()))
    everything = whole_catalogue and any(source.takes_all for source in sources.values())
    waiting = [name for name, entry in entries.items() if _plain(name) in named or (everything and entry.is_loss)]
    taken = set[str]()
    while waiting:
        name = waiting.pop()
        if name not in taken:
            taken.add(name)
            waiting += entries[name].uses & entries.keys()
    parts = sorted(  # in no order of folders
        "\n".join([source.body, *(entry.code for name, entry in sorted(source.entries.items()) if name in taken)])
        for source in sources.values()
    )
    return _hash("\n\n".join([also, *parts]))


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def read(file: Path) -> Source:
    """A module as code; read again only if it has changed."""
    stat = file.stat()
    return _read(file, stat.st_mtime_ns, stat.st_size)


@cache
def _read(file: Path, _mtime: int, _size: int) -> Source:
    text = file.read_text(encoding="utf-8")
    if file.suffix != ".py":
        return Source(_hash(text), {}, frozenset(), False, frozenset())
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(body := getattr(node, "body", None), list):
            node.body = [  # type: ignore[attr-defined]
                part for part in body if not (isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant))
            ]
    in_catalogue, in_package = CATALOGUE in file.parents, ROOT / "toymodel" in file.parents
    entries = dict(_entries(tree)) if in_catalogue else {}
    body = _hash("\n".join(map(ast.dump, tree.body)))
    nodes = list(ast.walk(tree))
    words = {n.value for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str)}
    imports = frozenset((*_imports(nodes, file), *_data(words, file)))
    words |= {alias.name for n in nodes if isinstance(n, ast.ImportFrom) for alias in n.names}
    named = frozenset() if in_catalogue else frozenset(map(_plain, words))
    by_entry = {id(n.value) for n in nodes if isinstance(n, ast.Subscript) and isinstance(n.slice, ast.Constant)}
    whole = any(isinstance(n, ast.Name) and n.id == "LOSSES" and id(n) not in by_entry for n in nodes)
    return Source(body, entries, named, whole and not in_package, imports)


def _entries(tree: ast.Module) -> Iterable[tuple[str, Entry]]:
    """The losses and aliases that a module of the catalogue defines, taken out of its body."""
    for node in list(tree.body):
        if isinstance(node, ast.FunctionDef) and any(map(_enters_a_loss, node.decorator_list)):
            tree.body.remove(node)
            uses = frozenset(n.id for n in ast.walk(node) if isinstance(n, ast.Name))
            yield node.name, Entry(ast.dump(node), uses, True)
        elif isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Dict) and node.value.keys:
            pairs = [*zip(node.value.keys, node.value.values, strict=True)]
            if all(isinstance(n, ast.Constant) and isinstance(n.value, str) for pair in pairs for n in pair):
                tree.body.remove(node)
                for name, losses in ast.literal_eval(node.value).items():
                    yield name, Entry(f"{name}: {losses}", frozenset(losses.split()), False)


def _enters_a_loss(decorator: ast.expr) -> bool:
    called = decorator.func if isinstance(decorator, ast.Call) else decorator
    return isinstance(called, ast.Name) and called.id == "loss"


def _plain(name: str) -> str:
    """A name as `LOSSES` looks it up: in lower case without separators."""
    return re.sub(r"[-_+\s]", "", name.lower())


def _imports(nodes: list[ast.AST], file: Path) -> Iterable[Path]:
    """The files of the modules that a module imports: of this package, of its own package, or beside it."""
    names, bound = set[str](), dict[str, str]()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
            bound |= {
                a.asname or a.name.partition(".")[0]: a.name if a.asname else a.name.partition(".")[0]
                for a in node.names
            }
        elif isinstance(node, ast.ImportFrom):
            module = ".".join([*_package(file, node.level), *filter(None, [node.module])])
            names |= {f"{module}.{alias.name}" for alias in node.names}
            bound |= {alias.asname or alias.name: f"{module}.{alias.name}" for alias in node.names}
    for node in nodes:  # what is taken from modules that are imported whole
        base: ast.AST = node
        attributes = list[str]()
        while isinstance(base, ast.Attribute):
            attributes.insert(0, base.attr)
            base = base.value
        if attributes and isinstance(base, ast.Name) and base.id in bound:
            names.add(".".join([bound[base.id], *attributes]))
    for name in names:
        for folder in _folders(file, name.partition(".")[0]):
            yield from _behind(folder, name)


def _package(file: Path, level: int) -> tuple[str, ...]:
    """The package that a number of leading dots means in a file."""
    return file.parents[level - 1].relative_to(_top(file)).parts if level else ()


def _behind(folder: Path, name: str) -> Iterable[Path]:
    """The files that run when a dotted name is imported from a folder."""
    first, _, rest = name.partition(".")
    place = folder / first
    yield from _module(place)  # a package's `__init__` runs before its modules
    if rest and place.is_dir():
        if (stub := place / "__init__.pyi").is_file():  # loads its names when they are used
            second = rest.partition(".")[0]
            if module := _modules_by_name(stub, stub.stat().st_mtime_ns).get(second):
                yield from _behind(place, f"{module}.{second}")
        yield from _behind(place, rest)


@cache
def _modules_by_name(stub: Path, _mtime: int) -> dict[str, str]:
    imports = (node for node in ast.parse(stub.read_text(encoding="utf-8")).body if isinstance(node, ast.ImportFrom))
    return {alias.name: node.module for node in imports if node.module for alias in node.names}


def _module(place: Path) -> Iterable[Path]:
    candidates = (place.parent / f"{place.name}.py", place / "__init__.py")
    return (candidate.resolve() for candidate in candidates if candidate.is_file())


def _top(file: Path) -> Path:
    """The folder that holds a module, or the package that it is in."""
    top = file.parent
    while (top / "__init__.py").is_file():
        top = top.parent
    return top


@cache
def _folders(file: Path, package: str) -> tuple[Path, ...]:
    """Where to look for a package that a file imports; among installed packages only for this one and its own."""
    top = _top(file)
    own = {"toymodel": ROOT, file.relative_to(top).parts[0]: top}
    beside = (folder for folder in (ROOT, file.parent) if "site-packages" not in folder.parts)
    return tuple(dict.fromkeys((*([own[package]] if package in own else []), *beside)))


def _data(words: Iterable[str], file: Path) -> Iterable[Path]:
    """TOML files beside a module that it names."""
    return (file.parent / word for word in words if word.endswith(".toml") and (file.parent / word).is_file())
