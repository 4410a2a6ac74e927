"""Compile the proofs and list the axioms of every claim.

Run as `python -m proofs.check` from the repository's root. Sources are compiled in a temporary directory, and nothing
is left behind.

Exit status: 0 when every proof is complete, rests on nothing but the axioms of Coq's real numbers, speaks of something
that exists, and is quoted in CLAIMS.md as Coq states it; 1 when it is otherwise; 2 when Coq is not installed.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from proofs.claims import labels_of_theorems, quotes
from proofs.coq import ask, compile_project, constant, printed_statements, tell
from proofs.statements import LIBRARY, ProofError, Statement, all_statements, project

INSTALL = "coqc or coqchk not found: `apt-get install coq` (Debian, Ubuntu), `opam install coq` or `brew install coq`."
# The axioms of the standard library's construction of the real numbers, and of functions on them.
ALLOWED = {
    "ClassicalDedekindReals.sig_forall_dec",
    "ClassicalDedekindReals.sig_not_dec",
    "FunctionalExtensionality.functional_extensionality_dep",
    "Classical_Prop.classic",
}


def check_kernel(build: Path) -> None:
    """Have `coqchk` read every compiled file again: it knows whether a check was switched off when it was made."""
    modules = [word for file in project() for word in ("-norec", f"{LIBRARY}.{file.removesuffix('.v')}")]
    command = ["coqchk", "-silent", "-o", "-Q", ".", LIBRARY, *modules]
    result = subprocess.run(
        command, cwd=build, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    told = " ".join(result.stdout.split())
    if result.returncode != 0:
        raise ProofError(f"coqchk refuses the compiled files: {told}")
    summary = dict(re.findall(r"^\* ([^:]+):(.*?)(?=^\*|\Z)", result.stdout, re.DOTALL | re.MULTILINE))
    words = {heading: text.split() for heading, text in summary.items()}
    axioms = {axiom for axiom in words.pop("Axioms") if not axiom.startswith("Coq.")}
    if (
        words.pop("Theory") != ["Set", "is", "predicative"]
        or not axioms <= {"<none>"}
        or any(text != ["<none>"] for text in words.values())
    ):
        raise ProofError(f"a compiled file rests on more than Coq's library: {told}")


def check_quotes(found: list[Statement], build: Path) -> None:
    """Statements quoted in CLAIMS.md must be those of the constants: Coq reads them and prints the same."""
    printed, quoted = printed_statements(found, build), quotes()
    for name, answer in ask("Quotes", {name: f"Check ({text})" for name, text in quoted.items()}, build).items():
        if "(*" in quoted[name] or answer.split() != [*printed.get(name, "").split(), ":", "Prop"]:
            raise ProofError(f"{name} is not what CLAIMS.md quotes: {printed.get(name)}")


def check_witnesses(found: list[Statement], build: Path) -> None:
    """Every claim with hypotheses must apply to something: Witnesses.v has to prove it (see Applies.v)."""
    claims = {statement.full_name: statement.name for statement in found if statement.is_claim}
    tries = (
        f'Goal True. first [has_hypothesis {constant(name)}; idtac "{name}" | idtac]. exact I. Qed.' for name in claims
    )
    needed = tell("Hypotheses", tries, build).split()
    there = {statement.full_name for statement in found}
    if missing := [name for name in needed if f"Witnesses.{claims[name]}_applies" not in there]:
        raise ProofError(f"nothing shows that the hypotheses can hold: {', '.join(missing)}")
    tell(
        "Applications",
        (f"Check ({constant(f'Witnesses.{claims[n]}_applies')} : ltac:(applies {constant(n)}))." for n in needed),
        build,
    )


def assumptions(questions: dict[str, str], build: Path) -> dict[str, set[str]]:
    """Coq's answers to `Print Assumptions`, by name of the question: a heading, then one unindented line per axiom."""
    name = f"Audit_{next(iter(questions)).replace('.', '_')}"
    prints = (
        f'Definition question_{n} := {term}. Redirect "{key}" Print Assumptions question_{n}.'
        for n, (key, term) in enumerate(questions.items())
    )
    tell(name, prints, build)
    answers = {key: (build / f"{key}.out").read_text(encoding="utf-8").splitlines() for key in questions}
    return {key: {line.split()[0] for line in lines[1:] if line[:1].strip()} for key, lines in answers.items()}


def audit(found: list[Statement], build: Path) -> dict[str, set[str]]:
    """Axioms of every claim, by name; all lemmas of a file count as one."""
    questions = {statement.full_name: constant(statement.full_name) for statement in found if statement.is_claim}
    for module in dict.fromkeys(statement.module for statement in found):
        lemmas = [constant(s.full_name) for s in found if s.module == module and not s.is_claim]
        if lemmas:
            questions[f"{module}.lemmas"] = f"({', '.join(['I', *lemmas])})"
    workers = os.cpu_count() or 1
    names = list(questions)
    parts = [{name: questions[name] for name in names[start::workers]} for start in range(min(workers, len(names)))]
    with ThreadPoolExecutor(workers) as pool:  # each question takes Coq most of a second
        answers = pool.map(lambda part: assumptions(part, build), parts)
    found_axioms = {name: axioms for part in answers for name, axioms in part.items()}
    return {name: found_axioms[name] for name in names}


def check(build: Path) -> Iterator[str]:
    """Compile and audit everything in `_CoqProject`; yield the lines of the table, then one line with the counts."""
    found = all_statements()
    if not found:
        raise ProofError("nothing to check: no theorem in any file")
    labels = labels_of_theorems()
    compile_project(build)
    check_kernel(build)
    check_quotes(found, build)
    check_witnesses(found, build)
    axioms = audit(found, build)
    for name, used in axioms.items():
        if extra := used - ALLOWED:
            raise ProofError(f"{name} rests on more than the real numbers: {', '.join(sorted(extra))}")
        told = ", ".join(sorted(axiom.rpartition(".")[2] for axiom in used)) or "none"
        yield f"{', '.join(labels.get(name, [])):12}{name:72}{told}"
    claims = sum(statement.is_claim for statement in found)
    used = set().union(*axioms.values())
    yield (
        f"{len(project())} files, {claims} claims and {len(found) - claims} lemmas, all proved; "
        f"{len(used)} axioms, all from Coq's real numbers."
    )


def main() -> int:
    """Print the table, or one line with the error."""
    if shutil.which("coqc") is None or shutil.which("coqchk") is None:
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
