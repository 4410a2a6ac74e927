"""Compile the proofs and list the axioms of every claim.

Run as `python -m proofs.check` from the repository's root. Sources are compiled in a temporary directory, and nothing
is left behind.

Exit status: 0 when every proof is complete and rests on nothing but the axioms of Coq's real numbers; 1 when a file
does not compile, leaves something unproved or brings an axiom of its own; 2 when Coq is not installed.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from proofs.claims import labels_of_theorems
from proofs.statements import HERE, ProofError, Statement, all_statements, project

INSTALL = "coqc not found: `apt-get install coq` (Debian, Ubuntu), `opam install coq` or `brew install coq` (Homebrew)."
# The axioms of the standard library's construction of the real numbers, and of functions on them.
ALLOWED = {
    "ClassicalDedekindReals.sig_forall_dec",
    "ClassicalDedekindReals.sig_not_dec",
    "FunctionalExtensionality.functional_extensionality_dep",
    "Classical_Prop.classic",
}


def compile_file(name: str, flags: list[str], build: Path) -> None:
    """Run `coqc` on one file of the build directory; raise Coq's message when it fails."""
    command = ["coqc", "-q", "-w", "none", *flags, name]
    result = subprocess.run(command, cwd=build, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise ProofError(f"{name} does not compile: {' '.join(result.stderr.split())}")


def assumptions(questions: dict[str, str], flags: list[str], build: Path) -> dict[str, set[str]]:
    """Coq's answers to `Print Assumptions`, by name of the question: a heading, then one unindented line per axiom."""
    library = flags[flags.index("-Q") + 2]
    requires = [f"From {library} Require {file.removesuffix('.v')}.\n" for file in project()[0]]
    terms = [
        f'Definition question_{n} := {term}.\nRedirect "{name}" Print Assumptions question_{n}.\n'
        for n, (name, term) in enumerate(questions.items())
    ]
    audit = build / f"Audit_{next(iter(questions)).replace('.', '_')}.v"
    audit.write_text("".join([*requires, *terms]), encoding="utf-8")
    compile_file(audit.name, flags, build)
    answers = {name: (build / f"{name}.out").read_text(encoding="utf-8").splitlines() for name in questions}
    return {name: {line.split()[0] for line in lines[1:] if line[:1].strip()} for name, lines in answers.items()}


def audit(found: list[Statement], flags: list[str], build: Path) -> dict[str, set[str]]:
    """Axioms of every claim, by name; all lemmas of a file count as one."""
    questions = {statement.full_name: f"@{statement.full_name}" for statement in found if statement.is_claim}
    for module in dict.fromkeys(statement.module for statement in found):
        lemmas = [f"@{s.full_name}" for s in found if s.module == module and not s.is_claim]
        if lemmas:
            questions[f"{module}.lemmas"] = f"({', '.join(['I', *lemmas])})"
    workers = os.cpu_count() or 1
    names = list(questions)
    parts = [{name: questions[name] for name in names[start::workers]} for start in range(min(workers, len(names)))]
    with ThreadPoolExecutor(workers) as pool:  # each question takes Coq most of a second
        answers = pool.map(lambda part: assumptions(part, flags, build), parts)
    found_axioms = {name: axioms for part in answers for name, axioms in part.items()}
    return {name: found_axioms[name] for name in names}


def check(build: Path) -> Iterator[str]:
    """Compile and audit everything in `_CoqProject`; yield the lines of the table, then one line with the counts."""
    files, flags = project()
    found = all_statements()
    if not found:
        raise ProofError("nothing to check: no theorem in any file")
    labels = labels_of_theorems()
    for file in files:
        shutil.copy(HERE / file, build)
        compile_file(file, flags, build)
    axioms = audit(found, flags, build)
    for name, used in axioms.items():
        if extra := used - ALLOWED:
            raise ProofError(f"{name} rests on more than the real numbers: {', '.join(sorted(extra))}")
        told = ", ".join(sorted(axiom.rpartition(".")[2] for axiom in used)) or "none"
        yield f"{', '.join(labels.get(name, [])):12}{name:72}{told}"
    claims = sum(statement.is_claim for statement in found)
    used = set().union(*axioms.values())
    yield (
        f"{len(files)} files, {claims} claims and {len(found) - claims} lemmas, all proved; "
        f"{len(used)} axioms, all from Coq's real numbers."
    )


def main() -> int:
    """Print the table, or one line with the error."""
    if shutil.which("coqc") is None:
        print(INSTALL, file=sys.stderr)
        return 2
    try:
        with tempfile.TemporaryDirectory() as build:
            lines = list(check(Path(build)))
    except ProofError as error:
        print(f"proofs: {error}", file=sys.stderr)
        return 1
    print("\n".join([f"{'label':12}{'claim':72}axioms it rests on", *lines]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
