"""Imports only ever point up the data flow, and prediction and measurement never meet inside the package."""

import ast
from pathlib import Path

import pytest

import toymodel

PACKAGE = Path(toymodel.__file__).parent
# A module may import from modules earlier in this list; those in one row do not know each other.
DATA_FLOW = [
    {"_checks", "statistics"},
    {"vocabulary", "gram", "pairs"},
    {"families", "sentiment"},
    {"models.logps"},
    {"models.linear", "models.stages"},
    {"models.mlp", "models.readout", "models.transformer"},
    {"models.unconstrained"},
    {"losses.form"},
    {"losses.pieces", "losses.catalogue"},
    {"losses.margins", "losses.per_response", "losses.reference_free"},
    {"losses"},
    {"gradients.backward", "gradients.products"},
    {"gradients.built", "gradients.factored", "theory.condition", "theory.overlap", "theory.suffix"},
    {"gradients.preconditioned"},
    {"gradients.grams"},
    {"gradients", "theory.finite_step", "theory.flow", "theory.groups", "theory.remedies"},
    {"theory.mass"},
    {"theory"},
    {"_runs", "_setting", "trajectory", "updates"},
    {"training"},
    {"supervised"},
    {"remedies.balanced", "remedies.beforehand", "remedies.masks", "remedies.reweighted", "remedies.split"},
    {"remedies.catalogue"},
    {"remedies"},
    {"files"},
    {"diagnose", "regimes", "check.draws"},
    {"check.discrepancy"},
    {"check.labels", "check.beyond"},
    {"check.remedies"},
    {"check", "sweep.experiment"},
    {"sweep.grid"},
    {"sweep.axes", "sweep.program", "sweep.store"},
    {"sweep.run"},
    {"sweep"},
    {"experiments.pairs", "experiments.any_loss", "experiments.tuned_remedies"},
    {"experiments.gram", "experiments.training"},
    {"experiments.sentiment"},
    {"experiments.remedies", "experiments.signs", "explore.scenes"},
    {"experiments", "explore.view"},
    {"sweep.config", "explore"},
    {"sweep.inspection", "sweep.cluster"},
    {"sweep.command"},
    {"experiments.command", "diagnose_command"},
    {"cli"},
]
LEVEL = {name: level for level, row in enumerate(DATA_FLOW) for name in row}


def module_name(path):
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


def imports(path):
    """Names of the package's own modules that a file imports."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: relative import"
            yield from ([node.module] if node.module != "toymodel" else [f"toymodel.{a.name}" for a in node.names])
            yield from (f"{node.module}.{a.name}" for a in node.names if f"{node.module}.{a.name}"[9:] in LEVEL)


MODULES = [path for path in sorted(PACKAGE.rglob("*.py")) if path != PACKAGE / "__init__.py"]


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_imports_point_up(path):
    name = module_name(path)
    if name == "models":
        return
    assert name in LEVEL, f"{name} has no place in the data flow yet"
    for imported in imports(path):
        if imported.startswith("toymodel."):
            above = imported.removeprefix("toymodel.")
            if above in LEVEL and above != name:  # a package imports its own modules by its own name
                assert LEVEL[above] < LEVEL[name], f"{name} imports {above}"


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
    command_line = {PACKAGE / "cli.py", *PACKAGE.rglob("*command.py")}  # a process of their own
    for path in {*PACKAGE.rglob("*.py")} - command_line:
        source = path.read_text(encoding="utf-8")
        assert "config.update" not in source, path.name
        assert "np.random.seed" not in source, path.name
        assert "print(" not in source, path.name
