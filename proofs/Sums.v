(** * Finite sums of real numbers

    What is stated.  The laws of Σ_{i < n} f i that the other files use: it is linear, it may be taken in either order, a
    sum against an indicator picks one term, sums of terms that are at least 0 are at least 0.

    Scope.  Functions from natural numbers to reals, of which the first n values count.  A vector of n numbers is such a
    function, and so is a probability distribution over a vocabulary of n tokens.

    Name              Meaning
    Σ_(i < n) F       F at i = 0, …, n - 1, added up
    dot n u v         ⟨u, v⟩ = Σ_i u_i v_i
    is i j            1 if i = j, else 0: entry j of the unit vector e_i *)

From Coq Require Import Reals Lra Psatz Lia Arith.
Local Open Scope R_scope.

Fixpoint sum (n : nat) (f : nat -> R) : R :=
  match n with
  | O => 0
  | S k => sum k f + f k
  end.

Notation "'Σ_' ( i < n ) F" := (sum n (fun i => F))
  (at level 41, F at level 41, i name, n at level 50, format "'Σ_' ( i  <  n )  F") : R_scope.

Definition dot (n : nat) (u v : nat -> R) : R := Σ_(i < n) u i * v i.

Definition is (i j : nat) : R := if Nat.eq_dec i j then 1 else 0.

(** ** Linearity *)

Lemma sum_ext (n : nat) (f g : nat -> R) : (forall i, (i < n)%nat -> f i = g i) -> sum n f = sum n g.
Proof. induction n as [|n IH]; simpl; intros equal; [reflexivity |]. rewrite IH, equal by auto; reflexivity. Qed.

Lemma sum_plus (n : nat) (f g : nat -> R) : Σ_(i < n) (f i + g i) = sum n f + sum n g.
Proof. induction n as [|n IH]; simpl; [ring | rewrite IH; ring]. Qed.

Lemma sum_minus (n : nat) (f g : nat -> R) : Σ_(i < n) (f i - g i) = sum n f - sum n g.
Proof. induction n as [|n IH]; simpl; [ring | rewrite IH; ring]. Qed.

Lemma sum_scale (n : nat) (a : R) (f : nat -> R) : Σ_(i < n) a * f i = a * sum n f.
Proof. induction n as [|n IH]; simpl; [ring | rewrite IH; ring]. Qed.

Lemma sum_const (n : nat) (a : R) : Σ_(i < n) a = INR n * a.
Proof. induction n as [|n IH]; [simpl; ring | rewrite S_INR; simpl; rewrite IH; ring]. Qed.

Lemma sum_zero (n : nat) (f : nat -> R) : (forall i, (i < n)%nat -> f i = 0) -> sum n f = 0.
Proof. intros zero; rewrite (sum_ext n f (fun _ => 0)) by assumption; rewrite sum_const; ring. Qed.

(** ** Order *)

Lemma sum_le (n : nat) (f g : nat -> R) : (forall i, (i < n)%nat -> f i <= g i) -> sum n f <= sum n g.
Proof. induction n as [|n IH]; simpl; intros le; [lra | apply Rplus_le_compat; auto]. Qed.

Lemma sum_nonneg (n : nat) (f : nat -> R) : (forall i, (i < n)%nat -> 0 <= f i) -> 0 <= sum n f.
Proof. intros nonneg; rewrite <- (sum_zero n (fun _ => 0)) by reflexivity; now apply sum_le. Qed.

Lemma term_le_sum (n : nat) (f : nat -> R) (k : nat) :
  (forall i, (i < n)%nat -> 0 <= f i) -> (k < n)%nat -> f k <= sum n f.
Proof.
  induction n as [|n IH]; simpl; intros nonneg k_lt; [lia |].
  pose proof (sum_nonneg n f (fun i i_lt => nonneg i (Nat.lt_lt_succ_r _ _ i_lt))).
  destruct (Nat.eq_dec k n) as [-> | k_ne]; [lra |].
  assert (0 <= f n) by auto; assert (f k <= sum n f) by (apply IH; [auto | lia]); lra.
Qed.

(** ** Two indices *)

Lemma sum_swap (n m : nat) (f : nat -> nat -> R) :
  Σ_(i < n) (Σ_(j < m) f i j) = Σ_(j < m) (Σ_(i < n) f i j).
Proof.
  induction n as [|n IH]; simpl; [symmetry; now apply sum_zero |].
  now rewrite IH, <- sum_plus.
Qed.

Lemma sum_product (n m : nat) (f g : nat -> R) :
  sum n f * sum m g = Σ_(i < n) (Σ_(j < m) f i * g j).
Proof.
  induction n as [|n IH]; simpl; [ring |].
  rewrite sum_scale, <- IH; ring.
Qed.

(** ** Indicators *)

Lemma is_same (i : nat) : is i i = 1.
Proof. unfold is; destruct (Nat.eq_dec i i); [reflexivity | contradiction]. Qed.

Lemma is_different (i j : nat) : i <> j -> is i j = 0.
Proof. unfold is; destruct (Nat.eq_dec i j); [contradiction | reflexivity]. Qed.

Lemma is_symmetric (i j : nat) : is i j = is j i.
Proof. unfold is; destruct (Nat.eq_dec i j), (Nat.eq_dec j i); congruence. Qed.

Lemma sum_is (n k : nat) (f : nat -> R) : (k < n)%nat -> Σ_(i < n) is k i * f i = f k.
Proof.
  induction n as [|n IH]; simpl; intros k_lt; [lia |].
  destruct (Nat.eq_dec k n) as [-> | k_ne].
  - rewrite sum_zero, is_same; [ring |]; intros i i_lt; rewrite is_different by lia; ring.
  - rewrite IH, is_different by lia; ring.
Qed.

(** ** Inner products *)

Lemma dot_symmetric (n : nat) (u v : nat -> R) : dot n u v = dot n v u.
Proof. apply sum_ext; intros; ring. Qed.

Lemma dot_plus_left (n : nat) (u v x : nat -> R) : dot n (fun i => u i + v i) x = dot n u x + dot n v x.
Proof. unfold dot; rewrite <- sum_plus; apply sum_ext; intros; ring. Qed.

Lemma dot_minus_left (n : nat) (u v x : nat -> R) : dot n (fun i => u i - v i) x = dot n u x - dot n v x.
Proof. unfold dot; rewrite <- sum_minus; apply sum_ext; intros; ring. Qed.

Lemma dot_scale_left (n : nat) (a : R) (u v : nat -> R) : dot n (fun i => a * u i) v = a * dot n u v.
Proof. unfold dot; rewrite <- sum_scale; apply sum_ext; intros; ring. Qed.

Lemma dot_is_left (n k : nat) (v : nat -> R) : (k < n)%nat -> dot n (is k) v = v k.
Proof. apply sum_is. Qed.

Lemma dot_self_nonneg (n : nat) (v : nat -> R) : 0 <= dot n v v.
Proof. apply sum_nonneg; intros; apply Rle_0_sqr. Qed.
