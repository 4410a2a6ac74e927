"""Compile the proofs and list, theorem by theorem, the axioms they rest on.

Run as `python proofs/check.py`. The sources are compiled in a temporary directory, so nothing is left behind.
Exit status: 0 when every proof is complete and rests on nothing but the axioms of Coq's real numbers; 1 when a file
does not compile, leaves something unproved or brings an axiom of its own; 2 when Coq is not installed.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
INSTALL = "coqc not found: `apt-get install coq` (Debian, Ubuntu), `opam install coq` or `brew install coq` (Homebrew)."
# What the standard library's construction of the real numbers assumes.
ALLOWED = {
    "ClassicalDedekindReals.sig_forall_dec",
    "ClassicalDedekindReals.sig_not_dec",
    "FunctionalExtensionality.functional_extensionality_dep",
    "Classical_Prop.classic",
}
COMMENT_OR_STRING = re.compile(r'"(?:[^"]|"")*"|\(\*|\*\)')
STATEMENT = re.compile(r"\b(?:Theorem|Lemma|Corollary|Proposition|Fact|Remark|Example)\s+([\w']+)")
UNPROVED = re.compile(r"\b(Admitted|admit|give_up|Axioms?|Parameters?|Conjectures?)\b")


class ProofError(Exception):
    """A proof that is missing, is incomplete, or assumes more than it may."""


def without_comments(source: str) -> Iterator[str]:
    """The pieces of a Coq source that lie outside its comments, which nest, and outside its strings."""
    depth = end = 0
    for mark in COMMENT_OR_STRING.finditer(source):
        if depth == 0:
            yield source[end : mark.start()]
        depth += {"(*": 1, "*)": -1}.get(mark[0], 0)
        end = mark.end()
    yield source[end:]


def statements(path: Path) -> list[str]:
    """What a file proves, as `Module.name`."""
    code = " ".join(without_comments(path.read_text(encoding="utf-8")))
    if unproved := UNPROVED.search(code):
        raise ProofError(f"{path.name} leaves something unproved: it uses `{unproved[0]}`")
    return [f"{path.stem}.{name}" for name in STATEMENT.findall(code)]


def compile_file(name: str, flags: list[str], build: Path) -> None:
    """Run `coqc` on one file of the build directory; what Coq says of a failure becomes the error."""
    command = ["coqc", "-q", "-w", "none", *flags, name]
    result = subprocess.run(command, cwd=build, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise ProofError(f"{name} does not compile: {' '.join(result.stderr.split())}")


def assumptions(names: list[str], flags: list[str], build: Path) -> dict[str, list[str]]:
    """Coq's own answer to `Print Assumptions`, for each name: a heading, then one unindented line per axiom."""
    library = flags[flags.index("-Q") + 2]
    requires = {f"Require {library}.{name.partition('.')[0]}.\n" for name in names}
    queries = [f'Redirect "{name}" Print Assumptions {library}.{name}.\n' for name in names]
    audit = build / f"Audit_{names[0].replace('.', '_')}.v"
    audit.write_text("".join([*requires, *queries]), encoding="utf-8")
    compile_file(audit.name, flags, build)
    answers = {name: (build / f"{name}.out").read_text(encoding="utf-8").splitlines() for name in names}
    return {name: [line.split()[0] for line in lines[1:] if line[:1].strip()] for name, lines in answers.items()}


def check(build: Path) -> Iterator[str]:
    """Compile and audit everything in `_CoqProject`; the lines of the table, then one line with the counts."""
    words = shlex.split((HERE / "_CoqProject").read_text(encoding="utf-8"), comments=True)
    files = [word for word in words if word.endswith(".v")]
    flags = [word for word in words if word not in files]
    if differing := {path.name for path in HERE.glob("*.v")} ^ set(files):
        raise ProofError(f"in the folder or in _CoqProject but not in both: {', '.join(sorted(differing))}")
    names = [name for file in files for name in statements(HERE / file)]
    for file in files:
        shutil.copy(HERE / file, build)
        compile_file(file, flags, build)
    if not names:
        raise ProofError("nothing to check: no theorem in any file")
    workers = min(os.cpu_count() or 1, len(names))
    with ThreadPoolExecutor(workers) as pool:  # each question takes Coq half a second
        parts = pool.map(lambda start: assumptions(names[start::workers], flags, build), range(workers))
        axioms = {name: found for part in parts for name, found in part.items()}
    used = {axiom for found in axioms.values() for axiom in found}
    for name in names:
        if extra := set(axioms[name]) - ALLOWED:
            raise ProofError(f"{name} rests on more than the real numbers: {', '.join(sorted(extra))}")
        module, _, theorem = name.partition(".")
        yield f"{module + '.v':16}{theorem:46}{', '.join(axiom.rpartition('.')[2] for axiom in axioms[name]) or 'none'}"
    yield f"{len(files)} files, {len(names)} statements, all proved; {len(used)} axioms, all from Coq's real numbers."


def main() -> int:
    """Print the table, or one line that says what is wrong."""
    if shutil.which("coqc") is None:
        print(INSTALL, file=sys.stderr)
        return 2
    try:
        with tempfile.TemporaryDirectory() as build:
            print("\n".join([f"{'file':16}{'theorem':46}axioms it rests on", *check(Path(build))]))
    except ProofError as error:
        print(f"proofs: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
