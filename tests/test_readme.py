"""What the README tells a reader to type works as printed."""

import re
from pathlib import Path

import numpy as np

from toymodel import theory
from toymodel.check import CHECKS
from toymodel.losses import LOSSES
from toymodel.remedies import REMEDIES

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_python_examples_run_one_after_the_other():
    names = {}
    try:
        for block in re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL):
            exec(block, names)
        made_up, logp = LOSSES["cauchy"](width=2.0), np.array([-3.0, -9.0])
        closed, automatic = (
            route(logp, logp[::-1], logp, logp) for route in (made_up.weights, made_up.autodiff_weights)
        )
    finally:
        LOSSES.pop("cauchy", None)
        REMEDIES.pop("clipped", None)
    assert set(theory.case(names["gram"])) <= set(theory.CASES)
    np.testing.assert_allclose(closed, automatic, rtol=1e-14)  # a dozen operations each
    trajectory = names["run"].trajectory
    assert trajectory.margin.shape == (101, 8)
    assert (np.asarray(trajectory.margin[-1]) > np.asarray(trajectory.margin[0])).all()


def test_every_named_target_prediction_and_file_exists():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"(?m)(?:`|^)make ([a-z]+)", README):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target
    prose = re.sub(r"```.*?```", "", README, flags=re.DOTALL)
    for path in re.findall(r"\]\(([^):#]+)\)", prose):
        assert (ROOT / path).exists(), path
    rows = [row.split("|") for row in README.splitlines() if re.match(r"\| T\d+", row)]
    assert [row[1].split()[0] for row in rows] == [check.label for check in CHECKS]
    for row in rows:
        for name in re.findall(r"`([a-z_]+)`", row[3]):
            assert hasattr(theory, name), name
        for figure in re.findall(r"fig_\w+", row[5]):
            assert (ROOT / "figures" / f"{figure}.py").exists(), figure


def test_every_label_has_its_tests():
    source = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").glob("test_*.py"))
    for check in CHECKS:
        assert f"def test_{check.label.lower()}_" in source
