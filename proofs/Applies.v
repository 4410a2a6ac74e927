(** * Is there anything that a theorem applies to?

    What is stated.  A theorem whose hypotheses nothing satisfies is true and says nothing.  [applies t] is the claim
    that the theorem t is not of that kind: it puts False in the place of what t concludes, and denies that.

      forall x, A x -> forall y, B x y -> C x y    becomes    ~ (forall x, A x -> forall y, B x y -> False),

    which says that there are x and y with A x and B x y.  [has_hypothesis t] fails unless t has a hypothesis.  Both look
    at the statement as Coq has it, with all variables and hypotheses of its sections.  proofs/check.py asks for a proof
    of [applies t] for every claim t with a hypothesis; Witnesses.v has them.

    Scope.  What a statement has before its conclusion.  Behind an "if and only if", a negation or an "exists" they do
    not look. *)

From Coq Require Import Classical.

Ltac contradicted T :=
  let T := eval cbv zeta in T in
  lazymatch T with
  | forall x : ?A, @?B x =>
      let y := fresh x in refine (forall y : A, (_ : Prop)); let b := eval cbv beta in (B y) in contradicted b
  | _ => exact False
  end.

Ltac applies t := let T := type of t in refine (~ _); contradicted T.

Ltac find_hypothesis :=
  lazymatch goal with
  | |- let _ := _ in _ => intro; find_hypothesis
  | |- forall x : ?A, _ => let s := type of A in first [constr_eq s Prop | intro; find_hypothesis]
  end.

Ltac has_hypothesis t := let T := type of t in assert_succeeds (assert T; [find_hypothesis |]).

(** What [applies] makes says that there is something. *)
Lemma not_contradicted_iff {X Y : Type} (A : X -> Prop) (B : X -> Y -> Prop) :
  ~ (forall x, A x -> forall y, B x y -> False) <-> exists x, A x /\ exists y, B x y.
Proof.
  split.
  - intros found; apply NNPP; intros none; apply found; intros x a y b; apply none; eauto.
  - intros (x & a & y & b) none; exact (none x a y b).
Qed.
