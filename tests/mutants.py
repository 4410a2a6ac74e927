"""Random mutants of the package: does any test notice? A tool, not collected: `python tests/mutants.py 200 --seed 1`.

Each mutant changes one place of one file in theory, gradients, losses, training, remedies, data or diagnosis: an
operator, a comparison, a number, an index, a default, a branch. It lives in a copy of the package, which alone the
tests then import. Only the modules of tests that concern the mutated one run (`TESTS`), from the cheapest on, until one
fails: seconds for a mutant. A survivor is shown with its place: some change nothing that anyone could see, the others
want a test.
"""

import argparse
import ast
import os
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = ("theory", "gradients", "losses", "training", "remedies", "data", "diagnosis")
ALL = {  # for every module of the folder, after its own
    "theory": ("domains", "theory_meets_measurement"),
    "gradients": ("factored", "transformer", "theory_meets_measurement"),
    "losses": ("losses", "golden_losses", "losses_extreme"),
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
    "gradients/built": ("preconditioned", "torch_gradients"),
    "losses/supervised": ("supervised",),
    "training/accounting": ("account",),
    "training/additive": ("account",),
    "training/sources": ("account",),
    "remedies/common_step": ("common_step",),
    "remedies/split": ("remedies", "modified"),
    "data/sentiment": ("sentiment",),
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
        return len(node.args) >= 2 and not any(isinstance(arg, ast.Starred) for arg in node.args[:2])
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


def survives(package: Path, tests: list[str], limit: float) -> bool:
    """Whether all tests pass with the package in this folder."""
    environment = os.environ | {
        "PYTHONPATH": str(package),
        "HYPOTHESIS_PROFILE": "ci",
        "JAX_PLATFORMS": "cpu",
        "JAX_ENABLE_X64": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    command = [sys.executable, "-m", "pytest", "-q", "-x", "--no-header", "-p", "no:cacheprovider"]
    command += ["-o", f"pythonpath={package} {ROOT / 'tests'} {ROOT}"]  # the mutant is found first
    for test in tests:
        try:
            done = subprocess.run(
                [*command, "--rootdir", str(ROOT), "-c", str(ROOT / "pyproject.toml"), test],
                cwd=package,
                env=environment,
                capture_output=True,
                timeout=limit,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return False  # it no longer ends
        if done.returncode:
            return False
    return True


def main() -> None:
    """Make mutants, and tell which ones survive."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mutants", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=float, default=900, help="seconds that a module of tests may take")
    options = parser.parse_args()
    rng = random.Random(options.seed)
    files = [path for folder in FOLDERS for path in sorted((ROOT / "toymodel" / folder).glob("*.py"))]
    sites = [(path, index) for path in files for index in range(len(places(ast.parse(path.read_text()))))]
    killed = 0
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder)
        shutil.copytree(ROOT / "toymodel", package / "toymodel", ignore=shutil.ignore_patterns("__pycache__"))
        for number, (path, index) in enumerate(rng.sample(sites, options.mutants), start=1):
            copy = package / path.relative_to(ROOT)
            tree = ast.parse(path.read_text())
            node = places(tree)[index]
            before = ast.unparse(node)
            mutate(node)
            copy.write_text(ast.unparse(ast.fix_missing_locations(tree)))
            alive = survives(package, tests_of(path), options.limit)
            shutil.copy(path, copy)
            killed += not alive
            where = f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', '?')}"
            told = f"{'SURVIVED' if alive else 'killed'} {where}: {before}  ->  {ast.unparse(node)}"
            print(f"[{number}/{options.mutants}] {told}", flush=True)
    print(f"{options.mutants} mutants, {killed} killed, {options.mutants - killed} survived")


if __name__ == "__main__":
    main()
