"""What Coq says: compile the sources, and ask about what they prove."""

import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

from proofs.statements import HERE, LIBRARY, ProofError, Statement, project

# Coq's own libraries come last: an own name that hides one of theirs is then printed with its file's name before it.
PREAMBLE = """From {library} Require Import {modules}.
From Coq Require Import Cantor List Reals.
From Coq Require Import Init.Prelude.
Local Open Scope R_scope.
Set Printing Width 118.
Set Printing Depth 9999.
"""


def compile_file(name: str, build: Path) -> str:
    """What `coqc` prints for one file of the build directory; a `ProofError` with Coq's message when it fails."""
    command = ["coqc", "-q", "-w", "none", "-Q", ".", LIBRARY, name]
    result = subprocess.run(command, cwd=build, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise ProofError(f"{name} does not compile: {' '.join(result.stderr.split())}")
    return result.stdout


def compile_project(build: Path) -> None:
    """Compile every file of `_CoqProject` in a directory."""
    where = subprocess.run(["coqc", "-where"], capture_output=True, text=True, check=True).stdout.strip()
    theirs = {path.stem for path in Path(where).rglob("*.vo")}
    for file in project():
        if Path(file).stem in theirs:
            raise ProofError(f"{file} has the name of a file of Coq's library")
        shutil.copy(HERE / file, build)
        compile_file(file, build)


def tell(name: str, lines: Iterable[str], build: Path) -> str:
    """What Coq prints for these lines after all files of the project."""
    modules = " ".join(file.removesuffix(".v") for file in project())
    preamble = PREAMBLE.format(library=LIBRARY, modules=modules)
    (build / f"{name}.v").write_text(preamble + "\n".join([*lines, ""]), encoding="utf-8")
    return compile_file(f"{name}.v", build)


def ask(name: str, questions: dict[str, str], build: Path) -> dict[str, str]:
    """Coq's answer to each question, such as `Check x`, by its name."""
    tell(name, (f'Redirect "{name}_{n}" {question}.' for n, question in enumerate(questions.values())), build)
    return {key: (build / f"{name}_{n}.out").read_text(encoding="utf-8") for n, key in enumerate(questions)}


def constant(full_name: str) -> str:
    """A constant, by the one name that nothing can hide."""
    return f"@{LIBRARY}.{full_name}"


def printed_statements(found: Iterable[Statement], build: Path) -> dict[str, str]:
    """The statement of every claim as Coq prints it: with all variables and hypotheses of its sections.

    Raises:
      ProofError: a statement has a name that also means something else, in Coq's library or in another file.
    """
    questions = {s.full_name: f"Check {constant(s.full_name)}" for s in found if s.is_claim}
    printed = {}
    for name, answer in ask("Statements", questions, build).items():
        text = re.sub(r"^ {7}", "", re.split(r"\s+: ", answer, maxsplit=1)[1].rstrip(), flags=re.MULTILINE)
        if hidden := re.search(rf"\b({'|'.join(file.removesuffix('.v') for file in project())})\.[\w']+", text):
            raise ProofError(f"{name} uses `{hidden[0]}`, whose short name means something else")
        printed[name] = text
    return printed
