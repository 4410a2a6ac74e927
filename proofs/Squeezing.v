(** * Squeezing

    What is stated.  T15: ascent on the loss -ln p_y of one token y, in one softmax, at any step size η > 0 and with any
    vocabulary of at least two tokens.  Then

      p_y falls, and the largest of the other probabilities rises, both strictly;
      the token that has it keeps it, so this goes on step after step;
      the ratio of two other tokens moves in favour of the larger one, and a token v with p_v + p_y ≤ ‖p‖² falls
        together with y: what y loses, and more, goes to the largest.

    Scope.  Real arithmetic.  The step is taken on the logits, or on the matrix W of a linear softmax with features φ,
    which is the same with η‖φ‖² for η.  Contexts that share parameters with this one are left out.

    Name                     Meaning
    ascent V z y η           z - η (e_y - p): the logits after the step
    ascents V z y η n        the logits after n such steps
    largest_other V p y      max of p_v over the tokens v ≠ y
    is_largest_other V p y m token m ≠ y has that probability *)

From Coq Require Import Reals Lra Psatz Lia Arith FunctionalExtensionality.
From Toymodel Require Import Sums Condition Softmax Slopes Entanglement FiniteStep.
Local Open Scope R_scope.

Definition ascent (V : nat) (z : nat -> R) (y : nat) (η : R) : nat -> R :=
  shift z (fun v => - η * residual V z y v).

Fixpoint ascents (V : nat) (z : nat -> R) (y : nat) (η : R) (n : nat) : nat -> R :=
  match n with
  | O => z
  | S k => ascent V (ascents V z y η k) y η
  end.

Definition is_largest_other (V : nat) (p : nat -> R) (y m : nat) : Prop :=
  (m < V)%nat /\ m <> y /\ forall v, (v < V)%nat -> v <> y -> p v <= p m.

Definition largest_other (V : nat) (p : nat -> R) (y : nat) : R :=
  largest V (fun v => if Nat.eq_dec v y then 0 else p v).

(** The step is gradient ascent on the loss: the gradient of -ln p_y with respect to the logits is -(e_y - p). *)
Theorem ascent_direction_is_gradient_of_loss (V : nat) (z u : nat -> R) (y : nat) : (y < V)%nat ->
  derivable_pt_lim (fun t => - logp V (fun v => z v + t * u v) y) 0 (dot V (fun v => - 1 * residual V z y v) u).
Proof.
  intros y_lt; rewrite dot_scale_left.
  replace (-1 * dot V (residual V z y) u) with (- dot V (residual V z y) u) by ring.
  apply (derivable_pt_lim_opp (fun t => logp V (fun v => z v + t * u v) y)).
  pose proof (logp_derivative V (fun t v => z v + t * u v) u 0 y y_lt) as slope; cbv beta in slope.
  replace (fun v => z v + 0 * u v) with z in slope by (extensionality v; ring).
  apply slope; intros v _; apply affine_derivative.
Qed.

(** ** The token itself *)

Lemma residual_norm_pos (V : nat) (z : nat -> R) (y : nat) : (1 < V)%nat -> (y < V)%nat ->
  0 < dot V (residual V z y) (residual V z y).
Proof.
  intros V_large y_lt; pose proof (softmax_below_one V z y V_large y_lt).
  pose proof (term_le_sum V (fun v => residual V z y v * residual V z y v) y) as term; unfold dot.
  apply Rlt_le_trans with (residual V z y y * residual V z y y).
  - unfold residual; rewrite is_same; nra.
  - apply term; [intros; apply Rle_0_sqr | assumption].
Qed.

Theorem token_falls (V : nat) (z : nat -> R) (y : nat) (η : R) : (1 < V)%nat -> (y < V)%nat -> 0 < η ->
  softmax V (ascent V z y η) y < softmax V z y.
Proof.
  intros V_large y_lt η_pos; rewrite softmax_lt_iff_logp_lt by lia.
  pose proof (logp_change_le V z (residual V z y) y (- η) y_lt).
  pose proof (residual_norm_pos V z y V_large y_lt); unfold ascent; nra.
Qed.

(** ** The largest of the others *)

(** Whatever moves the logits, the token whose logit is raised most becomes likelier. *)
Lemma most_raised_token_rises (V : nat) (z u : nat -> R) (m k : nat) :
  (forall v, (v < V)%nat -> u v <= u m) -> (k < V)%nat -> u k < u m -> softmax V z m < softmax V (shift z u) m.
Proof.
  intros most k_lt less; assert (0 < V)%nat as V_pos by lia; rewrite softmax_shift by assumption.
  pose proof (tilted_mean_pos V z u V_pos) as mean_pos; pose proof (softmax_pos V z m V_pos).
  assert (Σ_(v < V) softmax V z v * exp (u v) < exp (u m)) as mean_small.
  { rewrite <- (Rmult_1_r (exp (u m))), <- (softmax_sum V z V_pos), <- sum_scale.
    apply sum_lt with (k := k); [| assumption |].
    - intros v v_lt; pose proof (softmax_pos V z v V_pos); pose proof (exp_monotone _ _ (most v v_lt)); nra.
    - pose proof (softmax_pos V z k V_pos); pose proof (exp_increasing _ _ less); nra. }
  apply (Rmult_lt_reg_r (Σ_(v < V) softmax V z v * exp (u v))); [assumption |].
  replace (_ / _ * _) with (softmax V z m * exp (u m)) by (field; lra).
  now apply Rmult_lt_compat_l.
Qed.

Theorem largest_other_rises (V : nat) (z : nat -> R) (y m : nat) (η : R) : (y < V)%nat -> 0 < η ->
  is_largest_other V (softmax V z) y m -> softmax V z m < softmax V (ascent V z y η) m.
Proof.
  intros y_lt η_pos (m_lt & m_other & top); assert (0 < V)%nat as V_pos by lia.
  pose proof (softmax_at_most_one V z y y_lt); pose proof (softmax_pos V z m V_pos).
  assert (- η * residual V z y y < - η * residual V z y m) as y_less
    by (unfold residual; rewrite is_same, is_different by auto; nra).
  apply most_raised_token_rises with y; [intros v v_lt | assumption | exact y_less].
  destruct (Nat.eq_dec v y) as [-> | v_other]; [now apply Rlt_le |].
  specialize (top v v_lt v_other); unfold residual; rewrite !is_different by auto; nra.
Qed.

(** Odds of two tokens after any change of the logits. *)
Lemma odds_shift (V : nat) (z u : nat -> R) (v w : nat) : (0 < V)%nat ->
  softmax V (shift z u) v * (softmax V z w * exp (u w)) = softmax V (shift z u) w * (softmax V z v * exp (u v)).
Proof. intros V_pos; rewrite !softmax_shift by assumption; pose proof (tilted_mean_pos V z u V_pos); field; lra. Qed.

(** Among the others the rich get richer: the ratio p_w / p_v grows. *)
Theorem rich_get_richer (V : nat) (z : nat -> R) (y v w : nat) (η : R) : (0 < V)%nat -> v <> y -> w <> y -> 0 < η ->
  softmax V z v < softmax V z w ->
  softmax V z w / softmax V z v < softmax V (ascent V z y η) w / softmax V (ascent V z y η) v.
Proof.
  intros V_pos v_other w_other η_pos less; unfold ascent; set (u := fun k => - η * residual V z y k).
  pose proof (odds_shift V z u v w V_pos) as odds.
  assert (u v < u w) as raised by (unfold u, residual; rewrite !is_different by auto; nra).
  pose proof (exp_increasing _ _ raised); pose proof (exp_pos (u v)).
  pose proof (softmax_pos V z v V_pos); pose proof (softmax_pos V z w V_pos).
  pose proof (softmax_pos V (shift z u) v V_pos) as v_pos; pose proof (softmax_pos V (shift z u) w V_pos).
  rewrite fraction_lt_iff by assumption.
  apply (Rmult_lt_reg_r (exp (u v))); [assumption |].
  apply Rlt_le_trans with (softmax V (shift z u) v * (softmax V z w * exp (u w))); [| lra].
  replace (_ * _ * exp (u v)) with (softmax V (shift z u) v * (softmax V z w * exp (u v))) by ring.
  repeat apply Rmult_lt_compat_l; assumption.
Qed.

(** Who is largest stays largest. *)
Theorem largest_other_stays (V : nat) (z : nat -> R) (y m : nat) (η : R) : 0 < η ->
  is_largest_other V (softmax V z) y m -> is_largest_other V (softmax V (ascent V z y η)) y m.
Proof.
  intros η_pos (m_lt & m_other & top); assert (0 < V)%nat as V_pos by lia; repeat split; auto.
  intros v v_lt v_other; specialize (top v v_lt v_other).
  unfold softmax, Rdiv; apply Rmult_le_compat_r; [now apply Rlt_le, Rinv_0_lt_compat, partition_pos |].
  apply exp_monotone; unfold ascent, shift.
  assert (z v <= z m) as logits_order.
  { destruct (Rle_lt_dec (z v) (z m)) as [|more]; [assumption | exfalso].
    pose proof (exp_increasing _ _ more); pose proof (Rinv_0_lt_compat _ (partition_pos V z V_pos)).
    unfold softmax, Rdiv in top; nra. }
  unfold residual; rewrite !is_different by auto; nra.
Qed.

(** T15, said of the maximum itself. *)
Lemma largest_other_value (V : nat) (p : nat -> R) (y m : nat) : 0 <= p m -> is_largest_other V p y m ->
  largest_other V p y = p m.
Proof.
  intros nonneg (m_lt & m_other & top); unfold largest_other; apply Rle_antisym.
  - destruct (largest_attained V (fun v => if Nat.eq_dec v y then 0 else p v)) as (v & v_lt & ->); [lia |].
    destruct (Nat.eq_dec v y); auto.
  - pose proof (largest_bound V (fun v => if Nat.eq_dec v y then 0 else p v) m m_lt) as bound.
    cbv beta in bound; destruct (Nat.eq_dec m y); [contradiction | assumption].
Qed.

Lemma largest_other_exists (V : nat) (p : nat -> R) (y : nat) : (1 < V)%nat ->
  (forall v, (v < V)%nat -> 0 < p v) -> exists m, is_largest_other V p y m.
Proof.
  intros V_large pos; pose (others := fun v => if Nat.eq_dec v y then 0 else p v).
  destruct (largest_attained V others) as (m & m_lt & attained); [lia |].
  assert (forall v, (v < V)%nat -> v <> y -> p v <= others m) as top.
  { intros v v_lt v_other; rewrite <- attained; pose proof (largest_bound V others v v_lt) as bound.
    unfold others at 1 in bound; destruct (Nat.eq_dec v y); [contradiction | assumption]. }
  pose (other := if Nat.eq_dec y 0 then 1%nat else 0%nat).
  assert (other < V /\ other <> y)%nat as [other_lt differ] by (unfold other; destruct (Nat.eq_dec y 0); lia).
  pose proof (top other other_lt differ) as m_large; pose proof (pos other other_lt).
  exists m; unfold is_largest_other; unfold others in m_large, top; destruct (Nat.eq_dec m y); [lra | auto].
Qed.

Theorem squeezing (V : nat) (z : nat -> R) (y : nat) (η : R) : (1 < V)%nat -> (y < V)%nat -> 0 < η ->
  softmax V (ascent V z y η) y < softmax V z y /\
  largest_other V (softmax V z) y < largest_other V (softmax V (ascent V z y η)) y.
Proof.
  intros V_large y_lt η_pos; split; [now apply token_falls |].
  assert (0 < V)%nat as V_pos by lia.
  destruct (largest_other_exists V (softmax V z) y V_large) as (m & top); [auto using softmax_pos |].
  rewrite (largest_other_value V _ y m), (largest_other_value V _ y m) by
    auto using Rlt_le, softmax_pos, largest_other_stays.
  now apply largest_other_rises.
Qed.

(** Step after step. *)
Theorem squeezing_goes_on (V : nat) (z : nat -> R) (y m : nat) (η : R) (n : nat) : (y < V)%nat -> 0 < η ->
  is_largest_other V (softmax V z) y m ->
  softmax V (ascents V z y η (S n)) y < softmax V (ascents V z y η n) y /\
  softmax V (ascents V z y η n) m < softmax V (ascents V z y η (S n)) m.
Proof.
  intros y_lt η_pos top.
  assert (is_largest_other V (softmax V (ascents V z y η n)) y m) as still_top
    by (induction n as [|n IH]; [exact top | now apply largest_other_stays]).
  assert (1 < V)%nat by (destruct top as (m_lt & m_other & _); lia).
  split; [now apply token_falls | now apply largest_other_rises].
Qed.

(** ** The small ones are squeezed *)

Theorem small_token_falls (V : nat) (z : nat -> R) (y v : nat) (η : R) :
  (y < V)%nat -> (v < V)%nat -> v <> y -> 0 < η ->
  softmax V z v + softmax V z y <= dot V (softmax V z) (softmax V z) ->
  softmax V (ascent V z y η) v < softmax V z v.
Proof.
  intros y_lt v_lt differ η_pos small; assert (0 < V)%nat as V_pos by lia.
  rewrite softmax_lt_iff_logp_lt by assumption; unfold ascent.
  assert (residual V z y y <> residual V z y v) as moves.
  { pose proof (softmax_at_most_one V z y y_lt); pose proof (softmax_pos V z v V_pos).
    unfold residual; rewrite is_same, is_different by auto; lra. }
  pose proof (logp_change_lt V z (residual V z y) v y v (- η) v_lt y_lt v_lt moves) as change.
  rewrite residual_dot_same_context, (is_different v y) in change by assumption; nra.
Qed.

(** p = (1/20, 9/10, 1/20): lowering the first token lowers the third with it. *)
Example small_tokens_exist (η : R) : 0 < η ->
  let z v := match v with 1%nat => ln (9 / 10) | _ => ln (1 / 20) end in
  softmax 3 z 2 = 1 / 20 /\ softmax 3 (ascent 3 z 0 η) 2 < softmax 3 z 2.
Proof.
  intros η_pos z; assert (partition 3 z = 1) as total by (unfold partition; simpl; rewrite !exp_ln by lra; lra).
  assert (softmax 3 z 0 = 1 / 20) as p_0 by (unfold softmax; rewrite total; simpl; rewrite exp_ln; lra).
  assert (softmax 3 z 1 = 9 / 10) as p_1 by (unfold softmax; rewrite total; simpl; rewrite exp_ln; lra).
  assert (softmax 3 z 2 = 1 / 20) as p_2 by (unfold softmax; rewrite total; simpl; rewrite exp_ln; lra).
  split; [exact p_2 | apply small_token_falls; try lia; try assumption].
  unfold dot; simpl; rewrite p_0, p_1, p_2; lra.
Qed.

(** A vocabulary of one token leaves nothing to squeeze. *)
Example one_token_stays (z : nat -> R) (η : R) : softmax 1 (ascent 1 z 0 η) 0 = softmax 1 z 0.
Proof.
  unfold softmax, partition; simpl; rewrite !Rplus_0_l.
  pose proof (exp_pos (ascent 1 z 0 η 0)); pose proof (exp_pos (z 0%nat)); field; lra.
Qed.

(** ** A step on the matrix W of a linear softmax *)

Theorem linear_softmax_ascent (V d : nat) (W : nat -> nat -> R) (r : response) (η : R) : size r = 1%nat ->
  logits d (stepped W (gradient V d W r) (- η)) r 0
  = ascent V (logits d W r 0) (token r 0) (η * dot d (feature r 0%nat) (feature r 0%nat)).
Proof.
  intros one; extensionality v; unfold stepped; rewrite logits_along, logit_change_along_gradient, one; simpl.
  unfold ascent, shift, residuals; ring.
Qed.

Corollary linear_softmax_squeezing (V d : nat) (W : nat -> nat -> R) (r : response) (η : R) : size r = 1%nat ->
  (1 < V)%nat -> in_vocabulary V r -> 0 < dot d (feature r 0%nat) (feature r 0%nat) -> 0 < η ->
  let p := softmax V (logits d W r 0) in
  let p' := softmax V (logits d (stepped W (gradient V d W r) (- η)) r 0) in
  p' (token r 0%nat) < p (token r 0%nat) /\ largest_other V p (token r 0%nat) < largest_other V p' (token r 0%nat).
Proof.
  intros one V_large r_in features η_pos p p'; unfold p, p'; rewrite linear_softmax_ascent by assumption.
  apply squeezing; [assumption | apply r_in; lia | now apply Rmult_lt_0_compat].
Qed.
