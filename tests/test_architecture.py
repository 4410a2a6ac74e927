"""Imports only ever point up the data flow, and prediction and measurement never meet inside the package."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import toymodel

PACKAGE = Path(toymodel.__file__).parent
# Folders, and the files of each, in the order of the data flow: a module may import from those in rows above its own,
# and from folders above its own. Modules in one row, and the two folders in one row, do not know each other.
FOLDERS = [
    {
        "": [{"_checks", "_files", "_public", "_pytree", "_texts", "_version"}, {"gram"}],
    },
    {"data": [{"packages", "vocabulary"}, {"pairs"}, {"families", "sentiment", "tweets"}, {"answers"}]},
    {
        "models": [
            {"logps"},
            {"linear", "stages"},
            {"crowd", "flat", "llama", "mlp", "readout", "suffix", "transformer"},
            {"checkpoint", "partial", "unconstrained"},
            {"pretrained"},
        ]
    },
    {
        "losses": [
            {"aliases", "form", "supervised"},
            {"pieces", "catalogue"},
            {"margins", "per_response", "reference_free"},
        ]
    },
    {
        "gradients": [{"backward", "products"}, {"built", "factored"}, {"preconditioned"}, {"inner_products"}],
        "theory": [
            {"_domains"},
            {"common_step", "condition", "geometry", "overlap"},
            {"finite_step", "flow", "groups", "modified", "remedies", "suffix"},
            {"crowd"},
            {"account", "mass"},
        ],
    },
    {
        "training": [
            {"vectorise", "arguments", "trajectory", "step", "additive"},
            {"loop", "sources"},
            {"accounting"},
        ]
    },
    {"": [{"plot"}]},
    {"remedies": [{"balanced", "beforehand", "common_step", "masks", "reweighted", "split"}, {"catalogue"}]},
    {
        "check": [
            {"draws"},
            {"discrepancy"},
            {
                "account",
                "condition",
                "crowd",
                "finite_step",
                "flow",
                "geometry",
                "groups",
                "mass",
                "modified",
                "overlap",
                "suffix",
            },
            {"remedies"},
        ]
    },
    {
        "diagnosis": [
            {"columns", "likelihood"},
            {"text"},
            {"files", "table"},
            {"readers", "belief"},
            {"batch", "inputs"},
            {"evidence", "gradients"},
            {"losses", "trend"},
            {"logs"},
            {"checkpoints", "health", "plot", "runs"},
            {"report"},
        ]
    },
    {"huggingface": [{"uses"}, {"recorder"}, {"grams"}, {"pairs"}]},
    {
        "experiments": [
            {"code", "statistics", "catalogue"},
            {"experiment", "tuned", "contexts"},
            {"pairs", "losses"},
            {"gram", "training"},
            {"sentiment"},
            {"account", "crowd", "one_step", "remedies", "signs"},
            {"language_model"},
            {"language_model_account", "toy_steps"},
            {"carry_over"},
        ]
    },
    {
        "sweep": [
            {"grid", "program"},
            {"store", "config"},
            {"runner"},
            {"cluster"},
        ]
    },
    {
        "commands": [
            {"_environment", "_progress", "_settings", "_words"},
            {"_gradient_report", "_log_report", "_model"},
            {"account", "check", "diagnose", "real", "sentiment", "sweep"},
        ]
    },
]
LEVEL = {}
for depth, folders in enumerate(FOLDERS):
    for folder, rows in folders.items():
        for row, files in enumerate(rows):
            LEVEL |= {f"{folder}.{file}".lstrip("."): (depth, row) for file in files}
        if folder:
            LEVEL[folder] = (depth, len(rows))  # its `__init__`
LEVEL["cli"] = (len(FOLDERS), 0)


def module_name(path):
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


def imports(path):
    """Names of the package's own modules that a file imports."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: relative import"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if whole.removeprefix("toymodel.") in LEVEL else node.module


MODULES = [path for path in sorted(PACKAGE.rglob("*.py")) if path != PACKAGE / "__init__.py"]


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_imports_point_up(path):
    name = module_name(path)
    assert name in LEVEL, f"{name} has no place in the data flow yet"
    for imported in imports(path):
        above = imported.removeprefix("toymodel.")
        if above in LEVEL and above != name:  # a package imports its own modules by its own name
            assert LEVEL[above] < LEVEL[name], f"{name} imports {above}"


def test_no_module_is_shadowed_by_a_name_of_its_package():
    for path in MODULES:
        package, _, name = f"toymodel.{module_name(path)}".rpartition(".")
        attribute = getattr(importlib.import_module(package), name, None)
        assert attribute is None or isinstance(attribute, ModuleType), f"{package}.{name} is {attribute!r}"


def test_dir_of_a_package_lists_its_own_names_only():
    for path in [PACKAGE / "__init__.py", *PACKAGE.glob("*/__init__.py")]:
        package = importlib.import_module(f"toymodel.{module_name(path)}".removesuffix(".__init__"))
        if path.parent.name != "commands":
            assert sorted(dir(package)) == sorted(package.__all__), package.__name__


def own_names(path):
    """The public names that a file's source defines, read without importing it."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from (name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name))


# Modules that do not say so yet.
SILENT = ("commands", "cli")
SPEAKING = [path for path in MODULES if not path.name.startswith("_") and not module_name(path).startswith(SILENT)]


@pytest.mark.parametrize("path", SPEAKING, ids=module_name)
def test_dir_of_a_module_lists_its_own_names_only(path):
    module = importlib.import_module(f"toymodel.{module_name(path)}")
    assert dir(module) == sorted({name for name in own_names(path) if not name.startswith("_")})


def test_the_package_offers_its_rooms_without_importing_them():
    code = "import sys, toymodel as tm; assert 'jax' not in sys.modules; tm.train; tm.theory.PairGram; tm.LOSSES['dpo']"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_prediction_never_differentiates_and_never_sees_a_measurement():
    derivatives = {"grad", "value_and_grad", "jacrev", "jacfwd", "jacobian", "hessian", "jvp", "vjp", "linearize"}
    for path in (PACKAGE / "theory").glob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        assert not used & derivatives, f"{path.name} differentiates"
        assert not {"toymodel.gradients", "optax"} & set(imports(path)), f"{path.name} sees a measurement"
    for path in (PACKAGE / "gradients").glob("*.py"):
        assert not {name for name in imports(path) if name.startswith("toymodel.theory")}, (
            f"{path.name} sees a prediction"
        )


def test_the_library_leaves_global_state_alone():
    command_line = {PACKAGE / "cli.py", *PACKAGE.glob("commands/*.py")}  # a process of their own
    for path in {*PACKAGE.rglob("*.py")} - command_line:
        source = path.read_text(encoding="utf-8")
        assert "config.update" not in source, path.name
        assert "np.random.seed" not in source, path.name
        assert "print(" not in source, path.name


def test_tests_import_no_tests():
    """What several need is in a module of its own."""
    tests = Path(__file__).parent
    for path in tests.glob("*.py"):
        nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        modules = {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
        assert not {module for module in modules if module and (tests / f"{module}.py").is_file() and "test_" in module}
