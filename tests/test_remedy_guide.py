"""Every statement of the guide to remedies names its test or its figure, and there is one of that name."""

import re
from pathlib import Path

import pytest

from toymodel.remedies import REMEDIES

ROOT = Path(__file__).parents[1]
GUIDE = re.sub("<!--.*?-->", "", (ROOT / "toymodel/remedies/README.md").read_text(encoding="utf-8"))
STATEMENTS = [" ".join(item.split()) for item in re.findall(r"(?ms)^- (.*?)(?=^- |^#|\Z)", GUIDE)]


@pytest.mark.parametrize("statement", STATEMENTS)
def test_statements_can_be_looked_up(statement):
    for sentence in re.split(r"(?<=\.)\s+(?=[A-Z])", statement.removesuffix(".").replace("**", "")):
        named = re.findall(r"\b(test_\w+|fig_\w+)", sentence)
        assert named, sentence
        for name in named:
            if name.startswith("fig_"):
                assert (ROOT / "figures" / f"{name}.py").exists(), name
            else:
                files = (ROOT / "tests").glob("test_*.py")
                assert any(f"def {name}(" in path.read_text(encoding="utf-8") for path in files), name


def test_the_guide_speaks_of_every_remedy():
    assert len(STATEMENTS) > 10
    for name in set(REMEDIES) - {"none"}:
        assert f"`{name}`" in GUIDE, name
