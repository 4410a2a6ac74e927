(** * Every step size

    What is stated.  T12, for linear softmax: log π(y) is concave in W, so

      its true change along D is at most η times its slope, for every real η;
      a response whose slope is at most 0 falls at every step size, so no learning rate repairs it
        (if its slope is 0 it may instead stay where it is, at every step size);
      its true change is at least η·slope - η² Σ_i (max v_i - min v_i)² / 8 ≥ η·slope - η² Σ_i ‖v_i‖² / 4, where v_i is
        the change of the logits at position i per unit of η; this certifies a range of step sizes for "chosen up".

    Scope.  Real arithmetic, one step from W along one direction D, such as the pair's d_w g_w - d_l g_l.  Networks with
    more than their last layer trained are not concave: an example shows what breaks.

    Name                     Meaning
    stepped W D η            W + η D (from Slopes.v)
    slope V d W r D          ⟨gradient of log π(y), D⟩
    curvature V d r D        Σ_i (max v_i - min v_i)² / 8 *)

From Coq Require Import Reals Lra Psatz Lia Arith FunctionalExtensionality.
From Toymodel Require Import Sums Condition Softmax Slopes Entanglement.
Local Open Scope R_scope.

(** ** One softmax *)

Lemma logp_change_le (V : nat) (z u : nat -> R) (y : nat) (η : R) : (y < V)%nat ->
  logp V (shift z (fun v => η * u v)) y <= logp V z y + η * dot V (residual V z y) u.
Proof.
  intros y_lt; assert (0 < V)%nat as V_pos by lia; rewrite residual_dot_vector by assumption.
  pose proof (lse_shift_lower V z (fun v => η * u v) V_pos) as below; rewrite dot_scale_right in below.
  unfold logp, shift at 1; lra.
Qed.

Lemma logp_change_lt (V : nat) (z u : nat -> R) (y v w : nat) (η : R) : (y < V)%nat ->
  (v < V)%nat -> (w < V)%nat -> u v <> u w -> η <> 0 ->
  logp V (shift z (fun v => η * u v)) y < logp V z y + η * dot V (residual V z y) u.
Proof.
  intros y_lt v_lt w_lt differ η_nonzero; rewrite residual_dot_vector by assumption.
  assert (η * u v <> η * u w) as moves by (intros same; apply Rmult_eq_reg_l in same; auto).
  pose proof (lse_shift_lower_strict V z (fun v => η * u v) v w v_lt w_lt moves) as below.
  rewrite dot_scale_right in below; unfold logp, shift at 1; lra.
Qed.

Lemma logp_change_ge (V : nat) (z u : nat -> R) (y : nat) (η : R) : (y < V)%nat ->
  logp V z y + η * dot V (residual V z y) u - η * η * (range V u * range V u / 8)
  <= logp V (shift z (fun v => η * u v)) y.
Proof.
  intros y_lt; assert (0 < V)%nat as V_pos by lia; rewrite residual_dot_vector by assumption.
  pose proof (lse_shift_upper_range V z u η V_pos); unfold logp, shift at 1; lra.
Qed.

Lemma logp_constant_change (V : nat) (z u : nat -> R) (y : nat) (η : R) : (y < V)%nat -> constant_over V u ->
  logp V (shift z (fun v => η * u v)) y = logp V z y.
Proof.
  intros y_lt constant; unfold logp; rewrite (lse_constant_shift V z _ y); unfold shift; [ring | assumption |].
  intros v w v_lt w_lt; now rewrite (constant v w v_lt w_lt).
Qed.

Lemma constant_change_has_no_slope (V : nat) (z u : nat -> R) (y : nat) : (y < V)%nat -> constant_over V u ->
  dot V (residual V z y) u = 0.
Proof.
  intros y_lt constant; unfold dot; rewrite (sum_ext V _ (fun v => u y * residual V z y v)).
  - rewrite sum_scale, residual_sum by assumption; ring.
  - intros v v_lt; rewrite (constant v y v_lt y_lt); ring.
Qed.

(** ** One response *)

Lemma all_or_some (n : nat) (P : nat -> Prop) : (forall i, P i \/ ~ P i) ->
  (forall i, (i < n)%nat -> P i) \/ (exists i, (i < n)%nat /\ ~ P i).
Proof.
  intros decidable; induction n as [|n [all | (i & i_lt & fails)]]; [left; lia | | right; exists i; auto].
  destruct (decidable n) as [holds | fails]; [left | right; exists n; auto].
  intros i i_lt; destruct (Nat.eq_dec i n) as [-> |]; [assumption | apply all; lia].
Qed.

Section OneResponse.
Variables (V d : nat) (W : nat -> nat -> R) (r : response) (D : nat -> nat -> R).
Hypothesis r_in : in_vocabulary V r.

Definition slope : R := frobenius V d (gradient V d W r) D.

Definition curvature : R :=
  Σ_(i < size r) range V (logit_change d D r i) * range V (logit_change d D r i) / 8.

Lemma slope_by_position :
  slope = Σ_(i < size r) dot V (residual V (logits d W r i) (token r i)) (logit_change d D r i).
Proof. apply gradient_dot. Qed.

Lemma logprob_stepped (η : R) : logprob V d (stepped W D η) r
  = Σ_(i < size r) logp V (shift (logits d W r i) (fun v => η * logit_change d D r i v)) (token r i).
Proof.
  apply sum_ext; intros i _; f_equal; extensionality v; apply logits_along.
Qed.

Theorem slope_is_derivative : derivable_pt_lim (fun η => logprob V d (stepped W D η) r) 0 slope.
Proof. exact (linear_softmax_gradient V d W r r_in D). Qed.

(** T12: the upper bound, at every step size of either sign. *)
Theorem change_at_most_slope (η : R) : logprob V d (stepped W D η) r <= logprob V d W r + η * slope.
Proof.
  rewrite logprob_stepped, slope_by_position, <- sum_scale; unfold logprob, response_logp; rewrite <- sum_plus.
  apply sum_le; intros i i_lt; apply logp_change_le; auto.
Qed.

(** T12: the lower bound. *)
Theorem change_at_least (η : R) :
  logprob V d W r + η * slope - η * η * curvature <= logprob V d (stepped W D η) r.
Proof.
  rewrite logprob_stepped, slope_by_position; unfold curvature; rewrite <- !sum_scale.
  unfold logprob, response_logp; rewrite <- sum_plus, <- sum_minus.
  apply sum_le; intros i i_lt; apply logp_change_ge; auto.
Qed.

Lemma position_has_tokens (i : nat) : (i < size r)%nat -> (0 < V)%nat.
Proof. intros i_lt; specialize (r_in i i_lt); lia. Qed.

Theorem curvature_below_norm :
  curvature <= Σ_(i < size r) dot V (logit_change d D r i) (logit_change d D r i) / 4.
Proof.
  apply sum_le; intros i i_lt; pose proof (range_below_norm V (logit_change d D r i) (position_has_tokens i i_lt)); lra.
Qed.

Corollary change_at_least_by_norm (η : R) :
  logprob V d W r + η * slope
    - η * η * (Σ_(i < size r) dot V (logit_change d D r i) (logit_change d D r i) / 4)
  <= logprob V d (stepped W D η) r.
Proof.
  pose proof (change_at_least η); pose proof (Rmult_le_compat_l _ _ _ (Rle_0_sqr η) curvature_below_norm).
  unfold Rsqr in *; lra.
Qed.

Lemma curvature_nonneg : 0 <= curvature.
Proof.
  apply sum_nonneg; intros i _; pose proof (Rle_0_sqr (range V (logit_change d D r i))); unfold Rsqr in *; lra.
Qed.

(** ** Falling at every step size *)

Theorem nonpositive_slope_never_rises (η : R) : slope <= 0 -> 0 <= η ->
  logprob V d (stepped W D η) r <= logprob V d W r.
Proof. intros falls η_nonneg; pose proof (change_at_most_slope η); nra. Qed.

Theorem negative_slope_falls (η : R) : slope < 0 -> 0 < η -> logprob V d (stepped W D η) r < logprob V d W r.
Proof. intros falls η_pos; pose proof (change_at_most_slope η); nra. Qed.

(** A slope of 0 is no exception as soon as the step changes one softmax, that is, moves two of its logits apart. *)
Theorem nonpositive_slope_falls_if_moved (η : R) (i v w : nat) : slope <= 0 -> 0 < η ->
  (i < size r)%nat -> (v < V)%nat -> (w < V)%nat -> logit_change d D r i v <> logit_change d D r i w ->
  logprob V d (stepped W D η) r < logprob V d W r.
Proof.
  intros falls η_pos i_lt v_lt w_lt moved.
  apply Rlt_le_trans with (logprob V d W r + η * slope); [| nra].
  rewrite logprob_stepped, slope_by_position, <- sum_scale; unfold logprob, response_logp; rewrite <- sum_plus.
  apply sum_lt with (k := i); [| assumption |].
  - intros k k_lt; apply logp_change_le; auto.
  - apply logp_change_lt with v w; auto; lra.
Qed.

(** Otherwise the step adds one number to all logits of a position, at every position. *)
Definition flat : Prop := forall i, (i < size r)%nat -> constant_over V (logit_change d D r i).

Lemma flat_or_moved : flat \/ exists i v w,
  (i < size r)%nat /\ (v < V)%nat /\ (w < V)%nat /\ logit_change d D r i v <> logit_change d D r i w.
Proof.
  destruct (all_or_some (size r) (fun i => range V (logit_change d D r i) = 0)) as [all | (i & i_lt & wide)].
  - intros i; apply Req_dec.
  - left; intros i i_lt; apply range_zero_iff_constant; [exact (position_has_tokens i i_lt) | auto].
  - right; pose proof (position_has_tokens i i_lt) as V_pos.
    destruct (largest_attained V (logit_change d D r i) V_pos) as (v & v_lt & top).
    destruct (smallest_attained V (logit_change d D r i) V_pos) as (w & w_lt & bottom).
    exists i, v, w; repeat split; auto; unfold range in wide; lra.
Qed.

Lemma flat_slope : flat -> slope = 0.
Proof.
  intros is_flat; rewrite slope_by_position; apply sum_zero; intros i i_lt.
  apply constant_change_has_no_slope; auto.
Qed.

Lemma flat_never_moves (η : R) : flat -> logprob V d (stepped W D η) r = logprob V d W r.
Proof.
  intros is_flat; rewrite logprob_stepped; apply sum_ext; intros i i_lt; apply logp_constant_change; auto.
Qed.

(** T12: what starts level or downwards falls at every step size, or stays where it is at every step size. *)
Theorem falls_at_every_step_size : slope <= 0 ->
  (forall η, 0 < η -> logprob V d (stepped W D η) r < logprob V d W r) \/
  (forall η, logprob V d (stepped W D η) r = logprob V d W r).
Proof.
  intros falls; destruct flat_or_moved as [is_flat | (i & v & w & i_lt & v_lt & w_lt & moved)].
  - right; intros η; now apply flat_never_moves.
  - left; intros η η_pos; now apply nonpositive_slope_falls_if_moved with i v w.
Qed.

(** ** Rising at every small enough step size *)

Lemma rising_has_curvature : 0 < slope -> 0 < curvature.
Proof.
  intros rises; destruct curvature_nonneg as [pos | zero]; [assumption | exfalso].
  enough flat as is_flat by (pose proof (flat_slope is_flat); lra).
  intros i i_lt; apply range_zero_iff_constant; [exact (position_has_tokens i i_lt) |].
  pose (term k := range V (logit_change d D r k) * range V (logit_change d D r k) / 8).
  assert (forall k, (k < size r)%nat -> 0 <= term k) as terms_nonneg
    by (intros k _; pose proof (Rle_0_sqr (range V (logit_change d D r k))); unfold term, Rsqr in *; lra).
  pose proof (term_le_sum (size r) term i terms_nonneg i_lt) as bound; fold term in bound.
  change (sum (size r) term) with curvature in bound; rewrite <- zero in bound.
  specialize (terms_nonneg i i_lt); unfold term in *; nra.
Qed.

(** T12: a certified step size for "rises". *)
Theorem rises_at_certified_step_sizes (η : R) : 0 < slope -> 0 < η < slope / curvature ->
  logprob V d W r < logprob V d (stepped W D η) r.
Proof.
  intros rises [η_pos small]; pose proof (rising_has_curvature rises) as curved.
  assert (η * curvature < slope) as certified.
  { replace slope with (slope / curvature * curvature) by (field; lra); now apply Rmult_lt_compat_r. }
  pose proof (change_at_least η); nra.
Qed.

Corollary rises_at_some_step_size : 0 < slope -> exists η, 0 < η /\ logprob V d W r < logprob V d (stepped W D η) r.
Proof.
  intros rises; pose proof (rising_has_curvature rises) as curved.
  assert (0 < slope / curvature) by now apply Rdiv_lt_0_compat.
  exists (slope / curvature / 2); split; [lra | apply rises_at_certified_step_sizes; lra].
Qed.

End OneResponse.

(** ** Concavity itself *)

(** Between W and W + D the log-probability lies above its chord: both ends lie below the tangent in between. *)
Theorem logprob_is_concave (V d : nat) (W D : nat -> nat -> R) (r : response) (t : R) :
  in_vocabulary V r -> 0 <= t <= 1 ->
  (1 - t) * logprob V d W r + t * logprob V d (stepped W D 1) r <= logprob V d (stepped W D t) r.
Proof.
  intros r_in [t_nonneg t_le_1]; set (M := stepped W D t).
  assert (stepped M D (- t) = W) as back
    by (unfold M, stepped, matrix_plus, matrix_scale; extensionality v; extensionality k; ring).
  assert (stepped M D (1 - t) = stepped W D 1) as forth
    by (unfold M, stepped, matrix_plus, matrix_scale; extensionality v; extensionality k; ring).
  pose proof (change_at_most_slope V d M r D r_in (- t)) as left_end; rewrite back in left_end.
  pose proof (change_at_most_slope V d M r D r_in (1 - t)) as right_end; rewrite forth in right_end.
  nra.
Qed.

(** ** A pair under a margin loss *)

Section Pair.
Variables (V d : nat) (W : nat -> nat -> R) (w l : response) (dw dl : R).
Hypotheses (w_in : in_vocabulary V w) (l_in : in_vocabulary V l).

Let G := pair_gram V d W w l.
Let step := pair_step V d W w l dw dl.

Lemma slopes_of_pair : slope V d W w step = chosen_slope G dw dl /\ slope V d W l step = rejected_slope G dw dl.
Proof. apply (slopes_along_the_step _ matrix_plus matrix_scale), matrices_form. Qed.

Theorem no_learning_rate_repairs_it : chosen_slope G dw dl <= 0 ->
  (forall η, 0 < η -> logprob V d (stepped W step η) w < logprob V d W w) \/
  (forall η, logprob V d (stepped W step η) w = logprob V d W w).
Proof. rewrite <- (proj1 slopes_of_pair); now apply falls_at_every_step_size. Qed.

Theorem rejected_falls_at_every_learning_rate : rejected_slope G dw dl <= 0 ->
  (forall η, 0 < η -> logprob V d (stepped W step η) l < logprob V d W l) \/
  (forall η, logprob V d (stepped W step η) l = logprob V d W l).
Proof. rewrite <- (proj2 slopes_of_pair); now apply falls_at_every_step_size. Qed.

(** With T10: an inner product beyond the condition costs the chosen response probability at every learning rate. *)
Corollary entangled_pair_loses_the_chosen (η : R) : 0 < dl -> dw / dl * ww G < wl G -> 0 < η ->
  logprob V d (stepped W step η) w < logprob V d W w.
Proof.
  intros dl_pos entangled η_pos; apply negative_slope_falls; [assumption | | assumption].
  rewrite (proj1 slopes_of_pair); now apply chosen_down_iff.
Qed.

(** And within the condition every certified learning rate raises the chosen and lowers the rejected. *)
Theorem certified_learning_rate_separates (η : R) : separates G dw dl ->
  0 < η < chosen_slope G dw dl / curvature V d w step ->
  logprob V d W w < logprob V d (stepped W step η) w /\ logprob V d (stepped W step η) l < logprob V d W l.
Proof.
  intros [up down] certified; split.
  - apply rises_at_certified_step_sizes; now rewrite ?(proj1 slopes_of_pair).
  - apply negative_slope_falls; [assumption | now rewrite (proj2 slopes_of_pair) | tauto].
Qed.

End Pair.

(** Such pairs exist: responses a a b and a a a, one uniform softmax over {a, b} shared by all positions, equal weights.
    The inner product of the gradients is 3/2, the squared norm of the chosen one's 1/2. *)
Definition unigram (n : nat) (y : nat -> nat) := Response n y (fun _ _ => 0) (fun _ _ => 1).

Lemma uniform_unigram_token_gram (V n n' : nat) (y y' : nat -> nat) (i j : nat) : (y i < V)%nat -> (y' j < V)%nat ->
  token_gram V 1 (fun _ _ => 0) (unigram n y) (unigram n' y') i j = is (y i) (y' j) - 1 / INR V.
Proof.
  intros y_lt y'_lt; assert (0 < V)%nat as V_pos by lia; pose proof (lt_0_INR V V_pos).
  assert (forall n y i, logits 1 (fun _ _ => 0) (unigram n y) i = fun _ => 0) as uniform
    by (intros; extensionality v; unfold logits, dot; simpl; ring).
  rewrite token_gram_in_probabilities by assumption; cbv zeta; rewrite !uniform, !uniform_softmax by assumption.
  unfold dot; simpl; rewrite (sum_ext V _ (fun _ => 1 / INR V * (1 / INR V))), sum_const by
    (intros; rewrite uniform_softmax; auto).
  field; lra.
Qed.

Example a_pair_that_loses_the_chosen (η : R) : 0 < η ->
  let w := unigram 3 (fun i => match i with 2%nat => 1%nat | _ => 0%nat end) in let l := unigram 3 (fun _ => 0%nat) in
  let W (_ _ : nat) := 0 in let G := pair_gram 2 1 W w l in
  G = Gram (1 / 2) (9 / 2) (3 / 2) /\ logprob 2 1 (stepped W (pair_step 2 1 W w l 1 1) η) w < logprob 2 1 W w.
Proof.
  intros η_pos w l W G.
  assert (G = Gram (1 / 2) (9 / 2) (3 / 2)) as entries.
  { unfold G, w, l; rewrite pair_gram_from_tokens; simpl; unfold W; rewrite !uniform_unigram_token_gram by lia.
    simpl; rewrite !is_same, !is_different by lia; f_equal; lra. }
  split; [exact entries |].
  assert (in_vocabulary 2 w) as w_in by (intros i _; simpl; destruct i as [|[|[|i]]]; lia).
  apply entangled_pair_loses_the_chosen; [assumption | lra | fold G; rewrite entries; simpl; lra | assumption].
Qed.

(** ** What the assumptions are for *)

(** Beyond the certified step sizes a response that starts upwards may fall: one uniform softmax over three tokens,
    logits moved by (1, 2, -6).  The first token's slope is 2, yet η = 1 lowers it. *)
Definition first_of_three := Response 1 (fun _ => 0%nat) (fun _ _ => 0) (fun _ _ => 1).

Lemma two_below_e : 2 < exp 1.
Proof. pose proof (exp_ineq1 1); lra. Qed.

Example too_large_a_step_overshoots :
  let W (_ _ : nat) := 0 in let D (v _ : nat) := match v with 0%nat => 1 | 1%nat => 2 | _ => -6 end in
  0 < slope 3 1 W first_of_three D /\
  logprob 3 1 (stepped W D 1) first_of_three < logprob 3 1 W first_of_three.
Proof.
  intros W D.
  assert (logits 1 W first_of_three 0 = fun _ => 0) as uniform
    by (extensionality v; unfold logits, dot, W; simpl; ring).
  assert (logit_change 1 D first_of_three 0 = fun v => D v 0%nat) as change
    by (extensionality v; unfold logit_change, dot; simpl; ring).
  split.
  - rewrite slope_by_position; simpl; rewrite uniform, change, residual_dot_vector by lia.
    unfold dot; simpl; rewrite !uniform_softmax by lia; unfold D; simpl; lra.
  - rewrite logprob_stepped; unfold logprob, response_logp; simpl; rewrite uniform, change.
    unfold logp, lse, partition, shift; simpl.
    pose proof two_below_e as e_large; pose proof (exp_pos (-6)) as tail.
    assert (ln (exp 1 * 3) < ln (exp 1 + exp 1 * exp 1 + exp (-6))) as less by (apply ln_increasing; nra).
    rewrite ln_mult, ln_exp in less by lra.
    replace (0 + 1 * 1) with 1 by ring; replace (0 + 1 * 2) with (1 + 1) by ring.
    replace (0 + 1 * -6) with (-6) by ring; rewrite exp_plus, exp_0, !Rplus_0_l.
    replace (1 + 1 + 1) with 3 by ring; lra.
Qed.

(** Without concavity a response with a negative slope may rise: two tokens, one logit t² - t of the one parameter t.
    At t = 0 the slope of its token is -1/2, yet at t = 2 it is likelier. *)
Example without_concavity_it_may_rise : let z t (_ v : nat) := is 0 v * (t * t - t) in
  let π t := response_logp 2 1 (z t) (fun _ => 0%nat) in
  derivable_pt_lim π 0 (- (1 / 2)) /\ π 0 < π 2.
Proof.
  intros z π; split.
  - replace (- (1 / 2)) with (Σ_(i < 1) Σ_(v < 2) residual 2 (z 0 i) 0 v * (is 0 v * -1)).
    + apply (residual_form 2 1 z (fun _ v => is 0 v * -1)); [lia |]; intros i v _ _; unfold z.
      apply (derivable_pt_lim_scal (fun t => t * t - t)); replace (-1) with (1 * 0 + 0 * 1 - 1) by ring.
      apply (derivable_pt_lim_minus (fun t => t * t) id); [| apply derivable_pt_lim_id].
      apply (derivable_pt_lim_mult id id); apply derivable_pt_lim_id.
    + unfold residual, softmax, partition, z, is; simpl.
      replace (1 * (0 * 0 - 0)) with 0 by ring; replace (0 * (0 * 0 - 0)) with 0 by ring; rewrite exp_0; field.
  - unfold π, z, response_logp, logp, lse, partition, is; simpl.
    pose proof two_below_e as e_large.
    assert (ln (exp 1 * exp 1 + 1) < ln (exp 1 * exp 1 * (1 + 1))) as less by (apply ln_increasing; nra).
    rewrite <- exp_plus, ln_mult, ln_exp in less by (apply exp_pos || lra).
    replace (1 * (2 * 2 - 2)) with (1 + 1) by ring; replace (1 * (0 * 0 - 0)) with 0 by ring.
    replace (0 * (0 * 0 - 0)) with 0 by ring; replace (0 * (2 * 2 - 2)) with 0 by ring.
    rewrite exp_0, !Rplus_0_l; lra.
Qed.
