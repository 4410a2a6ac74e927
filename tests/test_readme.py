"""What the README tells a reader to type works as printed."""

import re
from pathlib import Path

from toymodel import theory

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_python_example_runs():
    (block,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    names = {}
    exec(block, names)
    assert set(theory.case(names["gram"])) <= set(theory.CASES)


def test_every_named_target_prediction_and_file_exists():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"(?m)(?:`|^)make ([a-z]+)", README):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target
    for path in re.findall(r"\]\(([^):#]+)\)", README):
        assert (ROOT / path).exists(), path
    rows = [row.split("|") for row in README.splitlines() if re.match(r"\| T\d+", row)]
    assert len(rows) == 11
    for row in rows:
        for name in re.findall(r"`([a-z_]+)`", row[3]):
            assert hasattr(theory, name), name


def test_every_label_has_its_tests():
    source = "".join(
        (ROOT / "tests" / name).read_text() for name in ("test_theory_meets_measurement.py", "test_condition.py")
    )
    for label in range(1, 12):
        assert f"def test_t{label}_" in source
