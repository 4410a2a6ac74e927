"""Statements of the Coq sources: every theorem, lemma and example, read from the text."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
CLAIMS = (
    "Theorem",
    "Corollary",
    "Example",
)  # kinds that a label of claims.toml must list; a `Lemma` is a step towards one
COMMENT_OR_STRING = re.compile(r'"(?:[^"]|"")*"|\(\*|\*\)')
STATEMENT = re.compile(
    r"\b(Theorem|Lemma|Corollary|Proposition|Fact|Remark|Example)\s+([\w']+)(.*?)\.\s+Proof\b", re.DOTALL
)
UNPROVED = re.compile(r"\b(Admitted|admit|give_up|Axioms?|Parameters?|Conjectures?)\b")


class ProofError(Exception):
    """A proof that is missing, is incomplete, or assumes more than it may."""


class Statement(NamedTuple):
    """A statement in a file."""

    kind: str
    module: str
    name: str
    line: int
    text: str  # the whole statement, as in its file

    @property
    def full_name(self) -> str:
        """`Module.name`, its name in Coq."""
        return f"{self.module}.{self.name}"

    @property
    def is_claim(self) -> bool:
        """Whether a label must list it."""
        return self.kind in CLAIMS


def without_comments(source: str) -> Iterator[str]:
    """Replace comments, which nest, and strings by blanks; line numbers stay the same."""
    depth = end = 0
    for mark in COMMENT_OR_STRING.finditer(source):
        yield source[end : mark.start()] if depth == 0 else _blank(source[end : mark.start()])
        yield _blank(mark[0])
        depth += {"(*": 1, "*)": -1}.get(mark[0], 0)
        end = mark.end()
    yield source[end:]


def _blank(text: str) -> str:
    return re.sub(r"[^\n]", " ", text)


def statements(path: Path) -> list[Statement]:
    """Statements of a file, in order."""
    source = path.read_text(encoding="utf-8")
    code = "".join(without_comments(source))
    if unproved := UNPROVED.search(code):
        raise ProofError(f"{path.name} leaves something unproved: it uses `{unproved[0]}`")
    return [
        Statement(
            kind=m[1],
            module=path.stem,
            name=m[2],
            line=code.count("\n", 0, m.start()) + 1,
            text=m[0][: -len("Proof")].strip(),
        )
        for m in STATEMENT.finditer(code)
    ]


def project() -> tuple[list[str], list[str]]:
    """Files of `_CoqProject` in the order of compilation, and the flags for it."""
    words = shlex.split((HERE / "_CoqProject").read_text(encoding="utf-8"), comments=True)
    files = [word for word in words if word.endswith(".v")]
    if differing := {path.name for path in HERE.glob("*.v")} ^ set(files):
        raise ProofError(f"in the folder or in _CoqProject but not in both: {', '.join(sorted(differing))}")
    return files, [word for word in words if word not in files]


def all_statements() -> list[Statement]:
    """Statements of all files, in the order of compilation."""
    return [statement for file in project()[0] for statement in statements(HERE / file)]
