(** * Entanglement under the Fisher metric

    What is stated.  T27: at one softmax with probabilities p, the step that descends in the Fisher metric uses the
    pseudo-inverse F⁺ of the Fisher information F.  Then ⟨s_j, F⁺ s_k⟩ = δ_jk / p_j - 1 for the residuals of two tokens:
    different tokens are always anti-aligned and a token is aligned with itself, whatever the Euclidean inner products.

    F is no invertible matrix (a number added to all logits changes nothing), so F⁺ s is what it is for any matrix: the
    shortest of the vectors that F takes to s.

    Scope.  One context whose logits are the parameters; real arithmetic; every token has a chance.

    Name                       Meaning
    fisher V p v w             F_vw = Σ_y p_y s_y(v) s_y(w), s_y = e_y - p: the expected square of the residual
    apply_matrix V F u         F u
    pseudo_solution V F s x    x = F⁺ s: F x = s, and no other such vector is as short
    natural V p k              F⁺ s_k = (e_k - 1/V) / p_k
    fisher_ip V p j k          ⟨s_j, F⁺ s_k⟩ *)

From Coq Require Import Reals Lra Psatz Lia Arith List.
From Toymodel Require Import Sums Condition Softmax Suffix.
Local Open Scope R_scope.

Definition fisher (V : nat) (p : nat -> R) (v w : nat) : R := Σ_(y < V) p y * (residual_of p y v * residual_of p y w).

Definition apply_matrix (V : nat) (F : nat -> nat -> R) (u : nat -> R) (v : nat) : R := dot V (F v) u.

Definition pseudo_solution (V : nat) (F : nat -> nat -> R) (s x : nat -> R) : Prop :=
  let solves y := forall v, (v < V)%nat -> apply_matrix V F y v = s v in
  solves x /\
  forall y, solves y -> dot V x x <= dot V y y /\ (dot V y y = dot V x x -> forall v, (v < V)%nat -> y v = x v).

Definition natural (V : nat) (p : nat -> R) (k v : nat) : R := (is k v - / INR V) / p k.

Definition fisher_ip (V : nat) (p : nat -> R) (j k : nat) : R := dot V (residual_of p j) (natural V p k).

Section Fisher.
Variables (V : nat) (p : nat -> R).
Hypotheses (p_pos : forall v, (v < V)%nat -> 0 < p v) (p_total : sum V p = 1).

(** F = diag p - p p^T. *)
Theorem fisher_entries (v w : nat) : (v < V)%nat -> (w < V)%nat -> fisher V p v w = is v w * p v - p v * p w.
Proof.
  intros v_lt w_lt; unfold fisher.
  rewrite (sum_ext V _ (fun y =>
    is v y * (p y * is w y) - is w y * (p v * p y) - is v y * (p w * p y) + p v * p w * p y)).
  - rewrite sum_plus, !sum_minus, (sum_is V v (fun y => p y * is w y)), (sum_is V w (fun y => p v * p y)),
      (sum_is V v (fun y => p w * p y)), sum_scale, p_total, (is_symmetric w v) by assumption; ring.
  - intros y _; unfold residual_of; rewrite (is_symmetric y v), (is_symmetric y w); ring.
Qed.

(** F u is p times what u exceeds its mean by. *)
Lemma fisher_times (u : nat -> R) (v : nat) : (v < V)%nat -> apply_matrix V (fisher V p) u v = p v * (u v - dot V p u).
Proof.
  intros v_lt; unfold apply_matrix, dot.
  rewrite (sum_ext V _ (fun w => is v w * (p v * u w) - p v * (p w * u w)))
    by (intros; rewrite fisher_entries by assumption; ring).
  rewrite sum_minus, (sum_is V v (fun w => p v * u w)), sum_scale by assumption; ring.
Qed.

Lemma natural_total (k : nat) : (k < V)%nat -> sum V (natural V p k) = 0.
Proof.
  intros k_lt; pose proof (p_pos k k_lt); assert (0 < INR V) by (apply lt_0_INR; lia).
  unfold natural; rewrite (sum_ext V _ (fun v => is k v * / p k - / INR V / p k)) by (intros; field; lra).
  rewrite sum_minus, sum_const, (sum_is V k (fun _ => / p k)) by assumption; field; lra.
Qed.

Lemma mean_of_natural (u : nat -> R) (k : nat) : (k < V)%nat -> dot V u (natural V p k) = (u k - sum V u / INR V) / p k.
Proof.
  intros k_lt; pose proof (p_pos k k_lt); assert (0 < INR V) by (apply lt_0_INR; lia).
  unfold dot, natural.
  rewrite (sum_ext V _ (fun v => is k v * (u v / p k) - / INR V / p k * u v)) by (intros; field; lra).
  rewrite sum_minus, sum_scale, (sum_is V k (fun v => u v / p k)) by assumption; field; lra.
Qed.

(** Any two solutions differ by one number added to all entries. *)
Lemma fisher_solutions_differ_by_a_constant (x y : nat -> R) :
  (forall v, (v < V)%nat -> apply_matrix V (fisher V p) y v = apply_matrix V (fisher V p) x v) ->
  forall v, (v < V)%nat -> y v = x v + (dot V p y - dot V p x).
Proof.
  intros same v v_lt; specialize (same v v_lt); rewrite !fisher_times in same by assumption.
  apply Rmult_eq_reg_l in same; [lra | pose proof (p_pos v v_lt); lra].
Qed.

Theorem natural_is_pseudo_solution (k : nat) : (k < V)%nat ->
  pseudo_solution V (fisher V p) (residual_of p k) (natural V p k).
Proof.
  intros k_lt; pose proof (p_pos k k_lt); assert (0 < INR V) by (apply lt_0_INR; lia).
  assert (solves : forall v, (v < V)%nat -> apply_matrix V (fisher V p) (natural V p k) v = residual_of p k v).
  { intros v v_lt; rewrite fisher_times, mean_of_natural, p_total by assumption; unfold natural, residual_of, is.
    destruct (Nat.eq_dec k v) as [<- |]; field; lra. }
  split; [exact solves | intros y y_solves].
  pose proof (fisher_solutions_differ_by_a_constant (natural V p k) y) as shifted.
  set (c := dot V p y - dot V p (natural V p k)) in shifted.
  assert (constant : forall v, (v < V)%nat -> y v = natural V p k v + c)
    by (apply shifted; intros; rewrite y_solves, solves by assumption; reflexivity).
  assert (longer : dot V y y = dot V (natural V p k) (natural V p k) + INR V * (c * c)).
  { rewrite <- sum_const; unfold dot.
    rewrite (sum_ext V _ (fun v => natural V p k v * natural V p k v + c * c + 2 * c * natural V p k v))
      by (intros; rewrite constant by assumption; ring).
    rewrite !sum_plus, (sum_scale V (2 * c) (natural V p k)), natural_total by assumption; ring. }
  split; [nra | intros short v v_lt; rewrite constant by assumption].
  assert (c * c = 0) as none by nra; apply Rsqr_0_uniq in none; lra.
Qed.

(** T27. *)
Theorem fisher_inner_product (j k : nat) : (j < V)%nat -> (k < V)%nat -> fisher_ip V p j k = is j k / p j - 1.
Proof.
  intros j_lt k_lt; pose proof (p_pos j j_lt); pose proof (p_pos k k_lt); assert (0 < INR V) by (apply lt_0_INR; lia).
  unfold fisher_ip; rewrite mean_of_natural by assumption; unfold residual_of at 2.
  rewrite sum_minus, p_total, (sum_ext V _ (fun v => is j v * 1)) by (intros; ring).
  rewrite (sum_is V j (fun _ => 1)) by assumption; unfold residual_of, is.
  destruct (Nat.eq_dec j k) as [<- |]; field; lra.
Qed.

Lemma below_one (j : nat) : (1 < V)%nat -> (j < V)%nat -> p j < 1.
Proof.
  intros V_large j_lt; rewrite <- p_total, <- (sum_is V j p) by assumption.
  set (k := if Nat.eq_dec j 0 then 1%nat else 0%nat).
  assert (k < V /\ j <> k)%nat as [k_lt differ] by (unfold k; destruct (Nat.eq_dec j 0); lia).
  apply sum_lt with k; [| assumption | rewrite is_different by assumption; specialize (p_pos k k_lt); lra].
  intros i i_lt; specialize (p_pos i i_lt); unfold is; destruct (Nat.eq_dec j i); lra.
Qed.

Theorem fisher_signs (j k : nat) : (1 < V)%nat -> (j < V)%nat -> (k < V)%nat ->
  0 < fisher_ip V p j j /\ (j <> k -> fisher_ip V p j k = -1).
Proof.
  intros V_large j_lt k_lt; rewrite !fisher_inner_product, is_same by assumption.
  pose proof (p_pos j j_lt); pose proof (below_one j V_large j_lt); split.
  - enough (1 < 1 / p j) by lra; apply (Rmult_lt_reg_r (p j)); [assumption |]; unfold Rdiv.
    rewrite Rmult_assoc, Rinv_l; lra.
  - intros differ; rewrite is_different by assumption; lra.
Qed.

Definition fisher_gram (w l : nat) : gram := Gram (fisher_ip V p w w) (fisher_ip V p l l) (fisher_ip V p w l).

Corollary fisher_cosine (w l : nat) : (w < V)%nat -> (l < V)%nat -> w <> l ->
  cosine (fisher_gram w l) = -1 / sqrt ((1 / p w - 1) * (1 / p l - 1)).
Proof.
  intros w_lt l_lt differ; assert (1 < V)%nat as V_large by lia.
  destruct (fisher_signs w l V_large w_lt l_lt) as [w_pos anti], (fisher_signs l w V_large l_lt w_lt) as [l_pos _].
  unfold cosine, fisher_gram; simpl; rewrite anti by assumption.
  rewrite <- sqrt_mult, !fisher_inner_product, !is_same by (assumption || lra); reflexivity.
Qed.

(** So under this metric one context never entangles: at any two positive weights the chosen rises and the rejected
    falls. *)
Corollary fisher_step_separates (w l : nat) (dw dl : R) : (w < V)%nat -> (l < V)%nat -> w <> l -> 0 < dw -> 0 < dl ->
  separates (fisher_gram w l) dw dl.
Proof.
  intros w_lt l_lt differ ? ?; assert (1 < V)%nat as V_large by lia.
  destruct (fisher_signs w l V_large w_lt l_lt) as [w_pos anti], (fisher_signs l w V_large l_lt w_lt) as [l_pos _].
  apply every_ratio_separates_unless_entangled; simpl; rewrite ?anti by assumption; lra.
Qed.

End Fisher.

(** p = (.1, .1, .8): aligned in the Euclidean metric, at cosine .46/1.46, and anti-aligned in that of Fisher. *)
Example entanglement_depends_on_the_metric : let p v := nth v (1/10 :: 1/10 :: 8/10 :: nil) 0 in
  (forall v, (v < 3)%nat -> 0 < p v) /\ sum 3 p = 1 /\
  dot 3 (residual_of p 0) (residual_of p 1) = 46/100 /\ dot 3 (residual_of p 0) (residual_of p 0) = 146/100 /\
  cosine (fisher_gram 3 p 0 1) = - (1/9).
Proof.
  intros p; assert (pos : forall v, (v < 3)%nat -> 0 < p v)
    by (intros [|[|[|v]]]; unfold p; simpl; intros; lra || lia).
  assert (total : sum 3 p = 1) by (unfold p; simpl; lra).
  split; [exact pos |]; split; [exact total |].
  split; [unfold dot, residual_of, is, p; simpl; lra |]; split; [unfold dot, residual_of, is, p; simpl; lra |].
  rewrite fisher_cosine by (assumption || lia); unfold p; simpl.
  replace ((1 / (1 / 10) - 1) * (1 / (1 / 10) - 1)) with (9 * 9) by field; rewrite sqrt_square by lra; field.
Qed.
