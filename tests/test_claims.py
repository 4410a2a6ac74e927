"""claims.toml holds for what there is: theorems, predictions, tests, figures; and the check of the proofs can fail."""

import re
import shutil
from pathlib import Path

import pytest

from proofs import check, claims, coq, statements
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
    """But for the statements in Coq, which `make proofs` compares."""
    assert claims.PAGE.read_text(encoding="utf-8") == claims.page(claims.quotes()), "run `python -m proofs.claims`"


def test_every_statement_of_a_source_is_found():
    """As often as there is a `Proof`, whatever comments say."""
    for file in statements.project():
        path = statements.HERE / file
        code = "".join(statements.without_comments(path.read_text(encoding="utf-8")))
        assert len(statements.statements(path)) == len(re.findall(r"\bProof\b", code)) > 0
        for statement in statements.statements(path):
            assert statement.name in path.read_text(encoding="utf-8").splitlines()[statement.line - 1]


# --- The check itself: cheats, and that each is refused -------------------------------------------------------------

APPLIES = (statements.HERE / "Applies.v").read_text(encoding="utf-8")


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project of these files, `Small.v` unless named; no label lists anything and nothing is quoted."""
    folder, build = tmp_path / "proofs", tmp_path / "build"
    folder.mkdir()
    build.mkdir()
    monkeypatch.setattr(statements, "HERE", folder)
    monkeypatch.setattr(coq, "HERE", folder)
    monkeypatch.setattr(check, "labels_of_theorems", dict)
    monkeypatch.setattr(check, "quotes", dict)

    def make(small, **others):
        sources = {"Applies": APPLIES, **others, "Small": small}
        for name, source in sources.items():
            (folder / f"{name}.v").write_text(source, encoding="utf-8")
        lines = ["-Q . Toymodel", *(f"{name}.v" for name in sources)]
        (folder / "_CoqProject").write_text("\n".join([*lines, ""]), encoding="utf-8")
        return build

    return make


TRUE = "Theorem t : 1 = 1. Proof. reflexivity. Qed."
LOOP = "Fixpoint loop (n : nat) : False := loop n."
TYPE_IN_TYPE = "Definition u : Type := let T := Type in forall (A : T), A."
CHEATS = {
    "admitted": "Theorem t : False. Proof. Admitted.",
    "admitted obligations": "Program Definition n : {n | n = 1} := 2. Admit Obligations.",
    "program": "Program Definition n : {n | n = 1} := 1.",
    "next obligation": f"Next Obligation. {TRUE}",
    "axiom": "Axiom a : False.",
    "axiom among comments": '(* a comment (* within *) "one *)" *) Axiom a : False.',
    "axiom after a quote": 'Definition q := """". Axiom a : False.',
    "axiom in a module": f"Module M. Axiom a : False. End M. {TRUE}",
    "axiom in a proof": "Theorem t : False. Proof. Axiom a : False. exact a. Qed.",
    "axiom in braces": "Theorem t : False. Proof. { Axiom a : False. exact a. } Qed.",
    "local axiom": "Local Axiom a : False.",
    "parameter": "Parameter n : nat.",
    "conjecture": "Conjecture c : False.",
    "variable outside a section": "Variable h : False.",
    "hypothesis outside a section": "Hypothesis h : False.",
    "hypothesis after a section": "Section S. End S. Hypotheses h : False.",
    "context outside a section": "Context (h : False).",
    "primitive": "Primitive add := #int63_add.",
    "module type": "Module Type M. Parameter a : False. End M. Declare Module N : M.",
    "theorem in a module": f"Module Small. {TRUE} End Small.",
    "include": "Include Nat.",
    "import of a module": "Import Nat.",
    "no guard checking": f"Unset Guard Checking. {LOOP}",
    "no positivity checking": "Unset Positivity Checking. Inductive bad := c (f : bad -> False).",
    "no universe checking": f"Unset Universe Checking. {TYPE_IN_TYPE}",
    "type in type": f"Set Type In Type. {TYPE_IN_TYPE}",
    "bypassed check": f"#[bypass_check(guard)] {LOOP}",
    "attribute": f"#[local] {TRUE}",
    "inductive type": "Inductive bad := c (f : bad -> False).",
    "aborted": f"Theorem t : 1 = 2. Proof. Abort. {TRUE}",
    "aborted, its name a definition's": "Theorem t : 1 = 2. Proof. Abort. Definition t := I.",
    "aborted, its name a notation's": "Theorem t : 1 = 2. Abort. Notation t := I.",
    "restarted": "Theorem t : 1 = 1. Proof. Restart. reflexivity. Qed.",
    "defined, not proved": "Theorem t : 1 = 1. Proof. reflexivity. Defined.",
    "proof without its word": "Theorem t : 1 = 1. reflexivity. Qed.",
    "proof by a term": "Theorem t : 1 = 1. Proof eq_refl.",
    "definition that opens a proof": "Definition n : nat. Proof. exact 1. Qed.",
    "proof that does not end": "Theorem t : 1 = 1. Proof. reflexivity.",
    "goal": "Goal False. Abort.",
    "fail": f"Fail Theorem t : False. {TRUE}",
    "fail in a proof": "Theorem t : 1 = 1. Proof. reflexivity. Fail Qed. Qed.",
    "succeed": "Succeed Definition n := 1.",
    "notation": f'Notation "x = y" := True. {TRUE}',
    "notation of a name": "Notation t := I.",
    "infix": 'Infix "=" := plus.',
    "scope": f"Open Scope Z_scope. {TRUE}",
    "bound scope": "Bind Scope R_scope with nat.",
    "coercion": "Coercion INR : nat >-> R.",
    "canonical structure": "Canonical Structure n := 1.",
    "class": "Class C := { c : False }.",
    "instance": "Instance i : C := {}.",
    "implicit types": "Implicit Types n : nat.",
    "own library": f"Require Import Reals. {TRUE}",
    "another's library": f"From mathcomp Require Import all. {TRUE}",
    "load": 'Load "other".',
    "plugin": 'Declare ML Module "ltac_plugin".',
    "redirect": 'Redirect "Small" Print nat.',
    "text that Coq does not end there": "Definition n := 1.\u00a0Axiom a : False.",
    "section that ends another": "Section S. Section T. End S. End T.",
}


@pytest.mark.parametrize("cheat", CHEATS.values(), ids=CHEATS)
def test_a_source_with_other_sentences_is_refused(project, cheat):
    project(cheat)
    with pytest.raises(statements.ProofError, match=r"may not stand here|ends within a proof"):
        statements.all_statements()


def test_what_stands_in_the_sources_is_not_refused(project):
    project(
        f"""(* Admitted. (* Axiom *) "Axiom a. *)" *) From Coq Require Import Reals.
        Section S. Variables (n : nat). Hypothesis h : n = 1. Let m := n. Definition d := m. {TRUE} End S."""
    )
    assert [statement.name for statement in statements.all_statements() if statement.is_claim] == ["t"]


@pytest.mark.parametrize(
    "lines",
    [
        "-Q . Toymodel\n-arg -type-in-type\nApplies.v\nSmall.v",
        "-Q . Toymodel -type-in-type\nApplies.v\nSmall.v",
        "-Q . Toymodel\n-vos\nApplies.v\nSmall.v",
        "-Q . Toymodel\n-vok\nApplies.v\nSmall.v",
        "-Q . Coq\nApplies.v\nSmall.v",
        "-R . Toymodel\nApplies.v\nSmall.v",
        "-Q . Toymodel\nApplies.v",
        "-Q . Toymodel\nApplies.v\nSmall.v\nOther.v",
        "-Q . Toymodel\nApplies.v\n./Small.v",
    ],
)
def test_a_project_file_with_more_than_the_files_is_refused(project, lines):
    project(TRUE)
    (statements.HERE / "_CoqProject").write_text(f"{lines}\n", encoding="utf-8")
    with pytest.raises(statements.ProofError, match="_CoqProject"):
        statements.project()


def test_two_claims_of_one_name_are_refused(project):
    """As one could be quoted and the other proved."""
    project(TRUE, Other="Theorem t : True. Proof. exact I. Qed.")
    with pytest.raises(statements.ProofError, match="more than one claim is called t"):
        statements.all_statements()


@needs_coq
@pytest.mark.parametrize(
    "cheat",
    [
        f"Module M. Axiom a : False. End M. {TRUE}",
        "Variable h : False.",
        f"Unset Guard Checking. {LOOP}",
        "Unset Positivity Checking. Inductive bad := c (f : bad -> False).",
        f"Unset Universe Checking. {TYPE_IN_TYPE}",
        f"#[bypass_check(guard)] {LOOP}",
    ],
)
def test_what_a_compiled_file_assumes_is_refused_whatever_its_source_was(project, cheat):
    """Were the sentences above let through, Coq's own checker would still find these."""
    build = project(cheat)
    coq.compile_project(build)
    with pytest.raises(statements.ProofError, match="more than Coq's library"):
        check.check_kernel(build)


@needs_coq
@pytest.mark.parametrize(
    "unfinished",
    [
        "Theorem t : 1 = 2. Proof. admit. Qed.",
        "Theorem t : 1 = 2. Proof. give_up. Qed.",
        "Theorem t : 1 = 2. Proof. Qed.",
    ],
)
def test_a_proof_with_a_gap_does_not_compile(project, unfinished):
    with pytest.raises(statements.ProofError, match="does not compile"):
        coq.compile_project(project(unfinished))


@needs_coq
def test_a_false_statement_does_not_compile(project):
    with pytest.raises(statements.ProofError, match="does not compile"):
        list(check.check(project("Theorem t : 1 = 2. Proof. reflexivity. Qed.\n")))


@needs_coq
def test_a_file_named_like_one_of_coqs_is_refused(project):
    with pytest.raises(statements.ProofError, match="name of a file of Coq's library"):
        coq.compile_project(project("From Toymodel Require Import Rfunctions.", Rfunctions="Definition pow := 1."))


@needs_coq
@pytest.mark.parametrize(
    "hiding",
    [
        "From Coq Require Import Reals. Definition exp (x : R) := x. Theorem t : exp 1 = 1%R. Proof. reflexivity. Qed.",
        "Definition nat := True. Theorem t : nat. Proof. exact I. Qed.",
    ],
)
def test_a_claim_in_names_that_hide_coqs_is_refused(project, hiding):
    build = project(hiding)
    coq.compile_project(build)
    with pytest.raises(statements.ProofError, match="short name means something else"):
        check.check_quotes(statements.all_statements(), build)


@needs_coq
def test_a_quote_must_be_the_constants_own_statement(project, monkeypatch):
    """With the hypotheses of its section, and to the letter: what can be computed to it is not it."""
    build = project(
        "Section S. Variable n : nat. Hypothesis h : n = 1. Theorem t : n < 2. Proof. rewrite h; auto. Qed. End S."
    )
    coq.compile_project(build)
    found = statements.all_statements()
    printed = coq.printed_statements(found, build)
    monkeypatch.setattr(check, "printed_statements", lambda *_: printed)  # the same whatever is quoted
    for quote, right in {
        "forall n : nat, n = 1%nat -> (n < 2)%nat": True,
        "forall n : nat,\nn = 1%nat ->   (n < 2)%nat": True,
        "forall n : nat, (n < 2)%nat": False,
        "(n < 2)%nat": False,
        "forall n : nat, n = 1%nat -> (S n <= 2)%nat": False,
        "forall n : nat, n = 1%nat -> (n < 2)%nat (* for every n *)": False,
    }.items():
        monkeypatch.setattr(check, "quotes", lambda quote=quote: {"Small.t": quote})
        if right:
            check.check_quotes(found, build)
        else:
            with pytest.raises(statements.ProofError, match=r"not what CLAIMS.md quotes|does not compile"):
                check.check_quotes(found, build)


CONTRADICTORY = "Section S. Variable n : nat. Hypothesis h : n < 0. Theorem t : n = 7. Proof. inversion h. Qed. End S."
ODD = "From Coq Require Import Lia. Theorem t (n : nat) : n < 2 -> 0 < n -> n = 1. Proof. lia. Qed."


def witness(statement, proof):
    """A source that has this for an example of t."""
    return f"From Toymodel Require Import Applies Odd. Lemma t_applies : {statement}. Proof. {proof}. Qed."


@needs_coq
@pytest.mark.parametrize(
    ("theorem", "example", "message"),
    [
        (CONTRADICTORY, TRUE.replace(" t ", " u "), "nothing shows that the hypotheses can hold: Odd.t"),
        (CONTRADICTORY, witness("~ (nat -> False)", "intros k; exact (k 0)"), "does not compile"),
        (CONTRADICTORY, witness("True", "exact I"), "does not compile"),
        (ODD, witness("~ (forall n, n < 2 -> False)", "intros k; exact (k 0 (le_S _ _ (le_n 1)))"), "does not compile"),
        (ODD, witness("ltac:(applies Odd.t)", "intros k; exact (k 1 (le_n 2) (le_n 1))"), None),
        (TRUE, TRUE.replace(" t ", " u "), None),
    ],
)
def test_a_claim_with_hypotheses_must_apply_to_something(project, theorem, example, message):
    build = project(
        TRUE.replace(" t ", " v "), Odd=f"From Toymodel Require Import Applies. {theorem}", Witnesses=example
    )
    coq.compile_project(build)
    found = statements.all_statements()
    if message is None:
        check.check_witnesses(found, build)
    else:
        with pytest.raises(statements.ProofError, match=message):
            check.check_witnesses(found, build)


@needs_coq
@pytest.mark.parametrize("kind", ["Theorem", "Lemma"])
def test_an_assumption_from_elsewhere_is_refused(project, kind):
    source = "From Coq Require Import ClassicalChoice.\n{} t : True. Proof. pose proof choice; exact I. Qed.\n"
    with pytest.raises(statements.ProofError, match="more than the real numbers"):
        list(check.check(project(source.format(kind))))


@needs_coq
def test_the_axioms_of_real_numbers_are_told_and_words_in_comments_are_no_gaps(project):
    sums = "From Coq Require Import Reals.\nTheorem s : (1 + 0 = 1)%R. Proof. apply Rplus_0_r. Qed.\n"
    words = f"(* Admitted. (* Axiom *) *)\nDefinition word := I.\n{TRUE}\n"
    table = list(check.check(project(words, Sums=sums)))
    assert "sig_forall_dec" in next(row for row in table if "Sums.s" in row)
    assert "none" in next(row for row in table if "Small.t" in row)
