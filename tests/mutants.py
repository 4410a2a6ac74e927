"""Random mutants of the package: does any test notice? A tool, not collected: `python tests/mutants.py 200 --seed 1`.

Each mutant changes one place of one file in theory, gradients, losses, training, remedies, data or diagnosis: an
operator, a comparison, a number, an index, a default, a branch. It lives in a copy of the package, which alone the
tests then import. Only the modules of tests that concern the mutated one run (`TESTS`), from the cheapest on, until one
fails: seconds for a mutant. A survivor is shown with its place: some change nothing that anyone could see, the others
want a test.
"""

import os

# Before JAX reads them. Machine code that is not optimised is there sooner.
os.environ.setdefault("HYPOTHESIS_PROFILE", "ci")
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")
os.environ |= {"JAX_PLATFORMS": "cpu", "JAX_ENABLE_X64": "1", "PYTHONDONTWRITEBYTECODE": "1"}

import argparse
import ast
import multiprocessing
import random
import re
import resource
import shutil
import sys
import tempfile
from pathlib import Path

# Imported once, for all mutants: each is tested by a fork of this process, which has not imported the package.
import jax  # noqa: F401
import optax  # noqa: F401
import polars  # noqa: F401
import pytest
import scipy.stats  # noqa: F401

sys.dont_write_bytecode = True
ROOT = Path(__file__).parents[1]
FOLDERS = ("theory", "gradients", "losses", "training", "remedies", "data", "diagnosis")
ALL = {  # for every module of the folder, after its own
    "theory": ("domains", "theory_meets_measurement"),
    "gradients": ("factored", "transformer", "theory_meets_measurement"),
    "losses": ("losses", "golden_losses", "losses_extreme", "errors"),
    "training": ("training",),
    "remedies": ("remedies",),
    "data": ("pairs", "families", "errors"),
    "diagnosis": ("diagnose", "log_verdicts", "log_files", "cli"),
}
OWN = {  # of single modules, where the name of the tests is not that of the module
    "theory/account": ("account",),
    "theory/overlap": ("theory_meets_measurement", "geometry"),
    "theory/remedies": ("remedy_theory",),
    "theory/suffix": ("theory_meets_measurement",),
    "gradients/preconditioned": ("preconditioned",),
    "gradients/built": ("preconditioned", "groups", "torch_gradients"),
    "losses/supervised": ("supervised",),
    "training/accounting": ("account",),
    "training/additive": ("account",),
    "training/sources": ("account",),
    "remedies/common_step": ("common_step",),
    "remedies/split": ("remedies", "modified"),
    "data/pairs": ("pairs", "shell"),
    "data/sentiment": ("sentiment", "network_figures"),
    "data/packages": ("packages",),
    "diagnosis/gradients": ("diagnose",),
    "diagnosis/trend": ("log_verdicts",),
    "diagnosis/text": ("log_files",),
    "diagnosis/columns": ("log_files",),
    "diagnosis/health": ("log_rates", "log_verdicts"),
}
SWAPS: dict[type, type] = {
    **{ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.Pow: ast.Mult},
    **{ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq},
    **{ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.And: ast.Or, ast.Or: ast.And},
    **{ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In},
}


def places(tree: ast.Module) -> list[ast.AST]:
    """The nodes that `mutate` can change: not in docstrings, messages or annotations."""
    skipped: set[int] = set()
    for node in ast.walk(tree):
        parts: list[ast.AST | None] = []
        if isinstance(node, ast.Raise | ast.JoinedStr | ast.Import | ast.ImportFrom | ast.Assert):
            parts = [node]
        elif isinstance(node, ast.AnnAssign | ast.arg):
            parts = [node.annotation]
        elif isinstance(node, ast.FunctionDef):
            parts = [node.returns]
        for part in parts:
            skipped |= {id(inner) for inner in ast.walk(part)} if part is not None else set()
    return [node for node in ast.walk(tree) if id(node) not in skipped and _can_change(node)]


def _can_change(node: ast.AST) -> bool:
    if isinstance(node, ast.BinOp):
        return type(node.op) in SWAPS
    if isinstance(node, ast.BoolOp):
        return True
    if isinstance(node, ast.Compare):
        return type(node.ops[0]) in SWAPS
    if isinstance(node, ast.UnaryOp):
        return isinstance(node.op, ast.USub | ast.Not)
    if isinstance(node, ast.Call):  # two arguments exchanged
        first = [ast.dump(arg) for arg in node.args[:2] if not isinstance(arg, ast.Starred)]
        return len(set(first)) == 2
    return isinstance(node, ast.Constant) and isinstance(node.value, int | float)


def mutate(node: ast.AST) -> None:
    """Change one node in place."""
    match node:
        case ast.BinOp() | ast.BoolOp():
            node.op = SWAPS[type(node.op)]()
        case ast.Compare():
            node.ops[0] = SWAPS[type(node.ops[0])]()
        case ast.UnaryOp():
            if isinstance(node.op, ast.USub):
                node.op = ast.UAdd()
            else:
                node.operand = ast.UnaryOp(ast.Not(), node.operand)
        case ast.Call():
            node.args[:2] = node.args[1::-1]
        case ast.Constant(value=bool(value)):
            node.value = not value
        case ast.Constant(value=int(value)):
            node.value = value + 1
        case ast.Constant(value=float(value)):
            node.value = 2 * value if value else 1.0


def tests_of(path: Path) -> list[str]:
    """The test modules for a module, its own first."""
    folder, name = path.parent.name, path.stem
    own = OWN.get(f"{folder}/{name}", (name,))
    modules = [ROOT / "tests" / f"test_{module}.py" for module in (*own, *ALL[folder])]
    return [str(module) for module in dict.fromkeys(modules) if module.exists()]


def run_tests(package: Path, tests: list[str], seconds: int) -> None:
    """In a process of its own: the tests import the package in this folder; the exit status is pytest's."""
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    with (package / "output").open("w") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    os.chdir(package)
    command = ["-q", "-x", "--no-header", "--tb=no", "-p", "no:cacheprovider", "--rootdir", str(ROOT)]
    command += ["-c", str(ROOT / "pyproject.toml"), "-o", f"pythonpath={package} {ROOT / 'tests'} {ROOT}", *tests]
    raise SystemExit(pytest.main(command, plugins=[GivenOrder(tests)]))


class GivenOrder:
    """Tests run in the order of their modules on the command line, whatever conftest.py prefers."""

    def __init__(self, tests: list[str]):
        self.tests = tests

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items.sort(key=lambda item: self.tests.index(str(item.path)))


def killer(package: Path, tests: list[str], seconds: int) -> str:
    """The first test that fails with the package in this folder, or how it ended otherwise. "" if all pass."""
    child = multiprocessing.get_context("fork").Process(target=run_tests, args=(package, tests, seconds))
    child.start()
    child.join(20 * seconds)  # it may wait for something, which takes no CPU
    if child.is_alive():
        child.kill()
        return "no end"
    if not child.exitcode:
        return ""
    if child.exitcode < 0:
        return f"signal {-child.exitcode}"
    output = (package / "output").read_text()
    found = re.search(r"^(?:FAILED|ERROR) (?:.*/)?(\S+)", output, re.MULTILINE)
    if found is None:
        raise RuntimeError(f"the tests did not run:\n{output}")
    return found[1]


def main() -> None:
    """Make mutants, and tell which ones survive."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mutants", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--limit", type=int, default=400, help="seconds of CPU time that the tests of a mutant may take"
    )
    parser.add_argument("--log", type=Path, default=Path(os.devnull), help="results; those already in it are kept")
    options = parser.parse_args()
    rng = random.Random(options.seed)
    files = [path for folder in FOLDERS for path in sorted((ROOT / "toymodel" / folder).glob("*.py"))]
    sites = [(path, index) for path in files for index in range(len(places(ast.parse(path.read_text()))))]
    lines = options.log.read_text().splitlines() if options.log.is_file() else []
    verdicts = {what: verdict for verdict, _, what in (line.partition(" ") for line in lines)}
    made = []
    with tempfile.TemporaryDirectory() as folder, options.log.open("a") as log:
        package = Path(folder)
        shutil.copytree(ROOT / "toymodel", package / "toymodel", ignore=shutil.ignore_patterns("__pycache__"))
        os.environ["PYTHONPATH"] = str(package)  # for tests that start processes
        for path, index in rng.sample(sites, options.mutants):
            copy = package / path.relative_to(ROOT)
            tree = ast.parse(path.read_text())
            node = places(tree)[index]
            what = f"{path.relative_to(ROOT)}:{node.lineno}:{node.col_offset}: {ast.unparse(node)}  ->  "
            mutate(node)
            what += ast.unparse(node)
            if what not in verdicts:
                copy.write_text(ast.unparse(ast.fix_missing_locations(tree)))
                by = killer(package, tests_of(path), options.limit)
                shutil.copy(path, copy)
                verdicts[what] = "killed" if by else "SURVIVED"
                print(f"[{len(made) + 1}/{options.mutants}] {verdicts[what]} {what}", f"({by})" * bool(by), flush=True)
                print(verdicts[what], what, file=log, flush=True)
            made.append(verdicts[what])
    print(f"{len(made)} mutants, {made.count('killed')} killed, {made.count('SURVIVED')} survived")


if __name__ == "__main__":
    main()
