(** * The crowd's threshold

    What is stated.  T22: T8's pair in a batch.  Every pair has one contrast token, one of two words against the other,
    and then n suffix tokens, with probability a after the chosen and b after the rejected token.  Under the mean step
    of equal weights

      the slope of a judged response is a sum over pairs of the cosines between its contexts and theirs: label contexts
        count + for a pair that prefers the judged response's word and - for one that prefers the other, suffix contexts
        always count +.  So labels cancel between pairs, what all pairs share adds up;
      for cosines ρ_s, ρ_d (label contexts, same or different word) and ρ_ψ (suffix contexts) the chosen response of a
        pair of the batch falls iff n > L*_B, that of a pair outside iff n > L*_∞, which is what L*_B tends to;
      a batch of one has T8's threshold.

    The words of other pairs' suffixes do not matter, as long as p and q are theirs too.

    Scope.  Linear softmax; features orthogonal between positions; real arithmetic.  Slopes, and with FiniteStep.v what a
    negative one means at every step size.

    Name                     Meaning
    crowd_step V d W B w l c the mean step of Groups.v for gradients of the responses w_b, l_b, all weights c
    agree B same             number of pairs b < B with same b: that prefer the judged pair's word
    label_pull, suffix_pull  Σ_b ± cosine of the label contexts, Σ_b cosine of the suffix contexts
    batch_threshold L …      L*_B = L* (1 + ρ_s (S - 1) - ρ_d (B - S)) / (1 + ρ_ψ (B - 1)), S pairs of B agreeing
    unseen_threshold L …     L*_∞ = L* (ρ_s - ρ_d) / (2 ρ_ψ) *)

From Coq Require Import Reals Lra Psatz Lia Arith Bool FunctionalExtensionality.
From Toymodel Require Import Sums Condition Softmax Slopes Entanglement Suffix FiniteStep Groups.
Local Open Scope R_scope.

Definition crowd_step (V d : nat) (W : nat -> nat -> R) (B : nat) (w l : nat -> response) (c : R) : nat -> nat -> R :=
  mean_step matrix_plus matrix_scale B (fun _ => c) (fun _ => c)
    (fun b => gradient V d W (w b)) (fun b => gradient V d W (l b)).

Definition sign (same : bool) : R := if same then 1 else -1.

Definition agree (B : nat) (same : nat -> bool) : R := Σ_(b < B) if same b then 1 else 0.

(** ** Any pairs whose two responses have the same features, position by position *)

Lemma slope_along_crowd_step (V d : nat) (W : nat -> nat -> R) (B : nat) (w l : nat -> response) (c : R)
  (r : response) :
  (forall b, (b < B)%nat -> size (l b) = size (w b)) ->
  (forall b i, (b < B)%nat -> (i < size (w b))%nat -> feature (l b) i = feature (w b) i) ->
  slope V d W r (crowd_step V d W B w l c)
  = Σ_(b < B) / INR B * (c * Σ_(i < size r) Σ_(j < size (w b)) dot d (feature r i) (feature (w b) j) *
      dot V (residuals V d W r i) (difference (residuals V d W (w b) j) (residuals V d W (l b) j))).
Proof.
  intros same_size same_features; unfold slope, crowd_step, mean_step.
  rewrite (symmetric _ _ _ (matrices_form V d)), (ip_weighted_sum_left _ _ _ _ (matrices_form V d)).
  apply sum_ext; intros b b_lt; f_equal; unfold step_of_pair.
  rewrite (ip_combine_left _ _ _ _ (matrices_form V d)), !(symmetric _ _ _ (matrices_form V d) _ (gradient V d W r)).
  rewrite !entanglement_identity, same_size by assumption.
  replace (c * _ + _) with (c * (Σ_(i < size r) Σ_(j < size (w b)) token_gram V d W r (w b) i j
                                 - Σ_(i < size r) Σ_(j < size (w b)) token_gram V d W r (l b) i j)) by ring.
  f_equal; rewrite <- sum_minus; apply sum_ext; intros i _; rewrite <- sum_minus; apply sum_ext; intros j j_lt.
  unfold token_gram; rewrite same_features, <- Rmult_minus_distr_l by assumption; f_equal.
  unfold difference; rewrite (dot_symmetric V _ (fun v => _ - _)), dot_minus_left.
  now rewrite !(dot_symmetric V (residuals V d W r i)).
Qed.

(** ** One suffix position *)

(** The judged token has probability c; p and q are the batch's. *)
Lemma peaked_pull (V j : nat) (a b c : R) : (1 < V)%nat -> (j < V)%nat ->
  dot V (residual_of (peaked V j c) j) (difference (peaked V j b) (peaked V j a)) = - ((1 - c) * pull (INR V) a b).
Proof.
  intros V_large j_lt; pose proof (real_V_large V V_large).
  assert (at_j : forall x, peaked V j x j = x) by (intros x; unfold peaked; destruct (Nat.eq_dec j j); congruence).
  unfold residual_of, difference.
  rewrite dot_minus_left, dot_is_left, !at_j, (dot_symmetric V (peaked V j c)), dot_minus_left by assumption.
  rewrite !dot_peaked by assumption; unfold pull; field; lra.
Qed.

(** ** With the cosines of a crowd *)

Definition batch_label_factor (ρs ρd S B : R) : R := 1 + ρs * (S - 1) - ρd * (B - S).
Definition batch_suffix_factor (ρψ B : R) : R := 1 + ρψ * (B - 1).

Definition batch_threshold (L ρs ρd ρψ S B : R) : R := L * (batch_label_factor ρs ρd S B / batch_suffix_factor ρψ B).
Definition unseen_threshold (L ρs ρd ρψ : R) : R := L * ((ρs - ρd) / (2 * ρψ)).

Definition label_pull (B : nat) (same : nat -> bool) (κ : nat -> R) : R := Σ_(k < B) sign (same k) * κ k.
Definition suffix_pull (B : nat) (ψ : nat -> R) : R := sum B ψ.

(** The sums over a batch: cosine 1 with one's own contexts, ρ with those of others. *)
Lemma signed_cosines (B : nat) (same : nat -> bool) (ρs ρd : R) :
  label_pull B same (fun k => if same k then ρs else ρd) = ρs * agree B same - ρd * (INR B - agree B same).
Proof.
  unfold label_pull, agree; induction B as [|B IH]; [simpl; ring | rewrite S_INR; simpl; rewrite IH].
  unfold sign; destruct (same B); ring.
Qed.

Lemma member_label_pull (B me : nat) (same : nat -> bool) (ρs ρd : R) : (me < B)%nat -> same me = true ->
  label_pull B same (fun k => if Nat.eqb k me then 1 else if same k then ρs else ρd)
  = batch_label_factor ρs ρd (agree B same) (INR B).
Proof.
  intros me_lt own.
  transitivity (label_pull B same (fun k => if same k then ρs else ρd) + (Σ_(k < B) is me k * (1 - ρs))).
  - unfold label_pull; rewrite <- sum_plus; apply sum_ext; intros k _; unfold is.
    destruct (Nat.eqb_spec k me) as [-> | differ]; [rewrite own | destruct (Nat.eq_dec me k); [congruence | ring]].
    destruct (Nat.eq_dec me me); [simpl; ring | congruence].
  - rewrite signed_cosines, (sum_is B me (fun _ => 1 - ρs)) by assumption; unfold batch_label_factor; ring.
Qed.

Lemma member_suffix_pull (B me : nat) (ρψ : R) : (me < B)%nat ->
  suffix_pull B (fun k => if Nat.eqb k me then 1 else ρψ) = batch_suffix_factor ρψ (INR B).
Proof.
  intros me_lt; unfold suffix_pull; transitivity (Σ_(k < B) (ρψ + is me k * (1 - ρψ))).
  - apply sum_ext; intros k _; unfold is.
    destruct (Nat.eqb_spec k me), (Nat.eq_dec me k); try congruence; ring.
  - rewrite sum_plus, sum_const, (sum_is B me (fun _ => 1 - ρψ)) by assumption; unfold batch_suffix_factor; ring.
Qed.

Lemma label_pull_ext (B : nat) (same : nat -> bool) (κ κ' : nat -> R) :
  (forall k, (k < B)%nat -> κ k = κ' k) -> label_pull B same κ = label_pull B same κ'.
Proof. intros equal; apply sum_ext; intros; now rewrite equal. Qed.

Lemma suffix_pull_ext (B : nat) (ψ ψ' : nat -> R) :
  (forall k, (k < B)%nat -> ψ k = ψ' k) -> suffix_pull B ψ = suffix_pull B ψ'.
Proof. apply sum_ext. Qed.

(** A pair alone has T8's threshold; where the words do not separate the label contexts only its own label helps it. *)
Theorem batch_of_one (L ρs ρd ρψ : R) : batch_threshold L ρs ρd ρψ 1 1 = L.
Proof. unfold batch_threshold, batch_label_factor, batch_suffix_factor; field; lra. Qed.

Theorem batch_that_shares_everything_but_the_label (L ρ B : R) : 0 < B ->
  batch_threshold L ρ ρ 1 (B / 2) B = L * (1 - ρ) / B.
Proof. intros; unfold batch_threshold, batch_label_factor, batch_suffix_factor; field; lra. Qed.

(** What balance is for: where all pairs prefer one word, labels add up as suffixes do, and nothing cancels. *)
Theorem without_balance_nothing_cancels (L ρ ρd B : R) :
  0 < batch_suffix_factor ρ B -> batch_threshold L ρ ρd ρ B B = L.
Proof. unfold batch_threshold, batch_label_factor, batch_suffix_factor; intros; field; lra. Qed.

(** Balanced words: L*_B tends to the threshold of an unseen pair. *)
Theorem batch_threshold_limit (L ρs ρd ρψ : R) : 0 < ρψ <= 1 ->
  Un_cv (fun B => batch_threshold L ρs ρd ρψ (INR B / 2) (INR B)) (unseen_threshold L ρs ρd ρψ).
Proof.
  intros [ρψ_pos ρψ_le] ε ε_pos; set (C := L * (1 - ρs - (ρs - ρd) * (1 - ρψ) / (2 * ρψ))).
  assert (0 < ρψ * ε) as rate by nra; pose proof (Rabs_pos C).
  destruct (archimed_cor1 (ρψ * ε / (Rabs C + 1))) as (N & N_above & N_pos); [apply Rdiv_lt_0_compat; lra |].
  apply lt_0_INR in N_pos; assert (Rabs C < INR N * (ρψ * ε)) as N_large.
  { replace (/ INR N) with (1 / INR N) in N_above by (field; lra); rewrite fraction_lt_iff in N_above by lra; lra. }
  exists (S N); intros B B_large; assert (INR N < INR B) as N_lt by (apply lt_INR; lia).
  assert (0 < batch_suffix_factor ρψ (INR B)) as factor_pos by (unfold batch_suffix_factor; nra).
  unfold R_dist, batch_threshold, unseen_threshold.
  replace (_ - _) with (C / batch_suffix_factor ρψ (INR B))
    by (unfold C, batch_label_factor, batch_suffix_factor in *; field; lra).
  unfold Rdiv; rewrite Rabs_mult, (Rabs_right (/ _)) by (apply Rle_ge, Rlt_le, Rinv_0_lt_compat; assumption).
  apply (Rmult_lt_reg_r (batch_suffix_factor ρψ (INR B))); [assumption |].
  rewrite Rmult_assoc, Rinv_l, Rmult_1_r by lra.
  apply Rlt_le_trans with (INR N * (ρψ * ε)); [assumption |].
  unfold batch_suffix_factor; assert (ρψ * INR N <= 1 + ρψ * (INR B - 1)) by nra; nra.
Qed.

(** ** A judged response *)

Section Crowd.
Variables (V d : nat) (W : nat -> nat -> R) (n B : nat) (w l : nat -> response) (r : response) (j : nat).
Variables (mine other : nat) (same : nat -> bool) (f a b mine_a weight : R) (κ ψ : nat -> R).
Hypotheses (V_large : (1 < V)%nat) (B_pos : (0 < B)%nat) (f_pos : 0 < f) (weight_pos : 0 < weight).

(** Pairs: the same features in both responses; at position 0 one of two words against the other, in a context with the
    same logits on both sides; then n suffix tokens, any tokens, the same in both responses. *)
Hypothesis sizes : forall k, (k < B)%nat -> size (w k) = S n /\ size (l k) = S n.
Hypothesis features : forall k i, (k < B)%nat -> (i < S n)%nat -> feature (l k) i = feature (w k) i.
Hypothesis words : forall k, (k < B)%nat -> token (w k) 0 = (if same k then mine else other) /\
                                            token (l k) 0 = (if same k then other else mine).
Hypothesis label_contexts : forall k, (k < B)%nat -> logits d W (l k) 0 = logits d W (w k) 0.
Hypothesis suffix_tokens : forall k i, (k < B)%nat -> (i < n)%nat -> token (l k) (S i) = token (w k) (S i).
Hypothesis suffix_probs : forall k i v, (k < B)%nat -> (i < n)%nat -> (v < V)%nat ->
  probs V d W (w k) (S i) v = peaked V j a v /\ probs V d W (l k) (S i) v = peaked V j b v.

(** The judged response: one of the two words, then n times j, with a probability of its own. *)
Hypotheses (judged_size : size r = S n) (judged_word : token r 0 = mine).
Hypotheses (mine_token : (mine < V)%nat) (other_token : (other < V)%nat) (contrast : mine <> other).
Hypothesis j_token : (j < V)%nat.
Hypothesis judged_suffix : forall i, (i < n)%nat -> token r (S i) = j.
Hypothesis judged_probs : forall i v, (i < n)%nat -> (v < V)%nat -> probs V d W r (S i) v = peaked V j mine_a v.

(** Its contexts against those of the pairs: inner products κ and ψ, in units of f. *)
Hypothesis label_cosines : forall k, (k < B)%nat -> dot d (feature r 0) (feature (w k) 0) = f * κ k.
Hypothesis suffix_cosines : forall k i, (k < B)%nat -> (i < n)%nat ->
  dot d (feature r (S i)) (feature (w k) (S i)) = f * ψ k.
Hypothesis orthogonal : forall k i i', (k < B)%nat -> (i < S n)%nat -> (i' < S n)%nat -> i <> i' ->
  dot d (feature r i) (feature (w k) i') = 0.

Let p_mine := probs V d W r 0 mine.
Let p_other := probs V d W r 0 other.

Lemma label_difference (k v : nat) : (k < B)%nat ->
  difference (residuals V d W (w k) 0) (residuals V d W (l k) 0) v = sign (same k) * (is mine v - is other v).
Proof.
  intros k_lt; destruct (words k k_lt) as [chosen rejected].
  unfold difference, residuals, residual; rewrite chosen, rejected, label_contexts by assumption.
  unfold sign; destruct (same k); ring.
Qed.

Lemma suffix_difference (k i v : nat) : (k < B)%nat -> (i < n)%nat -> (v < V)%nat ->
  difference (residuals V d W (w k) (S i)) (residuals V d W (l k) (S i)) v
  = difference (peaked V j b) (peaked V j a) v.
Proof.
  intros k_lt i_lt v_lt; unfold difference; destruct (suffix_probs k i v k_lt i_lt v_lt) as [<- <-].
  unfold residuals, residual, probs; rewrite suffix_tokens by assumption; ring.
Qed.

Theorem slope_in_the_crowd : slope V d W r (crowd_step V d W B w l weight)
  = weight * f / INR B *
    ((1 - p_mine + p_other) * label_pull B same κ - INR n * ((1 - mine_a) * pull (INR V) a b) * suffix_pull B ψ).
Proof.
  rewrite slope_along_crowd_step;
    [| intros k k_lt; destruct (sizes k k_lt) as [-> ->]; reflexivity
     | intros k i k_lt i_lt; destruct (sizes k k_lt) as [size_w _]; rewrite size_w in i_lt; now apply features].
  assert (label : dot V (residuals V d W r 0) (fun v => is mine v - is other v) = 1 - p_mine + p_other).
  { unfold residuals; rewrite judged_word, residual_dot_vector by assumption.
    rewrite (dot_symmetric V (softmax V _)), dot_minus_left, !dot_is_left, is_same, is_different by auto.
    unfold p_mine, p_other, probs; ring. }
  assert (suffix : forall i, (i < n)%nat ->
    dot V (residuals V d W r (S i)) (difference (peaked V j b) (peaked V j a)) = - ((1 - mine_a) * pull (INR V) a b)).
  { intros i i_lt; rewrite <- (peaked_pull V j a b mine_a V_large j_token); apply sum_ext; intros v v_lt.
    unfold residuals, residual, residual_of; rewrite judged_suffix by assumption.
    fold (probs V d W r (S i)); now rewrite judged_probs by assumption. }
  unfold label_pull, suffix_pull; replace (_ * _ - _) with
    (Σ_(k < B) (1 - p_mine + p_other) * (sign (same k) * κ k)
     - Σ_(k < B) INR n * ((1 - mine_a) * pull (INR V) a b) * ψ k)
    by now rewrite !sum_scale.
  rewrite <- sum_minus, <- sum_scale; apply sum_ext; intros k k_lt.
  rewrite judged_size, (proj1 (sizes k k_lt)).
  transitivity (/ INR B * (weight * Σ_(i < S n) f * (match i with
    | O => κ k * (sign (same k) * (1 - p_mine + p_other)) | S _ => ψ k * - ((1 - mine_a) * pull (INR V) a b) end))).
  - do 2 f_equal; apply sum_ext; intros i i_lt.
    rewrite <- (sum_is (S n) i (fun i' => f * _)) by assumption; apply sum_ext; intros i' i'_lt.
    destruct (Nat.eq_dec i i') as [<- | differ]; [| rewrite is_different, orthogonal by assumption; ring].
    rewrite is_same, Rmult_1_l; destruct i as [|i].
    + rewrite label_cosines, <- label by assumption.
      rewrite <- (dot_scale_right V (sign (same k))), Rmult_assoc; do 2 f_equal; apply sum_ext; intros v v_lt.
      now rewrite label_difference.
    + assert (i < n)%nat as i_before by lia; rewrite suffix_cosines, <- (suffix i i_before), Rmult_assoc by assumption.
      do 2 f_equal; apply sum_ext; intros v v_lt; now rewrite suffix_difference.
  - rewrite sum_first, sum_const; field; apply not_0_INR; lia.
Qed.

(** What falls, for the chosen of a pair (mine_a = a) as for any response; [threshold] is T8's. *)
Theorem falls_in_the_crowd_iff : mine_a = a -> b < a -> a < 1 -> 0 < suffix_pull B ψ ->
  (slope V d W r (crowd_step V d W B w l weight) < 0
   <-> threshold (INR V) p_mine p_other a b * (label_pull B same κ / suffix_pull B ψ) < INR n).
Proof.
  intros chosen order room together; rewrite slope_in_the_crowd, chosen; pose proof (real_V_large V V_large).
  destruct (pull_sign V V_large a b) as [above _]; specialize (above order).
  assert (0 < (1 - a) * pull (INR V) a b) as down by (apply Rmult_lt_0_compat; lra).
  assert (threshold (INR V) p_mine p_other a b * (label_pull B same κ / suffix_pull B ψ)
          = (1 - p_mine + p_other) * label_pull B same κ / ((1 - a) * pull (INR V) a b * suffix_pull B ψ)) as ->
    by (unfold threshold, pull; field; unfold pull in *; repeat split; lra).
  replace (INR n) with (INR n / 1) at 2 by field; assert (0 < (1 - a) * pull (INR V) a b * suffix_pull B ψ) by nra.
  rewrite fraction_lt_iff by lra; assert (0 < weight * f / INR B).
  { apply Rdiv_lt_0_compat; [nra | now apply lt_0_INR]. }
  split; intros; nra.
Qed.

(** For the chosen response of pair [me], which has cosine 1 with itself and ρ with the others. *)
Corollary chosen_of_the_batch_falls_iff (me : nat) (ρs ρd ρψ : R) : (me < B)%nat -> same me = true ->
  (forall k, (k < B)%nat -> κ k = (if Nat.eqb k me then 1 else if same k then ρs else ρd)) ->
  (forall k, (k < B)%nat -> ψ k = (if Nat.eqb k me then 1 else ρψ)) ->
  mine_a = a -> b < a -> a < 1 -> 0 < batch_suffix_factor ρψ (INR B) ->
  (slope V d W r (crowd_step V d W B w l weight) < 0
   <-> batch_threshold (threshold (INR V) p_mine p_other a b) ρs ρd ρψ (agree B same) (INR B) < INR n).
Proof.
  intros me_lt own labels suffixes chosen order room together; unfold batch_threshold.
  rewrite <- (member_label_pull B me) by assumption; rewrite <- (member_suffix_pull B me) in * by assumption.
  rewrite (label_pull_ext B same _ κ), (suffix_pull_ext B _ ψ) in * by (intros; symmetry; auto).
  now apply falls_in_the_crowd_iff.
Qed.

(** For that of a pair outside, if half of the batch prefers its word: the same at every batch size. *)
Corollary unseen_chosen_falls_iff (ρs ρd ρψ : R) : agree B same = INR B / 2 -> 0 < ρψ ->
  (forall k, (k < B)%nat -> κ k = (if same k then ρs else ρd)) -> (forall k, (k < B)%nat -> ψ k = ρψ) ->
  mine_a = a -> b < a -> a < 1 ->
  (slope V d W r (crowd_step V d W B w l weight) < 0
   <-> unseen_threshold (threshold (INR V) p_mine p_other a b) ρs ρd ρψ < INR n).
Proof.
  intros balanced ρψ_pos labels suffixes chosen order room; pose proof (lt_0_INR B B_pos).
  assert (suffix_pull B ψ = INR B * ρψ) as suffix by (unfold suffix_pull; rewrite <- sum_const; now apply sum_ext).
  assert (label_pull B same κ = INR B / 2 * (ρs - ρd)) as label.
  { rewrite (label_pull_ext B same κ (fun k => if same k then ρs else ρd)), signed_cosines by assumption.
    rewrite balanced; field. }
  rewrite falls_in_the_crowd_iff, label, suffix by (assumption || rewrite suffix; nra); unfold unseen_threshold.
  replace (INR B / 2 * (ρs - ρd) / (INR B * ρψ)) with ((ρs - ρd) / (2 * ρψ)) by (field; lra); reflexivity.
Qed.

(** And what falls to first order falls at every learning rate: T12. *)
Corollary no_learning_rate_saves_it_from_the_crowd (η : R) : let step := crowd_step V d W B w l weight in
  slope V d W r step < 0 -> 0 < η -> logprob V d (stepped W step η) r < logprob V d W r.
Proof.
  intros step falls η_pos; apply negative_slope_falls; [| assumption | assumption].
  intros i i_lt; rewrite judged_size in i_lt; destruct i as [|i]; [rewrite judged_word; exact mine_token |].
  rewrite judged_suffix by lia; exact j_token.
Qed.

End Crowd.

(** V = 20, (a, b) = (.3, .1), so that L* = 95/14: eight pairs lower their chosen responses from three tokens on. *)
Example threshold_of_eight_pairs : batch_threshold (95/14) (6/10) (1/10) 1 4 8 = 57/28 /\ 2 < 57/28 < 2.04.
Proof. unfold batch_threshold, batch_label_factor, batch_suffix_factor; split; [field | lra]. Qed.

(** ** Such a crowd *)

(** Pair p has the word p mod 2.  Its label context shares one direction with all pairs, one with those of the same
    word, and has one of its own, so that ρ_s = 5/9 and ρ_d = 4/9; suffix contexts are the same in all pairs. *)
Definition word (p : nat) : nat := Nat.modulo p 2.

Definition crowd_features (p i : nat) : nat -> R := match i with
  | O => fun k => 2/3 * is 0 k + 1/3 * is (1 + word p) k + 2/3 * is (3 + p) k
  | S i' => is (8 + i')
  end.

Lemma crowd_features_dot (n p : nat) (v : nat -> R) : (p < 5)%nat ->
  dot (8 + n) (crowd_features p 0) v = 2/3 * v 0%nat + 1/3 * v (1 + word p)%nat + 2/3 * v (3 + p)%nat.
Proof.
  intros p_lt; assert (word p < 2)%nat by (apply Nat.mod_upper_bound; lia).
  unfold crowd_features; rewrite !dot_plus_left, !dot_scale_left, !dot_is_left by lia; reflexivity.
Qed.

Ltac each_below_five p := destruct p as [|[|[|[|[|?]]]]]; try (exfalso; lia).

(** Four pairs, n suffix tokens; the pair 4 is none of them.  A pair alone would survive six tokens. *)
Example crowd_displaces_what_a_pair_survives :
  let text n p y a := peaked_text 20 n 2 y a (crowd_features p) in
  let chosen n p := text n p (word p) (3/10) in let rejected n p := text n p (1 - word p)%nat (1/10) in
  let change n p := slope 20 (8 + n) (fun _ _ => 0) (chosen n p)
                      (crowd_step 20 (8 + n) (fun _ _ => 0) 4 (chosen n) (rejected n) 1) in
  (forall p, (p < 4)%nat -> ~ change 1%nat p < 0 /\ change 2%nat p < 0) /\ change 1%nat 4%nat < 0.
Proof.
  intros text chosen rejected change; pose (same p k := Nat.eqb (word k) (word p)).
  pose (κ p k := if Nat.eqb k p then 1 else if same p k then 5/9 else 4/9).
  assert (below_two : forall p, (word p < 2)%nat) by (intros; apply Nat.mod_upper_bound; lia).
  assert (cosines : forall n p k, (p < 5)%nat -> (k < 4)%nat ->
    dot (8 + n) (crowd_features p 0) (crowd_features k 0) = 1 * κ p k).
  { intros n p k p_lt k_lt; rewrite crowd_features_dot by assumption; unfold κ, same, crowd_features.
    each_below_five p; each_below_five k; unfold word, is; simpl; lra. }
  assert (apart : forall n p k i i', (p < 5)%nat -> (k < 5)%nat -> (i < S n)%nat -> (i' < S n)%nat -> i <> i' ->
    dot (8 + n) (crowd_features p i) (crowd_features k i') = 0).
  { intros n p k i i' p_lt k_lt i_lt i'_lt differ; destruct i as [|i], i' as [|i']; [lia | | |].
    - rewrite crowd_features_dot by assumption; unfold crowd_features; specialize (below_two p).
      rewrite !is_different by lia; ring.
    - rewrite dot_symmetric, crowd_features_dot by assumption; unfold crowd_features; specialize (below_two k).
      rewrite !is_different by lia; ring.
    - unfold crowd_features; rewrite dot_is_left, is_different by lia; reflexivity. }
  assert (probs_of : forall n p y a, 0 < a < 1 -> let q := probs 20 (8 + n) (fun _ _ => 0) (text n p y a) in
    (forall v, q 0%nat v = 1 / INR 20) /\ (forall i v, q (S i) v = peaked 20 2 a v))
    by (intros; apply peaked_text_probs; lia || lra).
  assert (falls : forall n p, (p < 5)%nat ->
    (change n p < 0 <-> 95 / 14 * (label_pull 4 (same p) (κ p) / suffix_pull 4 (fun _ => 1)) < INR n)).
  { intros n p p_lt; destruct (probs_of n p (word p) (3/10)) as [first after]; [lra |].
    rewrite <- (proj1 (threshold_of_unlikely_suffix (1 / INR 20))); replace 20 with (INR 20) at 1 by (simpl; lra).
    rewrite <- (first (word p)) at 1; rewrite <- (first (1 - word p)%nat).
    unfold change; apply (falls_in_the_crowd_iff 20 (8 + n) (fun _ _ => 0) n 4 (chosen n) (rejected n) (chosen n p) 2
      (word p) (1 - word p) (same p) 1 (3/10) (1/10) (3/10) 1 (κ p) (fun _ => 1)); try (simpl; lia); try lra; auto.
    - intros k k_lt; unfold same; pose proof (below_two p); pose proof (below_two k).
      simpl; destruct (word p) as [|[|]], (word k) as [|[|]]; simpl; auto; lia.
    - intros k i v k_lt i_lt v_lt; split; apply probs_of; lra.
    - specialize (below_two p); lia.
    - specialize (below_two p); lia.
    - specialize (below_two p); lia.
    - intros k k_lt; now apply cosines.
    - intros k i k_lt i_lt; change (dot (8 + n) (is (8 + i)) (is (8 + i)) = 1 * 1).
      rewrite dot_is_left, is_same by lia; ring.
    - intros k i i' k_lt; apply apart; lia.
    - unfold suffix_pull; simpl; lra. }
  assert (pulls : forall p, (p < 5)%nat -> label_pull 4 (same p) (κ p) = if Nat.eqb p 4 then 2/9 else 2/3).
  { intros p p_lt; unfold label_pull, κ, same, sign; each_below_five p; unfold word; simpl; lra. }
  split; [intros p p_lt; rewrite !falls, pulls by lia | rewrite falls, pulls by lia]; unfold suffix_pull.
  - replace (Nat.eqb p 4) with false by (symmetry; apply Nat.eqb_neq; lia); simpl; lra.
  - simpl; lra.
Qed.
