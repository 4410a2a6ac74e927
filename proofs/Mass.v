(** * Where the probability goes when the hidden state learns too

    What is stated.  T16: one token, logits z_v = ⟨W_v, h⟩, the rows W_v and the hidden state h both trained, a step
    along g_w - g_l.

      - The slope of log π(z), z ∉ {w, l}, is ⟨W_z, W_w - W_l⟩ up to a constant that is the same for all such z.
      - The slope of log π(w) is ⟨W_w - Σ_z p_z W_z, W_w - W_l⟩ + (1 - p_w + p_l)‖h‖².  Its second part is what T4
        has; the first may be negative, so that a single token can be displaced.
      - The margin still cannot fall: its slope is 2‖h‖² + ‖W_w - W_l‖².
      - CHES, the score ⟨Σ h_w, Σ h_l⟩ - ‖Σ h_w‖² of two responses, is minus the slope of the chosen one, for a trained
        W and d_w = d_l, up to a factor, when every ⟨s_i, s_j⟩ is the same number.

    Scope.  Real arithmetic; floating point is the tests' business, and so is how well CHES does otherwise.

    Name                      Meaning
    parameters                the pair (W, h)
    free_logit d θ            z = W h
    free_form V d             ⟨(A, a), (B, b)⟩ = Σ_vk A_vk B_vk + Σ_k a_k b_k, the inner product of such pairs
    free_gradient V d θ y     the gradient of log π(y) in (W, h): ((e_y - p) h^T, Σ_v (e_y - p)_v W_v)
    pair_direction            g_w - g_l
    token_slope y             derivative of log π(y) along g_w - g_l
    row_gap                   W_w - W_l
    mean_row                  Σ_v p_v W_v
    head_slope y              derivative of log π(y) along g_w - g_l with h frozen
    hidden_sum T h            Σ_i h_i, i < T
    ches d w l                ⟨Σ h_w, Σ h_l⟩ - ‖Σ h_w‖², with the features of each position for its hidden state *)

From Coq Require Import Reals Lra Psatz Lia Arith List FunctionalExtensionality.
From Toymodel Require Import Sums Condition Softmax Slopes Entanglement.
Local Open Scope R_scope.

(** ** The model *)

Definition parameters : Type := ((nat -> nat -> R) * (nat -> R))%type.

Definition free_plus (θ δ : parameters) : parameters := (matrix_plus (fst θ) (fst δ), vector_plus (snd θ) (snd δ)).
Definition free_scale (a : R) (θ : parameters) : parameters := (matrix_scale a (fst θ), vector_scale a (snd θ)).
Definition free_form (V d : nat) (θ δ : parameters) : R := frobenius V d (fst θ) (fst δ) + dot d (snd θ) (snd δ).

Theorem parameters_form (V d : nat) : semi_inner_product free_plus free_scale (free_form V d).
Proof.
  destruct (matrices_form V d) as [M_sym M_add M_hom M_pos], (vectors_form d) as [v_sym v_add v_hom v_pos].
  unfold free_form, free_plus, free_scale; split; intros; simpl.
  - now rewrite M_sym, v_sym.
  - rewrite M_add, v_add; ring.
  - rewrite M_hom, v_hom; ring.
  - apply Rplus_le_le_0_compat; auto.
Qed.

Definition free_logit (d : nat) (θ : parameters) (v : nat) : R := dot d (fst θ v) (snd θ).

Definition free_gradient (V d : nat) (θ : parameters) (y : nat) : parameters :=
  let s := residual V (free_logit d θ) y in
  (fun v k => s v * snd θ k, fun k => Σ_(v < V) s v * fst θ v k).

(** How fast the logits move along δ. *)
Definition velocity (d : nat) (θ δ : parameters) (v : nat) : R := dot d (fst δ v) (snd θ) + dot d (fst θ v) (snd δ).

Lemma free_gradient_along (V d : nat) (θ δ : parameters) (y : nat) :
  free_form V d (free_gradient V d θ y) δ = dot V (residual V (free_logit d θ) y) (velocity d θ δ).
Proof.
  unfold free_form, free_gradient, velocity; simpl; set (s := residual V (free_logit d θ) y).
  transitivity (Σ_(v < V) s v * dot d (fst δ v) (snd θ) + Σ_(v < V) s v * dot d (fst θ v) (snd δ)).
  - f_equal.
    + apply sum_ext; intros v _; unfold dot; rewrite <- sum_scale; apply sum_ext; intros; ring.
    + unfold dot; rewrite (sum_ext d _ (fun k => Σ_(v < V) s v * (fst θ v k * snd δ k))).
      * rewrite sum_swap; apply sum_ext; intros v _; apply sum_scale.
      * intros k _; rewrite Rmult_comm, <- sum_scale; apply sum_ext; intros; ring.
  - rewrite <- sum_plus; apply sum_ext; intros; ring.
Qed.

Lemma free_logit_derivative (d : nat) (θ δ : parameters) (v : nat) :
  derivable_pt_lim (fun t => free_logit d (free_plus θ (free_scale t δ)) v) 0 (velocity d θ δ v).
Proof.
  set (c := dot d (fst δ v) (snd δ)); set (b := velocity d θ δ v).
  apply (derivable_pt_lim_ext (fun t => free_logit d θ v + t * (b + t * c))).
  - intros t; unfold b, c, velocity, free_logit, free_plus, free_scale, dot; simpl.
    rewrite <- sum_plus, <- !sum_scale, <- sum_plus, <- sum_scale, <- sum_plus.
    apply sum_ext; intros k _; unfold matrix_plus, matrix_scale, vector_plus, vector_scale; ring.
  - enough (derivable_pt_lim (fun t => free_logit d θ v + t * (b + t * c)) 0 (0 + (1 * (b + 0 * c) + 0 * c))) as slope
      by (now replace (0 + (1 * (b + 0 * c) + 0 * c)) with b in slope by ring).
    apply (derivable_pt_lim_plus (fct_cte (free_logit d θ v)) (fun t => t * (b + t * c))).
    + apply derivable_pt_lim_const.
    + apply (derivable_pt_lim_mult id (fun t => b + t * c)); [apply derivable_pt_lim_id | apply affine_derivative].
Qed.

Lemma free_step_zero (θ δ : parameters) : free_plus θ (free_scale 0 δ) = θ.
Proof.
  unfold free_plus, free_scale; simpl; rewrite matrix_step_zero, vector_step_zero; now destruct θ.
Qed.

(** It is the gradient: its inner product with any direction is the derivative in that direction. *)
Theorem token_gradient_is_gradient (V d : nat) (θ : parameters) (y : nat) : (y < V)%nat ->
  gradient_at free_plus free_scale (free_form V d) (fun θ => logp V (free_logit d θ) y) θ (free_gradient V d θ y).
Proof.
  intros y_lt δ; rewrite free_gradient_along.
  pose proof (logp_derivative V (fun t => free_logit d (free_plus θ (free_scale t δ))) (velocity d θ δ) 0 y y_lt) as chain.
  cbv beta in chain; rewrite free_step_zero in chain; apply chain; intros v _; apply free_logit_derivative.
Qed.

(** ** T16 *)

Section OneToken.
Variables (V d : nat) (W : nat -> nat -> R) (h : nat -> R) (w l : nat).
Hypotheses (w_token : (w < V)%nat) (l_token : (l < V)%nat) (differ : w <> l).

Let θ : parameters := (W, h).
Let p := softmax V (free_logit d θ).

Definition row_gap (k : nat) : R := W w k - W l k.
Definition mean_row (k : nat) : R := Σ_(v < V) p v * W v k.

Definition pair_direction : parameters :=
  combined _ free_plus free_scale 1 (free_gradient V d θ w) (-1) (free_gradient V d θ l).

Definition token_slope (y : nat) : R := free_form V d (free_gradient V d θ y) pair_direction.

Theorem token_slope_is_derivative (y : nat) : (y < V)%nat ->
  derivable_pt_lim (fun t => logp V (free_logit d (free_plus θ (free_scale t pair_direction))) y) 0 (token_slope y).
Proof. intros y_lt; apply (token_gradient_is_gradient V d θ y y_lt pair_direction). Qed.

(** For w and l it is T9's slope, with d_w = d_l = 1. *)
Theorem slopes_of_the_pair :
  let G := gram_of (free_form V d) (free_gradient V d θ w) (free_gradient V d θ l) in
  token_slope w = chosen_slope G 1 1 /\ token_slope l = rejected_slope G 1 1.
Proof.
  exact (slopes_along_the_step _ _ _ _ (parameters_form V d) (free_gradient V d θ w) (free_gradient V d θ l) 1 1).
Qed.

Lemma hidden_direction (k : nat) : snd pair_direction k = row_gap k.
Proof.
  unfold pair_direction, combined, free_plus, free_scale, vector_plus, vector_scale, row_gap; simpl.
  rewrite <- !sum_scale, <- sum_plus; fold θ.
  rewrite (sum_ext V _ (fun v => is w v * W v k - is l v * W v k)) by (intros; unfold residual; simpl; ring).
  now rewrite sum_minus, (sum_is V w (fun v => W v k)), (sum_is V l (fun v => W v k)) by assumption.
Qed.

Lemma head_direction (v k : nat) : fst pair_direction v k = (is w v - is l v) * h k.
Proof.
  unfold pair_direction, combined, free_plus, free_scale, matrix_plus, matrix_scale; simpl; unfold residual; ring.
Qed.

(** The logits move by (e_w - e_l)‖h‖² + W (W_w - W_l). *)
Lemma logit_velocity (v : nat) : velocity d θ pair_direction v = (is w v - is l v) * dot d h h + dot d (W v) row_gap.
Proof.
  unfold velocity; f_equal.
  - rewrite <- dot_scale_left; apply sum_ext; intros; now rewrite head_direction.
  - apply sum_ext; intros; now rewrite hidden_direction.
Qed.

Lemma mean_row_dot (u : nat -> R) : dot d mean_row u = Σ_(v < V) p v * dot d (W v) u.
Proof.
  unfold dot, mean_row; rewrite (sum_ext d _ (fun k => Σ_(v < V) p v * (W v k * u k))).
  - rewrite sum_swap; apply sum_ext; intros v _; apply sum_scale.
  - intros k _; rewrite Rmult_comm, <- sum_scale; apply sum_ext; intros; ring.
Qed.

Lemma slope_formula (y : nat) : (y < V)%nat ->
  token_slope y = (is w y - is l y - p w + p l) * dot d h h + dot d (W y) row_gap - dot d mean_row row_gap.
Proof.
  intros y_lt; unfold token_slope; rewrite free_gradient_along, residual_dot_vector by assumption; fold p.
  rewrite logit_velocity, mean_row_dot; unfold dot at 3.
  rewrite (sum_ext V _ (fun v => is w v * (p v * dot d h h) - is l v * (p v * dot d h h) + p v * dot d (W v) row_gap))
    by (intros; rewrite logit_velocity; ring).
  rewrite sum_plus, sum_minus, (sum_is V w (fun v => p v * _)), (sum_is V l (fun v => p v * _)) by assumption; ring.
Qed.

(** The other tokens: ⟨W_z, W_w - W_l⟩, less a constant. *)
Theorem slope_of_other_token (z : nat) : (z < V)%nat -> z <> w -> z <> l ->
  token_slope z = dot d (W z) row_gap - (dot d mean_row row_gap + (p w - p l) * dot d h h).
Proof. intros z_lt not_w not_l; rewrite slope_formula, !is_different by auto; ring. Qed.

Corollary mass_goes_where_the_row_leans (z z' : nat) :
  (z < V)%nat -> z <> w -> z <> l -> (z' < V)%nat -> z' <> w -> z' <> l ->
  (token_slope z < token_slope z' <-> dot d (W z) row_gap < dot d (W z') row_gap).
Proof. intros; rewrite !slope_of_other_token by assumption; split; lra. Qed.

Theorem slope_of_chosen :
  token_slope w = dot d (fun k => W w k - mean_row k) row_gap + (1 - p w + p l) * dot d h h.
Proof. rewrite slope_formula, dot_minus_left, is_same, is_different by auto; ring. Qed.

Theorem slope_of_rejected :
  token_slope l = dot d (fun k => W l k - mean_row k) row_gap - (1 - p l + p w) * dot d h h.
Proof. rewrite slope_formula, dot_minus_left, is_same, is_different by auto; ring. Qed.

Theorem slope_of_margin : token_slope w - token_slope l = 2 * dot d h h + dot d row_gap row_gap.
Proof.
  rewrite slope_of_chosen, slope_of_rejected, !dot_minus_left.
  replace (dot d row_gap row_gap) with (dot d (W w) row_gap - dot d (W l) row_gap) by (now rewrite <- dot_minus_left).
  ring.
Qed.

(** With h frozen the direction has no part in it, and what is left is T4's slope: no displacement. *)
Definition head_slope (y : nat) : R := free_form V d (free_gradient V d θ y) (fst pair_direction, fun _ => 0).

Theorem head_slope_of_chosen : head_slope w = (1 - p w + p l) * dot d h h.
Proof.
  unfold head_slope; rewrite free_gradient_along, residual_dot_vector by assumption; fold p.
  assert (still : forall v, velocity d θ (fst pair_direction, fun _ => 0) v = (is w v - is l v) * dot d h h).
  { intros v; transitivity (dot d (fst pair_direction v) h + dot d (W v) (fun _ => 0)); [reflexivity |].
    replace (dot d (W v) (fun _ => 0)) with 0 by (symmetry; apply sum_zero; intros; ring).
    rewrite Rplus_0_r, <- dot_scale_left; apply sum_ext; intros; now rewrite head_direction. }
  rewrite still; unfold dot at 2.
  rewrite (sum_ext V _ (fun v => is w v * (p v * dot d h h) - is l v * (p v * dot d h h)))
    by (intros; rewrite still; ring).
  rewrite sum_minus, (sum_is V w (fun v => p v * _)), (sum_is V l (fun v => p v * _)) by assumption.
  rewrite is_same, is_different by auto; ring.
Qed.

Corollary head_alone_raises_chosen : 0 < dot d h h -> 0 < head_slope w.
Proof.
  intros h_pos; rewrite head_slope_of_chosen; assert (0 < V)%nat as V_pos by lia.
  pose proof (softmax_at_most_one V (free_logit d θ) w w_token); pose proof (softmax_pos V (free_logit d θ) l V_pos).
  apply Rmult_lt_0_compat; [unfold p; lra | assumption].
Qed.

End OneToken.

(** A single token displaced: rows (1, 0), (1/2, 0), (10, 0) and h = (0, 1), so that p is uniform.  The third token
    takes the mass; with h frozen the chosen token would have risen. *)
Example single_token_displaced_when_h_learns :
  let W v k := match k with O => nth v (1 :: 1/2 :: 10 :: nil) 0 | _ => 0 end in
  let h := is 1 in let slope := token_slope 3 2 W h 0 1 in
  slope 0%nat = -5/12 /\ slope 1%nat < slope 0%nat < 0 /\ 0 < slope 2%nat /\ head_slope 3 2 W h 0 1 0 = 1.
Proof.
  intros W h slope; unfold slope.
  assert (flat : free_logit 2 (W, h) = fun _ => 0).
  { extensionality v; unfold free_logit, dot, W, h, is; simpl; ring. }
  rewrite head_slope_of_chosen, !slope_formula by lia.
  unfold mean_row; rewrite flat, !uniform_softmax by lia.
  unfold dot, row_gap, W, h, is; simpl; rewrite !uniform_softmax by lia; simpl; lra.
Qed.

(** ** CHES *)

Definition hidden_sum (T : nat) (h : nat -> nat -> R) (k : nat) : R := Σ_(i < T) h i k.

Definition ches (d : nat) (w l : response) : R :=
  let Hw := hidden_sum (size w) (feature w) in let Hl := hidden_sum (size l) (feature l) in
  dot d Hw Hl - dot d Hw Hw.

Lemma dot_of_hidden_sums (d T T' : nat) (h h' : nat -> nat -> R) :
  dot d (hidden_sum T h) (hidden_sum T' h') = Σ_(i < T) Σ_(j < T') dot d (h i) (h' j).
Proof.
  unfold dot, hidden_sum; rewrite (sum_ext d _ (fun k => Σ_(i < T) Σ_(j < T') h i k * h' j k))
    by (intros; apply sum_product).
  rewrite sum_swap; apply sum_ext; intros i _; apply sum_swap.
Qed.

Section Ches.
Variables (V d : nat) (W : nat -> nat -> R) (w l : response) (κ weight : R).

Let s := residuals V d W w.
Let t := residuals V d W l.
Hypothesis own_agree : forall i j, (i < size w)%nat -> (j < size w)%nat -> dot V (s i) (s j) = κ.
Hypothesis cross_agree : forall i j, (i < size w)%nat -> (j < size l)%nat -> dot V (s i) (t j) = κ.

Theorem chosen_slope_is_minus_ches : chosen_slope (pair_gram V d W w l) weight weight = - (weight * κ * ches d w l).
Proof.
  rewrite pair_gram_from_tokens; unfold chosen_slope, ches; simpl; rewrite !dot_of_hidden_sums.
  rewrite (sum_ext (size w) (fun i => Σ_(j < size w) token_gram V d W w w i j)
                            (fun i => κ * Σ_(j < size w) dot d (feature w i) (feature w j))).
  - rewrite (sum_ext (size w) (fun i => Σ_(j < size l) token_gram V d W w l i j)
                              (fun i => κ * Σ_(j < size l) dot d (feature w i) (feature l j))).
    + rewrite !sum_scale; ring.
    + intros i i_lt; rewrite <- sum_scale; apply sum_ext; intros j j_lt; unfold token_gram.
      fold (s i) (t j); rewrite cross_agree by assumption; ring.
  - intros i i_lt; rewrite <- sum_scale; apply sum_ext; intros j j_lt; unfold token_gram.
    fold (s i) (s j); rewrite own_agree by assumption; ring.
Qed.

Corollary chosen_falls_iff_ches_positive : 0 < κ -> 0 < weight ->
  (chosen_slope (pair_gram V d W w l) weight weight < 0 <-> 0 < ches d w l).
Proof.
  intros κ_pos weight_pos; rewrite chosen_slope_is_minus_ches.
  assert (0 < weight * κ) by nra; split; intros; nra.
Qed.

End Ches.

(** The residuals do agree when one token is repeated under uniform probabilities: κ = 1 - 1/V, whatever the hidden
    states. *)
Example repeated_token_residuals_agree (V d T : nat) (y : nat) (h : nat -> nat -> R) (i j : nat) : (y < V)%nat ->
  let r := Response T (fun _ => y) (fun _ _ => 0) h in let s := residuals V d (fun _ _ => 0) r in
  dot V (s i) (s j) = 1 - 1 / INR V.
Proof.
  intros y_lt r s; assert (V_pos : (0 < V)%nat) by lia; pose proof (lt_0_INR V V_pos).
  assert (flat : forall i, s i = residual V (fun _ => 0) y).
  { intros k; unfold s, residuals; f_equal; extensionality v; unfold logits, dot; simpl.
    rewrite sum_zero by (intros; ring); ring. }
  rewrite !flat, residual_norm, uniform_softmax by assumption.
  unfold dot; rewrite (sum_ext V _ (fun _ => 1 / INR V * (1 / INR V))) by (intros; now rewrite !uniform_softmax).
  rewrite sum_const; field; lra.
Qed.

(** They do not after one token each, a chosen and another rejected one: CHES > 0, and yet the chosen response rises. *)
Example ches_needs_agreeing_residuals :
  let text y x := Response 1 (fun _ => y) (fun _ _ => 0) (fun _ _ => x) in
  let w := text 0%nat 1 in let l := text 1%nat 2 in
  ches 1 w l = 1 /\ chosen_slope (pair_gram 2 1 (fun _ _ => 0) w l) 1 1 = 3/2.
Proof.
  intros text w l; split; [unfold ches, hidden_sum, dot; simpl; ring |].
  assert (flat : forall y x, logits 1 (fun _ _ => 0) (text y x) 0 = fun _ => 0).
  { intros y x; extensionality v; unfold logits, dot; simpl; ring. }
  unfold chosen_slope; rewrite pair_gram_from_tokens; simpl; unfold w, l.
  rewrite !token_gram_in_probabilities, !flat by (simpl; lia).
  unfold dot; simpl; rewrite !uniform_softmax by lia; unfold is; simpl; lra.
Qed.
