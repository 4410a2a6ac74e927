"""claims.toml holds for what there is: theorems, predictions, tests, figures; and the check of the proofs can fail."""

import re
import shutil
from pathlib import Path

import pytest

from proofs import check, claims, statements
from toymodel import theory
from toymodel.check import CHECKS

ROOT = Path(__file__).parents[1]
CLAIMS = claims.load()
PARTS = {"words", "formula", "source", "status", "theorems", "predictions", "tests", "seen"}
FOUND = {statement.full_name: statement for statement in statements.all_statements()}
TESTS = {
    f"{path.name}::{name}"
    for path in (ROOT / "tests").glob("test_*.py")
    for name in re.findall(r"(?m)^def (test_\w+)", path.read_text(encoding="utf-8"))
}
needs_coq = pytest.mark.skipif(shutil.which("coqc") is None, reason="Coq is not installed")


def test_every_label_has_its_row():
    assert list(CLAIMS) == [check.label for check in CHECKS] == [f"T{number}" for number in range(1, 28)]


@pytest.mark.parametrize("label", CLAIMS)
def test_a_label_has_every_part_and_nothing_that_does_not_exist(label):
    claim = CLAIMS[label]
    assert PARTS <= set(claim) <= PARTS | {"where", "open"}
    assert all(claim[part] for part in PARTS - {"theorems"})
    assert claim["source"] in claims.SOURCES
    assert claim["status"] in claims.STATUSES
    assert ("open" in claim) == (claim["status"] != "proved")  # what is not proved is said, and why
    assert bool(claim["theorems"]) == (claim["status"] != "tested only")
    assert set(claim["theorems"]) <= set(FOUND)
    assert all(hasattr(theory, name) for name in claim["predictions"])
    assert set(claim["tests"]) <= TESTS
    for place in claim["seen"]:
        path = f"figures/{place}.py" if place.startswith("fig_") else place
        assert (ROOT / path).is_file(), place


def test_no_theorem_and_no_test_of_a_label_is_left_out():
    listed = {name for claim in CLAIMS.values() for name in claim["theorems"]}
    assert {name for name, statement in FOUND.items() if statement.is_claim} == listed
    for label, claim in CLAIMS.items():
        assert {name for name in TESTS if f"::test_{label.lower()}_" in name} <= set(claim["tests"])


@pytest.mark.parametrize("label", CLAIMS)
def test_the_proof_in_words_names_theorems_of_its_label(label):
    """Its last part says by what it is checked: `File.v`, then names from it."""
    text = (ROOT / "proofs" / f"{label}.md").read_text(encoding="utf-8")
    _, _, checked = text.partition("Checked by")
    named = [
        f"{file}.{name}"
        for file, names in re.findall(r"`(\w+)\.v`:((?:[\s,;]|and|`[\w']+`)+)", checked)
        for name in re.findall(r"`([\w']+)`", names)
    ]
    assert set(named) <= set(FOUND)
    if CLAIMS[label]["theorems"]:
        assert set(named) & set(CLAIMS[label]["theorems"])
    assert f"test_{label.lower()}_" in checked


def test_the_page_is_up_to_date():
    assert claims.PAGE.read_text(encoding="utf-8") == claims.page(), "run `python -m proofs.claims`"


def test_every_statement_of_a_source_is_found():
    """As often as there is a `Proof`, whatever comments say."""
    for file in statements.project()[0]:
        path = statements.HERE / file
        code = "".join(statements.without_comments(path.read_text(encoding="utf-8")))
        assert len(statements.statements(path)) == len(re.findall(r"\bProof\b", code)) > 0
        for statement in statements.statements(path):
            assert statement.name in path.read_text(encoding="utf-8").splitlines()[statement.line - 1]


# --- The check itself -----------------------------------------------------------------------------------------------


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project of one file, of this source; every label's list is empty."""

    def make(source):
        (tmp_path / "Small.v").write_text(source, encoding="utf-8")
        (tmp_path / "_CoqProject").write_text("-Q . Small_project\nSmall.v\n", encoding="utf-8")
        monkeypatch.setattr(statements, "HERE", tmp_path)
        monkeypatch.setattr(check, "HERE", tmp_path)
        monkeypatch.setattr(check, "labels_of_theorems", dict)
        (tmp_path / "build").mkdir()
        return list(check.check(tmp_path / "build"))

    return make


@pytest.mark.parametrize(
    "unproved",
    [
        "Theorem t : False. Proof. Admitted.",
        "Axiom a : False.",
        "Theorem t : 1 = 2. Proof. admit. Qed.",
        "Parameter n : nat.",
    ],
)
def test_what_is_left_unproved_is_refused(project, unproved):
    with pytest.raises(statements.ProofError, match="unproved"):
        project(f'(* a comment (* within *) "one" *) {unproved}')


@needs_coq
def test_words_in_comments_and_strings_are_no_gaps(project):
    table = project("(* Admitted. (* Axiom *) *)\nDefinition word := I.\nTheorem t : 1 = 1. Proof. reflexivity. Qed.\n")
    assert "Small.t" in table[0]
    assert "none" in table[0]


@needs_coq
def test_a_false_statement_does_not_compile(project):
    with pytest.raises(statements.ProofError, match="does not compile"):
        project("Theorem t : 1 = 2. Proof. reflexivity. Qed.\n")


@needs_coq
@pytest.mark.parametrize("kind", ["Theorem", "Lemma"])
def test_an_assumption_from_elsewhere_is_refused(project, kind):
    source = "From Coq Require Import ClassicalChoice.\n{} t : True. Proof. pose proof choice; exact I. Qed.\n"
    with pytest.raises(statements.ProofError, match="more than the real numbers"):
        project(source.format(kind))


@needs_coq
def test_the_axioms_of_real_numbers_are_told(project):
    table = project("From Coq Require Import Reals.\nTheorem t : (1 + 0 = 1)%R. Proof. apply Rplus_0_r. Qed.\n")
    assert "sig_forall_dec" in table[0]
