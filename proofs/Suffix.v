(** * Shared suffixes

    What is stated.  Two responses differ in their first token and agree in all that follows.  The tokens they share
    come after different contexts, so that the model gives them probabilities p after the chosen and q after the
    rejected token:

      T6  the token Gram entry of a shared token j is at least ⟨φ, φ'⟩(1 - p_j)(1 - q_j) ≥ 0, with equality only if no
          other token has a chance in both contexts; that of the contrast tokens is ⟨φ, φ'⟩(‖p‖² - p_w - p_l);
      T7  what a suffix position adds to the two slopes, in general and for peaked probabilities; its sign for any
          probabilities;
      T8  the length from which on the suffix lowers the chosen response, and both with it.

    Scope.  Real arithmetic; floating point is the tests' business.  T7 and T8 are for equal weights and features that
    both responses share at each position and that are orthogonal between positions, as in the positional model with
    frozen logits; L* of T8 is for peaked probabilities, the same at every suffix position.

    Name                     Meaning
    residual_of p y          e_y - p
    probs V d W r i          the probabilities at position i of the response r
    difference q p           q - p
    feature_sq d r i         ‖φ_i‖²
    aligned d w l            as many positions in l as in w, with the same features, orthogonal between positions
    peaked V j a             a for the token j, (1 - a)/(V - 1) for every other
    pull V a b               (a - b)V/(V - 1)
    threshold V pw pl a b    L* = (1 - p_w + p_l)(V - 1) / (V (1 - a)(a - b)) *)

From Coq Require Import Reals Lra Psatz Lia Arith List FunctionalExtensionality.
From Toymodel Require Import Sums Condition Softmax Slopes Entanglement SingleToken.
Local Open Scope R_scope.

Definition residual_of (p : nat -> R) (y v : nat) : R := is y v - p v.

Definition probs (V d : nat) (W : nat -> nat -> R) (r : response) (i : nat) : nat -> R := softmax V (logits d W r i).

Definition difference (q p : nat -> R) (v : nat) : R := q v - p v.

(** ** T6: the sign of a token Gram entry *)

(** By how much the entry of a shared token exceeds its bound: the chance that both contexts agree on another token. *)
Lemma shared_token_excess (V : nat) (p q : nat -> R) (j : nat) : (j < V)%nat ->
  dot V (residual_of p j) (residual_of q j) - (1 - p j) * (1 - q j)
  = Σ_(v < V) (if Nat.eq_dec j v then 0 else p v * q v).
Proof.
  intros j_lt; unfold residual_of; rewrite dot_unit_minus, is_same by assumption.
  rewrite (sum_ext V _ (fun v => p v * q v - is j v * (p v * q v))).
  - rewrite sum_minus, (sum_is V j (fun v => p v * q v)) by assumption; unfold dot; ring.
  - intros v _; unfold is; destruct (Nat.eq_dec j v); ring.
Qed.

Section SharedToken.
Variables (V : nat) (p q : nat -> R) (j : nat).
Hypotheses (j_token : (j < V)%nat) (p_distribution : distribution V p) (q_distribution : distribution V q).

Let excess (v : nat) : R := if Nat.eq_dec j v then 0 else p v * q v.

Lemma excess_nonneg (v : nat) : (v < V)%nat -> 0 <= excess v.
Proof.
  intros v_lt; destruct p_distribution as [p_nonneg _], q_distribution as [q_nonneg _].
  unfold excess; destruct (Nat.eq_dec j v); [lra | apply Rmult_le_pos; auto].
Qed.

Theorem shared_token_bound : 0 <= (1 - p j) * (1 - q j) <= dot V (residual_of p j) (residual_of q j).
Proof.
  destruct p_distribution as [p_nonneg p_total], q_distribution as [q_nonneg q_total].
  pose proof (term_le_sum V p j p_nonneg j_token); pose proof (term_le_sum V q j q_nonneg j_token).
  split; [apply Rmult_le_pos; lra |].
  pose proof (shared_token_excess V p q j j_token); pose proof (sum_nonneg V excess excess_nonneg).
  unfold excess in *; lra.
Qed.

Theorem shared_token_bound_reached_iff :
  dot V (residual_of p j) (residual_of q j) = (1 - p j) * (1 - q j)
  <-> (forall v, (v < V)%nat -> v <> j -> p v = 0 \/ q v = 0).
Proof.
  pose proof (shared_token_excess V p q j j_token) as total; fold excess in total; split.
  - intros reached v v_lt differ; apply Rmult_integral.
    pose proof (term_le_sum V excess v excess_nonneg v_lt); pose proof (excess_nonneg v v_lt).
    unfold excess in *; destruct (Nat.eq_dec j v); [congruence | lra].
  - intros disjoint; rewrite (sum_zero V) in total; [lra |].
    intros v v_lt; unfold excess; destruct (Nat.eq_dec j v) as [| differ]; [reflexivity |].
    destruct (disjoint v v_lt (not_eq_sym differ)) as [-> | ->]; ring.
Qed.

End SharedToken.

(** The bound is reached, for instance by (1/2, 1/2, 0) and (1/2, 0, 1/2). *)
Example shared_token_bound_is_reached :
  let p v := nth v (1/2 :: 1/2 :: 0 :: nil) 0 in let q v := nth v (1/2 :: 0 :: 1/2 :: nil) 0 in
  dot 3 (residual_of p 0) (residual_of q 0) = (1 - p 0%nat) * (1 - q 0%nat).
Proof. unfold dot, residual_of, is; simpl; lra. Qed.

(** Of the token Gram of two softmaxes: above the bound, as every token has a chance. *)
Theorem shared_tokens_entangle (V d : nat) (W : nat -> nat -> R) (w l : response) (i i' j : nat) :
  (1 < V)%nat -> (j < V)%nat -> token w i = j -> token l i' = j -> 0 < dot d (feature w i) (feature l i') ->
  let p := probs V d W w i in let q := probs V d W l i' in
  0 < dot d (feature w i) (feature l i') * ((1 - p j) * (1 - q j)) < token_gram V d W w l i i'.
Proof.
  intros V_large j_lt w_token l_token φ_pos p q; unfold token_gram, residuals; rewrite w_token, l_token.
  set (v := if Nat.eq_dec j 0 then 1%nat else 0%nat).
  assert (v < V /\ v <> j)%nat as [v_lt differ] by (unfold v; destruct (Nat.eq_dec j 0); lia).
  assert (0 < V)%nat as V_pos by lia.
  assert (p_chance : 0 < p v) by now apply softmax_pos.
  assert (q_chance : 0 < q v) by now apply softmax_pos.
  assert (p j < 1) by now apply softmax_below_one.
  assert (q j < 1) by now apply softmax_below_one.
  split; [repeat apply Rmult_lt_0_compat; lra | apply Rmult_lt_compat_l; [assumption |]].
  change (residual V (logits d W w i) j) with (residual_of p j).
  change (residual V (logits d W l i') j) with (residual_of q j).
  assert (p_dist : distribution V p) by now apply softmax_is_a_distribution.
  assert (q_dist : distribution V q) by now apply softmax_is_a_distribution.
  destruct (shared_token_bound V p q j j_lt p_dist q_dist) as [_ [below | reached]]; [assumption | exfalso].
  destruct (proj1 (shared_token_bound_reached_iff V p q j j_lt p_dist q_dist) (eq_sym reached) v v_lt differ); lra.
Qed.

(** The contrast tokens, in a context with the same logits: negative whenever p_w + p_l > ‖p‖² (T4). *)
Theorem contrast_tokens_entry (V d : nat) (W : nat -> nat -> R) (w l : response) (i i' : nat) :
  (token w i < V)%nat -> (token l i' < V)%nat -> token w i <> token l i' -> logits d W l i' = logits d W w i ->
  let p := probs V d W w i in
  token_gram V d W w l i i' = dot d (feature w i) (feature l i') * (dot V p p - p (token w i) - p (token l i')).
Proof.
  intros w_lt l_lt differ same p; rewrite token_gram_in_probabilities, same, is_different by assumption.
  unfold p, probs; ring.
Qed.

(** ** T7: slopes, position by position *)

Definition feature_sq (d : nat) (r : response) (i : nat) : R := dot d (feature r i) (feature r i).

Definition aligned (d : nat) (w l : response) : Prop :=
  size l = size w /\ (forall i, (i < size w)%nat -> feature l i = feature w i) /\
  (forall i j, (i < size w)%nat -> (j < size w)%nat -> i <> j -> dot d (feature w i) (feature w j) = 0).

Section Aligned.
Variables (V d : nat) (W : nat -> nat -> R) (w l : response).
Hypothesis w_l_aligned : aligned d w l.

Let sw := residuals V d W w.
Let sl := residuals V d W l.

Lemma aligned_pair_gram :
  let f := feature_sq d w in
  pair_gram V d W w l
  = Gram (Σ_(i < size w) f i * dot V (sw i) (sw i)) (Σ_(i < size w) f i * dot V (sl i) (sl i))
         (Σ_(i < size w) f i * dot V (sw i) (sl i)).
Proof.
  destruct w_l_aligned as (same_size & same_features & orthogonal).
  assert (diagonal : forall s t : nat -> nat -> R,
    Σ_(i < size w) Σ_(j < size w) dot d (feature w i) (feature w j) * dot V (s i) (t j)
    = Σ_(i < size w) feature_sq d w i * dot V (s i) (t i)).
  { intros s t; apply sum_ext; intros i i_lt.
    rewrite <- (sum_is (size w) i (fun j => feature_sq d w i * dot V (s i) (t j))) by assumption.
    apply sum_ext; intros j j_lt; destruct (Nat.eq_dec i j) as [<- | differ].
    - rewrite is_same; unfold feature_sq; ring.
    - rewrite is_different, orthogonal by assumption; ring. }
  rewrite pair_gram_from_tokens, same_size; unfold token_gram; cbv zeta; rewrite <- !diagonal.
  f_equal; apply sum_ext; intros i i_lt; apply sum_ext; intros j j_lt;
    rewrite ?same_features by assumption; reflexivity.
Qed.

Theorem aligned_slopes (weight : R) :
  let G := pair_gram V d W w l in let f := feature_sq d w in
  chosen_slope G weight weight = weight * (Σ_(i < size w) f i * (dot V (sw i) (sw i) - dot V (sw i) (sl i))) /\
  rejected_slope G weight weight = weight * (Σ_(i < size w) f i * (dot V (sw i) (sl i) - dot V (sl i) (sl i))).
Proof.
  cbv zeta; rewrite aligned_pair_gram; unfold chosen_slope, rejected_slope; simpl.
  rewrite <- !Rmult_minus_distr_l, <- !sum_minus.
  split; f_equal; apply sum_ext; intros; ring.
Qed.

(** T7: what a suffix position contributes to the two sums. *)
Theorem suffix_position_slopes (i j : nat) : (j < V)%nat -> token w i = j -> token l i = j ->
  let p := probs V d W w i in let q := probs V d W l i in
  let added := dot V (residual_of p j) (difference q p) in
  dot V (sw i) (sw i) - dot V (sw i) (sl i) = added /\
  dot V (sw i) (sl i) - dot V (sl i) (sl i) = added - dot V (difference q p) (difference q p).
Proof.
  intros j_lt w_token l_token p q added; unfold sw, sl, residuals, added, dot; rewrite w_token, l_token.
  rewrite <- !sum_minus; split; apply sum_ext; intros v _; unfold residual, residual_of, difference, p, q, probs; ring.
Qed.

(** And the contrast tokens, before which both responses have the same logits: T4's slopes. *)
Theorem contrast_position_slopes (i : nat) :
  (token w i < V)%nat -> (token l i < V)%nat -> token w i <> token l i -> logits d W l i = logits d W w i ->
  let p := probs V d W w i in
  dot V (sw i) (sw i) - dot V (sw i) (sl i) = 1 - p (token w i) + p (token l i) /\
  dot V (sw i) (sl i) - dot V (sl i) (sl i) = - (1 - p (token l i) + p (token w i)).
Proof.
  intros w_lt l_lt differ same p; unfold sw, sl, residuals.
  rewrite same, !residual_dot_same_context, !is_same, is_different by assumption.
  fold (probs V d W w i); unfold p; split; ring.
Qed.

End Aligned.

(** ** T7: peaked probabilities *)

Definition peaked (V j : nat) (a : R) (v : nat) : R := if Nat.eq_dec j v then a else (1 - a) / (INR V - 1).

Definition pull (V a b : R) : R := (a - b) * V / (V - 1).

Section Peaked.
Variables (V j : nat).
Hypotheses (V_large : (1 < V)%nat) (j_token : (j < V)%nat).

Lemma real_V_large : 1 < INR V.
Proof. now apply lt_1_INR. Qed.

Lemma dot_peaked (a b : R) : dot V (peaked V j a) (peaked V j b) = a * b + (1 - a) * (1 - b) / (INR V - 1).
Proof.
  pose proof real_V_large; unfold dot.
  rewrite (sum_ext V _ (fun v => (1 - a) / (INR V - 1) * ((1 - b) / (INR V - 1))
    + is j v * (a * b - (1 - a) / (INR V - 1) * ((1 - b) / (INR V - 1))))).
  - rewrite sum_plus, sum_const, (sum_is V j (fun _ => a * b - _)) by assumption; field; lra.
  - intros v _; unfold peaked, is; destruct (Nat.eq_dec j v); ring.
Qed.

Lemma peaked_distribution (a : R) : 0 < a < 1 -> (forall v, 0 < peaked V j a v) /\ sum V (peaked V j a) = 1.
Proof.
  intros room; pose proof real_V_large; split.
  - intros v; unfold peaked; destruct (Nat.eq_dec j v); [lra | apply Rdiv_lt_0_compat; lra].
  - rewrite (sum_ext V _ (fun v => (1 - a) / (INR V - 1) + is j v * (a - (1 - a) / (INR V - 1)))).
    + rewrite sum_plus, sum_const, (sum_is V j (fun _ => a - _)) by assumption; field; lra.
    + intros v _; unfold peaked, is; destruct (Nat.eq_dec j v); ring.
Qed.

Theorem peaked_suffix_slopes (a b : R) :
  let p := peaked V j a in let q := peaked V j b in let added := dot V (residual_of p j) (difference q p) in
  added = - ((1 - a) * pull (INR V) a b) /\
  added - dot V (difference q p) (difference q p) = - ((1 - b) * pull (INR V) a b).
Proof.
  intros p q added; pose proof real_V_large.
  assert (at_j : forall c, peaked V j c j = c) by (intros c; unfold peaked; destruct (Nat.eq_dec j j); congruence).
  assert (expand : added = b - a - dot V p q + dot V p p).
  { unfold added, residual_of, difference; rewrite dot_minus_left, dot_is_left by assumption.
    rewrite (dot_symmetric V p), dot_minus_left, (dot_symmetric V q); unfold p at 1, q at 1; rewrite !at_j; ring. }
  assert (distance : dot V (difference q p) (difference q p) = dot V q q - 2 * dot V p q + dot V p p).
  { unfold dot; rewrite <- sum_scale, <- sum_minus, <- sum_plus; apply sum_ext; intros; unfold difference; ring. }
  rewrite distance, expand; unfold p, q, pull; rewrite !dot_peaked; split; field; lra.
Qed.

Lemma pull_sign (a b : R) : (b < a -> 0 < pull (INR V) a b) /\ (a < b -> pull (INR V) a b < 0).
Proof.
  pose proof real_V_large; assert (0 < INR V / (INR V - 1)) by (apply Rdiv_lt_0_compat; lra).
  unfold pull; replace ((a - b) * INR V / (INR V - 1)) with ((a - b) * (INR V / (INR V - 1))) by (field; lra).
  split; intros; nra.
Qed.

(** Both fall when a > b, both rise when a < b. *)
Theorem peaked_suffix_signs (a b : R) : a < 1 -> b < 1 ->
  let p := peaked V j a in let q := peaked V j b in let added := dot V (residual_of p j) (difference q p) in
  (b < a -> added < 0 /\ added - dot V (difference q p) (difference q p) < 0) /\
  (a < b -> 0 < added /\ 0 < added - dot V (difference q p) (difference q p)).
Proof.
  intros a_room b_room; cbv zeta; destruct (peaked_suffix_slopes a b) as [-> ->], (pull_sign a b) as [above below].
  split; intros order; [specialize (above order) | specialize (below order)]; split; nra.
Qed.

End Peaked.

(** ** T7: signs for any two distributions *)

Section AnyProbabilities.
Variables (V j : nat) (p q : nat -> R).
Hypotheses (j_token : (j < V)%nat) (p_distribution : distribution V p) (q_distribution : distribution V q).

Let added : R := dot V (residual_of p j) (difference q p).

(** What j gains, the others lose. *)
Lemma shared_token_gains_least (u : nat -> R) : sum V u = 0 ->
  (forall v, (v < V)%nat -> v <> j -> 0 <= u v) -> u j <= 0.
Proof.
  intros none others; rewrite <- none, <- (sum_is V j u) by assumption; apply sum_le; intros v v_lt.
  unfold is; destruct (Nat.eq_dec j v) as [<- | differ]; [lra | specialize (others v v_lt (not_eq_sym differ)); lra].
Qed.

Lemma residual_against_gains (r u : nat -> R) : (forall v, (v < V)%nat -> 0 <= r v) ->
  (forall v, (v < V)%nat -> v <> j -> 0 <= u v) -> dot V (residual_of r j) u <= (1 - r j) * u j.
Proof.
  intros r_nonneg others; rewrite <- (sum_is V j (fun v => (1 - r v) * u v)) by assumption.
  apply sum_le; intros v v_lt; unfold residual_of, is.
  destruct (Nat.eq_dec j v) as [<- | differ]; [lra |].
  specialize (r_nonneg v v_lt); specialize (others v v_lt (not_eq_sym differ)); nra.
Qed.

Lemma difference_total : sum V (difference q p) = 0.
Proof. unfold difference; rewrite sum_minus, (proj2 p_distribution), (proj2 q_distribution); ring. Qed.

Lemma added_to_the_rejected :
  added - dot V (difference q p) (difference q p) = dot V (residual_of q j) (difference q p).
Proof. unfold added, dot; rewrite <- sum_minus; apply sum_ext; intros; unfold residual_of, difference; ring. Qed.

Lemma at_most_one (r : nat -> R) : distribution V r -> r j <= 1.
Proof. intros [nonneg total]; rewrite <- total; now apply term_le_sum. Qed.

Lemma shared_token_no_likelier : (forall v, (v < V)%nat -> v <> j -> p v <= q v) -> q j <= p j.
Proof.
  intros others; enough (difference q p j <= 0) by (unfold difference in *; lra).
  apply shared_token_gains_least; [apply difference_total |].
  intros v v_lt differ; specialize (others v v_lt differ); unfold difference; lra.
Qed.

(** No other token less likely after the rejected: then the shared one is no likelier there, and both slopes lose. *)
Theorem suffix_lowers_both : (forall v, (v < V)%nat -> v <> j -> p v <= q v) ->
  (added <= 0 /\ added - dot V (difference q p) (difference q p) <= 0) /\
  (q j < p j -> p j < 1 -> added < 0 /\ added - dot V (difference q p) (difference q p) < 0).
Proof.
  intros others; rewrite added_to_the_rejected; unfold added.
  destruct p_distribution as [p_nonneg _], q_distribution as [q_nonneg _].
  assert (gains : forall v, (v < V)%nat -> v <> j -> 0 <= difference q p v)
    by (intros v v_lt differ; specialize (others v v_lt differ); unfold difference; lra).
  pose proof (residual_against_gains p _ p_nonneg gains) as at_p.
  pose proof (residual_against_gains q _ q_nonneg gains) as at_q.
  pose proof (shared_token_no_likelier others); pose proof (at_most_one p p_distribution).
  unfold difference at 2 in at_p; unfold difference at 2 in at_q; split; [split | intros; split]; nra.
Qed.

(** The mirror: no other token likelier after the rejected. *)
Theorem suffix_raises_both : (forall v, (v < V)%nat -> v <> j -> q v <= p v) ->
  (0 <= added /\ 0 <= added - dot V (difference q p) (difference q p)) /\
  (p j < q j -> q j < 1 -> 0 < added /\ 0 < added - dot V (difference q p) (difference q p)).
Proof.
  intros others; rewrite added_to_the_rejected; unfold added.
  destruct p_distribution as [p_nonneg _], q_distribution as [q_nonneg _].
  assert (gains : forall v, (v < V)%nat -> v <> j -> 0 <= -1 * difference q p v)
    by (intros v v_lt differ; specialize (others v v_lt differ); unfold difference; lra).
  pose proof (residual_against_gains p _ p_nonneg gains) as at_p; rewrite dot_scale_right in at_p.
  pose proof (residual_against_gains q _ q_nonneg gains) as at_q; rewrite dot_scale_right in at_q.
  assert (-1 * difference q p j <= 0) as more
    by (apply (shared_token_gains_least (fun v => -1 * difference q p v));
          [rewrite sum_scale, difference_total; ring | exact gains]).
  pose proof (at_most_one q q_distribution).
  unfold difference at 2 in at_p; unfold difference at 2 in at_q; unfold difference in more.
  split; [split | intros; split]; nra.
Qed.

End AnyProbabilities.

(** That the shared token is likelier after the chosen is not enough: here the chosen gains. *)
Example likelier_after_the_chosen_is_not_enough :
  let p v := nth v (2/10 :: 79/100 :: 1/100 :: nil) 0 in let q v := nth v (1/10 :: 1/100 :: 89/100 :: nil) 0 in
  distribution 3 p /\ distribution 3 q /\ q 0%nat < p 0%nat /\ 0 < dot 3 (residual_of p 0) (difference q p).
Proof.
  unfold distribution, dot, residual_of, difference, is; simpl.
  repeat split; try lra; intros [|[|[|v]]]; simpl; intros; lra || lia.
Qed.

(** Peaked probabilities are a case of it. *)
Example peaked_probabilities_satisfy_it (V j : nat) (a b : R) : (1 < V)%nat -> b <= a ->
  forall v, (v < V)%nat -> v <> j -> peaked V j a v <= peaked V j b v.
Proof.
  intros V_large order v _ differ; pose proof (lt_1_INR V V_large); unfold peaked.
  destruct (Nat.eq_dec j v); [congruence |]; apply Rmult_le_compat_r; [apply Rlt_le, Rinv_0_lt_compat |]; lra.
Qed.

(** ** T8: the threshold length *)

Definition threshold (V pw pl a b : R) : R := (1 - pw + pl) * (V - 1) / (V * (1 - a) * (a - b)).

(** For a length x that need not be a whole number. *)
Lemma falls_beyond_threshold_iff (V pw pl a b x : R) : 1 < V -> b < a -> a < 1 ->
  (1 - pw + pl - x * ((1 - a) * pull V a b) < 0 <-> threshold V pw pl a b < x).
Proof.
  intros V_large order room; unfold threshold, pull.
  assert (0 < V * (1 - a) * (a - b)) by (repeat apply Rmult_lt_0_compat; lra).
  set (c := V * (1 - a) * (a - b)) in *.
  replace (x * ((1 - a) * ((a - b) * V / (V - 1)))) with (x * c / (V - 1)) by (unfold c; field; lra).
  replace (1 - pw + pl - x * c / (V - 1)) with (((1 - pw + pl) * (V - 1) - x * c) * / (V - 1)) by (field; lra).
  assert (0 < / (V - 1)) by (apply Rinv_0_lt_compat; lra).
  replace (_ < x) with ((1 - pw + pl) * (V - 1) / c < x / 1) by (f_equal; field).
  rewrite fraction_lt_iff by lra; split; intros; nra.
Qed.

Example threshold_of_likely_suffix (p : R) : threshold 20 p p (9/10) (5/10) = 2375/100.
Proof. unfold threshold; field. Qed.

Example threshold_of_unlikely_suffix (p : R) : threshold 20 p p (3/10) (1/10) = 95/14 /\ 6.78 < 95/14 < 6.79.
Proof. unfold threshold; split; [field | lra]. Qed.

Lemma sum_first (n : nat) (f : nat -> R) : sum (S n) f = f 0%nat + Σ_(i < n) f (S i).
Proof.
  induction n as [|n IH]; [simpl; ring |].
  change (sum (S (S n)) f) with (sum (S n) f + f (S n)); rewrite IH; simpl; ring.
Qed.

(** One contrast token at position 0, then n suffix tokens j, a likely after the chosen and b after the rejected. *)
Section Threshold.
Variables (V d : nat) (W : nat -> nat -> R) (n : nat) (w l : response) (j : nat) (f a b weight : R).
Hypotheses (V_large : (1 < V)%nat) (w_size : size w = S n) (w_l_aligned : aligned d w l).
Hypotheses (equal_norms : forall i, (i < S n)%nat -> feature_sq d w i = f) (f_pos : 0 < f) (weight_pos : 0 < weight).
Hypotheses (w_token : (token w 0 < V)%nat) (l_token : (token l 0 < V)%nat) (contrast : token w 0 <> token l 0).
Hypothesis same_context : logits d W l 0 = logits d W w 0.
Hypothesis j_token : (j < V)%nat.
Hypothesis suffix_tokens : forall i, (i < n)%nat -> token w (S i) = j /\ token l (S i) = j.
Hypothesis suffix_probs : forall i v, (i < n)%nat -> (v < V)%nat ->
  probs V d W w (S i) v = peaked V j a v /\ probs V d W l (S i) v = peaked V j b v.

Let G := pair_gram V d W w l.
Let pw := probs V d W w 0 (token w 0).
Let pl := probs V d W w 0 (token l 0).

Lemma suffix_slopes :
  chosen_slope G weight weight = weight * f * (1 - pw + pl - INR n * ((1 - a) * pull (INR V) a b)) /\
  rejected_slope G weight weight = weight * f * (- (1 - pl + pw) - INR n * ((1 - b) * pull (INR V) a b)).
Proof.
  unfold G; destruct (aligned_slopes V d W w l w_l_aligned weight) as [-> ->]; rewrite w_size, !sum_first.
  destruct (contrast_position_slopes V d W w l 0 w_token l_token contrast same_context) as [-> ->].
  rewrite equal_norms by lia; fold pw pl.
  assert (each : forall i, (i < n)%nat ->
    let s := residuals V d W w (S i) in let t := residuals V d W l (S i) in
    dot V s s - dot V s t = - ((1 - a) * pull (INR V) a b) /\ dot V s t - dot V t t = - ((1 - b) * pull (INR V) a b)).
  { intros i i_lt; destruct (suffix_tokens i i_lt) as [w_is_j l_is_j]; cbv zeta.
    destruct (suffix_position_slopes V d W w l (S i) j j_token w_is_j l_is_j) as [-> ->].
    destruct (peaked_suffix_slopes V j V_large j_token a b) as [<- <-].
    unfold dot, residual_of, difference; split; [| f_equal];
      apply sum_ext; intros v v_lt; destruct (suffix_probs i v i_lt v_lt) as [-> ->]; reflexivity. }
  split; [rewrite (sum_ext n _ (fun _ => f * - ((1 - a) * pull (INR V) a b)))
         | rewrite (sum_ext n _ (fun _ => f * - ((1 - b) * pull (INR V) a b)))];
    try (rewrite sum_const; ring);
    intros i i_lt; destruct (each i i_lt) as [first second]; rewrite equal_norms by lia; f_equal; assumption.
Qed.

Lemma contrast_room : 0 < 1 - pw + pl /\ 0 < 1 - pl + pw.
Proof.
  pose proof (softmax_below_one V (logits d W w 0) (token w 0) V_large w_token).
  pose proof (softmax_below_one V (logits d W w 0) (token l 0) V_large l_token).
  assert (0 < V)%nat as V_pos by lia.
  pose proof (softmax_pos V (logits d W w 0) (token w 0) V_pos).
  pose proof (softmax_pos V (logits d W w 0) (token l 0) V_pos).
  unfold pw, pl, probs; lra.
Qed.

(** T8. *)
Theorem chosen_falls_beyond_threshold_iff : b < a -> a < 1 ->
  (chosen_slope G weight weight < 0 <-> threshold (INR V) pw pl a b < INR n).
Proof.
  intros order room; destruct suffix_slopes as [-> _]; pose proof (real_V_large V V_large).
  rewrite <- falls_beyond_threshold_iff by assumption.
  assert (0 < weight * f) by nra; split; intros; nra.
Qed.

(** The rejected response falls at any length, so beyond the threshold both do. *)
Theorem rejected_falls_at_any_length : b <= a -> b <= 1 -> rejected_slope G weight weight < 0.
Proof.
  intros order room; destruct suffix_slopes as [_ ->]; destruct contrast_room, (pull_sign V V_large a b) as [above _].
  assert (0 <= pull (INR V) a b).
  { destruct order as [order | ->]; [specialize (above order); lra | unfold pull; right; field].
    pose proof (real_V_large V V_large); lra. }
  assert (0 <= INR n * ((1 - b) * pull (INR V) a b)).
  { pose proof (pos_INR n); apply Rmult_le_pos; [| apply Rmult_le_pos]; lra. }
  assert (0 < weight * f) by nra; nra.
Qed.

Corollary both_fall_beyond_threshold_iff : b < a -> a < 1 ->
  (chosen_slope G weight weight < 0 /\ rejected_slope G weight weight < 0 <-> threshold (INR V) pw pl a b < INR n).
Proof.
  intros order room; rewrite <- chosen_falls_beyond_threshold_iff by assumption.
  split; [tauto | intros fall; split; [assumption | apply rejected_falls_at_any_length; lra]].
Qed.

(** A suffix no likelier after the chosen than after the rejected never lowers the chosen response. *)
Theorem chosen_rises_at_any_length : a <= b -> a <= 1 -> 0 < chosen_slope G weight weight.
Proof.
  intros order room; destruct suffix_slopes as [-> _]; destruct contrast_room, (pull_sign V V_large a b) as [_ below].
  assert (pull (INR V) a b <= 0).
  { destruct order as [order | ->]; [specialize (below order); lra | unfold pull; right; field].
    pose proof (real_V_large V V_large); lra. }
  assert (0 <= INR n * ((1 - a) * - pull (INR V) a b)).
  { pose proof (pos_INR n); apply Rmult_le_pos; [| apply Rmult_le_pos]; lra. }
  assert (0 < weight * f) by nra; nra.
Qed.

(** For a < b the same holds with the two responses exchanged: beyond its own threshold the rejected one rises. *)
Theorem rejected_rises_beyond_threshold_iff : a < b -> b < 1 ->
  (0 < rejected_slope G weight weight <-> threshold (INR V) pl pw b a < INR n).
Proof.
  intros order room; destruct suffix_slopes as [_ ->]; pose proof (real_V_large V V_large).
  rewrite <- falls_beyond_threshold_iff by assumption.
  replace (pull (INR V) a b) with (- pull (INR V) b a) by (unfold pull; field; lra).
  assert (0 < weight * f) by nra; split; intros; nra.
Qed.

End Threshold.

(** ** Such models exist, and such features are needed *)

(** Frozen logits and a learned offset per position: features e_i.  At position 0 the frozen logits are 0, at the
    others they are the logarithms of peaked probabilities. *)
Definition peaked_text (V n j y : nat) (a : R) (φ : nat -> nat -> R) : response :=
  Response (S n) (fun i => match i with O => y | _ => j end)
           (fun i v => match i with O => 0 | _ => ln (peaked V j a v) end) φ.

Lemma peaked_text_probs (V d n j y : nat) (a : R) (φ : nat -> nat -> R) :
  (1 < V)%nat -> (j < V)%nat -> 0 < a < 1 -> let p := probs V d (fun _ _ => 0) (peaked_text V n j y a φ) in
  (forall v, p 0%nat v = 1 / INR V) /\ (forall i v, p (S i) v = peaked V j a v).
Proof.
  intros V_large j_lt room p; unfold p, probs.
  set (r := peaked_text V n j y a φ); assert (no_offset : forall i, logits d (fun _ _ => 0) r i = frozen r i).
  { intros i; extensionality v; unfold logits, dot; rewrite sum_zero by (intros; ring); ring. }
  destruct (peaked_distribution V j V_large j_lt a room) as [positive total].
  split; [intros v | intros i v]; rewrite no_offset; simpl; [apply uniform_softmax; lia |].
  unfold softmax, partition; rewrite (sum_ext V _ (peaked V j a)), total, exp_ln by (intros; auto using exp_ln); field.
Qed.

(** T8's first example, L* = 23.75: with 23 suffix tokens DPO separates the pair, with 24 it lowers both responses. *)
Example longer_suffix_displaces : let text y a n := peaked_text 20 n 2 y a is in
  let G n := pair_gram 20 (S n) (fun _ _ => 0) (text 0%nat (9/10) n) (text 1%nat (5/10) n) in
  separates (G 23%nat) 1 1 /\ (chosen_slope (G 24%nat) 1 1 < 0 /\ rejected_slope (G 24%nat) 1 1 < 0).
Proof.
  intros text G; set (u := 1 / INR 20); set (x := pull (INR 20) (9/10) (5/10)).
  assert (slopes : forall n, chosen_slope (G n) 1 1 = 1 * 1 * (1 - u + u - INR n * ((1 - 9/10) * x)) /\
                             rejected_slope (G n) 1 1 = 1 * 1 * (- (1 - u + u) - INR n * ((1 - 5/10) * x))).
  { intros n; unfold G, text, u, x.
    destruct (peaked_text_probs 20 (S n) n 2 0 (9/10) is) as [first after_w]; try lia; try lra.
    destruct (peaked_text_probs 20 (S n) n 2 1 (5/10) is) as [_ after_l]; try lia; try lra.
    rewrite <- (first 0%nat) at 1 3; rewrite <- (first 1%nat) at 1 2.
    apply (suffix_slopes 20 (S n) (fun _ _ => 0) n) with (j := 2%nat); simpl; try lia; try reflexivity; auto.
    - repeat split; simpl; auto; intros i k i_lt k_lt differ; rewrite dot_is_left, is_different by auto; reflexivity.
    - intros i i_lt; unfold feature_sq; simpl; rewrite dot_is_left, is_same by assumption; reflexivity. }
  unfold separates; destruct (slopes 23%nat) as [-> ->], (slopes 24%nat) as [-> ->].
  unfold u, x, pull; simpl; lra.
Qed.

(** Orthogonal features matter: if all positions share one feature, three suffix tokens lower the chosen response,
    although the threshold would be 16/3. *)
Example threshold_needs_orthogonal_features : let text y a := peaked_text 3 3 2 y a (fun _ _ => 1) in
  chosen_slope (pair_gram 3 1 (fun _ _ => 0) (text 0%nat (1/2)) (text 1%nat (1/4))) 1 1 < 0 /\
  threshold 3 (1/3) (1/3) (1/2) (1/4) = 16/3.
Proof.
  intros text; split; [| unfold threshold; field].
  assert (known : forall y a, 0 < a < 1 -> residuals 3 1 (fun _ _ => 0) (text y a)
    = fun i => match i with O => residual_of (fun _ => 1 / INR 3) y | _ => residual_of (peaked 3 2 a) 2 end).
  { intros y a room; destruct (peaked_text_probs 3 1 3 2 y a (fun _ _ => 1)) as [first after]; try lia; try lra.
    extensionality i; extensionality v; unfold residuals, residual, residual_of; fold (text y a) in *.
    destruct i as [|i]; simpl; f_equal; [apply first | apply after]. }
  unfold chosen_slope; rewrite pair_gram_from_tokens; unfold token_gram; rewrite !known by lra.
  unfold dot, residual_of, peaked, is; simpl; lra.
Qed.

(** ** T7 and T8 for any suffix: other tokens, probabilities and feature norms at every position *)
Section AnySuffix.
Variables (V d : nat) (W : nat -> nat -> R) (n : nat) (w l : response) (weight : R).
Hypotheses (w_size : size w = S n) (w_l_aligned : aligned d w l).
Hypotheses (w_token : (token w 0 < V)%nat) (l_token : (token l 0 < V)%nat) (contrast : token w 0 <> token l 0).
Hypothesis same_context : logits d W l 0 = logits d W w 0.
Hypothesis suffix_tokens : forall i, (i < n)%nat -> (token w (S i) < V)%nat /\ token l (S i) = token w (S i).

Let p := probs V d W w.
Let q := probs V d W l.
Let added (i : nat) : R := dot V (residual_of (p i) (token w i)) (difference (q i) (p i)).
Let moved (i : nat) : R := dot V (difference (q i) (p i)) (difference (q i) (p i)).

Theorem any_suffix_slopes : let G := pair_gram V d W w l in
  let f := feature_sq d w in let pw := p 0%nat (token w 0) in let pl := p 0%nat (token l 0) in
  chosen_slope G weight weight = weight * (f 0%nat * (1 - pw + pl) + Σ_(i < n) f (S i) * added (S i)) /\
  rejected_slope G weight weight
  = weight * (f 0%nat * - (1 - pl + pw)
              + Σ_(i < n) f (S i) * (added (S i) - moved (S i))).
Proof.
  cbv zeta; destruct (aligned_slopes V d W w l w_l_aligned weight) as [-> ->]; rewrite w_size, !sum_first.
  destruct (contrast_position_slopes V d W w l 0 w_token l_token contrast same_context) as [-> ->].
  split; f_equal; f_equal; apply sum_ext; intros i i_lt; destruct (suffix_tokens i i_lt) as [token_lt same];
    destruct (suffix_position_slopes V d W w l (S i) (token w (S i)) token_lt eq_refl same) as [chosen rejected];
    first [rewrite chosen | rewrite rejected]; reflexivity.
Qed.

(** The chosen falls exactly where the suffix takes more than the contrast token gives. *)
Corollary any_suffix_lowers_the_chosen_iff : 0 < weight ->
  let f := feature_sq d w in let pw := p 0%nat (token w 0) in let pl := p 0%nat (token l 0) in
  (chosen_slope (pair_gram V d W w l) weight weight < 0 <->
   Σ_(i < n) f (S i) * added (S i) < - (f 0%nat * (1 - pw + pl))).
Proof. intros positive; destruct any_suffix_slopes as [-> _]; cbv zeta; split; intros; nra. Qed.

End AnySuffix.
