"""What the Coq sources say, sentence by sentence: only sentences of a few kinds may stand in them.

A proof checker can be talked into anything by what it reads: axioms in modules, switched-off checks, a notation for
False. So a source is not searched for what is bad. It consists of sentences known to be harmless, or it is refused.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
LIBRARY = "Toymodel"
CLAIMS = (
    "Theorem",
    "Corollary",
    "Example",
)  # kinds that a label of claims.toml must list; a `Lemma` is a step towards one
COMMENT_OR_STRING = re.compile(r'"(?:[^"]|"")*"|\(\*|\*\)')
END_OF_SENTENCE = re.compile(r"\.(?=[ \n]|$)")
ODD_SPACE = re.compile(r"[^\S \n]")  # where Coq and we might disagree on whether a sentence ends
NAME = r"[\w']+"
STATEMENT = re.compile(rf"(Theorem|Lemma|Corollary|Example)\s+({NAME})\b")
# Definitions must be written out: without `:=` a proof begins, and what it makes need not be what its name says.
ALLOWED = re.compile(
    rf"""From\ (Coq|{LIBRARY})\ Require\ Import\ [\w ]+
    | Local\ Open\ Scope\ R_scope
    | (Definition|Fixpoint|Record|Let|Ltac)\s+{NAME}\b.*:=.*
    | Arguments\s.*""",
    re.DOTALL | re.VERBOSE,
)
ALLOWED_IN_SECTIONS = re.compile(r"(Variables?|Hypothes[ei]s|Context)\s.*", re.DOTALL)
SECTION = re.compile(rf"(Section|End)\s+({NAME})")
NOTATIONS = {  # by file: a notation decides what all that follows means
    "Sums.v": """Notation "'Σ_' ( i < n ) F" := (sum n (fun i => F)) """
    """(at level 41, F at level 41, i name, n at level 50, format "'Σ_' ( i < n ) F") : R_scope""",
}
STEP = re.compile(r"[-+*{}\s]*([a-z].*)?", re.DOTALL)  # tactics have small initials, and Coq's commands capitals


class ProofError(Exception):
    """A proof that is missing, is incomplete, or assumes more than it may."""


class Statement(NamedTuple):
    """A statement in a file."""

    kind: str
    module: str
    name: str
    line: int

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


def sentences(path: Path) -> Iterator[tuple[int, str, str]]:
    """Line and text of every sentence of a file, and the text with its strings and comments."""
    source = path.read_text(encoding="utf-8")
    if odd := ODD_SPACE.search(source):
        raise ProofError(f"{path.name} has the space {odd[0]!r}: it may not stand here")
    code, start = "".join(without_comments(source)), 0
    for end in [*(mark.start() for mark in END_OF_SENTENCE.finditer(code)), len(code)]:
        if text := code[start:end].strip():
            begin = end - len(code[start:end].lstrip())
            yield code.count("\n", 0, begin) + 1, text, source[begin:end]
        start = end + 1


def statements(path: Path) -> list[Statement]:
    """Statements of a file, in order; a `ProofError` where it has a sentence of another kind than the known ones."""
    found: list[Statement] = []
    sections: list[str] = []
    place = "file"  # or "statement", which a proof must follow, or "proof"
    for line, text, written in sentences(path):
        refused = ProofError(f"{path.name}, line {line}: `{' '.join(text.split())[:60]}` may not stand here")
        if place == "statement":
            if text != "Proof":
                raise refused
            place = "proof"
        elif place == "proof":
            done = text.lstrip("-+*{} \n") == "Qed"
            if not done and not STEP.fullmatch(text):
                raise refused
            place = "file" if done else "proof"
        elif statement := STATEMENT.match(text):
            found.append(Statement(statement[1], path.stem, statement[2], line))
            place = "statement"
        elif section := SECTION.fullmatch(text):
            if section[1] == "Section":
                sections.append(section[2])
            elif not sections or sections.pop() != section[2]:
                raise refused
        elif not (
            ALLOWED.fullmatch(text)
            or (sections and ALLOWED_IN_SECTIONS.fullmatch(text))
            or " ".join(written.split()) == NOTATIONS.get(path.name)
        ):
            raise refused
    if place != "file":
        raise ProofError(f"{path.name} ends within a proof")
    return found


def project() -> list[str]:
    """Files of `_CoqProject`, in the order of compilation. It may hold nothing but the library's name and these."""
    first, *files = (HERE / "_CoqProject").read_text(encoding="utf-8").splitlines()
    if first != f"-Q . {LIBRARY}":
        raise ProofError(f"_CoqProject must begin with `-Q . {LIBRARY}`, not with `{first}`")
    if odd := [file for file in files if not re.fullmatch(r"[A-Z][A-Za-z]*\.v", file)]:
        raise ProofError(f"_CoqProject may list files only, not `{odd[0]}`")
    if differing := {path.name for path in HERE.rglob("*.v")} ^ set(files):
        raise ProofError(f"in the folder or in _CoqProject but not in both: {', '.join(sorted(differing))}")
    return files


def all_statements() -> list[Statement]:
    """Statements of all files, in the order of compilation; a claim's name is its own over all of them."""
    found = [statement for file in project() for statement in statements(HERE / file)]
    names = [statement.name for statement in found if statement.is_claim]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ProofError(f"more than one claim is called {', '.join(sorted(twice))}")
    return found
