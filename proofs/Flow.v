(** * Exact trajectories

    What is stated.  T14: the responses differ in one token and the logits are W φ with frozen features φ.  Under the
    gradient flow of a loss ℓ(m) of the margin m of log-ratios, from reference = initial policy, the softmax drops out:

      - the chosen logit rises by u(t), the rejected one falls by u(t), no other moves; m = 2u, so that log(p_w/p_l)
        rises by 2u, the chosen probability rises and the rejected one falls, whatever the vocabulary;
      - u(0) = 0 and u' = -‖φ‖² ℓ'(2u); and every such u comes from a flow;
      - DPO: u' = β‖φ‖² σ(-2βu), solved by the u with 2βu + e^(2βu) = 2β²‖φ‖²t + 1 =: c and by no other, which exists;
        in closed form 2βu = c - W(e^c), W Lambert's function; u grows without bound, like a logarithm;
      - IPO, with target 1/(2τ), τ in β's place: u' = ‖φ‖²(1/τ - 4u), solved by u = (1 - e^(-4‖φ‖²t))/(4τ) and by no
        other; 2u rises to the target and never reaches it;
      - other tokens that both answers share, in contexts that they share, change nothing of the flow (T5 along it).

    Needed for it: reference = initial policy ([other_references_start_with_another_velocity]) and a single differing
    token ([two_differing_tokens_pull_twice]).

    Scope.  Real arithmetic and continuous time t ≥ 0, the derivative at 0 two-sided (every path here extends to t < 0).
    That gradient descent with small steps stays near the flow, and floating point, are the tests' business.

    Name                       Meaning
    log_ratio V d w l W        log π_w - log π_l of two responses, in a linear softmax model
    loss_gradient slope ... m  ∇_W ℓ(log_ratio - initial) = ℓ'(m)(g_w - g_l); slope is ℓ'
    gradient_flow              dW/dt = -∇_W ℓ, from reference = initial policy
    logit d z0 φ W v           z⁰_v + ⟨W_v, φ⟩
    moved z w l u              logits z with the chosen one raised and the rejected one lowered by u
    logistic x                 σ(x) = 1/(1 + e^(-x))
    dpo_loss β, ipo_loss τ     log(1 + e^(-βm)) and (m - 1/(2τ))²; dpo_slope, ipo_slope their derivatives
    root c                     the x with x + e^x = c
    dpo_path β F, ipo_path τ F   u(t), where F is ‖φ‖² *)

From Coq Require Import Reals Lra Psatz Lia.
From Toymodel Require Import Sums Condition Softmax Slopes SingleToken.
Local Open Scope R_scope.

(** ** Derivatives *)

Lemma derivative_ext (f g : R -> R) (t a b : R) :
  (forall s, f s = g s) -> a = b -> derivable_pt_lim f t a -> derivable_pt_lim g t b.
Proof.
  intros same <- slope eps eps_pos; destruct (slope eps eps_pos) as [delta near]; exists delta.
  intros h h_some h_small; rewrite <- !same; auto.
Qed.

Lemma line_derivative (a b t : R) : derivable_pt_lim (fun s => a + b * s) t b.
Proof.
  apply (derivative_ext (fun s => a + b * s) _ t (0 + b * 1)); [reflexivity | ring |].
  apply (derivable_pt_lim_plus (fun _ => a) (fun s => b * s)); [apply derivable_pt_lim_const |].
  apply (derivable_pt_lim_scal (fun s => s)), derivable_pt_lim_id.
Qed.

Lemma scaled_derivative (a : R) (f : R -> R) (t f' : R) :
  derivable_pt_lim f t f' -> derivable_pt_lim (fun s => a * f s) t (a * f').
Proof. apply derivable_pt_lim_scal. Qed.

Lemma sum_of_two_derivative (f g : R -> R) (t f' g' : R) :
  derivable_pt_lim f t f' -> derivable_pt_lim g t g' -> derivable_pt_lim (fun s => f s + g s) t (f' + g').
Proof. apply derivable_pt_lim_plus. Qed.

Lemma product_derivative (f g : R -> R) (t f' g' : R) :
  derivable_pt_lim f t f' -> derivable_pt_lim g t g' -> derivable_pt_lim (fun s => f s * g s) t (f' * g t + f t * g').
Proof. apply derivable_pt_lim_mult. Qed.

Lemma chain_derivative (f g : R -> R) (t f' g' : R) :
  derivable_pt_lim f t f' -> derivable_pt_lim g (f t) g' -> derivable_pt_lim (fun s => g (f s)) t (g' * f').
Proof. apply derivable_pt_lim_comp. Qed.

Lemma exp_derivative (f : R -> R) (t f' : R) :
  derivable_pt_lim f t f' -> derivable_pt_lim (fun s => exp (f s)) t (exp (f t) * f').
Proof. intros slope; apply (chain_derivative f exp); [assumption | apply derivable_pt_lim_exp]. Qed.

Lemma still_if_slope_is_zero (f : R -> R) :
  (forall t, 0 <= t -> derivable_pt_lim f t 0) -> forall t, 0 <= t -> f t = f 0.
Proof.
  intros still t [t_pos | <-]; [| reflexivity].
  destruct (MVT_cor2 f (fun _ => 0) 0 t t_pos) as (c & change & _); [intros; apply still; lra | lra].
Qed.

(** ** Where the equation comes from

    First for any two responses of a linear softmax model. *)

Definition log_ratio (V d : nat) (w l : response) (W : nat -> nat -> R) : R := logprob V d W w - logprob V d W l.

(** ∇_W ℓ, once the margin of log-ratios has grown to m. *)
Definition loss_gradient (slope : R -> R) (V d : nat) (w l : response) (W : nat -> nat -> R) (m : R) (v k : nat) : R :=
  slope m * (gradient V d W w v k - gradient V d W l v k).

Theorem loss_gradient_is_the_gradient (loss slope : R -> R) (V d : nat) (w l : response) (W : nat -> nat -> R)
  (initial : R) : in_vocabulary V w -> in_vocabulary V l ->
  let margin W := log_ratio V d w l W - initial in
  derivable_pt_lim loss (margin W) (slope (margin W)) ->
  gradient_at matrix_plus matrix_scale (frobenius V d) (fun W => loss (margin W)) W
    (loss_gradient slope V d w l W (margin W)).
Proof.
  intros w_in l_in margin loss_slope D.
  set (rise := frobenius V d (gradient V d W w) D - frobenius V d (gradient V d W l) D).
  apply (derivative_ext (fun t => loss (margin (matrix_plus W (matrix_scale t D)))) _ 0 (slope (margin W) * rise)).
  - reflexivity.
  - unfold rise, frobenius; rewrite <- sum_minus, <- sum_scale; apply sum_ext; intros v _.
    unfold loss_gradient; now rewrite dot_scale_left, dot_minus_left.
  - apply (chain_derivative (fun t => margin (matrix_plus W (matrix_scale t D))) loss).
    + apply (derivative_ext (fun t => logprob V d (matrix_plus W (matrix_scale t D)) w
               + -1 * logprob V d (matrix_plus W (matrix_scale t D)) l + - initial) _ 0
               (frobenius V d (gradient V d W w) D + -1 * frobenius V d (gradient V d W l) D + 0)).
      * intros t; unfold margin, log_ratio; ring.
      * unfold rise; ring.
      * apply (sum_of_two_derivative (fun t => logprob V d (matrix_plus W (matrix_scale t D)) w
                 + -1 * logprob V d (matrix_plus W (matrix_scale t D)) l)); [| apply derivable_pt_lim_const].
        apply (sum_of_two_derivative (fun t => logprob V d (matrix_plus W (matrix_scale t D)) w)).
        -- now apply linear_softmax_gradient.
        -- apply scaled_derivative; now apply linear_softmax_gradient.
    + now rewrite matrix_step_zero.
Qed.

(** Gradient flow from reference = initial policy: the loss sees how much the log-ratio has grown since t = 0. *)
Definition gradient_flow (slope : R -> R) (V d : nat) (w l : response) (W : R -> nat -> nat -> R) : Prop :=
  forall t v k, 0 <= t -> (v < V)%nat -> (k < d)%nat ->
  derivable_pt_lim (fun s => W s v k) t
    (- loss_gradient slope V d w l (W t) (log_ratio V d w l (W t) - log_ratio V d w l (W 0)) v k).

(** *** One differing token

    Both responses are one token in one context, with features φ and frozen logits z⁰ (zero, if nothing is frozen). *)

Definition logit (d : nat) (z0 φ : nat -> R) (W : nat -> nat -> R) (v : nat) : R := z0 v + dot d (W v) φ.

Definition moved (z : nat -> R) (w l : nat) (u : R) (v : nat) : R := z v + u * (is w v - is l v).

Section OneToken.
Variables (slope : R -> R) (V d : nat) (z0 φ : nat -> R) (w l : nat).
Hypothesis w_lt : (w < V)%nat.
Hypothesis l_lt : (l < V)%nat.
Hypothesis differ : w <> l.

Let F := dot d φ φ.
Let chosen := one_token z0 φ w.
Let rejected := one_token z0 φ l.

(** The softmax drops out of the log-ratio, and out of the difference of the two gradients. *)
Lemma log_ratio_is_logit_difference (W : nat -> nat -> R) :
  log_ratio V d chosen rejected W = logit d z0 φ W w - logit d z0 φ W l.
Proof. unfold log_ratio, logprob, response_logp, logp, logits; simpl; unfold logit; ring. Qed.

Lemma one_token_logprob (W : nat -> nat -> R) (y : nat) :
  logprob V d W (one_token z0 φ y) = logp V (logit d z0 φ W) y.
Proof. unfold logprob, response_logp, logp, logits; simpl; unfold logit; ring. Qed.

Lemma softmax_drops_out (W : nat -> nat -> R) (m : R) (v k : nat) :
  loss_gradient slope V d chosen rejected W m v k = slope m * (is w v - is l v) * φ k.
Proof. unfold loss_gradient, gradient, residuals, residual, logits; simpl; ring. Qed.

(** Two differing tokens, w against l twice in this context, pull twice as hard from the same margin, for instance 0. *)
Example two_differing_tokens_pull_twice (W : nat -> nat -> R) (m : R) (v k : nat) :
  let twice y := Response 2 (fun _ => y) (fun _ => z0) (fun _ => φ) in
  loss_gradient slope V d (twice w) (twice l) W m v k = 2 * loss_gradient slope V d chosen rejected W m v k.
Proof. unfold loss_gradient, gradient, residuals, residual, logits; simpl; ring. Qed.

Lemma logit_derivative (W : R -> nat -> nat -> R) (t : R) (v : nat) :
  gradient_flow slope V d chosen rejected W -> 0 <= t -> (v < V)%nat ->
  let m := log_ratio V d chosen rejected (W t) - log_ratio V d chosen rejected (W 0) in
  derivable_pt_lim (fun s => logit d z0 φ (W s) v) t (- (F * slope m) * (is w v - is l v)).
Proof.
  intros flow t_nonneg v_lt m.
  apply (derivative_ext (fun s => z0 v + Σ_(k < d) φ k * W s v k) _ t
           (0 + Σ_(k < d) φ k * - loss_gradient slope V d chosen rejected (W t) m v k)).
  - intros s; unfold logit, dot; f_equal; apply sum_ext; intros; ring.
  - transitivity (- (slope m * (is w v - is l v)) * F); [| ring].
    rewrite Rplus_0_l; unfold F, dot; rewrite <- sum_scale; apply sum_ext; intros; rewrite softmax_drops_out; ring.
  - apply (sum_of_two_derivative (fun _ => z0 v)); [apply derivable_pt_lim_const |].
    apply (derivative_of_sum d (fun k s => φ k * W s v k)
             (fun k => φ k * - loss_gradient slope V d chosen rejected (W t) m v k)).
    intros k k_lt; apply scaled_derivative; now apply flow.
Qed.

(** Gradient flow raises the chosen and lowers the rejected logit by one and the same u, which obeys an equation of its
    own; no other logit moves. *)
Theorem flow_moves_two_logits (W : R -> nat -> nat -> R) : gradient_flow slope V d chosen rejected W ->
  let u t := logit d z0 φ (W t) w - logit d z0 φ (W 0) w in
  forall t, 0 <= t ->
  (forall v, (v < V)%nat -> logit d z0 φ (W t) v = moved (logit d z0 φ (W 0)) w l (u t) v)
  /\ u 0 = 0 /\ derivable_pt_lim u t (- (F * slope (2 * u t))).
Proof.
  intros flow u.
  set (m := fun t => log_ratio V d chosen rejected (W t) - log_ratio V d chosen rejected (W 0)).
  assert (velocity : forall t, 0 <= t -> derivable_pt_lim u t (- (F * slope (m t)))).
  { intros t t_nonneg.
    apply (derivative_ext (fun s => - logit d z0 φ (W 0) w + 1 * logit d z0 φ (W s) w) _ t
             (0 + 1 * (- (F * slope (m t)) * (is w w - is l w)))).
    - intros s; unfold u; ring.
    - rewrite is_same, is_different by auto; ring.
    - apply (sum_of_two_derivative (fun _ => - logit d z0 φ (W 0) w)); [apply derivable_pt_lim_const |].
      apply scaled_derivative; now apply logit_derivative. }
  assert (start : u 0 = 0) by (unfold u; ring).
  assert (together : forall t v, 0 <= t -> (v < V)%nat ->
    logit d z0 φ (W t) v = moved (logit d z0 φ (W 0)) w l (u t) v).
  { intros t v t_nonneg v_lt; set (c := is w v - is l v).
    assert (still : logit d z0 φ (W t) v + - c * u t = logit d z0 φ (W 0) v + - c * u 0).
    { apply (still_if_slope_is_zero (fun s => logit d z0 φ (W s) v + - c * u s)); [intros s s_nonneg | assumption].
      apply (derivative_ext (fun s => logit d z0 φ (W s) v + - c * u s) _ s
               (- (F * slope (m s)) * c + - c * - (F * slope (m s)))); [reflexivity | ring |].
      apply (sum_of_two_derivative (fun s => logit d z0 φ (W s) v)); [now apply logit_derivative |].
      now apply scaled_derivative, velocity. }
    rewrite start in still; unfold moved; fold c; lra. }
  intros t t_nonneg; repeat split; [auto | assumption |].
  replace (2 * u t) with (m t); [now apply velocity |].
  unfold m; rewrite !log_ratio_is_logit_difference, !(together t) by assumption.
  unfold moved; rewrite !is_same, !is_different by auto; ring.
Qed.

(** And every solution of that equation comes from a flow, from any initial W. *)
Definition moved_weights (W0 : nat -> nat -> R) (u : R) (v k : nat) : R :=
  W0 v k + u * ((is w v - is l v) / F * φ k).

Lemma logit_of_moved_weights (W0 : nat -> nat -> R) (u : R) (v : nat) : 0 < F ->
  logit d z0 φ (moved_weights W0 u) v = moved (logit d z0 φ W0) w l u v.
Proof.
  intros F_pos; unfold logit, moved_weights, moved.
  rewrite dot_plus_left, !dot_scale_left; fold F; field; lra.
Qed.

Theorem solution_gives_a_flow (W0 : nat -> nat -> R) (u : R -> R) : 0 < F ->
  u 0 = 0 -> (forall t, 0 <= t -> derivable_pt_lim u t (- (F * slope (2 * u t)))) ->
  let W t := moved_weights W0 (u t) in
  (forall v k, W 0 v k = W0 v k) /\ gradient_flow slope V d chosen rejected W.
Proof.
  intros F_pos start equation W; split.
  - intros v k; unfold W, moved_weights; rewrite start; ring.
  - intros t v k t_nonneg v_lt k_lt; rewrite softmax_drops_out, !log_ratio_is_logit_difference; unfold W.
    rewrite !logit_of_moved_weights, start by assumption; unfold moved; rewrite !is_same, !is_different by auto.
    match goal with |- context [slope ?m] => replace m with (2 * u t) by ring end.
    apply (derivative_ext (fun s => W0 v k + (is w v - is l v) / F * φ k * u s) _ t
             (0 + (is w v - is l v) / F * φ k * - (F * slope (2 * u t)))).
    + intros s; unfold moved_weights; ring.
    + field; lra.
    + apply (sum_of_two_derivative (fun _ => W0 v k)); [apply derivable_pt_lim_const |].
      now apply scaled_derivative, equation.
Qed.

End OneToken.

(** ** What the path means for the probabilities

    Whatever the vocabulary and the initial logits. *)

Lemma towards_at_most_one (w l v : nat) : - (1) <= is w v - is l v <= 1.
Proof. unfold is; destruct (Nat.eq_dec w v), (Nat.eq_dec l v); lra. Qed.

Lemma lse_below_shifted (V : nat) (a b : nat -> R) (rise : R) (k : nat) :
  (forall v, (v < V)%nat -> a v <= b v + rise) -> (k < V)%nat -> a k < b k + rise -> lse V a < lse V b + rise.
Proof.
  intros le k_lt lt; assert (0 < V)%nat by lia.
  unfold lse; rewrite <- (ln_exp rise), <- ln_mult; auto using exp_pos, partition_pos.
  apply ln_increasing; [now apply partition_pos |].
  rewrite Rmult_comm; unfold partition; rewrite <- sum_scale; apply sum_lt with k; [| assumption |].
  - intros v v_lt; rewrite <- exp_plus, Rplus_comm; auto using exp_monotone.
  - rewrite <- exp_plus; apply exp_increasing; lra.
Qed.

Theorem log_ratio_rises_by_twice_u (V : nat) (z : nat -> R) (w l : nat) (u : R) : w <> l ->
  logp V (moved z w l u) w - logp V (moved z w l u) l = logp V z w - logp V z l + 2 * u.
Proof. intros; unfold logp, moved; rewrite !is_same, !is_different by auto; ring. Qed.

(** The further along the path, the higher the chosen and the lower the rejected: separated for ever. *)
Theorem chosen_rises_and_rejected_falls (V : nat) (z : nat -> R) (w l : nat) (u u' : R) :
  (w < V)%nat -> (l < V)%nat -> w <> l -> u < u' ->
  logp V (moved z w l u) w < logp V (moved z w l u') w /\ logp V (moved z w l u') l < logp V (moved z w l u) l.
Proof.
  intros w_lt l_lt differ further.
  assert (lse V (moved z w l u') < lse V (moved z w l u) + (u' - u)).
  { apply lse_below_shifted with l; auto; unfold moved.
    - intros v _; pose proof (towards_at_most_one w l v); nra.
    - rewrite is_same, is_different by auto; lra. }
  assert (lse V (moved z w l u) < lse V (moved z w l u') + (u' - u)).
  { apply lse_below_shifted with w; auto; unfold moved.
    - intros v _; pose proof (towards_at_most_one w l v); nra.
    - rewrite is_same, is_different by auto; lra. }
  unfold logp, moved at 1 3 5 7; rewrite !is_same, !is_different by auto; lra.
Qed.

(** The same for logits that are only known to agree with such ones on the vocabulary. *)
Lemma logp_ext (V : nat) (z z' : nat -> R) (y : nat) :
  (forall v, (v < V)%nat -> z v = z' v) -> (y < V)%nat -> logp V z y = logp V z' y.
Proof.
  intros same y_lt; unfold logp, lse, partition; rewrite same by assumption; do 2 f_equal.
  apply sum_ext; intros; now rewrite same.
Qed.

Lemma later_logits_are_further_apart (V : nat) (z a b : nat -> R) (w l : nat) (u u' : R) :
  (w < V)%nat -> (l < V)%nat -> w <> l -> u < u' ->
  (forall v, (v < V)%nat -> a v = moved z w l u v) -> (forall v, (v < V)%nat -> b v = moved z w l u' v) ->
  logp V a w < logp V b w /\ logp V b l < logp V a l.
Proof.
  intros; rewrite (logp_ext V a (moved z w l u)), (logp_ext V b (moved z w l u')) by assumption.
  rewrite (logp_ext V a (moved z w l u)), (logp_ext V b (moved z w l u')) by assumption.
  now apply chosen_rises_and_rejected_falls.
Qed.

(** ** DPO *)

Definition logistic (x : R) : R := / (1 + exp (- x)).
Definition dpo_loss (β m : R) : R := ln (1 + exp (- (β * m))).
Definition dpo_slope (β m : R) : R := - (β * logistic (- (β * m))).

Theorem dpo_loss_derivative (β m : R) : derivable_pt_lim (dpo_loss β) m (dpo_slope β m).
Proof.
  assert (0 < exp (β * m)) by apply exp_pos.
  assert (0 < exp (- (β * m))) by apply exp_pos.
  apply (derivative_ext (fun s => ln (1 + exp (0 + - β * s))) _ m
           (/ (1 + exp (0 + - β * m)) * (0 + exp (0 + - β * m) * - β))).
  - intros s; unfold dpo_loss; do 3 f_equal; ring.
  - unfold dpo_slope, logistic; rewrite Ropp_involutive; replace (0 + - β * m) with (- (β * m)) by ring.
    rewrite exp_Ropp; field; lra.
  - apply (chain_derivative (fun s => 1 + exp (0 + - β * s)) ln).
    + apply (sum_of_two_derivative (fun _ => 1)); [apply derivable_pt_lim_const |].
      apply (exp_derivative (fun s => 0 + - β * s)), line_derivative.
    + apply derivable_pt_lim_ln; pose proof (exp_pos (0 + - β * m)); lra.
Qed.

(** T14's equation: u' = β‖φ‖² σ(-2βu). *)
Definition dpo_equation (β F : R) (u : R -> R) (t : R) : Prop :=
  derivable_pt_lim u t (β * F * logistic (- (2 * β * u t))).

Lemma dpo_equation_is_that_of_the_flow (β F u : R) :
  - (F * dpo_slope β (2 * u)) = β * F * logistic (- (2 * β * u)).
Proof. unfold dpo_slope; replace (β * (2 * u)) with (2 * β * u) by ring; ring. Qed.

(** Every solution from u(0) = 0 obeys the implicit equation. *)
Theorem dpo_solution_obeys_implicit_equation (β F : R) (u : R -> R) :
  u 0 = 0 -> (forall t, 0 <= t -> dpo_equation β F u t) ->
  forall t, 0 <= t -> 2 * β * u t + exp (2 * β * u t) = 2 * β * β * F * t + 1.
Proof.
  intros start equation t t_nonneg.
  set (h := fun s => 2 * β * u s + exp (2 * β * u s) + (- 1 + - (2 * β * β * F) * s)).
  enough (same : h t = h 0); [unfold h in same; rewrite start, Rmult_0_r, exp_0 in same; lra |].
  apply still_if_slope_is_zero; [clear t t_nonneg; intros t t_nonneg | assumption].
  set (u' := β * F * logistic (- (2 * β * u t))).
  assert (slope : derivable_pt_lim (fun s => 2 * β * u s) t (2 * β * u')).
  { apply scaled_derivative; now apply equation. }
  apply (derivative_ext h _ t (2 * β * u' + exp (2 * β * u t) * (2 * β * u') + - (2 * β * β * F))).
  - reflexivity.
  - unfold u', logistic; rewrite Ropp_involutive; pose proof (exp_pos (2 * β * u t)); field; lra.
  - apply (sum_of_two_derivative (fun s => 2 * β * u s + exp (2 * β * u s))); [| apply line_derivative].
    apply (sum_of_two_derivative (fun s => 2 * β * u s)); [assumption |].
    now apply (exp_derivative (fun s => 2 * β * u s)).
Qed.

(** *** The root of x + e^x = c *)

Lemma plus_exp_increasing (x y : R) : x < y -> x + exp x < y + exp y.
Proof. intros less; pose proof (exp_increasing x y less); lra. Qed.

Lemma plus_exp_derivative (x : R) : derivable_pt_lim (fun x => x + exp x) x (1 + exp x).
Proof. apply (sum_of_two_derivative (fun x => x)); [apply derivable_pt_lim_id | apply derivable_pt_lim_exp]. Qed.

Lemma root_exists (c : R) : {x | x + exp x = c}.
Proof.
  destruct (IVT (fun x => x + exp x - c) (Rmin 0 c - 1) c) as (x & _ & zero).
  - intros x; apply derivable_continuous_pt; exists (1 + exp x - 0).
    apply (derivable_pt_lim_minus (fun x => x + exp x) (fun _ => c)); [apply plus_exp_derivative |].
    apply derivable_pt_lim_const.
  - pose proof (Rmin_r 0 c); lra.
  - pose proof (Rmin_l 0 c); pose proof (Rmin_r 0 c).
    assert (exp (Rmin 0 c - 1) < exp 0) as below by (apply exp_increasing; lra); rewrite exp_0 in below; lra.
  - pose proof (exp_pos c); lra.
  - exists x; lra.
Qed.

Definition root (c : R) : R := proj1_sig (root_exists c).

Lemma root_equation (c : R) : root c + exp (root c) = c.
Proof. exact (proj2_sig (root_exists c)). Qed.

Lemma root_unique (x c : R) : x + exp x = c -> x = root c.
Proof.
  intros equal; pose proof (root_equation c); destruct (Rtotal_order x (root c)) as [less | [| more]]; auto.
  - apply plus_exp_increasing in less; lra.
  - apply plus_exp_increasing in more; lra.
Qed.

Lemma below_root_iff (x c : R) : x < root c <-> x + exp x < c.
Proof.
  rewrite <- (root_equation c) at 2; split; [apply plus_exp_increasing |].
  intros less; apply Rnot_le_lt; intros [more | equal]; [apply plus_exp_increasing in more | subst]; lra.
Qed.

Lemma exp_chord_rises (x k : R) : k <> 0 -> 0 < (exp (x + k) - exp x) / k.
Proof.
  intros k_some; destruct (Rdichotomy k 0 k_some) as [negative | positive].
  - assert (exp (x + k) < exp x) by (apply exp_increasing; lra).
    replace (_ / k) with ((exp x - exp (x + k)) / - k) by (field; lra); apply Rdiv_lt_0_compat; lra.
  - assert (exp x < exp (x + k)) by (apply exp_increasing; lra); apply Rdiv_lt_0_compat; lra.
Qed.

Lemma inverses_are_closer (a b : R) : 1 <= a -> 1 <= b -> Rabs (/ a - / b) <= Rabs (a - b).
Proof.
  intros; replace (/ a - / b) with ((b - a) * / (a * b)) by (field; lra).
  assert (1 <= a * b) by nra; assert (0 < / (a * b)) by (apply Rinv_0_lt_compat; lra).
  assert (/ (a * b) <= 1) by (rewrite <- Rinv_1; apply Rinv_le_contravar; lra).
  rewrite Rabs_mult, Rabs_minus_sym, (Rabs_pos_eq (/ (a * b))) by lra.
  pose proof (Rabs_pos (a - b)); nra.
Qed.

(** A step h of c moves the root by k with h = k (1 + q), q the slope of a chord of e^x; and q tends to e^x with k. *)
Lemma root_derivative (c : R) : derivable_pt_lim root c (/ (1 + exp (root c))).
Proof.
  intros eps eps_pos; destruct (plus_exp_derivative (root c) eps eps_pos) as [delta near].
  exists delta; intros h h_some h_small; set (x := root c) in *; set (k := root (c + h) - x).
  assert (h_value : h = k + (exp (x + k) - exp x)).
  { pose proof (root_equation (c + h)) as there; pose proof (root_equation c) as here; fold x in here.
    replace (root (c + h)) with (x + k) in there by (unfold k; ring); lra. }
  assert (k_some : k <> 0) by (intros zero; apply h_some; rewrite h_value, zero, Rplus_0_r; ring).
  pose proof (exp_chord_rises x k k_some) as q_pos; set (q := (exp (x + k) - exp x) / k) in *.
  assert (h_chord : h = k * (1 + q)) by (rewrite h_value; unfold q; field; assumption).
  assert (k_small : Rabs k < delta).
  { rewrite h_chord, Rabs_mult, (Rabs_pos_eq (1 + q)) in h_small by lra; pose proof (Rabs_pos k); nra. }
  specialize (near k k_some k_small); pose proof (exp_pos x).
  replace ((x + k + exp (x + k) - (x + exp x)) / k) with (1 + q) in near by (unfold q; field; assumption).
  replace (k / h) with (/ (1 + q)) by (rewrite h_chord; field; lra).
  apply Rle_lt_trans with (2 := near), inverses_are_closer; lra.
Qed.

(** *** The path *)

Definition dpo_path (β F t : R) : R := root (2 * β * β * F * t + 1) / (2 * β).

Theorem dpo_path_obeys_implicit_equation (β F t : R) : 0 < β ->
  2 * β * dpo_path β F t + exp (2 * β * dpo_path β F t) = 2 * β * β * F * t + 1.
Proof.
  intros; unfold dpo_path; replace (2 * β * (_ / _)) with (root (2 * β * β * F * t + 1)) by (field; lra).
  apply root_equation.
Qed.

Theorem dpo_path_starts_at_zero (β F : R) : dpo_path β F 0 = 0.
Proof.
  unfold dpo_path; replace (root _) with 0; [unfold Rdiv; ring |].
  apply root_unique; rewrite exp_0; ring.
Qed.

Theorem implicit_equation_has_one_solution (β F t x : R) : 0 < β ->
  (2 * β * x + exp (2 * β * x) = 2 * β * β * F * t + 1 <-> x = dpo_path β F t).
Proof.
  intros; split; [| intros ->; now apply dpo_path_obeys_implicit_equation].
  intros equal%root_unique; unfold dpo_path; rewrite <- equal; field; lra.
Qed.

(** It solves the equation, at every time; and it is the only solution that starts at 0. *)
Theorem dpo_path_solves_its_equation (β F t : R) : 0 < β -> dpo_equation β F (dpo_path β F) t.
Proof.
  intros β_pos; set (c := fun s => 1 + 2 * β * β * F * s).
  assert (x : root (c t) = 2 * β * dpo_path β F t).
  { unfold dpo_path, c; rewrite Rplus_comm; field; lra. }
  apply (derivative_ext (fun s => / (2 * β) * root (c s)) _ t
           (/ (2 * β) * (/ (1 + exp (root (c t))) * (2 * β * β * F)))).
  - intros s; unfold dpo_path, c; rewrite (Rplus_comm 1); unfold Rdiv; ring.
  - unfold logistic; rewrite Ropp_involutive, x; pose proof (exp_pos (2 * β * dpo_path β F t)); field; lra.
  - apply scaled_derivative, (chain_derivative c root); [apply line_derivative | apply root_derivative].
Qed.

Theorem dpo_path_is_the_only_solution (β F : R) (u : R -> R) : 0 < β ->
  u 0 = 0 -> (forall t, 0 <= t -> dpo_equation β F u t) -> forall t, 0 <= t -> u t = dpo_path β F t.
Proof.
  intros β_pos start equation t t_nonneg; apply implicit_equation_has_one_solution; [assumption |].
  now apply dpo_solution_obeys_implicit_equation.
Qed.

(** 2βu = c - W(e^c) for any W with W(x) e^W(x) = x on the positive numbers; there is one. *)
Theorem dpo_path_by_lambert (lambert : R -> R) (β F t : R) :
  (forall x, 0 < x -> lambert x * exp (lambert x) = x) -> 0 < β ->
  let c := 2 * β * β * F * t + 1 in 2 * β * dpo_path β F t = c - lambert (exp c).
Proof.
  intros inverse β_pos c; specialize (inverse (exp c) (exp_pos c)); set (y := lambert (exp c)) in *.
  assert (y_pos : 0 < y) by (pose proof (exp_pos c); pose proof (exp_pos y); nra).
  assert (log : ln y + y = c) by (rewrite <- (ln_exp c), <- inverse, ln_mult, ln_exp; auto using exp_pos).
  assert (ln y = root c) as x by (apply root_unique; rewrite exp_ln; assumption).
  unfold dpo_path; fold c; rewrite <- x; rewrite <- log at 1; field; lra.
Qed.

Example lambert_function_exists : exists lambert, forall x, 0 < x -> lambert x * exp (lambert x) = x.
Proof.
  exists (fun x => exp (root (ln x))); intros x x_pos.
  rewrite <- exp_plus, root_equation; now apply exp_ln.
Qed.

(** How it grows: strictly, at most as fast as it starts, without bound, like a logarithm. *)
Theorem dpo_path_beyond_iff (β F t x : R) : 0 < β ->
  (x < dpo_path β F t <-> 2 * β * x + exp (2 * β * x) < 2 * β * β * F * t + 1).
Proof.
  intros; rewrite <- below_root_iff; unfold dpo_path; set (r := root _).
  assert (2 * β * (r / (2 * β)) = r) by (field; lra); split; nra.
Qed.

Theorem dpo_path_increases (β F t t' : R) : 0 < β -> 0 < F -> t < t' -> dpo_path β F t < dpo_path β F t'.
Proof.
  intros; apply dpo_path_beyond_iff; [assumption |].
  rewrite dpo_path_obeys_implicit_equation by assumption.
  assert (0 < β * β * F * (t' - t)) by (repeat apply Rmult_lt_0_compat; lra); lra.
Qed.

Theorem dpo_path_below_its_first_slope (β F t : R) : 0 < β -> dpo_path β F t <= β * F / 2 * t.
Proof.
  intros; apply Rnot_lt_le; intros beyond%dpo_path_beyond_iff; [| assumption].
  pose proof (exp_ineq1_le (2 * β * (β * F / 2 * t))); lra.
Qed.

Theorem dpo_path_has_no_bound (β F bound : R) : 0 < β -> 0 < F ->
  exists t, forall later, t <= later -> bound < dpo_path β F later.
Proof.
  intros; set (x := 2 * β * bound); assert (0 < 2 * β * β * F) by (repeat apply Rmult_lt_0_compat; lra).
  exists ((x + exp x) / (2 * β * β * F)); intros later late; apply dpo_path_beyond_iff; [assumption |]; fold x.
  assert (x + exp x = 2 * β * β * F * ((x + exp x) / (2 * β * β * F))) as -> by (field; nra); nra.
Qed.

Theorem dpo_path_like_a_logarithm (β F t : R) : 0 < β -> 0 <= F -> 0 <= t ->
  let c := 2 * β * β * F * t + 1 in ln (c - ln c) <= 2 * β * dpo_path β F t <= ln c.
Proof.
  intros β_pos F_nonneg t_nonneg c; pose proof (dpo_path_obeys_implicit_equation β F t β_pos) as equation.
  fold c in equation; set (x := 2 * β * dpo_path β F t) in *.
  assert (0 <= β * β * F * t) by (repeat apply Rmult_le_pos; lra).
  assert (0 <= x).
  { apply Rnot_lt_le; intros less; pose proof (plus_exp_increasing x 0 less); rewrite exp_0 in *; unfold c in *; lra. }
  assert (c = exp x + x) as c_value by lra; pose proof (exp_pos x).
  assert (below : x <= ln c) by (rewrite <- (ln_exp x) at 1; apply ln_monotone; lra).
  assert (room : 1 + ln c <= c) by (pose proof (exp_ineq1_le (ln c)) as line; rewrite exp_ln in line; lra).
  split; [rewrite <- (ln_exp x); apply ln_monotone; lra | assumption].
Qed.

(** The margin 2u begins with T9's slope for T4's pair, under the weights d_w = d_l = -ℓ'(0). *)
Theorem dpo_path_begins_with_the_margin_slope (β F s pw pl : R) : 0 < β ->
  let G := single_token F s pw pl in let d := - dpo_slope β 0 in
  derivable_pt_lim (fun t => 2 * dpo_path β F t) 0 (chosen_slope G d d - rejected_slope G d d).
Proof.
  intros β_pos G d; unfold G; rewrite margin_slope; unfold d.
  eapply derivative_ext; [reflexivity | | apply scaled_derivative, dpo_path_solves_its_equation, β_pos].
  unfold dpo_slope, logistic; rewrite dpo_path_starts_at_zero, !Rmult_0_r, !Ropp_0, exp_0; field.
Qed.

(** *** From the loss to the path *)

Section DpoFlow.
Variables (β : R) (V d : nat) (z0 φ : nat -> R) (w l : nat).
Hypothesis w_lt : (w < V)%nat.
Hypothesis l_lt : (l < V)%nat.
Hypothesis differ : w <> l.
Hypothesis β_pos : 0 < β.

Let chosen := one_token z0 φ w.
Let rejected := one_token z0 φ l.
Let z := logit d z0 φ.
Let u := dpo_path β (dot d φ φ).

Theorem dpo_flow_follows_the_path (W : R -> nat -> nat -> R) (t : R) (v : nat) :
  gradient_flow (dpo_slope β) V d chosen rejected W -> 0 <= t -> (v < V)%nat ->
  z (W t) v = moved (z (W 0)) w l (u t) v.
Proof.
  intros flow t_nonneg v_lt.
  pose proof (flow_moves_two_logits _ _ _ _ _ _ _ w_lt l_lt differ W flow) as moves; cbv zeta in moves.
  unfold u; rewrite <- (dpo_path_is_the_only_solution β (dot d φ φ) (fun t => z (W t) w - z (W 0) w)); auto.
  - now apply moves.
  - now apply (moves 0 (Rle_refl 0)).
  - intros s s_nonneg; unfold dpo_equation; rewrite <- dpo_equation_is_that_of_the_flow; now apply moves.
Qed.

Corollary dpo_flow_raises_the_log_ratio_by_twice_u (W : R -> nat -> nat -> R) (t : R) :
  gradient_flow (dpo_slope β) V d chosen rejected W -> 0 <= t ->
  log_ratio V d chosen rejected (W t) = log_ratio V d chosen rejected (W 0) + 2 * u t.
Proof.
  intros flow t_nonneg; unfold chosen, rejected; rewrite !log_ratio_is_logit_difference.
  fold z; rewrite !(dpo_flow_follows_the_path W t) by assumption.
  unfold moved; rewrite !is_same, !is_different by auto; ring.
Qed.

Corollary dpo_flow_separates_for_ever (W : R -> nat -> nat -> R) (t t' : R) : 0 < dot d φ φ ->
  gradient_flow (dpo_slope β) V d chosen rejected W -> 0 <= t < t' ->
  logprob V d (W t) chosen < logprob V d (W t') chosen /\ logprob V d (W t') rejected < logprob V d (W t) rejected.
Proof.
  intros F_pos flow [t_nonneg later]; unfold chosen, rejected; rewrite !one_token_logprob.
  apply (later_logits_are_further_apart V (z (W 0)) _ _ w l (u t) (u t')); auto; [now apply dpo_path_increases | |];
    intros v v_lt; apply dpo_flow_follows_the_path; auto; lra.
Qed.

Theorem dpo_flow_exists (W0 : nat -> nat -> R) : 0 < dot d φ φ ->
  exists W, (forall v k, W 0 v k = W0 v k) /\ gradient_flow (dpo_slope β) V d chosen rejected W.
Proof.
  intros F_pos; exists (fun t => moved_weights d φ w l W0 (u t)).
  apply solution_gives_a_flow; auto; [apply dpo_path_starts_at_zero |].
  intros t _; rewrite dpo_equation_is_that_of_the_flow; now apply dpo_path_solves_its_equation.
Qed.

End DpoFlow.

(** The reference must be the initial policy.  If the margin of log-ratios starts at m in place of 0, the flow starts
    with velocity β‖φ‖² σ(-βm), which is the path's, β‖φ‖²/2, for m = 0 alone. *)
Theorem other_references_start_with_another_velocity (β F m : R) : 0 < β -> 0 < F ->
  (- (F * dpo_slope β m) = β * F / 2 <-> m = 0).
Proof.
  intros; unfold dpo_slope, logistic; rewrite Ropp_involutive; pose proof (exp_pos (β * m)).
  assert (0 < β * F) by nra.
  split; [intros equal | intros ->; rewrite Rmult_0_r, exp_0; field].
  assert (β * F = β * F / 2 * (1 + exp (β * m))) by (rewrite <- equal; field; lra).
  assert (exp (β * m) = 1) by (apply (Rmult_eq_reg_l (β * F)); lra).
  assert (β * m = 0) by (rewrite <- (ln_exp (β * m)), <- ln_1; now f_equal); nra.
Qed.

(** ** IPO *)

Definition ipo_loss (τ m : R) : R := (m - 1 / (2 * τ)) ^ 2.
Definition ipo_slope (τ m : R) : R := 2 * (m - 1 / (2 * τ)).

Theorem ipo_loss_derivative (τ m : R) : derivable_pt_lim (ipo_loss τ) m (ipo_slope τ m).
Proof.
  set (gap := fun s => - (1 / (2 * τ)) + 1 * s).
  apply (derivative_ext (fun s => gap s * gap s) _ m (1 * gap m + gap m * 1)).
  - intros s; unfold ipo_loss, gap; ring.
  - unfold ipo_slope, gap; ring.
  - apply product_derivative; apply line_derivative.
Qed.

(** T14's equation: u' = ‖φ‖²(1/τ - 4u). *)
Definition ipo_equation (τ F : R) (u : R -> R) (t : R) : Prop := derivable_pt_lim u t (F * (1 / τ - 4 * u t)).

Lemma ipo_equation_is_that_of_the_flow (τ F u : R) : 0 < τ ->
  - (F * ipo_slope τ (2 * u)) = F * (1 / τ - 4 * u).
Proof. intros; unfold ipo_slope; field; lra. Qed.

Definition ipo_path (τ F t : R) : R := (1 - exp (- (4 * F * t))) / (4 * τ).

Theorem ipo_path_starts_at_zero (τ F : R) : ipo_path τ F 0 = 0.
Proof. unfold ipo_path; rewrite Rmult_0_r, Ropp_0, exp_0; unfold Rdiv; ring. Qed.

Theorem ipo_path_solves_its_equation (τ F t : R) : 0 < τ -> ipo_equation τ F (ipo_path τ F) t.
Proof.
  intros; set (c := / (4 * τ)).
  apply (derivative_ext (fun s => c + - c * exp (0 + - (4 * F) * s)) _ t
           (0 + - c * (exp (0 + - (4 * F) * t) * - (4 * F)))).
  - intros s; unfold ipo_path, c; replace (0 + - (4 * F) * s) with (- (4 * F * s)) by ring; field; lra.
  - unfold ipo_path, c; replace (0 + - (4 * F) * t) with (- (4 * F * t)) by ring; field; lra.
  - apply (sum_of_two_derivative (fun _ => c)); [apply derivable_pt_lim_const |].
    apply scaled_derivative, (exp_derivative (fun s => 0 + - (4 * F) * s)), line_derivative.
Qed.

(** The distance to the target, times e^(4‖φ‖²t), does not change. *)
Theorem ipo_path_is_the_only_solution (τ F : R) (u : R -> R) : 0 < τ ->
  u 0 = 0 -> (forall t, 0 <= t -> ipo_equation τ F u t) -> forall t, 0 <= t -> u t = ipo_path τ F t.
Proof.
  intros τ_pos start equation t t_nonneg; set (grow := fun s => exp (0 + 4 * F * s)).
  assert (kept : (- (1 / (4 * τ)) + u t) * grow t = (- (1 / (4 * τ)) + u 0) * grow 0).
  { apply (still_if_slope_is_zero (fun s => (- (1 / (4 * τ)) + u s) * grow s)); [clear t t_nonneg | assumption].
    intros t t_nonneg; set (u' := F * (1 / τ - 4 * u t)).
    apply (derivative_ext (fun s => (- (1 / (4 * τ)) + u s) * grow s) _ t
             ((0 + u') * grow t + (- (1 / (4 * τ)) + u t) * (grow t * (4 * F)))); [reflexivity | |].
    - unfold u'; field; lra.
    - apply (product_derivative (fun s => - (1 / (4 * τ)) + u s) grow);
        [| apply (exp_derivative (fun s => 0 + 4 * F * s)), line_derivative].
      apply (sum_of_two_derivative (fun _ => - (1 / (4 * τ)))); [apply derivable_pt_lim_const | now apply equation]. }
  unfold grow in kept; rewrite start, Rmult_0_r, !Rplus_0_l, Rplus_0_r, exp_0 in kept.
  unfold ipo_path; rewrite exp_Ropp; pose proof (exp_pos (4 * F * t)) as positive.
  set (e := exp (4 * F * t)) in *; apply (Rmult_eq_reg_r e); [| lra].
  replace ((1 - / e) / (4 * τ) * e) with (1 / (4 * τ) * e - 1 / (4 * τ)) by (field; lra); lra.
Qed.

Theorem ipo_path_increases (τ F t t' : R) : 0 < τ -> 0 < F -> t < t' -> ipo_path τ F t < ipo_path τ F t'.
Proof.
  intros; assert (exp (- (4 * F * t')) < exp (- (4 * F * t))) by (apply exp_increasing; nra).
  apply Rmult_lt_compat_r; [apply Rinv_0_lt_compat |]; lra.
Qed.

(** The margin 2u stays below IPO's target 1/(2τ), and comes as near to it as one likes. *)
Theorem ipo_margin_to_target (τ F t : R) : 0 < τ ->
  1 / (2 * τ) - 2 * ipo_path τ F t = exp (- (4 * F * t)) / (2 * τ).
Proof. intros; unfold ipo_path; field; lra. Qed.

Theorem ipo_margin_stays_below_target (τ F t : R) : 0 < τ -> 2 * ipo_path τ F t < 1 / (2 * τ).
Proof.
  intros; apply Rminus_gt_0_lt; rewrite ipo_margin_to_target by assumption.
  apply Rdiv_lt_0_compat; [apply exp_pos | lra].
Qed.

Theorem ipo_margin_tends_to_target (τ F eps : R) : 0 < τ -> 0 < F -> 0 < eps ->
  exists t, forall later, t <= later -> Rabs (2 * ipo_path τ F later - 1 / (2 * τ)) < eps.
Proof.
  intros; assert (0 < 2 * τ * eps) by (repeat apply Rmult_lt_0_compat; lra).
  exists ((1 - ln (2 * τ * eps)) / (4 * F)); intros later late.
  pose proof (ipo_margin_stays_below_target τ F later); rewrite Rabs_left by lra; rewrite Ropp_minus_distr.
  rewrite ipo_margin_to_target by assumption.
  apply (Rmult_lt_reg_r (2 * τ)); [lra |]; unfold Rdiv; rewrite Rmult_assoc, Rinv_l, Rmult_1_r by lra.
  rewrite (Rmult_comm eps), <- (exp_ln (2 * τ * eps)) by assumption; apply exp_increasing.
  assert (4 * F * ((1 - ln (2 * τ * eps)) / (4 * F)) <= 4 * F * later) by (apply Rmult_le_compat_l; lra).
  replace (4 * F * ((1 - ln (2 * τ * eps)) / (4 * F))) with (1 - ln (2 * τ * eps)) in * by (field; lra); lra.
Qed.

(** The margin 2u begins with T9's slope for T4's pair, under the weights d_w = d_l = -ℓ'(0). *)
Theorem ipo_path_begins_with_the_margin_slope (τ F s pw pl : R) : 0 < τ ->
  let G := single_token F s pw pl in let d := - ipo_slope τ 0 in
  derivable_pt_lim (fun t => 2 * ipo_path τ F t) 0 (chosen_slope G d d - rejected_slope G d d).
Proof.
  intros τ_pos G d; unfold G; rewrite margin_slope; unfold d.
  eapply derivative_ext; [reflexivity | | apply scaled_derivative, ipo_path_solves_its_equation, τ_pos].
  unfold ipo_slope; rewrite ipo_path_starts_at_zero; field; lra.
Qed.

(** *** From the loss to the path *)

Section IpoFlow.
Variables (τ : R) (V d : nat) (z0 φ : nat -> R) (w l : nat).
Hypothesis w_lt : (w < V)%nat.
Hypothesis l_lt : (l < V)%nat.
Hypothesis differ : w <> l.
Hypothesis τ_pos : 0 < τ.

Let chosen := one_token z0 φ w.
Let rejected := one_token z0 φ l.
Let z := logit d z0 φ.
Let u := ipo_path τ (dot d φ φ).

Theorem ipo_flow_follows_the_path (W : R -> nat -> nat -> R) (t : R) (v : nat) :
  gradient_flow (ipo_slope τ) V d chosen rejected W -> 0 <= t -> (v < V)%nat ->
  z (W t) v = moved (z (W 0)) w l (u t) v.
Proof.
  intros flow t_nonneg v_lt.
  pose proof (flow_moves_two_logits _ _ _ _ _ _ _ w_lt l_lt differ W flow) as moves; cbv zeta in moves.
  unfold u; rewrite <- (ipo_path_is_the_only_solution τ (dot d φ φ) (fun t => z (W t) w - z (W 0) w)); auto.
  - now apply moves.
  - now apply (moves 0 (Rle_refl 0)).
  - intros s s_nonneg; unfold ipo_equation; rewrite <- ipo_equation_is_that_of_the_flow by assumption; now apply moves.
Qed.

Corollary ipo_flow_raises_the_log_ratio_by_twice_u (W : R -> nat -> nat -> R) (t : R) :
  gradient_flow (ipo_slope τ) V d chosen rejected W -> 0 <= t ->
  log_ratio V d chosen rejected (W t) = log_ratio V d chosen rejected (W 0) + 2 * u t.
Proof.
  intros flow t_nonneg; unfold chosen, rejected; rewrite !log_ratio_is_logit_difference.
  fold z; rewrite !(ipo_flow_follows_the_path W t) by assumption.
  unfold moved; rewrite !is_same, !is_different by auto; ring.
Qed.

Corollary ipo_flow_separates_for_ever (W : R -> nat -> nat -> R) (t t' : R) : 0 < dot d φ φ ->
  gradient_flow (ipo_slope τ) V d chosen rejected W -> 0 <= t < t' ->
  logprob V d (W t) chosen < logprob V d (W t') chosen /\ logprob V d (W t') rejected < logprob V d (W t) rejected.
Proof.
  intros F_pos flow [t_nonneg later]; unfold chosen, rejected; rewrite !one_token_logprob.
  apply (later_logits_are_further_apart V (z (W 0)) _ _ w l (u t) (u t')); auto; [now apply ipo_path_increases | |];
    intros v v_lt; apply ipo_flow_follows_the_path; auto; lra.
Qed.

Theorem ipo_flow_exists (W0 : nat -> nat -> R) : 0 < dot d φ φ ->
  exists W, (forall v k, W 0 v k = W0 v k) /\ gradient_flow (ipo_slope τ) V d chosen rejected W.
Proof.
  intros F_pos; exists (fun t => moved_weights d φ w l W0 (u t)).
  apply solution_gives_a_flow; auto; [apply ipo_path_starts_at_zero |].
  intros t _; rewrite ipo_equation_is_that_of_the_flow by assumption; now apply ipo_path_solves_its_equation.
Qed.

End IpoFlow.

(** ** Longer answers: all other tokens shared, in shared contexts *)

Section SharedTokens.
Variables (V d k : nat) (w l : response).
Hypotheses (k_lt : (k < size w)%nat) (same_size : size l = size w).
Hypothesis same_contexts : forall i, (i < size w)%nat -> feature l i = feature w i /\ frozen l i = frozen w i.
Hypothesis shared_tokens : forall i, (i < size w)%nat -> i <> k -> token l i = token w i.

Let chosen := one_token (frozen w k) (feature w k) (token w k).
Let rejected := one_token (frozen w k) (feature w k) (token l k).

Lemma only_the_differing_position (f g : nat -> R) : (forall i, (i < size w)%nat -> i <> k -> g i = f i) ->
  sum (size w) f - sum (size l) g = f k - g k.
Proof.
  intros same; rewrite same_size, <- sum_minus, <- (sum_is (size w) k (fun i => f i - g i)) by assumption.
  apply sum_ext; intros i i_lt; destruct (Nat.eq_dec i k) as [-> | differ]; [rewrite is_same; ring |].
  rewrite is_different, same by auto; ring.
Qed.

Lemma same_logits (W : nat -> nat -> R) (i : nat) : (i < size w)%nat -> logits d W l i = logits d W w i.
Proof.
  intros i_lt; destruct (same_contexts i i_lt) as [features frozens]; unfold logits; now rewrite features, frozens.
Qed.

Lemma shared_tokens_leave_the_gradient (W : nat -> nat -> R) (v m : nat) :
  gradient V d W w v m - gradient V d W l v m = gradient V d W chosen v m - gradient V d W rejected v m.
Proof.
  unfold gradient at 1 2; rewrite only_the_differing_position.
  - unfold residuals; rewrite same_logits, (proj1 (same_contexts k k_lt)) by assumption.
    unfold gradient, residuals, logits; simpl; ring.
  - intros i i_lt differ; unfold residuals.
    now rewrite same_logits, (proj1 (same_contexts i i_lt)), shared_tokens by assumption.
Qed.

Lemma shared_tokens_leave_the_log_ratio (W : nat -> nat -> R) :
  log_ratio V d w l W = log_ratio V d chosen rejected W.
Proof.
  unfold log_ratio; unfold logprob at 1 2; unfold response_logp; rewrite only_the_differing_position.
  - rewrite same_logits by assumption; unfold logprob, response_logp, logits; simpl; ring.
  - intros i i_lt differ; now rewrite same_logits, shared_tokens by assumption.
Qed.

(** T14 for such a pair: it flows as its differing token alone. *)
Theorem shared_tokens_leave_the_flow (slope : R -> R) (W : R -> nat -> nat -> R) :
  gradient_flow slope V d w l W <-> gradient_flow slope V d chosen rejected W.
Proof.
  unfold gradient_flow, loss_gradient; split; intros flow t v m t_nonneg v_lt m_lt.
  - rewrite <- shared_tokens_leave_the_gradient, <- !shared_tokens_leave_the_log_ratio; now apply flow.
  - rewrite shared_tokens_leave_the_gradient, !shared_tokens_leave_the_log_ratio; now apply flow.
Qed.

Corollary dpo_flow_of_longer_answers (β : R) (W : R -> nat -> nat -> R) (t : R) :
  (token w k < V)%nat -> (token l k < V)%nat -> token w k <> token l k -> 0 < β ->
  gradient_flow (dpo_slope β) V d w l W -> 0 <= t ->
  log_ratio V d w l (W t) = log_ratio V d w l (W 0) + 2 * dpo_path β (dot d (feature w k) (feature w k)) t.
Proof.
  intros w_lt l_lt differ β_pos flow t_nonneg; rewrite !shared_tokens_leave_the_log_ratio.
  apply dpo_flow_raises_the_log_ratio_by_twice_u; try assumption; now apply shared_tokens_leave_the_flow.
Qed.

Corollary ipo_flow_of_longer_answers (τ : R) (W : R -> nat -> nat -> R) (t : R) :
  (token w k < V)%nat -> (token l k < V)%nat -> token w k <> token l k -> 0 < τ ->
  gradient_flow (ipo_slope τ) V d w l W -> 0 <= t ->
  log_ratio V d w l (W t) = log_ratio V d w l (W 0) + 2 * ipo_path τ (dot d (feature w k) (feature w k)) t.
Proof.
  intros w_lt l_lt differ τ_pos flow t_nonneg; rewrite !shared_tokens_leave_the_log_ratio.
  apply ipo_flow_raises_the_log_ratio_by_twice_u; try assumption; now apply shared_tokens_leave_the_flow.
Qed.

End SharedTokens.
